"""The Neo4j store as its reader sees it: Cypher and its mistakes, types of columns, and one build for each answer."""

import contextlib
import datetime
import math
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import neo4j
import pyarrow as pa
import pytest

from mmkg.builds import BuildManifest, open_build
from mmkg.config import StoreConfig
from mmkg.errors import NotFound, QueryError, StoreError
from mmkg.shards import write_json
from mmkg.store import cypher, load_store, open_embedded
from mmkg.store.neo4j import Neo4jStore, open_neo4j
from mmkg.store.neo4j import served as served_module
from tests.servers.neo4j import Neo4jServer
from tests.store.graphs import SOURCES, Graph, write_graph
from tests.store.neo4j_graphs import config_of, put, shared_server

CONFIG = StoreConfig(min_attribute_share=0.0)
OLD = Graph(
    entities=["a", "b", "c"],
    triples=[("a", "capital", "b", 3), ("b", "partOf", "a"), ("c", "partOf", "a")],
    labels={"a": "France", "b": "Paris"},
    literals=[("a", "population", 67.0), ("b", "population", 2.1), ("a", "founded", datetime.date(843, 8, 10))],
    relations=["unused"],
)
NEW = Graph(entities=["a", "b"], triples=[("a", "capital", "b")], labels={"a": "Gaul"})


@pytest.fixture(scope="module")
def server() -> Neo4jServer:
    return shared_server()


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_graph(tmp_path_factory.mktemp("old"), OLD)


@pytest.fixture
def store(server: Neo4jServer, tables: Path, tmp_path: Path) -> Iterator[Neo4jStore]:
    put(server, tables, tmp_path / "content", CONFIG)
    with open_neo4j(config_of(server), password=server.password) as opened:
        yield opened


@contextlib.contextmanager
def session(server: Neo4jServer) -> Iterator[neo4j.Session]:
    with server.driver() as driver, driver.session(database="neo4j") as opened:
        yield opened


def one(store: Neo4jStore, expression: str) -> Any:
    return store.query(f"RETURN {expression} AS x")["x"].to_pylist()[0]


# --- asking ----------------------------------------------------------------------------------------------------------


def test_a_query_answers_with_columns_called_as_it_writes_them(store: Neo4jStore) -> None:
    table = store.query(
        """
        MATCH (a:Entity)-[r]->(b:Entity) // of France
        WHERE a.label = $label AND NOT EXISTS { MATCH (b)-[:capital]->() }
        RETURN DISTINCT type(r), b.label AS `the "capital"`, r.relation_id, r.sources, a.population + 1, count(*)
        ORDER BY b.label LIMIT 5;
        """,
        {"label": "France"},
    )
    columns = ["type(r)", 'the "capital"', "r.relation_id", "r.sources", "a.population + 1", "count(*)"]
    assert table.column_names == columns
    values = ["capital", "Paris", "http://example.org/relation/capital", ["freebase", "dbpedia"], 68.0, 1]
    assert [list(row.values()) for row in table.to_pylist()] == [values]


def test_a_query_without_rows_still_has_its_columns(store: Neo4jStore) -> None:
    table = store.query("MATCH (e:Entity {entity_id: 'nobody'}) RETURN e.label, e.population")
    assert (table.num_rows, table.column_names) == (0, ["e.label", "e.population"])


def test_rows_beyond_the_limit_are_cut_and_the_log_says_so(store: Neo4jStore, caplog: pytest.LogCaptureFixture) -> None:
    assert store.query("MATCH (e:Entity) RETURN e.entity_id", limit_rows=3).num_rows == 3
    assert caplog.text == ""
    assert store.query("UNWIND range(1, 100000) AS x RETURN x", limit_rows=2)["x"].to_pylist() == [1, 2]
    assert "the first 2 rows are shown, there are more" in caplog.text


