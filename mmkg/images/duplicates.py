"""Which pictures look the same: perceptual hashes that differ in few bits, and the same colours in the same places.

The hash sees luminance only, and on flags that is not enough: those of Russia and Bulgaria, Austria and Latvia, Ireland
and Italy are 0 to 3 bits apart. Their mean colours in 8 × 8 cells tell them apart.

The search is exact. Two hashes within distance d, cut into m bands, differ in at most ⌊d / m⌋ bits in at least one
band, so it is enough to compare hashes whose band is equal or one bit away (Norouzi, Punjani and Fleet: Fast Search in
Hamming Space with Multi-Index Hashing, CVPR 2012).
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

MAX_COLOUR_DIFFERENCE = 48
"""By how much (of 255) two near-duplicates may differ in any channel of any cell.

Between what was measured on pairs within 6 bits: the same flag drawn in two shades up to 44 (USA), the same photo
in two crops 41; different flags from 59 on (Hungary and the Netherlands).
"""

_BITS = 64
_ALL_PAIRS_BELOW = 2_048  # so few hashes are compared each with each
_MAX_BANDED_DISTANCE = 16  # beyond it the bands are so narrow that they hold nearly all hashes
_PAIRS_AT_ONCE = 1 << 18  # some 10 MB while they are compared: about what a processor's cache holds
_PICTURES_AT_ONCE = 1 << 17  # pairs of pictures whose colours are compared at once

Hashes = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]


def find_near_duplicates(
    hashes: Hashes, max_distance: int, colours: npt.NDArray[np.uint8] | None = None
) -> npt.NDArray[np.int64]:
    """Find all pairs of pictures that look the same.

    Args:
        hashes: (n,) perceptual hashes.
        max_distance: bits in which they may differ, 0 … 64.
        colours: (n, 192) mean colours of 8 × 8 cells; pairs that differ in them are left out. Without, none is.

    Returns:
        (pairs, 2) places of both, the smaller first, in order; each pair once.
    """
    distinct, group = np.unique(hashes, return_inverse=True)
    members = np.argsort(group, kind="stable")  # places by hash: those of hash g from starts[g] on
    starts = np.searchsorted(group[members], np.arange(len(distinct) + 1))
    found = [np.empty(0, np.int64)]
    for left, right in _near_hashes(distinct, max_distance):
        for pairs in _pair_members(members, starts, left, right):
            kept = pairs[pairs[:, 0] != pairs[:, 1]]
            if colours is not None:
                kept = kept[_same_colours(colours, kept)]
            kept.sort(axis=1)
            found.append(kept[:, 0] * len(hashes) + kept[:, 1])  # one number a pair: rows are sorted far slower
    return np.stack(np.divmod(_distinct(np.concatenate(found)), max(1, len(hashes))), axis=1)


def _distinct(numbers: Places) -> Places:
    """Each number once, in order; `np.unique` would hash them, which takes far longer for millions."""
    numbers = np.sort(numbers)
    return numbers[np.diff(numbers, prepend=-1) != 0]  # none is negative


def _near_hashes(distinct: Hashes, max_distance: int) -> Iterator[tuple[Places, Places]]:
    """Pairs of places of near hashes, each hash with itself too, in blocks; a pair may come twice."""
    itself = np.arange(len(distinct))
    yield itself, itself
    if max_distance == 0 or len(distinct) < 2:
        return
    if len(distinct) < _ALL_PAIRS_BELOW or max_distance > _MAX_BANDED_DISTANCE:
        yield from _compare_all(distinct, max_distance)
    else:
        yield from _compare_bands(distinct, max_distance)


def _compare_all(distinct: Hashes, max_distance: int) -> Iterator[tuple[Places, Places]]:
    rows = max(1, _PAIRS_AT_ONCE // len(distinct))
    for start in range(0, len(distinct), rows):
        block = distinct[start : start + rows]
        near = np.bitwise_count(block[:, None] ^ distinct[None, :]) <= max_distance
        left, right = np.nonzero(np.triu(near, start + 1))
        yield left + start, right


def _compare_bands(distinct: Hashes, max_distance: int) -> Iterator[tuple[Places, Places]]:
    """Compare the pairs of which one band is equal or one bit away.

    With m = ⌊d / 2⌋ + 1 bands, more than one bit in every band would be 2 m > d bits in all. If d is even, one band may
    be asked for equality only: with one bit in it and two in each of the m - 1 others there would be d + 1.
    """
    num_bands = max(2, max_distance // 2 + 1)  # a key of 64 bits would not fit
    for band in range(num_bands):
        bits = range(band, _BITS, num_bands)  # every m-th bit: neighbouring frequencies of a picture go together
        keys = np.zeros(len(distinct), np.int64)
        for place, bit in enumerate(bits):
            keys |= ((distinct >> np.uint64(bit)) & np.uint64(1)).astype(np.int64) << place
        order = np.argsort(keys, kind="stable")
        keys, hashes = keys[order], distinct[order]
        only_equal = band == 0 and max_distance % 2 == 0
        buckets = np.unique(keys, return_index=True, return_counts=True)
        for flip in [0, *(1 << place for place in range(0 if only_equal else len(bits)))]:
            for rows, partners in _join(*buckets, flip):
                near = np.bitwise_count(hashes[rows] ^ hashes[partners]) <= max_distance
                yield order[rows[near]], order[partners[near]]


def _join(distinct: Places, first: Places, sizes: Places, flip: int) -> Iterator[tuple[Places, Places]]:
    """Pairs of rows of which one has the other's key with one bit flipped; for no bit, pairs of equal keys.

    Args:
        distinct: (keys,) in order.
        first: (keys,) row at which those of a key begin.
        sizes: (keys,) rows of a key.
        flip: the bit, as a number.
    """
    if flip == 0:
        ends = np.repeat(first + sizes, sizes)
        later = np.arange(1, len(ends) + 1)
        yield from _expand(later, ends - later)
        return
    partner = np.searchsorted(distinct, distinct ^ flip)
    partner[partner == len(distinct)] = 0
    # each pair once: from the row whose bit is not set
    has_partner = (distinct[partner] == distinct ^ flip) & (distinct & flip == 0)
    yield from _expand(np.repeat(first[partner], sizes), np.repeat(np.where(has_partner, sizes[partner], 0), sizes))


def _expand(first: Places, counts: Places) -> Iterator[tuple[Places, Places]]:
    """Row i with each of first[i], …, first[i] + counts[i] - 1, in blocks of bounded length."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    for start in range(0, total, _PAIRS_AT_ONCE):
        stop = min(start + _PAIRS_AT_ONCE, total)
        low, high = np.searchsorted(ends, [start, stop - 1], "right")
        upto = np.minimum(ends[low : high + 1], stop)
        since = np.maximum(ends[low : high + 1] - counts[low : high + 1], start)
        begin = first[low : high + 1] - (ends[low : high + 1] - counts[low : high + 1])  # less the numbers before
        lengths = upto - since
        yield np.repeat(np.arange(low, high + 1), lengths), np.repeat(begin, lengths) + np.arange(start, stop)


