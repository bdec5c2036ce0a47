"""Files for ``neo4j-admin database import full``: the fast way of a whole graph into an empty Neo4j database.

The server must be stopped, and the database empty. Community edition's importer makes no constraints and no indexes
(``--schema``: "Record format batch import does not support schema changes"), and takes an empty list for no value. So
the files hold a state node that says ``imported``; the next load of the same build (``mmkg build``) then makes
constraints and indexes, sets right what the importer cannot carry, checks the digest and only then lets readers in.

Three pairs of header and data: entities, relationships, and the state node; two more where there are pictures, these
and the links to them. The relationship type is a column, so that thousands of types are still one file and one short
command line. Text is quoted as by RFC 4180, null is nothing and empty text is ``""``; values of a list are joined by a
control character that occurs in none of them. Everything is named relative to the folder, which may be carried to the
server's machine: ``import.sh`` runs there.
"""

import csv
import json
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from mmkg.errors import StoreError
from mmkg.shards import write_bytes
from mmkg.store.columns import EDGES, IMAGE_LINKS, IMAGES
from mmkg.store.content import Content
from mmkg.store.cypher import IMAGE_LINK, IMAGE_TABLE, KEYS, NODE_TABLE, quote_name
from mmkg.store.digest import column_aliases, file_pattern
from mmkg.store.neo4j.state import FORMAT, IMPORTED
from mmkg.store.neo4j.statements import STATE_LABEL

SCRIPT = "import.sh"
REPORT = "import.report"
_TABLES, _PICTURES = ("entities", "relationships", "store"), ("images", "image-links")
_STATE_KEY = "store"
_DELIMITERS = (
    "\x1f\x1e\x1d\x1c\x01\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b"
)
_HEADER_TYPES = {pa.string(): "string", pa.float64(): "double", pa.date32(): "date", pa.int64(): "long"}
_LINK_HEADER = (f":START_ID({NODE_TABLE})", f":END_ID({IMAGE_TABLE})", "rank:long", "score:double")
_EDGE_HEADER = (f":START_ID({NODE_TABLE})", f":END_ID({NODE_TABLE})", ":TYPE", "relation_id:string", "sources:string[]")
_LINE_ENDS = "\n\r"
_CSV = "(FORMAT csv, HEADER false, DELIMITER ',', QUOTE '\"', ESCAPE '\"', NULLSTR '')"
_READ_BUFFER_BYTES = 4 << 20  # of neo4j-admin, unless told otherwise: a longer field is an error for it


@dataclass(frozen=True, kw_only=True)
class ImportFiles:
    """What :func:`write_import_files` wrote."""

    folder: Path
    files: tuple[str, ...]  # names in the folder
    arguments: tuple[str, ...]  # of neo4j-admin, but for report and database; files are relative to the folder
    entities: int
    relationships: int  # between entities
    images: int = 0
    image_links: int = 0
    bytes: int

    def command(
        self, neo4j_admin: tuple[str, ...] = ("neo4j-admin",), *, database: str = "neo4j", overwrite: bool = False
    ) -> list[str]:
        """The whole call, to be run in the folder; `overwrite` deletes what the database holds.

        A program that is named relative to the caller's folder is named absolutely; behind another one, such as sudo,
        it is known by its ``./`` or ``../``.
        """
        program = [
            str(Path(word).absolute()) if word.startswith(("./", "../")) or ("/" in word and not place) else word
            for place, word in enumerate(neo4j_admin)
        ]
        extra = ["--overwrite-destination=true"] if overwrite else []
        return [*program, *self.arguments, f"--report-file={REPORT}", *extra, database]


@dataclass(frozen=True)
class _Findings:
    """What the values need of the importer."""

    delimiter: str  # of lists
    multiline: tuple[str, ...]  # files with line ends inside values
    longest_bytes: int


