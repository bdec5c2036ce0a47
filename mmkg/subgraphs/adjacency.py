"""The graph as two CSR lists on memory-mapped arrays: who stands beside an entity, without reading the table.

On the way of a fact: after `triples` is built, before subgraphs are cut. One direction is four arrays: the edges of
entity i stand at ``indptr[i]:indptr[i + 1]`` of ``neighbours``, ``relations`` and ``triples`` (the row of `triples`
that says so). They stand in the order of the table, so by relation and then by the other end.

A folder is eight plain ``.npy`` files and ``meta.json``, which is written last: what has a ``meta.json`` is whole.
Opening it reads a few kilobytes; several processes that open it share one copy in memory.
"""

import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmkg.errors import MmkgError, ShardError
from mmkg.subgraphs.kernels import MAX_QUERY, Lists, fill_lists

META = "meta.json"
FORMAT_VERSION = 1
ARRAYS = ("indptr", "neighbours", "relations", "triples")
DIRECTIONS = ("out", "in")

_INT32_MAX = 2**31 - 1
_BLOCK_BYTES = 4096
_SAMPLED_BLOCKS = 64
_MAX_KEPT_BYTES = 64 * 2**20


class Workspace:
    """What one thread marks visited entities in and writes results to; lent by an adjacency and given back.

    The marks take 8 bytes an entity of the graph, of which the system backs only the pages that were touched. They
    are never cleared, but compared with the number of the query that made them.
    """

    def __init__(self, num_entities: int) -> None:
        self.visited = np.zeros(num_entities, np.int64)
        self.nodes = np.empty((2, 1024), np.int64)
        self.edges = np.empty((4, 1024), np.int64)
        self._next_query = 1

    def take_numbers(self, num_queries: int) -> int:
        """The first of as many query numbers that no mark has; clears the marks once in two billion queries."""
        if self._next_query + num_queries > MAX_QUERY:
            self.visited[:] = 0
            self._next_query = 1
        self._next_query += num_queries
        return self._next_query - num_queries

    def keep_buffers(self, nodes: NDArray[np.int64], edges: NDArray[np.int64]) -> None:
        """Keep buffers that grew, so that the next query finds them warm, but none that one huge subgraph needed."""
        if nodes.nbytes + edges.nbytes <= _MAX_KEPT_BYTES:
            self.nodes, self.edges = nodes, edges


