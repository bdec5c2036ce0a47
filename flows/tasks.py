"""The stages of ``mmkg build`` as Prefect tasks: each calls one function of ``mmkg.pipeline``.

Nothing depends on Prefect's own cache or on stored results: a stage whose digest is on disk is skipped. Retries stand
where a second try can help, at the network and at drives that go away; what is broken stays broken and fails at once.
What goes in and comes out pickles and is small, so that a task may run on another machine that sees the same folders.
"""

import logging
import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from flows import artifacts
from mmkg import pipeline
from mmkg.config import Config, SourceConfig
from mmkg.errors import FetchError
from mmkg.images.collect import CollectReport
from mmkg.pipeline import Dump
from mmkg.shards import StageResult
from mmkg.web import Unreachable

logger = logging.getLogger(__name__)

_RETRY_DELAYS_SECONDS = [10.0, 60.0, 300.0]


async def _error_of(state: State[Any]) -> BaseException | None:
    error = await state.aresult(raise_on_failure=False)
    return error if isinstance(error, BaseException) else None


async def _may_come_back(_task: Any, _run: Any, state: State[Any]) -> bool:
    """A host or a network drive that went away may come back; a dump that is broken stays broken.

    A failure of several downloads is caused by the first of them.
    """
    error = await _error_of(state)
    return isinstance(error, Unreachable | OSError) or (isinstance(error, FetchError) and _is_unreachable(error))


def _is_unreachable(error: FetchError) -> bool:
    return isinstance(error.__cause__, Unreachable)


async def _may_go_on(_task: Any, _run: Any, state: State[Any]) -> bool:
    """A pull that failed goes on where it stood: its pages are on disk, and endpoints have good and bad hours."""
    return isinstance(await _error_of(state), FetchError | OSError)


@task(
    task_run_name="download {section.name}",
    retries=len(_RETRY_DELAYS_SECONDS),
    retry_delay_seconds=_RETRY_DELAYS_SECONDS,
    retry_condition_fn=_may_come_back,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def download(config: Config, section: SourceConfig) -> list[Path]:
    """Fetch the dumps that a source names by URL."""
    return pipeline.fetch(config, section)


@task(
    task_run_name="pull {section.name}",
    retries=len(_RETRY_DELAYS_SECONDS),
    retry_delay_seconds=_RETRY_DELAYS_SECONDS,
    retry_condition_fn=_may_go_on,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def pull(config: Config, section: SourceConfig) -> list[Path]:
    """Fetch what a source asks an endpoint for."""
    return pipeline.fetch(config, section)


@task(
    task_run_name="read {dump.name}",
    retries=len(_RETRY_DELAYS_SECONDS),
    retry_delay_seconds=_RETRY_DELAYS_SECONDS,
    retry_condition_fn=_may_come_back,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def read(config: Config, dump: Dump) -> StageResult:
    """Read one dump."""
    if multiprocessing.current_process().daemon and config.graph.workers != 1:
        # Dask starts its workers as daemons, and a daemon may not have processes of its own
        logger.info(
            "%s is read by one process: this Dask worker may not start others. Start workers with "
            "DASK_DISTRIBUTED__WORKER__DAEMON=False to let each read by graph.workers.",
            dump.name,
        )
        config = config.model_copy(update={"graph": config.graph.model_copy(update={"workers": 1})})
    return pipeline.read(config, dump)


@task(cache_policy=NO_CACHE, persist_result=False)
def merge(config: Config, dumps: Sequence[Dump], reads: Sequence[StageResult]) -> StageResult:
    """Build the graph's tables."""
    return pipeline.merge(config, dumps, reads)


@task(cache_policy=NO_CACHE, persist_result=False)
def split(config: Config, dumps: Sequence[Dump], reads: Sequence[StageResult], graph: StageResult) -> StageResult:
    """Divide the triples for learning."""
    return pipeline.split(config, dumps, reads, graph)


@task(cache_policy=NO_CACHE, persist_result=False)
def validate(config: Config, graph: StageResult) -> StageResult:
    """Report what is odd."""
    return pipeline.validate(config, graph)


@task(cache_policy=NO_CACHE, persist_result=False)
def index(config: Config, graph: StageResult) -> StageResult:
    """Lay out the adjacency."""
    return pipeline.index(config, graph)


@task(cache_policy=NO_CACHE, persist_result=False)
def discover(config: Config, dumps: Sequence[Dump], reads: Sequence[StageResult], graph: StageResult) -> StageResult:
    """List where pictures may be had."""
    return pipeline.discover(config, dumps, reads, graph)


@task(cache_policy=NO_CACHE, persist_result=False)
def collect(config: Config, candidates: StageResult) -> CollectReport:
    """Fetch pictures; what fails in passing is asked again by the fetcher itself, and by the next run."""
    return pipeline.collect(config, candidates, progress=artifacts.show_progress(config, "pictures"))


@task(cache_policy=NO_CACHE, persist_result=False)
def decode(config: Config, candidates: StageResult) -> list[StageResult]:
    """Decode what was fetched, a stage for each part of it."""
    return pipeline.decode(config, candidates)


@task(cache_policy=NO_CACHE, persist_result=False)
def embed(config: Config, graph: StageResult, pictures: Sequence[StageResult]) -> StageResult:
    """Turn texts and pictures into vectors."""
    return pipeline.embed(config, graph, pictures, artifacts.show_progress(config, "vectors"))


@task(cache_policy=NO_CACHE, persist_result=False)
def judge(
    config: Config,
    graph: StageResult,
    candidates: StageResult,
    pictures: Sequence[StageResult],
    vectors: StageResult | None,
) -> StageResult:
    """Decide which pictures are kept."""
    return pipeline.judge(config, graph, candidates, pictures, vectors)


@task(cache_policy=NO_CACHE, persist_result=False)
def load(config: Config, graph: StageResult, images: StageResult | None) -> StageResult:
    """Load and verify the embedded store, or lay out what a server is to hold."""
    return pipeline.load(config, graph, images)
