"""Tables on their way to the disk: streams of record batches become Parquet shards, the same rows the same bytes."""

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from mmkg.shards.files import PARTIAL_SUFFIX, commit, sync
from mmkg.tables import SCHEMAS

ROWS_PER_SHARD = 4_000_000
_ROWS_PER_GROUP = 256 * 1024


def write_shard(path: Path, table: pa.Table) -> None:
    """Write one Parquet file whole or not at all. The same table gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    with pq.ParquetWriter(partial, table.schema, **_parquet_options(table.schema)) as writer:
        writer.write_table(_in_one_piece(table), row_group_size=_ROWS_PER_GROUP)
    commit(partial, path)
    sync(path.parent)


def _parquet_options(schema: pa.Schema) -> dict[str, Any]:
    """How a table is laid out in Parquet.

    Text that may be null gets no least and greatest value: DuckDB 2.0.0 answers ``IS NULL`` with every row of a group
    whose other values are all the same, if it is told so by these two and the column has no dictionary.
    """
    repeated = [
        f.name for f in schema if pa.types.is_dictionary(f.type) or f.name in {"relation", "datatype", "language"}
    ]
    bounded = [
        f.name
        for f in schema
        if not pa.types.is_nested(f.type)
        and not (f.nullable and (pa.types.is_string(f.type) or pa.types.is_binary(f.type)))
    ]
    return {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": repeated or False,
        "write_statistics": bounded or False,
    }


def _in_one_piece(table: pa.Table) -> pa.Table:
    """The same rows, laid out the same way however they came: one chunk a column, dictionaries in order of first use.

    Parquet keeps the dictionary it is given, and engines give batches whose dictionaries depend on their threads.
    """
    table = table.combine_chunks()
    for position, column_field in enumerate(table.schema):
        if pa.types.is_dictionary(column_field.type) and table.num_rows:
            chunk = table.column(position).unify_dictionaries().chunk(0)
            if len(chunk.dictionary) != 1:
                chunk = chunk.dictionary_decode().dictionary_encode().cast(column_field.type)
            table = table.set_column(position, column_field, chunk)
    return table


class TableWriter:
    """Writes a stream of record batches as ``FOLDER/TABLE/part-00000.parquet``, ``part-00001.parquet``, …

    Batches may have columns in any order and castable types; they are brought to the table's schema. Rows are gathered
    into groups of one size, so that the same rows give the same bytes however they were cut into batches. A table
    without rows still has one shard, so that readers meet its columns. Shards that an interrupted writer of the same
    table left behind are removed first.
    """

    def __init__(self, folder: Path, table: str, *, rows_per_shard: int = ROWS_PER_SHARD) -> None:
        self.rows = 0
        self._folder = folder / table
        self._folder.mkdir(parents=True, exist_ok=True)
        for stale in self._folder.glob("part-*.parquet*"):
            stale.unlink()
        self._schema = SCHEMAS[table]
        self._rows_per_shard = rows_per_shard
        self._writer: pq.ParquetWriter | None = None
        self._rows_in_shard = 0
        self._shards = 0
        self._waiting: list[pa.Table] = []  # rows not yet written: less than a row group
        self._rows_waiting = 0

    def __enter__(self) -> Self:
        """Begin writing."""
        return self

    def write(self, batch: pa.RecordBatch | pa.Table) -> None:
        """Append rows.

        Raises:
            KeyError: a column of the table is missing.
            ValueError: a column cannot be cast, or has a null where the table's schema has none.
        """
        table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
        table = table.select(self._schema.names).cast(self._schema)
        self.rows += table.num_rows
        while table.num_rows:
            room = min(_ROWS_PER_GROUP, self._rows_per_shard - self._rows_in_shard) - self._rows_waiting
            piece, table = table.slice(0, room), table.slice(room)
            self._waiting.append(piece)
            self._rows_waiting += piece.num_rows
            if piece.num_rows == room:
                self._write_group()

    def _write_group(self) -> None:
        """Write what waits as one row group, and end the shard when it is full."""
        if self._waiting:
            group = _in_one_piece(pa.concat_tables(self._waiting))
            self._open().write_table(group, row_group_size=_ROWS_PER_GROUP)
            self._rows_in_shard += group.num_rows
            self._waiting, self._rows_waiting = [], 0
        if self._rows_in_shard == self._rows_per_shard:
            self._close()

    def _path(self) -> Path:
        return self._folder / f"part-{self._shards:05d}.parquet"

    def _open(self) -> pq.ParquetWriter:
        if self._writer is None:
            partial = self._path().with_name(self._path().name + PARTIAL_SUFFIX)
            self._writer = pq.ParquetWriter(partial, self._schema, **_parquet_options(self._schema))
        return self._writer

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            commit(self._path().with_name(self._path().name + PARTIAL_SUFFIX), self._path())
            self._shards += 1
            self._rows_in_shard = 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit the last shard; after an error leave only its partial file."""
        if kind is not None:
            if self._writer is not None:
                self._writer.close()
            return
        self._write_group()
        if self._shards == 0:
            self._open()
        self._close()
        sync(self._folder)


def write_table(folder: Path, table: str, batches: Iterable[pa.RecordBatch | pa.Table]) -> int:
    """Write a whole table from a stream; returns its number of rows."""
    with TableWriter(folder, table) as writer:
        for batch in batches:
            writer.write(batch)
    return writer.rows
