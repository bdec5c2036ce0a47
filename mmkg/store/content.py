"""What a store is to hold, as a folder of Parquet files with their digest: what is loaded, compared and exported.

Made from the tables of a build, or gathered from what a store holds now. ``content.json`` is written last: with it, the
folder is whole.
"""

import dataclasses
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmkg.config import StoreConfig
from mmkg.errors import StoreError
from mmkg.shards import PARTIAL_SUFFIX, write_json
from mmkg.store.columns import EDGES, IMAGE_LINKS, IMAGES, nodes_schema, parquet_options
from mmkg.store.digest import DIGEST_FORMAT, ContentDigest, digest_embedded, digest_tables
from mmkg.store.manifest import model_from_json
from mmkg.store.model import StoreModel, read_model
from mmkg.store.prepare import prepare

__all__ = [
    "Content",
    "ContentDigest",
    "digest_embedded",
    "digest_tables",
    "gather_content",
    "read_content",
    "write_content",
]

CONTENT_MANIFEST = "content.json"
_NODES_FILE, _IMAGES_FILE, _LINKS_FILE = "nodes.parquet", "images.parquet", "image-links.parquet"


@dataclass(frozen=True, kw_only=True)
class Content:
    """A folder of nodes and edges; their columns are those of `nodes_schema`, `EDGES`, `IMAGES` and `IMAGE_LINKS`."""

    folder: Path
    model: StoreModel
    nodes: Path
    edges: Mapping[str, Path]  # relationship type → file; types without edges have none
    images: Path | None = None  # None: the graph has no pictures
    image_links: Path | None = None
    digest: ContentDigest
    values_left_out: int  # literals that are not of their property's type


def write_content(
    tables_folder: Path,
    config: StoreConfig,
    source_names: Sequence[str],
    folder: Path,
    *,
    images_folder: Path | None = None,
    memory_limit: str = "2GB",
) -> Content:
    """Write what a store is to hold of the graph in a folder of tables; what is in `folder` of it is replaced.

    Args:
        tables_folder: holds the tables entities, relations, attributes, triples and literals.
        config: which attributes become properties.
        source_names: bit i of a `sources` column is the i-th of them.
        folder: is made.
        images_folder: holds the table images; None for a graph without pictures.
        memory_limit: of the relational engine.

    Raises:
        StoreError: a triple or a picture names an entity or relation that is not there.
        ConfigError: the config names an attribute that the graph does not have.
        ShardError: a table is missing.
    """
    model = read_model(tables_folder, config, source_names)
    _begin(folder)
    files = prepare(tables_folder, model, folder, images_folder=images_folder, memory_limit=memory_limit)
    images, links = (files.pictures.images, files.pictures.links) if files.pictures else (None, None)
    return _finish(folder, model, (files.nodes, files.edges, images, links), files.values_left_out, memory_limit)


def gather_content(
    model: StoreModel,
    nodes: pa.RecordBatchReader,
    edges: Iterable[tuple[str, pa.RecordBatchReader]],
    folder: Path,
    *,
    images: pa.RecordBatchReader | None = None,
    image_links: pa.RecordBatchReader | None = None,
    memory_limit: str = "2GB",
) -> Content:
    """Write what a store holds now, from streams in any order; what is in `folder` of it is replaced.

    Args:
        model: its properties name the columns of the nodes; types of `edges` that it does not have are kept too.
        nodes: columns of `nodes_schema`, in any order; `types` and `aliases` may be null.
        edges: relationship type and its rows, columns of `EDGES`; a type is given once. Asked one after the other.
        folder: is made.
        images: columns of `IMAGES`, in any order. Asked after the nodes.
        image_links: columns of `IMAGE_LINKS`, in any order. Asked last.
        memory_limit: of the relational engine.

    Raises:
        StoreError: a column is missing, is of another type than the model says, or a type of edges comes twice.
    """
    _begin(folder)
    nodes_file = folder / _NODES_FILE
    _write_stream(nodes_file, nodes, nodes_schema(model.properties), ["types"])
    images_file = _write_any(folder / _IMAGES_FILE, images, IMAGES, ["source_page", "licence", "author", "format"])
    files: dict[str, Path] = {}
    for number, (name, rows) in enumerate(edges):
        if name in files:
            raise StoreError(f"{folder}: edges of the type '{name}' were given twice")
        path = _write_any(folder / f"edges-{number:06d}.parquet", rows, EDGES, ["relation_id", "sources"])
        if path is not None:
            files[name] = path
    links_file = _write_any(folder / _LINKS_FILE, image_links, IMAGE_LINKS, [])
    return _finish(folder, model, (nodes_file, files, images_file, links_file), 0, memory_limit)


