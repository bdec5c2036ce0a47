"""From the bytes of an answer to rows, and from a row to a line of N-Triples. Nothing is dropped on the way.

A fact leaves the endpoint here. A row whose terms are no RDF makes the whole answer broken; an IRI or language tag that
N-Triples does not allow is written as it came, and becomes a reject with its reason when the part is read.
"""

import hashlib
import json
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mmkg.sources.sparql.queries import NAMES
from mmkg.sources.sparql.ranges import coarse
from mmkg.sources.sparql.selection import Selection, Term
from mmkg.terms import RDF, XSD_STRING, spell_literal

Bindings = Sequence[Mapping[str, Mapping[str, str]]]

_VIRTUOSO_NODE = "nodeID://"
_NOT_IN_IRI = re.compile(r'[\x00-\x20<>"{}|^`\\\ud800-\udfff]')
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_LANG_STRING = f"{RDF}langString"
_PLAIN_DATATYPES = frozenset({XSD_STRING, _LANG_STRING})


class BrokenAnswer(Exception):  # noqa: N818 - never leaves this package
    """What came is no whole answer of SPARQL JSON."""


class UnnamedBlank(Exception):  # noqa: N818 - never leaves this package
    """A blank node came without a name that holds across answers."""


class Row(NamedTuple):
    """A statement: where it stands in the order of keys, its line, and its keys of subject, predicate and object."""

    order: tuple[str, ...]
    line: str
    keys: tuple[str, str, str]


def parse_answer(body: bytes) -> Bindings:
    """The rows of an answer.

    Raises:
        BrokenAnswer: it is not the whole JSON of a SELECT.
    """
    try:
        answer = json.loads(body)
        bindings = answer["results"]["bindings"]
        whole = isinstance(bindings, list) and isinstance(answer["head"]["vars"], list)
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise BrokenAnswer(f"no whole JSON of a SELECT ({error}); it ends with {body[-60:]!r}") from error
    if not whole or not all(isinstance(row, dict) for row in bindings):
        raise BrokenAnswer("JSON, but not that of a SELECT")
    return bindings


def text_of(row: Mapping[str, Mapping[str, str]], name: str) -> str | None:
    """The value of a column, None where it is unbound.

    Raises:
        BrokenAnswer: it is no text.
    """
    cell = row.get(name)
    if cell is None:
        return None
    value = cell.get("value") if isinstance(cell, dict) else None
    if not isinstance(value, str):
        raise BrokenAnswer(f"the column {name} holds {str(cell)[:80]}")
    return value


def number_of(row: Mapping[str, Mapping[str, str]], name: str) -> int:
    """The whole number in a column; unbound is 0 (a SUM over nothing, on Virtuoso).

    Raises:
        BrokenAnswer: it is no whole number.
    """
    text = text_of(row, name)
    if text is None:
        return 0
    if not re.fullmatch(r"\+?\d{1,18}", text):
        raise BrokenAnswer(f"the column {name} should hold a count, and holds '{text[:40]}'")
    return int(text)


class Statements:
    """Turns the rows of a selection's pages into lines.

    Args:
        selection: whose rows.
        endpoint: its host is where blank nodes get an IRI, as RDF 1.1 (section 3.5) recommends.
    """

    def __init__(self, selection: Selection, endpoint: str) -> None:
        self._selection = selection
        address = urllib.parse.urlsplit(endpoint)
        self._genid = f"{address.scheme}://{address.netloc}/.well-known/genid/"

    def may_have_blank(self, line: str) -> bool:
        """Whether an IRI that stands for a blank node is in a line (or a literal that looks like one)."""
        return f"<{_VIRTUOSO_NODE}" in line or f"<{self._genid}" in line

    def rows_of(self, bindings: Bindings) -> list[Row]:
        """The statements of a page, in the order of keys; one that occurs twice is there twice.

        Raises:
            BrokenAnswer: a row lacks a variable or holds what is no RDF term.
            UnnamedBlank: a blank node has no name of its own.
        """
        return sorted((self._row(row) for row in bindings), key=lambda row: (row.order, row.line))

    def _row(self, row: Mapping[str, Mapping[str, Any]]) -> Row:
        terms: list[Term] = []
        keys: list[str] = []
        for place, constant, name in zip(self._selection.places, self._selection.constants, NAMES, strict=True):
            term, key = (constant, "") if constant is not None else self._term(row, place, name)
            terms.append(term)
            keys.append(key)
        subject, predicate, tail = terms
        if subject.kind == "literal" or predicate.kind != "iri":
            raise BrokenAnswer(f"a row with {subject} as subject and {predicate} as predicate")
        order: list[str] = []
        for place, key in zip(self._selection.places, keys, strict=True):
            if place:
                order += (
                    coarse(key),
                    hashlib.md5(key.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest(),
                )
        if tail.kind == "literal":  # as the kind dimension has it
            order.append(f"{tail.language}^{tail.datatype or (_LANG_STRING if tail.language else XSD_STRING)}")
        line = f"{spell_term(subject)} {spell_term(predicate)} {spell_term(tail)} ."
        return Row(tuple(order), line, (keys[0], keys[1], keys[2]))

    def _term(self, row: Mapping[str, Mapping[str, Any]], place: str, name_column: str) -> tuple[Term, str]:
        """The term in a place, and the string that the endpoint's STR makes of it."""
        cell, value = row.get(place[1:]), text_of(row, place[1:])
        if cell is None or value is None:
            raise BrokenAnswer(f"a row without {place}: {str(dict(row))[:120]}")
        kind, datatype, language = cell.get("type"), cell.get("datatype") or "", cell.get("xml:lang") or ""
        if kind == "uri":
            return Term("iri", value), value
        if kind in {"literal", "typed-literal"} and isinstance(datatype, str) and isinstance(language, str):
            datatype = "" if language or datatype in _PLAIN_DATATYPES else datatype
            return Term("literal", value, datatype, language), value
        if kind == "bnode":
            name = value if value.startswith(_VIRTUOSO_NODE) else text_of(row, name_column)
            if not name:
                raise UnnamedBlank(value)
            if name.startswith(_VIRTUOSO_NODE):
                return Term("iri", name), name
            return Term("iri", self._genid + urllib.parse.quote(name.removeprefix("_:"), safe="")), name
        raise BrokenAnswer(f"{place} is {str(cell)[:120]}")


def spell_term(term: Term) -> str:
    r"""N-Triples spelling, on one line whatever the term holds.

    >>> spell_term(Term("iri", "http://a/b c")), spell_term(Term("literal", "x", language="en"))
    ('<http://a/b\\u0020c>', '"x"@en')
    """
    if term.kind == "iri":
        return f"<{_spell_iri(term.value)}>"
    datatype = _spell_iri(term.datatype) if term.datatype else None
    language = re.sub(r"\s", "_", term.language) or None  # never a second line; the reader refuses the tag
    literal = spell_literal(term.value, datatype, language)
    return _SURROGATE.sub(_escape, literal)


def _spell_iri(iri: str) -> str:
    return _NOT_IN_IRI.sub(_escape, iri)


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04X}"
