"""A difference as batches of rows for the server, in the order in which they may be applied.

Rows are deduplicated and sorted (`find_difference` sees to both), one statement a relationship type. Entities travel
once by `entity_id`; from then on the server's numbers name them, which DuckDB joins to the edges on the way.
"""

import queue
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import duckdb
import neo4j
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmkg.errors import StoreError
from mmkg.store.content import Content
from mmkg.store.difference import REMOVE, Difference
from mmkg.store.digest import file_pattern
from mmkg.store.neo4j import statements
from mmkg.store.neo4j.read_back import EPOCH, Foreign

_LOOK_UP_ROWS = 10_000
_AHEAD = 2  # batches that are made while the server works
_READ_ROWS = 64 * 1024
# Types with so few rows go into one statement with others (see `create_edges`): planning is what they cost.
_SMALL_TYPE = 2_000
_ROWS_TOGETHER = 4_000  # each row is held against each type of its statement, 1 µs
_TYPES_TOGETHER = 40


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One statement for some rows. It returns `done`, or `ids` where it makes nodes."""

    what: str
    statement: str
    rows: list[Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    entity_ids: list[str] | None = None  # of the nodes that it makes

    def check(self, expected: int, found: int) -> None:
        """Raise `StoreError` where the server found another number of rows than were sent."""
        if found != expected:
            raise StoreError(
                f"the store changes while it is loaded ({self.what}: expected {expected:,} rows, found {found:,}). "
                "Somebody else writes into it; stop that, then run the same again."
            )


class NodeIds:
    """The server's number of each entity that a load has to name."""

    def __init__(self, folder: Path, *, memory_limit: str = "2GB") -> None:
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": memory_limit,
            "temp_directory": str(folder / "spill"),
            "preserve_insertion_order": False,
        }
        self._connection = duckdb.connect(config=settings)
        self._connection.execute("CREATE TABLE ids (entity_id VARCHAR, id BIGINT)")

    def __enter__(self) -> Self:
        """Use in a ``with`` block that closes it."""
        return self

    def __exit__(self, *error: object) -> None:
        """Give the memory back."""
        self._connection.close()

    def add_file(self, path: Path) -> None:
        """Add what was read back."""
        self._connection.execute("INSERT INTO ids SELECT entity_id, id FROM read_parquet(?)", [file_pattern(path)])

    def add(self, entity_ids: list[str], numbers: list[int]) -> None:
        """Add entities that were just made or looked up."""
        rows = pa.table({"entity_id": pa.array(entity_ids, pa.string()), "id": pa.array(numbers, pa.int64())})
        self._connection.register("new_ids", rows)
        self._connection.execute("INSERT INTO ids SELECT entity_id, id FROM new_ids")
        self._connection.unregister("new_ids")

    def look_up(self, session: neo4j.Session, difference: Difference) -> None:
        """Ask the server for the numbers of all entities that a difference names and that are there before it.

        Raises:
            StoreError: one is not there.
        """
        parts = [
            f"SELECT entity_id AS id FROM read_parquet('{_quoted(path)}')"  # noqa: S608
            for path in (difference.nodes_changed, difference.nodes_removed)
            if path is not None
        ]
        for files in (difference.edges_added, difference.edges_changed, difference.edges_removed):
            if files:
                listed = ", ".join(f"'{_quoted(path)}'" for path in files.values())
                parts.append(f'SELECT unnest(["from", "to"]) AS id FROM read_parquet([{listed}])')  # noqa: S608
        if not parts:
            return
        query = " UNION ".join(parts)
        if difference.nodes_added is not None:
            added = f"SELECT entity_id FROM read_parquet('{_quoted(difference.nodes_added)}')"  # noqa: S608
            query = f"SELECT id FROM ({query}) WHERE id NOT IN ({added})"  # noqa: S608
        wanted = [row[0] for row in self._connection.sql(f"SELECT DISTINCT id FROM ({query})").fetchall()]  # noqa: S608
        for first in range(0, len(wanted), _LOOK_UP_ROWS):
            self.add(*find_nodes(session, wanted[first : first + _LOOK_UP_ROWS]))

    def numbers(self, path: Path) -> dict[str, int]:
        """Numbers of the entities of a Parquet file with the column entity_id."""
        query = "SELECT entity_id, id FROM read_parquet(?) JOIN ids USING (entity_id)"
        with self._connection.cursor() as cursor:  # asked by the thread that makes batches
            return dict(cursor.execute(query, [file_pattern(path)]).fetchall())

    def edges(self, files: Mapping[str, Path], *, sources: bool) -> Iterator[pa.RecordBatch]:
        """Edges with the numbers of their ends: columns head, tail, type, sorted by type, head and tail.

        Args:
            files: relationship type → Parquet file; `type` is the place in it.
            sources: whether the files have the column sources, which is then the fourth.
        """
        with self._connection.cursor() as cursor:
            cursor.execute("CREATE TEMP TABLE types (file VARCHAR, type INTEGER)")
            places = [[str(path), place] for place, path in enumerate(files.values())]
            cursor.executemany("INSERT INTO types VALUES (?, ?)", places)
            column = ", sources" if sources else ""
            yield from cursor.sql(
                f"SELECT h.id AS head, t.id AS tail, type{column} FROM read_parquet($files, filename = true) "  # noqa: S608
                'JOIN types ON filename = file JOIN ids h ON h.entity_id = "from" JOIN ids t ON t.entity_id = "to" '
                "ORDER BY type, head, tail",
                params={"files": [file_pattern(path) for path in files.values()]},
            ).to_arrow_reader(_READ_ROWS)


