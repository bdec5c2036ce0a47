"""A server on loopback that is wrong on purpose, byte by byte: one behaviour a path, its arguments behind the slash.

``/status/503/120`` answers 503 with ``Retry-After: 120``; ``/to/302/http%3A%2F%2F10.0.0.1%2F`` sends a client there.
The functions below are the list. Honest are ``/ok/BYTES`` and the files that are given.
"""

import contextlib
import dataclasses
import gzip
import socket
import ssl
import struct
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

CERTIFICATE = Path(__file__).with_name("pictures.example.pem")  # and its key: of nothing that is secret
ETAG = '"hostile"'
DRIP_SECONDS = 0.02


@dataclasses.dataclass
class Visit:
    """One request: who asks what, and the line to answer on."""

    server: "HostileServer"
    line: socket.socket
    path: str
    headers: dict[str, str]
    number: int  # of this connection's requests, from 1

    @property
    def argument(self) -> str:
        return self.path.lstrip("/").partition("/")[2]

    def send(self, data: bytes) -> None:
        self.line.sendall(data)

    def answer(self, body: bytes = b"", *headers: str, status: str = "200 OK", length: int | None = None) -> None:
        lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body) if length is None else length}"]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def for_ever(self, data: bytes, *, drip: bool = False) -> None:
        while not self.server.stopping.wait(DRIP_SECONDS if drip else 0):
            self.send(data)


Behaviour = Callable[[Visit], bool | None]  # True: the connection stays open
_BEHAVIOURS: dict[str, Behaviour] = {}


def _at(name: str) -> Callable[[Behaviour], Behaviour]:
    def register(behaviour: Behaviour) -> Behaviour:
        _BEHAVIOURS[name] = behaviour
        return behaviour

    return register


@_at("ok")
def _(visit: Visit) -> bool:
    if visit.headers.get("if-none-match") == ETAG:
        visit.send(f"HTTP/1.1 304 Not Modified\r\nETag: {ETAG}\r\n\r\n".encode())
    else:
        visit.answer(b"x" * int(visit.argument or 100), f"ETag: {ETAG}", "X-Robots-Tag: noai", "X-Robots-Tag: noindex")
    return True


@_at("status")  # /status/CODE/RETRY_AFTER
def _(visit: Visit) -> bool:
    code, _, wait = visit.argument.partition("/")
    visit.answer(b"" if code in {"204", "304"} else b"no", *([f"Retry-After: {wait}"] if wait else []), status=code)
    return True


@_at("to")  # /to/CODE/QUOTED_LOCATION
def _(visit: Visit) -> bool:
    code, _, location = visit.argument.partition("/")
    visit.answer(b"", f"Location: {urllib.parse.unquote(location, 'latin-1')}", status=f"{code} On")
    return True


@_at("on")  # /on/N sends to /on/N+1
def _(visit: Visit) -> bool:
    visit.answer(b"", f"Location: /on/{int(visit.argument) + 1}", status="302 On")
    return True


@_at("two-locations")
def _(visit: Visit) -> None:
    visit.answer(b"", "Location: /ok/1", "Location: /ok/2", status="302 On")


@_at("endless-page")  # a redirect with a page of its own that has no end
def _(visit: Visit) -> None:
    visit.send(b"HTTP/1.1 302 On\r\nLocation: /ok/7\r\n\r\n")
    visit.for_ever(b"x" * 1_000)


@_at("cut")
def _(visit: Visit) -> None:
    visit.answer(b"half of it", length=20)


@_at("cut-chunk")
def _(visit: Visit) -> None:
    visit.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n14\r\nhalf of it")


@_at("cut-head")
def _(visit: Visit) -> None:
    visit.send(b"HTTP/1.1 200 OK\r\nContent-Le")


@_at("close")
def _(visit: Visit) -> None:
    pass


@_at("reset")
def _(visit: Visit) -> None:
    visit.answer(b"half", length=20)
    visit.line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@_at("once")  # honest, but the connection is gone when it is asked again
def _(visit: Visit) -> bool:
    if visit.number > 1:
        return False
    visit.answer(b"once")
    return True


@_at("silent")
def _(visit: Visit) -> None:
    visit.server.stopping.wait()


@_at("stall")
def _(visit: Visit) -> None:
    visit.answer(b"half of it", length=20)
    visit.server.stopping.wait()


@_at("stalling-page")  # of an error
def _(visit: Visit) -> None:
    visit.answer(b"we are so", status="404 Not Found", length=20)
    visit.server.stopping.wait()


