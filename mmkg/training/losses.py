r"""Cross-entropy of each query over *all* entities, made in pieces so that a batch's scores are never held at once.

.. math::
    L = \frac{1}{\sum_b w_b} \sum_b w_b \Big( \log \sum_n e^{s_{bn}} - \frac{1}{|T_b|} \sum_{t \in T_b} s_{bt} \Big)

with :math:`T_b` the known tails of query b. The gradient of the scores is softmax minus labels, so it is made in the
same pass, in place, and multiplied back into queries and entities at once: three matrix products, one softmax, and one
buffer of ``rows × N`` numbers however large the batch is.

Source: 1-vs-all cross-entropy, Lacroix et al., ICML 2018, arXiv:1806.07297. There each triple is an example; here all
triples of a query are one, weighted alike (``w = 1``) or by their number (``w = |T|``, which is Lacroix's sum).
"""

from typing import Any

import torch
from torch import Tensor

ROWS_AT_ONCE = 512


class AllEntitiesLoss:
    """The loss above, with a buffer that is made once."""

    def __init__(self, *, rows_at_once: int = ROWS_AT_ONCE, products: torch.dtype | None = None) -> None:
        """Keep settings.

        Args:
            rows_at_once: queries whose scores are held at a time.
            products: the type in which matrices are multiplied and scores held, e.g. bfloat16; None is the type of
                the vectors. The gradient of the vectors is added up in their own type.
        """
        self._rows = rows_at_once
        self._products = products
        self._buffer: Tensor | None = None

    def __call__(
        self,
        query_BD: Tensor,
        entity_ND: Tensor,
        bias_N: Tensor | None,
        row_T: Tensor,
        tail_T: Tensor,
        weight_B: Tensor,
    ) -> Tensor:
        """Return the loss, a scalar.

        Args:
            query_BD: query vectors.
            entity_ND: vectors of all entities.
            bias_N: added to each entity's scores, or None.
            row_T: the query of each label, ascending; every query has at least one.
            tail_T: the entity of each label.
            weight_B: the w of each query.
        """
        loss: Tensor = _AllEntities.apply(query_BD, entity_ND, bias_N, row_T, tail_T, weight_B / weight_B.sum(), self)
        return loss

    def buffer(self, num_rows: int, num_entities: int, like: Tensor) -> Tensor:
        """Return (num_rows, num_entities) of the products' type, whatever it held before."""
        dtype = self._products or like.dtype
        have = self._buffer
        if have is None or have.shape[1] != num_entities or have.dtype != dtype or have.device != like.device:
            have = self._buffer = torch.empty((self._rows, num_entities), dtype=dtype, device=like.device)
        return have[:num_rows]

    @property
    def rows_at_once(self) -> int:
        """How many queries' scores are held at a time."""
        return self._rows


class _AllEntities(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query_BD: Tensor,
        entity_ND: Tensor,
        bias_N: Tensor | None,
        row_T: Tensor,
        tail_T: Tensor,
        share_B: Tensor,
        settings: AllEntitiesLoss,
    ) -> Tensor:
        num_queries, num_entities = query_BD.shape[0], entity_ND.shape[0]
        label_T = torch.bincount(row_T, minlength=num_queries).to(query_BD.dtype).reciprocal()[row_T]
        grad_query_BD = torch.empty_like(query_BD)
        grad_entity_ND = torch.zeros_like(entity_ND)
        grad_bias_N = None if bias_N is None else torch.zeros_like(bias_N)
        loss = query_BD.new_zeros(())
        starts = range(0, num_queries, settings.rows_at_once)
        limits = torch.searchsorted(row_T, torch.tensor([*starts, num_queries], device=row_T.device)).tolist()
        dtype = settings.buffer(0, num_entities, query_BD).dtype
        query_low, entity_low = query_BD.to(dtype), entity_ND.to(dtype)
        for number, start in enumerate(starts):
            stop = min(start + settings.rows_at_once, num_queries)
            mine = slice(limits[number], limits[number + 1])
            row, tail, label = row_T[mine] - start, tail_T[mine], label_T[mine]
            share = share_B[start:stop]
            score = settings.buffer(stop - start, num_entities, query_BD)
            torch.mm(query_low[start:stop], entity_low.t(), out=score)
            if bias_N is not None:
                score.add_(bias_N.to(dtype))
            torch.softmax(score, dim=1, out=score)
            chance = score[row, tail].to(query_BD.dtype)
            # A chance below the smallest number counts as that number here; the gradient does not pass through it.
            log_chance = chance.clamp_min(torch.finfo(chance.dtype).tiny).log()
            loss -= (log_chance * label * share[row]).sum()
            score[row, tail] = (chance - label).to(dtype)  # softmax minus labels: now the gradient of the scores
            score.mul_(share[:, None].to(dtype))
            grad_query_BD[start:stop] = torch.mm(score, entity_low)
            _add_product(grad_entity_ND, score, query_low[start:stop])
            if grad_bias_N is not None:
                grad_bias_N += score.sum(dim=0)
        ctx.save_for_backward(grad_query_BD, grad_entity_ND, grad_bias_N)
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_query_BD, grad_entity_ND, grad_bias_N = ctx.saved_tensors
        return (
            grad_query_BD * grad, grad_entity_ND * grad, None if grad_bias_N is None else grad_bias_N * grad,
            None, None, None, None,
        )  # fmt: skip


def _add_product(sum_ND: Tensor, score_BN: Tensor, query_BD: Tensor) -> None:
    """Add ``score^T query`` to a sum of the vectors' own type."""
    if score_BN.dtype == sum_ND.dtype:
        sum_ND.addmm_(score_BN.t(), query_BD)
    else:
        sum_ND += torch.mm(score_BN.t(), query_BD)
