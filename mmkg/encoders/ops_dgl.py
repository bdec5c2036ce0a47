"""The attention operators as DGL message passing: sampled products, an edge softmax and sparse sums.

DGL's sparse kernels never make the source's row for each edge. A relation vector that is added to a message is summed
through a second, bipartite graph from relations to nodes; one that is multiplied has to stand on each edge.
"""

import torch
from torch import Tensor
from torch.nn import functional

from mmkg.encoders.terms import AttentionTerms
from mmkg.subgraphs.batch import MessageGraph, import_dgl


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
    ops = import_dgl().ops
    weight_EH = attention(graph, terms)
    if dropout_EH is not None:
        weight_EH = weight_EH * dropout_EH
    if vector_RHD is not None and message == "product":
        weight_EHD = weight_EH[:, :, None] * vector_RHD.index_select(0, graph.relation_E)
        product_NHD: Tensor = ops.u_mul_e_sum(graph.dgl(), value_NHD, weight_EHD)
        return product_NHD
    out_NHD = weighted_sum(graph, weight_EH, value_NHD)
    if vector_RHD is not None and message == "sum":
        out_NHD = out_NHD + ops.u_mul_e_sum(graph.dgl_of_relations(), vector_RHD, weight_EH[:, :, None])
    return out_NHD


def attention(graph: MessageGraph, terms: AttentionTerms) -> Tensor:
    """Return the attention (E, H); see :func:`mmkg.encoders.ops.attention`."""
    ops = import_dgl().ops
    logit_EH = ops.u_add_v(graph.dgl(), terms.src_NH[:, :, None], terms.dst_NH[:, :, None])[:, :, 0]
    if terms.relation_RH is not None:
        logit_EH = logit_EH + terms.relation_RH.index_select(0, graph.relation_E)
    return edge_softmax(graph, functional.leaky_relu(logit_EH, terms.negative_slope), terms.keep_E)


def edge_softmax(graph: MessageGraph, logit_EH: Tensor, keep_E: Tensor | None) -> Tensor:
    """Return (E, H): each logit's share among the edges into its dst; 0 for a hidden edge."""
    if keep_E is not None:
        # finite, since DGL would take -inf from -inf where all edges of a node are hidden
        logit_EH = logit_EH.masked_fill(~keep_E[:, None], torch.finfo(logit_EH.dtype).min / 4)
    share_EH1: Tensor = import_dgl().ops.edge_softmax(graph.dgl(), logit_EH[:, :, None])
    return share_EH1[:, :, 0] if keep_E is None else share_EH1[:, :, 0] * keep_E[:, None]


def weighted_sum(graph: MessageGraph, weight_EH: Tensor, value_NHD: Tensor, start_NHD: Tensor | None = None) -> Tensor:
    """Return (N, H, D): start plus, over each node's incoming edges, the sum of ``weight * value`` of the source."""
    out_NHD: Tensor = import_dgl().ops.u_mul_e_sum(graph.dgl(), value_NHD, weight_EH[:, :, None])
    return out_NHD if start_NHD is None else start_NHD + out_NHD


def edge_dots(graph: MessageGraph, query_NHD: Tensor, key_NHD: Tensor) -> Tensor:
    """Return (E, H): for each edge the product of its dst's query and its src's key."""
    dot_EH1: Tensor = import_dgl().ops.u_dot_v(graph.dgl(), key_NHD, query_NHD)
    return dot_EH1[:, :, 0]
