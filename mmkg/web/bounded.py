"""One GET of what a stranger named, within limits of time, bytes and places; whatever happens is an :class:`Answer`.

What holds for each request, and for each redirect as if it were the first address:

- The URL is of an allowed scheme, names nobody, and its host is of the public internet: `addresses`. TCP goes to the
  address that was checked: `pinned`. For that no proxy is used, also none of the environment: a proxy would look the
  name up again and connect for us.
- `max_seconds` are for the whole: looking up, connecting, TLS, headers, body, and all redirects. What `before_hop`
  waits, and the wait for a free connection, is not the server's and does not count.
- `max_bytes` are for the body as it is sent. A longer one is not read: told by Content-Length, or found by counting.
  The bytes are asked for as they are; what comes coded (gzip) is refused, as nothing here is ever inflated.
- What is not wanted any more is not read to its end; its connection is closed.
"""

import contextlib
import dataclasses
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType, TracebackType
from typing import Self

import httpcore
import httpx

from mmkg.web import manners
from mmkg.web.addresses import MAX_URL_LENGTH, Failure, Target, check_target, read_redirect, read_target
from mmkg.web.answers import STATUSES, Answer, Kind, Limits, Skip, in_words, kind_of
from mmkg.web.connections import Connection, Connections
from mmkg.web.manners import shown_url, user_agent
from mmkg.web.pinned import Budget, Resolve, Resolver

__all__ = ["STATUSES", "Answer", "BoundedClient", "Kind", "Limits", "Skip", "kind_of"]

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CONDITIONS = frozenset({"if-none-match", "if-modified-since"})
_MAX_HEADERS = 256
_HEAD_BYTES = 256 * 1024  # of one answer's headers, with all 1xx before them
_READ_BYTES = 64 * 1024  # come at once, at most
_REST_BYTES = 16 * 1024  # an error page this short is read to its end, and the connection kept
_REST_SECONDS = 1.0
_MAX_RETRY_AFTER_SECONDS = 365 * 86_400.0


@dataclasses.dataclass
class _Course:
    """One request on its way over redirects."""

    budget: Budget
    max_bytes: int
    seconds_left: float
    url: str | None = None  # where it is, as it may be shown
    http_status: int | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: bytes = b""


