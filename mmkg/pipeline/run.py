"""The whole build: every stage in order under the graph's lock, then the version, checked, delivered and served."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mmkg.builds import publishing
from mmkg.builds.lock import hold_graph
from mmkg.builds.publishing import BuildReport
from mmkg.config import Config
from mmkg.engine import keep_engine
from mmkg.pipeline.dumps import Dump, Progress, StepProgress, fetch, list_dumps, read
from mmkg.pipeline.graph import index, load, merge, split, validate
from mmkg.shards import StageResult

STAGES = ("read", "graph", "splits", "findings", "adjacency", "store")


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
