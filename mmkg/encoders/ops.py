"""Attention over the edges of a graph: what is computed, and who computes it.

======  ==============================================================================================================
fused   compiled loops (numba) on the CPU in float32 and float64; no tensor per edge and feature
torch   plain torch, anywhere
dgl     DGL's message passing, on the CPU (the wheel of PyPI has no GPU code)
auto    fused where it runs, else torch
======  ==============================================================================================================

Values and gradients are the same to 1e-5.
"""

from types import ModuleType
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from mmkg.encoders.terms import AttentionTerms
from mmkg.errors import ConfigError, unknown_name
from mmkg.subgraphs.batch import MessageGraph

Backend: TypeAlias = Literal["auto", "fused", "torch", "dgl"]
Message: TypeAlias = Literal["source", "sum", "product"]


def attend(
    graph: MessageGraph,
    terms: AttentionTerms,
    value_NHD: Tensor,
    vector_RHD: Tensor | None = None,
    *,
    message: Message = "sum",
    dropout_EH: Tensor | None = None,
    backend: Backend = "auto",
) -> Tensor:
    r"""Return for each node the attention-weighted sum of the messages along its incoming edges, (N, H, D).

    .. math:: z_i = \sum_{e:\, j \to i} \alpha_e\, m_e, \quad m_e = x_j \;|\; x_j + v_{r(e)} \;|\; x_j \circ v_{r(e)}

    with the attention of :func:`attention`. A node without a shown incoming edge gets zeros.

    Args:
        graph: N nodes, E edges, R relations.
        terms: the logits, split by node and relation, and which edges are shown.
        value_NHD: what a node sends, ``W x``.
        vector_RHD: what a relation puts in, ``W_r e_r``; needed unless ``message`` is "source".
        message: "source" ``x``, "sum" ``x + v`` or "product" ``x * v``.
        dropout_EH: factor on each edge's attention after the softmax (0 or 1 / (1 - p)); None is 1.
        backend: "auto", "fused", "torch" or "dgl".

    Raises:
        ConfigError: shapes that do not belong together, an unknown message or backend, or one that cannot run here.
        NotInstalled: ``backend="dgl"`` without dgl.
    """
    if message not in get_args(Message):
        raise ConfigError(unknown_name("message", message, get_args(Message)))
    if (vector_RHD is None) != (message == "source"):
        raise ConfigError(
            f"message '{message}' of an attention {'takes no' if message == 'source' else 'needs'} relation vectors, "
            f"found {'none' if vector_RHD is None else tuple(vector_RHD.shape)}"
        )
    num_heads, width = value_NHD.shape[1:]
    _check_terms(graph, terms, num_heads)
    _check_shape("value_NHD", value_NHD, (graph.num_nodes, num_heads, width))
    _check_shape("vector_RHD", vector_RHD, (graph.num_relations, num_heads, width))
    _check_shape("dropout_EH", dropout_EH, (graph.num_edges, num_heads))
    chosen = _module_of(backend, value_NHD)
    out_NHD: Tensor = chosen.attend(graph, terms, value_NHD, vector_RHD, message=message, dropout_EH=dropout_EH)
    return out_NHD


def attention(graph: MessageGraph, terms: AttentionTerms, *, backend: Backend = "auto") -> Tensor:
    r"""Return each edge's share of its dst's attention, (E, H), without gradient; to look at, not to train through.

    .. math:: \alpha_e = \frac{\exp l_e}{\sum_{e' \to i} \exp l_{e'}}, \quad
              l_e = \mathrm{LeakyReLU}(a_h \cdot [W x_i\,;\, W x_j\,;\, W_r e_r])

    over all shown edges into a node, whatever their relations; 0 for a hidden edge.

    Source: Veličković et al. 2018, arXiv:1710.10903, with a relation term; softmax across relations as in Busbridge et
    al. 2019, arXiv:1904.05811.

    Raises:
        ConfigError: shapes that do not belong together, an unknown backend, or one that cannot run here.
        NotInstalled: ``backend="dgl"`` without dgl.
    """
    _check_terms(graph, terms, terms.dst_NH.shape[1])
    with torch.no_grad():
        attention_EH: Tensor = _module_of(backend, terms.dst_NH).attention(graph, terms)
    return attention_EH


def edge_softmax(
    graph: MessageGraph, logit_EH: Tensor, *, keep_E: Tensor | None = None, backend: Backend = "auto"
) -> Tensor:
    """Return each logit's share among the shown edges into its dst, (E, H), with gradient; 0 for a hidden edge.

    For logits that do not split by node and relation; otherwise :func:`attend` needs less memory.

    Raises:
        ConfigError: shapes that do not belong together, an unknown backend, or one that cannot run here.
        NotInstalled: ``backend="dgl"`` without dgl.
    """
    _check_shape("logit_EH", logit_EH, (graph.num_edges, logit_EH.shape[1]))
    _check_keep(graph, keep_E)
    chosen = _module_of("torch" if backend == "fused" else backend, logit_EH, without="fused")
    share_EH: Tensor = chosen.edge_softmax(graph, logit_EH, keep_E)
    return share_EH


