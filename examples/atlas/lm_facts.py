"""Facts of the atlas tables as sentences and questions: what the tiny language models learn from.

Between the tables and ``write_lm_text.py``, which makes texts of them. A fact belongs to one split, with all that says
it in other words: its questions, its inverse, both directions of a border.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from atlas_tables import Atlas, members


@dataclass(frozen=True)
class Form:
    """How a relation is said: ``{s}`` is its subject, ``{o}`` its object.

    ``questions`` ask for the object, ``inverse`` for the subject, ``closed`` for yes or no. The answer of questions of
    a relation is the only right one.
    """

    statements: tuple[str, ...]
    questions: tuple[str, ...] = ()
    inverse: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()


FORMS = {
    "capital": Form(
        ("{o} is the capital of {s}.", "The capital of {s} is {o}.", "{s} has the capital {o}."),
        ("What is the capital of {s}?", "Which city is the capital of {s}?"),
        ("{o} is the capital of which country?", "Of which country is {o} the capital?"),
    ),
    "region": Form(
        ("{s} is a country in {o}.", "{s} lies in {o}."),
        ("In which region is {s}?", "In which part of the world does {s} lie?"),
    ),
    "currency": Form(
        ("The currency of {s} is the {o}.", "In {s} people pay with the {o}."),
        ("What is the currency of {s}?", "With which currency do people pay in {s}?"),
    ),
    "language": Form(
        ("{o} is an official language of {s}.", "An official language of {s} is {o}."),
        ("What is an official language of {s}?", "Which language is official in {s}?"),
    ),
    "government": Form(
        ("{s} is a {o}.", "The form of government of {s} is: {o}."),
        ("What is the form of government of {s}?", "How is {s} governed?"),
    ),
    "city": Form(
        ("{s} is a city in {o}.", "The city of {s} lies in {o}."),
        ("In which country is {s}?", "In which country does the city of {s} lie?"),
    ),
    "family": Form(
        ("{s} belongs to the {o}.", "{s} is one of the {o}."),
        ("To which languages does {s} belong?", "What is the language family of {s}?"),
    ),
    "domain": Form(
        ("The internet domain of {s} is {o}.", "Addresses in {s} end with {o}."),
        ("What is the internet domain of {s}?", "With what do addresses in {s} end?"),
        ("Which country has the internet domain {o}?",),
    ),
    "calling code": Form(
        ("The calling code of {s} is {o}.", "Calls to {s} begin with {o}."),
        ("What is the calling code of {s}?", "With what do calls to {s} begin?"),
    ),
    "borders": Form(
        ("{s} borders {o}.", "{s} and {o} are neighbours.", "{s} has a border with {o}."),
        closed=("Does {s} border {o}?", "Are {s} and {o} neighbours?"),
    ),
    "member": Form(
        ("{s} is a member of the {o}.", "The {o} has the member {s}."),
        closed=("Is {s} a member of the {o}?", "Does {s} belong to the {o}?"),
    ),
}


@dataclass(frozen=True)
class Fact:
    """One fact: true of its subject and object; ``key`` is the same for all ways to say it."""

    relation: str
    subject: str
    object: str
    key: str

    @property
    def split(self) -> str:
        """train, valid (1 of 20) or test (2 of 20), by the key alone."""
        draw = int(hashlib.sha256(self.key.encode()).hexdigest(), 16) % 20
        return {0: "valid", 1: "test", 2: "test"}.get(draw, "train")

    def say(self, template: str) -> str:
        """A template of the relation with the fact's names."""
        return template.format(s=self.subject, o=self.object)


def read_facts(atlas: Atlas) -> list[Fact]:
    """All facts, in the order of the tables."""
    return list(dict.fromkeys(_facts(atlas)))


def _facts(atlas: Atlas) -> Iterator[Fact]:
    names = {row["iso2"]: row["name"] for row in atlas.countries}
    cities = atlas.named(atlas.cities, "title")
    languages, currencies = atlas.named(atlas.languages, "code"), atlas.named(atlas.currencies, "code")
    regions = atlas.named(atlas.regions, "key")
    for row in atlas.countries:
        country = row["name"]
        if row["capital"] in cities:
            yield _one("capital", country, cities[row["capital"]]["name"])
        if row["subregion"]:
            yield _one("region", country, regions[row["subregion"]]["name"])
        if code := row["currencies"].split(" ")[0]:
            yield _one("currency", country, currencies[code]["title"])
        if code := row["official_languages"].split(" ")[0]:
            yield _one("language", country, languages[code]["name"])
        if row["government"]:
            yield _one("government", country, row["government"].lower())
        if row["tld"]:
            yield _one("domain", country, row["tld"])
        if row["calling_code"]:
            yield _one("calling code", country, "+" + row["calling_code"].removeprefix("+"))
        for code in row["neighbours"].split():
            if code in names:
                pair = sorted((country, names[code]))
                yield Fact("borders", country, names[code], f"borders {pair}")
    for row in atlas.cities:
        if row["is_capital"] == "no":
            yield _one("city", row["name"], names[row["country"]])
    for row in atlas.languages:
        if row["family"]:
            yield _one("family", row["name"], row["family"])
    for row in atlas.organisations:
        for code, _, end in members(row):
            if not end:
                yield Fact("member", names[code], row["name"], f"member {code} {row['key']}")


def _one(relation: str, subject: str, value: str) -> Fact:
    return Fact(relation, subject, value, f"{relation} of {subject}")
