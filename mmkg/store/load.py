"""Load a graph's tables into a new embedded store, prove that it holds them, and switch readers to it.

A store is a folder: one database file and ``store.json``, which names it. A load works in files of its own and renames
last, so at any moment the folder is the old store or the new one; a killed load leaves only ``*.partial`` things, which
the next one removes. A reader that has the old file open keeps it until it closes.

What it costs (measured on 2 cores, Ladybug 0.22): beside its triples, each relationship table costs 10 ms, and about
75 ns and 1 to 4 bytes for each *entity* (both directions have an index over all nodes). 237 relations over 15 k
entities are nothing; 1,345 over 1 M are 100 s and 3 GB; all 4,335 relations of Freebase over its 72 M nodes would be
1 TB: take the server.
"""

import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import ladybug

from mmkg.config import StoreConfig
from mmkg.errors import StoreError
from mmkg.shards import PARTIAL_SUFFIX, file_sha256, open_table, sync_folder
from mmkg.shards.files import commit
from mmkg.store import cypher
from mmkg.store.base import LoadReport
from mmkg.store.connection import ENGINE, fetch_rows, writable_database
from mmkg.store.manifest import STORE_MANIFEST, StoreManifest, write_store_manifest
from mmkg.store.migrations import read_migrations
from mmkg.store.model import StoreModel, read_model
from mmkg.store.prepare import PreparedFiles, prepare
from mmkg.store.verify import HeldCounts, verify_database

logger = logging.getLogger(__name__)

STORE_VERSION = 3  # of this code: raised when a store of the same tables would differ
_DATABASE_SUFFIX = ".lbug"
_BYTES_PER_ENTITY_AND_TYPE = 3
_MUCH_BYTES = 20 << 30
_TABLES_PER_CHECKPOINT = 100  # what is not yet checkpointed is held in memory


def load_store(
    tables_folder: Path,
    target: Path,
    config: StoreConfig,
    source_names: Sequence[str],
    *,
    images_folder: Path | None = None,
    buffer_bytes: int = 2 << 30,
    memory_limit: str = "2GB",
) -> LoadReport:
    """Make an embedded store of a graph; a store that is already at `target` is replaced once the new one is verified.

    Args:
        tables_folder: holds the tables entities, relations, attributes, triples and literals.
        target: the store's folder.
        config: which attributes become properties.
        source_names: bit i of a `sources` column is the i-th of them.
        images_folder: holds the table images; None for a graph without pictures.
        buffer_bytes: memory of the store's engine.
        memory_limit: of the relational engine that prepares the files.

    Raises:
        StoreError: the engine fails, or the store does not hold what the tables hold.
        ConfigError: the config names an attribute that the graph does not have.
        ShardError: a table is missing.
    """
    seconds: dict[str, float] = {}
    target.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target)
    work = target / f"load{PARTIAL_SUFFIX}"
    database = work / f"graph{_DATABASE_SUFFIX}"
    with _timed(seconds, "prepare"):
        model = read_model(tables_folder, config, source_names)
        _warn_of_size(model, open_table(tables_folder, "entities").count_rows())
        files = prepare(tables_folder, model, work / "files", images_folder=images_folder, memory_limit=memory_limit)
    with _timed(seconds, "copy"), writable_database(database, buffer_bytes=buffer_bytes) as connection:
        copy_files(connection, model, files)
    with _timed(seconds, "verify"):
        shutil.rmtree(work / "files")
        counts = verify_database(database, tables_folder, model, images_folder=images_folder, buffer_bytes=buffer_bytes)
    with _timed(seconds, "switch"):
        manifest = _switch(target, database, model, counts)
    report = LoadReport(
        entities=counts.entities,
        triples=files.num_edges,
        relations=len(model.relationships),
        properties=tuple(prop.name for prop in model.properties),
        values_left_out=files.values_left_out,
        bytes=manifest.bytes,
        images=counts.images,
        image_links=counts.image_links,
        seconds={step: round(value, 3) for step, value in seconds.items()},
    )
    logger.info(
        "store: %s entities, %s triples of %s relations, %s pictures, %s MB (%s)",
        f"{report.entities:,}",
        f"{report.triples:,}",
        f"{report.relations:,}",
        f"{report.images:,}",
        f"{report.bytes / 1e6:,.0f}",
        ", ".join(f"{step} {value:.1f} s" for step, value in seconds.items()),
    )
    return report


def copy_files(connection: ladybug.Connection, model: StoreModel, files: PreparedFiles) -> None:
    """Make the tables of a model in an empty database and copy the prepared files into them.

    Raises:
        StoreError: the engine refuses a statement.
    """
    for migration in read_migrations("embedded"):
        for statement in migration.statements:
            fetch_rows(connection, statement)
    for prop in model.properties:
        fetch_rows(connection, cypher.add_property(prop.name, prop.column_type))
    for relationship in model.relationships:
        fetch_rows(connection, cypher.create_relationship(relationship.type))
    # Not in one transaction: until its commit, a COPY keeps 9 times the space of its table.
    fetch_rows(connection, cypher.copy_into(cypher.NODE_TABLE, files.nodes))
    for number, (name, file) in enumerate(files.edges.items(), start=1):
        fetch_rows(connection, cypher.copy_into(name, file))
        if number % _TABLES_PER_CHECKPOINT == 0:
            fetch_rows(connection, cypher.CHECKPOINT)
    if files.pictures is not None:
        fetch_rows(connection, cypher.copy_into(cypher.IMAGE_TABLE, files.pictures.images))
        fetch_rows(connection, cypher.copy_into(cypher.IMAGE_LINK, files.pictures.links))


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    seconds[step] = time.monotonic() - started


def _warn_of_size(model: StoreModel, entities: int) -> None:
    expected = _BYTES_PER_ENTITY_AND_TYPE * entities * len(model.relationships)
    if expected > _MUCH_BYTES:
        logger.warning(
            "store: %s relationship types over %s entities take about %s GB beside the triples in the embedded store; "
            "drop rare relations, or load into a server",
            f"{len(model.relationships):,}",
            f"{entities:,}",
            f"{expected / 1e9:,.0f}",
        )


def _switch(target: Path, database: Path, model: StoreModel, counts: HeldCounts) -> StoreManifest:
    """Give the database its final name, then let the manifest name it, then remove what no manifest names."""
    sha256 = file_sha256(database)
    final = target / f"graph-{sha256[:16]}{_DATABASE_SUFFIX}"
    manifest = StoreManifest(
        file=final.name,
        bytes=database.stat().st_size,
        sha256=sha256,
        engine=ENGINE,
        migrations={f"V{m.version:04}__{m.name}": m.sha256 for m in read_migrations("embedded")},
        entities=counts.entities,
        model=model,
        images=counts.images,
        image_links=counts.image_links,
    )
    commit(database, final)
    sync_folder(target)
    write_store_manifest(target, manifest)
    _remove_leftovers(target, keep=final.name)
    return manifest


def _remove_leftovers(target: Path, keep: str | None = None) -> None:
    """Remove what killed loads left; with `keep`, also every database but this one.

    Raises:
        StoreError: the folder holds something that is not a store's.
    """
    for path in target.iterdir():
        if path.name.endswith(PARTIAL_SUFFIX):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        elif path.name.startswith("graph-") and path.suffix == _DATABASE_SUFFIX:
            if keep is not None and path.name != keep:
                path.unlink()
        elif path.name != STORE_MANIFEST:
            raise StoreError(f"{target}: holds {path.name}, which is no part of a store. Choose an empty folder.")
