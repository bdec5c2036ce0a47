"""Rows that are kept for all later builds: a table that only grows, one whole part at a time, looked up by key.

What costs a request, a decoder or a model (bytes of a picture, the picture, its vector) is done once for a content and
found by that content's digest ever after, whatever build asks. A part is a Parquet file that is called by the digest of
its own rows: one that is written again after a kill, or by two processes, is the same file. A part that has its name is
whole; a killed writer leaves a partial file, which the next one removes.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmkg.errors import ShardError
from mmkg.shards.files import PARTIAL_SUFFIX, commit, file_sha256, sync

_ROWS_PER_GROUP = 64  # a row of bytes is found without reading its neighbours' megabytes


class Archive:
    """An append-only table in a folder; may be read while it grows.

    Args:
        folder: of the parts; made by the first `append`.
        schema: of every part, with its metadata: parts with another one are refused.
        key: the column that a row is looked up by; a key that is there is not written again by callers of `missing`.
    """

    def __init__(self, folder: Path, schema: pa.Schema, key: str) -> None:
        self.folder = folder
        self.schema = schema
        self.key = key

    def parts(self) -> list[Path]:
        """The whole parts, by name.

        Raises:
            ShardError: one has other columns or metadata.
        """
        found = sorted(self.folder.glob("part-*.parquet"))
        for path in found:
            self._check(path)
        return found

    def _check(self, path: Path) -> None:
        try:
            schema = pq.read_schema(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise ShardError(
                f"{path}: not a whole Parquet file ({error}). Remove it; what it held is made again."
            ) from error
        if not schema.equals(self.schema, check_metadata=True):
            raise ShardError(
                f"{path}: its columns or their metadata are not those of the other parts of {self.folder}. Move the "
                "file away; what it held is made again."
            )

    def append(self, rows: pa.Table) -> Path | None:
        """Write one part, whole or not at all; None when there are no rows.

        Raises:
            ShardError: the rows do not have the columns of the archive.
        """
        if not rows.num_rows:
            return None
        try:
            rows = rows.select(self.schema.names).cast(self.schema).replace_schema_metadata(self.schema.metadata)
        except (KeyError, ValueError, pa.ArrowInvalid) as error:
            raise ShardError(f"{self.folder}: rows without the columns of this archive: {error}") from error
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f"part-{os.getpid()}-{id(rows):x}{PARTIAL_SUFFIX}"
        pq.write_table(rows, partial, compression="zstd", row_group_size=_ROWS_PER_GROUP, write_statistics=False)
        path = self.folder / f"part-{file_sha256(partial)[:24]}.parquet"
        commit(partial, path)
        sync(self.folder)
        return path

    def remove_leftovers(self) -> None:
        """Remove what killed writers left; only while nobody writes."""
        for path in self.folder.glob(f"*{PARTIAL_SUFFIX}"):
            path.unlink()

    def keys(self) -> pa.Array:
        """All keys, in no order; a key that was written twice is there twice."""
        chunks = [_read(path, [self.key])[self.key] for path in self.parts()]
        kind = self.schema.field(self.key).type
        return pa.chunked_array([chunk for column in chunks for chunk in column.chunks], kind).combine_chunks()

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Those of some keys that are not there, each once, in their order."""
        there = set(self.keys().to_pylist())
        return [key for key in dict.fromkeys(keys) if key not in there]

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows, of some columns."""
        tables = [_read(path, columns) for path in self.parts()]
        schema = self.schema if columns is None else pa.schema([self.schema.field(name) for name in columns])
        return pa.concat_tables([schema.empty_table(), *(table.cast(schema) for table in tables)])

    def find(self, keys: Sequence[str], columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of some keys, each once, in the order of the keys; those that are not there are left out.

        Only the groups of 64 rows that hold one of them are read.
        """
        wanted = pa.array(list(dict.fromkeys(keys)), self.schema.field(self.key).type)
        names = self.schema.names if columns is None else list(columns)
        schema = pa.schema([self.schema.field(name) for name in dict.fromkeys([self.key, *names])])
        found = [schema.empty_table(), *(rows.cast(schema) for rows in self._find(wanted, schema.names))]
        rows = pa.concat_tables(found)
        places = pc.index_in(wanted, rows[self.key])
        return rows.take(pc.drop_null(places)).select(names)

    def _find(self, wanted: pa.Array, names: Sequence[str]) -> Iterator[pa.Table]:
        for path in self.parts():
            with pq.ParquetFile(path) as file:
                keys = file.read(columns=[self.key])[self.key]
                hits = pc.is_in(keys, value_set=wanted).to_numpy(zero_copy_only=False).nonzero()[0]
                if not len(hits):
                    continue
                starts = [0]
                for group in range(file.num_row_groups):
                    starts.append(starts[-1] + file.metadata.row_group(group).num_rows)
                groups = sorted(set((np.searchsorted(starts, hits, side="right") - 1).tolist()))
                rows = file.read_row_groups(groups, columns=list(names))
                yield rows.filter(pc.is_in(rows[self.key], value_set=wanted))


def _read(path: Path, columns: Sequence[str] | None) -> pa.Table:
    """A part, by one thread: parts are small and many, and `pq.read_table` takes twice as long to begin."""
    with pq.ParquetFile(path) as file:
        return file.read(columns=None if columns is None else list(columns), use_threads=False)
