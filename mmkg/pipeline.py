"""The stages of a build in order, each skipped when its digest is there.

read (one a dump) → graph → splits, findings, adjacency, store → a version, checked, then served.
``mmkg build`` and the Prefect flow call the same functions, so that a build gives the same manifest with and without an
orchestrator. Each function takes paths and finished stages and returns a finished stage; none returns tables.
"""

import contextlib
import dataclasses
import datetime
import fcntl
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mmkg.builds import (
    BuildManifest,
    list_versions,
    read_build_manifest,
    remove_old_versions,
    serve,
    served_version,
    write_version,
)
from mmkg.config import Config, LinkConfig, SourceConfig
from mmkg.errors import BuildError, CheckFailed
from mmkg.graph.build import BUILD_VERSION, build_graph
from mmkg.graph.splits import SPLITS_VERSION, build_splits
from mmkg.graph.validate import VALIDATE_VERSION, build_findings, check_build
from mmkg.shards import Stage, StageResult, digest, file_sha256, open_table, run_stage, write_json
from mmkg.sources import dump_names, find_dumps, read_dump, read_links
from mmkg.sources.reader import READER_VERSION
from mmkg.store import STORE_VERSION, load_store
from mmkg.subgraphs import build_adjacency
from mmkg.subgraphs.adjacency import FORMAT_VERSION as ADJACENCY_VERSION

logger = logging.getLogger(__name__)

STAGES = ("read", "graph", "splits", "findings", "adjacency", "store")
Progress = Callable[[int, int], None]
_SOURCE_SETTINGS = {"kind", "name", "split", "base_iri", "fold_cvt", "drop_redundant"}  # what the graph depends on


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dump:
    """One file to read: which section of the config names it, and what provenance calls it."""

    section: SourceConfig | LinkConfig
    path: Path
    name: str

    @property
    def is_link(self) -> bool:
        """Whether it holds identity links."""
        return isinstance(self.section, LinkConfig)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What a build did."""

    folder: Path | None  # of the version; None when it was asked to stop before
    version: str | None
    unchanged: bool  # the version was already being served
    results: tuple[StageResult, ...]
    removed_versions: tuple[str, ...] = ()


def graph_folder(config: Config) -> Path:
    """Folder of all versions and stages of a config's graph."""
    return config.graph.output / config.graph.name


@contextlib.contextmanager
def lock_graph(config: Config) -> Iterator[Path]:
    """Hold the graph's folder for one build at a time; freed by the system when the process ends, however it ends.

    Raises:
        BuildError: another build of the same graph is running.
    """
    root = graph_folder(config)
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise BuildError(f"{root}: another build of this graph is running (process {lock.read()}).") from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield root


def list_dumps(config: Config) -> list[Dump]:
    """All dumps that a config names, in its order.

    Raises:
        DumpError: a path matches nothing.
    """
    sections: tuple[SourceConfig | LinkConfig, ...] = (*config.sources, *config.links)
    found = [(section, path) for section in sections for path in find_dumps(section.paths)]
    names = dump_names([path for _, path in found])
    return [Dump(section=section, path=path, name=name) for (section, path), name in zip(found, names, strict=True)]


def dump_digest(root: Path, path: Path) -> str:
    """SHA-256 of a dump, remembered by its size and time of change so that an unchanged dump is not read again."""
    status = path.stat()
    known_path = root / "dump_digests" / f"{digest(str(path.resolve()))}.json"
    identity = [str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ino]
    if known_path.exists():
        known = json.loads(known_path.read_text(encoding="utf-8"))
        if known["identity"] == identity:
            return str(known["sha256"])
    sha256 = file_sha256(path)
    known_path.parent.mkdir(parents=True, exist_ok=True)
    write_json(known_path, {"identity": identity, "sha256": sha256})
    return sha256


