"""The stages of a build in order, each skipped when its digest is there.

fetch (what the config names by URL or endpoint) → read (one a dump) → graph → splits, findings, adjacency, store → a
version, checked, delivered to the server if the store is one, then served.
``mmkg build`` and the Prefect flow call the same functions, so that a build gives the same manifest with and without an
orchestrator. Each function takes paths and finished stages and returns a finished stage; none returns tables.
"""

import contextlib
import dataclasses
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mmkg.builds import publishing
from mmkg.builds.lock import hold_graph
from mmkg.builds.publishing import BuildReport
from mmkg.builds.retention import pull_folder
from mmkg.config import Config, LinkConfig, SourceConfig
from mmkg.engine import keep_engine
from mmkg.graph.build import BUILD_VERSION, build_graph
from mmkg.graph.splits import SPLITS_VERSION, build_splits
from mmkg.graph.validate import VALIDATE_VERSION, build_findings
from mmkg.shards import Stage, StageResult, digest, file_sha256, open_table, run_stage, write_json
from mmkg.sources import dump_names, find_dumps, read_dump, read_links
from mmkg.sources.reader import READER_VERSION
from mmkg.store import STORE_VERSION, load_store
from mmkg.subgraphs import build_adjacency
from mmkg.subgraphs.adjacency import FORMAT_VERSION as ADJACENCY_VERSION

logger = logging.getLogger(__name__)

STAGES = ("read", "graph", "splits", "findings", "adjacency", "store")
Progress = Callable[[int, int], None]
StepProgress = Callable[[str, int, int | None], None]
"""What is being fetched or loaded, how much of it is done, and how much there is, if that is known."""
_STORE_SETTINGS = {"attributes", "min_attribute_share", "max_attributes"}  # what its content depends on
_SERVER_SETTINGS = {"uri", "user", "password_env", "database"}
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


@contextlib.contextmanager
def lock_graph(config: Config, holder: str | None = None) -> Iterator[Path]:
    """Hold the graph's folder for one build at a time; freed by the system when the process ends, however it ends.

    Args:
        config: names the graph.
        holder: what is told about this build to others that want to; the command line unless given.

    Raises:
        BuildError: another build of the same graph is running; the message says whose.
    """
    with hold_graph(config.graph.folder, holder=holder) as root:
        yield root


def fetch(config: Config, section: SourceConfig, progress: StepProgress | None = None) -> list[Path]:
    """Bring what a source names by URL or endpoint to this machine; what has not changed is not fetched again.

    Raises:
        FetchError: something cannot be fetched whole.
    """
    root = config.graph.folder
    if section.sparql is not None:
        from mmkg.sources.sparql import pull

        endpoint = section.sparql.endpoint
        told = None if progress is None else lambda done, total: progress(endpoint, done, total)
        return list(pull(section.sparql, pull_folder(root, section.sparql), progress=told).files)
    if not section.urls:
        return []
    from mmkg.sources.fetch import fetch_dumps

    downloads = fetch_dumps(section, config.fetch, root / "downloads", progress=progress)
    return [download.path for download in downloads]


def list_dumps(config: Config, fetched: Sequence[Sequence[Path]] = ()) -> list[Dump]:
    """All dumps that a config names, in its order.

    Args:
        config: describes the graph.
        fetched: for each of its sources, what `fetch` brought.

    Raises:
        DumpError: a path matches nothing.
    """
    brought = [*fetched, *[()] * (len(config.sources) + len(config.links) - len(fetched))]
    sections: tuple[SourceConfig | LinkConfig, ...] = (*config.sources, *config.links)
    found = [
        (section, path)
        for section, files in zip(sections, brought, strict=True)
        for path in (*find_dumps(section.paths), *files)
    ]
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
    root = config.graph.folder
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
        config.graph.folder / "stages",
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
        config.graph.folder / "stages", stage, lambda folder: build_splits(config, graph.folder, named, folder)
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
    return run_stage(config.graph.folder / "stages", stage, lambda folder: build_findings(config, graph.folder, folder))


def index(config: Config, graph: StageResult) -> StageResult:
    """Lay the triples out as compressed sparse rows."""
    stage = Stage(name="adjacency", version=ADJACENCY_VERSION, inputs={"graph": graph.stage.digest}, settings={})

    def work(folder: Path) -> dict[str, Any]:
        triples = open_table(graph.folder, "triples")
        build_adjacency(triples, num_entities=graph.manifest.counts["entities"], folder=folder / "adjacency")
        return {}

    return run_stage(config.graph.folder / "stages", stage, work)


def load(config: Config, graph: StageResult) -> StageResult:
    """Load the graph into a new embedded store and verify it, or lay out the content that a server's is to have."""
    settings = config.store.model_dump(mode="json", include=_STORE_SETTINGS)
    # a version says in its manifest where it is asked, so another server is another version, of the same content
    server = None if config.store.is_embedded else config.store.model_dump(mode="json", include=_SERVER_SETTINGS)
    stage = Stage(
        name="store",
        version=STORE_VERSION,
        inputs={"graph": graph.stage.digest},
        settings={"store": settings, "server": server, "source_names": config.source_names},
    )

    memory = config.graph.memory_limit

    def work(folder: Path) -> dict[str, Any]:
        target = folder / "store"
        if config.store.is_embedded:
            report = load_store(graph.folder, target, config.store, config.source_names, memory_limit=memory)
            return dataclasses.asdict(report)
        from mmkg.store.content import write_content

        content = write_content(graph.folder, config.store, config.source_names, target, memory_limit=memory)
        return {
            "entities": content.digest.num_nodes,
            "triples": content.digest.num_edges,
            "values_left_out": content.values_left_out,
            "content": content.digest.total,
        }

    return run_stage(config.graph.folder / "stages", stage, work)


def publish(
    config: Config,
    dumps: Sequence[Dump],
    results: Sequence[StageResult],
    *,
    accept: bool = False,
    force: bool = False,
    progress: StepProgress | None = None,
) -> BuildReport:
    """Serve what was built, if it passes its checks; see :func:`mmkg.builds.publishing.publish`.

    Args:
        config: describes the graph.
        dumps: what was read.
        results: of `read` for each of them, then of the other stages in order.
        accept: serve the version this once though checks do not pass, or though it was rolled back before.
        force: let a server's store go that somebody else wrote into.
        progress: told how far the load of a server is.
    """
    names = [f"read:{dump.name}" for dump in dumps] + [result.stage.name for result in results[len(dumps) :]]
    stages = dict(zip(names, results, strict=True))
    return publishing.publish(config, stages, accept=accept, force=force, progress=progress)


def build(
    config: Config,
    *,
    until: str = STAGES[-1],
    accept: bool = False,
    force: bool = False,
    progress: Callable[[Dump], Progress] | None = None,
    step_progress: StepProgress | None = None,
) -> BuildReport:
    """Do everything that is not yet there.

    Args:
        config: describes the graph.
        until: the last stage to do, one of `STAGES`; a version is made, and served, only when all are done.
        accept: see :func:`publish`.
        force: see :func:`publish`.
        progress: gives, for each dump, what is told about lines and bytes read so far.
        step_progress: told how far fetching, and the load of a server, are.
    """
    with lock_graph(config), keep_engine(config.graph.folder):
        dumps = list_dumps(config, [fetch(config, section, step_progress) for section in config.sources])
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
        return publish(config, dumps, results, accept=accept, force=force, progress=step_progress)
