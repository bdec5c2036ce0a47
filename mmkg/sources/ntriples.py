"""N-Triples: one statement a line, whatever the knowledge base; the form in which most dumps come.

A line of it::

    <http://dbpedia.org/resource/France> <http://www.w3.org/2000/01/rdf-schema#label> "France"@en .

Not in it: prefixes, relative IRIs, statements over several lines. Files of this kind may also be Turtle, N-Quads (the
graph names are dropped, with a count) or RDF/XML: the content decides, not the name.

Address: https://www.w3.org/TR/n-triples/ . Licence: that of the dump. Citation: W3C Recommendation, 25 February 2014.
"""

from mmkg.sources.base import Source, SourceInfo
from mmkg.sources.sniff import choose_rdf_form

INFO = SourceInfo(
    title="N-Triples",
    example='<http://dbpedia.org/resource/France> <http://www.w3.org/2000/01/rdf-schema#label> "France"@en .',
    urls=("https://www.w3.org/TR/n-triples/",),
    licence="that of the dump",
    citation="RDF 1.1 N-Triples, W3C Recommendation, 25 February 2014",
    expects='<subject> <predicate> <object> . or <subject> <predicate> "text"@en .',
)

SOURCE = Source(kind="ntriples", info=INFO, choose_form=choose_rdf_form)
