"""A server of real files in a process of its own that is as bad as the web: busy, cut, late, slow, and with a limit.

Which file has which trouble is decided by its path alone, so that every run of a server meets the same. Every request
is a line of its log, with the requests that were open at once. A file has an ETag and honours ``If-None-Match``;
robots.txt forbids ``/private/`` only.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import multiprocessing
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

ROBOTS = b"User-agent: *\nDisallow: /private/\n"
_CUTS_OF_THE_STUBBORN = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Troubles:
    """What goes wrong; the shares are of the files, and none has two troubles."""

    requests_per_second: float = math.inf  # beyond it 429 with Retry-After
    burst: int = 20
    retry_after_seconds: int = 1
    late: float = 0.0  # 404 when first asked for, there afterwards
    cut: float = 0.0  # the connection ends in the middle: once for every other such file, else three times
    slow: float = 0.0  # half a second
    busy: float = 0.0  # 503 when first asked for, to every other such file with Retry-After
    missing: float = 0.0  # 404 always

    def of(self, path: str) -> tuple[str, bool]:
        """The trouble with a path, "" for none, and whether it is of the worse kind."""
        digest = hashlib.sha256(path.encode()).digest()
        place = int.from_bytes(digest[:6], "big") / 2**48
        for trouble in ("late", "cut", "slow", "busy", "missing"):
            place -= getattr(self, trouble)
            if place < 0:
                return trouble, digest[6] % 2 == 1
        return "", False


@dataclasses.dataclass(frozen=True)
class Asked:
    """One request, as the server saw it."""

    read_at: float  # seconds since 1970
    answered_at: float
    path: str
    status: int
    retry_after: int | None
    user_agent: str
    num_open: int  # requests under way, this one too


@dataclasses.dataclass(frozen=True)
class TroubledServer:
    """A running server."""

    port: int
    log: Path

    def url(self, path: str) -> str:
        """The address of a file, by its path below the root."""
        return f"http://127.0.0.1:{self.port}/{urllib.parse.quote(path)}"

    def num_requests(self) -> int:
        """So many requests were answered so far, those for robots.txt too."""
        return self.log.read_bytes().count(b"\n")

    def requests(self) -> list[Asked]:
        """What was asked for so far, without robots.txt, in the order of arrival."""
        rows = [Asked(**json.loads(line)) for line in self.log.read_text().splitlines()]
        return sorted((row for row in rows if row.path != "/robots.txt"), key=lambda row: row.read_at)


def find_impatient(requests: Sequence[Asked], *, grace_seconds: float = 0.2) -> list[Asked]:
    """Requests that came while the server had asked to be left alone.

    Args:
        requests: in the order of arrival.
        grace_seconds: after the refusal was sent: what was on its way then does not count.
    """
    waits = [
        (row.answered_at + grace_seconds, row.answered_at + row.retry_after) for row in requests if row.retry_after
    ]
    return [row for row in requests if any(begin < row.read_at < end for begin, end in waits)]


class _State:
    def __init__(self, root: Path, troubles: Troubles, log: IO[str]) -> None:
        self.root = root
        self.troubles = troubles
        self.log = log
        self.lock = threading.Lock()
        self.open_now = 0
        self.asked: Counter[str] = Counter()
        self._tokens = float(troubles.burst)
        self._counted_at = time.time()
        self._closed_until = 0.0

    def refuse_for(self) -> int:
        """0 if a request may pass, or the whole seconds for which to leave this server alone."""
        with self.lock:
            now = time.time()
            limit = self.troubles.requests_per_second
            if now >= self._closed_until:
                if math.isinf(limit):
                    return 0
                self._tokens = min(self.troubles.burst, self._tokens + (now - self._counted_at) * limit)
                self._counted_at = now
                if self._tokens >= 1:
                    self._tokens -= 1
                    return 0
                self._closed_until = now + self.troubles.retry_after_seconds
            return math.ceil(self._closed_until - now)


def _make_handler(state: _State) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 65536  # headers and body in one packet: two would wait 40 ms for each other (Nagle)

        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            read_at = time.time()
            with state.lock:
                state.open_now += 1
                self.is_open = True
                num_open = state.open_now
                state.asked[self.path] += 1
                self.times = state.asked[self.path]
            self.status, self.retry_after = 0, None
            try:
                self._answer()
            finally:
                self._end()
                agent = self.headers.get("User-Agent", "")
                row = Asked(read_at, time.time(), self.path, self.status, self.retry_after, agent, num_open)
                with state.lock:
                    state.log.write(json.dumps(dataclasses.asdict(row)) + "\n")
                    state.log.flush()

        def _end(self) -> None:
            with state.lock:
                state.open_now -= self.is_open
                self.is_open = False

        def _answer(self) -> None:
            if self.path == "/robots.txt":
                return self._send(200, ROBOTS, "text/plain")
            if seconds := state.refuse_for():
                return self._send(429, b"slowly", retry_after=seconds)
            trouble, is_worse = state.troubles.of(self.path)
            file = state.root / urllib.parse.unquote(self.path).lstrip("/")
            if trouble == "missing" or (trouble == "late" and self.times == 1) or not file.is_file():
                return self._send(404, b"nothing here")
            if trouble == "busy" and self.times == 1:
                return self._send(503, b"busy", retry_after=1 if is_worse else None)
            if trouble == "slow":
                time.sleep(0.5)
            data = file.read_bytes()
            cuts = {"cut": _CUTS_OF_THE_STUBBORN if is_worse else 1}.get(trouble, 0)
            return self._send_picture(data, cut=self.times <= cuts)

        def _send_picture(self, data: bytes, *, cut: bool) -> None:
            tag = f'"{hashlib.md5(data).hexdigest()}"'
            if self.headers.get("If-None-Match") == tag:
                return self._send(304, b"", tag=tag)
            return self._send(200, data, "image/png" if self.path.endswith("png") else "image/jpeg", tag=tag, cut=cut)

        def _send(
            self,
            status: int,
            body: bytes,
            content_type: str = "text/plain",
            *,
            tag: str = "",
            retry_after: int | None = None,
            cut: bool = False,
        ) -> None:
            self.status, self.retry_after = status, retry_after
            self.send_response(status)
            if status != 304:
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
            if tag:
                self.send_header("ETag", tag)
            if retry_after is not None:
                self.send_header("Retry-After", str(retry_after))
            self.end_headers()
            self._end()  # whoever has the last byte may ask again before this thread goes on
            if cut:
                self.close_connection = True
                body = body[: len(body) // 2]
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the one who asked may be killed
                self.wfile.write(body)
                self.wfile.flush()

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients that hang up, or are killed, are the point


def _serve(root: Path, troubles: Troubles, log: Path, port: int, ready: Connection) -> None:
    with log.open("a", encoding="utf-8") as file:
        server = _Server(("127.0.0.1", port), _make_handler(_State(root, troubles, file)))
        ready.send(server.server_port)
        server.serve_forever(poll_interval=0.05)


@contextlib.contextmanager
def serve_troubled(root: Path, troubles: Troubles, log: Path, *, port: int = 0) -> Iterator[TroubledServer]:
    """A running server, ended at the end.

    Args:
        root: its files; what is removed there is gone.
        troubles: what goes wrong.
        log: is written anew.
        port: of an earlier server whose addresses this one is to have; any free one unless given.
    """
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe(duplex=False)
    log.write_text("")
    process = spawn.Process(target=_serve, args=(root, troubles, log, port, there), daemon=True)
    process.start()
    there.close()
    try:
        if not here.poll(60):
            raise TimeoutError("the server of files does not start")
        yield TroubledServer(here.recv(), log)
    finally:
        process.kill()
        process.join()
        here.close()
        process.close()
