"""A finished build, opened to be asked: its tables, its store, its entities by name, its subgraphs."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from mmkg.builds.serving import store_of
from mmkg.builds.versions import BUILD_MANIFEST, find_build_folder, read_build_manifest
from mmkg.config import StoreConfig
from mmkg.errors import EmbeddingError, NotFound, OtherBuildServed, ShardError, unknown_name
from mmkg.shards import open_table
from mmkg.store import CypherStore, open_embedded
from mmkg.subgraphs import Adjacency, Direction, Subgraph, expand, open_adjacency

if TYPE_CHECKING:
    from mmkg.embeddings.vectors import Vectors

_SWITCH_SECONDS = 10.0  # from the server's switch to that of the pointer
_POLL_SECONDS = 0.05
_PICTURE_TABLES = ("images", "pictures", "image_bytes", "image_candidates", "image_unmatched")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entity:
    """One row of `entities`."""

    entity_index: int
    entity_id: str
    label: str | None
    description: str | None
    types: tuple[str, ...]
    aliases: tuple[str, ...]
    sources: tuple[str, ...]


def open_build(where: str | Path, version: str | None = None) -> "Build":
    """Open a finished build to ask it; see :func:`find_build_folder` for what `where` can be."""
    return Build(find_build_folder(where, version))


def query_served(where: str | Path, cypher: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
    """Ask the version that is served in Cypher; if readers are switched to another meanwhile, that one.

    A server holds one version at a time, and `Build.query` asks one version only: a question that was put while a new
    one came in fails there, and is put again here.

    Args:
        where: as for `open_build`; a version's own folder is never left for another.
        cypher: a reading query.
        parameters: values of its ``$names``.

    Raises:
        OtherBuildServed: the server serves a version that the pointer does not come to name.
    """
    until = time.monotonic() + _SWITCH_SECONDS
    while True:
        with open_build(where) as build:
            try:
                return build.query(cypher, parameters)
            except OtherBuildServed:
                while find_build_folder(where) == build.folder:  # the server is switched just before the pointer
                    if time.monotonic() > until or (Path(where) / BUILD_MANIFEST).exists():
                        raise
                    time.sleep(_POLL_SECONDS)


class Build:
    """One finished version of a graph, read-only.

    Tables are Arrow datasets: ``build.triples``, ``build.entities``, … one attribute for each table of ``mmkg.tables``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_build_manifest(folder)

    def __enter__(self) -> Self:
        """Use the build in a ``with`` block that closes its store."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the store, if it was opened."""
        self.close()

    def close(self) -> None:
        """Close the store, if it was opened."""
        store = self.__dict__.pop("store", None)
        if store is not None:
            store.close()

    def table(self, name: str) -> ds.Dataset:
        """A table of the build as a dataset.

        Raises:
            ShardError: the build has no such table, or a shard is not whole.
        """
        if name in _PICTURE_TABLES and not self.has_pictures:
            raise ShardError(
                f"{self.folder}: built without pictures. Name some in [images] of its config, and build again."
            )
        return open_table(self.folder, name)

    entities = property(lambda self: self.table("entities"), doc="Dataset of entities.")
    relations = property(lambda self: self.table("relations"), doc="Dataset of relations.")
    attributes = property(lambda self: self.table("attributes"), doc="Dataset of attributes.")
    triples = property(lambda self: self.table("triples"), doc="Dataset of triples, sorted by head, relation, tail.")
    literals = property(lambda self: self.table("literals"), doc="Dataset of literals.")
    qualifiers = property(lambda self: self.table("qualifiers"), doc="Dataset of statements about statements.")
    merges = property(lambda self: self.table("merges"), doc="Dataset of identity links and what became of them.")
    rejects = property(lambda self: self.table("rejects"), doc="Dataset of lines that are not statements.")
    dumps = property(lambda self: self.table("dumps"), doc="Dataset of dumps with their counts of lines.")
    dropped = property(lambda self: self.table("dropped"), doc="Dataset of statements left out on purpose.")
    splits = property(lambda self: self.table("splits"), doc="Dataset of train, valid and test triples.")
    findings = property(lambda self: self.table("findings"), doc="Dataset of what validation found.")
    triples_raw = property(
        lambda self: self.table("triples_raw"), doc="Dataset of triples as read, with dump and line."
    )
    images = property(lambda self: self.table("images"), doc="Dataset of pictures of entities, kept and rejected.")
    pictures = property(lambda self: self.table("pictures"), doc="Dataset of decoded pictures, once each, normalised.")
    image_bytes = property(lambda self: self.table("image_bytes"), doc="Dataset of pictures' bytes as served.")
    image_candidates = property(
        lambda self: self.table("image_candidates"), doc="Dataset of addresses where pictures may be had."
    )
    image_unmatched = property(
        lambda self: self.table("image_unmatched"), doc="Dataset of pictures that belong to no entity, with reasons."
    )

    @property
    def has_pictures(self) -> bool:
        """Whether the config of the build asked for pictures."""
        return "images" in self.manifest.stages

    @property
    def has_vectors(self) -> bool:
        """Whether the config of the build named an embedder."""
        return "vectors" in self.manifest.stages

    @cached_property
    def vectors(self) -> "Vectors":
        """Vectors of the entities' texts and of pictures, with masks where there is none.

        Raises:
            EmbeddingError: the build was made without an embedder.
        """
        if not self.has_vectors:
            raise EmbeddingError(
                f"{self.folder}: built without vectors. Set `kind` in [embeddings] of its config, and build again."
            )
        from mmkg.embeddings.vectors import open_vectors

        return open_vectors(self.folder)

    @cached_property
    def store(self) -> CypherStore:
        """The Cypher store, opened read-only: the build's own database, or the server that was brought to it.

        Raises:
            StoreError: the store is broken; or the server is not there, or serves another version than this one.
        """
        if StoreConfig.model_validate(self.manifest.config.get("store", {})).is_embedded:
            return open_embedded(self.folder / "store")
        from mmkg.store.content import read_content
        from mmkg.store.neo4j import open_neo4j

        config = store_of(self.folder.parent, self.folder.name)
        return open_neo4j(config, build=read_content(self.folder / "store").digest.total)

    @cached_property
    def adjacency(self) -> Adjacency:
        """The graph as compressed sparse rows on memory-mapped arrays."""
        return open_adjacency(self.folder / "adjacency")

    def query(self, cypher: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Ask the store in Cypher."""
        return self.store.query(cypher, parameters or {})

    def find_entities(self, name: str) -> list[Entity]:
        """All entities called so: by id, else by merged alias, else by label, else by label in any case; [] if none."""
        folded = pc.utf8_lower(pc.field("label")) == name.casefold()
        for condition in (pc.field("entity_id") == name, None, pc.field("label") == name, folded):
            rows = self._entities_with_alias(name) if condition is None else self.entities.to_table(filter=condition)
            if rows.num_rows:
                return [self._entity(row) for row in rows.to_pylist()]
        return []

    def _entities_with_alias(self, alias: str) -> pa.Table:
        merged = self.merges.to_table(
            columns=["entity_id"], filter=(pc.field("alias") == alias) | (pc.field("other") == alias)
        )
        rows = self.entities.to_table(filter=pc.field("entity_id").isin(pc.unique(merged["entity_id"])))
        return rows.filter(pa.array([alias in aliases for aliases in rows["aliases"].to_pylist()], pa.bool_()))

    def find_entity(self, name: str) -> Entity | None:
        """The entity called so (id, alias or label), or None.

        Raises:
            NotFound: several entities have this label; the message lists their ids.
        """
        found = self.find_entities(name)
        if len(found) > 1:
            ids = ", ".join(entity.entity_id for entity in found[:10])
            raise NotFound(f"{len(found)} entities are called '{name}': {ids}. Ask for one of these ids.")
        return found[0] if found else None

    def get_entity(self, name: str) -> Entity:
        """The entity called so.

        Raises:
            NotFound: there is none (the message names labels that are near), or there are several.
        """
        entity = self.find_entity(name)
        if entity is not None:
            return entity
        start = name[:1]
        near = self.entities.to_table(columns=["label"], filter=pc.starts_with(pc.field("label"), start))["label"]
        raise NotFound(unknown_name("entity", name, near.to_pylist()).partition(" Known:")[0])

    def _entity(self, row: dict[str, Any]) -> Entity:
        sources = self.name_sources(row["sources"])
        return Entity(**{**row, "types": tuple(row["types"]), "aliases": tuple(row["aliases"]), "sources": sources})

    def name_sources(self, bits: int) -> tuple[str, ...]:
        """Names of the sources in a `sources` bit set."""
        return tuple(name for bit, name in enumerate(self.manifest.source_names) if bits >> bit & 1)

    @cached_property
    def entity_labels(self) -> list[str]:
        """Label of each entity by index; the last part of its id where it has none."""
        rows = self.entities.to_table(columns=["label", "entity_id"])
        return [
            label if label is not None else iri.rstrip("/#").rpartition("/")[2]
            for label, iri in zip(rows["label"].to_pylist(), rows["entity_id"].to_pylist(), strict=True)
        ]

    @cached_property
    def relation_names(self) -> list[str]:
        """Name of each relation in Cypher, by index."""
        names: list[str] = self.relations.to_table(columns=["name"])["name"].to_pylist()
        return names

    def subgraph(
        self,
        entities: Sequence[str],
        num_hops: int = 2,
        *,
        relations: Sequence[str] | None = None,
        direction: Direction = "both",
        max_neighbours: int | None = None,
        max_nodes: int | None = None,
    ) -> Subgraph:
        """Cut out what lies within `num_hops` of some entities.

        Args:
            entities: ids, aliases or labels of the seed entities.
            num_hops: τ, from 0.
            relations: only along these (names in Cypher, or ids); all unless given.
            direction: both | out | in, as the triples point.
            max_neighbours: at most so many a node and hop; what is cut is recorded in ``truncations``.
            max_nodes: at most so many nodes in all; what is cut is recorded.

        Raises:
            NotFound: an entity or relation is not there.
        """
        seeds = np.array([self.get_entity(name).entity_index for name in entities], dtype=np.int64)
        chosen = None if relations is None else [self._relation_index(name) for name in relations]
        return expand(
            self.adjacency,
            seeds,
            num_hops=num_hops,
            relations=chosen,
            direction=direction,
            max_neighbours=max_neighbours,
            max_nodes=max_nodes,
        )

    def _relation_index(self, name: str) -> int:
        rows = self.relations.to_table(filter=(pc.field("name") == name) | (pc.field("relation_id") == name))
        if not rows.num_rows:
            raise NotFound(unknown_name("relation", name, self.relation_names))
        index: int = rows["relation_index"][0].as_py()
        return index

    def statements_of(self, entity: Entity) -> pa.Table:
        """Every statement of the dumps whose head or tail is one of the entity's IRIs: with source, dump and line."""
        iris = pa.array([entity.entity_id, *entity.aliases])
        return self.triples_raw.to_table(filter=pc.field("head").isin(iris) | pc.field("tail").isin(iris))

    def links_of(self, entity: Entity) -> pa.Table:
        """The identity links, merged and flagged, at one of the entity's IRIs."""
        iris = pa.array([entity.entity_id, *entity.aliases])
        return self.merges.to_table(filter=pc.field("alias").isin(iris) | pc.field("other").isin(iris))
