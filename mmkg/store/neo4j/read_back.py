"""What a Neo4j database holds now: as content that can be compared with a build, and what else somebody put there.

Entities are read with all their properties and labels, relationships by type. What no build of ours can hold (nodes and
labels of other kinds, properties that the model does not have or of another type) is not content: it is gathered in
`Foreign`, with counts and examples for the message and with the server's numbers to take it away.
"""

import datetime
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import neo4j
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmkg.store.content import Content, gather_content
from mmkg.store.cypher import NODE_TABLE
from mmkg.store.model import ENTITY_PROPERTIES, StoreModel
from mmkg.store.neo4j import statements
from mmkg.store.prepare import EDGES, nodes_schema

EPOCH = datetime.date(1970, 1, 1)
NODE_IDS = pa.schema([pa.field("entity_id", pa.string(), nullable=False), pa.field("id", pa.int64(), nullable=False)])
_ROWS_PER_BATCH = 50_000
_GROUPED_ROWS = 200_000  # of a type: two lists of numbers, some 100 bytes a relationship, in the server's heap
_GROUPED_TYPES = 100  # in one statement; planning it takes longer with each
_FETCH_SIZE = 10_000
_EXAMPLES = 3
Progress = Callable[[str, int, int], None]
_KINDS: Mapping[str, type] = {"number": float, "date": int, "text": str}


@dataclass
class Foreign:
    """What no build of ours can hold."""

    nodes: list[int] = field(default_factory=list)
    edges: list[int] = field(default_factory=list)
    properties: list[tuple[int, dict[str, None]]] = field(default_factory=list)  # node, names to remove
    labels: dict[str, list[int]] = field(default_factory=dict)  # label → entities
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def note(self, kind: str, example: str) -> None:
        """Count one, and keep the first few."""
        self.counts[kind] += 1
        if self.counts[kind] <= _EXAMPLES:
            self.examples.setdefault(kind, []).append(example[:200])

    def describe(self) -> list[str]:
        """``2 nodes of other kinds (:Person 17)``, for each kind."""
        return [f"{count:,} {kind} ({'; '.join(self.examples[kind])})" for kind, count in self.counts.items()]

    @property
    def num_rows(self) -> int:
        """Rows of the batches that take it away."""
        labels = sum(len(numbers) for numbers in self.labels.values())
        return len(self.nodes) + len(self.edges) + len(self.properties) + labels

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.counts)


@dataclass(frozen=True, kw_only=True)
class ReadBack:
    """What was found."""

    content: Content
    node_ids: Path  # Parquet of NODE_IDS
    foreign: Foreign


@dataclass(frozen=True)
class GraphCounts:
    """The server's own counts, kept up with each commit."""

    nodes: int
    labels: Mapping[str, int]
    types: Mapping[str, int]

    @property
    def ours(self) -> int:
        """Nodes of our labels, if none has two."""
        return sum(self.labels.get(label, 0) for label in (NODE_TABLE, *statements.OUR_LABELS))


def read_counts(session: neo4j.Session) -> GraphCounts:
    """Ask the server for its counts; it does not read the graph for them."""
    nodes, labels, types = 0, {}, {}
    for record in session.run(statements.GRAPH_COUNTS):
        data = record["data"]
        for row in data.get("nodes", ()):
            if "label" in row:
                labels[row["label"]] = row["count"]
            else:
                nodes = row["count"]
        for row in data.get("relationships", ()):
            if "relationshipType" in row and "startLabel" not in row and "endLabel" not in row:
                types[row["relationshipType"]] = row["count"]
    return GraphCounts(
        nodes, {k: count for k, count in labels.items() if count}, {k: count for k, count in types.items() if count}
    )


def has_constraint(session: neo4j.Session) -> bool:
    """Whether the server sees to it that no two entities have one entity_id."""
    [[found]] = session.run(statements.HAS_CONSTRAINT).values()
    return bool(found)