@pytest.mark.parametrize(
    ("cypher", "first_line", "at"),
    [
        ("MATCH (e:Entity)\nRETURN e.label, , e.types", "line 2, column 17: Invalid input ','", ", e.types"),
        (
            "\n\n  MATCH (e:Entity) // é\n  WHERE e.label = 'é😀' ANDY e RETURN e",
            "line 4, column 24: Invalid input",
            "ANDY e",
        ),
        ("MATCH (e:Entity)\n RETURN f.label", "line 2, column 9: Variable `f` not defined", "f.label"),
        ("RETURN foo(1)", "line 1, column 8: Unknown function 'foo'", "foo(1)"),
    ],
)
def test_the_caret_stands_where_the_query_goes_wrong(store: Neo4jStore, cypher: str, first_line: str, at: str) -> None:
    with pytest.raises(QueryError) as caught:
        store.query(cypher)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(first_line)
    assert lines[1][lines[2].index("^") :].startswith(at)


@pytest.mark.parametrize(
    ("cypher", "message", "hint"),
    [
        ("MATCH (e:Entity) RETRN e", "column 18: Invalid input 'RETRN'", "Did you mean 'RETURN'?"),
        ("MATCH (e:Entity) RETURN e.label, e.label", "two columns are called e.label", "AS"),
        ("MATCH (e:Entity {entity_id: $idd}) RETURN e", r"column 29: the parameter \$idd has no value", "Given: $id."),
        ("RETURN $`a b`", "a b", "parameter"),
        ("   // nothing", "the query is empty", "Try"),
        ("RETURN 1; RETURN 2", "column 9: a second statement", "one at a time"),
        ("RETURN 1/0", "by zero", ""),
    ],
)
def test_a_mistake_says_where_and_what_to_do(store: Neo4jStore, cypher: str, message: str, hint: str) -> None:
    with pytest.raises(QueryError, match=message) as caught:
        store.query(cypher, {"id": "a"})
    assert hint in str(caught.value)


