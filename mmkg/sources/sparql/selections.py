"""The selections of a config: one for each class, each predicate, or each line of an own CONSTRUCT.

Before the way of a fact begins.
"""

from mmkg.config import SparqlConfig
from mmkg.sources.sparql.construct import selections_of_construct
from mmkg.sources.sparql.selection import Selection, Term
from mmkg.terms import RDF_TYPE


def selections_of(config: SparqlConfig) -> list[Selection]:
    """The selections of a config, in its order.

    A statement about an instance of two of the classes belongs to the first of them. An own CONSTRUCT is one selection
    for each line of its template.

    Raises:
        ConfigError: the own query is no CONSTRUCT that can be paged (see `construct`).
    """
    if config.query:
        return selections_of_construct(config.query)
    if config.predicates:
        return [_of_predicate(iri) for iri in config.predicates]
    return [_of_class(iri, config.classes[:number]) for number, iri in enumerate(config.classes)]


def _of_predicate(iri: str) -> Selection:
    constants = (None, Term("iri", iri), None)
    return Selection(name=f"predicate <{iri}>", pattern=f"?s <{iri}> ?o", places=("?s", "", "?o"), constants=constants)


def _of_class(iri: str, earlier: tuple[str, ...]) -> Selection:
    others = "".join(f" FILTER NOT EXISTS {{ ?s <{RDF_TYPE}> <{other}> }}" for other in earlier)
    return Selection(
        name=f"class <{iri}>",
        pattern=f"?s <{RDF_TYPE}> <{iri}> . ?s ?p ?o .{others}",
        places=("?s", "?p", "?o"),
        constants=(None, None, None),
    )
