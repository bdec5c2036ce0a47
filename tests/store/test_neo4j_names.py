"""Looking entities up by name through the server's indexes: nothing is missed, nothing is too long for them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmkg.graph.entities import MAX_LABEL_CHARACTERS
from mmkg.sources.base import MAX_IRI_BYTES
from mmkg.store import cypher
from mmkg.store.neo4j import Neo4jStore, open_neo4j
from tests.servers.neo4j import Neo4jServer
from tests.store.graphs import Graph, write_graph
from tests.store.neo4j_checks import Load, check_holds, content_of, run
from tests.store.neo4j_graphs import config_of, put, shared_server

ALIASES = [
    "http://dbpedia.org/resource/Niger",
    "http://dbpedia.org/resource/Niger_(state)",
    'a "quoted" word',
    "\\",
    "\\u0022",
    'end\\"',
    "AND",
    "a OR b",
    "a~2^3*?",
    "[a TO b]",
    "+a -b !c (d) {e} :f/",
    "two  spaces",
    " leading",
    "trailing ",
    "tab\tand\nline",
    "   ",
    "\u00a0",
    "\u2003",
    "nul\0inside",
    "Ångström",
    "日本 国",
    "👩‍👩‍👧",
    "x" * 300,
    "x" * 255,
    "http://a/" + "é" * ((MAX_IRI_BYTES - 9) // 2),
]


LABELS = [
    "United States",
    "united states of America",
    "UNITED  STATES",  # two spaces: another name of the same words
    "United-States",
    'The "Who"',
    "AND",
    "label:x OR y~",
    "C++",
    "AC/DC",
    "snake_CASE.name's",
    "\u212a2",  # K2 with the Kelvin sign, whose lower case is an ASCII k
    "\u0130zmir",  # lower case of more than one character
    "\u039f\u0394\u039f\u03a3",  # ends on a sigma, which has two lower cases
    "Stra\u00dfe",
    "\u65e5\u672c",
    "?!",
    "X" * 300,
    "a " * 900 + "B",
    "nul\0Inside",
]


def store_of(
    server: Neo4jServer, aliases: list[str], folder: Path, labels: Sequence[str | None] | None = None
) -> Neo4jStore:
    entities = [f"e{number:02}" for number in range(len(aliases))]
    graph = Graph(
        entities=entities,
        aliases={e: [alias, "shared"] for e, alias in zip(entities, aliases, strict=True)},
        labels=dict(zip(entities, labels or [None] * len(aliases), strict=True)),
    )
    config = config_of(server)
    put(server, write_graph(folder / "tables", graph), folder / "content", config)
    return open_neo4j(config, password=server.password)


@pytest.fixture
def server() -> Iterator[Neo4jServer]:
    server = shared_server()
    yield server
    run(server, "MATCH (n) DETACH DELETE n")


@pytest.mark.parametrize("way", ["index", "scan"])
def test_an_entity_is_found_by_any_alias_and_no_other_is(
    server: Neo4jServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "scan":
        monkeypatch.setattr(cypher, "ALIAS_INDEX", "no_such_index")
    with store_of(server, ALIASES, tmp_path) as store:
        for number, alias in enumerate(ALIASES):
            assert store.find_entity(alias) == (f"e{number:02}",), repr(alias)
            assert store.find_entity(alias + "x") == store.find_entity("x" + alias) == ()
        assert len(store.find_entity("shared")) == len(ALIASES)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(aliases=st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=12, unique=True))
def test_the_index_finds_what_a_scan_finds(
    server: Neo4jServer, tmp_path_factory: pytest.TempPathFactory, aliases: list[str]
) -> None:
    with store_of(server, aliases, tmp_path_factory.mktemp("aliases")) as store:
        for alias in aliases:
            scanned = [row for (row,) in run(server, cypher.FIND_BY_ALIAS, {"name": alias})]
            assert list(store.find_entity(alias)) == scanned
            assert scanned


def test_aliases_are_not_scanned_where_there_is_an_index(
    server: Neo4jServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cypher, "FIND_BY_ALIAS", "RETURN 'scanned'")
    with store_of(server, ["one", "two"], tmp_path) as store:
        assert store.find_entity("two") == ("e01",)
        assert store.find_entity(" ") == ("scanned",)


@pytest.mark.parametrize("way", ["index", "scan"])
def test_a_label_is_found_in_any_case_and_no_other_is(
    server: Neo4jServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "scan":
        monkeypatch.setattr(cypher, "WORD_INDEX", "no_such_index")
    with store_of(server, ["-"] * len(LABELS), tmp_path, LABELS) as store:
        for number, label in enumerate(LABELS):
            for name in {label, label.upper(), label.lower(), label.swapcase()}:
                called = [number] if name == label else [n for n, x in enumerate(LABELS) if x.lower() == name.lower()]
                assert store.find_entity(name) == tuple(f"e{n:02}" for n in called), repr(name)
        assert store.find_entity("k2") == (f"e{LABELS.index(chr(0x212A) + '2'):02}",)
        assert store.find_entity("united") == store.find_entity("states united") == ()


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    labels=st.lists(
        st.one_of(st.text(max_size=20), st.text(st.sampled_from("aAbBkK\u212a ._-'\"\\:/1\u0130\u0307"), max_size=8)),
        min_size=1,
        max_size=30,
    )
)
def test_the_index_finds_the_labels_that_a_scan_finds(
    server: Neo4jServer, tmp_path_factory: pytest.TempPathFactory, labels: list[str]
) -> None:
    with store_of(server, ["-"] * len(labels), tmp_path_factory.mktemp("labels"), labels) as store:
        for name in {text for label in labels for text in (label.lower(), label.upper(), label.swapcase())}:
            if name != "-" and name not in labels:
                scanned = [row for (row,) in run(server, cypher.FIND_BY_ANY_CASE, {"name": name})]
                assert list(store.find_entity(name)) == scanned, repr(name)


def test_labels_are_not_scanned_where_there_is_an_index(
    server: Neo4jServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cypher, "FIND_BY_ANY_CASE", "RETURN 'scanned'")
    with store_of(server, ["-", "+"], tmp_path, ["One", "ΣΑΣ"]) as store:
        assert store.find_entity("ONE") == ("e00",)
        assert store.find_entity("nobody") == ()
        assert store.find_entity("σας") == store.find_entity("?!") == ("scanned",)


def test_a_missing_index_is_done_without(server: Neo4jServer, tmp_path: Path) -> None:
    [[options]] = run(
        server, "SHOW INDEXES YIELD name, createStatement WHERE name = 'entity_aliases' RETURN createStatement"
    )
    run(server, "DROP INDEX entity_aliases")
    try:
        with store_of(server, ["one", "two"], tmp_path) as store:
            assert store.find_entity("two") == ("e01",)
    finally:
        run(server, options)
        run(server, "CALL db.awaitIndexes(60)")


def test_the_longest_ids_aliases_and_labels_that_a_build_lets_through_fit_the_indexes(
    empty_server: Neo4jServer, load: Load, tmp_path: Path
) -> None:
    """Rejected beyond this while they are read: one such line would stop every load."""
    longest = "http://a/" + "x" * (MAX_IRI_BYTES - 9)
    graph = Graph(
        entities=["a", longest],
        triples=[("a", "r", longest, 1), (longest, "r", "a", 1)],
        labels={"a": "𝄞" * MAX_LABEL_CHARACTERS},
        aliases={"a": [longest[:-1] + "y"]},
    )
    content = content_of(graph, tmp_path / "content")
    assert load(content).how == "loaded"
    check_holds(empty_server, content, tmp_path)
    with open_neo4j(config_of(empty_server), password=empty_server.password) as store:
        for name in (longest[:-1] + "y", "𝄞" * MAX_LABEL_CHARACTERS):
            assert store.find_entity(name) == ("a",)
        assert store.find_entity(longest) == (longest,)