def test_a_name_that_nothing_has_is_a_warning_with_the_nearest(
    store: Neo4jStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.query("MATCH (e:Entity)-[:captial]->(f:Entty) RETURN e.lable")
    assert "no relationship type is called 'captial': it is taken as missing. Did you mean 'capital'?" in caplog.text
    assert "no label is called 'Entty': it is taken as missing. Did you mean 'Entity'?" in caplog.text
    assert "no property is called 'lable': it is taken as missing. Did you mean 'label'?" in caplog.text
    caplog.clear()
    store.query("MATCH ()-[:unused]->(e) RETURN e.description")  # of the model, though nothing has it
    assert caplog.text == ""


REFUSED = [
    "MATCH (e:Entity) SET e.label = 'x'",
    "MATCH (e:Entity) DETACH DELETE e",
    "CREATE (:Entity {entity_id: 'x'})",
    "MERGE (:Entity {entity_id: 'x'})",
    "MATCH (e:Entity) REMOVE e.label",
    "MATCH (e:Entity) FOREACH (x IN [1] | SET e.label = 'x')",
    "CALL { CREATE (:X) } IN TRANSACTIONS",
    "MATCH (n) CALL (n) { DETACH DELETE n } IN TRANSACTIONS RETURN 1",
    "CREATE INDEX FOR (n:X) ON (n.y)",
    "DROP CONSTRAINT entity_id_unique",
    "LOAD CSV FROM 'FILE' AS line RETURN line",
    "load\ncsv FROM 'FILE' AS line RETURN line",
    "MATCH (e) LOAD CSV FROM 'FILE' AS line RETURN line",
    "CALL { LOAD CSV FROM 'FILE' AS line RETURN line } RETURN line",
    "RETURN 1 AS line UNION LOAD CSV FROM 'FILE' AS line RETURN line",
    "LO\\u0041D CSV FROM 'FILE' AS line RETURN line",
    "RETURN 'a\\u0027 AS line UNION LOAD CSV FROM 'FILE' AS line RETURN line",
    "EXPLAIN LOAD CSV FROM 'FILE' AS line RETURN line",
    # a comment ends at either line end, also at one that is spelt
    "RETURN 1 AS line // x\nUNION LOAD CSV FROM 'FILE' AS line RETURN line",
    "RETURN 1 AS line // x\rUNION LOAD CSV FROM 'FILE' AS line RETURN line",
    "RETURN 1 AS line // x\\u000DUNION LOAD CSV FROM 'FILE' AS line RETURN line",
    "// x\rLOAD CSV FROM 'FILE' AS line RETURN line",
    "RETURN 1 AS x // x\rUNION CALL dbms.listConfig() YIELD name RETURN name AS x",
    "CALL dbms.killConnection('bolt-1')",
    "CALL `dbms`.`killConnection`('bolt-1')",
    "CALL dbms . setConfigValue('a', 'b')",
    "OPTIONAL CALL dbms.listConfig() YIELD name RETURN name",
    "RETURN 1 AS x UNION CALL dbms.listConfig() YIELD name RETURN name AS x",
    "CALL db.createLabel('X')",
    "CALL db.labelsAndMore()",
    "USE system SHOW USERS",
    "CALL { USE system RETURN 1 AS x } RETURN x",
    "SHOW USERS",
    "SHOW TRANSACTIONS",
    "TERMINATE TRANSACTIONS 'neo4j-transaction-1'",
    "ALTER CURRENT USER SET PASSWORD FROM 'a' TO 'b'",
    "CREATE USER x SET PASSWORD 'abcdefgh'",
    "CREATE DATABASE x",
    "STOP DATABASE neo4j",
    "RETURN 1; MATCH (n) DETACH DELETE n",
]


@pytest.mark.parametrize("cypher", REFUSED)
def test_what_is_not_reading_is_refused(store: Neo4jStore, server: Neo4jServer, tmp_path: Path, cypher: str) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("secret\n")
    with pytest.raises(QueryError, match=r"read-only|not a reading query|second statement"):
        store.query(cypher.replace("FILE", secret.as_uri()))
    assert store.counts().entities == 3


def test_procedures_that_only_look_may_be_called(store: Neo4jStore) -> None:
    assert "Entity" in store.query("CALL db.labels() YIELD label RETURN label")["label"].to_pylist()
    assert store.query("call `db`.relationshipTypes()").num_rows >= 2
    found = store.query(
        "MATCH (e:Entity) CALL (e) { MATCH (e)-[r]->() RETURN count(r) AS facts } RETURN sum(facts) AS s"
    )
    assert found["s"].to_pylist() == [3]


def test_words_of_writing_are_allowed_in_names_strings_and_comments(store: Neo4jStore) -> None:
    table = store.query("/* CREATE */ MATCH (load:Entity) WHERE load.label <> 'LOAD CSV' RETURN load.label AS `CALL x`")
    assert table.column_names == ["CALL x"]
    assert store.query("MATCH (use:Entity) RETURN use.entity_id AS csv ORDER BY csv").num_rows == 3


def test_values_travel_as_parameters_and_cannot_become_cypher(store: Neo4jStore) -> None:
    for value in ["a'}) RETURN 1 //", "' OR 1=1 //", '"; MATCH (e) DELETE e', "`", "$other", "\\", "a\x00", "\\u0027"]:
        assert store.query("MATCH (e:Entity {entity_id: $id}) RETURN e.entity_id", {"id": value}).num_rows == 0
        assert store.find_entity(value) == ()
        assert store.query("RETURN $id AS value", {"id": value})["value"].to_pylist() == [value]
    for bad in ({1, 2}, object(), 2**70):
        with pytest.raises(QueryError, match="value of a parameter"):
            store.query("RETURN $x", {"x": bad})


def test_a_query_that_takes_too_long_is_stopped_and_the_store_answers_on(store: Neo4jStore) -> None:
    started = time.monotonic()
    with pytest.raises(QueryError, match=r"stopped after 0.2 seconds"):
        store.query("UNWIND range(1, 100000) AS a UNWIND range(1, 100000) AS b RETURN count(*)", timeout_seconds=0.2)
    assert time.monotonic() - started < 20
    assert one(store, "1") == 1


def test_explain_and_profile_answer_with_the_plan(store: Neo4jStore) -> None:
    for word in ("EXPLAIN", "PROFILE"):
        plan = store.query(f"{word} MATCH (e:Entity {{entity_id: 'a'}}) RETURN e")
        assert plan.column_names == ["plan"]
        assert "NodeUniqueIndexSeek" in plan["plan"][0].as_py()


def test_a_closed_store_says_so(server: Neo4jServer, tables: Path, tmp_path: Path) -> None:
    put(server, tables, tmp_path, CONFIG)
    store = open_neo4j(config_of(server), password=server.password)
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.counts()


# --- types of columns ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "kind", "value"),
    [
        ("1", pa.int64(), 1),
        ("9223372036854775807", pa.int64(), 2**63 - 1),
        ("1.5", pa.float64(), 1.5),
        ("true", pa.bool_(), True),
        ("'é'", pa.string(), "é"),
        ("null", pa.null(), None),
        ("[1, 2.5]", pa.list_(pa.float64()), [1.0, 2.5]),
        ("[[1], []]", pa.list_(pa.list_(pa.int64())), [[1], []]),
        ("[]", pa.list_(pa.null()), []),
        (
            "[1, 'a', [true], {b: date('2020-01-02')}]",
            pa.list_(pa.string()),
            ["1", "a", "[true]", '{"b": "2020-01-02"}'],
        ),
        (
            "{a: 1, b: [null, 'x']}",
            pa.struct({"a": pa.int64(), "b": pa.list_(pa.string())}),
            {"a": 1, "b": [None, "x"]},
        ),
        ("date('2020-02-29')", pa.date32(), datetime.date(2020, 2, 29)),
        (
            "localdatetime('2020-01-01T12:00:00.123456789')",
            pa.timestamp("us"),
            datetime.datetime(2020, 1, 1, 12, 0, 0, 123456),  # noqa: DTZ001 - a time without zone is what is asked for
        ),
        (
            "datetime('2020-07-01T12:00:00[Europe/Paris]')",
            pa.timestamp("us", "UTC"),
            datetime.datetime(2020, 7, 1, 10, tzinfo=datetime.UTC),
        ),
        (
            "datetime('1960-01-01T00:00:00.5-02:30')",
            pa.timestamp("us", "UTC"),
            datetime.datetime(1960, 1, 1, 2, 30, 0, 500000, datetime.UTC),
        ),
        ("localtime('12:30:01')", pa.time64("us"), datetime.time(12, 30, 1)),
        ("time('12:30:01+01:00')", pa.string(), "12:30:01.000000000+01:00"),
        (
            "duration('P14M3DT4.5S')",
            pa.struct(dict.fromkeys(("months", "days", "seconds", "nanoseconds"), pa.int64())),
            {"months": 14, "days": 3, "seconds": 4, "nanoseconds": 500_000_000},
        ),
        (
            "point({longitude: 1, latitude: 2})",
            pa.struct({"srid": pa.int64(), "x": pa.float64(), "y": pa.float64()}),
            {"srid": 4326, "x": 1.0, "y": 2.0},
        ),
    ],
)
def test_a_value_becomes_its_arrow_type(store: Neo4jStore, expression: str, kind: pa.DataType, value: Any) -> None:
    column = store.query(f"RETURN {expression} AS x")["x"]
    assert column.type == kind
    assert column.to_pylist() == [value]


