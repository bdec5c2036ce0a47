"""Vectors in a real server: the index finds what numpy finds, and a load leaves them alone."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import neo4j
import numpy as np
import pytest

from mmkg.config import StoreConfig
from mmkg.errors import StoreError
from mmkg.store.content import Content
from mmkg.store.neo4j.vectors import index_name, load_vectors, measure_recall, search_vectors
from tests.servers.neo4j import Neo4jServer
from tests.store.graphs import Graph, Picture
from tests.store.neo4j_checks import CONFIG, Load, content_of, run
from tests.store.neo4j_graphs import config_of

NAMES = [f"e{i:03}" for i in range(300)]
GRAPH = Graph(entities=NAMES, triples=[("e000", "r", "e001")], literals=[("e000", "size", 1)])
VECTORS = np.random.default_rng(0).normal(size=(300, 16)).astype(np.float32)


@pytest.fixture
def driver(empty_server: Neo4jServer) -> Iterator[neo4j.Driver]:
    with empty_server.driver() as driver:
        yield driver
        for (name,) in run(empty_server, "SHOW VECTOR INDEXES YIELD name RETURN name"):
            run(empty_server, f"DROP INDEX `{name}`")


@pytest.fixture
def config(empty_server: Neo4jServer) -> StoreConfig:
    return config_of(empty_server, CONFIG)


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
def test_the_index_agrees_with_exact_search(
    driver: neo4j.Driver,
    config: StoreConfig,
    load: Load,
    tmp_path: Path,
    similarity: str,
) -> None:
    load(content_of(GRAPH, tmp_path / "graph"))
    load_vectors(driver, config, "clip", NAMES, VECTORS, similarity=similarity)
    found = search_vectors(driver, config, "clip", VECTORS[7], 3)
    assert found[0][0] == "e007"
    assert found[0][1] == pytest.approx(1, abs=1e-5)
    second = NAMES.index(found[1][0])
    if similarity == "cosine":
        lengths = np.linalg.norm(VECTORS[7]) * np.linalg.norm(VECTORS[second])
        assert found[1][1] == pytest.approx(float(VECTORS[7] @ VECTORS[second] / lengths), abs=1e-5)
    else:
        assert found[1][1] == pytest.approx(1 / (1 + float(((VECTORS[7] - VECTORS[second]) ** 2).sum())), abs=1e-5)
    queries = np.random.default_rng(1).normal(size=(20, 16)).astype(np.float32)
    recall = measure_recall(driver, config, "clip", NAMES, VECTORS, queries, k=10, similarity=similarity)
    assert recall >= 0.95


def test_vectors_survive_a_load_and_are_no_content(
    empty_server: Neo4jServer,
    driver: neo4j.Driver,
    config: StoreConfig,
    load: Load,
    tmp_path: Path,
) -> None:
    first = content_of(GRAPH, tmp_path / "first")
    load(first)
    load_vectors(driver, config, "clip", NAMES, VECTORS)
    load_vectors(driver, config, "face", NAMES[:10], VECTORS[:10, :4])
    assert load(first).how == "unchanged"
    labels = {"e007": "seven"}
    second = content_of(
        replace(GRAPH, entities=[*NAMES[1:], "new"], triples=[], literals=[], labels=labels), tmp_path / "second"
    )
    assert load(second).how == "flipped"
    assert load(second).how == "unchanged"
    assert run(empty_server, "MATCH (e:Entity) WHERE e.clip IS NOT NULL RETURN count(*)") == [[299]]
    assert search_vectors(driver, config, "clip", VECTORS[7], 1)[0][0] == "e007"
    assert search_vectors(driver, config, "clip", VECTORS[0], 1)[0][0] != "e000"
    run(empty_server, "MATCH (e:Entity {entity_id: 'e007'}) SET e.clop = e.clip")
    with pytest.raises(StoreError, match="properties that the graph does not have"):
        load(second)


SHA256 = [f"{number:064x}" for number in range(300)]
PICTURED = replace(
    GRAPH, images=[Picture(name, sha256, 0) for name, sha256 in zip(NAMES, SHA256, strict=True)], literals=[]
)


def test_pictures_have_vectors_of_their_own_that_survive_a_load(
    empty_server: Neo4jServer, driver: neo4j.Driver, config: StoreConfig, load: Load, tmp_path: Path
) -> None:
    first = content_of(PICTURED, tmp_path / "first")
    load(first)
    load_vectors(driver, config, "clip", NAMES, VECTORS)
    others = VECTORS[::-1].copy()
    load_vectors(driver, config, "clip", SHA256, others, node="image")
    assert {index_name("clip"), index_name("clip", "image")} == {
        name for (name,) in run(empty_server, "SHOW VECTOR INDEXES YIELD name RETURN name")
    }
    assert search_vectors(driver, config, "clip", VECTORS[7], 1)[0][0] == "e007"
    assert search_vectors(driver, config, "clip", VECTORS[7], 1, node="image")[0][0] == SHA256[292]
    queries = np.random.default_rng(1).normal(size=(10, 16)).astype(np.float32)
    assert measure_recall(driver, config, "clip", SHA256, others, queries, node="image") >= 0.9
    assert load(first, hint=None).how == "unchanged"
    # picture 0 goes, 1 is of another licence, one comes
    pictures = [replace(PICTURED.images[1], licence="CC0"), *PICTURED.images[2:], Picture("e000", "f" * 64)]
    second = content_of(replace(PICTURED, images=pictures, labels={"e007": "seven"}), tmp_path / "second")
    assert load(second).how == "flipped"
    assert load(second, hint=None).how == "unchanged"
    check_holds_but_vectors(empty_server, second)
    assert run(empty_server, "MATCH (i:Image) WHERE i.clip IS NOT NULL RETURN count(*)") == [[299]]
    assert search_vectors(driver, config, "clip", others[1], 1, node="image")[0][0] == SHA256[1]
    assert search_vectors(driver, config, "clip", others[0], 1, node="image")[0][0] != SHA256[0]
    run(empty_server, f"MATCH (i:Image {{sha256: '{SHA256[5]}'}}) SET i.clop = i.clip")
    with pytest.raises(StoreError, match="properties that the graph does not have"):
        load(second)


def check_holds_but_vectors(server: Neo4jServer, content: Content) -> None:
    found = run(server, "MATCH (e:Entity)-[r:HAS_IMAGE]->(i:Image) RETURN count(DISTINCT i), count(r)")
    assert found == [[content.digest.num_images, content.digest.num_image_links]]
    assert run(server, "MATCH (s:MmkgStore) RETURN s.vectors, s.image_vectors") == [[["clip"], ["clip"]]]


def test_a_vector_of_a_picture_is_refused_where_it_cannot_be(
    driver: neo4j.Driver, config: StoreConfig, load: Load, tmp_path: Path
) -> None:
    load(content_of(PICTURED, tmp_path / "graph"))
    with pytest.raises(StoreError, match="pictures have an attribute 'licence'"):
        load_vectors(driver, config, "licence", SHA256, VECTORS, node="image")
    with pytest.raises(StoreError, match=r"no kind of node is called 'picture'"):
        load_vectors(driver, config, "clip", SHA256, VECTORS, node="picture")  # type: ignore[arg-type]
    with pytest.raises(StoreError, match=r"no vector index clip-image_vectors"):
        search_vectors(driver, config, "clip", VECTORS[0], 1, node="image")
    with pytest.raises(StoreError, match=r"1 of a batch of 300 pictures are not in the store, the first e000"):
        load_vectors(driver, config, "clip", ["e000", *SHA256[1:]], VECTORS, node="image")


def test_vectors_of_other_dimensions_get_a_new_index(
    driver: neo4j.Driver,
    config: StoreConfig,
    load: Load,
    tmp_path: Path,
) -> None:
    load(content_of(GRAPH, tmp_path / "graph"))
    load_vectors(driver, config, "clip", NAMES, VECTORS)
    load_vectors(driver, config, "clip", NAMES, VECTORS[:, :8])
    assert search_vectors(driver, config, "clip", VECTORS[3, :8], 1)[0][0] == "e003"
    with pytest.raises(StoreError, match=r"expected a vector of 8 numbers, found one of shape \(16,\)"):
        search_vectors(driver, config, "clip", VECTORS[3], 1)


def test_what_cannot_be_a_vector_is_refused(
    driver: neo4j.Driver,
    config: StoreConfig,
    load: Load,
    tmp_path: Path,
) -> None:
    with pytest.raises(StoreError, match="nothing is served yet"):
        load_vectors(driver, config, "clip", NAMES, VECTORS)
    load(content_of(GRAPH, tmp_path / "graph"))
    with pytest.raises(StoreError, match="no vector index other_vectors"):
        search_vectors(driver, config, "other", VECTORS[0], 1)
    with pytest.raises(StoreError, match="k: expected 1 or more, found 0"):
        search_vectors(driver, config, "clip", VECTORS[0], 0)
    for name, message in (
        ("size", "has an attribute 'size'"),
        ("label", "attribute 'label'"),
        ("a`b", "expected only"),
    ):
        with pytest.raises(StoreError, match=message):
            load_vectors(driver, config, name, NAMES, VECTORS)
    with pytest.raises(StoreError, match=r"expected shape \(300, d\), found \(10, 16\)"):
        load_vectors(driver, config, "clip", NAMES, VECTORS[:10])
    zero = VECTORS.copy()
    zero[5] = 0
    zero[6, 1] = np.nan
    with pytest.raises(StoreError, match="2 are not finite or of length 0, the first that of e005"):
        load_vectors(driver, config, "clip", NAMES, zero)
    with pytest.raises(StoreError, match=r"1 of a batch of 300 entities are not in the store, the first nobody"):
        load_vectors(driver, config, "clip", ["nobody", *NAMES[1:]], VECTORS)
