"""Connections to servers of strangers that are kept open for the next request to the same origin."""

import ssl
import threading
from collections import OrderedDict
from collections.abc import Callable

import httpcore

from mmkg.web.addresses import Target
from mmkg.web.pinned import PinnedBackend, Resolver

_KEEP_SECONDS = 15.0  # for which an idle connection may be used again


class Connection:
    """One connection to one origin, for one request at a time."""

    __slots__ = ("backend", "http", "is_used", "origin")

    def __init__(self, target: Target, resolver: Resolver, ssl_context: ssl.SSLContext | None) -> None:
        self.origin = (target.scheme, target.host, target.port)
        self.backend = PinnedBackend(resolver)
        self.http = httpcore.HTTPConnection(
            httpcore.Origin(target.scheme.encode(), target.host.encode(), target.port),
            ssl_context=ssl_context,
            keepalive_expiry=_KEEP_SECONDS,
            network_backend=self.backend,
        )
        self.is_used = False  # has answered before


class Connections:
    """Idle connections that may be used again, at most `limit` together with those in use.

    `httpcore.ConnectionPool` would do, but looks at every socket it has for each request, and does not tell whether a
    connection was used before: only then may a request that found it closed be sent once more.
    """

    def __init__(self, limit: int, resolver: Resolver, ssl_context: Callable[[], ssl.SSLContext]) -> None:
        self._limit = limit
        self._resolver = resolver
        self._ssl_context = ssl_context
        self._idle: OrderedDict[Connection, None] = OrderedDict()  # oldest first
        self._in_use = 0
        self._is_closed = False
        self._guard = threading.Condition()

    def take(self, target: Target, *, fresh: bool = False) -> Connection:
        """A connection to a target, used before or not yet open; waits while `limit` are in use."""
        origin = (target.scheme, target.host, target.port)
        ssl_context = self._ssl_context() if target.scheme == "https" else None
        closing: list[Connection] = []
        with self._guard:
            self._guard.wait_for(lambda: self._in_use < self._limit)
            self._in_use += 1
            found = None
            for connection in [idle for idle in reversed(self._idle) if idle.origin == origin]:
                del self._idle[connection]
                if not fresh and not connection.http.has_expired():
                    found = connection
                    break
                closing.append(connection)
            while len(self._idle) + self._in_use > self._limit:
                closing.append(self._idle.popitem(last=False)[0])
        for connection in closing:
            connection.http.close()
        if found is not None:
            return found
        return Connection(target, self._resolver, ssl_context)

    def give(self, connection: Connection) -> None:
        """Take a connection back: kept when its answer was read to the end, else closed."""
        keep = connection.http.is_available()
        with self._guard:
            self._in_use -= 1
            keep = keep and not self._is_closed
            if keep:
                connection.is_used = True
                self._idle[connection] = None
            self._guard.notify()
        if not keep:
            connection.http.close()

    def close(self) -> None:
        """Close all that are idle, and the others when they come back."""
        with self._guard:
            self._is_closed = True
            idle = list(self._idle)
            self._idle.clear()
        for connection in idle:
            connection.http.close()
