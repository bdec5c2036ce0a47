"""What has to change in a store that holds one content, so that it holds another.

Both sides are hashed row by row and joined by key, so the cost grows with their size and the result with what differs.
Relationship types with the same digest on both sides are not read at all.

The order in which to apply it: edges removed, nodes removed (all their edges are among the edges removed), nodes added,
nodes changed, edges added, edges changed. An edge that the old side holds more than once is removed and, if the new
side has it, added: so removing one means all edges of its type between its ends.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmkg.errors import StoreError
from mmkg.store.content import Content
from mmkg.store.digest import NODES, column_aliases, file_pattern, node_text
from mmkg.store.prepare import EDGES, nodes_schema, parquet_options

NODE_KEYS = pa.schema([pa.field("entity_id", pa.string(), nullable=False)])
EDGE_KEYS = pa.schema([EDGES.field("from"), EDGES.field("to")])
# Column of `nodes_changed`: names of properties that the old row has and the new one has not. No property is called so.
REMOVE = "-remove"
_ROWS_PER_BATCH = 128 * 1024


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Parquet files of what changes; a side without changes has none. Sorted by entity_id, edges by from and to."""

    nodes_added: Path | None = None  # columns of the new side's `nodes_schema`
    nodes_changed: Path | None = None  # the same, whole new rows, and the column REMOVE
    nodes_removed: Path | None = None  # NODE_KEYS
    edges_added: Mapping[str, Path] = field(default_factory=dict)  # relationship type → columns of EDGES
    edges_changed: Mapping[str, Path] = field(default_factory=dict)  # new rows, columns of EDGES
    edges_removed: Mapping[str, Path] = field(default_factory=dict)  # EDGE_KEYS
    counts: Mapping[str, int]  # rows of each of the fields above, by the field's name
    edge_counts: Mapping[str, Mapping[str, int]]  # "edges_added" … → relationship type → rows

    @property
    def num_changes(self) -> int:
        """Rows in all files together."""
        return sum(self.counts.values())

    @property
    def is_empty(self) -> bool:
        """Whether nothing has to change."""
        return not self.num_changes

    def examples(self, limit: int = 3) -> list[str]:
        """A few of the changes in words, of each kind at most `limit`."""
        found = []
        for kind, path in (
            ("added", self.nodes_added),
            ("changed", self.nodes_changed),
            ("removed", self.nodes_removed),
        ):
            ids = [] if path is None else _head(path, ["entity_id"], limit)
            found += [f"entity {kind}: {entity_id}" for (entity_id,) in ids]
        edges = (("added", self.edges_added), ("changed", self.edges_changed), ("removed", self.edges_removed))
        for kind, files in edges:
            rows = ((name, *ends) for name, path in files.items() for ends in _head(path, ["from", "to"], limit))
            for _, (name, start, end) in zip(range(limit), rows, strict=False):
                found.append(f"relationship {kind}: ({start})-[:{name}]->({end})")
        return found


def _head(path: Path, columns: list[str], rows: int) -> list[tuple[str, ...]]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(rows, columns=columns):
            return [tuple(row.values()) for row in batch.to_pylist()]
    return []


def find_difference(old: Content | None, new: Content, work_folder: Path, *, memory_limit: str = "2GB") -> Difference:
    """Find what turns a store that holds `old` into one that holds `new`.

    Args:
        old: None for an empty store; then the files are those of `new`.
        new: holds no edge and no entity twice, as content made from tables does.
        work_folder: is made; files of an earlier difference there are replaced.
        memory_limit: of the relational engine; beyond it, it spills into the folder.

    Raises:
        StoreError: `new` holds an entity or an edge twice, or `old` an entity.
    """
    if old is None:
        added = {name: new.digest.counts[name] for name in new.edges}
        counts = {"nodes_added": new.digest.num_nodes, "edges_added": new.digest.num_edges}
        nodes = new.nodes if new.digest.num_nodes else None
        return Difference(nodes_added=nodes, edges_added=new.edges, counts=counts, edge_counts={"edges_added": added})
    work_folder.mkdir(parents=True, exist_ok=True)
    for path in work_folder.glob("*.parquet"):
        path.unlink()
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": memory_limit,
        "temp_directory": str(work_folder / "spill"),
        "preserve_insertion_order": False,
    }
    with duckdb.connect(config=settings) as connection:
        node_files = _compare_nodes(connection, old, new, work_folder) if _differ(old, new, NODES) else {}
        edge_files = _compare_edges(connection, old, new, work_folder)
    paths = {kind: path for kind, (path, _) in node_files.items()}
    edges = {kind: {name: path for name, (path, _) in files.items()} for kind, files in edge_files.items()}
    edge_counts = {kind: {name: rows for name, (_, rows) in files.items()} for kind, files in edge_files.items()}
    counts = {kind: rows for kind, (_, rows) in node_files.items()}
    counts |= {kind: sum(types.values()) for kind, types in edge_counts.items() if types}
    return Difference(
        nodes_added=paths.get("nodes_added"),
        nodes_changed=paths.get("nodes_changed"),
        nodes_removed=paths.get("nodes_removed"),
        edges_added=edges["edges_added"],
        edges_changed=edges["edges_changed"],
        edges_removed=edges["edges_removed"],
        counts=counts,
        edge_counts=edge_counts,
    )


