"""What every store promises, run by every store. To add one: an entry in STORES."""

import datetime
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path as FilePath
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkg.config import StoreConfig
from mmkg.errors import ConfigError, NotFound, StoreError
from mmkg.store import (
    CypherStore,
    EmbeddedStore,
    EntityImage,
    GraphReader,
    MemoryStore,
    Neighbour,
    Path,
    Step,
    load_store,
    open_embedded,
    open_memory,
)
from mmkg.store.content import write_content
from mmkg.store.neo4j import load_neo4j, open_neo4j
from tests.store.graphs import SOURCES, Graph, Picture, attribute_id, images_of, relation_id, write_graph
from tests.store.neo4j_graphs import config_of, shared_server


def _make_embedded(tables: FilePath, folder: FilePath, config: StoreConfig) -> GraphReader:
    load_store(tables, folder, config, SOURCES, images_folder=images_of(tables), buffer_bytes=256 << 20)
    return open_embedded(folder, buffer_bytes=64 << 20)


def _make_memory(tables: FilePath, folder: FilePath, config: StoreConfig) -> GraphReader:
    return open_memory(tables, config, SOURCES, images_folder=images_of(tables))


def _make_neo4j(tables: FilePath, folder: FilePath, config: StoreConfig) -> GraphReader:
    server = config_of(shared_server(), config)
    content = write_content(tables, config, SOURCES, folder, images_folder=images_of(tables))
    load_neo4j(content, server, graph="contract", version="1", force=True)
    return open_neo4j(server)


STORES: dict[str, Callable[[FilePath, FilePath, StoreConfig], GraphReader]] = {
    "memory": _make_memory,
    "embedded": _make_embedded,
    "neo4j": _make_neo4j,
}

# a-r->b-r->c-r->d-r->e, b-s->d, d-s->b twice as far round, c-r->c, f alone
TINY = Graph(
    entities=list("abcdef"),
    triples=[
        ("a", "r", "b", 1),
        ("b", "r", "c", 2),
        ("c", "r", "d", 3),
        ("d", "r", "e", 1),
        ("b", "s", "d", 3),
        ("c", "r", "c", 1),
    ],
    literals=[
        ("a", "population", 5),
        ("a", "population", 5.0),
        ("b", "population", 7.5),
        ("b", "population", "unknown"),
        ("a", "founded", datetime.date(1917, 4, 26)),
        ("a", "motto", "zwei"),
        ("a", "motto", "eins"),
        ("b", "motto", "drei"),
        ("c", "rare", "x"),
    ],
    labels={"a": "Niger", "b": "niger", "c": "Niger", "d": "Österreich", "e": None},
    descriptions={"a": "A country."},
    types={"a": ["http://example.org/Country", "http://example.org/Place"]},
    aliases={"a": ["http://one.org/a", "http://two.org/a"], "b": ["http://two.org/b"]},
    relations=["unused"],
)
CONFIG = StoreConfig(min_attribute_share=0.0, max_attributes=3)  # rare is the fourth


@pytest.fixture(params=STORES)
def make(request: pytest.FixtureRequest, tmp_path: FilePath) -> Iterator[Callable[..., GraphReader]]:
    opened: list[GraphReader] = []

    def build(graph: Graph, config: StoreConfig = CONFIG) -> GraphReader:
        tables = write_graph(tmp_path / f"tables{len(opened)}", graph)
        opened.append(STORES[request.param](tables, tmp_path / f"store{len(opened)}", config))
        return opened[-1]

    yield build
    for store in opened:
        store.close()


@pytest.fixture(scope="module", params=STORES)
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GraphReader]:
    folder = tmp_path_factory.mktemp(request.param)
    with STORES[request.param](write_graph(folder / "tables", TINY), folder / "store", CONFIG) as store:
        yield store


@pytest.fixture
def tiny(opened: GraphReader, tmp_path: FilePath) -> GraphReader:
    if not isinstance(opened, EmbeddedStore | MemoryStore):  # a server holds one graph: another test has put its own
        _make_neo4j(write_graph(tmp_path / "tables", TINY), tmp_path / "content", CONFIG).close()
    return opened


