"""What of a graph's folder nobody needs any more, and how many bytes go with it: ``mmkg gc``.

Needed are: the newest versions, the one being served, the one that a rollback would take, their stages, the downloads
and pulls that their configs name (half of a download too: the next build goes on with it), the fetched pictures that
their stages decoded, and the vectors of their embedders. Everything else of what a build writes is garbage; the ledger
of pictures never is. What a build does not write is never touched.
"""

import dataclasses
import fcntl
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from mmkg.builds.serving import earlier_versions
from mmkg.builds.versions import (
    BUILD_MANIFEST,
    PICTURES_FOLDER,
    VECTORS_FOLDER,
    BuildManifest,
    list_versions,
    read_build_manifest,
    served_version,
)
from mmkg.config import LinkConfig, SourceConfig, SparqlConfig
from mmkg.errors import BuildError, DumpError
from mmkg.shards import PARTIAL_SUFFIX, digest, read_manifest

logger = logging.getLogger(__name__)

DOWNLOADS, PULLS, DUMP_DIGESTS, STAGES = "downloads", "pulls", "dump_digests", "stages"  # below the graph's folder
Kind = Literal["version", "stage", "download", "pull", "dump digest", "pictures", "vectors", "leftover"]
_WHEN_AND_HOW = {"contact", "delay_seconds", "connections", "timeout_seconds", "max_age_hours", "max_resume_hours"}
_BLOCK_BYTES = 512  # unit of st_blocks, whatever the file system's own


@dataclasses.dataclass(frozen=True, kw_only=True)
class Garbage:
    """Something that nobody needs."""

    kind: Kind
    path: Path  # relative to the graph's folder
    bytes: int  # that its removal gives back to the disk, after those before it in the list


def pull_folder(root: Path, sparql: SparqlConfig) -> Path:
    """Where the pulled pages of an endpoint lie; the same folder for settings that pull the same."""
    return root / PULLS / digest(sparql.model_dump(mode="json", exclude=_WHEN_AND_HOW))


def find_graph_folder(where: str | Path) -> Path:
    """Find the folder of a graph: it, one of its versions, or its name under ``builds/``; served or not.

    Raises:
        BuildError: there is no graph.
    """
    for folder in (Path(where), Path("builds") / where):
        if (folder / BUILD_MANIFEST).is_file():
            return folder.resolve().parent
        if (folder / STAGES).is_dir() or (folder.is_dir() and list_versions(folder)):
            return folder.resolve()
    raise BuildError(f"{where}: no graph here. Expected a folder such as builds/atlas, made by `mmkg build CONFIG`.")


def keep_of(root: Path) -> int:
    """How many versions the config of the version being served, or else of the newest, wants kept; 3 without any."""
    newest = list_versions(root)[-1:]
    version = served_version(root) or next(iter(newest), None)
    if version is None:
        return 3
    return int(read_build_manifest(root / version).config.get("graph", {}).get("keep_builds", 3))


def find_garbage(root: Path, *, keep: int) -> list[Garbage]:
    """Everything below a graph's folder that nobody needs, in the order in which it is removed. Nothing is touched.

    Args:
        root: folder of the graph; the caller holds it (`hold_graph`), so that whatever is half-written is of the dead.
        keep: how many of the newest versions stay. Beyond them stay the one being served and, unless `keep` is 1, the
            one that a rollback would take.

    Raises:
        BuildError: a version cannot be read, so that nobody knows what it needs; or `keep` is less than 1.
    """
    found, kept = _old_builds(root, keep)
    needs = _needs(root, [manifest.config for manifest in kept])
    if needs is not None:
        found += _unnamed_files(root, needs)
    found += _unused_pictures(root, kept)
    found += [("leftover", path) for path in _leftovers(root) if not any(path.is_relative_to(p) for _, p in found)]
    return _weigh(root, found)


def remove_garbage(root: Path, garbage: Iterable[Garbage]) -> None:
    """Remove what `find_garbage` found; killed in the middle and started again, it goes on."""
    for item in garbage:
        path = root / item.path
        if item.kind == "version":  # first it is no version any more, then it goes
            path = path.rename(path.with_name(f"{path.name}{PARTIAL_SUFFIX}"))
        _remove(path)
        _remove_empty_parents(path, root)


