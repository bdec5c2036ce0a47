"""Whole builds that a Neo4j server serves: forward, back, and between an embedded store and a server."""

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mmkg import open_build, pipeline
from mmkg.builds import opened, query_served, serve, served_version, switch_to, version_before
from mmkg.builds.store_content import open_content
from mmkg.builds.store_vectors import IMAGE_PROPERTY
from mmkg.config import read_config
from mmkg.errors import OtherBuildServed
from mmkg.store.neo4j import examine, open_driver, search_vectors
from mmkg.store.neo4j.read_back import read_back
from tests.graph_config import DBPEDIA, write_pictured_graph, write_small_graph
from tests.servers.neo4j import Neo4jServer
from tests.store.neo4j_checks import check_holds, run
from tests.store.neo4j_graphs import shared_server

CAPITALS = "MATCH (:Entity)-[:capital]->(c:Entity) RETURN c.entity_id AS id ORDER BY id"
BERLIN, PARIS = DBPEDIA + "Berlin", DBPEDIA + "Paris"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Neo4jServer]:
    server = shared_server()
    monkeypatch.setenv("NEO4J_PASSWORD", server.password)
    run(server, "MATCH (n) DETACH DELETE n")
    yield server
    run(server, "MATCH (n) DETACH DELETE n")


@pytest.fixture
def config_path(tmp_path: Path) -> Path:
    return write_small_graph(tmp_path)


def build(path: Path, *settings: str) -> pipeline.BuildReport:
    return pipeline.build(read_config(path, settings))


def lose_berlin(config_path: Path) -> None:
    dump = config_path.parent / "dbpedia.nt"
    lines = [line for line in dump.read_text(encoding="utf-8").splitlines(keepends=True) if "Berlin" not in line]
    dump.write_text("".join(lines), encoding="utf-8")


def check_serves(server: Neo4jServer, folder: Path, scratch: Path) -> None:
    """The server holds a version, and it is the one that is served."""
    with open_content(folder, scratch / "content") as content:
        check_holds(server, content, scratch)
    assert served_version(folder.parent) == folder.name


def test_a_build_goes_into_the_server_and_a_rollback_takes_it_back(server, config_path, tmp_path):
    uri = f"store.uri={server.uri}"
    first = build(config_path, uri)
    check_serves(server, first.folder, tmp_path)
    lose_berlin(config_path)
    second = build(config_path, uri)
    check_serves(server, second.folder, tmp_path)
    with open_build(second.folder) as graph:
        assert graph.query(CAPITALS).to_pylist() == [{"id": PARIS}]
    root = first.folder.parent
    report = switch_to(root, version_before(root), back=True)
    assert report is not None
    assert (report.how, report.changes) == ("flipped", {"nodes_added": 1, "edges_added": 1})
    check_serves(server, first.folder, tmp_path)


def test_a_rollback_to_a_version_of_before_the_server_brings_the_server_along(server, config_path, tmp_path):
    first = build(config_path)
    lose_berlin(config_path)
    second = build(config_path, f"store.uri={server.uri}")
    check_serves(server, second.folder, tmp_path)
    root = first.folder.parent
    switch_to(root, version_before(root), back=True)
    check_serves(server, first.folder, tmp_path)
    with open_build(root) as graph:
        assert graph.query(CAPITALS).to_pylist() == [{"id": BERLIN}, {"id": PARIS}]
    assert list(root.glob("*.partial")) == []


def test_a_rollback_to_a_version_of_a_server_brings_that_server_back(server, config_path, tmp_path):
    first = build(config_path, f"store.uri={server.uri}")
    lose_berlin(config_path)
    embedded = build(config_path)
    run(server, "MATCH (n) DETACH DELETE n")
    assert switch_to(embedded.folder.parent, first.version).how == "loaded"
    check_serves(server, first.folder, tmp_path)


