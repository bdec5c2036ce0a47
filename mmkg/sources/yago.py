"""YAGO: 4.5 in Turtle, a statement a line, with facts about facts; and the older columns, as in YAGO15K.

Lines of it::

    yago:Elvis⇥rdf:type⇥yago:Singer⇥.
    <<⇥yago:Elvis⇥schema:spouse⇥yago:Priscilla⇥>>⇥schema:startDate⇥"1967"^^xsd:gYear⇥.
    <Nathan_Eccleston>⇥<isAffiliatedTo>⇥<Charlton_Athletic_F.C.>
    <James_Tavernier>⇥<playsFor>⇥<Milton_Keynes_Dons_F.C.>⇥<occursSince>⇥"2012-##-##"

Relative names stand behind http://yago-knowledge.org/resource/ unless `base_iri` is set. Five columns are a triple and
a qualifier of it; `2012-##-##` becomes the year 2012. Not in it: the sources of the single facts.

Address: https://yago-knowledge.org . Licence: CC BY 4.0 (4.5), CC BY 3.0 (older). Citation: Suchanek et al., SIGIR 2024
(4.5); Suchanek et al., WWW 2007.
"""

import re

from mmkg.sources.base import Block, Form, LineContext, LineForm, ParsedBlock, Source, SourceInfo
from mmkg.sources.lines_tsv import full_iri, quoted_literal, split_columns
from mmkg.sources.rows import Statement, Term, parse_lines
from mmkg.sources.sniff import choose_rdf_form, sample_lines
from mmkg.terms import YAGO

INFO = SourceInfo(
    title="YAGO",
    example="yago:Elvis\trdf:type\tyago:Singer\t.",
    urls=("https://yago-knowledge.org",),
    licence="CC BY 4.0",
    citation="Suchanek et al.: YAGO 4.5: a large and clean knowledge base with a rich taxonomy. SIGIR 2024",
    expects="Turtle, or <subject> TAB <relation> TAB <object> with two more columns for a time",
)

_COLUMNS = re.compile(rb"<[^>]*>\t<[^>]*>\t[<\"][^\t]*(\t<[^>]*>\t[<\"][^\t]*)?\t*")


def parse_yago_columns_line(line: str, context: LineContext) -> Statement:
    """Read a line of three columns (a triple) or five (and a qualifier of it).

    Raises:
        LineRejected: it is neither.
    """
    columns = split_columns(line, (3, 5))
    base = context.base_iri
    head, relation, tail = full_iri(columns[0], base), full_iri(columns[1], base), _term(columns[2], base)
    if len(columns) == 3:
        return Statement(head, relation, tail)
    about = (full_iri(columns[3], base), _term(columns[4], base))
    return Statement(head, relation, tail, qualifiers=(about,))


def _term(column: str, base_iri: str) -> Term:
    if not column.startswith('"'):
        return full_iri(column, base_iri)
    return quoted_literal(column)


def parse_yago_columns(block: Block, context: LineContext) -> ParsedBlock:
    """Read a block of the older form."""
    return parse_lines(block, context, parse_yago_columns_line, comments=True)


YAGO_COLUMNS = LineForm(name="YAGO columns", parse=parse_yago_columns, base_iri=YAGO)


def choose_form(head: bytes, base_iri: str) -> Form:
    """Columns where the first lines are such and do not end as N-Triples do, else RDF."""
    sample = sample_lines(head)
    if sample and 2 * sum(bool(_COLUMNS.fullmatch(line)) for line in sample) > len(sample):
        return YAGO_COLUMNS
    return choose_rdf_form(head, base_iri)


SOURCE = Source(kind="yago", info=INFO, choose_form=choose_form)
