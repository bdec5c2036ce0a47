"""The bench on which a graph is built: an Ibis connection, its named intermediate tables, and 64-bit keys for terms.

Where a fact stands here: its IRIs are still strings in ``triples_raw``, and are about to be known by integers. Every
step of the build is an Ibis expression over tables of this workspace; what comes out is streamed to ``shards``.

IRIs are joined by a 64-bit hash instead of the string, which makes them integers without a dictionary join. Two IRIs
with one hash would be silently one entity, so the terms of a build are counted both ways (:meth:`Workspace.choose_key`)
and another salt is taken if the numbers differ: the result is exact, whatever the hash function does.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa

from mmkg.errors import BuildError
from mmkg.graph.spark import SparkTables
from mmkg.shards import TableWriter, table_glob

logger = logging.getLogger(__name__)

# Rows of a batch that leaves the engine: some hundred MB at most, even where each is a long description.
ROWS_PER_BATCH = 1 << 18
_SALTS = 8
_INCOMING = "incoming"
_NAME = re.compile(r"[a-z_]+")


@ibis.udf.scalar.builtin(name="hash", signature=(("string",), "uint64"))
def _hash_duckdb(text: str) -> int:  # type: ignore[empty-body]
    """DuckDB's 64-bit hash of a string."""


@ibis.udf.scalar.builtin(name="xxhash64", signature=(("string",), "int64"))
def _hash_spark(text: str) -> int:  # type: ignore[empty-body]
    """Spark's 64-bit hash of a string."""


@ibis.udf.agg.builtin(name="bit_or", signature=(("int64",), "int64"))
def unite(sources: int) -> int:  # type: ignore[empty-body]
    """All bits of a column of sources; Ibis' own ``bit_or`` does not compile for Spark."""


HASHES = {"duckdb": _hash_duckdb, "pyspark": _hash_spark}


def term_key(text: Any, *, engine: str, salt: int = 0) -> Any:
    """The 64-bit key of a term (a column of strings), null for null.

    Args:
        text: a column of strings.
        engine: the Ibis name of the engine, ``duckdb`` or ``pyspark``; each has its own hash.
        salt: 0 is the plain hash; others are taken when two terms of a build share a key.
    """
    key = HASHES[engine](text if salt == 0 else text + f"#{salt}")
    return text.isnull().ifelse(ibis.null(key.type()), key)


class Workspace:
    """Named intermediate tables on one connection, and ways in and out of them."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.engine: str = connection.name
        self.salt = 0
        self._views = 0
        self._spark = SparkTables(connection) if self.engine == "pyspark" else None
        if self.engine == "duckdb":  # whoever wants an order asks for it; keeping that of the input costs memory
            connection.raw_sql("SET preserve_insertion_order = false")
            # Between steps memory is kept instead of given back and asked for again: a tenth of the time.
            connection.raw_sql("SET allocator_flush_threshold = '2GB'")
            connection.raw_sql("SET allocator_bulk_deallocation_flush_threshold = '2GB'")

    def key(self, text: Any) -> Any:
        """The key of a column of terms, with this build's salt."""
        return term_key(text, engine=self.engine, salt=self.salt)

    def read(self, folders: Sequence[Path], table: str) -> Any:
        """All shards of a table in several folders, as one table that is scanned when asked."""
        if self._spark:
            return self._spark.read(folders, table)
        globs = [table_glob(folder, table) for folder in folders]
        self._views += 1
        name = f"{table}_{self._views}"  # Ibis would make a view that other cursors do not see
        self._connection.con.read_parquet(globs).create_view(name)
        return self._connection.table(name)

    def keep(self, name: str, expression: Any) -> Any:
        """Compute an expression now and keep it under a name; the engine may spill it to disk."""
        if self._spark:
            return self._spark.keep(name, expression)
        return self._connection.create_table(name, expression)

    def put(self, name: str, table: pa.Table) -> Any:
        """Bring an Arrow table in under a name."""
        if self._spark:
            return self._spark.put(name, table)
        # Not `create_table` of the Arrow table, for the reason given in `drop`.
        self._connection.con.register(_INCOMING, table)
        try:
            return self.keep(name, self._connection.table(_INCOMING))
        finally:
            self._connection.con.unregister(_INCOMING)

    def table(self, name: str) -> Any:
        """A table that was kept or put."""
        return self._connection.table(name)

    def drop(self, *names: str) -> None:
        """Forget tables that were kept, to free their memory."""
        for name in names:
            if not _NAME.fullmatch(name):
                raise BuildError(f"'{name}' is no name of an intermediate table.")
            if self._spark:
                self._spark.drop(name)
                continue
            # Not `drop_table`: Ibis 12 builds that statement in a way that sqlglot from 30 on no longer prints.
            self._connection.raw_sql(f"DROP TABLE IF EXISTS {name}")

    def stream(self, expression: Any, *, rows: int = ROWS_PER_BATCH) -> Iterator[pa.Table]:
        """The rows of an expression as Arrow tables of at most about `rows` rows, none of them empty."""
        for batch in self._batches(expression, rows):
            if batch.num_rows:
                yield pa.Table.from_batches([batch])

    def _batches(self, expression: Any, rows: int) -> Iterator[pa.RecordBatch]:
        if self._spark:
            return self._spark.batches(expression, rows)
        # Not `to_pyarrow_batches`: Ibis 12 asks DuckDB 2 for a method that it no longer has.
        cursor = self._connection.con.cursor()  # of its own, so that streams can be read side by side
        return iter(cursor.sql(self._connection.compile(expression)).to_arrow_reader(rows))

    def fetch(self, expression: Any) -> pa.Table:
        """All rows of a small expression."""
        if self._spark:
            return self._spark.fetch(expression)
        batches = list(self._batches(expression, ROWS_PER_BATCH))
        if not batches:
            return expression.schema().to_pyarrow().empty_table()
        return pa.Table.from_batches(batches)

    def fetch_one(self, expression: Any) -> dict[str, Any]:
        """The only row of an aggregate, by column."""
        return self.fetch(expression).to_pylist()[0]

    def count(self, table: Any) -> int:
        """How many rows an expression has."""
        return int(self.fetch_one(table.aggregate(rows=table.count()))["rows"])

    def write(self, folder: Path, table: str, expression: Any) -> int:
        """Write the rows of an ordered expression as a table of the build; returns how many."""
        with TableWriter(folder, table) as writer:
            for batch in self.stream(expression):
                writer.write(batch)
        return writer.rows

    def choose_key(self, terms: Any) -> None:
        """Take the first salt under which no two of the distinct terms share a key.

        Args:
            terms: a table with a column `term` of distinct strings.

        Raises:
            BuildError: there is none, so the engine's hash is broken.
        """
        for self.salt in range(_SALTS):
            keys = terms.aggregate(terms=terms.count(), keys=self.key(terms["term"]).nunique())
            counts = self.fetch_one(keys)
            if counts["terms"] == counts["keys"]:
                return
            logger.warning("two terms share a 64-bit key under salt %d; taking the next", self.salt)
        raise BuildError(
            f"two of {counts['terms']:,} terms share a 64-bit key under each of {_SALTS} salts: the hash of the engine "
            f"'{self.engine}' does not spread strings. Report this with the versions that `mmkg doctor` prints."
        )