def edge_dots(graph: MessageGraph, query_NHD: Tensor, key_NHD: Tensor, *, backend: Backend = "auto") -> Tensor:
    """Return for each edge the product of its dst's query and its src's key, head by head, (E, H), with gradient.

    Raises:
        ConfigError: shapes that do not belong together, an unknown backend, or one that cannot run here.
        NotInstalled: ``backend="dgl"`` without dgl.
    """
    _check_shape("query_NHD", query_NHD, (graph.num_nodes, *query_NHD.shape[1:]))
    _check_shape("key_NHD", key_NHD, tuple(query_NHD.shape))
    dot_EH: Tensor = _module_of(backend, query_NHD).edge_dots(graph, query_NHD, key_NHD)
    return dot_EH


def weighted_sum(
    graph: MessageGraph,
    weight_EH: Tensor,
    value_NHD: Tensor,
    *,
    start_NHD: Tensor | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Return for each node the sum of ``weight * value`` of the source over its incoming edges, (N, H, D).

    Args:
        graph: N nodes, E edges.
        weight_EH: of each edge and head.
        value_NHD: what a node sends.
        start_NHD: what the sums are added to; None is 0.
        backend: "auto", "fused", "torch" or "dgl".

    Raises:
        ConfigError: shapes that do not belong together, an unknown backend, or one that cannot run here.
        NotInstalled: ``backend="dgl"`` without dgl.
    """
    _check_shape("value_NHD", value_NHD, (graph.num_nodes, *value_NHD.shape[1:]))
    _check_shape("weight_EH", weight_EH, (graph.num_edges, value_NHD.shape[1]))
    _check_shape("start_NHD", start_NHD, tuple(value_NHD.shape))
    out_NHD: Tensor = _module_of(backend, value_NHD).weighted_sum(graph, weight_EH, value_NHD, start_NHD)
    return out_NHD


def choose_backend(backend: Backend, tensor: Tensor) -> Literal["fused", "torch", "dgl"]:
    """Return who computes what is asked of ``backend`` for a tensor of this type and device.

    Raises:
        ConfigError: nothing is called so, or it cannot run there.
    """
    fused_runs = tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64)
    if backend == "auto":
        return "fused" if fused_runs else "torch"
    if backend not in get_args(Backend):
        raise ConfigError(unknown_name("backend", backend, get_args(Backend)))
    if backend == "fused" and not fused_runs:
        raise ConfigError(
            f"backend 'fused' runs on the CPU in float32 and float64, found {str(tensor.dtype).removeprefix('torch.')} "
            f"on {tensor.device}; use backend 'torch' or 'auto'"
        )
    if backend == "dgl" and tensor.device.type != "cpu":
        raise ConfigError(
            f"backend 'dgl' runs on the CPU (PyPI's dgl has no GPU code), found {tensor.device}; use 'torch'"
        )
    return backend


def _module_of(backend: Backend, tensor: Tensor, *, without: str = "") -> ModuleType:
    # imported at need: numba and dgl take a second each to load
    chosen = choose_backend(backend, tensor)
    if chosen == "fused" and without != "fused":
        from mmkg.encoders import ops_fused

        return ops_fused
    if chosen == "dgl":
        from mmkg.encoders import ops_dgl

        return ops_dgl
    from mmkg.encoders import ops_torch

    return ops_torch


def _check_terms(graph: MessageGraph, terms: AttentionTerms, num_heads: int) -> None:
    _check_shape("dst_NH", terms.dst_NH, (graph.num_nodes, num_heads))
    _check_shape("src_NH", terms.src_NH, (graph.num_nodes, num_heads))
    _check_shape("relation_RH", terms.relation_RH, (graph.num_relations, num_heads))
    _check_keep(graph, terms.keep_E)


def _check_keep(graph: MessageGraph, keep_E: Tensor | None) -> None:
    _check_shape("keep_E", keep_E, (graph.num_edges,))
    if keep_E is not None and keep_E.dtype != torch.bool:
        raise ConfigError(f"keep_E must be bool, found {str(keep_E.dtype).removeprefix('torch.')}")


def _check_shape(name: str, tensor: Tensor | None, shape: tuple[int, ...]) -> None:
    if tensor is not None and tuple(tensor.shape) != shape:
        raise ConfigError(f"{name} must have the shape {shape} for this graph, found {tuple(tensor.shape)}")
