"""Entities that stand alike: Jaccard of (relation, neighbour) pairs, by hand and by brute force."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkg.subgraphs.alike import most_alike, pairs_of

N, R = 6, 2


def brute_force(triples, asked, among, count, weight):
    pairs = {e: set() for e in range(N)}
    for h, r, t in triples.tolist():
        pairs[h].add((r, t))
        pairs[t].add((R + r, h))
    rows = []
    for e in asked.tolist():
        alike = []
        for o in among.tolist():
            both = sum(weight(p) for p in pairs[e] & pairs[o])
            if o != e and both > 0:
                alike.append((-both / sum(weight(p) for p in pairs[e] | pairs[o]), o))
        rows.append([(o, -likeness) for likeness, o in sorted(alike)][:count])
    return rows


def test_two_that_share_one_of_three_pairs():
    # 0 and 1 both like 4; 0 likes 5 too; 1 hates 5
    triples = np.array([(0, 0, 4), (1, 0, 4), (0, 0, 5), (1, 1, 5)])
    found, likeness = most_alike(pairs_of(triples, N, R), np.array([0, 2]), np.array([1, 2, 3]), 2)
    assert found.tolist() == [[1, -1], [-1, -1]]
    np.testing.assert_allclose(likeness, [[1 / 3, 0], [0, 0]])


@settings(max_examples=25)
@given(
    rows=st.lists(st.tuples(st.integers(0, N - 1), st.integers(0, R - 1), st.integers(0, N - 1)), max_size=14),
    weighted=st.booleans(),
)
def test_all_pairs_by_brute_force(rows, weighted):
    triples = np.array(rows, dtype=np.int64).reshape(-1, 3)
    pairs = pairs_of(triples, N, R)
    holders = np.asarray(pairs.sum(axis=0)).ravel()
    weight = 1 / (1 + holders) if weighted else None
    count_of = {}
    for h, r, t in set(map(tuple, triples.tolist())):
        count_of[(r, t)] = count_of.get((r, t), 0) + 1
        count_of[(R + r, h)] = count_of.get((R + r, h), 0) + 1
    asked, among = np.arange(N), np.array([0, 2, 3, 5])
    expected = brute_force(triples, asked, among, 3, lambda p: 1 / (1 + count_of[p]) if weighted else 1)
    found, likeness = most_alike(pairs, asked, among, 3, weight=weight)
    for entity, row in enumerate(expected):
        np.testing.assert_allclose(likeness[entity, : len(row)], [value for _, value in row])
        assert (found[entity, len(row) :] == -1).all()
        got = sorted(zip(-likeness[entity, : len(row)].round(9), found[entity, : len(row)], strict=True))
        # of equals one may stand for another only beyond the cut
        assert [value for value, _ in got] == sorted((-np.array([v for _, v in row])).round(9).tolist())
        assert entity not in found[entity].tolist()