def test_a_store_is_a_graph_reader(tiny: GraphReader) -> None:
    assert isinstance(tiny, GraphReader)
    assert isinstance(tiny, CypherStore) == hasattr(tiny, "query")


def test_counts_name_every_relationship_type_also_unused_ones(tiny: GraphReader) -> None:
    counts = tiny.counts()
    assert (counts.entities, counts.relationships) == (6, 6)
    assert counts.by_relation == {"r": 5, "s": 1, "unused": 0}


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("a", ("a",)),  # an id
        ("http://two.org/b", ("b",)),  # a merged id
        ("Niger", ("a", "c")),  # a label that two have: both
        ("niger", ("b",)),  # a label that fits exactly wins over one that fits in another case
        ("NIGER", ("a", "b", "c")),
        ("österreich", ("d",)),
        ("nobody", ()),
        ("", ()),
    ],
)
def test_an_entity_is_found_by_id_then_merged_id_then_label_then_label_in_any_case(
    tiny: GraphReader, name: str, ids: tuple[str, ...]
) -> None:
    assert tiny.find_entity(name) == ids


def test_neighbours_come_by_seed_then_out_before_in_then_relation_then_id(tiny: GraphReader) -> None:
    assert tiny.find_neighbours(["d", "b", "d"]) == [
        Neighbour("d", "out", "r", "e", None, ("freebase",)),
        Neighbour("d", "in", "r", "c", "Niger", ("freebase", "dbpedia")),
        Neighbour("d", "in", "s", "b", "niger", ("freebase", "dbpedia")),
        Neighbour("b", "out", "r", "c", "Niger", ("dbpedia",)),
        Neighbour("b", "out", "s", "d", "Österreich", ("freebase", "dbpedia")),
        Neighbour("b", "in", "r", "a", "Niger", ("freebase",)),
    ]


def test_a_triple_from_an_entity_to_itself_is_out_and_in(tiny: GraphReader) -> None:
    steps = [(n.direction, n.neighbour_id) for n in tiny.find_neighbours(["c"])]
    assert steps == [("out", "c"), ("out", "d"), ("in", "b"), ("in", "c")]


def test_neighbours_keep_to_the_relations_direction_and_limit_asked_for(tiny: GraphReader) -> None:
    def ids(**settings: object) -> list[str]:
        return [n.neighbour_id for n in tiny.find_neighbours(["b", "d"], **settings)]  # type: ignore[arg-type]

    assert ids(relations=["s"]) == ["d", "b"]
    assert ids(relations=[relation_id("s"), "s"]) == ["d", "b"]
    assert ids(relations=[]) == []
    assert ids(relations=["unused"]) == []
    assert ids(direction="out") == ["c", "d", "e"]
    assert ids(direction="in") == ["a", "c", "b"]
    assert ids(limit=1) == ["c", "a", "e", "c"]
    assert ids(limit=0) == []


def test_an_unknown_entity_relation_or_direction_is_named(tiny: GraphReader) -> None:
    with pytest.raises(NotFound, match="no entity has the id 'zebra'"):
        tiny.find_neighbours(["a", "zebra"])
    with pytest.raises(NotFound, match=r"no relation is called 'unsued'\. Did you mean 'unused'"):
        tiny.find_neighbours(["a"], relations=["unsued"])
    with pytest.raises(StoreError, match="no direction is called 'up'"):
        tiny.find_neighbours(["a"], direction="up")  # type: ignore[arg-type]
    for ask in (
        lambda: tiny.find_paths("a", "zebra"),
        lambda: tiny.find_paths("zebra", "a"),
        lambda: tiny.describe_entity("zebra"),
        lambda: tiny.expand(["zebra"], 2),
    ):
        with pytest.raises(NotFound, match="zebra"):
            ask()
    with pytest.raises(StoreError, match="expected 0 or more, found -1"):
        tiny.expand(["a"], -1)


