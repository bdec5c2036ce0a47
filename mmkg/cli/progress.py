"""Progress of long work on a terminal: what is read of a dump, fetched, loaded into a server; nothing in a pipe."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from mmkg.pipeline import Dump


@contextlib.contextmanager
def reading_progress() -> Iterator[Callable[["Dump"], Callable[[int, int], None]]]:
    """Show a bar for each dump while it is read; gives what the pipeline calls with a dump to get its counter."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[lines]:,} lines"),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bars:

        def begin(dump: "Dump") -> Callable[[int, int], None]:
            bar = bars.add_task(dump.name, total=dump.path.stat().st_size, lines=0)
            return lambda lines, bytes_read: bars.update(bar, completed=bytes_read, lines=lines)

        yield begin


@contextlib.contextmanager
def step_progress() -> Iterator[Callable[[str, int, int | None], None]]:
    """Show a bar for each file or endpoint that is fetched and each step of a server's load."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bars:
        steps: dict[str, TaskID] = {}

        def show(step: str, done: int, total: int | None) -> None:
            if step not in steps:
                steps[step] = bars.add_task(step, total=total)
            bars.update(steps[step], completed=done, total=total)

        yield show


class _RateColumn(ProgressColumn):
    """Changes a second."""

    def render(self, task: Task) -> Text:
        """Text of the column."""
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")