def test_numbers_that_are_none_survive(store: Neo4jStore) -> None:
    values = store.query("UNWIND [0.0/0.0, 1.0/0.0, -0.0] AS x RETURN x")["x"].to_pylist()
    assert math.isnan(values[0])
    assert values[1] == math.inf
    assert math.copysign(1, values[2]) == -1


def test_dates_before_year_1_are_dates_wherever_they_stand(store: Neo4jStore) -> None:
    days = (datetime.date(1970, 1, 1) - datetime.date(1, 1, 1)).days
    ides = "date({year: -43, month: 3, day: 15})"  # 44 BC
    table = store.query(
        f"RETURN {ides} AS a, [{ides}] AS b, {{c: {ides}}} AS c, localdatetime({{year: -43}}) AS d, "
        f"datetime({{year: -43, timezone: '+01:00'}}) AS e, [{ides}, 1] AS f"
    )
    assert table["a"].type == pa.date32()
    # 44 years of 365 days, with leap days in 1 BC = year 0 and every fourth before; from 15 March to the next 1 January
    assert table["a"].cast(pa.int32()).to_pylist() == [-days - 366 - 43 * 365 - 10 + 31 + 28 + 14]
    assert table["b"].type == pa.list_(pa.date32())
    assert table["c"].type == pa.struct({"c": pa.date32()})
    assert table["a"].cast(pa.string()).to_pylist() == ["-0043-03-15"]
    assert table["d"].cast(pa.string()).to_pylist() == ["-0043-01-01 00:00:00.000000"]
    assert table["e"].cast(pa.int64())[0].as_py() == table["d"].cast(pa.int64())[0].as_py() - 3_600_000_000
    assert table["f"].to_pylist() == [["-0043-03-15", "1"]]


