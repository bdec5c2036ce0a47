"""Heuristics against networkx, the own edge that no score sees, and the combination of features."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkg.errors import ConfigError
from mmkg.evaluation import pair_scorers
from mmkg.evaluation.pair_scorers import (
    adamic_adar,
    adjacency,
    common_neighbours,
    cosine,
    degrees,
    fit_logistic,
    hold_out_pairs,
    preferential_attachment,
)

HEURISTICS = (common_neighbours, adamic_adar, preferential_attachment)


def every_pair(num_nodes):
    return np.array([(u, v) for u in range(num_nodes) for v in range(num_nodes) if u != v])


@settings(max_examples=15)
@given(st.integers(2, 25), st.floats(0, 0.6), st.integers(0, 50))
def test_heuristics_are_those_of_networkx(num_nodes, chance, seed):
    drawn = nx.gnp_random_graph(num_nodes, chance, seed=seed)
    graph = adjacency(np.array(drawn.edges, dtype=np.int64).reshape(-1, 2), num_nodes)
    pairs = every_pair(num_nodes)
    apart = np.array([not drawn.has_edge(u, v) for u, v in pairs.tolist()], dtype=bool)
    expected = {
        common_neighbours: [len(list(nx.common_neighbors(drawn, u, v))) for u, v in pairs.tolist()],
        adamic_adar: [score for _, _, score in nx.adamic_adar_index(drawn, pairs.tolist())],
        preferential_attachment: [score for _, _, score in nx.preferential_attachment(drawn, pairs.tolist())],
    }
    for heuristic, scores in expected.items():
        assert heuristic(graph, pairs)[apart] == pytest.approx(np.array(scores)[apart])
    assert degrees(graph).tolist() == [degree for _, degree in drawn.degree]


@settings(max_examples=10)
@given(st.integers(0, 50))
def test_no_heuristic_sees_the_edge_of_the_pair(seed):
    edges = np.array(nx.gnp_random_graph(12, 0.4, seed=seed).edges)
    whole = adjacency(edges, 12)
    for own in range(len(edges)):
        without = adjacency(np.delete(edges, own, axis=0), 12)
        for heuristic in HEURISTICS:
            found = heuristic(whole, edges[own : own + 1])
            assert found == pytest.approx(heuristic(without, edges[own : own + 1]))
            assert found == pytest.approx(heuristic(whole, edges[own : own + 1, ::-1]))


def test_isolated_nodes_score_nothing_and_pairs_in_blocks_the_same(monkeypatch):
    drawn = nx.gnp_random_graph(20, 0.4, seed=1)
    graph = adjacency(np.array(drawn.edges), 22)
    isolated = np.array([[20, 21], [20, 3], [3, 21]])
    assert [heuristic(graph, isolated).tolist() for heuristic in HEURISTICS] == [[0, 0, 0]] * 3
    pairs = np.random.default_rng(0).permutation(every_pair(22))
    vectors = np.random.default_rng(0).normal(size=(22, 3))
    whole = [heuristic(graph, pairs) for heuristic in HEURISTICS] + [cosine(vectors, pairs)]
    monkeypatch.setattr(pair_scorers, "_NUMBERS_AT_ONCE", 70)
    blocks = [heuristic(graph, pairs) for heuristic in HEURISTICS] + [cosine(vectors, pairs)]
    assert all(np.array_equal(one, other) for one, other in zip(whole, blocks, strict=True))


def test_cosine_by_hand_and_zero_for_a_missing_vector():
    vectors = np.array([[1, 0], [3, 4], [0, 0], [-2, 0]], dtype=np.float16)
    pairs = np.array([[0, 1], [0, 3], [0, 2], [2, 2], [1, 1]])
    assert cosine(vectors, pairs) == pytest.approx([0.6, -1, 0, 0, 1])


def test_held_out_pairs_are_not_in_the_graph():
    pairs = np.array(nx.gnp_random_graph(30, 0.3, seed=0).edges)
    rest, held = hold_out_pairs(pairs, 0.25, random_seed=1)
    assert len(held) == round(0.25 * len(pairs))
    assert sorted(map(tuple, np.concatenate([rest, held]).tolist())) == sorted(map(tuple, pairs.tolist()))
    assert adjacency(rest, 30)[held[:, 0], held[:, 1]].sum() == 0
    with pytest.raises(ConfigError, match="leaves no graph, or nothing to learn from"):
        hold_out_pairs(pairs, 0.0001)


def test_the_combination_is_where_the_slope_of_the_loss_is_zero():
    random = np.random.default_rng(0)
    features = random.normal(size=(600, 3)) * [1, 10, 0] + [0, 5, 2]
    is_edge = random.random(600) < 1 / (1 + np.exp(-(2 * features[:, 0] - 0.3 * (features[:, 1] - 5) - 1)))
    found = fit_logistic(features, is_edge, names=("a", "b", "constant"), decay=0.01)
    standard = (features - found.mean_F) / found.scale_F
    share = np.where(is_edge, 0.5 / is_edge.sum(), 0.5 / (~is_edge).sum())
    apart = share * (1 / (1 + np.exp(-found.score(features))) - is_edge)
    assert standard.T @ apart + 0.01 * found.weight_F == pytest.approx([0, 0, 0], abs=1e-6)
    assert apart.sum() == pytest.approx(0, abs=1e-6)
    assert found.weight_F[0] > 0.5 and found.weight_F[1] < -0.5 and found.weight_F[2] == pytest.approx(0)


def test_repeated_negatives_do_not_change_the_combination():
    random = np.random.default_rng(0)
    edges, negatives = random.normal(1, 1, size=(40, 2)), random.normal(0, 1, size=(40, 2))
    once = fit_logistic(np.vstack([edges, negatives]), np.arange(80) < 40, names=("a", "b"), decay=0)
    often = fit_logistic(np.vstack([edges, *[negatives] * 9]), np.arange(400) < 40, names=("a", "b"), decay=0)
    points = random.normal(size=(20, 2))
    assert often.score(points) == pytest.approx(once.score(points), abs=1e-4)


def test_features_that_never_fail_leave_weights_finite():
    features = np.concatenate([np.linspace(1, 2, 30), np.linspace(-2, -1, 30)])[:, None]
    found = fit_logistic(features, np.arange(60) < 30, names=("a",))
    assert np.isfinite(found.weight_F).all() and found.weight_F[0] > 1
    assert (found.score(features) > 0).tolist() == [True] * 30 + [False] * 30


def test_what_cannot_be_combined_is_said():
    features = np.zeros((4, 2))
    for is_edge, names, change, message in (
        ([1, 0, 1, 0], ("a",), 0.0, "expected 4 × 1 features, found shape (4, 2)"),
        ([1, 1, 1, 1], ("a", "b"), 0.0, "found 4 edges of 4 pairs"),
        ([1, 0, 1, 0], ("a", "b"), np.inf, "feature 'b' is not a finite number"),
    ):
        features[3, 1] = change
        with pytest.raises(ConfigError) as caught:
            fit_logistic(features, np.array(is_edge), names=names)
        assert message in str(caught.value)