def read_back(
    driver: neo4j.Driver,
    database: str,
    model: StoreModel,
    folder: Path,
    *,
    vectors: tuple[str, ...] = (),
    memory_limit: str = "2GB",
    progress: Progress | None = None,
) -> ReadBack:
    """Read all of a database.

    Args:
        driver: to the server.
        database: its name there.
        model: what is expected; other things are foreign.
        folder: is made; gets the content and the numbers of nodes.
        vectors: properties of entities that are no content.
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
            memory_limit=memory_limit,
        )
        reading.find_foreign()
    return ReadBack(content=content, node_ids=reading.node_ids, foreign=reading.foreign)


class _Reading:
    """One pass over a database: nodes, then relationships, then what is neither."""

    def __init__(
        self,
        session: neo4j.Session,
        model: StoreModel,
        folder: Path,
        vectors: tuple[str, ...],
        progress: Progress | None,
    ) -> None:
        self._session = session
        self._model = model
        self._vectors = vectors
        self._told = progress
        self.node_ids = folder / "node-ids.parquet"
        self.foreign = Foreign()
        self._counts = read_counts(session)
        self._numbers: list[pa.Array] = []
        self._entity_ids: list[pa.Array] = []
        self._is_unique = has_constraint(session)
        self._seen: set[str] = set()  # only where the server does not see to it

    def _progress(self, what: str, done: int, total: int) -> None:
        if self._told is not None:
            self._told(what, done, total)

    def nodes(self) -> Iterator[pa.RecordBatch]:
        """Entities as content; their numbers go to a file beside it."""
        schema = nodes_schema(self._model.properties)
        checks = {name: _is_of(str, many=False) for name in ENTITY_PROPERTIES[:3]}
        checks |= {name: _is_of(str, many=True) for name in ENTITY_PROPERTIES[3:]}
        for prop in self._model.properties:
            checks[prop.name] = _is_of(_KINDS[prop.value_column], many=prop.many)
        total = self._counts.labels.get(NODE_TABLE, 0)
        done = 0
        query = statements.read_nodes(self._model.properties, self._vectors)
        result = self._session.run(query, {"epoch": EPOCH})
        with pq.ParquetWriter(self.node_ids, NODE_IDS) as writer:
            while records := result.fetch(_ROWS_PER_BATCH):
                numbers, columns = self._columns(records, checks)
                arrays = [_array(columns[column.name], column.type) for column in schema]
                writer.write_batch(
                    pa.RecordBatch.from_arrays([arrays[0], pa.array(numbers, pa.int64())], schema=NODE_IDS)
                )
                self._numbers.append(pa.array(numbers, pa.int64()))
                self._entity_ids.append(arrays[0])
                done += len(records)
                self._progress("read entities", done, max(done, total))
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _columns(
        self, records: list[neo4j.Record], checks: Mapping[str, Callable[[Any], bool]]
    ) -> tuple[list[int], dict[str, list[Any]]]:
        kept: list[tuple[int, dict[str, Any]]] = []
        for number, properties, labels in records:
            entity_id = properties.get("entity_id")
            if type(entity_id) is not str or (not self._is_unique and entity_id in self._seen):
                self.foreign.nodes.append(number)
                self.foreign.note("entities without an entity_id, or with another's", f"number {number}: {entity_id}")
                continue
            if not self._is_unique:
                self._seen.add(entity_id)
            if len(labels) > 1:
                for label in set(labels) - {NODE_TABLE}:
                    self.foreign.labels.setdefault(label, []).append(number)
                    self.foreign.note("labels on entities", f"{entity_id} :{label}")
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
                    self._note_property(number, properties["entity_id"], name, value, known=check is not None)
        return [number for number, _ in kept], columns

    def _note_property(self, number: int, entity_id: str, name: str, value: Any, *, known: bool) -> None:
        if not self.foreign.properties or self.foreign.properties[-1][0] != number:
            self.foreign.properties.append((number, {}))
        self.foreign.properties[-1][1][name] = None
        kind = "properties of another type than the graph's" if known else "properties that the graph does not have"
        self.foreign.note(kind, f"{entity_id} {name} = {value!r}")

    def edges(self) -> Iterator[tuple[str, pa.RecordBatchReader]]:
        """Relationships of the model's types, type by type."""
        numbers = pa.concat_arrays([*self._numbers, pa.array([], pa.int64())]).to_numpy()
        order = np.argsort(numbers, kind="stable")
        entity_ids = pa.chunked_array([*self._entity_ids, pa.array([], pa.string())]).cast(pa.large_string())
        entity_ids = entity_ids.combine_chunks().take(pa.array(order))
        numbers = numbers[order]
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
                batches = self._edges_of(name, relation_ids[name], rows, numbers, entity_ids, grouped=grouped)
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
        self,
        name: str,
        relation_id: str,
        records: Iterable[Any],
        numbers: np.ndarray[Any, Any],
        entity_ids: pa.Array,
        *,
        grouped: bool,
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
                yield self._edge_batch(name, relation_id, (heads, tails, sources, lengths), numbers, entity_ids)
                heads, tails, sources, lengths = [], [], [], []
        if heads:
            yield self._edge_batch(name, relation_id, (heads, tails, sources, lengths), numbers, entity_ids)

    def _note_edge(self, name: str, found: Mapping[str, Any]) -> None:
        self.foreign.edges.append(found["id"])
        self.foreign.note("relationships with other properties", f"[:{name} {found['properties']!r}]")

    def _edge_batch(
        self,
        name: str,
        relation_id: str,
        rows: tuple[list[int], list[int], list[list[str]], list[int]],
        numbers: np.ndarray[Any, Any],
        entity_ids: pa.Array,
    ) -> pa.RecordBatch:
        ends = np.array(rows[:2], dtype=np.int64)
        places = np.searchsorted(numbers, ends)
        known = np.zeros(ends.shape, dtype=bool)
        inside = places < len(numbers)
        known[inside] = numbers[places[inside]] == ends[inside]
        both = known.all(axis=0)
        for _ in range(int((~both).sum())):  # they go with the node at their end
            self.foreign.note("relationships to nodes of other kinds", f"[:{name}]")
        sources = pa.array(rows[2], EDGES.field("sources").type).take(
            pa.array(np.repeat(np.arange(len(rows[3])), rows[3])[both])
        )
        heads, tails = (entity_ids.take(pa.array(side[both])).cast(pa.string()) for side in places)
        relation_ids = pa.repeat(pa.scalar(relation_id, pa.string()), len(heads))
        return pa.RecordBatch.from_arrays([heads, tails, relation_ids, sources], schema=EDGES)

    def find_foreign(self) -> None:
        """Nodes and relationship types that are not ours; looked for only where the server's counts tell of any."""
        others = set(self._counts.labels) - {NODE_TABLE, *statements.OUR_LABELS}
        if self._counts.nodes != self._counts.ours or others:
            for number, labels in self._session.run(statements.FOREIGN_NODES, {"ours": list(statements.OUR_LABELS)}):
                self.foreign.nodes.append(number)
                self.foreign.note("nodes of other kinds", f"number {number} {''.join(':' + name for name in labels)}")
        types = [row.type for row in self._model.relationships]
        if set(self._counts.types) - set(types):
            for number, name, head, tail in self._session.run(statements.FOREIGN_EDGES, {"types": types}):
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
