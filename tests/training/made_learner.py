"""A learner made for tests: a frozen body, a trained head, and a loss with everything that a loop has to get right."""

from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from mmkg.training.batches import even_batches
from mmkg.training.learner import Look, LossParts
from mmkg.training.loop import TrainingLoop
from mmkg.training.runner import OpenedRun
from mmkg.training.settings import LoopSettings

CPU = torch.device("cpu")


class MadeModel(nn.Module):
    """``rare`` is used by the first row alone, ``never`` by none."""

    def __init__(self, *, dropout, width):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width)).requires_grad_(False)
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, 1))
        self.means = nn.BatchNorm1d(1, affine=False)  # no parameters, but something that training changes
        self.rare = nn.Parameter(torch.zeros(width))
        self.never = nn.Parameter(torch.ones(2))
        self.train()

    def train(self, mode=True):
        super().train(mode)
        self.body.eval()
        return self

    def forward(self, x_BF, first_B):
        hidden = self.body(x_BF)
        if first_B.any():
            hidden = hidden + first_B[:, None] * self.rare
        return self.head(hidden)[:, 0]


class MadeLearner:
    unit, inputs, divisible = "rows", "numbers", True

    def __init__(self, *, num_examples=20, batch_size=7, dropout=0.0, noise=0.0, by_weight=False, width=6, cut_at=None):
        torch.manual_seed(5)
        self.model = MadeModel(dropout=dropout, width=width).double()
        random = np.random.default_rng(1)
        self.x = torch.from_numpy(random.normal(size=(num_examples, 3)))
        self.y = self.x.prod(dim=1) + 1
        self.row_weight = torch.arange(num_examples) % 3 + 1.0  # as tokens of a text: 1, 2 or 3
        self.num_examples, self.batch_size, self.noise, self.by_weight = num_examples, batch_size, noise, by_weight
        self.digest = f"{num_examples} rows"
        self.cut_at, self.calls, self.outputs = cut_at, 0, []

    def float_(self):
        self.model.float()
        self.x, self.y = self.x.float(), self.y.float()
        return self

    def batches(self, random):
        return even_batches(self.num_examples, self.batch_size, random)

    def loss(self, rows, random):
        self.calls += 1
        if self.calls == self.cut_at:
            raise KeyboardInterrupt
        x, y = self.x[rows], self.y[rows]
        if self.noise:
            x = x + self.noise * torch.from_numpy(random.normal(size=x.shape))
        out = self.model(x, torch.from_numpy(rows == 0))
        self.outputs.append(out.dtype)
        with torch.no_grad():
            self.model.means(out.detach()[:, None].to(self.x.dtype).repeat(2, 1))
        error = (out - y) ** 2
        if not self.by_weight:
            return LossParts(loss=error.mean(), numbers={"first": float(rows[0]), "half": error.mean() / 2})
        weight = self.row_weight[rows]
        return LossParts(loss=(error * weight).sum() / weight.sum(), weight=float(weight.sum()))

    def look(self):
        error = ((self.model(self.x, torch.arange(len(self.x)) == 0) - self.y) ** 2).mean().item()
        return Look(score=-error, label="valid score", numbers={"valid_error": error})


def settings_of(**changes):
    return LoopSettings(**{"batch_size": 7, "epochs": 4, "learning_rate": 0.01, **changes})


def loop_of(learner, processes=None, progress=None, **changes):
    torch.manual_seed(0)
    settings = settings_of(**changes)
    return TrainingLoop(learner, settings, device=CPU, processes=processes, progress=progress)


def finish(loop):
    for _ in loop.run():
        pass
    return loop


def opener(make_learner, settings):
    """Return an ``open_run`` for :func:`mmkg.training.runner.run_to_end`."""

    @contextmanager
    def open_run(processes):
        with torch.random.fork_rng(devices=[]):
            learner = make_learner()
            torch.manual_seed(settings.random_seed)
            yield OpenedRun(loop=TrainingLoop(learner, settings, device=CPU, processes=processes))

    return open_run


def timeless(history):
    return [{key: value for key, value in row.items() if "second" not in key} for row in history]
