r"""Scores of pairs from the graph alone, from vectors, and from several such features together.

A score never sees the edge of the pair that it scores: train pairs have that edge in the graph and test pairs do not,
so a feature that shows it would teach a combination to look for what is never there in use. Common neighbours and
Adamic-Adar of (u, v) do not change with the edge u-v, since neither end is a common neighbour; preferential attachment
does, and takes it off. What cannot take it off cheaply, such as walks of several steps, is computed on a graph from
which the pairs to learn from were taken: :func:`hold_out_pairs`.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import coo_array, csr_array

from mmkg.errors import ConfigError, TrainingError
from mmkg.evaluation.bootstrap import FloatArray, Int64Array
from mmkg.tasks.edge_split import undirected_pairs

BoolArray = np.ndarray[Any, np.dtype[np.bool_]]

_NUMBERS_AT_ONCE = 2**22
_STEPS = 100
_CONVERGED = 1e-10  # change of the loss by a step, relative


def adjacency(edge_E2: Int64Array, num_nodes: int) -> csr_array:
    """Return (N, N): 1 where an edge of any direction joins two nodes, both ways; no self loops."""
    pair_P2 = undirected_pairs(edge_E2, num_nodes)
    both = np.concatenate([pair_P2, pair_P2[:, ::-1]])
    graph = coo_array((np.ones(len(both)), (both[:, 0], both[:, 1])), shape=(num_nodes, num_nodes)).tocsr()
    graph.sort_indices()
    return graph


def common_neighbours(graph_NN: csr_array, pair_M2: Int64Array) -> FloatArray:
    r"""Return (M,): :math:`|\Gamma(u) \cap \Gamma(v)|`; 0 where an end is isolated.

    Args:
        graph_NN: of :func:`adjacency`.
        pair_M2: pairs; cheapest where few nodes stand first.

    Source: Liben-Nowell and Kleinberg, CIKM 2003, section 3.
    """
    return _weighted_common(graph_NN, pair_M2, np.ones(graph_NN.shape[0]))


def adamic_adar(graph_NN: csr_array, pair_M2: Int64Array) -> FloatArray:
    r"""Return (M,): :math:`\sum_{z \in \Gamma(u) \cap \Gamma(v)} 1 / \log |\Gamma(z)|`; 0 where an end is isolated.

    A common neighbour of two nodes knows at least those two, so no logarithm is 0.

    Source: Adamic and Adar, Social Networks 25, 2003; Liben-Nowell and Kleinberg, CIKM 2003, section 3.
    """
    degree_N = degrees(graph_NN)
    weight_N = np.where(degree_N > 1, 1 / np.log(np.maximum(degree_N, 2)), 0.0)
    return _weighted_common(graph_NN, pair_M2, weight_N)


def preferential_attachment(graph_NN: csr_array, pair_M2: Int64Array) -> FloatArray:
    r"""Return (M,): :math:`|\Gamma(u)| \cdot |\Gamma(v)|` without the edge u-v; 0 where an end is isolated.

    Source: Liben-Nowell and Kleinberg, CIKM 2003, section 3.
    """
    degree_N = degrees(graph_NN)
    own_M = np.asarray(graph_NN[pair_M2[:, 0], pair_M2[:, 1]]).ravel()
    return (degree_N[pair_M2[:, 0]] - own_M) * (degree_N[pair_M2[:, 1]] - own_M)


def degrees(graph_NN: csr_array) -> Int64Array:
    """Return (N,): how many nodes each node knows."""
    return np.diff(graph_NN.indptr).astype(np.int64)


def cosine(vector_ND: np.ndarray[Any, Any], pair_M2: Int64Array) -> FloatArray:
    """Return (M,): the cosine of the two vectors; 0 where one is zero, which is how a missing one is written."""
    value_M = np.empty(len(pair_M2))
    norm_N = np.linalg.norm(vector_ND.astype(np.float64, copy=False), axis=1)
    rows = max(1, _NUMBERS_AT_ONCE // vector_ND.shape[1])
    for start in range(0, len(pair_M2), rows):
        part = pair_M2[start : start + rows]
        product = np.einsum("md,md->m", vector_ND[part[:, 0]], vector_ND[part[:, 1]], dtype=np.float64)
        scale = norm_N[part[:, 0]] * norm_N[part[:, 1]]
        value_M[start : start + rows] = np.divide(product, scale, out=np.zeros(len(part)), where=scale > 0)
    return value_M


def hold_out_pairs(pair_P2: Int64Array, share: float, *, random_seed: int = 0) -> tuple[Int64Array, Int64Array]:
    """Split train pairs into a graph to compute features on, and pairs to learn their combination from.

    In use the edge of a pair is not in the graph. So it must not be there for a pair that is learned from either:
    walks of one step alone would give every train pair away, and the combination would rely on them.

    Args:
        pair_P2: the train pairs.
        share: of the pairs to learn from; the graph misses them, so a small one.
        random_seed: of the draw.

    Returns:
        (the rest, the pairs held out).

    Raises:
        ConfigError: the share leaves one of the two empty.
    """
    num_held = round(share * len(pair_P2))
    if not 0 < num_held < len(pair_P2):
        raise ConfigError(f"a share of {share} of {len(pair_P2)} pairs leaves no graph, or nothing to learn from")
    held_P = np.zeros(len(pair_P2), dtype=np.bool_)
    held_P[np.random.default_rng(random_seed).permutation(len(pair_P2))[:num_held]] = True
    return pair_P2[~held_P], pair_P2[held_P]


@dataclass(frozen=True, kw_only=True, eq=False)
class LogisticCombination:
    """A weighted sum of standardised features.

    Attributes:
        names: of the F features.
        mean_F, scale_F: what standardises them; a feature that never changes has weight 0.
        weight_F: for one standard deviation of the feature.
        intercept: at which a pair is as likely an edge as not, among as many of both.
    """

    names: tuple[str, ...]
    mean_F: FloatArray
    scale_F: FloatArray
    weight_F: FloatArray
    intercept: float

    def score(self, feature_MF: FloatArray) -> FloatArray:
        """Return (M,): log-odds that each pair is an edge."""
        return (feature_MF - self.mean_F) / self.scale_F @ self.weight_F + self.intercept


def fit_logistic(
    feature_MF: FloatArray, is_edge_M: BoolArray, *, names: Sequence[str], decay: float = 1e-4
) -> LogisticCombination:
    r"""Fit a logistic regression by Newton steps.

    .. math:: \min_{w, b}\; \tfrac12 \sum_{c \in \{0, 1\}} \frac{1}{n_c} \sum_{y_i = c} \log(1 + e^{-s_i (w x_i + b)})
              + \tfrac{\lambda}{2} \|w\|^2, \quad s_i = 2 y_i - 1

    Edges count for as much as negatives, however many negatives were drawn.

    Args:
        feature_MF: features of M pairs; standardised here. Take the logarithm of what has a long tail.
        is_edge_M: whether each pair is an edge.
        names: of the features.
        decay: the λ, which keeps weights finite where the features tell edges apart without fail.

    Raises:
        ConfigError: shapes do not agree, a feature is not a number, or one of the two kinds is missing.
        TrainingError: the steps do not come to rest.
    """
    edge_M = np.asarray(is_edge_M, dtype=np.bool_)
    num_edges = int(np.count_nonzero(edge_M))
    if feature_MF.shape != (len(edge_M), len(names)):
        raise ConfigError(f"expected {len(edge_M)} × {len(names)} features, found shape {feature_MF.shape}")
    if not np.isfinite(feature_MF).all():
        column = int(np.argwhere(~np.isfinite(feature_MF))[0, 1])
        raise ConfigError(f"feature {names[column]!r} is not a finite number for every pair")
    if not 0 < num_edges < len(edge_M):
        raise ConfigError(f"expected edges and negatives to learn from, found {num_edges} edges of {len(edge_M)} pairs")
    mean_F, scale_F = feature_MF.mean(axis=0), feature_MF.std(axis=0)
    scale_F = np.where(scale_F > 0, scale_F, 1.0)
    x_MG = np.hstack([(feature_MF - mean_F) / scale_F, np.ones((len(edge_M), 1))])
    share_M = np.where(edge_M, 0.5 / num_edges, 0.5 / (len(edge_M) - num_edges))
    decay_G = np.append(np.full(len(names), decay), 0.0)
    weight_G = np.zeros(len(names) + 1)
    loss = _loss(x_MG, edge_M, share_M, decay_G, weight_G)
    for _ in range(_STEPS):
        chance_M = 1 / (1 + np.exp(-np.clip(x_MG @ weight_G, -500, 500)))
        slope_G = x_MG.T @ (share_M * (chance_M - edge_M)) + decay_G * weight_G
        bend_GG = (x_MG.T * (share_M * chance_M * (1 - chance_M))) @ x_MG + np.diag(decay_G + 1e-12)
        step_G = np.linalg.solve(bend_GG, slope_G)
        length = 1.0
        while (new := _loss(x_MG, edge_M, share_M, decay_G, weight_G - length * step_G)) > loss and length > 1e-6:
            length /= 2  # a full step may jump over the minimum
        weight_G = weight_G - length * step_G if new <= loss else weight_G
        if loss - new <= _CONVERGED * max(loss, 1e-12):
            return LogisticCombination(
                names=tuple(names),
                mean_F=mean_F,
                scale_F=scale_F,
                weight_F=weight_G[:-1],
                intercept=float(weight_G[-1]),
            )
        loss = new
    raise TrainingError(f"a logistic regression on {', '.join(names)} did not come to rest in {_STEPS} steps")


def _loss(x_MG: FloatArray, edge_M: BoolArray, share_M: FloatArray, decay_G: FloatArray, weight_G: FloatArray) -> float:
    margin_M = np.where(edge_M, 1, -1) * (x_MG @ weight_G)
    return float(share_M @ np.logaddexp(0, -margin_M) + 0.5 * decay_G @ weight_G**2)


def _weighted_common(graph_NN: csr_array, pair_M2: Int64Array, weight_N: FloatArray) -> FloatArray:
    """(M,) sum of the weights of common neighbours: rows of A W A for the first ends, in blocks."""
    source_S, place_M = np.unique(pair_M2[:, 0], return_inverse=True)
    order = np.argsort(place_M, kind="stable")
    value_M = np.empty(len(pair_M2))
    weighted_NN = csr_array((weight_N[graph_NN.indices], graph_NN.indices, graph_NN.indptr), shape=graph_NN.shape)
    rows = max(1, _NUMBERS_AT_ONCE // graph_NN.shape[0])
    bounds = np.searchsorted(place_M[order], np.arange(0, len(source_S) + rows, rows))
    for block, (start, stop) in enumerate(itertools.pairwise(bounds)):
        first = block * rows
        common_RN = (weighted_NN[source_S[first : first + rows]] @ graph_NN).toarray()
        here = order[start:stop]
        value_M[here] = common_RN[place_M[here] - first, pair_M2[here, 1]]
    return value_M
