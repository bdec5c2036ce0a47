"""Bring a Neo4j server, Community edition too, to a build: readers see the old graph or the new one, never a mixture.

Community has one database and no roles, so there is no second database to switch to. What is done instead:

- *Nothing is served yet* (the first load, or files were imported): batches in many transactions over several
  connections (`lanes.py`). The state node says ``loading`` until all was read back and its digest is the build's;
  readers are told that nothing is served yet.
- *A graph is served*: the difference between it and the new one (entities, pictures and relationships added, changed,
  removed) is applied in **one** transaction, which also names the new build. Killed at any moment, the server takes it
  back. Because Neo4j's readers may see a commit half done, a sequence lock around the commit lets them notice
  (`state.py`); those of `open_neo4j` ask again. Raw Cypher from elsewhere sees the old or the new graph, except during
  the commit.

What it costs: one transaction needs about 1.2 kB of the server's heap a change, so that is estimated and refused,
before anything is written, where the server's settings do not allow it; and readers wait during the commit (measured on
2 shared cores, 300 k relationships: 0.1-0.2 s for 3 k changes, 0.7-1.2 s for 30 k). No fact carries a version, and no
question has to filter by one.

Going back to an earlier build is the same load, of that build's content.

Interrupted at any moment and started again, it ends with the same content: what is there is looked at first, and only
what differs is written. It is not read where that is proved needless: a file beside the build (`hint`) keeps the
server's mark of its last commit after our last write; the same mark now, and nobody has written. After a flip, the
marks' numbers tell whether all commits between were ours; otherwise everything is read back and compared. Whatever
somebody else wrote is found by one of the two, and never overwritten without `force`.
"""

import dataclasses
import json
import logging
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from neo4j.exceptions import DriverError, Neo4jError

from mmkg.config import StoreConfig
from mmkg.errors import StoreError
from mmkg.shards import PARTIAL_SUFFIX
from mmkg.store.content import Content
from mmkg.store.difference import Difference, find_difference
from mmkg.store.migrations import pending_migrations, read_migrations, repeat_migrations, run_migrations
from mmkg.store.neo4j import statements
from mmkg.store.neo4j.batches import Batch, all_parts
from mmkg.store.neo4j.connection import BackOff, explain, is_transient, open_driver
from mmkg.store.neo4j.examine import Found, Job, Progress, check_unserved, examine_served
from mmkg.store.neo4j.flip import check_heap, flip, write_state
from mmkg.store.neo4j.foreign import Foreign
from mmkg.store.neo4j.hint import remove_hint
from mmkg.store.neo4j.lanes import BatchSize, Lanes
from mmkg.store.neo4j.local import ENGINE_ERRORS, explain_local
from mmkg.store.neo4j.lock import LoaderLock, commits_between, take_over
from mmkg.store.neo4j.node_ids import NodeIds
from mmkg.store.neo4j.read_back import ReadBack, has_constraints
from mmkg.store.neo4j.report import Neo4jLoadReport, Tally, Told
from mmkg.store.neo4j.state import FORMAT, IMPORTED, LOADING, READY, StoreState, read_state

logger = logging.getLogger(__name__)

_ROUNDS = 5  # of reading, comparing and writing, until nothing differs
_ATTEMPTS = 14  # without progress, with waits up to ten seconds: a server may be restarted meanwhile
_FLIP_COMMITS = 4  # of ours: taking the place, `flips` odd, the flip itself, `flips` even
_RENAME_COMMITS = 2  # of ours: taking the place, the name