def read(config: Config, dump: Dump, progress: Progress | None = None) -> StageResult:
    """Read one dump into `triples_raw`, `qualifiers_raw`, `rejects` and `dumps`."""
    root = graph_folder(config)
    settings = dump.section.model_dump(mode="json", include={"kind", "name", "base_iri"})
    stage = Stage(
        name="read",
        version=READER_VERSION,
        inputs={dump.name: dump_digest(root, dump.path)},
        settings={**settings, "link": dump.is_link},
    )

    def work(folder: Path) -> dict[str, Any]:
        workers = config.graph.workers or os.cpu_count() or 1
        if isinstance(dump.section, LinkConfig):
            counts = read_links(dump.section, dump.path, dump.name, folder, workers=workers, progress=progress)
        else:
            counts = read_dump(dump.section, dump.path, dump.name, folder, workers=workers, progress=progress)
        return dataclasses.asdict(counts)

    return run_stage(root / "stages", stage, work, resumable=True)


def merge(config: Config, dumps: Sequence[Dump], reads: Sequence[StageResult]) -> StageResult:
    """Build entities, relations, triples, literals, merges and the ledger out of all that was read."""
    sources = [result for dump, result in zip(dumps, reads, strict=True) if not dump.is_link]
    links = [result for dump, result in zip(dumps, reads, strict=True) if dump.is_link]
    stage = Stage(
        name="graph",
        version=BUILD_VERSION,
        inputs={f"{dump.name}": result.stage.digest for dump, result in zip(dumps, reads, strict=True)},
        settings={
            "identity": config.identity.model_dump(mode="json"),
            "languages": config.graph.languages,
            "source_names": config.source_names,
            "sources": [s.model_dump(include=_SOURCE_SETTINGS) for s in config.sources],
        },
    )
    return run_stage(
        graph_folder(config) / "stages",
        stage,
        lambda folder: build_graph(config, [s.folder for s in sources], [link.folder for link in links], folder),
    )


def split(config: Config, dumps: Sequence[Dump], reads: Sequence[StageResult], graph: StageResult) -> StageResult:
    """Divide the triples into train, valid and test."""
    named = [
        (dump.section.split, result.folder)
        for dump, result in zip(dumps, reads, strict=True)
        if isinstance(dump.section, SourceConfig) and dump.section.split
    ]
    stage = Stage(
        name="splits",
        version=SPLITS_VERSION,
        inputs={"graph": graph.stage.digest},
        settings={
            "splits": config.splits.model_dump(mode="json"),
            "random_seed": config.graph.random_seed,
            "dumps": [[name, folder.name] for name, folder in named],
        },
    )
    return run_stage(
        graph_folder(config) / "stages", stage, lambda folder: build_splits(config, graph.folder, named, folder)
    )


def validate(config: Config, graph: StageResult) -> StageResult:
    """Report what is odd in the graph."""
    stage = Stage(
        name="findings",
        version=VALIDATE_VERSION,
        inputs={"graph": graph.stage.digest},
        settings={
            "shapes": [file_sha256(Path(path)) for path in config.checks.shapes],
            "disjoint_types": config.identity.disjoint_types,
            "shacl_max_triples": config.checks.shacl_max_triples,
        },
    )
    return run_stage(
        graph_folder(config) / "stages", stage, lambda folder: build_findings(config, graph.folder, folder)
    )


def index(config: Config, graph: StageResult) -> StageResult:
    """Lay the triples out as compressed sparse rows."""
    stage = Stage(name="adjacency", version=ADJACENCY_VERSION, inputs={"graph": graph.stage.digest}, settings={})

    def work(folder: Path) -> dict[str, Any]:
        triples = open_table(graph.folder, "triples")
        build_adjacency(triples, num_entities=graph.manifest.counts["entities"], folder=folder / "adjacency")
        return {}

    return run_stage(graph_folder(config) / "stages", stage, work)


