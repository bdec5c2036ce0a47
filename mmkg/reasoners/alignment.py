r"""Alignment: the picture of an entity nearer to its entity than to the other entities of the same sample.

.. math:: L_a = \sum_{i} \sum_{j \ne i} \max(d(a_i, p_i) - d(a_i, p_j) + \alpha,\ 0)

with :math:`a_i` the adapted row of a picture, :math:`p_i` that of its entity, d the Euclidean distance and
:math:`\alpha` the margin. Source: Lee et al., ACL 2024, arXiv:2406.02030, section 3.4. The paper names neither the
margin nor how many negatives an anchor has; it draws M pictures of a graph and takes "the other selected text
entities". We take all of them, or the nearest only. Two drawn pictures of one entity are not each other's negatives.
"""

from typing import Literal

import torch
from torch import Tensor

from mmkg.errors import ConfigError

Negatives = Literal["all", "nearest"]


def triplet_alignment(
    anchor_Md: Tensor,
    positive_Md: Tensor,
    entity_M: Tensor,
    graph_M: Tensor | None = None,
    *,
    margin: float,
    negatives: Negatives = "all",
) -> Tensor:
    """Return the sum of hinges, a scalar; 0 where there is no negative.

    Args:
        anchor_Md: adapted rows of pictures.
        positive_Md: adapted rows of their entities.
        entity_M: int64, which entity each is of: equal numbers are one entity, in whatever graph of the batch.
        graph_M: int64, which graph of the batch; negatives come from the same one. None is one graph.
        margin: α, 0 or more, in units of the LLM's space.
        negatives: "all" others, or the "nearest" of them only.

    Raises:
        ConfigError: numbers of rows differ, or the margin is negative.
    """
    if not len(anchor_Md) == len(positive_Md) == len(entity_M):
        raise ConfigError(
            f"expected as many anchors as positives and entities, "
            f"found {len(anchor_Md)}, {len(positive_Md)} and {len(entity_M)}"
        )
    if margin < 0:
        raise ConfigError(f"margin of the alignment: expected 0 or more, found {margin}")
    distance_MM = (anchor_Md[:, None, :] - positive_Md[None, :, :]).square().sum(dim=2).clamp_min(1e-12).sqrt()
    other_MM = entity_M[:, None] != entity_M[None, :]
    if graph_M is not None:
        other_MM = other_MM & (graph_M[:, None] == graph_M[None, :])
    hinge_MM = (distance_MM.diagonal()[:, None] - distance_MM + margin).clamp_min(0) * other_MM
    if negatives == "nearest":
        return hinge_MM.max(dim=1).values.sum() if len(hinge_MM) else hinge_MM.sum()
    return hinge_MM.sum()


def draw_pictures(
    picture_K: Tensor, entity_K: Tensor, graph_K: Tensor, *, per_graph: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw up to M pictures of each graph without replacement, as the paper does at random.

    Args:
        picture_K: int64, nodes of pictures in the batch.
        entity_K: the node of each one's entity.
        graph_K: the graph of each.
        per_graph: M.
        generator: on the CPU.

    Returns:
        Those of the three rows that were drawn, in their order.
    """
    order_K = torch.randperm(len(picture_K), generator=generator).to(picture_K.device)
    graph_of_drawn_K = graph_K[order_K]
    same_KK = graph_of_drawn_K[:, None] == graph_of_drawn_K[None, :]
    rank_K = same_KK.tril(-1).sum(dim=1)  # how many of the same graph were drawn before
    chosen = order_K[rank_K < per_graph].sort().values
    return picture_K[chosen], entity_K[chosen], graph_K[chosen]
