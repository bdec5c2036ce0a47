"""An epoch's batches of row numbers: shuffled, or shuffled and yet of like length."""

from collections.abc import Sequence

import numpy as np

from mmkg.evaluation.link_prediction import Int64Array

_BATCHES_A_POOL = 50


def even_batches(num_rows: int, batch_size: int, random: np.random.Generator) -> list[Int64Array]:
    """Return every row once, in random order, in batches of at most ``batch_size``.

    Batches are as even as can be: a last batch of one row could not be normalised, nor told from anything.
    """
    order = random.permutation(num_rows)
    return [order[start:stop] for start, stop in _cuts(num_rows, batch_size)]


def batches_by_length(
    length_R: Int64Array, batch_size: int, random: np.random.Generator, *, batches_a_pool: int = _BATCHES_A_POOL
) -> list[Int64Array]:
    """Return every row once, in batches of rows of like length, so that little is padded.

    Rows are shuffled, sorted by length within pools of some batches, cut, and the batches shuffled again: which rows
    meet differs from epoch to epoch. Within a batch the longest row comes first, so that memory runs out at once or
    not at all.

    Args:
        length_R: of each row, in tokens or whatever is padded.
        batch_size: rows of a batch at most.
        random: of this epoch.
        batches_a_pool: more gives less padding and less mixing; 50 is our choice.
    """
    order = random.permutation(len(length_R))
    pool = batch_size * batches_a_pool
    pools = [order[start : start + pool] for start in range(0, len(order), pool)]
    sorted_order = np.concatenate([part[np.argsort(-length_R[part], kind="stable")] for part in pools] or [order])
    batches = [sorted_order[start:stop] for start, stop in _cuts(len(order), batch_size)]
    return [batches[number] for number in random.permutation(len(batches))]


def share_of_padding(length_R: Int64Array, batches: Sequence[Int64Array]) -> float:
    """Return which part of the padded batches is padding, 0 … 1."""
    held = sum(len(rows) * int(length_R[rows].max()) for rows in batches if len(rows))
    return 1 - float(sum(int(length_R[rows].sum()) for rows in batches)) / held if held else 0.0


def _cuts(num_rows: int, batch_size: int) -> list[tuple[int, int]]:
    count = -(-num_rows // batch_size)
    return [(num_rows * number // count, num_rows * (number + 1) // count) for number in range(count)]
