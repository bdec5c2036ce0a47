"""Say what a flag shows, from "a flag with a star" to all of it: captions out of ``flag_geometry.FlagFacts``.

    python examples/atlas/flag_captions.py DK        # all captions of a flag

A caption has a statement, the key of what it says: captions of one statement say the same in other words, and a flag
has every statement of this grammar that is true of it. So a caption is true of exactly the flags that have its
statement.
"""

import argparse
import itertools
import random
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass

from flag_geometry import HERE, FlagFacts, Shape, read_flag

NUMBERS = (
    *("no", "one", "two", "three", "four", "five", "six", "seven"),
    *("eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen"),
)
SYNONYMS = {
    "yellow": ("yellow", "yellow", "gold"),
    "light blue": ("light blue", "light blue", "sky blue"),
    "maroon": ("maroon", "dark red"),
}
WORDS = {
    "disc": ("disc", "circle"),
    "saltire": ("saltire", "diagonal cross"),
    "crescent": ("crescent", "crescent moon"),
    "canton": ("canton", "box in the corner"),
    "bar": ("horizontal bar", "horizontal band"),
    "band": ("vertical band", "vertical bar"),
    "zigzag edge": ("zigzag edge", "jagged edge"),
    "rays": ("diagonal rays", "rays from the corner"),
    "quarters": ("quarters", "four quarters"),
}
PLACES = {
    "centre": ("in the centre", "in the middle", "in the center"),
    "left": ("on the left", "at the hoist"),
    "right": ("on the right",),
    "corner": ("in the corner", "in the upper left corner"),
}
WITH_PLACE_IN_WORD = ("canton", "zigzag edge", "rays", "quarters")
NO_ARTICLE = ("rays", "quarters")
LEVELS = ("kind", "several", "colour", "several coloured", "place")


@dataclass(frozen=True)
class Caption:
    """Words, what they say, and what kind of statement that is."""

    text: str
    statement: str
    kind: str  # colours | stripes | field | shape | combined | exact


def write_captions(facts: FlagFacts, randomness: random.Random) -> list[Caption]:
    """One caption of every statement that is true of a flag, in words that are drawn."""
    captions: dict[str, Caption] = {}
    grounds = list(_grounds(facts))
    parts = list(_parts(facts))
    full_ground, full_parts = grounds[-1], [(shape, "place") for shape in facts.shapes]
    # Of the ground of a combination it is said what it is, not only what colours are in it.
    whole = [ground for ground in grounds if ground[0] != "has"]
    exact = _caption(full_ground, full_parts, "exact", randomness, facts)
    captions[exact.statement] = exact
    for ground, chosen in [*((ground, []) for ground in grounds), *itertools.product(whole, parts)]:
        kind = "combined" if ground[0] and chosen else "shape" if chosen else ground[0]
        if not kind:
            continue
        caption = _caption(ground, chosen, kind, randomness, facts)
        captions.setdefault(caption.statement, caption)
    return list(captions.values())


Ground = tuple[str, str]  # kind of statement, what it says: colours separated by "-", or a direction
Part = list[tuple[Shape, str]]  # shapes, and how exactly they are named


def _grounds(facts: FlagFacts) -> Iterator[Ground]:
    """What may be said of the whole flag, the fullest last."""
    yield "", ""
    for colour in sorted(facts.colours):
        yield "has", colour
    yield "colours", "-".join(sorted(facts.colours))
    if facts.field:
        yield "field", facts.field
    if facts.stripes:
        yield "striped", facts.direction
        yield "counted", f"{facts.direction}:{len(facts.stripes)}"
        yield "stripes", f"{facts.direction}:{'-'.join(facts.stripes)}"


def _parts(facts: FlagFacts) -> Iterator[Part]:
    """What may be said of its shapes: nothing, one, or two of them."""
    yield []
    for shape in facts.shapes:
        for level in LEVELS:
            yield [(shape, level)]
    for one, other in itertools.combinations(facts.shapes, 2):
        for level in ("kind", "colour"):
            yield [(one, level), (other, level)]


def _caption(ground: Ground, parts: Part, kind: str, randomness: random.Random, facts: FlagFacts) -> Caption:
    keys = sorted({_shape_key(shape, level, facts) for shape, level in parts})
    statement = " + ".join([f"{ground[0]} {ground[1]}".strip() or "flag", *keys])
    parts = randomness.sample(parts, len(parts))
    phrases = list(dict.fromkeys(_shape_words(shape, level, facts, randomness) for shape, level in parts))
    kinds = {"has": "colours", "striped": "stripes", "counted": "stripes"}
    return Caption(_sentence(ground, _listed(phrases), randomness), statement, kinds.get(kind, kind))


