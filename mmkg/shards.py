"""The one way in which tables reach the disk and come back: Parquet shards, a manifest last, and stages with digests.

A stage's folder is written under a partial name, every file is flushed to disk, the manifest is written last, and the
folder is renamed: what has its final name is whole. The digest in that name covers the stage's inputs, its settings
and the version of its code, so that the same work asked for again is found instead of done.
"""

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from mmkg.errors import ShardError
from mmkg.tables import SCHEMAS

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
PARTIAL_SUFFIX = ".partial"
ROWS_PER_SHARD = 4_000_000
_ROWS_PER_GROUP = 256 * 1024


def digest(value: object) -> str:
    """Digest of anything JSON can hold: 16 hex digits, the same for equal content whatever the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes as they lie on disk."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a small file whole or not at all: partial name, flush to disk, rename."""
    partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL_SUFFIX}")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def write_json(path: Path, value: object) -> None:
    """Write a value as readable JSON, whole or not at all."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n").encode())


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to disk, so that a rename outlives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass(frozen=True)
class Shard:
    """One file of a table."""

    file: str  # relative to the stage's folder
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a finished stage holds and what it was made of."""

    stage: str
    digest: str
    version: int
    inputs: Mapping[str, str]
    settings: Mapping[str, Any]
    counts: Mapping[str, Any]
    tables: Mapping[str, tuple[Shard, ...]]
    seconds: float = field(compare=False, default=0.0)

    def content(self) -> dict[str, str]:
        """Digest of each file, by name: equal for two runs that computed the same."""
        return {shard.file: shard.sha256 for shards in self.tables.values() for shard in shards}


def write_shard(path: Path, table: pa.Table) -> None:
    """Write one Parquet file whole or not at all. The same table gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    with pq.ParquetWriter(partial, table.schema, **_parquet_options(table.schema)) as writer:
        writer.write_table(table, row_group_size=_ROWS_PER_GROUP)
    _commit(partial, path)


def _parquet_options(schema: pa.Schema) -> dict[str, Any]:
    repeated = [
        f.name for f in schema if pa.types.is_dictionary(f.type) or f.name in {"relation", "datatype", "language"}
    ]
    return {"compression": "zstd", "compression_level": 1, "use_dictionary": repeated or False}


def _commit(partial: Path, path: Path) -> None:
    handle = os.open(partial, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    partial.replace(path)


class TableWriter:
    """Writes a stream of record batches as ``FOLDER/TABLE/part-00000.parquet``, ``part-00001.parquet``, …

    Batches may have columns in any order and castable types; they are brought to the table's schema. A table without
    rows still has one shard, so that readers meet its columns.
    """

    def __init__(self, folder: Path, table: str, *, rows_per_shard: int = ROWS_PER_SHARD) -> None:
        self.rows = 0
        self._folder = folder / table
        self._folder.mkdir(parents=True, exist_ok=True)
        self._schema = SCHEMAS[table]
        self._rows_per_shard = rows_per_shard
        self._writer: pq.ParquetWriter | None = None
        self._rows_in_shard = 0
        self._shards = 0

    def __enter__(self) -> Self:
        """Begin writing."""
        return self

    def write(self, batch: pa.RecordBatch | pa.Table) -> None:
        """Append rows."""
        table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
        table = table.select(self._schema.names).cast(self._schema)
        while table.num_rows:
            room = self._rows_per_shard - self._rows_in_shard
            self._open().write_table(table.slice(0, room), row_group_size=_ROWS_PER_GROUP)
            written = min(room, table.num_rows)
            self.rows += written
            self._rows_in_shard += written
            table = table.slice(written)
            if self._rows_in_shard == self._rows_per_shard:
                self._close()

    def _path(self) -> Path:
        return self._folder / f"part-{self._shards:05d}.parquet"

    def _open(self) -> pq.ParquetWriter:
        if self._writer is None:
            partial = self._path().with_name(self._path().name + PARTIAL_SUFFIX)
            self._writer = pq.ParquetWriter(partial, self._schema, **_parquet_options(self._schema))
        return self._writer

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            _commit(self._path().with_name(self._path().name + PARTIAL_SUFFIX), self._path())
            self._shards += 1
            self._rows_in_shard = 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit the last shard; after an error leave only its partial file."""
        if kind is not None:
            if self._writer is not None:
                self._writer.close()
            return
        if self._shards == 0:
            self._open()
        self._close()


def write_table(folder: Path, table: str, batches: Iterable[pa.RecordBatch | pa.Table]) -> int:
    """Write a whole table from a stream; returns its number of rows."""
    with TableWriter(folder, table) as writer:
        for batch in batches:
            writer.write(batch)
    return writer.rows