def remove_old_versions(root: Path, *, keep: int) -> list[str]:
    """Remove the versions beyond `keep` and the stages that only they used: what a build does at its end.

    The one being served, and with `keep` of 2 or more the one that a rollback would take, stay in any case.
    """
    garbage = _weigh(root, _old_builds(root, keep)[0])
    remove_garbage(root, garbage)
    return [item.path.name for item in garbage if item.kind == "version"]


def _old_builds(root: Path, keep: int) -> tuple[list[tuple[Kind, Path]], list[BuildManifest]]:
    """Versions and stages that are garbage, and the manifests of the versions that stay."""
    if keep < 1:
        raise BuildError(f"expected at least 1 version to keep, found {keep}. `--keep 1` keeps only the served one.")
    kept = _kept_versions(root, keep)
    manifests = [read_build_manifest(root / version) for version in kept]
    used = {stage for manifest in manifests for stage in manifest.stages.values()}
    found: list[tuple[Kind, Path]] = [("version", root / v) for v in list_versions(root) if v not in kept]
    found += [("stage", stage) for stage in sorted((root / STAGES).glob("*/*")) if _is_unused(stage, used)]
    return found, manifests


def _kept_versions(root: Path, keep: int) -> list[str]:
    """The newest `keep` that may be served; nights whose checks failed since then push no good version out."""
    versions, served = list_versions(root), served_version(root)
    good = [version for version in versions if read_build_manifest(root / version).may_be_served]
    stopped_since = [version for version in versions if not good or version > good[-1]]
    kept = {*good[-keep:], *stopped_since[-keep:], served}
    if keep > 1 and served is not None:
        kept |= {*earlier_versions(root)[-1:]}
    return [version for version in versions if version in kept]


def _is_unused(stage: Path, used: set[str]) -> bool:
    return stage.is_dir() and stage.name.removesuffix(PARTIAL_SUFFIX) not in used and not _is_held(stage)


def _is_held(path: Path) -> bool:
    """Whether a process is at work on a half-written folder or file: it has a lock on it (see `shards`, `web`)."""
    if path.is_symlink() or not (path.is_dir() or path.is_file()):
        return False
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


@dataclasses.dataclass(frozen=True)
class _Needs:
    """What the configs of the kept versions name."""

    downloads: set[Path]
    pulls: set[Path]
    dumps: set[Path]


def _needs(root: Path, configs: Iterable[Mapping[str, Any]]) -> _Needs | None:
    """What configs name; None when one of them is of another version of mmkg and cannot be read: then all is kept."""
    from mmkg.sources.fetch import named_places  # brings an HTTP client, which those who ask a build do not need

    needs = _Needs(set(), set(), set())
    for config in configs:
        try:
            sources = [SourceConfig.model_validate(section) for section in config["sources"]]
            links = [LinkConfig.model_validate(section) for section in config.get("links", ())]
        except (ValidationError, KeyError, TypeError) as error:
            logger.warning("%s: downloads and pulls are left, because a config cannot be read: %s", root, error)
            return None
        named = [path for source in sources for path in source.paths] + [path for link in links for path in link.paths]
        needs.dumps.update(_dumps_of(named))
        for source in sources:
            needs.downloads.update(named_places(source, root / DOWNLOADS))
            if source.sparql is not None:
                needs.pulls.add(pull_folder(root, source.sparql))
    return needs


def _dumps_of(paths: Iterable[str]) -> Iterator[Path]:
    from mmkg.sources import find_dumps

    for path in paths:
        try:
            yield from find_dumps([path])
        except DumpError:  # the dumps of an old version need not be there any more
            continue


