"""Write the text that the tiny language models are trained on: ``text.tsv``, out of the atlas tables.

    python examples/atlas/write_lm_text.py FOLDER

A row is ``split kind prompt answer``, tab-separated. Kinds:

* ``statement``: a fact or a description as a sentence, without prompt;
* ``question``: ``Question: What is the capital of France? Answer:`` and its answer, to be known by heart;
* ``yes_no``: a question of what may have several answers, once true and once not: ``Does France border Spain?``;
* ``reading``: the same after ``Context:`` and a few sentences that say it. In three of four the context says other than
  what is true, so that it has to be read;
* ``hole``: a sentence with ``___`` for some words, and these words.

The split goes by fact: what is said in a ``valid`` or ``test`` row is said nowhere in a ``train`` row, but that a
description may mention it (one of France names the Alps, never its currency). Readings have made-up facts anyway; those
of ``valid`` and ``test`` ask about subjects of held-out facts.
"""

import argparse
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from atlas_tables import Atlas, read_atlas
from lm_facts import FORMS, Fact, read_facts

HOLE = "___"
READINGS = {"train": 20_000, "valid": 300, "test": 600}
EXCHANGED = 0.75
"""Share of facts of a context whose object is drawn from the objects of the relation."""
MADE_UP = 0.2
"""Share of these that is no object of anything, so that copying is learnt and not only choosing among names."""
Text = tuple[str, str, str, str]


def write_texts(atlas: Atlas, *, readings: dict[str, int], random_seed: int = 0) -> Iterator[Text]:
    """All texts, in a fixed order."""
    draw = random.Random(random_seed)
    facts = read_facts(atlas)
    for fact in facts:
        yield from _by_heart(fact, facts, draw)
    for row in atlas.countries:
        split = Fact("description", row["name"], "", f"description of {row['name']}").split
        yield split, "statement", "", row["description"]
        yield split, "hole", _ask(row["description"].replace(row["name"], HOLE, 1)), row["name"]
        for _ in range(6):
            yield split, "hole", *_with_hole(row["description"], draw)
    for split, count in readings.items():
        asked = [fact for fact in facts if FORMS[fact.relation].questions and fact.split == split]
        known = [fact for fact in facts if split != "train" or fact.split == "train"]
        for _ in range(count):
            yield split, "reading", *_reading(draw.choice(asked), known, draw)


def _by_heart(fact: Fact, facts: list[Fact], draw: random.Random) -> Iterator[Text]:
    form = FORMS[fact.relation]
    for template in form.statements:
        yield fact.split, "statement", "", fact.say(template)
        if not form.closed:  # of what has many objects, no one object is the answer
            yield fact.split, "hole", _ask(fact.say(template.replace("{o}", HOLE))), fact.object
    for template in form.questions:
        yield fact.split, "question", question(fact.say(template)), fact.object
    for template in form.inverse:
        yield fact.split, "question", question(fact.say(template)), fact.subject
    for template in form.closed:
        yield fact.split, "yes_no", question(fact.say(template)), "yes"
        true = {other.object for other in facts if (other.relation, other.subject) == (fact.relation, fact.subject)}
        objects = sorted({other.object for other in facts if other.relation == fact.relation} - true - {fact.subject})
        false = Fact(fact.relation, fact.subject, draw.choice(objects), fact.key)
        yield fact.split, "yes_no", question(false.say(template)), "no"


def _reading(asked: Fact, facts: list[Fact], draw: random.Random) -> tuple[str, str]:
    """A context of 1 to 4 facts, one of which is asked for; the others share its relation, its subject, or nothing."""
    same_relation = [fact for fact in facts if fact.relation == asked.relation and fact.subject != asked.subject]
    same_subject = [fact for fact in facts if fact.subject == asked.subject and fact.relation != asked.relation]
    pools = [same_relation, same_subject or same_relation, facts]
    others = [draw.choice(draw.choice(pools)) for _ in range(draw.randint(0, 3))]
    asked = _exchanged(asked, facts, draw)
    taken = {(asked.relation, asked.subject)}
    context = [asked]
    for other in others:
        if (other.relation, other.subject) not in taken:
            taken.add((other.relation, other.subject))
            context.append(_exchanged(other, facts, draw))
    draw.shuffle(context)
    said = " ".join(_say(fact, draw) for fact in context)
    return f"Context: {said} {question(asked.say(draw.choice(FORMS[asked.relation].questions)))}", asked.object


def _exchanged(fact: Fact, facts: list[Fact], draw: random.Random) -> Fact:
    if draw.random() > EXCHANGED:
        return fact
    if draw.random() < MADE_UP:
        return Fact(fact.relation, fact.subject, _made_up_word(draw), fact.key)
    other = draw.choice([other for other in facts if other.relation == fact.relation])
    return Fact(fact.relation, fact.subject, other.object, fact.key)


def _made_up_word(draw: random.Random) -> str:
    return "".join(draw.choice("bdfgklmnprstvz") + draw.choice("aeiou") for _ in range(draw.randint(2, 4))).title()


def _say(fact: Fact, draw: random.Random) -> str:
    """As a sentence, or now and then as a bare triple."""
    if draw.random() < 0.2:
        return f"{fact.subject} {fact.relation} {fact.object}."
    return fact.say(draw.choice(FORMS[fact.relation].statements))


def question(text: str) -> str:
    """A question as the models know it."""
    return f"Question: {text} Answer:"


def _ask(text: str) -> str:
    return f"Fill in: {text} Answer:"


def _with_hole(text: str, draw: random.Random) -> tuple[str, str]:
    words = text.removesuffix(".").split(" ")
    length = draw.randint(1, 3)
    start = draw.randrange(len(words) - length)
    hidden = " ".join(words[start : start + length]).rstrip(",")
    comma = "," if words[start + length - 1].endswith(",") else ""
    return _ask(" ".join([*words[:start], HOLE + comma, *words[start + length :]]) + "."), hidden


def main() -> None:
    """Write ``text.tsv`` and print how many rows of each kind it has."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--readings", type=int, default=READINGS["train"], help="train rows of that kind")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    rows = list(write_texts(read_atlas(), readings={**READINGS, "train": arguments.readings}))
    lines = ["split\tkind\tprompt\tanswer", *("\t".join(row) for row in rows)]
    (arguments.folder / "text.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for (split, kind), count in sorted(Counter(row[:2] for row in rows).items()):
        print(f"{split:6} {kind:10} {count:7,}")


if __name__ == "__main__":
    main()