class BoundedClient:
    """Asks strangers for what other strangers named. Safe to use from many threads at once; a context manager.

    Args:
        contact: e-mail address or URL for the User-Agent; may be empty where only this machine is asked.
        limits: of each request.
        connections: at the same time; more threads wait for their turn.
        resolve: looks names up; `socket.getaddrinfo` unless given.
        ssl_context: what certificates are trusted by; those of `certifi`, or of ``SSL_CERT_FILE``, unless given.

    Raises:
        FetchError: there is no contact, or one that a header cannot hold.
    """

    def __init__(
        self,
        *,
        contact: str,
        limits: Limits,
        connections: int = 16,
        resolve: Resolve | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        manners.check_contact(contact, asked="" if limits.allow_loopback else "pictures")
        self.limits = limits
        self._contact = contact.strip()
        self._headers = {
            b"user-agent": user_agent(self._contact).encode(),
            b"accept": b"*/*",
            b"accept-encoding": b"identity",
        }
        self._ssl_context = ssl_context
        self._guard = threading.Lock()
        resolver = Resolver(resolve or socket.getaddrinfo, allow_loopback=limits.allow_loopback)
        self._connections = Connections(connections, resolver, self._trust)

    def __enter__(self) -> Self:
        """The client, to be closed at the end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        self.close()

    def close(self) -> None:
        """Close the idle connections; those in use are closed when they come back."""
        self._connections.close()

    def get(
        self,
        url: str,
        headers: Mapping[str, str] = MappingProxyType({}),
        *,
        before_hop: Callable[[str], None] | None = None,
        max_bytes: int | None = None,
        validated_url: str | None = None,
    ) -> Answer:
        """Ask once, and go where we are sent.

        Args:
            url: what a stranger named.
            headers: besides our own, or instead of them. Those that make a request conditional (If-None-Match,
                If-Modified-Since) describe one address, and go to no other: an ETag of another server may be equal by
                chance.
            before_hop: called with each address before it is asked, redirects included; may wait, or raise `Skip`.
            max_bytes: of this body, instead of the limits'.
            validated_url: the address that the conditions describe, as `Answer.final_url` gave it; `url` unless given.

        Raises:
            FetchError: there is no contact, and `url` is not of this machine.
        """
        most = self.limits.max_bytes if max_bytes is None else max_bytes
        budget = Budget(self.limits.timeout_seconds)
        course = _Course(budget, most, self.limits.max_seconds)
        kind: Kind | None = None
        retry_after = None
        try:
            status, detail = self._follow(course, url, headers, before_hop, validated_url), ""
        except Failure as failure:
            status, detail = failure.status, failure.detail
        except Skip as skip:
            status, detail, kind, retry_after = skip.status, skip.detail, skip.kind, skip.retry_after_seconds
        if retry_after is None:
            retry_after = manners.read_retry_after(course.headers.get("retry-after"))
        if course.url is None and len(url) <= MAX_URL_LENGTH:
            course.url = shown_url(url.encode("utf-8", "replace").decode())
        return Answer(
            status=status,
            kind=kind or kind_of(status),
            http_status=course.http_status,
            detail=detail or in_words(status),
            final_url=course.url,
            headers=course.headers,
            body=course.body if status == "ok" else b"",
            received=budget.received,
            seconds=self.limits.max_seconds - course.seconds_left,
            retry_after_seconds=None if retry_after is None else min(retry_after, _MAX_RETRY_AFTER_SECONDS),
        )

    def _follow(
        self,
        course: _Course,
        url: str,
        headers: Mapping[str, str],
        before_hop: Callable[[str], None] | None,
        validated_url: str | None,
    ) -> str:
        """Ask one address after the other; the status of the last answer."""
        target = read_target(url, self.limits.schemes)
        if not self._contact and not target.is_here:
            manners.check_contact(self._contact, asked=target.url)
        validated_url = validated_url or target.url
        seen: set[str] = set()
        while True:
            course.url = target.url
            check_target(target, allow_loopback=self.limits.allow_loopback)
            if target.url in seen:
                raise Failure("redirect_loop", f"sends us in a circle, to {target.url} again")
            if len(seen) > self.limits.max_redirects:
                raise Failure("too_many_redirects", f"sends us on more than {self.limits.max_redirects} times")
            if not self._contact and not target.is_here:
                raise Failure("no_contact", STATUSES["no_contact"][1])
            seen.add(target.url)
            if before_hop is not None:
                before_hop(target.url)
            is_validated = target.url == validated_url
            own = {name: value for name, value in headers.items() if is_validated or name.lower() not in _CONDITIONS}
            location = self._ask(course, target, own)
            if location is None:
                is_conditional = any(name.lower() in _CONDITIONS for name in own)
                return {200: "ok", 304: "unchanged" if is_conditional else "http_304"}.get(
                    course.http_status or 0, f"http_{course.http_status}"
                )
            target = read_redirect(target, location, self.limits.schemes)

    def _ask(self, course: _Course, target: Target, headers: Mapping[str, str]) -> str | None:
        """Ask one address; where it sends us, or None when it does not."""
        given = {name.lower().encode("ascii"): value.encode("latin-1") for name, value in headers.items()}
        request = httpcore.Request(
            b"GET",
            httpcore.URL(
                scheme=target.scheme.encode(), host=target.host.encode(), port=target.port, target=target.path
            ),
            headers=[(b"host", target.host_header.encode()), *(self._headers | given).items()],
        )
        try:
            return self._ask_over(self._connections.take(target), course, request)
        except _Stale:
            return self._ask_over(self._connections.take(target, fresh=True), course, request)

    def _ask_over(self, connection: Connection, course: _Course, request: httpcore.Request) -> str | None:
        """Ask over one connection, which is given back whatever happens."""
        try:
            return _exchange(connection, course, request)
        finally:
            self._connections.give(connection)

    def _trust(self) -> ssl.SSLContext:
        """What certificates are trusted by; read from disk once, when the first is shown."""
        with self._guard:
            if self._ssl_context is None:
                self._ssl_context = httpx.create_ssl_context()
            return self._ssl_context


class _Stale(Exception):  # noqa: N818 - the server closed an idle connection just when it was used again
    pass


def _exchange(connection: Connection, course: _Course, request: httpcore.Request) -> str | None:
    """One request and its answer on one connection."""
    budget, started = course.budget, time.monotonic()
    budget.deadline, budget.is_ended = started + course.seconds_left, False
    connection.backend.budget = budget
    try:
        try:
            response = _open_answer(connection, request, budget)
        except Failure as failure:
            if connection.is_used and failure.status in {"cut", "connection", "protocol"}:
                raise _Stale from failure
            raise
        with contextlib.closing(response):
            return _read_answer(course, response)
    finally:
        course.seconds_left -= time.monotonic() - started


def _open_answer(connection: Connection, request: httpcore.Request, budget: Budget) -> httpcore.Response:
    """Send a request and read the head of its answer."""
    before = budget.received
    budget.allow(_HEAD_BYTES, "protocol")
    with _protocol_errors(budget):
        response = connection.http.handle_request(request)
    if budget.received == before or len(response.headers) > _MAX_HEADERS:
        response.close()
        raise Failure(
            "protocol",
            "answers before it is asked"  # bytes were left over from the answer before: two answers to one request
            if budget.received == before
            else f"sends {len(response.headers):,} headers",
        )
    return response


def _read_answer(course: _Course, response: httpcore.Response) -> str | None:
    """Read what is wanted of an answer; where it sends us, or None when it does not."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in response.headers:
        name, value = raw_name.decode("ascii").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    locations = {value for name, value in response.headers if name.lower() == b"location"}
    if locations:  # what others see of it has no password
        headers["location"] = shown_url(headers["location"])
    course.http_status, course.headers = response.status, headers
    # Chunks of a few bytes each may cost as much again as they bring.
    course.budget.allow(2 * course.max_bytes + _READ_BYTES, "too_large")
    if response.status == 200:
        course.body = _read_body(course, response)
        return None
    _read_rest(course, response)
    if response.status not in _REDIRECTS or not locations:
        return None
    if len(locations) > 1:
        raise Failure("protocol", "sends us to several addresses at once")
    return locations.pop().decode("utf-8", errors="replace")


def _read_body(course: _Course, response: httpcore.Response) -> bytes:
    """The bytes of a picture, all of them and no more than are allowed."""
    coding = course.headers.get("content-encoding", "").strip().lower()
    if coding not in {"", "identity"}:
        raise Failure("coding", f"is coded as {coding[:40]}, though it was asked for as it is")
    length = _read_length(course.headers)
    if length is not None and length > course.max_bytes:
        raise Failure("too_large", f"has {length:,} bytes; {course.max_bytes:,} are taken at most")
    body = bytearray()
    with _protocol_errors(course.budget):
        for piece in response.iter_stream():
            body += piece
            if len(body) > course.max_bytes:
                raise Failure("too_large", f"has more than {course.max_bytes:,} bytes")
    return bytes(body)


def _read_rest(course: _Course, response: httpcore.Response) -> None:
    """Read a short page that nobody wants, so that the connection can be used again; a long one is left."""
    course.budget.deadline = min(course.budget.deadline, time.monotonic() + _REST_SECONDS)
    came = 0
    with contextlib.suppress(Failure, httpcore.RemoteProtocolError):  # the status is known; httpcore has closed
        for piece in response.iter_stream():
            came += len(piece)
            if came > _REST_BYTES:
                return


def _read_length(headers: Mapping[str, str]) -> int | None:
    """Bytes that an answer says it has; None where it does not, or says it in chunks."""
    value = headers.get("content-length", "").partition(",")[0]
    return int(value) if value.isdecimal() and "transfer-encoding" not in headers else None


@contextlib.contextmanager
def _protocol_errors(budget: Budget) -> Iterator[None]:
    """An answer that is no HTTP, or ends too early, as a failure."""
    try:
        yield
    except httpcore.RemoteProtocolError as error:
        if budget.is_ended:
            raise Failure("cut", "closed the connection before its answer was whole") from error
        raise Failure("protocol", f"does not speak HTTP: {str(error)[:120]}") from error