def test_the_shortest_paths_are_all_found_and_say_which_way_they_went(tiny: GraphReader) -> None:
    assert tiny.find_paths("a", "d") == [
        Path("a", (Step("out", "r", "b"), Step("out", "s", "d"))),
    ]
    assert tiny.find_paths("d", "b", relations=["r"]) == [Path("d", (Step("in", "r", "c"), Step("in", "r", "b")))]
    assert tiny.find_paths("a", "a") == [Path("a", ())]
    assert tiny.find_paths("a", "e", max_hops=2) == []
    assert tiny.find_paths("a", "f") == []
    assert tiny.find_paths("e", "a", direction="out") == []
    assert len(tiny.find_paths("e", "a", direction="in")) == 1


def test_two_hops_from_a_stop_before_e(tiny: GraphReader) -> None:
    assert tiny.expand(["a"], 2) == {"a": 0, "b": 1, "c": 2, "d": 2}
    assert tiny.expand(["a", "d"], 1) == {"a": 0, "d": 0, "b": 1, "c": 1, "e": 1}
    assert tiny.expand(["a"], 3, relations=["r"]) == {"a": 0, "b": 1, "c": 2, "d": 3}
    assert tiny.expand(["c"], 2, direction="in") == {"c": 0, "b": 1, "a": 2}
    assert tiny.expand(["a"], 0) == {"a": 0}


def test_a_description_has_attributes_and_facts_both_ways(tiny: GraphReader) -> None:
    found = tiny.describe_entity("a")
    assert (found.label, found.description) == ("Niger", "A country.")
    assert found.types == ("http://example.org/Country", "http://example.org/Place")
    assert found.aliases == ("http://one.org/a", "http://two.org/a")
    # population: one value twice is one value; motto: several texts are a sorted list, also where there is one
    assert found.attributes == {"founded": datetime.date(1917, 4, 26), "motto": ["eins", "zwei"], "population": 5.0}
    assert [n.neighbour_id for n in found.facts_out] == ["b"]
    assert found.facts_in == ()
    assert tiny.describe_entity("b").attributes == {"motto": ["drei"], "population": 7.5}
    assert tiny.describe_entity("f").attributes == {}


def test_a_day_before_year_1_is_iso_text_and_sorts_before_dates(make: Callable[..., GraphReader]) -> None:
    ides = np.datetime64("-0043-03-15")
    literals = [("a", "days", datetime.date(1917, 4, 26)), ("a", "days", ides), ("b", "days", ides), ("b", "day", ides)]
    store = make(Graph(entities=["a", "b"], literals=literals))
    assert store.describe_entity("a").attributes == {"days": ["-0043-03-15", datetime.date(1917, 4, 26)]}
    assert store.describe_entity("b").attributes == {"day": "-0043-03-15", "days": ["-0043-03-15"]}


def test_attributes_become_properties_when_named_or_common_enough(make: Callable[..., GraphReader]) -> None:
    named = StoreConfig(attributes=(attribute_id("rare"),), min_attribute_share=0.3, max_attributes=2)
    store = make(TINY, named)
    assert store.describe_entity("c").attributes == {"rare": "x"}
    assert store.describe_entity("a").attributes == {"motto": ["eins", "zwei"]}  # the first of two that 2 of 6 have
    assert make(TINY, StoreConfig(max_attributes=0)).describe_entity("a").attributes == {}
    with pytest.raises(ConfigError, match=r"store.attributes: no attribute is called .*raer'. Did you mean .*rare'"):
        make(TINY, StoreConfig(attributes=(attribute_id("raer"),)))


RED, FLAG, MAP = "1" * 64, "2" * 64, "3" * 64
# a and f have the red one, and nothing else ties f to anything; a got its bytes from two places
PICTURES = [
    Picture("a", FLAG, 1, 0.25, "http://x/flag.png", licence="CC0", author="Zoë", source_page="http://x/page"),
    Picture("a", RED, 0, 0.5, "http://x/red.png", licence="all rights reserved"),
    Picture("a", RED, 2, 0.5, "http://x/copy.png", author="nobody"),
    Picture("f", RED, 0, None, "http://y/red.png", format="png", width_px=3, height_px=2),
    Picture("b", MAP, None, 0.1, "http://x/map.png", status="too_small"),
    Picture("c", None, None, None, "http://x/gone.png", status="http_404"),
]
IN_PICTURES = replace(TINY, images=PICTURES)


