r"""Hop-diffused attention: one attention over edges, spread over many hops by diffusion.

.. math::
    A = \mathrm{softmax}_{j \in N(i)}\!\left(\frac{q_i \cdot k_j}{\sqrt d}\right), \qquad
    \mathcal{A} = \sum_{k=0}^{K-1} \theta_k A^k,\ \theta_k = \alpha (1-\alpha)^k, \qquad
    H \leftarrow H + \mathcal{A} H

Source: Graph4MM, section on hop-diffused attention; the weights are those of personalised PageRank. A power of A is
never made: K − 1 sparse products give the sum (Horner's scheme), so memory is linear in edges. K = ∞ is
:math:`\mathcal{A} = \alpha (I - (1-\alpha) A)^{-1}`, reached by iteration with an implicit gradient.

Where the paper does not type-check or the released code does something else, see ``docs/systems/graph4mm.md``: the
printed Softmax(M · A') gives weight to pairs without an edge (``mask="literal"``); the released code renormalises
masked averages of heads (``mask="renormalise"``), has no residual, and its rows add to 1 − (1−α)^K, since it does not
divide by that (``rescale=False``). K = 1 sees no neighbour at all: the sum has K terms, the first one is I.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from mmkg.encoders import ops
from mmkg.encoders.base import check_inputs, check_whole
from mmkg.encoders.hop_diffusion_dense import Mask, attention_on_edges
from mmkg.encoders.ops import Backend
from mmkg.errors import ConfigError, unknown_name
from mmkg.subgraphs.batch import MessageGraph
from mmkg.subgraphs.directions import turned_round, undirected

Isolated = Literal["self", "zero"]
_LEAST_ALPHA_OF_ALL = 1e-4  # 160,000 products in float32, 360,000 in float64


@dataclass(frozen=True, kw_only=True)
class HopDiffusionConfig:
    """Settings of :class:`HopDiffusion`.

    Attributes:
        node_width: d, features of a node, in and out.
        relation_width: taken as every encoder takes it, and not used: the paper's edges have no relations.
        num_heads: of the attention; 12 in the released code.
        alpha: α, teleport probability in (0, 1]; 0.1 in the released code.
        num_terms: K, terms of the sum, so K − 1 hops; 4 in the released code. None is all of them.
        heads: "mean" (one averaged attention for all features, as released) or "each" (a head diffuses its own share
            of the features).
        mask: "logits" (softmax over neighbours), "renormalise" (softmax over all nodes of the graph, then neighbours
            only, divided by their sum: the released code; the same for one head), or "literal" (the printed formula).
            The latter two make dense matrices: they are for study.
        residual: add the input, as in the paper; not released.
        rescale: divide by 1 − (1−α)^K, so that rows add to 1 as the paper says they do. Ours.
        isolated: what a node without neighbours keeps of A: "self" (itself), or "zero" (nothing, as released).
        self_loops: whether each node is its own neighbour. Unknown in the paper; not in the released code.
        undirected: make edges undirected and single first, as a mask of pairs is, with or without self loops; False
            takes a graph as it is, self loops too.
        backend: of the operators, see :mod:`mmkg.encoders.ops`.
    """

    node_width: int
    relation_width: int = 0
    num_heads: int = 4
    alpha: float = 0.1
    num_terms: int | None = 4
    heads: Literal["mean", "each"] = "mean"
    mask: Mask = "logits"
    residual: bool = True
    rescale: bool = True
    isolated: Isolated = "self"
    self_loops: bool = True
    undirected: bool = True
    backend: Backend = "auto"

    def __post_init__(self) -> None:
        """Check every value."""
        check_whole("node_width", self.node_width, least=1)
        check_whole("num_heads", self.num_heads, least=1)
        check_diffusion(self.alpha, self.num_terms)
        if self.node_width % self.num_heads:
            raise ConfigError(
                f"node_width {self.node_width} of an encoder cannot be split over {self.num_heads} heads; "
                "use a multiple"
            )
        for kind, name, known in (
            ("heads", self.heads, ("mean", "each")),
            ("mask", self.mask, get_args(Mask)),
            ("isolated", self.isolated, get_args(Isolated)),
            ("backend", self.backend, get_args(Backend)),
        ):
            if name not in known:
                raise ConfigError(unknown_name(kind, name, known))


class HopDiffusion(nn.Module):
    """Attention over edges, diffused; an :class:`~mmkg.encoders.base.Encoder` that uses no relations.

    Trained are the maps of queries and keys alone, 2 (d² + d) numbers: what is diffused are the features themselves.
    """

    def __init__(self, config: HopDiffusionConfig) -> None:
        super().__init__()
        self.config = config
        self.output_width = config.node_width
        self.query = nn.Linear(config.node_width, config.node_width)
        self.key = nn.Linear(config.node_width, config.node_width)

    def forward(
        self, graph: MessageGraph, node_ND: Tensor, relation_RD: Tensor, keep_E: Tensor | None = None
    ) -> Tensor:
        """Return the node states (N, d); see :class:`mmkg.encoders.base.Encoder`."""
        config = self.config
        check_inputs(graph, node_ND, relation_RD, node_width=config.node_width, relation_width=None)
        joined, share_EH = self.attention(graph, node_ND, keep_E)
        value_NHD = node_ND.view(len(node_ND), share_EH.shape[1], node_ND.shape[1] // share_EH.shape[1])
        diffused_NHD = diffuse(
            joined,
            share_EH,
            value_NHD,
            alpha=config.alpha,
            num_terms=config.num_terms,
            isolated="zero" if config.undirected and config.self_loops else config.isolated,  # none is: need not look
            backend=config.backend,
        )
        if config.rescale:
            diffused_NHD = diffused_NHD / row_sum(config.alpha, config.num_terms)
        out_ND = diffused_NHD.flatten(1)
        return node_ND + out_ND if config.residual else out_ND

    def attention(
        self, graph: MessageGraph, node_ND: Tensor, keep_E: Tensor | None = None
    ) -> tuple[MessageGraph, Tensor]:
        """Return the graph that is diffused over, and A on its edges, (E, H), or (E, 1) for the mean of heads."""
        config = self.config
        if config.undirected:
            graph, keep_E = undirected(graph, keep_E, self_loops=config.self_loops), None
        query_NHD = self.query(node_ND).unflatten(1, (config.num_heads, -1))
        key_NHD = self.key(node_ND).unflatten(1, (config.num_heads, -1)) / math.sqrt(query_NHD.shape[2])
        if config.mask != "logits":
            return attention_on_edges(graph, query_NHD, key_NHD, keep_E, mask=config.mask, mean=config.heads == "mean")
        logit_EH = ops.edge_dots(graph, query_NHD, key_NHD, backend=config.backend)
        share_EH = ops.edge_softmax(graph, logit_EH, keep_E=keep_E, backend=config.backend)
        return graph, share_EH.mean(1, keepdim=True) if config.heads == "mean" else share_EH


def diffuse(
    graph: MessageGraph,
    share_EH: Tensor,
    value_NHD: Tensor,
    *,
    alpha: float,
    num_terms: int | None,
    isolated: Isolated = "self",
    backend: Backend = "auto",
) -> Tensor:
    r"""Return :math:`\sum_{k<K} \alpha (1-\alpha)^k A^k X`, (N, H, D), with gradient.

    Args:
        graph: N nodes, E edges; A_ij stands on the edge from j to i.
        share_EH: A, rows (edges into one node) adding to 1 or, where nothing is shown, to 0.
        value_NHD: X, for each head its features.
        alpha: α in (0, 1].
        num_terms: K; None for all terms, to the precision of the type: then the error in the largest absolute
            row sum is below eps, and memory does not grow with the number of iterations.
        isolated: "self" puts 1 on A's diagonal where a row is all zeros, "zero" leaves it.
        backend: see :mod:`mmkg.encoders.ops`.

    Raises:
        ConfigError: α or K out of range, shapes that do not belong together, or a backend that cannot run here.
    """
    check_diffusion(alpha, num_terms)
    faded_EH, faded_NH1 = (1 - alpha) * share_EH, None
    if isolated == "self" and (alone_NH1 := _alone(graph, share_EH, backend)).any():
        faded_NH1 = (1 - alpha) * alone_NH1.to(value_NHD.dtype)
    if num_terms is None:
        out_NHD: Tensor = _Exact.apply(faded_EH, value_NHD, graph, faded_NH1, alpha, backend)
        return out_NHD
    return _horner(graph, faded_EH, alpha * value_NHD, faded_NH1, num_terms - 1, backend)


def row_sum(alpha: float, num_terms: int | None) -> float:
    """Return what a row of the sum of K terms adds to, 1 − (1−α)^K; 1 for all terms."""
    return 1.0 - truncation_error(alpha, num_terms)


def truncation_error(alpha: float, num_terms: int | None) -> float:
    """Return the largest absolute row sum of what K terms leave out, (1−α)^K exactly where rows of A add to 1."""
    check_diffusion(alpha, num_terms)
    return 0.0 if num_terms is None else (1 - alpha) ** num_terms


def check_diffusion(alpha: float, num_terms: int | None) -> None:
    """Raise ConfigError unless α lies in (0, 1] and K is a whole number of 1 or more, or None and α not tiny."""
    if not 0 < alpha <= 1:
        raise ConfigError(f"alpha of a diffusion must be more than 0 and at most 1, found {alpha!r}")
    if num_terms is not None:
        check_whole("num_terms", num_terms, least=1)
    elif alpha < _LEAST_ALPHA_OF_ALL:
        raise ConfigError(
            f"alpha of a diffusion with all terms must be at least {_LEAST_ALPHA_OF_ALL}, found {alpha!r}: "
            f"it would take {_num_products(alpha, torch.float32):,} products; give num_terms"
        )


@torch.no_grad()
def _alone(graph: MessageGraph, share_EH: Tensor, backend: Backend) -> Tensor:
    """Which nodes have an empty row in A, bool (N, H, 1)."""
    ones_NH1 = share_EH.new_ones((graph.num_nodes, share_EH.shape[1], 1))
    return ops.weighted_sum(graph, share_EH, ones_NH1, backend=backend) == 0


def _horner(
    graph: MessageGraph,
    faded_EH: Tensor,
    base_NHD: Tensor,
    faded_NH1: Tensor | None,
    num_products: int,
    backend: Backend,
) -> Tensor:
    """Return the sum of the powers of B = (1-α) A up to that of ``num_products``, applied to the base."""
    sum_NHD = base_NHD
    for _ in range(num_products):
        start_NHD = base_NHD if faded_NH1 is None else base_NHD + faded_NH1 * sum_NHD
        sum_NHD = ops.weighted_sum(graph, faded_EH, sum_NHD, start_NHD=start_NHD, backend=backend)
    return sum_NHD


class _Exact(torch.autograd.Function):
    r"""All terms. With :math:`B = (1-\alpha) A`, :math:`Y = \alpha (I - B)^{-1} X` and g the gradient of Y, one more

    such system gives :math:`G = (I - B^\top)^{-1} g`; the gradient of X is :math:`\alpha G`, that of an entry of B
    :math:`G_i \cdot Y_j`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        faded_EH: Tensor,
        value_NHD: Tensor,
        graph: MessageGraph,
        faded_NH1: Tensor | None,
        alpha: float,
        backend: Backend,
    ) -> Tensor:
        num_products = _num_products(alpha, value_NHD.dtype)
        sum_NHD = _horner(graph, faded_EH, alpha * value_NHD, faded_NH1, num_products, backend)
        ctx.save_for_backward(faded_EH, sum_NHD)
        ctx.graph, ctx.faded_NH1, ctx.alpha, ctx.backend = graph, faded_NH1, alpha, backend
        return sum_NHD

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_NHD: Tensor) -> tuple[Tensor | None, ...]:
        faded_EH, sum_NHD = ctx.saved_tensors
        num_products = _num_products(ctx.alpha, grad_NHD.dtype)
        back = turned_round(ctx.graph)
        adjoint_NHD = _horner(back, faded_EH, grad_NHD, ctx.faded_NH1, num_products, ctx.backend)
        grad_EH = ops.edge_dots(ctx.graph, adjoint_NHD, sum_NHD, backend=ctx.backend)
        return grad_EH, ctx.alpha * adjoint_NHD, None, None, None, None


def _num_products(alpha: float, dtype: torch.dtype) -> int:
    """How many products leave out less than the type can tell."""
    return 0 if alpha == 1 else math.ceil(math.log(torch.finfo(dtype).eps) / math.log1p(-alpha))
