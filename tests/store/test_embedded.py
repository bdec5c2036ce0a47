"""The embedded store: Cypher and its mistakes, switching, killed loads, corrupt files, several readers."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmkg.config import StoreConfig
from mmkg.errors import QueryError, StoreError
from mmkg.store import EmbeddedStore, LoadReport, load_store, open_embedded, verify_store
from mmkg.store.load import load_store as load_store_function
from tests.store.graphs import SOURCES, Graph, write_graph

CONFIG = StoreConfig(min_attribute_share=0.0)
BUFFER_BYTES = 256 << 20
OLD = Graph(
    entities=["a", "b", "c"],
    triples=[("a", "capital", "b", 3), ("b", "partOf", "a"), ("c", "partOf", "a")],
    labels={"a": "France", "b": "Paris"},
    literals=[("a", "population", 67.0), ("b", "population", 2.1)],
)
NEW = Graph(entities=["a", "b"], triples=[("a", "capital", "b")], labels={"a": "Gaul"})


def load(tables: Path, store: Path) -> LoadReport:
    return load_store(tables, store, CONFIG, SOURCES, buffer_bytes=BUFFER_BYTES)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_graph(tmp_path_factory.mktemp("old"), OLD)


@pytest.fixture(scope="module")
def store(tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    folder = tmp_path_factory.mktemp("store")
    load(tables, folder)
    with open_embedded(folder) as opened:
        yield opened


@pytest.fixture
def own(tables: Path, tmp_path: Path) -> Path:
    """The folder of a store that a test may break."""
    load(tables, tmp_path / "store")
    return tmp_path / "store"


def label_of_a(folder: Path) -> Any:
    with open_embedded(folder) as opened:
        return opened.query("MATCH (e:Entity {entity_id: 'a'}) RETURN e.label")["e.label"][0].as_py()


# --- asking ----------------------------------------------------------------------------------------------------------


def test_a_query_answers_with_columns_called_as_it_writes_them(store: EmbeddedStore) -> None:
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


def test_a_query_without_rows_still_has_its_columns(store: EmbeddedStore) -> None:
    table = store.query("MATCH (e:Entity {entity_id: 'nobody'}) RETURN e.label, e.population")
    assert (table.num_rows, table.column_names) == (0, ["e.label", "e.population"])


def test_values_travel_as_parameters_and_cannot_become_cypher(store: EmbeddedStore) -> None:
    for value in ["a'}) RETURN 1 //", "' OR 1=1 //", '"; MATCH (e) DELETE e', "`", "$other", "\\", "a\x00"]:
        assert store.query("MATCH (e:Entity {entity_id: $id}) RETURN e.entity_id", {"id": value}).num_rows == 0
        assert store.find_entity(value) == ()
        assert store.query("RETURN $id AS value", {"id": value})["value"].to_pylist() == [value]


def test_rows_beyond_the_limit_are_cut_and_the_log_says_so(
    store: EmbeddedStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING")
    assert store.query("MATCH (e:Entity) RETURN e.entity_id", limit_rows=2).num_rows == 2
    assert "2 of 3 rows" in caplog.text


def test_the_caret_stands_where_the_query_goes_wrong(store: EmbeddedStore) -> None:
    with pytest.raises(QueryError) as caught:
        store.query("\n\n  MATCH (e:Entity) // é\n  WHERE e.label = 'é😀' ANDY e RETURN e")
    lines = str(caught.value).splitlines()
    assert lines[0] == "line 4, column 24: Parser exception: Invalid input, expected SingleQuery"
    assert lines[1][lines[2].index("^") :] == "ANDY e RETURN e"


def test_a_syntax_mistake_shows_the_line_and_a_caret(store: EmbeddedStore) -> None:
    with pytest.raises(QueryError) as caught:
        store.query("MATCH (e:Entity)\nRETURN e.label, , e.types")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("line 2, column 17: Parser exception: mismatched input ','")
    assert lines[1:] == ["  RETURN e.label, , e.types", "                  ^"]


@pytest.mark.parametrize(
    ("cypher", "message", "hint"),
    [
        ("MATCH (e:Entity) RETURN e.lable", "line 1, column 27: .*Cannot find property lable", "Did you mean 'label'?"),
        ("MATCH (e)-[:captial]->(f) RETURN f", "column 13: .*captial does not exist", "Did you mean 'capital'?"),
        ("MATCH (e:Entity)\n RETURN f.label", r"line 2, column 9: .*Variable f is not in scope", "^"),
        ("MATCH (e:Entity) RETURN e.label, e.label", "two columns are called e.label", "AS"),
        ("MATCH (e:Entity {entity_id: $idd}) RETURN e", r"column 29: the parameter \$idd has no value", "Given: $id."),
        ("   // nothing", "the query is empty", "Try"),
        ("RETURN 1; RETURN 2", "column 9: a second statement", "one at a time"),
    ],
)
def test_a_mistake_says_where_and_what_to_do(store: EmbeddedStore, cypher: str, message: str, hint: str) -> None:
    with pytest.raises(QueryError, match=message) as caught:
        store.query(cypher, {"id": "a"})
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    "cypher",
    [
        "MATCH (e:Entity) SET e.label = 'x'",
        "MATCH (e:Entity) DETACH DELETE e",
        "CREATE (:Entity {entity_id: 'x'})",
        "MERGE (:Entity {entity_id: 'x'})",
        "CREATE NODE TABLE X(a INT64 PRIMARY KEY)",
        "DROP TABLE Entity",
        "ALTER TABLE Entity ADD x STRING",
        "COPY (MATCH (e) RETURN e.label) TO 'OUT'",
        "copy\n(MATCH (e) RETURN e.label) TO 'OUT'",
        "/* MATCH */ COPY (MATCH (e) RETURN e.label) TO 'OUT'",
        "PROFILE COPY (MATCH (e) RETURN e.label) TO 'OUT'",
        "RETURN 1; COPY (MATCH (e) RETURN e.label) TO 'OUT'",
        "EXPORT DATABASE 'OUT'",
        "LOAD FROM 'FILE' RETURN *",
        "MATCH (e:Entity) LOAD FROM 'FILE' RETURN *",
        "LOAD WITH HEADERS (a STRING) FROM 'FILE' RETURN *",
        "CALL threads=1",
        "CALL read_parquet('FILE') RETURN *",
        "ATTACH 'FILE' AS x",
        "INSTALL json",
        "LOAD EXTENSION json",
        "BEGIN TRANSACTION",
        "CHECKPOINT",
        "CREATE MACRO f(x) AS x",
    ],
)
def test_what_is_not_reading_is_refused_and_leaves_no_file(store: EmbeddedStore, tmp_path: Path, cypher: str) -> None:
    out, file = tmp_path / "out.csv", tmp_path / "in.csv"
    file.write_text("secret\n1\n")
    with pytest.raises(QueryError, match=r"read-only|not a reading query|second statement"):
        store.query(cypher.replace("OUT", str(out)).replace("FILE", str(file)))
    assert store.counts().entities == 3
    assert list(tmp_path.iterdir()) == [file]


def test_words_of_writing_are_allowed_in_names_strings_and_comments(store: EmbeddedStore) -> None:
    table = store.query("/* COPY */ MATCH (load:Entity) WHERE load.label <> 'COPY (x) TO' RETURN load.label AS `COPY`")
    assert table.column_names == ["COPY"]
    assert store.query("CALL show_tables() RETURN name").num_rows == 5


def test_a_query_that_takes_too_long_is_stopped_and_the_store_answers_on(store: EmbeddedStore) -> None:
    slow = (
        "UNWIND range(1, 5000) AS a UNWIND range(1, 5000) AS b UNWIND range(1, 500) AS c "
        "WITH a * b * c AS x WHERE x % 7 = 3 RETURN count(DISTINCT x)"
    )
    started = time.monotonic()
    with pytest.raises(QueryError, match=r"stopped after 0.2 seconds"):
        store.query(slow, timeout_seconds=0.2)
    assert time.monotonic() - started < 20
    assert store.query("RETURN 1 AS one")["one"].to_pylist() == [1]


def test_a_parameter_that_the_engine_does_not_know_is_a_query_error(store: EmbeddedStore) -> None:
    for value in ([1, "x"], {1, 2}, object()):
        with pytest.raises(QueryError):
            store.query("RETURN $x", {"x": value})


def test_a_closed_store_says_so(own: Path) -> None:
    opened = open_embedded(own)
    opened.close()
    opened.close()
    with pytest.raises(StoreError, match="closed"):
        opened.counts()


# --- loading ---------------------------------------------------------------------------------------------------------


def test_a_load_reports_what_it_did_and_leaves_one_file_and_a_manifest(tables: Path, tmp_path: Path) -> None:
    report = load(tables, tmp_path / "store")
    assert (report.entities, report.triples, report.relations, report.properties) == (3, 3, 2, ("population",))
    names = sorted(path.name for path in (tmp_path / "store").iterdir())
    manifest = json.loads((tmp_path / "store" / "store.json").read_text())
    assert names == [manifest["file"], "store.json"]
    assert report.bytes == (tmp_path / "store" / manifest["file"]).stat().st_size
    verify_store(tmp_path / "store", tables)


def test_literals_that_are_no_value_of_their_property_are_counted(tmp_path: Path) -> None:
    literals = [("a", "population", 5.0), ("a", "population", "unknown"), ("b", "population", "many")]
    tables = write_graph(tmp_path / "tables", Graph(entities=["a", "b"], literals=literals))
    assert load(tables, tmp_path / "store").values_left_out == 2


def test_a_store_in_a_folder_with_a_nasty_name(tmp_path: Path) -> None:
    folder = tmp_path / 'it\'s [a] "*?" \\x é'
    load(write_graph(tmp_path / "tables", OLD), folder / "store")
    assert label_of_a(folder / "store") == "France"


def test_a_second_load_replaces_the_store_and_an_open_reader_keeps_the_old_one(own: Path, tmp_path: Path) -> None:
    new_tables = write_graph(tmp_path / "new", NEW)
    with open_embedded(own) as reader:
        load(new_tables, own)
        assert reader.counts().entities == 3
        assert reader.find_neighbours(["c"])[0].neighbour_id == "a"
        assert label_of_a(own) == "Gaul"
    assert len(list(own.iterdir())) == 2


def test_two_readers_in_two_processes_at_once(own: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mmkg.store import open_embedded\n"
        "with open_embedded(Path(sys.argv[1])) as store:\n"
        "    print(store.counts().entities, flush=True)\n"
        "    sys.stdin.readline()\n"
        "    print(store.find_entity('Paris'), flush=True)\n"
    )
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(own)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    with open_embedded(own) as third, contextlib.ExitStack() as stack:
        for reader in readers:
            stack.enter_context(reader)
        assert [reader.stdout.readline() for reader in readers if reader.stdout] == ["3\n", "3\n"]
        assert third.counts().entities == 3
        assert [reader.communicate("\n")[0] for reader in readers] == ["('b',)\n", "('b',)\n"]


_SLOW_LOAD = """
import sys, time
from pathlib import Path
import mmkg.store.load as load
from mmkg.config import StoreConfig

