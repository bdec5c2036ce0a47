"""Two files of nodes, or two sets of files of edges, held against each other: what was added, changed and removed.

Rows are hashed and joined by key. Nodes are compared by the text of their digest, edges by two hashes of 64 bits.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmkg.errors import StoreError
from mmkg.store.columns import EDGES, parquet_options
from mmkg.store.content import Content
from mmkg.store.digest import column_aliases, file_pattern, image_text, node_text

EDGE_KEYS = pa.schema([EDGES.field("from"), EDGES.field("to")])
# Column of changed nodes: names of properties that the old row has and the new one has not. No property is called so.
REMOVE = "-remove"
_ROWS_PER_BATCH = 128 * 1024


# --- nodes -----------------------------------------------------------------------------------------------------------


class Side(NamedTuple):
    """The nodes of one kind of one content; the first column is their key."""

    content: Content
    file: Path | None
    schema: pa.Schema


def compare_nodes(
    connection: duckdb.DuckDBPyConnection, sides: tuple[Side, Side], what: str, folder: Path
) -> dict[str, tuple[Path, int]]:
    """Field of `Difference` → file and its rows; `what` is ``nodes`` or ``images``."""
    old, new = sides
    text = node_text if what == "nodes" else image_text
    for name, side, prefix in (("old", old, "o"), ("new", new, "n")):
        source = _source(connection, f"empty_{name}", side.file, side.schema)
        connection.execute(
            f"CREATE OR REPLACE TEMP VIEW {name}_nodes AS SELECT * FROM {source} "  # noqa: S608
            f"AS nodes({column_aliases(side.schema, prefix)})"
        )
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {name}_hashes AS SELECT {prefix}0 AS id, count(*) AS times, "  # noqa: S608
            f"any_value(md5_number({text(side.schema, prefix)})) AS hash FROM {name}_nodes GROUP BY id"
        )
        twice = connection.execute(f"SELECT id FROM {name}_hashes WHERE times > 1 LIMIT 1").fetchall()  # noqa: S608
        if twice:
            kind = "entity" if what == "nodes" else "picture"
            raise StoreError(
                f"{side.content.folder}: the {kind} {twice[0][0]} is there twice. A store holds each once: remove its "
                "nodes and load again."
            )
    connection.execute(
        """
        CREATE OR REPLACE TEMP TABLE changed_nodes AS
        SELECT coalesce(n.id, o.id) AS id,
               CASE WHEN n.times IS NULL THEN 'removed' WHEN o.times IS NULL THEN 'added' ELSE 'changed' END AS kind
        FROM new_hashes n FULL JOIN old_hashes o ON n.id = o.id
        WHERE n.hash IS DISTINCT FROM o.hash
        """
    )
    columns = column_aliases(new.schema, "n")
    removed = pa.field(REMOVE, pa.list_(pa.string()), nullable=False)
    asked = {
        "added": (
            f"SELECT {columns} FROM new_nodes JOIN changed_nodes ON n0 = id WHERE kind = 'added' ORDER BY n0",  # noqa: S608
            new.schema,
        ),
        "changed": (
            f"SELECT {columns}, {_properties_gone(old, new)} FROM new_nodes JOIN changed_nodes ON n0 = id "  # noqa: S608
            "JOIN old_nodes ON o0 = id WHERE kind = 'changed' ORDER BY n0",
            new.schema.append(removed),
        ),
        "removed": (
            "SELECT id FROM changed_nodes WHERE kind = 'removed' ORDER BY id",
            pa.schema([new.schema.field(0)]),
        ),
    }
    files = {}
    for kind, (query, schema) in asked.items():
        path = folder / f"{what}_{kind}.parquet"
        if rows := _write(connection.sql(query).to_arrow_reader(_ROWS_PER_BATCH), path, schema):
            files[f"{what}_{kind}"] = (path, rows)
    return files


def _source(connection: duckdb.DuckDBPyConnection, name: str, file: Path | None, schema: pa.Schema) -> str:
    """SQL for the rows of a file; without one, for no rows of its columns, registered under the name."""
    if file is not None:
        return f"read_parquet('{_quoted(file)}')"
    connection.register(name, schema.empty_table())
    return name


def _properties_gone(old: Side, new: Side) -> str:
    """SQL for the names of the properties that a node had and no longer has."""
    positions = {name: position for position, name in enumerate(new.schema.names)}
    cases = []
    for position, name in enumerate(old.schema.names):
        if name in ("types", "aliases"):  # null and empty are one there
            continue
        gone = f" AND n{positions[name]} IS NULL" if name in positions else ""
        quoted = name.replace("'", "''")
        cases.append(f"CASE WHEN o{position} IS NOT NULL{gone} THEN '{quoted}' END")
    return f"list_filter([{', '.join(cases)}], lambda name: name IS NOT NULL)"


# --- edges -----------------------------------------------------------------------------------------------------------

ByType: TypeAlias = dict[str, tuple[Path, int]]


def compare_edges(
    connection: duckdb.DuckDBPyConnection,
    contents: tuple[Content, Content],
    edges: tuple[Mapping[str, Path], Mapping[str, Path]],
    names: list[str],
    schema: pa.Schema,
    what: str,
    folder: Path,
) -> dict[str, ByType]:
    """Field of `Difference` → type → file and its rows. All types are compared in one join.

    Args:
        connection: of the relational engine.
        contents: the old one and the new one.
        edges: of each, type → file; all files have one schema.
        names: of the types that differ.
        schema: of the files; its first two columns are the ends.
        what: ``edges`` or ``image_links``, with which the fields begin.
        folder: for the files.

    Raises:
        StoreError: the new side holds an edge twice.
    """
    old, new = edges
    files: dict[str, ByType] = {f"{what}_{kind}": {} for kind in ("added", "changed", "removed")}
    for name in names:
        if name not in old:
            files[f"{what}_added"][name] = (new[name], contents[1].digest.counts[name])
    names = [name for name in names if name in old]
    if not names:
        return files
    for side, paths, prefix in (("old", old, "o"), ("new", new, "n")):
        _register_edges(connection, side, paths, names, schema, prefix)
    _narrow_down(connection, schema)
    connection.execute(
        """
        CREATE OR REPLACE TEMP TABLE changed_edges AS
        SELECT coalesce(n.type, o.type) AS type, coalesce(n.start, o.start) AS start, coalesce(n.stop, o.stop) AS stop,
               n.times IS NOT NULL AND (o.times IS NULL OR o.times > 1) AS added,
               o.times IS NOT NULL AND (n.times IS NULL OR o.times > 1) AS removed,
               n.times > 1 AS twice
        FROM new_sums n FULL JOIN old_sums o ON n.type = o.type AND n.start = o.start AND n.stop = o.stop
        WHERE n.hash IS DISTINCT FROM o.hash OR o.times > 1 OR n.times > 1
        """
    )
    twice = connection.execute("SELECT type, start, stop FROM changed_edges WHERE twice LIMIT 1").fetchall()
    if twice:
        type_, start, stop = twice[0]
        raise StoreError(
            f"{contents[1].folder}: the edge ({start})-[:{names[type_]}]->({stop}) is there twice. Build it again."
        )
    new_rows = "SELECT n.* FROM new_edges n JOIN changed_edges c ON type = n0 AND start = n1 AND stop = n2"
    asked = {
        "added": (f"{new_rows} WHERE added ORDER BY n0, n1, n2", schema),
        "changed": (f"{new_rows} WHERE NOT added ORDER BY n0, n1, n2", schema),
        "removed": ("SELECT type, start, stop FROM changed_edges WHERE removed ORDER BY ALL", EDGE_KEYS),
    }
    for kind, (query, columns) in asked.items():
        reader = connection.sql(query).to_arrow_reader(_ROWS_PER_BATCH)
        files[f"{what}_{kind}"] |= _write_by_type(reader, folder, f"{what}_{kind}", names, columns)
    return files


def _register_edges(
    connection: duckdb.DuckDBPyConnection,
    side: str,
    edges: Mapping[str, Path],
    names: list[str],
    schema: pa.Schema,
    prefix: str,
) -> None:
    """Make the view `*_edges` of all rows, its first column the position in `names`."""
    files = [(position, edges[name]) for position, name in enumerate(names) if name in edges]
    schema = pa.schema([pa.field("type", pa.int32()), *schema])
    aliases = column_aliases(schema, prefix)
    if files:
        types = {"file": [str(path) for _, path in files], "type": pa.array([p for p, _ in files], pa.int32())}
        connection.register(f"{side}_files", pa.table(types))
        patterns = ", ".join(f"'{_quoted(path)}'" for path in (path for _, path in files))
        columns = aliases.split(", ", 1)[1]
        source = (
            f"SELECT type AS {prefix}0, {columns} FROM read_parquet([{patterns}], filename = true) "  # noqa: S608
            f"AS edges({columns}, filename) JOIN {side}_files ON filename = file"
        )
    else:
        source = f"SELECT * FROM {_source(connection, f'no_{side}_edges', None, schema)} AS edges({aliases})"  # noqa: S608
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {side}_edges AS {source}")


def _narrow_down(connection: duckdb.DuckDBPyConnection, schema: pa.Schema) -> None:
    """Make the tables `*_sums`: by ends, the rows that are not the same on both sides, and all others of these ends.

    Rows are told apart by two hashes of 64 bits, so that what is the same, nearly everything, is never held as text.
    """
    rows = {}
    for side, prefix in (("old", "o"), ("new", "n")):
        columns = [f"{prefix}0"]
        for position, column in enumerate(schema, start=1):
            # `hash` takes -0 for 0, and a digest does not
            columns.append(f"{prefix}{position}" + ("::VARCHAR" if column.type == pa.float64() else ""))
        hashes = f"hash({', '.join(columns)}) AS one, hash({', '.join(columns[::-1])}) AS two"
        rows[side] = f"SELECT {prefix}0 AS type, {prefix}1 AS start, {prefix}2 AS stop, {hashes} FROM {side}_edges"  # noqa: S608
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {side}_edge_hashes AS SELECT one, two, count(*) AS times "  # noqa: S608
            f"FROM ({rows[side]}) GROUP BY ALL"
        )
    connection.execute(
        """
        CREATE OR REPLACE TEMP TABLE other_hashes AS
        SELECT coalesce(n.one, o.one) AS one, coalesce(n.two, o.two) AS two
        FROM new_edge_hashes n FULL JOIN old_edge_hashes o ON n.one = o.one AND n.two = o.two
        WHERE n.times IS DISTINCT FROM o.times
        """
    )
    found = [f"SELECT type, start, stop FROM ({rows[side]}) SEMI JOIN other_hashes USING (one, two)" for side in rows]  # noqa: S608
    connection.execute(f"CREATE OR REPLACE TEMP TABLE candidates AS {' UNION '.join(found)}")
    for side in rows:
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {side}_sums AS SELECT type, start, stop, count(*) AS times, "  # noqa: S608
            f"any_value(hash((one, two))) AS hash FROM ({rows[side]}) SEMI JOIN candidates USING (type, start, stop) "
            "GROUP BY type, start, stop"
        )


def _write_by_type(
    reader: pa.RecordBatchReader, folder: Path, kind: str, names: list[str], schema: pa.Schema
) -> dict[str, tuple[Path, int]]:
    """Write rows that are sorted by their first column, the type's position, into a file for each type."""
    files: dict[str, tuple[Path, int]] = {}
    writer: pq.ParquetWriter | None = None
    open_type = -1
    try:
        for batch in reader:
            types = batch.column(0).to_numpy()
            starts = np.flatnonzero(np.diff(types, prepend=-1))
            for start, end in zip(starts, np.append(starts[1:], len(types)), strict=True):
                if types[start] != open_type:
                    if writer is not None:
                        writer.close()
                    open_type = int(types[start])
                    path = folder / f"{kind}-{open_type:06d}.parquet"
                    files[names[open_type]] = (path, 0)
                    writer = pq.ParquetWriter(path, schema, **parquet_options(_repeated(schema)))
                path, rows = files[names[open_type]]
                columns = [column.slice(start, end - start) for column in batch.columns[1:]]
                if writer is not None:
                    writer.write_table(pa.Table.from_arrays(columns, names=schema.names).cast(schema))
                files[names[open_type]] = (path, rows + int(end - start))
    finally:
        if writer is not None:
            writer.close()
    return files


def _write(reader: pa.RecordBatchReader, path: Path, schema: pa.Schema) -> int:
    """Write rows into a file, if there are any; returns how many."""
    rows = 0
    writer: pq.ParquetWriter | None = None
    try:
        for batch in reader:
            if writer is None:
                writer = pq.ParquetWriter(path, schema, **parquet_options(_repeated(schema)))
            writer.write_table(pa.Table.from_arrays(batch.columns, names=schema.names).cast(schema))
            rows += batch.num_rows
    finally:
        if writer is not None:
            writer.close()
    return rows


def _repeated(schema: pa.Schema) -> list[str]:
    return [
        name
        for name in ("types", "relation_id", "sources", "source_page", "licence", "author", "format", REMOVE)
        if name in schema.names
    ]


def _quoted(path: Path) -> str:
    """A path for ``read_parquet`` inside quotes: views take no parameters."""
    return file_pattern(path).replace("'", "''")
