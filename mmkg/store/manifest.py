"""``store.json`` beside an embedded database: what it was made of, and by what its file can be known to be whole.

It names the database file, so that replacing this one small file switches readers from the old database to the new.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmkg.errors import StoreError
from mmkg.shards import file_sha256, write_json
from mmkg.store.model import Property, Relationship, StoreModel

STORE_MANIFEST = "store.json"


@dataclass(frozen=True, kw_only=True)
class StoreManifest:
    """What a finished store holds."""

    file: str  # name of the database file in the store's folder
    bytes: int
    sha256: str
    engine: str  # e.g. "ladybug 0.22.0"; another version may not read the file
    migrations: dict[str, str]  # V0001__entities → digest of the file
    entities: int
    model: StoreModel
    images: int = 0  # a store that was made before there were pictures does not say it
    image_links: int = 0


def model_from_json(data: Mapping[str, Any]) -> StoreModel:
    """A model out of what ``dataclasses.asdict`` made of it.

    Raises:
        KeyError: a part of it is missing.
        TypeError: a relationship or property has other fields.
    """
    return StoreModel(
        relationships=tuple(Relationship(**row) for row in data["relationships"]),
        properties=tuple(Property(**row) for row in data["properties"]),
        source_names=tuple(data["source_names"]),
    )


def write_store_manifest(folder: Path, manifest: StoreManifest) -> None:
    """Write it whole or not at all; from then on readers open the file it names."""
    write_json(folder / STORE_MANIFEST, dataclasses.asdict(manifest))


def read_store_manifest(folder: Path) -> StoreManifest:
    """Read it.

    Raises:
        StoreError: there is none, so no load was ever finished here, or it cannot be read.
    """
    path = folder / STORE_MANIFEST
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        model = model_from_json(data.pop("model"))
        return StoreManifest(**data, model=model)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(f"{path}: no store here, or its load was never finished. Run `mmkg build` again.") from error
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, KeyError) as error:
        raise StoreError(
            f"{path}: not a store's manifest ({error}). Remove {folder} and run `mmkg build` again."
        ) from error


def check_file(folder: Path, manifest: StoreManifest, *, content: bool) -> Path:
    """The database file, if it is as it was written.

    Args:
        folder: the store's folder.
        manifest: its manifest.
        content: also compute the file's SHA-256, which reads all of it.

    Raises:
        StoreError: it is missing, of another length, or has another content.
    """
    path = folder / manifest.file
    found = path.stat().st_size if path.is_file() else None
    if found != manifest.bytes:
        raise StoreError(
            f"{path}: expected {manifest.bytes:,} bytes, found {'no file' if found is None else f'{found:,}'}. "
            f"Remove {folder} and run `mmkg build` again, or serve the build before."
        )
    if content and file_sha256(path) != manifest.sha256:
        raise StoreError(
            f"{path}: its content has changed since it was loaded. "
            f"Remove {folder} and run `mmkg build` again, or serve the build before."
        )
    return path
