"""The training loop: epochs, looks, checkpoints, the clock; the same for everything that is learnt.

What makes two runs equal: the order of examples follows from seed and epoch, what a loss draws from numpy's generator
from seed, epoch and batch, dropout from torch's generator, whose state is in the checkpoint; and no step depends on
the clock unless the settings say ``max_minutes``. So a run that goes on after a kill computes the same bits on the CPU.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmkg.errors import TrainingError
from mmkg.evaluation.link_prediction import Int64Array
from mmkg.training.average import RunningMean
from mmkg.training.checkpoint import (
    Checkpoint,
    load_optimiser,
    load_random,
    load_trained,
    optimiser_tensors,
    random_tensors,
    trained_state,
)
from mmkg.training.distributed import Processes
from mmkg.training.learner import AddsColumns, KeepsState, Learner
from mmkg.training.settings import LoopSettings, learning_rate_at
from mmkg.training.step import Stepper

logger = logging.getLogger(__name__)

_LINE_SECONDS = 15.0


@dataclass(kw_only=True)
class Position:
    """Where a run is; with the tensors of a checkpoint it decides everything that follows."""

    epoch: int = 0  # whole epochs done
    batch: int = 0  # batches done of the epoch that runs
    step: int = 0
    loss_sum: float = 0.0  # of the epoch that runs, times rows
    loss_rows: int = 0
    number_sums: dict[str, float] = field(default_factory=dict)  # as the two above, of each number beside the loss
    number_rows: dict[str, int] = field(default_factory=dict)
    elapsed_seconds: float = 0.0
    best_score: float | None = None
    best_epoch: float = -1.0
    looks_without_gain: int = 0
    stopped: str = ""  # why the run ended; empty while it runs
    history: list[dict[str, Any]] = field(default_factory=list)


class TrainingLoop:
    """One run: :meth:`run` yields after each epoch (and each checkpoint that is due), when it can be saved."""

    def __init__(
        self,
        learner: Learner,
        settings: LoopSettings,
        *,
        device: torch.device,
        processes: Processes | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        """Make the optimiser.

        Args:
            learner: what is learnt; its model is on ``device``.
            settings: how.
            device: cpu or a GPU.
            processes: who trains with this one; None is nobody. All call the same methods at the same time.
            progress: called with one line of text now and then.

        Raises:
            TrainingError: there is nothing to learn from, or nothing that is trained.
            ConfigError: the loss cannot be cut into micro-batches or shares, or processes would share a GPU.
        """
        self.learner, self.settings, self.device = learner, settings, device
        self.model = learner.model
        self.processes = processes or Processes()
        self.position = Position()
        self.best: dict[str, Tensor] = {}
        self.batches_per_epoch = len(learner.batches(self._order_of(0)))
        if not self.batches_per_epoch:
            raise TrainingError(f"there are no {learner.unit} to learn from")
        self.mean = RunningMean(settings.average) if settings.average else None
        self.stepper = Stepper(learner, settings, device=device, processes=self.processes)
        self._progress = progress if progress is not None and self.processes.is_first else _say_nothing
        self._started = time.monotonic()
        self._before = 0.0
        self._next_line = 0.0

    # --- the run -----------------------------------------------------------------------------------------------------

    def run(self) -> Iterator[Position]:
        """Train until the epochs or the minutes are over or patience is; yield whenever a checkpoint is due.

        Raises:
            TrainingError: the loss is not a finite number.
        """
        position = self.position
        self.processes.copy_from_first(trained_state(self.model).values())
        self._before, self._started = position.elapsed_seconds, time.monotonic()
        saved = position.elapsed_seconds
        while not position.stopped:
            for rows in self._batches():
                self._step(rows)
                if self._out_of_time():
                    position.stopped = f"max_minutes ({self.settings.max_minutes:g}) are over"
                    break
                if position.elapsed_seconds - saved > 60 * self.settings.checkpoint_minutes:
                    saved = position.elapsed_seconds
                    yield position
            self._end_epoch()
            saved = position.elapsed_seconds
            yield position

    def _order_of(self, epoch: int) -> np.random.Generator:
        return np.random.default_rng([self.settings.random_seed, epoch])

    def _batches(self) -> Iterator[Int64Array]:
        """The rest of the running epoch, in an order that follows from seed and epoch."""
        batches = self.learner.batches(self._order_of(self.position.epoch))
        if len(batches) != self.batches_per_epoch:
            raise TrainingError(
                f"epoch {self.position.epoch + 1} has {len(batches)} batches, the first has {self.batches_per_epoch}: "
                "a learner gives the same number for every generator, since the learning rate follows from it"
            )
        yield from batches[self.position.batch :]

    def _step(self, rows: Int64Array) -> None:
        """One step on the examples of ``rows``, and what is to be remembered of it."""
        position = self.position
        # of the batch's place, so that it is the same after a checkpoint
        place = [self.settings.random_seed, position.epoch, position.batch]
        done = self.stepper.step(rows, place, learning_rate=self.learning_rate(), number=position.step)
        position.batch += 1
        position.step += 1
        if self.mean is not None:
            self.mean.update(self.model, position.step)
        position.loss_sum += done.loss * len(rows)
        position.loss_rows += len(rows)
        for name, value in done.numbers.items():
            position.number_sums[name] = position.number_sums.get(name, 0.0) + value * len(rows)
            position.number_rows[name] = position.number_rows.get(name, 0) + len(rows)
        position.elapsed_seconds = self._elapsed_seconds()
        self._maybe_line()

    # --- the clock ---------------------------------------------------------------------------------------------------

    def learning_rate(self) -> float:
        """Return the learning rate of now."""
        return learning_rate_at(self._share_done(), self.settings)

    def _share_done(self) -> float:
        """How much of the run is over, by steps or by the clock, whichever is further."""
        share = self.position.step / (self.settings.epochs * self.batches_per_epoch)
        if self.settings.max_minutes is not None:
            share = max(share, self.position.elapsed_seconds / (60 * self.settings.max_minutes))
        return min(share, 1.0)

    def _elapsed_seconds(self) -> float:
        """By the clock of the first process: all decide alike."""
        return self.processes.from_first(self._before + time.monotonic() - self._started)

    def _out_of_time(self) -> bool:
        limit = self.settings.max_minutes
        return limit is not None and self.position.elapsed_seconds >= 60 * limit

    def _maybe_line(self) -> None:
        position = self.position
        if position.elapsed_seconds < self._next_line:
            return
        self._next_line = position.elapsed_seconds + _LINE_SECONDS
        done = position.batch / self.batches_per_epoch
        loss = position.loss_sum / position.loss_rows
        self._progress(
            f"epoch {position.epoch + 1}/{self.settings.epochs} ({done:.0%}): "
            f"loss {loss:.4f}, {self._rate():,.0f} {self.learner.unit}/s, {self._eta()}"
        )

    def _rate(self) -> float:
        done = self.position.step * self.learner.num_examples / self.batches_per_epoch
        return done / max(self.position.elapsed_seconds, 1e-9)

    def _eta(self) -> str:
        """How long it will still take."""
        share = self._share_done()
        left = self.position.elapsed_seconds * (1 - share) / max(share, 1e-9)
        return f"{left / 60:.0f} min left" if left >= 90 else f"{left:.0f} s left"

    # --- looking -----------------------------------------------------------------------------------------------------

    def _end_epoch(self) -> None:
        """Write the row of an epoch, look at the valid sample if it is time, and decide whether to go on."""
        position, settings, unit = self.position, self.settings, self.learner.unit
        row: dict[str, Any] = {
            "epoch": position.epoch + position.batch / self.batches_per_epoch,
            "step": position.step,
            "loss": position.loss_sum / max(position.loss_rows, 1),
            **{name: total / position.number_rows[name] for name, total in position.number_sums.items()},
            "learning_rate": self.learning_rate(),
            **(self.learner.row() if isinstance(self.learner, AddsColumns) else {}),
            f"{unit}_per_second": round(self._rate(), 1),
        }
        whole = position.batch == self.batches_per_epoch
        position.epoch, position.batch = position.epoch + int(whole), 0 if whole else position.batch
        position.loss_sum, position.loss_rows = 0.0, 0
        position.number_sums, position.number_rows = {}, {}
        if position.epoch >= settings.epochs and not position.stopped:
            position.stopped = f"all {settings.epochs} epochs are done"
        shown = ""
        if position.stopped or position.epoch % settings.valid_every == 0:
            with nullcontext() if self.mean is None else self.mean.in_place(self.model):
                numbers, shown = self._look(row["epoch"])
            row |= numbers
        position.elapsed_seconds = self._elapsed_seconds()
        row["elapsed_seconds"] = round(position.elapsed_seconds, 3)
        position.history.append(row)
        line = f"epoch {row['epoch']:g}/{settings.epochs}: loss {row['loss']:.4f}{shown}, {self._rate():,.0f} {unit}/s"
        self._progress(f"{line}, {position.stopped or self._eta()}")
        logger.info("%s", line)

    def _look(self, epoch: float) -> tuple[dict[str, float], str]:
        """Measure the model, keep it if it is the best so far, count looks without gain."""
        position, patience = self.position, self.settings.patience
        look = None
        if self.processes.is_first:
            self.model.eval()
            with torch.no_grad(), self.stepper.precision():
                look = self.learner.look()
        look = self.processes.from_first(look)
        if look is None:
            self._keep(epoch)  # nothing to choose by: the last is the best
            return {}, ""
        best = position.best_score
        if not look.chooses:
            position.best_score = look.score
            self._keep(epoch)
            return dict(look.numbers), f", {look.label} {look.score:.4f}"
        if best is None or look.score > best:
            position.looks_without_gain = 0
        else:
            position.looks_without_gain += 1
            if patience and position.looks_without_gain >= patience:
                position.stopped = position.stopped or f"no better {look.label} in {patience} looks"
        if best is None or look.score > best or (look.later_wins and look.score == best):
            position.best_score = look.score
            self._keep(epoch)
        return dict(look.numbers), f", {look.label} {look.score:.4f}"

    def _keep(self, epoch: float) -> None:
        self.position.best_epoch = epoch
        self.best = {name: value.detach().cpu().clone() for name, value in trained_state(self.model).items()}

    # --- saving ------------------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor that a checkpoint needs."""
        groups = {
            "model": trained_state(self.model),
            "best": self.best,
            "mean": {} if self.mean is None else self.mean.mean,
            "optimiser": optimiser_tensors(self.stepper.optimiser),
        }
        for rank, states in enumerate(self.processes.gather(random_tensors(self.device))):
            groups[_random_group(rank)] = states
        return {f"{group}.{name}": value for group, values in groups.items() for name, value in values.items()}

    def document(self) -> dict[str, Any]:
        """Return everything else that a checkpoint needs."""
        state = dict(self.learner.state()) if isinstance(self.learner, KeepsState) else {}
        return {"position": asdict(self.position), "data": self.learner.digest, "learner": state}

    def load(self, checkpoint: Checkpoint, path: Path) -> None:
        """Continue where a checkpoint was written.

        Raises:
            TrainingError: it is of other data or another model, or of a version of mmkg with another loop.
        """
        document = checkpoint.document
        if document["data"] != self.learner.digest:
            raise TrainingError(
                f"{path}: the {self.learner.inputs} have changed since this run began; start a new run on them"
            )
        load_trained(self.model, checkpoint.part("model"), path)
        load_optimiser(self.stepper.optimiser, checkpoint.part("optimiser"))
        # of a process that was not there before, the generator stays as it was seeded
        if states := checkpoint.part(_random_group(self.processes.rank)):
            load_random(states, self.device)
        self.best = checkpoint.part("best")
        if self.mean is not None:
            self.mean.mean = {name: value.to(self.device) for name, value in checkpoint.part("mean").items()}
        try:
            self.position = Position(**document["position"])
        except TypeError as error:
            raise TrainingError(
                f"{path}: written by another version of mmkg; go on with that one, or start anew"
            ) from error
        if isinstance(self.learner, KeepsState):
            self.learner.load_state(document["learner"])


def _random_group(rank: int) -> str:
    return "random" if rank == 0 else f"random{rank}"


def _say_nothing(_line: str) -> None:
    """Stand in where nobody listens."""