def read_manifest(folder: Path) -> Manifest:
    """Read a stage's manifest.

    Raises:
        ShardError: there is none, or it cannot be read.
    """
    path = folder / MANIFEST
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        data["tables"] = {name: tuple(Shard(**shard) for shard in shards) for name, shards in data["tables"].items()}
        return Manifest(**data)
    except FileNotFoundError as error:
        raise ShardError(f"{path}: no manifest, so this stage was never finished. Run `mmkg build` again.") from error
    except (json.JSONDecodeError, TypeError, KeyError) as error:
        raise ShardError(f"{path}: not a manifest ({error}). Remove {folder} and run `mmkg build` again.") from error


def check_shards(folder: Path, *, content: bool = False) -> Manifest:
    """Check that every file of a finished stage is there and as long as its manifest says.

    Args:
        folder: the stage's folder.
        content: also compute each file's SHA-256, which reads everything.

    Raises:
        ShardError: naming the first file that is not as it was written.
    """
    manifest = read_manifest(folder)
    for shards in manifest.tables.values():
        for shard in shards:
            path = folder / shard.file
            found = path.stat().st_size if path.exists() else None
            if found != shard.bytes:
                raise ShardError(
                    f"{path}: expected {shard.bytes:,} bytes, found {'no file' if found is None else f'{found:,}'}. "
                    f"Remove {folder} and run `mmkg build` again."
                )
            if content and file_sha256(path) != shard.sha256:
                raise ShardError(f"{path}: its content has changed. Remove {folder} and run `mmkg build` again.")
    return manifest


def open_table(folder: Path, table: str) -> ds.Dataset:
    """Open a table as a dataset that is read in pieces.

    Raises:
        ShardError: the folder holds no such table.
    """
    files = sorted((folder / table).glob("part-*.parquet"))
    if not files:
        raise ShardError(f"{folder / table}: no shards of the table '{table}' here.")
    return ds.dataset([str(file) for file in files], schema=SCHEMAS[table], format="parquet")


def table_glob(folder: Path, table: str) -> str:
    """The pattern by which an engine reads all shards of a table."""
    return str(folder / table / "part-*.parquet")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A step of a build: its name, what goes in (digests), the settings it reads, and the version of its code."""

    name: str
    version: int
    inputs: Mapping[str, str]
    settings: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Identifies the stage's result before it is computed."""
        return digest([self.name, self.version, self.inputs, self.settings])


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """A finished stage, and whether it had to be done."""

    stage: Stage
    folder: Path
    manifest: Manifest
    skipped: bool


def run_stage(
    root: Path, stage: Stage, work: Callable[[Path], Mapping[str, Any]], *, resumable: bool = False
) -> StageResult:
    """Do a stage unless its digest is already there.

    Args:
        root: folder of all stages; the result lies in ``ROOT/NAME/DIGEST``.
        stage: what to do.
        work: fills the folder it is given and returns counts for the manifest.
        resumable: keep what an interrupted earlier run left in the folder; else it is removed first.
    """
    folder = root / stage.name / stage.digest
    if (folder / MANIFEST).exists():
        manifest = check_shards(folder)
        logger.info("%s: unchanged, skipped (%s)", stage.name, stage.digest)
        return StageResult(stage=stage, folder=folder, manifest=manifest, skipped=True)
    partial = folder.with_name(folder.name + PARTIAL_SUFFIX)
    if partial.exists() and not resumable:
        shutil.rmtree(partial)
    partial.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    counts = work(partial)
    manifest = Manifest(
        stage=stage.name,
        digest=stage.digest,
        version=stage.version,
        inputs=stage.inputs,
        settings=stage.settings,
        counts=counts,
        tables=_list_tables(partial),
        seconds=round(time.monotonic() - started, 3),
    )
    write_manifest(partial, manifest)
    if folder.exists():  # a folder without manifest: never finished
        shutil.rmtree(folder)
    partial.rename(folder)
    sync_folder(folder.parent)
    logger.info("%s: done in %.1f s (%s)", stage.name, manifest.seconds, stage.digest)
    return StageResult(stage=stage, folder=folder, manifest=manifest, skipped=False)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a folder's manifest: the last thing that is written into it."""
    tables = {name: [vars(shard) for shard in shards] for name, shards in manifest.tables.items()}
    write_json(folder / MANIFEST, {**vars(manifest), "tables": tables})


def _list_tables(folder: Path) -> dict[str, tuple[Shard, ...]]:
    """Every file below a stage's folder, by the sub-folder it lies in; leftovers of a killed writer are removed."""
    tables: dict[str, list[Shard]] = {}
    for path in sorted(folder.rglob("*")):
        if path.name.endswith(PARTIAL_SUFFIX):
            path.unlink()
        elif path.is_file():
            relative = path.relative_to(folder)
            rows = pq.read_metadata(path).num_rows if path.suffix == ".parquet" else 0
            shard = Shard(relative.as_posix(), rows, path.stat().st_size, file_sha256(path))
            tables.setdefault(relative.parts[0] if len(relative.parts) > 1 else "", []).append(shard)
    return {name: tuple(shards) for name, shards in tables.items()}
