"""A subgraph in the words of other libraries: nothing is lost and directions stay."""

import json
import subprocess
import sys

import numpy as np
import pytest

from mmkg.errors import MmkgError, NotInstalled
from mmkg.subgraphs import expand

LABELS = ["one", "two", "three", "zero"]
RELATION_LABELS = ["precedes", "jumps to"]


@pytest.fixture
def subgraph(chain):
    """Nodes 1 (seed), 2, 3 and 0; triples 1 -0-> 2, 1 -1-> 3, 0 -0-> 1, 2 -1-> 3."""
    return expand(chain, [1], num_hops=1, induced=True)


def test_the_fixture_is_what_it_says(subgraph):
    assert subgraph.node_index.tolist() == [1, 2, 3, 0]
    assert sorted(subgraph.triple.tolist()) == [0, 1, 2, 3]
    assert repr(subgraph) == "Subgraph(4 nodes, 4 edges, 1 hops)"


def test_arrow_tables_carry_nodes_edges_and_labels(subgraph):
    nodes, edges = subgraph.to_arrow(LABELS, RELATION_LABELS)
    assert nodes.to_pylist()[3] == {"node": 3, "entity_index": 0, "hop": 1, "label": "zero"}
    rows = {(row["head_index"], row["relation_label"], row["tail_index"]) for row in edges.to_pylist()}
    assert rows == {(0, "precedes", 1), (1, "precedes", 2), (1, "jumps to", 3), (2, "jumps to", 3)}
    assert subgraph.to_arrow()[0].column("label").null_count == 4


def test_the_dictionary_is_json_and_has_truncations(hub):
    subgraph = expand(hub, [0], num_hops=1, max_neighbours=2)
    content = json.loads(json.dumps(subgraph.to_dict(["hub", "tail", "head"])))
    assert [node["label"] for node in content["nodes"]] == ["hub", "tail", "head"]
    assert content["truncations"] == [
        {"entity_index": 0, "hop": 0, "degree": 20, "kept": 2, "reason": "max_neighbours"}
    ]
    assert "relation_label" not in content["edges"][0]


def test_networkx_has_the_same_multigraph(subgraph):
    graph = subgraph.to_networkx(LABELS, RELATION_LABELS)
    assert {(h, t, key) for h, t, key in graph.edges(keys=True)} == {(0, 1, 0), (1, 2, 1), (1, 3, 2), (2, 3, 3)}
    assert graph.nodes[0] == {"hop": 1, "label": "zero"}
    assert graph.edges[1, 3, 2] == {"relation_index": 1, "relation": "jumps to"}


def test_dgl_has_the_same_edges_and_features(subgraph):
    dgl = pytest.importorskip("dgl")
    graph = subgraph.to_dgl()
    assert isinstance(graph, dgl.DGLGraph)
    src, dst = graph.edges()
    nodes = graph.ndata["entity_index"]
    triples = list(zip(nodes[src].tolist(), graph.edata["relation_index"].tolist(), nodes[dst].tolist(), strict=True))
    assert sorted(triples) == [(0, 0, 1), (1, 0, 2), (1, 1, 3), (2, 1, 3)]
    assert graph.ndata["hop"].tolist() == [0, 1, 1, 1]
    assert graph.edata["triple"].tolist() == subgraph.triple.tolist()


def test_an_isolated_node_is_a_node_of_the_dgl_graph(chain):
    pytest.importorskip("dgl")
    assert expand(chain, [5], num_hops=2).to_dgl().num_nodes() == 1


def test_pyg_has_the_same_edges_and_features(subgraph):
    pytest.importorskip("torch_geometric")
    data = subgraph.to_pyg()
    assert data.validate()
    np.testing.assert_array_equal(data.edge_index.numpy(), np.stack([subgraph.src, subgraph.dst]))
    assert data.edge_type.tolist() == subgraph.relation.tolist()
    assert (data.num_nodes, data.entity_index.tolist(), data.hop.tolist()) == (4, [1, 2, 3, 0], [0, 1, 1, 1])


def test_what_is_converted_is_a_copy(subgraph):
    pytest.importorskip("torch_geometric")
    subgraph.to_pyg().hop.fill_(9)
    assert subgraph.hop.tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize(("method", "package"), [("to_dgl", "dgl"), ("to_pyg", "torch_geometric")])
def test_a_missing_package_is_named(subgraph, monkeypatch, method, package):
    pytest.importorskip("torch")
    for name in [name for name in sys.modules if name == package or name.startswith(package + ".")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(NotInstalled, match=package):
        getattr(subgraph, method)()


@pytest.mark.parametrize(
    ("labels", "relation_labels", "message"),
    [
        (["one"], None, "one for each of the 4 nodes, found 1"),
        (None, ["precedes"], "each relation index up to 1, found 1"),
    ],
)
def test_labels_that_do_not_fit_are_our_error(subgraph, labels, relation_labels, message):
    for convert in (subgraph.to_arrow, subgraph.to_networkx, subgraph.to_dict):
        with pytest.raises(MmkgError, match=message):
            convert(labels, relation_labels)


def test_cutting_loads_neither_torch_nor_dgl_nor_matplotlib():
    code = (
        "import sys, mmkg.subgraphs as s; a = s.Adjacency.from_triples([0], [0], [1], num_entities=2); "
        "s.expand(a, [0], num_hops=1).to_arrow(); "
        "print([m for m in ('torch', 'dgl', 'torch_geometric', 'matplotlib', 'networkx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