def read_content(folder: Path) -> Content:
    """Read the manifest of a folder that :func:`write_content` or :func:`gather_content` finished.

    Raises:
        StoreError: it was never finished, or is not a folder of content.
    """
    path = folder / CONTENT_MANIFEST
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if data["digest_format"] != DIGEST_FORMAT:
            raise StoreError(
                f"{path}: expected digests of format {DIGEST_FORMAT}, found {data['digest_format']}: another version "
                f"of mmkg wrote it. Remove {folder} and run the command again."
            )
        return Content(
            folder=folder,
            model=model_from_json(data["model"]),
            nodes=folder / data["nodes"],
            edges={name: folder / file for name, file in data["edges"].items()},
            # what was written before there were pictures does not name any
            images=folder / data["images"] if data.get("images") else None,
            image_links=folder / data["image_links"] if data.get("image_links") else None,
            digest=ContentDigest(**data["digest"]),
            values_left_out=data["values_left_out"],
        )
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(f"{path}: nothing here, or it was never finished. Run the command again.") from error
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, KeyError, AttributeError) as error:
        raise StoreError(
            f"{path}: not what mmkg writes ({error}). Remove {folder} and run the command again."
        ) from error


def _begin(folder: Path) -> None:
    """Make the folder, without what an earlier or killed writer of content left in it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONTENT_MANIFEST).unlink(missing_ok=True)
    for path in (*folder.glob("edges-*.parquet"), *folder.glob(f"{CONTENT_MANIFEST}*{PARTIAL_SUFFIX}")):
        path.unlink()
    for name in (_IMAGES_FILE, _LINKS_FILE):
        (folder / name).unlink(missing_ok=True)


def _finish(
    folder: Path,
    model: StoreModel,
    files: tuple[Path, Mapping[str, Path], Path | None, Path | None],
    values_left_out: int,
    memory_limit: str,
) -> Content:
    """Compute the digest and write the manifest; the files are those of nodes, edges, pictures and links to them."""
    nodes, edges, images, image_links = files
    spill = folder / "spill"
    digest = digest_tables(
        nodes, edges, images=images, image_links=image_links, memory_limit=memory_limit, spill_folder=spill
    )
    if spill.exists():
        shutil.rmtree(spill)
    write_json(
        folder / CONTENT_MANIFEST,
        {
            "digest_format": DIGEST_FORMAT,
            "total": digest.total,
            "digest": dataclasses.asdict(digest),
            "nodes": nodes.name,
            "edges": {name: path.name for name, path in edges.items()},
            "images": images.name if images else None,
            "image_links": image_links.name if image_links else None,
            "values_left_out": values_left_out,
            "model": dataclasses.asdict(model),
        },
    )
    return Content(
        folder=folder,
        model=model,
        nodes=nodes,
        edges=edges,
        images=images,
        image_links=image_links,
        digest=digest,
        values_left_out=values_left_out,
    )


def _write_any(
    path: Path, rows: pa.RecordBatchReader | None, schema: pa.Schema, repeated: Sequence[str]
) -> Path | None:
    """Write rows as a Parquet file if there are any."""
    if rows is None:
        return None
    if _write_stream(path, rows, schema, repeated):
        return path
    path.unlink()
    return None


def _write_stream(path: Path, rows: pa.RecordBatchReader, schema: pa.Schema, repeated: Sequence[str]) -> int:
    """Write rows as a Parquet file; returns how many. Row groups are as the batches, so these should not be small."""
    written = 0
    with pq.ParquetWriter(path, schema, **parquet_options(repeated)) as writer:
        for batch in rows:
            try:
                table = pa.Table.from_batches([batch]).select(schema.names).cast(schema)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError, KeyError) as error:
                raise StoreError(f"{path}: rows of a store do not have the columns of its model: {error}") from error
            writer.write_table(table)
            written += batch.num_rows
    return written
