"""Does a store hold what the tables hold? Counts of everything, content of a sample, and the file's SHA-256.

The sample is compared with the tables by a second way (one SQL query a row), not with the files that COPY was given.
"""

import contextlib
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import ladybug
import pyarrow as pa

from mmkg.errors import StoreError
from mmkg.shards import open_table, table_glob
from mmkg.store import cypher
from mmkg.store.connection import ENGINE, fetch_rows, fetch_table, open_database
from mmkg.store.dates import date_value, rows_with_dates
from mmkg.store.manifest import check_file, read_store_manifest
from mmkg.store.model import Property, StoreModel, list_sources

_SAMPLE_ENTITIES = 100
_SAMPLE_TRIPLES = 100
# In the order of `cypher.FIND_IMAGES`, behind the link's.
_IMAGE_COLUMNS = ("url", "licence", "author", "source_page", "width_px", "height_px", "format")


class HeldCounts(NamedTuple):
    """What a database was found to hold."""

    entities: int
    images: int
    image_links: int


def verify_store(
    folder: Path, tables_folder: Path, *, images_folder: Path | None = None, buffer_bytes: int = 1 << 30
) -> None:
    """Check a finished store: its file is as it was written, and holds what the tables hold.

    Args:
        folder: the store.
        tables_folder: the tables it was made of.
        images_folder: holds the table images that it was made of; None for a graph without pictures.
        buffer_bytes: memory of the engine.

    Raises:
        StoreError: the first thing that is not as it should be.
    """
    manifest = read_store_manifest(folder)
    if manifest.engine != ENGINE:
        raise StoreError(f"{folder}: made by {manifest.engine}, installed is {ENGINE}. Run `mmkg build` again.")
    # The file first: an engine may crash on a corrupt one.
    path = check_file(folder, manifest, content=True)
    verify_database(path, tables_folder, manifest.model, images_folder=images_folder, buffer_bytes=buffer_bytes)


def verify_database(
    path: Path, tables_folder: Path, model: StoreModel, *, images_folder: Path | None = None, buffer_bytes: int
) -> HeldCounts:
    """Compare a database with the tables.

    Raises:
        StoreError: they differ.
    """
    database = open_database(path, buffer_bytes=buffer_bytes)
    with contextlib.closing(database), ladybug.Connection(database) as connection, duckdb.connect() as tables:
        entities = _check_counts(path, connection, tables, tables_folder, model)
        _check_triples(path, connection, tables, tables_folder, model)
        _check_entities(path, connection, tables, tables_folder, model)
        images, image_links = _check_images(path, connection, tables, tables_folder, images_folder)
    return HeldCounts(entities, images, image_links)


def _differs(path: Path, what: str, expected: object, found: object) -> StoreError:
    return StoreError(
        f"{path}: {what}: the tables have {expected!r}, the store has {found!r}. The load went wrong; "
        "the store before it is untouched. Run `mmkg build` again."
    )


def _check_counts(
    path: Path,
    connection: ladybug.Connection,
    tables: duckdb.DuckDBPyConnection,
    tables_folder: Path,
    model: StoreModel,
) -> int:
    entities = open_table(tables_folder, "entities").count_rows()
    [[found]] = fetch_rows(connection, cypher.COUNT_ENTITIES)
    if found != entities:
        raise _differs(path, "number of entities", entities, found)
    there = {name for name, kind in fetch_rows(connection, cypher.SHOW_TABLES) if kind == "REL"}
    types = {cypher.IMAGE_LINK, *(relationship.type for relationship in model.relationships)}
    if there != types:
        raise _differs(path, "relationship types", sorted(types - there), sorted(there - types))
    counts = dict(
        tables.execute(
            "SELECT relation_index, count(*) FROM read_parquet(?) GROUP BY relation_index",
            [table_glob(tables_folder, "triples")],
        ).fetchall()
    )
    for relationship in model.relationships:
        [[found]] = fetch_rows(connection, cypher.count_relationships(relationship.type))
        expected = counts.get(relationship.relation_index, 0)
        if found != expected:
            raise _differs(path, f"number of relationships {relationship.type}", expected, found)
    return entities


