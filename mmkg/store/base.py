"""What every Cypher store can be asked, and the shape of the answers.

``GraphReader`` is the part without Cypher, so that ``MemoryStore``, plain Python over the tables, can be the reference
that the engines must agree with. ``CypherStore`` adds ``query``. A store is made by ``load_store``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, Self, get_args, runtime_checkable

import pyarrow as pa

from mmkg.errors import NotFound, StoreError, unknown_name

Direction = Literal["out", "in", "both"]  # as the triples point, seen from the entity
DEFAULT_TIMEOUT_SECONDS = 60.0


class Neighbour(NamedTuple):
    """One step away from an entity that was asked for."""

    entity_id: str  # the one that was asked for
    direction: str  # out: entity_id is the head; in: it is the tail
    relation: str  # relationship type
    neighbour_id: str
    neighbour_label: str | None
    sources: tuple[str, ...]


class Step(NamedTuple):
    """One step of a path: along a triple (out) or against it (in), to an entity."""

    direction: str
    relation: str
    entity_id: str


class Path(NamedTuple):
    """A way from one entity to another."""

    start_id: str
    steps: tuple[Step, ...]


class EntityImage(NamedTuple):
    """One picture of an entity that was asked for. Where several have the bytes, the smallest url says where from."""

    entity_id: str
    sha256: str  # of the bytes as they were served
    rank: int  # 0 is the best of the entity's
    score: float | None  # how well it shows the entity; None without an embedder
    url: str
    licence: str | None
    author: str | None
    source_page: str | None
    width_px: int | None
    height_px: int | None
    format: str | None


@dataclass(frozen=True, kw_only=True)
class EntityDescription:
    """All that a store holds about one entity."""

    entity_id: str
    label: str | None
    description: str | None
    types: tuple[str, ...]
    aliases: tuple[str, ...]
    attributes: Mapping[str, Any]  # property name → value, or list of values; only those it has
    facts_out: tuple[Neighbour, ...]
    facts_in: tuple[Neighbour, ...]


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How much a store holds."""

    entities: int
    relationships: int  # between entities
    by_relation: Mapping[str, int]  # relationship type → number; also those with 0
    images: int = 0
    image_links: int = 0  # from an entity to a picture of it


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What a load did."""

    entities: int
    triples: int
    relations: int
    properties: tuple[str, ...]  # attributes that became properties
    values_left_out: int  # literals of those attributes that are no value of the property's type
    bytes: int  # of the database
    images: int = 0
    image_links: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)  # by step


@runtime_checkable
class GraphReader(Protocol):
    """Questions that need no Cypher. Entities are named by ``entity_id``; find it with ``find_entity``."""

    def find_entity(self, name: str) -> tuple[str, ...]:
        """Ids of all entities called so, sorted: by id, else by merged alias, else label, else label in any case."""
        ...

    def find_neighbours(
        self,
        entity_ids: Sequence[str],
        *,
        relations: Sequence[str] | None = None,
        direction: Direction = "both",
        limit: int | None = None,
    ) -> list[Neighbour]:
        """What lies one step from each of some entities.

        Args:
            entity_ids: the seeds; one that is given twice counts once.
            relations: only along these relationship types (or relation ids); all unless given.
            direction: out | in | both, as the triples point.
            limit: at most so many for each seed and direction.

        Returns:
            By seed in the order given, then out before in, then by relation and neighbour. A triple from an entity to
            itself is there as out and as in.

        Raises:
            NotFound: an entity or relation is not in the store.
        """
        ...

    def find_paths(
        self,
        start_id: str,
        end_id: str,
        *,
        max_hops: int = 4,
        relations: Sequence[str] | None = None,
        direction: Direction = "both",
        limit: int = 100,
    ) -> list[Path]:
        """The shortest paths between two entities, sorted; [] where none has at most `max_hops` steps.

        All of them, unless there are more than `limit`: then the first `limit`.

        Raises:
            NotFound: an entity or relation is not in the store.
        """
        ...

    def describe_entity(self, entity_id: str) -> EntityDescription:
        """What the store holds about one entity.

        Raises:
            NotFound: it is not in the store.
        """
        ...

    def expand(
        self,
        entity_ids: Sequence[str],
        num_hops: int,
        *,
        relations: Sequence[str] | None = None,
        direction: Direction = "both",
    ) -> dict[str, int]:
        """Distance in hops of each entity within `num_hops` of the nearest seed; seeds have 0.

        Raises:
            NotFound: an entity or relation is not in the store.
        """
        ...

    def find_images(self, entity_ids: Sequence[str]) -> list[EntityImage]:
        """The pictures of each of some entities.

        Args:
            entity_ids: one that is given twice counts once.

        Returns:
            By entity in the order given, then by rank.

        Raises:
            NotFound: an entity is not in the store.
        """
        ...

    def counts(self) -> Counts:
        """Number of entities, relationships and pictures."""
        ...

    def close(self) -> None:
        """Give back what the store holds open; closing twice is allowed."""
        ...

    def __enter__(self) -> Self:
        """Use the store in a ``with`` block that closes it."""
        ...

    def __exit__(self, *error: object) -> None:
        """Close the store."""
        ...


@runtime_checkable
class CypherStore(GraphReader, Protocol):
    """A store that also answers Cypher."""

    def query(
        self,
        cypher: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        limit_rows: int | None = None,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> pa.Table:
        """Ask one reading query; columns are called as the query writes them.

        Args:
            cypher: one statement. What writes, reads or writes files, or changes settings is refused.
            parameters: value of each ``$name`` in it.
            limit_rows: at most so many rows come back; the log says when there were more.
            timeout_seconds: after so long the query is stopped; 0 is never.

        Raises:
            QueryError: refused, wrong, or stopped; with the line and a caret where the place is known.
        """
        ...


def check_direction(direction: str) -> None:
    """Raise StoreError unless it is out, in or both."""
    if direction not in get_args(Direction):
        raise StoreError(unknown_name("direction", direction, get_args(Direction)))


def check_not_negative(name: str, number: int) -> None:
    """Raise StoreError for a number below 0."""
    if number < 0:
        raise StoreError(f"{name}: expected 0 or more, found {number}")


def no_entity(entity_id: str) -> NotFound:
    """The error for an id that no entity has."""
    return NotFound(f"no entity has the id '{entity_id}'. Names and merged ids are looked up with find_entity.")


def choose_types(relations: Sequence[str] | None, ids: Mapping[str, str]) -> tuple[str, ...] | None:
    """Relationship types for names or relation ids.

    Args:
        relations: names or ids; None is all.
        ids: relation id of each relationship type.

    Raises:
        NotFound: one is neither.
    """
    if relations is None:
        return None
    types = {relation_id: name for name, relation_id in ids.items()}
    chosen = []
    for relation in relations:
        name = relation if relation in ids else types.get(relation)
        if name is None:
            raise NotFound(unknown_name("relation", relation, ids))
        chosen.append(name)
    return tuple(dict.fromkeys(chosen))
