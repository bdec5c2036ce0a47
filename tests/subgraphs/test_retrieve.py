"""Retrieval of triples: exact, two-step, the same every time, and never asked for twice."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmkg.errors import EmbeddingError, MmkgError
from mmkg.subgraphs import Adjacency
from mmkg.subgraphs.retrieve import RetrievalCache, RetrievalConfig, mean_query, retrieve
from mmkg.subgraphs.triple_index import ComposedIndex, LinearisedIndex

WIDTH = 6


def made_graph(seed: int, num_entities: int = 30, num_triples: int = 80):
    """Sorted triples, vectors of entities and relations (one entity and one relation without), and the adjacency."""
    rng = np.random.default_rng(seed)
    triples = np.unique(
        np.stack([rng.integers(0, num_entities, num_triples), rng.integers(0, 4, num_triples),
                  rng.integers(0, num_entities, num_triples)], axis=1), axis=0)  # fmt: skip
    entity = rng.normal(size=(num_entities, WIDTH)).astype(np.float32)
    relation = rng.normal(size=(4, WIDTH)).astype(np.float32)
    entity[0], relation[3] = 0, 0
    adjacency = Adjacency.from_triples(*triples.T, num_entities=num_entities)
    return triples, entity, relation, adjacency, rng.normal(size=WIDTH).astype(np.float32)


def unit(rows):
    length = np.linalg.norm(rows.astype(np.float64), axis=-1, keepdims=True)
    return np.divide(rows, length, out=np.zeros(rows.shape), where=length > 0)


def brute_force(triples, entity, relation, query):
    """Cosine with every triple's h + r + t, in float64."""
    sums = unit(entity)[triples[:, 0]] + unit(relation)[triples[:, 1]] + unit(entity)[triples[:, 2]]
    return unit(sums) @ unit(query)


@pytest.mark.capability("MR-06")
@given(st.integers(0, 10_000), st.integers(1, 100))
@example(27, 28)  # these two hold a triple without any vector, which is never found
@example(68, 48)
def test_the_nearest_triples_are_those_of_brute_force(seed, k):
    triples, entity, relation, _, query = made_graph(seed)
    cosine = brute_force(triples, entity, relation, query)
    rows = unit(entity)[triples[:, 0]] + unit(relation)[triples[:, 1]] + unit(entity)[triples[:, 2]]
    best = np.sort(cosine[rows.any(axis=1)])[::-1][:k]
    for index in (
        ComposedIndex(triples, entity, relation),
        LinearisedIndex(triples, rows.astype(np.float32)),
    ):
        found, scores = index.search(query, k)
        assert len(found) == len(best)
        assert np.allclose(scores, best, atol=1e-5)
        assert np.allclose(cosine[found], scores, atol=1e-5)


@pytest.mark.capability("MR-06")
def test_a_query_is_a_text_a_picture_or_both():
    text, picture = np.array([3.0, 0, 0], np.float32), np.array([0, 0.5, 0], np.float32)
    assert np.allclose(mean_query([text]), [1, 0, 0])
    assert np.allclose(mean_query([text, picture]), [1, 1, 0])  # each counts the same, however long
    with pytest.raises(MmkgError, match="found neither"):
        mean_query([])
    with pytest.raises(MmkgError, match="cancel out"):
        mean_query([text, -text])


@pytest.mark.capability("MR-06")
def test_equal_triples_come_in_the_order_of_the_table_and_one_without_vector_never():
    triples = np.array([[1, 0, 2], [1, 0, 2], [0, 1, 0], [1, 0, 2]])
    entity = np.array([[0, 0], [1, 0], [1, 0]], np.float32)
    index = ComposedIndex(triples, entity, np.zeros((2, 2), np.float32))
    assert index.search(np.array([1, 0], np.float32), 10)[0].tolist() == [0, 1, 3]
    with pytest.raises(EmbeddingError, match="length 0"):
        index.search(np.zeros(2, np.float32), 1)


@pytest.mark.capability("MR-07", "MR-P1")
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 12), st.integers(0, 2))
def test_nearest_their_entities_one_hop_further_and_the_best_of_it(seed, n, most, hops):
    triples, entity, relation, adjacency, query = made_graph(seed)
    index = ComposedIndex(triples, entity, relation)
    found = retrieve(index, adjacency, query, RetrievalConfig(num_nearest=n, num_triples=most, num_hops=hops))
    cosine = brute_force(triples, entity, relation, query)
    reached = set(triples[index.search(query, n)[0]][:, [0, 2]].ravel().tolist())
    assert set(found.seeds.tolist()) == reached
    for _ in range(hops):
        near = [(h, t) for h, _, t in triples.tolist() if h in reached or t in reached]
        reached |= {end for pair in near for end in pair}
    pool = [row for row, (h, _, t) in enumerate(triples.tolist()) if h in reached and t in reached]
    assert found.pool_size == len(pool)
    assert len(found.rows) == min(most, len(pool))
    assert set(found.rows.tolist()) <= set(pool)
    assert np.allclose(np.sort(cosine[pool])[::-1][:most], cosine[found.rows], atol=1e-6)