def test_pictures_come_by_entity_then_rank_and_the_smallest_url_says_where_from(
    make: Callable[..., GraphReader],
) -> None:
    store = make(IN_PICTURES)
    about_red = ("http://x/copy.png", None, "nobody", None, 3, 2, "png")
    flag = EntityImage("a", FLAG, 1, 0.25, "http://x/flag.png", "CC0", "Zoë", "http://x/page", 3, 2, "png")
    assert store.find_images(["f", "b", "a", "f"]) == [
        EntityImage("f", RED, 0, None, *about_red),
        EntityImage("a", RED, 0, 0.5, *about_red),
        flag,
    ]
    assert store.find_images([]) == []
    with pytest.raises(NotFound, match="no entity has the id 'zebra'"):
        store.find_images(["a", "zebra"])
    counts = store.counts()
    assert (counts.entities, counts.relationships, counts.images, counts.image_links) == (6, 6, 2, 3)


def test_pictures_are_no_neighbours_and_no_way_leads_through_them(make: Callable[..., GraphReader]) -> None:
    store = make(IN_PICTURES)
    assert store.counts().by_relation == {"r": 5, "s": 1, "unused": 0}
    assert store.find_neighbours(["f"]) == []
    assert [n.neighbour_id for n in store.find_neighbours(["a"])] == ["b"]
    assert store.find_neighbours(["a"], limit=1)[0].neighbour_id == "b"
    assert store.find_paths("a", "f", max_hops=6) == []
    for direction in ("out", "in", "both"):
        assert store.expand(["f"], 4, direction=direction) == {"f": 0}  # type: ignore[arg-type]
    assert "f" not in store.expand(["a"], 4)
    assert store.describe_entity("f").facts_out == ()


def test_a_store_without_pictures_has_none(make: Callable[..., GraphReader]) -> None:
    store = make(TINY)
    assert store.find_images(list("abcdef")) == []
    with pytest.raises(NotFound, match="zebra"):
        store.find_images(["zebra"])
    assert (store.counts().images, store.counts().image_links) == (0, 0)
    if isinstance(store, CypherStore):
        query = "MATCH (e:Entity)-[r:HAS_IMAGE]->(i:Image) RETURN e.entity_id AS id, r.rank AS rank, i.url AS url"
        assert store.query(query).to_pylist() == []


def test_a_store_of_nothing_answers(make: Callable[..., GraphReader]) -> None:
    store = make(Graph(entities=[]))
    assert (store.counts().entities, store.counts().relationships) == (0, 0)
    assert store.find_entity("a") == ()
    assert store.find_neighbours([]) == []
    assert store.expand([], 2) == {}


def test_entities_without_any_triple_answer(make: Callable[..., GraphReader]) -> None:
    store = make(Graph(entities=["a", "b"]))
    assert store.find_neighbours(["a", "b"]) == []
    assert store.find_paths("a", "b") == []
    assert store.expand(["a"], 3) == {"a": 0}
    assert store.describe_entity("a").facts_out == ()


def test_columns_that_are_null_everywhere_are_null(make: Callable[..., GraphReader]) -> None:
    store = make(Graph(entities=[f"e{i:04}" for i in range(5000)], triples=[("e0000", "r", "e4999")]))
    found = store.describe_entity("e4999")
    assert (found.label, found.description, found.types, found.aliases) == (None, None, (), ())
    assert found.facts_in == (Neighbour("e4999", "in", "r", "e0000", None, ("freebase",)),)


NASTY = [
    "`backtick`",
    'quo\'te "double" \\back\\slash',
    "new\nline\ttab\r",
    "http://example.org/a.b.c?d=e#f",
    "日本語 Ελλάδα עברית 😀",
    "x" * 1000,
    "nul\x00byte",
    "'}) DETACH DELETE e //",
    "$name",
    " ",
    "Case",
    "case",
    "cafe\u0301",
    "caf\u00e9",
]


