"""τ-hop expansion: what it finds, how far, along which triples."""

import gzip

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkg.errors import MmkgError
from mmkg.subgraphs import Adjacency, Subgraph, expand, expand_many
from mmkg.subgraphs.kernels import MAX_QUERY

from .reference import CHAIN, Triple, adjacency_of, brute_force, seeded_graphs


def hops_of(subgraph: Subgraph) -> dict[int, int]:
    return dict(zip(subgraph.node_index.tolist(), subgraph.hop.tolist(), strict=True))


def triples_of(subgraph: Subgraph) -> list[Triple]:
    heads, tails = subgraph.node_index[subgraph.src], subgraph.node_index[subgraph.dst]
    return list(zip(heads.tolist(), subgraph.relation.tolist(), tails.tolist(), strict=True))


def assert_equal(one: Subgraph, other: Subgraph) -> None:
    for name in ("node_index", "hop", "src", "relation", "dst", "triple", "cuts"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@pytest.mark.capability("G4-04")
def test_two_hops_out_of_0_stop_before_4(chain):
    subgraph = expand(chain, [0], num_hops=2, direction="out")
    assert hops_of(subgraph) == {0: 0, 1: 1, 2: 2, 3: 2}
    assert sorted(subgraph.triple.tolist()) == [0, 1, 2]  # not 3, which stands between two nodes at hop 2
    assert subgraph.truncations == ()


def test_induced_has_the_triples_between_nodes_at_the_rim(chain):
    subgraph = expand(chain, [0], num_hops=2, direction="out", induced=True)
    assert sorted(subgraph.triple.tolist()) == [0, 1, 2, 3]


def test_in_walks_from_tail_to_head_and_edges_still_point_to_the_tail(chain):
    subgraph = expand(chain, [3], num_hops=1, direction="in")
    assert hops_of(subgraph) == {3: 0, 1: 1, 2: 1}
    assert sorted(triples_of(subgraph)) == [(1, 1, 3), (2, 1, 3)]


def test_hop_is_the_distance_to_the_nearest_seed(chain):
    assert hops_of(expand(chain, [0, 4], num_hops=2)) == {0: 0, 4: 0, 1: 1, 3: 1, 2: 2}


def test_seeds_come_first_in_the_order_given_and_once(chain):
    subgraph = expand(chain, [4, 0, 4], num_hops=1)
    assert subgraph.seeds.tolist() == [4, 0]
    assert subgraph.num_seeds == 2


def test_an_isolated_seed_is_alone(chain):
    subgraph = expand(chain, [5], num_hops=3)
    assert hops_of(subgraph) == {5: 0}
    assert subgraph.num_edges == 0


def test_a_self_loop_is_one_edge(chain):
    assert triples_of(expand(chain, [4], num_hops=1)).count((4, 1, 4)) == 1


def test_no_hop_is_the_seeds_and_induced_what_stands_between_them(chain):
    assert expand(chain, [1, 3], num_hops=0).num_edges == 0
    assert triples_of(expand(chain, [1, 3], num_hops=0, induced=True)) == [(1, 1, 3)]


def test_no_seed_is_an_empty_subgraph(chain):
    subgraph = expand(chain, [], num_hops=2)
    assert (subgraph.num_nodes, subgraph.num_edges, subgraph.num_seeds) == (0, 0, 0)


def test_a_relation_filter_holds_for_walked_and_for_induced_edges(chain):
    for induced in (False, True):
        subgraph = expand(chain, [1], num_hops=2, relations=[1], induced=induced)
        assert hops_of(subgraph) == {1: 0, 3: 1, 2: 2}
        assert set(subgraph.relation.tolist()) == {1}
    assert hops_of(expand(chain, [1], num_hops=2, relations=[])) == {1: 0}


def test_a_graph_without_triples_gives_the_seeds():
    assert hops_of(expand(adjacency_of(3, []), [2, 0], num_hops=2)) == {2: 0, 0: 0}


@settings(max_examples=300, deadline=None)
@given(
    graph=seeded_graphs(),
    num_hops=st.integers(0, 4),
    relations=st.none() | st.sets(st.integers(0, 3)),
    direction=st.sampled_from(["both", "out", "in"]),
    induced=st.booleans(),
)
def test_expansion_equals_brute_force(graph, num_hops, relations, direction, induced):
    num_entities, triples, seeds = graph
    known = {relation for _, relation, _ in triples}
    if relations is not None:
        relations = sorted(r for r in relations if r <= max(known, default=-1))
    options = {"num_hops": num_hops, "relations": relations, "direction": direction, "induced": induced}
    subgraph = expand(adjacency_of(num_entities, triples), seeds, **options)
    expected = brute_force(triples, seeds, **options)
    assert hops_of(subgraph) == expected.hops
    assert list(hops_of(subgraph)) == list(expected.hops), "the order in which nodes are found"
    assert sorted(subgraph.triple.tolist()) == sorted(expected.triples), "each triple once"
    assert triples_of(subgraph) == [triples[row] for row in subgraph.triple.tolist()]
    assert subgraph.truncations == ()


@settings(max_examples=100, deadline=None)
@given(graph=seeded_graphs(), num_hops=st.integers(0, 4))
def test_one_seed_induced_equals_the_ego_graph_of_networkx(graph, num_hops):
    num_entities, triples, seeds = graph
    if not seeds:
        return
    whole = nx.MultiDiGraph()
    whole.add_nodes_from(range(num_entities))
    for row, (head, _, tail) in enumerate(triples):
        whole.add_edge(head, tail, key=row)
    ego = nx.ego_graph(whole, seeds[0], radius=num_hops, undirected=True)
    ours = expand(adjacency_of(num_entities, triples), [seeds[0]], num_hops=num_hops, induced=True).to_networkx()
    assert set(ours.nodes) == set(ego.nodes)
    assert set(ours.edges(keys=True)) == set(ego.edges(keys=True))
    assert dict(ours.nodes(data="hop")) == nx.single_source_shortest_path_length(
        whole.to_undirected(as_view=True), seeds[0], cutoff=num_hops
    )


@pytest.mark.parametrize(
    "options", [{}, {"max_neighbours": 5}, {"max_neighbours": 6, "random_seed": 3}, {"induced": True}]
)
def test_one_seed_alone_equals_the_same_seed_in_a_batch(skewed, options):
    seed_sets = [[i, (i * 37) % 2000] if i % 3 else [i] for i in range(0, 2000, 7)]
    batch = expand_many(skewed, seed_sets, num_hops=2, **options)
    assert len(batch) == len(seed_sets) > 4 * 32  # several tasks
    for seeds, subgraph in zip(seed_sets, batch, strict=True):
        assert_equal(subgraph, expand(skewed, seeds, num_hops=2, **options))


def test_the_number_of_threads_changes_nothing(skewed):
    seed_sets = np.arange(1000).reshape(-1, 1)
    runs = [
        expand_many(skewed, seed_sets, num_hops=2, max_neighbours=8, random_seed=1, num_threads=threads)
        for threads in (1, 2, 7)
    ]
    for run in runs[1:]:
        for name in ("nodes", "edges", "cuts", "starts"):
            np.testing.assert_array_equal(getattr(run, name), getattr(runs[0], name))


def test_an_item_of_a_batch_can_be_taken_from_the_end_and_by_slice(chain):
    batch = expand_many(chain, [[0], [], [3, 4]], num_hops=1)
    assert batch[-1].seeds.tolist() == [3, 4]
    assert [s.num_seeds for s in batch[:2]] == [1, 0]
    with pytest.raises(IndexError):
        batch[3]
    assert len(expand_many(chain, [], num_hops=1)) == 0


def test_a_workspace_that_runs_out_of_query_numbers_starts_again(chain):
    workspace = chain.lend_workspace()
    first = workspace.take_numbers(1)
    workspace.visited[:] = first << 32  # the first query visited everything
    workspace.take_numbers(MAX_QUERY - 3)
    chain.return_workspace(workspace)
    numbers = []
    for _ in range(4):
        subgraph = expand(chain, [0], num_hops=2, direction="out")
        assert hops_of(subgraph) == {0: 0, 1: 1, 2: 2, 3: 2}
        numbers.append(int(workspace.visited[0] >> 32))
    assert numbers[0] > 2**30
    assert first in numbers


def test_results_do_not_change_when_their_workspace_is_used_again(chain):
    first = expand(chain, [0], num_hops=4)
    before = first.node_index.tolist(), first.triple.tolist()
    expand(chain, [5], num_hops=1)
    assert (first.node_index.tolist(), first.triple.tolist()) == before


def test_a_subgraph_larger_than_every_buffer_is_whole():
    # A tree of 1 + 60 + 3,600 nodes: the buffers grow twice while it is walked.
    triples = [(0, 0, 1 + i) for i in range(60)] + [(1 + i, 0, 61 + 60 * i + j) for i in range(60) for j in range(60)]
    adjacency = adjacency_of(3661, triples)
    subgraph = expand(adjacency, [0], num_hops=2)
    assert np.bincount(subgraph.hop).tolist() == [1, 60, 3600]
    assert sorted(subgraph.triple.tolist()) == list(range(3660))
    batch = expand_many(adjacency, [[0], [61], [0]], num_hops=2, induced=True)
    assert [item.num_edges for item in batch] == [3660, 60 + 1, 3660]


def test_two_queries_that_share_a_workspace_do_not_see_each_other(chain):
    first = expand(chain, [0], num_hops=4)
    second = expand(chain, [5], num_hops=4)
    assert len(chain._workspaces) == 1
    assert hops_of(second) == {5: 0}
    assert_equal(first, expand(chain, [0], num_hops=4))


@pytest.mark.parametrize(
    ("seeds", "options", "message"),
    [
        ([6], {}, "no entity has index 6; expected 0 … 5"),
        ([0, -1], {}, "no entity has index -1"),
        ([0.5], {}, "expected a list of entity indices, found float64"),
        (["France"], {}, "expected a list of entity indices"),
        ([[0, 1]], {}, "shape"),
        ([0], {"num_hops": -1}, "num_hops: expected a whole number, 0 or more"),
        ([0], {"num_hops": 1.5}, "found 1.5"),
        ([[0], [1, 2]], {}, "expected a list of entity indices"),
        ([0], {"relations": [9]}, "relation indices 0 … 1"),
        ([0], {"direction": "outgoing"}, "no direction is called 'outgoing'. Known: both, in, out"),
        ([0], {"max_neighbours": 0}, "max_neighbours: expected a whole number, 1 or more"),
        ([0, 1, 2], {"max_nodes": 2}, "the 3 seeds alone are more than 2"),
    ],
)
def test_what_cannot_be_asked_is_our_error(chain, seeds, options, message):
    with pytest.raises(MmkgError, match=message):
        expand(chain, seeds, **{"num_hops": 1, **options})


def test_a_batch_names_the_seed_set_that_is_wrong(chain):
    with pytest.raises(MmkgError, match="seed set 1: seeds: no entity has index 7"):
        expand_many(chain, [[0], [7]], num_hops=1)
    with pytest.raises(MmkgError, match="seed set 2: max_nodes"):
        expand_many(chain, [[0], [1], [1, 2]], num_hops=1, max_nodes=1)
    with pytest.raises(MmkgError, match="num_threads"):
        expand_many(chain, [[0]], num_hops=1, num_threads=0)


def test_expansion_equals_cypher_on_the_embedded_store(tmp_path):
    """Ladybug's variable-length match, shortest length of any path, against the hops of the expansion."""
    ladybug = pytest.importorskip("ladybug")
    database = ladybug.Database(str(tmp_path / "chain.db"))
    connection = ladybug.Connection(database)
    try:
        connection.execute("CREATE NODE TABLE Entity (entity_index INT64, PRIMARY KEY (entity_index))")
        connection.execute("CREATE REL TABLE Fact (FROM Entity TO Entity, relation_index INT64)")
        for entity in range(6):
            connection.execute("CREATE (:Entity {entity_index: $i})", {"i": entity})
        for head, relation, tail in CHAIN:
            connection.execute(
                "MATCH (h:Entity {entity_index: $h}), (t:Entity {entity_index: $t}) "
                "CREATE (h)-[:Fact {relation_index: $r}]->(t)",
                {"h": head, "r": relation, "t": tail},
            )
        adjacency = adjacency_of(6, CHAIN)
        for direction, pattern in (
            ("out", "-[e:Fact*1..2]->"),
            ("in", "<-[e:Fact*1..2]-"),
            ("both", "-[e:Fact*1..2]-"),
        ):
            for seed in range(6):
                rows = connection.execute(
                    f"MATCH (s:Entity {{entity_index: $s}}){pattern}(x:Entity) "
                    "WHERE x.entity_index <> $s RETURN x.entity_index, min(length(e))",
                    {"s": seed},
                )
                expected = dict(tuple(row) for row in rows.get_all())
                ours = hops_of(expand(adjacency, [seed], num_hops=2, direction=direction))
                assert ours == {seed: 0, **expected}, (direction, seed)
    finally:
        connection.close()
        database.close()


def test_an_adjacency_in_memory_refuses_columns_that_do_not_fit():
    with pytest.raises(MmkgError, match="three columns of one length"):
        Adjacency.from_triples([0, 1], [0], [1, 0], num_entities=2)
    with pytest.raises(MmkgError, match="row 1: tail_index is 2, expected 0 … 1"):
        Adjacency.from_triples([0, 1], [0, 0], [1, 2], num_entities=2)


@pytest.mark.shared
def test_two_hops_of_fb15k_237_equal_networkx(shared_data):
    """Real degrees: hubs of thousands of triples, parallel relations, self loops."""
    with gzip.open(shared_data / "kg" / "freebase" / "fb15k-237" / "train.txt.gz", "rt", encoding="utf-8") as lines:
        rows = [line.rstrip("\n").split("\t") for line in lines]
    entities = {name: index for index, name in enumerate(sorted({end for row in rows for end in (row[0], row[2])}))}
    relations = {name: index for index, name in enumerate(sorted({row[1] for row in rows}))}
    triples = [(entities[head], relations[relation], entities[tail]) for head, relation, tail in rows]
    adjacency = adjacency_of(len(entities), triples)
    whole = nx.MultiDiGraph()
    whole.add_nodes_from(range(len(entities)))
    whole.add_edges_from((head, tail, row) for row, (head, _, tail) in enumerate(triples))
    around = whole.to_undirected(as_view=True)
    seeds = list(range(0, len(entities), 1500))
    for seed, subgraph in zip(
        seeds, expand_many(adjacency, [[s] for s in seeds], num_hops=2, induced=True), strict=True
    ):
        hops = nx.single_source_shortest_path_length(around, seed, cutoff=2)
        assert hops_of(subgraph) == hops
        assert set(subgraph.triple.tolist()) == {row for _, _, row in whole.subgraph(hops).edges(keys=True)}
        assert subgraph.num_edges == len(set(subgraph.triple.tolist()))
