"""Opening Ladybug databases, and its errors as ours. The only module that imports the engine.

A database is one file; beside it a write-ahead log (``.wal``) while it is written and not yet checkpointed, and shadow
files during a checkpoint. A finished store has only the file.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ladybug
import pyarrow as pa

from mmkg.errors import StoreError

logger = logging.getLogger(__name__)

ENGINE = f"ladybug {ladybug.__version__}"
# Address space that a database may use, not memory: the engine's default of 8 TiB leaves room for 15 open ones.
_ADDRESS_SPACE = 1 << 40
_SIDE_FILES = (".wal", ".shadow", ".tmp", ".lock", ".wal.checkpoint")


@contextmanager
def writable_database(path: Path, *, buffer_bytes: int) -> Iterator[ladybug.Connection]:
    """A new database at a path where there is none; checkpointed into one file at the end, and by the caller between.

    Raises:
        StoreError: the engine cannot make it, or leaves files beside it.
    """
    try:
        # Each automatic checkpoint is a flush to disk and writes the catalogue of all tables: with 160 small
        # relationship tables, a load of 12 s instead of 2.4 s.
        database = ladybug.Database(
            str(path), buffer_pool_size=buffer_bytes, max_db_size=_ADDRESS_SPACE, auto_checkpoint=False
        )
    except RuntimeError as error:
        raise StoreError(f"{path}: the database cannot be made: {error}") from error
    try:
        with ladybug.Connection(database) as connection:
            yield connection
            connection.execute("CHECKPOINT").close()
    finally:
        database.close()
    left = [str(path) + suffix for suffix in _SIDE_FILES if Path(str(path) + suffix).exists()]
    if left:
        raise StoreError(f"{path}: the checkpoint left {', '.join(left)}. Is the disk full?")


def open_database(path: Path, *, buffer_bytes: int) -> ladybug.Database:
    """A finished database, read-only: several processes may have it open.

    Raises:
        StoreError: the engine cannot read it.
    """
    try:
        return ladybug.Database(str(path), read_only=True, buffer_pool_size=buffer_bytes, max_db_size=_ADDRESS_SPACE)
    except RuntimeError as error:
        raise StoreError(f"{path}: the database cannot be opened: {error}. Run `mmkg build` again.") from error


def fetch_rows(
    connection: ladybug.Connection, cypher: str, parameters: Mapping[str, Any] | None = None
) -> list[list[Any]]:
    """All rows of one of our own statements.

    Raises:
        StoreError: the engine refuses it.
    """
    try:
        with connection.execute(cypher, dict(parameters or {})) as result:
            rows: list[list[Any]] = result.get_all()
            return rows
    except RuntimeError as error:
        raise StoreError(f"the store refuses `{cypher[:200]}`: {error}") from error


def fetch_table(connection: ladybug.Connection, cypher: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
    """The answer of one of our own statements as a table. With `fetch_rows`, a day before year 1 ends the process.

    Raises:
        StoreError: the engine refuses it.
    """
    try:
        with connection.execute(cypher, dict(parameters or {})) as result:
            return result.get_as_arrow()
    except RuntimeError as error:
        raise StoreError(f"the store refuses `{cypher[:200]}`: {error}") from error
