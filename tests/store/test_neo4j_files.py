"""Import files for Neo4j: read back by another CSV reader, imported by a real neo4j-admin, failures as our errors."""

import csv
import math
import os
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mmkg.errors import StoreError
from mmkg.store.columns import EDGES, IMAGE_LINKS, IMAGES, nodes_schema
from mmkg.store.content import Content, gather_content
from mmkg.store.difference import find_difference
from mmkg.store.model import StoreModel
from mmkg.store.neo4j.admin import run_import
from mmkg.store.neo4j.files import ImportFiles, write_import_files
from tests.servers.fuseki import skip_or_fail
from tests.servers.neo4j import Neo4jServer, missing_tools
from tests.store.test_content import BASE, MODEL, NASTY, PROPERTIES, SCHEMA, batches

BC_44 = -735_160  # 15 March 44 BC, in days since 1970
FAR = 3_789_000  # in the year 12343
LONG = "ü" * 1_200_000  # beyond half of the importer's buffer
NODES = [
    *(BASE | {"entity_id": f"http://e/{text}", "label": text, "types": [text, "x"]} for text in NASTY),
    BASE | {"entity_id": "numbers", "area": -0.0, "areas": [math.nan, math.inf, -math.inf, 5e-324, 1e20, 0.1]},
    BASE | {"entity_id": "nan", "area": math.nan, "areas": [1.0]},
    BASE | {"entity_id": "dates", "born": BC_44, "days": [-719_528, -719_162, -1_000_000, 0, FAR]},
    BASE | {"entity_id": "texts", "motto": "", "names": NASTY, "description": LONG},
    BASE | {"entity_id": "one empty text", "names": [""]},
    BASE | {"entity_id": "aliases", "aliases": ["http://a/1"], "motto": "  a, b;|\t "},
]
EDGES_OF = {
    "capital": [
        {
            "from": f"http://e/{text}",
            "to": f"http://e/{other}",
            "relation_id": "http://r/capital",
            "sources": ["a", "b"],
        }
        for text, other in zip(NASTY, NASTY[::-1], strict=True)
    ],
    "partOf": [{"from": "nan", "to": "nan", "relation_id": 'http://r/part "Of",\n`', "sources": ["x, y"]}],
}


PICTURE = dict.fromkeys(IMAGES.names)
PICTURES = [
    PICTURE | {"sha256": "1", "url": 'http://a/"x", y\n', "author": "Zoë\r\n", "licence": "", "width_px": 2**31},
    PICTURE | {"sha256": "2", "url": "http://b", "source_page": "`'\x1f", "format": "png", "height_px": 0},
]
LINKS = [
    {"from": "nan", "to": "1", "rank": 0, "score": math.nan},
    {"from": "dates", "to": "1", "rank": 3, "score": -0.0},
    {"from": "http://e/\n", "to": "2", "rank": 0, "score": None},
]


def make(
    folder: Path,
    nodes: list[dict[str, Any]],
    edges: dict[str, list[dict[str, Any]]] | None = None,
    pictures: list[dict[str, Any]] | None = None,
    links: list[dict[str, Any]] | None = None,
) -> Content:
    streams = ((name, batches(rows, EDGES)) for name, rows in (edges or {}).items())
    images, image_links = batches(pictures or [], IMAGES), batches(links or [], IMAGE_LINKS)
    return gather_content(MODEL, batches(nodes, SCHEMA), streams, folder, images=images, image_links=image_links)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Content:
    return make(tmp_path_factory.mktemp("content"), NODES, EDGES_OF, PICTURES, LINKS)


@pytest.fixture(scope="module")
def files(content: Content, tmp_path_factory: pytest.TempPathFactory) -> ImportFiles:
    return write_import_files(content, "at'las\n", "0001-abc", tmp_path_factory.mktemp("im'port [1]"))


