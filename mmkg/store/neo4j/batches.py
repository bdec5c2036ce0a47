"""A difference as batches of rows for the server, in the order in which they may be applied.

Rows are deduplicated and sorted (`find_difference` sees to both), one statement a relationship type. Entities travel
once by `entity_id` and pictures by `sha256`; from then on the server's numbers name them, which DuckDB joins to the
edges on the way.
"""

import queue
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmkg.errors import StoreError
from mmkg.store.compare import REMOVE
from mmkg.store.content import Content
from mmkg.store.cypher import IMAGE_TABLE, KEYS, NODE_TABLE
from mmkg.store.difference import Difference
from mmkg.store.neo4j import statements
from mmkg.store.neo4j.foreign import Foreign
from mmkg.store.neo4j.node_ids import READ_ROWS, NodeIds
from mmkg.store.neo4j.read_back import EPOCH

_AHEAD = 2  # batches that are made while the server works
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
    keys: list[str] | None = None  # of the nodes that it makes
    label: str = NODE_TABLE  # of these nodes

    def check(self, expected: int, found: int) -> None:
        """Raise `StoreError` where the server found another number of rows than were sent."""
        if found != expected:
            raise StoreError(
                f"the store changes while it is loaded ({self.what}: expected {expected:,} rows, found {found:,}). "
                "Somebody else writes into it; stop that, then run the same again."
            )


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
    """Edges removed, then links to pictures."""
    types = list(difference.edges_removed)
    for edges in ids.edges(difference.edges_removed, sources=False) if types else ():
        yield from _sliced("remove relationships", statements.DELETE_EDGES, _rows(edges), size, {"types": types})
    if difference.image_links_removed is not None:
        for links in ids.image_links(difference.image_links_removed):
            yield from _sliced("remove picture links", statements.DELETE_IMAGE_LINKS, _rows(links), size)


def node_removals(difference: Difference, ids: NodeIds, size: Callable[[], int]) -> Iterator[Batch]:
    """Nodes removed, which no edge is at any more."""
    for what, label, path in (
        ("remove entities", NODE_TABLE, difference.nodes_removed),
        ("remove pictures", IMAGE_TABLE, difference.images_removed),
    ):
        if path is not None:
            removed = [[number] for number in sorted(ids.numbers(label, path).values())]
            yield from _sliced(what, statements.delete_nodes(label), removed, size)


def node_batches(difference: Difference, content: Content, ids: NodeIds, size: Callable[[], int]) -> Iterator[Batch]:
    """Entities added and changed, then pictures added and changed."""
    properties = content.model.properties
    for what, label, typed, added, changed in (
        ("entities", NODE_TABLE, properties, difference.nodes_added, difference.nodes_changed),
        ("pictures", IMAGE_TABLE, (), difference.images_added, difference.images_changed),
    ):
        dates = [prop.name for prop in typed if prop.value_column == "date"]
        parameters = {"epoch": EPOCH} if dates else {}
        for part in _parts(added, size) if added is not None else ():
            yield Batch(
                what=f"add {what}",
                statement=statements.create_nodes(typed, label),
                rows=_node_rows(part, dates),
                parameters=parameters,
                keys=part.column(KEYS[label]).to_pylist(),
                label=label,
            )
        numbers = ids.numbers(label, changed) if changed is not None else {}
        for part in _parts(changed, size) if changed is not None else ():
            rows = _node_rows(part.drop_columns([REMOVE]), dates)
            for row, gone in zip(rows, part.column(REMOVE).to_pylist(), strict=True):
                row[0].update(dict.fromkeys(gone))
                row.insert(0, numbers[row[0][KEYS[label]]])
            yield Batch(
                what=f"change {what}",
                statement=statements.update_nodes(typed, label),
                rows=rows,
                parameters=parameters,
            )


def edge_batches(difference: Difference, content: Content, ids: NodeIds, size: Callable[[], int]) -> Iterator[Batch]:
    """Edges added, then edges changed, then the same of links to pictures.

    Raises:
        StoreError: an end of an edge is no entity, or that of a link no picture.
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
        _check_ends(content, difference.counts.get(kind, 0) - done)
    for what, statement, path, kind in (
        ("add picture links", statements.CREATE_IMAGE_LINKS, difference.image_links_added, "image_links_added"),
        ("change picture links", statements.UPDATE_IMAGE_LINKS, difference.image_links_changed, "image_links_changed"),
    ):
        done = 0
        for links in ids.image_links(path, ("rank", "score")) if path is not None else ():
            done += links.num_rows
            yield from _sliced(what, statement, _rows(links), size)
        _check_ends(content, difference.counts.get(kind, 0) - done)


def _check_ends(content: Content, missing: int) -> None:
    if missing:
        raise StoreError(
            f"{content.folder}: {missing:,} edges begin or end at no entity or picture. Build the graph again."
        )


def _rows(batch: pa.RecordBatch) -> list[list[Any]]:
    """Columns as rows."""
    return list(map(list, zip(*(column.to_pylist() for column in batch.columns), strict=True)))


def _parts(path: Path, size: Callable[[], int]) -> Iterator[pa.Table]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(READ_ROWS):
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
