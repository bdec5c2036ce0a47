"""The registry, what RGAT sees that GAT does not, and RGAT with bases against PyTorch Geometric's RGATConv."""

import math

import pytest
import torch
from torch.nn import functional

from mmkg.encoders import Rgat, RgatConfig, open_encoder
from mmkg.encoders.gcn import degree_weights
from mmkg.errors import ConfigError
from tests.encoders.graphs import message_graph, tiny_graph

BASES = {"num_bases": 2, "num_relations": 2}


def vectors_of(graph, node_width=8, relation_width=5):
    torch.manual_seed(3)
    return torch.randn(graph.num_nodes, node_width), torch.randn(graph.num_relations, relation_width)


@pytest.mark.capability("MR-09")
@pytest.mark.parametrize("backend", ["fused", "torch", "dgl"])
@pytest.mark.parametrize(
    ("name", "settings", "sees_relations"),
    [
        ("rgat", {"message": "sum"}, True),
        ("rgat", {"message": "product"}, True),
        ("rgat", BASES, True),
        ("gat", {}, False),
        ("gcn", {}, False),
        ("none", {}, False),
    ],
)
def test_another_relation_on_one_edge_changes_rgat_and_nothing_else(name, settings, sees_relations, backend):
    shared = {"node_width": 8} if name == "none" else {"node_width": 8, "relation_width": 5, "backend": backend}
    encoder = open_encoder(name, shared | settings)
    graph = message_graph([(0, 0, 1), (2, 1, 1), (1, 0, 2)], num_nodes=3, num_relations=2)
    changed = message_graph([(0, 1, 1), (2, 1, 1), (1, 0, 2)], num_nodes=3, num_relations=2)
    vectors = vectors_of(graph)
    moved_N = (encoder(graph, *vectors) - encoder(changed, *vectors)).abs().amax(1)
    assert (moved_N[1] > 1e-3) == sees_relations
    assert moved_N[0] == 0  # does not hear of that edge
    assert moved_N[2] == 0


@pytest.mark.parametrize("settings", [{}, BASES])
def test_the_relation_enters_the_attention_and_not_only_the_message(settings):
    encoder = open_encoder("rgat", {"node_width": 8, "relation_width": 5, **settings})
    graph, changed = (message_graph([(0, r, 1), (2, 1, 1)], num_nodes=3, num_relations=2) for r in (0, 1))
    vectors = vectors_of(graph)
    layer = encoder.layers[0]
    assert (layer.attention(graph, *vectors) - layer.attention(changed, *vectors)).abs().max() > 1e-3


@pytest.mark.parametrize("settings", [{}, BASES])
def test_relation_vectors_receive_a_gradient(settings):
    encoder = open_encoder("rgat", {"node_width": 8, "relation_width": 5, **settings})
    graph = tiny_graph()
    node_ND, relation_RD = vectors_of(graph)
    encoder(graph, node_ND, relation_RD.requires_grad_()).square().sum().backward()
    assert (relation_RD.grad.abs().sum(1) > 0).all()


@pytest.mark.parametrize("name", ["rgat", "gat"])
@pytest.mark.parametrize("settings", [{}, BASES])
def test_attention_of_each_head_sums_to_one_at_each_node_with_edges(name, settings):
    settings = settings if name == "rgat" else {}
    encoder = open_encoder(name, {"node_width": 8, "relation_width": 5, **settings})
    graph = tiny_graph()
    shares_EH = encoder.layers[0].attention(graph, *vectors_of(graph))
    sums_NH = torch.zeros(4, 4).index_add(0, graph.dst_E, shares_EH)
    torch.testing.assert_close(sums_NH, torch.tensor([0.0, 1.0, 1.0, 0.0])[:, None].expand(4, 4))
    assert not shares_EH.requires_grad


