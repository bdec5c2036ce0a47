"""Attempts on their way to disk: gathered into shards, bytes first, so that a kill costs one shard at most.

The backlog is what was begun and is not on disk yet. It never holds more addresses than a shard has, and no request is
begun while it holds a shard's bytes: that bounds the memory, and what a killed run asks for again.
"""

import dataclasses
import datetime
import logging
import threading
import time
from collections import Counter

import pyarrow as pa

from mmkg.images.library import PictureLibrary
from mmkg.tables import IMAGE_ATTEMPTS, IMAGE_BYTES

logger = logging.getLogger(__name__)

ATTEMPTS_PER_SHARD = 512
BYTES_PER_SHARD = 32 * 1024 * 1024


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One row of the ledger, and the picture that it got; the names are those of `IMAGE_ATTEMPTS`."""

    url: str
    tried_at: datetime.datetime
    status: str
    kind: str
    detail: str = ""
    http_status: int | None = None
    final_url: str | None = None
    sha256: str | None = None
    received: int = 0  # column `bytes`
    seconds: float = 0.0
    etag: str | None = None
    last_modified: str | None = None
    content_type: str | None = None
    licence: str | None = None
    author: str | None = None
    source_page: str | None = None
    is_last: bool = True  # False: the address is asked again in this run
    body: bytes = b""  # with `sha256`, where the picture came now
    format: str = ""


class Backlog:
    """How much has been begun and is not on disk; thread-safe.

    Args:
        max_attempts: addresses in it, at most.
        max_bytes: of pictures in it; what is on its way while they are reached is let in.
    """

    def __init__(self, max_attempts: int = ATTEMPTS_PER_SHARD, max_bytes: int = BYTES_PER_SHARD) -> None:
        self.max_attempts = max_attempts
        self.max_bytes = max_bytes
        self._attempts = 0
        self._bytes = 0
        self._is_stopped = False
        self._changed = threading.Condition()

    def begin(self) -> bool:
        """Wait for room for one more attempt; False after `stop`."""
        with self._changed:
            while not self._is_stopped and (self._attempts >= self.max_attempts or self._bytes >= self.max_bytes):
                self._changed.wait()
            self._attempts += 1
            return not self._is_stopped

    def came(self, num_bytes: int) -> None:
        """Note the bytes of a picture that came."""
        with self._changed:
            self._bytes += num_bytes

    def end(self, attempts: int, num_bytes: int = 0) -> None:
        """Note that attempts are on disk, or will not be made."""
        with self._changed:
            self._attempts -= attempts
            self._bytes -= num_bytes
            self._changed.notify_all()

    def stop(self) -> None:
        """Let nothing more begin."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()


class Recorder:
    """Writes attempts and pictures into a library; of one thread.

    A shard is written when half of the backlog has come: the other half is under way meanwhile.
    """

    def __init__(self, library: PictureLibrary, backlog: Backlog) -> None:
        self._library = library
        self._backlog = backlog
        self._known = {bytes.fromhex(key) for key in library.served.keys().to_pylist()}
        self._gathered: list[Attempt] = []
        self._bytes = 0
        self._number = len(library.attempts.parts())
        self._began = time.monotonic()
        self.statuses: Counter[str] = Counter()  # of the addresses that are done
        self.num_attempts = 0
        self.num_new_pictures = 0
        self.received = 0  # bytes
        self.new_bytes = 0

    @property
    def num_done(self) -> int:
        """Addresses that are not asked again in this run."""
        return self.statuses.total()

    def add(self, attempt: Attempt) -> None:
        """Take an attempt that was begun in the backlog; may write a shard."""
        self._gathered.append(attempt)
        self._bytes += len(attempt.body)
        self.num_attempts += 1
        self.received += attempt.received
        if attempt.is_last:
            self.statuses[attempt.status] += 1
        half = max(1, self._backlog.max_attempts // 2)
        if len(self._gathered) >= half or self._bytes >= self._backlog.max_bytes // 2:
            self.flush()

    def flush(self) -> None:
        """Write what has come as one shard."""
        gathered, num_bytes = self._gathered, self._bytes
        if not gathered:
            return
        new = {
            attempt.sha256: attempt
            for attempt in gathered
            if attempt.body and attempt.sha256 and bytes.fromhex(attempt.sha256) not in self._known
        }
        served = pa.table(
            {
                "sha256": list(new),
                "format": [attempt.format for attempt in new.values()],
                "bytes": [attempt.body for attempt in new.values()],
            },
            schema=IMAGE_BYTES,
        )
        self._library.commit(_to_rows(gathered), served)
        self._known.update(bytes.fromhex(key) for key in served["sha256"].to_pylist())
        self.num_new_pictures += served.num_rows
        self.new_bytes += sum(len(attempt.body) for attempt in new.values())
        self._gathered, self._bytes = [], 0
        self._backlog.end(len(gathered), num_bytes)
        now = time.monotonic()
        logger.info("images %05d: %s in %.0f s", self._number, _in_words(gathered), now - self._began)
        self._number += 1
        self._began = now


def _to_rows(attempts: list[Attempt]) -> pa.Table:
    columns = {
        name: [getattr(attempt, "received" if name == "bytes" else name) for attempt in attempts]
        for name in IMAGE_ATTEMPTS.names
    }
    return pa.table(columns, schema=IMAGE_ATTEMPTS)


def _in_words(attempts: list[Attempt]) -> str:
    counts = Counter(attempt.status for attempt in attempts)
    return ", ".join(
        f"{count:,} {status}" for status, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    )