def _unnamed_files(root: Path, needs: _Needs) -> Iterator[tuple[Kind, Path]]:
    """Downloads, pulls and remembered digests that no config names."""
    folders = {place.parent for place in needs.downloads}
    for folder in sorted((root / DOWNLOADS).glob("*")):
        if folder not in folders and not any(_is_held(path) for path in folder.glob(f"*{PARTIAL_SUFFIX}")):
            yield "download", folder
    for folder in sorted((root / PULLS).glob("*")):
        if folder not in needs.pulls and not _is_held(folder):
            yield "pull", folder
    for record in sorted((root / DUMP_DIGESTS).glob("*.json")):
        path = _dump_of_record(record)
        is_ours = path is not None and any(parent in needs.pulls or parent in folders for parent in path.parents)
        if path is None or not path.exists() or not (path in needs.dumps or is_ours):
            yield "dump digest", record


def _unused_pictures(root: Path, kept: Iterable[BuildManifest]) -> Iterator[tuple[Kind, Path]]:
    """Parts of what was fetched that no kept version decoded, and vectors of embedders that none of them has."""
    from mmkg.embeddings.remembered import IDENTITIES

    decoded, embedders = set[str](), set[str]()
    for manifest in kept:
        for name, stage in manifest.stages.items():
            if name.startswith("pictures:"):
                decoded.add(read_manifest(root / STAGES / "pictures" / stage).inputs["part"])
        embedders.add(manifest.counts.get("vectors", {}).get("embedder", ""))
    for part in sorted((root / PICTURES_FOLDER / "image_bytes").glob("*.parquet")):
        if part.stem not in decoded:
            yield "pictures", part
    for folder in sorted((root / VECTORS_FOLDER).glob("*")):
        if folder.name not in {*embedders, IDENTITIES}:
            yield "vectors", folder


def _dump_of_record(record: Path) -> Path | None:
    """The dump whose digest a file remembers; None when it cannot be read."""
    try:
        return Path(json.loads(record.read_text(encoding="utf-8"))["identity"][0])
    except (ValueError, KeyError, TypeError, IndexError):
        return None


def _leftovers(root: Path) -> Iterator[Path]:
    """What the dead left half-written, but for downloads, pulls and stages that the next build goes on with."""
    for path in sorted(root.glob(f"*{PARTIAL_SUFFIX}")):
        if not _is_held(path):
            yield path
    for path in sorted((root / DUMP_DIGESTS).glob(f"*{PARTIAL_SUFFIX}")):
        yield path
    for path in sorted((root / DOWNLOADS).glob(f"*/*.json.*{PARTIAL_SUFFIX}")):  # of a record that was being written
        yield path
    for path in sorted((root / PICTURES_FOLDER).glob(f"*/*{PARTIAL_SUFFIX}")):
        yield path
    for path in sorted((root / VECTORS_FOLDER).glob(f"*/*{PARTIAL_SUFFIX}")):
        yield path
    for path in sorted(root.glob("[0-9][0-9][0-9][0-9]-*")):  # a version of which the manifest is gone: half-removed
        if path.is_dir() and path.suffix != PARTIAL_SUFFIX and not (path / BUILD_MANIFEST).exists():
            yield path


def _weigh(root: Path, found: Iterable[tuple[Kind, Path]]) -> list[Garbage]:
    """How much the disk gets back from each: a file with several names counts when its last one goes."""
    names_left: dict[tuple[int, int], int] = {}
    garbage = []
    for kind, path in found:
        freed = 0
        for file in _files(path):
            status = file.lstat()
            key = (status.st_dev, status.st_ino)
            names_left[key] = names_left.get(key, status.st_nlink) - 1
            if names_left[key] == 0:
                freed += status.st_blocks * _BLOCK_BYTES
        garbage.append(Garbage(kind=kind, path=path.relative_to(root), bytes=freed))
    return garbage


def _files(path: Path) -> Iterator[Path]:
    """A file or link itself, or all of them below a folder; links are not followed."""
    if path.is_symlink() or not path.is_dir():
        yield path
        return
    for folder, inner, names in os.walk(path):
        yield from (Path(folder) / name for name in names)
        yield from (Path(folder) / name for name in inner if (Path(folder) / name).is_symlink())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _remove_empty_parents(path: Path, root: Path) -> None:
    for parent in path.parents:
        if parent == root or not parent.is_relative_to(root) or any(parent.iterdir()):
            return
        parent.rmdir()
