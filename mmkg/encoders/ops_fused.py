"""The attention operators on the CPU without a tensor per edge and feature: torch's side of :mod:`fused_kernels`.

Each operator is a ``torch.autograd.Function`` around compiled loops, with its gradient written by hand; float32 and
float64. Beside inputs and outputs it holds one or two numbers per edge and head.
"""

import threading
from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

import numba
import numpy as np
import torch
from torch import Tensor

from mmkg.encoders import fused_kernels as kernels
from mmkg.encoders.terms import AttentionTerms
from mmkg.subgraphs.batch import Csr, MessageGraph

Array: TypeAlias = np.ndarray[Any, Any]

DTYPES = (torch.float32, torch.float64)

_WORTH_A_THREAD = 4_096  # nodes and edges

_MODES = {"source": kernels.SOURCE, "sum": kernels.SUM, "product": kernels.PRODUCT}

# One of numba's threading layers (workqueue, the only one on some systems) ends the process when two threads start
# parallel code at once.
_one_at_a_time = threading.Lock()


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
    out_NHD: Tensor = _Attend.apply(
        value_NHD, vector_RHD, terms.dst_NH, terms.src_NH, terms.relation_RH, terms.keep_E, dropout_EH,
        graph, _MODES[message], terms.negative_slope,
    )  # fmt: skip
    return out_NHD


@torch.no_grad()
def attention(graph: MessageGraph, terms: AttentionTerms) -> Tensor:
    """Return the attention (E, H), without gradient; see :func:`mmkg.encoders.ops.attention`."""
    nothing = terms.dst_NH.new_empty((*terms.dst_NH.shape, 0))
    inputs = _Inputs(graph, nothing, None, terms.dst_NH, terms.src_NH, terms.relation_RH, terms.keep_E, None)
    share, _, _ = inputs.attend(kernels.SOURCE, terms.negative_slope)
    return _by_edge(graph.csr(), share)


def weighted_sum(graph: MessageGraph, weight_EH: Tensor, value_NHD: Tensor, start_NHD: Tensor | None = None) -> Tensor:
    """Return (N, H, D): start plus, over each node's incoming edges, the sum of ``weight * value`` of the source."""
    out_NHD: Tensor = _WeightedSum.apply(weight_EH, value_NHD, start_NHD, graph)
    return out_NHD


def edge_dots(graph: MessageGraph, query_NHD: Tensor, key_NHD: Tensor) -> Tensor:
    """Return (E, H): for each edge the product of its dst's query and its src's key."""
    dot_EH: Tensor = _EdgeDots.apply(query_NHD, key_NHD, graph)
    return dot_EH


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        value_NHD: Tensor,
        vector_RHD: Tensor | None,
        term_dst_NH: Tensor,
        term_src_NH: Tensor,
        term_relation_RH: Tensor | None,
        keep_E: Tensor | None,
        dropout_EH: Tensor | None,
        graph: MessageGraph,
        mode: int,
        slope: float,
    ) -> Tensor:
        given = (value_NHD, vector_RHD, term_dst_NH, term_src_NH, term_relation_RH, keep_E, dropout_EH)
        ctx.share, ctx.weight, out_NHD = _Inputs(graph, *given).attend(mode, slope)
        ctx.save_for_backward(*given[:5], out_NHD)
        ctx.graph, ctx.mode, ctx.slope = graph, mode, slope
        return out_NHD

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_NHD: Tensor) -> tuple[Tensor | None, ...]:
        value_NHD, vector_RHD, term_dst_NH, term_src_NH, term_relation_RH, out_NHD = ctx.saved_tensors
        inputs = _Inputs(ctx.graph, value_NHD, vector_RHD, term_dst_NH, term_src_NH, term_relation_RH, None, None)
        grad, dtype = _numpy(grad_NHD), inputs.value.dtype
        csr, by_src, threads = ctx.graph.csr(), ctx.graph.csr_by_src(), _num_threads()
        centre_NH = np.empty_like(inputs.dst)
        _run(kernels.dots, csr, grad, _numpy(out_NHD), centre_NH)
        grad_logit = np.empty_like(ctx.share)
        grad_dst_NH, grad_src_NH = np.zeros_like(inputs.dst), np.zeros_like(inputs.src)
        grad_value_NHD = np.zeros_like(inputs.value)
        grad_relation_TRH = np.zeros((threads, *inputs.relation.shape), dtype=dtype)
        grad_vector_TRHD = np.zeros((threads, *inputs.vector.shape), dtype=dtype)
        _run(
            kernels.attend_backward(ctx.mode), by_src,
            by_src.indptr, by_src.by_dst, by_src.other, by_src.relation, inputs.dst, inputs.src, inputs.relation,
            inputs.value, inputs.vector, dtype.type(ctx.slope), ctx.share, ctx.weight, grad, centre_NH,
            grad_logit, grad_src_NH, grad_value_NHD, grad_relation_TRH, grad_vector_TRHD,
        )  # fmt: skip
        _run(kernels.segment_sums, csr, csr.indptr, grad_logit, grad_dst_NH)
        return (
            torch.from_numpy(grad_value_NHD),
            _summed(grad_vector_TRHD) if vector_RHD is not None else None,
            torch.from_numpy(grad_dst_NH),
            torch.from_numpy(grad_src_NH),
            _summed(grad_relation_TRH) if term_relation_RH is not None else None,
            None, None, None, None, None,
        )  # fmt: skip


