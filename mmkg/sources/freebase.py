"""Freebase: the RDF dump of 2015, and FB15k, the benchmark cut out of it.

Lines of it::

    <http://rdf.freebase.com/ns/m.06cx9>⇥<http://rdf.freebase.com/ns/type.object.name>⇥"Republic"@en⇥.
    /m/027rn⇥/location/country/form_of_government⇥/m/06cx9
    /m/06rf7⇥Schleswig-Holstein
    /location/country/form_of_government⇥location country form of government

The last two are the names files that travel with FB15k: a name becomes `type.object.name`, the words of a relation
become its `rdfs:label`. MIDs stay what they are, http://rdf.freebase.com/ns/m.027rn; a relation over a compound value
keeps both hops (`/a/b./c/d` is ns/a.b..c.d). Not in it: anything after August 2015, and no images.

Address: https://developers.google.com/freebase . Licence: CC BY 2.5. Citation: Bollacker et al., SIGMOD 2008; FB15k:
Bordes et al., NIPS 2013; FB15k-237: Toutanova and Chen, CVSC 2015.
"""

from mmkg.sources.base import Block, Form, LineContext, LineForm, LineRejected, ParsedBlock, Source, SourceInfo
from mmkg.sources.lines_tsv import freebase_iri, split_columns
from mmkg.sources.rows import Literal, Statement, parse_lines
from mmkg.sources.sniff import choose_rdf_form, sample_lines
from mmkg.terms import FREEBASE, RDFS_LABEL

INFO = SourceInfo(
    title="Freebase",
    example="/m/027rn\t/location/country/form_of_government\t/m/06cx9",
    urls=("https://developers.google.com/freebase",),
    licence="CC BY 2.5",
    citation="Bollacker et al.: Freebase: a collaboratively created graph database. SIGMOD 2008",
    expects="N-Triples with tabs between the terms, or /m/head TAB /a/relation TAB /m/tail, or /m/id TAB name",
)
NAME_RELATION = FREEBASE + "type.object.name"


def parse_fb15k_line(line: str, context: LineContext) -> Statement:  # noqa: ARG001 - as all line parsers
    """Read a line of FB15k: a triple, or a name.

    Raises:
        LineRejected: it is neither.
    """
    columns = split_columns(line, (2, 3))
    if len(columns) == 2:
        relation = NAME_RELATION if columns[0].startswith(("/m/", "/g/")) else RDFS_LABEL
        return Statement(_iri(columns[0]), relation, Literal(columns[1]))
    head, relation, tail = columns
    return Statement(_iri(head), _iri(relation), _iri(tail))


def _iri(path: str) -> str:
    iri = freebase_iri(path)
    if iri is None:
        raise LineRejected("bad_value", f"{path[:80]!r} is not a Freebase path such as /m/027rn")
    return iri


def parse_fb15k(block: Block, context: LineContext) -> ParsedBlock:
    """Read a block of FB15k."""
    return parse_lines(block, context, parse_fb15k_line)


FB15K = LineForm(name="FB15k columns", parse=parse_fb15k)


def choose_form(head: bytes, base_iri: str) -> Form:
    """FB15k where the first lines begin with a path, else RDF."""
    sample = sample_lines(head)
    if sample and 2 * sum(line.startswith(b"/") for line in sample) > len(sample):
        return FB15K
    return choose_rdf_form(head, base_iri)


SOURCE = Source(kind="freebase", info=INFO, choose_form=choose_form)
