"""Fetch one file: only if it has changed, going on where an earlier attempt ended, from a mirror if need be.

An attempt that brought more bytes than a new attempt fetches twice does not count as a failure: a file of a day's
transfer over a line that breaks every hour arrives.
"""

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from mmkg.errors import FetchError
from mmkg.web import manners, partial
from mmkg.web.exchange import Exchange, Progress, Taken
from mmkg.web.manners import Refused, StartAgain, Transient, Unreachable, shown_url
from mmkg.web.partial import Record
from mmkg.web.validators import Checksum

logger = logging.getLogger(__name__)

Outcome = Literal["fetched", "resumed", "mirror", "unchanged", "kept"]
_MAX_STARTS_AGAIN = 2  # at one address


@dataclasses.dataclass(frozen=True, kw_only=True)
class Download:
    """What became of one file."""

    url: str  # as asked, without password
    path: Path  # of the file
    outcome: Outcome  # fetched | resumed | mirror (fetched from one) | unchanged | kept (no host answered)
    size: int  # bytes of the file
    received: int  # bytes that came over the network for it
    etag: str | None
    last_modified: str | None
    sha256: str
    seconds: float
    final_url: str  # the address that gave the bytes on disk


def is_intact(target: Path) -> Record | None:
    """The record of a whole file that is still what was fetched; None when it was changed, cut or never finished.

    Size, time of change and inode are looked at; when one of them differs, the bytes tell (a copied folder is fine).
    """
    record = partial.read_record(target)
    if record is None or not target.is_file():
        return None
    status = target.stat()
    if (status.st_size, status.st_mtime_ns, status.st_ino) == (record.size, record.mtime_ns, record.inode):
        return record
    if status.st_size != record.size or Checksum.of(target).hex != record.sha256:
        logger.warning("%s: was changed here since it was fetched; it is fetched again", target)
        return None
    record = dataclasses.replace(record, mtime_ns=status.st_mtime_ns, inode=status.st_ino)
    partial.write_record(target, record)
    return record


def download(
    url: str,
    target: Path,
    *,
    contact: str,
    attempts: int = 5,
    timeout_seconds: float = 60.0,
    checksum: Checksum | None = None,
    mirrors: Sequence[str] = (),
    progress: Progress | None = None,
    back_off_seconds: float = 1.0,
    pause: Callable[[float], None] = time.sleep,
) -> Download:
    """Bring a file to `target`, whole; safe to repeat, to kill, and to run twice at the same time.

    Args:
        url: http(s); may hold a user name and a password, which appear in no message and no file.
        target: gets its name when all bytes are on disk and have been checked.
        contact: e-mail address or URL for the User-Agent; may be empty only for this machine.
        attempts: at each address, failures in a row before the next address is tried.
        timeout_seconds: how long a server may be silent.
        checksum: what the file must be.
        mirrors: other URLs of the same file, in the order in which they are tried.
        progress: called with the bytes on disk and the bytes in all (None while unknown).
        back_off_seconds: the first wait after a failure; later ones are doubled.
        pause: waits; something that raises ends the download between two attempts.

    Raises:
        Unreachable: the file's own host does not answer, and no mirror gives the file.
        FetchError: nobody gives the file as it must be, the disk is full, or there is no contact.
    """
    started = time.monotonic()
    with partial.claim(target) as part:
        work = Exchange(url, target, part, contact, checksum, progress, is_intact(target))
        outcome: Outcome = "unchanged"
        record = work.already_there()
        if record is None:
            with manners.open_client(contact, timeout_seconds) as client:
                work.client, work.timeout_seconds = client, timeout_seconds
                record, outcome = _try_all(work, [url, *mirrors], attempts, back_off_seconds, pause)
    result = Download(
        url=shown_url(url),
        path=target,
        outcome=outcome,
        size=record.size,
        received=work.received,
        etag=record.etag,
        last_modified=record.last_modified,
        sha256=record.sha256,
        seconds=round(time.monotonic() - started, 3),
        final_url=record.url,
    )
    logger.info("%s: %s, %s bytes (%s came) in %.1f s", target.name, outcome, *_counts(result), result.seconds)
    return result


def _counts(result: Download) -> tuple[str, str]:
    return f"{result.size:,}", f"{result.received:,}"


def _try_all(
    work: Exchange, addresses: Sequence[str], attempts: int, first_seconds: float, pause: Callable[[float], None]
) -> tuple[Record, Outcome]:
    """Ask one address after the other; the first that gives the file ends it."""
    reasons: list[str] = []
    own_host_may_come_back = False
    for number, address in enumerate(addresses):
        try:
            with manners.host_turn(address):
                record, outcome = _insist(work, address, attempts, first_seconds, pause)
        except Refused as error:
            reasons.append(f"{shown_url(address)} {error}")
        except Transient as error:
            reasons.append(f"{shown_url(address)} {error} ({attempts} attempts)")
            own_host_may_come_back |= number == 0
        else:
            return record, "mirror" if number and outcome != "unchanged" else outcome
        logger.warning("%s: %s", work.target.name, reasons[-1])
    here = (
        f" {work.part.size:,} bytes of it are here, and the same command goes on from there." if work.part.size else ""
    )
    kind, step = (
        (Unreachable, "Try again later, or name a mirror in [fetch].")
        if own_host_may_come_back
        else (FetchError, "Check the URL (and its checksum) in the config, or name a mirror in [fetch].")
    )
    raise kind(f"{shown_url(work.url)}: cannot be fetched: {'; '.join(reasons)}.{here} {step}")


def _insist(
    work: Exchange, address: str, attempts: int, first_seconds: float, pause: Callable[[float], None]
) -> tuple[Record, Taken]:
    """Ask one address until it gives the file, refuses, or has failed `attempts` times without bringing us on."""
    failures, starts, best = 0, 0, work.part.size
    while True:
        try:
            return work.ask(address)
        except StartAgain as error:
            starts += 1
            logger.warning("%s: %s %s; begun again", work.target.name, shown_url(address), error)
            work.part.restart(None)
            if starts > _MAX_STARTS_AGAIN:
                raise Refused(f"{error}, {starts} times") from error
        except Transient as error:
            if work.part.size - best > partial.TAIL_BYTES:
                failures = 0
            best = max(best, work.part.size)
            failures += 1
            asked = error.wait_seconds
            if asked is not None and asked > manners.MAX_WAIT_SECONDS:
                raise Transient(f"{error}, and asks to wait for {asked:,.0f} s") from error
            if failures >= attempts:
                raise
            seconds = manners.back_off(failures, asked, first_seconds)
            logger.info("%s: %s %s; again in %.1f s", work.target.name, shown_url(address), error, seconds)
            pause(seconds)
