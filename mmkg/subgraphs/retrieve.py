r"""Retrieval of a sub-MMKG for a question: nearest triples, their entities, one hop further, and the best of all that.

1. The n triples nearest to the query; their entities are E'.
2. E' and what stands within `num_hops` of it: the pool.
3. Of the pool's triples the N nearest to the query are the answer.

Source: Lee et al., ACL 2024, arXiv:2406.02030, appendix A.6; N is 10 or 20 there, n is not given, one hop. Ours:
entities that are known beforehand (those that MARS asks about) can be put into E' (`anchors`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from mmkg.errors import MmkgError
from mmkg.shards import digest, write_json
from mmkg.subgraphs.adjacency import Adjacency
from mmkg.subgraphs.assemble import hops_from
from mmkg.subgraphs.expand import expand
from mmkg.subgraphs.triple_index import TripleIndex

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


class RetrievalConfig(BaseModel):
    """How a sub-MMKG is retrieved; all of it is in the key of the cache."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    num_nearest: int = Field(default=10, ge=1)
    """n: triples by cosine whose entities are E'. Our choice, the paper gives none."""
    num_triples: int = Field(default=20, ge=1)
    """N: triples of the answer. The paper tried 10 and 20."""
    num_hops: int = Field(default=1, ge=0)
    """Hops around E'; 1 in the paper."""
    max_neighbours: int | None = Field(default=1000, ge=1)
    """Edges followed at one entity, for hubs; None for all. Ours."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Retrieved:
    """What was found for a query.

    Attributes:
        rows: (≤ N,) rows of the index's triples, nearest first.
        scores: (≤ N,) float64, cosines with the query.
        seeds: E', anchors first, then by the nearest triple they stand in.
        pool_size: how many triples the N were chosen from.
    """

    rows: Ints
    scores: NDArray[np.float64]
    seeds: Ints
    pool_size: int


def retrieve(
    index: TripleIndex,
    adjacency: Adjacency,
    query_D: Floats,
    config: RetrievalConfig,
    anchors: Sequence[int] = (),
    hidden: Sequence[int] = (),
) -> Retrieved:
    """Retrieve the triples of one query.

    Args:
        index: over all triples of the graph, in the order of the adjacency.
        adjacency: of the same triples.
        query_D: the query's vector, of any length but 0.
        config: n, N and hops.
        anchors: entities that belong to E' in any case.
        hidden: rows of triples that are as if they were not there, such as those that say the answer to be learnt.

    Raises:
        MmkgError: index and adjacency are of different graphs.
        EmbeddingError: the query cannot be used.
    """
    if len(index.triples) != adjacency.num_triples:
        raise MmkgError(
            f"the index has {len(index.triples):,} triples and the adjacency {adjacency.num_triples:,}: "
            "they are not of one graph. Make the index from the build that is asked."
        )
    nearest = np.empty(0, np.int64)
    if len(index.triples):
        nearest, _ = index.search(query_D, config.num_nearest + len(hidden))
        nearest = nearest[~np.isin(nearest, hidden)][: config.num_nearest]
    ends = index.triples[nearest][:, [0, 2]].ravel()
    seeds = np.array(list(dict.fromkeys([*anchors, *ends.tolist()])), dtype=np.int64)
    around = expand(adjacency, seeds, num_hops=config.num_hops, max_neighbours=config.max_neighbours, induced=True)
    shown = ~np.isin(around.triple, hidden)
    # what was reached along a hidden triple alone is not reached
    hop = hops_from(len(seeds), around.num_nodes, around.src[shown], around.dst[shown])
    near = (hop >= 0) & (hop <= config.num_hops)
    pool = around.triple[shown & near[around.src] & near[around.dst]]
    pool = np.unique(np.concatenate([pool, nearest]))
    scores = index.scores(query_D, pool)
    pool, scores = pool[np.isfinite(scores)], scores[np.isfinite(scores)]
    order = np.argsort(-scores, kind="stable")[: config.num_triples]
    return Retrieved(rows=pool[order], scores=scores[order], seeds=seeds, pool_size=len(pool))


class RetrievalCache:
    """Keeps what was retrieved, under a key that holds graph, query, anchors and the whole config.

    Args:
        folder: holds a JSON file a query; None keeps in memory only.
        index: of the graph.
        adjacency: of the graph.
        config: of the retrieval.
    """

    def __init__(self, folder: Path | None, index: TripleIndex, adjacency: Adjacency, config: RetrievalConfig) -> None:
        self._folder, self._index, self._adjacency, self._config = folder, index, adjacency, config
        self._kept: dict[str, Retrieved] = {}
        self.asked, self.found = 0, 0

    def key(self, query_D: Floats, anchors: Sequence[int] = (), hidden: Sequence[int] = ()) -> str:
        """What a retrieval is kept under: 16 hex digits."""
        query = np.ascontiguousarray(query_D, np.float32).tobytes().hex()
        asked = [query, [int(anchor) for anchor in anchors], sorted(int(row) for row in hidden)]
        return digest([self._index.digest, self._config.model_dump(), asked])

    def retrieve(self, query_D: Floats, anchors: Sequence[int] = (), hidden: Sequence[int] = ()) -> Retrieved:
        """Retrieve, or find what was retrieved before; see :func:`retrieve`."""
        self.asked += 1
        key = self.key(query_D, anchors, hidden)
        if key not in self._kept:
            path = None if self._folder is None else self._folder / f"{key}.json"
            if path is not None and path.exists():
                self.found += 1
                self._kept[key] = _read(path)
            else:
                self._kept[key] = retrieve(self._index, self._adjacency, query_D, self._config, anchors, hidden)
                if path is not None:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    _write(path, self._kept[key])
        else:
            self.found += 1
        return self._kept[key]


def mean_query(vectors: Sequence[Floats]) -> Floats:
    """The query of several things, such as a question's text and its picture: the mean of their unit vectors.

    Raises:
        MmkgError: there is none, or they cancel out.
    """
    if not vectors:
        raise MmkgError("a query needs a text or a picture, found neither")
    total = np.sum([vector / max(float(np.linalg.norm(vector)), 1e-12) for vector in vectors], axis=0)
    if not np.linalg.norm(total) > 0:
        raise MmkgError("the vectors of a query cancel out, so that it has no direction")
    return np.asarray(total, np.float32)


def _write(path: Path, found: Retrieved) -> None:
    write_json(
        path,
        {
            "rows": found.rows.tolist(),
            "scores": found.scores.tolist(),
            "seeds": found.seeds.tolist(),
            "pool_size": found.pool_size,
        },
    )


def _read(path: Path) -> Retrieved:
    kept = json.loads(path.read_text(encoding="utf-8"))
    return Retrieved(
        rows=np.array(kept["rows"], dtype=np.int64),
        scores=np.array(kept["scores"], dtype=np.float64),
        seeds=np.array(kept["seeds"], dtype=np.int64),
        pool_size=kept["pool_size"],
    )