def load(config: Config, graph: StageResult) -> StageResult:
    """Load the graph into a new Cypher store and verify it."""
    stage = Stage(
        name="store",
        version=STORE_VERSION,
        inputs={"graph": graph.stage.digest},
        settings={"store": config.store.model_dump(mode="json"), "source_names": config.source_names},
    )

    def work(folder: Path) -> dict[str, Any]:
        return dataclasses.asdict(load_store(graph.folder, folder / "store", config.store, config.source_names))

    return run_stage(graph_folder(config) / "stages", stage, work)


def publish(config: Config, dumps: Sequence[Dump], results: Sequence[StageResult]) -> BuildReport:
    """Make a version of finished stages, check it, and switch the pointer to it last.

    Raises:
        CheckFailed: a check of the config stops it; the version stays on disk, the previous one keeps being served.
    """
    root = graph_folder(config)
    names = _names_of(dumps, results)
    stages = {name: result.stage.digest for name, result in zip(names, results, strict=True)}
    counts = {name: result.manifest.counts for name, result in zip(names, results, strict=True)}
    build_digest = digest(stages)
    served = served_version(root)
    before = read_build_manifest(root / served) if served else None
    if before and before.digest == build_digest:
        logger.info("nothing has changed: %s keeps being served", served)
        return BuildReport(folder=root / before.version, version=before.version, unchanged=True, results=tuple(results))
    problems = tuple(check_build(config, counts, before.counts if before else None))
    version = _find_version(root, build_digest) or _next_version(root, build_digest)
    manifest = BuildManifest(
        graph=config.graph.name,
        version=version,
        digest=build_digest,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        stages=stages,
        counts=counts,
        source_names=config.source_names,
        config=config.model_dump(mode="json"),
        problems=problems,
    )
    folder = write_version(root, manifest, [(name, result.folder) for name, result in zip(names, results, strict=True)])
    if problems:
        kept = f"{served} keeps being served" if served else "nothing is served yet"
        raise CheckFailed(f"{folder} is built but does not pass its checks; {kept}:\n" + "\n".join(problems))
    serve(root, version)
    removed = remove_old_versions(root, keep=config.graph.keep_builds)
    return BuildReport(
        folder=folder, version=version, unchanged=False, results=tuple(results), removed_versions=tuple(removed)
    )


def _names_of(dumps: Sequence[Dump], results: Sequence[StageResult]) -> list[str]:
    """read:DUMP for the first results, one a dump, then the stages' own names."""
    reads = [f"read:{dump.name}" for dump in dumps]
    return reads + [result.stage.name for result in results[len(dumps) :]]


def _find_version(root: Path, build_digest: str) -> str | None:
    """An older version that holds the same (a config that was changed and changed back)."""
    return next((v for v in list_versions(root) if read_build_manifest(root / v).digest == build_digest), None)


def _next_version(root: Path, build_digest: str) -> str:
    numbers = [int(version.partition("-")[0]) for version in list_versions(root)]
    return f"{max(numbers, default=0) + 1:04d}-{build_digest[:8]}"


def build(
    config: Config, *, until: str = STAGES[-1], progress: Callable[[Dump], Progress] | None = None
) -> BuildReport:
    """Do everything that is not yet there.

    Args:
        config: describes the graph.
        until: the last stage to do, one of `STAGES`; a version is made, and served, only when all are done.
        progress: gives, for each dump, what is told about lines and bytes read so far.
    """
    with lock_graph(config):
        dumps = list_dumps(config)
        reads = [read(config, dump, progress(dump) if progress else None) for dump in dumps]
        results = list(reads)
        after_graph: tuple[Callable[[StageResult], StageResult], ...] = (  # in the order of STAGES
            lambda graph: split(config, dumps, reads, graph),
            lambda graph: validate(config, graph),
            lambda graph: index(config, graph),
            lambda graph: load(config, graph),
        )
        if until != STAGES[0]:
            graph = merge(config, dumps, reads)
            results += [graph, *(step(graph) for step in after_graph[: STAGES.index(until) - 1])]
        if until != STAGES[-1]:
            return BuildReport(folder=None, version=None, unchanged=False, results=tuple(results))
        return publish(config, dumps, results)
