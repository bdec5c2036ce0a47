"""What is asked for: each class, each predicate, or each line of an own CONSTRUCT is one selection of statements.

Before the way of a fact begins. A selection is a graph pattern with three places (subject, predicate, object), each a
variable or a constant; its statements are the distinct solutions of these places.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from mmkg.config import SparqlConfig
from mmkg.terms import RDF_TYPE


class Term(NamedTuple):
    """An RDF term: IRI, blank node or literal."""

    kind: str  # iri | blank | literal
    value: str
    datatype: str = ""  # literals; "" is xsd:string, or rdf:langString with a language
    language: str = ""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Statements to pull, as a pattern with three places."""

    name: str  # in messages
    pattern: str  # what stands between the braces of WHERE
    places: tuple[str, str, str]  # subject, predicate, object: "?name", or "" where a constant stands
    constants: tuple[Term | None, Term | None, Term | None]
    prologue: str = ""  # PREFIX and BASE
    dataset: str = ""  # FROM clauses
    variables: tuple[str, ...] = field(init=False)  # of the places, each once

    def __post_init__(self) -> None:
        """Keep the variables beside the places."""
        object.__setattr__(self, "variables", tuple(dict.fromkeys(place for place in self.places if place)))


def selections_of(config: SparqlConfig) -> list[Selection]:
    """The selections of a config, in its order.

    A statement about an instance of two of the classes belongs to the first of them. An own CONSTRUCT is one selection
    for each line of its template.

    Raises:
        ConfigError: the own query is no CONSTRUCT that can be paged (see `construct`).
    """
    if config.query:
        from mmkg.sources.sparql.construct import selections_of_construct

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