def test_rgat_is_its_formula():
    """One head, edge by edge: a·[W x_dst ; W x_src ; W_r e], LeakyReLU, softmax over all edges, W x_src + W_r e."""
    graph = tiny_graph()
    encoder = Rgat(RgatConfig(node_width=8, relation_width=5, num_heads=1, residual=False))
    layer = encoder.layers[0]
    node_ND, relation_RD = vectors_of(graph)
    x, e = node_ND @ layer.project.weight.T, relation_RD @ layer.project_relation.weight.T
    a = torch.cat([layer.score_dst[0], layer.score_src[0], layer.score_relation[0]])
    edges = list(zip(graph.src_E.tolist(), graph.relation_E.tolist(), graph.dst_E.tolist(), strict=True))
    into_b = [(j, r) for j, r, i in edges if i == 1]
    logits = torch.stack([functional.leaky_relu(a @ torch.cat([x[1], x[j], e[r]]), 0.2) for j, r in into_b])
    messages = torch.stack([x[j] + e[r] for j, r in into_b])
    torch.testing.assert_close(encoder(graph, node_ND, relation_RD)[1], torch.softmax(logits, 0) @ messages)


@pytest.mark.parametrize("backend", ["fused", "torch", "dgl"])
@pytest.mark.parametrize("heads", ["concat", "mean"])
def test_rgat_with_bases_is_the_rgatconv_of_pytorch_geometric(backend, heads):
    conv_module = pytest.importorskip("torch_geometric.nn", reason="the extra 'bench' brings torch-geometric")
    graph = message_graph(
        torch.stack([torch.arange(40) % 7, torch.arange(40) % 3, torch.arange(40) * 5 % 6], 1).tolist(),
        num_nodes=7,
        num_relations=3,
    )
    config = RgatConfig(
        node_width=8,
        relation_width=5,
        num_heads=2,
        heads=heads,
        num_bases=2,
        num_relations=3,
        residual=False,
        backend=backend,
    )
    layer = Rgat(config).layers[0]
    conv = conv_module.RGATConv(8, config.head_width, 3, num_bases=2, heads=2, concat=heads == "concat", edge_dim=5)
    with torch.no_grad():
        conv.basis.copy_(layer.bases_BIK)
        conv.att.copy_(layer.coefficient_RB)
        conv.lin_edge.weight.copy_(layer.project_relation.weight)
        for theirs, ours in ((conv.q, layer.score_dst), (conv.k, layer.score_src), (conv.e, layer.score_relation)):
            theirs.copy_(torch.block_diag(*ours.unsqueeze(2)))  # PyG's scores mix heads; ours are the diagonal
    node_ND, relation_RD = vectors_of(graph)
    ours = layer(graph, node_ND, relation_RD, None)
    theirs = conv(
        node_ND, torch.stack([graph.src_E, graph.dst_E]), graph.relation_E, edge_attr=relation_RD[graph.relation_E]
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    for mine, peer in (
        (layer.bases_BIK, conv.basis),
        (layer.coefficient_RB, conv.att),
        (layer.project_relation.weight, conv.lin_edge.weight),
    ):
        torch.testing.assert_close(mine.grad, peer.grad, rtol=1e-4, atol=1e-5)


def test_bases_make_no_matrix_per_edge_or_relation():
    width, num_relations, num_edges = 32, 50, 300
    graph = message_graph(
        torch.stack([torch.randint(n, (num_edges,)) for n in (20, num_relations, 20)], 1).tolist(),
        num_nodes=20,
        num_relations=num_relations,
    )
    config = RgatConfig(
        node_width=width, relation_width=4, num_heads=1, num_bases=2, num_relations=num_relations, backend="torch"
    )
    encoder, vectors, shapes = Rgat(config), vectors_of(graph, width, 4), []

    class Note(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                shapes.append(tuple(result.shape))
            return result

    with Note():
        encoder(graph, *vectors)
    assert (num_edges, 1, width) in shapes  # it does look inside: plain torch has a row per edge
    assert max(math.prod(shape) for shape in shapes) <= num_edges * width
    assert all(shape[-2:] != (width, width) or shape[0] == config.num_bases for shape in shapes if len(shape) == 3)


def test_gcn_weights_are_one_over_the_root_of_the_degrees():
    # a -> b twice, c -> b, b -> c, c -> c: in-degrees b 3, c 2; out-degrees a 2, b 1, c 2. Order as in tiny_graph.
    found = degree_weights(tiny_graph(), None, torch.float64)
    expected = torch.tensor([3 * 2, 3 * 2, 2 * 1, 2 * 2, 3 * 2], dtype=torch.float64).rsqrt()
    torch.testing.assert_close(found, expected)


def test_attention_dropout_drops_edges_when_training_only():
    encoder = open_encoder("gat", {"node_width": 8, "num_heads": 1, "attention_dropout": 0.5, "residual": False})
    graph = message_graph([(n, 0, 0) for n in range(1, 41)], num_nodes=41, num_relations=1)
    node_ND, relation_RD = torch.ones(41, 8), torch.ones(1, 5)
    torch.manual_seed(0)
    ratio = encoder(graph, node_ND, relation_RD)[0] / encoder.eval()(graph, node_ND, relation_RD)[0]
    kept = ratio[0] * 20  # of 40 equal edges, each worth 2 / 40
    torch.testing.assert_close(ratio, ratio[0].expand(8))
    assert kept.item() == pytest.approx(round(kept.item()), abs=1e-3)
    assert 8 < kept < 32


def test_initial_gain_keeps_the_first_state_near_the_input():
    graph = tiny_graph()
    settings = {"node_width": 8, "relation_width": 5, "normalisation": "batch", "initial_gain": 0.1}
    node_ND, relation_RD = vectors_of(graph)
    change = open_encoder("rgat", settings)(graph, node_ND, relation_RD) - node_ND
    assert change.std(0, correction=0).max() <= 0.1 + 1e-6


def test_batch_normalisation_of_one_node_says_what_to_do():
    encoder = open_encoder("gcn", {"node_width": 8, "normalisation": "batch"})
    graph = message_graph([], num_nodes=1, num_relations=1)
    with pytest.raises(ConfigError, match="needs at least 2 nodes to train on, found 1"):
        encoder(graph, *vectors_of(graph))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("rgta", {}, r"no encoder is called 'rgta'\. Did you mean 'rgat'"),
        ("rgat", {"num_head": 4}, r"no setting of the rgat encoder is called 'num_head'\. Did you mean 'num_heads'"),
        ("rgat", {}, "relation_width of an encoder must be a whole number of 1 or more, found 0"),
        ("rgat", {"num_layers": 5}, "num_layers of an encoder must be a whole number from 1 to 4, found 5"),
        ("rgat", {"num_heads": 3}, "output_width 8 of an encoder cannot be split over 3 heads"),
        ("rgat", {"num_heads": True}, "num_heads .* found True"),
        ("rgat", {"heads": "sum"}, "'concat' or 'mean', found 'sum'"),
        ("rgat", {"relation_width": 5, "message": "source"}, "no message is called 'source'"),
        ("rgat", {"relation_width": 5, "num_bases": 2}, "needs num_relations as well"),
        ("gat", {"dropout": 1.0}, r"dropout .* less than 1, found 1\.0"),
        ("gat", {"attention_dropout": -0.1}, "attention_dropout"),
        ("gcn", {"activation": "rellu"}, "Did you mean 'relu'"),
        ("gcn", {"backend": "fussed"}, "Did you mean 'fused'"),
        ("gcn", {"normalisation": "bach"}, "Did you mean 'batch'"),
        ("gcn", {"node_width": 0}, "node_width"),
        ("gcn", {"output_width": 0}, "output_width"),
    ],
)
def test_a_setting_that_cannot_be_used_says_which_and_why(name, settings, message):
    with pytest.raises(ConfigError, match=message):
        open_encoder(name, {"node_width": 8} | settings)


def test_a_missing_setting_and_a_foreign_config_are_named():
    with pytest.raises(ConfigError, match=r"the gcn encoder: missing 1 required .* 'node_width'"):
        open_encoder("gcn", {})
    with pytest.raises(ConfigError, match="the gat encoder needs a GatConfig, found a RgatConfig"):
        open_encoder("gat", RgatConfig(node_width=8, relation_width=5))


def test_bases_refuse_a_graph_with_other_relations():
    encoder = open_encoder("rgat", {"node_width": 8, "relation_width": 5, "num_bases": 2, "num_relations": 3})
    graph = tiny_graph()
    with pytest.raises(ConfigError, match="made for 3 relations, found a graph with 2"):
        encoder(graph, *vectors_of(graph))
    with pytest.raises(ConfigError, match=r"expects relation vectors of shape \(2, 5\)"):
        encoder(graph, torch.ones(4, 8), torch.ones(3, 5))
