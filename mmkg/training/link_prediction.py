"""What is special to link prediction: batches of unique queries, all entities as rivals, one encoder pass a batch.

The encoder does not see the triples that its batch asks for. A look ranks a fixed sample of valid triples, filtered.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmkg.evaluation.link_prediction import Int64Array, KnownTails, Ranks, rank_triples
from mmkg.evaluation.metrics import summarise_ranks
from mmkg.reasoners.link_predictor import LinkPredictor
from mmkg.training.batches import even_batches
from mmkg.training.data import LinkPredictionData, train_queries
from mmkg.training.hardware import choose_products
from mmkg.training.learner import Look, LossParts
from mmkg.training.losses import AllEntitiesLoss
from mmkg.training.recipes import LinkPredictionRecipe
from mmkg.training.settings import LoopSettings

_SAMPLE_SEED = 0  # of the valid sample: the same for all runs, so that their curves can be laid over each other


def loop_settings(recipe: LinkPredictionRecipe) -> LoopSettings:
    """Return what the loop needs to know of a recipe."""
    return LoopSettings(
        batch_size=recipe.batch_size,
        epochs=recipe.epochs,
        max_minutes=recipe.max_minutes,
        optimiser="adam",
        learning_rate=recipe.learning_rate,
        schedule="linear",
        gradient_clip=recipe.gradient_clip,
        valid_every=recipe.valid_every,
        patience=recipe.patience,
        checkpoint_minutes=recipe.checkpoint_minutes,
        random_seed=recipe.random_seed,
    )


class LinkPredictionLearner:
    """Queries of a graph and a model that answers them; a :class:`~mmkg.training.learner.Learner`."""

    unit = "queries"
    inputs = "tables"
    divisible = True  # but for what a batch hides from the encoder, and ConvE's normalisation over a batch

    def __init__(
        self, recipe: LinkPredictionRecipe, data: LinkPredictionData, model: LinkPredictor, *, device: torch.device
    ) -> None:
        """Make the queries.

        Args:
            recipe: all settings.
            data: what is learnt.
            model: on ``device``.
            device: cpu or a GPU.
        """
        self.recipe, self.data, self.model, self.device = recipe, data, model, device
        self.digest = data.digest()
        self.queries = train_queries(data)
        self.products = choose_products(recipe, data.num_entities, device)
        self._loss = AllEntitiesLoss(products=self.products)
        self._known = KnownTails(data.known(), num_relations=data.num_relations)
        self._sample = _sample(data.valid, recipe.valid_triples)

    @property
    def num_examples(self) -> int:
        """How many unique queries there are."""
        return len(self.queries)

    def batches(self, random: np.random.Generator) -> Sequence[Int64Array]:
        """Return an epoch's batches of queries."""
        return even_batches(len(self.queries), self.recipe.batch_size, random)

    def loss(self, rows: Int64Array, random: np.random.Generator) -> LossParts:  # noqa: ARG002 - dropout is torch's
        """Return the loss of the queries of ``rows``: cross-entropy over all entities, and N3."""
        row, tail, triple = self.queries.batch(rows)
        query_B2 = torch.from_numpy(self.queries.query[rows]).to(self.device)
        row_T, tail_T = torch.from_numpy(row).to(self.device), torch.from_numpy(tail).to(self.device)
        state_ND = self.model.states(self.keep_edges(triple))
        query_BD = self.model.queries(state_ND, query_B2)
        weight_B = query_BD.new_ones(len(rows))
        by_triples = self.recipe.query_weight == "triples"
        if by_triples:
            weight_B = torch.bincount(row_T, minlength=len(rows)).to(query_BD.dtype)
        loss: Tensor = self._loss(query_BD, state_ND, self.model.decoder.bias, row_T, tail_T, weight_B)
        if self.recipe.n3:
            loss = loss + self.recipe.n3 * self.model.penalty(state_ND, query_B2, row_T, tail_T, weight_B)
        return LossParts(loss=loss, weight=float(len(row)) if by_triples else None)

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

    def look(self) -> Look | None:
        """Rank the valid sample; None if there is none."""
        if not len(self._sample):
            return None
        values = summarise_ranks(self.rank(self._sample), draws=0).both
        numbers = {f"valid_{name}": values[name].value for name in ("mrr", "hits_at_1", "hits_at_10")}
        return Look(score=values["mrr"].value, label="valid MRR", numbers=numbers)

    def rank(self, triples: Int64Array) -> Ranks:
        """Return filtered ranks of triples under the model of now."""
        return rank_triples(self.model.scorer(), triples, self._known)

    def state(self) -> Mapping[str, Any]:
        """Return the type of the large products: what was measured at the start may come out otherwise later."""
        return {"products": str(self.products).removeprefix("torch.")}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Put back what :meth:`state` gave."""
        self.products = getattr(torch, state["products"])
        self._loss = AllEntitiesLoss(products=self.products)


def _sample(valid: Int64Array, count: int) -> Int64Array:
    """A fixed sample of valid triples, the same for every run on the same tables."""
    if len(valid) <= count:
        return valid
    chosen = np.random.default_rng(_SAMPLE_SEED).choice(len(valid), size=count, replace=False)
    return valid[np.sort(chosen)]