@dataclass(frozen=True, eq=False, repr=False)
class Adjacency:
    """Outgoing and incoming edges of every entity.

    Made by :func:`~mmkg.subgraphs.adjacency_build.build_adjacency` and :func:`open_adjacency`, or for a graph in
    memory by :meth:`from_triples`. Safe to share between threads; pickled, an opened one travels as its folder's name.
    """

    num_entities: int
    num_relations: int
    num_triples: int
    outgoing: Lists
    incoming: Lists
    folder: Path | None = None
    _workspaces: list[Workspace] = field(default_factory=list)

    @classmethod
    def from_triples(
        cls, head_index: ArrayLike, relation_index: ArrayLike, tail_index: ArrayLike, *, num_entities: int
    ) -> Self:
        """Build the adjacency of a small graph in memory.

        Args:
            head_index, relation_index, tail_index: (num_triples,) integers.
            num_entities: entities are 0 … num_entities - 1; those without an edge are counted as well.

        Raises:
            MmkgError: the columns differ in length, or an index is out of range.
        """
        heads, relations, tails = (
            _frozen(np.ascontiguousarray(column, np.int64)) for column in (head_index, relation_index, tail_index)
        )
        if not heads.shape == relations.shape == tails.shape or heads.ndim != 1:
            raise MmkgError(
                f"triples: expected three columns of one length, found {heads.shape}, {relations.shape}, {tails.shape}."
            )
        check_triples(heads, relations, tails, num_entities=num_entities, first_row=0)
        sides = []
        for near, far in ((heads, tails), (tails, heads)):
            indptr = np.zeros(num_entities + 1, np.int64)
            np.cumsum(np.bincount(near, minlength=num_entities), out=indptr[1:])
            lists = Lists(
                indptr,
                np.empty(len(heads), neighbour_dtype(num_entities)),
                np.empty(len(heads), np.int32),
                np.empty(len(heads), np.int64),
            )
            fill_lists(lists, indptr[:-1].copy(), near, relations, far, 0)
            sides.append(read_only(lists))
        num_relations = int(relations.max()) + 1 if len(relations) else 0
        return cls(num_entities, num_relations, len(heads), sides[0], sides[1])

    def lend_workspace(self) -> Workspace:
        """A workspace that nobody else uses; give it back with :meth:`return_workspace`."""
        try:
            return self._workspaces.pop()
        except IndexError:
            return Workspace(self.num_entities)

    def return_workspace(self, workspace: Workspace) -> None:
        """Keep a workspace for the next query."""
        self._workspaces.append(workspace)

    def degree(self, entity_index: int) -> tuple[int, int]:
        """How many triples have this entity as head, and as tail.

        Raises:
            MmkgError: there is no such entity.
        """
        if not 0 <= entity_index < self.num_entities:
            raise MmkgError(f"entity index {entity_index}: expected 0 … {self.num_entities - 1:,}.")
        out, into = self.outgoing.indptr, self.incoming.indptr
        return (
            int(out[entity_index + 1] - out[entity_index]),
            int(into[entity_index + 1] - into[entity_index]),
        )

    def __repr__(self) -> str:
        """Its size, not its content."""
        where = "in memory" if self.folder is None else f"in {self.folder}"
        return f"Adjacency({self.num_entities:,} entities, {self.num_triples:,} triples, {where})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle an opened adjacency as its folder, one in memory as its arrays."""
        if self.folder is not None:
            return open_adjacency, (self.folder,)
        return _from_parts, (
            self.num_entities, self.num_relations, self.num_triples, tuple(self.outgoing), tuple(self.incoming)
        )  # fmt: skip


def _from_parts(
    num_entities: int, num_relations: int, num_triples: int, outgoing: tuple[Any, ...], incoming: tuple[Any, ...]
) -> Adjacency:
    return Adjacency(num_entities, num_relations, num_triples, read_only(Lists(*outgoing)), read_only(Lists(*incoming)))


def neighbour_dtype(num_entities: int) -> type[np.signedinteger[Any]]:
    """32-bit neighbours where they suffice: half the memory traffic of a walk."""
    return np.int32 if num_entities <= _INT32_MAX else np.int64


def read_only(lists: Lists) -> Lists:
    """Plain read-only views: one compiled variant serves arrays in memory and on disk."""
    return Lists(*(_frozen(array) for array in lists))


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view(np.ndarray)
    view.flags.writeable = False
    return view


def check_triples(
    heads: NDArray[np.int64],
    relations: NDArray[np.int64],
    tails: NDArray[np.int64],
    *,
    num_entities: int,
    first_row: int,
) -> None:
    """Check that every index names something.

    Raises:
        MmkgError: naming the first row that does not.
    """
    for name, column, limit in (
        ("head_index", heads, num_entities),
        ("relation_index", relations, _INT32_MAX),
        ("tail_index", tails, num_entities),
    ):
        wrong = (column < 0) | (column >= limit)
        if wrong.any():
            place = int(wrong.argmax())
            raise MmkgError(
                f"triples, row {first_row + place:,}: {name} is {column[place]:,}, expected 0 … {limit - 1:,}. "
                "Do the triples and the entities come from one build?"
            )


def array_path(folder: Path, direction: str, array: str) -> Path:
    """Where one array of one direction lies."""
    return folder / f"{direction}_{array}.npy"


