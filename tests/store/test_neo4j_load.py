"""The live loader against a real server: what it ends with is read back past it, and compared by digest."""

import datetime
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmkg.errors import StoreError
from mmkg.store.content import Content
from mmkg.store.migrations import read_migrations, run_migrations
from mmkg.store.neo4j import examine, served
from mmkg.store.neo4j.flip import Flipped, check_heap, flip, parse_bytes
from mmkg.store.neo4j.lanes import BatchSize
from mmkg.store.neo4j.load import load_neo4j
from mmkg.store.neo4j.lock import LoaderLock, commit_number
from mmkg.store.neo4j.read_back import ReadBack, read_back
from mmkg.store.neo4j.reader import open_neo4j
from tests.servers.neo4j import Neo4jServer
from tests.store.graphs import Graph
from tests.store.neo4j_checks import CONFIG, Load, bookmark, check_holds, content_of, run
from tests.store.neo4j_graphs import config_of

FIRST = Graph(
    entities=list("abcdef"),
    triples=[("a", "r", "b", 1), ("b", "r", "c", 2), ("c", "r", "c", 3), ("b", "s", "d", 3), ("f", "gone", "a", 1)],
    literals=[
        ("a", "population", 5),
        ("a", "population", 7.5),
        ("b", "population", 1e300),
        ("a", "founded", datetime.date(1917, 4, 26)),
        ("b", "height", 2.5),
        ("c", "motto", "zwei\n\"'`\\u0060"),
    ],
    labels={"a": "Österreich", "b": "日本", "c": "x" * 1000, "d": ""},
    types={"a": ["T1", "T2"]},
    aliases={"b": ["http://two.org/b"]},
)
# e and f go, g comes; b changes; c loses its motto; a-r->b has other sources; the type `gone` goes, `new` comes
SECOND = Graph(
    entities=list("abcdg"),
    triples=[("a", "r", "b", 3), ("b", "r", "c", 2), ("c", "r", "c", 3), ("g", "s", "d", 3), ("g", "new", "a", 1)],
    literals=[
        ("a", "population", 5),
        ("b", "population", 2),
        ("a", "founded", datetime.date(1917, 4, 26)),
        ("a", "founded", datetime.date(1, 1, 1)),
    ],
    labels={"a": "Österreich", "b": "Japan", "c": "x" * 1000, "d": ""},
    types={"a": ["T1", "T2"]},
    aliases={"b": ["http://two.org/b"]},
)


@pytest.fixture
def first(tmp_path: Path) -> Content:
    return content_of(FIRST, tmp_path / "first")


@pytest.fixture
def second(tmp_path: Path) -> Content:
    return content_of(SECOND, tmp_path / "second")


@pytest.fixture
def server(empty_server: Neo4jServer) -> Neo4jServer:
    return empty_server


def test_a_first_load_ends_with_the_content(server: Neo4jServer, load: Load, first: Content, tmp_path: Path) -> None:
    steps = []
    report = load(first, progress=lambda what, done, total: steps.append((what, done, total)))
    assert (report.how, report.proof, report.entities, report.relationships) == ("loaded", "content", 6, 5)
    assert report.changes == {"nodes_added": 6, "edges_added": 5}
    assert ("add relationships", 11, 11) in steps
    check_holds(server, first, tmp_path)
    rows = run(
        server, "MATCH (a:Entity {entity_id: 'a'})-[r:r]->(b) RETURN a.founded, a.population, r{.*}, b.entity_id"
    )
    [[founded, population, relationship, end]] = rows
    assert (founded.to_native(), population, end) == (datetime.date(1917, 4, 26), [5.0, 7.5], "b")
    assert relationship == {"relation_id": "http://example.org/relation/r", "sources": ["freebase"]}
    assert run(server, "MATCH (e:Entity {entity_id: 'e'}) RETURN e.types, e.label") == [[[], None]]


def test_the_same_build_again_writes_nothing(server: Neo4jServer, load: Load, first: Content, tmp_path: Path) -> None:
    load(first)
    mark = bookmark(server)
    assert (report := load(first)).how == "unchanged"
    assert report.proof == "marks"
    assert load(first, hint=None).proof == "content"
    (tmp_path / "neo4j.json").write_text("{")
    assert load(first).proof == "content"
    assert load(first).proof == "marks"
    assert bookmark(server) == mark


