"""From candidates to bytes: what is due is asked for or read, and kept with every attempt in the library of the graph.

The way of a picture here: an address of `image_candidates` → whether it is due (`library`) → the web (`fetch`) or a
folder (`local`) → an attempt, with bytes or without → a shard on disk (`recorder`). The same call again goes on where
a killed one stopped, and asks for nothing that is here.
"""

import contextlib
import datetime
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from mmkg.config import ImagesConfig
from mmkg.images import local
from mmkg.images.fetch import Fetcher, check_who_asks, open_client
from mmkg.images.library import FOLDER_SCHEME, PictureLibrary, Retry
from mmkg.images.pages import PageFinder, has_page
from mmkg.images.politeness import host_of
from mmkg.images.recorder import ATTEMPTS_PER_SHARD, BYTES_PER_SHARD, Attempt, Backlog, Recorder

Progress = Callable[[str, int, int | None], None]  # what, addresses done, addresses in all

_PROGRESS_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class CollectReport:
    """What one run did."""

    num_urls: int  # addresses of the candidates, each once
    num_due: int  # of them, those that were to be asked for; of folders all, as each file is looked at
    statuses: Mapping[str, int]  # of those that were asked for and are done
    num_attempts: int  # rows of the ledger; an address that failed in passing has several
    num_hosts: int  # of the web, that what is due names
    num_new_pictures: int  # contents that were not here
    new_bytes: int  # of them
    received_bytes: int  # that came, those of failures and headers too
    seconds: float

    def __str__(self) -> str:
        """One line for a person."""
        counts = sorted(self.statuses.items(), key=lambda pair: (-pair[1], pair[0]))
        said = ", ".join(f"{count:,} {status}" for status, count in counts) or "nothing to do"
        return (
            f"{self.num_urls:,} addresses, {self.num_due:,} due of {self.num_hosts:,} hosts: {said}; "
            f"{self.num_new_pictures:,} new pictures, {self.new_bytes / 1e6:,.1f} MB in {self.seconds:,.0f} s"
        )


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def collect(
    images: ImagesConfig,
    contact: str,
    candidates: pa.Table,
    library: PictureLibrary,
    *,
    retry: Retry = "",
    progress: Progress | None = None,
    now: Callable[[], datetime.datetime] = _now,
    attempts_per_shard: int = ATTEMPTS_PER_SHARD,
    bytes_per_shard: int = BYTES_PER_SHARD,
) -> CollectReport:
    """Get the pictures of candidates that are not here, or are old, into the library.

    One process at a time may do this with a library. A kill at any moment costs the attempts of one shard, which are
    made again by the next call; an interrupt (Ctrl-C) keeps all that has come.

    Args:
        images: how politely, how much, where the folders are.
        contact: for the User-Agent: who owns this machine's requests.
        candidates: columns of `mmkg.tables.IMAGE_CANDIDATES`, of which ``url`` is read.
        library: of the graph.
        retry: as in `PictureLibrary.choose_due`.
        progress: called with ``images``, the addresses done and those in all, once a second at most.
        now: the time, with its zone.
        attempts_per_shard: what is begun and not on disk, at most.
        bytes_per_shard: of pictures, likewise; more is let in only by requests that are under way.

    Raises:
        FetchError: a server is to be asked, and there is no contact.
    """
    began = time.monotonic()
    urls = candidates["url"].unique()
    is_local = pc.starts_with(urls, FOLDER_SCHEME)
    files = urls.filter(is_local).to_pylist()
    web = urls.filter(pc.invert(is_local)).to_pylist()
    wanted = [url for url in web if has_page(url)] if images.fetch.wikimedia_metadata else []
    due = library.choose_due(web, refresh_days=images.fetch.refresh_days, now=now(), retry=retry, page_wanted=wanted)
    check_who_asks(images.fetch, contact, due["url"])
    library.remove_leftovers()
    backlog = Backlog(attempts_per_shard, bytes_per_shard)
    recorder = Recorder(library, backlog)
    tell = _Teller(progress, total=len(files) + due.num_rows)
    try:
        for attempt in local.read_local(images, files, library, backlog, retry=retry, now=now):
            recorder.add(attempt)
            tell(recorder.num_done)
        recorder.flush()
        as_they_were = len(files) - recorder.num_done
        # Closed here: as long as somebody holds the exception, nobody else would end the threads that ask.
        with contextlib.closing(_fetch(images, contact, due, backlog, now)) as attempts:
            for attempt in attempts:
                recorder.add(attempt)
                tell(as_they_were + recorder.num_done)
    finally:
        recorder.flush()
    tell(tell.total, at_once=True)
    return CollectReport(
        num_urls=len(urls),
        num_due=tell.total,
        statuses=dict(recorder.statuses),
        num_attempts=recorder.num_attempts,
        num_hosts=len({host_of(url) for url in due["url"].to_pylist()} - {""}),
        num_new_pictures=recorder.num_new_pictures,
        new_bytes=recorder.new_bytes,
        received_bytes=recorder.received,
        seconds=time.monotonic() - began,
    )


def _fetch(
    images: ImagesConfig, contact: str, due: pa.Table, backlog: Backlog, now: Callable[[], datetime.datetime]
) -> Generator[Attempt, None, None]:
    if not due.num_rows:
        return
    pages = None
    if images.fetch.wikimedia_metadata:
        pages = PageFinder(due["url"], width_px=images.wikimedia_width_px, attempts=images.fetch.attempts)
    with open_client(images.fetch, contact) as client:
        fetcher = Fetcher(images.fetch, client, backlog, now=now, pages=pages)
        with contextlib.closing(fetcher.fetch(due)) as attempts:
            yield from attempts


class _Teller:
    """Calls the progress of the caller, not too often."""

    def __init__(self, progress: Progress | None, *, total: int) -> None:
        self._progress = progress
        self._told_at = -_PROGRESS_SECONDS
        self.total = total

    def __call__(self, num_done: int, *, at_once: bool = False) -> None:
        if self._progress is not None and (at_once or time.monotonic() - self._told_at >= _PROGRESS_SECONDS):
            self._told_at = time.monotonic()
            self._progress("images", num_done, self.total)