def write_import_files(
    content: Content, graph: str, version: str, folder: Path, *, memory_limit: str = "2GB"
) -> ImportFiles:
    """Write the CSV files, their headers and ``import.sh`` into a folder; those of an earlier export are replaced.

    neo4j-admin often runs as another user, and finds out that it may not read a file or write its report when it has
    deleted the old database. So, whatever the umask, each user who can reach the folder may read the files and write
    the report, which is there from the start.

    Args:
        content: what the store is to hold.
        graph: the name of the graph, for the state node.
        version: the version of the build, for the state node.
        folder: is made.
        memory_limit: of the relational engine.

    Raises:
        StoreError: no control character is free to part the values of lists, or a name cannot be quoted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SCRIPT).unlink(missing_ok=True)  # it is written last: without it, the files are not whole
    for name in _files_of(_PICTURES):
        (folder / name).unlink(missing_ok=True)
    for name in [*content.edges, *(prop.name for prop in content.model.properties)]:
        quote_name(name)
    nodes_schema = pq.read_schema(content.nodes)
    with duckdb.connect(config={"memory_limit": memory_limit, "temp_directory": str(folder / "spill")}) as connection:
        found = _look_through(connection, content, nodes_schema)
        if any(end in text for end in "\r\n" for text in (graph, version)):
            found = replace(found, multiline=(*found.multiline, "store.csv"))
        _write_nodes(connection, content.nodes, "entities", NODE_TABLE, nodes_schema, folder, found.delimiter)
        _write_edges(connection, content, folder, found.delimiter)
        if content.images is not None:
            _write_nodes(connection, content.images, "images", IMAGE_TABLE, IMAGES, folder, found.delimiter)
        if content.image_links is not None:
            _write_image_links(connection, content.image_links, folder)
    if (folder / "spill").exists():
        shutil.rmtree(folder / "spill")
    _write_state(content, graph, version, folder)
    held = (content.images, content.image_links)
    tables = [*_TABLES, *(table for table, path in zip(_PICTURES, held, strict=True) if path is not None)]
    names = _files_of(tables)
    files = ImportFiles(
        folder=folder,
        files=names,
        arguments=_arguments(found, tables),
        entities=content.digest.num_nodes,
        relationships=content.digest.num_edges,
        images=content.digest.num_images,
        image_links=content.digest.num_image_links,
        bytes=sum((folder / name).stat().st_size for name in names),
    )
    for name in names:
        (folder / name).chmod(0o644)
    (folder / REPORT).unlink(missing_ok=True)
    (folder / REPORT).touch()
    (folder / REPORT).chmod(0o666)
    write_bytes(folder / SCRIPT, _script(files, graph, version).encode())
    (folder / SCRIPT).chmod(0o755)
    return files


def _files_of(tables: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{table}{part}.csv" for table in tables for part in ("-header", ""))


def _arguments(found: _Findings, tables: Sequence[str]) -> tuple[str, ...]:
    arguments = ["database", "import", "full"]
    arguments += [f"--nodes={NODE_TABLE}=entities-header.csv,entities.csv"]
    arguments += [f"--nodes={STATE_LABEL}=store-header.csv,store.csv"]
    arguments += ["--relationships=relationships-header.csv,relationships.csv"]
    arguments += [f"--nodes={IMAGE_TABLE}=images-header.csv,images.csv"] if "images" in tables else []
    if "image-links" in tables:
        arguments += [f"--relationships={IMAGE_LINK}=image-links-header.csv,image-links.csv"]
    arguments += [
        f"--array-delimiter=U+{ord(found.delimiter):04X}",
        "--bad-tolerance=0",
    ]
    if found.multiline:
        arguments += [f"--multiline-fields={','.join(found.multiline)}", "--multiline-fields-format=v2"]
    if found.longest_bytes > _READ_BUFFER_BYTES // 2:
        arguments.append(f"--read-buffer-size={2 * found.longest_bytes + _READ_BUFFER_BYTES}")
    return tuple(arguments)


def _script(files: ImportFiles, graph: str, version: str) -> str:
    told = " ".join(f"{graph} {version}".split())
    pictures = f", {files.images:,} pictures" if files.images else ""
    lines = [
        "#!/bin/sh",
        f"# Imports {told}: {files.entities:,} entities, {files.relationships:,} relationships{pictures}.",
        "# Stop the server first, and be the user it runs as. The database must be empty, or add at the call's end",
        "# --overwrite-destination=true, which deletes what it holds:  ./import.sh [DATABASE] [OPTION ...]",
        "# Then start the server and run `mmkg build` with store.uri set to it, which finishes the load.",
        'cd "$(dirname "$0")" || exit 1',
        'database="${1:-neo4j}"',
        '[ "$#" -eq 0 ] || shift',
        f"report={REPORT}",
        '[ -w "$report" ] || report="${TMPDIR:-/tmp}/mmkg-import-$$.report"  # carried here without its mode',
        'exec "${NEO4J_ADMIN:-neo4j-admin}" \\',
        *(f"    {shlex.quote(argument)} \\" for argument in files.arguments),
        '    "--report-file=$report" "$@" "$database"',
    ]
    return "\n".join(lines) + "\n"


# --- what the values need --------------------------------------------------------------------------------------------


def _look_through(connection: duckdb.DuckDBPyConnection, content: Content, schema: pa.Schema) -> _Findings:
    """Read all text once: line ends, the longest field, and the usual delimiter inside lists."""
    texts = [f"c{i}" for i, field in enumerate(schema) if field.type == pa.string()]
    lists = [f"c{i}" for i, field in enumerate(schema) if field.type == pa.list_(pa.string())]
    joined = [f"array_to_string({column}, '')" for column in lists]
    nodes = f"read_parquet('{_quoted(content.nodes)}') AS nodes({column_aliases(schema)})"
    longest = ", ".join(f"coalesce(max(strlen({text})), 0)" for text in [*texts, *joined])
    counts = ", ".join(f"coalesce(max(len({column})), 0)" for column in lists)
    asked = [
        _any_has([*texts, *joined], _LINE_ENDS),
        _any_has(["c0"], _LINE_ENDS),
        _any_has(joined, _DELIMITERS[0]),
        f"greatest({longest})",
        f"greatest({counts})",
    ]
    [row] = connection.execute(f"SELECT {', '.join(asked)} FROM {nodes}").fetchall()  # noqa: S608
    multiline, ids_multiline, taken, longest_bytes, most_values = row
    edge_texts, source_texts = _texts_of_edges(connection, content)
    names = ["entities.csv"] if multiline else []
    if ids_multiline or any(end in text for end in "\n\r" for text in edge_texts | source_texts):
        names.append("relationships.csv")
    if content.images is not None:
        images_multiline, longest_of_images = _look_through_images(connection, content.images)
        names += ["images.csv"] if images_multiline else []
        names += ["image-links.csv"] if ids_multiline and content.image_links is not None else []
        longest_bytes = max(longest_bytes, longest_of_images)
    free = [one for one in _DELIMITERS if not any(one in text for text in source_texts)]
    delimiter = free[0] if free and free[0] == _DELIMITERS[0] and not taken else None
    delimiter = delimiter or _free_delimiter(connection, nodes, joined, free)
    return _Findings(delimiter, tuple(names), int(longest_bytes + most_values))


def _look_through_images(connection: duckdb.DuckDBPyConnection, images: Path) -> tuple[bool, int]:
    """Whether a text of a picture has a line end, and how long the longest is."""
    texts = [f"c{i}" for i, field in enumerate(IMAGES) if field.type == pa.string()]
    longest = ", ".join(f"coalesce(max(strlen({text})), 0)" for text in texts)
    [[multiline, longest_bytes]] = connection.execute(
        f"SELECT {_any_has(texts, _LINE_ENDS)}, greatest({longest}) "  # noqa: S608
        f"FROM read_parquet('{_quoted(images)}') AS nodes({column_aliases(IMAGES)})"
    ).fetchall()
    return multiline, longest_bytes


def _any_has(texts: Sequence[str], characters: str) -> str:
    """SQL for whether any row has one of the characters; one `regexp_matches` is ten times as slow."""
    parts = [f"contains({text}, chr({ord(character)}))" for text in texts for character in characters]
    return f"coalesce(bool_or({' OR '.join(parts)}), false)"


def _texts_of_edges(connection: duckdb.DuckDBPyConnection, content: Content) -> tuple[set[str], set[str]]:
    """The distinct relation ids and the distinct names of sources: few, whatever the number of edges."""
    if not content.edges:
        return set(), set()
    files = ", ".join(f"'{_quoted(path)}'" for path in content.edges.values())
    rows = connection.execute(f"SELECT DISTINCT relation_id, sources FROM read_parquet([{files}])").fetchall()  # noqa: S608
    return {relation_id for relation_id, _ in rows}, {source for _, sources in rows for source in sources}


def _free_delimiter(
    connection: duckdb.DuckDBPyConnection, nodes: str, joined: Sequence[str], candidates: Sequence[str]
) -> str:
    """A control character that is in no value of a list."""
    for delimiter in candidates:
        [[taken]] = connection.execute(f"SELECT {_any_has(joined, delimiter)} FROM {nodes}").fetchall()  # noqa: S608
        if not taken:
            return delimiter
    raise StoreError(
        "every control character occurs in some list of texts (types, aliases, sources or a property with several "
        "values), and neo4j-admin needs a free one between the values. Load the graph into the running server instead."
    )


# --- the files -------------------------------------------------------------------------------------------------------


def _write_nodes(
    connection: duckdb.DuckDBPyConnection,
    nodes: Path,
    table: str,
    label: str,
    schema: pa.Schema,
    folder: Path,
    delimiter: str,
) -> None:
    header, columns = [], []
    for position, field in enumerate(schema):
        many = pa.types.is_list(field.type)
        kind = field.type.value_type if many else field.type
        header.append(
            f"{field.name}:ID({label})"
            if field.name == KEYS[label]
            else f"{field.name}:{_HEADER_TYPES[kind]}{'[]' if many else ''}"
        )
        columns.append(_column(kind, f"c{position}", delimiter if many else None))
    _write_header(folder / f"{table}-header.csv", header)
    connection.execute(
        f"COPY (SELECT {', '.join(columns)} FROM read_parquet('{_quoted(nodes)}') "  # noqa: S608
        f"AS nodes({column_aliases(schema)})) TO '{_target(folder / f'{table}.csv')}' {_CSV}"
    )


def _column(kind: pa.DataType, column: str, delimiter: str | None) -> str:
    """SQL for a value as neo4j-admin reads it; of a list, its values joined by the delimiter."""
    if delimiter is None:
        return _value(kind, column)
    values = column if kind == pa.string() else f"list_transform({column}, lambda v: {_value(kind, 'v')})"
    return f"array_to_string({values}, chr({ord(delimiter)}))"


def _value(kind: pa.DataType, value: str) -> str:
    if kind == pa.float64():
        return (
            f"CASE WHEN isfinite({value}) THEN {value}::VARCHAR WHEN isnan({value}) THEN 'NaN' "
            f"WHEN {value} > 0 THEN 'Infinity' WHEN {value} < 0 THEN '-Infinity' END"
        )
    if kind == pa.date32():  # ISO 8601, with a sign where the year has more than four digits or is before year 0
        return (
            f"CASE WHEN year({value}) BETWEEN 1 AND 9999 THEN {value}::VARCHAR "
            f"WHEN year({value}) > 9999 THEN '+' || {value}::VARCHAR "
            f"WHEN year({value}) <= 0 THEN CASE WHEN year({value}) < 0 THEN '-' ELSE '' END || "
            f"format('{{:04d}}-{{:02d}}-{{:02d}}', abs(year({value})), month({value}), day({value})) END"
        )
    return value


def _write_edges(connection: duckdb.DuckDBPyConnection, content: Content, folder: Path, delimiter: str) -> None:
    _write_header(folder / "relationships-header.csv", _EDGE_HEADER)
    if not content.edges:
        (folder / "relationships.csv").write_bytes(b"")
        return
    files = ", ".join(f"'{_quoted(path)}'" for path in content.edges.values())
    connection.execute(  # a join with a table of types would give the files in any order
        f"COPY (SELECT c0, c1, $types[(file_index + 1)::BIGINT], c2, array_to_string(c3, chr({ord(delimiter)})) "  # noqa: S608
        f"FROM read_parquet([{files}]) AS edges({column_aliases(EDGES)})) "
        f"TO '{_target(folder / 'relationships.csv')}' {_CSV}",
        {"types": list(content.edges)},
    )


def _write_image_links(connection: duckdb.DuckDBPyConnection, links: Path, folder: Path) -> None:
    _write_header(folder / "image-links-header.csv", _LINK_HEADER)
    connection.execute(
        f"COPY (SELECT c0, c1, c2, {_value(pa.float64(), 'c3')} FROM read_parquet('{_quoted(links)}') "  # noqa: S608
        f"AS links({column_aliases(IMAGE_LINKS)})) TO '{_target(folder / 'image-links.csv')}' {_CSV}"
    )


def _write_state(content: Content, graph: str, version: str, folder: Path) -> None:
    """The state node: the first loader or reader that comes knows what the database holds and what is still to do."""
    values: Mapping[str, str | int] = {
        "key:string": _STATE_KEY,
        "graph:string": graph,
        "version:string": version,
        "build:string": content.digest.total,
        "state:string": IMPORTED,
        "model:string": json.dumps(asdict(content.model)),
        "entities:long": content.digest.num_nodes,
        "relationships:long": content.digest.num_edges,
        "images:long": content.digest.num_images,
        "image_links:long": content.digest.num_image_links,
        "flips:long": 0,
        "format:long": FORMAT,
    }
    _write_header(folder / "store-header.csv", list(values))
    with (folder / "store.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n").writerow(values.values())


def _write_header(path: Path, columns: "list[str] | tuple[str, ...]") -> None:
    path.write_text(",".join(columns) + "\n", encoding="utf-8")


def _quoted(path: Path) -> str:
    """A path for ``read_parquet`` inside quotes."""
    return _target(Path(file_pattern(path)))


def _target(path: Path) -> str:
    return str(path).replace("'", "''")
