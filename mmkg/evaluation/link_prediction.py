"""How well a model puts true triples before made-up ones: filtered ranks, in memory that is the same for any graph.

Of each test triple (h, r, t) two questions are asked, ``(h, r, ?)`` and ``(?, r, t)``. The rank of the true answer
among all entities is taken after every *other* answer known to be true (in train, valid or test) was put aside
("filtered", Bordes et al., NIPS 2013). Among equal scores the true answer stands in the middle ("realistic": the mean
of the optimistic and the pessimistic rank; Berrendorf et al., arXiv:2002.06914), so that a model that gives every
entity one score ranks like chance, not like a winner.

Scores are asked for in blocks of queries × candidates and only counted, never kept. Numbers and intervals made from
ranks are in :mod:`mmkg.evaluation.metrics`.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from mmkg.errors import ConfigError, TrainingError

logger = logging.getLogger(__name__)

Int64Array = np.ndarray[Any, np.dtype[np.int64]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]

DIRECTIONS = ("tail", "head")
SCORES_AT_ONCE = 2**23  # 32 MiB of float32, and as much again for comparisons
CANDIDATES_AT_ONCE = 2**14


class CandidateScorer(Protocol):
    """What is evaluated: anything that scores a run of entities as tails of queries."""

    @property
    def num_entities(self) -> int:
        """N; entities are 0 … N - 1."""

    @property
    def num_relations(self) -> int:
        """R; relations are 0 … R - 1, and r + R is the inverse of r."""

    def score(self, query_B2: Tensor, start: int, stop: int) -> Tensor:
        """Return a new tensor (B, stop - start): the scores of entities start … stop - 1 as tails of queries (h, r)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranks:
    """Ranks of T triples in both directions; column 0 is the tail's rank, column 1 the head's, from 1.

    Attributes:
        triples: (T, 3) head, relation, tail.
        optimistic: (T, 2) 1 + how many other candidates score higher.
        pessimistic: (T, 2) the same, plus how many score the same.
        num_candidates: (T, 2) how many entities were ranked, the true one among them.
    """

    triples: Int64Array
    optimistic: Int64Array
    pessimistic: Int64Array
    num_candidates: Int64Array

    @property
    def realistic(self) -> FloatArray:
        """(T, 2) the mean of optimistic and pessimistic."""
        return (self.optimistic + self.pessimistic) / 2


class KnownTails:
    """All known tails of each query (h, r), inverse queries included; looked up for many queries at once."""

    def __init__(self, triples: Int64Array, *, num_relations: int) -> None:
        """Sort the known triples, of shape (T, 3), once; repeated triples count once."""
        self._num_relations = num_relations
        both = with_inverse_triples(triples, num_relations)
        key = both[:, 0] * (2 * num_relations) + both[:, 1]
        order = np.lexsort((both[:, 2], key))
        key, tail = key[order], both[order, 2]
        new = np.ones(len(key), dtype=np.bool_)
        new[1:] = (key[1:] != key[:-1]) | (tail[1:] != tail[:-1])
        self._key, self._tail = key[new], tail[new]

    def of(self, query_B2: Int64Array) -> tuple[Int64Array, Int64Array]:
        """Return (row, tail) pairs: each known tail of query ``row``, rows ascending, tails ascending in a row."""
        key = query_B2[:, 0] * (2 * self._num_relations) + query_B2[:, 1]
        first = np.searchsorted(self._key, key, side="left")
        count = np.searchsorted(self._key, key, side="right") - first
        row = np.repeat(np.arange(len(key), dtype=np.int64), count)
        start_of_row = np.cumsum(count) - count
        place = np.arange(len(row), dtype=np.int64) - start_of_row[row] + first[row]
        return row, self._tail[place]


def with_inverse_triples(triples: Int64Array, num_relations: int) -> Int64Array:
    """Return (2T, 3): the triples, then (t, r + R, h) of each."""
    inverse = np.stack([triples[:, 2], triples[:, 1] + num_relations, triples[:, 0]], axis=1)
    return np.concatenate([triples, inverse])


