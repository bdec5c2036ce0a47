"""Intervals by bootstrap: how much a mean would move with other test items of the same kind.

Items that are not independent go together, as a cluster: drawing them apart would make intervals too narrow. How much
a number moves with the seed of training, only several runs say.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmkg.errors import ConfigError

FloatArray = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]

_WEIGHTS_AT_ONCE = 4_000_000  # drawn weights in memory, 8 bytes each


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A number and where it would lie for other test items of the same kind."""

    value: float
    low: float
    high: float

    def as_json(self) -> dict[str, float]:
        """Return the three numbers by name."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How far the mean of one run is above that of another, on the same items.

    Attributes:
        difference: first minus second.
        p_value: two-sided, from the bootstrap, see :func:`two_sided_p`.
    """

    difference: Interval
    p_value: float

    def as_json(self) -> dict[str, float]:
        """Return the four numbers by name."""
        return {**self.difference.as_json(), "p_value": self.p_value}


def drawn_means(value_NM: FloatArray, *, draws: int, random_seed: int) -> FloatArray:
    """Return (draws, M): means over N items drawn with replacement, each alone; one draw in memory at a time."""
    random = np.random.default_rng(random_seed)
    count = len(value_NM)
    means = np.empty((draws, value_NM.shape[1]))
    for draw in range(draws):
        times = np.bincount(random.integers(0, count, size=count), minlength=count)
        means[draw] = times @ value_NM / count
    return means


def drawn_cluster_means(value_NM: FloatArray, cluster_N: Int64Array, *, draws: int, random_seed: int) -> FloatArray:
    r"""Return (draws, M): means over the items of clusters that are drawn with replacement.

    .. math:: \bar v^{(b)} = \sum_k w_k^{(b)} S_k \,/\, \sum_k w_k^{(b)} n_k

    with :math:`S_k` the sum and :math:`n_k` the number of items of cluster k, and :math:`w^{(b)}` how often each of the
    K clusters was drawn in K draws. A large cluster counts for more, as it does in the mean itself.

    Args:
        value_NM: M numbers of each of N items.
        cluster_N: the cluster of each item, any integers.
        draws: how many means to draw.
        random_seed: of the draws.

    Raises:
        ConfigError: there is no item, or not one cluster for each.
    """
    sum_KM, size_K = _cluster_sums(value_NM, cluster_N)
    weights = _drawn_weights(len(size_K), draws=draws, random_seed=random_seed)
    return np.concatenate([(weight_BK @ sum_KM) / (weight_BK @ size_K)[:, None] for weight_BK in weights])


def drawn_sums(value_NM: FloatArray, cluster_N: Int64Array, *, draws: int, random_seed: int) -> FloatArray:
    """Return (draws, M): sums over the items of clusters that are drawn with replacement.

    For a score that is no mean of items but a function of their sums, such as corpus BLEU. Clusters are drawn as in
    :func:`drawn_cluster_means`: one seed draws the same ones. A column of ones counts the items of a draw.

    Args:
        value_NM: M numbers of each of N items.
        cluster_N: the cluster of each item, any integers.
        draws: how many sums to draw.
        random_seed: of the draws.

    Raises:
        ConfigError: there is no item, or not one cluster for each.
    """
    sum_KM, size_K = _cluster_sums(value_NM, cluster_N)
    weights = _drawn_weights(len(size_K), draws=draws, random_seed=random_seed)
    return np.concatenate([weight_BK @ sum_KM for weight_BK in weights])


def _cluster_sums(value_NM: FloatArray, cluster_N: Int64Array) -> tuple[FloatArray, Int64Array]:
    """(K, M) and (K,): the sum of each cluster, and its number of items."""
    if not len(value_NM):
        raise ConfigError("no item was measured, so there is nothing to draw from")
    if cluster_N.shape != (len(value_NM),):
        raise ConfigError(f"expected a cluster for each of {len(value_NM)} items, found shape {cluster_N.shape}")
    _, place_N, size_K = np.unique(cluster_N, return_inverse=True, return_counts=True)
    sum_KM = np.zeros((len(size_K), value_NM.shape[1]))
    np.add.at(sum_KM, place_N, value_NM)
    return sum_KM, size_K


def _drawn_weights(num_clusters: int, *, draws: int, random_seed: int) -> Iterator[Int64Array]:
    """Blocks of (B, K): how often each cluster is in a draw of K clusters; one empty block where no draw is asked for.

    A block is as large as memory allows, the numbers are those of one block.
    """
    random = np.random.default_rng(random_seed)
    at_once = max(1, _WEIGHTS_AT_ONCE // num_clusters)
    for start in range(0, max(draws, 1), at_once):
        size = min(at_once, draws - start)
        yield random.multinomial(num_clusters, np.full(num_clusters, 1 / num_clusters), size=size)


def percentile_interval(value: float, drawn_B: FloatArray, *, level: float) -> Interval:
    """Return a value with the percentiles between which ``level`` of the draws lie; without draws, the value itself."""
    if not len(drawn_B):
        return Interval(value=float(value), low=float(value), high=float(value))
    tail = (1 - level) / 2
    low, high = np.quantile(drawn_B, [tail, 1 - tail])
    return Interval(value=float(value), low=float(low), high=float(high))


def two_sided_p(drawn_B: FloatArray) -> float:
    """Return how easily a difference of the other sign would be drawn, counted on both sides; 1 without draws.

    One more draw is added on either side: a finite number of draws never proves p = 0.
    """
    draws = len(drawn_B)
    below = (np.count_nonzero(drawn_B <= 0) + 1) / (draws + 1)
    above = (np.count_nonzero(drawn_B >= 0) + 1) / (draws + 1)
    return float(min(1.0, 2 * min(below, above)))


def cluster_interval(
    value_N: FloatArray, cluster_N: Int64Array, *, draws: int = 1000, level: float = 0.95, random_seed: int = 0
) -> Interval:
    """Return the mean of the items with its interval by cluster; see :func:`drawn_cluster_means`."""
    drawn_B1 = drawn_cluster_means(value_N[:, None], cluster_N, draws=draws, random_seed=random_seed)
    return percentile_interval(float(value_N.mean()), drawn_B1[:, 0], level=level)


def paired_cluster_difference(
    first_N: FloatArray,
    second_N: FloatArray,
    cluster_N: Int64Array,
    *,
    draws: int = 1000,
    level: float = 0.95,
    random_seed: int = 0,
) -> Difference:
    """Return by how much the first run's mean is higher, item by item: what is hard for both does not blur it.

    Args:
        first_N: a number of each item, of the first run.
        second_N: of the same items in the same order, of the second run.
        cluster_N: the cluster of each item.
        draws: bootstrap draws.
        level: share of the draws that the interval holds.
        random_seed: of the draws.

    Raises:
        ConfigError: there is no item, or the three are not of one length.
    """
    if first_N.shape != second_N.shape:
        raise ConfigError(f"the two runs measured different items: {len(first_N)} and {len(second_N)}")
    apart_N = first_N - second_N
    drawn_B = drawn_cluster_means(apart_N[:, None], cluster_N, draws=draws, random_seed=random_seed)[:, 0]
    return Difference(
        difference=percentile_interval(float(apart_N.mean()), drawn_B, level=level), p_value=two_sided_p(drawn_B)
    )