def _differ(old: Content, new: Content, name: str) -> bool:
    before, now = old.digest, new.digest
    return (before.parts.get(name), before.counts.get(name)) != (now.parts.get(name), now.counts.get(name))


# --- nodes -----------------------------------------------------------------------------------------------------------


def _compare_nodes(
    connection: duckdb.DuckDBPyConnection, old: Content, new: Content, folder: Path
) -> dict[str, tuple[Path, int]]:
    """Field of `Difference` → file and its rows."""
    for side, content, prefix in (("old", old, "o"), ("new", new, "n")):
        schema = nodes_schema(content.model.properties)
        connection.execute(
            f"CREATE TEMP VIEW {side}_nodes AS SELECT * FROM read_parquet('{_quoted(content.nodes)}') "  # noqa: S608
            f"AS nodes({column_aliases(schema, prefix)})"
        )
        connection.execute(
            f"CREATE TEMP TABLE {side}_hashes AS SELECT {prefix}0 AS id, count(*) AS times, "  # noqa: S608
            f"any_value(md5_number({node_text(schema, prefix)})) AS hash FROM {side}_nodes GROUP BY id"
        )
        twice = connection.execute(f"SELECT id FROM {side}_hashes WHERE times > 1 LIMIT 1").fetchall()  # noqa: S608
        if twice:
            raise StoreError(
                f"{content.folder}: the entity {twice[0][0]} is there twice. A store holds each once: remove its nodes "
                "and load again."
            )
    connection.execute(
        """
        CREATE TEMP TABLE changed_nodes AS
        SELECT coalesce(n.id, o.id) AS id,
               CASE WHEN n.times IS NULL THEN 'removed' WHEN o.times IS NULL THEN 'added' ELSE 'changed' END AS kind
        FROM new_hashes n FULL JOIN old_hashes o ON n.id = o.id
        WHERE n.hash IS DISTINCT FROM o.hash
        """
    )
    schema = nodes_schema(new.model.properties)
    columns = column_aliases(schema, "n")
    removed = pa.field(REMOVE, pa.list_(pa.string()), nullable=False)
    asked = {
        "nodes_added": (
            f"SELECT {columns} FROM new_nodes JOIN changed_nodes ON n0 = id WHERE kind = 'added' ORDER BY n0",  # noqa: S608
            schema,
        ),
        "nodes_changed": (
            f"SELECT {columns}, {_properties_gone(old, new)} FROM new_nodes JOIN changed_nodes ON n0 = id "  # noqa: S608
            "JOIN old_nodes ON o0 = id WHERE kind = 'changed' ORDER BY n0",
            schema.append(removed),
        ),
        "nodes_removed": ("SELECT id FROM changed_nodes WHERE kind = 'removed' ORDER BY id", NODE_KEYS),
    }
    files = {}
    for kind, (query, kind_schema) in asked.items():
        path = folder / f"{kind}.parquet"
        if rows := _write(connection.sql(query).to_arrow_reader(_ROWS_PER_BATCH), path, kind_schema):
            files[kind] = (path, rows)
    return files


def _properties_gone(old: Content, new: Content) -> str:
    """SQL for the names of the properties that a node had and no longer has."""
    positions = {name: position for position, name in enumerate(nodes_schema(new.model.properties).names)}
    cases = []
    for position, name in enumerate(nodes_schema(old.model.properties).names):
        if name in ("types", "aliases"):  # null and empty are one there
            continue
        gone = f" AND n{positions[name]} IS NULL" if name in positions else ""
        quoted = name.replace("'", "''")
        cases.append(f"CASE WHEN o{position} IS NOT NULL{gone} THEN '{quoted}' END")
    return f"list_filter([{', '.join(cases)}], lambda name: name IS NOT NULL)"


# --- edges -----------------------------------------------------------------------------------------------------------