def rows_of(files: ImportFiles, table: str) -> list[dict[str, str]]:
    """The rows by Python's own reader, which does not tell null from empty text."""
    csv.field_size_limit(1 << 24)
    with (files.folder / f"{table}-header.csv").open(encoding="utf-8", newline="") as file:
        [header] = csv.reader(file)
    with (files.folder / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return [dict(zip(header, row, strict=True)) for row in csv.reader(file)]


# --- the files -------------------------------------------------------------------------------------------------------


def test_another_csv_reader_finds_the_same_values(files: ImportFiles) -> None:
    delimiter = "\x1e"  # \x1f is in a list
    entities = {row["entity_id:ID(Entity)"]: row for row in rows_of(files, "entities")}
    assert len(entities) == len(NODES)
    for node in NODES:
        row = entities[node["entity_id"]]
        assert row["label:string"] == (node["label"] or "")
        assert row["types:string[]"] == delimiter.join(node["types"])
        assert row["names:string[]"] == delimiter.join(node["names"] or [])
    assert entities["numbers"]["area:double"] == "-0.0"
    assert entities["numbers"]["areas:double[]"].split(delimiter) == [
        "NaN",
        "Infinity",
        "-Infinity",
        "5e-324",
        "1e+20",
        "0.1",
    ]
    assert entities["dates"]["born:date"] == "-0043-03-15"
    assert entities["dates"]["days:date[]"].split(delimiter)[:2] == ["0000-01-01", "0001-01-01"]
    found = [
        {"from": row[":START_ID(Entity)"], "to": row[":END_ID(Entity)"], "relation_id": row["relation_id:string"]}
        | {"sources": row["sources:string[]"].split(delimiter), "type": row[":TYPE"]}
        for row in rows_of(files, "relationships")
    ]
    expected = [row | {"type": name} for name, rows in EDGES_OF.items() for row in rows]
    assert sorted(found, key=repr) == sorted(({k: row[k] for k in found[0]} for row in expected), key=repr)


def test_another_csv_reader_finds_the_same_pictures(files: ImportFiles) -> None:
    names = {"sha256": "sha256:ID(Image)", "width_px": "width_px:long", "height_px": "height_px:long"}
    expected = [
        {names.get(name, f"{name}:string"): "" if value is None else str(value) for name, value in row.items()}
        for row in PICTURES
    ]
    assert rows_of(files, "images") == expected
    assert [list(row.values()) for row in rows_of(files, "image-links")] == [
        ["nan", "1", "0", "NaN"],
        ["dates", "1", "3", "-0.0"],
        ["http://e/\n", "2", "0", ""],
    ]
    assert "--multiline-fields=entities.csv,relationships.csv,images.csv,image-links.csv,store.csv" in files.arguments
    assert (files.images, files.image_links) == (2, 3)


def test_files_of_pictures_are_there_only_where_there_are_any(tmp_path: Path) -> None:
    node = [BASE | {"entity_id": "a"}]
    link = [{"from": "a", "to": "1", "rank": 0, "score": 0.5}]
    pictured = write_import_files(make(tmp_path / "1", node, None, PICTURES[:1], link), "g", "v", tmp_path / "f")
    assert "--nodes=Image=images-header.csv,images.csv" in pictured.arguments
    assert "--multiline-fields=images.csv" in pictured.arguments
    assert (tmp_path / "f" / "image-links.csv").read_text() == '"a","1",0,0.5\n'.replace('"', "")
    files = write_import_files(make(tmp_path / "2", node), "g", "v", tmp_path / "f")
    assert not any("image" in argument for argument in files.arguments)
    assert not list((tmp_path / "f").glob("image*"))


def test_null_is_nothing_and_empty_text_is_quoted(tmp_path: Path) -> None:
    nodes = [BASE | {"entity_id": "a", "motto": ""}, BASE | {"entity_id": "b"}]
    files = write_import_files(make(tmp_path / "c", nodes), "g", "v", tmp_path / "f")
    assert (tmp_path / "f" / "entities.csv").read_text() == 'a,,,"","",,,,,"",\nb,,,"","",,,,,,\n'
    assert rows_of(files, "relationships") == []


def test_the_state_node_says_what_was_imported(files: ImportFiles, content: Content) -> None:
    [state] = rows_of(files, "store")
    assert state["state:string"] == "imported"
    assert state["build:string"] == content.digest.total
    assert (state["graph:string"], state["entities:long"], state["relationships:long"]) == (
        "at'las\n",
        str(len(NODES)),
        str(len(NASTY) + 1),
    )


def test_the_command_does_not_grow_with_the_number_of_types(tmp_path: Path) -> None:
    edge = {"from": "a", "to": "a", "relation_id": "r", "sources": []}
    few, many = ({f"type{i}": [edge] for i in range(number)} for number in (1, 60))
    commands = [
        write_import_files(make(tmp_path / f"c{len(e)}", [BASE], e), "g", "v", tmp_path / f"f{len(e)}").command()
        for e in (few, many)
    ]
    assert commands[0] == commands[1]
    assert commands[0][-1] == "neo4j"


def test_rows_of_edges_come_type_by_type_in_their_order_every_time(tmp_path: Path) -> None:
    edges = {
        f"type{i}": [{"from": "a", "to": "a", "relation_id": f"r{i}{j}", "sources": []} for j in range(3)]
        for i in (3, 1, 0, 2)
    }
    content = make(tmp_path / "content", [BASE], edges)
    expected = [(name, edge["relation_id"]) for name, rows in edges.items() for edge in rows]
    for time in range(25):
        rows = rows_of(write_import_files(content, "g", "v", tmp_path / f"{time}"), "relationships")
        assert [(row[":TYPE"], row["relation_id:string"]) for row in rows] == expected


def test_multiline_fields_and_a_larger_buffer_are_asked_for_only_where_needed(
    files: ImportFiles, tmp_path: Path
) -> None:
    def arguments(name: str, nodes: list[dict[str, Any]], edges: dict[str, list[dict[str, Any]]]) -> tuple[str, ...]:
        return write_import_files(make(tmp_path / f"c{name}", nodes, edges), "g", "v", tmp_path / name).arguments

    plain = [BASE | {"entity_id": "a", "motto": "x"}]
    edge = {"from": "a", "to": "a", "relation_id": "r", "sources": []}
    assert not any("multiline" in one or "buffer" in one for one in arguments("1", plain, {"r": [edge]}))
    assert "--multiline-fields=entities.csv" in arguments("2", [BASE | {"names": ["x", "y\rz"]}], {"r": [edge]})
    two = "--multiline-fields=entities.csv,relationships.csv"
    assert two in arguments("3", [BASE | {"entity_id": "a\nb"}], {})
    assert "--multiline-fields=relationships.csv" in arguments("4", plain, {"r": [edge | {"relation_id": "r\n"}]})
    assert any(one.startswith("--read-buffer-size=") for one in files.arguments)


@pytest.mark.parametrize("where", ["types", "names", "sources"])
def test_values_of_lists_are_parted_by_a_character_that_none_of_them_has(where: str, tmp_path: Path) -> None:
    def arguments(text: str, name: str) -> tuple[str, ...]:
        values = [text, "b"]
        node = BASE | ({where: values} if where != "sources" else {})
        edge = {"from": "a", "to": "a", "relation_id": "r", "sources": values if where == "sources" else []}
        made = make(tmp_path / f"c{name}", [node], {"r": [edge]})
        return write_import_files(made, "g", "v", tmp_path / name).arguments

    assert "--array-delimiter=U+001F" in arguments("a\x1e", "1")
    assert "--array-delimiter=U+001D" in arguments("a\x1e\x1f", "2")
    with pytest.raises(StoreError, match="every control character occurs"):
        arguments("".join(map(chr, range(32))), "3")


def test_files_that_are_not_whole_have_no_script(content: Content, tmp_path: Path) -> None:
    write_import_files(content, "g", "v", tmp_path)
    bad = make(tmp_path / "c", [BASE], {"a b": [{"from": "a", "to": "a", "relation_id": "r", "sources": []}]})
    with pytest.raises(StoreError, match="is called 'a b'"):
        write_import_files(bad, "g", "v", tmp_path)
    assert not (tmp_path / "import.sh").exists()


# --- the call, with programs that play neo4j-admin -------------------------------------------------------------------


def program(folder: Path, script: str) -> str:
    path = folder / "neo4j-admin"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_the_script_calls_neo4j_admin_in_its_folder(files: ImportFiles, tmp_path: Path) -> None:
    admin = program(tmp_path, 'pwd; for one in "$@"; do echo "$one"; done')

    def call(*arguments: str) -> list[str]:
        environment = os.environ | {"NEO4J_ADMIN": admin}
        command = [str(files.folder / "import.sh"), *arguments]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.splitlines()

    folder = str(files.folder)
    assert call() == [folder, *files.command()[1:]]
    overwrite = "--overwrite-destination=true"
    assert call("other", overwrite) == [folder, *files.command(database="other", overwrite=True)[1:]]
    assert overwrite not in files.command()


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("java.io.IOException: No space left on device", "the disk is full"),
        ("Database already exist. Re-run with", "the database is not empty.*--overwrite"),
        ("The database is in use. Stop database 'neo4j' and try again.", "Stop the server first"),
        ("java.nio.file.AccessDeniedException: /var/lib/neo4j", "as the user the server runs as"),
        (
            "java.lang.IllegalArgumentException: File 'entities-header.csv' doesn't exist",
            "cannot reach the files.*chmod o\\+x",
        ),
        ("java.lang.UnsupportedClassVersionError: org/neo4j/cli/AdminTool", "needs Java 17"),
        ("java.lang.OutOfMemoryError: Java heap space", "HEAP_SIZE"),
        ("Unknown option: '--multiline-fields-format=v2'", "Expected that of Neo4j 5.26"),
        ("Something nobody has seen yet", "Something nobody has seen yet.*half-written"),
    ],
)
def test_a_failure_is_one_message_with_the_next_step(
    output: str, message: str, files: ImportFiles, tmp_path: Path
) -> None:
    admin = program(tmp_path, f'echo "{output}" >&2; exit 70')
    with pytest.raises(StoreError, match=f"(?s)neo4j-admin failed.*{message}"):
        run_import(files, [admin])


AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
READS_AND_REPORTS = """
set -e
cat *.csv > /dev/null
for one in "$@"; do
    case "$one" in --report-file=*) echo reported > "${one#--report-file=}" ;; esac
done
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach; those of pytest are closed."""
    if os.geteuid() or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv, to be another user: apt-get install util-linux")
    with tempfile.TemporaryDirectory(prefix="mmkg-open-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def closed_files(open_folder: Path, content: Content) -> Iterator[ImportFiles]:
    """Import files in such a folder, written by somebody whose new files nobody else may read."""
    (open_folder / "files").mkdir()
    (open_folder / "files").chmod(0o755)
    before = os.umask(0o077)
    try:
        yield write_import_files(content, "g", "v", open_folder / "files")
    finally:
        os.umask(before)


def test_neo4j_admin_may_run_as_another_user(closed_files: ImportFiles, open_folder: Path) -> None:
    nodes = closed_files.entities + closed_files.images + 1
    relationships = closed_files.relationships + closed_files.image_links
    counts = f"echo '  {nodes} nodes'; echo '  {relationships} relationships'"
    admin = program(open_folder, READS_AND_REPORTS + counts)
    Path(admin).chmod(0o755)
    report = run_import(closed_files, [*AS_NOBODY, admin])
    assert report.nodes == len(NODES) + len(PICTURES) + 1
    assert (closed_files.folder / "import.report").read_text() == "reported\n"


def test_the_script_may_be_run_by_another_user_also_where_modes_were_lost(
    closed_files: ImportFiles, open_folder: Path
) -> None:
    admin = program(open_folder, READS_AND_REPORTS)
    Path(admin).chmod(0o755)
    temporary = open_folder / "tmp"
    temporary.mkdir()
    temporary.chmod(0o1777)
    environment = os.environ | {"NEO4J_ADMIN": admin, "TMPDIR": str(temporary)}
    command = [*AS_NOBODY, str(closed_files.folder / "import.sh")]
    subprocess.run(command, env=environment, check=True)
    assert (closed_files.folder / "import.report").read_text() == "reported\n"
    assert not list(temporary.iterdir())
    (closed_files.folder / "import.report").chmod(0o644)
    subprocess.run(command, env=environment, check=True)
    assert [path.read_text() for path in temporary.glob("mmkg-import-*.report")] == ["reported\n"]


def test_a_program_is_found_from_the_callers_folder(
    files: ImportFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = program(tmp_path, "echo No space left on device; exit 70")
    monkeypatch.chdir(tmp_path)
    assert files.command(("sudo", "./neo4j-admin"))[:2] == ["sudo", admin]
    assert files.command(("bin/neo4j-admin",))[0] == str(tmp_path / "bin" / "neo4j-admin")
    assert files.command(("/opt/neo4j-admin",))[0] == "/opt/neo4j-admin"
    assert files.command(("neo4j-admin",))[0] == "neo4j-admin"
    with pytest.raises(StoreError, match="the disk is full"):
        run_import(files, ["./neo4j-admin"])


def test_a_program_that_is_not_there_is_an_error(files: ImportFiles, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"No such file.*import\.sh on the server's machine"):
        run_import(files, [str(tmp_path / "none")])


def test_fewer_nodes_than_written_are_an_error(files: ImportFiles, tmp_path: Path) -> None:
    admin = program(tmp_path, "echo '  3 nodes'; echo '  1 relationships'")
    with pytest.raises(StoreError, match=f"expected {len(NODES) + len(PICTURES) + 1} nodes.*imported 3 and 1"):
        run_import(files, [admin])


def test_a_server_that_answers_is_not_written_under(files: ImportFiles, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        uri = f"bolt://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(StoreError, match="Stop the server first"):
            run_import(files, [program(tmp_path, "exit 0")], uri=uri)


# --- a real neo4j-admin and a real server ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neo4jServer]:
    """A server that has never been started."""
    if missing := missing_tools():
        skip_or_fail(missing)
    server = Neo4jServer(tmp_path_factory.mktemp("neo4j") / "home")
    yield server
    server.kill()


def read_back(server: Neo4jServer, folder: Path, model: StoreModel) -> Content:
    """All that a running server holds of entities, by way of the plain driver."""

    def value(name: str, kind: pa.DataType) -> str:
        days = "duration.inDays(date('1970-01-01'), {}).days"
        if kind == pa.date32():
            return f"CASE WHEN e.{name} IS NOT NULL THEN {days.format(f'e.{name}')} END AS {name}"
        if kind == pa.list_(pa.date32()):
            return f"[d IN e.{name} | {days.format('d')}] AS {name}"
        return f"e.{name} AS {name}"

    schema = nodes_schema(model.properties)
    columns = ", ".join(value(field.name, field.type) for field in schema)
    with server.driver() as driver:

        def rows(query: str) -> list[dict[str, Any]]:
            return [record.data() for record in driver.execute_query(query, database_="neo4j").records]

        nodes = rows(f"MATCH (e:Entity) RETURN {columns}")
        edges = rows(
            "MATCH (h)-[r]->(t:Entity) RETURN h.entity_id AS from, t.entity_id AS to, r.relation_id AS relation_id, "
            "r.sources AS sources, type(r) AS type"
        )
        columns = ", ".join(f"i.{name} AS {name}" for name in IMAGES.names)
        pictures = rows(f"MATCH (i:Image) RETURN {columns}")
        links = rows(
            "MATCH (e:Entity)-[r:HAS_IMAGE]->(i:Image) "
            "RETURN e.entity_id AS from, i.sha256 AS to, r.rank AS rank, r.score AS score"
        )
    by_type = {edge["type"]: [row for row in edges if row["type"] == edge["type"]] for edge in edges}
    streams = ((name, batches(rows, EDGES)) for name, rows in by_type.items())
    images, image_links = batches(pictures, IMAGES), batches(links, IMAGE_LINKS)
    return gather_content(model, batches(nodes, schema), streams, folder, images=images, image_links=image_links)


def test_what_a_real_neo4j_imports_is_what_was_written(
    server: Neo4jServer, content: Content, files: ImportFiles, tmp_path: Path
) -> None:
    steps: list[tuple[str, int]] = []
    report = run_import(
        files,
        server.admin_command(),
        uri=server.uri,
        environment=server.admin_environment(),
        progress=lambda step, percent: steps.append((step, percent)),
    )
    assert report.nodes == len(NODES) + len(PICTURES) + 1
    assert report.relationships == len(NASTY) + 1 + len(LINKS)
    assert ("Node import", 100) in steps
    with pytest.raises(StoreError, match="the database is not empty"):
        run_import(files, server.admin_command(), environment=server.admin_environment())
    server.start()
    found = read_back(server, tmp_path / "found", MODEL)
    difference = find_difference(found, content, tmp_path / "work")
    # the one value that the importer cannot carry: a list of nothing but an empty text
    assert difference.examples() == ["entity changed: one empty text"]
    assert difference.num_changes == 1
    with server.driver() as driver:
        driver.execute_query("MATCH (e:Entity {entity_id: 'one empty text'}) SET e.names = ['']", database_="neo4j")
        [state] = driver.execute_query("MATCH (s:MmkgStore) RETURN s", database_="neo4j").records
    assert state["s"]["build"] == content.digest.total
    assert (state["s"]["flips"], state["s"]["graph"]) == (0, "at'las\n")
    assert read_back(server, tmp_path / "again", MODEL).digest == content.digest
    with pytest.raises(StoreError, match="Stop the server first"):
        run_import(files, server.admin_command(), environment=server.admin_environment(), overwrite=True)
    assert len(PROPERTIES) == 6
