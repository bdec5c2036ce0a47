r"""An index of triples: the n triples nearest to a query by cosine, exactly, each triple having one vector.

Two ways to give a triple a vector, since the paper does not say which encoder embeds it:

- *composed*: :math:`v = h + r + t` of the unit vectors of head, relation and tail, so that a graph of a million
  triples needs the vectors of its entities and relations only. A query's product with a triple is then the sum of
  three products that were computed once per entity and relation: three look-ups and a division a triple.
- *linearised*: a text encoder's vector of "head relation tail", a row a triple.

Both are searched without loss: what comes back is what brute force over all triples in float64 gives, ties in the order
of the triples. Source: Lee et al., ACL 2024, arXiv:2406.02030, appendix A.6, step 1.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mmkg.embeddings.nearest import ExactIndex, usable_queries, usable_rows
from mmkg.errors import MmkgError
from mmkg.shards import digest

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


class TripleIndex(Protocol):
    """Finds triples (T, 3) by vectors of D numbers."""

    triples: Ints
    """(T, 3) head, relation, tail; a triple without vector is never found."""
    dimension: int

    @property
    def digest(self) -> str:
        """Names triples and vectors: 16 hex digits."""

    def search(self, query_D: Floats, k: int) -> tuple[Ints, Floats]:
        """The k nearest triples, nearest first, of equals the first: their rows and cosines.

        Raises:
            EmbeddingError: the query has another dimension or no direction, or k is less than 1.
        """

    def scores(self, query_D: Floats, rows: Ints) -> Doubles:
        """Cosine of some triples with a query; -inf for a triple without vector."""


@dataclass(frozen=True, eq=False)
class LinearisedIndex:
    """A row of its own for each triple.

    Args:
        triples: (T, 3).
        vectors: (T, D), zeros for a triple without vector.

    Raises:
        MmkgError: there is not one vector for each triple.
    """

    triples: Ints
    vectors: Floats

    def __post_init__(self) -> None:
        """Check that there is one vector for each triple."""
        if len(self.triples) != len(self.vectors):
            raise MmkgError(f"expected one vector for each of {len(self.triples)} triples, found {len(self.vectors)}")

    @property
    def dimension(self) -> int:
        """D."""
        return int(self.vectors.shape[1])

    @cached_property
    def _exact(self) -> ExactIndex:
        return ExactIndex(self.vectors)

    @cached_property
    def digest(self) -> str:
        """Names triples and vectors."""
        return _digest("linearised", self.triples, self.vectors)

    def search(self, query_D: Floats, k: int) -> tuple[Ints, Floats]:
        """The k nearest triples; see :class:`TripleIndex`."""
        places, scores = self._exact.search(query_D[None], k)
        return places[0], scores[0]

    def scores(self, query_D: Floats, rows: Ints) -> Doubles:
        """Cosine of some triples with a query; see :class:`TripleIndex`."""
        query = usable_queries(query_D[None], 1, self.dimension)[0].astype(np.float64)
        found = np.einsum("nd,d->n", self._exact.matrix[rows].astype(np.float64), query)
        return np.where(self._exact.there[rows], found, -np.inf)


class ComposedIndex:
    """The sum of three unit vectors for each triple, never made.

    Args:
        triples: (T, 3).
        entity_ND: (N, D), zeros for an entity without vector: it adds nothing to its triples.
        relation_RD: (R, D), likewise.
    """

    def __init__(self, triples: Ints, entity_ND: Floats, relation_RD: Floats) -> None:
        self.triples = triples
        self._entity_ND, _ = usable_rows(entity_ND)
        self._relation_RD, _ = usable_rows(relation_RD)
        self.dimension = int(entity_ND.shape[1])
        # contiguous columns of 32 bits: a search reads each of them once
        self._head, self._relation, self._tail = (np.ascontiguousarray(column, np.int32) for column in triples.T)
        self._inverse_length = np.zeros(len(triples), np.float64)
        for start in range(0, len(triples), 1 << 16):
            length = np.sqrt(np.square(self._sums(np.arange(start, min(start + (1 << 16), len(triples))))).sum(axis=1))
            self._inverse_length[start : start + len(length)] = np.where(length > 0, 1 / np.maximum(length, 1e-300), 0)
        self._inverse_length_32 = self._inverse_length.astype(np.float32)
        # each product of D numbers is wrong by at most D 2^-24, and there are three of them over a length that may be
        # small: what lies within twice that of the k-th is scored again
        # Source: Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1.
        self._slack = np.float32(6 * (self.dimension + 4) * 2.0**-23) * np.maximum(self._inverse_length_32, 1)

    @cached_property
    def digest(self) -> str:
        """Names triples and vectors."""
        return _digest("composed", self.triples, self._entity_ND, self._relation_RD)

    def search(self, query_D: Floats, k: int) -> tuple[Ints, Floats]:
        """The k nearest triples; see :class:`TripleIndex`."""
        query = usable_queries(query_D[None], k, self.dimension)[0]
        k = min(k, int(np.count_nonzero(self._inverse_length)))
        if k == 0:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        of_entity, of_relation = self._entity_ND @ query, self._relation_RD @ query
        rough = of_entity[self._head]
        rough += of_relation[self._relation]
        rough += of_entity[self._tail]
        rough *= self._inverse_length_32
        rough[self._inverse_length_32 == 0] = -np.inf
        kth = np.partition(rough, len(rough) - k)[len(rough) - k]
        candidates = np.flatnonzero(np.add(rough, self._slack, out=rough) >= kth)
        exact = self.scores(query_D, candidates)
        order = np.argsort(-exact, kind="stable")[:k]
        return candidates[order], exact[order].astype(np.float32)

    def scores(self, query_D: Floats, rows: Ints) -> Doubles:
        """Cosine of some triples with a query; see :class:`TripleIndex`."""
        query = usable_queries(query_D[None], 1, self.dimension)[0].astype(np.float64)
        found = np.einsum("nd,d->n", self._sums(rows), query) * self._inverse_length[rows]
        return np.where(self._inverse_length[rows] > 0, found, -np.inf)

    def _sums(self, rows: Ints) -> Doubles:
        head, relation, tail = self.triples[rows].T
        entity = self._entity_ND
        total: Doubles = entity[head].astype(np.float64) + self._relation_RD[relation] + entity[tail]
        return total


def _digest(kind: str, *arrays: NDArray[np.generic]) -> str:
    return digest([kind, *([str(a.shape), str(a.dtype), _bytes_digest(a)] for a in arrays)])


def _bytes_digest(array: NDArray[np.generic]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
