"""One loader at a time, and what a loader knows of other people's writes.

The lock is an open transaction that only reads, with metadata ``{"mmkg": "lock"}``: the server's list of transactions
shows it, and it ends with the process that opened it, whatever happens to that. Of several, that which began first has
the lock. A loader whose connection was lost may not know that it has lost it: so each write also checks `load_id` on a
node that the next loader has taken over (`TAKE_OVER`).
"""

import base64
import binascii
import logging
import os
import socket
import threading
import time
from datetime import UTC, datetime

import neo4j

from mmkg.errors import StoreError
from mmkg.store.neo4j import statements
from mmkg.store.neo4j.state import FLIP, FORMAT, LOCK, METADATA_KEY, running_transactions

logger = logging.getLogger(__name__)

_WAIT_SECONDS = 5.0  # for the transaction of a loader that was just killed to be gone
_ROLLBACK_SECONDS = 120.0  # for a large transaction to be taken back
_POLL_SECONDS = 0.05


def describe_holder() -> str:
    """This process, for another one's message."""
    return f"process {os.getpid()} on {socket.gethostname()} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"


def take_over(session: neo4j.Session, *, load_id: str, holder: str, graph: str, lanes: int = 1) -> None:
    """From here on the server refuses what other loaders, or earlier rounds of ours, may still send.

    Args:
        session: that may write.
        load_id: by which our writes are known from here on.
        holder: who we are, for people.
        graph: that is loaded, if there is none yet.
        lanes: in which batches may be sent at the same time.
    """
    parameters = {"load_id": load_id, "holder": holder, "graph": graph, "format": FORMAT, "lanes": lanes}
    session.run(statements.TAKE_OVER, parameters).consume()


def taken_over() -> StoreError:
    """The error for a loader that finds another one in its place."""
    return StoreError(
        "another loader has taken over this store while the connection was lost. Wait until it has finished, then "
        "run the same again."
    )


class LoaderLock:
    """The lock, from `acquire` to `release` or the end of the process."""

    def __init__(self, driver: neo4j.Driver, database: str, load_id: str) -> None:
        self._driver = driver
        self._database = database
        self._load_id = load_id
        self.holder = describe_holder()
        self._session: neo4j.Session | None = None
        self._transaction: neo4j.Transaction | None = None
        self._one_at_a_time = threading.Lock()  # several lanes may find out that the connection was lost

    def acquire(self) -> None:
        """Take the lock, and end what a loader before has left open.

        Raises:
            StoreError: another loader has it.
        """
        deadline = time.monotonic() + _WAIT_SECONDS
        while True:
            holder = self._try()
            if holder is None:
                break
            if time.monotonic() > deadline:
                raise StoreError(
                    f"another loader is at work on this store: {holder}. Wait until it has finished, or end that "
                    "process; then run the same again."
                )
            time.sleep(_POLL_SECONDS * 4)
        self._end_stale_flips()

    def _try(self) -> str | None:
        """Who has the lock, or None if we have it now."""
        self.release()
        self._session = self._driver.session(database=self._database, default_access_mode=neo4j.READ_ACCESS)
        metadata = {METADATA_KEY: LOCK, "load_id": self._load_id, "holder": self.holder}
        self._transaction = self._session.begin_transaction(metadata=metadata, timeout=0)
        self._transaction.run(statements.NOTHING).consume()  # only now it is in the server's list
        found = [row for row in running_transactions(self._transaction, LOCK) if row.is_alive]
        if not found or found[0].load_id == self._load_id:
            return None
        self.release()
        return found[0].holder

    def ensure(self) -> None:
        """Take the lock again if it was lost with its connection.

        Raises:
            StoreError: another loader has it now.
        """
        with self._one_at_a_time:
            try:
                if self._transaction is not None:
                    self.check()
                    return
            except (neo4j.exceptions.DriverError, neo4j.exceptions.Neo4jError, OSError) as error:
                logger.info("neo4j: the lock was lost (%s); taking it again", type(error).__name__)
            self.acquire()

    def check(self) -> None:
        """Raise the driver's error if the lock was lost with its connection."""
        if self._transaction is not None:
            self._transaction.run(statements.NOTHING).consume()

    def release(self) -> None:
        """Give the lock back; what is lost with its connection is not looked at."""
        session, self._session, self._transaction = self._session, None, None
        if session is not None:
            try:
                session.close()
            except (neo4j.exceptions.DriverError, neo4j.exceptions.Neo4jError, OSError) as error:
                logger.debug("the lock's connection was lost: %s", error)

    def _end_stale_flips(self) -> None:
        """A flip of a loader whose connection was lost may be open still: it would hold what we want to write."""
        deadline = time.monotonic() + _ROLLBACK_SECONDS
        asked: set[str] = set()
        with self._driver.session(database=self._database) as session:
            while stale := running_transactions(session, FLIP):
                for row in stale:
                    if row.transaction_id not in asked and row.is_alive and not row.is_closing:
                        asked.add(row.transaction_id)
                        session.run(statements.TERMINATE_TRANSACTION, {"transaction_id": row.transaction_id}).consume()
                if time.monotonic() > deadline:
                    raise StoreError(
                        f"a loader before ({stale[0].holder}) left the transaction {stale[0].transaction_id} open, and "
                        "it does not end. End that process, or restart the server; then run the same again."
                    )
                time.sleep(_POLL_SECONDS)


def read_bookmark(driver: neo4j.Driver, database: str) -> str:
    """A mark of the last commit of the database: the same as long as nobody commits a write."""
    with driver.session(database=database, default_access_mode=neo4j.READ_ACCESS) as session:
        with session.begin_transaction() as transaction:
            transaction.run(statements.NOTHING).consume()
            transaction.commit()
        return join_bookmarks(session)


def join_bookmarks(session: neo4j.Session) -> str:
    """The mark of the last commit of a session."""
    return ",".join(sorted(session.last_bookmarks().raw_values))


def commits_between(before: str, after: str) -> int | None:
    """How many commits there were, whoever made them, from one mark of a database to a later one; None if not known."""
    first, last = commit_number(before), commit_number(after)
    return None if first is None or last is None else last - first


def commit_number(bookmark: str) -> int | None:
    """The number of the commit that a bookmark stands for; None if it is not of the form that Neo4j 5 writes.

    Two bookmarks of one database whose numbers are n apart have n commits between them, whoever made them. The form is
    not documented: whoever asks must know what to do without.
    """
    text = bookmark.removeprefix("FB:")
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    # PackStream: a list of one; 16 bytes, the database; an integer; an empty list
    if not bookmark.startswith("FB:") or data[:3] != b"\x91\xcc\x10" or data[-1:] != b"\x90":
        return None
    number = data[19:-1]
    sizes = {0xC8: 2, 0xC9: 3, 0xCA: 5, 0xCB: 9}
    if len(number) == 1 and number[0] < 0x80:
        return number[0]
    if number and sizes.get(number[0]) == len(number):
        return int.from_bytes(number[1:], "big", signed=True)
    return None
