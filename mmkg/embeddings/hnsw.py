"""Search by an HNSW index of usearch: for more rows than a scan is quick enough for, and nearly all of the nearest.

The index keeps numbers of 16 bits and finds more candidates than are asked for; these are scored by the rows
themselves. It lies beside the vectors and names the digest of what it was made of.

Source: Malkov and Yashunin, 2018, arXiv:1603.09320.
"""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmkg.embeddings.nearest import ExactIndex, Rows, rank, usable_queries
from mmkg.errors import EmbeddingError, require
from mmkg.shards import PARTIAL_SUFFIX, file_sha256, write_json
from mmkg.shards.files import commit

usearch_index = require("usearch.index", extra="images", needed_by="search by an index")

logger = logging.getLogger(__name__)

_CONNECTIVITY = 24
_EXPANSION_ADD = 160
_EXPANSION_SEARCH = 160
_CANDIDATES = 3  # for each that is asked for


class HnswIndex:
    """Approximate search; a search among some rows only scans those.

    Use `HnswIndex.build` or `HnswIndex.load`.
    """

    def __init__(self, exact: ExactIndex, graph: Any) -> None:
        self._exact = exact
        self._graph = graph

    @classmethod
    def build(cls, matrix: npt.NDArray[np.floating]) -> "HnswIndex":
        """Index the rows of a matrix (n, d); of zeros none.

        Raises:
            EmbeddingError: it has another shape, or a row that is not finite.
        """
        exact = ExactIndex(matrix)
        graph = _empty_graph(exact.matrix.shape[1])
        places = np.flatnonzero(exact.there)
        graph.add(places.astype(np.uint64), exact.matrix[places])
        return cls(exact, graph)

    def save(self, path: Path, made_of: str) -> None:
        """Write the index, and beside it what it was made of, whole or not at all.

        Args:
            path: such as ``…/image.usearch``.
            made_of: digest of the vectors.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + PARTIAL_SUFFIX)
        self._graph.save(str(partial))
        told = {"made_of": made_of, "sha256": file_sha256(partial), **_shape(self._exact)}
        _told_path(path).unlink(missing_ok=True)
        commit(partial, path)
        write_json(_told_path(path), told)  # last: without it there is no index

    @classmethod
    def load(cls, path: Path, matrix: npt.NDArray[np.floating], made_of: str) -> "HnswIndex":
        """Read an index back.

        Args:
            path: as it was saved.
            matrix: the rows that it was made of.
            made_of: digest of the vectors.

        Raises:
            EmbeddingError: there is none, it is not whole, or it was made of other vectors.
        """
        exact = ExactIndex(matrix)
        try:
            told = json.loads(_told_path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise EmbeddingError(f"{path}: no index here, or not a whole one ({error}). Build it again.") from error
        if told.get("made_of") != made_of or {key: told.get(key) for key in _shape(exact)} != _shape(exact):
            raise EmbeddingError(
                f"{path}: an index of other vectors ({told.get('made_of')}, not {made_of}). Build it again."
            )
        if not path.is_file() or file_sha256(path) != told["sha256"]:
            raise EmbeddingError(f"{path}: not as it was written. Build it again.")
        graph = _empty_graph(exact.matrix.shape[1])
        graph.load(str(path))
        return cls(exact, graph)

    def search(
        self, queries: npt.NDArray[np.float32], k: int, rows: Rows = None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Nearly the k rows nearest to each query, see :class:`mmkg.embeddings.nearest.Index`."""
        matrix = self._exact.matrix
        queries = usable_queries(queries, k, matrix.shape[1])
        if rows is not None or _CANDIDATES * k >= len(self._graph):
            return self._exact.search(queries, k, rows)
        places = np.empty((len(queries), k), np.int64)
        scores = np.empty((len(queries), k), np.float32)
        for place, query in enumerate(queries):
            found = np.sort(self._graph.search(query, _CANDIDATES * k).keys.astype(np.int64))
            if len(found) < k:  # parts of the graph that hang together loosely
                found_places, found_scores = self._exact.search(query[None], k)
                places[place], scores[place] = found_places[0], found_scores[0]
            else:
                places[place], scores[place] = rank(matrix, query, found, k)
        return places, scores


def open_index(path: Path, matrix: npt.NDArray[np.floating], made_of: str) -> HnswIndex:
    """The index that lies at a path if it was made of these vectors, else a new one, which then lies there.

    Args:
        path: such as ``…/image.usearch``.
        matrix: rows (n, d).
        made_of: digest of the vectors.

    Raises:
        EmbeddingError: the matrix cannot be searched.
    """
    if path.exists():
        try:
            return HnswIndex.load(path, matrix, made_of)
        except EmbeddingError as error:
            logger.info("%s", error)
    index = HnswIndex.build(matrix)
    index.save(path, made_of)
    return index


def _empty_graph(dimension: int) -> Any:
    return usearch_index.Index(
        ndim=dimension,
        metric="ip",  # of rows of length 1: the cosine
        dtype="f16",
        connectivity=_CONNECTIVITY,
        expansion_add=_EXPANSION_ADD,
        expansion_search=_EXPANSION_SEARCH,
    )


def _shape(exact: ExactIndex) -> dict[str, int]:
    return {"rows": exact.matrix.shape[0], "dimension": exact.matrix.shape[1]}


def _told_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")
