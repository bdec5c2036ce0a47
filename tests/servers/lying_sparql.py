"""A SPARQL endpoint of ours on loopback that tells the truth (Oxigraph's) unless a test gives it a lie.

A lie sees each question and its true answer, and gives another reply, or None for the truth. The lies here are those
that are known from the field.
"""

import json
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pyoxigraph as ox

JSON = "application/sparql-results+json"


@dataclass
class Question:
    """A query that came, which of its kind it is (from 1), and its true answer."""

    kind: str  # order | count | groups | sample | page
    number: int
    query: str
    truth: bytes
    headers: dict[str, str]

    @property
    def rows(self) -> list[dict[str, Any]]:
        return list(json.loads(self.truth)["results"]["bindings"])

    def with_rows(self, rows: list[dict[str, Any]]) -> bytes:
        answer = json.loads(self.truth)
        answer["results"]["bindings"] = rows
        return json.dumps(answer).encode()


@dataclass
class Reply:
    """What goes over the wire."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    sent_bytes: int | None = None  # then the connection is dropped
    wait_seconds: float = 0.0  # before the first byte
    drip_seconds: float = 0.0  # between bytes
    endless: bool = False


Lie = Callable[[Question], Reply | None]


def _kind_of(query: str) -> str:
    if "?capitals" in query:
        return "order"
    if "GROUP BY" in query:
        return "groups"
    if "mmkg_n" in query:
        return "count"
    return "sample" if "mmkg_key" in query else "page"


class LyingServer:
    """The endpoint, its data, and what it was asked."""

    def __init__(self) -> None:
        self.store = ox.Store()
        self.lie: Lie = lambda question: None
        self.asked: Counter[str] = Counter()
        self.questions: list[Question] = []
        self.most_at_once = 0
        self.starts: list[float] = []
        self._at_once = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                """Be quiet."""

            def do_POST(self) -> None:
                outer._answer(self)

            def do_GET(self) -> None:
                self.send_error(405)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.endpoint = f"http://127.0.0.1:{self.port}/sparql"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def load(self, ntriples: bytes) -> None:
        self.store.clear()
        self.store.load(ntriples, format=ox.RdfFormat.N_TRIPLES)

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        form = urllib.parse.parse_qs(handler.rfile.read(int(handler.headers["Content-Length"])).decode())
        query = form["query"][0]
        kind = _kind_of(query)
        with self._lock:
            self.starts.append(time.monotonic())
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            self.asked[kind] += 1
            number = self.asked[kind]
        try:
            truth = self.store.query(query).serialize(format=ox.QueryResultsFormat.JSON)  # type: ignore[union-attr]
            assert truth is not None
            question = Question(kind, number, query, truth, dict(handler.headers.items()))
            with self._lock:
                self.questions.append(question)
            self._send(handler, self.lie(question) or Reply(truth))
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client has had enough
        finally:
            with self._lock:
                self._at_once -= 1

    def _send(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        time.sleep(reply.wait_seconds)
        handler.send_response(reply.status)
        for name, value in ({"Content-Type": JSON} | reply.headers).items():
            handler.send_header(name, value)
        if not reply.endless:
            handler.send_header("Content-Length", str(len(reply.body)))
        handler.end_headers()
        if reply.endless:
            while True:
                handler.wfile.write(reply.body)
        if reply.drip_seconds:
            for index in range(len(reply.body)):
                handler.wfile.write(reply.body[index : index + 1])
                handler.wfile.flush()
                time.sleep(reply.drip_seconds)
            return
        handler.wfile.write(reply.body[: reply.sent_bytes])

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def lying_server() -> Iterator[LyingServer]:
    """A server that lives as long as the block."""
    server = LyingServer()
    try:
        yield server
    finally:
        server.stop()