class _WeightedSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weight_EH: Tensor, value_NHD: Tensor, start_NHD: Tensor | None, graph: MessageGraph
    ) -> Tensor:
        out_NHD = _gathered(graph.csr(), weight_EH, value_NHD, start_NHD)
        ctx.save_for_backward(weight_EH, value_NHD)
        ctx.graph = graph
        return out_NHD

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_NHD: Tensor) -> tuple[Tensor | None, ...]:
        weight_EH, value_NHD = ctx.saved_tensors
        csr, by_src = ctx.graph.csr(), ctx.graph.csr_by_src()
        weight, value = _by_place(csr, weight_EH), _numpy(value_NHD)
        grad_weight, grad_value_NHD = np.empty_like(weight), np.zeros_like(value)
        _run(
            kernels.gather_backward, by_src,
            by_src.indptr, by_src.by_dst, by_src.other, weight, value, _numpy(grad_NHD), grad_weight, grad_value_NHD,
        )  # fmt: skip
        grad_start_NHD = grad_NHD if ctx.needs_input_grad[2] else None
        return _by_edge(csr, grad_weight), torch.from_numpy(grad_value_NHD), grad_start_NHD, None


class _EdgeDots(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query_NHD: Tensor, key_NHD: Tensor, graph: MessageGraph) -> Tensor:
        csr, query = graph.csr(), _numpy(query_NHD)
        dot = np.empty((graph.num_edges, query.shape[1]), dtype=query.dtype)
        _run(kernels.edge_dots, csr, csr.indptr, csr.other, query, _numpy(key_NHD), dot)
        ctx.save_for_backward(query_NHD, key_NHD)
        ctx.graph = graph
        return _by_edge(csr, dot)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_EH: Tensor) -> tuple[Tensor | None, ...]:
        query_NHD, key_NHD = ctx.saved_tensors
        grad_query_NHD = _gathered(ctx.graph.csr(), grad_EH, key_NHD, None)
        return grad_query_NHD, _gathered(ctx.graph.csr_by_src(), grad_EH, query_NHD, None), None


