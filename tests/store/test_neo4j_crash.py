"""Loads that are killed, cut off and started again: they end with the same content, and readers see old or new only.

A graph is all of one colour: every label and every relationship's source says which. Whoever sees two colours, or one
colour and another's number, has seen a mixture.
"""

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mmkg.config import StoreConfig
from mmkg.errors import StoreError
from mmkg.store.content import Content, write_content
from mmkg.store.neo4j import open_neo4j
from mmkg.store.neo4j.load import load_neo4j
from tests.servers.fuseki import skip_or_fail
from tests.servers.neo4j import PASSWORD, Neo4jServer, missing_tools, running_neo4j
from tests.store.graphs import SOURCES, Graph, Picture, images_of, write_graph
from tests.store.neo4j_checks import check_holds, run

CONFIG = StoreConfig(min_attribute_share=0.0, max_batch_rows=150)
ENTITIES = 300
COLOURS = {"red": (0, 1), "blue": (100, 2)}  # number of the first entity, bit of the source


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEO4J_PASSWORD", PASSWORD)


@pytest.fixture(scope="module")
def killable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neo4jServer]:
    """A server of this module's own."""
    if missing := missing_tools():
        skip_or_fail(missing)
    with running_neo4j(tmp_path_factory.mktemp("neo4j") / "home") as server:
        yield server


@pytest.fixture
def server(killable: Neo4jServer) -> Neo4jServer:
    if killable.process is None:
        killable.start()
    run(killable, "MATCH (n) DETACH DELETE n")
    return killable


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Content]:
    return {colour: content_of(colour, tmp_path_factory.mktemp(colour)) for colour in COLOURS}


def content_of(colour: str, folder: Path) -> Content:
    first, bit = COLOURS[colour]
    names = [f"http://example.org/entity/{number:05}" for number in range(first, first + ENTITIES)]
    triples = [(names[i], f"r{i % 3}", names[(i * step) % ENTITIES], bit) for step in (1, 7) for i in range(ENTITIES)]
    pictures = [Picture(names[i], f"{first // 2 + i // 2:064x}", 0, bit / 8, author=colour) for i in range(ENTITIES)]
    graph = Graph(
        entities=names,
        triples=sorted(set(triples)),
        labels=dict.fromkeys(names, colour),
        literals=[(name, "size", float(len(colour) * number)) for number, name in enumerate(names)],
        images=pictures,  # two entities share one; the other colour has two thirds of them, of another author
    )
    tables = write_graph(folder / "tables", graph)
    return write_content(tables, CONFIG, SOURCES, folder / "content", images_folder=images_of(tables))


def load(server_uri: str, content: Content, colours: dict[str, Content], hint: Path | None = None) -> None:
    config = CONFIG.model_copy(update={"uri": server_uri})
    previous = [other.folder for other in colours.values()]
    load_neo4j(
        content,
        config,
        graph="colours",
        version=content.model.source_names[0],
        previous=previous,
        hint=hint,
        work_folder=content.folder.parent / f"work-{threading.get_ident()}",
    )


LOADER = """
import sys
from pathlib import Path
from mmkg.config import StoreConfig
from mmkg.store.content import read_content
from mmkg.store.neo4j.load import load_neo4j
uri, content, other, hint = sys.argv[1:]
print("started", flush=True)
load_neo4j(
    read_content(Path(content)), StoreConfig(uri=uri, max_batch_rows=150), graph="colours", version="1",
    previous=[Path(other)], hint=Path(hint), progress=lambda what, done, total: print(what, done, flush=True),
)
print("finished", flush=True)
"""


KILLED_BEHIND_ITS_MIGRATIONS = """
import os, signal
from mmkg.store.neo4j import load
load.take_over = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
"""


@contextlib.contextmanager
def loader(
    server: Neo4jServer, content: Content, other: Content, hint: Path, *, before: str = ""
) -> Iterator[subprocess.Popen[str]]:
    """A loader in a process of its own."""
    command = [sys.executable, "-c", before + LOADER, server.uri, str(content.folder), str(other.folder), str(hint)]
    environment = {**os.environ, "NEO4J_PASSWORD": PASSWORD}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