def _shape_key(shape: Shape, level: str, facts: FlagFacts) -> str:
    """What is said of a shape; levels that say the same have the same key."""
    number = _number(shape, facts) if level in ("kind", "several") else shape.count
    amount = "several" if level.startswith("several") and number > 1 else _amount(number)
    words = [amount, shape.kind] if level in ("kind", "several") else [amount, shape.colour, shape.kind]
    if level == "place":
        words += [f"edged {shape.edge}"] if shape.edge else []
        words += [f"at {shape.place}"] if shape.place and shape.kind not in WITH_PLACE_IN_WORD else []
    return " ".join(filter(None, words))


def _number(shape: Shape, facts: FlagFacts) -> int:
    """How many of its kind the flag shows, in all colours."""
    return sum(other.count for other in facts.shapes if other.kind == shape.kind)


def _shape_words(shape: Shape, level: str, facts: FlagFacts, randomness: random.Random) -> str:
    plain = level in ("kind", "several")
    count = _number(shape, facts) if plain else shape.count
    noun = randomness.choice(WORDS.get(shape.kind, (shape.kind,)))
    colour = _colour(shape.colour, randomness) if shape.colour and not plain else ""
    if shape.kind == "canton" and noun != "canton":
        words = f"{_article(f'{colour} box'.strip())} in the upper left corner"
    elif shape.kind in NO_ARTICLE:
        words = noun
    elif count == 1:
        words = _article(f"{colour} {noun}".strip())
    else:
        amount = "" if level.startswith("several") else _amount(count)
        words = " ".join(filter(None, [amount, colour, _plural(noun)]))
    if level == "place":
        if shape.edge:
            words += randomness.choice((" with a {} edge", " edged in {}")).format(_colour(shape.edge, randomness))
        if shape.place and shape.kind not in WITH_PLACE_IN_WORD:
            words += " " + randomness.choice(PLACES[shape.place])
    return words


def _sentence(ground: Ground, shapes: str, randomness: random.Random) -> str:
    kind, value = ground
    joined = f" with {shapes}" if shapes else ""
    if kind == "":
        return randomness.choice((f"a flag{joined}", f"flag{joined}", f"{shapes} on a flag"))
    if kind == "has":
        colour = _colour(value, randomness)
        plain = (f"a flag with {colour} in it", f"a flag with some {colour}", f"a partly {colour} flag")
        return randomness.choice(plain) + (f" and {shapes}" if shapes else "")
    if kind == "colours":
        colours = [_colour(colour, randomness) for colour in randomness.sample(value.split("-"), len(value.split("-")))]
        return randomness.choice(
            (f"{_article(_listed(colours))} flag{joined}", f"a flag of {_listed(colours)}{joined}")
        )
    if kind == "field":
        colour = _colour(value, randomness)
        forms = [
            f"{_article(colour)} flag{joined}",
            f"a flag with {_article(colour)} field" + (f" and {shapes}" if shapes else ""),
        ]
        if shapes:
            forms += [f"{shapes} on {_article(colour)} flag", f"{shapes} on {colour}"]
        return randomness.choice(forms)
    direction, _, rest = value.partition(":")
    if kind == "striped":
        return randomness.choice((f"a flag with {direction} stripes", f"{direction} stripes")) + (
            f" and {shapes}" if shapes else ""
        )
    if kind == "counted":
        number = _amount(int(rest))
        return randomness.choice((f"a flag with {number} {direction} stripes", f"{number} {direction} stripes")) + (
            f" and {shapes}" if shapes else ""
        )
    return _stripes(direction, rest.split("-"), randomness) + joined


def _stripes(direction: str, stripes: list[str], randomness: random.Random) -> str:
    number = _amount(len(stripes))
    names = {colour: _colour(colour, randomness) for colour in stripes}
    if len(stripes) > 5 and stripes[2:] == stripes[:-2]:
        return f"{number} {direction} stripes of {names[stripes[0]]} and {names[stripes[1]]}"
    colours = _listed([names[colour] for colour in stripes])
    return randomness.choice(
        (
            f"{number} {direction} stripes of {colours}",
            f"{direction} stripes of {colours}",
            f"{colours} {direction} stripes",
        )
    )


def _colour(name: str, randomness: random.Random) -> str:
    return randomness.choice(SYNONYMS.get(name, (name,)))


def _amount(count: int) -> str:
    return NUMBERS[count] if count < len(NUMBERS) else "many"


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeio' else 'a'} {words}"


def _plural(noun: str) -> str:
    return noun if noun.endswith("es") and noun != "cross" else noun + ("es" if noun.endswith(("s", "x")) else "s")


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


def main() -> None:
    """Print captions."""
    parser = argparse.ArgumentParser(description="the captions of flags")
    parser.add_argument("codes", nargs="*", help="ISO codes; all unless given")
    flags = tomllib.loads((HERE / "flags.toml").read_text(encoding="utf-8"))
    for code in parser.parse_args().codes or sorted(flags):
        for caption in write_captions(read_flag(flags[code]), random.Random(code)):
            print(code, f"{caption.kind:8}", f"{caption.statement:70}", caption.text)


if __name__ == "__main__":
    main()
