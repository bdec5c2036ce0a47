"""Graphs turned round and graphs without directions, checked with a finger and against sets of pairs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkg.subgraphs.batch import MessageGraph, batch_graphs
from mmkg.subgraphs.directions import turned_round, undirected
from tests.encoders.graphs import message_graph, message_graphs, random_keep, tiny_graph


def pairs_of(graph):
    """(dst, src) of each edge, in the edges' order."""
    return list(zip(graph.dst_E.tolist(), graph.src_E.tolist(), strict=True))


def test_each_edge_turned_round_keeps_its_place_and_relation():
    graph = tiny_graph()
    back = turned_round(graph)
    assert pairs_of(back) == [(j, i) for i, j in pairs_of(graph)]
    assert torch.equal(back.relation_E, graph.relation_E)
    assert pairs_of(turned_round(back)) == pairs_of(graph)


@settings(max_examples=10)
@given(graph=message_graphs())
def test_turned_round_the_edges_are_grouped_by_their_other_end(graph):
    graph.csr()  # what was made for one direction must not be kept for the other
    back, by_src = turned_round(graph).csr(), graph.csr_by_src()
    for name in ("indptr", "edge", "other", "relation"):
        assert getattr(back, name).tolist() == getattr(by_src, name).tolist(), name


@pytest.mark.parametrize("self_loops", [True, False])
def test_the_tiny_graph_without_directions_has_two_edges_each_way(self_loops):
    # a -r-> b twice, c -s-> b, b -r-> c, c -r-> c; d stands alone
    loops = [(i, i) for i in range(4)] if self_loops else []
    graph = undirected(tiny_graph(), self_loops=self_loops)
    assert pairs_of(graph) == sorted([(0, 1), (1, 0), (1, 2), (2, 1), *loops])
    assert (graph.num_nodes, graph.num_relations, graph.relation_E.unique().tolist()) == (4, 1, [0])


@settings(max_examples=40)
@given(graph=message_graphs(), self_loops=st.booleans(), hide=st.booleans(), seed=st.integers(0, 9))
def test_two_nodes_are_joined_once_each_way_iff_a_shown_edge_joins_them(graph, self_loops, hide, seed):
    keep_E = random_keep(graph, seed) if hide else None
    shown = [pair for e, pair in enumerate(pairs_of(graph)) if keep_E is None or keep_E[e]]
    wanted = {(i, j) for a, b in shown for i, j in ((a, b), (b, a)) if i != j}
    wanted |= {(i, i) for i in range(graph.num_nodes)} if self_loops else set()
    found = undirected(graph, keep_E, self_loops=self_loops)
    assert pairs_of(found) == sorted(wanted)
    again = undirected(found, self_loops=self_loops)
    assert pairs_of(again) == pairs_of(found)


def test_graphs_of_a_batch_stay_apart():
    graphs = [tiny_graph(), message_graph([], num_nodes=0, num_relations=2), tiny_graph()]
    batch = undirected(batch_graphs(graphs), self_loops=True)
    assert batch.num_graphs == 3
    of_node_N = batch.graph_index()
    assert torch.equal(of_node_N[batch.src_E], of_node_N[batch.dst_E])
    apart = batch_graphs([undirected(graph, self_loops=True) for graph in graphs])
    assert pairs_of(batch) == pairs_of(apart)
    assert torch.equal(of_node_N, apart.graph_index())


def test_pairs_of_many_nodes_are_not_mixed_up():
    many = 3_000_000_000  # a pair's number needs 63 bits
    node = torch.tensor([many - 1, 0, many - 2, many - 1])
    graph = MessageGraph(
        src_E=node, relation_E=torch.zeros_like(node), dst_E=node.roll(1), num_nodes=many, num_relations=1
    )
    found = pairs_of(undirected(graph, self_loops=False))
    assert found == sorted(
        {(0, many - 1), (many - 1, 0), (0, many - 2), (many - 2, 0), (many - 2, many - 1), (many - 1, many - 2)}
    )