class Watcher:
    """A reader that asks all the time; `seen` is its log."""

    QUESTION = (
        "MATCH (e:Entity) OPTIONAL MATCH (e)-[r]->(f:Entity) "
        "WITH e.label AS colour, r.sources AS sources, f.label AS end, count(*) AS number, "
        "count(DISTINCT e) AS entities "
        "MATCH (i:Image) OPTIONAL MATCH (i)<-[h:HAS_IMAGE]-(e:Entity) "
        "RETURN colour, sources, end, number, entities, i.author AS author, e.label AS shows, h.score AS score, "
        "count(DISTINCT i) AS images, count(h) AS links"
    )

    def __init__(self, uri: str, colours: dict[str, Content]) -> None:
        self._uri = uri
        self._expected = {
            (
                *(colour, SOURCES[COLOURS[colour][1] - 1], colour, content.digest.num_edges, ENTITIES),
                *(colour, colour, COLOURS[colour][1] / 8, ENTITIES // 2, ENTITIES),
            ): colour
            for colour, content in colours.items()
        }
        self._stop = threading.Event()
        self.seen: list[str] = []
        self.wrong: list[object] = []
        self.failures: list[str] = []
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def _watch(self) -> None:
        config = CONFIG.model_copy(update={"uri": self._uri})
        while not self._stop.is_set():
            try:
                with open_neo4j(config) as store:
                    while not self._stop.is_set():
                        rows = store.query(self.QUESTION).to_pylist()
                        answer = [
                            (row["colour"], row["sources"][0] if row["sources"] else None, *list(row.values())[2:])
                            for row in rows
                        ]
                        colour = self._expected.get(answer[0]) if len(answer) == 1 else None
                        if colour is None:
                            self.wrong.append(answer)
                        elif self.seen[-1:] != [colour]:
                            self.seen.append(colour)
            except StoreError as error:  # the server is down, or serves nothing yet
                self.failures.append(str(error))
                time.sleep(0.2)


def wait_for_line(process: subprocess.Popen[str], pattern: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if re.search(pattern, line):
            return line
    raise AssertionError(f"the loader ended without a line like {pattern}")


def test_a_killed_first_load_is_finished_by_the_next(
    server: Neo4jServer, colours: dict[str, Content], tmp_path: Path
) -> None:
    red, blue = colours["red"], colours["blue"]
    for line in ("add entities 150", "add pictures", "add relationships", "add picture links"):
        with loader(server, red, blue, tmp_path / "hint") as process:
            wait_for_line(process, line)
            process.send_signal(signal.SIGKILL)
        with pytest.raises(StoreError, match="nothing is served yet"):
            open_neo4j(CONFIG.model_copy(update={"uri": server.uri}))
    load(server.uri, red, colours)
    check_holds(server, red, tmp_path)


def test_a_first_load_that_was_killed_behind_its_migrations_is_done_by_the_next(
    server: Neo4jServer, colours: dict[str, Content], tmp_path: Path
) -> None:
    red, blue = colours["red"], colours["blue"]
    with loader(server, red, blue, tmp_path / "hint", before=KILLED_BEHIND_ITS_MIGRATIONS) as process:
        assert process.wait(60) == -signal.SIGKILL
    assert run(server, "MATCH (n) RETURN DISTINCT labels(n)") == [[["MmkgMigration"]]]
    load(server.uri, red, colours)
    check_holds(server, red, tmp_path)


def test_readers_see_old_or_new_while_loaders_are_killed(
    server: Neo4jServer, colours: dict[str, Content], tmp_path: Path
) -> None:
    load(server.uri, colours["red"], colours)
    dice = random.Random(4)
    kills = 0
    with Watcher(server.uri, colours) as watcher:
        for target, other in [("blue", "red"), ("red", "blue"), ("blue", "red")]:
            with loader(server, colours[target], colours[other], tmp_path / "hint") as process:
                step = dice.choice(["change entities", "remove picture links", "change pictures", "add picture links"])
                wait_for_line(process, f"{step}|finished")  # there is nothing to do where the kill came too late
                time.sleep(dice.random() * 0.3)  # into the commit, before it, or behind it
                kills += process.poll() is None
                process.send_signal(signal.SIGKILL)
            if dice.random() < 0.5:
                load(server.uri, colours[target], colours, tmp_path / "hint")
        load(server.uri, colours["blue"], colours)
        check_holds(server, colours["blue"], tmp_path)
        wait_until(lambda: watcher.seen[-1:] == ["blue"])
    assert kills
    assert not watcher.wrong
    assert set(watcher.seen) == {"red", "blue"}


@pytest.mark.parametrize("what", ["first load", "flip"])
def test_a_killed_server_is_waited_for(
    server: Neo4jServer, colours: dict[str, Content], tmp_path: Path, what: str
) -> None:
    if what == "flip":
        load(server.uri, colours["red"], colours)
    with loader(server, colours["blue"], colours["red"], tmp_path / "hint") as process:
        wait_for_line(process, "add entities|change entities")
        server.kill()
        server.start()
        wait_for_line(process, "finished")
        assert process.wait(60) == 0
    check_holds(server, colours["blue"], tmp_path)


# --- dropped connections ---------------------------------------------------------------------------------------------


class Proxy:
    """Passes bytes on to a server, and cuts connections where `cut` says so."""

    def __init__(self, port: int, cut: Callable[[bytes], str]) -> None:
        self._port = port
        self._cut = cut  # given what either side sends: pass | drop | swallow (pass it on, but not the answer)
        self.cuts = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.uri = f"bolt://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._port))
            silent = threading.Event()
            threading.Thread(target=self._forth, args=(client, server, silent), daemon=True).start()
            threading.Thread(target=self._back, args=(server, client, silent), daemon=True).start()

    def _forth(self, client: socket.socket, server: socket.socket, silent: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                verdict = self._cut(data)
                if verdict == "swallow":
                    silent.set()
                if verdict != "drop":
                    server.sendall(data)
                if verdict != "pass":
                    self.cuts += 1
                    if verdict == "swallow":
                        time.sleep(0.3)  # the server does what it was asked
                    break
        for side in (client, server):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            side.close()

    def _back(self, server: socket.socket, client: socket.socket, silent: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if silent.is_set():
                    continue
                if self._cut(data) != "pass":
                    self.cuts += 1
                    break
                client.sendall(data)
        for side in (client, server):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)


def test_connections_cut_at_random_do_no_harm(server: Neo4jServer, colours: dict[str, Content], tmp_path: Path) -> None:
    dice = random.Random(1)
    left = [20_000]

    def cut(data: bytes) -> str:
        left[0] -= len(data)
        if left[0] > 0:
            return "pass"
        left[0] = dice.randrange(10_000, 400_000)  # a flip is some 100 kB, and must get through between two cuts
        return dice.choice(["drop", "swallow"])

    with Proxy(server.port, cut) as proxy, Watcher(server.uri, colours) as watcher:
        for colour in ("red", "blue"):
            load(proxy.uri, colours[colour], colours)
            check_holds(server, colours[colour], tmp_path / colour)
    assert proxy.cuts >= 2
    assert not watcher.wrong


COMMIT = b"\x00\x02\xb0\x12\x00\x00"


@pytest.mark.parametrize("verdict", ["drop", "swallow"])
@pytest.mark.parametrize("number", [1, 2])
def test_a_commit_whose_answer_is_lost_is_looked_for(
    server: Neo4jServer, colours: dict[str, Content], tmp_path: Path, number: int, verdict: str
) -> None:
    load(server.uri, colours["red"], colours, tmp_path / "hint")
    commits = [0]

    def cut(data: bytes) -> str:
        if COMMIT in data:
            commits[0] += 1
            if commits[0] == number:  # 1: of the mark, which only reads; 2: of the flip
                return verdict
        return "pass"

    with Proxy(server.port, cut) as proxy:
        load(proxy.uri, colours["blue"], colours, None)
        assert proxy.cuts == 1
    check_holds(server, colours["blue"], tmp_path)


def wait_until(is_so: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# --- what a server may refuse ----------------------------------------------------------------------------------------


def test_a_server_with_little_memory_gets_smaller_batches_and_no_large_flip(
    colours: dict[str, Content], tmp_path: Path
) -> None:
    if missing := missing_tools():
        skip_or_fail(missing)
    with running_neo4j(tmp_path / "home", settings=["db.memory.transaction.max=4m"]) as server:
        names = [f"e{number:04}" for number in range(3000)]
        text = dict.fromkeys(names, "x" * 2000)  # 6 MB
        graph = Graph(entities=names, triples=[], descriptions=text)
        content = write_content(write_graph(tmp_path / "tables", graph), CONFIG, SOURCES, tmp_path / "content")
        config = StoreConfig(uri=server.uri)
        load_neo4j(content, config, graph="g", version="1")
        check_holds(server, content, tmp_path)
        other = write_content(
            write_graph(tmp_path / "tables2", Graph(entities=[f"f{name}" for name in names])),
            CONFIG,
            SOURCES,
            tmp_path / "2",
        )
        with pytest.raises(
            StoreError, match=r"6,000 changes in one transaction need about .*db\.memory\.transaction\.max"
        ):
            load_neo4j(other, config, graph="g", version="2")
        check_holds(server, content, tmp_path)
        server.stop()
        with (server.home / "conf" / "neo4j.conf").open("a", encoding="utf-8") as file:
            file.write("server.databases.default_to_read_only=true\n")
        server.start()
        assert load_neo4j(content, config, graph="g", version="1").how == "unchanged"
        few = write_content(
            write_graph(tmp_path / "tables3", Graph(entities=[*names, "z"], descriptions=text)),
            CONFIG,
            SOURCES,
            tmp_path / "3",
        )
        with pytest.raises(StoreError, match=r"read-only on this server.*default_to_read_only"):
            load_neo4j(few, config, graph="g", version="3")
