"""How often a host is asked: so many requests a second, so many at once, not before it wants, and not when it is down.

Per host a token bucket: it holds `burst` requests and gains `requests_per_second`; a request goes out when the bucket
holds one. A host that says 429 or 503 is left alone as a whole until the end of its ``Retry-After`` (or of a wait that
doubles). It is closed for the rest of the run when it wants longer waits than the config allows, or when it did not
answer several times in a row: what is left of it becomes rows, and nobody is asked.

A host is ``name:port`` of the address that is asked; each address on the way of a redirect counts for its own.
"""

import dataclasses
import math
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from mmkg.web.bounded import Kind
from mmkg.web.manners import back_off

FAILURES_IN_A_ROW = 5  # connections and silences; then the host is taken to be down
FIRST_BACK_OFF_SECONDS = 1.0
_PORTS = {"http": 80, "https": 443}


def host_of(url: str) -> str:
    """The host that a URL asks, with its port; empty where it names none, and nobody will be asked.

    >>> host_of("https://upload.wikimedia.org/a.png"), host_of("http://[::1]:80/"), host_of("file:///etc/passwd")
    ('upload.wikimedia.org:443', '[::1]:80', '')
    """
    try:
        parts = urlsplit(url)
        name, port = parts.hostname, parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return ""
    if not name or port is None:
        return ""
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


@dataclasses.dataclass(frozen=True)
class Closed:
    """Why a host is not asked any more in this run."""

    status: str  # host_waits | host_down, or what became of the first of its addresses
    detail: str
    kind: Kind = "transient"


@dataclasses.dataclass(slots=True)
class _Host:
    tokens: float
    counted_at: float  # when `tokens` was that many
    seconds_between: float
    burst: int
    connections: int
    running: int = 0
    held_until: float = -math.inf
    held_seconds: float = 0.0  # in all, since the last good answer
    throttled: int = 0  # times in a row that it said 429 or 503
    failures: int = 0  # times in a row that it did not answer
    closed: Closed | None = None


