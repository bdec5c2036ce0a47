"""What every benchmark shares: repeat, take the median, print ours beside the peer as a ratio, and the machine."""

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """One line of a benchmark: the same work by us and by a peer, in one unit, in one run."""

    work: str
    peer: str
    ours: float
    theirs: float
    unit: str  # "s", "ms", "rows/s", "MB"
    target: float  # the ratio that design section 4 asks for
    more_is_better: bool = False  # True for rates

    @property
    def ratio(self) -> float:
        """How many times better we are than the peer; 1 is equal."""
        return self.ours / self.theirs if self.more_is_better else self.theirs / self.ours

    def __str__(self) -> str:
        verdict = "reached" if self.ratio >= self.target else "MISSED"
        return (
            f"{self.work:<44} ours {self.ours:>12,.4g} {self.unit:<6} {self.peer} {self.theirs:>12,.4g} {self.unit:<6} "
            f"ratio {self.ratio:>8,.2f} x  target {self.target:g} x  {verdict}"
        )


def median_seconds(work: Callable[[], object], *, repeats: int = 3) -> float:
    """Median wall-clock seconds of `work` over `repeats` calls, with the collector run before each."""
    seconds = []
    for _ in range(repeats):
        gc.collect()
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def machine() -> str:
    """The machine in one line: processor, cores, memory."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), platform.processor())
    memory_kb = int(Path("/proc/meminfo").read_text().split()[1])
    return f"{model}, {os.cpu_count()} cores, {memory_kb / 2**20:.0f} GiB, Python {platform.python_version()}"
