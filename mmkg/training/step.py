r"""One step of training: the gradient of a batch, however it is cut up, and what the optimiser makes of it.

A batch is cut into one share for each process, and each share into micro-batches. The gradient is the weighted mean
over the whole batch in any case:

.. math:: g = \frac{\sum_p w_p\, \nabla L_p}{\sum_p w_p}

over all parts p of all processes, with the weight that their loss is a mean over: rows, or tokens.
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmkg.errors import ConfigError, TrainingError
from mmkg.evaluation.link_prediction import Int64Array
from mmkg.training.distributed import Processes, check_device
from mmkg.training.learner import ActsAfterStep, Learner, LossParts
from mmkg.training.optimiser import make_optimiser
from mmkg.training.settings import LoopSettings


@dataclass(frozen=True, kw_only=True)
class StepDone:
    """Loss and numbers of a whole batch."""

    loss: float
    numbers: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What one process saw of a batch: pairs of weight and value, of the loss and of each number beside it."""

    losses: list[tuple[float, float]] = field(default_factory=list)
    numbers: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    @property
    def weight(self) -> float:
        return sum(weight for weight, _ in self.losses)


class Stepper:
    """The optimiser of a learner's model, and how a batch reaches it."""

    def __init__(self, learner: Learner, settings: LoopSettings, *, device: torch.device, processes: Processes) -> None:
        """Make the optimiser; in all processes but the first, seed torch's generator anew.

        Raises:
            TrainingError: nothing is trained.
            ConfigError: the loss cannot be cut into micro-batches or shares, or processes would share a GPU.
        """
        check_device(processes, device)
        if not learner.divisible and (settings.accumulate > 1 or processes.count > 1):
            raise ConfigError(
                f"accumulate is {settings.accumulate} and {processes.count} processes train, but this loss compares "
                "the rows of a batch with each other and cannot be cut; train with accumulate=1 in one process"
            )
        self.optimiser, self._rate_shares = make_optimiser(learner, settings)
        self._learner, self._settings, self._device, self._processes = learner, settings, device, processes
        self._parameters = [parameter for parameter in learner.model.parameters() if parameter.requires_grad]
        self._in_one_piece = settings.accumulate == 1 and processes.count == 1
        if not processes.is_first:  # the others' dropout is not that of the first
            seeds = np.random.SeedSequence([settings.random_seed, processes.rank])
            torch.manual_seed(int(seeds.generate_state(1)[0]))

    def step(self, rows: Int64Array, place: Sequence[int], *, learning_rate: float, number: int) -> StepDone:
        """Change the model by one batch.

        Args:
            rows: the whole batch, the same in all processes.
            place: seeds what the loss draws from numpy's generator.
            learning_rate: of now.
            number: of the step, for messages.

        Raises:
            TrainingError: the loss is not a finite number, or there is nothing to predict.
        """
        self._learner.model.train()
        for group, share in zip(self.optimiser.param_groups, self._rate_shares, strict=True):
            group["lr"] = learning_rate * share
        self.optimiser.zero_grad(set_to_none=True)
        seen = self._processes.gather(self._backward(rows, place))
        if not any(one.losses for one in seen):
            raise TrainingError(
                f"step {number}: none of the {len(rows)} {self._learner.unit} has anything to predict (weight 0). "
                "Leave out such examples before training."
            )
        loss = _mean([pair for one in seen for pair in one.losses])
        if not math.isfinite(loss):
            hint = "" if self._settings.gradient_clip is not None else ", or gradient_clip=1.0"
            raise TrainingError(
                f"the loss is {loss} at step {number}: training has diverged. "
                f"Try a learning_rate below {self._settings.learning_rate:g}{hint}."
            )
        self._processes.sum_gradients(self._parameters)
        self._weigh_gradients(len(rows), sum(one.weight for one in seen))
        if self._settings.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self._parameters, self._settings.gradient_clip)
        self.optimiser.step()
        if isinstance(self._learner, ActsAfterStep):
            with torch.no_grad():
                self._learner.after_step()
        names = {name: None for one in seen for name in one.numbers}
        return StepDone(
            loss=loss,
            numbers={name: _mean([pair for one in seen for pair in one.numbers.get(name, [])]) for name in names},
        )

    def precision(self) -> AbstractContextManager[Any]:
        """Return what forward passes run under."""
        if self._settings.precision == "float32":
            return nullcontext()
        return torch.autocast(self._device.type, torch.bfloat16)

    def _backward(self, rows: Int64Array, place: Sequence[int]) -> _Seen:
        """Add up the gradients of this process's share, each micro-batch times its weight over all rows."""
        processes = self._processes
        random = np.random.default_rng(place if processes.is_first else [*place, processes.rank])
        mine = processes.share(rows)
        parts = np.array_split(mine, self._settings.accumulate)
        seen = _Seen()
        for part in parts:
            if not len(part):
                continue
            with self.precision():
                found = self._learner.loss(part, random)
            parted = found if isinstance(found, LossParts) else LossParts(loss=found)
            weight = float(len(part)) if parted.weight is None else float(parted.weight)
            if not weight:  # nothing to predict: a mean over nothing is no number, and 0 times it neither
                continue
            loss = parted.loss if self._in_one_piece else parted.loss * (weight / len(rows))
            loss.backward()  # type: ignore[no-untyped-call]
            seen.losses.append((weight, float(parted.loss.detach())))
            for name, number in parted.numbers.items():
                value = float(number.detach()) if isinstance(number, Tensor) else float(number)
                seen.numbers.setdefault(name, []).append((weight, value))
        return seen

    def _weigh_gradients(self, num_rows: int, weight: float) -> None:
        """Where a mean is not over rows: divide by all weights, which are known only when all parts were seen."""
        if not self._in_one_piece and weight != num_rows:
            for parameter in self._parameters:
                if parameter.grad is not None:
                    parameter.grad *= num_rows / weight


def _mean(pairs: Sequence[tuple[float, float]]) -> float:
    """Weighted mean of (weight, value); of one value that value, to the last bit."""
    if len(pairs) == 1:
        return pairs[0][1]
    return sum(weight * value for weight, value in pairs) / sum(weight for weight, _ in pairs)