@pytest.mark.capability("MR-08", "MR-P1")
def test_more_nearest_triples_never_make_the_pool_smaller_and_the_same_question_has_the_same_answer():
    triples, entity, relation, adjacency, query = made_graph(3)
    index = ComposedIndex(triples, entity, relation)
    sizes = []
    for n in range(1, 20):
        first, again = (
            retrieve(index, adjacency, query, RetrievalConfig(num_nearest=n, num_triples=5)) for _ in range(2)
        )
        assert first.rows.tolist() == again.rows.tolist()
        sizes.append(first.pool_size)
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


@pytest.mark.capability("MR-P8")
def test_triples_that_are_not_retrieved_change_nothing():
    triples, entity, relation, adjacency, query = made_graph(5)
    config = RetrievalConfig(num_nearest=2, num_triples=4, num_hops=0)
    before = triples[retrieve(ComposedIndex(triples, entity, relation), adjacency, query, config).rows]
    far = np.vstack([entity, -np.tile(query, (2, 1))])  # two entities on the other side of everything asked
    more = np.vstack([triples, [[30, 3, 31], [31, 3, 30]]])
    graph = Adjacency.from_triples(*more.T, num_entities=32)
    after = more[retrieve(ComposedIndex(more, far, relation), graph, query, config).rows]
    assert before.tolist() == after.tolist()


def test_known_entities_are_among_those_that_are_started_from():
    triples, entity, relation, adjacency, query = made_graph(7)
    index = ComposedIndex(triples, entity, relation)
    found = retrieve(index, adjacency, query, RetrievalConfig(num_nearest=1, num_triples=80), anchors=[29, 4])
    assert found.seeds[:2].tolist() == [29, 4]
    assert {4, 29} <= set(triples[found.rows][:, [0, 2]].ravel().tolist())


def test_an_empty_graph_gives_an_empty_answer_and_another_graph_is_refused():
    nothing = np.empty((0, 3), np.int64)
    index = ComposedIndex(nothing, np.ones((2, 3), np.float32), np.ones((1, 3), np.float32))
    found = retrieve(
        index, Adjacency.from_triples(*nothing.T, num_entities=2), np.ones(3, np.float32), RetrievalConfig()
    )
    assert len(found.rows) == found.pool_size == 0
    _, _, _, adjacency, _ = made_graph(1)
    with pytest.raises(MmkgError, match="not of one graph"):
        retrieve(index, adjacency, np.ones(3, np.float32), RetrievalConfig())


def test_a_cache_finds_what_was_retrieved_under_the_same_config_only(tmp_path):
    triples, entity, relation, adjacency, query = made_graph(9)
    index = ComposedIndex(triples, entity, relation)
    config = RetrievalConfig(num_nearest=3, num_triples=6)
    first = RetrievalCache(tmp_path, index, adjacency, config)
    found = first.retrieve(query)
    again = RetrievalCache(tmp_path, index, adjacency, config)
    kept = again.retrieve(query)
    assert (again.asked, again.found) == (1, 1)
    assert kept.rows.tolist() == found.rows.tolist()
    assert kept.scores.tolist() == found.scores.tolist()
    others = [
        RetrievalCache(tmp_path, index, adjacency, config.model_copy(update={name: value}))
        for name, value in {"num_nearest": 4, "num_triples": 7, "num_hops": 2, "max_neighbours": 5}.items()
    ]
    others.append(
        RetrievalCache(tmp_path, ComposedIndex(triples, 2 * entity[::-1].copy(), relation), adjacency, config)
    )
    for other in others:
        other.retrieve(query)
        assert other.found == 0
    assert len({cache.key(query) for cache in (first, *others)}) == 1 + len(others)
    assert first.key(query) != first.key(query, [1])


@given(st.integers(0, 10_000), st.sets(st.integers(0, 60), min_size=1, max_size=4), st.integers(0, 2))
def test_hidden_triples_are_as_if_they_had_never_been_there(seed, hidden, hops):
    triples, entity, relation, adjacency, query = made_graph(seed)
    config = RetrievalConfig(num_nearest=3, num_triples=8, num_hops=hops, max_neighbours=None)
    anchors = [5]
    found = retrieve(ComposedIndex(triples, entity, relation), adjacency, query, config, anchors, sorted(hidden))
    left = np.delete(triples, sorted(hidden), axis=0)
    bare = Adjacency.from_triples(*left.T, num_entities=len(entity))
    again = retrieve(ComposedIndex(left, entity, relation), bare, query, config, anchors)
    assert triples[found.rows].tolist() == left[again.rows].tolist()
    assert found.seeds.tolist() == again.seeds.tolist()
    assert found.pool_size == again.pool_size
