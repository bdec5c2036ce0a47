"""MMKB: numbers, dates and pictures for FB15k, DB15K and YAGO15K, and the links between them.

Lines of it::

    /m/06rf7⇥<http://rdf.freebase.com/ns/location.geocode.longitude>⇥9.70404945
    <Doncaster>⇥<hasLongitude>⇥-1.133
    <Muhammad>⇥<diedOnDate>⇥632.0608
    /m/01m4kpp⇥FBIMG00001
    /m/01m4kpp <SameAs> <http://dbpedia.org/resource/Andy_Griffith> .

A number becomes an `xsd:double`. A value of a relation whose name ends in ``OnDate`` is year.MMDD and becomes a date,
or a year where month and day are 0; where it is no date (month 13), it stays a number. Years are without sign, so those
before Christ cannot be told from those after. An image index becomes a literal under `IMAGE_INDEX`; the pictures' own
files are not in MMKB. `SameAs` becomes `owl:sameAs`. Relative names stand behind http://yago-knowledge.org/resource/
unless `base_iri` is set.

Address: https://github.com/mniepert/mmkb . Licence: BSD 3-Clause. Citation: Liu et al., MMKG: Multi-Modal Knowledge
Graphs, ESWC 2019.
"""

import re

from mmkg.sources.base import Block, Form, LineContext, LineForm, LineRejected, ParsedBlock, Source, SourceInfo
from mmkg.sources.lines_tsv import date_literal, full_iri, number_literal, split_columns
from mmkg.sources.rows import Literal, Statement, parse_lines
from mmkg.terms import OWL_SAME_AS, YAGO

INFO = SourceInfo(
    title="MMKB",
    example="/m/06rf7\t<http://rdf.freebase.com/ns/location.geocode.longitude>\t9.70404945",
    urls=("https://github.com/mniepert/mmkb",),
    licence="BSD 3-Clause",
    citation="Liu et al.: MMKG: Multi-Modal Knowledge Graphs. ESWC 2019",
    expects="entity TAB <relation> TAB number, or entity TAB image id, or /m/id <SameAs> <iri> .",
)

IMAGE_INDEX = "urn:mmkg:mmkb:imageIndex"
"""The relation from an entity to its number in MMKB's picture features, such as FBIMG00001."""

_SAME_AS = re.compile(r"\s*(?P<head>\S+)\s+<SameAs>\s+(?P<tail><[^>]*>|/\S+)\s*\.\s*")
_IMAGE = re.compile(r"[A-Z0-9]*IMG\d+")


def parse_same_as(line: str, context: LineContext) -> Statement | None:
    """Read ``/m/id <SameAs> <iri> .``; None if the line is something else.

    Raises:
        LineRejected: it is such a line, but one of its ends is no name.
    """
    match = _SAME_AS.fullmatch(line)
    if match is None:
        return None
    base = context.base_iri
    return Statement(full_iri(match["head"], base), OWL_SAME_AS, full_iri(match["tail"], base))


def parse_mmkb_line(line: str, context: LineContext) -> Statement:
    """Read a line of one of MMKB's files.

    Raises:
        LineRejected: it is none of the forms above.
    """
    if (same_as := parse_same_as(line, context)) is not None:
        return same_as
    columns = split_columns(line, (2, 3))
    head = full_iri(columns[0], context.base_iri)
    if len(columns) == 2:
        if not _IMAGE.fullmatch(columns[1]):
            raise LineRejected("bad_value", f"{columns[1][:80]!r} is not an image id such as FBIMG00001")
        return Statement(head, IMAGE_INDEX, Literal(columns[1]))
    relation = full_iri(columns[1], context.base_iri)
    number = number_literal(columns[2])
    date = date_literal(columns[2]) if relation.endswith("OnDate") else None
    return Statement(head, relation, date or number)


def parse_mmkb(block: Block, context: LineContext) -> ParsedBlock:
    """Read a block of one of MMKB's files."""
    return parse_lines(block, context, parse_mmkb_line)


MMKB = LineForm(name="MMKB", parse=parse_mmkb, base_iri=YAGO)


def choose_form(head: bytes, base_iri: str) -> Form:  # noqa: ARG001 - there is one form, told apart line by line
    """All files of MMKB are lines, and say themselves what they are."""
    return MMKB


SOURCE = Source(kind="mmkb", info=INFO, choose_form=choose_form)
