"""Asking a Neo4j while it is being rebuilt: an answer is of one build, the old or the new, never of both.

The sequence lock of ``state.py``, seen from the reader. A question is asked; then `flips` is read. If it is what it
was when the reader last knew the store to be stable, nothing was committed between, and the answer stands; so a
question costs one short statement more. If not, the reader waits until the flip is over, reads what is served now, and
asks again. A lost connection or a server that restarts is waited for in the same way, a bounded number of times.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import neo4j
from neo4j.exceptions import DriverError, Neo4jError

from mmkg.config import StoreConfig
from mmkg.errors import MmkgError, OtherBuildServed, StoreError
from mmkg.store.cypher import ONLINE_INDEXES, READ_EDITIONS, READ_SERVED
from mmkg.store.model import StoreModel
from mmkg.store.neo4j.connection import BackOff, explain, is_transient, open_driver
from mmkg.store.neo4j.state import READY, flip_is_running, read_state

logger = logging.getLogger(__name__)

T = TypeVar("T")

_MAX_ASKS = 20  # so many flips during one question, and something is wrong
_FLIP_SECONDS = 300.0  # longest wait for a commit; 150,000 changes take about 4 s
_ATTEMPTS = 10  # with the waits between them, a server has about 40 seconds to come back
_POLL_SECONDS = 0.05
_FETCH_ROWS = 10_000  # a round trip; the driver's own 1,000 is for small memories


@dataclass(frozen=True, kw_only=True)
class Served:
    """What is served, as long as the lock reads the same."""

    lock: tuple[int, str, str | None]  # flips, state, build
    build: str
    model: StoreModel
    relation_ids: dict[str, str]
    indexes: frozenset[str]  # that can be asked


Question = Callable[[neo4j.Session, Served], T]


class Reader:
    """Asks questions of one server, each of one build; may be used from several threads."""

    def __init__(self, config: StoreConfig, *, build: str | None, password: str | None = None) -> None:
        self.config = config
        self._build = build
        self._driver: neo4j.Driver | None = open_driver(config, password=password)
        self._served: Served | None = None
        self._lists_all: bool | None = None  # transactions of all users; asked when it is needed

    def close(self) -> None:
        """Close all connections; closing twice is allowed."""
        driver, self._driver = self._driver, None
        if driver is not None:
            driver.close()

    def ask(self, question: Question[T]) -> T:
        """The answer to a question, which may be several queries, of one build.

        Args:
            question: is called with a session that may only read; again when the graph was flipped under it.

        Raises:
            StoreError: nothing is served, another build than asked for, the server is gone, or it flips for ever.
        """
        back_off = BackOff(attempts=_ATTEMPTS, first_seconds=0.25)
        asks = 0
        while asks < _MAX_ASKS:
            try:
                with self._session() as session:
                    asks += 1
                    served = self._served or self._wait_until_stable(session)
                    answer, wrong = _try(question, session, served)
                    if _read_lock(session) == served.lock:
                        self._served = served
                        if wrong is not None:
                            raise wrong
                        return answer  # type: ignore[return-value]  # there is one where nothing went wrong
                    self._served = None
                    logger.info("the graph was rebuilt during a question: it is asked again")
            except (DriverError, Neo4jError, OSError) as error:
                self._served = None
                if not is_transient(error):
                    raise explain(error, self.config) from error
                logger.info("%s: waiting for the server: %s", self.config.uri, str(error).partition("\n")[0])
                if not back_off.wait():
                    raise explain(error, self.config) from error
        raise StoreError(f"{self.config.uri}: the graph was rebuilt {asks} times during one question. Ask again later.")

    def served(self) -> Served:
        """What is served now."""
        return self.ask(lambda _, served: served)

    def _session(self) -> neo4j.Session:
        if self._driver is None:
            raise StoreError("the store is closed; open it again")
        return self._driver.session(
            database=self.config.database,
            default_access_mode=neo4j.READ_ACCESS,
            fetch_size=_FETCH_ROWS,
            notifications_min_severity="WARNING",
        )

    def _wait_until_stable(self, session: neo4j.Session) -> Served:
        """What is served once no commit is on its way."""
        end = time.monotonic() + _FLIP_SECONDS
        while True:
            lock = _read_lock(session)
            if lock is None or lock[1] != READY:
                raise self._nothing_served(lock)
            if lock[0] % 2 == 0 or self._flip_is_over(session):
                state = read_state(session)
                if state is not None and (state.flips, state.state, state.build) == lock:
                    indexes = frozenset(name for (name,) in session.run(ONLINE_INDEXES).values())
                    return self._check(lock, state.version or "", state.model, indexes)
            if time.monotonic() > end:
                raise StoreError(
                    f"{self.config.uri}: a new build has been on its way for {_FLIP_SECONDS:g} seconds: its commit is "
                    "not over, or its loader was killed. `SHOW TRANSACTIONS` on the server lists what runs; where no "
                    "loader is at work, run `mmkg build` again, which ends it."
                )
            time.sleep(_POLL_SECONDS)

    def _flip_is_over(self, session: neo4j.Session) -> bool:
        """With an odd `flips`: whether its loader was killed, and no commit is on its way.

        The server's list of transactions tells; but for Community, it may leave out those of other users.
        """
        if self._lists_all is None:
            [[editions]] = session.run(READ_EDITIONS).values()
            self._lists_all = "community" in editions
        return self._lists_all and not flip_is_running(session)

    def _check(
        self, lock: tuple[int, str, str | None], version: str, model: StoreModel | None, indexes: frozenset[str]
    ) -> Served:
        if lock[2] is None or model is None:
            raise StoreError(f"{self.config.uri}: the state node (:MmkgStore) lacks its build or model. Load it again.")
        if self._build is not None and lock[2] != self._build:
            raise OtherBuildServed(
                f"{self.config.uri}: expected build {self._build[:12]}, found {lock[2][:12]} (version {version}). "
                "A server holds one version at a time: ask that one, or bring the server to this one with "
                "`mmkg rollback` or `mmkg build`."
            )
        relation_ids = model.relation_ids()
        return Served(lock=lock, build=lock[2], model=model, relation_ids=relation_ids, indexes=indexes)

    def _nothing_served(self, lock: tuple[int, str, str | None] | None) -> StoreError:
        if lock is None:
            return StoreError(
                f"{self.config.uri}: no graph of mmkg in the database '{self.config.database}'. "
                "`mmkg build CONFIG` with this store.uri loads one."
            )
        return StoreError(
            f"{self.config.uri}: nothing is served yet: the first load is not finished (state '{lock[1]}'). "
            "Wait for it; if it was killed, run `mmkg build` again."
        )


def _try(question: Question[T], session: neo4j.Session, served: Served) -> tuple[T | None, MmkgError | None]:
    """The answer, or the error that it ended with: also an error is of one build, or is none."""
    try:
        return question(session, served), None
    except MmkgError as error:
        return None, error


def _read_lock(session: neo4j.Session) -> tuple[int, str, str | None] | None:
    rows = session.run(READ_SERVED).values()
    return (rows[0][0], rows[0][1], rows[0][2]) if rows else None
