"""Intervals by cluster: by hand, by the other way to compute them, and by how often they cover."""

import numpy as np
import pytest

from mmkg.errors import ConfigError
from mmkg.evaluation.bootstrap import (
    cluster_interval,
    drawn_cluster_means,
    drawn_means,
    drawn_sums,
    paired_cluster_difference,
    percentile_interval,
    two_sided_p,
)


def test_two_clusters_give_the_three_means_that_can_be_drawn():
    """Clusters {0, 1, 1} and {6}: both once is 2, the first twice 2/3, the second twice 6."""
    value = np.array([[0.0], [1.0], [6.0], [1.0]])
    drawn = drawn_cluster_means(value, np.array([7, 7, 3, 7]), draws=2000, random_seed=0)[:, 0]
    means, counts = np.unique(drawn.round(9), return_counts=True)
    assert means == pytest.approx([2 / 3, 2, 6])
    assert counts / 2000 == pytest.approx([0.25, 0.5, 0.25], abs=0.05)


def test_columns_are_drawn_together():
    value = np.random.default_rng(0).normal(size=(50, 1))
    both = drawn_cluster_means(np.hstack([value, 2 * value]), np.arange(50) // 3, draws=40, random_seed=1)
    assert both[:, 1] == pytest.approx(2 * both[:, 0])


def test_weights_in_blocks_give_the_same_draws(monkeypatch):
    value, cluster = np.random.default_rng(0).normal(size=(30, 2)), np.arange(30) // 4
    whole = drawn_cluster_means(value, cluster, draws=25, random_seed=3)
    monkeypatch.setattr("mmkg.evaluation.bootstrap._WEIGHTS_AT_ONCE", 20)
    assert drawn_cluster_means(value, cluster, draws=25, random_seed=3) == pytest.approx(whole)


def test_sums_are_those_of_the_draws_that_the_means_have(monkeypatch):
    """A column of ones counts the items of a draw."""
    value, cluster = np.random.default_rng(0).normal(size=(7, 2)), np.arange(7) // 3
    columns = np.hstack([value, np.ones((7, 1))])
    sums = drawn_sums(columns, cluster, draws=30, random_seed=4)
    assert set(sums[:, 2]) <= {3, 5, 7, 9}  # three clusters with three items or one each
    assert sums[:, :2] / sums[:, 2:] == pytest.approx(drawn_cluster_means(value, cluster, draws=30, random_seed=4))
    monkeypatch.setattr("mmkg.evaluation.bootstrap._WEIGHTS_AT_ONCE", 10)
    assert drawn_sums(columns, cluster, draws=30, random_seed=4) == pytest.approx(sums)
    assert drawn_sums(columns, cluster, draws=0, random_seed=4).shape == (0, 3)


def test_clusters_of_one_item_have_the_interval_of_drawn_items():
    value = np.random.default_rng(0).exponential(size=300)
    clustered = cluster_interval(value, np.arange(300), draws=4000)
    alone = percentile_interval(value.mean(), drawn_means(value[:, None], draws=4000, random_seed=1)[:, 0], level=0.95)
    assert clustered.value == alone.value
    assert clustered.high - clustered.low == pytest.approx(alone.high - alone.low, rel=0.08)


def test_items_that_repeat_themselves_make_the_interval_no_narrower():
    value = np.random.default_rng(0).normal(size=100)
    once = cluster_interval(value, np.arange(100), draws=500)
    ten_times = cluster_interval(value.repeat(10), np.arange(100).repeat(10), draws=500)
    assert (ten_times.low, ten_times.high) == pytest.approx((once.low, once.high))
    as_if_independent = cluster_interval(value.repeat(10), np.arange(1000), draws=500)
    assert as_if_independent.high - as_if_independent.low < 0.5 * (once.high - once.low)


def test_clustered_intervals_cover_the_truth_as_often_as_they_say():
    random = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        sizes = random.integers(1, 9, size=80)
        value = random.normal(size=80).repeat(sizes) + random.normal(size=sizes.sum())  # mean 0 whatever the size
        interval = cluster_interval(value, np.arange(80).repeat(sizes), draws=200, random_seed=trial)
        covered += interval.low <= 0 <= interval.high
    assert 178 <= covered <= 199  # 190 ± 4 standard deviations, less than all


def test_a_pair_of_runs_is_compared_item_by_item():
    random = np.random.default_rng(0)
    hard = random.normal(size=60).repeat(5)
    cluster = np.arange(60).repeat(5)
    first = hard + 0.1 + 0.05 * random.normal(size=300)
    found = paired_cluster_difference(first, hard, cluster)
    assert found.difference.value == pytest.approx((first - hard).mean())
    assert 0.08 < found.difference.low < 0.1 < found.difference.high < 0.12
    assert found.p_value == pytest.approx(2 / 1001)  # no draw of the other sign, but p is never 0
    back = paired_cluster_difference(hard, first, cluster)
    assert (back.difference.low, back.difference.high) == pytest.approx((-found.difference.high, -found.difference.low))
    assert back.p_value == found.p_value


def test_a_run_is_not_better_than_itself():
    value = np.arange(10.0)
    found = paired_cluster_difference(value, value, np.arange(10), draws=20)
    assert found.as_json() == {"value": 0, "low": 0, "high": 0, "p_value": 1}


def test_p_counts_the_draws_on_the_rarer_side_twice():
    assert two_sided_p(np.array([-1.0, 1, 2, 3, 4, 5, 6, 7, 8])) == pytest.approx(2 * 2 / 10)
    assert two_sided_p(np.array([-1.0, 1.0])) == 1
    assert two_sided_p(np.array([])) == 1


def test_without_draws_the_interval_is_the_value():
    assert cluster_interval(np.array([1.0, 2.0]), np.array([0, 1]), draws=0).as_json() == {
        "value": 1.5,
        "low": 1.5,
        "high": 1.5,
    }


def test_nothing_to_draw_from_and_lengths_that_differ_are_refused():
    with pytest.raises(ConfigError, match="no item was measured"):
        cluster_interval(np.array([]), np.array([], dtype=np.int64))
    with pytest.raises(ConfigError, match="a cluster for each of 2 items"):
        cluster_interval(np.array([1.0, 2.0]), np.array([0]))
    with pytest.raises(ConfigError, match="different items: 2 and 1"):
        paired_cluster_difference(np.array([1.0, 2.0]), np.array([1.0]), np.array([0, 1]))