def _pair_members(members: Places, starts: Places, left: Places, right: Places) -> Iterator[Places]:
    """All pictures of one hash with all of another, (pairs, 2), in blocks of bounded length."""
    sizes = np.diff(starts)
    useful = (left != right) | (sizes[left] > 1)
    left, right = left[useful], right[useful]
    for rows, numbers in _expand(np.zeros(len(left), np.int64), sizes[left] * sizes[right]):
        first, second = np.divmod(numbers, sizes[right[rows]])
        yield np.stack([members[starts[left[rows]] + first], members[starts[right[rows]] + second]], axis=1)


def _same_colours(colours: npt.NDArray[np.uint8], pairs: Places) -> npt.NDArray[np.bool_]:
    same = np.empty(len(pairs), bool)
    for start in range(0, len(pairs), _PICTURES_AT_ONCE):
        block = pairs[start : start + _PICTURES_AT_ONCE]
        same[start : start + len(block)] = (
            differ_by(colours[block[:, 0]], colours[block[:, 1]]) <= MAX_COLOUR_DIFFERENCE
        )
    return same


def differ_by(colours: npt.NDArray[np.uint8], others: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The greatest difference of any channel of any cell, 0 … 255: (n, 192) and (n or 1, 192) give (n,)."""
    greatest: npt.NDArray[np.uint8] = (np.maximum(colours, others) - np.minimum(colours, others)).max(axis=1, initial=0)
    return greatest


def count_entities(pairs: Places, pictures: Places, entities: Places, num_pictures: int) -> npt.NDArray[np.int64]:
    """Count the distinct entities that have each picture or a near-duplicate of it.

    Only direct near-duplicates count: a chain of small differences can lead to a picture of something else.

    Args:
        pairs: (pairs, 2) near-duplicates, as :func:`find_near_duplicates` gives them.
        pictures: (rows,) a picture …
        entities: (rows,) … and an entity that has it.
        num_pictures: how many pictures there are.

    Returns:
        (num_pictures,) counts.
    """
    itself = np.arange(num_pictures)
    picture = np.concatenate([itself, pairs[:, 0], pairs[:, 1]])
    near = np.concatenate([itself, pairs[:, 1], pairs[:, 0]])
    by_picture = np.argsort(pictures, kind="stable")
    starts = np.searchsorted(pictures[by_picture], np.arange(num_pictures + 1))
    num_entities = int(entities.max(initial=0)) + 1
    seen = [np.empty(0, np.int64)]
    for rows, places in _expand(starts[near], np.diff(starts)[near]):
        seen.append(_distinct(picture[rows] * num_entities + entities[by_picture[places]]))
    distinct = _distinct(np.concatenate(seen))
    return np.bincount(distinct // num_entities, minlength=num_pictures)
