"""What a finished stage holds: its manifest, and its tables on their way back from the disk."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from mmkg.errors import ShardError
from mmkg.shards.files import file_sha256, write_json
from mmkg.tables import SCHEMAS

MANIFEST = "manifest.json"


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


def read_manifest(folder: Path) -> Manifest:
    """Read a stage's manifest.

    Raises:
        ShardError: there is none, or it cannot be read.
    """
    path = folder / MANIFEST
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        data["tables"] = {
            name: tuple(Shard(str(s["file"]), int(s["rows"]), int(s["bytes"]), str(s["sha256"])) for s in shards)
            for name, shards in data["tables"].items()
        }
        return Manifest(**data)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ShardError(f"{path}: no manifest, so this stage was never finished. Run `mmkg build` again.") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ShardError(f"{path}: not a manifest ({error}). {start_afresh(folder)}") from error


def start_afresh(folder: Path) -> str:
    """What to do about a stage that is not as it was written; ends a message."""
    return f"Remove {folder} and run `mmkg build` again."


def check_shards(folder: Path, *, content: bool = False) -> Manifest:
    """Check that the files of a finished stage are there, as long as its manifest says, and the only ones.

    Args:
        folder: the stage's folder.
        content: also compute each file's SHA-256, which reads everything.

    Raises:
        ShardError: naming the first file that is not as it was written.
    """
    manifest = read_manifest(folder)
    shards = {shard.file: shard for table in manifest.tables.values() for shard in table}
    for name, shard in shards.items():
        path = folder / name
        found = path.stat().st_size if path.exists() else None
        if found != shard.bytes:
            raise ShardError(
                f"{path}: expected {shard.bytes:,} bytes, found {'no file' if found is None else f'{found:,}'}. "
                f"{start_afresh(folder)}"
            )
        if content and file_sha256(path) != shard.sha256:
            raise ShardError(f"{path}: its content has changed. {start_afresh(folder)}")
    for path in folder.glob("*/part-*.parquet"):  # open_table would read it as part of the table
        if path.relative_to(folder).as_posix() not in shards:
            raise ShardError(f"{path}: not in the stage's manifest. Move it away, or: {start_afresh(folder)}")
    return manifest


def open_table(folder: Path, table: str) -> ds.Dataset:
    """Open a table as a dataset that is read in pieces.

    Raises:
        ShardError: the folder holds no such table, a shard is cut off, or its columns are not those of the table.
    """
    files = sorted((folder / table).glob("part-*.parquet"))
    if not files:
        raise ShardError(f"{folder / table}: no shards of the table '{table}' here.")
    for file in files:
        _check_columns(file, table)
    return ds.dataset([str(file) for file in files], schema=SCHEMAS[table], format="parquet")


def _check_columns(file: Path, table: str) -> None:
    """Read a shard's footer; without this a missing column would come back as nulls."""
    try:
        found = pq.read_schema(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise ShardError(f"{file}: not a whole Parquet file ({error}). Run `mmkg build` again.") from error
    if not found.equals(SCHEMAS[table]):
        odd = sorted({f"{f.name}: {f.type}" for f in found} ^ {f"{f.name}: {f.type}" for f in SCHEMAS[table]})
        raise ShardError(
            f"{file}: written by another version of mmkg: its columns are not those of '{table}' "
            f"(they differ in {', '.join(odd) or 'order or nulls'}). Run `mmkg build` again."
        )


def table_glob(folder: Path, table: str) -> str:
    """The pattern by which an engine reads all shards of a table."""
    return str(folder / table / "part-*.parquet")


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a folder's manifest: the last thing that is written into it."""
    tables = {name: [vars(shard) for shard in shards] for name, shards in manifest.tables.items()}
    write_json(folder / MANIFEST, {**vars(manifest), "tables": tables})
