"""The whole build: every stage in order under the graph's lock, then the version, checked, delivered and served."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmkg.builds import publishing
from mmkg.builds.lock import hold_graph
from mmkg.builds.publishing import BuildReport
from mmkg.config import Config
from mmkg.engine import keep_engine
from mmkg.errors import ConfigError
from mmkg.images.library import Retry
from mmkg.pipeline.dumps import Dump, Progress, StepProgress, fetch, list_dumps, read
from mmkg.pipeline.graph import index, load, merge, split, validate
from mmkg.pipeline.pictures import (
    check_embedder,
    check_picture_files,
    collect,
    decode,
    discover,
    embed,
    judge,
)
from mmkg.shards import Stage, StageResult

if TYPE_CHECKING:
    from mmkg.images.collect import CollectReport

STAGES = (
    "read",
    "graph",
    "splits",
    "findings",
    "adjacency",
    "candidates",
    "pictures",
    "vectors",
    "images",
    "store",
)


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
    names = [f"read:{dump.name}" for dump in dumps] + [_name(result.stage) for result in results[len(dumps) :]]
    stages = dict(zip(names, results, strict=True))
    return publishing.publish(config, stages, accept=accept, force=force, progress=progress)


def _name(stage: Stage) -> str:
    """What a version calls a stage that is done once for it, or once for each part of what was fetched."""
    return f"{stage.name}:{stage.digest[:8]}" if stage.name == "pictures" else stage.name


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
        dumps, results = _run_stages(config, until, progress, step_progress)
        if until != STAGES[-1]:
            return BuildReport(folder=None, version=None, unchanged=False, results=tuple(results))
        return publish(config, dumps, results, accept=accept, force=force, progress=step_progress)


def retry_pictures(config: Config, *, retry: Retry, progress: StepProgress | None = None) -> "CollectReport":
    """Ask again for pictures that did not come; the next build takes what has come.

    Args:
        config: describes the graph.
        retry: "transient" (what failed in passing) | "all" (what failed for good too).
        progress: told how many addresses are done.

    Raises:
        ConfigError: the config names no pictures.
    """
    if not config.images.is_asked_for:
        raise ConfigError(
            f"{config.graph.name}: the config names no pictures. Set from_graph, url_lists or folders in "
            "[images]: docs/pictures.md."
        )
    with lock_graph(config), keep_engine(config.graph.folder):
        _, results = _run_stages(config, "candidates", None, progress)
        return collect(config, results[-1], retry=retry, progress=progress)


def _run_stages(
    config: Config,
    until: str,
    progress: Callable[[Dump], Progress] | None,
    step_progress: StepProgress | None,
) -> tuple[list[Dump], list[StageResult]]:
    """All stages up to one of them, in the order in which `publish` wants them, and what was read."""
    check_picture_files(config)
    dumps = list_dumps(config, [fetch(config, section, step_progress) for section in config.sources])
    reads = [read(config, dump, progress(dump) if progress else None) for dump in dumps]
    if until == STAGES[0]:
        return dumps, reads
    graph = merge(config, dumps, reads)
    return dumps, [*reads, graph, *_after_graph(config, dumps, reads, graph, until, step_progress)]


def _after_graph(
    config: Config,
    dumps: Sequence[Dump],
    reads: Sequence[StageResult],
    graph: StageResult,
    until: str,
    progress: StepProgress | None,
) -> Iterator[StageResult]:
    """The stages that follow the graph, in the order of `STAGES`, without those that the config does not ask for."""

    def is_wanted(stage: str) -> bool:
        return STAGES.index(stage) <= STAGES.index(until)

    if is_wanted("splits"):
        yield split(config, dumps, reads, graph)
    if is_wanted("findings"):
        yield validate(config, graph)
    if is_wanted("adjacency"):
        yield index(config, graph)
    candidates, decoded, vectors, images = None, list[StageResult](), None, None
    if config.images.is_asked_for and is_wanted("candidates"):
        yield (candidates := discover(config, dumps, reads, graph))
    if config.embeddings.kind and is_wanted("vectors"):
        check_embedder(config)  # a wrong name is told before hours of fetching
    if candidates and is_wanted("pictures"):
        collect(config, candidates, progress=progress)
        yield from (decoded := decode(config, candidates, progress))
    if config.embeddings.kind and is_wanted("vectors"):
        yield (vectors := embed(config, graph, decoded, progress))
    if candidates and is_wanted("images"):
        yield (images := judge(config, graph, candidates, decoded, vectors))
    if is_wanted("store"):
        yield load(config, graph, images)
