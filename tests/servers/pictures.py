"""A server of pictures in a process of its own: every path says how it is answered, every request is written down.

``/ok/NAME.png`` and everything unknown is a small picture, other bytes for every path; ``?same`` makes it the same one.
``/status/404/x``, ``/retry/2/429/3/x`` (two answers of 429 with ``Retry-After: 3``, then the picture), ``/cut/x``,
``/slow/1.5/x``, ``/noai/x``, ``/svg/x``, ``/html/x``, ``/typed/text/html/x`` (that Content-Type), ``/hop/URL`` (a
redirect), ``/gone-after/1/x`` (one picture, then 404), ``/flaky/1/x`` (one 500, then the picture), ``/large/N/x`` (N
bytes more). ``/w/api.php?titles=…`` answers as Wikimedia does. All pictures have an ETag and honour ``If-None-Match``.
``/robots.txt`` is what the server was started with.

The log has one JSON object a line: seconds since 1970 when the request was read and when its answer was sent, path,
status, headers, and the requests that were open at once.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import multiprocessing
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

from PIL import Image

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
HTML = b"<!DOCTYPE html><title>404, said with 200</title>"


@cache
def png_of(seed: str) -> bytes:
    """A small picture, another one for every seed."""
    digest = hashlib.sha256(seed.encode()).digest()
    buffer = io.BytesIO()
    Image.frombytes("RGB", (8, 8), digest * 6).save(buffer, "PNG")
    return buffer.getvalue()


@dataclasses.dataclass(frozen=True)
class Request:
    """One request, as the server saw it."""

    read_at: float  # seconds since 1970
    answered_at: float
    path: str
    status: int
    headers: dict[str, str]  # by lower-case name
    num_open: int  # requests under way, this one too


@dataclasses.dataclass
class PictureServer:
    """A running server."""

    base: str
    log: Path

    def url(self, path: str) -> str:
        """The address of a path."""
        return self.base + path

    def requests(self, prefix: str = "/") -> list[Request]:
        """What was asked for so far below a path, in the order of arrival; robots.txt only where it is the path."""
        rows = [Request(**json.loads(line)) for line in self.log.read_text().splitlines()]
        asked = [row for row in rows if row.path.startswith(prefix)]
        if prefix != "/robots.txt":
            asked = [row for row in asked if row.path != "/robots.txt"]
        return sorted(asked, key=lambda row: row.read_at)


def _describe(query: str, host: str) -> bytes:
    """Licence and author of files, as Wikimedia's API gives them; it knows no file that is called Missing."""
    titles = urllib.parse.parse_qs(query.partition("?")[2])["titles"][0].split("|")
    pages = []
    for title in titles:
        name = title.removeprefix("File:")
        about = {"LicenseShortName": {"value": "CC BY 4.0"}, "Artist": {"value": f"<b>painter of {name}</b>"}}
        folder = "flaky/1" if "Flaky" in name else "thumb"
        image = {
            "thumburl": f"http://{host}/{folder}/{urllib.parse.quote(name)}",
            "descriptionurl": f"http://{host}/wiki/{urllib.parse.quote(title)}",
            "extmetadata": about,
        }
        pages.append(
            {"title": title, "imageinfo": [image]} if "Missing" not in name else {"title": title, "missing": True}
        )
    return json.dumps({"query": {"pages": pages}}).encode()


