"""Analogies: the rank of the right answer among the candidates, Hits@k and MRR with clustered intervals, two runs.

Intervals are bootstraps by cluster (:func:`mmkg.tasks.mars_controls.clusters`): the 1,020 dev items of MARS are 228
facts asked several times, so drawing items would make intervals about half as wide as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmkg.errors import ConfigError, TrainingError
from mmkg.evaluation.bootstrap import (
    Difference,
    FloatArray,
    Int64Array,
    Interval,
    drawn_cluster_means,
    paired_cluster_difference,
    percentile_interval,
)
from mmkg.tasks.mars import MODALITIES, MarsItem

HITS = (1, 3, 5, 10)
METRICS = (*(f"hits_at_{k}" for k in HITS), "mrr")
ALL = "all"

Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

_SCORES_AT_ONCE = 16_000_000


def answer_columns(answer_Q: Int64Array, candidate_C: Int64Array) -> Int64Array:
    """Return int64 (Q,): where each answer stands among the candidates, -1 where it does not.

    Raises:
        ConfigError: there is no candidate, or one stands twice.
    """
    order_C = np.argsort(candidate_C, kind="stable")
    sorted_C = candidate_C[order_C]
    if not len(sorted_C):
        raise ConfigError("expected at least one candidate to rank answers among, found none")
    if (twice := sorted_C[1:][sorted_C[1:] == sorted_C[:-1]]).size:
        raise ConfigError(f"expected each candidate once, found entity {twice[0]} twice")
    place_Q = np.minimum(np.searchsorted(sorted_C, answer_Q), len(sorted_C) - 1)
    return np.where(sorted_C[place_Q] == answer_Q, order_C[place_Q], -1).astype(np.int64)


def rank_answers(score_QC: npt.NDArray[np.floating[Any]], answer_column_Q: Int64Array) -> FloatArray:
    """Return float64 (Q,): the realistic rank of each answer, best is 1.

    Candidates with the answer's own score count half: the rank is the mean of the best and the worst place that the
    answer could have among them. So a model that gives all candidates one score has the middle rank, and two
    candidates that share the top have rank 1.5, which is no hit at 1. Nothing is filtered: other entities that would
    be right too count as mistakes, as in MarT.

    Where we differ from MarT: it sorts twice (``sort(sort(logits, descending=True).indices)``), so that of equal
    scores the one that the sort happens to put first wins. Where no scores are equal, both are the same.

    Args:
        score_QC: of each candidate, higher is better; -inf is allowed.
        answer_column_Q: the column of the right candidate; -1 where it is none of them, which gives rank infinity:
            no hit, and a reciprocal rank of 0.

    Raises:
        ConfigError: shapes that do not belong together, or a column that does not exist.
        TrainingError: a score is NaN, so nothing can be ranked.
    """
    if score_QC.ndim != 2 or answer_column_Q.shape != score_QC.shape[:1]:
        raise ConfigError(
            f"expected scores (Q, C) and one answer column a row, found shapes {score_QC.shape} and "
            f"{answer_column_Q.shape}"
        )
    num_items, num_candidates = score_QC.shape
    if num_items and not -1 <= answer_column_Q.min() <= answer_column_Q.max() < num_candidates:
        outside = answer_column_Q[(answer_column_Q < -1) | (answer_column_Q >= num_candidates)][0]
        raise ConfigError(f"expected answer columns from -1 (none) to {num_candidates - 1}, found {outside}")
    rank_Q = np.full(num_items, np.inf)
    at_once = max(1, _SCORES_AT_ONCE // max(1, num_candidates))
    for start in range(0, num_items, at_once):
        score_BC = score_QC[start : start + at_once]
        if np.isnan(score_BC).any():
            item, column = np.argwhere(np.isnan(score_BC))[0]
            raise TrainingError(
                f"item {start + item}: the score of candidate {column} is NaN, so nothing can be ranked; did the "
                "training diverge?"
            )
        asked = np.flatnonzero(answer_column_Q[start : start + at_once] >= 0)
        right_A1 = score_BC[asked, answer_column_Q[start + asked]][:, None]
        higher_A = (score_BC[asked] > right_A1).sum(axis=1)
        equal_A = (score_BC[asked] == right_A1).sum(axis=1)  # the answer itself among them
        rank_Q[start + asked] = higher_A + (equal_A + 1) / 2
    return rank_Q


@dataclass(frozen=True, kw_only=True)
class AnalogyGroup:
    """Figures of some of the items.

    Attributes:
        num_items: how many they are.
        num_clusters: in how many clusters, which is what intervals depend on.
        num_missing: items whose answer is not among the candidates; they count as wrong.
        figures: hits_at_1, _3, _5, _10 and mrr -> interval; empty where there is no item.
    """

    num_items: int
    num_clusters: int
    num_missing: int
    figures: Mapping[str, Interval]

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain dictionaries."""
        return {
            "num_items": self.num_items,
            "num_clusters": self.num_clusters,
            "num_missing": self.num_missing,
            **{name: interval.as_json() for name, interval in self.figures.items()},
        }


