"""The attention operators in plain torch: the twin that runs wherever torch runs, and what the others are checked with.

Every edge's message is a row of its own here, so memory is edges × heads × features. Rows are taken by `index_select`,
whose gradient torch adds up in parallel; that of `tensor[index]` it adds up in one thread.
"""

import torch
from torch import Tensor
from torch.nn import functional

from mmkg.encoders.terms import AttentionTerms
from mmkg.subgraphs.batch import MessageGraph


def attend(
    graph: MessageGraph,
    terms: AttentionTerms,
    value_NHD: Tensor,
    vector_RHD: Tensor | None,
    *,
    message: str,
    dropout_EH: Tensor | None,
) -> Tensor:
    """Return the weighted sums of messages (N, H, D); see :func:`mmkg.encoders.ops.attend`."""
    weight_EH = attention(graph, terms)
    if dropout_EH is not None:
        weight_EH = weight_EH * dropout_EH
    message_EHD = value_NHD.index_select(0, graph.src_E)
    if vector_RHD is not None and message == "sum":
        message_EHD = message_EHD + vector_RHD.index_select(0, graph.relation_E)
    if vector_RHD is not None and message == "product":
        message_EHD = message_EHD * vector_RHD.index_select(0, graph.relation_E)
    return torch.zeros_like(value_NHD).index_add(0, graph.dst_E, weight_EH[:, :, None] * message_EHD)


def attention(graph: MessageGraph, terms: AttentionTerms) -> Tensor:
    """Return the attention (E, H); see :func:`mmkg.encoders.ops.attention`."""
    logit_EH = terms.dst_NH.index_select(0, graph.dst_E) + terms.src_NH.index_select(0, graph.src_E)
    if terms.relation_RH is not None:
        logit_EH = logit_EH + terms.relation_RH.index_select(0, graph.relation_E)
    return edge_softmax(graph, functional.leaky_relu(logit_EH, terms.negative_slope), terms.keep_E)


def edge_softmax(graph: MessageGraph, logit_EH: Tensor, keep_E: Tensor | None) -> Tensor:
    """Return (E, H): each logit's share among the edges into its dst; 0 for a hidden edge."""
    if keep_E is not None:
        logit_EH = logit_EH.masked_fill(~keep_E[:, None], -torch.inf)
    index_EH = graph.dst_E[:, None].expand_as(logit_EH)
    peak_NH = logit_EH.new_zeros((graph.num_nodes, logit_EH.shape[1])).scatter_reduce(
        0, index_EH, logit_EH.detach(), "amax", include_self=False
    )
    peak_NH = peak_NH.masked_fill(peak_NH == -torch.inf, 0)  # every edge of the node is hidden: exp(-inf - 0) = 0
    share_EH = torch.exp(logit_EH - peak_NH[graph.dst_E])
    total_NH = torch.zeros_like(peak_NH).index_add(0, graph.dst_E, share_EH)
    total_NH = total_NH.masked_fill(total_NH == 0, 1)
    return share_EH / total_NH.index_select(0, graph.dst_E)


def weighted_sum(graph: MessageGraph, weight_EH: Tensor, value_NHD: Tensor, start_NHD: Tensor | None = None) -> Tensor:
    """Return (N, H, D): start plus, over each node's incoming edges, the sum of ``weight * value`` of the source."""
    start_NHD = torch.zeros_like(value_NHD) if start_NHD is None else start_NHD
    return start_NHD.index_add(0, graph.dst_E, weight_EH[:, :, None] * value_NHD.index_select(0, graph.src_E))


def edge_dots(graph: MessageGraph, query_NHD: Tensor, key_NHD: Tensor) -> Tensor:
    """Return (E, H): for each edge the product of its dst's query and its src's key."""
    return (query_NHD.index_select(0, graph.dst_E) * key_NHD.index_select(0, graph.src_E)).sum(2)