class _Inputs:
    """The tensors of one call as the arrays that kernels read; what is not there has length 0."""

    def __init__(
        self,
        graph: MessageGraph,
        value_NHD: Tensor,
        vector_RHD: Tensor | None,
        term_dst_NH: Tensor,
        term_src_NH: Tensor,
        term_relation_RH: Tensor | None,
        keep_E: Tensor | None,
        dropout_EH: Tensor | None,
    ) -> None:
        self.csr = graph.csr()
        self.value = _numpy(value_NHD)
        dtype, num_heads = self.value.dtype, term_dst_NH.shape[1]
        none = np.empty((0, num_heads), dtype=dtype)
        self.vector = np.empty((0, *self.value.shape[1:]), dtype=dtype) if vector_RHD is None else _numpy(vector_RHD)
        self.dst, self.src = _numpy(term_dst_NH), _numpy(term_src_NH)
        self.relation = none if term_relation_RH is None else _numpy(term_relation_RH)
        self.keep = np.empty(0, dtype=np.bool_) if keep_E is None else _by_place(self.csr, keep_E)
        self.scale = none if dropout_EH is None else _by_place(self.csr, dropout_EH)

    def attend(self, mode: int, slope: float) -> tuple[Array, Array, Tensor]:
        """Return by place the attention and the weight of each message, and the sums (N, H, D)."""
        csr, dtype = self.csr, self.value.dtype
        share = np.empty((len(csr.edge), self.dst.shape[1]), dtype=dtype)
        weight = np.empty_like(share) if len(self.scale) else share
        out = np.zeros_like(self.value)
        _run(
            kernels.attend(mode), csr,
            csr.indptr, csr.other, csr.relation, self.keep, self.scale, self.dst, self.src, self.relation,
            self.value, self.vector, dtype.type(slope), share, weight, out,
        )  # fmt: skip
        return share, weight, torch.from_numpy(out)


def _gathered(csr: Csr, weight_EH: Tensor, value_NHD: Tensor, start_NHD: Tensor | None) -> Tensor:
    """Return for each node start plus the sum of ``weight * value`` over the other ends of its edges in ``csr``."""
    value = _numpy(value_NHD)
    start = np.empty((0, *value.shape[1:]), dtype=value.dtype) if start_NHD is None else _numpy(start_NHD)
    out = np.empty_like(value)
    _run(kernels.gather, csr, csr.indptr, csr.other, _by_place(csr, weight_EH), value, start, out)
    return torch.from_numpy(out)


def _by_place(csr: Csr, tensor: Tensor) -> Array:
    """Return a row of each edge in the order of the grouping."""
    return _numpy(tensor) if csr.in_order else _numpy(tensor)[csr.edge]


def _by_edge(csr: Csr, rows: Array) -> Tensor:
    """Return what stands in the order of the grouping in the order of the graph's edges."""
    if csr.in_order:
        return torch.from_numpy(rows)
    turned = np.empty_like(rows)
    turned[csr.edge] = rows
    return torch.from_numpy(turned)


def _run(kernel: Callable[..., None], csr: Csr, *arguments: Any) -> None:
    """Call a kernel on as many threads as torch uses, each with a stretch of nodes of about equally many edges.

    What is over in no time is done by one thread: on a busy machine, to wait for a second one costs milliseconds.
    """
    work = csr.indptr + np.arange(len(csr.indptr))  # a node without edges is work as well
    threads = min(_num_threads(), 1 + int(work[-1]) // _WORTH_A_THREAD)
    bounds = np.searchsorted(work, np.linspace(0, work[-1], threads + 1))
    with _one_at_a_time:
        _start_threads()
        before = numba.get_num_threads()
        numba.set_num_threads(threads)
        try:
            kernel(bounds, *arguments)
        finally:
            numba.set_num_threads(before)


@cache
def _start_threads() -> None:
    """Start numba's threads; as it does so, it tells OpenMP how many they are, and so torch, which did not ask."""
    before = torch.get_num_threads()
    numba.get_num_threads()
    torch.set_num_threads(before)


def _num_threads() -> int:
    return min(torch.get_num_threads(), int(numba.config.NUMBA_NUM_THREADS))


def _numpy(tensor: Tensor) -> Array:
    array: Array = tensor.detach().contiguous().numpy()
    return array


def _summed(buffers: Array) -> Tensor:
    return torch.from_numpy(buffers[0] if len(buffers) == 1 else buffers.sum(axis=0))