def test_nasty_ids_labels_and_relation_ids_survive_unmerged(make: Callable[..., GraphReader]) -> None:
    graph = Graph(
        entities=NASTY,
        triples=[(NASTY[i - 1], f"r{i:02}", entity_id) for i, entity_id in enumerate(NASTY)],
        labels={entity_id: entity_id[::-1] for entity_id in NASTY},
        aliases={entity_id: [f"alias {entity_id}"] for entity_id in NASTY},
        literals=[(entity_id, "note", entity_id * 2) for entity_id in NASTY],
        relation_names={f"r{i:02}": name for i, name in enumerate(["x" * 1000, "MATCH", "1", "_", "from", "type"])},
    )
    store = make(graph)
    assert store.counts().entities == len(NASTY)
    for i, entity_id in enumerate(NASTY):
        assert store.find_entity(entity_id) == (entity_id,)
        assert store.find_entity(f"alias {entity_id}") == (entity_id,)
        described = store.describe_entity(entity_id)
        assert described.label == entity_id[::-1]
        assert described.attributes == {"note": entity_id * 2}
        assert [n.neighbour_id for n in store.find_neighbours([entity_id], direction="in")] == [NASTY[i - 1]]
    assert store.expand([NASTY[0]], 1) == {NASTY[0]: 0, NASTY[-1]: 1, NASTY[1]: 1}


def test_names_that_the_store_itself_uses_get_an_underscore(make: Callable[..., GraphReader]) -> None:
    graph = Graph(
        entities=["a", "b"],
        triples=[("a", relation, "b") for relation in ("Entity", "entity_", "image", "has_image", "other")],
        literals=[("a", name, name) for name in ("Label", "types", "label_", "_id", "id", "offset")],
    )
    store = make(graph, StoreConfig(min_attribute_share=0.0))
    assert sorted(store.counts().by_relation) == ["Entity__", "entity_", "has_image_", "image_", "other"]
    assert store.find_neighbours(["a"], relations=[relation_id("Entity")])[0].relation == "Entity__"
    found = store.describe_entity("a")
    assert found.label is None
    assert found.attributes == {
        "Label__": "Label",
        "types_": "types",
        "label_": "label_",
        "_id_": "_id",
        "id": "id",
        "offset": "offset",
    }


@pytest.mark.parametrize("name", ["a.b", "a`b", "a b", "é", "", "a'b", "a\nb", "r]->() DELETE e //", "x\n"])
def test_a_name_that_cannot_be_quoted_safely_is_refused(make: Callable[..., GraphReader], name: str) -> None:
    with pytest.raises(StoreError, match="expected only A-Z, a-z, 0-9 and _"):
        make(Graph(entities=["a", "b"], triples=[("a", "r", "b")], relation_names={"r": name}))


NODES = "abcdefg"
_triple = st.tuples(st.sampled_from(NODES), st.sampled_from("rst"), st.sampled_from(NODES), st.integers(1, 3))
graphs = st.lists(_triple, max_size=14, unique_by=lambda triple: triple[:3])


def _distances(triples: list[tuple[str, str, str, int]], start: str, relations: str, direction: str) -> dict[str, int]:
    """Breadth-first search over a list of triples."""
    hops = {start: 0}
    queue = deque([start])
    while queue:
        here = queue.popleft()
        for head, relation, tail, _ in triples:
            if relation not in relations:
                continue
            for source, target, way in ((head, tail, "out"), (tail, head, "in")):
                if source == here and direction in (way, "both") and target not in hops:
                    hops[target] = hops[here] + 1
                    queue.append(target)
    return hops


