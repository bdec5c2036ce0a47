"""Dirichlet energy by hand, and what of the paper's claim about it holds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkg.encoders import ops
from mmkg.encoders.dirichlet import dirichlet_energy
from mmkg.encoders.hop_diffusion import diffuse
from mmkg.errors import ConfigError
from mmkg.subgraphs.batch import batch_graphs
from mmkg.subgraphs.directions import undirected
from tests.encoders.graphs import message_graph, message_graphs, tiny_graph

NUM_GRAPHS = 200


def connected_graph(generator, num_nodes):
    """A random tree and some more edges, each way, with self loops."""
    tree = [(int(torch.randint(i, (1,), generator=generator)), 0, i) for i in range(1, num_nodes)]
    more = (torch.rand(num_nodes, num_nodes, generator=generator) < 0.15).triu(1).nonzero().tolist()
    graph = message_graph([*tree, *((i, 0, j) for i, j in more)], num_nodes=num_nodes, num_relations=1)
    return undirected(graph, self_loops=True)


@pytest.fixture(scope="module")
def random_attention():
    """A batch of connected graphs of 6 to 24 nodes, random attention on their edges, random features."""
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(6, 25, (NUM_GRAPHS,), generator=generator).tolist()
    graph = batch_graphs([connected_graph(generator, size) for size in sizes])
    logit_E1 = torch.randn(graph.num_edges, 1, generator=generator, dtype=torch.float64)
    node_ND = torch.randn(graph.num_nodes, 8, generator=generator, dtype=torch.float64)
    return graph, ops.edge_softmax(graph, logit_E1), node_ND


def diffused(graph, share_E1, node_ND, alpha, num_terms=None):
    return diffuse(graph, share_E1, node_ND[:, None], alpha=alpha, num_terms=num_terms)[:, 0]


def layers(graph, share_E1, node_ND, number):
    """A^k X: what that many layers of the same attention leave, without weights and activations."""
    for _ in range(number):
        node_ND = ops.weighted_sum(graph, share_E1, node_ND[:, None])[:, 0]
    return node_ND


def share_of_wins(graph, share_E1, node_ND, *, alpha, k, residual):
    after_ND = diffused(graph, share_E1, node_ND, alpha) + (node_ND if residual else 0)
    smoothed_ND = layers(graph, share_E1, node_ND, k)
    return (dirichlet_energy(graph, after_ND) > dirichlet_energy(graph, smoothed_ND)).double().mean().item()


@pytest.mark.capability("G4-18")
def test_the_energy_of_a_path_by_hand():
    # a - b - c, vectors (0, 0), (3, 4), (3, 6): |a - b|² = 25, |b - c|² = 4, each edge once each way.
    graph = undirected(message_graph([(0, 0, 1), (1, 0, 2)], num_nodes=3, num_relations=1), self_loops=True)
    node_ND = torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 6.0]])
    assert dirichlet_energy(graph, node_ND).tolist() == [29]
    weight_E = torch.where(graph.src_E + graph.dst_E == 1, 2.0, 10.0)  # a - b has 2, b - c and the loops 10
    assert dirichlet_energy(graph, node_ND, weight_E).tolist() == [90]


@pytest.mark.capability("G4-18")
@settings(max_examples=15)
@given(graph=message_graphs(), weighted=st.booleans(), seed=st.integers(0, 9))
def test_the_energy_is_half_the_sum_over_all_pairs(graph, weighted, seed):
    generator = torch.Generator().manual_seed(seed)
    node_ND = torch.randn(graph.num_nodes, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    weight_E = torch.rand(graph.num_edges, generator=generator, dtype=torch.float64) if weighted else None
    a_NN = torch.zeros(graph.num_nodes, graph.num_nodes, dtype=torch.float64)
    for e in range(graph.num_edges):
        a_NN[graph.dst_E[e], graph.src_E[e]] += 1 if weight_E is None else weight_E[e]
    apart_NN = (node_ND[:, None] - node_ND[None]).square().sum(2)
    found, wanted = dirichlet_energy(graph, node_ND, weight_E), (a_NN * apart_NN).sum() / 2
    torch.testing.assert_close(found, wanted[None])
    mine, theirs = (torch.autograd.grad(energy.sum(), node_ND)[0] for energy in (found, wanted))
    torch.testing.assert_close(mine, theirs)


@pytest.mark.capability("G4-18")
def test_each_graph_of_a_batch_has_its_own_energy_and_one_without_edges_none():
    graphs = [tiny_graph(), message_graph([], num_nodes=2, num_relations=2), tiny_graph()]
    nodes = [torch.randn(graph.num_nodes, 3) for graph in graphs]
    found = dirichlet_energy(batch_graphs(graphs), torch.cat(nodes))
    torch.testing.assert_close(found, torch.cat([dirichlet_energy(*pair) for pair in zip(graphs, nodes, strict=True)]))
    assert found[1] == 0
    assert dirichlet_energy(message_graph([], num_nodes=0, num_relations=1), torch.empty(0, 3)).tolist() == [0]


def test_vectors_or_weights_of_another_graph_are_refused():
    with pytest.raises(ConfigError, match=r"node_ND: expected \(4, D\), found \(3, 2\)"):
        dirichlet_energy(tiny_graph(), torch.ones(3, 2))
    with pytest.raises(ConfigError, match=r"weight_E: expected \(5,\), found \(5, 1\)"):
        dirichlet_energy(tiny_graph(), torch.ones(4, 2), torch.ones(5, 1))


@pytest.mark.capability("G4-P5")
@pytest.mark.parametrize("num_terms", [2, 4, None])
@pytest.mark.parametrize("alpha", [0.05, 0.5])
@settings(max_examples=8)
@given(seed=st.integers(0, 999))
def test_for_symmetric_attention_with_the_residual_the_claim_is_a_theorem(num_terms, alpha, seed):
    generator = torch.Generator().manual_seed(seed)
    num_nodes = int(torch.randint(2, 13, (1,), generator=generator))
    graph = connected_graph(generator, num_nodes)
    weight_NN = torch.randn(num_nodes, num_nodes, generator=generator, dtype=torch.float64).mul(2).exp()
    share_NN = torch.zeros(num_nodes, num_nodes, dtype=torch.float64)
    share_NN[graph.dst_E, graph.src_E] = (weight_NN * weight_NN.T)[graph.dst_E, graph.src_E]
    share_NN /= share_NN.fill_diagonal_(0).sum(1).max()
    share_NN += torch.diag(1 - share_NN.sum(1))  # what is left of a row stays where it is
    share_E = share_NN[graph.dst_E, graph.src_E]
    ones_N1 = torch.ones(num_nodes, 1, dtype=torch.float64)
    torch.testing.assert_close(layers(graph, share_E[:, None], ones_N1, 1), ones_N1)
    node_ND = torch.randn(num_nodes, 3, generator=generator, dtype=torch.float64)
    after_ND = node_ND + diffused(graph, share_E[:, None], node_ND, alpha, num_terms)
    energy = dirichlet_energy(graph, after_ND, share_E)
    for k in (1, 2, 5):
        smoothed_ND = layers(graph, share_E[:, None], node_ND, k)
        assert energy > dirichlet_energy(graph, smoothed_ND, share_E)
    assert energy > dirichlet_energy(graph, node_ND, share_E)  # k = 0 too: the residual alone has as much


@pytest.mark.capability("G4-P5")
@pytest.mark.parametrize("reach", [1, 2])
def test_on_a_regular_graph_it_is_one_of_the_unweighted_energy_too(reach):
    ring = message_graph(
        [(i, 0, (i + r) % 11) for i in range(11) for r in range(1, reach + 1)], num_nodes=11, num_relations=1
    )
    graph = undirected(ring, self_loops=True)
    share_E1 = torch.full((graph.num_edges, 1), 1 / (2 * reach + 1), dtype=torch.float64)
    for seed in range(20):
        node_ND = torch.randn(11, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        energy = dirichlet_energy(graph, node_ND + diffused(graph, share_E1, node_ND, 0.1))
        for k in (1, 3):
            assert energy > dirichlet_energy(graph, layers(graph, share_E1, node_ND, k))


@pytest.mark.capability("G4-P5")
def test_with_other_weights_than_its_own_a_symmetric_attention_can_break_it():
    # a - b - c where b and c nearly change places. X = (0, 0, 1): A X = (0, .94, .06), E = .94² + .88² = 1.658.
    share_NN = torch.tensor([[0.94, 0.06, 0], [0.06, 0, 0.94], [0, 0.94, 0.06]], dtype=torch.float64)
    dst_E, src_E = share_NN.nonzero().T
    rows = torch.stack([src_E, torch.zeros_like(src_E), dst_E], 1).tolist()
    graph, share_E1 = message_graph(rows, num_nodes=3, num_relations=1), share_NN[dst_E, src_E][:, None]
    node_ND = torch.tensor([[0.0], [0.0], [1.0]], dtype=torch.float64)
    after_ND, smoothed_ND = node_ND + diffused(graph, share_E1, node_ND, 0.1), layers(graph, share_E1, node_ND, 1)
    assert dirichlet_energy(graph, smoothed_ND).item() == pytest.approx(0.94**2 + 0.88**2)
    assert dirichlet_energy(graph, after_ND) < 0.75 * dirichlet_energy(graph, smoothed_ND)
    own = [dirichlet_energy(graph, state_ND, share_E1[:, 0]) for state_ND in (after_ND, smoothed_ND)]
    assert own[0] > own[1]


@pytest.mark.capability("G4-P5")
@pytest.mark.parametrize(("alpha", "k"), [(0.1, 2), (0.5, 4)])
def test_of_random_attention_with_the_residual_it_nearly_always_holds(random_attention, alpha, k):
    assert share_of_wins(*random_attention, alpha=alpha, k=k, residual=True) >= 0.99


@pytest.mark.capability("G4-P5")
@pytest.mark.parametrize(
    ("alpha", "k", "low", "high"),
    [(0.1, 1, 0, 0.02), (0.1, 2, 0, 0.25), (0.1, 10, 0.85, 1), (0.5, 10, 0.97, 1)],
)
def test_without_the_residual_it_holds_for_k_large_against_1_over_alpha(random_attention, alpha, k, low, high):
    assert low <= share_of_wins(*random_attention, alpha=alpha, k=k, residual=False) <= high
