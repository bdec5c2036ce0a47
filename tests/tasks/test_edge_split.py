"""Pairs of a graph without direction in three parts: none in two, the same for any order, a forest kept if asked."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkg.errors import ConfigError
from mmkg.tasks.edge_split import split_edges, undirected_pairs


def as_set(pairs):
    return set(map(tuple, pairs.tolist()))


def random_edges(num_nodes, num_edges, seed):
    return np.random.default_rng(seed).integers(0, num_nodes, size=(num_edges, 2))


def test_both_directions_and_repeated_edges_are_one_pair_and_self_loops_none():
    edges = np.array([[3, 1], [1, 3], [2, 2], [0, 4], [3, 1]])
    assert undirected_pairs(edges, 5).tolist() == [[0, 4], [1, 3]]
    assert undirected_pairs(np.zeros((0, 2), dtype=np.int64), 5).shape == (0, 2)
    assert undirected_pairs(np.array([[2, 2]]), 5).shape == (0, 2)


@settings(max_examples=20)
@given(st.integers(2, 12), st.integers(1, 40), st.integers(0, 5), st.booleans())
def test_the_three_parts_are_all_pairs_and_share_none(num_nodes, num_edges, seed, keep_spanning):
    edges = random_edges(num_nodes, num_edges, seed)
    pairs = as_set(undirected_pairs(edges, num_nodes))
    try:
        split = split_edges(edges, num_nodes=num_nodes, keep_spanning=keep_spanning, random_seed=seed)
    except ConfigError as error:
        assert "spanning forest" in str(error) and keep_spanning
        return
    parts = [as_set(split.train), as_set(split.valid), as_set(split.test)]
    assert set.union(*parts) == pairs == as_set(split.all_pairs)
    assert sum(map(len, parts)) == len(pairs)
    assert list(split.counts.values()) == [len(part) for part in parts]
    assert len(parts[1]) == round(0.1 * len(pairs)) and len(parts[2]) == round(0.2 * len(pairs))


def test_the_split_depends_on_the_seed_but_not_on_order_or_direction():
    edges = random_edges(30, 200, 0)
    first = split_edges(edges, num_nodes=30, random_seed=1)
    again = split_edges(edges[::-1, ::-1], num_nodes=30, random_seed=1)
    other = split_edges(edges, num_nodes=30, random_seed=2)
    assert as_set(first.test) == as_set(again.test) and as_set(first.train) == as_set(again.train)
    assert as_set(first.test) != as_set(other.test)


def test_a_spanning_forest_stays_in_train_if_asked():
    edges = random_edges(60, 110, 3)
    joined = nx.Graph(undirected_pairs(edges, 60).tolist())
    kept = split_edges(edges, num_nodes=60, valid_share=0.1, test_share=0.3, keep_spanning=True)
    left = split_edges(edges, num_nodes=60, valid_share=0.1, test_share=0.3)
    components = {frozenset(part) for part in nx.connected_components(joined)}
    assert {frozenset(part) for part in nx.connected_components(nx.Graph(kept.train.tolist()))} == components
    assert {frozenset(part) for part in nx.connected_components(nx.Graph(left.train.tolist()))} != components


def test_what_cannot_be_split_is_said():
    path = np.array([[0, 1], [1, 2], [2, 3]])
    with pytest.raises(ConfigError, match="expected 1 pairs for valid and test, found 0 of 3"):
        split_edges(path, num_nodes=4, valid_share=0, test_share=0.3, keep_spanning=True)
    with pytest.raises(ConfigError, match=r"add to less than 1, found 0\.5, 0\.5"):
        split_edges(path, num_nodes=4, valid_share=0.5, test_share=0.5)
    with pytest.raises(ConfigError, match="names node 3, but nodes are 0 to 2"):
        undirected_pairs(path, 3)
    with pytest.raises(ConfigError, match=r"of shape \(E, 2\), found \(3,\)"):
        undirected_pairs(path[:, 0], 4)
