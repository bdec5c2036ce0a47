"""From finished stages to a version that is served: put together, checked, brought to the server, pointed at.

The last step of a build, and the only one after which readers see anything else than before.
"""

import dataclasses
import datetime
import functools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mmkg.builds.check_report import CheckReport
from mmkg.builds.checks import run_checks
from mmkg.builds.delivery import Progress, switch_to
from mmkg.builds.retention import remove_old_versions
from mmkg.builds.serving import read_served
from mmkg.builds.versions import (
    BuildManifest,
    list_versions,
    read_build_manifest,
    served_version,
    write_version,
)
from mmkg.config import Config
from mmkg.errors import CheckFailed
from mmkg.shards import StageResult, digest
from mmkg.web import shown_config

if TYPE_CHECKING:
    from mmkg.store.neo4j import Neo4jLoadReport

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What a build did."""

    folder: Path | None  # of the version; None when it was asked to stop before
    version: str | None
    unchanged: bool  # the version was already being served
    withdrawn: bool = False  # ... and keeps being served, as what the dumps give was rolled back
    results: tuple[StageResult, ...]
    removed_versions: tuple[str, ...] = ()
    delivery: "Neo4jLoadReport | None" = None  # what the server's load did, if the store is one


def publish(
    config: Config,
    stages: Mapping[str, StageResult],
    *,
    accept: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> BuildReport:
    """Make a version of finished stages, check it, bring the server to it if there is one, and switch the pointer last.

    Args:
        config: describes the graph.
        stages: every finished stage in order: ``read:DUMP`` for each dump, then the others by their own names.
        accept: serve the version this once though checks do not pass, or though it was rolled back before; which
            checks is written into its manifest.
        force: let a server's store go that somebody else wrote into.
        progress: told how far the load of a server is.

    Raises:
        CheckFailed: a check of the config stops it; the version stays on disk, the previous one keeps being served.
        StoreError: the server cannot be brought to the version; the previous one keeps being served.
    """
    root = config.graph.folder
    switch = functools.partial(
        switch_to, root, store=config.store, force=force, progress=progress, memory_limit=config.graph.memory_limit
    )
    digests = {name: result.stage.digest for name, result in stages.items()}
    build_digest = digest(digests)
    served = served_version(root)
    before = read_build_manifest(root / served) if served else None
    is_served = before is not None and before.digest == build_digest
    withdrawn = not accept and not is_served and read_served(root).is_withdrawn(build_digest)
    if before and (is_served or withdrawn):
        if withdrawn:
            why = "what the dumps give was rolled back. `mmkg build --accept` serves it again."
            logger.warning("%s keeps being served: %s", before.version, why)
        else:
            logger.info("nothing has changed: %s keeps being served", before.version)
        return BuildReport(
            folder=root / before.version,
            version=before.version,
            unchanged=True,
            withdrawn=withdrawn,
            results=tuple(stages.values()),
            delivery=switch(before.version),
        )
    folder = _make_version(config, stages, digests, before, accept=accept)
    delivery = switch(folder.name)
    removed = remove_old_versions(root, keep=config.graph.keep_builds)
    return BuildReport(
        folder=folder,
        version=folder.name,
        unchanged=False,
        results=tuple(stages.values()),
        removed_versions=tuple(removed),
        delivery=delivery,
    )


def _make_version(
    config: Config,
    stages: Mapping[str, StageResult],
    digests: Mapping[str, str],
    before: BuildManifest | None,
    *,
    accept: bool,
) -> Path:
    """Check finished stages against the version being served, and put a version together out of them.

    Raises:
        CheckFailed: a check stops it.
    """
    root, build_digest = config.graph.folder, digest(digests)
    counts = {name: result.manifest.counts for name, result in stages.items()}
    images_folder = stages["images"].folder if "images" in stages else None
    report, checks_folder = run_checks(
        config, root, stages["graph"].folder, build_digest, counts, before, images_folder
    )
    served = before.version if before else None
    known = _find_version(root, build_digest)
    if report.problems and not accept and known and read_build_manifest(root / known).may_be_served:
        raise _stopped(report, root / known, served)  # it was served once, and a rollback may still go back to it
    manifest = BuildManifest(
        graph=config.graph.name,
        version=known or _next_version(root, build_digest),
        digest=build_digest,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        stages=digests,
        counts=counts,
        source_names=config.source_names,
        config=shown_config(config),
        problems=report.problems,
        accepted=report.problems if accept else (),
    )
    parts = [(name, result.folder) for name, result in stages.items()]
    folder = write_version(root, manifest, [*parts, ("checks", checks_folder)])
    if not manifest.may_be_served:
        raise _stopped(report, folder, served)
    for problem in manifest.accepted:
        logger.warning("accepted: %s", problem)
    return folder


def _stopped(report: CheckReport, folder: Path, served: str | None) -> CheckFailed:
    """The error for a version that its checks keep from being served."""
    kept = f"{served} keeps being served" if served else "nothing is served yet"
    lines = [f"{folder} is built but does not pass its checks; {kept}:", *report.problems]
    lines.append("Mend what is wrong, change the limits, or serve it this once: mmkg build --accept")
    return CheckFailed("\n".join(lines), report, folder)


def _find_version(root: Path, build_digest: str) -> str | None:
    """An older version that holds the same (a config that was changed and changed back)."""
    return next((v for v in list_versions(root) if read_build_manifest(root / v).digest == build_digest), None)


def _next_version(root: Path, build_digest: str) -> str:
    numbers = [int(version.partition("-")[0]) for version in list_versions(root)]
    return f"{max(numbers, default=0) + 1:04d}-{build_digest[:8]}"
