"""Files that reach the disk whole or not at all, and digests of what they hold: the ground under `shards`."""

import datetime
import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np

PARTIAL_SUFFIX = ".partial"


def _to_json(value: object) -> object:
    """What JSON does not know but a setting or a count may be: a path, a date, a number of NumPy.

    Nothing else is turned into text on the quiet: the text of a set or of an object differs from run to run, and so
    would every digest made of it.
    """
    if isinstance(value, Path | datetime.date):
        return str(value)
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} {value!r} cannot stand in a digest or a manifest; pass JSON values")


def digest(value: object) -> str:
    """Digest of anything JSON can hold: 16 hex digits, the same for equal content whatever the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=_to_json)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes as they lie on disk."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a small file whole or not at all: partial name, flush to disk, rename."""
    partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL_SUFFIX}")
    partial.write_bytes(content)
    commit(partial, path)
    sync(path.parent)


def write_json(path: Path, value: object) -> None:
    """Write a value as readable JSON, whole or not at all."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False, default=_to_json) + "\n").encode())


def sync(path: Path) -> None:
    """Flush to disk a file's bytes, or a folder's list of names, so that a rename outlives a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def commit(partial: Path, path: Path) -> None:
    """Give a finished file its name, once its bytes are on disk."""
    sync(partial)
    partial.replace(path)


def empty_folder(folder: Path) -> None:
    """Remove everything in a folder, but not the folder."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
