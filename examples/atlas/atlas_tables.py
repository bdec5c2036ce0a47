"""The atlas tables in memory, and the three ways the sources name things.

Between the tables (countries.tsv and its side tables) and the dumps: read here, then written in each source's form by
``freebase_form.py``, ``dbpedia_form.py`` and ``yago_form.py``.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
Row = dict[str, str]


def read_table(path: Path) -> list[Row]:
    """Rows of a tab-separated file with a header line."""
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


@dataclass(frozen=True, kw_only=True)
class Atlas:
    """Every table, and the lookups the forms need."""

    countries: list[Row]
    cities: list[Row]
    languages: list[Row]
    currencies: list[Row]
    regions: list[Row]
    organisations: list[Row]
    labels: dict[tuple[str, str], list[tuple[str, str]]]  # (kind, key) to (language, label), sorted
    flags: dict[str, str]  # iso2 to file name, of the flags that are drawn

    def country(self, iso2: str) -> Row:
        """The country of an ISO code."""
        return next(row for row in self.countries if row["iso2"] == iso2)

    def named(self, table: list[Row], key: str) -> dict[str, Row]:
        """A table by one of its columns."""
        return {row[key]: row for row in table}


def read_atlas(folder: Path = HERE) -> Atlas:
    """Read all tables of the folder."""
    labels: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for row in read_table(folder / "labels.tsv"):
        labels.setdefault((row["kind"], row["key"]), []).append((row["language"], row["label"]))
    return Atlas(
        countries=read_table(folder / "countries.tsv"),
        cities=read_table(folder / "cities.tsv"),
        languages=read_table(folder / "languages.tsv"),
        currencies=read_table(folder / "currencies.tsv"),
        regions=read_table(folder / "regions.tsv"),
        organisations=read_table(folder / "organisations.tsv"),
        labels={key: sorted(values) for key, values in labels.items()},
        flags={row["iso2"]: row["file"] for row in read_table(folder / "flags" / "index.tsv")},
    )


def members(organisation: Row) -> list[tuple[str, str, str]]:
    """Members as (iso2, start year or empty, end year or empty), from ``FR=1958 GB=1973-2020 NO``."""
    result = []
    for entry in organisation["members"].split():
        iso2, _, years = entry.partition("=")
        start, _, end = years.partition("-")
        result.append((iso2, start, end))
    return result


def dbpedia_iri(title: str) -> str:
    """``http://dbpedia.org/resource/`` and the Wikipedia title with underscores; non-ASCII letters stay."""
    return "http://dbpedia.org/resource/" + title.replace(" ", "_")


def freebase_iri(mid: str) -> str:
    """The IRI of a MID (``m.0f8l9c``) or of a type or property (``location.country``)."""
    return "http://rdf.freebase.com/ns/" + mid


def yago_name(title: str) -> str:
    """The YAGO 4.5 local name: letters, digits, ``_`` and ``-`` stay, the rest becomes ``_u002C_``."""
    safe = (char if char.isalnum() or char in "_-" else f"_u{ord(char):04X}_" for char in title.replace(" ", "_"))
    return "".join(safe)


def yago_iri(title: str) -> str:
    """The full IRI of a YAGO entity."""
    return "http://yago-knowledge.org/resource/" + yago_name(title)


def quote(text: str) -> str:
    """A literal's text between quotes, escaped as N-Triples and Turtle want it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'