@dataclass(frozen=True, kw_only=True)
class AnalogyMetrics:
    """All numbers of one evaluation.

    Attributes:
        groups: "all", "mode 0", "mode 1", "mode 2" and the named subsets -> figures.
        level: what share of bootstrap draws the intervals hold.
        draws: how many bootstrap draws were made.
        random_seed: of the draws.
    """

    groups: Mapping[str, AnalogyGroup]
    level: float
    draws: int
    random_seed: int

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain dictionaries."""
        return {
            "groups": {name: group.as_json() for name, group in self.groups.items()},
            "bootstrap": {"level": self.level, "draws": self.draws, "random_seed": self.random_seed, "unit": "cluster"},
        }


def summarise_analogies(
    rank_Q: FloatArray,
    items: Sequence[MarsItem],
    cluster_Q: Int64Array,
    masks: Mapping[str, BoolArray] | None = None,
    *,
    draws: int = 1000,
    level: float = 0.95,
    random_seed: int = 0,
) -> AnalogyMetrics:
    """Return Hits@1, 3, 5, 10 and MRR with intervals by cluster, of all items, of each mode, of named subsets.

    MRR is the mean of 1 / rank over the items that are asked (the text of MR-MKG divides by the size of the training
    set, plainly a slip).

    Args:
        rank_Q: from :func:`rank_answers`.
        items: in the same order.
        cluster_Q: the cluster of each item.
        masks: name -> bool (Q,), such as unseen pairs.
        draws: bootstrap draws; 0 makes every interval the value itself.
        level: share of the draws that an interval holds.
        random_seed: of the draws.

    Raises:
        ConfigError: there is no item, lengths differ, or a subset has the name of a mode.
    """
    count = len(items)
    if not count:
        raise ConfigError("no analogy was ranked, so there is nothing to summarise")
    mode_Q = np.array([item.mode for item in items], dtype=np.int64)
    subsets = {ALL: np.ones(count, dtype=np.bool_)} | {f"mode {mode}": mode_Q == mode for mode in MODALITIES}
    for name, mask_Q in (masks or {}).items():
        if name in subsets:
            raise ConfigError(f"a subset cannot be called '{name}', every summary has a group of that name")
        subsets[name] = mask_Q
    for name, column in {"ranks": rank_Q, "clusters": cluster_Q, **subsets}.items():
        if column.shape != (count,):
            raise ConfigError(f"{name}: expected one for each of {count} items, found shape {column.shape}")
    value_QM = _moments(rank_Q)
    groups = {}
    for name, mask_Q in subsets.items():
        figures: dict[str, Interval] = {}
        if mask_Q.any():
            drawn_BM = drawn_cluster_means(value_QM[mask_Q], cluster_Q[mask_Q], draws=draws, random_seed=random_seed)
            means = value_QM[mask_Q].mean(axis=0)
            figures = {
                metric: percentile_interval(means[column], drawn_BM[:, column], level=level)
                for column, metric in enumerate(METRICS)
            }
        groups[name] = AnalogyGroup(
            num_items=int(np.count_nonzero(mask_Q)),
            num_clusters=len(np.unique(cluster_Q[mask_Q])),
            num_missing=int(np.count_nonzero(np.isinf(rank_Q[mask_Q]))),
            figures=figures,
        )
    return AnalogyMetrics(groups=groups, level=level, draws=draws, random_seed=random_seed)


@dataclass(frozen=True, kw_only=True)
class AnalogyComparison:
    """How much better one run is than another on the same items.

    Attributes:
        differences: hits_at_1, _3, _5, _10 and mrr -> first minus second, with interval and p-value.
        wins: items on which the first has the better rank; then losses and ties.
    """

    differences: Mapping[str, Difference]
    wins: int
    losses: int
    ties: int

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain dictionaries."""
        return {
            **{name: difference.as_json() for name, difference in self.differences.items()},
            "wins": self.wins,
            "losses": self.losses,
            "ties": self.ties,
        }


def compare_analogies(
    first_Q: FloatArray,
    second_Q: FloatArray,
    cluster_Q: Int64Array,
    *,
    draws: int = 1000,
    level: float = 0.95,
    random_seed: int = 0,
) -> AnalogyComparison:
    """Compare the ranks of two runs on the same items in the same order, clusters drawn as a whole.

    For a subset, give the ranks and clusters of its items.

    Raises:
        ConfigError: there is no item, or the three are not of one length.
    """
    if first_Q.shape != second_Q.shape:
        raise ConfigError(f"the two runs ranked different items: {len(first_Q)} and {len(second_Q)}")
    first_QM, second_QM = _moments(first_Q), _moments(second_Q)
    differences = {
        metric: paired_cluster_difference(
            first_QM[:, column], second_QM[:, column], cluster_Q, draws=draws, level=level, random_seed=random_seed
        )
        for column, metric in enumerate(METRICS)
    }
    return AnalogyComparison(
        differences=differences,
        wins=int(np.count_nonzero(first_Q < second_Q)),
        losses=int(np.count_nonzero(first_Q > second_Q)),
        ties=int(np.count_nonzero(first_Q == second_Q)),
    )


def _moments(rank_Q: FloatArray) -> FloatArray:
    """(Q, M): of each item, what `METRICS` are means of."""
    return np.stack([*((rank_Q <= k).astype(np.float64) for k in HITS), 1 / rank_Q], axis=1)
