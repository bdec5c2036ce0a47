"""Edges of a graph without direction, split for link prediction: train, valid and test share no pair.

A pair stands once, the smaller index first: (u, v) and (v, u) in two splits would put the answer into train.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree

from mmkg.errors import ConfigError

Int64Array = np.ndarray[Any, np.dtype[np.int64]]

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, kw_only=True, eq=False)
class EdgeSplit:
    """The pairs of a graph in three parts.

    Attributes:
        num_nodes: N; nodes are 0 … N - 1.
        train, valid, test: (P, 2) pairs, smaller index first, sorted.
    """

    num_nodes: int
    train: Int64Array
    valid: Int64Array
    test: Int64Array

    @property
    def all_pairs(self) -> Int64Array:
        """(P, 2) every pair, sorted: what must not be drawn as a negative."""
        return undirected_pairs(np.concatenate([self.train, self.valid, self.test]), self.num_nodes)

    @property
    def counts(self) -> Mapping[str, int]:
        """How many pairs each part has."""
        return {name: len(getattr(self, name)) for name in SPLITS}


def undirected_pairs(edge_E2: Int64Array, num_nodes: int) -> Int64Array:
    """Return (P, 2): each pair of two nodes that an edge joins, once, smaller index first, sorted; no self loops.

    Args:
        edge_E2: (src, dst) in any order and direction; an edge may stand several times.
        num_nodes: N.

    Raises:
        ConfigError: the shape is another one, or an edge ends outside 0 … N - 1.
    """
    if edge_E2.ndim != 2 or edge_E2.shape[1] != 2:
        raise ConfigError(f"edges must be of shape (E, 2), found {edge_E2.shape}")
    if len(edge_E2) and (edge_E2.min() < 0 or edge_E2.max() >= num_nodes):
        found = edge_E2.max() if edge_E2.min() >= 0 else edge_E2.min()
        raise ConfigError(f"an edge names node {found}, but nodes are 0 to {num_nodes - 1}")
    low, high = edge_E2.min(axis=1, initial=num_nodes), edge_E2.max(axis=1, initial=-1)
    key = np.unique((low * num_nodes + high)[low != high])
    return np.stack([key // num_nodes, key % num_nodes], axis=1) if len(key) else np.zeros((0, 2), dtype=np.int64)


def split_edges(
    edge_E2: Int64Array,
    *,
    num_nodes: int,
    valid_share: float = 0.1,
    test_share: float = 0.2,
    keep_spanning: bool = False,
    random_seed: int = 0,
) -> EdgeSplit:
    """Draw valid and test among the pairs of a graph; the rest is train.

    Args:
        edge_E2: edges in any direction; see :func:`undirected_pairs`.
        num_nodes: N.
        valid_share: share of all pairs.
        test_share: share of all pairs.
        keep_spanning: keep the pairs of a random spanning forest in train, so that train joins what the graph joins
            and no node loses all its neighbours. Off by default: in use, a new node has none either.
        random_seed: of the draw.

    Returns:
        The three parts; with another order of the same edges, the same ones.

    Raises:
        ConfigError: the shares are not in [0, 1), leave nothing to train on, or the spanning forest leaves too few
            pairs for them.
    """
    if min(valid_share, test_share) < 0 or valid_share + test_share >= 1:
        raise ConfigError(
            f"expected shares of valid and test that add to less than 1, found {valid_share}, {test_share}"
        )
    pair_P2 = undirected_pairs(edge_E2, num_nodes)
    random = np.random.default_rng(random_seed)
    free_F = np.arange(len(pair_P2))
    if keep_spanning:
        free_F = np.flatnonzero(~_in_spanning_forest(pair_P2, num_nodes, random))
    num_valid, num_test = round(valid_share * len(pair_P2)), round(test_share * len(pair_P2))
    if num_valid + num_test > len(free_F):
        raise ConfigError(
            f"expected {num_valid + num_test:,} pairs for valid and test, found {len(free_F):,} of {len(pair_P2):,} "
            "that a spanning forest can spare. Ask for smaller shares, or for keep_spanning=False."
        )
    drawn = random.permutation(free_F)
    part_P = np.zeros(len(pair_P2), dtype=np.int8)
    part_P[drawn[:num_valid]] = 1
    part_P[drawn[num_valid : num_valid + num_test]] = 2
    train, valid, test = (pair_P2[part_P == part] for part in range(3))
    return EdgeSplit(num_nodes=num_nodes, train=train, valid=valid, test=test)


def _in_spanning_forest(pair_P2: Int64Array, num_nodes: int, random: np.random.Generator) -> np.ndarray[Any, Any]:
    """Whether each pair is in a spanning forest that random weights choose."""
    weight_P = 1.0 + random.permutation(len(pair_P2))  # no two alike, none 0: a 0 would be no edge
    graph = coo_array((weight_P, (pair_P2[:, 0], pair_P2[:, 1])), shape=(num_nodes, num_nodes)).tocsr()
    return np.isin(weight_P, minimum_spanning_tree(graph).data)