def _compare_edges(
    connection: duckdb.DuckDBPyConnection, old: Content, new: Content, folder: Path
) -> dict[str, dict[str, tuple[Path, int]]]:
    """Field of `Difference` → relationship type → file and its rows. All types are compared in one join."""
    files: dict[str, dict[str, tuple[Path, int]]] = {"edges_added": {}, "edges_changed": {}, "edges_removed": {}}
    types = sorted(name for name in {*old.edges, *new.edges} if _differ(old, new, name))
    for name in types:
        if name not in old.edges:
            files["edges_added"][name] = (new.edges[name], new.digest.counts[name])
    names = [name for name in types if name in old.edges]
    if not names:
        return files
    for side, content, prefix in (("old", old, "o"), ("new", new, "n")):
        _register_edges(connection, side, content, names, prefix)
    _narrow_down(connection)
    connection.execute(
        """
        CREATE TEMP TABLE changed_edges AS
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
            f"{new.folder}: the edge ({start})-[:{names[type_]}]->({stop}) is there twice. Build it again."
        )
    new_rows = "SELECT n.* FROM new_edges n JOIN changed_edges c ON type = n0 AND start = n1 AND stop = n2"
    asked = {
        "edges_added": (f"{new_rows} WHERE added ORDER BY n0, n1, n2", EDGES),
        "edges_changed": (f"{new_rows} WHERE NOT added ORDER BY n0, n1, n2", EDGES),
        "edges_removed": ("SELECT type, start, stop FROM changed_edges WHERE removed ORDER BY ALL", EDGE_KEYS),
    }
    for kind, (query, schema) in asked.items():
        reader = connection.sql(query).to_arrow_reader(_ROWS_PER_BATCH)
        files[kind] |= _write_by_type(reader, folder, kind, names, schema)
    return files


def _register_edges(
    connection: duckdb.DuckDBPyConnection, side: str, content: Content, names: list[str], prefix: str
) -> None:
    """Make the view `*_edges` of all rows, its first column the position in `names`."""
    files = [(position, content.edges[name]) for position, name in enumerate(names) if name in content.edges]
    schema = pa.schema([pa.field("type", pa.int32()), *EDGES])
    if files:
        types = {"file": [str(path) for _, path in files], "type": pa.array([p for p, _ in files], pa.int32())}
        connection.register(f"{side}_files", pa.table(types))
        patterns = ", ".join(f"'{_quoted(path)}'" for _, path in files)
        columns = column_aliases(schema, prefix).split(", ", 1)[1]
        source = (
            f"SELECT type AS {prefix}0, {columns} FROM read_parquet([{patterns}], filename = true) "  # noqa: S608
            f"AS edges({columns}, filename) JOIN {side}_files ON filename = file"
        )
    else:
        source = "SELECT 0 AS n0, '' AS n1, '' AS n2, '' AS n3, [''] AS n4 WHERE false".replace(" n", f" {prefix}")
    connection.execute(f"CREATE TEMP VIEW {side}_edges AS {source}")


def _narrow_down(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the tables `*_sums`: by ends, the rows that are not the same on both sides, and all others of these ends.

    Rows are told apart by two hashes of 64 bits, so that what is the same, nearly everything, is never held as text.
    """
    rows = {}
    for side, prefix in (("old", "o"), ("new", "n")):
        columns = [f"{prefix}{position}" for position in range(1 + len(EDGES))]
        hashes = f"hash({', '.join(columns)}) AS one, hash({', '.join(columns[::-1])}) AS two"
        rows[side] = f"SELECT {prefix}0 AS type, {prefix}1 AS start, {prefix}2 AS stop, {hashes} FROM {side}_edges"  # noqa: S608
        connection.execute(
            f"CREATE TEMP TABLE {side}_edge_hashes AS SELECT one, two, count(*) AS times "  # noqa: S608
            f"FROM ({rows[side]}) GROUP BY ALL"
        )
    connection.execute(
        """
        CREATE TEMP TABLE other_hashes AS
        SELECT coalesce(n.one, o.one) AS one, coalesce(n.two, o.two) AS two
        FROM new_edge_hashes n FULL JOIN old_edge_hashes o ON n.one = o.one AND n.two = o.two
        WHERE n.times IS DISTINCT FROM o.times
        """
    )
    found = [f"SELECT type, start, stop FROM ({rows[side]}) SEMI JOIN other_hashes USING (one, two)" for side in rows]  # noqa: S608
    connection.execute(f"CREATE TEMP TABLE candidates AS {' UNION '.join(found)}")
    for side in rows:
        connection.execute(
            f"CREATE TEMP TABLE {side}_sums AS SELECT type, start, stop, count(*) AS times, "  # noqa: S608
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
    return [name for name in ("types", "relation_id", "sources", REMOVE) if name in schema.names]


def _quoted(path: Path) -> str:
    """A path for ``read_parquet`` inside quotes: views take no parameters."""
    return file_pattern(path).replace("'", "''")
