"""One exchange with one server about one file: what is asked, what of the answer is believed, what is put on disk.

How an address is asked, in this order:

1. The copy on disk is what the checksum says: nothing is asked.
2. A partial file is there: ``Range`` from 64 KiB before its end, with ``If-Range``. What comes is compared with what is
   there first; a host that gives something else is noticed, and the file begun again. Without a strong validator,
   and without a checksum that would tell in the end, nothing proves that the two halves are of one file: begun again.
   At another address than the one that gave the bytes, length and date must be the same too.
3. A whole copy is there, and this address gave it: ``If-None-Match`` and ``If-Modified-Since``; 304 is the end of it.
   Another address is asked without conditions, for its dates and names are its own; the same length and date are.
4. Else all of it. Where nothing tells that the end of the connection is the end of the file, it is refused.
"""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import httpx

from mmkg.web import manners, partial, validators
from mmkg.web.manners import Refused, StartAgain, Transient, shown_url
from mmkg.web.partial import Partial, Record
from mmkg.web.validators import Checksum, Origin

logger = logging.getLogger(__name__)

Progress = Callable[[int, int | None], None]  # bytes on disk so far, bytes in all if known
Taken = Literal["fetched", "resumed", "unchanged"]
_MIN_BYTES_PER_SECOND = 256  # a server that drips slower than this counts as silent
_LOOK_BYTES = 64 * 1024 * 1024  # how often the disk is looked at while nobody knows how much is to come