class _State:
    def __init__(self, log: IO[str], robots: str | int, delay_seconds: float) -> None:
        self.log = log
        self.robots = robots
        self.delay_seconds = delay_seconds
        self.lock = threading.Lock()
        self.open_now = 0
        self.asked: Counter[str] = Counter()


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
                num_open = state.open_now
                state.asked[self.path] += 1
                self.times = state.asked[self.path]
            self.status = 0
            try:
                self._answer()
            finally:
                with state.lock:
                    state.open_now -= 1
                    headers = {name.lower(): value for name, value in self.headers.items()}
                    row = Request(read_at, time.time(), self.path, self.status, headers, num_open)
                    state.log.write(json.dumps(dataclasses.asdict(row)) + "\n")
                    state.log.flush()

        def _answer(self) -> None:
            if self.path == "/robots.txt":
                robots = state.robots
                if isinstance(robots, int):
                    return self._send(robots, b"")
                if robots.startswith("http://"):
                    return self._send(302, b"", {"Location": robots})
                return self._send(200, robots.encode())
            if state.delay_seconds:
                time.sleep(state.delay_seconds)
            match self.path.split("/")[1:]:
                case ["status", status, *_]:
                    return self._send(int(status), b"told to say so")
                case ["retry", times, status, seconds, *_] if self.times <= int(times):
                    return self._send(int(status), b"not now", {"Retry-After": seconds})
                case ["flaky", times, *_] if self.times <= int(times):
                    return self._send(500, b"try again")
                case ["gone-after", times, *_] if self.times > int(times):
                    return self._send(404, b"gone")
                case ["slow", seconds, *_]:
                    time.sleep(float(seconds))
                case ["cut", *_]:
                    self.close_connection = True
                    return self._send(200, png_of(self.path)[:20], {"Content-Length": "1000"})
                case ["noai", *_]:
                    return self._send(200, png_of(self.path), {"X-Robots-Tag": "noindex, noai"})
                case ["svg", *_]:
                    return self._send(200, SVG, {"Content-Type": "image/svg+xml"})
                case ["html", *_]:
                    return self._send(200, HTML, {"Content-Type": "image/png"})
                case ["typed", major, minor, *_]:
                    return self._send(200, png_of(self.path), {"Content-Type": f"{major}/{minor}"})
                case ["large", size, *_]:
                    return self._send(200, png_of(self.path) + bytes(int(size)))
                case ["w", query]:
                    return self._send(200, _describe(query, self.headers["Host"]), {"Content-Type": "application/json"})
                case ["hop", *_]:
                    target = urllib.parse.unquote(self.path.removeprefix("/hop/"))
                    return self._send(302, b"", {"Location": target})
            return self._send_picture()

        def _send_picture(self) -> None:
            data = png_of("same" if self.path.endswith("?same") else self.path)
            tag = f'"{hashlib.md5(data).hexdigest()}"'
            if self.headers.get("If-None-Match") == tag:
                return self._send(304, b"", {"ETag": tag})
            return self._send(200, data, {"ETag": tag})

        def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.status = status
            self.send_response(status)
            given = {"Content-Type": "image/png", "Content-Length": str(len(body))} | (headers or {})
            if status == 304:
                del given["Content-Length"]
            for name, value in given.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the one who asked may be killed
                self.wfile.write(body)

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients that hang up, or are killed, are the point


def _serve(log: Path, robots: str | int, delay_seconds: float, ready: Connection) -> None:
    with log.open("a", encoding="utf-8") as file:
        server = _Server(("127.0.0.1", 0), _make_handler(_State(file, robots, delay_seconds)))
        ready.send(server.server_port)
        server.serve_forever(poll_interval=0.05)


@contextlib.contextmanager
def serve_pictures(folder: Path, *, robots: str | int = 404, delay_seconds: float = 0.0) -> Iterator[PictureServer]:
    """A running server, ended at the end.

    Args:
        folder: where its log is written.
        robots: the content of robots.txt, or the status it is answered with, or the address that it leads to.
        delay_seconds: before each answer but that.
    """
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe(duplex=False)
    log = folder / f"requests-{time.time_ns()}.jsonl"
    log.touch()
    process = spawn.Process(target=_serve, args=(log, robots, delay_seconds, there), daemon=True)
    process.start()
    try:
        if not here.poll(60):
            raise TimeoutError("the server of pictures does not start")
        yield PictureServer(f"http://127.0.0.1:{here.recv()}", log)
    finally:
        process.kill()
        process.join()
        here.close()
        there.close()
        process.close()
