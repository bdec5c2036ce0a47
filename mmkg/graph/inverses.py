"""Which relation states the same facts backwards: found in a sample, decided on all pairs.

A relation `q` is the inverse of `r` if at least :data:`INVERSE_SHARE` of the pairs of each, read backwards, are pairs
of the other. A symmetric relation (``spouse``) is its own inverse. The share is that by which Toutanova and Chen made
FB15k-237 out of FB15k (Observed versus latent features for knowledge base and text inference, CVSC 2015): 97 %.

Joining all triples with themselves would cost more than the rest of the build. So a pair of entities is kept in the
sample if a hash of the two, without regard to order, falls below the relation's threshold; a pair and its reverse are
kept or left together, so two relations that share most pairs share most of their sample. Relations of up to
:data:`SAMPLE_PAIRS` pairs are kept whole. Candidates are then counted exactly.
"""

from dataclasses import dataclass, field
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa

from mmkg.graph.workspace import Workspace

INVERSE_SHARE = 0.97
SAMPLE_PAIRS = 512
# A candidate shares so much of the sample. For a true share of 0.97 and 512 pairs, missing it is a 1e-30 chance.
_CANDIDATE_SHARE = 0.8


def _hash_pairs(head: np.ndarray, tail: np.ndarray) -> np.ndarray:
    """A 64-bit hash of two integers whatever their order (SplitMix64's finaliser, Steele et al. 2014)."""
    low, high = np.minimum(head, tail).astype(np.uint64), np.maximum(head, tail).astype(np.uint64)
    mixed = low * np.uint64(0x9E3779B97F4A7C15) + high * np.uint64(0xD1B54A32D192ED03)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@dataclass
class PairSample:
    """Collects the sample while the triples pass by.

    Args:
        rows: how many triples each relation has, at least; repetitions may be counted.
    """

    rows: np.ndarray
    thresholds: np.ndarray = field(init=False)
    _kept: list[np.ndarray] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        """Set each relation's threshold so that about SAMPLE_PAIRS of its pairs fall below it."""
        share = np.minimum(1.0, SAMPLE_PAIRS / np.maximum(self.rows, 1))
        self.thresholds = np.where(share >= 1.0, np.uint64(2**64 - 1), (share * 2.0**63).astype(np.uint64) * 2)

    def add(self, head: np.ndarray, relation: np.ndarray, tail: np.ndarray) -> None:
        """Offer triples to the sample."""
        keep = _hash_pairs(head, tail) <= self.thresholds[relation]
        self._kept.append(np.stack([head[keep], relation[keep], tail[keep]]))

    def candidates(self) -> list[tuple[int, int]]:
        """Pairs of relations (smaller index first, or twice the same) that seem to be inverses of each other."""
        if not self._kept:
            return []
        head, relation, tail = np.concatenate(self._kept, axis=1)
        order = np.lexsort((tail, head))
        head, relation, tail = head[order], relation[order], tail[order]
        # Each row's reversed pair is a range of the sorted rows; where both ways are there, compare relations.
        step = int(max(head.max(initial=0), tail.max(initial=0))) + 1  # squared it fits: there are not 3e9 entities
        pair, turned = head * step + tail, tail * step + head
        first, last = np.searchsorted(pair, turned, "left"), np.searchsorted(pair, turned, "right")
        shared: dict[tuple[int, int], int] = {}
        for row in np.flatnonzero(last > first).tolist():
            r = int(relation[row])
            for q in relation[first[row] : last[row]].tolist():
                if r <= q:
                    shared[r, q] = shared.get((r, q), 0) + 1
        sizes = np.bincount(relation, minlength=len(self.rows))
        return sorted((r, q) for (r, q), count in shared.items() if count >= _CANDIDATE_SHARE * min(sizes[r], sizes[q]))


def count_shared(workspace: Workspace, folder: Path, candidates: list[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """Of each pair of relations: how many pairs of the first, read backwards, are pairs of the second. Exact."""
    pairs = workspace.put(
        "inverse_candidates",
        pa.table({"first": [r for r, _ in candidates], "second": [q for _, q in candidates]}),
    )
    triples = workspace.read([folder], "triples")
    forward = triples.select(h="head_index", first="relation_index", t="tail_index").join(pairs, "first")
    backward = triples.select(t="head_index", second="relation_index", h="tail_index")
    both = forward.join(backward, ["h", "second", "t"])
    counted = workspace.fetch(both.group_by("first", "second").agg(shared=ibis._.count()))
    workspace.drop("inverse_candidates")
    columns = (counted[name].to_pylist() for name in ("first", "second", "shared"))
    return {(r, q): shared for r, q, shared in zip(*columns, strict=True)}


def find_inverses(workspace: Workspace, folder: Path, sample: PairSample, counts: np.ndarray) -> list[int | None]:
    """The inverse of each relation, or None.

    Args:
        workspace: the engine that counts.
        folder: holds the written table `triples`.
        sample: what passed by while it was written.
        counts: triples of each relation.
    """
    inverses: list[int | None] = [None] * len(counts)
    candidates = sample.candidates()
    if not candidates:
        return inverses
    shares: dict[int, list[tuple[float, int]]] = {}
    for (r, q), shared in count_shared(workspace, folder, candidates).items():
        share = shared / max(int(counts[r]), int(counts[q]))
        if share >= INVERSE_SHARE:
            shares.setdefault(r, []).append((-share, q))
            shares.setdefault(q, []).append((-share, r))
    for r, found in shares.items():
        inverses[r] = min(found)[1]
    return inverses
