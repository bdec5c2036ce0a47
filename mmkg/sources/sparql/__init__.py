"""SPARQL endpoints: statements are pulled by query, proved complete, and laid down as N-Triples parts.

A line of it, once it is pulled::

    <http://dbpedia.org/resource/France> <http://dbpedia.org/ontology/capital> <http://dbpedia.org/resource/Paris> .

Before the way of a fact begins: a fact stands in somebody else's database here, behind a service that cuts answers
without a word (DBpedia's gives 10,000 rows and HTTP 200). :func:`pull` brings it into ``part-000000.nt.gz``…, which are
then read like any dump, so that provenance is a file and a line. Not in it: named graphs (one graph, or the endpoint's
default), inferred statements unless the endpoint gives them, blank nodes under their own kind: they become IRIs where
the endpoint names them the same way in every answer, and stop the pull where it does not.

The parts: `presets` (limits of known services), `selections` and `construct` (what is asked for), `ranges` and
`queries` (key ranges and their SPARQL), `endpoint` (one polite request), `answers` (rows to lines), `ledger` (what a
killed pull goes on from), `puller` (the work on the ranges), `proof` (nothing changed meanwhile). ``docs/sparql.md``
tells what is proved, and what cannot be.

Address: https://www.w3.org/TR/sparql11-query/ . Licence: that of the endpoint's data. Citation: SPARQL 1.1 Query
Language, W3C Recommendation, 21 March 2013.
"""

from mmkg.sources.base import Source, SourceInfo
from mmkg.sources.sniff import choose_rdf_form
from mmkg.sources.sparql.puller import PullReport, pull

INFO = SourceInfo(
    title="SPARQL endpoint",
    example="<http://dbpedia.org/resource/France> <http://dbpedia.org/ontology/capital> "
    "<http://dbpedia.org/resource/Paris> .",
    urls=("https://www.w3.org/TR/sparql11-query/", "https://dbpedia.org/sparql", "https://query.wikidata.org/sparql"),
    licence="that of the endpoint's data",
    citation="SPARQL 1.1 Query Language, W3C Recommendation, 21 March 2013",
    expects="the N-Triples parts that a pull wrote: <subject> <predicate> <object> .",
)

SOURCE = Source(kind="sparql", info=INFO, choose_form=choose_rdf_form)

__all__ = ["INFO", "SOURCE", "PullReport", "pull"]
