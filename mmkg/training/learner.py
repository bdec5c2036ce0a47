"""What a kind of training says to the loop: its model, its examples, its loss, and how good it is by now.

A learner knows the task and nothing of optimisers, clocks, files or processes; the loop knows those and nothing of the
task. Link prediction, contrastive training and each reasoner are one learner each. Examples are rows of whatever table
the learner holds, known to the loop by their numbers alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor, nn

from mmkg.evaluation.link_prediction import Int64Array


@dataclass(frozen=True, kw_only=True)
class LossParts:
    """A loss, with what it is made of.

    Attributes:
        loss: scalar, a mean over the rows it was asked for.
        numbers: more columns for the history, e.g. the alignment loss apart; scalars, averaged over an epoch's rows.
        weight: what the loss is a mean over, where that is not rows: tokens, or labels. Micro-batches and processes
            are put together by it, so that their sum is the loss of the whole batch; with 0 the loss is left out.
    """

    loss: Tensor
    numbers: Mapping[str, Tensor | float] = field(default_factory=dict)
    weight: float | None = None


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a model is worth by now.

    Attributes:
        score: what is to be as high as possible; the model with the highest is kept.
        label: the score's name in progress lines, e.g. ``valid MRR``.
        numbers: columns of the history, the score among them if it is to be there.
        later_wins: of two models with the same score keep the later one, not the earlier.
        chooses: False where the score is only told, since it is what will be reported: the last model is kept.
    """

    score: float
    label: str
    numbers: Mapping[str, float]
    later_wins: bool = False
    chooses: bool = True


class Learner(Protocol):
    """The part of training that knows the task.

    The loop calls ``model.train()`` before each step and ``model.eval()`` before each look. A model that holds a frozen
    part decides in its own ``train`` whether that part's dropout is to be on.
    """

    @property
    def model(self) -> nn.Module:
        """What is trained, on its device; parameters that do not require a gradient are neither changed nor saved."""

    @property
    def unit(self) -> str:
        """What examples are called in progress lines and in the history, e.g. ``queries``."""

    @property
    def inputs(self) -> str:
        """What the data are called when they have changed, a plural, e.g. ``tables``."""

    @property
    def digest(self) -> str:
        """Of the data; a checkpoint of others is refused."""

    @property
    def num_examples(self) -> int:
        """How many rows there are to learn from."""

    @property
    def divisible(self) -> bool:
        """Whether a batch's loss is the weighted mean of its parts'; a loss that compares rows with each other is not.

        One that is not is computed in one piece: without accumulation, by one process.
        """

    def batches(self, random: np.random.Generator) -> Sequence[Int64Array]:
        """Return the row numbers of each step of an epoch: the same number of batches for every generator."""

    def loss(self, rows: Int64Array, random: np.random.Generator) -> Tensor | LossParts:
        """Return the loss of these rows, a mean; everything is drawn from ``random`` or from torch's generator."""

    def look(self) -> Look | None:
        """Measure the model on what is held out, without gradients; None where there is nothing to choose by."""


@dataclass(frozen=True, kw_only=True)
class ParameterGroup:
    """Parameters that are trained alike."""

    parameters: Sequence[nn.Parameter]
    weight_decay: float
    rate_share: float = 1.0  # of the learning rate of the moment


@runtime_checkable
class ChoosesGroups(Protocol):
    """A learner whose parameters do not all share one rate and decay."""

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """Return groups that hold each trained parameter once."""


@runtime_checkable
class ActsAfterStep(Protocol):
    """A learner that has something to do after each step of the optimiser, e.g. to clamp a temperature."""

    def after_step(self) -> None:
        """Change the model in place; no gradients are recorded."""


@runtime_checkable
class AddsColumns(Protocol):
    """A learner with more columns for the history."""

    def row(self) -> Mapping[str, float]:
        """Return this epoch's values."""


@runtime_checkable
class KeepsState(Protocol):
    """A learner that decided something at its start that a run which goes on must not decide anew."""

    def state(self) -> Mapping[str, Any]:
        """Return it as JSON values."""

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Put it back."""
