"""Which versions readers were given, in which order; which were taken back; which server holds what they ask.

::

    builds/atlas/
        current -> 0002-9c1d44aa   the version being served, which readers follow
        served.json                how it came to that: `Served`

The pointer is what counts. It is switched after ``served.json`` is written, so that a kill between the two leaves a
record of one version more than was served, which is not looked at.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmkg.builds.versions import CURRENT, list_versions, read_build_manifest, served_version
from mmkg.config import StoreConfig
from mmkg.errors import BuildError, unknown_name
from mmkg.shards import PARTIAL_SUFFIX, sync_folder, write_json

RECORD = "served.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Served:
    """What is known of a graph's serving."""

    versions: tuple[str, ...] = ()  # each once, in the order in which they were last served; the last is served now
    withdrawn: Mapping[str, str] = dataclasses.field(default_factory=dict)  # rolled back: version to its build's digest
    stores: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)  # `StoreConfig` of a version ...
    # ... that another server than its own was brought to, in a rollback

    def is_withdrawn(self, build_digest: str) -> bool:
        """Whether a build that makes this again was rolled back, and is not to be served without being asked for."""
        return build_digest in self.withdrawn.values()


def read_served(root: Path) -> Served:
    """What led to the version being served now; of a graph without a record, its versions by their numbers.

    Raises:
        BuildError: the record cannot be read.
    """
    path, now = root / RECORD, served_version(root)
    if now is None:
        return Served()
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        served = Served(versions=tuple(data["versions"]), withdrawn=data["withdrawn"], stores=data["stores"])
    except FileNotFoundError:
        served = Served()
    except (ValueError, KeyError, TypeError) as error:
        raise BuildError(
            f"{path}: expected the record that mmkg writes, found {error!r}. Remove it: then `mmkg rollback` goes by "
            "the numbers of the versions."
        ) from error
    if now in served.versions:
        return dataclasses.replace(served, versions=served.versions[: served.versions.index(now) + 1])
    earlier = [v for v in list_versions(root) if v < now and read_build_manifest(root / v).may_be_served]
    return dataclasses.replace(served, versions=(*earlier, now))


def earlier_versions(root: Path) -> list[str]:
    """The versions that a rollback may go back to, in the order in which they were served."""
    there = set(list_versions(root))
    earlier = [version for version in read_served(root).versions[:-1] if version in there]
    return [version for version in earlier if read_build_manifest(root / version).may_be_served]


def version_before(root: Path) -> str:
    """Name of the version that was served before the one that is served now: what a rollback goes to.

    Raises:
        BuildError: there is none, or it is no longer there.
    """
    earlier = earlier_versions(root)
    if not earlier:
        raise BuildError(f"{root}: no version before {served_version(root) or 'the first build'} to roll back to.")
    return earlier[-1]


def store_of(root: Path, version: str) -> StoreConfig:
    """The store that holds a version when it is served: the one that it was built for, or was brought to since."""
    known = read_served(root).stores.get(version)
    return StoreConfig.model_validate(known or read_build_manifest(root / version).config.get("store", {}))


def serve(root: Path, version: str, store: StoreConfig | None = None, *, back: bool = False) -> None:
    """Switch the pointer to a finished version, in one rename.

    Args:
        root: folder of the graph.
        version: one of its finished versions.
        store: that holds it; the one that it was built for unless given.
        back: this is a rollback: what was served after `version` is withdrawn.

    Raises:
        BuildError: there is no such version.
    """
    if version not in list_versions(root):
        raise BuildError(unknown_name(f"version of {root.name}", version, list_versions(root)))
    write_json(root / RECORD, dataclasses.asdict(_after(root, version, store, back=back)))
    partial = root / f"{CURRENT}.{os.getpid()}{PARTIAL_SUFFIX}"
    partial.unlink(missing_ok=True)
    partial.symlink_to(version)
    partial.replace(root / CURRENT)
    sync_folder(root)


def _after(root: Path, version: str, store: StoreConfig | None, *, back: bool) -> Served:
    """The record once `version` is served."""
    served, there = read_served(root), set(list_versions(root))
    manifest = read_build_manifest(root / version)
    withdrawn = {name: digest for name, digest in served.withdrawn.items() if digest != manifest.digest}
    versions = [name for name in served.versions if name in there and name != version]
    if back:  # to one that was served: what came after it; to another one: what is newer
        order = served.versions if version in served.versions else sorted([*served.versions, version])
        left = [name for name in versions if order.index(name) > order.index(version)]
        withdrawn |= {name: read_build_manifest(root / name).digest for name in left}
        versions = [name for name in versions if name not in left]
    stores = {name: settings for name, settings in served.stores.items() if name in there and name != version}
    settings = None if store is None else store.model_dump(mode="json")
    if settings is not None and settings != manifest.config.get("store"):
        stores[version] = settings
    return Served(versions=(*versions, version), withdrawn=withdrawn, stores=stores)
