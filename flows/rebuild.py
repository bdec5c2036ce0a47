"""The Prefect flow that rebuilds a graph: the stages of ``mmkg build`` as tasks, with retries and artifacts.

Nothing depends on Prefect's own cache: a stage whose digest is on disk is skipped, so the flow is safe to run twice,
and its result is the same as that of ``mmkg build``.

Once, here:      python flows/rebuild.py examples/atlas/atlas.toml
Every night:     python flows/rebuild.py examples/atlas/atlas.toml --cron "0 3 * * *"
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.task_runners import ThreadPoolTaskRunner

from mmkg import pipeline
from mmkg.config import Config, read_config
from mmkg.pipeline import BuildReport, Dump
from mmkg.shards import StageResult


async def _is_worth_another_try(_task: Any, _run: TaskRun, state: State[Any]) -> bool:
    """A dump on a network drive that went away may come back; a dump that is broken stays broken."""
    error = await state.aresult(raise_on_failure=False)
    return isinstance(error, OSError)


@task(
    task_run_name="read {dump.name}",
    retries=3,
    retry_delay_seconds=[10, 60, 300],
    retry_condition_fn=_is_worth_another_try,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def read(config: Config, dump: Dump) -> StageResult:
    """Read one dump."""
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
def load(config: Config, graph: StageResult) -> StageResult:
    """Load and verify the store."""
    return pipeline.load(config, graph)


@task(cache_policy=NO_CACHE, persist_result=False)
def publish(config: Config, dumps: Sequence[Dump], results: Sequence[StageResult]) -> BuildReport:
    """Check the new version and switch to it."""
    return pipeline.publish(config, dumps, results)


@flow(name="rebuild", task_runner=ThreadPoolTaskRunner(max_workers=2), persist_result=False)  # type: ignore[arg-type]
def rebuild(config_path: Path, settings: Sequence[str] = ()) -> str:
    """Build what has changed and serve it; returns the folder of the version. Running it twice changes nothing."""
    config = read_config(Path(config_path), settings)
    with pipeline.lock_graph(config):
        dumps = pipeline.list_dumps(config)
        reads = [future.result() for future in [read.submit(config, dump) for dump in dumps]]
        _show_dumps(reads)
        graph = merge(config, dumps, reads)
        after = [
            split.submit(config, dumps, reads, graph),
            validate.submit(config, graph),
            index.submit(config, graph),
            load.submit(config, graph),
        ]
        results = [*reads, graph, *(future.result() for future in after)]
        _show_stages(results)
        report = publish(config, dumps, results)
    return str(report.folder)


def _show_dumps(reads: Sequence[StageResult]) -> None:
    columns = ("source", "dump", "lines", "triples", "qualifiers", "rejects", "comments", "blank", "repaired")
    rows = [
        {**{column: result.manifest.counts[column] for column in columns}, "skipped": result.skipped}
        for result in reads
    ]
    create_table_artifact(key="dumps", table=rows, description="Lines of each dump: what became of every one.")


def _show_stages(results: Sequence[StageResult]) -> None:
    lines = ["| stage | done in | digest | counts |", "| --- | --- | --- | --- |"]
    for result in results:
        if result.stage.name == "read":
            continue
        counts = ", ".join(f"{name} {value}" for name, value in result.manifest.counts.items() if value)
        done = "skipped" if result.skipped else f"{result.manifest.seconds:.1f} s"
        lines.append(f"| {result.stage.name} | {done} | {result.stage.digest} | {counts} |")
    create_markdown_artifact(key="stages", markdown="\n".join(lines), description="What each stage did.")


def main() -> None:
    """Run the flow once, or serve it on a schedule."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="the TOML file of the graph")
    parser.add_argument("--cron", help='serve a deployment on this schedule, such as "0 3 * * *", until stopped')
    parser.add_argument("--set", dest="settings", metavar="KEY=VALUE", action="append", default=[])
    arguments = parser.parse_args()
    if arguments.cron:
        parameters = {"config_path": str(arguments.config.resolve()), "settings": arguments.settings}
        rebuild.serve(name=f"rebuild-{arguments.config.stem}", cron=arguments.cron, parameters=parameters)
    else:
        print(rebuild(arguments.config, arguments.settings))


if __name__ == "__main__":
    main()
