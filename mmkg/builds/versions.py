"""Finished versions of a graph on disk, side by side, and the pointer to the one being served (see `serving`).

::

    builds/atlas/
        stages/NAME/DIGEST/        what each stage computed (shards.py)
        pictures/  vectors/        what was fetched, and embedded, for any of the builds
        0001-3f2a91c0/             one version: hard links to its stages' files, and build.json, written last
        current -> 0001-3f2a91c0   switched by a rename when a version is whole and has passed its checks
"""

import dataclasses
import errno
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmkg.errors import BuildError
from mmkg.shards import PARTIAL_SUFFIX, sync_folder, write_json
from mmkg.tables import SCHEMAS

BUILD_MANIFEST = "build.json"
CURRENT = "current"
PICTURES_FOLDER, VECTORS_FOLDER = "pictures", "vectors"  # below the graph's folder: kept for all its builds
_PARTS = frozenset(SCHEMAS) | {"adjacency", "store", "vectors"}  # what of a stage's folder belongs to a version


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildManifest:
    """What a version is made of."""

    graph: str
    version: str
    digest: str  # of all stage digests: two versions with the same one hold the same
    created: str  # ISO 8601, UTC
    stages: Mapping[str, str]  # name of the stage, or stage:dump, to its digest
    counts: Mapping[str, Mapping[str, Any]]  # name of the stage to its counts
    source_names: tuple[str, ...]  # bit i of a `sources` column is the i-th
    config: Mapping[str, Any]
    problems: tuple[str, ...] = ()  # checks that it did not pass; such a version is not served ...
    accepted: tuple[str, ...] = ()  # ... unless somebody let these problems through

    @property
    def may_be_served(self) -> bool:
        """Whether it passed its checks, or what it did not pass was accepted."""
        return set(self.problems) <= set(self.accepted)


def list_versions(root: Path) -> list[str]:
    """Names of the finished versions of a graph, oldest first."""
    names = (path.parent.name for path in root.glob(f"*/{BUILD_MANIFEST}"))
    return sorted(name for name in names if name != CURRENT and not name.endswith(PARTIAL_SUFFIX))


def served_version(root: Path) -> str | None:
    """Name of the version that the pointer names, or None before the first build."""
    try:
        return str((root / CURRENT).readlink())
    except FileNotFoundError:
        return None


def read_build_manifest(folder: Path) -> BuildManifest:
    """Read the manifest of a version.

    Raises:
        BuildError: the folder is not a finished version.
    """
    path = folder / BUILD_MANIFEST
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        for name in ("source_names", "problems", "accepted"):
            data[name] = tuple(data.get(name, ()) if name == "accepted" else data[name])  # older builds have none
        return BuildManifest(**data)
    except FileNotFoundError as error:
        raise BuildError(
            f"{folder}: not a finished build (no {BUILD_MANIFEST}). `mmkg build CONFIG` makes one."
        ) from error
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise BuildError(f"{path}: not a build manifest: {error}. Remove {folder} and build again.") from error


def write_version(root: Path, manifest: BuildManifest, stages: Sequence[tuple[str, Path]]) -> Path:
    """Put a version together out of its stages' files; whole or not at all.

    Args:
        root: folder of the graph.
        manifest: written last.
        stages: each stage's name and folder, in order. Tables that several stages bring are joined.
    """
    folder = root / manifest.version
    partial = folder.with_name(folder.name + PARTIAL_SUFFIX)
    for old in (partial, folder):
        if old.exists():
            shutil.rmtree(old)
    for number, (_, stage) in enumerate(stages):
        for path in sorted(stage.rglob("*")):
            relative = path.relative_to(stage)
            if path.is_dir() or relative.parts[0] not in _PARTS:
                continue
            name = relative.name
            if name.startswith("part-") and name.endswith(".parquet"):
                name = f"part-{number:03d}-{name.removeprefix('part-')}"
            target = partial / relative.parent / name
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(path, target)
    write_json(partial / BUILD_MANIFEST, dataclasses.asdict(manifest))
    partial.rename(folder)
    sync_folder(root)
    return folder


def _link(path: Path, target: Path) -> None:
    """Hard link, so that a version costs no space and outlives its stages; a copy where the file system has none."""
    try:
        os.link(path, target)
    except OSError as error:
        if error.errno == errno.EEXIST:  # two stages bring one file: a copy would write into the first one's
            raise
        shutil.copy2(path, target)


def find_build_folder(where: str | Path, version: str | None = None) -> Path:
    """Find the folder of a version.

    Args:
        where: a version's folder, a graph's folder (the version being served), or a graph's name under ``builds/``.
        version: another version of that graph.

    Raises:
        BuildError: nothing is built there.
    """
    for folder in (Path(where), Path("builds") / where):
        if (folder / BUILD_MANIFEST).exists():
            return (folder.resolve().parent / version) if version else folder.resolve()
        if version and (folder / version / BUILD_MANIFEST).exists():
            return (folder / version).resolve()
        if not version and (folder / CURRENT / BUILD_MANIFEST).exists():
            return (folder / CURRENT).resolve()
    asked = f"version {version} of " if version else ""
    raise BuildError(
        f"{asked}{where}: no finished build here. Expected a folder such as builds/atlas, made by `mmkg build CONFIG`."
    )