def find_nodes(session: neo4j.Session, entity_ids: list[str]) -> tuple[list[str], list[int]]:
    """Entities and their numbers, as they come.

    Raises:
        StoreError: one is not there.
    """
    found = session.run(statements.FIND_NODES, {"ids": entity_ids}).values()
    if len(found) != len(entity_ids):
        missing = next(iter(set(entity_ids) - {entity_id for entity_id, _ in found}), "an entity twice")
        raise StoreError(
            f"the store changes while it is loaded: {missing} is no longer as it was. Somebody else writes into it; "
            "stop that, then run the same again."
        )
    return [entity_id for entity_id, _ in found], [number for _, number in found]


def ahead(batches: Iterator[Batch]) -> Generator[Batch]:
    """The same batches, the next ones made by a thread while the server works on one."""
    made: queue.Queue[Batch | BaseException | None] = queue.Queue(_AHEAD)
    stop = threading.Event()

    def put(item: Batch | BaseException | None) -> bool:
        while not stop.is_set():
            try:
                made.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def make() -> None:
        try:
            for batch in batches:
                if not put(batch):
                    return
            put(None)
        except BaseException as error:  # noqa: BLE001 - raised again by who waits
            put(error)

    thread = threading.Thread(target=make, name="mmkg-batches", daemon=True)
    thread.start()
    try:
        while (item := made.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


def all_parts(
    difference: Difference, content: Content, foreign: Foreign, ids: NodeIds, size: Callable[[], int]
) -> Iterator[Generator[Batch]]:
    """Everything, in the parts that must follow each other: what is foreign first, edges last.

    The batches of one part may be applied in any order. Each part is begun when the one before was applied: it may need
    the numbers of nodes that were made in it.
    """
    yield from foreign_parts(foreign, size)
    yield ahead(edge_removals(difference, ids, size))
    yield ahead(node_removals(difference, ids, size))
    yield ahead(node_batches(difference, content, ids, size))
    yield ahead(edge_batches(difference, content, ids, size))


def foreign_parts(foreign: Foreign, size: Callable[[], int]) -> Iterator[Generator[Batch]]:
    """Take away what no build of ours can hold."""
    for label, numbers in foreign.labels.items():
        statement = statements.remove_label(label)
        yield _sliced("remove labels", statement, [[number] for number in numbers], size)
    rows = [[number, names] for number, names in foreign.properties]
    yield _sliced("remove properties", statements.REMOVE_PROPERTIES, rows, size)
    edges = [[number] for number in foreign.edges]
    yield _sliced("remove relationships", statements.DELETE_EDGES_BY_ID, edges, size)
    nodes = [[number] for number in foreign.nodes]
    yield _sliced("remove nodes", statements.DETACH_NODES, nodes, size)


def _sliced(
    what: str,
    statement: str,
    rows: list[Any],
    size: Callable[[], int],
    parameters: Mapping[str, Any] = MappingProxyType({}),
) -> Generator[Batch]:
    first = 0
    while first < len(rows):
        count = size()
        yield Batch(what=what, statement=statement, rows=rows[first : first + count], parameters=parameters)
        first += count


def edge_removals(difference: Difference, ids: NodeIds, size: Callable[[], int]) -> Iterator[Batch]:
    """Edges removed."""
    types = list(difference.edges_removed)
    for edges in ids.edges(difference.edges_removed, sources=False) if types else ():
        rows = list(map(list, zip(*(column.to_pylist() for column in edges.columns), strict=True)))
        yield from _sliced("remove relationships", statements.DELETE_EDGES, rows, size, {"types": types})


def node_removals(difference: Difference, ids: NodeIds, size: Callable[[], int]) -> Iterator[Batch]:
    """Nodes removed, which no edge is at any more."""
    if difference.nodes_removed is not None:
        removed = [[number] for number in sorted(ids.numbers(difference.nodes_removed).values())]
        yield from _sliced("remove entities", statements.DELETE_NODES, removed, size)


def node_batches(difference: Difference, content: Content, ids: NodeIds, size: Callable[[], int]) -> Iterator[Batch]:
    """Nodes added, then nodes changed."""
    properties = content.model.properties
    dates = [prop.name for prop in properties if prop.value_column == "date"]
    parameters = {"epoch": EPOCH} if dates else {}
    if difference.nodes_added is not None:
        for part in _parts(difference.nodes_added, size):
            rows = _node_rows(part, dates)
            yield Batch(
                what="add entities",
                statement=statements.create_nodes(properties),
                rows=rows,
                parameters=parameters,
                entity_ids=part.column("entity_id").to_pylist(),
            )
    if difference.nodes_changed is not None:
        numbers = ids.numbers(difference.nodes_changed)
        for part in _parts(difference.nodes_changed, size):
            rows = _node_rows(part.drop_columns([REMOVE]), dates)
            for row, gone in zip(rows, part.column(REMOVE).to_pylist(), strict=True):
                row[0].update(dict.fromkeys(gone))
                row.insert(0, numbers[row[0]["entity_id"]])
            yield Batch(
                what="change entities", statement=statements.update_nodes(properties), rows=rows, parameters=parameters
            )


def edge_batches(difference: Difference, content: Content, ids: NodeIds, size: Callable[[], int]) -> Iterator[Batch]:
    """Edges added, then edges changed.

    Raises:
        StoreError: an end of an edge is no entity.
    """
    relation_ids = content.model.relation_ids()
    for what, files, kind in (
        ("add relationships", difference.edges_added, "edges_added"),
        ("change relationships", difference.edges_changed, "edges_changed"),
    ):
        names = list(files)
        done = 0
        for edges in ids.edges(files, sources=True) if files else ():
            done += edges.num_rows
            for part in _few_types(edges, size):
                rows, places, sources = _edge_rows(part)
                types = [names[place] for place in places]
                yield Batch(
                    what=what,
                    statement=statements.UPDATE_EDGES if kind == "edges_changed" else statements.create_edges(types),
                    rows=rows,
                    parameters={
                        "types": types,
                        "relation_ids": [relation_ids[name] for name in types],
                        "sources": sources,
                    },
                )
        if done != difference.counts.get(kind, 0):
            raise StoreError(
                f"{content.folder}: {difference.counts.get(kind, 0) - done:,} edges begin or end at no entity. "
                "Build the graph again."
            )


def _parts(path: Path, size: Callable[[], int]) -> Iterator[pa.Table]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_READ_ROWS):
            table = pa.Table.from_batches([batch])
            first = 0
            while first < table.num_rows:
                part = table.slice(first, size())
                first += part.num_rows
                yield part


