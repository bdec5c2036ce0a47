"""Numbers out of ranks: MRR, Hits@k, mean ranks, each with a bootstrap interval, and the comparison of two runs.

The unit of the bootstrap is the test triple, not the question: the two ranks of one triple go together, since they
depend on each other, and drawing them apart would make intervals too narrow. Intervals say how much a number would
move with other test triples from the same graph; how much it moves with the seed of training, only several runs say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmkg.errors import ConfigError
from mmkg.evaluation.bootstrap import Interval, drawn_means, percentile_interval, two_sided_p
from mmkg.evaluation.link_prediction import DIRECTIONS, FloatArray, Int64Array, Ranks

METRICS = (
    "mrr",
    "hits_at_1",
    "hits_at_3",
    "hits_at_10",
    "mean_rank",
    "adjusted_mean_rank",
    "adjusted_mean_rank_index",
)
HITS = (1, 3, 10)
CATEGORIES = ("1-1", "1-n", "n-1", "n-n")
_MANY = 1.5  # mean tails per head from which a relation is "n" (Bordes et al., NIPS 2013)


@dataclass(frozen=True, kw_only=True)
class LinkPredictionMetrics:
    """All numbers of one evaluation.

    Attributes:
        num_triples: how many triples were ranked, each in both directions.
        both: metric -> interval, over both directions.
        by_direction: "tail" | "head" -> metric -> value.
        by_category: relation category (1-1, 1-n, n-1, n-n) -> direction -> metric -> value; empty unless asked for.
        level: what share of bootstrap draws the intervals hold.
        draws: how many bootstrap draws were made.
        random_seed: of the draws.
    """

    num_triples: int
    both: Mapping[str, Interval]
    by_direction: Mapping[str, Mapping[str, float]]
    by_category: Mapping[str, Mapping[str, Mapping[str, float]]]
    level: float
    draws: int
    random_seed: int

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain dictionaries."""
        return {
            "num_triples": self.num_triples,
            **{name: interval.as_json() for name, interval in self.both.items()},
            "by_direction": {name: dict(values) for name, values in self.by_direction.items()},
            "by_category": {
                category: {direction: dict(values) for direction, values in directions.items()}
                for category, directions in self.by_category.items()
            },
            "bootstrap": {"level": self.level, "draws": self.draws, "random_seed": self.random_seed, "unit": "triple"},
        }


def summarise_ranks(
    ranks: Ranks,
    *,
    draws: int = 1000,
    level: float = 0.95,
    random_seed: int = 0,
    category_of_relation: Sequence[str] | None = None,
) -> LinkPredictionMetrics:
    r"""Return all metrics of realistic ranks, over both directions with intervals, and per direction.

    .. math::
        \mathrm{MRR} = \overline{1 / \mathrm{rank}}, \quad
        \mathrm{AMR} = \overline{\mathrm{rank}} \,/\, \overline{(c + 1) / 2}, \quad
        \mathrm{AMRI} = 1 - \frac{\overline{\mathrm{rank}} - 1}{\overline{(c + 1) / 2} - 1}

    with :math:`c` the number of candidates of each question; AMR is 1 and AMRI is 0 for a guess by chance.

    Args:
        ranks: of at least one triple.
        draws: bootstrap draws; 0 makes every interval the value itself.
        level: share of the draws that an interval holds, its ends are percentiles.
        random_seed: of the draws.
        category_of_relation: the category of each relation, from :func:`relation_categories`, for a table by category.

    Source: Berrendorf et al., arXiv:2002.06914 (AMR, AMRI, realistic ranks).
    """
    moments_T2M = _moments(ranks)
    per_triple = moments_T2M.mean(axis=1)
    drawn = _from_means(drawn_means(per_triple, draws=draws, random_seed=random_seed))
    values = _from_means(per_triple.mean(axis=0))
    both = {name: percentile_interval(value, drawn[name], level=level) for name, value in values.items()}
    return LinkPredictionMetrics(
        num_triples=len(ranks.triples),
        both=both,
        by_direction=_by_direction(moments_T2M),
        by_category=_by_category(moments_T2M, ranks.triples[:, 1], category_of_relation),
        level=level,
        draws=draws,
        random_seed=random_seed,
    )


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How much better one run is than another on the same triples.

    Attributes:
        difference: MRR of the first minus MRR of the second, with its bootstrap interval.
        p_value: two-sided, from the bootstrap: how easily a difference of the other sign would be drawn.
        wins: triples on which the first has the higher reciprocal rank; then losses and ties.
    """

    difference: Interval
    p_value: float
    wins: int
    losses: int
    ties: int

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain dictionaries."""
        return {
            "mrr_difference": self.difference.as_json(),
            "p_value": self.p_value,
            "wins": self.wins,
            "losses": self.losses,
            "ties": self.ties,
        }


