"""Tab-separated triples with names of any kind: the form of most link prediction benchmarks, and of one's own data.

A line of it::

    France⇥capital⇥Paris

A name that is an IRI stays one; another is percent-encoded behind `base_iri` (``urn:mmkg:`` unless set). A third column
in N-Triples quotes (``"68000000"^^<http://www.w3.org/2001/XMLSchema#integer>``) is a literal. Not in it: quoting of
tabs, a header line (it would be a triple).

Address: none. Licence: that of the file. Citation: none.
"""

from mmkg.sources.base import Block, Form, LineContext, LineForm, ParsedBlock, Source, SourceInfo
from mmkg.sources.lines_tsv import named_iri, quoted_literal, split_columns
from mmkg.sources.rows import Statement, parse_lines

INFO = SourceInfo(
    title="Tab-separated triples",
    example="France\tcapital\tParis",
    urls=(),
    licence="that of the file",
    citation="",
    expects="head TAB relation TAB tail",
)
DEFAULT_BASE = "urn:mmkg:"


def parse_tsv_line(line: str, context: LineContext) -> Statement:
    """Read a line of three columns.

    Raises:
        LineRejected: there are more or fewer, one is empty, or a literal is misspelled.
    """
    head, relation, tail = split_columns(line, (3,))
    base = context.base_iri
    term = quoted_literal(tail) if tail.startswith('"') else named_iri(tail, base)
    return Statement(named_iri(head, base), named_iri(relation, base), term)


def parse_tsv(block: Block, context: LineContext) -> ParsedBlock:
    """Read a block of tab-separated triples."""
    return parse_lines(block, context, parse_tsv_line)


TSV = LineForm(name="tab-separated triples", parse=parse_tsv, base_iri=DEFAULT_BASE)


def choose_form(head: bytes, base_iri: str) -> Form:  # noqa: ARG001 - there is one form
    """There is one form."""
    return TSV


SOURCE = Source(kind="tsv", info=INFO, choose_form=choose_form)
