"""What is asked for: statements of one graph pattern.

Before the way of a fact begins. A selection is a graph pattern with three places (subject, predicate, object), each a
variable or a constant; its statements are the distinct solutions of these places.
"""

from dataclasses import dataclass, field
from typing import NamedTuple


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