def compare_ranks(
    first: Ranks, second: Ranks, *, draws: int = 1000, level: float = 0.95, random_seed: int = 0
) -> Comparison:
    """Compare two runs triple by triple: what is hard for both does not blur the difference.

    Raises:
        ConfigError: the runs did not rank the same triples in the same order.
    """
    if not np.array_equal(first.triples, second.triples):
        raise ConfigError("the two runs ranked different triples; evaluate both on the same split of the same tables")
    difference = (1 / first.realistic - 1 / second.realistic).mean(axis=1)
    drawn = drawn_means(difference[:, None], draws=draws, random_seed=random_seed)[:, 0]
    return Comparison(
        difference=percentile_interval(difference.mean(), drawn, level=level),
        p_value=two_sided_p(drawn),
        wins=int(np.count_nonzero(difference > 0)),
        losses=int(np.count_nonzero(difference < 0)),
        ties=int(np.count_nonzero(difference == 0)),
    )


def relation_categories(train: Int64Array, num_relations: int) -> list[str]:
    """Return the category of each relation: 1-1, 1-n (a head has many tails), n-1, n-n.

    "Many" is a mean of 1.5 or more over the train triples (Bordes et al., NIPS 2013); a relation without any is 1-1.
    """
    triples = np.unique(train, axis=0)
    count = np.bincount(triples[:, 1], minlength=num_relations)
    heads = np.bincount(np.unique(triples[:, [0, 1]], axis=0)[:, 1], minlength=num_relations)
    tails = np.bincount(np.unique(triples[:, [1, 2]], axis=0)[:, 0], minlength=num_relations)
    many_tails = count >= _MANY * np.maximum(heads, 1)
    many_heads = count >= _MANY * np.maximum(tails, 1)
    return [
        CATEGORIES[2 * int(n_heads) + int(n_tails)] for n_heads, n_tails in zip(many_heads, many_tails, strict=True)
    ]


def _moments(ranks: Ranks) -> FloatArray:
    """(T, 2, M): of each rank, what the metrics are means of: reciprocal, hits, rank, expected rank by chance."""
    rank = ranks.realistic
    if not len(rank):
        raise ConfigError("no triple was ranked, so there is nothing to summarise")
    columns = [1 / rank, *(rank <= k for k in HITS), rank, (ranks.num_candidates + 1) / 2]
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=2)


def _from_means(means: FloatArray) -> dict[str, Any]:
    """Metrics out of means of moments: the last axis is the moments, any others are kept."""
    reciprocal, *hits, rank, expected = np.moveaxis(means, -1, 0)
    # with a single candidate, chance is perfect: the index is then 0 by convention
    room = np.where(expected > 1, expected - 1, np.inf)
    index = np.where(expected > 1, 1 - (rank - 1) / room, 0.0)
    return dict(zip(METRICS, [reciprocal, *hits, rank, rank / expected, index], strict=True))


def _by_direction(moments_T2M: FloatArray) -> dict[str, dict[str, float]]:
    return {
        direction: {name: float(value) for name, value in _from_means(moments_T2M[:, side].mean(axis=0)).items()}
        for side, direction in enumerate(DIRECTIONS)
    }


def _by_category(
    moments_T2M: FloatArray, relation_T: Int64Array, category_of_relation: Sequence[str] | None
) -> dict[str, dict[str, dict[str, float]]]:
    if category_of_relation is None:
        return {}
    category_T = np.asarray(category_of_relation)[relation_T]
    return {name: _by_direction(moments_T2M[category_T == name]) for name in CATEGORIES if (category_T == name).any()}
