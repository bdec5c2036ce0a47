"""A run's history for TensorBoard, in one event file of its folder.

``metrics.jsonl`` stays the truth: the file is made from it, and made anew when a run goes on, so that nothing is in it
twice and nothing of what was lost.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmkg.errors import require

History = Sequence[Mapping[str, Any]]

_EVENTS = "events.out.tfevents.*"


@contextmanager
def writing_events(run_folder: Path, *, wanted: bool = True) -> Iterator[Callable[[History], None]]:
    """Give a function that writes those rows of a history that are new to it; it does nothing if it is not wanted.

    Raises:
        NotInstalled: TensorBoard is wanted and not there.
    """
    if not wanted:
        yield lambda _history: None
        return
    require("tensorboard", extra="tensorboard", needed_by="the setting tensorboard=true")
    from torch.utils.tensorboard import SummaryWriter

    for before in run_folder.glob(_EVENTS):
        before.unlink()
    writer: Any = SummaryWriter(log_dir=str(run_folder))
    written = 0

    def write(history: History) -> None:
        nonlocal written
        for row in history[written:]:
            for name, value in row.items():
                if name != "step" and isinstance(value, int | float):
                    writer.add_scalar(name, value, global_step=row["step"])
        written = len(history)
        writer.flush()

    try:
        yield write
    finally:
        writer.close()
