"""What a workspace does in another way on Spark: tables come in, are kept and go out as Parquet files.

Where a fact stands here: as in :mod:`mmkg.graph.workspace`, whose Spark half this is. An intermediate table is a folder
of Parquet files in the engine's spill folder and a temporary view on it. Nothing goes through the driver's memory that
is not small, a lost executor can read it again, no later step computes it twice, and no catalogue is touched. With a
cluster the folder lies on a file system that all machines see.

Rows that leave in order are sorted by the cluster into files (part-00000, part-00001, …: one range each), and the files
are read one after the other.
"""

import itertools
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmkg.engine import SPARK_SPILL_SETTING
from mmkg.errors import BuildError

_PART = re.compile(r"part-(\d+)-.*\.parquet")
_PATTERN_CHARACTERS = re.compile(r"([\\*?\[\]{}])")  # Hadoop reads a path as a pattern


class SparkTables:
    """The tables of one workspace on one Spark session.

    Args:
        connection: an Ibis connection that :func:`mmkg.engine.open_engine` gave.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._session = connection._session
        self._folder = Path(self._session.conf.get(SPARK_SPILL_SETTING))
        self._numbers = itertools.count()

    def read(self, folders: Sequence[Path], table: str) -> Any:
        """All shards of a table in several folders, as one table that is scanned when asked."""
        paths = [path for folder in folders for path in sorted((folder / table).glob("part-*.parquet"))]
        return self._view(f"{table}_{next(self._numbers)}", paths, pq.read_schema(paths[0]))

    def keep(self, name: str, expression: Any) -> Any:
        """Compute an expression now and keep it under a name."""
        folder = self._fresh(name)
        self._write(expression, folder)
        return self._view(name, [folder], expression.schema().to_pyarrow())

    def put(self, name: str, table: pa.Table) -> Any:
        """Bring an Arrow table in under a name."""
        folder = self._fresh(name)
        folder.mkdir()
        pq.write_table(table, folder / "part-0.parquet")
        return self._view(name, [folder], table.schema)

    def drop(self, name: str) -> None:
        """Forget a table that was kept or put, and free its disk."""
        self._session.catalog.dropTempView(name)
        for folder in self._folder.glob(f"{name}-*"):
            shutil.rmtree(folder)

    def batches(self, expression: Any, rows: int) -> Iterator[pa.RecordBatch]:
        """The rows of an expression in its order, at most `rows` at a time."""
        folder = self._fresh("stream")
        self._write(expression, folder)
        try:
            for path in sorted(folder.glob("part-*.parquet"), key=_part_number):
                with pq.ParquetFile(path) as file:
                    yield from file.iter_batches(batch_size=rows)
        finally:
            shutil.rmtree(folder)

    def fetch(self, expression: Any) -> pa.Table:
        """All rows of a small expression, through the driver's memory."""
        return self._frame(expression).toArrow()

    def _fresh(self, name: str) -> Path:
        return self._folder / f"{name}-{next(self._numbers)}"

    def _frame(self, expression: Any) -> Any:
        """An expression as a data frame whose columns have the types that Ibis promises.

        Spark's own are narrower in places: a literal, a row number or a count of characters is 32 bits wide there, and
        what is computed of them later would overflow where DuckDB's 64 bits do not.
        """
        from ibis.backends.pyspark.datatypes import PySparkSchema

        frame = self._session.sql(self._connection.compile(expression))
        promised = PySparkSchema.from_ibis(expression.schema())
        columns = [
            frame[field.name] if field.dataType == given.dataType else frame[field.name].cast(field.dataType)
            for field, given in zip(promised, frame.schema, strict=True)
        ]
        return frame.select([column.alias(field.name) for column, field in zip(columns, promised, strict=True)])

    def _write(self, expression: Any, folder: Path) -> None:
        writer = self._frame(expression).write.option("mapreduce.fileoutputcommitter.marksuccessfuljobs", "false")
        writer.parquet(f"file://{folder}")
        if not folder.is_dir():
            raise BuildError(
                f"{folder}: Spark has written a table here, and this machine does not see it. With a cluster, "
                "graph.output has to be on a file system that all machines see under one path."
            )

    def _view(self, name: str, paths: Sequence[Path], schema: pa.Schema) -> Any:
        """A view on files whose columns are known, which spares Spark a job that asks for them."""
        from pyspark.sql.pandas.types import from_arrow_schema

        plain = pa.schema(
            [f.with_type(f.type.value_type) if pa.types.is_dictionary(f.type) else f for f in schema],
        )
        frame = self._session.read.schema(from_arrow_schema(plain)).parquet(*map(_as_pattern, paths))
        frame.createOrReplaceTempView(name)
        return self._connection.table(name)


def _part_number(path: Path) -> int:
    found = _PART.fullmatch(path.name)
    if found is None:
        raise BuildError(f"{path}: no file of a table of Spark.")
    return int(found[1])


def _as_pattern(path: Path) -> str:
    """The pattern that only one path fits, of this machine's file system whatever the cluster's default is."""
    return "file://" + _PATTERN_CHARACTERS.sub(r"\\\1", str(path.resolve()))
