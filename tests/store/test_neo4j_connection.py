"""Every way of not reaching a Neo4j, each with what was expected, what was found, and what to do."""

import http.server
import logging
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from neo4j.exceptions import ClientError, DatabaseError, Neo4jError, ServiceUnavailable, TransientError

from mmkg.config import StoreConfig
from mmkg.errors import StoreError
from mmkg.store.neo4j import BackOff, connection, explain, is_transient, open_driver
from mmkg.store.neo4j.connection import is_disk_full, is_out_of_memory
from tests.servers.neo4j import PASSWORD, Neo4jServer, free_port
from tests.store.neo4j_graphs import shared_server


@pytest.fixture(scope="module")
def server() -> Neo4jServer:
    return shared_server()


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEO4J_PASSWORD", PASSWORD)


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_LOOK_SECONDS", 0.3)
    monkeypatch.setattr(connection, "_CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(connection, "_ACQUISITION_SECONDS", 0.5)


def message_of(uri: str, **settings: str) -> str:
    with pytest.raises(StoreError) as caught:
        open_driver(StoreConfig(uri=uri, **settings)).close()  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"{uri}: ")
    return str(caught.value).removeprefix(f"{uri}: ")


@pytest.fixture
def listen() -> Iterator[Callable[[Callable[[socket.socket], None]], int]]:
    """Start a server of one function on a free port."""
    sockets: list[socket.socket] = []

    def start(answer: Callable[[socket.socket], None]) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        sockets.append(listener)

        def serve() -> None:
            while True:
                try:
                    peer = listener.accept()[0]
                except OSError:
                    return
                sockets.append(peer)
                peer.settimeout(5)
                try:
                    answer(peer)
                except OSError:
                    continue

        threading.Thread(target=serve, daemon=True).start()
        return int(listener.getsockname()[1])

    yield start
    for one in sockets:
        one.close()


def test_a_server_that_answers_is_opened(server: Neo4jServer) -> None:
    with open_driver(StoreConfig(uri=server.uri)) as driver:
        assert driver.execute_query("RETURN 1 AS one", database_="neo4j").records[0]["one"] == 1
    with open_driver(StoreConfig(uri=server.uri.replace("bolt", "neo4j")), password=PASSWORD) as driver:
        assert driver.get_server_info().agent == "Neo4j/5.26.0"


def test_no_server() -> None:
    port = free_port()
    for scheme in ("bolt", "neo4j", "bolt+s"):
        found = message_of(f"{scheme}://127.0.0.1:{port}")
        assert found.startswith(
            f"no server listens at 127.0.0.1:{port} (connection refused). Start Neo4j, or set store"
        )
    assert "no machine is called 'no-such-host.invalid'" in message_of("bolt://no-such-host.invalid")