def test_columns_of_mixed_rows(store: Neo4jStore) -> None:
    def column(values: str) -> pa.ChunkedArray:
        return store.query(f"UNWIND {values} AS x RETURN x")["x"]

    assert column("[1, null, 2.5]").to_pylist() == [1.0, None, 2.5]
    assert column("['a', 1, null, [1, 2]]").to_pylist() == ["a", "1", None, "[1, 2]"]
    assert column("[{a: 1}, null, {b: 'x'}]").to_pylist() == [{"a": 1, "b": None}, None, {"a": None, "b": "x"}]
    assert column("[[1], null, [], [2, null]]").to_pylist() == [[1], None, [], [2, None]]


def test_nodes_relationships_and_paths_are_structs_as_in_the_embedded_store(
    store: Neo4jStore, tables: Path, tmp_path: Path, server: Neo4jServer
) -> None:
    load_store(tables, tmp_path / "embedded", CONFIG, SOURCES, buffer_bytes=256 << 20)
    query = "MATCH p = (e:Entity {entity_id: 'a'})-[r:capital]->(n:Entity) RETURN e, r, p, [r, null] AS l"
    [row] = store.query(query).to_pylist()
    with open_embedded(tmp_path / "embedded") as embedded:
        [expected] = embedded.query(query.replace("[r, null] AS l", "[r] AS l")).to_pylist()

    def known(value: dict[str, Any]) -> dict[str, Any]:
        return {key: inner for key, inner in value.items() if key not in ("_ID", "_SRC", "_DST") and inner is not None}

    assert known(row["e"]) == known(expected["e"])
    assert row["e"]["founded"] == datetime.date(843, 8, 10)
    assert known(row["r"]) == known(expected["r"])
    assert row["r"]["_SRC"] == row["e"]["_ID"]
    assert [known(node) for node in row["p"]["_NODES"]] == [known(node) for node in expected["p"]["_NODES"]]
    assert row["p"]["_RELS"] == [row["r"]]
    assert row["l"] == [row["r"], None]


def test_a_date_before_year_1_inside_a_path_spoils_nothing(store: Neo4jStore, server: Neo4jServer) -> None:
    query = "MATCH p = (e:Entity {entity_id: 'a'})-[r:capital]->(n:Entity) RETURN e, r, n, p"
    [plain] = store.query(query).to_pylist()
    with session(server) as writer:
        writer.run("MATCH ()-[r:capital]->(b) SET r.since = date({year: -51}), b.built = [date({year: -52})]").consume()
        try:
            table = store.query(query).combine_chunks()
        finally:
            writer.run("MATCH ()-[r:capital]->(b) REMOVE r.since, b.built").consume()
    assert table["e"].to_pylist() == [plain["e"]]
    for relationship in (table["r"].chunk(0), table["p"].chunk(0).field("_RELS").flatten()):
        assert relationship.field("since").cast(pa.string()).to_pylist() == ["-0051-01-01"]
        assert relationship.field("_SRC").to_pylist() == [plain["r"]["_SRC"]]
        assert relationship.field("sources").to_pylist() == [["freebase", "dbpedia"]]
    nodes = table["p"].chunk(0).field("_NODES").flatten()
    assert nodes.field("label").to_pylist() == ["France", "Paris"]
    assert nodes.field("built").cast(pa.list_(pa.string())).to_pylist() == [None, ["-0052-01-01"]]
    assert table["n"].chunk(0).field("built").cast(pa.list_(pa.string())).to_pylist() == [["-0052-01-01"]]


# --- one build for each answer ---------------------------------------------------------------------------------------


