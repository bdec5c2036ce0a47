"""docs/inspection.md: every query runs on the embedded store and on a real Neo4j, with the same answers."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mmkg import pipeline
from mmkg.builds import Build, open_build
from mmkg.config import StoreConfig, read_config
from mmkg.store import CypherStore
from mmkg.store.neo4j import Neo4jStore, open_neo4j
from tests.store.neo4j_graphs import config_of, put, shared_server

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "inspection.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```cypher(?: (embedded|neo4j))?\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
SHARED = [query for dialect, query in BLOCKS if not dialect]
PAIRS = [
    (first, second)
    for (left, first), (right, second) in itertools.pairwise(BLOCKS)
    if (left, right) == ("embedded", "neo4j")
]


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Build]:
    output = tmp_path_factory.mktemp("atlas")
    report = pipeline.build(read_config(ROOT / "examples" / "atlas" / "atlas.toml", [f'graph.output="{output}"']))
    assert report.folder is not None
    with open_build(report.folder) as build:
        yield build


@pytest.fixture(scope="module")
def on_neo4j(atlas: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neo4jStore]:
    server = shared_server()
    config = StoreConfig.model_validate(atlas.manifest.config["store"])
    put(server, atlas.folder, tmp_path_factory.mktemp("content"), config, sources=atlas.manifest.source_names)
    with server.driver() as driver:
        driver.execute_query("CALL db.awaitIndexes(60)", database_="neo4j")
    with open_neo4j(config_of(server, config), password=server.password) as store:
        yield store


def answer(store: CypherStore, query: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and rows: in the order that the query asks for, else sorted. Lists are sorted too."""
    table = store.query(query)
    rows = [tuple(sorted(v) if isinstance(v, list) else v for v in row.values()) for row in table.to_pylist()]
    last = query.rpartition("RETURN")[2]
    return table.column_names, rows if "ORDER BY" in last else sorted(rows, key=repr)


def test_the_page_has_what_an_analyst_needs() -> None:
    assert len(SHARED) >= 30
    assert len(PAIRS) == 2


@pytest.mark.parametrize("query", SHARED)
def test_a_query_has_the_same_answer_on_both_stores(atlas: Build, on_neo4j: Neo4jStore, query: str) -> None:
    expected = answer(atlas.store, query)
    assert expected[1], "an example without an answer shows nothing"
    assert answer(on_neo4j, query) == expected


@pytest.mark.parametrize(("embedded", "neo4j"), PAIRS)
def test_a_query_in_two_forms_has_the_same_answer(
    atlas: Build, on_neo4j: Neo4jStore, embedded: str, neo4j: str
) -> None:
    expected = answer(atlas.store, embedded)
    assert expected[1]
    assert answer(on_neo4j, neo4j) == expected


def test_a_program_of_ones_own_can_see_that_no_flip_is_on_its_way(on_neo4j: Neo4jStore) -> None:
    [query] = [query for dialect, query in BLOCKS if dialect == "neo4j" and "MmkgStore" in query]
    assert on_neo4j.query(query).to_pylist() == [{"s.state": "ready", "being_flipped": 0}]


def test_the_questions_without_cypher_have_the_same_answers_on_the_atlas(atlas: Build, on_neo4j: Neo4jStore) -> None:
    france, mali = (atlas.get_entity(name).entity_id for name in ("France", "Mali"))
    for store_answer in (
        lambda store: store.counts(),
        lambda store: store.describe_entity(france),
        lambda store: store.find_neighbours([france, mali], limit=7),
        lambda store: store.find_paths(france, mali, relations=["borders"], max_hops=8),
        lambda store: store.expand([france], 3),
    ):
        assert store_answer(on_neo4j) == store_answer(atlas.store)


def test_columns_have_the_same_types_on_both_stores(atlas: Build, on_neo4j: Neo4jStore) -> None:
    query = (
        "MATCH (e:Entity)-[r]->(n) WHERE e.label = 'France' RETURN e.label, e.lat, e.types, count(r) AS c, 1 = 1 AS b"
    )
    types = [field.type for field in on_neo4j.query(query).schema]
    assert types == [pa.string(), pa.float64(), pa.list_(pa.string()), pa.int64(), pa.bool_()]
    assert [str(field.type).replace("l:", "item:") for field in atlas.store.query(query).schema] == list(
        map(str, types)
    )
