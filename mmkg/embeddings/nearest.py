"""Search: the k rows that are nearest to a vector by cosine, exactly by a scan, or nearly by an index.

A scan of 200,000 × 512 takes some 25 ms on two cores, so it is what `build_index` chooses up to a million rows.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from mmkg.embeddings.base import unit_rows
from mmkg.errors import EmbeddingError

IndexKind = Literal["auto", "exact", "usearch"]
Rows = npt.NDArray[np.bool_] | npt.NDArray[np.int64] | Sequence[int] | None
"""Which rows may be found: a mask (n,), places, or None for all."""
MAX_EXACT_ROWS = 1_000_000
_SCORES_AT_ONCE = 1 << 22  # 16 MiB
_ROWS_AT_ONCE = 1 << 14  # that are scored again in float64


class Index(Protocol):
    """Finds rows of a matrix (n, d)."""

    def search(
        self, queries: npt.NDArray[np.float32], k: int, rows: Rows = None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The k rows nearest to each query, nearest first; of equals the first.

        Args:
            queries: (m, d), finite, none of length 0; need not have length 1.
            k: how many, at least 1.
            rows: only these may be found.

        Returns:
            Places (m, j) and cosines (m, j), with j = k or the number of rows that may be found, if that is less.

        Raises:
            EmbeddingError: the queries have another dimension or cannot be used, or k is less than 1.
        """


