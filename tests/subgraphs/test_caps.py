"""Caps: honoured, recorded, and fair."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkg.subgraphs import Truncation, expand

from .reference import adjacency_of, brute_force, seeded_graphs
from .test_expand import hops_of, triples_of


def test_a_hub_keeps_half_of_its_cap_for_each_direction_and_says_so(hub):
    subgraph = expand(hub, [0], num_hops=1, max_neighbours=5)
    assert subgraph.node_index.tolist() == [0, 1, 2, 3, 11, 12]
    assert subgraph.truncations == (Truncation(entity_index=0, hop=0, degree=20, kept=5, reason="max_neighbours"),)


def test_what_one_direction_leaves_unused_goes_to_the_other():
    adjacency = adjacency_of(12, [(0, 0, 1)] + [(head, 0, 0) for head in range(2, 12)])
    assert expand(adjacency, [0], num_hops=1, max_neighbours=6).node_index.tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_a_cap_counts_only_allowed_relations(hub):
    subgraph = expand(hub, [0], num_hops=1, relations=[1], max_neighbours=10)
    assert subgraph.num_nodes == 11
    assert subgraph.truncations == ()
    cut = expand(hub, [0], num_hops=1, relations=[1], max_neighbours=4)
    assert cut.node_index.tolist() == [0, 11, 12, 13, 14]
    assert cut.truncations == ((0, 0, 10, 4, "max_neighbours"),)


def test_max_nodes_counts_the_seeds_and_records_where_it_cut(hub):
    subgraph = expand(hub, [0, 20], num_hops=1, max_nodes=4)
    assert subgraph.node_index.tolist() == [0, 20, 1, 2]
    assert triples_of(subgraph) == [(0, 0, 1), (0, 0, 2), (20, 1, 0)]
    assert subgraph.truncations == ((0, 0, 20, 3, "max_nodes"),)


def test_both_caps_give_one_row_each(hub):
    subgraph = expand(hub, [0], num_hops=1, max_neighbours=6, max_nodes=3)
    assert subgraph.truncations == ((0, 0, 20, 6, "max_neighbours"), (0, 0, 6, 2, "max_nodes"))


@settings(max_examples=300, deadline=None)
@given(
    graph=seeded_graphs(),
    num_hops=st.integers(0, 4),
    direction=st.sampled_from(["both", "out", "in"]),
    relations=st.none() | st.sets(st.integers(0, 3)),
    max_neighbours=st.none() | st.integers(1, 5),
    max_nodes=st.none() | st.integers(4, 8),
    induced=st.booleans(),
)
def test_capped_expansion_equals_brute_force(graph, num_hops, direction, relations, max_neighbours, max_nodes, induced):
    num_entities, triples, seeds = graph
    if relations is not None:
        highest = max((relation for _, relation, _ in triples), default=-1)
        relations = sorted(r for r in relations if r <= highest)
    options = {
        "num_hops": num_hops,
        "direction": direction,
        "relations": relations,
        "max_neighbours": max_neighbours,
        "max_nodes": max_nodes,
        "induced": induced,
    }
    subgraph = expand(adjacency_of(num_entities, triples), seeds, **options)
    expected = brute_force(triples, seeds, **options)
    assert list(hops_of(subgraph).items()) == list(expected.hops.items())
    assert sorted(subgraph.triple.tolist()) == sorted(expected.triples)
    assert list(subgraph.truncations) == expected.truncations


@settings(max_examples=200, deadline=None)
@given(
    graph=seeded_graphs(),
    random_seed=st.integers(),
    cap=st.integers(1, 5),
    relations=st.none() | st.just([0, 1]),
)
def test_a_sample_keeps_the_cap_and_only_real_triples(graph, random_seed, cap, relations):
    num_entities, triples, seeds = graph
    if relations is not None:
        relations = [r for r in relations if r <= max((relation for _, relation, _ in triples), default=-1)]
    options = {"num_hops": 2, "max_neighbours": cap, "relations": relations}
    subgraph = expand(adjacency_of(num_entities, triples), seeds, random_seed=random_seed, **options)
    assert triples_of(subgraph) == [triples[row] for row in subgraph.triple.tolist()]
    assert len(set(subgraph.triple.tolist())) == subgraph.num_edges
    assert relations is None or set(subgraph.relation.tolist()) <= set(relations)
    kept_by_node = {row.entity_index: row.kept for row in subgraph.truncations}
    assert all(kept == cap for kept in kept_by_node.values())
    whole = brute_force(triples, seeds, num_hops=2, relations=relations)
    assert set(hops_of(subgraph)) <= set(whole.hops)
    if not subgraph.truncations:
        assert hops_of(subgraph) == whole.hops


def test_a_sample_repeats_with_its_seed_and_differs_with_another():
    adjacency = adjacency_of(1001, [(0, 0, tail) for tail in range(1, 1001)])

    def draw(random_seed: int) -> list[int]:
        subgraph = expand(adjacency, [0], num_hops=1, max_neighbours=50, random_seed=random_seed)
        return subgraph.node_index.tolist()

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert len(set(draw(1))) == 51


def test_a_sample_reaches_every_stretch_of_the_list_and_every_edge_in_time():
    adjacency = adjacency_of(101, [(0, 0, tail) for tail in range(1, 101)])
    times = np.zeros(101, np.int64)
    for random_seed in range(600):
        nodes = expand(adjacency, [0], num_hops=1, max_neighbours=10, random_seed=random_seed).node_index[1:]
        assert ((nodes - 1) // 10).tolist() == list(range(10))
        times[nodes] += 1
    # 600 draws of 1 in 10: mean 60, standard deviation 7.3
    assert times[1:].min() > 60 - 5 * 7.3
    assert times[1:].max() < 60 + 5 * 7.3


def test_a_frequent_relation_keeps_its_share_of_a_sample():
    triples = [(0, 0, tail) for tail in range(1, 81)] + [(0, 1, tail) for tail in range(81, 101)]
    relations = expand(adjacency_of(101, triples), [0], num_hops=1, max_neighbours=10, random_seed=4).relation
    assert np.bincount(relations).tolist() == [8, 2]


@pytest.mark.parametrize("random_seed", [None, 5])
def test_an_edge_cut_at_one_end_and_kept_at_the_other_is_there_once(random_seed):
    # 0 -> 1 … 9 is cut to two at 0, but each of the tails keeps its one edge to 0.
    adjacency = adjacency_of(10, [(0, 0, tail) for tail in range(1, 10)])
    subgraph = expand(adjacency, list(range(10)), num_hops=1, max_neighbours=2, random_seed=random_seed)
    assert sorted(subgraph.triple.tolist()) == list(range(9))