def _sample_positions(rows: int, size: int) -> list[int]:
    """Positions of a sample: always the first and the last, the others drawn by a fixed seed."""
    if rows <= size:
        return list(range(rows))
    return sorted({0, rows - 1, *random.Random(0).sample(range(rows), size - 2)})


def _check_triples(
    path: Path,
    connection: ladybug.Connection,
    tables: duckdb.DuckDBPyConnection,
    tables_folder: Path,
    model: StoreModel,
) -> None:
    triples = open_table(tables_folder, "triples")
    sample = triples.take(_sample_positions(triples.count_rows(), _SAMPLE_TRIPLES)).to_pylist()
    indices = sorted({row[name] for row in sample for name in ("head_index", "tail_index")})
    ids = dict(
        tables.execute(
            "SELECT entity_index, entity_id FROM read_parquet($files) WHERE list_contains($indices, entity_index)",
            {"files": table_glob(tables_folder, "entities"), "indices": indices},
        ).fetchall()
    )
    by_index = {relationship.relation_index: relationship for relationship in model.relationships}
    for row in sample:
        relationship = by_index[row["relation_index"]]
        head, tail = ids[row["head_index"]], ids[row["tail_index"]]
        found = fetch_rows(connection, cypher.find_relationship(relationship.type), {"head": head, "tail": tail})
        expected = [[relationship.relation_id, list(list_sources(row["sources"], model.source_names))]]
        if found != expected:
            raise _differs(path, f"{head} {relationship.type} {tail}", expected, found)


def _check_entities(
    path: Path,
    connection: ladybug.Connection,
    tables: duckdb.DuckDBPyConnection,
    tables_folder: Path,
    model: StoreModel,
) -> None:
    entities = open_table(tables_folder, "entities")
    sample = entities.take(_sample_positions(entities.count_rows(), _SAMPLE_ENTITIES)).to_pylist()
    names = ["label", "description", "types", "aliases", *(prop.name for prop in model.properties)]
    literals = _literals_of(tables, tables_folder, [row["entity_index"] for row in sample])
    for row in sample:
        values = literals.get(row["entity_index"], [])
        expected = [row["label"], row["description"], row["types"], row["aliases"]]
        expected += [property_value(prop, values) for prop in model.properties]
        asked = cypher.entity_properties(names)
        found = rows_with_dates(fetch_table(connection, asked, {"entity_id": row["entity_id"]}))
        if len(found) != 1:
            raise _differs(path, f"nodes with entity_id {row['entity_id']}", 1, len(found))
        for name, want, have in zip(names, expected, found[0], strict=True):
            if not _equal(want, have):
                raise _differs(path, f"{row['entity_id']}: {name}", want, have)


