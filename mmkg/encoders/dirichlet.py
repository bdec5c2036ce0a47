r"""Dirichlet energy: how much the vectors of neighbours differ; what over-smoothing takes away.

.. math:: E(X) = \tfrac12 \sum_{ij} a_{ij} \lVert x_i - x_j \rVert^2

Source: Graph4MM (section on hop-diffused attention) compares it after diffusion and after layers of attention. Of a
symmetric row-stochastic A with the paper's residual it is a theorem that E(X + 𝒜X) ≥ E(A^k X) for every k ≥ 1, if the
weights of the energy are A's own (or 1, where A has the same entry on all edges): each component along an eigenvector
of A with eigenvalue λ is multiplied by 1 + α / (1 − (1−α)λ) > 1 by diffusion and by λ^k, |λ| ≤ 1, by k layers. With
other weights the eigenvectors of A are not those of the energy, and a symmetric A can break it. Without the residual it
holds only for k large against 1/α, and for other A not always.
"""

import torch
from torch import Tensor

from mmkg.errors import ConfigError
from mmkg.subgraphs.batch import MessageGraph


def dirichlet_energy(graph: MessageGraph, node_ND: Tensor, weight_E: Tensor | None = None) -> Tensor:
    """Return the energy of each graph of a batch, (num_graphs,), with gradient.

    Args:
        graph: edges once each way where the energy of an undirected graph is meant.
        node_ND: (N, D) vectors.
        weight_E: a_ij of each edge; None is 1.

    Raises:
        ConfigError: vectors or weights that do not belong to the graph.
    """
    if len(node_ND) != graph.num_nodes or node_ND.dim() != 2:
        raise ConfigError(f"node_ND: expected ({graph.num_nodes}, D), found {tuple(node_ND.shape)}")
    if weight_E is not None and tuple(weight_E.shape) != (graph.num_edges,):
        raise ConfigError(f"weight_E: expected ({graph.num_edges},), found {tuple(weight_E.shape)}")
    apart_ED = node_ND.index_select(0, graph.dst_E) - node_ND.index_select(0, graph.src_E)
    energy_E = apart_ED.square().sum(1) / 2
    if weight_E is not None:
        energy_E = energy_E * weight_E
    of_edge_E = graph.graph_index().index_select(0, graph.dst_E)
    return torch.zeros(graph.num_graphs, dtype=energy_E.dtype, device=energy_E.device).index_add(0, of_edge_E, energy_E)
