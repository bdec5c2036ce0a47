"""Metrics by hand, intervals that cover, comparisons that see a difference."""

import numpy as np
import pytest

from mmkg.errors import ConfigError
from mmkg.evaluation.link_prediction import Ranks
from mmkg.evaluation.metrics import compare_ranks, relation_categories, summarise_ranks


def ranks_of(realistic, *, num_candidates=100, triples=None):
    rank = np.asarray(realistic, dtype=np.int64)
    return Ranks(
        triples=np.zeros((len(rank), 3), dtype=np.int64) if triples is None else triples,
        optimistic=rank,
        pessimistic=rank,
        num_candidates=np.full_like(rank, num_candidates),
    )


def test_metrics_by_hand():
    both = summarise_ranks(ranks_of([[1, 2], [4, 20]], num_candidates=11), draws=5).both
    assert both["mrr"].value == pytest.approx((1 + 1 / 2 + 1 / 4 + 1 / 20) / 4)
    assert [both[f"hits_at_{k}"].value for k in (1, 3, 10)] == [0.25, 0.5, 0.75]
    assert both["mean_rank"].value == 27 / 4
    assert both["adjusted_mean_rank"].value == pytest.approx(27 / 4 / 6)  # chance: (11 + 1) / 2
    assert both["adjusted_mean_rank_index"].value == pytest.approx(1 - (27 / 4 - 1) / 5)


def test_directions_apart():
    by_direction = summarise_ranks(ranks_of([[1, 2], [1, 4]]), draws=0).by_direction
    assert by_direction["tail"]["mrr"] == 1
    assert by_direction["head"]["mrr"] == pytest.approx(3 / 8)


def test_a_single_candidate_is_no_reason_to_divide_by_zero():
    both = summarise_ranks(ranks_of([[1, 1]], num_candidates=1), draws=2).both
    assert both["adjusted_mean_rank"].value == 1
    assert both["adjusted_mean_rank_index"].value == 0


def test_the_interval_is_that_of_drawn_triples_not_of_drawn_questions():
    """The two ranks of a triple are equal here, so there are 400 independent numbers, not 800."""
    random = np.random.default_rng(0)
    rank = random.integers(1, 50, size=(400, 1)).repeat(2, axis=1)
    interval = summarise_ranks(ranks_of(rank), draws=2000).both["mrr"]
    expected = 1.96 * (1 / rank[:, 0]).std() / np.sqrt(400)
    assert interval.high - interval.value == pytest.approx(expected, rel=0.15)
    assert interval.value - interval.low == pytest.approx(expected, rel=0.15)


def test_intervals_cover_the_truth_as_often_as_they_say():
    random = np.random.default_rng(1)
    truth = (1 / np.arange(1, 21)).mean()
    covered = 0
    for trial in range(200):
        rank = random.integers(1, 21, size=(150, 2))
        interval = summarise_ranks(ranks_of(rank), draws=200, random_seed=trial).both["mrr"]
        covered += interval.low <= truth <= interval.high
    assert 180 <= covered <= 199  # 190 ± 3 standard deviations


def test_intervals_follow_their_seed():
    rank = np.random.default_rng(2).integers(1, 50, size=(50, 2))
    first, again, other = (summarise_ranks(ranks_of(rank), random_seed=s, draws=100).both["mrr"] for s in (3, 3, 4))
    assert first == again
    assert first != other


def test_a_difference_that_is_there_is_seen_and_one_that_is_not_is_not():
    random = np.random.default_rng(3)
    hard = random.integers(1, 200, size=(500, 2))
    better = np.maximum(1, hard - 5)
    seen = compare_ranks(ranks_of(better), ranks_of(hard))
    assert seen.difference.low > 0
    assert seen.p_value < 0.01
    assert seen.losses == 0
    shuffled = hard + random.integers(-1, 2, size=hard.shape) * (hard > 1)
    unseen = compare_ranks(ranks_of(shuffled), ranks_of(hard))
    assert unseen.difference.low < 0 < unseen.difference.high
    assert unseen.p_value > 0.05


def test_comparing_a_run_with_itself_finds_nothing():
    same = compare_ranks(ranks_of([[1, 2], [3, 4]]), ranks_of([[1, 2], [3, 4]]))
    assert (same.difference.value, same.p_value, same.ties) == (0, 1, 2)


def test_runs_on_different_triples_are_not_compared():
    with pytest.raises(ConfigError, match="different triples"):
        compare_ranks(ranks_of([[1, 2]]), ranks_of([[1, 2], [3, 4]]))


def test_nothing_ranked_is_nothing_to_summarise():
    with pytest.raises(ConfigError, match="no triple"):
        summarise_ranks(ranks_of(np.empty((0, 2))))


def test_categories_by_hand():
    one_to_one = [(0, 0, 1), (1, 0, 2)]
    one_to_many = [(0, 1, 1), (0, 1, 2), (0, 1, 3)]
    many_to_one = [(1, 2, 0), (2, 2, 0)]
    many_to_many = [(h, 3, t) for h in range(3) for t in range(3)]
    train = np.array(one_to_one + one_to_many + many_to_one + many_to_many)
    assert relation_categories(train, 5) == ["1-1", "1-n", "n-1", "n-n", "1-1"]


def test_metrics_by_category_are_those_of_its_triples():
    triples = np.array([[0, 0, 1], [0, 1, 1], [2, 1, 1]])
    metrics = summarise_ranks(
        ranks_of([[1, 1], [2, 2], [4, 4]], triples=triples), draws=0, category_of_relation=["1-1", "n-n"]
    )
    assert set(metrics.by_category) == {"1-1", "n-n"}
    assert metrics.by_category["n-n"]["tail"]["mrr"] == pytest.approx(3 / 8)