def test_no_password_in_the_environment(server: Neo4jServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEO4J_PASSWORD")
    assert "expected in the environment variable NEO4J_PASSWORD, which is not set" in message_of(server.uri)
    assert "variable MY_PASSWORD, which" in message_of(server.uri, password_env="MY_PASSWORD")


def test_a_wrong_password_and_one_that_must_be_changed(server: Neo4jServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with server.driver() as driver:
        driver.execute_query("CREATE USER fresh SET PASSWORD 'first-one' CHANGE REQUIRED", database_="system")
        try:
            assert "refuses user 'fresh' with the password in NEO4J_PASSWORD" in message_of(server.uri, user="fresh")
            monkeypatch.setenv("NEO4J_PASSWORD", "first-one")
            found = message_of(server.uri, user="fresh")
            assert "must be changed. In cypher-shell or the browser: ALTER CURRENT USER SET PASSWORD" in found
            monkeypatch.setenv("NEO4J_PASSWORD", "wrong")
            for _ in range(3):  # the server locks a user after three
                message_of(server.uri, user="fresh")
            assert "too many wrong passwords: the server has locked user 'fresh'" in message_of(
                server.uri, user="fresh"
            )
        finally:
            driver.execute_query("DROP USER fresh", database_="system")


def test_an_unknown_database_is_named_with_those_there_are(server: Neo4jServer) -> None:
    found = message_of(server.uri, database="graph")
    assert found.startswith("no database is called 'graph'; found: neo4j. Set store.database")


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_an_http_server_on_the_port_is_recognised_at_once() -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page) as page:
        threading.Thread(target=page.serve_forever, daemon=True).start()
        started = time.monotonic()
        found = message_of(f"bolt://127.0.0.1:{page.server_port}")
        page.shutdown()
    assert found.startswith(
        f"expected Bolt, but an HTTP server listens at 127.0.0.1:{page.server_port}. Neo4j's browser"
    )
    assert "set store.uri to bolt://127.0.0.1:7687" in found
    assert time.monotonic() - started < 6


@pytest.mark.usefixtures("_impatient")
def test_something_else_on_the_port(listen: Callable[[Callable[[socket.socket], None]], int]) -> None:
    ssh = listen(lambda peer: peer.sendall(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"))
    found = message_of(f"bolt://127.0.0.1:{ssh}")
    assert f"expected Neo4j at 127.0.0.1:{ssh}, found a server that greets with 'SSH-2.0-OpenSSH_9.2p1" in found
    silent = listen(lambda peer: None)
    assert "something listens at" in message_of(f"bolt://127.0.0.1:{silent}")


def _bolt_44(peer: socket.socket) -> None:
    """As much of Bolt 4.4 as says which server it is."""
    if len(peer.recv(20)) == 20:
        peer.sendall(bytes([0, 0, 4, 4]))
        peer.recv(4096)  # HELLO
        about = b"\xb1\x70\xa2\x86server\x8cNeo4j/4.4.30\x8dconnection_id\x81b"
        peer.sendall(len(about).to_bytes(2, "big") + about + b"\0\0")


def test_a_server_that_is_too_old(listen: Callable[[Callable[[socket.socket], None]], int]) -> None:
    port = listen(_bolt_44)
    found = message_of(f"bolt://127.0.0.1:{port}")
    assert found.startswith("expected Neo4j 5.23 or later, found a server that speaks Bolt 4.4. Install that, or set")


def test_a_server_without_tls_asked_with_tls(server: Neo4jServer) -> None:
    for scheme in ("bolt+s", "bolt+ssc", "neo4j+s"):
        found = message_of(server.uri.replace("bolt", scheme))
        assert found.startswith(f"the server speaks Bolt without TLS. Use {scheme.partition('+')[0]}://127.0.0.1:")


@pytest.fixture(scope="module")
def locked_server(server: Neo4jServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neo4jServer]:
    """A server with TLS and a self-signed certificate, whose database is read-only."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    home = tmp_path_factory.mktemp("locked")
    keys = home / "keys"
    keys.mkdir()
    command = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=127.0.0.1"
    subprocess.run(command.split(), cwd=keys, check=True, capture_output=True)
    policy = "dbms.ssl.policy.bolt"
    settings = [
        "server.bolt.tls_level=REQUIRED",
        f"{policy}.enabled=true",
        f"{policy}.base_directory={keys}",
        f"{policy}.private_key=key.pem",
        f"{policy}.public_certificate=cert.pem",
        f"{policy}.client_auth=NONE",
    ]
    locked = Neo4jServer(home, settings=settings)
    locked.uri = locked.uri.replace("bolt", "bolt+ssc")
    try:
        locked.start()  # once: a database that is read-only cannot be made
        locked.stop()
        with (home / "conf" / "neo4j.conf").open("a") as conf:
            conf.write("server.databases.default_to_read_only=true\n")
        locked.start()
        yield locked
    finally:
        locked.kill()


def test_a_server_with_tls_asked_without_or_with_a_certificate_that_nobody_signed(locked_server: Neo4jServer) -> None:
    plain = locked_server.uri.replace("bolt+ssc", "bolt")
    found = message_of(plain)
    assert found.startswith("the server wants TLS. Use bolt+s://127.0.0.1:")
    found = message_of(locked_server.uri.replace("bolt+ssc", "bolt+s"))
    assert "certificate is not trusted by this machine. Use bolt+ssc://127.0.0.1:" in found
    open_driver(StoreConfig(uri=locked_server.uri)).close()


def test_a_database_that_is_read_only(locked_server: Neo4jServer) -> None:
    config = StoreConfig(uri=locked_server.uri)
    with open_driver(config) as driver, pytest.raises(Neo4jError) as caught:
        driver.execute_query("CREATE (:X)", database_="neo4j")
    found = explain(caught.value, config)
    assert "the database 'neo4j' is read-only on this server" in str(found)
    assert "server.databases.default_to_read_only in neo4j.conf" in str(found)
    assert not is_transient(caught.value)


def test_a_server_whose_disk_is_full_says_so_and_is_not_tried_again(server: Neo4jServer, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", str(data)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    full = Neo4jServer(tmp_path, settings=["db.tx_log.rotation.size=2m"])
    config = StoreConfig(uri=full.uri)
    try:
        full.start()
        with open_driver(config) as driver:
            for _ in range(2):  # in the commit, and from then on
                with pytest.raises(DatabaseError) as caught:
                    for _ in range(100):
                        driver.execute_query("UNWIND range(1, 200) AS i CREATE (:X {t: $t + i})", t="x" * 5000)
                assert "cannot write any more" in str(explain(caught.value, config))
                assert "Most often its disk is full: see its debug.log, free some space" in str(
                    explain(caught.value, config)
                )
                assert not is_transient(caught.value)
    finally:
        full.kill()
        subprocess.run(["umount", "-l", str(data)], check=True)


def test_too_large_a_transaction_is_told_from_a_busy_server(server: Neo4jServer) -> None:
    config = StoreConfig(uri=server.uri)
    with open_driver(config) as driver, pytest.raises(TransientError) as caught:
        driver.execute_query("UNWIND range(1, 20000000) AS i WITH collect(toString(i)) AS texts RETURN size(texts)")
    assert is_out_of_memory(caught.value)
    assert not is_transient(caught.value)
    assert "server.memory.heap.max_size" in str(explain(caught.value, config))


def test_a_deadlock_and_a_lost_connection_may_be_tried_again_and_a_mistake_not(server: Neo4jServer) -> None:
    def error_of(code: str, message: str = "") -> Neo4jError:
        return Neo4jError._hydrate_neo4j(code=code, message=message)

    assert is_transient(error_of("Neo.TransientError.Transaction.DeadlockDetected"))
    assert is_transient(error_of("Neo.TransientError.General.DatabaseUnavailable"))
    assert is_transient(ServiceUnavailable("gone"))
    assert is_transient(ConnectionResetError())
    assert not is_transient(error_of("Neo.ClientError.Statement.SyntaxError"))
    assert not is_transient(error_of("Neo.ClientError.Security.Unauthorized"))
    assert is_disk_full(error_of("Neo.DatabaseError.General.UnknownError", "No space left on device"))
    assert not is_transient(ValueError())
    with server.driver() as driver, pytest.raises(ClientError) as caught:
        driver.execute_query("RETURN 1/0", database_="neo4j")
    assert not is_transient(caught.value)


def test_back_off_waits_longer_each_time_with_jitter_and_not_for_ever() -> None:
    back_off = BackOff(attempts=6, first_seconds=1.0, max_seconds=4.0, random_seed=0)
    waits = [back_off.next_seconds() for _ in range(6)]
    assert waits[-1] is None
    for wait, longest in zip(waits, (1.0, 2.0, 4.0, 4.0, 4.0), strict=False):
        assert wait is not None
        assert longest / 2 <= wait <= longest
    assert len(set(waits)) == 6
    back_off.reset()
    assert back_off.next_seconds() is not None
    other = BackOff(attempts=6, first_seconds=1.0, random_seed=1)
    assert other.next_seconds() != waits[0]
    started = time.monotonic()
    assert BackOff(first_seconds=0.01).wait()
    assert not BackOff(attempts=1, first_seconds=60).wait()
    assert time.monotonic() - started < 5


def test_the_driver_does_not_say_again_what_our_error_says(capfd: pytest.CaptureFixture[str]) -> None:
    message_of(f"neo4j://127.0.0.1:{free_port()}")
    assert capfd.readouterr().err == ""
    assert logging.getLogger("neo4j").level == logging.NOTSET


def test_the_store_is_there_without_the_driver_and_says_what_it_needs() -> None:
    code = (
        "import sys\n"
        "import mmkg.store.neo4j as store\n"
        "assert 'neo4j' not in sys.modules\n"
        "sys.modules['neo4j'] = None\n"
        "from mmkg.errors import NotInstalled\n"
        "try:\n"
        "    store.open_neo4j\n"
        "except NotInstalled as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "the Neo4j store needs 'neo4j': pip install 'mmkg[neo4j]'", done.stderr
