"""Maximal marginal relevance, by hand and by brute force."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmkg.images.diversity import choose_diverse

# 0 and 1 are nearly the same good picture; 2 is a worse one of something else.
SCORES = np.array([1.0, 0.9, 0.4])
SIMILARITY = np.array([[1.0, 0.95, 0.1], [0.95, 1.0, 0.2], [0.1, 0.2, 1.0]])


def test_without_weight_on_difference_the_best_are_taken() -> None:
    assert choose_diverse(SCORES, SIMILARITY, 3, 0.0) == [0, 1, 2]


def test_a_worse_picture_of_something_else_comes_before_the_same_one_again() -> None:
    # after 0: picture 1 is worth 0.5 × 0.9 - 0.5 × 0.95 = -0.025, picture 2 0.5 × 0.4 - 0.5 × 0.1 = 0.15
    assert choose_diverse(SCORES, SIMILARITY, 2, 0.5) == [0, 2]


def test_the_first_is_the_best_even_where_only_difference_counts() -> None:
    assert choose_diverse(np.array([0.1, 0.9, 0.2]), np.eye(3), 1, 1.0) == [1]


def test_of_equals_the_first_is_taken() -> None:
    assert choose_diverse(np.ones(4), np.ones((4, 4)), 4, 0.5) == [0, 1, 2, 3]


def test_no_more_are_chosen_than_there_are() -> None:
    assert choose_diverse(np.empty(0), np.empty((0, 0)), 3, 0.5) == []
    assert choose_diverse(np.ones(1), np.ones((1, 1)), 3, 0.5) == [0]


@given(st.integers(1, 6), st.floats(0, 1), st.integers(0, 1_000))
def test_every_step_takes_what_the_formula_says(count: int, weight: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, similarity = rng.random(count), rng.random((count, count))
    similarity = (similarity + similarity.T) / 2
    chosen = choose_diverse(scores, similarity, count, weight)
    assert sorted(chosen) == list(range(count))
    assert scores[chosen[0]] == scores.max()
    for step in range(1, count):
        gains = {
            place: (1 - weight) * scores[place] - weight * max(similarity[place][other] for other in chosen[:step])
            for place in chosen[step:]
        }
        assert gains[chosen[step]] >= max(gains.values()) - 1e-12
