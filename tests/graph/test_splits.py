"""Splits by seed and from the sources: shares, no leak, transductive, stable."""

import itertools
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkg.config import Config
from mmkg.graph.splits import build_splits, find_relation_groups
from mmkg.shards import open_table

from .graph_tables import Triple, make_config, read_splits, write_graph, write_raw


def random_triples(seed: int = 0, *, count: int = 4000, num_entities: int = 300, num_relations: int = 6) -> set[Triple]:
    draw = random.Random(seed)
    names = [f"e{i}" for i in range(num_entities)]
    return {(draw.choice(names), f"r{draw.randrange(num_relations)}", draw.choice(names)) for _ in range(count)}


def split(tmp_path: Path, triples: set[Triple], config: Config | None = None) -> dict[Triple, str]:
    graph = write_graph(tmp_path / "graph", triples)
    build_splits(config or make_config(), graph, [], tmp_path / "out")
    return read_splits(graph, tmp_path / "out")


def assert_transductive(splits: dict[Triple, str]) -> None:
    train = [triple for triple, name in splits.items() if name == "train"]
    entities = {end for h, _, t in train for end in (h, t)}
    relations = {r for _, r, _ in train}
    for (h, r, t), name in splits.items():
        assert name in {"train", "valid", "test"}
        if name != "train":
            assert h in entities and t in entities and r in relations


def test_the_shares_are_those_asked_for(tmp_path: Path) -> None:
    splits = split(tmp_path, random_triples(), make_config(splits={"valid": 0.1, "test": 0.2}))
    sizes = Counter(splits.values())
    assert sizes["test"] == round(0.2 * len(splits))
    assert sizes["valid"] == round(0.1 * len(splits))
    assert_transductive(splits)


def test_every_triple_is_there_once_in_the_order_of_triples(tmp_path: Path) -> None:
    graph = write_graph(tmp_path / "graph", random_triples())
    counts = build_splits(make_config(), graph, [], tmp_path / "out")
    keys = ["head_index", "relation_index", "tail_index"]
    assert (
        open_table(tmp_path / "out", "splits")
        .to_table(columns=keys)
        .equals(open_table(graph, "triples").to_table(columns=keys))
    )
    assert counts["train"] + counts["valid"] + counts["test"] == open_table(graph, "triples").count_rows()
    assert counts["left_out"] == 0


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), num_entities=st.integers(2, 60), share=st.sampled_from([0.05, 0.3, 0.45]))
def test_valid_and_test_only_know_what_train_knows(
    tmp_path_factory: pytest.TempPathFactory, seed: int, num_entities: int, share: float
) -> None:
    triples = random_triples(seed, count=120, num_entities=num_entities)
    config = make_config(splits={"valid": share, "test": share})
    assert_transductive(split(tmp_path_factory.mktemp("splits"), triples, config))


def test_a_tree_has_nothing_to_hold_out_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tree = {(f"e{(i - 1) // 2}", "parent", f"e{i}") for i in range(1, 31)}
    leaves = {triple for triple in tree if int(triple[2][1:]) >= 15}
    splits = split(tmp_path, tree, make_config(splits={"valid": 0.2, "test": 0.2}))
    assert all(splits[triple] == "train" for triple in leaves)
    assert_transductive(splits)
    assert "found" in caplog.text


def test_an_inverse_relation_never_gives_a_test_triple_away(tmp_path: Path) -> None:
    forwards = {(h, "hasPart", t) for h, _, t in random_triples(1, num_relations=1)}
    backwards = {(t, "partOf", h) for h, _, t in sorted(forwards)[: int(0.9 * len(forwards))]}
    splits = split(tmp_path, forwards | backwards, make_config(splits={"valid": 0.1, "test": 0.1}))
    assert Counter(splits.values())["test"] > 100
    for h, _, t in backwards:
        assert splits[h, "partOf", t] == splits[t, "hasPart", h]


