"""Progress of long work on a terminal: bytes of each dump with rate and time left; nothing where output is piped."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

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
