"""Filling a store that nobody is served from yet: batches over several connections, each a transaction of its own.

One connection keeps one of the server's cores busy. Relationships of different types can be written at the same time,
also at the same nodes: Neo4j locks a node for writing only while it commits.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

import neo4j
from neo4j.exceptions import DriverError, Neo4jError

from mmkg.store.neo4j import statements
from mmkg.store.neo4j.batches import Batch
from mmkg.store.neo4j.connection import BackOff, is_out_of_memory, is_transient
from mmkg.store.neo4j.examine import Job
from mmkg.store.neo4j.lock import LoaderLock, taken_over
from mmkg.store.neo4j.node_ids import NodeIds, find_nodes

logger = logging.getLogger(__name__)

_FIRST_ROWS = 2_000
_GOOD_SECONDS = 1.0  # a batch that takes longer is too large: progress should be seen, and a retry be cheap


class BatchSize:
    """Rows of the next batch: grows while the server takes them well, halves when it does not."""

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self.rows = min(_FIRST_ROWS, max_rows)

    def __call__(self) -> int:
        """How many rows the next batch should have."""
        return self.rows

    def went_well(self, rows: int, seconds: float) -> None:
        """Learn from a batch that was taken."""
        if seconds > 2 * _GOOD_SECONDS:
            self.rows = max(1, self.rows // 2)
        elif rows >= self.rows and seconds < _GOOD_SECONDS:
            self.rows = min(self._max_rows, max(self.rows + 1, self.rows * 3 // 2))

    def was_too_much(self, rows: int) -> None:
        """Learn from a batch that the server had no memory or time for."""
        self.rows = max(1, min(self.rows, rows // 2))


class Lanes:
    """As many lanes as `store.connections` says."""

    def __init__(
        self, job: Job, lock: LoaderLock, load_id: str, size: BatchSize, back_off: Callable[[], BackOff]
    ) -> None:
        self._stop = threading.Event()
        self._lanes = [
            _Lane(number, job, lock, load_id, size, back_off, self._stop) for number in range(job.config.connections)
        ]

    @property
    def retries(self) -> int:
        """Attempts that were made again."""
        return sum(lane.retries for lane in self._lanes)

    def write(self, batches: Iterable[Batch], ids: NodeIds, done: Callable[[Batch], None]) -> None:
        """Send batches, in no certain order; returns when the server has them all.

        Args:
            batches: are made while others are sent.
            ids: gets the numbers of the nodes that are made.
            done: told each batch that the server has.

        Raises:
            StoreError: another loader has taken over, or the store is changed by somebody else.
            Neo4jError: the server refuses one.
            DriverError: the connection is lost and stays lost.
        """
        free = list(self._lanes)
        running: dict[Future[list[int]], tuple[_Lane, Batch]] = {}

        def collect() -> None:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                lane, batch = running.pop(future)
                numbers = future.result()
                if batch.keys is not None:
                    ids.add(batch.label, batch.keys, numbers)
                free.append(lane)
                done(batch)

        with ThreadPoolExecutor(len(self._lanes), thread_name_prefix="mmkg-lane") as pool:
            try:
                for batch in batches:
                    if not free:
                        collect()
                    lane = free.pop()
                    running[pool.submit(lane.write, batch)] = lane, batch
                while running:
                    collect()
            except BaseException:
                self._stop.set()  # the other lanes end with the attempt that they are at
                raise


class _Lane:
    """One connection at a time, and a node of the server on which the last batch that was done is noted.

    So a batch whose answer was lost is sent again, and done once.
    """

    def __init__(
        self,
        number: int,
        job: Job,
        lock: LoaderLock,
        load_id: str,
        size: BatchSize,
        back_off: Callable[[], BackOff],
        stop: threading.Event,
    ) -> None:
        self._known_as = {"lane": number, "load_id": load_id}
        self._job = job
        self._lock = lock
        self._size = size
        self._back_off = back_off
        self._stop = stop
        self._batch = 0  # a lane that was just taken over has done none
        self.retries = 0

    def write(self, batch: Batch) -> list[int]:
        """Send one batch, in halves if it is too much for the server; the numbers of the nodes that it makes."""
        pieces = [(batch.rows, batch.keys)]
        numbers: list[int] = []
        while pieces:
            rows, keys = pieces.pop()
            self._batch += 1
            try:
                numbers += self._send(batch, rows, keys)
            except Neo4jError as error:
                if not _is_too_much(error) or len(rows) == 1:
                    raise
                self._size.was_too_much(len(rows))
                half = len(rows) // 2
                logger.info("neo4j: %s rows at once were too many (%s); halved", f"{len(rows):,}", error.code)
                pieces.append((rows[half:], keys[half:] if keys else None))
                pieces.append((rows[:half], keys[:half] if keys else None))
        return numbers

    def _send(self, batch: Batch, rows: list[Any], keys: list[str] | None) -> list[int]:
        parameters = {**batch.parameters, **self._known_as, "batch": self._batch, "rows": rows}
        numbers: list[int] = []
        back_off = self._back_off()
        while True:
            started = time.monotonic()
            try:
                if back_off.failures:
                    self._lock.ensure()
                with self._job.session(write=True) as session:
                    [record] = list(session.run(statements.once(batch.statement), parameters))
                    answer = record["done" if keys is None else "ids"]
                    was_done = not answer and self._was_done(session) and back_off.failures > 0
                    if keys is not None:
                        numbers = self._find(session, keys, batch.label) if was_done else answer
                        batch.check(len(rows), len(numbers))
                    elif not was_done:
                        batch.check(len(rows), answer)
            except (DriverError, Neo4jError, OSError) as error:
                if _is_too_much(error) or not is_transient(error) or self._stop.is_set() or not back_off.wait():
                    raise
                self.retries += 1
                logger.info("neo4j: %s: trying again (%s)", batch.what, type(error).__name__)
                continue
            self._size.went_well(len(rows), time.monotonic() - started)
            return numbers

    def _find(self, session: neo4j.Session, keys: list[str], label: str) -> list[int]:
        """Numbers of nodes that an attempt made whose answer was lost."""
        found = dict(zip(*find_nodes(session, keys, label), strict=True))
        return [found[key] for key in keys]

    def _was_done(self, session: neo4j.Session) -> bool:
        """Whether this batch is done, by this attempt or one before."""
        lane = session.run(statements.READ_LANE, self._known_as).single()
        if lane is None or lane["load_id"] != self._known_as["load_id"]:
            raise taken_over()
        return bool(lane["done"] >= self._batch)


def _is_too_much(error: BaseException) -> bool:
    code = (error.code or "") if isinstance(error, Neo4jError) else ""
    return is_out_of_memory(error) or "TransactionTimedOut" in code
