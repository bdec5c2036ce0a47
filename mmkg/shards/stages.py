"""Steps of a build that are done once: the folder of a finished one is named by the digest of all that went into it."""

import contextlib
import fcntl
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmkg.errors import ShardError
from mmkg.shards.files import PARTIAL_SUFFIX, digest, empty_folder, file_sha256, sync
from mmkg.shards.manifest import MANIFEST, Manifest, Shard, check_shards, read_manifest, start_afresh, write_manifest

logger = logging.getLogger(__name__)

_claims: set[int] = set()  # open handles of the folders that this process holds


def _drop_claims() -> None:
    """In a forked child: let go of the parent's folders, or a worker that outlives a killed parent would block them."""
    for handle in _claims:
        os.close(handle)
    _claims.clear()


os.register_at_fork(after_in_child=_drop_claims)


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

    Two processes that are asked for the same stage do it once: the second waits, and finds it done.

    Args:
        root: folder of all stages; the result lies in ``ROOT/NAME/DIGEST``.
        stage: what to do.
        work: fills the folder it is given and returns counts for the manifest.
        resumable: keep what an interrupted earlier run left in the folder; else it is removed first.

    Raises:
        ShardError: the stage was done, and its files have been changed since.
    """
    folder = root / stage.name / stage.digest
    with _claim(folder) as partial:
        if partial is None:
            manifest = check_shards(folder)
            if manifest.digest != stage.digest:
                raise ShardError(f"{folder}: its manifest is of {manifest.digest}. {start_afresh(folder)}")
            logger.info("%s: unchanged, skipped (%s)", stage.name, stage.digest)
            return StageResult(stage=stage, folder=folder, manifest=manifest, skipped=True)
        if resumable:
            (partial / MANIFEST).unlink(missing_ok=True)  # killed between the manifest and the rename
        else:
            empty_folder(partial)
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
        sync(folder.parent)
    logger.info("%s: done in %.1f s (%s)", stage.name, manifest.seconds, stage.digest)
    return StageResult(stage=stage, folder=folder, manifest=read_manifest(folder), skipped=False)


@contextlib.contextmanager
def _claim(folder: Path) -> Iterator[Path | None]:
    """Hold a stage's partial folder against other processes; None when the stage is there already.

    The lock is on the folder itself and the system frees it when the process ends, however it ends. It stays with the
    folder when that is renamed, so whoever waited looks again.
    """
    partial = folder.with_name(folder.name + PARTIAL_SUFFIX)
    while not (folder / MANIFEST).exists():
        partial.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(partial, os.O_RDONLY)
        except FileNotFoundError:  # another process finished and renamed it between the two lines
            continue
        _claims.add(handle)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if _is_still(partial, handle):
                yield partial
                return
        finally:
            if handle in _claims:  # not in a forked child that comes by here
                _claims.discard(handle)
                os.close(handle)
    yield None


def _is_still(path: Path, handle: int) -> bool:
    """Whether a name still means the folder that was opened under it."""
    return path.exists() and os.path.samestat(path.stat(), os.fstat(handle))


def _list_tables(folder: Path) -> dict[str, tuple[Shard, ...]]:
    """Every file below a stage's folder, by the sub-folder it lies in, flushed to disk.

    Leftovers of a killed writer are removed.
    """
    for leftover in sorted(folder.rglob(f"*{PARTIAL_SUFFIX}"), reverse=True):  # inner ones first
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()
    tables: dict[str, list[Shard]] = {}
    for path in sorted(folder.rglob("*")):
        sync(path)
        if path.is_file():
            relative = path.relative_to(folder)
            rows = _count_rows(path) if path.suffix == ".parquet" else 0
            shard = Shard(relative.as_posix(), rows, path.stat().st_size, file_sha256(path))
            tables.setdefault(relative.parts[0] if len(relative.parts) > 1 else "", []).append(shard)
    return {name: tuple(shards) for name, shards in tables.items()}


def _count_rows(path: Path) -> int:
    try:
        return int(pq.read_metadata(path).num_rows)
    except pa.ArrowInvalid as error:
        raise ShardError(
            f"{path}: not a whole Parquet file ({error}). Remove it and run `mmkg build` again."
        ) from error
