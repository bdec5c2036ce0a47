"""What a Neo4j database holds now: as content that can be compared with a build, and what else somebody put there.

Entities and pictures are read with all their properties and labels, relationships by type. What no build of ours can
hold (nodes and labels of other kinds, properties that the model does not have or of another type) is not content: it is
gathered in `Foreign`, with counts and examples for the message and with the server's numbers to take it away.
"""

import datetime
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import neo4j
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mmkg.store.columns import EDGES, IMAGE_LINKS, IMAGES, nodes_schema
from mmkg.store.content import Content, gather_content
from mmkg.store.cypher import IMAGE_LINK, IMAGE_TABLE, KEYS, NODE_TABLE
from mmkg.store.model import ENTITY_PROPERTIES, StoreModel
from mmkg.store.neo4j import statements
from mmkg.store.neo4j.foreign import Foreign
from mmkg.store.neo4j.graph_counts import read_counts

EPOCH = datetime.date(1970, 1, 1)
NODE_IDS = pa.schema([pa.field("key", pa.string(), nullable=False), pa.field("id", pa.int64(), nullable=False)])
_ROWS_PER_BATCH = 50_000
_GROUPED_ROWS = 200_000  # of a type: two lists of numbers, some 100 bytes a relationship, in the server's heap
_GROUPED_TYPES = 100  # in one statement; planning it takes longer with each
_FETCH_SIZE = 10_000
Progress = Callable[[str, int, int], None]
_KINDS: Mapping[str, type] = {"number": float, "date": int, "text": str}
_WORDS = {NODE_TABLE: "entities", IMAGE_TABLE: "pictures"}
_AN = {NODE_TABLE: "an", IMAGE_TABLE: "a"}
_Check: TypeAlias = Callable[[Any], bool]


@dataclass(frozen=True, kw_only=True)
class ReadBack:
    """What was found."""

    content: Content
    node_ids: Mapping[str, Path]  # label → Parquet of NODE_IDS
    foreign: Foreign


def has_constraints(session: neo4j.Session) -> bool:
    """Whether the server sees to it that no two entities have one entity_id, and no two pictures one sha256."""
    return constrained_labels(session) >= KEYS.keys()


def constrained_labels(session: neo4j.Session) -> set[str]:
    """Labels of our nodes of which the server holds each key once."""
    found = session.run(statements.CONSTRAINTS).values()
    return {label for label, key in KEYS.items() if [[label], [key]] in found}


def read_back(
    driver: neo4j.Driver,
    database: str,
    model: StoreModel,
    folder: Path,
    *,
    vectors: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
    memory_limit: str = "2GB",
    progress: Progress | None = None,
) -> ReadBack:
    """Read all of a database.

    Args:
        driver: to the server.
        database: its name there.
        model: what is expected; other things are foreign.
        folder: is made; gets the content and the numbers of nodes.
        vectors: by label, properties of nodes that are no content.
        memory_limit: of the relational engine.
        progress: told what was read, of how much.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with driver.session(database=database, default_access_mode=neo4j.READ_ACCESS, fetch_size=_FETCH_SIZE) as session:
        reading = _Reading(session, model, folder, vectors, progress)
        content = gather_content(
            model,
            pa.RecordBatchReader.from_batches(nodes_schema(model.properties), reading.nodes()),
            reading.edges(),
            folder / "content",
            images=pa.RecordBatchReader.from_batches(IMAGES, reading.images()),
            image_links=pa.RecordBatchReader.from_batches(IMAGE_LINKS, reading.image_links()),
            memory_limit=memory_limit,
        )
        reading.find_foreign()
    return ReadBack(content=content, node_ids=reading.node_ids, foreign=reading.foreign)


class _Places(NamedTuple):
    """Where numbers of nodes were found, and whether they were."""

    places: npt.NDArray[np.intp]
    is_known: npt.NDArray[np.bool_]


class _Ends:
    """The nodes of one kind, by the server's number."""

    def __init__(self, numbers: list[pa.Array], keys: list[pa.Array]) -> None:
        unsorted = pa.concat_arrays([*numbers, pa.array([], pa.int64())]).to_numpy()
        order = np.argsort(unsorted, kind="stable")
        self._numbers = unsorted[order]
        together = pa.chunked_array([*keys, pa.array([], pa.string())]).cast(pa.large_string())  # beyond 2 GiB of keys
        self._keys = together.combine_chunks().take(pa.array(order))

    def find(self, numbers: list[int]) -> _Places:
        """Look some numbers up."""
        asked = np.array(numbers, dtype=np.int64)
        places = np.searchsorted(self._numbers, asked)
        known = np.zeros(asked.shape, dtype=bool)
        inside = places < len(self._numbers)
        known[inside] = self._numbers[places[inside]] == asked[inside]
        return _Places(places, known)

    def keys(self, places: npt.NDArray[np.intp]) -> pa.Array:
        """Keys of nodes that were found."""
        return self._keys.take(pa.array(places)).cast(pa.string())


