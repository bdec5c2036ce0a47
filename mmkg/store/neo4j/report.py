"""What a load does and did: told while it works, and gathered on the way."""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from mmkg.store.difference import Difference
from mmkg.store.neo4j.batches import Batch
from mmkg.store.neo4j.examine import Job, Progress
from mmkg.store.neo4j.foreign import Foreign

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Neo4jLoadReport:
    """What a load did."""

    graph: str
    build: str  # digest of the content that is served now
    how: str  # unchanged | renamed (a version of the same content) | loaded (nothing was served before) | flipped
    proof: str  # that the server holds the build: marks (nobody else has written) | content (read back, same digest)
    entities: int
    relationships: int
    images: int
    image_links: int
    changes: Mapping[str, int]  # nodes_added, nodes_changed, … as in `Difference.counts`, of all rounds
    foreign: Mapping[str, int]  # what was taken away because no build of ours can hold it, by kind
    migrations: tuple[str, ...]  # that were run
    retries: int  # after lost connections and the like
    commit_seconds: float  # while readers waited; 0 without a flip
    seconds: Mapping[str, float] = field(default_factory=dict)  # by step


class Tally:
    """Counts and times of a load that is at work."""

    def __init__(self) -> None:
        self.how = "unchanged"
        self.migrations: tuple[str, ...] = ()
        self.retries = 0
        self.commit_seconds = 0.0
        self.foreign: dict[str, int] = {}
        self._changes: dict[str, int] = {}
        self._seconds: dict[str, float] = {}

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the time of a ``with`` block to a step."""
        started = time.monotonic()
        yield
        self._seconds[step] = round(self._seconds.get(step, 0.0) + time.monotonic() - started, 3)

    def note(self, difference: Difference, foreign: Foreign) -> None:
        """Count what was applied."""
        for counted, counts in ((self._changes, difference.counts), (self.foreign, foreign.counts)):
            for kind, count in counts.items():
                counted[kind] = counted.get(kind, 0) + count

    def report(self, job: Job, proof: str) -> Neo4jLoadReport:
        """All of it; the server holds the build now."""
        digest = job.content.digest
        report = Neo4jLoadReport(
            graph=job.graph,
            build=digest.total,
            how=self.how,
            proof=proof,
            entities=digest.num_nodes,
            relationships=digest.num_edges,
            images=digest.num_images,
            image_links=digest.num_image_links,
            changes={kind: count for kind, count in self._changes.items() if count},
            foreign=self.foreign,
            migrations=self.migrations,
            retries=self.retries,
            commit_seconds=round(self.commit_seconds, 3),
            seconds=self._seconds,
        )
        logger.info(
            "neo4j: %s, %s entities, %s relationships, %s pictures (%s)",
            report.how,
            f"{report.entities:,}",
            f"{report.relationships:,}",
            f"{report.images:,}",
            ", ".join(f"{step} {seconds:.1f} s" for step, seconds in report.seconds.items()),
        )
        return report


class Told:
    """Progress of a difference, batch by batch."""

    def __init__(self, progress: Progress, difference: Difference, foreign: Foreign) -> None:
        self._progress = progress
        self._total = difference.num_changes + foreign.num_rows
        self._done = 0

    def __call__(self, batch: Batch) -> None:
        """Count a batch that the server has."""
        self._done += len(batch.rows)
        self._progress(batch.what, self._done, self._total)