@pytest.mark.parametrize("hint", ["kept", "lost"])
def test_a_version_of_the_same_content_gives_the_store_its_name_and_nothing_else(
    server: Neo4jServer, load: Load, first: Content, tmp_path: Path, hint: str
) -> None:
    load(first, version="0001")
    with open_neo4j(config_of(server), password=server.password) as store:
        assert store.version == "0001"
        if hint == "lost":
            (tmp_path / "neo4j.json").unlink()
        report = load(first, version="0002")
        assert (report.how, report.changes, report.commit_seconds) == ("renamed", {}, 0)
        assert report.proof == {"kept": "marks", "lost": "content"}[hint]
        assert store.version == "0002"
    check_holds(server, first, tmp_path)
    report = load(first, version="0002")
    assert (report.how, report.proof) == ("unchanged", "marks")


def test_that_the_build_is_served_is_told_before_it_is_read_back(
    server: Neo4jServer, load: Load, first: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the answer to a flip's commit was lost: readers have the new build, and a proof takes long."""
    told: list[str] = []
    load(first, served=lambda: told.append("loaded"))
    assert told.pop() == "loaded"
    assert told == []

    def read(*arguments: Any, **options: Any) -> ReadBack:
        told.append("read")
        return read_back(*arguments, **options)

    monkeypatch.setattr(examine, "read_back", read)
    load(first, hint=None, served=lambda: told.append("served"))
    assert told == ["served", "read"]


@pytest.mark.parametrize("hint", ["kept", "lost"])
def test_a_difference_is_applied_and_taken_back(
    server: Neo4jServer, load: Load, first: Content, second: Content, tmp_path: Path, hint: str
) -> None:
    load(first)
    for content in (second, first, second):
        if hint == "lost":
            (tmp_path / "neo4j.json").unlink()
        report = load(content)
        assert report.how == "flipped"
        assert sum(report.changes.values()) == 11
        check_holds(server, content, tmp_path)
    assert load(second).proof == "marks"


def test_a_flip_among_known_names_is_proved_by_the_marks_alone(
    server: Neo4jServer, load: Load, first: Content, tmp_path: Path
) -> None:
    load(first)
    fewer = content_of(replace(FIRST, triples=FIRST.triples[:-1], labels={"a": "A"}), tmp_path / "fewer")
    report = load(fewer)
    assert (report.how, report.proof, report.commit_seconds > 0) == ("flipped", "marks", True)
    check_holds(server, fewer, tmp_path)


def test_an_entity_that_many_changes_name_is_looked_up_once(server: Neo4jServer, load: Load, tmp_path: Path) -> None:
    star = Graph(entities=list("abcdef"), triples=[("a", "r", end, 1) for end in "abcdef"] + [("b", "s", "a", 1)])
    load(content_of(star, tmp_path / "star"))
    fewer = content_of(replace(star, triples=star.triples[-2:], relations=["r"]), tmp_path / "fewer")
    assert load(fewer).changes == {"edges_removed": 5}
    check_holds(server, fewer, tmp_path)
    other = content_of(replace(star, triples=[(*triple[:3], 2) for triple in star.triples]), tmp_path / "other")
    assert load(other).changes == {"edges_added": 5, "edges_changed": 2}
    check_holds(server, other, tmp_path)


def test_many_small_types_and_a_large_one_keep_their_names(server: Neo4jServer, load: Load, tmp_path: Path) -> None:
    names = [f"e{number:03}" for number in range(60)]
    triples = [(names[i], f"t{i:02}", names[-1 - i], 1 + i % 3) for i in range(60)]
    triples += [(start, "large", end, 1) for start in names for end in names]
    content = content_of(Graph(entities=names, triples=triples), tmp_path / "many")
    load(content)
    check_holds(server, content, tmp_path)


def test_an_empty_graph_is_loaded_and_filled(server: Neo4jServer, load: Load, first: Content, tmp_path: Path) -> None:
    empty = content_of(Graph(entities=[]), tmp_path / "empty")
    assert load(empty).entities == 0
    assert load(empty).how == "unchanged"
    assert load(first).how == "flipped"
    load(empty)
    check_holds(server, empty, tmp_path)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_the_batch_size_does_not_matter(
    server: Neo4jServer, load: Load, first: Content, second: Content, tmp_path: Path, rows: int
) -> None:
    config = config_of(server, CONFIG).model_copy(update={"max_batch_rows": rows})
    for content in (first, second):
        load_neo4j(content, config, graph="test", version="1")
        check_holds(server, content, tmp_path)


NASTY = [
    "back`tick",
    "quo'te\"",
    "new\nline",
    "dot.dot",
    "日本語",
    "ключ",
    "x" * 1000,
    "\\u0060) DETACH DELETE n //",
    " ",
]


def test_nasty_names_are_stored_as_they_are(server: Neo4jServer, load: Load, tmp_path: Path) -> None:
    graph = Graph(
        entities=NASTY,
        triples=[(name, "r", name, 1) for name in NASTY] + [("日本語", "R", "ключ"), ("日本語", "r2", "ключ")],
        labels={name: name for name in NASTY},
        types=dict.fromkeys(NASTY, NASTY),
        literals=[(name, "motto", name) for name in NASTY],
        relation_names={"r2": "R_"},
    )
    content = content_of(graph, tmp_path / "nasty")
    load(content)
    check_holds(server, content, tmp_path)
    found = run(
        server, "MATCH (:Entity {entity_id: '日本語'})-[r]->(:Entity {entity_id: 'ключ'}) RETURN type(r), r.relation_id"
    )
    assert len({name for name, _ in found}) == 2
    assert {iri for _, iri in found} == {"http://example.org/relation/R", "http://example.org/relation/r2"}
    graph = replace(graph, labels={name: name[::-1] for name in NASTY})
    changed = content_of(graph, tmp_path / "changed")
    assert load(changed).changes == {"nodes_changed": len([name for name in NASTY if name != name[::-1]])}
    check_holds(server, changed, tmp_path)


# --- somebody else wrote ---------------------------------------------------------------------------------------------

FOREIGN = {
    "property changed": (
        "MATCH (e:Entity {entity_id: 'b'}) SET e.label = 'mine'",
        "1 entities changed.*entity changed: b",
    ),
    "property of another type": (
        "MATCH (e:Entity {entity_id: 'b'}) SET e.height = 'high'",
        "another type.*height = 'high'",
    ),
    "number for float": ("MATCH (e:Entity {entity_id: 'b'}) SET e.height = 2", "another type.*height = 2"),
    "date as text": ("MATCH (e:Entity {entity_id: 'a'}) SET e.founded = '1917-04-26'", "another type"),
    "property added": ("MATCH (e:Entity {entity_id: 'b'}) SET e.`my ``note` = 1", "does not have.*my `note = 1"),
    "property removed": ("MATCH (e:Entity {entity_id: 'b'}) REMOVE e.height", "1 entities changed"),
    "label": ("MATCH (e:Entity {entity_id: 'b'}) SET e:`Mine ``\\u005Cu0060`", "1 labels on entities.*b :Mine `"),
    "entity added": ("CREATE (:Entity {entity_id: 'z'})", "1 entities added"),
    "entity removed": ("MATCH (e:Entity {entity_id: 'e'}) DELETE e", "1 entities missing.*entity added: e"),
    "entity without id": ("CREATE (:Entity {label: 'z'})", "1 entities without an entity_id"),
    "relationship added": (
        "MATCH (a:Entity {entity_id: 'a'}), (e:Entity {entity_id: 'e'}) "
        "CREATE (a)-[:r {relation_id: 'http://example.org/relation/r', sources: ['freebase']}]->(e)",
        r"1 relationships added.*\(a\)-\[:r\]->\(e\)",
    ),
    "relationship twice": (
        "MATCH (a {entity_id: 'a'})-[r:r]->(b) CREATE (a)-[s:r]->(b) SET s = properties(r)",
        "there twice",
    ),
    "relationship removed": ("MATCH (a:Entity {entity_id: 'a'})-[r:r]->() DELETE r", "1 relationships missing"),
    "relationship changed": (
        "MATCH (:Entity {entity_id: 'a'})-[r:r]->() SET r.sources = ['me']",
        "1 relationships changed",
    ),
    "relationship property": (
        "MATCH (:Entity {entity_id: 'a'})-[r:r]->() SET r.weight = 1",
        "other properties.*weight",
    ),
    "relationship type": (
        "MATCH (a:Entity {entity_id: 'a'}), (b:Entity {entity_id: 'b'}) CREATE (a)-[:`LI``KES`]->(b)",
        r"1 relationships of other types.*\(a\)-\[:LI`KES\]->\(b\)",
    ),
    "node": ("CREATE (:Person {name: 'Zoë'})", "1 nodes of other kinds.*:Person"),
    "node without label": ("CREATE ({name: 'Zoë'})", "1 nodes of other kinds"),
    "node tied to ours": (
        "MATCH (a:Entity {entity_id: 'a'}) CREATE (a)-[:r {relation_id: 'x', sources: []}]->(:Person)-[:KNOWS]->(a)",
        "1 nodes of other kinds",
    ),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_what_somebody_else_wrote_is_reported_and_only_removed_by_force(
    server: Neo4jServer, load: Load, first: Content, second: Content, tmp_path: Path, what: str
) -> None:
    statement, message = FOREIGN[what]
    load(first)
    run(server, statement)
    mark = bookmark(server)
    with pytest.raises(StoreError, match=f"(?s)somebody else wrote into this store.*{message}"):
        load(second)
    assert bookmark(server) == mark
    report = load(second, force=True)
    assert report.how == "flipped"
    check_holds(server, second, tmp_path)
    assert load(second).proof == "marks"


def test_what_somebody_else_wrote_is_found_without_the_content_that_was_loaded(
    server: Neo4jServer, load: Load, first: Content, second: Content
) -> None:
    load(first)
    run(server, "MATCH (e:Entity {entity_id: 'b'}) SET e.label = 'mine'")
    with pytest.raises(StoreError, match="6 entities and 5 relationships with another content, where 6 and 5"):
        load(second, previous=())


def test_a_writer_that_does_not_stop_is_told_of_also_with_force(
    server: Neo4jServer, load: Load, first: Content, second: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(first)
    flips = []

    def flip_and_write(*arguments: Any) -> Flipped:
        flipped = flip(*arguments)
        flips.append(flipped)
        assert len(flips) < 20, "the loader does not end"
        run(server, "MATCH (e:Entity {entity_id: 'b'}) SET e.label = 'mine'")
        return flipped

    monkeypatch.setattr("mmkg.store.neo4j.load.flip", flip_and_write)
    with pytest.raises(StoreError, match=r"after 5 rounds the store is not as it was written .*stop that, then run"):
        load(second, force=True, hint=None)  # so that each flip is read back
    assert len(flips) == 5


@pytest.mark.parametrize("statement", ["CREATE (:Person)", "CREATE ()", "CREATE (:Entity {entity_id: 'a'})"])
def test_a_database_of_somebody_else_is_refused(
    server: Neo4jServer, load: Load, first: Content, tmp_path: Path, statement: str
) -> None:
    run(server, statement)
    with pytest.raises(StoreError, match=r"holds 1 nodes that mmkg did not load.*--force"):
        load(first)
    assert run(server, "MATCH (n) RETURN count(*)") == [[1]]
    assert load(first, force=True).how == "loaded"
    check_holds(server, first, tmp_path)


@pytest.mark.parametrize("left", ["MmkgMigration", "MmkgMigration|MmkgLane"])
def test_what_a_load_left_that_was_killed_before_it_took_its_place_is_nobody_elses(
    server: Neo4jServer, load: Load, first: Content, tmp_path: Path, left: str
) -> None:
    load(first)
    run(server, f"MATCH (n) WHERE NOT n:{left} DETACH DELETE n")
    assert load(first).how == "loaded"
    check_holds(server, first, tmp_path)


def test_entities_beside_a_ledger_are_somebody_elses(server: Neo4jServer, load: Load, first: Content) -> None:
    load(first)
    run(server, "MATCH (n:MmkgStore) DELETE n")
    with pytest.raises(StoreError, match=r"holds 6 nodes that mmkg did not load \(number \d+ :Entity.*--force"):
        load(first)


def test_a_server_that_serves_another_graph_is_refused(
    server: Neo4jServer, load: Load, first: Content, second: Content, tmp_path: Path
) -> None:
    load(first)
    with pytest.raises(StoreError, match="serves the graph 'test', not 'other'"):
        load(second, graph="other")
    check_holds(server, first, tmp_path)
    load(first, graph="other", force=True)  # the same content under another name
    load(second, graph="other")
    check_holds(server, second, tmp_path)


def test_an_abandoned_load_of_another_build_is_finished_as_this_one(
    server: Neo4jServer, load: Load, first: Content, second: Content, tmp_path: Path
) -> None:
    def stop(what: str, done: int, total: int) -> None:
        if what == "add relationships":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(first, progress=stop)
    assert run(server, "MATCH (s:MmkgStore) RETURN s.state, s.build") == [["loading", None]]
    assert load(second).how == "loaded"
    check_holds(server, second, tmp_path)


def test_an_imported_store_is_finished(server: Neo4jServer, load: Load, first: Content, tmp_path: Path) -> None:
    load(first)
    # what neo4j-admin leaves: no empty lists, no ledger, one wrong value
    run(server, "MATCH (e:Entity) WHERE e.types = [] REMOVE e.types")
    run(server, "MATCH (e:Entity {entity_id: 'b'}) SET e.label = 'mine'")
    run(server, "MATCH (n:MmkgLane|MmkgMigration) DELETE n")
    run(server, "MATCH (s:MmkgStore) SET s.state = 'imported', s.flips = 0 REMOVE s.load_id, s.holder, s.vectors")
    report = load(first)
    assert (report.how, report.changes, len(report.migrations)) == ("loaded", {"nodes_changed": 1}, 4)
    check_holds(server, first, tmp_path)
    assert run(server, "MATCH (e:Entity) WHERE e.types IS NULL RETURN count(*)") == [[0]]
    assert load(first).proof == "marks"


# --- locks, marks, migrations, sizes ---------------------------------------------------------------------------------


def test_a_second_loader_is_told_who_is_at_work(server: Neo4jServer, load: Load, first: Content) -> None:
    with server.driver() as driver:
        lock = LoaderLock(driver, "neo4j", "mine")
        lock.acquire()
        with pytest.raises(StoreError, match=r"another loader is at work on this store: process \d+ on "):
            load(first)
        lock.release()
    assert load(first).how == "loaded"


def test_a_loader_that_lost_its_place_writes_nothing_more(
    server: Neo4jServer, load: Load, first: Content, second: Content, tmp_path: Path
) -> None:
    load(first)
    # another loader takes over while ours is between two batches of its flip
    taken = []

    def take_over(what: str, done: int, total: int) -> None:
        if what == "add entities" and not taken:
            taken.append(what)
            run(server, "MATCH (s:MmkgStore) SET s.load_id = 'other'")

    with pytest.raises(StoreError, match="another loader has taken over"):
        load(second, progress=take_over)
    assert taken
    check_holds(server, first, tmp_path)


def test_an_odd_number_that_a_killed_loader_left_is_mended(
    server: Neo4jServer, load: Load, first: Content, tmp_path: Path
) -> None:
    load(first)
    run(server, "MATCH (s:MmkgStore) SET s.flips = s.flips + 1")
    load(first)
    check_holds(server, first, tmp_path)


def test_readers_ask_on_while_a_flip_is_prepared_behind_an_odd_number_that_a_killed_loader_left(
    server: Neo4jServer,
    load: Load,
    first: Content,
    second: Content,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load(first)
    run(server, "MATCH (s:MmkgStore) SET s.flips = s.flips + 1")
    monkeypatch.setattr(served, "_FLIP_SECONDS", 0.0)  # who has to wait gets an error
    labels = []

    def ask(what: str, done: int, total: int) -> None:
        if what in ("change entities", "add relationships"):
            with open_neo4j(config_of(server), password=server.password) as store:
                labels.extend(store.query("MATCH (e:Entity {entity_id: 'b'}) RETURN e.label AS l")["l"].to_pylist())

    assert load(second, progress=ask).how == "flipped"
    assert len(labels) >= 2
    assert set(labels) == {"日本"}
    check_holds(server, second, tmp_path)


def test_the_number_of_a_commit_is_read_from_its_mark(server: Neo4jServer) -> None:
    before = commit_number(bookmark(server))
    assert before is not None
    for _ in range(300):  # past 127, where its spelling grows
        run(server, "MERGE (:MmkgLane {lane: 7})")
    run(server, "MATCH (l:MmkgLane {lane: 7}) SET l.done = 1")
    after = commit_number(bookmark(server))
    assert after is not None
    assert before < after
    run(server, "MATCH (l:MmkgLane {lane: 7}) SET l.done = 2")
    assert commit_number(bookmark(server)) == after + 1
    assert commit_number("FB:other") is None
    assert commit_number("kcwQ") is None
    assert commit_number("") is None


def test_an_edited_migration_is_refused_by_name(
    server: Neo4jServer, load: Load, first: Content, tmp_path: Path
) -> None:
    folder = tmp_path / "cypher"
    folder.mkdir()
    (folder / "V0001__one.neo4j.cypher").write_text(
        "CREATE CONSTRAINT one IF NOT EXISTS FOR (n:One) REQUIRE n.x IS UNIQUE;\n"
    )
    with server.driver() as driver, driver.session(database="neo4j") as session:
        assert run_migrations(session, read_migrations("neo4j", folder)) == ("V0001__one",)
        assert run_migrations(session, read_migrations("neo4j", folder)) == ()
        (folder / "V0002__two.neo4j.cypher").write_text("MERGE (:Two {x: 1});\nMERGE (:Two {x: 2});\n")
        session.run("MERGE (:Two {x: 1})").consume()  # as if it had been interrupted behind its first statement
        assert run_migrations(session, read_migrations("neo4j", folder)) == ("V0002__two",)
        assert session.run("MATCH (t:Two) RETURN count(*)").values() == [[2]]
        (folder / "V0001__one.neo4j.cypher").write_text("RETURN 1;\n")
        with pytest.raises(StoreError, match=r"V0001__one\.neo4j\.cypher was edited after it had run.*next number"):
            run_migrations(session, read_migrations("neo4j", folder))
        (folder / "V0001__one.neo4j.cypher").unlink()
        with pytest.raises(StoreError, match="V0001__one, which this mmkg does not have"):
            run_migrations(session, read_migrations("neo4j", folder))
        session.run("DROP CONSTRAINT one").consume()


def test_constraints_and_indexes_are_there_after_a_load(server: Neo4jServer, load: Load, first: Content) -> None:
    load(first)
    names = {name for (name,) in run(server, "SHOW INDEXES YIELD name, state WHERE state = 'ONLINE' RETURN name")}
    assert names >= {"entity_id_unique", "entity_label", "entity_words", "mmkg_store_key", "mmkg_migration_version"}
    ledger = run(server, "MATCH (m:MmkgMigration) RETURN m.version, m.sha256 ORDER BY m.version")
    assert ledger == [[m.version, m.sha256] for m in read_migrations("neo4j")]


def test_a_dropped_constraint_and_what_it_let_in_are_found(
    server: Neo4jServer, load: Load, first: Content, tmp_path: Path
) -> None:
    load(first)
    run(server, "DROP CONSTRAINT entity_id_unique")
    run(server, "MATCH (a:Entity {entity_id: 'a'}) CREATE (b:Entity {entity_id: 'a'})-[:r]->(a)")
    with pytest.raises(StoreError, match="1 entities without an entity_id, or with another's"):
        load(first)
    load(first, force=True)
    check_holds(server, first, tmp_path)
    assert run(server, "SHOW CONSTRAINTS YIELD name WHERE name = 'entity_id_unique' RETURN count(*)") == [[1]]


def test_a_broken_state_node_is_made_new_by_force(
    server: Neo4jServer, load: Load, first: Content, tmp_path: Path
) -> None:
    load(first)
    run(server, "MATCH (s:MmkgStore) SET s.format = 99")
    with pytest.raises(StoreError, match=r"the store's state node has format 99, this mmkg writes 1.*--force"):
        load(first)
    load(first, force=True)
    check_holds(server, first, tmp_path)


def test_batches_grow_and_shrink() -> None:
    size = BatchSize(10_000)
    for _ in range(20):
        size.went_well(size(), 0.1)
    assert size() == 10_000
    size.was_too_much(10_000)
    assert size() == 5_000
    size.went_well(5_000, 10.0)
    assert size() == 2_500
    for _ in range(20):
        size.was_too_much(size())
    assert size() == 1


def test_a_flip_that_does_not_fit_is_refused_before_it_begins(server: Neo4jServer) -> None:
    assert [parse_bytes(text) for text in ("1.50GiB", "512m", "0B", "70%", None, "2048")] == [
        1610612736,
        536870912,
        0,
        0,
        0,
        2048,
    ]
    with server.driver() as driver, driver.session(database="neo4j") as session:
        check_heap(session, 1000)
        with pytest.raises(StoreError, match="1,000,000,000 changes in one transaction need about 1,200,000 MB"):
            check_heap(session, 1_000_000_000)
