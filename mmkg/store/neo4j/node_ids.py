"""The server's own number of each node that a load names: looked up, read back, or told when the node was made."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import duckdb
import neo4j
import pyarrow as pa

from mmkg.errors import StoreError
from mmkg.store.cypher import IMAGE_TABLE, KEYS, NODE_TABLE
from mmkg.store.difference import Difference
from mmkg.store.digest import file_pattern
from mmkg.store.neo4j import statements

_LOOK_UP_ROWS = 10_000
READ_ROWS = 64 * 1024


class NodeIds:
    """The server's number of each entity and picture that a load has to name."""

    def __init__(self, folder: Path, *, memory_limit: str = "2GB") -> None:
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": memory_limit,
            "temp_directory": str(folder / "spill"),
            "preserve_insertion_order": False,
        }
        self._connection = duckdb.connect(config=settings)
        for label in KEYS:
            self._connection.execute(f"CREATE TABLE {_numbers_of(label)} (key VARCHAR, id BIGINT)")

    def __enter__(self) -> Self:
        """Use in a ``with`` block that closes it."""
        return self

    def __exit__(self, *error: object) -> None:
        """Give the memory back."""
        self._connection.close()

    def add_files(self, paths: Mapping[str, Path]) -> None:
        """Add what was read back: label → file."""
        for label, path in paths.items():
            query = f"INSERT INTO {_numbers_of(label)} SELECT key, id FROM read_parquet(?)"  # noqa: S608
            self._connection.execute(query, [file_pattern(path)])

    def add(self, label: str, keys: list[str], numbers: list[int]) -> None:
        """Add nodes that were just made or looked up."""
        rows = pa.table({"key": pa.array(keys, pa.string()), "id": pa.array(numbers, pa.int64())})
        self._connection.register("new_ids", rows)
        self._connection.execute(f"INSERT INTO {_numbers_of(label)} SELECT key, id FROM new_ids")  # noqa: S608
        self._connection.unregister("new_ids")

    def look_up(self, session: neo4j.Session, difference: Difference) -> None:
        """Ask the server for the numbers of all nodes that a difference names and that are there before it.

        Raises:
            StoreError: one is not there.
        """
        links = (difference.image_links_added, difference.image_links_changed, difference.image_links_removed)
        links_there = [path for path in links if path is not None]
        edges = [
            path
            for files in (difference.edges_added, difference.edges_changed, difference.edges_removed)
            for path in files.values()
        ]
        entities = _keys(("entity_id",), (difference.nodes_changed, difference.nodes_removed))
        entities += _keys(("from", "to"), edges) + _keys(("from",), links_there)
        self._look_up(session, NODE_TABLE, entities, difference.nodes_added)
        images = _keys(("sha256",), (difference.images_changed, difference.images_removed)) + _keys(
            ("to",), links_there
        )
        self._look_up(session, IMAGE_TABLE, images, difference.images_added)

    def _look_up(self, session: neo4j.Session, label: str, named: list[str], added: Path | None) -> None:
        """Ask for the nodes that some queries name, but not for those that are added."""
        if not named:
            return
        query = " UNION ".join(named)
        if added is not None:
            [new] = _keys((KEYS[label],), (added,))
            query = f"SELECT key FROM ({query}) WHERE key NOT IN ({new})"  # noqa: S608
        wanted = [row[0] for row in self._connection.sql(f"SELECT DISTINCT key FROM ({query})").fetchall()]  # noqa: S608
        for first in range(0, len(wanted), _LOOK_UP_ROWS):
            self.add(label, *find_nodes(session, wanted[first : first + _LOOK_UP_ROWS], label))

    def numbers(self, label: str, path: Path) -> dict[str, int]:
        """Numbers of the nodes of a Parquet file with their key."""
        query = f"SELECT key, id FROM read_parquet(?) JOIN {_numbers_of(label)} ON key = {KEYS[label]}"  # noqa: S608
        with self._connection.cursor() as cursor:  # asked by the thread that makes batches
            return dict(cursor.execute(query, [file_pattern(path)]).fetchall())

    def image_links(self, path: Path, columns: Sequence[str] = ()) -> Iterator[pa.RecordBatch]:
        """Links to pictures with the numbers of their ends: columns head, tail and those of the file that are named."""
        more = "".join(f", {column}" for column in columns)
        with self._connection.cursor() as cursor:
            yield from cursor.sql(
                f"SELECT h.id AS head, t.id AS tail{more} FROM read_parquet($file) "  # noqa: S608
                f'JOIN {_numbers_of(NODE_TABLE)} h ON h.key = "from" '
                f'JOIN {_numbers_of(IMAGE_TABLE)} t ON t.key = "to" ORDER BY head, tail',
                params={"file": file_pattern(path)},
            ).to_arrow_reader(READ_ROWS)

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
                f'JOIN types ON filename = file JOIN {_numbers_of(NODE_TABLE)} h ON h.key = "from" '
                f'JOIN {_numbers_of(NODE_TABLE)} t ON t.key = "to" '
                "ORDER BY type, head, tail",
                params={"files": [file_pattern(path) for path in files.values()]},
            ).to_arrow_reader(READ_ROWS)


def _numbers_of(label: str) -> str:
    """Name of the table of the numbers of nodes."""
    return f"ids_of_{label}"


def _keys(columns: Sequence[str], paths: Iterable[Path | None]) -> list[str]:
    """Queries for the keys of nodes in some columns of Parquet files, one for all that there are."""
    listed = ", ".join(f"'{_quoted(path)}'" for path in paths if path is not None)
    if not listed:
        return []
    named = ", ".join(f'"{column}"' for column in columns)
    return [f"SELECT unnest([{named}]) AS key FROM read_parquet([{listed}])"]  # noqa: S608


def find_nodes(session: neo4j.Session, keys: list[str], label: str = NODE_TABLE) -> tuple[list[str], list[int]]:
    """Keys of nodes and their numbers, as they come.

    Raises:
        StoreError: one is not there.
    """
    found = session.run(statements.find_nodes(label), {"ids": keys}).values()
    if len(found) != len(keys):
        missing = next(iter(set(keys) - {key for key, _ in found}), "a node twice")
        raise StoreError(
            f"the store changes while it is loaded: {missing} is no longer as it was. Somebody else writes into it; "
            "stop that, then run the same again."
        )
    return [key for key, _ in found], [number for _, number in found]


def _quoted(path: Path) -> str:
    return file_pattern(path).replace("'", "''")
