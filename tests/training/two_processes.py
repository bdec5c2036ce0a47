"""What two processes do together in the test of several processes; as a program it starts both.

Both are forked when everything is imported, which is most of the time.
"""

import multiprocessing
import os
import sys
from pathlib import Path

import torch._dynamo  # noqa: F401 - the first optimiser would import it, in each process

from mmkg.training.runner import run_to_end

from .made_learner import MadeLearner, opener, settings_of

# Of each run the settings of the loop and of the learner. In "single" the second process has no row in any batch.
RUNS = {
    "rows": ({"gradient_clip": 0.5}, {}),
    "tokens": ({"accumulate": 2, "weight_decay": 0.1}, {"by_weight": True}),
    "single": ({"epochs": 2}, {"num_examples": 3, "batch_size": 1}),
    # batches of ten: both draw as often
    "random": ({"accumulate": 2, "checkpoint_minutes": 1e-9}, {"batch_size": 10, "dropout": 0.3, "noise": 0.1}),
}


def run(folder, name, *, cut_at=None, resume=False):
    settings, kind = settings_of(**RUNS[name][0]), RUNS[name][1]
    open_run = opener(lambda: MadeLearner(**kind, cut_at=cut_at), settings)
    return run_to_end(settings, folder, open_run, lambda loop: {"steps": loop.position.step}, inputs={}, resume=resume)


def run_all(folder, rank):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    for name in RUNS:
        assert run(folder / name, name)["steps"] > 0
    try:
        run(folder / "cut", "random", cut_at=8)
    except KeyboardInterrupt:
        assert run(folder / "cut", "random", resume=True)["steps"] == 8
    assert run(folder / "cut", "random", resume=True)["steps"] == 8  # finished: both only read


if __name__ == "__main__":
    fork = multiprocessing.get_context("fork")
    both = [fork.Process(target=run_all, args=(Path(sys.argv[1]), rank)) for rank in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(100)
    sys.exit(0 if [process.exitcode for process in both] == [0, 0] else 1)
