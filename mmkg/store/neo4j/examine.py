"""What is in the server before a load: what we served, what a killed load left, or what somebody else wrote.

Nothing is written here.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import neo4j

from mmkg.config import StoreConfig
from mmkg.errors import StoreError
from mmkg.store.content import Content, read_content
from mmkg.store.difference import find_difference
from mmkg.store.model import StoreModel
from mmkg.store.neo4j import statements
from mmkg.store.neo4j.foreign import Foreign
from mmkg.store.neo4j.graph_counts import read_counts
from mmkg.store.neo4j.hint import Hint, read_hint, write_hint
from mmkg.store.neo4j.lock import read_bookmark
from mmkg.store.neo4j.read_back import ReadBack, read_back
from mmkg.store.neo4j.state import StoreState, read_state

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
_EXAMPLES = 3
_WORDS = {  # what it takes to mend the store, told as what was done to it
    "nodes_added": "entities missing",
    "nodes_changed": "entities changed",
    "nodes_removed": "entities added",
    "images_added": "pictures missing",
    "images_changed": "pictures changed",
    "images_removed": "pictures added",
    "edges_added": "relationships missing or there twice",
    "edges_changed": "relationships changed",
    "edges_removed": "relationships added or there twice",
    "image_links_added": "links to pictures missing or there twice",
    "image_links_changed": "links to pictures changed",
    "image_links_removed": "links to pictures added or there twice",
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a load is asked to do."""

    content: Content
    config: StoreConfig
    driver: neo4j.Driver
    graph: str
    version: str
    previous: Sequence[Path]
    hint: Path | None
    force: bool
    progress: Progress
    served: Callable[[], None] | None = None
    work: Path
    memory_limit: str

    def session(self, *, write: bool = False) -> neo4j.Session:
        """A session; it only reads unless asked otherwise."""
        mode = neo4j.WRITE_ACCESS if write else neo4j.READ_ACCESS
        return self.driver.session(database=self.config.database, default_access_mode=mode)

    def mark(self) -> str:
        """The server's mark of its last commit."""
        return read_bookmark(self.driver, self.config.database)

    def remember(self, mark: str) -> None:
        """Note that at this mark the server held our build, and nothing else."""
        build = self.content.digest.total
        write_hint(self.hint, Hint(uri=self.config.uri, database=self.config.database, build=build, mark=mark))

    def tell_served(self) -> None:
        """Tell who asked for it that the server's readers get the build now."""
        if self.served is not None:
            self.served()

    def read(self, model: StoreModel, vectors: Mapping[str, tuple[str, ...]]) -> ReadBack:
        """Read all that the server holds."""
        return read_back(
            self.driver,
            self.config.database,
            model,
            self.work / "there",
            vectors=vectors,
            memory_limit=self.memory_limit,
            progress=self.progress,
        )


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a server holds that serves a graph."""

    content: Content
    node_ids: Mapping[str, Path] | None  # None: not read
    foreign: Foreign = field(default_factory=Foreign)
    mark: str  # at which it held this
    proof: str  # marks: nobody has written since we knew | content: it was read


def examine_served(job: Job, state: StoreState) -> Found | None:
    """What the server holds: by its mark from what we know, else read. None where it changed meanwhile: look again.

    Raises:
        StoreError: it is not what was served, and `force` is off.
    """
    mark = job.mark()
    hint = read_hint(job.hint)
    if hint == Hint(uri=job.config.uri, database=job.config.database, build=state.build or "", mark=mark):
        known = known_content(job, state.build)
        if known is not None:
            return Found(content=known, node_ids=None, mark=mark, proof="marks")
    there = job.read(state.model or job.content.model, state.vectors_of)
    tampered = there.content.digest.total != state.build or there.foreign
    if tampered and job.mark() != mark:
        with job.session() as session:
            if read_state(session) != state:
                return None
    if tampered and not job.force:
        raise _tampered(job, state, there)
    if tampered:
        logger.warning("neo4j: force: what somebody else wrote is taken away")
    return Found(content=there.content, node_ids=there.node_ids, foreign=there.foreign, mark=mark, proof="content")


def known_content(job: Job, build: str | None) -> Content | None:
    """The content of a build, if it is the new one or among the previous ones."""
    if build == job.content.digest.total:
        return job.content
    for folder in job.previous:
        try:
            content = read_content(folder)
        except StoreError as error:
            logger.debug("%s", error)
            continue
        if content.digest.total == build:
            return content
    return None


def check_unserved(job: Job, state: StoreState | None) -> bool:
    """Look at a database that serves nothing; returns whether there is anything of somebody else's.

    Raises:
        StoreError: there is, and `force` is off.
    """
    with job.session() as session:
        counts = read_counts(session)
        labels = set(counts.labels) - {*statements.GRAPH_LABELS, *statements.OUR_LABELS}
        others = counts.nodes - counts.ours
        if state is None:  # then entities are not ours either: a load writes it before them, and behind the ledger
            others += sum(counts.labels.get(label, 0) for label in statements.GRAPH_LABELS)
        if not others and not labels:
            return False
        if job.force:
            return True
        found = session.run(statements.SOME_NODES, {"ours": list(statements.OUR_LABELS), "limit": 200_000}).values()
    if state is not None:
        found = [row for row in found if len(row[1]) != 1 or row[1][0] not in statements.GRAPH_LABELS]
    examples = [
        f"number {number} {''.join(':' + name for name in labels) or 'without label'}" for number, labels in found
    ]
    raise StoreError(
        f"{job.config.uri}: the database '{job.config.database}' holds {max(others, len(found)):,} nodes that mmkg did "
        f"not load ({'; '.join(examples[:_EXAMPLES])}). Nothing was changed. Use another server, or load with --force: "
        "it ends with exactly the build."
    )


def _tampered(job: Job, state: StoreState, there: ReadBack) -> StoreError:
    """What somebody else wrote, in counts and examples."""
    parts = there.foreign.describe()
    known = known_content(job, state.build)
    digest = there.content.digest
    if known is not None:
        mending = find_difference(there.content, known, job.work / "tampered", memory_limit=job.memory_limit)
        parts += [f"{count:,} {_WORDS[kind]}" for kind, count in mending.counts.items() if count]
        parts += [f"to mend it: {example}" for example in mending.examples(2)]
    elif digest.total != state.build:
        parts.append(
            f"{digest.num_nodes:,} entities and {digest.num_edges:,} relationships with another content, where "
            f"{state.entities:,} and {state.relationships:,} were loaded"
        )
    return StoreError(
        f"{job.config.uri}: somebody else wrote into this store since it was loaded: {'; '.join(parts)}. Nothing was "
        "changed now. Keep elsewhere what is needed of it, then load with --force: it ends with exactly the build."
    )
