"""What every encoder promises, on every backend: one suite, run by all that are registered."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkg.encoders import encoder_names, open_encoder
from mmkg.errors import ConfigError
from mmkg.subgraphs.batch import batch_graphs
from tests.encoders.graphs import message_graph, message_graphs, random_keep, tiny_graph

WIDTH = 8
BACKENDS = ["fused", "torch", "dgl"]
CASES = [  # name of the encoder, settings
    ("rgat", {"num_heads": 2}),
    ("rgat", {"num_heads": 2, "message": "product", "num_layers": 2, "normalisation": "batch"}),
    ("rgat", {"num_heads": 3, "heads": "mean", "num_layers": 4, "normalisation": "layer", "attention_dropout": 0.3}),
    ("rgat", {"num_heads": 2, "num_bases": 3, "num_relations": 4, "num_layers": 2, "output_width": 6}),
    ("gat", {"num_heads": 2, "num_layers": 2, "dropout": 0.2}),
    ("gat", {"num_heads": 4, "residual": False}),
    ("gcn", {"num_layers": 2}),
    ("gcn", {"num_layers": 1, "residual": False, "normalisation": "layer"}),
    ("hop_diffusion", {"num_heads": 2}),
    ("hop_diffusion", {"num_heads": 4, "heads": "each", "num_terms": None, "alpha": 0.3, "self_loops": False}),
    ("hop_diffusion", {"num_heads": 2, "mask": "renormalise", "residual": False, "isolated": "zero", "num_terms": 3}),
    ("none", {}),
]


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


@pytest.fixture(params=CASES, ids=lambda case: "-".join([case[0], *map(str, case[1].values())]))
def case(request):
    return request.param


@pytest.fixture
def encoder(case, backend):
    return new_encoder(case, backend)


def new_encoder(case, backend):
    name, settings_ = case
    shared = {"node_width": WIDTH}
    if name != "none":
        shared |= {"relation_width": 5, "backend": backend}
    torch.manual_seed(0)
    encoder = open_encoder(name, shared | settings_).double()
    with torch.no_grad():  # biases and gains are 0 or equal at first, and would hide a mistake
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder.eval()


def vectors_of(graph, seed=0):
    generator = torch.Generator().manual_seed(seed)
    node_ND = torch.randn(graph.num_nodes, WIDTH, generator=generator, dtype=torch.float64)
    return node_ND, torch.randn(graph.num_relations, 5, generator=generator, dtype=torch.float64)


def four_relations(graph):
    """The same edges in a graph that counts 4 relations, as the encoder with bases was made for."""
    edges = torch.stack([graph.src_E, graph.relation_E, graph.dst_E], 1).tolist()
    return message_graph(edges, num_nodes=graph.num_nodes, num_relations=4)


GRAPH = four_relations(tiny_graph())
OTHER = message_graph([(0, 3, 1), (1, 2, 0), (1, 2, 2)], num_nodes=3, num_relations=4)


def test_every_registered_encoder_is_under_contract():
    assert {name for name, _ in CASES} == set(encoder_names())


@pytest.mark.capability("MR-09")
def test_node_and_relation_vectors_become_node_states(encoder):
    states = encoder(GRAPH, *vectors_of(GRAPH))
    assert states.shape == (GRAPH.num_nodes, encoder.output_width)
    assert states.isfinite().all()


def test_the_backend_changes_nothing(case, backend):
    node_ND, relation_RD = vectors_of(GRAPH)
    results = []
    for chosen in (backend, "torch"):
        encoder, leaf = new_encoder(case, chosen), node_ND.clone().requires_grad_()
        states = encoder(GRAPH, leaf, relation_RD, random_keep(GRAPH, 2))
        (states * torch.linspace(-1, 1, states.numel(), dtype=torch.float64).view_as(states)).sum().backward()
        results.append([states, leaf.grad, *(parameter.grad for parameter in encoder.parameters())])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_a_graph_gets_alone_what_it_gets_in_a_batch(encoder):
    graphs = [GRAPH, OTHER, GRAPH]
    batch = batch_graphs(graphs)
    _, relation_RD = vectors_of(GRAPH)
    nodes = [vectors_of(graph, seed)[0] for seed, graph in enumerate(graphs)]
    together = encoder(batch, torch.cat(nodes), relation_RD)
    alone = torch.cat([encoder(graph, node_ND, relation_RD) for graph, node_ND in zip(graphs, nodes, strict=True)])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


def test_batch_gradients_do_not_cross_from_graph_to_graph(encoder):
    batch = batch_graphs([GRAPH, OTHER])
    node_ND, relation_RD = vectors_of(batch)
    node_ND.requires_grad_()
    encoder(batch, node_ND, relation_RD)[: GRAPH.num_nodes].square().sum().backward()
    assert node_ND.grad[: GRAPH.num_nodes].abs().sum() > 0
    assert node_ND.grad[GRAPH.num_nodes :].abs().sum() == 0


@settings(max_examples=10)
@given(graph=message_graphs(), data=st.data())
@pytest.mark.capability("MR-09", "MR-P2")
@pytest.mark.parametrize("chosen", BACKENDS)
@pytest.mark.parametrize("name_and_settings", CASES, ids=lambda case: case[0])
def test_renaming_nodes_renames_states_and_the_order_of_edges_means_nothing(name_and_settings, chosen, graph, data):
    graph = four_relations(graph)
    encoder = new_encoder(name_and_settings, chosen)
    node_ND, relation_RD = vectors_of(graph)
    new_name = torch.tensor(data.draw(st.permutations(range(graph.num_nodes))), dtype=torch.int64)
    order = torch.tensor(data.draw(st.permutations(range(graph.num_edges))), dtype=torch.int64)
    edges = torch.stack([new_name[graph.src_E], graph.relation_E, new_name[graph.dst_E]], 1)[order]
    renamed = message_graph(edges.tolist(), num_nodes=graph.num_nodes, num_relations=4)
    renamed_ND = torch.empty_like(node_ND)
    renamed_ND[new_name] = node_ND
    states = encoder(graph, node_ND, relation_RD)
    assert states.isfinite().all()
    torch.testing.assert_close(encoder(renamed, renamed_ND, relation_RD)[new_name], states)


def test_hiding_edges_is_removing_them(encoder):
    keep_E = torch.tensor([False, False, True, True, False])  # all between a and b
    edges = torch.stack([GRAPH.src_E, GRAPH.relation_E, GRAPH.dst_E], 1)[keep_E].tolist()
    removed = message_graph(edges, num_nodes=GRAPH.num_nodes, num_relations=4)
    node_ND, relation_RD = vectors_of(GRAPH)
    found = encoder(GRAPH, node_ND, relation_RD, keep_E)
    torch.testing.assert_close(found, encoder(removed, node_ND, relation_RD))
    if encoder_sees_edges(encoder):
        assert not torch.allclose(found, encoder(GRAPH, node_ND, relation_RD))


def encoder_sees_edges(encoder):
    return any(True for _ in encoder.parameters())


@pytest.mark.capability("MR-09")
def test_a_node_without_edges_has_a_defined_state_and_a_graph_without_nodes_an_empty_one(encoder):
    lonely = message_graph([], num_nodes=3, num_relations=4)
    node_ND, relation_RD = vectors_of(lonely)
    assert encoder(lonely, node_ND, relation_RD).isfinite().all()
    empty = message_graph([], num_nodes=0, num_relations=4)
    for mode in (encoder.eval(), encoder.train()):
        assert mode(empty, *vectors_of(empty)).shape == (0, encoder.output_width)


def test_after_backward_no_parameter_lacks_a_gradient(encoder):
    encoder.train()
    node_ND, relation_RD = vectors_of(GRAPH)
    torch.manual_seed(1)
    states = encoder(GRAPH, node_ND.requires_grad_(), relation_RD.requires_grad_())
    (states * torch.randn_like(states)).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert node_ND.grad.abs().sum() > 0


def test_the_same_seed_gives_the_same_training_step(encoder):
    encoder.train()
    inputs = vectors_of(GRAPH)
    runs = []
    for _ in range(2):
        torch.manual_seed(7)
        runs.append(encoder(GRAPH, *inputs))
    assert torch.equal(*runs)


def test_vectors_of_another_graph_are_refused(encoder):
    node_ND, relation_RD = vectors_of(GRAPH)
    with pytest.raises(ConfigError, match=r"expects node vectors of shape \(4, 8\), found \(3, 8\)"):
        encoder(GRAPH, node_ND[:3], relation_RD)