class ExactIndex:
    """Scans all rows. A row of zeros stands for a missing vector and is never found.

    Equal to brute force in float64 over the same float32 rows: a scan in float32 chooses candidates, with the width of
    its rounding error below the k-th, and these are scored again in float64. Memory: the rows once more, and 16 MiB.

    Args:
        matrix: (n, d), finite; need not have rows of length 1.

    Raises:
        EmbeddingError: it has another shape, or a row that is not finite.
    """

    def __init__(self, matrix: npt.NDArray[np.floating]) -> None:
        self.matrix, self.there = usable_rows(matrix)
        # Two dot products of d products of unit vectors: each is wrong by at most d 2^-24.
        # Source: Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1.
        self._slack = np.float32(max(1, self.matrix.shape[1]) * 2.0**-23)

    def search(
        self, queries: npt.NDArray[np.float32], k: int, rows: Rows = None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The k rows nearest to each query, see :class:`Index`."""
        queries = usable_queries(queries, k, self.matrix.shape[1])
        may_be_found = allowed_rows(rows, self.there)
        allowed = np.flatnonzero(may_be_found)
        k = min(k, len(allowed))
        if 4 * len(allowed) < len(self.matrix):  # a copy of few rows costs less than a scan of all
            places, scores = self._scan(self.matrix[allowed], None, queries, k)
            return allowed[places], scores
        return self._scan(self.matrix, None if may_be_found.all() else ~may_be_found, queries, k)

    def _scan(
        self,
        matrix: npt.NDArray[np.float32],
        hidden: npt.NDArray[np.bool_] | None,
        queries: npt.NDArray[np.float32],
        k: int,
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        places = np.empty((len(queries), k), np.int64)
        scores = np.empty((len(queries), k), np.float32)
        if k == 0:
            return places, scores
        at_once = max(1, _SCORES_AT_ONCE // len(matrix))
        for first in range(0, len(queries), at_once):
            rough = queries[first : first + at_once] @ matrix.T
            if hidden is not None:
                rough[:, hidden] = -np.inf
            for place, row in enumerate(rough, start=first):
                kth = np.partition(row, len(row) - k)[len(row) - k]
                candidates = np.flatnonzero(row >= kth - self._slack)
                places[place], scores[place] = rank(matrix, queries[place], candidates, k)
        return places, scores


def rank(
    matrix: npt.NDArray[np.float32], query: npt.NDArray[np.float32], candidates: npt.NDArray[np.int64], k: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The k nearest of some rows, scored in float64, so that equal rows have equal scores wherever they stand.

    Args:
        matrix: (n, d).
        query: (d,).
        candidates: places, ascending, at least k.
        k: how many.
    """
    exact = np.empty(len(candidates), np.float32)
    for first in range(0, len(candidates), _ROWS_AT_ONCE):
        rows = matrix[candidates[first : first + _ROWS_AT_ONCE]].astype(np.float64)
        # not a product of matrices: that sums a row in another order at the end of a block than in its middle
        exact[first : first + _ROWS_AT_ONCE] = np.einsum("nd,d->n", rows, query.astype(np.float64))
    order = np.argsort(-exact, kind="stable")[:k]
    return candidates[order], np.clip(exact[order], -1, 1)


def usable_rows(matrix: npt.NDArray[np.floating]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Rows of length 1 in float32, and which of them are vectors and not zeros.

    Raises:
        EmbeddingError: it is no matrix, or has a row that is not finite.
    """
    if matrix.ndim != 2:
        raise EmbeddingError(f"rows to be searched: expected shape (n, d), found {matrix.shape}")
    rows = np.ascontiguousarray(matrix, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("nd,nd->n", rows, rows)
    wrong = np.flatnonzero(~np.isfinite(squares))
    if len(wrong):
        raise EmbeddingError(f"rows to be searched: {len(wrong):,} are not finite, the first at place {wrong[0]:,}")
    return unit_rows(rows), squares > 0


def usable_queries(queries: npt.NDArray[np.float32], k: int, dimension: int) -> npt.NDArray[np.float32]:
    """Queries of length 1.

    Raises:
        EmbeddingError: they have another dimension or cannot be used, or k is less than 1.
    """
    if k < 1:
        raise EmbeddingError(f"k: expected 1 or more, found {k}")
    if queries.ndim != 2 or queries.shape[1] != dimension:
        raise EmbeddingError(f"queries: expected shape (m, {dimension}), found {queries.shape}")
    rows, there = usable_rows(queries)
    if not there.all():
        raise EmbeddingError(f"queries: the one at place {int((~there).argmax())} has length 0, and so no direction")
    return rows


def allowed_rows(rows: Rows, there: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """A mask (n,) of the rows that may be found.

    Raises:
        EmbeddingError: a mask of another length, or a place that is not there.
    """
    if rows is None:
        return there
    given = np.asarray(rows)
    if given.dtype == np.bool_:
        if given.shape != there.shape:
            raise EmbeddingError(f"rows: expected a mask of shape {there.shape}, found {given.shape}")
        return there & given
    given = given.astype(np.int64)
    if given.size and (given.min() < 0 or given.max() >= len(there)):
        raise EmbeddingError(f"rows: expected places from 0 to {len(there) - 1}, found {given.min()} to {given.max()}")
    mask = np.zeros(len(there), np.bool_)
    mask[given] = True
    return there & mask


def build_index(matrix: npt.NDArray[np.floating], kind: IndexKind = "auto") -> Index:
    """An index over the rows of a matrix (n, d).

    Args:
        matrix: finite; a row of zeros is never found.
        kind: exact | usearch (HNSW, nearly all of the nearest, see `measure_recall`) | auto: usearch beyond a million.

    Raises:
        EmbeddingError: the matrix cannot be searched.
        NotInstalled: usearch is not installed.
    """
    if kind == "usearch" or (kind == "auto" and len(matrix) > MAX_EXACT_ROWS):
        from mmkg.embeddings.hnsw import HnswIndex

        return HnswIndex.build(matrix)
    return ExactIndex(matrix)


def measure_recall(
    index: Index, matrix: npt.NDArray[np.floating], queries: npt.NDArray[np.float32], k: int = 10
) -> float:
    """Share of the exact k nearest that an index finds, mean over queries.

    Args:
        index: over the matrix.
        matrix: (n, d).
        queries: (m, d), m at least 1.
        k: how many are asked for.
    """
    exact, _ = ExactIndex(matrix).search(queries, k)
    found, _ = index.search(queries, k)
    hits = sum(len(np.intersect1d(*pair)) for pair in zip(exact, found, strict=True))
    return hits / max(1, exact.size)
