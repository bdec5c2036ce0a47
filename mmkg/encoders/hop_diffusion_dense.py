r"""The other two readings of Graph4MM's mask, and the diffusion with whole matrices: for study and for checking.

With :math:`A' = \mathrm{softmax}(QK^\top/\sqrt d)` over all nodes of a graph and M the 0/1 adjacency:

===========  ===========================================================================================================
renormalise  :math:`M \circ A'`, each row divided by its sum plus 1e-9; of several heads' mean, if ``mean``. The
             released code. For one head the same as masking logits.
literal      :math:`\mathrm{softmax}(M \circ A')`, as printed: a product of 0 is a logit of 0, not of −∞, so pairs
             without an edge get weight too (59 % of a row in a random graph of 12 nodes), and rows are nearly even.
===========  ===========================================================================================================

Memory is the square of the largest graph of a batch.
"""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from mmkg.subgraphs.batch import MessageGraph

Mask = Literal["logits", "renormalise", "literal"]
_TINY = 1e-9  # as released


def attention_on_edges(
    graph: MessageGraph,
    query_NHD: Tensor,
    key_NHD: Tensor,
    keep_E: Tensor | None,
    *,
    mask: Literal["renormalise", "literal"],
    mean: bool,
) -> tuple[MessageGraph, Tensor]:
    """Return A as edges: a graph of all pairs that have weight, and the weight of each, (E, H), or (E, 1) for a mean.

    Args:
        graph: whose edges the mask M shows.
        query_NHD, key_NHD: of each head; their products are the logits.
        keep_E: bool, False hides an edge.
        mask: which reading.
        mean: average A' over heads before the mask.
    """
    of_graph_N = graph.graph_index()
    same_NN = of_graph_N[:, None] == of_graph_N[None, :]
    logit_HNN = torch.einsum("ihd,jhd->hij", query_NHD, key_NHD).masked_fill(~same_NN, -torch.inf)
    whole_HNN = logit_HNN.softmax(dim=2)
    if mean:
        whole_HNN = whole_HNN.mean(0, keepdim=True)
    shown_NN = torch.zeros_like(same_NN)
    src_E, dst_E = (graph.src_E, graph.dst_E) if keep_E is None else (graph.src_E[keep_E], graph.dst_E[keep_E])
    shown_NN[dst_E, src_E] = True
    masked_HNN = whole_HNN * shown_NN
    if mask == "renormalise":
        share_HNN = masked_HNN / (masked_HNN.sum(dim=2, keepdim=True) + _TINY)
        dst_E, src_E = shown_NN.nonzero().T
    else:
        share_HNN = masked_HNN.masked_fill(~same_NN, -torch.inf).softmax(dim=2)
        dst_E, src_E = same_NN.nonzero().T
    pairs = replace(graph, src_E=src_E, relation_E=torch.zeros_like(src_E), dst_E=dst_E, num_relations=1)
    return pairs, share_HNN[:, dst_E, src_E].T


def diffusion_matrix(share_NN: Tensor, *, alpha: float, num_terms: int | None) -> Tensor:
    r"""Return 𝒜 (N, N) with whole matrices: the sum of K powers, or :math:`\alpha (I - (1-\alpha) A)^{-1}` for None."""
    identity_NN = torch.eye(len(share_NN), dtype=share_NN.dtype, device=share_NN.device)
    if num_terms is None:
        inverse_NN: Tensor = torch.linalg.inv(identity_NN - (1 - alpha) * share_NN)
        return alpha * inverse_NN
    power_NN, total_NN = identity_NN, torch.zeros_like(share_NN)
    for k in range(num_terms):
        total_NN = total_NN + alpha * (1 - alpha) ** k * power_NN
        power_NN = power_NN @ share_NN
    return total_NN
