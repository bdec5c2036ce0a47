"""The scores that an edge's attention is made of, kept apart by node and relation so that no row per edge is needed."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionTerms:
    r"""The logit of edge e in head h, split: ``LeakyReLU(dst[dst_e, h] + src[src_e, h] + relation[relation_e, h])``.

    A score ``a · [W x_dst ; W x_src ; W_r e_r]`` is the sum of three products, one per end and one per relation, so it
    is computed once per node and relation instead of once per edge.

    Attributes:
        dst_NH: what a node adds to the logits of its incoming edges.
        src_NH: what a node adds to the logits of its outgoing edges.
        relation_RH: what a relation adds; None where relations have no say.
        keep_E: bool, False hides an edge: it takes part neither in the softmax nor in the sum. None shows all.
        negative_slope: of the LeakyReLU; 0.2 as in Veličković et al. 2018 (arXiv:1710.10903).
    """

    dst_NH: Tensor
    src_NH: Tensor
    relation_RH: Tensor | None = None
    keep_E: Tensor | None = None
    negative_slope: float = 0.2