def sampled_crc32(path: Path) -> int:
    """CRC-32 of up to 64 blocks of 4 KiB, spread evenly over a file from its first to its last byte."""
    size = path.stat().st_size
    last = max(size - _BLOCK_BYTES, 0)
    checksum = 0
    with path.open("rb") as file:
        for offset in sorted({last * i // (_SAMPLED_BLOCKS - 1) for i in range(_SAMPLED_BLOCKS)}):
            file.seek(offset)
            checksum = zlib.crc32(file.read(_BLOCK_BYTES), checksum)
    return checksum


def whole_crc32(path: Path) -> int:
    """CRC-32 of a whole file."""
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            checksum = zlib.crc32(block, checksum)
    return checksum


def open_adjacency(folder: Path, *, whole: bool = False) -> Adjacency:
    """Map the arrays of a finished folder into memory.

    Args:
        folder: where :func:`~mmkg.subgraphs.adjacency_build.build_adjacency` wrote.
        whole: read every byte and compare its checksum; else sizes, types and 64 blocks of each file.

    Raises:
        ShardError: the folder is missing, unfinished, of another format, or not as it was written.
    """
    folder = Path(folder)
    meta = _read_meta(folder)
    sides = []
    for direction in DIRECTIONS:
        arrays = []
        for name in ARRAYS:
            path = array_path(folder, direction, name)
            _check_file(path, meta["files"].get(path.name, {}), whole=whole)
            length = meta["num_entities"] + 1 if name == "indptr" else meta["num_triples"]
            arrays.append(_map_array(path, _dtype(name, meta["num_entities"]), length))
        first, last = int(arrays[0][0]), int(arrays[0][-1])
        if (first, last) != (0, meta["num_triples"]):
            path = array_path(folder, direction, "indptr")
            raise _damaged(path, f"runs from {first:,} to {last:,}, expected 0 to {meta['num_triples']:,}")
        sides.append(read_only(Lists(*arrays)))
    return Adjacency(
        meta["num_entities"], meta["num_relations"], meta["num_triples"], sides[0], sides[1], folder=folder
    )


def _dtype(array: str, num_entities: int) -> type[np.signedinteger[Any]]:
    return {"neighbours": neighbour_dtype(num_entities), "relations": np.int32}.get(array, np.int64)


def _read_meta(folder: Path) -> dict[str, Any]:
    path = folder / META
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ShardError(f"{path}: no such file, so the adjacency was never finished. Build it again.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise _damaged(path, f"not JSON ({error})") from error
    if not isinstance(meta, dict) or meta.get("format_version") != FORMAT_VERSION:
        found = meta.get("format_version") if isinstance(meta, dict) else type(meta).__name__
        raise _damaged(path, f"expected format version {FORMAT_VERSION}, found {found}")
    counts = ("num_entities", "num_relations", "num_triples")
    if any(type(meta.get(name)) is not int or meta[name] < 0 for name in counts) or not isinstance(
        meta.get("files"), dict
    ):
        raise _damaged(path, f"expected {', '.join(counts)} and files")
    return meta


def _check_file(path: Path, expected: dict[str, Any], *, whole: bool) -> None:
    found = path.stat().st_size if path.exists() else None
    if found is None or found != expected.get("bytes"):
        raise _damaged(
            path, f"expected {expected.get('bytes')} bytes, found {'no file' if found is None else f'{found:,}'}"
        )
    if sampled_crc32(path) != expected.get("sampled_crc32") or (whole and whole_crc32(path) != expected.get("crc32")):
        raise _damaged(path, "its content has changed since it was written")


def _map_array(path: Path, dtype: type[np.signedinteger[Any]], length: int) -> NDArray[Any]:
    try:
        # The system cannot map an empty file section, so an array without elements is read.
        array = np.load(path, mmap_mode="r" if length else None, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise _damaged(path, f"not a .npy file ({error})") from error
    if array.dtype != dtype or array.shape != (length,):
        raise _damaged(path, f"expected {np.dtype(dtype)} ({length},), found {array.dtype} {array.shape}")
    return array


def _damaged(path: Path, what: str) -> ShardError:
    return ShardError(f"{path}: {what}. Remove {path.parent} and build the adjacency again.")