stop_at, tables, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])

def pause(name, after):
    original = getattr(load, name)
    def paused(*args, **kwargs):
        if not after:
            print("here", flush=True); time.sleep(60)
        result = original(*args, **kwargs)
        print("here", flush=True); time.sleep(60)
        return result
    setattr(load, name, paused)

pause(stop_at.removeprefix("before "), not stop_at.startswith("before "))
load.load_store(tables, target, StoreConfig(), ("freebase", "dbpedia"), buffer_bytes=256 << 20)
"""


@pytest.mark.parametrize("stop_at", ["copy_files", "commit", "before write_store_manifest"])
def test_a_load_killed_at_any_step_leaves_the_old_store_answering(own: Path, tmp_path: Path, stop_at: str) -> None:
    new_tables = write_graph(tmp_path / "new", NEW)
    command = [sys.executable, "-c", textwrap.dedent(_SLOW_LOAD), stop_at, str(new_tables), str(own)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as loader:
        assert loader.stdout
        assert loader.stdout.readline() == "here\n"
        assert label_of_a(own) == "France"  # a reader while loading
        os.kill(loader.pid, signal.SIGKILL)
    assert label_of_a(own) == "France"
    verify_store(own, write_graph(tmp_path / "again", OLD))
    load(new_tables, own)  # the same command again is the recovery
    assert label_of_a(own) == "Gaul"
    assert len(list(own.iterdir())) == 2


def test_a_load_killed_in_the_middle_of_copying_leaves_the_old_store_answering(own: Path, tmp_path: Path) -> None:
    entities = [f"e{i:05}" for i in range(3000)]
    triples = [(entities[i], f"r{i % 60}", entities[i * 7 % 3000]) for i in range(3000)]
    big = write_graph(tmp_path / "big", Graph(entities=entities, triples=triples))
    code = (
        "import sys; from pathlib import Path; from mmkg.config import StoreConfig; from mmkg.store import load_store\n"
        "load_store(Path(sys.argv[1]), Path(sys.argv[2]), StoreConfig(), ('x',), buffer_bytes=256 << 20)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(big), str(own)]) as loader:
        database = own / "load.partial" / "graph.lbug"
        while not (database.exists() and database.stat().st_size > 1_000_000):
            assert loader.poll() is None, "the load ended before it could be killed"
            time.sleep(0.002)
        os.kill(loader.pid, signal.SIGKILL)
    assert (own / "load.partial").exists()
    assert label_of_a(own) == "France"
    load(big, own)
    with open_embedded(own) as opened:
        assert opened.counts().entities == 3000


def test_a_failed_verification_keeps_the_old_store(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose_a_file(connection: Any, model: Any, files: Any) -> None:
        files.edges.pop("capital")
        original(connection, model, files)

    from mmkg.store import load as module

    original = module.copy_files
    monkeypatch.setattr(module, "copy_files", lose_a_file)
    with pytest.raises(StoreError, match="number of relationships capital: the tables have 1, the store has 0"):
        load_store_function(write_graph(tmp_path / "new", NEW), own, CONFIG, SOURCES, buffer_bytes=BUFFER_BYTES)
    assert label_of_a(own) == "France"


# --- broken stores ---------------------------------------------------------------------------------------------------


def database_of(folder: Path) -> Path:
    return next(folder.glob("graph-*.lbug"))


def test_one_flipped_byte_is_found_by_verification(own: Path, tables: Path) -> None:
    path = database_of(own)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match="its content has changed since it was loaded"):
        verify_store(own, tables)


def test_other_tables_than_the_store_was_made_of_are_found_by_verification(own: Path, tmp_path: Path) -> None:
    renamed = Graph(entities=OLD.entities, triples=OLD.triples, literals=OLD.literals, labels={"a": "Gaul"})
    with pytest.raises(StoreError, match="a: label: the tables have 'Gaul', the store has 'France'"):
        verify_store(own, write_graph(tmp_path / "renamed", renamed))
    moved = Graph(
        entities=OLD.entities,
        triples=[("b", "capital", "a"), *OLD.triples[1:]],
        literals=OLD.literals,
        labels=OLD.labels,
    )
    with pytest.raises(StoreError, match="b capital a"):
        verify_store(own, write_graph(tmp_path / "moved", moved))
    fewer = Graph(entities=OLD.entities[:2], triples=OLD.triples[:2])
    with pytest.raises(StoreError, match="number of entities: the tables have 2, the store has 3"):
        verify_store(own, write_graph(tmp_path / "fewer", fewer))


def test_a_cut_or_missing_file_is_found_at_opening(own: Path) -> None:
    path = database_of(own)
    content = path.read_bytes()
    path.write_bytes(content[:-4096])
    with pytest.raises(StoreError, match=f"expected {len(content):,} bytes, found {len(content) - 4096:,}"):
        open_embedded(own)
    path.unlink()
    with pytest.raises(StoreError, match="found no file"):
        open_embedded(own)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no store here"), ("{", "not a store's manifest"), ("{}", "not a store's manifest")],
)
def test_a_missing_or_broken_manifest_is_one_message(own: Path, content: str | None, message: str) -> None:
    (own / "store.json").unlink()
    if content is not None:
        (own / "store.json").write_text(content)
    with pytest.raises(StoreError, match=message):
        open_embedded(own)


def test_a_store_of_another_version_of_the_engine_is_not_opened(own: Path, tables: Path) -> None:
    manifest = json.loads((own / "store.json").read_text())
    manifest["engine"] = "ladybug 0.1.0"
    (own / "store.json").write_text(json.dumps(manifest))
    for ask in (lambda: open_embedded(own), lambda: verify_store(own, tables)):
        with pytest.raises(StoreError, match=r"made by ladybug 0.1.0, installed is ladybug"):
            ask()


def test_a_folder_with_other_things_in_it_is_not_loaded_into(tables: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(StoreError, match=r"holds thesis.tex, which is no part of a store"):
        load(tables, tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_triples_that_point_outside_the_tables_are_refused(tmp_path: Path) -> None:
    import pyarrow as pa

    from mmkg.shards import write_table

    tables = write_graph(tmp_path / "tables", NEW)
    for column, value, message in (("tail_index", 99, "entity_index"), ("relation_index", 7, "relation_index 7")):
        row = {"head_index": [0], "relation_index": [0], "tail_index": [1], "sources": [1], column: [value]}
        (tables / "triples" / "part-00000.parquet").unlink()
        write_table(tables, "triples", [pa.table(row)])
        with pytest.raises(StoreError, match=message):
            load(tables, tmp_path / "store")
