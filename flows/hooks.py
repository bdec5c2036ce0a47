"""Telling people how a run of the flow ended: Prefect's state hooks, handed on to the hooks of ``[notify]``.

A run that completes, fails, is cancelled, or crashes in a way that its process notices (SIGTERM, an interrupt) is told
by that process. One that is killed cannot tell anything: then the process that started it does, a served flow or a
worker, as soon as it sees that its child is gone. When these are gone too, nobody is told.
"""

import dataclasses
import datetime
import logging
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import FlowRun, State

from mmkg.builds import read_build_manifest
from mmkg.builds.notify import Ending, RebuildMessage, notify
from mmkg.builds.publishing import BuildReport
from mmkg.config import Config, read_config
from mmkg.errors import CheckFailed, ConfigError, MmkgError

logger = logging.getLogger(__name__)

_WITHDRAWN = "what the dumps give was rolled back, so it is not served again; `mmkg build --accept` serves it"


@dataclasses.dataclass(kw_only=True)
class Course:
    """What this process knows of a run; filled in as it goes on."""

    config: Config
    report: BuildReport | None = None
    error: BaseException | None = None
    difference: str = ""


_courses: dict[UUID, Course] = {}  # of the runs of this process that have not ended


def begin(flow_run_id: UUID, config: Config) -> Course:
    """Start to note down what is known of a run."""
    return _courses.setdefault(flow_run_id, Course(config=config))


def tell(flow: Any, flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001 - Prefect names them
    """Tell the hooks of the config how a run ended; a Prefect state hook."""
    course = _courses.pop(flow_run.id, None)
    if course is None:  # it ended before it had read its config, or in another process
        try:
            config = read_config(Path(flow_run.parameters["config_path"]), flow_run.parameters.get("settings", []))
        except (ConfigError, KeyError) as error:
            logger.warning(
                "flow run %s: nobody is told how it ended, as its config cannot be read: %s", flow_run.name, error
            )
            return
        course = Course(config=config)
    notify(course.config.notify, make_message(course, flow_run, state))


def make_message(course: Course, flow_run: FlowRun, state: State[Any]) -> RebuildMessage:
    """Put together what is known of a run that has ended."""
    seconds = _seconds_since(flow_run.start_time)
    graph, report, error = course.config.graph.name, course.report, course.error
    if state.is_completed() and report is not None and report.folder is not None:
        manifest = read_build_manifest(report.folder)
        return RebuildMessage(
            graph=graph,
            outcome="unchanged" if report.unchanged else "served",
            version=report.version,
            folder=str(report.folder),
            seconds=seconds,
            counts=_counts(manifest.counts),
            difference=course.difference,
            problems=(_WITHDRAWN,) if report.withdrawn else () if report.unchanged else manifest.accepted,
        )
    folder = error.folder if isinstance(error, CheckFailed) else None
    return RebuildMessage(
        graph=graph,
        outcome=_outcome(error),
        version=folder.name if folder else None,
        folder=str(folder) if folder else None,
        seconds=seconds,
        difference=course.difference,
        problems=_problems(error, state),
    )


def _outcome(error: BaseException | None) -> Ending:
    return "checks failed" if isinstance(error, CheckFailed) else "failed"


def _problems(error: BaseException | None, state: State[Any]) -> tuple[str, ...]:
    """Our own errors speak for themselves; of others Prefect says what kind they are."""
    if isinstance(error, CheckFailed) and error.report is not None:
        return tuple(error.report.problems)
    if isinstance(error, MmkgError):
        return (str(error),)
    return (f"{state.name}: {state.message or 'no more is known'}",)


def _counts(stages: Any) -> dict[str, int]:
    graph = stages["graph"]
    rejects = sum(counts["rejects"] for name, counts in stages.items() if name.startswith("read:"))
    return {**{name: graph[name] for name in ("entities", "triples", "literals")}, "rejects": rejects}


def _seconds_since(start: datetime.datetime | None) -> float:
    return (datetime.datetime.now(datetime.UTC) - start).total_seconds() if start else 0.0