def _node_rows(table: pa.Table, dates: list[str]) -> list[list[Any]]:
    """[properties, dates] for each row; dates in the order of the model, as days; None where a row has none."""
    rows: list[list[Any]] = [[{}, None] for _ in range(table.num_rows)]
    for name in table.column_names:
        column = table.column(name)
        if name in dates:
            kind = pa.list_(pa.int32()) if pa.types.is_list(column.type) else pa.int32()
            place = dates.index(name)
            for row, days in zip(rows, column.cast(kind).to_pylist(), strict=True):
                if days is not None:
                    row[1] = row[1] or [None] * len(dates)
                    row[1][place] = days
            continue
        empty: list[str] | None = [] if name in ("types", "aliases") else None
        for row, value in zip(rows, column.to_pylist(), strict=True):
            value = empty if value is None else value
            if value is not None:
                row[0][name] = value
    return rows


def _few_types(edges: pa.RecordBatch, size: Callable[[], int]) -> Iterator[pa.RecordBatch]:
    """Slices of one large type, or of several small ones."""
    types = edges.column(2).to_numpy()
    ends = np.append(np.flatnonzero(np.diff(types)) + 1, len(types))  # of each type
    first = 0
    while first < len(types):
        place = int(np.searchsorted(ends, first, side="right"))
        last = min(int(ends[place]), first + size())
        if last - first < _SMALL_TYPE:
            within = ends[place : place + _TYPES_TOGETHER]
            within = within[within - first <= min(size(), _ROWS_TOGETHER)]
            last = max(last, int(within[-1])) if len(within) else last
        yield edges.slice(first, last - first)
        first = last


def _edge_rows(edges: pa.RecordBatch) -> tuple[list[list[int]], list[int], list[list[str]]]:
    """[head, tail, place of its type, place of its sources]; the types; the distinct lists of sources."""
    types, type_places = np.unique(edges.column(2).to_numpy(), return_inverse=True)
    places: dict[tuple[str, ...], int] = {}
    codes = [places.setdefault(tuple(found), len(places)) for found in edges.column(3).to_pylist()]
    columns = (edges.column(0).to_pylist(), edges.column(1).to_pylist(), type_places.tolist(), codes)
    return list(map(list, zip(*columns, strict=True))), types.tolist(), [list(found) for found in places]


def _quoted(path: Path) -> str:
    return file_pattern(path).replace("'", "''")