def rank_triples(
    scorer: CandidateScorer,
    triples: Int64Array,
    known: KnownTails,
    *,
    scores_at_once: int = SCORES_AT_ONCE,
    candidates_at_once: int = CANDIDATES_AT_ONCE,
    progress: Callable[[int, int], None] | None = None,
) -> Ranks:
    """Rank the true tail and the true head of each triple among all entities, filtered.

    Args:
        scorer: the model.
        triples: (T, 3) head, relation, tail.
        known: every triple that must not count as a mistake; the ranked ones may be among them or not.
        scores_at_once: how many scores are held at a time; memory is about 5 bytes for each.
        candidates_at_once: how many entities are scored at a time.
        progress: called with (queries done, queries in all) after each chunk of queries.

    Raises:
        ConfigError: ``triples`` is not (T, 3), or names an entity or relation that the scorer does not have.
        TrainingError: a score is NaN, so nothing can be ranked.
    """
    _check_triples(triples, scorer)
    both = with_inverse_triples(np.ascontiguousarray(triples, dtype=np.int64), scorer.num_relations)
    num_queries = len(both)
    counts = np.zeros((num_queries, 3), dtype=np.int64)  # higher, equal, put aside
    chunk = max(1, scores_at_once // max(1, min(candidates_at_once, scorer.num_entities)))
    for start in range(0, num_queries, chunk):
        part = both[start : start + chunk]
        counts[start : start + chunk] = _count(scorer, part, known, candidates_at_once)
        if progress is not None:
            progress(min(start + chunk, num_queries), num_queries)
    higher, equal, aside = (column.reshape(2, -1).T for column in counts.T)
    return Ranks(
        triples=both[: len(triples)],
        optimistic=1 + higher,
        pessimistic=1 + higher + equal,
        num_candidates=scorer.num_entities - aside,
    )


@torch.no_grad()
def _count(scorer: CandidateScorer, part: Int64Array, known: KnownTails, candidates_at_once: int) -> Int64Array:
    """Return (B, 3): entities that score above the true tail, the same as it, and how many were put aside."""
    query_B2 = torch.from_numpy(np.ascontiguousarray(part[:, :2]))
    tail_B = torch.from_numpy(np.ascontiguousarray(part[:, 2]))
    row, tail = known.of(part[:, :2])
    other = tail != part[row, 2]
    row, tail = row[other], tail[other]
    chunks = list(_chunks(scorer.num_entities, candidates_at_once))
    whole = scorer.score(query_B2, *chunks[0]) if len(chunks) == 1 else None
    true_B = (
        whole.gather(1, tail_B[:, None].to(whole.device))[:, 0]
        if whole is not None
        else _true_scores(scorer, query_B2, tail_B, chunks)
    )
    if not torch.isfinite(true_B).all():
        raise TrainingError("the model gave a true triple a score that is not a finite number: training has diverged")
    higher_B = torch.zeros(len(part), dtype=torch.int64, device=true_B.device)
    equal_B = torch.zeros_like(higher_B)
    for start, stop in chunks:
        score_BK = whole if whole is not None else scorer.score(query_B2, start, stop)
        if torch.isnan(score_BK.sum()):
            _check_nan(score_BK)
        here = (tail >= start) & (tail < stop)
        _put_aside(score_BK, row[here], tail[here] - start)
        mine = (part[:, 2] >= start) & (part[:, 2] < stop)
        _put_aside(score_BK, np.flatnonzero(mine), part[mine, 2] - start)
        higher_B += torch.count_nonzero(score_BK > true_B[:, None], dim=1)
        equal_B += torch.count_nonzero(score_BK == true_B[:, None], dim=1)
    aside = np.bincount(row, minlength=len(part))
    return np.stack([higher_B.cpu().numpy(), equal_B.cpu().numpy(), aside], axis=1)


def _true_scores(scorer: CandidateScorer, query_B2: Tensor, tail_B: Tensor, chunks: list[tuple[int, int]]) -> Tensor:
    """Return (B,): each query's score of its true tail, out of the same chunk of candidates that ranks it.

    A product of the same rows in a block of another shape may end in another last digit, and ties would be lost.
    """
    true_B: Tensor | None = None
    for start, stop in chunks:
        mine = torch.nonzero((tail_B >= start) & (tail_B < stop))[:, 0]
        if not len(mine):
            continue
        score_BK = scorer.score(query_B2[mine], start, stop)
        if true_B is None:
            true_B = score_BK.new_empty(len(tail_B))
        column = (tail_B[mine] - start).to(score_BK.device)
        true_B[mine.to(score_BK.device)] = score_BK.gather(1, column[:, None])[:, 0]
    if true_B is None:
        raise ConfigError("no query has its tail among the entities")
    return true_B


def _put_aside(score_BK: Tensor, row: Int64Array, column: Int64Array) -> None:
    device = score_BK.device
    score_BK[torch.from_numpy(row).to(device), torch.from_numpy(column).to(device)] = -torch.inf


def _check_nan(score_BK: Tensor) -> None:
    # inf - inf in the sum is NaN too, and harmless
    if torch.isnan(score_BK).any():
        raise TrainingError("the model gave a score that is not a number: training has diverged")


def _chunks(num_entities: int, candidates_at_once: int) -> Iterator[tuple[int, int]]:
    for start in range(0, num_entities, candidates_at_once):
        yield start, min(start + candidates_at_once, num_entities)


def _check_triples(triples: Int64Array, scorer: CandidateScorer) -> None:
    if triples.ndim != 2 or triples.shape[1] != 3 or not len(triples):
        raise ConfigError(f"triples to rank must be of shape (T, 3) with T at least 1, found {triples.shape}")
    entities, relations = triples[:, [0, 2]], triples[:, 1]
    if entities.min() < 0 or entities.max() >= scorer.num_entities:
        raise ConfigError(
            f"a triple names entity {entities.max() if entities.min() >= 0 else entities.min()}, "
            f"but the model has entities 0 to {scorer.num_entities - 1}; evaluate on the tables it was trained on"
        )
    if relations.min() < 0 or relations.max() >= scorer.num_relations:
        raise ConfigError(
            f"a triple names relation {relations.max() if relations.min() >= 0 else relations.min()}, "
            f"but the model has relations 0 to {scorer.num_relations - 1}; evaluate on the tables it was trained on"
        )
