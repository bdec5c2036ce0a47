r"""GCN, the plain graph network: no attention and no relations, neighbours weighted by degree.

.. math:: z_i = W \sum_{e:\, j \to i} \frac{x_j}{\sqrt{d^{in}_i\, d^{out}_j}}

with degrees over the shown edges. For the self loop of the paper use :meth:`MessageGraph.with_self_relation`.

Source: Kipf and Welling 2017, arXiv:1609.02907; with in- and out-degree, since edges here have a direction.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmkg.encoders import ops
from mmkg.encoders.base import LayerEnd, LayersConfig, check_inputs
from mmkg.subgraphs.batch import MessageGraph


@dataclass(frozen=True, kw_only=True)
class GcnConfig(LayersConfig):
    """Settings of :class:`Gcn`."""


class Gcn(nn.Module):
    """A stack of graph convolutions; relation vectors are taken and not used."""

    def __init__(self, config: GcnConfig) -> None:
        super().__init__()
        self.config = config
        self.output_width = config.width
        layers = range(config.num_layers)
        self.projections = nn.ModuleList(nn.Linear(config.input_width(i), config.width, bias=False) for i in layers)
        self.ends = nn.ModuleList(LayerEnd(config, i) for i in layers)

    def forward(
        self, graph: MessageGraph, node_ND: Tensor, relation_RD: Tensor, keep_E: Tensor | None = None
    ) -> Tensor:
        """Return the node states (N, output_width); see :class:`mmkg.encoders.base.Encoder`."""
        check_inputs(graph, node_ND, relation_RD, node_width=self.config.node_width, relation_width=None)
        weight_E1 = degree_weights(graph, keep_E, node_ND.dtype)[:, None]
        for project, end in zip(self.projections, self.ends, strict=True):
            value_N1D = project(node_ND)[:, None, :]
            gathered_N1D = ops.weighted_sum(graph, weight_E1, value_N1D, backend=self.config.backend)
            node_ND = end(node_ND, gathered_N1D[:, 0])
        return node_ND


def degree_weights(graph: MessageGraph, keep_E: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Return (E,): one over the root of the product of dst's in-degree and src's out-degree; 0 for a hidden edge."""
    shown_E = torch.ones(graph.num_edges, dtype=dtype, device=graph.device) if keep_E is None else keep_E.to(dtype)
    nothing_N = torch.zeros(graph.num_nodes, dtype=dtype, device=graph.device)
    in_degree_N = nothing_N.index_add(0, graph.dst_E, shown_E).clamp(min=1)
    out_degree_N = nothing_N.index_add(0, graph.src_E, shown_E).clamp(min=1)
    return shown_E * (in_degree_N[graph.dst_E] * out_degree_N[graph.src_E]).rsqrt()
