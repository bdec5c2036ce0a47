"""Message graphs: checks, orders, inverse and self relations, batches, DGL."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given

from mmkg import errors
from mmkg.errors import ConfigError, NotInstalled
from mmkg.subgraphs.batch import MessageGraph, batch_graphs, import_dgl, message_graph_of
from tests.encoders.graphs import message_graph, message_graphs, tiny_graph


def rows(graph):
    return list(zip(graph.src_E.tolist(), graph.relation_E.tolist(), graph.dst_E.tolist(), strict=True))


@dataclass(frozen=True)
class Arrays:
    node_index: np.ndarray
    src: np.ndarray
    relation: np.ndarray
    dst: np.ndarray


def test_a_subgraph_keeps_its_local_numbers():
    read_only = np.array([0, 1], dtype=np.int32)
    read_only.flags.writeable = False
    graph = message_graph_of(
        Arrays(np.array([70, 80, 90]), read_only, np.array([2, 0]), np.array([1, 2])), num_relations=3
    )
    assert rows(graph) == [(0, 2, 1), (1, 0, 2)]
    assert (graph.num_nodes, graph.num_relations, graph.num_edges) == (3, 3, 2)


def test_inverse_relations_come_after_the_edges_and_self_relations_last():
    graph = message_graph([(0, 1, 2)], num_nodes=3, num_relations=2).with_inverse_relations().with_self_relation()
    assert rows(graph) == [(0, 1, 2), (2, 3, 0), (0, 4, 0), (1, 4, 1), (2, 4, 2)]
    assert graph.num_relations == 5


def test_a_batch_stands_side_by_side():
    first, second = tiny_graph(), message_graph([(1, 1, 0)], num_nodes=2, num_relations=2)
    empty = message_graph([], num_nodes=0, num_relations=2)
    batch = batch_graphs([first, empty, batch_graphs([second, second])])
    assert rows(batch) == [*rows(first), (5, 1, 4), (7, 1, 6)]
    assert (batch.num_nodes, batch.num_graphs) == (8, 4)
    assert batch.graph_index().tolist() == [0, 0, 0, 0, 2, 2, 3, 3]


def test_batches_of_nothing_and_of_strangers_are_refused():
    with pytest.raises(ConfigError, match="at least one graph"):
        batch_graphs([])
    with pytest.raises(ConfigError, match=r"found num_relations \[2, 3\]"):
        batch_graphs([tiny_graph(), message_graph([], num_nodes=1, num_relations=3)])


@given(graph=message_graphs())
def test_both_orders_hold_every_edge_once_at_its_node(graph):
    edges = rows(graph)
    for csr, key, other in ((graph.csr(), 2, 0), (graph.csr_by_src(), 0, 2)):
        assert sorted(csr.edge.tolist()) == list(range(graph.num_edges))
        for node in range(graph.num_nodes):
            places = range(csr.indptr[node], csr.indptr[node + 1])
            assert [csr.edge[p] for p in places] == [e for e, row in enumerate(edges) if row[key] == node]
            for p in places:
                assert (csr.other[p], csr.relation[p]) == (edges[csr.edge[p]][other], edges[csr.edge[p]][1])
        assert graph.csr().edge[csr.by_dst].tolist() == csr.edge.tolist()


def test_what_was_made_once_is_kept():
    graph = tiny_graph()
    assert graph.csr() is graph.csr()
    assert graph.dgl() is graph.dgl()
    assert graph.to("cpu") is graph
    assert graph.to("meta") is graph.to("meta")
    assert graph.with_self_relation().csr() is not graph.csr()


def test_edges_on_another_device_are_not_sorted_here():
    with pytest.raises(ConfigError, match="the graph is on meta"):
        tiny_graph().to("meta").csr()


def test_dgl_has_the_same_nodes_and_edges_in_the_same_order():
    graph = tiny_graph()
    src, dst = graph.dgl().edges(order="eid")
    assert (src.tolist(), dst.tolist()) == (graph.src_E.tolist(), graph.dst_E.tolist())
    assert graph.dgl().num_nodes() == 4  # d, without edges, too
    relations, dst = graph.dgl_of_relations().edges(order="eid")
    assert (relations.tolist(), dst.tolist()) == (graph.relation_E.tolist(), graph.dst_E.tolist())


def test_a_missing_dgl_says_how_to_install_it(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    monkeypatch.setattr(errors.importlib, "import_module", missing)
    with pytest.raises(NotInstalled, match=r"'dgl': pip install 'mmkg\[graph\]'"):
        import_dgl()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dst_E": torch.tensor([0])}, r"dst_E .* int64 of shape \(2,\), found int64 of shape \(1,\)"),
        ({"src_E": torch.tensor([0, 1], dtype=torch.int32)}, "src_E .* found int32"),
        ({"src_E": torch.tensor(0)}, "src_E .* int64 of shape"),
        ({"dst_E": torch.tensor([0, 3])}, r"dst_E .* lie in \[0, 3\), found values from 0 to 3"),
        ({"src_E": torch.tensor([-1, 0])}, r"src_E .* found values from -1 to 0"),
        ({"relation_E": torch.tensor([0, 2])}, r"relation_E .* lie in \[0, 2\)"),
        ({"graph_of_node_N": torch.tensor([0, 0, 1])}, r"graph_of_node_N .* lie in \[0, 1\)"),
        ({"graph_of_node_N": torch.tensor([0])}, r"graph_of_node_N .* shape \(3,\)"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(change, message):
    fields = {"src_E": torch.tensor([0, 1]), "relation_E": torch.tensor([0, 1]), "dst_E": torch.tensor([1, 2])}
    with pytest.raises(ConfigError, match=message):
        MessageGraph(**(fields | change), num_nodes=3, num_relations=2)
