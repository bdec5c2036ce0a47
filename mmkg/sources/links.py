"""Identity links between sources: `owl:sameAs` statements, or MMKB's `SameAs` lines.

Lines of it::

    <http://dbpedia.org/resource/Paris> <…owl#sameAs> <http://yago-knowledge.org/resource/Paris> .
    /m/01m4kpp <SameAs> <http://dbpedia.org/resource/Andy_Griffith> .

Both become `owl:sameAs` triples. Any other statement in a dump of links is a reject of the reason `not_a_link`. Not in
it: how sure a link is.

Address: https://databus.dbpedia.org , https://github.com/mniepert/mmkb . Licence: that of the dump.
"""

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from mmkg.sources.base import Block, Form, LineContext, LineForm, LineRejected, ParsedBlock, Source, SourceInfo
from mmkg.sources.lines_ntriples import parse_ntriples
from mmkg.sources.lines_turtle import parse_turtle_lines
from mmkg.sources.mmkb import parse_same_as
from mmkg.sources.rows import RowCollector, Statement, parse_lines, split_lines
from mmkg.sources.sniff import choose_rdf_form
from mmkg.terms import OWL_SAME_AS, YAGO

SAME_AS_INFO = SourceInfo(
    title="owl:sameAs links",
    example=(
        "<http://dbpedia.org/resource/Paris> <http://www.w3.org/2002/07/owl#sameAs> "
        "<http://yago-knowledge.org/resource/Paris> ."
    ),
    urls=("https://databus.dbpedia.org",),
    licence="that of the dump",
    citation="",
    expects="<iri> <http://www.w3.org/2002/07/owl#sameAs> <iri> . in N-Triples or Turtle",
)
MMKB_INFO = SourceInfo(
    title="MMKB links",
    example="/m/01m4kpp <SameAs> <http://dbpedia.org/resource/Andy_Griffith> .",
    urls=("https://github.com/mniepert/mmkb",),
    licence="BSD 3-Clause",
    citation="Liu et al.: MMKG: Multi-Modal Knowledge Graphs. ESWC 2019",
    expects="/m/id <SameAs> <iri> .",
)


def _only_links(parsed: ParsedBlock, block: Block, context: LineContext) -> ParsedBlock:
    """Turn every triple that is no link, and every qualifier, into a reject."""
    tables = dict(parsed.tables)
    triples = tables.get("triples_raw")
    others: set[int] = set()
    if triples is not None:
        is_link = pc.and_(pc.equal(triples["relation"], OWL_SAME_AS), pc.is_valid(triples["tail"]))
        others.update(triples.filter(pc.invert(is_link))["line"].to_pylist())
        tables["triples_raw"] = triples.filter(is_link)
        parsed.counts.repaired = int(pc.sum(tables["triples_raw"]["repaired"]).as_py() or 0)
        parsed.counts.triples = tables["triples_raw"].num_rows
    if (qualifiers := tables.pop("qualifiers_raw", None)) is not None:
        others.update(qualifiers["line"].to_pylist())
        parsed.counts.qualifiers = 0
    if not others:
        return parsed
    collector = RowCollector(context)
    for line, offset, raw in split_lines(block):
        if line in others:
            collector.reject(line, offset, LineRejected("not_a_link", "the statement is no owl:sameAs link"), raw)
    rejects = [table for table in (tables.get("rejects"), collector.tables()["rejects"]) if table is not None]
    tables["rejects"] = pa.concat_tables(rejects).sort_by("line")
    parsed.counts.add(collector.counts)
    return ParsedBlock(tables={name: rows for name, rows in tables.items() if rows.num_rows}, counts=parsed.counts)


def parse_ntriples_links(block: Block, context: LineContext) -> ParsedBlock:
    """Read a block of N-Triples and keep the links."""
    return _only_links(parse_ntriples(block, context), block, context)


def parse_turtle_links(block: Block, context: LineContext) -> ParsedBlock:
    """Read a block of Turtle lines and keep the links."""
    return _only_links(parse_turtle_lines(block, context), block, context)


def parse_mmkb_link_line(line: str, context: LineContext) -> Statement:
    """Read one of MMKB's links.

    Raises:
        LineRejected: it is none.
    """
    statement = parse_same_as(line, context)
    if statement is None:
        raise LineRejected("not_a_link", "expected /m/id <SameAs> <iri> .")
    return statement


def parse_mmkb_links(block: Block, context: LineContext) -> ParsedBlock:
    """Read a block of MMKB's links."""
    return parse_lines(block, context, parse_mmkb_link_line)


def choose_same_as_form(head: bytes, base_iri: str) -> Form:
    """The RDF syntax of a dump, with all but links rejected."""
    form = choose_rdf_form(head, base_iri)
    if not isinstance(form, LineForm):
        return replace(form, links_only=True)
    return replace(form, parse=parse_turtle_links if form.parse is parse_turtle_lines else parse_ntriples_links)


def choose_mmkb_form(head: bytes, base_iri: str) -> Form:  # noqa: ARG001 - there is one form
    """There is one form."""
    return LineForm(name="MMKB links", parse=parse_mmkb_links, base_iri=YAGO)


LINKS = {
    "sameas": Source(kind="sameas", info=SAME_AS_INFO, choose_form=choose_same_as_form),
    "mmkb": Source(kind="mmkb", info=MMKB_INFO, choose_form=choose_mmkb_form),
}
