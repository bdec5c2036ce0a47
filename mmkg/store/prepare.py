"""From the tables of a graph to the Parquet files that every store is loaded from: one of nodes, one for each type.

Those of pictures are written by ``pictures.py``. The embedded store copies them as they are; a Neo4j server gets them
as import files, or their difference to what it holds. Rows are in order of entity_id, and of both ends' ids: the order
of the tables' indices.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mmkg.errors import StoreError
from mmkg.shards import open_table, table_glob
from mmkg.store.columns import EDGES, nodes_schema, parquet_options, value_type_of
from mmkg.store.model import Property, Relationship, StoreModel, list_sources
from mmkg.store.pictures import PictureFiles, write_pictures

_ENTITIES_PER_CHUNK = 128 * 1024
_ROWS_PER_BATCH = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class PreparedFiles:
    """The files of one graph."""

    nodes: Path
    edges: dict[str, Path]  # relationship type → file; types without triples have none
    num_edges: int
    values_left_out: int
    pictures: PictureFiles | None = None  # None: the graph has none


def prepare(
    tables_folder: Path,
    model: StoreModel,
    folder: Path,
    *,
    images_folder: Path | None = None,
    memory_limit: str = "2GB",
) -> PreparedFiles:
    """Write the files of a graph into a folder.

    Args:
        tables_folder: holds entities, triples and literals.
        model: which properties and relationship types there are to be.
        folder: is made.
        images_folder: holds the table images; None for a graph without pictures.
        memory_limit: of the relational engine; beyond it, it spills into the folder.

    Raises:
        StoreError: a triple or a picture names an entity or relation that is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": memory_limit,
        "temp_directory": str(folder / "spill"),
    }
    with duckdb.connect(config=settings) as connection:
        nodes, left_out = _write_nodes(connection, tables_folder, model.properties, folder)
        edges, num_edges = _write_edges(connection, tables_folder, model, folder)
        pictures = None
        if images_folder is not None:
            pictures = write_pictures(connection, images_folder, tables_folder, folder)
    return PreparedFiles(nodes=nodes, edges=edges, num_edges=num_edges, values_left_out=left_out, pictures=pictures)


def _write_nodes(
    connection: duckdb.DuckDBPyConnection, tables_folder: Path, properties: Sequence[Property], folder: Path
) -> tuple[Path, int]:
    schema = nodes_schema(properties)
    left_out = _collect_values(connection, tables_folder, properties) if properties else 0
    path = folder / "nodes.parquet"
    first = 0
    with pq.ParquetWriter(path, schema, **parquet_options(["types"])) as writer:
        for entities in _entity_chunks(tables_folder):
            columns = [entities.column(name) for name in schema.names[:5]]
            columns += _property_columns(connection, properties, first, entities.num_rows) if properties else []
            writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=_ENTITIES_PER_CHUNK)
            first += entities.num_rows
    return path, left_out