def _check_images(
    path: Path,
    connection: ladybug.Connection,
    tables: duckdb.DuckDBPyConnection,
    tables_folder: Path,
    images_folder: Path | None,
) -> tuple[int, int]:
    """Compare the pictures; returns how many there are, and how many links to them."""
    [[images]] = fetch_rows(connection, cypher.COUNT_IMAGES)
    [[links]] = fetch_rows(connection, cypher.count_relationships(cypher.IMAGE_LINK))
    if images_folder is None:
        if images or links:
            raise _differs(path, "numbers of pictures and of links to them", (0, 0), (images, links))
        return 0, 0
    kept = "FROM read_parquet($images) WHERE status = 'ok'"
    files = {"images": table_glob(images_folder, "images")}
    [expected] = tables.execute(
        f"SELECT count(DISTINCT sha256), count(DISTINCT (entity_index, sha256)) {kept}",
        files,
    ).fetchall()
    if (images, links) != expected:
        raise _differs(path, "numbers of pictures and of links to them", expected, (images, links))
    query = f"SELECT DISTINCT entity_index {kept} ORDER BY entity_index"
    indices = tables.sql(query, params=files).to_arrow_table()["entity_index"]
    sample = [indices[place].as_py() for place in _sample_positions(len(indices), _SAMPLE_ENTITIES)]
    rows = _images_of(tables, tables_folder, images_folder, sample)
    first = {row["sha256"]: row for row in reversed(rows)}  # of the smallest url
    by_entity: dict[str, dict[str, dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: -row["rank"]):
        if row["entity_index"] in sample:
            by_entity.setdefault(row["entity_id"], {})[row["sha256"]] = row  # of the best rank
    for entity_id, links_of in by_entity.items():
        want = {
            sha256: [row["rank"], row["score"], *(first[sha256][name] for name in _IMAGE_COLUMNS)]
            for sha256, row in links_of.items()
        }
        have = {row[0]: row[1:] for row in fetch_rows(connection, cypher.FIND_IMAGES, {"entity_id": entity_id})}
        if want.keys() != have.keys() or not all(_equal(want[sha256], have[sha256]) for sha256 in want):
            raise _differs(path, f"pictures of {entity_id}", want, have)
    return images, links


def _images_of(
    tables: duckdb.DuckDBPyConnection, tables_folder: Path, images_folder: Path, entity_indices: Sequence[int]
) -> list[dict[str, Any]]:
    """Kept rows of the table images of some entities, and of whoever else has one of their pictures; by url."""
    rows: pa.Table = tables.sql(
        f"""
        WITH kept AS (SELECT * FROM read_parquet($images) WHERE status = 'ok')
        SELECT entity_index, entity_id, sha256, rank, score, {", ".join(_IMAGE_COLUMNS)}
        FROM kept JOIN (SELECT entity_index, entity_id FROM read_parquet($entities)) USING (entity_index)
        WHERE sha256 IN (SELECT sha256 FROM kept WHERE list_contains($indices, entity_index))
        ORDER BY url, source_page, licence, author
        """,  # noqa: S608 - names of columns
        params={
            "images": table_glob(images_folder, "images"),
            "entities": table_glob(tables_folder, "entities"),
            "indices": list(entity_indices),
        },
    ).to_arrow_table()
    return rows.to_pylist()


def _literals_of(
    tables: duckdb.DuckDBPyConnection, tables_folder: Path, entity_indices: Sequence[int]
) -> dict[int, list[dict[str, Any]]]:
    rows: pa.Table = tables.sql(
        "SELECT entity_index, attribute_index, text, number, date - DATE '1970-01-01' AS date "
        "FROM read_parquet($files) WHERE list_contains($indices, entity_index)",
        params={"files": table_glob(tables_folder, "literals"), "indices": list(entity_indices)},
    ).to_arrow_table()
    found: dict[int, list[dict[str, Any]]] = {}
    for row in rows.to_pylist():
        found.setdefault(row["entity_index"], []).append(row)
    return found


def property_value(prop: Property, literals: Sequence[dict[str, Any]]) -> Any:
    """Value of a property for an entity with these rows of `literals`: distinct and sorted, or None.

    Dates are days since 1970-01-01 in the rows; they come out as :func:`mmkg.store.dates.date_value` makes them.
    """
    values = {
        row[prop.value_column]
        for row in literals
        if row["attribute_index"] == prop.attribute_index and row[prop.value_column] is not None
    }
    # NaN last, as the engine sorts; NaN is not equal to itself, so it is kept once by its being NaN
    numbers = sorted(value for value in values if value == value)
    if any(isinstance(value, float) and math.isnan(value) for value in values):
        numbers.append(math.nan)
    if not numbers:
        return None
    if prop.value_column == "date":
        numbers = [date_value(days) for days in numbers]
    return numbers if prop.many else numbers[0]


def _equal(want: Any, have: Any) -> bool:
    if isinstance(want, list) and isinstance(have, list):
        return len(want) == len(have) and all(map(_equal, want, have))
    if isinstance(want, float) and isinstance(have, float) and math.isnan(want):
        return math.isnan(have)
    return bool(want == have)
