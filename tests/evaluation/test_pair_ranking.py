"""Ranks of true pairs among drawn ones: against brute force, by hand, and what a negative must never be."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkg.errors import ConfigError
from mmkg.evaluation.pair_ranking import (
    compare_pairs,
    hub_clusters,
    rank_pairs,
    score_candidates,
    summarise_pairs,
    with_negatives,
)


def random_pairs(num_nodes, chance, seed):
    return np.array(nx.gnp_random_graph(num_nodes, chance, seed=seed).edges, dtype=np.int64).reshape(-1, 2)


@settings(max_examples=20)
@given(st.integers(0, 100), st.integers(1, 9))
def test_negatives_are_unknown_keep_one_end_and_stand_once(seed, num_negatives):
    known = random_pairs(40, 0.2, seed)
    positive = known[::3]
    candidates = with_negatives(positive, known, num_nodes=40, num_negatives=num_negatives, random_seed=seed)
    assert candidates.shape == (len(positive), 1 + num_negatives, 2)
    assert candidates[:, 0].tolist() == positive.tolist()
    joined = {frozenset(pair) for pair in known.tolist()}
    for true, *negatives in candidates.tolist():
        pairs = [frozenset(pair) for pair in negatives]
        assert len(set(pairs)) == num_negatives and not joined & set(pairs)
        assert all(len(pair) == 2 for pair in pairs)
        assert [pair[0] for pair in negatives] == [true[0]] * (-(-num_negatives // 2)) + [true[1]] * (
            num_negatives // 2
        )


def test_the_draw_depends_on_the_seed_alone():
    known = random_pairs(40, 0.2, 0)
    drawn = [with_negatives(known, known, num_nodes=40, num_negatives=6, random_seed=seed) for seed in (1, 1, 2)]
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])


def test_where_few_nodes_are_left_just_those_are_drawn():
    """Node 0 of a star of 30 with 2 more nodes knows all but those two; so do the ends of each pair, of one other."""
    star = np.array([[0, leaf] for leaf in range(1, 31)])
    candidates = with_negatives(star[:3], star, num_nodes=33, num_negatives=4)
    assert {tuple(pair) for pair in candidates[:, 1:3].reshape(-1, 2).tolist()} == {(0, 31), (0, 32)}
    with pytest.raises(
        ConfigError, match="expected 3 nodes that node 0 does not know, found 2 among those to draw from"
    ):
        with_negatives(star[:3], star, num_nodes=33, num_negatives=6)


def test_a_pool_bounds_the_draw_and_weighs_it():
    known = np.array([[0, 1], [2, 3]])
    pool = np.array([4, *[5] * 9, 6])
    candidates = with_negatives(np.repeat(known, 500, axis=0), known, num_nodes=40, num_negatives=2, pool=pool)
    drawn, count = np.unique(candidates[:, 1:, 1], return_counts=True)
    assert drawn.tolist() == [4, 5, 6]
    assert count / 2000 == pytest.approx([1 / 11, 9 / 11, 1 / 11], abs=0.03)
    with pytest.raises(ConfigError, match="expected pairs, negatives and nodes to draw from, found 2, 2, 0"):
        with_negatives(known, known, num_nodes=40, num_negatives=2, pool=np.zeros(0, dtype=np.int64))
    with pytest.raises(ConfigError, match="found self loops alone"):
        with_negatives(np.array([[3, 3]]), known[:0], num_nodes=40)


@settings(max_examples=20)
@given(st.integers(0, 100))
def test_ranks_and_area_are_those_of_brute_force(seed):
    random = np.random.default_rng(seed)
    score = random.integers(0, 6, size=(7, 9)).astype(float)  # many ties
    ranks = rank_pairs(random.integers(0, 50, size=(7, 9, 2)), score)
    negatives = score[:, 1:].ravel()
    for row, (true, *others) in enumerate(score.tolist()):
        places = [place for place, other in enumerate(sorted([*others, true], reverse=True), start=1) if other == true]
        assert (ranks.optimistic[row], ranks.pessimistic[row]) == (places[0], places[-1])
        assert ranks.realistic[row] == np.mean(places)
        assert ranks.placement[row] == pytest.approx(np.mean((negatives < true) + 0.5 * (negatives == true)))


def test_a_perfect_and_a_constant_scorer_by_hand():
    """Constant among 1 + 4: ranks 1 to 5, so 3; hits at 1 is 0, at 3 and at 10 is 1, the area a half."""
    known = random_pairs(30, 0.2, 0)
    candidates = with_negatives(known, known, num_nodes=30, num_negatives=4)
    joined = {tuple(pair) for pair in known.tolist()}
    perfect = score_candidates(lambda pairs: np.array([tuple(pair) in joined for pair in pairs.tolist()]), candidates)
    found = summarise_pairs(rank_pairs(candidates, perfect), draws=20)
    assert {name: (one.value, one.low, one.high) for name, one in found.items()} == dict.fromkeys(
        ["mrr", "hits_at_1", "hits_at_3", "hits_at_10", "auc"], (1, 1, 1)
    )
    constant = rank_pairs(candidates, score_candidates(lambda pairs: np.zeros(len(pairs)), candidates))
    values = {name: one.value for name, one in summarise_pairs(constant, draws=20, hits=(1, 3)).items()}
    assert values == pytest.approx({"mrr": 1 / 3, "hits_at_1": 0, "hits_at_3": 1, "auc": 0.5})
    worst = rank_pairs(candidates, -perfect)
    assert summarise_pairs(worst, draws=20)["mrr"].value == pytest.approx(1 / 5)


def test_mm_graphs_evaluator_gives_the_same_rank():
    """Its formula: 0.5 (number greater + number greater or equal) + 1."""
    score = np.random.default_rng(0).integers(0, 4, size=(50, 11)).astype(float)
    ranks = rank_pairs(np.zeros((50, 11, 2), dtype=np.int64), score)
    greater, or_equal = (score[:, 1:] > score[:, :1]).sum(axis=1), (score[:, 1:] >= score[:, :1]).sum(axis=1)
    assert ranks.realistic == pytest.approx(0.5 * (greater + or_equal) + 1)


def test_intervals_by_cluster_and_paired_differences():
    random = np.random.default_rng(0)
    candidates = np.zeros((400, 11, 2), dtype=np.int64)
    candidates[:, 0, 0] = np.arange(400)
    hard = random.normal(size=(400, 11))
    better = hard.copy()
    better[:, 0] += 1
    first, second = rank_pairs(candidates, better), rank_pairs(candidates, hard)
    found = compare_pairs(first, second, draws=200)
    alone = {name: summarise_pairs(ranks, draws=200)["mrr"] for name, ranks in (("first", first), ("second", second))}
    assert found["mrr"].difference.value == pytest.approx(alone["first"].value - alone["second"].value)
    width = found["mrr"].difference.high - found["mrr"].difference.low
    assert 0 < width < alone["first"].high - alone["first"].low  # what is hard for both does not blur it
    assert found["auc"].p_value == pytest.approx(2 / 201)
    assert compare_pairs(first, first, draws=50)["mrr"].p_value == 1
    one_cluster = summarise_pairs(first, draws=50, cluster_P=np.zeros(400, dtype=np.int64))["mrr"]
    assert one_cluster.low == pytest.approx(one_cluster.high)
    with pytest.raises(ConfigError, match="ranked different candidates"):
        compare_pairs(first, rank_pairs(candidates[::-1], hard))


def test_the_hub_of_a_pair_is_its_cluster():
    degree = np.array([5, 2, 2, 9])
    assert hub_clusters(np.array([[0, 1], [1, 2], [2, 1], [1, 3]]), degree).tolist() == [0, 1, 2, 3]


def test_scores_that_cannot_be_ranked_are_refused():
    candidates = np.arange(12).reshape(2, 3, 2)
    with pytest.raises(ConfigError, match=r"the score of pair \[8, 9\] is not a number"):
        rank_pairs(candidates, np.array([[0, 1, 2], [0, np.nan, 1]]))
    with pytest.raises(
        ConfigError, match=r"a score for each of \(2, 3\) candidates, two or more a row, found \(2, 2\)"
    ):
        rank_pairs(candidates, np.zeros((2, 2)))
    with pytest.raises(ConfigError, match="two or more a row"):
        rank_pairs(candidates[:, :1], np.zeros((2, 1)))