def load_neo4j(
    content: Content,
    config: StoreConfig,
    *,
    graph: str,
    version: str,
    previous: Sequence[Path] = (),
    hint: Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
    served: Callable[[], None] | None = None,
    work_folder: Path | None = None,
    memory_limit: str = "2GB",
) -> Neo4jLoadReport:
    """Make a Neo4j server hold and serve a build; the same call again is the recovery, the update and the rollback.

    Args:
        content: of the build.
        config: names the server.
        graph: name of the graph; a server that serves one of another name is refused.
        version: name of the build's version, for people.
        previous: folders of contents that the server may hold: with `hint`, its content need not be read.
        hint: file in which this function remembers the server's mark after its last write.
        force: what somebody else wrote is removed, and a graph of another name replaced.
        progress: told what is being done, how many rows of it are done, and how many there are.
        served: called as soon as the server's readers get the build, which may be long before it is also proved, or
            when it is found that they do; in any case before this function returns, and maybe more than once.
        work_folder: for what is read back; a folder beside the content unless given. It is removed.
        memory_limit: of the relational engine.

    Raises:
        StoreError: somebody else wrote into the store, another loader is at work, the server cannot be reached,
            refuses something, or has too little memory for the change; or this machine's disk, folders or memory
            do not do.
    """
    work = work_folder or content.folder.with_name(f"{content.folder.name}-neo4j{PARTIAL_SUFFIX}")
    driver = open_driver(config)
    try:
        job = Job(
            content=content,
            config=config,
            driver=driver,
            graph=graph,
            version=version,
            previous=previous,
            hint=hint,
            force=force,
            progress=progress or _tell_nobody,
            served=served,
            work=work,
            memory_limit=memory_limit,
        )
        work.mkdir(parents=True, exist_ok=True)
        return _Load(job).run()
    except (DriverError, Neo4jError, OSError, *ENGINE_ERRORS) as error:
        raise explain_local(error, work, memory_limit) or explain(error, config) from error
    finally:
        driver.close()
        shutil.rmtree(work, ignore_errors=True)


def _tell_nobody(what: str, done: int, total: int) -> None:
    """Progress that nobody asked for."""


class _ChangedError(Exception):
    """The store is not as it was a moment ago: another round."""