def turn_flips(server: Neo4jServer) -> None:
    with session(server) as writer:
        writer.run("MATCH (s:MmkgStore) SET s.flips = s.flips + 1").consume()


@contextlib.contextmanager
def changed(server: Neo4jServer, key: str, value: Any) -> Iterator[None]:
    """The state node with another value."""
    with session(server) as writer:
        before = writer.run("MATCH (s:MmkgStore) RETURN s[$key]", key=key).values()[0][0]
        writer.run("MATCH (s:MmkgStore) SET s[$key] = $value", key=key, value=value).consume()
        try:
            yield
        finally:
            writer.run("MATCH (s:MmkgStore) SET s[$key] = $value", key=key, value=before).consume()


@pytest.fixture
def new_tables(tmp_path: Path) -> Path:
    return write_graph(tmp_path / "new", NEW)


def test_a_question_that_a_flip_went_through_is_asked_again(
    store: Neo4jStore, server: Neo4jServer, new_tables: Path, tmp_path: Path
) -> None:
    asked: list[str] = []
    builds: list[str] = []

    def label_and_number(asking: neo4j.Session, served: served_module.Served) -> tuple[str, int, str]:
        label = asking.run("MATCH (e:Entity {entity_id: 'a'}) RETURN e.label").values()[0][0]
        if not asked:
            builds.append(put(server, new_tables, tmp_path / "flipped", CONFIG, version="0002").digest.total)
        asked.append(label)
        return label, asking.run(cypher.COUNT_ENTITIES).values()[0][0], served.build

    assert store._reader.ask(label_and_number) == ("Gaul", 2, builds[0])
    assert asked == ["France", "Gaul"]
    assert store.version == "0002"


def test_an_error_of_the_old_graph_is_not_told_of_the_new_one(
    store: Neo4jStore, server: Neo4jServer, new_tables: Path, tmp_path: Path
) -> None:
    assert store.find_neighbours(["c"])[0].neighbour_id == "a"
    put(server, new_tables, tmp_path / "flipped", CONFIG)
    with pytest.raises(NotFound, match="no entity has the id 'c'"):
        store.find_neighbours(["c"])
    with pytest.raises(NotFound, match="no relation is called 'partOf'"):
        store.find_neighbours(["a"], relations=["partOf"])


