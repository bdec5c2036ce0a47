"""The Prefect flow that rebuilds a graph: the stages of ``mmkg build`` as tasks, on a schedule.

Nothing depends on Prefect's own cache: a stage whose digest is on disk is skipped, so the flow is safe to run twice and
to kill, and its result is the same as that of ``mmkg build``. docs/schedules.md shows how it is run.

Once, here:      python flows/rebuild.py examples/atlas/atlas.toml
Every night:     python flows/rebuild.py examples/atlas/atlas.toml --cron "0 3 * * *"
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from prefect import Task, flow, serve, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.futures import PrefectFuture, wait
from prefect.runtime import flow_run
from prefect.task_runners import TaskRunner

if (_ROOT := str(Path(__file__).resolve().parents[1])) not in sys.path:
    sys.path.insert(0, _ROOT)  # run as a script, or loaded by a worker: only this file's own folder is there

from flows import artifacts, hooks, tasks
from flows.machines import Runner, open_machines
from mmkg import pipeline
from mmkg.builds import list_versions, open_build, served_version
from mmkg.builds.check_report import read_checks
from mmkg.builds.compare import find_differences
from mmkg.builds.publishing import BuildReport
from mmkg.config import Config, read_config
from mmkg.engine import keep_engine
from mmkg.errors import CheckFailed, ConfigError, MmkgError, ShardError
from mmkg.pipeline import Dump
from mmkg.shards import StageResult


@task(cache_policy=NO_CACHE, persist_result=False)
def publish(
    config: Config, dumps: Sequence[Dump], results: Sequence[StageResult], accept: bool, force: bool
) -> BuildReport:
    """Check the new version and switch to it; runs in the flow's own process, which has the server's password."""
    return pipeline.publish(
        config, dumps, results, accept=accept, force=force, progress=artifacts.show_progress(config, "load")
    )


@task(cache_policy=NO_CACHE, persist_result=False)
def compare(config: Config, before: str | None, now: Path) -> str:
    """Show what differs from the version before, and plots; returns the difference in a line."""
    if before not in list_versions(now.parent):  # the first version, or graph.keep_builds is 1
        artifacts.show_plots(config, now, None)
        return ""
    with open_build(now.parent, before) as old, open_build(now) as new:
        difference = find_differences(old, new)
    artifacts.show_difference(config, difference)
    artifacts.show_plots(config, now, difference)
    return difference.summary()


@flow(
    name="rebuild",
    persist_result=False,
    on_completion=[hooks.tell],
    on_failure=[hooks.tell],
    on_cancellation=[hooks.tell],
    on_crashed=[hooks.tell],
)
def rebuild(
    config_path: Path,
    settings: list[str] = [],  # noqa: B006 - Prefect reads the default into the form of a run; nobody changes it
    accept: bool = False,
    force: bool = False,
    runner: Runner = "threads",
    dask_address: str = "",
    dask_workers: int = 0,
) -> str:
    """Build what has changed and serve it; returns the folder of the version. Running it twice changes nothing.

    Args:
        config_path: the TOML file of the graph, absolute or relative to the folder that the flow runs in.
        settings: overrides such as ``graph.workers=2``.
        accept: serve the version this once though checks do not pass.
        force: let a server's store go that somebody else wrote into.
        runner: threads of one process, or ``dask`` for several machines.
        dask_address: of a Dask scheduler; a cluster of processes of this machine unless set.
        dask_workers: how many processes that cluster has; 0 is two.
    """
    config = read_config(Path(config_path), settings)
    course = hooks.begin(UUID(flow_run.id), config)
    try:
        pipeline.check_picture_files(config)
        with pipeline.lock_graph(config, holder=f"flow run {flow_run.name}"), keep_engine(config.graph.folder):
            dumps = pipeline.list_dumps(config, _fetch(config))
            with open_machines(runner, dask_address, dask_workers) as machines:
                results = _build(config, dumps, machines)
            _publish(course, dumps, results, accept=accept, force=force)
    except BaseException as error:
        course.error = error
        raise
    return str(course.report.folder) if course.report else ""


def _fetch(config: Config) -> list[list[Path]]:
    """What each source brought; all sources at the same time, and here: clusters often have no way out.

    One that fails is told when all have ended: as long as one of them writes, the graph is held.
    """
    futures = [
        (tasks.pull if section.sparql else tasks.download).submit(config, section)
        if section.sparql or section.urls
        else None
        for section in config.sources
    ]
    wait([future for future in futures if future])
    return [future.result() if future else [] for future in futures]


def _build(config: Config, dumps: Sequence[Dump], machines: TaskRunner[Any]) -> list[StageResult]:
    """All stages, in the order in which `pipeline.publish` wants them."""

    def start(step: Task[..., StageResult], **inputs: Any) -> PrefectFuture[StageResult]:
        return machines.submit(step, {"config": config, **inputs})  # type: ignore[no-any-return]

    reads = [future.result() for future in [start(tasks.read, dump=dump) for dump in dumps]]
    artifacts.show_dumps(config, reads)
    graph = start(tasks.merge, dumps=dumps, reads=reads).result()
    after = [
        start(tasks.split, dumps=dumps, reads=reads, graph=graph),
        start(tasks.validate, graph=graph),
        start(tasks.index, graph=graph),
    ]
    pictures, images = _build_pictures(config, dumps, reads, graph, start)
    store = start(tasks.load, graph=graph, images=images)
    results = [*reads, graph, *(future.result() for future in after), *pictures, store.result()]
    artifacts.show_stages(config, results)
    return results


def _build_pictures(
    config: Config, dumps: Sequence[Dump], reads: Sequence[StageResult], graph: StageResult, start: Callable[..., Any]
) -> tuple[list[StageResult], StageResult | None]:
    """The stages from candidates to kept pictures that the config asks for, and the last of them."""
    results, decoded = list[StageResult](), list[StageResult]()
    candidates, vectors, images = None, None, None
    if config.images.is_asked_for:
        candidates = start(tasks.discover, dumps=dumps, reads=reads, graph=graph).result()
        tasks.collect(config, candidates)  # here: clusters often have no way out
        decoded = start(tasks.decode, candidates=candidates).result()
        results += [candidates, *decoded]
    if config.embeddings.kind:
        vectors = start(tasks.embed, graph=graph, pictures=decoded).result()
        results.append(vectors)
    if candidates is not None:
        images = start(tasks.judge, graph=graph, candidates=candidates, pictures=decoded, vectors=vectors).result()
        artifacts.show_pictures(config, images)
        results.append(images)
    return results, images


def _publish(
    course: hooks.Course, dumps: Sequence[Dump], results: Sequence[StageResult], *, accept: bool, force: bool
) -> None:
    """Publish, and show what was checked and what has changed, whether it is served or not."""
    before = served_version(course.config.graph.folder)
    try:
        report = publish(course.config, dumps, results, accept, force)
    except CheckFailed as error:
        if error.report is not None:
            artifacts.show_checks(course.config, error.report)
        if error.folder is not None:
            _compare(course, before, error.folder)
        raise
    course.report = report
    if report.folder is not None and not report.unchanged:
        with contextlib.suppress(ShardError):  # built by an mmkg without that table, and served again
            artifacts.show_checks(course.config, read_checks(report.folder))
        _compare(course, before, report.folder)


def _compare(course: hooks.Course, before: str | None, now: Path) -> None:
    """By now the version is served, or refused: a comparison that fails is a failed task, and fails nothing else."""
    state = compare(course.config, before, now, return_state=True)
    if state.is_completed():
        course.difference = str(state.result())


def deploy(
    configs: Sequence[Path], settings: Sequence[str], cron: str, parameters: dict[str, Any]
) -> list[RunnerDeployment]:
    """A deployment `rebuild-GRAPH` for each config, all on one schedule.

    Raises:
        ConfigError: a file does not describe a graph, or two describe one of the same name.
    """
    deployments: dict[str, RunnerDeployment] = {}
    for path in configs:
        name = f"rebuild-{read_config(path, settings).graph.name}"
        if name in deployments:
            raise ConfigError(
                f"{path}: another config is also called {name.removeprefix('rebuild-')}. Rename one graph."
            )
        deployment = rebuild.to_deployment(
            name=name,
            cron=cron,
            parameters={**parameters, "config_path": str(path.resolve()), "settings": list(settings)},
            concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE),
        )
        deployments[name] = cast(RunnerDeployment, deployment)
    return list(deployments.values())


def main() -> int:
    """Run the flow once for each config, or serve it on a schedule; 1 when something went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", metavar="CONFIG", type=Path, nargs="+", help="the TOML file of a graph")
    parser.add_argument("--cron", help='serve a deployment on this schedule, such as "0 3 * * *", until stopped')
    parser.add_argument("--at-a-time", type=int, default=1, help="with --cron: graphs rebuilt at the same time")
    parser.add_argument("--set", dest="settings", metavar="KEY=VALUE", action="append", default=[])
    parser.add_argument(
        "--accept", action="store_true", help="serve it this once though checks do not pass; not with --cron"
    )
    parser.add_argument(
        "--force", action="store_true", help="let a server's store go that somebody else wrote into; not with --cron"
    )
    parser.add_argument("--runner", choices=["threads", "dask"], default="threads", help="where the stages run")
    parser.add_argument("--dask-address", default="", help="of a Dask scheduler, such as tcp://HOST:8786")
    parser.add_argument("--dask-workers", type=int, default=0, help="without an address: processes of this machine")
    arguments = parser.parse_args()
    if arguments.cron and (arguments.accept or arguments.force):
        parser.error(
            "--accept and --force are for one run, and --cron starts one after the other. Serve without them, and "
            "start that one run by hand: the same command without --cron, or "
            "`prefect deployment run rebuild/rebuild-GRAPH --param accept=true`"
        )
    names = ("accept", "force", "runner", "dask_address", "dask_workers")
    parameters = {name: getattr(arguments, name) for name in names}
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")  # a server started for this tells nobody of it
    failed = False
    try:
        if arguments.cron:
            served = deploy(arguments.configs, arguments.settings, arguments.cron, parameters)
            # what falls due while this process is stopped is late, and is caught up when it is started again
            serve(*served, limit=arguments.at_a_time, pause_on_shutdown=False)
            return 0
    except MmkgError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for path in arguments.configs:
        try:
            print(rebuild(path, arguments.settings, **parameters))
        except MmkgError as error:
            print(f"error: {error}", file=sys.stderr)
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
