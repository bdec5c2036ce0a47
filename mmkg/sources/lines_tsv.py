"""Columns and short names: what the sources that are no RDF have in common.

The one place where ``/m/027rn``, ``<Doncaster>`` or a plain name becomes a full IRI.
"""

import functools
import re
from urllib.parse import quote

import pyoxigraph as ox

from mmkg.sources.base import LineRejected
from mmkg.sources.rows import Literal
from mmkg.sources.statements import checked_iri, parse_statement, repair_iri, scoped_names
from mmkg.terms import FREEBASE, XSD, parse_date

_HIERARCHICAL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://.", re.DOTALL)
_FREEBASE_PATH = re.compile(r"/[^/\s]+(?:/[^/\s]*)*")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
_SAFE = "/:@!$&'()*+,;="  # of a name, beside letters, digits and -._~
_CACHED_NAMES = 2**16
_NAMES = scoped_names("m00000000")


def split_columns(line: str, counts: tuple[int, ...]) -> list[str]:
    """The tab-separated columns of a line, without spaces around them.

    Raises:
        LineRejected: their number is not one of `counts`, or one is empty.
    """
    columns = [column.strip() for column in line.split("\t")]
    while len(columns) > max(counts) and not columns[-1]:
        columns.pop()
    if len(columns) not in counts:
        expected = " or ".join(map(str, counts))
        raise LineRejected("columns", f"expected {expected} columns, found {len(columns)}")
    if not all(columns):
        raise LineRejected("columns", "a column is empty")
    return columns


def _valid_iri(iri: str) -> str:
    """An IRI with forbidden characters percent-encoded.

    Raises:
        LineRejected: that does not make it valid, or it is long.
    """
    repaired = checked_iri(repair_iri(iri))
    try:
        ox.NamedNode(repaired)
    except ValueError as error:
        raise LineRejected("invalid_iri", f"{iri[:80]!r}: {error}") from error
    return repaired


@functools.lru_cache(_CACHED_NAMES)
def freebase_iri(name: str) -> str | None:
    """The IRI of a Freebase path, None if it is none.

    ``/m/027rn`` becomes ``…/ns/m.027rn``, ``/a/b/c`` becomes ``…/ns/a.b.c``. A relation over a compound value keeps its
    two hops, ``/a/b./c/d`` becomes ``…/ns/a.b..c.d``: two dots for ``./``, so that the way back is plain.
    """
    if not _FREEBASE_PATH.fullmatch(name):
        return None
    return _valid_iri(FREEBASE + name[1:].replace("./", ".\0").replace("/", ".").replace("\0", "."))


def freebase_path(iri: str) -> str:
    """The way back from :func:`freebase_iri`: the path as FB15k spells it.

    >>> freebase_path("http://rdf.freebase.com/ns/tv.tv_program.regular_cast..tv.regular_tv_appearance.actor")
    '/tv/tv_program/regular_cast./tv/regular_tv_appearance/actor'
    """
    hops = iri.removeprefix(FREEBASE).split("..")
    return ".".join("/" + hop.replace(".", "/") for hop in hops)


@functools.lru_cache(_CACHED_NAMES)
def full_iri(name: str, base_iri: str) -> str:
    """The IRI that a column names: ``<…>`` absolute or relative, a Freebase MID or path, or an absolute IRI.

    Raises:
        LineRejected: it is none of these.
    """
    if name.startswith("<") and name.endswith(">") and len(name) > 2:
        inner = name[1:-1]
        if _is_absolute(inner):
            return _valid_iri(inner)
        if not base_iri:
            raise LineRejected("relative_iri", f"{name} has no scheme, and this kind has no base")
        return _valid_iri(base_iri + inner)
    if (iri := freebase_iri(name)) is not None:
        return iri
    if _HIERARCHICAL.match(name) and " " not in name:
        return _valid_iri(name)
    raise LineRejected("bad_value", f"{name[:80]!r} is neither <name>, nor /m/id, nor an IRI")


def _is_absolute(inner: str) -> bool:
    """Names such as ``Star_Trek:_Nemesis`` hold a colon too, so only well-known schemes count without ``//``."""
    return bool(_HIERARCHICAL.match(inner)) or inner.startswith(("urn:", "mailto:", "tel:", "geo:", "data:"))


@functools.lru_cache(_CACHED_NAMES)
def named_iri(name: str, base_iri: str) -> str:
    """The IRI of a name of any kind: itself if it is one, else behind the base with all else percent-encoded.

    Raises:
        LineRejected: it is no valid IRI.
    """
    if name.startswith("<") and name.endswith(">") and _is_absolute(name[1:-1]):
        return _valid_iri(name[1:-1])
    if _HIERARCHICAL.match(name) and " " not in name:
        return _valid_iri(name)
    bare = name[1:-1] if name.startswith("<") and name.endswith(">") else name
    return _valid_iri(base_iri + quote(bare, safe=_SAFE))


def number_literal(text: str) -> Literal:
    """A number as ``xsd:double``.

    Raises:
        LineRejected: it is no number.
    """
    if not _NUMBER.fullmatch(text):
        raise LineRejected("bad_value", f"{text[:80]!r} is not a number")
    return Literal(text, XSD + "double")


def date_literal(text: str) -> Literal | None:
    """A date as ``xsd:date``, ``xsd:gYearMonth`` or ``xsd:gYear``, by its precision; None if it is none.

    >>> date_literal("1861.0000")
    Literal(value='1861', datatype='http://www.w3.org/2001/XMLSchema#gYear', language=None)
    >>> date_literal("999-##-##")
    Literal(value='0999', datatype='http://www.w3.org/2001/XMLSchema#gYear', language=None)
    """
    if match := re.match(r"\d{1,3}(?=[-.]|$)", text):  # years before 1000 are not padded in the sources
        text = match[0].zfill(4) + text[match.end() :]
    found = parse_date(text)
    if found is None:
        return None
    day = found.date.isoformat()
    if found.precision == "year":
        return Literal(day[:4], XSD + "gYear")
    return Literal(day, XSD + "date") if found.precision == "day" else Literal(day[:7], XSD + "gYearMonth")


def quoted_literal(text: str) -> Literal:
    """A literal as N-Triples spells it; a date with open parts (``"2012-##-##"``) becomes a date.

    Raises:
        LineRejected: it is none.
    """
    statement = parse_statement(f"<urn:x> <urn:x> {text} .", _NAMES)
    literal = statement.tail
    if not isinstance(literal, Literal):
        raise LineRejected("bad_value", f"{text[:80]!r} is not a literal")
    if literal.language is None and "#" in literal.value and (date := date_literal(literal.value)) is not None:
        return date
    return literal
