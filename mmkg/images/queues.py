"""Which address is next: a queue per host, and whoever is free takes the host that has been ready longest.

A host that waits, for its bucket, its ``Retry-After`` or its connections, holds up nobody but itself.
"""

import dataclasses
import heapq
import itertools
import math
from collections import deque

from mmkg.images.politeness import Closed, Lease, Politeness


@dataclasses.dataclass(frozen=True)
class Taken:
    """An address to be asked now, or one of a host that is not asked any more."""

    item: int
    lease: Lease
    closed: Closed | None = None


@dataclasses.dataclass(slots=True)
class _Queue:
    ready: deque[int] = dataclasses.field(default_factory=deque)
    later: list[tuple[float, int]] = dataclasses.field(default_factory=list)  # heap of (not before, item)
    look_at: float = math.inf  # when it is looked at next; infinite: when something happens to its host


class HostQueues:
    """Items (numbers of addresses) by host; thread-safe.

    Args:
        politeness: says when a host may be asked. Its lock is the lock of the queues, too.
    """

    def __init__(self, politeness: Politeness) -> None:
        self._politeness = politeness
        self._queues: dict[str, _Queue] = {}
        self._due: list[tuple[float, int, str]] = []  # heap of (when to look, order, host)
        self._order = itertools.count()
        self._left = 0  # items that are not done: in a queue, or taken
        self._is_stopped = False

    def add(self, host: str, item: int) -> None:
        """Add an item to the end of its host's queue; the empty host has no limits."""
        with self._politeness.lock:
            self._queues.setdefault(host, _Queue()).ready.append(item)
            self._left += 1
            self._look_at(host, self._politeness.clock())
            self._politeness.changed.notify()

    def put_back(self, host: str, item: int, wait_seconds: float) -> None:
        """Give back an item that was taken; it is not taken again before `wait_seconds` are over."""
        with self._politeness.lock:
            queue = self._queues[host]
            heapq.heappush(queue.later, (self._politeness.clock() + wait_seconds, item))
            self._look_at(host, self._politeness.clock())
            self._politeness.changed.notify()

    def done(self) -> None:
        """Say of an item that was taken that it does not come back."""
        with self._politeness.lock:
            self._left -= 1
            if not self._left:
                self._politeness.changed.notify_all()

    def stop(self) -> None:
        """Give out nothing more."""
        with self._politeness.lock:
            self._is_stopped = True
            self._politeness.changed.notify_all()

    def take(self) -> Taken | None:
        """Wait for an item whose host may be asked now; None when all are done, or after `stop`."""
        changed = self._politeness.changed
        with changed:
            while self._left and not self._is_stopped:
                while self._politeness.freed:
                    self._look_at(self._politeness.freed.pop(), self._politeness.clock())
                now = self._politeness.clock()
                if not self._due or self._due[0][0] > now:
                    changed.wait(self._due[0][0] - now if self._due else None)
                    continue
                when, _, host = heapq.heappop(self._due)
                if when != self._queues[host].look_at:
                    continue  # was to be looked at earlier in the meantime
                self._queues[host].look_at = math.inf
                if (taken := self._take_from(host, now)) is not None:
                    if self._due and self._due[0][0] <= now:
                        changed.notify()
                    return taken
        return None

    def _take_from(self, host: str, now: float) -> Taken | None:
        queue = self._queues[host]
        if closed := self._politeness.closed(host):
            item = queue.ready.popleft() if queue.ready else heapq.heappop(queue.later)[1] if queue.later else None
            self._look_at(host, now)
            return None if item is None else Taken(item, Lease(self._politeness, ""), closed)
        while queue.later and queue.later[0][0] <= now:
            queue.ready.append(heapq.heappop(queue.later)[1])
        if not queue.ready:
            if queue.later:
                self._look_at(host, queue.later[0][0])
            return None
        if host and (wait := self._politeness.try_start(host)):
            if math.isfinite(wait):
                self._look_at(host, now + wait)
            return None  # without a time: `freed` names it when one of its requests ends
        item = queue.ready.popleft()
        self._look_at(host, now)
        return Taken(item, Lease(self._politeness, host))

    def _look_at(self, host: str, when: float) -> None:
        """Put a host among those to look at, unless it is there for an earlier time or has nothing."""
        queue = self._queues.get(host)
        if queue is None or when >= queue.look_at or not (queue.ready or queue.later):
            return
        queue.look_at = when
        heapq.heappush(self._due, (when, next(self._order), host))
