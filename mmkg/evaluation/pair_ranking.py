r"""How well scores put the true pairs of a graph without direction before made-up ones: ranks among drawn negatives.

Beside each true pair stand the same negatives for every scorer; a pair that is known from any split is none of them.
The rank of the true pair is the mean of its optimistic and its pessimistic rank, as in MM-Graph's evaluator, so that a
scorer that gives every pair one number ranks like chance. Negatives are drawn, so numbers only compare with numbers of
the same candidates: with 100 negatives drawn evenly over all nodes, most are far away, and anything that sees the
neighbourhood looks good. `pool` draws harder ones.

Ranking against *all* entities, for directed triples, is :mod:`mmkg.evaluation.link_prediction`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmkg.errors import ConfigError
from mmkg.evaluation.bootstrap import (
    Difference,
    FloatArray,
    Int64Array,
    Interval,
    drawn_cluster_means,
    percentile_interval,
    two_sided_p,
)
from mmkg.tasks.edge_split import undirected_pairs

HITS = (1, 3, 10)

_ROUNDS = 20  # of drawing again; a node that knows almost every other is then looked at one by one

PairScorer = Callable[[Int64Array], FloatArray]
"""From (M, 2) pairs to (M,) scores, higher is better."""


def with_negatives(
    positive_P2: Int64Array,
    known_E2: Int64Array,
    *,
    num_nodes: int,
    num_negatives: int = 100,
    pool: Int64Array | None = None,
    random_seed: int = 0,
) -> Int64Array:
    """Return (P, 1 + K, 2): each true pair, then its K negatives.

    The first half of the negatives of (u, v) keeps u, the other half keeps v: (u, w), …, (v, w), …. Kept ends stand
    first. No negative is known, joins a node to itself, or stands twice beside one pair.

    Args:
        positive_P2: the true pairs.
        known_E2: every known edge, in any direction: of train, valid and test.
        num_nodes: N.
        num_negatives: K.
        pool: nodes that the other end is drawn from, all by default. One that stands twice is drawn twice as often: the
            ends of all train pairs draw by degree.
        random_seed: of the draw.

    Raises:
        ConfigError: a node knows so many others that not enough are left, or there is nothing to draw for or from.
    """
    nodes = np.arange(num_nodes) if pool is None else np.asarray(pool, dtype=np.int64)
    if not len(nodes) or num_negatives < 1 or not len(positive_P2):
        raise ConfigError(
            f"expected pairs, negatives and nodes to draw from, found {len(positive_P2)}, {num_negatives}, {len(nodes)}"
        )
    pair_E2 = undirected_pairs(np.concatenate([positive_P2, known_E2]), num_nodes)
    if not len(pair_E2):
        raise ConfigError("expected pairs of two nodes, found self loops alone")
    draw = _NegativeDraw(pair_E2, num_nodes, nodes, np.random.default_rng(random_seed))
    parts = [positive_P2[:, None, :]]
    for side, count in enumerate(((num_negatives + 1) // 2, num_negatives // 2)):
        anchor_P = positive_P2[:, side]
        other_PK = draw.others(anchor_P, count)
        parts.append(np.stack([np.broadcast_to(anchor_P[:, None], other_PK.shape), other_PK], axis=2))
    return np.concatenate(parts, axis=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class PairRanks:
    """Where each true pair stands among its candidates, from 1.

    Attributes:
        candidate_PC2: what was ranked, the true pair first.
        optimistic: (P,) 1 + how many negatives of the pair score higher.
        pessimistic: (P,) the same, plus how many score the same.
        placement: (P,) share of the negatives of *all* pairs that score lower, those that score the same by half; the
            mean is the area under the ROC curve.
    """

    candidate_PC2: Int64Array
    optimistic: Int64Array
    pessimistic: Int64Array
    placement: FloatArray

    @property
    def realistic(self) -> FloatArray:
        """(P,) the mean of optimistic and pessimistic."""
        return (self.optimistic + self.pessimistic) / 2

    def measures(self, hits: Sequence[int] = HITS) -> dict[str, FloatArray]:
        """Metric -> (P,) what it is the mean of: reciprocal rank, hits, placement."""
        rank = self.realistic
        return {
            "mrr": 1 / rank,
            **{f"hits_at_{k}": (rank <= k).astype(np.float64) for k in hits},
            "auc": self.placement,
        }


def score_candidates(scorer: PairScorer, candidate_PC2: Int64Array) -> FloatArray:
    """Return (P, C): the score of every candidate."""
    return np.asarray(scorer(candidate_PC2.reshape(-1, 2)), dtype=np.float64).reshape(candidate_PC2.shape[:2])


def rank_pairs(candidate_PC2: Int64Array, score_PC: FloatArray) -> PairRanks:
    """Rank the first candidate of each row among the row.

    Args:
        candidate_PC2: from :func:`with_negatives`, or negatives that a benchmark brings.
        score_PC: a score for each; only their order counts.

    Raises:
        ConfigError: there is not one score for each candidate, or one is not a number.
    """
    if score_PC.shape != candidate_PC2.shape[:2] or score_PC.shape[0] < 1 or score_PC.shape[1] < 2:
        raise ConfigError(
            f"expected a score for each of {candidate_PC2.shape[:2]} candidates, two or more a row, "
            f"found {score_PC.shape}"
        )
    if np.isnan(score_PC).any():
        row, column = np.argwhere(np.isnan(score_PC))[0]
        raise ConfigError(
            f"the score of pair {candidate_PC2[row, column].tolist()} is not a number: nothing can be ranked"
        )
    true_P1, negative_PK = score_PC[:, :1], score_PC[:, 1:]
    optimistic = 1 + np.count_nonzero(negative_PK > true_P1, axis=1)
    sorted_M = np.sort(negative_PK, axis=None)
    below = np.searchsorted(sorted_M, true_P1[:, 0], side="left")
    upto = np.searchsorted(sorted_M, true_P1[:, 0], side="right")
    return PairRanks(
        candidate_PC2=candidate_PC2,
        optimistic=optimistic,
        pessimistic=optimistic + np.count_nonzero(negative_PK == true_P1, axis=1),
        placement=(below + upto) / (2 * sorted_M.size),
    )


def summarise_pairs(
    ranks: PairRanks,
    *,
    cluster_P: Int64Array | None = None,
    hits: Sequence[int] = HITS,
    draws: int = 1000,
    level: float = 0.95,
    random_seed: int = 0,
) -> dict[str, Interval]:
    """Return mrr, hits_at_k and auc with their bootstrap intervals.

    Args:
        ranks: of at least one pair.
        cluster_P: pairs that are drawn together; by default each alone. Pairs that share a node are not independent,
            see :func:`hub_clusters`.
        hits: the k.
        draws: bootstrap draws.
        level: share of the draws that an interval holds.
        random_seed: of the draws.
    """
    names, value_PM = _columns(ranks, hits)
    drawn_BM = drawn_cluster_means(value_PM, _clusters(ranks, cluster_P), draws=draws, random_seed=random_seed)
    return {
        name: percentile_interval(float(value_PM[:, column].mean()), drawn_BM[:, column], level=level)
        for column, name in enumerate(names)
    }


def compare_pairs(
    first: PairRanks,
    second: PairRanks,
    *,
    cluster_P: Int64Array | None = None,
    hits: Sequence[int] = HITS,
    draws: int = 1000,
    level: float = 0.95,
    random_seed: int = 0,
) -> dict[str, Difference]:
    """Return by how much the first scorer is better, metric by metric, pair by pair.

    Raises:
        ConfigError: the two did not rank the same candidates.
    """
    if not np.array_equal(first.candidate_PC2, second.candidate_PC2):
        raise ConfigError("the two scorers ranked different candidates; draw the negatives once and score them by both")
    names, first_PM = _columns(first, hits)
    apart_PM = first_PM - _columns(second, hits)[1]
    drawn_BM = drawn_cluster_means(apart_PM, _clusters(first, cluster_P), draws=draws, random_seed=random_seed)
    return {
        name: Difference(
            difference=percentile_interval(float(apart_PM[:, column].mean()), drawn_BM[:, column], level=level),
            p_value=two_sided_p(drawn_BM[:, column]),
        )
        for column, name in enumerate(names)
    }


def hub_clusters(pair_P2: Int64Array, degree_N: Int64Array) -> Int64Array:
    """Return (P,): of each pair the end that knows more nodes, the first of two alike.

    A pair belongs to two nodes, so no clusters hold all that hangs together; the hubs hold most of it.
    """
    first, second = pair_P2[:, 0], pair_P2[:, 1]
    return np.where(degree_N[second] > degree_N[first], second, first)


def _columns(ranks: PairRanks, hits: Sequence[int]) -> tuple[list[str], FloatArray]:
    measures = ranks.measures(hits)
    return list(measures), np.stack(list(measures.values()), axis=1)


def _clusters(ranks: PairRanks, cluster_P: Int64Array | None) -> Int64Array:
    return np.arange(len(ranks.optimistic)) if cluster_P is None else cluster_P


class _NegativeDraw:
    """Draws nodes that a node does not know."""

    def __init__(self, pair_E2: Int64Array, num_nodes: int, pool: Int64Array, random: np.random.Generator) -> None:
        both = np.concatenate([pair_E2, pair_E2[:, ::-1]])
        self._known = np.sort(both[:, 0] * num_nodes + both[:, 1])
        self._num_nodes, self._pool, self._random = num_nodes, pool, random

    def others(self, anchor_Q: Int64Array, count: int) -> Int64Array:
        """(Q, count) nodes, none known to the anchor of its row, none twice in a row."""
        other_QK = self._pool[self._random.integers(0, len(self._pool), size=(len(anchor_Q), count))]
        rows = np.arange(len(anchor_Q))
        for _ in range(_ROUNDS):
            bad_RK = self._bad(anchor_Q[rows], other_QK[rows])
            rows, bad_RK = rows[bad_RK.any(axis=1)], bad_RK[bad_RK.any(axis=1)]
            if not len(rows):
                break
            fresh = self._pool[self._random.integers(0, len(self._pool), size=np.count_nonzero(bad_RK))]
            again = other_QK[rows]
            again[bad_RK] = fresh
            other_QK[rows] = again
        for row in rows[self._bad(anchor_Q[rows], other_QK[rows]).any(axis=1)] if len(rows) else ():
            other_QK[row] = self._one_by_one(int(anchor_Q[row]), count)
        return other_QK

    def _bad(self, anchor_R: Int64Array, other_RK: Int64Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Whether each is known, the anchor itself, or stands further left in its row already."""
        key_RK = anchor_R[:, None] * self._num_nodes + other_RK
        place_RK = np.minimum(np.searchsorted(self._known, key_RK), len(self._known) - 1)
        order = np.argsort(other_RK, axis=1, kind="stable")
        ordered = np.take_along_axis(other_RK, order, axis=1)
        again = np.zeros(other_RK.shape, dtype=np.bool_)
        np.put_along_axis(again, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
        return (self._known[place_RK] == key_RK) | (other_RK == anchor_R[:, None]) | again

    def _one_by_one(self, anchor: int, count: int) -> Int64Array:
        span = np.searchsorted(self._known, [anchor * self._num_nodes, (anchor + 1) * self._num_nodes])
        known = self._known[span[0] : span[1]] - anchor * self._num_nodes
        node, weight = np.unique(self._pool[~np.isin(self._pool, [*known, anchor])], return_counts=True)
        if len(node) < count:
            raise ConfigError(
                f"expected {count} nodes that node {anchor} does not know, found {len(node)} among those to draw from: "
                f"it knows {len(known)}. Ask for fewer negatives, or for a larger pool."
            )
        return self._random.choice(node, size=count, replace=False, p=weight / weight.sum())
