"""Batches: every row once, no batch too large, and little padding where lengths are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmkg.training.batches import batches_by_length, even_batches, share_of_padding


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 9), st.integers(1, 4), st.integers(0, 9))
def test_every_row_is_in_one_batch_and_batches_are_even(lengths, batch_size, pool, seed):
    lengths = np.array(lengths, dtype=np.int64)
    by_length = batches_by_length(lengths, batch_size, np.random.default_rng(seed), batches_a_pool=pool)
    even = even_batches(len(lengths), batch_size, np.random.default_rng(seed))
    for batches in (by_length, even):
        assert sorted(row for rows in batches for row in rows.tolist()) == list(range(len(lengths)))
        sizes = [len(rows) for rows in batches]
        assert len(sizes) == -(-len(lengths) // batch_size)
        assert max(sizes, default=0) - min(sizes, default=0) <= 1
    again = batches_by_length(lengths, batch_size, np.random.default_rng(seed), batches_a_pool=pool)
    assert all(np.array_equal(one, other) for one, other in zip(by_length, again, strict=True))


def test_rows_of_like_length_meet_and_yet_others_each_epoch():
    lengths = np.random.default_rng(0).lognormal(4, 0.7, size=4000).astype(np.int64) + 1
    first, second = (batches_by_length(lengths, 16, np.random.default_rng([0, epoch])) for epoch in (0, 1))
    shuffled = even_batches(len(lengths), 16, np.random.default_rng(0))
    assert share_of_padding(lengths, shuffled) > 0.5
    assert share_of_padding(lengths, first) < 0.1
    assert len({frozenset(rows.tolist()) for rows in first} & {frozenset(rows.tolist()) for rows in second}) == 0
    whole = batches_by_length(lengths, 16, np.random.default_rng(0), batches_a_pool=1000)
    means = [lengths[rows].mean() for rows in whole]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.2  # long batches are not all at one end


def test_padding_by_hand():
    assert share_of_padding(np.array([4, 2, 1, 1]), [np.array([0, 1]), np.array([2, 3])]) == pytest.approx(0.2)
    assert share_of_padding(np.array([4, 2]), []) == 0
