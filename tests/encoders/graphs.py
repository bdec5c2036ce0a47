"""Graphs for the tests of encoders: one to check by finger, and random ones with everything that can go wrong."""

import numpy as np
import torch
from hypothesis import strategies as st

from mmkg.encoders.terms import AttentionTerms
from mmkg.subgraphs.batch import MessageGraph


def message_graph(edges: list[tuple[int, int, int]], *, num_nodes: int, num_relations: int) -> MessageGraph:
    """A graph of (src, relation, dst) rows."""
    columns = torch.tensor(edges, dtype=torch.int64).reshape(-1, 3).T
    return MessageGraph(
        src_E=columns[0].clone(),
        relation_E=columns[1].clone(),
        dst_E=columns[2].clone(),
        num_nodes=num_nodes,
        num_relations=num_relations,
    )


def tiny_graph() -> MessageGraph:
    """a -r-> b, c -s-> b, b -r-> c, c -r-> c (self loop), a -r-> b again; d stands alone. a..d are 0..3."""
    return message_graph([(0, 0, 1), (2, 1, 1), (1, 0, 2), (2, 0, 2), (0, 0, 1)], num_nodes=4, num_relations=2)


@st.composite
def message_graphs(draw: st.DrawFn, *, min_nodes: int = 0) -> MessageGraph:
    """Graphs with isolated nodes, self loops, repeated edges, unused relations; some without edges, or nodes."""
    num_nodes = draw(st.integers(min_nodes, 7))
    num_relations = draw(st.integers(1, 4))
    node = st.integers(0, max(num_nodes - 1, 0))
    rows = st.tuples(node, st.integers(0, num_relations - 1), node)
    edges = draw(st.lists(rows, max_size=14 if num_nodes else 0))
    return message_graph(edges, num_nodes=num_nodes, num_relations=num_relations)


def random_inputs(
    graph: MessageGraph, *, num_heads: int, width: int, seed: int = 0, dtype: torch.dtype = torch.float64
) -> dict[str, torch.Tensor]:
    """Leaves with gradient for every input of the attention operator."""
    generator = np.random.default_rng(seed)

    def leaf(*shape: int) -> torch.Tensor:
        return torch.tensor(generator.normal(size=shape), dtype=dtype).requires_grad_()

    nodes, relations = graph.num_nodes, graph.num_relations
    return {
        "value_NHD": leaf(nodes, num_heads, width),
        "vector_RHD": leaf(relations, num_heads, width),
        "dst_NH": leaf(nodes, num_heads),
        "src_NH": leaf(nodes, num_heads),
        "relation_RH": leaf(relations, num_heads),
    }


def terms_of(inputs: dict[str, torch.Tensor], keep_E: torch.Tensor | None = None) -> AttentionTerms:
    """The attention terms among those inputs."""
    return AttentionTerms(
        dst_NH=inputs["dst_NH"], src_NH=inputs["src_NH"], relation_RH=inputs["relation_RH"], keep_E=keep_E
    )


def random_keep(graph: MessageGraph, seed: int) -> torch.Tensor:
    """Hide about half of the edges."""
    return torch.tensor(np.random.default_rng(seed).random(graph.num_edges) < 0.5)
