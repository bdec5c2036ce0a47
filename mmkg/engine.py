"""The engine of the relational steps: an Ibis connection, DuckDB in this process or Spark when one machine is outgrown.

The steps in ``graph/`` are Ibis expressions, so they do not know which engine runs them.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import ibis

from mmkg.config import GraphConfig
from mmkg.errors import ConfigError, require


@contextlib.contextmanager
def open_engine(config: GraphConfig, spill_folder: Path | None = None) -> Iterator[ibis.BaseBackend]:
    """Open the engine of a config for the time of a ``with`` block.

    Args:
        config: names the engine, its memory limit and its number of workers.
        spill_folder: where an engine that is out of memory puts what does not fit; a temporary folder unless given.

    Raises:
        NotInstalled: the engine is Spark and its extra is missing.
        ConfigError: the engine does not accept the memory limit.
    """
    if spill_folder is not None:
        spill_folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mmkg-spill-", dir=spill_folder) as spill:
        connection = _spark(config) if config.engine == "spark" else _duckdb(config, Path(spill))
        try:
            yield connection
        finally:
            connection.disconnect()


def _duckdb(config: GraphConfig, spill: Path) -> ibis.BaseBackend:
    threads = config.workers or os.cpu_count() or 1
    try:
        return ibis.duckdb.connect(
            ":memory:", memory_limit=config.memory_limit, temp_directory=str(spill), threads=threads
        )
    except Exception as error:
        if "memory" in str(error).lower():
            raise ConfigError(f"graph.memory_limit: DuckDB does not accept '{config.memory_limit}': {error}") from error
        raise


def _spark(config: GraphConfig) -> ibis.BaseBackend:
    require("pyspark", extra="spark", needed_by="graph.engine = 'spark'")
    from pyspark.sql import SparkSession  # type: ignore[import-not-found,unused-ignore]

    builder = SparkSession.builder.appName(f"mmkg {config.name}")
    builder = builder.config("spark.driver.memory", f"{memory_mebibytes(config.memory_limit)}m")
    return ibis.pyspark.connect(builder.getOrCreate())


def memory_mebibytes(limit: str) -> int:
    """A memory limit such as ``4GB`` or ``1.5 GiB`` in whole MiB; Spark takes no fractions and no powers of ten.

    >>> memory_mebibytes("1.5 GiB"), memory_mebibytes("4GB")
    (1536, 3814)
    """
    number, unit = limit.rstrip("iBMGT").strip(), limit.lstrip("0123456789. ")
    power = "MGT".index(unit[0]) + 2
    base = 1024 if unit[1] == "i" else 1000
    return max(1, int(float(number) * base**power / 2**20))
