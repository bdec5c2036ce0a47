"""A file server on loopback that can be told to misbehave: one `Act` for each request to come, honest after that."""

import contextlib
import dataclasses
import email.utils
import hashlib
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LONG_AGO = 1_700_000_000.0  # seconds since 1970


@dataclasses.dataclass(kw_only=True)
class Act:
    """How one request is answered; honestly, where nothing is set."""

    status: int | None = None  # this status with a short text, instead of the file
    headers: dict[str, str | None] = dataclasses.field(default_factory=dict)  # None: without this header
    redirect: str | None = None
    drop_after: int | None = None  # bytes of the body, then the connection is cut
    reset: bool = False  # cut by RST instead of FIN
    silent_seconds: float = 0.0  # before the answer
    silent_after: int | None = None  # bytes of the body, then nothing more for 30 s or until the server stops
    drip_seconds: float = 0.0  # after each of the first bytes
    content: bytes | None = None  # instead of the file's
    ignore_range: bool = False
    ignore_if_range: bool = False  # answer 206 though the validator is another one
    shift_range: int = 0  # Content-Range names other bytes than were asked for
    max_range_bytes: int | None = None  # never gives more of a file at a time
    length_more: int = 0  # Content-Length says so many bytes more (or fewer) than come
    chunked: bool = False
    no_length: bool = False  # neither length nor chunks: the end is the end of the connection


@dataclasses.dataclass
class Asked:
    """One request that came in."""

    path: str
    headers: dict[str, str]
    status: int = 0
    sent: int = 0  # bytes of the body


class FileServer:
    """Files by path, what is done to the next requests, and a list of all that were asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.modified: dict[str, float] = defaultdict(lambda: LONG_AGO)
        self.etags: str = "strong"  # strong | weak | none
        self.is_dated = True
        self.acts: dict[str, list[Act]] = defaultdict(list)
        self.always: dict[str, Act] = {}
        self.asked: list[Asked] = []
        self.open_now = 0
        self.most_open = 0
        self.chunk_seconds = 0.0  # between two pieces of a body
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _make_handler(self))
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign] - clients that hang up are the point
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def url(self, path: str) -> str:
        return self.base + path

    def statuses(self, path: str) -> list[int]:
        return [asked.status for asked in self.asked if asked.path == path]

    def headers_of(self, name: str) -> list[dict[str, Any]]:
        return [asked.headers for asked in self.asked if asked.path == name]

    def stop(self) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _make_handler(server: FileServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            with server.lock:
                acts = server.acts[self.path]
                act = acts.pop(0) if acts else server.always.get(self.path, Act())
                server.open_now += 1
                server.most_open = max(server.most_open, server.open_now)
                self.asked = Asked(self.path, dict(self.headers.items()))
                server.asked.append(self.asked)
            try:
                self._answer(act)
            finally:
                with server.lock:
                    server.open_now -= 1

        def _answer(self, act: Act) -> None:
            if act.silent_seconds:
                server.stopping.wait(act.silent_seconds)
            if act.redirect is not None:
                return self._send(act, 302, b"", {"Location": act.redirect})
            if act.status is not None:
                return self._send(act, act.status, b"told to say so", {})
            content = act.content if act.content is not None else server.files.get(self.path)
            if content is None:
                return self._send(act, 404, b"nothing here", {})
            headers = self._validators(content)
            if self._is_known(headers):
                return self._send(act, 304, b"", headers)
            wanted = self.headers.get("Range")
            if wanted is None or act.ignore_range or not (self._is_unchanged(headers) or act.ignore_if_range):
                return self._send(act, 200, content, headers)
            first = int(wanted.removeprefix("bytes=").rstrip("-"))
            if first >= len(content):
                return self._send(act, 416, b"", headers | {"Content-Range": f"bytes */{len(content)}"})
            part = content[first:][: act.max_range_bytes]
            shown = first + act.shift_range
            headers["Content-Range"] = f"bytes {shown}-{shown + len(part) - 1}/{len(content)}"
            return self._send(act, 206, part, headers)

        def _validators(self, content: bytes) -> dict[str, str]:
            headers = {"Accept-Ranges": "bytes"}
            if server.is_dated:
                headers["Last-Modified"] = email.utils.formatdate(server.modified[self.path], usegmt=True)
            if server.etags != "none":
                tag = f'"{hashlib.md5(content).hexdigest()}"'
                headers["ETag"] = tag if server.etags == "strong" else f"W/{tag}"
            return headers

        def _is_known(self, headers: dict[str, str]) -> bool:
            if tag := self.headers.get("If-None-Match"):
                return tag == headers.get("ETag")
            since = self.headers.get("If-Modified-Since")
            if not since or "Last-Modified" not in headers:
                return False
            return email.utils.parsedate_to_datetime(headers["Last-Modified"]) <= email.utils.parsedate_to_datetime(
                since
            )

        def _is_unchanged(self, headers: dict[str, str]) -> bool:
            validator = self.headers.get("If-Range")
            return validator is None or validator in {headers.get("ETag"), headers.get("Last-Modified")}

        def _send(self, act: Act, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.asked.status = status
            self.send_response(status)
            if act.chunked:
                headers["Transfer-Encoding"] = "chunked"
            elif not act.no_length and status != 304:
                headers["Content-Length"] = str(len(body) + act.length_more)
            for name, value in (headers | act.headers).items():
                if value is not None:
                    self.send_header(name, value)
            if act.no_length or act.length_more:
                self.send_header("Connection", "close")
                self.close_connection = True
            self.end_headers()
            cut = act.drop_after if act.drop_after is not None else act.silent_after
            for start in range(0, len(body if cut is None else body[:cut]), 16384):
                piece = body[start : min(start + 16384, len(body) if cut is None else cut)]
                if act.drip_seconds:
                    for place in range(min(40, len(piece))):
                        self._write(piece[place : place + 1], chunked=act.chunked)
                        time.sleep(act.drip_seconds)
                    piece = piece[40:]
                self._write(piece, chunked=act.chunked)
                if server.chunk_seconds:
                    time.sleep(server.chunk_seconds)
            if act.silent_after is not None:
                server.stopping.wait(30)
            if cut is not None and cut < len(body) + 1:
                return self._cut(act)
            if act.chunked:
                self.wfile.write(b"0\r\n\r\n")
            return None

        def _write(self, piece: bytes, *, chunked: bool) -> None:
            if piece:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
                self.asked.sent += len(piece)

        def _cut(self, act: Act) -> None:
            self.close_connection = True
            if act.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            else:
                with contextlib.suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)

    return Handler


@contextlib.contextmanager
def serve_files(files: dict[str, bytes] | None = None) -> Iterator[FileServer]:
    """A running server with these files, stopped at the end."""
    server = FileServer()
    server.files.update(files or {})
    try:
        yield server
    finally:
        server.stop()
