"""From the table ``images`` to the files of picture nodes and of the links from entities to them.

Only kept pictures (status ok) are nodes, one for the same bytes however many entities have them and from wherever they
came: the candidate with the smallest url says where the picture is from, whose it is and under which licence. An entity
that got the same bytes from two places has one link, of the better rank.
"""

from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from mmkg.errors import StoreError
from mmkg.shards import open_table, table_glob
from mmkg.store.columns import IMAGE_LINKS, IMAGES, parquet_options

_ROWS_PER_BATCH = 128 * 1024
_REPEATED = ["source_page", "licence", "author", "format"]
_KEPT = "SELECT * FROM read_parquet($images) WHERE status = 'ok'"


@dataclass(frozen=True, kw_only=True)
class PictureFiles:
    """The pictures of one graph; there is at least one."""

    images: Path  # columns of `IMAGES`, sorted by sha256
    links: Path  # columns of `IMAGE_LINKS`, sorted by both ends
    num_images: int
    num_links: int


def write_pictures(
    connection: duckdb.DuckDBPyConnection, images_folder: Path, tables_folder: Path, folder: Path
) -> PictureFiles | None:
    """Write both files into a folder that is there; None where no picture was kept.

    Args:
        connection: of the relational engine.
        images_folder: holds the table images.
        tables_folder: holds the table entities.
        folder: for the files.

    Raises:
        StoreError: a kept picture has no sha256 or no rank, or is one of no entity.
        ShardError: a table is missing.
    """
    open_table(images_folder, "images")  # its columns are checked
    files = {"images": table_glob(images_folder, "images"), "entities": table_glob(tables_folder, "entities")}
    odd = connection.execute(
        f"SELECT entity_index, url FROM ({_KEPT}) LEFT JOIN "  # noqa: S608
        "(SELECT entity_index, entity_id FROM read_parquet($entities)) USING (entity_index) "
        "WHERE entity_id IS NULL OR sha256 IS NULL OR rank IS NULL LIMIT 1",
        files,
    ).fetchall()
    if odd:
        raise StoreError(
            f"{images_folder}: the table `images` keeps {odd[0][1]} for entity_index {odd[0][0]}: expected a sha256, a "
            "rank and an entity of the table `entities`. Build the graph again."
        )
    images = connection.sql(
        f"SELECT {', '.join(IMAGES.names)} FROM ({_KEPT}) "  # noqa: S608
        "QUALIFY row_number() OVER (PARTITION BY sha256 ORDER BY url, source_page, licence, author) = 1 "
        "ORDER BY sha256",
        params={"images": files["images"]},
    )
    links = connection.sql(
        'SELECT entity_id AS "from", sha256 AS "to", rank, score + 0.0 AS score '  # noqa: S608 - of -0 and 0: 0
        f"FROM ({_KEPT}) JOIN (SELECT entity_index, entity_id FROM read_parquet($entities)) USING (entity_index) "
        "QUALIFY row_number() OVER (PARTITION BY entity_index, sha256 ORDER BY rank, score DESC) = 1 "
        "ORDER BY entity_index, sha256",
        params=files,
    )
    paths = folder / "images.parquet", folder / "image-links.parquet"
    num_images = _write(images, paths[0], IMAGES)
    if not num_images:
        paths[0].unlink()
        return None
    num_links = _write(links, paths[1], IMAGE_LINKS)
    return PictureFiles(images=paths[0], links=paths[1], num_images=num_images, num_links=num_links)


def _write(rows: duckdb.DuckDBPyRelation, path: Path, schema: pa.Schema) -> int:
    written = 0
    repeated = [name for name in _REPEATED if name in schema.names]
    with pq.ParquetWriter(path, schema, **parquet_options(repeated)) as writer:
        for batch in rows.to_arrow_reader(_ROWS_PER_BATCH):
            writer.write_table(pa.Table.from_batches([batch]).cast(schema))
            written += batch.num_rows
    return written
