"""What a store holds as one short text: the same for the same nodes and edges wherever they are, in whatever order.

Each row is spelt as text, hashed with MD5, and the hashes are added up modulo 2^128, entities, pictures, links to
pictures and each relationship type by themselves. So rows may come in any order, batches and pieces, and a row that is
missing, changed or there twice changes the sum. It finds accidents and other people's writes; it is no protection
against somebody who looks for two graphs with one digest. What has no row, such as pictures in most graphs, is no part
of it.

How a row is spelt: a property that is null counts as not there, except `types` and `aliases`, where it counts as an
empty list; elsewhere an empty list is a value. Text as UTF-8 with its length in bytes, numbers with 17 digits (so -0 is
not 0, and all NaN are one), integers with all of theirs, dates as days since 1970-01-01. A list of one value is not
that value.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from mmkg.errors import StoreError
from mmkg.store import cypher
from mmkg.store.columns import EDGES, IMAGE_LINKS, IMAGES, nodes_schema
from mmkg.store.embedded import EmbeddedStore

DIGEST_FORMAT = 1  # raised when the same rows would give another digest
NODES = cypher.NODE_TABLE
IMAGE_NODES, LINKS = cypher.IMAGE_TABLE, cypher.IMAGE_LINK
_NO_RELATIONS = (NODES, IMAGE_NODES, LINKS)  # parts of a digest that are not relationship types of the graph
_MASK = (1 << 64) - 1
_KEPT_EMPTY = ("types", "aliases")
_KINDS = {pa.string(): "s", pa.large_string(): "s", pa.float64(): "d", pa.date32(): "t", pa.int64(): "i"}
# Rows of a page of the embedded store; its results are held in memory.
_PAGE_ROWS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class ContentDigest:
    """What was found: 32 hex digits and the number of rows for `Entity`, and for `Image`, `HAS_IMAGE` and each
    relationship type that has rows."""

    parts: Mapping[str, str]
    counts: Mapping[str, int]

    @property
    def total(self) -> str:
        """One digest of all parts: 32 hex digits."""
        value = [DIGEST_FORMAT, sorted(self.parts.items()), sorted(self.counts.items())]
        return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32]

    @property
    def num_nodes(self) -> int:
        """Number of entities."""
        return self.counts.get(NODES, 0)

    @property
    def num_edges(self) -> int:
        """Number of relationships between entities, of all types."""
        return sum(count for name, count in self.counts.items() if name not in _NO_RELATIONS)

    @property
    def num_images(self) -> int:
        """Number of pictures."""
        return self.counts.get(IMAGE_NODES, 0)

    @property
    def num_image_links(self) -> int:
        """Number of links from an entity to a picture."""
        return self.counts.get(LINKS, 0)


Rows: TypeAlias = Path | pa.RecordBatchReader


def digest_tables(
    nodes: Rows,
    edges: Mapping[str, Rows],
    *,
    images: Rows | None = None,
    image_links: Rows | None = None,
    memory_limit: str = "2GB",
    spill_folder: Path | None = None,
) -> ContentDigest:
    """The digest of nodes and edges, as Parquet files or as streams that are read to their end.

    Args:
        nodes: columns entity_id, label, description, types, aliases and any number of properties: text, float64, date32
            or lists of them.
        edges: relationship type → columns from, to, relation_id, sources.
        images: columns of `IMAGES`; None where there are none.
        image_links: columns of `IMAGE_LINKS`.
        memory_limit: of the relational engine.
        spill_folder: where the engine puts what does not fit.

    Raises:
        StoreError: a column is missing, or of a type that no store of ours has.
    """
    for name in _NO_RELATIONS:
        if name in edges:
            raise StoreError(f"a relationship type is called '{name}', which is a name of the store's own. Rename it.")
    settings: dict[str, str | bool | int | float | list[str]] = {"memory_limit": memory_limit}
    if spill_folder is not None:
        settings["temp_directory"] = str(spill_folder)
    with duckdb.connect(config=settings) as connection:
        sums = {NODES: _sum_rows(connection, nodes, node_text)}
        if images is not None:
            sums[IMAGE_NODES] = _sum_rows(connection, images, image_text)
        if image_links is not None:
            sums[LINKS] = _sum_rows(connection, image_links, link_text)
        sums |= _sum_edge_files(connection, {name: rows for name, rows in edges.items() if isinstance(rows, Path)})
        for name, rows in edges.items():
            if isinstance(rows, pa.RecordBatchReader):
                sums[name] = _sum_stream(connection, rows, edge_text(rows.schema))
    return _digest(sums)


def digest_embedded(store: EmbeddedStore, *, memory_limit: str = "2GB") -> ContentDigest:
    """The digest of what an embedded store holds, asked of it in Cypher: nodes, then each relationship type.

    Raises:
        StoreError: the store cannot be read.
    """
    model = store.manifest.model
    schema = nodes_schema(model.properties)
    columns = ", ".join(f"e.{cypher.quote_name(name)} AS {cypher.quote_name(name)}" for name in schema.names)
    sums: dict[str, _Sums] = {}
    with duckdb.connect(config={"memory_limit": memory_limit}) as connection:
        query = f"MATCH (e:{NODES}){{where}} RETURN {columns}"
        entities = store.manifest.entities
        stream = _read_pages(store, query, ("e", entities), entities, schema)
        sums[NODES] = _sum_stream(connection, stream, node_text(schema))
        for relationship in model.relationships:
            query = (
                f"MATCH (h:{NODES})-[r:{cypher.quote_name(relationship.type)}]->(t:{NODES}){{where}} "
                "RETURN h.entity_id AS `from`, t.entity_id AS `to`, r.relation_id AS relation_id, r.sources AS sources"
            )
            stream = _read_pages(store, query, ("h", entities), relationship.count, EDGES)
            sums[relationship.type] = _sum_stream(connection, stream, edge_text(EDGES))
        if store.manifest.images:
            columns = ", ".join(f"i.{cypher.quote_name(name)} AS {cypher.quote_name(name)}" for name in IMAGES.names)
            query = f"MATCH (i:{IMAGE_NODES}){{where}} RETURN {columns}"
            stream = _read_pages(store, query, ("i", store.manifest.images), store.manifest.images, IMAGES)
            sums[IMAGE_NODES] = _sum_stream(connection, stream, image_text(IMAGES))
            query = (
                f"MATCH (h:{NODES})-[r:{LINKS}]->(i:{IMAGE_NODES}){{where}} "
                "RETURN h.entity_id AS `from`, i.sha256 AS `to`, r.rank AS rank, r.score AS score"
            )
            stream = _read_pages(store, query, ("h", entities), store.manifest.image_links, IMAGE_LINKS)
            sums[LINKS] = _sum_stream(connection, stream, link_text(IMAGE_LINKS))
    return _digest(sums)


def _read_pages(
    store: EmbeddedStore, query: str, begins_with: tuple[str, int], rows: int, schema: pa.Schema
) -> pa.RecordBatchReader:
    """The rows of a query as a stream; those of many rows are asked in ranges of the node they begin with.

    Args:
        store: is asked.
        query: with a place for the range.
        begins_with: the node's name in the query, and how many such nodes there are.
        rows: of the answer, about.
        schema: of the answer.
    """
    node, num_nodes = begins_with
    pages = max(1, -(-rows // _PAGE_ROWS))

    def batches() -> Iterator[pa.RecordBatch]:
        for page in range(pages):
            first, end = num_nodes * page // pages, num_nodes * (page + 1) // pages
            place = f"offset(id({node}))"
            where = f" WHERE {place} >= {first} AND {place} < {end}" if pages > 1 else ""
            table = store.query(query.format(where=where), timeout_seconds=0)
            yield from table.cast(schema).to_batches()

    return pa.RecordBatchReader.from_batches(schema, batches())


def _digest(sums: "Mapping[str, _Sums]") -> ContentDigest:
    parts, counts = {}, {}
    for name, (rows, upper, lower) in sums.items():
        if rows or name == NODES:
            counts[name] = rows
            parts[name] = f"{upper & _MASK:016x}{lower & _MASK:016x}"
    return ContentDigest(parts=parts, counts=counts)


# --- how a row is spelt, in SQL --------------------------------------------------------------------------------------


def column_aliases(schema: pa.Schema, prefix: str = "c") -> str:
    """``c0, c1, …`` for the columns of a schema: the engine takes names that differ only in case for one."""
    return ", ".join(f"{prefix}{position}" for position in range(len(schema)))


def node_text(schema: pa.Schema, prefix: str = "c") -> str:
    """The SQL expression of a node's text; its columns are called as by :func:`column_aliases`.

    Raises:
        StoreError: a column is missing, or of a type that no store of ours has.
    """
    _check_columns(schema, ("entity_id", "label", "description", *_KEPT_EMPTY))
    columns = sorted((field.name, field.type, f"{prefix}{position}") for position, field in enumerate(schema))
    return "concat(" + ", ".join(_property_text(name, kind, column) for name, kind, column in columns) + ")"


def edge_text(schema: pa.Schema, prefix: str = "c") -> str:
    """The SQL expression of an edge's text; the type is not in it, as each type is added up by itself.

    Raises:
        StoreError: a column is missing, or of a type that no store of ours has.
    """
    return _row_text(schema, EDGES.names, prefix)


def image_text(schema: pa.Schema, prefix: str = "c") -> str:
    """The SQL expression of a picture's text.

    Raises:
        StoreError: a column is missing, or of a type that no store of ours has.
    """
    return _row_text(schema, IMAGES.names, prefix)


def link_text(schema: pa.Schema, prefix: str = "c") -> str:
    """The SQL expression of the text of a link from an entity to a picture.

    Raises:
        StoreError: a column is missing, or of a type that no store of ours has.
    """
    return _row_text(schema, IMAGE_LINKS.names, prefix)


def _row_text(schema: pa.Schema, names: Sequence[str], prefix: str) -> str:
    """All of some columns, in their order."""
    _check_columns(schema, names)
    columns = {field.name: (field.type, f"{prefix}{position}") for position, field in enumerate(schema)}
    return "concat(" + ", ".join(_property_text(name, *columns[name]) for name in names) + ")"


def _check_columns(schema: pa.Schema, needed: Sequence[str]) -> None:
    missing = [name for name in needed if name not in schema.names]
    if missing:
        raise StoreError(f"rows of a store: no column {', '.join(missing)}. Found: {', '.join(schema.names)}.")


def _property_text(name: str, kind: pa.DataType, column: str) -> str:
    """``6:labels5:Paris``: length and name, kind, value; null, and so left out by ``concat``, where there is none."""
    many = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    code = _KINDS.get(kind.value_type if many else kind)
    if code is None:
        raise StoreError(f"property {name}: expected text, float64, int64, date32 or a list of them, found {kind}")
    name = f"{len(name.encode())}:{name}".replace("'", "''")
    if not many:
        return f"'{name}{code}' || {_value_text(code, column)}"
    if name.partition(":")[2] in _KEPT_EMPTY:
        column = f"coalesce({column}, [])"
    values = f"array_to_string(list_transform({column}, lambda v: coalesce({_value_text(code, 'v')}, '-')), '')"
    return f"'{name}{code.upper()}' || len({column}) || ':' || {values}"


def _value_text(code: str, value: str) -> str:
    if code == "s":
        return f"strlen({value}) || ':' || {value}"
    if code == "t":
        return f"({value} - DATE '1970-01-01') || ';'"
    if code == "i":
        return f"{value} || ';'"
    # the sign of a NaN has no meaning, and printf shows it
    return f"CASE WHEN isnan({value}) THEN 'nan' ELSE printf('%.17g', {value}) END || ';'"


# --- adding up -------------------------------------------------------------------------------------------------------

_SUMS = "count(*), coalesce(sum(md5_number_upper(row)), 0), coalesce(sum(md5_number_lower(row)), 0)"


class _Sums(NamedTuple):
    """Number of rows, and the two halves of their hashes added up."""

    rows: int
    upper: int
    lower: int


def _sum_rows(connection: duckdb.DuckDBPyConnection, rows: Rows, text: Callable[[pa.Schema], str]) -> _Sums:
    if isinstance(rows, pa.RecordBatchReader):
        return _sum_stream(connection, rows, text(rows.schema))
    schema = pq.read_schema(rows)
    [sums] = connection.execute(
        f"SELECT {_SUMS} FROM (SELECT {text(schema)} AS row "  # noqa: S608 - columns are called c0, c1, …
        f"FROM read_parquet($file) AS rows({column_aliases(schema)}))",
        {"file": file_pattern(rows)},
    ).fetchall()
    return _Sums(*sums)


def _sum_stream(connection: duckdb.DuckDBPyConnection, rows: pa.RecordBatchReader, text: str) -> _Sums:
    connection.register("stream", rows)
    [sums] = connection.execute(
        f"SELECT {_SUMS} FROM (SELECT {text} AS row FROM stream AS rows({column_aliases(rows.schema)}))"  # noqa: S608
    ).fetchall()
    connection.unregister("stream")
    return _Sums(*sums)


def _sum_edge_files(connection: duckdb.DuckDBPyConnection, files: Mapping[str, Path]) -> dict[str, _Sums]:
    """All files in one question: with thousands of types, one each costs more than the rows."""
    if not files:
        return {}
    types = {path: name for name, path in files.items()}
    columns = column_aliases(EDGES)
    rows = connection.execute(
        f"SELECT filename, {_SUMS} FROM (SELECT filename, {edge_text(EDGES)} AS row "  # noqa: S608
        f"FROM read_parquet($files, filename = true) AS edges({columns}, filename)) GROUP BY filename",
        {"files": [file_pattern(path) for path in files.values()]},
    ).fetchall()
    return {types[Path(path)]: _Sums(*sums) for path, *sums in rows}


def file_pattern(path: Path) -> str:
    """A path for ``read_parquet``, which takes ``* ? [`` for a pattern."""
    return re.sub(r"([*?\[])", r"[\1]", str(path))
