"""The flip: one transaction that changes the graph and switches all readers to it."""

import re
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import neo4j
from neo4j.exceptions import Neo4jError

from mmkg.errors import StoreError
from mmkg.store.neo4j import statements
from mmkg.store.neo4j.batches import Batch
from mmkg.store.neo4j.examine import Job
from mmkg.store.neo4j.lock import LoaderLock, join_bookmarks, taken_over
from mmkg.store.neo4j.node_ids import NodeIds
from mmkg.store.neo4j.state import FLIP, METADATA_KEY

_BYTES_PER_CHANGE = 1_200  # of heap, in one transaction (measured: 1.0 kB a relationship, 2-3 kB a node with text)
_HEAP_SETTINGS = (
    "db.memory.transaction.max",
    "db.memory.transaction.total.max",
    "dbms.memory.transaction.total.max",
    "server.memory.heap.max_size",
)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


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
    parts: Iterable[Generator[Batch]],
    ids: NodeIds,
    state: Mapping[str, Any],
    told: Callable[[Batch], None],
) -> Flipped:
    """Apply batches in one transaction and switch all readers to what it makes.

    Args:
        job: names the server.
        lock: is held.
        load_id: of this loader, which has taken its place (`TAKE_OVER`).
        parts: all that changes, in the order of `all_parts`; made while they are sent.
        ids: gets the numbers of the nodes that are made.
        state: properties of the state node from then on.
        told: each batch that was taken.

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
        for part in parts:
            with closing(part) as batches:
                for batch in batches:
                    _apply(transaction, batch, ids)
                    told(batch)
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


def _apply(transaction: neo4j.Transaction, batch: Batch, ids: NodeIds) -> None:
    [record] = list(transaction.run(batch.statement, {**batch.parameters, "rows": batch.rows}))
    if batch.keys is None:
        batch.check(len(batch.rows), record["done"])
    else:
        batch.check(len(batch.rows), len(record["ids"]))
        ids.add(batch.label, batch.keys, record["ids"])


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
