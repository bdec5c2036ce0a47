"""Names in Cypher for relations and attributes: what an analyst types instead of an IRI.

The last path segment of the IRI, cleaned to ``[A-Za-z0-9_]``. Names are unique without regard to case, because
Ladybug's are; the first IRI in order keeps the bare name and the next ones get ``_2``, ``_3``, … No dots: Ladybug
reads ``a.b`` as a field. A name does not begin with a digit and is never empty.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable
from urllib.parse import unquote

_NOT_A_NAME = re.compile(r"[^A-Za-z0-9]+")

# Tables of the store share one name space with its relationship types.
RESERVED_RELATION_NAMES = frozenset({"entity", "image", "has_image"})
# Columns that every entity has.
RESERVED_ATTRIBUTE_NAMES = frozenset(
    {"entity_index", "entity_id", "label", "description", "types", "aliases", "sources", "id", "_id", "_label"}
)


def clean_name(iri: str) -> str:
    """The bare name of a relation or attribute, not yet unique.

    >>> clean_name("http://dbpedia.org/ontology/birthPlace")
    'birthPlace'
    >>> clean_name("http://rdf.freebase.com/ns/film.film.starring..film.performance.actor")
    'film_film_starring_film_performance_actor'
    >>> clean_name("http://example.org/2nd%20name")
    'r_2nd_name'
    """
    segments = [segment for segment in re.split(r"[/#]", unquote(iri)) if segment]
    plain = unicodedata.normalize("NFKD", segments[-1] if segments else "").encode("ascii", "ignore").decode()
    name = _NOT_A_NAME.sub("_", plain).strip("_")
    if not name:
        return "r"
    return f"r_{name}" if name[0].isdigit() else name


def unique_names(iris: Iterable[str], reserved: Collection[str]) -> list[str]:
    """Names for IRIs in the order given: clean, and unique without regard to case.

    Args:
        iris: in the order in which they may claim a name.
        reserved: lower-case names that nothing may have.

    >>> unique_names(["http://a.org/Name", "http://b.org/name", "http://c.org/label"], {"label"})
    ['Name', 'name_2', 'label_2']
    """
    taken = set(reserved)
    next_number: dict[str, int] = {}
    names = []
    for iri in iris:
        bare = clean_name(iri)
        name, number = bare, next_number.get(bare.lower(), 2)
        while name.lower() in taken:
            name = f"{bare}_{number}"
            number += 1
        next_number[bare.lower()] = number
        taken.add(name.lower())
        names.append(name)
    return names
