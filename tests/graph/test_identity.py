"""Identity on links that can be checked by finger, and on a made-up web of sources with planted wrong links."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmkg.errors import ConfigError
from mmkg.graph.identity import (
    REASONS,
    LinkGraph,
    choose_canonical,
    close_links,
    find_inconsistent,
    guard,
    priorities,
)
from mmkg.terms import RDF_TYPE, RDFS_LABEL
from tests.graph.raw_dumps import SAME_AS, Literal, build, dbp, fb, make_config, mid, yago

NAME = fb("type.object.name")
KNOWS = "http://x.org/knows"


def english(name: str) -> Literal:
    return Literal(name, None, "en")


def test_of_two_mids_of_one_article_the_one_with_its_name_is_kept(tmp_path: Path):
    built = build(
        tmp_path,
        {
            "freebase": [(mid("0rap"), NAME, english("Drake")), (mid("0duck"), NAME, english("Mallard"))],
            "dbpedia": [(dbp("Drake_(musician)"), RDFS_LABEL, english("Drake (musician)"))],
        },
        links=[(mid("0duck"), SAME_AS, dbp("Drake_(musician)")), (mid("0rap"), SAME_AS, dbp("Drake_(musician)"))],
    )
    assert built.verdicts == {
        (mid("0duck"), dbp("Drake_(musician)")): "two_of_one_source",
        (mid("0rap"), dbp("Drake_(musician)")): "link",
    }
    assert built.ids == [mid("0duck"), mid("0rap")]
    assert built.entity(mid("0rap"))["aliases"] == [dbp("Drake_(musician)")]
    scores = {row["alias"]: row["score"] for row in built.rows("merges")}
    assert scores[mid("0rap")] > scores[mid("0duck")]
    assert (built.counts["merged_links"], built.counts["flagged_links"], built.counts["flagged_classes"]) == (1, 1, 1)


def test_the_weak_link_of_a_chain_is_cut_and_both_ends_keep_their_strong_ones(tmp_path: Path):
    chain = [
        (mid("0a"), SAME_AS, dbp("Georgia_(country)")),
        (dbp("Georgia_(country)"), SAME_AS, yago("Atlanta")),  # wrong
        (yago("Atlanta"), SAME_AS, mid("0b")),
    ]
    names = [(mid("0a"), NAME, english("Georgia")), (mid("0b"), NAME, english("Atlanta"))]
    built = build(tmp_path, {"freebase": names}, links=chain)
    assert [pair for pair, reason in built.verdicts.items() if reason != "link"] == [
        (dbp("Georgia_(country)"), yago("Atlanta"))
    ]


def test_without_names_the_link_that_more_sources_state_is_kept(tmp_path: Path):
    built = build(
        tmp_path,
        {"freebase": [(mid("0a"), KNOWS, mid("0b"))], "dbpedia": [(dbp("Q1"), SAME_AS, mid("0b"))]},
        links=[(mid("0a"), SAME_AS, dbp("Q1")), (mid("0b"), SAME_AS, dbp("Q1"))],
    )
    assert built.verdicts[mid("0a"), dbp("Q1")] == "two_of_one_source"
    assert built.verdicts[mid("0b"), dbp("Q1")] == "link"


def test_without_names_the_link_whose_ends_have_the_same_neighbours_is_kept(tmp_path: Path):
    built = build(
        tmp_path,
        {
            "freebase": [(mid("0a"), KNOWS, mid("0x")), (mid("0b"), KNOWS, mid("0y"))],
            "dbpedia": [(dbp("Q1"), KNOWS, dbp("Y"))],
        },
        links=[
            (mid("0a"), SAME_AS, dbp("Q1")),
            (mid("0b"), SAME_AS, dbp("Q1")),
            (mid("0x"), SAME_AS, dbp("X")),
            (mid("0y"), SAME_AS, dbp("Y")),
        ],
    )
    assert built.verdicts[mid("0a"), dbp("Q1")] == "two_of_one_source"
    assert built.verdicts[mid("0b"), dbp("Q1")] == "link"


def test_a_tie_is_broken_by_the_order_of_iris(tmp_path: Path):
    links = [(mid("0b"), SAME_AS, dbp("Q1")), (mid("0a"), SAME_AS, dbp("Q1"))]
    built = build(tmp_path, {"freebase": [(mid("0a"), KNOWS, mid("0c"))]}, links=links)
    assert built.verdicts == {(mid("0a"), dbp("Q1")): "link", (mid("0b"), dbp("Q1")): "two_of_one_source"}


def test_disjoint_types_are_not_merged(tmp_path: Path):
    person, place = "http://x.org/Person", "http://x.org/Place"
    config = make_config(["freebase", "dbpedia"], identity={"disjoint_types": [[person, place]]})
    rows = {"freebase": [(mid("0a"), RDF_TYPE, person)], "dbpedia": [(dbp("A"), RDF_TYPE, place)]}
    link = [(mid("0a"), SAME_AS, dbp("A"))]
    assert build(tmp_path / "on", rows, links=link, config=config).verdicts == {(mid("0a"), dbp("A")): "disjoint_types"}
    assert build(tmp_path / "off", rows, links=link).verdicts == {(mid("0a"), dbp("A")): "link"}


def test_a_node_that_has_both_disjoint_types_itself_does_not_block_its_links(tmp_path: Path):
    person, place = "http://x.org/Person", "http://x.org/Place"
    config = make_config(["freebase", "dbpedia"], identity={"disjoint_types": [[person, place]]})
    rows = {
        "freebase": [(mid("0a"), RDF_TYPE, person), (mid("0a"), RDF_TYPE, place)],
        "dbpedia": [(dbp("A"), RDF_TYPE, place)],
    }
    built = build(tmp_path, rows, links=[(mid("0a"), SAME_AS, dbp("A"))], config=config)
    assert set(built.verdicts.values()) == {"link"}


def test_a_class_that_is_too_large_is_cut(tmp_path: Path):
    config = make_config(["ntriples"], identity={"max_class_size": 3})
    iris = [f"http://host{number}.org/x/name{number}" for number in range(5)]
    links = [(one, SAME_AS, other) for one, other in pairwise(iris)]
    built = build(tmp_path, {"ntriples": [(iris[0], KNOWS, iris[4])]}, links=links, config=config)
    assert sorted(built.verdicts.values()).count("too_large") == 1
    assert max(len(row["aliases"]) + 1 for row in built.rows("entities")) <= 3


def test_http_and_https_of_one_iri_are_one_thing(tmp_path: Path):
    one, other = "http://www.wikidata.org/entity/Q35", "https://www.wikidata.org/entity/Q35"
    built = build(tmp_path, {"ntriples": [(one, KNOWS, other)]}, links=[(one, SAME_AS, other)])
    assert built.verdicts == {(one, other): "link"}


def test_two_things_of_a_namespace_that_nobody_told_us_about_are_not_merged(tmp_path: Path):
    one, other = "http://sws.geonames.org/2623032/", "http://sws.geonames.org/2618425/"
    built = build(tmp_path, {"ntriples": [(one, KNOWS, other)]}, links=[(one, SAME_AS, other)])
    assert built.verdicts == {(one, other): "two_of_one_source"}


def test_resource_names_with_a_slash_belong_to_the_same_namespace(tmp_path: Path):
    built = build(
        tmp_path, {"dbpedia": [(dbp("AC/DC"), KNOWS, dbp("X"))]}, links=[(dbp("AC/DC"), SAME_AS, dbp("Accept"))]
    )
    assert built.verdicts == {(dbp("AC/DC"), dbp("Accept")): "two_of_one_source"}


def test_the_priority_is_a_setting_and_may_name_a_prefix(tmp_path: Path):
    rows = {"dbpedia": [(dbp("A"), KNOWS, dbp("B"))]}
    links = [(dbp("A"), SAME_AS, yago("A")), (dbp("A"), SAME_AS, "http://z.org/r/A")]
    for priority, expected in ((["yago"], yago("A")), (["http://z.org/"], "http://z.org/r/A"), ([], dbp("A"))):
        config = make_config(["dbpedia"], identity={"source_priority": priority})
        built = build(tmp_path / str(len(priority)) / expected[7:9], rows, links=links, config=config)
        assert expected in built.ids


def test_a_source_with_a_base_iri_can_be_named_in_the_priority():
    assert priorities(["own"], {"own": "http://own.org/x/"}) == [("own.org/x/",)]
    with pytest.raises(ConfigError, match="no namespace is called 'own'"):
        priorities(["own"], {"own": ""})


def _graph(num_nodes: int, pairs: list[tuple[int, int]], namespaces: list[int]) -> LinkGraph:
    pairs = sorted({(min(p), max(p)) for p in pairs if p[0] != p[1]})
    ends = np.array(pairs, np.int64).reshape(-1, 2)
    return LinkGraph(
        left=ends[:, 0],
        right=ends[:, 1],
        namespace=np.array(namespaces),
        bare=np.arange(num_nodes),
        priority=np.zeros(num_nodes, np.int64),
        marked=np.zeros(0, np.int64),
        mark=np.zeros(0, np.int64),
    )


@st.composite
def _webs(draw: st.DrawFn) -> tuple[LinkGraph, np.ndarray, int]:
    num_nodes = draw(st.integers(2, 12))
    node = st.integers(0, num_nodes - 1)
    pairs = draw(st.lists(st.tuples(node, node), max_size=20))
    namespaces = draw(st.lists(st.integers(-1, 3), min_size=num_nodes, max_size=num_nodes))
    graph = _graph(num_nodes, pairs, namespaces)
    scores = draw(st.lists(st.sampled_from([0.1, 0.2, 0.5, 0.9]), min_size=len(graph.left), max_size=len(graph.left)))
    return graph, np.array(scores), draw(st.integers(2, 6))


def _consistent(graph: LinkGraph, members: np.ndarray, max_class_size: int) -> bool:
    spaces = [s for s in graph.namespace[members].tolist() if s >= 0]
    return len(members) <= max_class_size and len(spaces) == len(set(spaces))


def _decide(graph: LinkGraph, scores: np.ndarray, max_class_size: int) -> np.ndarray:
    class_of = close_links(len(graph.namespace), graph.left, graph.right)
    questioned = np.flatnonzero(np.isin(class_of[graph.left], find_inconsistent(graph, class_of, max_class_size)))
    reasons = np.zeros(len(graph.left), np.int64)
    reasons[questioned] = guard(graph, questioned, scores[questioned], max_class_size)
    return reasons


@given(_webs())
def test_after_the_guard_every_class_is_consistent_and_no_link_was_cut_that_could_stay(web):
    graph, scores, max_class_size = web
    reasons = _decide(graph, scores, max_class_size)
    believed = reasons == 0
    class_of = close_links(len(graph.namespace), graph.left[believed], graph.right[believed])
    for number in np.unique(class_of):
        assert _consistent(graph, np.flatnonzero(class_of == number), max_class_size)
    for link in np.flatnonzero(~believed):
        both = np.isin(class_of, class_of[[graph.left[link], graph.right[link]]])
        assert not _consistent(graph, np.flatnonzero(both), max_class_size), REASONS[reasons[link]]


@given(_webs())
def test_the_guard_finds_every_inconsistent_class_and_no_other(web):
    graph, _, max_class_size = web
    class_of = close_links(len(graph.namespace), graph.left, graph.right)
    expected = [n for n in np.unique(class_of) if not _consistent(graph, np.flatnonzero(class_of == n), max_class_size)]
    assert find_inconsistent(graph, class_of, max_class_size).tolist() == expected


@given(st.integers(1, 12), st.data())
def test_the_closure_is_that_of_a_walk(num_nodes: int, data: st.DataObject):
    node = st.integers(0, num_nodes - 1)
    pairs = data.draw(st.lists(st.tuples(node, node), max_size=15))
    left, right = (np.array([p[i] for p in pairs], np.int64) for i in range(2))
    class_of = close_links(num_nodes, left, right)
    reach = np.eye(num_nodes, dtype=bool)
    for one, other in pairs:
        reach[one, other] = reach[other, one] = True
    for middle in range(num_nodes):
        reach |= np.outer(reach[:, middle], reach[middle])
    assert (reach == (class_of[:, None] == class_of[None, :])).all()


def test_the_canonical_iri_is_first_by_priority_then_smallest():
    class_of, priority = np.array([0, 1, 0, 1, 1]), np.array([1, 0, 1, 0, 2])
    assert choose_canonical(class_of, priority).tolist() == [0, 1, 0, 1, 1]
    assert choose_canonical(np.array([0, 0, 0]), np.array([2, 1, 1])).tolist() == [1, 1, 1]


_SYLLABLES = ("ka", "lo", "mi", "ren", "tos", "bu", "dal", "vi", "nor", "sa", "gre", "pol")


def _planted_web(random_seed: int, *, named_share: float, num_things: int = 300, num_wrong: int = 40):
    """Sources that tell of the same things, right links between them, and wrong ones between different things."""
    rng = np.random.default_rng(random_seed)
    names = [" ".join("".join(rng.choice(_SYLLABLES, 3)).title() for _ in range(2)) + "" for _ in range(num_things)]
    mids = [mid(f"0{i:04x}") for i in range(num_things)]
    pages = [dbp(name.replace(" ", "_")) for name in names]
    entries = [yago(name.replace(" ", "_")) for name in names]
    facts = rng.integers(0, num_things, (num_things * 4, 2))
    dumps: dict[str, list] = {"freebase": [], "dbpedia": [], "yago": []}
    for source, iris in zip(dumps, (mids, pages, entries), strict=True):
        told = facts[rng.random(len(facts)) < 0.7]
        dumps[source] += [(iris[a], KNOWS, iris[b]) for a, b in told]
    dumps["freebase"] += [(mids[i], NAME, english(names[i])) for i in range(num_things) if rng.random() < named_share]
    right = {(mids[i], pages[i]) for i in range(num_things)} | {
        (pages[i], entries[i]) for i in range(num_things) if rng.random() < 0.8
    }
    bridges: set[tuple[str, str]] = set()
    while len(bridges) < num_wrong:
        a, b = rng.integers(0, num_things, 2)
        with_entry = (pages[a], entries[a]) in right or (pages[b], entries[b]) in right
        if a != b and rng.random() < 0.5:
            bridges.add((mids[a], pages[b]))
        elif a != b and with_entry:  # else nothing contradicts the link: see the next test
            bridges.add((pages[a], entries[b]))
    return dumps, right, bridges


@pytest.mark.parametrize("named_share", [1.0, 0.5, 0.0])
def test_planted_bridges_are_flagged_and_right_links_are_kept(tmp_path: Path, named_share: float):
    dumps, right, bridges = _planted_web(7, named_share=named_share)
    built = build(tmp_path, dumps, links=[(a, SAME_AS, b) for a, b in sorted(right | bridges)])
    flagged = {pair for pair, reason in built.verdicts.items() if reason != "link"}
    assert len(flagged & bridges) >= 0.95 * len(bridges)
    assert len(flagged & right) <= 0.01 * len(right)


def test_a_wrong_link_that_contradicts_nothing_is_merged_with_a_score_that_shows_it(tmp_path: Path):
    rows = {"dbpedia": [(dbp("Georgia"), KNOWS, dbp("Tbilisi"))], "yago": [(yago("Atlanta"), KNOWS, yago("Peachtree"))]}
    links = [(dbp("Georgia"), SAME_AS, yago("Atlanta")), (dbp("Tbilisi"), SAME_AS, yago("Tbilisi"))]
    built = build(tmp_path, rows, links=links)
    scores = {row["alias"]: row["score"] for row in built.rows("merges")}
    assert set(built.verdicts.values()) == {"link"}
    assert scores[dbp("Georgia")] < 0.35 < 0.6 < scores[dbp("Tbilisi")]