class _Reading:
    """One pass over a database: entities, pictures, relationships, links to pictures, then what is none of these."""

    def __init__(
        self,
        session: neo4j.Session,
        model: StoreModel,
        folder: Path,
        vectors: Mapping[str, tuple[str, ...]],
        progress: Progress | None,
    ) -> None:
        self._session = session
        self._model = model
        self._vectors = vectors
        self._told = progress
        self.node_ids = {label: folder / f"{label}-ids.parquet" for label in KEYS}
        self.foreign = Foreign()
        self._counts = read_counts(session)
        self._ends: dict[str, _Ends] = {}  # by label
        self._constrained = constrained_labels(session)
        self._has_misplaced = False  # edges between nodes of ours, but of the wrong kind

    def _progress(self, what: str, done: int, total: int) -> None:
        if self._told is not None:
            self._told(what, done, total)

    def nodes(self) -> Iterator[pa.RecordBatch]:
        """Entities as content; their numbers go to a file beside it."""
        checks = {name: _is_of(str, many=False) for name in ENTITY_PROPERTIES[:3]}
        checks |= {name: _is_of(str, many=True) for name in ENTITY_PROPERTIES[3:]}
        for prop in self._model.properties:
            checks[prop.name] = _is_of(_KINDS[prop.value_column], many=prop.many)
        query = statements.read_nodes(self._model.properties, self._vectors.get(NODE_TABLE, ()))
        yield from self._nodes(NODE_TABLE, query, nodes_schema(self._model.properties), checks)

    def images(self) -> Iterator[pa.RecordBatch]:
        """Pictures as content; their numbers go to a file beside it."""
        query = statements.read_images(self._vectors.get(IMAGE_TABLE, ()))
        kinds = {column.name: int if column.type == pa.int64() else str for column in IMAGES}
        checks = {name: _is_of(kind, many=False) for name, kind in kinds.items()}
        yield from self._nodes(IMAGE_TABLE, query, IMAGES, checks)

    def _nodes(
        self, label: str, query: str, schema: pa.Schema, checks: Mapping[str, _Check]
    ) -> Iterator[pa.RecordBatch]:
        total = self._counts.labels.get(label, 0)
        numbers_read: list[pa.Array] = []
        keys_read: list[pa.Array] = []
        seen: set[str] | None = None if label in self._constrained else set()
        done = 0
        result = self._session.run(query, {"epoch": EPOCH})
        with pq.ParquetWriter(self.node_ids[label], NODE_IDS) as writer:
            while records := result.fetch(_ROWS_PER_BATCH):
                numbers, columns = self._columns(label, records, checks, seen)
                arrays = [_array(columns[column.name], column.type) for column in schema]
                writer.write_batch(
                    pa.RecordBatch.from_arrays([arrays[0], pa.array(numbers, pa.int64())], schema=NODE_IDS)
                )
                numbers_read.append(pa.array(numbers, pa.int64()))
                keys_read.append(arrays[0])
                done += len(records)
                self._progress(f"read {_WORDS[label]}", done, max(done, total))
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)
        self._ends[label] = _Ends(numbers_read, keys_read)

    def _columns(
        self, label: str, records: list[neo4j.Record], checks: Mapping[str, _Check], seen: set[str] | None
    ) -> tuple[list[int], dict[str, list[Any]]]:
        """Numbers and columns of the nodes that are ours; `seen` are keys, where the server does not hold each once."""
        kept: list[tuple[int, dict[str, Any]]] = []
        for number, properties, labels in records:
            key = properties.get(KEYS[label])
            if type(key) is not str or (seen is not None and key in seen):
                self.foreign.nodes.append(number)
                kind = f"{_WORDS[label]} without {_AN[label]} {KEYS[label]}, or with another's"
                self.foreign.note(kind, f"number {number}: {key}")
                continue
            if seen is not None:
                seen.add(key)
            if len(labels) > 1:
                for other in set(labels) - {label}:
                    self.foreign.labels.setdefault(other, []).append(number)
                    self.foreign.note(f"labels on {_WORDS[label]}", f"{key} :{other}")
            kept.append((number, properties))
        columns: dict[str, list[Any]] = {name: [None] * len(kept) for name in checks}
        for place, (number, properties) in enumerate(kept):
            for name, value in properties.items():
                if value is None:
                    continue
                check = checks.get(name)
                if check is not None and check(value):
                    columns[name][place] = value
                else:
                    self._note_property(number, properties[KEYS[label]], name, value, known=check is not None)
        return [number for number, _ in kept], columns

    def _note_property(self, number: int, key: str, name: str, value: Any, *, known: bool) -> None:
        if not self.foreign.properties or self.foreign.properties[-1][0] != number:
            self.foreign.properties.append((number, {}))
        self.foreign.properties[-1][1][name] = None
        kind = "properties of another type than the graph's" if known else "properties that the graph does not have"
        self.foreign.note(kind, f"{key} {name} = {value!r}")

    def edges(self) -> Iterator[tuple[str, pa.RecordBatchReader]]:
        """Relationships of the model's types, type by type."""
        relation_ids = self._model.relation_ids()
        total = sum(self._counts.types.get(name, 0) for name in relation_ids)
        done = 0
        for names in self._chunks(relation_ids):
            count = sum(self._counts.types[name] for name in names)
            grouped = count <= _GROUPED_ROWS
            result = self._session.run(
                statements.read_edges(names, grouped=grouped),
                {"relation_ids": {name: relation_ids[name] for name in names}},
            )
            parts = sorted(result.values(), key=lambda row: str(row[0])) if grouped else result
            for name, rows in itertools.groupby(parts, key=lambda row: str(row[0])):
                batches = self._edges_of(name, relation_ids[name], rows, grouped=grouped)
                yield name, pa.RecordBatchReader.from_batches(EDGES, batches)
            done += count
            self._progress("read relationships", done, max(done, total))

    def _chunks(self, relation_ids: Mapping[str, str]) -> Iterator[list[str]]:
        """Types that are read by one statement: many small ones, or one large."""
        chunk: list[str] = []
        rows = 0
        for name in sorted(relation_ids):
            count = self._counts.types.get(name, 0)
            if not count:
                continue
            if chunk and (rows + count > _GROUPED_ROWS or len(chunk) == _GROUPED_TYPES):
                yield chunk
                chunk, rows = [], 0
            chunk.append(name)
            rows += count
        if chunk:
            yield chunk

    def _edges_of(
        self, name: str, relation_id: str, records: Iterable[Any], *, grouped: bool
    ) -> Iterator[pa.RecordBatch]:
        heads: list[int] = []
        tails: list[int] = []
        sources: list[list[str]] = []
        lengths: list[int] = []
        for _, found, some_heads, some_tails in records:
            if not grouped:
                some_heads, some_tails = [some_heads], [some_tails]
            if isinstance(found, dict):
                self._note_edge(name, found)
                continue
            heads += some_heads
            tails += some_tails
            sources.append(found)
            lengths.append(len(some_heads))
            if len(heads) >= _ROWS_PER_BATCH:
                yield self._edge_batch(name, relation_id, (heads, tails, sources, lengths))
                heads, tails, sources, lengths = [], [], [], []
        if heads:
            yield self._edge_batch(name, relation_id, (heads, tails, sources, lengths))

    def _note_edge(self, name: str, found: Mapping[str, Any]) -> None:
        self.foreign.edges.append(found["id"])
        self.foreign.note("relationships with other properties", f"[:{name} {found['properties']!r}]")

    def _edge_batch(
        self, name: str, relation_id: str, rows: tuple[list[int], list[int], list[list[str]], list[int]]
    ) -> pa.RecordBatch:
        heads, tails, both = self._keys_of(name, NODE_TABLE, rows[0], rows[1])
        sources = pa.array(rows[2], EDGES.field("sources").type).take(
            pa.array(np.repeat(np.arange(len(rows[3])), rows[3])[both])
        )
        relation_ids = pa.repeat(pa.scalar(relation_id, pa.string()), len(heads))
        return pa.RecordBatch.from_arrays([heads, tails, relation_ids, sources], schema=EDGES)

    def _keys_of(
        self, name: str, tail_label: str, heads: list[int], tails: list[int]
    ) -> tuple[pa.Array, pa.Array, npt.NDArray[np.bool_]]:
        """Keys of both ends of the edges from entities to nodes of a kind, and which edges these are."""
        sides = self._ends[NODE_TABLE].find(heads), self._ends[tail_label].find(tails)
        both = sides[0].is_known & sides[1].is_known
        for _ in range(int((~both).sum())):  # they go with the node at their end, or are looked for one by one
            self.foreign.note("relationships to nodes of other kinds", f"[:{name}]")
            self._has_misplaced = True
        return (
            self._ends[NODE_TABLE].keys(sides[0].places[both]),
            self._ends[tail_label].keys(sides[1].places[both]),
            both,
        )

    def image_links(self) -> Iterator[pa.RecordBatch]:
        """Links from entities to pictures."""
        total = self._counts.types.get(IMAGE_LINK, 0)
        done = 0
        result = self._session.run(statements.READ_IMAGE_LINKS) if total else None
        while result is not None and (records := result.fetch(_ROWS_PER_BATCH)):
            done += len(records)
            for record in records:
                if record["found"] is not None:
                    self._note_edge(IMAGE_LINK, record["found"])
            kept = [record for record in records if record["found"] is None]
            heads, tails, both = self._keys_of(
                IMAGE_LINK, IMAGE_TABLE, [record["head"] for record in kept], [record["tail"] for record in kept]
            )
            ranks = pa.array([record["rank"] for record in kept], pa.int64()).filter(pa.array(both))
            scores = pa.array([record["score"] for record in kept], pa.float64()).filter(pa.array(both))
            self._progress("read picture links", done, max(done, total))
            yield pa.RecordBatch.from_arrays([heads, tails, ranks, scores], schema=IMAGE_LINKS)

    def find_foreign(self) -> None:
        """Nodes and relationship types that are not ours; looked for only where the server's counts tell of any."""
        others = set(self._counts.labels) - {*statements.GRAPH_LABELS, *statements.OUR_LABELS}
        if self._counts.nodes != self._counts.ours or others:
            for number, labels in self._session.run(statements.FOREIGN_NODES, {"ours": list(statements.OUR_LABELS)}):
                self.foreign.nodes.append(number)
                self.foreign.note("nodes of other kinds", f"number {number} {''.join(':' + name for name in labels)}")
        types = [row.type for row in self._model.relationships]
        if self._has_misplaced:
            known = set(self.foreign.edges)
            found = self._session.run(statements.MISPLACED_EDGES, {"types": types})
            self.foreign.edges += [number for (number,) in found if number not in known]
        if set(self._counts.types) - {IMAGE_LINK, *types}:
            for number, name, head, tail in self._session.run(
                statements.FOREIGN_EDGES, {"types": [IMAGE_LINK, *types]}
            ):
                self.foreign.edges.append(number)
                self.foreign.note("relationships of other types", f"({head})-[:{name}]->({tail})")


def _is_of(kind: type, *, many: bool) -> Callable[[Any], bool]:
    """Whether a value is of exactly a type (True is no number here), or a list of such."""
    if many:
        return lambda value: type(value) is list and all(type(item) is kind for item in value)
    return lambda value: type(value) is kind


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Values as a column; dates are days."""
    if kind == pa.date32():
        return pa.array(values, pa.int32()).cast(kind)
    if kind == pa.list_(pa.date32()):
        return pa.array(values, pa.list_(pa.int32())).cast(kind)
    return pa.array(values, kind)
