"""The training loop of link prediction: batches of unique queries, all entities as rivals, one encoder pass a step.

What makes two runs equal: the order of queries follows from seed and epoch alone, dropout from torch's generator, whose
state is in the checkpoint, and no step depends on the clock unless the recipe sets ``max_minutes``.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmkg.errors import TrainingError
from mmkg.evaluation.link_prediction import Int64Array, KnownTails, Ranks, rank_triples
from mmkg.evaluation.metrics import summarise_ranks
from mmkg.reasoners.link_predictor import LinkPredictor
from mmkg.training.checkpoint import (
    Checkpoint,
    load_model,
    load_optimiser,
    load_random,
    optimiser_tensors,
    random_tensors,
)
from mmkg.training.data import LinkPredictionData, train_queries
from mmkg.training.hardware import choose_products
from mmkg.training.losses import AllEntitiesLoss
from mmkg.training.recipes import LinkPredictionRecipe

logger = logging.getLogger(__name__)

_SAMPLE_SEED = 0  # of the valid sample: the same for all runs, so that their curves can be laid over each other
_LINE_SECONDS = 15.0


@dataclass(kw_only=True)
class Position:
    """Where a run is; with the tensors of a checkpoint it decides everything that follows."""

    epoch: int = 0  # whole epochs done
    batch: int = 0  # batches done of the epoch that runs
    step: int = 0
    loss_sum: float = 0.0  # of the epoch that runs, times queries
    loss_queries: int = 0
    elapsed_seconds: float = 0.0
    best_mrr: float = -1.0
    best_epoch: float = -1.0
    looks_without_gain: int = 0
    stopped: str = ""  # why the run ended; empty while it runs
    history: list[dict[str, Any]] = field(default_factory=list)


class LinkPredictionLoop:
    """One run: :meth:`run` yields after each epoch (and each checkpoint that is due), when it can be saved."""

    def __init__(
        self,
        recipe: LinkPredictionRecipe,
        data: LinkPredictionData,
        model: LinkPredictor,
        *,
        device: torch.device,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        """Make the optimiser and the queries.

        Args:
            recipe: all settings.
            data: what is learnt.
            model: on ``device``.
            device: cpu or a GPU.
            progress: called with one line of text now and then.
        """
        self.recipe, self.data, self.model, self.device = recipe, data, model, device
        self.position = Position()
        self.best: dict[str, Tensor] = {}
        self.queries = train_queries(data)
        self.products = choose_products(recipe, data.num_entities, device)
        self._loss = AllEntitiesLoss(products=self.products)
        self._optimiser = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate, fused=True)
        self._progress = progress or (lambda _line: None)
        self._known = KnownTails(data.known(), num_relations=data.num_relations)
        self._sample = _sample(data.valid, recipe.valid_triples)
        self._started = time.monotonic()
        self._before = 0.0
        self._next_line = 0.0

    # --- the run -----------------------------------------------------------------------------------------------------

    def run(self) -> Iterator[Position]:
        """Train until the epochs or the minutes are over or patience is; yield whenever a checkpoint is due.

        Raises:
            TrainingError: the loss is not a finite number.
        """
        self._before, self._started = self.position.elapsed_seconds, time.monotonic()
        saved = time.monotonic()
        while not self.position.stopped:
            for rows in self._batches():
                self._step(rows)
                if self._out_of_time():
                    self.position.stopped = f"max_minutes ({self.recipe.max_minutes:g}) are over"
                    break
                if time.monotonic() - saved > 60 * self.recipe.checkpoint_minutes:
                    saved = time.monotonic()
                    yield self.position
            self._end_epoch()
            saved = time.monotonic()
            yield self.position

    def _batches(self) -> Iterator[Int64Array]:
        """The rest of the running epoch, in an order that follows from seed and epoch."""
        random = np.random.default_rng([self.recipe.random_seed, self.position.epoch])
        order = random.permutation(len(self.queries))
        for batch in range(self.position.batch, self.batches_per_epoch):
            # as even as can be: a last batch of one query could not be normalised by ConvE
            start, stop = (len(order) * n // self.batches_per_epoch for n in (batch, batch + 1))
            yield order[start:stop]

    @property
    def batches_per_epoch(self) -> int:
        """How many steps an epoch has."""
        return -(-len(self.queries) // self.recipe.batch_size)

    def _step(self, rows: Int64Array) -> None:
        """One step of Adam on the queries of ``rows``."""
        self.model.train()
        for group in self._optimiser.param_groups:
            group["lr"] = self.recipe.learning_rate * (1 - self._share_done())
        loss = self.loss(rows)
        value = float(loss.detach())
        if not np.isfinite(value):
            raise TrainingError(
                f"the loss is {value} at step {self.position.step}: training has diverged. "
                f"Try a learning_rate below {self.recipe.learning_rate:g}, or gradient_clip=1.0."
            )
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.recipe.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.gradient_clip)
        self._optimiser.step()
        position = self.position
        position.batch += 1
        position.step += 1
        position.loss_sum += value * len(rows)
        position.loss_queries += len(rows)
        position.elapsed_seconds = self._before + time.monotonic() - self._started
        self._maybe_line()

    def loss(self, rows: Int64Array) -> Tensor:
        """Return the loss of the queries of ``rows``: cross-entropy over all entities, and N3."""
        row, tail, triple = self.queries.batch(rows)
        query_B2 = torch.from_numpy(self.queries.query[rows]).to(self.device)
        row_T, tail_T = torch.from_numpy(row).to(self.device), torch.from_numpy(tail).to(self.device)
        state_ND = self.model.states(self.keep_edges(triple))
        query_BD = self.model.queries(state_ND, query_B2)
        weight_B = query_BD.new_ones(len(rows))
        if self.recipe.query_weight == "triples":
            weight_B = torch.bincount(row_T, minlength=len(rows)).to(query_BD.dtype)
        loss: Tensor = self._loss(query_BD, state_ND, self.model.decoder.bias, row_T, tail_T, weight_B)
        if self.recipe.n3:
            loss = loss + self.recipe.n3 * self.model.penalty(state_ND, query_B2, row_T, tail_T, weight_B)
        return loss

    def keep_edges(self, triple: Int64Array) -> Tensor | None:
        """Return keep_E, False on both edges of each of these train triples; None where nothing is to be hidden.

        Edge e of the graph is train triple e, edge T + e runs against it, and self edges come last.
        """
        if self.model.graph is None or not self.recipe.hide_batch_edges:
            return None
        keep = np.ones(self.model.graph.num_edges, dtype=np.bool_)
        keep[triple] = False
        keep[triple + len(self.data.train)] = False
        return torch.from_numpy(keep).to(self.device)

    # --- the clock ---------------------------------------------------------------------------------------------------

    def _share_done(self) -> float:
        """How much of the run is over, by steps or by the clock, whichever is further."""
        share = self.position.step / (self.recipe.epochs * self.batches_per_epoch)
        if self.recipe.max_minutes is not None:
            share = max(share, self.position.elapsed_seconds / (60 * self.recipe.max_minutes))
        return min(share, 1.0)

    def _out_of_time(self) -> bool:
        limit = self.recipe.max_minutes
        return limit is not None and self.position.elapsed_seconds >= 60 * limit

    def _maybe_line(self) -> None:
        position = self.position
        if position.elapsed_seconds < self._next_line:
            return
        self._next_line = position.elapsed_seconds + _LINE_SECONDS
        done = position.batch / self.batches_per_epoch
        self._progress(
            f"epoch {position.epoch + 1}/{self.recipe.epochs} ({done:.0%}): "
            f"loss {position.loss_sum / position.loss_queries:.4f}, {self._rate():,.0f} queries/s, {self._eta()}"
        )

    def _rate(self) -> float:
        done = self.position.step * len(self.queries) / self.batches_per_epoch
        return done / max(self.position.elapsed_seconds, 1e-9)

    def _eta(self) -> str:
        """How long it will still take."""
        share = self._share_done()
        left = self.position.elapsed_seconds * (1 - share) / max(share, 1e-9)
        return f"{left / 60:.0f} min left" if left >= 90 else f"{left:.0f} s left"

    # --- looking -----------------------------------------------------------------------------------------------------

    def _end_epoch(self) -> None:
        """Write the row of an epoch, look at the valid sample if it is time, and decide whether to go on."""
        position, recipe = self.position, self.recipe
        row: dict[str, Any] = {
            "epoch": position.epoch + position.batch / self.batches_per_epoch,
            "step": position.step,
            "loss": position.loss_sum / max(position.loss_queries, 1),
            "learning_rate": recipe.learning_rate * (1 - self._share_done()),
            "queries_per_second": round(self._rate(), 1),
        }
        whole = position.batch == self.batches_per_epoch
        position.epoch, position.batch = position.epoch + int(whole), 0 if whole else position.batch
        position.loss_sum, position.loss_queries = 0.0, 0
        if position.epoch >= recipe.epochs and not position.stopped:
            position.stopped = f"all {recipe.epochs} epochs are done"
        if position.stopped or position.epoch % recipe.valid_every == 0:
            row |= self._look(row["epoch"])
        position.elapsed_seconds = self._before + time.monotonic() - self._started
        row["elapsed_seconds"] = round(position.elapsed_seconds, 3)
        position.history.append(row)
        valid = f", valid MRR {row['valid_mrr']:.4f}" if "valid_mrr" in row else ""
        line = f"epoch {row['epoch']:g}/{recipe.epochs}: loss {row['loss']:.4f}{valid}, {self._rate():,.0f} queries/s"
        self._progress(f"{line}, {position.stopped or self._eta()}")
        logger.info("%s", line)

    def _look(self, epoch: float) -> dict[str, float]:
        """Rank the valid sample, keep the model if it is the best so far, count looks without gain."""
        position = self.position
        if not len(self._sample):
            self._keep(epoch)  # nothing to choose by: the last is the best
            return {}
        values = summarise_ranks(self.rank(self._sample), draws=0).both
        mrr = values["mrr"].value
        if mrr > position.best_mrr:
            position.best_mrr, position.looks_without_gain = mrr, 0
            self._keep(epoch)
        else:
            position.looks_without_gain += 1
            if self.recipe.patience and position.looks_without_gain >= self.recipe.patience:
                position.stopped = position.stopped or f"no better valid MRR in {self.recipe.patience} looks"
        return {f"valid_{name}": values[name].value for name in ("mrr", "hits_at_1", "hits_at_10")}

    def _keep(self, epoch: float) -> None:
        self.position.best_epoch = epoch
        self.best = {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}

    def rank(self, triples: Int64Array) -> Ranks:
        """Return filtered ranks of triples under the model of now."""
        return rank_triples(self.model.scorer(), triples, self._known)

    # --- saving ------------------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor that a checkpoint needs."""
        groups = {
            "model": self.model.state_dict(),
            "best": self.best,
            "optimiser": optimiser_tensors(self._optimiser),
            "random": random_tensors(self.device),
        }
        return {f"{group}.{name}": value for group, values in groups.items() for name, value in values.items()}

    def document(self) -> dict[str, Any]:
        """Return everything else that a checkpoint needs."""
        return {
            "position": asdict(self.position),
            "data": self.data.digest(),
            "products": str(self.products).removeprefix("torch."),
        }

    def load(self, checkpoint: Checkpoint, path: Any) -> None:
        """Continue where a checkpoint was written.

        Raises:
            TrainingError: it is of other data or another model.
        """
        if checkpoint.document["data"] != self.data.digest():
            raise TrainingError(f"{path}: the tables have changed since this run began; start a new run on them")
        load_model(self.model, checkpoint.part("model"), path)
        load_optimiser(self._optimiser, checkpoint.part("optimiser"))
        load_random(checkpoint.part("random"), self.device)
        self.best = checkpoint.part("best")
        self.position = Position(**checkpoint.document["position"])
        self.products = getattr(torch, checkpoint.document["products"])
        self._loss = AllEntitiesLoss(products=self.products)


def _sample(valid: Int64Array, count: int) -> Int64Array:
    """A fixed sample of valid triples, the same for every run on the same tables."""
    if len(valid) <= count:
        return valid
    chosen = np.random.default_rng(_SAMPLE_SEED).choice(len(valid), size=count, replace=False)
    return valid[np.sort(chosen)]