@_at("drip-head")
def _(visit: Visit) -> None:
    visit.send(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    visit.for_ever(b"x", drip=True)


@_at("drip-body")
def _(visit: Visit) -> None:
    visit.answer(b"", length=100_000)
    visit.for_ever(b"x", drip=True)


@_at("endless")
def _(visit: Visit) -> None:
    visit.send(b"HTTP/1.1 200 OK\r\n\r\n")
    visit.for_ever(b"x" * 10_000)


@_at("endless-chunks")
def _(visit: Visit) -> None:
    visit.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    visit.for_ever(b"2710\r\n" + b"x" * 10_000 + b"\r\n")


@_at("endless-extensions")  # of chunks of one byte
def _(visit: Visit) -> None:
    visit.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    visit.for_ever(b"1;" + b"e" * 50_000 + b"\r\nx\r\n")


@_at("endless-trailers")
def _(visit: Visit) -> None:
    visit.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n")
    visit.for_ever(b"X-More: more\r\n" * 100)


@_at("endless-hints")
def _(visit: Visit) -> None:
    visit.for_ever(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)


@_at("tiny-chunks")  # honest but for its chunks of one byte
def _(visit: Visit) -> bool:
    chunks = b"1\r\nx\r\n" * int(visit.argument)
    visit.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    return True


@_at("length")  # says it has so many bytes
def _(visit: Visit) -> None:
    visit.send(f"HTTP/1.1 200 OK\r\nContent-Length: {visit.argument}\r\n\r\n".encode())
    visit.for_ever(b"x" * 10_000)


@_at("two-lengths")
def _(visit: Visit) -> None:
    visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nxxxx")


@_at("no-length")  # the end is the end of the connection, as in HTTP/1.0
def _(visit: Visit) -> None:
    visit.send(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * int(visit.argument))


@_at("headers")  # /headers/N
def _(visit: Visit) -> None:
    visit.answer(b"x", *(f"X-{number}: {'v' * 20}" for number in range(int(visit.argument))))


@_at("short-headers")  # /short-headers/N: few bytes each, so that all of them fit
def _(visit: Visit) -> None:
    visit.answer(b"x", *["a:b"] * int(visit.argument))


@_at("giant-header")
def _(visit: Visit) -> None:
    visit.send(b"HTTP/1.1 200 OK\r\nX-Giant: ")
    visit.for_ever(b"x" * 10_000)


@_at("coded")  # /coded/NAME: a bomb of zeros, packed though it was not asked for
def _(visit: Visit) -> None:
    visit.answer(gzip.compress(bytes(10_000_000)), f"Content-Encoding: {visit.argument}")


@_at("bad-chunks")
def _(visit: Visit) -> None:
    visit.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot a number\r\nx\r\n")
    visit.server.stopping.wait()


@_at("bad-coding")
def _(visit: Visit) -> None:
    visit.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")


@_at("garbage")
def _(visit: Visit) -> None:
    visit.send(b"SSH-2.0-OpenSSH_9.6\r\n" + b"\x00\xff" * 100 + b"\r\n\r\n")


@_at("upgrade")
def _(visit: Visit) -> None:
    visit.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")


@_at("range")  # a part, though all was asked for
def _(visit: Visit) -> None:
    visit.answer(b"part", "Content-Range: bytes 0-3/100", status="206 Partial Content")


@_at("two-answers")  # the second one is for whoever asks next on this connection
def _(visit: Visit) -> bool:
    forged = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
    visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue" + forged)
    return True


@_at("too-long")  # more bytes than its length says
def _(visit: Visit) -> bool:
    visit.answer(b"true and more", length=4)
    return True


@_at("moved")  # sends to a picture elsewhere on this server, as short addresses of pictures do
def _(visit: Visit) -> bool:
    visit.answer(b"", f"Location: /{visit.argument}", f"ETag: {ETAG}", status="302 On")
    return True


class HostileServer:
    """One listening socket, and a list of all that it was asked."""

    def __init__(self, files: Mapping[str, bytes], *, tls: bool, host: str, port: int) -> None:
        self.files = dict(files)
        self.asked: list[Visit] = []
        self.before_answer: Callable[[], object] | None = None  # called in the thread of each connection
        self.connections = 0
        self.stopping = threading.Event()
        self._context = None
        if tls:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(CERTIFICATE)
        self._listening = socket.create_server((host, port), backlog=100)
        self.host, self.port = self._listening.getsockname()[:2]
        self._lines: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def url(self, path: str, *, host: str = "") -> str:
        return f"{'https' if self._context else 'http'}://{host or self.host}:{self.port}{path}"

    def paths(self) -> list[str]:
        return [visit.path for visit in self.asked]

    def stop(self) -> None:
        self.stopping.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._threads[0].join()
        for line in self._lines:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                line, _ = self._listening.accept()
            except OSError:  # closed
                return
            self.connections += 1
            self._lines.append(line)
            self._threads.append(threading.Thread(target=self._serve, args=(line,), daemon=True))
            self._threads[-1].start()

    def _serve(self, line: socket.socket) -> None:
        with contextlib.suppress(OSError), line:  # clients that hang up are the point
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is None:
                return self._converse(line)
            with self._context.wrap_socket(line, server_side=True) as covered:
                return self._converse(covered)

    def _converse(self, line: socket.socket) -> None:
        number = 0
        while (head := _read_head(line)) is not None:
            number += 1
            first, *rest = head.split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (row.partition(":") for row in rest)}
            visit = Visit(self, line, first.split(" ")[1], headers, number)
            self.asked.append(visit)
            if self.before_answer is not None:
                self.before_answer()
            if visit.path in self.files:
                visit.answer(self.files[visit.path])
            elif not _BEHAVIOURS[visit.path.lstrip("/").partition("/")[0]](visit):
                return


def _read_head(line: socket.socket) -> str | None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        more = line.recv(65_536)
        if not more:
            return None
        head += more
    return head[:-4].decode("latin-1")


@contextlib.contextmanager
def serve_hostile(
    files: Mapping[str, bytes] | None = None, *, tls: bool = False, host: str = "127.0.0.1", port: int = 0
) -> Iterator[HostileServer]:
    """A running server, stopped at the end; over TLS as `pictures.example`, which only `CERTIFICATE` vouches for."""
    server = HostileServer(files or {}, tls=tls, host=host, port=port)
    try:
        yield server
    finally:
        server.stop()
