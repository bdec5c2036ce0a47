r"""A running mean of what is trained: steadier than the last step, at the price of one more copy.

.. math:: \bar\theta_t = k_t \bar\theta_{t-1} + (1 - k_t)\,\theta_t, \quad k_t = \min(k, (1 + t) / (10 + t))

so that the first steps are soon forgotten. Source: Polyak and Juditsky, SIAM J. Control Optim. 30 (1992); the rise of
:math:`k_t` as in TensorFlow's ``ExponentialMovingAverage``.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mmkg.training.checkpoint import trained_state


class RunningMean:
    """The mean of a model's trained tensors over its steps."""

    def __init__(self, decay: float) -> None:
        """Start without a step.

        Args:
            decay: k, in (0, 1).
        """
        self.decay = decay
        self.mean: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the model after step number ``step``, from 1."""
        keep = min(self.decay, (1 + step) / (10 + step))
        for name, value in trained_state(model).items():
            mean = self.mean.get(name)
            if mean is None or not value.is_floating_point():
                self.mean[name] = value.detach().clone()
            else:
                mean.lerp_(value, 1 - keep)

    @contextmanager
    def in_place(self, model: nn.Module) -> Iterator[None]:
        """Put the mean into the model inside a ``with`` block, and what was there back after it."""
        now = {name: value.detach().clone() for name, value in trained_state(model).items()}
        _copy(self.mean, model)
        try:
            yield
        finally:
            _copy(now, model)


@torch.no_grad()
def _copy(tensors: Mapping[str, Tensor], model: nn.Module) -> None:
    for name, value in trained_state(model).items():
        if name in tensors:
            value.copy_(tensors[name])
