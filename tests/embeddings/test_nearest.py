"""Search: equal to brute force, ties by place, filters, and an index whose recall is measured."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mmkg.embeddings import build_index, measure_recall
from mmkg.embeddings import nearest as nearest_module
from mmkg.embeddings.hnsw import HnswIndex, open_index
from mmkg.embeddings.nearest import ExactIndex
from mmkg.errors import EmbeddingError


def brute_force(matrix: npt.NDArray, query: npt.NDArray, k: int, allowed: npt.NDArray) -> list[int]:
    """Places by float64 cosine, of equals the first; rows of zeros are not there."""
    rows, query = matrix.astype(np.float64), query.astype(np.float64)
    scored = [
        (-float(np.float32(rows[place] @ query / (np.linalg.norm(rows[place]) * np.linalg.norm(query)))), place)
        for place in range(len(rows))
        if allowed[place] and rows[place].any()
    ]
    return [place for _, place in sorted(scored)[:k]]


def clustered(count: int, dimension: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Rows around some centres, as embeddings of pictures are."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((30, dimension))
    return (centres[rng.integers(0, 30, count)] + 0.7 * rng.standard_normal((count, dimension))).astype(np.float32)


# small whole numbers: many rows are equal, opposite, or zero, and cosines are exactly equal or clearly apart
ROWS = arrays(np.float32, st.tuples(st.integers(1, 40), st.just(3)), elements=st.integers(-2, 2).map(float))


@given(
    matrix=ROWS,
    query=arrays(np.float32, 3, elements=st.integers(1, 3).map(float)),
    k=st.integers(1, 50),
    data=st.data(),
)
def test_a_scan_finds_what_brute_force_finds(matrix, query, k: int, data) -> None:
    allowed = data.draw(arrays(np.bool_, len(matrix)))
    for rows, mask in ((None, np.ones(len(matrix), np.bool_)), (allowed, allowed), (np.flatnonzero(allowed), allowed)):
        places, scores = ExactIndex(matrix).search(query[None], k, rows)
        expected = brute_force(matrix, query, k, mask)
        unit = matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-9)
        np.testing.assert_allclose(scores[0], unit[expected] @ query / np.linalg.norm(query), atol=1e-6)
        assert len(set(places[0].tolist())) == len(expected)
        assert (np.diff(scores[0]) <= 0).all()


@pytest.mark.parametrize("dimension", [1, 7, 64, 512])
def test_ranks_are_those_of_brute_force(dimension: int) -> None:
    rng = np.random.default_rng(dimension)
    matrix = rng.standard_normal((700, dimension)).astype(np.float32)
    queries = rng.standard_normal((9, dimension)).astype(np.float32)
    index = ExactIndex(matrix)
    places, scores = index.search(queries, 25)
    exact = index.matrix.astype(np.float64) @ (queries / np.linalg.norm(queries, axis=1, keepdims=True)).T
    for query in range(9):
        order = np.argsort(-exact[:, query], kind="stable")[:25]
        np.testing.assert_allclose(scores[query], exact[order, query], atol=1e-6)
        if dimension > 1:
            assert places[query].tolist() == order.tolist()


@pytest.mark.parametrize("count", [8, 9, 37, 4099])
def test_equal_rows_are_found_in_order_of_place_wherever_they_stand(count: int) -> None:
    """A product of matrices sums the last rows of a block in another order than the others."""
    rng = np.random.default_rng(count)
    matrix = np.tile(rng.standard_normal((1, 333)).astype(np.float32), (count, 1))
    matrix[3] *= 2  # the same direction
    matrix[2] = rng.standard_normal(333)
    places, scores = ExactIndex(matrix).search(matrix[:1], 7)
    assert places[0].tolist() == [0, 1, 3, 4, 5, 6, 7]
    assert len(set(scores[0].tolist())) == 1


def test_queries_in_blocks_are_queries_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix, queries = clustered(300, 16), clustered(20, 16, seed=1)
    whole = ExactIndex(matrix).search(queries, 5)
    monkeypatch.setattr(nearest_module, "_SCORES_AT_ONCE", 900)  # three queries
    monkeypatch.setattr(nearest_module, "_ROWS_AT_ONCE", 2)
    blocks = ExactIndex(matrix).search(queries, 5)
    assert np.array_equal(whole[0], blocks[0])
    np.testing.assert_allclose(whole[1], blocks[1], atol=1e-7)


@pytest.mark.parametrize("share", [0.02, 0.9], ids=["few rows", "most rows"])
def test_only_rows_that_are_asked_for_are_found(share: float) -> None:
    matrix, queries = clustered(500, 16), clustered(4, 16, seed=1)
    mask = np.random.default_rng(0).random(500) < share
    mask[:3] = True
    for rows in (mask, np.flatnonzero(mask), np.flatnonzero(mask).tolist()):
        places, _ = ExactIndex(matrix).search(queries, 6, rows)
        for query, found in zip(queries, places, strict=True):
            assert found.tolist() == brute_force(matrix, query, 6, mask)


def test_a_missing_vector_is_never_found_and_k_is_cut_to_what_there_is() -> None:
    matrix = np.array([[1, 0], [0, 0], [-1, 0]], np.float32)
    places, scores = ExactIndex(matrix).search(np.array([[1, 0]], np.float32), 10)
    assert places.tolist() == [[0, 2]]
    assert scores.tolist() == [[1, -1]]
    for rows in ([1], [], np.zeros(3, np.bool_)):
        assert ExactIndex(matrix).search(np.array([[1, 0]], np.float32), 2, rows)[0].shape == (1, 0)
    assert ExactIndex(matrix).search(np.empty((0, 2), np.float32), 2)[0].shape == (0, 2)
    assert ExactIndex(np.empty((0, 2), np.float32)).search(np.array([[1, 0]], np.float32), 2)[0].shape == (1, 0)


def test_rows_of_half_precision_and_of_any_length_are_searched_by_cosine() -> None:
    matrix = np.array([[10, 0], [0.1, 0.1], [0, 3]], np.float16)
    places, scores = ExactIndex(matrix).search(np.array([[2, 1]], np.float32), 3)
    assert places.tolist() == [[1, 0, 2]]
    np.testing.assert_allclose(scores[0], np.array([3 / np.sqrt(2), 2, 1]) / np.sqrt(5), rtol=1e-6)


@pytest.mark.parametrize("kind", ["exact", "usearch"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_refused(kind, bad: float) -> None:
    matrix = clustered(50, 4)
    matrix[7, 2] = bad
    with pytest.raises(EmbeddingError, match="1 are not finite, the first at place 7"):
        build_index(matrix, kind)


@pytest.mark.parametrize("kind", ["exact", "usearch"])
@pytest.mark.parametrize(
    ("queries", "k", "rows", "says"),
    [
        (np.ones((1, 4)), 0, None, "k: expected 1 or more"),
        (np.ones((1, 5)), 1, None, r"expected shape \(m, 4\), found \(1, 5\)"),
        (np.ones(4), 1, None, "expected shape"),
        (np.zeros((1, 4)), 1, None, "at place 0 has length 0"),
        (np.full((1, 4), np.nan), 1, None, "not finite"),
        (np.ones((1, 4)), 1, [50], "expected places from 0 to 49"),
        (np.ones((1, 4)), 1, [-1], "expected places from 0 to 49"),
        (np.ones((1, 4)), 1, np.ones(49, np.bool_), r"expected a mask of shape \(50,\)"),
    ],
)
def test_queries_that_cannot_be_answered_are_refused(kind, queries, k: int, rows, says: str) -> None:
    with pytest.raises(EmbeddingError, match=says):
        build_index(clustered(50, 4), kind).search(queries.astype(np.float32), k, rows)


def test_rows_that_are_no_matrix_are_refused() -> None:
    with pytest.raises(EmbeddingError, match=r"expected shape \(n, d\)"):
        build_index(np.ones(4, np.float32))


def test_an_index_is_chosen_beyond_a_million_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(build_index(clustered(30, 4)), ExactIndex)
    monkeypatch.setattr(nearest_module, "MAX_EXACT_ROWS", 29)
    assert isinstance(build_index(clustered(30, 4)), HnswIndex)
    assert isinstance(build_index(clustered(30, 4), "exact"), ExactIndex)


def test_the_index_finds_nearly_all_of_the_nearest_and_scores_them_exactly() -> None:
    matrix, queries = clustered(3000, 32), clustered(40, 32, seed=1)
    matrix[17] = 0
    index = build_index(matrix, "usearch")
    assert measure_recall(index, matrix, queries, k=10) > 0.95
    places, scores = index.search(queries, 10)
    unit = matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-9)
    expected = np.einsum("mkd,md->mk", unit[places], queries / np.linalg.norm(queries, axis=1, keepdims=True))
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert (np.diff(scores, axis=1) <= 0).all()
    assert 17 not in places


def test_a_filtered_search_by_the_index_is_exact() -> None:
    matrix, queries = clustered(2000, 16), clustered(5, 16, seed=1)
    allowed = np.arange(0, 2000, 7)
    found = build_index(matrix, "usearch").search(queries, 8, allowed)
    expected = ExactIndex(matrix).search(queries, 8, allowed)
    assert np.array_equal(found[0], expected[0])
    assert build_index(matrix[:20], "usearch").search(queries, 30)[0].shape == (5, 20)


def test_recall_is_the_share_of_the_exact_nearest() -> None:
    matrix = np.eye(4, dtype=np.float32)

    class Half:
        def search(self, queries, k, rows=None):
            return np.array([[0, 3], [1, 3]]), np.zeros((2, 2), np.float32)

    queries = np.array([[2, 1, 0, 0], [0, 2, 0, 1]], np.float32)  # nearest: 0, 1 and 1, 3
    assert measure_recall(Half(), matrix, queries, k=2) == 0.75
    assert measure_recall(ExactIndex(matrix), matrix, queries, k=2) == 1


def test_a_saved_index_answers_as_before(tmp_path: Path) -> None:
    matrix, queries = clustered(1500, 16), clustered(5, 16, seed=1)
    index = HnswIndex.build(matrix)
    index.save(tmp_path / "search" / "image.usearch", "digest")
    assert {path.name for path in (tmp_path / "search").iterdir()} == {"image.usearch", "image.usearch.json"}
    back = HnswIndex.load(tmp_path / "search" / "image.usearch", matrix, "digest")
    assert np.array_equal(back.search(queries, 10)[0], index.search(queries, 10)[0])


def _forget(path: Path) -> None:
    path.with_name(path.name + ".json").unlink()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _name_others(path: Path) -> None:
    told = path.with_name(path.name + ".json")
    told.write_text(json.dumps({**json.loads(told.read_text()), "made_of": "others"}))


@pytest.mark.parametrize(
    ("harm", "says"),
    [(_forget, "no index here"), (_cut, "not as it was written"), (_name_others, "an index of other vectors")],
)
def test_an_index_that_is_not_of_these_vectors_is_refused_and_made_anew(tmp_path: Path, harm, says: str) -> None:
    matrix, path = clustered(200, 8), tmp_path / "text.usearch"
    open_index(path, matrix, "digest")
    harm(path)
    with pytest.raises(EmbeddingError, match=says):
        HnswIndex.load(path, matrix, "digest")
    open_index(path, matrix, "digest")
    HnswIndex.load(path, matrix, "digest")
    with pytest.raises(EmbeddingError, match="of other vectors"):
        HnswIndex.load(path, matrix[:100], "digest")
