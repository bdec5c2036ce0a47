"""Sending batches: in many transactions while nothing is served, or in one that switches all readers (the flip)."""

import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import neo4j
from neo4j.exceptions import DriverError, Neo4jError

from mmkg.errors import StoreError
from mmkg.store.neo4j import statements
from mmkg.store.neo4j.batches import Batch, NodeIds, find_nodes
from mmkg.store.neo4j.connection import BackOff, is_out_of_memory, is_transient
from mmkg.store.neo4j.examine import Job
from mmkg.store.neo4j.lock import LoaderLock, join_bookmarks
from mmkg.store.neo4j.state import FLIP, METADATA_KEY

logger = logging.getLogger(__name__)

_FIRST_ROWS = 2_000
_GOOD_SECONDS = 1.0  # a batch that takes longer is too large: progress should be seen, and a retry be cheap
_BYTES_PER_CHANGE = 1_200  # of heap, in one transaction (measured: 1.0 kB a relationship, 2-3 kB a node with text)
_HEAP_SETTINGS = (
    "db.memory.transaction.max",
    "db.memory.transaction.total.max",
    "dbms.memory.transaction.total.max",
    "server.memory.heap.max_size",
)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


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


class BatchWriter:
    """Sends each batch as a transaction of its own; safe against lost connections, and never twice."""

    def __init__(
        self, job: Job, lock: LoaderLock, load_id: str, size: BatchSize, back_off: Callable[[], BackOff]
    ) -> None:
        self._job = job
        self._lock = lock
        self._load_id = load_id
        self._size = size
        self._back_off = back_off
        self._number = 0  # of the batch; a place that was just taken over has done none
        self.retries = 0

    def write(self, batch: Batch, ids: NodeIds) -> None:
        """Send one batch; the numbers of nodes that it makes go into `ids`.

        Raises:
            StoreError: another loader has taken over, or the store is changed by somebody else.
            Neo4jError: the server refuses it.
            DriverError: the connection is lost and stays lost.
        """
        pieces = [(batch.rows, batch.entity_ids)]
        while pieces:
            rows, entity_ids = pieces.pop()
            self._number += 1
            try:
                self._send(batch, rows, entity_ids, ids)
            except Neo4jError as error:
                if not _is_too_much(error) or len(rows) == 1:
                    raise
                self._size.was_too_much(len(rows))
                half = len(rows) // 2
                logger.info("neo4j: %s rows at once were too many (%s); halved", f"{len(rows):,}", error.code)
                pieces.append((rows[half:], entity_ids[half:] if entity_ids else None))
                pieces.append((rows[:half], entity_ids[:half] if entity_ids else None))

    def _send(self, batch: Batch, rows: list[Any], entity_ids: list[str] | None, ids: NodeIds) -> None:
        back_off = self._back_off()
        while True:
            started = time.monotonic()
            try:
                if back_off.failures:
                    self._lock.ensure()
                with self._job.session(write=True) as session:
                    parameters = {**batch.parameters, "rows": rows, "load_id": self._load_id, "batch": self._number}
                    [record] = list(session.run(statements.once(batch.statement), parameters))
                    if entity_ids is not None:
                        numbers = record["ids"] or self._done_before(session, entity_ids)
                        _check_rows(batch, len(rows), len(numbers))
                        ids.add(entity_ids, numbers)
                    elif record["done"] or not self._was_done(session):
                        _check_rows(batch, len(rows), record["done"])
            except (DriverError, Neo4jError, OSError) as error:
                if _is_too_much(error) or not is_transient(error) or not back_off.wait():
                    raise
                self.retries += 1
                logger.info("neo4j: %s: trying again (%s)", batch.what, type(error).__name__)
                continue
            self._size.went_well(len(rows), time.monotonic() - started)
            return

    def _done_before(self, session: neo4j.Session, entity_ids: list[str]) -> list[int]:
        """Numbers of nodes that an attempt made whose answer was lost."""
        if not self._was_done(session):
            return []
        found = dict(zip(*find_nodes(session, entity_ids), strict=True))
        return [found[entity_id] for entity_id in entity_ids]

    def _was_done(self, session: neo4j.Session) -> bool:
        """Whether nothing was done because an earlier attempt had done it."""
        lane = session.run(statements.READ_LANE).single()
        if lane is None or lane["load_id"] != self._load_id:
            raise taken_over()
        return bool(lane["done"] >= self._number)


def taken_over() -> StoreError:
    """The error for a loader that finds another one in its place."""
    return StoreError(
        "another loader has taken over this store while the connection was lost. Wait until it has finished, then "
        "run the same again."
    )