class Politeness:
    """The state of all hosts; thread-safe.

    Args:
        requests_per_second: of one host.
        burst: requests that may follow each other at once after a pause.
        connections_per_host: requests to one host at the same time.
        max_wait_seconds: a host that wants longer, in one piece or since its last good answer, is closed.
        alone_until_known: a host has one connection until `known`: the first one asks for its robots.txt.
        clock: seconds, only ever growing.
    """

    def __init__(
        self,
        *,
        requests_per_second: float,
        burst: int,
        connections_per_host: int,
        max_wait_seconds: float,
        alone_until_known: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self._seconds_between = 1 / requests_per_second
        self._burst = burst
        self._connections_per_host = connections_per_host
        self._max_wait_seconds = max_wait_seconds
        self._alone_until_known = alone_until_known
        self._hosts: dict[str, _Host] = {}
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)  # for those who look for a host to ask
        self.freed: set[str] = set()  # hosts with a connection less than before, until somebody looks at them
        self._slot_freed = threading.Condition(self.lock)  # for those who wait for one host

    def _host(self, name: str) -> _Host:
        host = self._hosts.get(name)
        if host is None:
            connections = 1 if self._alone_until_known else self._connections_per_host
            host = _Host(self._burst, self.clock(), self._seconds_between, self._burst, connections)
            self._hosts[name] = host
        return host

    def try_start(self, name: str) -> float:
        """Begin a request now and return 0, or return in how many seconds it may begin.

        Infinite: not before another request to this host ends.
        """
        with self.lock:
            host = self._host(name)
            now = self.clock()
            if now < host.held_until:
                return host.held_until - now
            if host.running >= host.connections:
                return math.inf
            tokens = min(host.burst, host.tokens + (now - host.counted_at) / host.seconds_between)
            if tokens < 1 - 1e-9:  # what the sum of many small steps may lack
                return (1 - tokens) * host.seconds_between
            host.tokens, host.counted_at = max(0.0, tokens - 1), now
            host.running += 1
            return 0.0

    def finish(self, name: str, *, asked: bool = True) -> None:
        """End a request that was begun; one that never went out (`asked` is false) gives its token back."""
        with self.lock:
            host = self._host(name)
            host.running -= 1
            if not asked:
                host.tokens += 1
            self.freed.add(name)
            self.changed.notify()
            self._slot_freed.notify_all()

    def hold(self, name: str, asked_seconds: float | None) -> None:
        """Leave a host alone, as long as its ``Retry-After`` says, or twice as long as the last time."""
        with self.lock:
            host = self._host(name)
            now = self.clock()
            if asked_seconds is None and now < host.held_until:
                return  # the answer to a request that was on its way together with the one that was refused first
            host.throttled += 1
            host.failures = 0
            seconds = back_off(host.throttled, asked_seconds, FIRST_BACK_OFF_SECONDS)
            until = max(host.held_until, now + seconds)
            host.held_seconds += until - max(now, host.held_until)
            host.held_until = until
            if host.held_seconds - FIRST_BACK_OFF_SECONDS > self._max_wait_seconds:
                wish = f"{name} wants {host.held_seconds:,.0f} s of waiting since its last good answer"
                self.close(name, Closed("host_waits", f"{wish}; max_wait_seconds = {self._max_wait_seconds:g}"))

    def slow_down(self, name: str, seconds_between: float) -> None:
        """Leave so many seconds between two requests to a host, as its robots.txt wants it; never fewer than before."""
        with self.lock:
            host = self._host(name)
            if seconds_between <= host.seconds_between:
                return
            # What is in the bucket was filled at the old rate, for a burst that the host does not want.
            host.tokens, host.counted_at, host.burst = 0.0, self.clock(), 1
            host.seconds_between = seconds_between
            if seconds_between > self._max_wait_seconds:
                wish = f"robots.txt of {name} wants {seconds_between:,.0f} s between requests"
                self.close(name, Closed("host_waits", f"{wish}; max_wait_seconds = {self._max_wait_seconds:g}"))

    def known(self, name: str) -> None:
        """Let a host have all its connections: what it allows is known."""
        with self.lock:
            host = self._host(name)
            if host.connections < self._connections_per_host:
                host.connections = self._connections_per_host
                self._wake(name)

    def answered(self, name: str) -> None:
        """Note that a host answered, and not that it is asked too much: what it said before is over."""
        with self.lock:
            host = self._host(name)
            host.failures, host.throttled, host.held_seconds = 0, 0, 0.0

    def failed(self, name: str, detail: str) -> None:
        """Note that a host did not answer; after several in a row it is taken to be down."""
        with self.lock:
            host = self._host(name)
            host.failures += 1
            if host.failures >= FAILURES_IN_A_ROW and host.closed is None:
                self.close(name, Closed("host_down", f"{name}: {host.failures} failures in a row, at last {detail}"))

    def close(self, name: str, closed: Closed) -> None:
        """Ask a host no more in this run."""
        with self.lock:
            self._host(name).closed = closed
            self._wake(name)

    def closed(self, name: str) -> Closed | None:
        """Why a host is not asked any more, or None."""
        with self.lock:
            host = self._hosts.get(name)
            return host.closed if host else None

    def _wake(self, name: str) -> None:
        self.freed.add(name)
        self.changed.notify()
        self._slot_freed.notify_all()

    def wait_start(self, name: str, patience_seconds: float) -> float:
        """Wait until a request to a host may begin, and begin it: 0; or how many more seconds that would have taken."""
        with self.lock:
            until = self.clock() + patience_seconds
            while self.closed(name) is None:
                if (wait := self.try_start(name)) == 0:
                    return 0.0
                left = until - self.clock()
                if left <= 0 or (math.isfinite(wait) and wait > left):
                    return wait if math.isfinite(wait) else FIRST_BACK_OFF_SECONDS
                self._slot_freed.wait(min(wait, left))
            return FIRST_BACK_OFF_SECONDS

    def is_held(self, name: str) -> bool:
        """Whether a host has asked to be left alone until later than now."""
        with self.lock:
            return self.clock() < self._host(name).held_until


class Lease:
    """The right to one request after the other on the way of one address: one host at a time.

    Args:
        politeness: of all hosts.
        host: whose `try_start` has just returned 0; empty for an address that nobody will be asked for.
    """

    def __init__(self, politeness: Politeness, host: str) -> None:
        self._politeness = politeness
        self._host = host
        self._is_used = False

    @property
    def host(self) -> str:
        """The host that may be asked; empty when none is."""
        return self._host

    @property
    def is_used(self) -> bool:
        """Whether a request to that host was let out."""
        return self._is_used

    def enter(self, host: str, patience_seconds: float) -> float:
        """Take the right to send one request to a host, waiting for it if need be.

        Returns:
            0, or the seconds that it would take beyond `patience_seconds`; then nothing may be sent.
        """
        if not (host == self._host and not self._is_used and not self._politeness.is_held(host)):
            self.close()
            wait = self._politeness.wait_start(host, patience_seconds)
            if wait:
                return wait
            self._host = host
        self._is_used = True
        return 0.0

    def close(self) -> None:
        """Give back what is held; may be called twice."""
        if self._host:
            self._politeness.finish(self._host, asked=self._is_used)
        self._host, self._is_used = "", False