def test_a_reader_waits_while_a_commit_is_on_its_way(
    store: Neo4jStore, server: Neo4jServer, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[Any] = []
    reader = threading.Thread(
        target=lambda: answers.append(store.query("MATCH (e:Entity) RETURN DISTINCT e.label AS l"))
    )
    with session(server) as loader, session(server) as own:
        flip = loader.begin_transaction(metadata={"mmkg": "flip", "load_id": "x"})
        flip.run("MATCH (e:Entity) SET e.label = 'new'").consume()
        own.run("MATCH (s:MmkgStore) SET s.flips = s.flips + 1").consume()
        flip.run("MATCH (s:MmkgStore) SET s.version = '0003', s.build = 'changed'").consume()
        reader.start()
        time.sleep(0.5)
        assert answers == [], "the reader did not wait"
        flip.commit()
    reader.join(10)
    turn_flips(server)
    assert answers[0]["l"].to_pylist() == ["new"]
    assert store.query("MATCH (e:Entity) RETURN DISTINCT e.label AS l")["l"].to_pylist() == ["new"]
    assert store.version == "0003"


def test_a_loader_that_was_killed_during_its_flip_stops_no_reader(store: Neo4jStore, server: Neo4jServer) -> None:
    turn_flips(server)
    started = time.monotonic()
    assert store.counts().entities == 3
    assert store.find_entity("Paris") == ("b",)
    assert time.monotonic() - started < 5
    turn_flips(server)
    assert store.counts().entities == 3


def test_where_transactions_of_other_users_are_not_listed_an_odd_number_is_waited_for(
    store: Neo4jStore, server: Neo4jServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_module, "READ_EDITIONS", "RETURN ['enterprise', ''] AS editions")
    monkeypatch.setattr(served_module, "_FLIP_SECONDS", 0.0)
    turn_flips(server)
    try:
        with pytest.raises(
            StoreError, match=r"or its loader was killed\..*no loader is at work, run `mmkg build` again"
        ):
            store.counts()
        with monkeypatch.context() as patience:
            patience.setattr(served_module, "_FLIP_SECONDS", 60.0)
            patience.setattr(served_module, "_POLL_SECONDS", 0.0)
            polls = []
            read_lock = served_module._read_lock

            def end_the_flip_at_the_third_look(asking: neo4j.Session) -> tuple[int, str, str | None] | None:
                polls.append(asking)
                if len(polls) == 3:
                    turn_flips(server)
                return read_lock(asking)

            patience.setattr(served_module, "_read_lock", end_the_flip_at_the_third_look)
            assert store.counts().entities == 3
            assert len(polls) >= 3
    finally:
        with session(server) as writer:
            writer.run("MATCH (s:MmkgStore) SET s.flips = s.flips + s.flips % 2").consume()


def test_readers_see_the_old_graph_or_the_new_one_while_a_loader_flips_on_and_on(
    server: Neo4jServer, tmp_path: Path
) -> None:
    ids = [f"e{i:04}" for i in range(2000)]
    put(
        server, write_graph(tmp_path / "t", Graph(entities=ids, labels=dict.fromkeys(ids, "0"))), tmp_path / "c", CONFIG
    )
    stop = threading.Event()

    def flip_on() -> None:
        with session(server) as loader, session(server) as own:
            number = 0
            while not stop.is_set():
                number += 1
                flip = loader.begin_transaction(metadata={"mmkg": "flip", "load_id": "x"})
                flip.run("MATCH (e:Entity) SET e.label = $label", label=str(number)).consume()
                own.run("MATCH (s:MmkgStore) SET s.flips = s.flips + 1").consume()
                flip.commit()
                own.run("MATCH (s:MmkgStore) SET s.flips = s.flips + 1").consume()
                stop.wait(0.1)

    loader = threading.Thread(target=flip_on)
    loader.start()
    seen = set()
    try:
        with open_neo4j(config_of(server), password=server.password) as store:
            end = time.monotonic() + 4
            while time.monotonic() < end:
                labels = store.query("MATCH (e:Entity) RETURN DISTINCT e.label AS l")["l"].to_pylist()
                assert len(labels) == 1, f"a mixture: {labels}"
                seen.add(labels[0])
    finally:
        stop.set()
        loader.join()
    assert len(seen) > 3
    with session(server) as writer:
        writer.run("MATCH (s:MmkgStore) SET s.build = 'changed'").consume()


def test_a_store_that_flips_during_every_question_is_given_up(store: Neo4jStore, server: Neo4jServer) -> None:
    def flips(asking: neo4j.Session, served: served_module.Served) -> None:
        turn_flips(server)
        turn_flips(server)

    with pytest.raises(StoreError, match="was rebuilt 20 times during one question"):
        store._reader.ask(flips)


def test_a_reader_that_waits_for_one_build_gets_no_other(
    server: Neo4jServer, tables: Path, new_tables: Path, tmp_path: Path
) -> None:
    content = put(server, tables, tmp_path / "c", CONFIG)
    with open_neo4j(config_of(server), build=content.digest.total, password=server.password) as store:
        assert (store.build, store.version) == (content.digest.total, "0001")
        put(server, new_tables, tmp_path / "flipped", CONFIG, version="0002")
        with pytest.raises(StoreError, match=r"expected build \w{12}, found \w{12} \(version 0002\).*mmkg rollback"):
            store.counts()
    with pytest.raises(StoreError, match="expected build"):
        open_neo4j(config_of(server), build=content.digest.total, password=server.password)


def test_a_server_that_serves_nothing_says_why(store: Neo4jStore, server: Neo4jServer) -> None:
    with changed(server, "state", "loading"), pytest.raises(StoreError, match="nothing is served yet: the first load"):
        store.counts()
    with (
        changed(server, "key", "elsewhere"),
        pytest.raises(StoreError, match="no graph of mmkg in the database 'neo4j'"),
    ):
        store.counts()
    assert store.counts().entities == 3


def test_a_reader_waits_for_a_server_that_is_killed_and_comes_back(
    store: Neo4jStore, server: Neo4jServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_module, "_ATTEMPTS", 20)  # a busy machine starts a server slowly
    before = store.describe_entity("a")
    server.kill()
    answers: list[Any] = []
    reader = threading.Thread(target=lambda: answers.append(store.describe_entity("a")))
    reader.start()
    server.start()
    reader.join(120)
    assert answers == [before]


# --- beside the embedded store ---------------------------------------------------------------------------------------


def test_three_hops_around_a_hub_do_not_walk_every_path(server: Neo4jServer, tmp_path: Path) -> None:
    leaves = [f"leaf{i:04}" for i in range(5000)]
    ring = [(leaf, "next", leaves[(i * 7 + 1) % 5000]) for i, leaf in enumerate(leaves)]
    graph = Graph(entities=["hub", *leaves], triples=[("hub", "has", leaf) for leaf in leaves] + ring)
    put(server, write_graph(tmp_path / "tables", graph), tmp_path / "content", CONFIG)
    with open_neo4j(config_of(server), password=server.password) as store:
        started = time.monotonic()
        near = store.expand(["leaf0000"], 3)
        assert near["hub"] == 1
        assert len(near) == 5001
        assert sum(hop == 1 for hop in near.values()) == 3  # the hub, the next leaf, and the one before
        assert len(store.find_neighbours(["hub"])) == 5000
        [path, *_] = store.find_paths("leaf0000", "leaf2500")
        assert [step.entity_id for step in path.steps] == ["hub", "leaf2500"]
        assert time.monotonic() - started < 30  # 5,000 x 5,000 paths would take minutes


def test_the_order_of_cut_neighbours_is_that_of_code_points(server: Neo4jServer, tmp_path: Path) -> None:
    others = ["Z", "a", "é", "～", "😀", "\ue000"]
    graph = Graph(entities=["0", *others], triples=[("0", "r", other) for other in others])
    put(server, write_graph(tmp_path / "tables", graph), tmp_path / "content", CONFIG)
    with open_neo4j(config_of(server), password=server.password) as store:
        found = [n.neighbour_id for n in store.find_neighbours(["0"], limit=4)]
    assert found == sorted(others)[:4]


def test_dates_of_an_entity_before_year_1_are_iso_text(store: Neo4jStore, server: Neo4jServer) -> None:
    assert store.describe_entity("a").attributes["founded"] == datetime.date(843, 8, 10)
    with session(server) as writer:
        writer.run("MATCH (e:Entity {entity_id: 'a'}) SET e.founded = date({year: -52, month: 9})").consume()
        try:
            assert store.describe_entity("a").attributes["founded"] == "-0052-09-01"
        finally:
            writer.run("MATCH (e:Entity {entity_id: 'a'}) SET e.founded = date('0843-08-10')").consume()


def test_a_build_whose_store_is_a_server_is_asked_there(
    server: Neo4jServer,
    tables: Path,
    new_tables: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NEO4J_PASSWORD", server.password)
    root = tmp_path / "builds"
    for version, graph in (("0001-a", tables), ("0002-b", new_tables)):
        put(server, graph, root / version / "store", CONFIG, version=version)
        manifest = BuildManifest(
            graph="tiny",
            version=version,
            digest="",
            created="",
            stages={},
            counts={},
            source_names=SOURCES,
            config={"store": config_of(server).model_dump()},
        )
        write_json(root / version / "build.json", vars(manifest))
    with open_build(root / "0002-b") as build:
        assert isinstance(build.store, Neo4jStore)
        assert build.query("MATCH (e:Entity {entity_id: 'a'}) RETURN e.label")["e.label"].to_pylist() == ["Gaul"]
    with open_build(root / "0001-a") as build, pytest.raises(StoreError, match=r"found \w{12} \(version 0002-b\)"):
        build.query("RETURN 1")
    query = "MATCH (e:Entity) RETURN e.entity_id AS id ORDER BY id"
    command = [sys.executable, "-m", "mmkg", "query", str(root / "0002-b"), query, "--format", "csv"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["id", "a", "b"]), done.stderr