def _check_rows(batch: Batch, expected: int, found: int) -> None:
    if found != expected:
        raise StoreError(
            f"the store changes while it is loaded ({batch.what}: expected {expected:,} rows, found {found:,}). "
            "Somebody else writes into it; stop that, then run the same again."
        )


def _is_too_much(error: BaseException) -> bool:
    code = (error.code or "") if isinstance(error, Neo4jError) else ""
    return is_out_of_memory(error) or "TransactionTimedOut" in code


# --- the flip --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Flipped:
    """What a flip took."""

    seconds: float  # until the commit began
    commit_seconds: float  # while readers wait
    bookmark: str  # behind all of it


def flip(
    job: Job,
    lock: LoaderLock,
    load_id: str,
    batches: Iterable[Batch],
    ids: NodeIds,
    state: Mapping[str, Any],
) -> Flipped:
    """Apply batches in one transaction and switch all readers to what it makes.

    Args:
        job: names the server.
        lock: is held.
        load_id: of this loader, which has taken its place (`TAKE_OVER`).
        batches: all that changes; made while they are sent.
        ids: gets the numbers of the nodes that are made.
        state: properties of the state node from then on.

    Raises:
        StoreError: another loader has taken over, or the store is changed by somebody else.
        Neo4jError: the server refuses something; then nothing has changed.
        DriverError: the connection is lost; during the commit, it may have been done.
    """
    started = time.monotonic()
    metadata = {METADATA_KEY: FLIP, "load_id": load_id, "holder": lock.holder}
    with (
        job.session(write=True) as session,
        session.begin_transaction(metadata=metadata, timeout=0) as transaction,
    ):
        [[held]] = transaction.run(statements.HOLD_LANE, {"load_id": load_id}).values()
        if not held:
            raise taken_over()
        for batch in batches:
            [record] = list(transaction.run(batch.statement, {**batch.parameters, "rows": batch.rows}))
            if batch.entity_ids is not None:
                _check_rows(batch, len(batch.rows), len(record["ids"]))
                ids.add(batch.entity_ids, record["ids"])
            else:
                _check_rows(batch, len(batch.rows), record["done"])
        lock.check()
        ready = time.monotonic()
        write_state(job, statements.BEGIN_FLIP, load_id)
        try:
            if not list(transaction.run(statements.SET_STATE, {"load_id": load_id, "values": dict(state)})):
                raise taken_over()
            transaction.commit()
        except Neo4jError:
            # the server's own answer: nothing was done. After a lost connection nobody knows, so `flips` stays odd.
            transaction.close()
            write_state(job, statements.END_FLIP, load_id)
            raise
        done = time.monotonic()
    bookmark = write_state(job, statements.END_FLIP, load_id)
    return Flipped(seconds=ready - started, commit_seconds=done - ready, bookmark=bookmark)


def write_state(job: Job, statement: str, load_id: str, values: Mapping[str, Any] | None = None) -> str:
    """One of the statements that change the state node, as a transaction of its own; returns its bookmark.

    Raises:
        StoreError: another loader has taken over.
    """
    with job.session(write=True) as session:
        if not list(session.run(statement, {"load_id": load_id, "values": dict(values or {})})):
            raise taken_over()
        return join_bookmarks(session)


def check_heap(session: neo4j.Session, changes: int) -> None:
    """Refuse a flip that would not fit into the server's memory, before anything is written.

    Raises:
        StoreError: with the settings that limit it.
    """
    needed = changes * _BYTES_PER_CHANGE
    limits = {}
    for name, value in session.run(statements.SHOW_SETTINGS, {"names": list(_HEAP_SETTINGS)}).values():
        if size := parse_bytes(value):
            limits[name] = size
    if not limits:
        return
    name, limit = min(limits.items(), key=lambda item: item[1])
    if needed > limit:
        raise StoreError(
            f"{changes:,} changes in one transaction need about {needed / 1e6:,.0f} MB of the server's heap, but "
            f"{name} is {limit / 1e6:,.0f} MB. Nothing was written. Raise it (and server.memory.heap.max_size) in "
            "neo4j.conf, or stop the server and import the files of `mmkg export neo4j`."
        )


def parse_bytes(text: str | None) -> int:
    """``1.50GiB``, ``512m`` or ``70%`` of a setting in bytes; 0 where it says no number of bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", (text or "").strip().lower())
    return int(float(match[1]) * _UNITS[match[2]]) if match else 0
