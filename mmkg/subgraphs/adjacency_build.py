"""Writes the adjacency of a build: a counting sort of the triples by head and by tail, in two passes over the table.

On the way of a fact: reads `triples`, writes the arrays that :mod:`mmkg.subgraphs.adjacency` opens. Memory: 16 bytes
an entity and a few record batches; the arrays are written through memory maps, so the system may flush them as it
likes. The sort is stable: the edges of an entity keep the order of the table, and the same table gives the same bytes.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from numpy.typing import NDArray

from mmkg.errors import MmkgError
from mmkg.shards import PARTIAL_SUFFIX, sync_folder, write_json
from mmkg.subgraphs.adjacency import (
    ARRAYS,
    DIRECTIONS,
    FORMAT_VERSION,
    META,
    Adjacency,
    array_path,
    check_triples,
    neighbour_dtype,
    open_adjacency,
    sampled_crc32,
    whole_crc32,
)
from mmkg.subgraphs.kernels import Lists, count_edges, fill_lists

logger = logging.getLogger(__name__)

COLUMNS = ("head_index", "relation_index", "tail_index")
_SCHEMA = pa.schema([pa.field(name, pa.int64()) for name in COLUMNS])
_SPILL = "triples.arrow" + PARTIAL_SUFFIX

Columns = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def build_adjacency(
    triples: ds.Dataset | pa.Table | Iterable[pa.RecordBatch], *, num_entities: int, folder: Path
) -> Adjacency:
    """Write the adjacency of a table of triples, and open it.

    An older adjacency in the folder is unreadable from the first rename to the last; processes that have opened it
    keep what they mapped.

    Args:
        triples: head_index, relation_index and tail_index, int64; other columns are not read. A stream of record
            batches, which can be read only once, is first copied to a file in `folder`.
        num_entities: entities are 0 … num_entities - 1.
        folder: made where it is missing.

    Raises:
        MmkgError: a column is missing or of another type, or an index is missing or out of range, naming the row.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    spill = folder / _SPILL
    try:
        passes = _repeatable(triples, spill)
        counts = {direction: np.zeros(num_entities + 1, np.int64) for direction in DIRECTIONS}
        num_triples, num_relations = 0, 0
        for heads, relations, tails in passes():
            check_triples(heads, relations, tails, num_entities=num_entities, first_row=num_triples)
            count_edges(counts["out"], heads)
            count_edges(counts["in"], tails)
            num_triples += len(heads)
            num_relations = max(num_relations, int(relations.max(initial=-1)) + 1)
        _write_arrays(folder, passes, counts, num_entities=num_entities, num_triples=num_triples)
    finally:
        spill.unlink(missing_ok=True)
    _commit(folder, num_entities=num_entities, num_relations=num_relations, num_triples=num_triples)
    logger.info("adjacency: %s triples of %s entities", f"{num_triples:,}", f"{num_entities:,}")
    return open_adjacency(folder)


def _partial(path: Path) -> Path:
    return path.with_name(path.name + PARTIAL_SUFFIX)


def _create(path: Path, dtype: type[np.signedinteger[Any]], length: int) -> NDArray[Any]:
    if length:
        return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=(length,))
    empty = np.empty(0, dtype)  # an empty section cannot be mapped
    with path.open("wb") as file:
        np.save(file, empty)
    return empty


def _write_arrays(
    folder: Path,
    passes: Callable[[], Iterator[Columns]],
    counts: dict[str, NDArray[np.int64]],
    *,
    num_entities: int,
    num_triples: int,
) -> None:
    """Second pass: put every edge where its entity's stretch has its next free place."""
    dtypes: tuple[type[np.signedinteger[Any]], ...] = (np.int64, neighbour_dtype(num_entities), np.int32, np.int64)
    sides: dict[str, Lists] = {}
    for direction in DIRECTIONS:
        lengths = (num_entities + 1, num_triples, num_triples, num_triples)
        arrays = [
            _create(_partial(array_path(folder, direction, name)), dtype, length)
            for name, dtype, length in zip(ARRAYS, dtypes, lengths, strict=True)
        ]
        # Counts stand one place to the right, so their sums are where each stretch begins.
        np.cumsum(counts[direction], out=arrays[0])
        sides[direction] = Lists(*(np.asarray(array) for array in arrays))
        counts[direction][:] = arrays[0]
    row = 0
    for heads, relations, tails in passes():
        fill_lists(sides["out"], counts["out"], heads, relations, tails, row)
        fill_lists(sides["in"], counts["in"], tails, relations, heads, row)
        row += len(heads)
    for lists in sides.values():
        for array in lists:
            if isinstance(array.base, np.memmap):
                array.base.flush()


def _commit(folder: Path, *, num_entities: int, num_relations: int, num_triples: int) -> None:
    """Flush the arrays to disk and give them their names; meta.json goes first and comes back last."""
    (folder / META).unlink(missing_ok=True)
    files: dict[str, dict[str, int]] = {}
    for direction in DIRECTIONS:
        for name in ARRAYS:
            path = array_path(folder, direction, name)
            with _partial(path).open("rb") as file:
                os.fsync(file.fileno())
            _partial(path).replace(path)
            files[path.name] = {
                "bytes": path.stat().st_size,
                "sampled_crc32": sampled_crc32(path),
                "crc32": whole_crc32(path),
            }
    sync_folder(folder)
    write_json(
        folder / META,
        {
            "format_version": FORMAT_VERSION,
            "num_entities": num_entities,
            "num_relations": num_relations,
            "num_triples": num_triples,
            "files": files,
        },
    )


def _repeatable(
    triples: ds.Dataset | pa.Table | Iterable[pa.RecordBatch], spill: Path
) -> Callable[[], Iterator[Columns]]:
    """The triples as columns that can be asked for twice."""
    if isinstance(triples, pa.Table):
        triples = ds.dataset(triples)
    if isinstance(triples, ds.Dataset):
        dataset = triples
        _check_schema(dataset.schema)
        return lambda: _columns(dataset.to_batches(columns=list(COLUMNS)))
    with pa.OSFile(str(spill), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
        for batch in triples:
            _check_schema(batch.schema)
            writer.write_batch(batch.select(list(COLUMNS)).cast(_SCHEMA))
    return lambda: _columns(_read_spill(spill))


def _read_spill(spill: Path) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(spill)) as source:
        reader = pa.ipc.open_file(source)
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)


def _check_schema(schema: pa.Schema) -> None:
    for name in COLUMNS:
        found = schema.field(name).type if name in schema.names else "no such column"
        if found != pa.int64():
            raise MmkgError(f"triples: expected a column {name} of int64, found {found}.")


def _columns(batches: Iterable[pa.RecordBatch]) -> Iterator[Columns]:
    row = 0
    for batch in batches:
        arrays = []
        for name in COLUMNS:
            column = batch.column(name)
            if column.null_count:
                place = row + column.is_null().to_numpy(zero_copy_only=False).argmax()
                raise MmkgError(f"triples, row {place:,}: {name} is null, expected an index.")
            arrays.append(column.to_numpy())
        row += batch.num_rows
        yield arrays[0], arrays[1], arrays[2]