def test_a_question_put_while_the_server_is_switched_is_answered_by_the_version_that_is_served_then(
    server, config_path, monkeypatch
):
    first = build(config_path, f"store.uri={server.uri}")
    lose_berlin(config_path)
    second = build(config_path, f"store.uri={server.uri}")
    root = first.folder.parent
    serve(root, first.version)  # as it is between the server's switch and that of the pointer
    threading.Timer(0.5, serve, (root, second.version)).start()
    assert query_served(root, CAPITALS).to_pylist() == [{"id": PARIS}]
    monkeypatch.setattr(opened, "_SWITCH_SECONDS", 0.2)
    with pytest.raises(OtherBuildServed, match="A server holds one version at a time"):
        query_served(first.folder, CAPITALS)
    serve(root, first.version)
    with pytest.raises(OtherBuildServed, match=f"found .* \\(version {second.version}\\)"):
        query_served(root, CAPITALS)


def test_the_pointer_is_switched_with_the_server_and_not_when_all_is_proved(server, config_path, monkeypatch):
    """What a killed loader leaves once its flip is committed: a server and a pointer that go together."""
    first = build(config_path, f"store.uri={server.uri}")
    lose_berlin(config_path)
    root = first.folder.parent
    (root / "neo4j.json").unlink()  # so it is read back, before the flip and after it
    reads = []

    def killed_at_the_second(*arguments, **options):
        reads.append(served_version(root))
        if len(reads) == 2:
            raise KeyboardInterrupt
        return read_back(*arguments, **options)

    monkeypatch.setattr(examine, "read_back", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        build(config_path, f"store.uri={server.uri}")
    assert reads[0] == first.version != reads[1]
    with open_build(root) as graph:
        assert graph.query(CAPITALS).to_pylist() == [{"id": PARIS}]


@contextlib.contextmanager
def other_address(server: Neo4jServer) -> Iterator[str]:
    """The same server at another address, until the end of the block."""

    def pass_on(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    class Connection(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            address = urlsplit(server.uri)
            with socket.create_connection((address.hostname, address.port)) as target:
                answers = threading.Thread(target=pass_on, args=(target, self.request))
                answers.start()
                pass_on(self.request, target)
                answers.join()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Connection) as forwarder:
        forwarder.daemon_threads = True
        threading.Thread(target=forwarder.serve_forever).start()
        try:
            yield f"bolt://127.0.0.1:{forwarder.server_address[1]}"
        finally:
            forwarder.shutdown()


def test_a_rollback_to_a_version_of_an_address_that_is_gone_is_served_where_the_graph_is_now(
    server, config_path, tmp_path
):
    with other_address(server) as uri:
        first = build(config_path, f"store.uri={uri}")
    lose_berlin(config_path)
    second = build(config_path, f"store.uri=bolt://{server.uri.partition('://')[2]}")
    root = first.folder.parent
    for version, capitals in ((first, [BERLIN, PARIS]), (second, [PARIS]), (first, [BERLIN, PARIS])):
        switch_to(root, version.version, back=True)
        check_serves(server, version.folder, tmp_path)
        with open_build(root) as graph:
            assert [row["id"] for row in graph.query(CAPITALS).to_pylist()] == capitals


def test_pictures_and_their_vectors_follow_a_build_into_the_server(server, tmp_path):
    config_path = write_pictured_graph(tmp_path, "in_store = true\n")
    uri = f"store.uri={server.uri}"
    first = build(config_path, uri)
    check_serves(server, first.folder, tmp_path)
    with open_build(first.folder) as graph:
        found = graph.query("MATCH (e:Entity)-[:HAS_IMAGE]->(i:Image) RETURN e.label AS label, i.sha256 AS sha256")
        assert set(found["label"].to_pylist()) == {"France", "Germany", "Paris"}
        [sha256] = [row["sha256"] for row in found.to_pylist() if row["label"] == "France"]
        [vector], _ = graph.vectors.pictures([sha256])
    config = read_config(config_path, [uri]).store
    with open_driver(config) as driver:
        nearest = search_vectors(driver, config, IMAGE_PROPERTY, vector, 1, node="image")
        assert nearest == [(sha256, pytest.approx(1.0, abs=1e-3))]
    again = build(config_path, uri)
    assert again.unchanged
    (config_path.parent / "flags" / "Paris.png").unlink()
    second = build(config_path, uri)
    check_serves(server, second.folder, tmp_path)
    [[count]] = run(server, "MATCH (i:Image) WHERE i.image_vector IS NOT NULL RETURN count(*)")
    assert count == 2