class _Load:
    """One call of `load_neo4j`: rounds until the store holds the build and serves it."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._build = job.content.digest.total
        self._lock = LoaderLock(job.driver, job.config.database, uuid.uuid4().hex)
        self._migrations = read_migrations("neo4j")
        self._place = ""  # what the writes of this round are known by
        self._tally = Tally()
        self._progressed = False

    def run(self) -> Neo4jLoadReport:
        """A few rounds; a lost connection begins another one, as long as there is progress."""
        back_off = BackOff(attempts=_ATTEMPTS)
        rounds = 0
        try:
            while rounds < _ROUNDS:
                try:
                    report = self._round()
                    if report is not None:
                        return report
                    changed = "what was read back differs from what was written"
                    rounds += 1
                except _ChangedError as error:
                    changed = str(error)
                    rounds += 1
                except (DriverError, Neo4jError, OSError) as error:
                    if self._progressed:
                        back_off.reset()
                        self._progressed = False
                    if not is_transient(error) or not back_off.wait():
                        raise
                    self._tally.retries += 1
                    logger.info("neo4j: the connection was lost (%s); looking at what is there", type(error).__name__)
                    self._lock.release()
            raise StoreError(
                f"{self._job.config.uri}: after {rounds} rounds the store is not as it was written ({changed}). "
                "Somebody else writes into it; stop that, then run the same again."
            )
        finally:
            self._lock.release()

    def _round(self) -> Neo4jLoadReport | None:
        """One look and what follows from it; None when there is to be another one."""
        job = self._job
        state = self._state()
        if state is not None and state.flipping:
            # killed, or its answer was lost: it must be over before anything is read
            self._lock.ensure()
            state = self._state()
        if state is not None and state.graph != job.graph and not job.force:
            raise StoreError(
                f"{job.config.uri}: serves the graph '{state.graph}', not '{job.graph}'. Load into another server, or "
                "replace it with --force."
            )
        if state is not None and state.flipping:
            # no commit is on its way any more; left odd, readers would wait for as long as the next flip is prepared
            self._take_place()
            self._write_state(statements.END_FLIP)
            state = self._state()
        if state is not None and state.is_served:
            return self._update(state)
        return self._load(state)

    def _state(self) -> StoreState | None:
        with self._job.session() as session:
            try:
                return read_state(session)
            except StoreError as error:
                if not self._job.force:
                    raise
                logger.warning("neo4j: force: the state node is made new: %s", error)
        self._lock.ensure()
        with self._job.session(write=True) as session:
            session.run(statements.REMOVE_STATE).consume()
        return None

    # --- a graph is served -------------------------------------------------------------------------------------------

    def _update(self, state: StoreState) -> Neo4jLoadReport | None:
        is_ours = (state.build, state.graph) == (self._build, self._job.graph)
        if is_ours:
            self._job.tell_served()  # of a commit whose answer was lost, or whose loader was killed, nobody was told
        with self._tally.timed("look"):
            found = examine_served(self._job, state)
        if found is None:
            raise _ChangedError("another loader wrote")
        is_same = is_ours and found.content.digest.total == self._build
        if is_same and not found.foreign and not self._pending():
            if state.version != self._job.version:
                return self._rename(state, found)
            if found.proof == "content" and self._job.mark() == found.mark:
                self._job.remember(found.mark)
            return self._tally.report(self._job, found.proof)
        self._begin(state)
        if is_same and not found.foreign:
            self._migrate(again=True)  # there are new ones, or somebody dropped the constraint
            return None
        return self._flip(state, found)

    def _rename(self, state: StoreState, found: Found) -> Neo4jLoadReport:
        """Another version with the very same content: only what it is called is written."""
        self._begin(state)
        self._take_place()
        self._tally.how = "renamed"
        bookmark = self._write_state(statements.SET_STATE, {"version": self._job.version})
        if commits_between(found.mark, bookmark) == _RENAME_COMMITS:
            self._job.remember(bookmark)
        return self._tally.report(self._job, found.proof)

    def _flip(self, state: StoreState, found: Found) -> Neo4jLoadReport | None:
        job = self._job
        with self._tally.timed("compare"):
            difference = self._difference(found.content)
        with job.session() as session:
            check_heap(session, difference.num_changes + sum(found.foreign.counts.values()))
        remove_hint(job.hint)
        size = BatchSize(job.config.max_batch_rows)
        with NodeIds(job.work, memory_limit=job.memory_limit) as ids:
            with self._tally.timed("look up"):
                if found.node_ids is not None:
                    ids.add_files(found.node_ids)
                else:
                    with job.session() as session:
                        ids.look_up(session, difference)
            self._take_place()
            self._tally.how = "flipped"
            parts = all_parts(difference, job.content, found.foreign, ids, size)
            told = Told(job.progress, difference, found.foreign)
            with self._tally.timed("flip"):
                flipped = flip(job, self._lock, self._place, parts, ids, self._served_values(state), told)
        job.tell_served()
        self._tally.note(difference, found.foreign)
        self._tally.commit_seconds += flipped.commit_seconds
        if found.proof == "marks" and commits_between(found.mark, flipped.bookmark) == _FLIP_COMMITS:
            job.remember(flipped.bookmark)
            return self._tally.report(self._job, "marks")
        return None  # a new type or property name is a commit of its own; or somebody wrote: read it back

    # --- nothing is served yet ---------------------------------------------------------------------------------------

    def _load(self, state: StoreState | None) -> Neo4jLoadReport | None:
        job = self._job
        others = check_unserved(job, state)
        is_theirs = others and state is None
        self._begin(state, migrate=not is_theirs)
        if is_theirs:  # before the constraints, which other people's nodes may not meet
            self._empty()
            self._migrate()
        self._tally.how = "loaded"
        self._take_place()
        if state is not None and state.state == IMPORTED:
            with job.session(write=True) as session:
                session.run(statements.FILL_EMPTY_LISTS, {"rows": job.config.max_batch_rows}).consume()
        self._write_state(
            statements.SET_STATE, {"state": LOADING, "graph": job.graph, "model": _model_json(job.content)}
        )
        found: ReadBack | None = None
        is_empty = state is None
        for _ in range(_ROUNDS):
            mark = job.mark()
            if not is_empty:
                with self._tally.timed("read back"):
                    found = job.read(job.content.model, state.vectors_of if state is not None else {})
            is_empty = False
            with self._tally.timed("compare"):
                difference = self._difference(None if found is None else found.content)
            foreign = Foreign() if found is None else found.foreign
            if found is not None and difference.is_empty and not foreign:
                bookmark = self._write_state(statements.SET_STATE, self._served_values(state))
                job.tell_served()
                if commits_between(mark, bookmark) == 1:
                    job.remember(bookmark)
                return self._tally.report(self._job, "content")
            self._take_place()
            self._write(difference, foreign, None if found is None else found.node_ids)
        raise _ChangedError("what was read back differs from what was written")

    def _empty(self) -> None:
        """Take away all that is not ours, in batches: nobody is served by us yet."""
        logger.warning("neo4j: force: the database is emptied of what mmkg did not load")
        parameters = {"rows": self._job.config.max_batch_rows, "ours": list(statements.OUR_LABELS)}
        with self._job.session(write=True) as session:
            while removed := session.run(statements.REMOVE_ALL, parameters).single(strict=True)["removed"]:
                self._tally.foreign["nodes"] = self._tally.foreign.get("nodes", 0) + removed
                self._progressed = True

    def _write(self, difference: Difference, foreign: Foreign, node_ids: Mapping[str, Path] | None) -> None:
        job = self._job
        size = BatchSize(job.config.max_batch_rows)
        lanes = Lanes(job, self._lock, self._place, size, lambda: BackOff(attempts=_ATTEMPTS))
        told = Told(job.progress, difference, foreign)

        def done(batch: Batch) -> None:
            self._progressed = True
            told(batch)

        with NodeIds(job.work, memory_limit=job.memory_limit) as ids, self._tally.timed("write"):
            if node_ids is not None:
                ids.add_files(node_ids)
            try:
                for part in all_parts(difference, job.content, foreign, ids, size):
                    with closing(part) as batches:
                        lanes.write(batches, ids, done)
            finally:
                self._tally.retries += lanes.retries
        self._tally.note(difference, foreign)

    # --- both --------------------------------------------------------------------------------------------------------

    def _begin(self, state: StoreState | None, *, migrate: bool = True) -> None:
        """Take the lock, see that nobody has written since we looked, and bring the schema up to date."""
        self._lock.ensure()
        if self._state() != state:
            raise _ChangedError("another loader wrote")
        if migrate:
            self._migrate()

    def _migrate(self, *, again: bool = False) -> None:
        with self._job.session(write=True) as session, self._tally.timed("migrate"):
            if again and not has_constraints(session):
                repeat_migrations(session, self._migrations)
            ran = run_migrations(session, self._migrations)
            if ran:  # a new name is a commit of its own, which the marks' numbers must not count as somebody's
                for name in StoreState.__dataclass_fields__:
                    session.run(statements.MAKE_NAME, {"name": name}).consume()
            self._tally.migrations += ran

    def _pending(self) -> bool:
        with self._job.session() as session:
            return bool(pending_migrations(session, self._migrations)) or not has_constraints(session)

    def _take_place(self) -> None:
        """From here on the server refuses what earlier loaders, or rounds of ours, may still send."""
        self._place = uuid.uuid4().hex
        with self._job.session(write=True) as session:
            take_over(
                session,
                load_id=self._place,
                holder=self._lock.holder,
                graph=self._job.graph,
                lanes=self._job.config.connections,
            )

    def _write_state(self, statement: str, values: Mapping[str, Any] | None = None) -> str:
        return write_state(self._job, statement, self._place, values)

    def _difference(self, there: Content | None) -> Difference:
        job = self._job
        return find_difference(there, job.content, job.work / "difference", memory_limit=job.memory_limit)

    def _served_values(self, before: StoreState | None) -> dict[str, Any]:
        content = self._job.content
        return {
            "graph": self._job.graph,
            "build": self._build,
            "version": self._job.version,
            "state": READY,
            "model": _model_json(content),
            "entities": content.digest.num_nodes,
            "relationships": content.digest.num_edges,
            "loaded_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "format": FORMAT,
            "images": content.digest.num_images,
            "image_links": content.digest.num_image_links,
            "vectors": list(before.vectors) if before is not None else [],
            "image_vectors": list(before.image_vectors) if before is not None else [],
        }


def _model_json(content: Content) -> str:
    return json.dumps(dataclasses.asdict(content.model), ensure_ascii=False)
