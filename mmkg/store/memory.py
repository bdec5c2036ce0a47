"""The reference store: the tables in Python dictionaries, each question answered in the plainest way.

Not for large graphs. What it answers is what the engines must answer; it shares no query with them.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any, Self

import pyarrow as pa

from mmkg.config import StoreConfig
from mmkg.shards import open_table
from mmkg.store.base import (
    Counts,
    Direction,
    EntityDescription,
    EntityImage,
    Neighbour,
    Path,
    Step,
    check_direction,
    check_not_negative,
    choose_types,
    no_entity,
)
from mmkg.store.model import StoreModel, list_sources, read_model
from mmkg.store.verify import property_value


class MemoryStore:
    """A graph in memory; made by :func:`open_memory`."""

    def __init__(self, entities: list[dict[str, Any]], model: StoreModel, attributes: list[dict[str, Any]]) -> None:
        self._entities = {row["entity_id"]: row for row in entities}
        self._model = model
        self._attributes = dict(zip((row["entity_id"] for row in entities), attributes, strict=True))
        self._neighbours: dict[str, list[Neighbour]] = defaultdict(list)
        self._by_relation = {relationship.type: 0 for relationship in model.relationships}
        self._images: dict[str, list[EntityImage]] = defaultdict(list)

    def __enter__(self) -> Self:
        """Use the store in a ``with`` block."""
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing is held open."""

    def close(self) -> None:
        """Nothing is held open."""

    def add_triple(self, head_id: str, relation: str, tail_id: str, sources: tuple[str, ...]) -> None:
        """Add one triple between entities that are there."""
        self._by_relation[relation] += 1
        for entity_id, direction, other in ((head_id, "out", tail_id), (tail_id, "in", head_id)):
            label = self._entities[other]["label"]
            self._neighbours[entity_id].append(Neighbour(entity_id, direction, relation, other, label, sources))

    def add_image(self, image: EntityImage) -> None:
        """Add one picture of an entity that is there."""
        self._images[image.entity_id].append(image)

    def counts(self) -> Counts:
        """Number of entities, relationships and pictures."""
        links = [image for images in self._images.values() for image in images]
        return Counts(
            entities=len(self._entities),
            relationships=sum(self._by_relation.values()),
            by_relation=dict(self._by_relation),
            images=len({image.sha256 for image in links}),
            image_links=len(links),
        )

    def find_images(self, entity_ids: Sequence[str]) -> list[EntityImage]:
        """The pictures of each of some entities; see :class:`mmkg.store.base.GraphReader`."""
        found: list[EntityImage] = []
        for entity_id in dict.fromkeys(entity_ids):
            self._check_entity(entity_id)
            found += sorted(self._images[entity_id], key=lambda image: (image.rank, image.sha256))
        return found

    def find_entity(self, name: str) -> tuple[str, ...]:
        """Ids of all entities called so, sorted: by id, else by merged alias, else label, else label in any case."""
        if name in self._entities:
            return (name,)
        rows = self._entities.values()
        for found in (
            [row["entity_id"] for row in rows if name in row["aliases"]],
            [row["entity_id"] for row in rows if row["label"] == name],
            [row["entity_id"] for row in rows if row["label"] is not None and row["label"].lower() == name.lower()],
        ):
            if found:
                return tuple(sorted(found))
        return ()

    def find_neighbours(
        self,
        entity_ids: Sequence[str],
        *,
        relations: Sequence[str] | None = None,
        direction: Direction = "both",
        limit: int | None = None,
    ) -> list[Neighbour]:
        """What lies one step from each of some entities; see :class:`mmkg.store.base.GraphReader`."""
        check_direction(direction)
        check_not_negative("limit", limit or 0)
        types = choose_types(relations, self._model.relation_ids())
        found: list[Neighbour] = []
        for entity_id in dict.fromkeys(entity_ids):
            self._check_entity(entity_id)
            for way in ("out", "in"):
                if direction in (way, "both"):
                    steps = [
                        step
                        for step in self._neighbours[entity_id]
                        if step.direction == way and (types is None or step.relation in types)
                    ]
                    found += sorted(steps, key=lambda step: (step.relation, step.neighbour_id))[:limit]
        return found

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
        """The shortest paths between two entities: every walk of 0, 1, 2, … steps is tried until one arrives."""
        check_not_negative("max_hops", max_hops)
        check_not_negative("limit", limit)
        self._check_entity(end_id)
        self.find_neighbours([start_id], relations=relations, direction=direction)
        walks = [Path(start_id, ())]
        for _ in range(max_hops + 1):
            arrived = [walk for walk in walks if _end(walk) == end_id]
            if arrived:
                return sorted(arrived)[:limit]
            walks = [
                Path(start_id, (*walk.steps, Step(step.direction, step.relation, step.neighbour_id)))
                for walk in walks
                for step in self.find_neighbours([_end(walk)], relations=relations, direction=direction)
                # a shortest path meets no entity twice
                if step.neighbour_id not in {start_id, *(taken.entity_id for taken in walk.steps)}
            ]
        return []

    def describe_entity(self, entity_id: str) -> EntityDescription:
        """What the store holds about one entity."""
        self._check_entity(entity_id)
        row = self._entities[entity_id]
        return EntityDescription(
            entity_id=entity_id,
            label=row["label"],
            description=row["description"],
            types=tuple(row["types"]),
            aliases=tuple(row["aliases"]),
            attributes=self._attributes[entity_id],
            facts_out=tuple(self.find_neighbours([entity_id], direction="out")),
            facts_in=tuple(self.find_neighbours([entity_id], direction="in")),
        )

    def expand(
        self,
        entity_ids: Sequence[str],
        num_hops: int,
        *,
        relations: Sequence[str] | None = None,
        direction: Direction = "both",
    ) -> dict[str, int]:
        """Distance in hops of each entity within `num_hops` of the nearest seed."""
        check_not_negative("num_hops", num_hops)
        self.find_neighbours(entity_ids, relations=relations, direction=direction)
        hops = dict.fromkeys(entity_ids, 0)
        for hop in range(1, num_hops + 1):
            for step in self.find_neighbours(list(hops), relations=relations, direction=direction):
                hops.setdefault(step.neighbour_id, hop)
        return hops

    def _check_entity(self, entity_id: str) -> None:
        if entity_id not in self._entities:
            raise no_entity(entity_id)