def _entity_chunks(tables_folder: Path) -> Iterator[pa.Table]:
    """Entities in order of entity_index, in pieces that do not depend on how the table was sharded."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in open_table(tables_folder, "entities").to_batches(
        columns=["entity_id", "label", "description", "types", "aliases"], batch_size=_ENTITIES_PER_CHUNK
    ):
        held.append(batch)
        rows += batch.num_rows
        if rows >= _ENTITIES_PER_CHUNK:
            yield pa.Table.from_batches(held).combine_chunks()
            held, rows = [], 0
    if rows:
        yield pa.Table.from_batches(held).combine_chunks()


def _collect_values(connection: duckdb.DuckDBPyConnection, tables_folder: Path, properties: Sequence[Property]) -> int:
    """Make the temporary table `property_values`: distinct, sorted; returns how many literals are none.

    `slot` is the position in `properties`; one of number, date and text is set.
    """
    connection.execute("CREATE TEMP TABLE slots (attribute_index BIGINT, slot BIGINT, value_column VARCHAR)")
    connection.executemany(
        "INSERT INTO slots VALUES (?, ?, ?)",
        [[prop.attribute_index, slot, prop.value_column] for slot, prop in enumerate(properties)],
    )
    connection.execute(
        """
        CREATE TEMP TABLE property_values AS
        SELECT DISTINCT entity_index, slot,
               CASE WHEN value_column = 'number' THEN number + 0.0 END AS number, -- of -0 and 0, which are equal: 0
               CASE WHEN value_column = 'date' THEN date END AS date,
               CASE WHEN value_column = 'text' THEN text END AS text
        FROM read_parquet(?) JOIN slots USING (attribute_index)
        WHERE CASE value_column WHEN 'number' THEN number IS NOT NULL WHEN 'date' THEN date IS NOT NULL ELSE true END
        ORDER BY entity_index
        """,
        [table_glob(tables_folder, "literals")],
    )
    [[left_out]] = connection.execute(
        """
        SELECT count(*) FROM read_parquet(?) JOIN slots USING (attribute_index)
        WHERE CASE value_column WHEN 'number' THEN number IS NULL WHEN 'date' THEN date IS NULL ELSE false END
        """,
        [table_glob(tables_folder, "literals")],
    ).fetchall()
    return int(left_out)


def _property_columns(
    connection: duckdb.DuckDBPyConnection, properties: Sequence[Property], first: int, rows: int
) -> list[pa.Array]:
    """One column for each property, for the entities `first` … `first + rows - 1`."""
    values: pa.Table = connection.sql(
        """
        SELECT slot, entity_index - $first AS row, number, date, text FROM property_values
        WHERE entity_index BETWEEN $first AND $last ORDER BY slot, row, number, date, text
        """,
        params={"first": first, "last": first + rows - 1},
    ).to_arrow_table()
    slots = values["slot"].to_numpy()
    starts = np.searchsorted(slots, np.arange(len(properties) + 1))
    columns = []
    for slot, prop in enumerate(properties):
        part = values.slice(starts[slot], starts[slot + 1] - starts[slot])
        column = part[prop.value_column].combine_chunks().cast(value_type_of(prop))
        columns.append(_spread(column, part["row"].to_numpy(), rows, many=prop.many))
    return columns


def _spread(values: pa.Array, rows_of_values: npt.NDArray[np.int64], rows: int, *, many: bool) -> pa.Array:
    """Values at their rows; null where a row has none. `rows_of_values` is sorted."""
    lengths = np.bincount(rows_of_values, minlength=rows)
    absent = lengths == 0
    if many:
        offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(absent))
    places = np.cumsum(lengths) - 1
    return values.take(pa.array(places, mask=absent))


def _write_edges(
    connection: duckdb.DuckDBPyConnection, tables_folder: Path, model: StoreModel, folder: Path
) -> tuple[dict[str, Path], int]:
    """Sort triples by relation and write a file for each; one file is open at a time."""
    by_index = {relationship.relation_index: relationship for relationship in model.relationships}
    entity_ids = open_table(tables_folder, "entities").to_table(columns=["entity_id"])["entity_id"]
    entity_ids = entity_ids.cast(pa.large_string()).combine_chunks()  # beyond 2 GiB of ids
    reader: pa.RecordBatchReader = connection.sql(
        """
        SELECT relation_index, head_index, tail_index, sources FROM read_parquet(?)
        ORDER BY relation_index, head_index, tail_index
        """,
        params=[table_glob(tables_folder, "triples")],
    ).to_arrow_reader(_ROWS_PER_BATCH)
    lists = _SourceLists(model.source_names)
    files: dict[str, Path] = {}
    num_edges = 0
    open_index, writer = -1, None
    try:
        for batch in reader:
            relations = batch["relation_index"].to_numpy()
            starts = np.flatnonzero(np.diff(relations, prepend=-1))
            ends = np.append(starts[1:], len(relations))
            for start, end in zip(starts, ends, strict=True):
                relationship = by_index.get(int(relations[start]))
                if relationship is None:
                    raise StoreError(
                        f"{tables_folder}: a triple has relation_index {relations[start]}, which the table "
                        "`relations` does not have. Build the graph again."
                    )
                if relationship.relation_index != open_index:
                    if writer is not None:
                        writer.close()
                    path = files[relationship.type] = folder / f"edges-{relationship.relation_index:06d}.parquet"
                    writer = pq.ParquetWriter(path, EDGES, **parquet_options(["relation_id", "sources"]))
                    open_index = relationship.relation_index
                if writer is not None:
                    writer.write_table(_edges(batch.slice(start, end - start), relationship, entity_ids, lists))
            num_edges += batch.num_rows
    finally:
        if writer is not None:
            writer.close()
    return files, num_edges


def _edges(
    triples: pa.RecordBatch, relationship: Relationship, entity_ids: pa.Array, lists: "_SourceLists"
) -> pa.Table:
    try:
        heads, tails = (entity_ids.take(triples[name]).cast(pa.string()) for name in ("head_index", "tail_index"))
    except pa.ArrowIndexError as error:
        raise StoreError(
            f"a triple of {relationship.relation_id} names an entity_index that the table `entities` does not have "
            f"({error}). Build the graph again."
        ) from error
    return pa.Table.from_arrays(
        [
            heads,
            tails,
            pa.repeat(pa.scalar(relationship.relation_id, pa.string()), triples.num_rows),
            lists.of(triples["sources"].to_numpy()),
        ],
        schema=EDGES,
    )


class _SourceLists:
    """Bit sets of sources as lists of names; few distinct sets are met, so each is spelt once."""

    def __init__(self, source_names: Sequence[str]) -> None:
        self._source_names = source_names

    def of(self, bits: npt.NDArray[np.int64]) -> pa.Array:
        """The list of each bit set."""
        distinct, inverse = np.unique(bits, return_inverse=True)
        spelt = pa.array([list_sources(int(b), self._source_names) for b in distinct], pa.list_(pa.string()))
        return spelt.take(pa.array(inverse))
