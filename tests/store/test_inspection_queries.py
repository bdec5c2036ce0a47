"""docs/inspection.md: every query runs on the embedded store and on a real Neo4j, with the same answers."""

import csv
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
from mmkg.shards import file_sha256
from mmkg.store import CypherStore, EmbeddedStore, load_store, open_embedded
from mmkg.store.neo4j import Neo4jStore, open_neo4j
from tests.store.graphs import Picture, write_images
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
def flags(atlas: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the table images: each flag is its country's, and a map of Europe that of several."""
    with (ROOT / "examples" / "atlas" / "flags" / "index.tsv").open(encoding="utf-8", newline="") as file:
        files = {row["dbpedia"]: row["file"] for row in csv.DictReader(file, delimiter="\t")}
    pictures, index = [], {}
    for row in atlas.entities.to_table(columns=["entity_index", "entity_id", "label", "aliases"]).to_pylist():
        index[row["entity_id"]] = row["entity_index"]
        for iri in {row["entity_id"], *row["aliases"]} & files.keys():
            flag = ROOT / "examples" / "atlas" / "flags" / files[iri]
            url = f"folder:flags/{flag.name}"
            about = {"licence": "CC0", "author": "mmkg", "score": 0.5, "width_px": 240, "height_px": 160}
            pictures.append(Picture(row["entity_id"], file_sha256(flag), 0, url=url, **about))
        if row["label"] in ("France", "Germany", "Malta"):
            pictures.append(
                Picture(row["entity_id"], "0" * 64, 1, url="http://example.org/Europe.png", licence="CC BY")
            )
    assert len(pictures) > 100
    return write_images(tmp_path_factory.mktemp("flags"), pictures, index)


@pytest.fixture(scope="module")
def embedded(atlas: Build, flags: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    config = StoreConfig.model_validate(atlas.manifest.config["store"])
    folder = tmp_path_factory.mktemp("embedded")
    load_store(atlas.folder, folder, config, atlas.manifest.source_names, images_folder=flags)
    with open_embedded(folder) as store:
        yield store


@pytest.fixture(scope="module")
def on_neo4j(atlas: Build, flags: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neo4jStore]:
    server = shared_server()
    config = StoreConfig.model_validate(atlas.manifest.config["store"])
    sources = atlas.manifest.source_names
    put(server, atlas.folder, tmp_path_factory.mktemp("content"), config, sources=sources, images_folder=flags)
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
def test_a_query_has_the_same_answer_on_both_stores(embedded: EmbeddedStore, on_neo4j: Neo4jStore, query: str) -> None:
    expected = answer(embedded, query)
    assert expected[1], "an example without an answer shows nothing"
    assert answer(on_neo4j, query) == expected


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_query_in_two_forms_has_the_same_answer(
    embedded: EmbeddedStore, on_neo4j: Neo4jStore, first: str, second: str
) -> None:
    expected = answer(embedded, first)
    assert expected[1]
    assert answer(on_neo4j, second) == expected


def test_a_program_of_ones_own_can_see_that_no_flip_is_on_its_way(on_neo4j: Neo4jStore) -> None:
    [query] = [query for dialect, query in BLOCKS if dialect == "neo4j" and "MmkgStore" in query]
    assert on_neo4j.query(query).to_pylist() == [{"s.state": "ready", "being_flipped": 0}]


def test_the_questions_without_cypher_have_the_same_answers_on_the_atlas(
    atlas: Build, embedded: EmbeddedStore, on_neo4j: Neo4jStore
) -> None:
    france, mali = (atlas.get_entity(name).entity_id for name in ("France", "Mali"))
    for store_answer in (
        lambda store: store.counts(),
        lambda store: store.describe_entity(france),
        lambda store: store.find_neighbours([france, mali], limit=7),
        lambda store: store.find_paths(france, mali, relations=["borders"], max_hops=8),
        lambda store: store.expand([france], 3),
        lambda store: store.find_images([mali, france]),
    ):
        assert store_answer(on_neo4j) == store_answer(embedded)
    assert len(on_neo4j.find_images([mali, france])) == 3


def test_a_picture_has_its_properties_in_one_order_on_both_stores(
    embedded: EmbeddedStore, on_neo4j: Neo4jStore
) -> None:
    query = "MATCH (e:Entity)-[r:HAS_IMAGE]->(i:Image) WHERE e.label = 'Mali' RETURN i, r.rank, r.score"
    fields = [field.name for field in embedded.query(query).schema.field("i").type][2:]
    found = on_neo4j.query(query).schema
    assert [field.name for field in found.field("i").type][2:] == [name for name in fields if name != "source_page"]
    assert found.types[1:] == embedded.query(query).schema.types[1:] == [pa.int64(), pa.float64()]


def test_columns_have_the_same_types_on_both_stores(embedded: EmbeddedStore, on_neo4j: Neo4jStore) -> None:
    query = (
        "MATCH (e:Entity)-[r]->(n) WHERE e.label = 'France' RETURN e.label, e.lat, e.types, count(r) AS c, 1 = 1 AS b"
    )
    types = [field.type for field in on_neo4j.query(query).schema]
    assert types == [pa.string(), pa.float64(), pa.list_(pa.string()), pa.int64(), pa.bool_()]
    assert [str(field.type).replace("l:", "item:") for field in embedded.query(query).schema] == list(map(str, types))
