"""Ranks of analogies, Hits@k and MRR per mode and subset, and the comparison of two runs."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkg.errors import ConfigError, TrainingError
from mmkg.evaluation.analogy import METRICS, answer_columns, compare_analogies, rank_answers, summarise_analogies
from mmkg.tasks.mars import MarsItem


def items_of(modes):
    return [MarsItem(example_head=0, example_tail=1, question=2, answer=3, relation="r", mode=mode) for mode in modes]


def values(group):
    return {name: interval.value for name, interval in group.figures.items()}


@pytest.mark.capability("MR-18")
def test_ranks_by_hand_ties_in_the_middle_and_a_missing_answer_infinite():
    score = np.array([[0.9, 0.5, 0.1], [0.5, 0.5, 0.1], [1, 1, 1], [0, -np.inf, 3], [9, 9, 9]], dtype=np.float32)
    assert rank_answers(score, np.array([1, 0, 2, 1, -1])).tolist() == [2, 1.5, 2, 3, np.inf]


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(0, 4), min_size=6, max_size=6), min_size=1, max_size=8),
    column=st.integers(0, 5),
)
def test_a_realistic_rank_is_the_mean_over_all_orders_of_equal_scores(rows, column):
    score = np.array(rows, dtype=np.float32)
    rank = rank_answers(score, np.full(len(rows), column))
    for row, found in zip(rows, rank, strict=True):
        best = 1 + sum(value > row[column] for value in row)
        worst = sum(value >= row[column] for value in row)
        assert found == sum(range(best, worst + 1)) / (worst - best + 1)


def test_without_ties_ranks_are_those_of_a_double_argsort():
    score = np.random.default_rng(0).permuted(np.arange(12.0).reshape(1, 12).repeat(20, axis=0), axis=1)
    column = np.random.default_rng(1).integers(0, 12, size=20)
    double = np.argsort(np.argsort(-score, axis=1), axis=1)[np.arange(20), column] + 1
    assert rank_answers(score, column).tolist() == double.tolist()


def test_items_in_blocks_are_ranked_as_all_at_once(monkeypatch):
    score = np.random.default_rng(0).integers(0, 5, size=(11, 7)).astype(np.float32)
    column = np.arange(11) % 8 - 1
    whole = rank_answers(score, column)
    monkeypatch.setattr("mmkg.evaluation.analogy._SCORES_AT_ONCE", 14)
    assert rank_answers(score, column).tolist() == whole.tolist()
    score[9, 3] = np.nan
    with pytest.raises(TrainingError, match="item 9: the score of candidate 3 is NaN"):
        rank_answers(score, column)


@pytest.mark.parametrize("column", [[0], [0, 3], [-2, 0]])
def test_answers_that_do_not_belong_to_the_scores_are_refused(column):
    with pytest.raises(ConfigError, match=r"expected (scores|answer columns)"):
        rank_answers(np.zeros((2, 3), dtype=np.float32), np.array(column))


def test_answer_columns_are_places_among_the_candidates():
    assert answer_columns(np.array([5, 9, 1, 7, 0]), np.array([7, 5, 1])).tolist() == [1, -1, 2, 0, -1]
    with pytest.raises(ConfigError, match="found entity 5 twice"):
        answer_columns(np.array([5]), np.array([5, 7, 5]))
    with pytest.raises(ConfigError, match="at least one candidate"):
        answer_columns(np.array([5]), np.array([], dtype=np.int64))


@pytest.mark.capability("MR-18")
def test_hits_and_mrr_by_hand_for_all_items_and_for_each_mode():
    rank = np.array([1, 2, 5, 10, 11, np.inf])
    found = summarise_analogies(rank, items_of([0, 0, 1, 1, 2, 2]), np.arange(6), draws=10)
    assert values(found.groups["all"]) == pytest.approx(
        {
            "hits_at_1": 1 / 6,
            "hits_at_3": 2 / 6,
            "hits_at_5": 3 / 6,
            "hits_at_10": 4 / 6,
            "mrr": (1 + 1 / 2 + 1 / 5 + 1 / 10 + 1 / 11) / 6,
        }
    )
    assert values(found.groups["mode 0"]) == {
        "hits_at_1": 0.5,
        "hits_at_3": 1,
        "hits_at_5": 1,
        "hits_at_10": 1,
        "mrr": 0.75,
    }
    assert values(found.groups["mode 1"])["mrr"] == pytest.approx(0.15)
    assert values(found.groups["mode 2"])["hits_at_10"] == 0


@pytest.mark.capability("MR-18")
def test_an_answer_that_is_no_candidate_counts_as_wrong_and_is_counted():
    found = summarise_analogies(np.array([1, np.inf, 1]), items_of([0, 0, 1]), np.arange(3), draws=0)
    assert [found.groups[name].num_missing for name in ("all", "mode 0", "mode 1")] == [1, 1, 0]
    assert values(found.groups["all"])["mrr"] == pytest.approx(2 / 3)


def test_named_subsets_stand_beside_the_modes_and_an_empty_one_has_no_figures():
    masks = {"unseen pairs": np.array([True, False, True]), "none": np.zeros(3, dtype=bool)}
    found = summarise_analogies(np.array([1, 1, 4]), items_of([0, 0, 0]), np.array([5, 5, 6]), masks, draws=10)
    assert values(found.groups["unseen pairs"])["hits_at_1"] == 0.5
    assert [(group.num_items, group.num_clusters) for group in found.groups.values()] == [
        *((3, 2), (3, 2), (0, 0), (0, 0)),
        *((2, 2), (0, 0)),
    ]
    assert found.groups["none"].figures == {}
    whole = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert set(whole["groups"]["all"]) == {"num_items", "num_clusters", "num_missing", *METRICS}
    assert whole["bootstrap"] == {"level": 0.95, "draws": 10, "random_seed": 0, "unit": "cluster"}


def test_intervals_are_those_of_clusters():
    """Forty facts asked 25 times each: a thousand items that say no more than forty."""
    rank = np.where(np.arange(40) % 2 == 0, 1.0, 20.0).repeat(25)
    cluster = np.arange(40).repeat(25)
    interval = summarise_analogies(rank, items_of([0] * 1000), cluster).groups["all"].figures["hits_at_1"]
    assert interval.value == 0.5
    expected = 1.96 * 0.5 / np.sqrt(40)
    assert interval.high - 0.5 == pytest.approx(expected, rel=0.15)
    assert 0.5 - interval.low == pytest.approx(expected, rel=0.15)


def test_what_cannot_be_summarised_is_refused():
    with pytest.raises(ConfigError, match="no analogy was ranked"):
        summarise_analogies(np.array([]), [], np.array([], dtype=np.int64))
    with pytest.raises(ConfigError, match="ranks: expected one for each of 2 items"):
        summarise_analogies(np.array([1.0]), items_of([0, 0]), np.arange(2))
    with pytest.raises(ConfigError, match="odd: expected one for each of 2 items"):
        summarise_analogies(np.ones(2), items_of([0, 0]), np.arange(2), {"odd": np.ones(3, dtype=bool)})
    with pytest.raises(ConfigError, match="cannot be called 'mode 1'"):
        summarise_analogies(np.ones(2), items_of([0, 0]), np.arange(2), {"mode 1": np.ones(2, dtype=bool)})


@pytest.mark.capability("MR-18")
def test_two_runs_are_compared_item_by_item():
    first, second = np.array([1, 1, 4, np.inf]), np.array([2, 1, 2, np.inf])
    found = compare_analogies(first, second, np.arange(4), draws=200)
    assert (found.wins, found.losses, found.ties) == (1, 1, 2)
    assert found.differences["hits_at_1"].difference.value == 0.25
    assert found.differences["mrr"].difference.value == pytest.approx((1 / 2 - 1 / 4) / 4)
    assert found.as_json()["hits_at_3"]["value"] == -0.25
    with pytest.raises(ConfigError, match="different items: 4 and 3"):
        compare_analogies(first, second[:3], np.arange(4))