def _count_shortest(triples: list[tuple[str, str, str, int]], start: str, end: str, direction: str) -> tuple[int, int]:
    """Length and number of the shortest paths, by powers of the matrix of steps; (-1, 0) if there is none."""
    ways = dict.fromkeys(NODES, 0) | {start: 1}
    for length in range(len(NODES)):
        if ways[end]:
            return length, ways[end]
        after = dict.fromkeys(NODES, 0)
        for head, _, tail, _ in triples:
            if direction in ("out", "both"):
                after[tail] += ways[head]
            if direction in ("in", "both"):
                after[head] += ways[tail]
        ways = after
    return -1, 0


@pytest.mark.parametrize("name", STORES)
def test_answers_equal_brute_force_on_any_small_graph(name: str) -> None:
    @settings(max_examples=60 if name == "memory" else 12)
    @given(triples=graphs, start=st.sampled_from(NODES), num_hops=st.integers(0, 4))
    def check(triples: list[tuple[str, str, str, int]], start: str, num_hops: int) -> None:
        graph = Graph(entities=list(NODES), triples=triples, relations=["r", "s", "t"])
        with TemporaryDirectory() as folder:
            tables = write_graph(FilePath(folder) / "tables", graph)
            with STORES[name](tables, FilePath(folder) / "store", CONFIG) as store:
                _check_against_brute_force(store, triples, start, num_hops)

    check()


def _check_against_brute_force(
    store: GraphReader, triples: list[tuple[str, str, str, int]], start: str, num_hops: int
) -> None:
    assert store.counts().by_relation == {r: sum(t[1] == r for t in triples) for r in "rst"}
    found = {(n.entity_id, n.direction, n.relation, n.neighbour_id) for n in store.find_neighbours(NODES)}
    out = {(head, "out", relation, tail) for head, relation, tail, _ in triples}
    assert found == out | {(tail, "in", relation, head) for head, relation, tail, _ in triples}
    for direction in ("out", "in", "both"):
        for relations in ("rst", "rs"):
            near = {
                entity: hop
                for entity, hop in _distances(triples, start, relations, direction).items()
                if hop <= num_hops
            }
            asked = None if relations == "rst" else list(relations)
            assert store.expand([start], num_hops, relations=asked, direction=direction) == near  # type: ignore[arg-type]
        for end in NODES:
            length, number = _count_shortest(triples, start, end, direction)
            paths = store.find_paths(start, end, max_hops=6, direction=direction, limit=10_000)  # type: ignore[arg-type]
            assert (len(paths[0].steps) if paths else -1, len(paths)) == (length, number)
            assert paths == sorted(set(paths))
            for path in paths:
                _check_path(path, triples, end)
            assert store.find_paths(start, end, max_hops=6, direction=direction, limit=2) == paths[:2]  # type: ignore[arg-type]


def _check_path(path: Path, triples: list[tuple[str, str, str, int]], end: str) -> None:
    """Every step is a triple, taken in the direction that it says."""
    known = {triple[:3] for triple in triples}
    here = path.start_id
    for step in path.steps:
        head, tail = (here, step.entity_id) if step.direction == "out" else (step.entity_id, here)
        assert (head, step.relation, tail) in known
        here = step.entity_id
    assert here == end


@pytest.mark.parametrize("name", STORES)
def test_paths_of_many_hops_cross_the_meeting_of_both_searches(name: str, tmp_path: FilePath) -> None:
    # ten diamonds in a row: 2 ** 10 shortest paths of 20 hops
    triples = []
    for i in range(10):
        triples += [(f"n{i:02}", "r", f"{side}{i:02}") for side in "xy"]
        triples += [(f"{side}{i:02}", "r", f"n{i + 1:02}") for side in "xy"]
    entities = sorted({triple[i] for triple in triples for i in (0, 2)})
    tables = write_graph(tmp_path / "tables", Graph(entities=entities, triples=triples))
    with STORES[name](tables, tmp_path / "store", CONFIG) as store:
        paths = store.find_paths("n00", "n10", max_hops=20, limit=2000)
        assert len(paths) == 2**10
        assert {len(path.steps) for path in paths} == {20}
        assert store.find_paths("n00", "n10", max_hops=19) == []
        assert store.find_paths("n00", "n10", max_hops=20, limit=3) == paths[:3]