def _end(walk: Path) -> str:
    return walk.steps[-1].entity_id if walk.steps else walk.start_id


def open_memory(
    tables_folder: FilePath,
    config: StoreConfig,
    source_names: Sequence[str],
    *,
    images_folder: FilePath | None = None,
) -> MemoryStore:
    """Read a graph's tables into memory; the arguments are those of :func:`mmkg.store.load_store`."""
    model = read_model(tables_folder, config, source_names)
    entities = open_table(tables_folder, "entities").to_table().to_pylist()
    literals: dict[int, list[dict[str, Any]]] = defaultdict(list)
    rows = open_table(tables_folder, "literals").to_table()
    days = rows["date"].cast(pa.int32())  # Python has no dates before the year 1
    for row in rows.set_column(rows.column_names.index("date"), "date", days).to_pylist():
        literals[row["entity_index"]].append(row)
    attributes = []
    for entity in entities:
        values = {prop.name: property_value(prop, literals[entity["entity_index"]]) for prop in model.properties}
        attributes.append({name: value for name, value in values.items() if value is not None})
    store = MemoryStore(entities, model, attributes)
    ids = {row["entity_index"]: row["entity_id"] for row in entities}
    types = {relationship.relation_index: relationship.type for relationship in model.relationships}
    for row in open_table(tables_folder, "triples").to_table().to_pylist():
        store.add_triple(
            ids[row["head_index"]],
            types[row["relation_index"]],
            ids[row["tail_index"]],
            list_sources(row["sources"], source_names),
        )
    for image in _read_images(images_folder, ids) if images_folder is not None else ():
        store.add_image(image)
    return store


def _read_images(images_folder: FilePath, ids: Mapping[int, str]) -> list[EntityImage]:
    """The kept pictures: of the same bytes, the smallest url says where from, and an entity's best rank counts."""
    rows = [row for row in open_table(images_folder, "images").to_table().to_pylist() if row["status"] == "ok"]
    best: dict[tuple[int, str], dict[str, Any]] = {}
    origin: dict[str, dict[str, Any]] = {}
    for row in rows:
        link = (row["entity_index"], row["sha256"])
        if link not in best or row["rank"] < best[link]["rank"]:
            best[link] = row
        if row["sha256"] not in origin or row["url"] < origin[row["sha256"]]["url"]:
            origin[row["sha256"]] = row
    names = [name for name in EntityImage._fields if name not in ("entity_id", "sha256", "rank", "score")]
    return [
        EntityImage(ids[index], sha256, row["rank"], row["score"], *(origin[sha256][name] for name in names))
        for (index, sha256), row in best.items()
    ]
