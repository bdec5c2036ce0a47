"""Pictures from the table images to both stores: which bytes are one node, which row decides, what a change writes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkg.errors import StoreError
from mmkg.store import LoadReport, load_store, open_embedded, open_memory, verify_store
from mmkg.store.compare import REMOVE
from mmkg.store.content import digest_embedded, digest_tables, read_content, write_content
from mmkg.store.difference import find_difference
from mmkg.store.manifest import STORE_MANIFEST
from mmkg.store.neo4j.load import load_neo4j
from mmkg.store.neo4j.state import read_state
from tests.servers.neo4j import Neo4jServer
from tests.store.graphs import SOURCES, Graph, Picture, images_of, write_graph
from tests.store.neo4j_checks import CONFIG, Load, bookmark, check_holds, content_of, run
from tests.store.neo4j_graphs import config_of

RED, FLAG = "1" * 64, "2" * 64
# a has both pictures, b the red one too, c none
PICTURES = [
    Picture("a", RED, 0, 0.5, "http://x/red.png", licence="CC0", author="Zoë", source_page="http://x/red"),
    Picture("a", FLAG, 1, None, "http://x/flag.png", licence="CC BY", format="jpeg", width_px=640, height_px=480),
    Picture("b", RED, 0, 0.25, "http://y/red.png", licence="all rights reserved"),
]
GRAPH = Graph(entities=list("abc"), triples=[("a", "r", "b", 1), ("b", "r", "c", 2)], images=PICTURES)
WITHOUT = replace(GRAPH, images=[])


def tables_of(graph: Graph, folder: Path) -> tuple[Path, Path | None]:
    tables = write_graph(folder, graph)
    return tables, images_of(tables)


def load_embedded(graph: Graph, folder: Path) -> tuple[LoadReport, Path]:
    tables, images = tables_of(graph, folder / "tables")
    store = folder / "store"
    return load_store(tables, store, CONFIG, SOURCES, images_folder=images, buffer_bytes=256 << 20), store


def rows(path: Path | None) -> list[dict[str, Any]]:
    assert path is not None
    return pq.read_table(path).to_pylist()


# --- from the table to content ---------------------------------------------------------------------------------------


def test_the_same_bytes_are_one_node_and_the_smallest_url_decides_what_is_said_of_it(tmp_path: Path) -> None:
    content = content_of(GRAPH, tmp_path / "content")
    assert rows(content.images) == [
        {
            "sha256": RED,
            "url": "http://x/red.png",
            "source_page": "http://x/red",
            "licence": "CC0",
            "author": "Zoë",
            "format": "png",
            "width_px": 3,
            "height_px": 2,
        },
        {
            "sha256": FLAG,
            "url": "http://x/flag.png",
            "source_page": None,
            "licence": "CC BY",
            "author": None,
            "format": "jpeg",
            "width_px": 640,
            "height_px": 480,
        },
    ]
    assert rows(content.image_links) == [
        {"from": "a", "to": RED, "rank": 0, "score": 0.5},
        {"from": "a", "to": FLAG, "rank": 1, "score": None},
        {"from": "b", "to": RED, "rank": 0, "score": 0.25},
    ]
    assert (content.digest.num_images, content.digest.num_image_links, content.digest.num_edges) == (2, 3, 2)
    assert read_content(content.folder) == content


def test_of_two_candidates_of_an_entity_with_the_same_bytes_the_better_rank_counts(tmp_path: Path) -> None:
    twice = [Picture("a", RED, 2, None, "http://a"), Picture("a", RED, 1, 0.5, "http://b", licence="CC0")]
    for number, pictures in enumerate((twice, twice[::-1])):
        content = content_of(replace(GRAPH, images=pictures), tmp_path / f"{number}")
        assert rows(content.image_links) == [{"from": "a", "to": RED, "rank": 1, "score": 0.5}]
        [image] = rows(content.images)
        assert (image["url"], image["licence"]) == ("http://a", None)


def test_rejected_candidates_are_no_pictures(tmp_path: Path) -> None:
    rejected = [
        Picture("a", RED, None, 0.5, "http://a", status="too_small"),
        Picture("b", None, None, None, "http://b", status="http_404"),
    ]
    content = content_of(replace(GRAPH, images=rejected), tmp_path / "content")
    assert (content.images, content.image_links) == (None, None)
    assert sorted(path.name for path in content.folder.iterdir()) == [
        "content.json",
        "edges-000000.parquet",
        "nodes.parquet",
    ]
    kept = [*rejected, Picture("c", RED, 0, None, "http://z")]
    assert rows(content_of(replace(GRAPH, images=kept), tmp_path / "kept").images)[0]["url"] == "http://z"


@pytest.mark.parametrize(
    "wrong", [Picture("a", None, 0, url="http://wrong"), Picture("a", RED, None, url="http://wrong")]
)
def test_a_kept_picture_without_bytes_or_rank_is_an_error(tmp_path: Path, wrong: Picture) -> None:
    with pytest.raises(StoreError, match=r"keeps http://wrong for entity_index 0: expected a sha256, a rank"):
        content_of(replace(GRAPH, images=[*PICTURES, wrong]), tmp_path / "content")


def test_a_picture_of_no_entity_is_an_error(tmp_path: Path) -> None:
    tables, _ = tables_of(Graph(entities=["a"]), tmp_path / "tables")
    _, images = tables_of(replace(GRAPH, images=[Picture("c", RED)]), tmp_path / "other")
    with pytest.raises(StoreError, match=r"for entity_index 2: .*an entity of the table `entities`"):
        write_content(tables, CONFIG, SOURCES, tmp_path / "content", images_folder=images)


def test_a_graph_without_pictures_has_the_digest_that_it_always_had(tmp_path: Path) -> None:
    content = content_of(WITHOUT, tmp_path / "content")
    # as computed before there were pictures
    assert content.digest.total == "3753e0794402f57ef517dff60ed0768a"
    assert content.digest.parts.keys() == {"Entity", "r"}
    manifest = content.folder / "content.json"
    data = json.loads(manifest.read_text())
    del data["images"], data["image_links"]  # what was written before names none
    manifest.write_text(json.dumps(data))
    assert read_content(content.folder) == content


def test_content_that_loses_its_pictures_leaves_no_file_of_them(tmp_path: Path) -> None:
    content_of(GRAPH, tmp_path / "content")
    tables, _ = tables_of(WITHOUT, tmp_path / "tables")
    content = write_content(tables, CONFIG, SOURCES, tmp_path / "content")
    assert not list(content.folder.glob("image*"))


@pytest.mark.parametrize("name", ["Image", "HAS_IMAGE", "Entity"])
def test_a_relationship_type_called_as_what_the_store_has_of_its_own_is_an_error(tmp_path: Path, name: str) -> None:
    content = content_of(GRAPH, tmp_path / "content")
    with pytest.raises(StoreError, match=f"'{name}', which is a name of the store's own"):
        digest_tables(content.nodes, {name: content.edges["r"]})


# --- two contents ----------------------------------------------------------------------------------------------------

CHANGES: dict[str, tuple[list[Picture], dict[str, int]]] = {
    "nothing": (PICTURES, {}),
    "picture added": ([*PICTURES, Picture("c", "3" * 64)], {"images_added": 1, "image_links_added": 1}),
    "link added": ([*PICTURES, Picture("c", RED, 0, 0.5, "http://z/red.png")], {"image_links_added": 1}),
    "picture removed": ([PICTURES[0], PICTURES[2]], {"images_removed": 1, "image_links_removed": 1}),
    "link removed": (PICTURES[:2], {"image_links_removed": 1}),
    "all removed": ([], {"images_removed": 2, "image_links_removed": 3}),
    "rank": ([replace(PICTURES[0], rank=3), *PICTURES[1:]], {"image_links_changed": 1}),
    "score": ([replace(PICTURES[0], score=0.75), *PICTURES[1:]], {"image_links_changed": 1}),
    "score gone": ([replace(PICTURES[0], score=None), *PICTURES[1:]], {"image_links_changed": 1}),
    "score comes": ([PICTURES[0], replace(PICTURES[1], score=-0.0), PICTURES[2]], {"image_links_changed": 1}),
    "licence": ([replace(PICTURES[0], licence="CC BY"), *PICTURES[1:]], {"images_changed": 1}),
    "licence gone": ([replace(PICTURES[0], licence=None, author=None), *PICTURES[1:]], {"images_changed": 1}),
    "from elsewhere": (
        [replace(PICTURES[0], url="http://z/red.png"), *PICTURES[1:]],
        {"images_changed": 1},  # now b's url is the smallest: its licence counts, and nobody is the author
    ),
    "width": ([PICTURES[0], replace(PICTURES[1], width_px=None), PICTURES[2]], {"images_changed": 1}),
}


def changes(counts: Any) -> dict[str, int]:
    return {kind: count for kind, count in counts.items() if count}


@pytest.mark.parametrize("what", CHANGES)
def test_a_difference_names_what_changed_of_pictures_and_nothing_else(tmp_path: Path, what: str) -> None:
    pictures, expected = CHANGES[what]
    old = content_of(GRAPH, tmp_path / "old")
    new = content_of(replace(GRAPH, images=pictures), tmp_path / "new")
    difference = find_difference(old, new, tmp_path / "work")
    assert changes(difference.counts) == expected
    assert difference.is_empty == (old.digest == new.digest)
    assert len(difference.examples()) == difference.num_changes
    opposite = {"added": "removed", "removed": "added", "changed": "changed"}
    back = {f"{kind.rpartition('_')[0]}_{opposite[kind.rpartition('_')[2]]}": n for kind, n in expected.items()}
    assert changes(find_difference(new, old, tmp_path / "back").counts) == back


def test_a_difference_has_whole_new_rows_and_the_names_of_what_is_gone(tmp_path: Path) -> None:
    old = content_of(GRAPH, tmp_path / "old")
    new = content_of(replace(GRAPH, images=CHANGES["licence gone"][0]), tmp_path / "new")
    difference = find_difference(old, new, tmp_path / "work")
    [row] = rows(difference.images_changed)
    assert (row["sha256"], row["url"], row["licence"], row[REMOVE]) == (
        RED,
        "http://x/red.png",
        None,
        ["licence", "author"],
    )
    assert difference.examples() == [f"picture changed: {RED}"]


def test_into_an_empty_store_all_files_of_pictures_are_added(tmp_path: Path) -> None:
    content = content_of(GRAPH, tmp_path / "content")
    difference = find_difference(None, content, tmp_path / "work")
    assert (difference.images_added, difference.image_links_added) == (content.images, content.image_links)
    assert changes(difference.counts) == {"nodes_added": 3, "edges_added": 2, "images_added": 2, "image_links_added": 3}


def test_an_entity_goes_and_the_picture_that_another_has_stays(tmp_path: Path) -> None:
    old = content_of(GRAPH, tmp_path / "old")
    graph = Graph(entities=["b", "c"], triples=[("b", "r", "c", 2)], images=[PICTURES[2]])
    difference = find_difference(old, content_of(graph, tmp_path / "new"), tmp_path / "work")
    assert changes(difference.counts) == {
        "nodes_removed": 1,
        "edges_removed": 1,
        "images_removed": 1,  # the flag
        "images_changed": 1,  # the red one is now said to come from where b has it
        "image_links_removed": 2,
    }


# --- the embedded store ----------------------------------------------------------------------------------------------


def test_both_stores_and_the_content_have_one_digest(empty_server: Neo4jServer, load: Load, tmp_path: Path) -> None:
    report, folder = load_embedded(GRAPH, tmp_path / "embedded")
    assert (report.entities, report.triples, report.images, report.image_links) == (3, 2, 2, 3)
    content = content_of(GRAPH, tmp_path / "content")
    with open_embedded(folder) as store:
        assert digest_embedded(store) == content.digest
    report = load(content)
    assert (report.images, report.image_links, report.relationships) == (2, 3, 2)
    check_holds(empty_server, content, tmp_path)


def test_a_picture_node_has_all_its_columns_and_absent_ones_are_null(tmp_path: Path) -> None:
    _, folder = load_embedded(GRAPH, tmp_path)
    with open_embedded(folder) as store:
        [row] = store.query(f"MATCH (i:Image {{sha256: '{FLAG}'}}) RETURN i").to_pylist()
        node = {name: value for name, value in row["i"].items() if not name.startswith("_")}
    expected = {"sha256": FLAG, "url": "http://x/flag.png", "licence": "CC BY", "format": "jpeg"}
    assert node == expected | {"source_page": None, "author": None, "width_px": 640, "height_px": 480}


@pytest.mark.parametrize("what", [name for name in CHANGES if name not in ("nothing", "score comes")])
def test_other_pictures_than_the_store_was_made_of_are_found_by_verification(tmp_path: Path, what: str) -> None:
    _, folder = load_embedded(GRAPH, tmp_path)
    tables, images = tmp_path / "tables", tmp_path / "tables-images"
    verify_store(folder, tables, images_folder=images)
    _, other = tables_of(replace(GRAPH, images=CHANGES[what][0]), tmp_path / "other")
    with pytest.raises(StoreError, match="pictures"):
        verify_store(folder, tables, images_folder=other)


def test_a_store_that_was_made_before_there_were_pictures_is_asked_as_before(tmp_path: Path) -> None:
    _, folder = load_embedded(WITHOUT, tmp_path)
    manifest = json.loads((folder / STORE_MANIFEST).read_text())
    del manifest["images"], manifest["image_links"]
    (folder / STORE_MANIFEST).write_text(json.dumps(manifest))
    with open_embedded(folder) as store:
        assert store.find_images(["a"]) == []
        assert store.counts().images == 0
        assert digest_embedded(store) == content_of(WITHOUT, tmp_path / "content").digest


picture = st.builds(
    Picture,
    entity=st.sampled_from("abc"),
    sha256=st.sampled_from([RED, FLAG]),
    rank=st.integers(0, 3),
    score=st.one_of(st.none(), st.sampled_from([0.5, -0.25, 0.1])),
    url=st.sampled_from(["http://a", "http://b", "http://ä/'\n"]),
    licence=st.sampled_from([None, "", "CC0"]),
    status=st.sampled_from(["ok", "blank"]),
)


@settings(max_examples=12)
@given(st.lists(picture, min_size=1, max_size=8, unique_by=lambda one: (one.entity, one.rank)))
def test_the_embedded_store_answers_what_plain_python_finds_in_the_table(
    tmp_path_factory: pytest.TempPathFactory, pictures: list[Picture]
) -> None:
    """By one licence an url: of two rows with one url and other licences, either may say where a picture is from."""
    licences = {one.url: one.licence for one in pictures}
    graph = replace(GRAPH, images=[replace(one, licence=licences[one.url]) for one in pictures])
    folder = tmp_path_factory.mktemp("pictures")
    report, store_folder = load_embedded(graph, folder)
    tables, images = folder / "tables", folder / "tables-images"
    with open_embedded(store_folder) as store, open_memory(tables, CONFIG, SOURCES, images_folder=images) as memory:
        assert store.find_images(list("cab")) == memory.find_images(list("cab"))
        assert store.counts() == memory.counts()
        assert report.images == memory.counts().images


# --- the server ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hint", ["kept", "lost"])
def test_a_server_is_brought_from_picture_to_picture_and_back(
    empty_server: Neo4jServer, load: Load, tmp_path: Path, hint: str
) -> None:
    first = content_of(GRAPH, tmp_path / "first")
    assert changes(load(first).changes) == {
        "nodes_added": 3,
        "edges_added": 2,
        "images_added": 2,
        "image_links_added": 3,
    }
    check_holds(empty_server, first, tmp_path)
    for number, (what, (pictures, expected)) in enumerate(CHANGES.items()):
        if hint == "lost":
            (tmp_path / "neo4j.json").unlink()
        content = content_of(replace(GRAPH, images=pictures), tmp_path / f"{number}")
        report = load(content)
        assert report.how == ("flipped" if expected else "renamed"), what
        assert dict(report.changes) == expected, what
        check_holds(empty_server, content, tmp_path)
        load(first)
    check_holds(empty_server, first, tmp_path)
    mark = bookmark(empty_server)
    report = load(first)
    assert (report.how, report.proof, bookmark(empty_server)) == ("unchanged", "marks", mark)
    assert load(first, hint=None).proof == "content"
    assert bookmark(empty_server) == mark


def test_an_entity_goes_from_a_server_and_its_picture_stays_for_another(
    empty_server: Neo4jServer, load: Load, tmp_path: Path
) -> None:
    load(content_of(GRAPH, tmp_path / "first"))
    second = content_of(Graph(entities=["b", "c"], images=[PICTURES[2]], relations=["r"]), tmp_path / "second")
    assert load(second).how == "flipped"
    check_holds(empty_server, second, tmp_path)
    assert run(empty_server, "MATCH (i:Image) RETURN i.sha256, i.licence") == [[RED, "all rights reserved"]]
    assert run(empty_server, "MATCH (i:Image) RETURN i.author, i.source_page") == [[None, None]]


@pytest.mark.parametrize("batch_rows", [1, 2])
def test_the_batch_size_does_not_matter_for_pictures(
    empty_server: Neo4jServer, load: Load, tmp_path: Path, batch_rows: int
) -> None:
    config = config_of(empty_server, CONFIG).model_copy(update={"max_batch_rows": batch_rows})
    fewer = replace(GRAPH, images=[*PICTURES[1:], Picture("c", "3" * 64), Picture("c", FLAG, 1, 0.5)])
    for graph in (GRAPH, fewer):
        content = content_of(graph, tmp_path / f"{len(graph.images)}")
        load_neo4j(content, config, graph="test", version="1")
        check_holds(empty_server, content, tmp_path)


def test_an_entity_that_is_called_as_a_picture_is_not_taken_for_it(
    empty_server: Neo4jServer, load: Load, tmp_path: Path
) -> None:
    pictures = [Picture(RED, RED, 0), Picture("a", RED, 0), Picture(RED, FLAG, 1)]
    first = content_of(Graph(entities=["a", RED], triples=[("a", "r", RED, 1)], images=pictures), tmp_path / "first")
    load(first)
    check_holds(empty_server, first, tmp_path)
    second = content_of(Graph(entities=["a", RED], triples=[(RED, "r", "a", 1)], images=pictures[1:]), tmp_path / "2")
    load(second)
    check_holds(empty_server, second, tmp_path)
    load(content_of(Graph(entities=["a", FLAG], images=[Picture("a", FLAG)]), tmp_path / "third"))
    assert run(empty_server, "MATCH (e)-[r]->(i) RETURN e.entity_id, type(r), i.sha256") == [["a", "HAS_IMAGE", FLAG]]


def test_a_server_that_was_loaded_before_there_were_pictures_is_seen_as_unchanged(
    empty_server: Neo4jServer, load: Load, tmp_path: Path
) -> None:
    content = content_of(WITHOUT, tmp_path / "content")
    load(content)
    # as the version before left it
    run(empty_server, "DROP CONSTRAINT image_sha256_unique")
    run(empty_server, "MATCH (m:MmkgMigration {version: 4}) DELETE m")
    run(empty_server, "MATCH (s:MmkgStore) REMOVE s.images, s.image_links, s.image_vectors")
    report = load(content)
    assert (report.how, report.changes, report.migrations) == ("unchanged", {}, ("V0004__images",))
    assert load(content).proof == "marks"
    with empty_server.driver() as driver, driver.session(database="neo4j") as session:
        state = read_state(session)
    assert state is not None
    assert (state.images, state.image_vectors) == (0, ())
    pictured = content_of(GRAPH, tmp_path / "pictured")
    assert load(pictured).how == "flipped"
    check_holds(empty_server, pictured, tmp_path)


FOREIGN = {
    "picture added": ("CREATE (:Image {sha256: 'x', url: 'y'})", "1 pictures added.*picture removed: x"),
    "picture without sha256": ("CREATE (:Image {url: 'y'})", "1 pictures without a sha256"),
    "picture changed": (
        f"MATCH (i:Image {{sha256: '{RED}'}}) SET i.licence = 'mine'",
        f"1 pictures changed.*picture changed: {RED}",
    ),
    "url removed": (f"MATCH (i:Image {{sha256: '{RED}'}}) REMOVE i.url", "1 pictures changed"),
    "property of another type": (
        f"MATCH (i:Image {{sha256: '{RED}'}}) SET i.width_px = 3.5",
        r"another type.*width_px = 3\.5",
    ),
    "property added": (f"MATCH (i:Image {{sha256: '{RED}'}}) SET i.stars = 5", "does not have.*stars = 5"),
    "label on a picture": (f"MATCH (i:Image {{sha256: '{RED}'}}) SET i:Mine", "1 labels on pictures.*:Mine"),
    "entity called a picture": ("MATCH (e:Entity {entity_id: 'c'}) SET e:Image", "1 labels on entities.*c :Image"),
    "picture called an entity": (
        f"MATCH (i:Image {{sha256: '{RED}'}}) SET i:Entity",
        "1 entities without an entity_id",
    ),
    "link added": (
        f"MATCH (c:Entity {{entity_id: 'c'}}), (i:Image {{sha256: '{RED}'}}) CREATE (c)-[:HAS_IMAGE {{rank: 0}}]->(i)",
        r"1 links to pictures added.*\(c\)-\[:HAS_IMAGE\]->\(1111",
    ),
    "link twice": (
        "MATCH (b {entity_id: 'b'})-[r:HAS_IMAGE]->(i) CREATE (b)-[s:HAS_IMAGE]->(i) SET s = properties(r)",
        "links to pictures .*there twice",
    ),
    "link removed": ("MATCH (:Entity {entity_id: 'b'})-[r:HAS_IMAGE]->() DELETE r", "1 links to pictures missing"),
    "link changed": (
        "MATCH (:Entity {entity_id: 'b'})-[r:HAS_IMAGE]->() SET r.rank = 7",
        "1 links to pictures changed",
    ),
    "score that is no number": (
        "MATCH (:Entity {entity_id: 'b'})-[r:HAS_IMAGE]->() SET r.score = 'good'",
        "other properties.*good",
    ),
    "link with a property": (
        "MATCH (:Entity {entity_id: 'b'})-[r:HAS_IMAGE]->() SET r.mine = 1",
        "other properties.*mine",
    ),
    "link to an entity": (
        "MATCH (a:Entity {entity_id: 'a'}), (b:Entity {entity_id: 'b'}) CREATE (a)-[:HAS_IMAGE {rank: 0}]->(b)",
        r"1 relationships to nodes of other kinds \(\[:HAS_IMAGE\]",
    ),
    "fact about a picture": (
        f"MATCH (a:Entity {{entity_id: 'a'}}), (i:Image {{sha256: '{RED}'}}) "
        "CREATE (a)-[:r {relation_id: 'http://example.org/relation/r', sources: ['freebase']}]->(i)",
        r"1 relationships to nodes of other kinds \(\[:r\]",
    ),
    "type between pictures": (
        "MATCH (i:Image), (j:Image) WHERE i.sha256 < j.sha256 CREATE (i)-[:LIKE]->(j)",
        "1 relationships of other types",
    ),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_what_somebody_else_wrote_of_pictures_is_reported_and_only_removed_by_force(
    empty_server: Neo4jServer, load: Load, tmp_path: Path, what: str
) -> None:
    statement, message = FOREIGN[what]
    first = content_of(GRAPH, tmp_path / "first")
    second = content_of(replace(GRAPH, images=CHANGES["rank"][0]), tmp_path / "second")
    load(first)
    run(empty_server, statement)
    mark = bookmark(empty_server)
    with pytest.raises(StoreError, match=f"(?s)somebody else wrote into this store.*{message}"):
        load(second)
    assert bookmark(empty_server) == mark
    assert load(second, force=True).how == "flipped"
    check_holds(empty_server, second, tmp_path)
    assert load(second).how == "unchanged"


def test_pictures_of_somebody_else_are_refused_and_emptied_by_force(
    empty_server: Neo4jServer, load: Load, tmp_path: Path
) -> None:
    run(empty_server, "CREATE (:Entity {entity_id: 'z'})-[:HAS_IMAGE]->(:Image {sha256: 'x'})")
    content = content_of(GRAPH, tmp_path / "content")
    with pytest.raises(StoreError, match="holds 2 nodes that mmkg did not load"):
        load(content)
    load(content, force=True)
    check_holds(empty_server, content, tmp_path)


def test_a_dropped_constraint_on_pictures_and_what_it_let_in_are_found(
    empty_server: Neo4jServer, load: Load, tmp_path: Path
) -> None:
    content = content_of(GRAPH, tmp_path / "content")
    load(content)
    run(empty_server, "DROP CONSTRAINT image_sha256_unique")
    run(empty_server, f"CREATE (:Image {{sha256: '{RED}'}})")
    with pytest.raises(StoreError, match="1 pictures without a sha256, or with another's"):
        load(content)
    load(content, force=True)
    check_holds(empty_server, content, tmp_path)
    assert run(empty_server, "SHOW CONSTRAINTS YIELD name WHERE name = 'image_sha256_unique' RETURN count(*)") == [[1]]