@dataclasses.dataclass
class Exchange:
    """One file being fetched, and what is known of it."""

    url: str
    target: Path
    part: Partial
    contact: str
    checksum: Checksum | None
    progress: Progress | None
    copy: Record | None  # of the whole, untouched file that is there already
    received: int = 0
    client: httpx.Client = dataclasses.field(init=False)
    timeout_seconds: float = dataclasses.field(init=False)

    def already_there(self) -> Record | None:
        """The copy's record when the checksum says that it is the file; no server needs to be asked."""
        if self.copy is None or self.checksum is None:
            return None
        return self.copy if self._digest(self.target) == self.checksum else None

    def _digest(self, path: Path) -> Checksum:
        assumed = self.checksum.algorithm if self.checksum else "sha256"
        if path == self.target and self.copy is not None and assumed == "sha256":
            return Checksum("sha256", self.copy.sha256)
        return Checksum.of(path, assumed)

    def ask(self, address: str) -> tuple[Record, Taken]:
        """Ask an address once."""
        headers, tail = self._headers(address)
        resumed = bool(tail)
        with self._open(address, headers) as answer:
            status = answer.status_code
            if status == 304 and self.copy is not None and not resumed:
                return self.copy, "unchanged"
            if status == 416 and resumed:
                raise StartAgain(f"has less than the {self.part.size:,} bytes that are here")
            if status != 200 and not (status == 206 and resumed):
                raise Refused(f"answers {status} to a request that does not allow it")
            validators.check_coding(answer, self.target)
            if status == 206:
                self._go_on(address, answer, tail)
            else:  # it does not know ranges, or the file has changed, or we asked for all of it
                resumed = False
                if self.copy is not None and self._is_copy(address, answer):
                    return self.copy, "unchanged"
                self._begin(address, answer)
            is_chunked = "transfer-encoding" in answer.headers
            knows_ranges = resumed or answer.headers.get("accept-ranges", "").strip().lower() == "bytes"
        return self._check_whole(address, is_chunked=is_chunked, knows_ranges=knows_ranges, resumed=resumed)

    @contextlib.contextmanager
    def _open(self, address: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        with manners.open_answer(self.client, address, headers, contact=self.contact) as answer:
            yield answer

    def _headers(self, address: str) -> tuple[dict[str, str], bytes]:
        """What is asked, and the end of the partial file when that is to be gone on with."""
        origin = self.part.origin
        if origin is not None and self.part.size:
            is_same = origin.url == shown_url(address)
            validator = origin.if_range if is_same else None
            if validator or self.checksum is not None or (not is_same and origin.last_modified):
                tail = self.part.tail()
                asked = {"Range": f"bytes={self.part.size - len(tail)}-"}
                return (asked | {"If-Range": validator} if validator else asked), tail
            if is_same:
                self.part.restart(None)
        headers = {}
        if self.copy is not None and self.checksum is None and self.copy.url == shown_url(address):
            if self.copy.etag:
                headers["If-None-Match"] = self.copy.etag
            if self.copy.last_modified:
                headers["If-Modified-Since"] = self.copy.last_modified
        return headers, b""

    def _is_copy(self, address: str, answer: httpx.Response) -> bool:
        """Whether another address than the one that gave the copy offers it, by its length and date."""
        offered = validators.read_origin(answer, shown_url(address), validators.read_length(answer))
        return (
            self.copy is not None
            and self.copy.url != shown_url(address)
            and self.checksum is None
            and offered.last_modified is not None
            and (offered.total, offered.last_modified) == (self.copy.size, self.copy.last_modified)
        )

    def _begin(self, address: str, answer: httpx.Response) -> None:
        """Take a whole body."""
        total = validators.read_length(answer)
        origin = validators.read_origin(answer, shown_url(address), total)
        if address != self.url:
            self._check_mirror(origin)
        partial.check_space(self.target.parent, total or 0, freed=self.part.size)
        self.part.restart(origin)
        self._stream(answer, total)

    def _check_mirror(self, offered: Origin) -> None:
        """A mirror must give what the file's own host was giving, and nothing older than what is here."""
        known = self.part.origin
        if known is not None and known.url != offered.url:
            is_newer = validators.is_older(known.last_modified, offered.last_modified)
            if None not in (known.total, offered.total) and known.total != offered.total and not is_newer:
                raise Refused(f"gives something else: {offered.total:,} bytes; {known.url} has {known.total:,}")
        if self.copy is not None and validators.is_older(offered.last_modified, self.copy.last_modified):
            raise Refused(f"is behind: its file is of {offered.last_modified}, ours of {self.copy.last_modified}")

    def _go_on(self, address: str, answer: httpx.Response, tail: bytes) -> None:
        """Take the rest of a body, once its beginning is the end of what is here."""
        known, start = self.part.origin, self.part.size - len(tail)
        content_range = validators.read_content_range(answer)
        if known is None or content_range is None or content_range[0] != start:
            asked = answer.headers.get("content-range", "no Content-Range")
            raise StartAgain(f"was asked for the bytes from {start:,} and answers '{asked}'")
        _, last, total = content_range
        length = validators.read_length(answer)
        if length is not None and length != last - start + 1:
            raise StartAgain(f"says that it sends {length:,} bytes, and that they are {last - start + 1:,}")
        offered = validators.read_origin(answer, shown_url(address), total)
        if known.url != offered.url:
            self._check_mirror(offered)
            if self.checksum is None and offered.last_modified != known.last_modified:
                raise StartAgain(f"has a file of another date ({offered.last_modified}, not {known.last_modified})")
        elif (total or known.total) != (known.total or total) or (offered.etag or known.etag) != known.etag:
            raise StartAgain("has changed the file")
        if last + 1 < self.part.size:
            raise Transient(f"gives less than the {len(tail):,} bytes that are to be compared")
        if total is not None:
            partial.check_space(self.target.parent, total - self.part.size)
            self.part.learn_total(total)
        self._stream(answer, last + 1, tail=tail, is_own=known.url == offered.url)

    def _stream(self, answer: httpx.Response, end: int | None, *, tail: bytes = b"", is_own: bool = True) -> None:
        """Compare the first bytes with `tail`, append the others, and watch how much and how fast they come."""
        compared, since, came, looked = 0, time.monotonic(), 0, self.part.size
        for chunk in answer.iter_raw():
            self.received += len(chunk)
            came += len(chunk)
            again, new = chunk[: len(tail) - compared], chunk[len(tail) - compared :]
            if again != tail[compared : compared + len(again)]:
                error = StartAgain if is_own else Refused
                raise error(f"gives other bytes before byte {self.part.size:,} than those that are here")
            compared += len(again)
            if end is not None and self.part.size + len(new) > end:
                raise StartAgain(f"sends more than the {end:,} bytes that it said")
            self._append(new)
            if end is None and self.part.size - looked >= _LOOK_BYTES:
                partial.check_space(self.target.parent, _LOOK_BYTES)
                looked = self.part.size
            if (now := time.monotonic()) - since >= self.timeout_seconds:
                if came < _MIN_BYTES_PER_SECOND * (now - since):
                    raise Transient(f"sent only {came:,} bytes in {now - since:.0f} s")
                since, came = now, 0
        if end is not None and self.part.size < end:
            raise Transient(f"ended after {self.part.size:,} of {end:,} bytes")

    def _append(self, chunk: bytes) -> None:
        before = self.part.size
        self.part.append(chunk)
        if before < validators.SNIFFED_BYTES <= self.part.size:
            self._check_not_html()
        if self.progress is not None and self.part.origin is not None:
            self.progress(self.part.size, self.part.origin.total)

    def _check_not_html(self) -> None:
        try:
            validators.check_not_html(self.part.head(validators.SNIFFED_BYTES), self.target)
        except Refused:
            self.part.restart(None)
            raise

    def _check_whole(
        self, address: str, *, is_chunked: bool, knows_ranges: bool, resumed: bool
    ) -> tuple[Record, Taken]:
        """Check that what is here is the file, all of it and nothing else; then give it its name."""
        origin, size = self.part.origin, self.part.size
        self._check_not_html()
        if origin is None:
            raise StartAgain("gave bytes of which nothing is known")
        if origin.total is not None and size < origin.total:  # a server that gives only so much at a time
            raise Transient(f"ended after {size:,} of {origin.total:,} bytes")
        found = Checksum.of(self.part.path, self.checksum.algorithm if self.checksum else "sha256")
        if self.checksum is not None and found != self.checksum:
            self.part.restart(None)
            error = StartAgain if resumed else Refused
            raise error(f"gives something else: expected {self.checksum}, found {found}")
        if self.checksum is None:
            if size == 0:
                raise Refused("gives an empty file")
            if origin.total is None and not is_chunked:
                self._check_closed_end(address)
            elif knows_ranges and origin.total is not None:
                self._check_end(address)
        sha256 = found if found.algorithm == "sha256" else Checksum.of(self.part.path)
        return self.part.finish(origin.url, sha256), "resumed" if resumed else "fetched"

    def _check_end(self, address: str) -> None:
        """Ask for what lies behind the last byte: there must be nothing, or the ``Content-Length`` was too low."""
        try:
            has_more, _ = self._ask_for_more(address)
        except (Transient, Refused) as error:
            logger.info("%s: whole by its length; not asked for more: %s", self.target.name, error)
            return
        if has_more:
            raise StartAgain(f"has more than the {self.part.size:,} bytes that it said")

    def _check_closed_end(self, address: str) -> None:
        """Ask for what lies behind the last byte of a body that ended with the connection: it may have broken."""
        try:
            has_more, has_none = self._ask_for_more(address)
        except Refused:
            has_more, has_none = False, False
        if has_more:
            raise Transient(f"ended after {self.part.size:,} bytes, and has more")
        if not has_none:
            size = self.part.size
            self.part.restart(None)
            raise Refused(
                f"sent {size:,} bytes and closed the connection, and tells nowhere how long the file is: one that was "
                "cut would look the same. Set `sha256` for the dump's URL to its digest, or fetch the file by hand and "
                "name it in `paths`"
            )

    def _ask_for_more(self, address: str) -> tuple[bool, bool]:
        """Whether a server gives bytes behind the last one that is here; and whether it says that there are none."""
        with self._open(address, {"Range": f"bytes={self.part.size}-"}) as answer:
            content_range = validators.read_content_range(answer)
            has_more = answer.status_code == 206 and content_range is not None and content_range[0] == self.part.size
            return has_more, answer.status_code == 416 and validators.read_unmet_length(answer) == self.part.size