def test_a_duplicate_relation_never_gives_a_test_triple_away(tmp_path: Path) -> None:
    first = {(h, "capital", t) for h, _, t in random_triples(2, num_relations=1)}
    second = {(h, "capitalCity", t) for h, _, t in first}
    splits = split(tmp_path, first | second)
    assert all(splits[h, "capital", t] == splits[h, "capitalCity", t] for h, _, t in first)


def test_a_symmetric_relation_is_split_by_pair(tmp_path: Path) -> None:
    half = {(h, "borders", t) for h, _, t in random_triples(3, num_relations=1)}
    splits = split(tmp_path, half | {(t, "borders", h) for h, _, t in half})
    assert all(splits[h, r, t] == splits[t, r, h] for h, r, t in splits)
    assert {"train", "valid", "test"} == set(splits.values())


def test_relations_that_share_few_pairs_are_split_apart(tmp_path: Path) -> None:
    one = {(h, "knows", t) for h, _, t in random_triples(4, num_relations=1)}
    other = {(h, "likes", t) for h, _, t in sorted(one)[: len(one) // 2]}
    other |= {(h, "likes", t) for h, _, t in random_triples(5, num_relations=1)}
    splits = split(tmp_path, one | other, make_config(splits={"valid": 0.2, "test": 0.2}))
    both = [(splits[h, "knows", t], splits[h, "likes", t]) for h, _, t in one if (h, "likes", t) in splits]
    assert any(a != b for a, b in both)


def brute_force_groups(triples: set[Triple], share: float) -> set[frozenset[str]]:
    pairs: dict[str, set[tuple[str, str]]] = {}
    for h, r, t in triples:
        pairs.setdefault(r, set()).add((h, t))
    edges = []
    for one, other in itertools.combinations_with_replacement(sorted(pairs), 2):
        reverse = {(t, h) for h, t in pairs[other]}
        same = len(pairs[one] & pairs[other]) if one != other else 0
        if max(same, len(pairs[one] & reverse)) >= share * min(len(pairs[one]), len(pairs[other])):
            edges.append({one, other})
    groups: list[set[str]] = []
    for edge in edges:
        touching = [group for group in groups if group & edge]
        groups = [group for group in groups if not group & edge] + [set().union(edge, *touching)]
    return {frozenset(group) for group in groups}


@settings(max_examples=40)
@given(
    st.sets(
        st.tuples(st.sampled_from("abcd"), st.sampled_from(["r", "s", "t", "u", "v"]), st.sampled_from("abcd")),
        min_size=1,
    ),
    st.sampled_from([0.3, 0.5, 0.8, 1.0]),
)
def test_groups_of_relations_equal_brute_force(
    tmp_path_factory: pytest.TempPathFactory, triples: set[Triple], share: float
) -> None:
    graph = write_graph(tmp_path_factory.mktemp("groups"), triples)
    ids = sorted({r for _, r, _ in triples})
    found = find_relation_groups(make_config(splits={"leak_share": share}), graph, ids)
    groups: dict[str, set[str]] = {}
    for index, name in found.items():
        groups.setdefault(name, set()).add(ids[index])
    assert {frozenset(group) for group in groups.values()} == brute_force_groups(triples, share)
    assert all(name == min(group) for name, group in groups.items())


def test_the_same_seed_gives_the_same_splits_and_another_seed_others(tmp_path: Path) -> None:
    triples = random_triples()
    first = split(tmp_path / "1", triples)
    assert split(tmp_path / "2", triples) == first
    assert split(tmp_path / "3", triples, make_config(graph={"random_seed": 1})) != first


def test_one_more_triple_and_shifted_indices_move_almost_nothing(tmp_path: Path) -> None:
    triples = random_triples()
    before = split(tmp_path / "before", triples)
    # Both names sort first, so that every entity and relation gets another index.
    after = split(tmp_path / "after", triples | {("a0", "a", "a1"), ("a1", "a", "e1"), ("a0", "a", "e1")})
    moved = sum(after[triple] != name for triple, name in before.items())
    assert moved <= 4


# --- from the sources ------------------------------------------------------------------------------------------------

FROM_SOURCES = {"splits": {"from_sources": True}}


def split_from_sources(
    tmp_path: Path, triples: set[Triple], stated: dict[str, list[Triple]], **graph: dict[str, list[str]]
) -> tuple[dict[Triple, str], dict[str, int]]:
    folder = write_graph(tmp_path / "graph", triples, **graph)
    folders = [(name, write_raw(tmp_path / f"{i}", rows)) for i, (name, rows) in enumerate(stated.items())]
    counts = build_splits(make_config(**FROM_SOURCES), folder, folders, tmp_path / "out")
    return read_splits(folder, tmp_path / "out"), counts


def test_the_sources_splits_are_taken_as_they_are(tmp_path: Path) -> None:
    a, b, c = ("x", "r", "y"), ("y", "r", "z"), ("z", "s", "x")
    splits, counts = split_from_sources(tmp_path, {a, b, c}, {"train": [a], "valid": [b], "test": [c]})
    assert splits == {a: "train", b: "valid", c: "test"}
    # z is in no train triple, and neither is s.
    assert counts == {
        "train": 1, "valid": 1, "test": 1, "left_out": 0, "unmatched": 0, "unseen": 2, "relation_groups": 0
    }  # fmt: skip


def test_a_triple_of_several_splits_is_in_the_first_of_test_valid_train(tmp_path: Path) -> None:
    a, b, c = ("x", "r", "y"), ("y", "r", "z"), ("z", "r", "x")
    stated = {"train": [a, b, c], "valid": [a, b], "test": [a]}
    assert split_from_sources(tmp_path, {a, b, c}, stated)[0] == {a: "test", b: "valid", c: "train"}


def test_the_sources_splits_are_found_under_merged_names(tmp_path: Path) -> None:
    stated = {"test": [("db:x", "r", "db:y"), ("nobody", "r", "y")]}
    splits, counts = split_from_sources(
        tmp_path, {("x", "r", "y"), ("y", "r", "x")}, stated, aliases={"x": ["db:x"], "y": ["db:y"]}
    )
    assert splits["x", "r", "y"] == "test"
    assert counts["unmatched"] == 1


def test_another_source_does_not_restate_a_test_triple_in_train(tmp_path: Path) -> None:
    benchmark = sorted((f"h{i}", "fb:capital", f"t{i}") for i in range(20))
    other = {(h, "db:capital", t) for h, _, t in benchmark} | {(t, "db:capitalOf", h) for h, _, t in benchmark}
    unrelated = ("h0", "db:likes", "t0")  # the same pair, but it says something else
    noise = {(f"h{i}", "db:likes", f"h{i + 1}") for i in range(10)}
    splits, counts = split_from_sources(
        tmp_path,
        {*benchmark, *other, unrelated, *noise},
        {"test": benchmark[:5], "valid": benchmark[5:8], "train": benchmark[8:]},
    )
    held_out = {(h, t) for h, _, t in benchmark[:8]}
    for h, r, t in other:
        pair = (h, t) if r == "db:capital" else (t, h)
        assert splits[h, r, t] == ("left_out" if pair in held_out else "train")
    assert splits[unrelated] == "train"
    assert counts["left_out"] == 16
    assert (counts["train"], counts["valid"], counts["test"]) == (12 + 24 + 11, 3, 5)


def test_the_benchmarks_own_train_triples_are_kept_even_where_they_leak(tmp_path: Path) -> None:
    one, back = ("x", "borders", "y"), ("y", "borders", "x")
    assert split_from_sources(tmp_path, {one, back}, {"train": [back], "test": [one]})[0] == {
        one: "test",
        back: "train",
    }
