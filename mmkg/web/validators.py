"""What a server says about a file, and what is to be believed: validators, lengths, ranges, checksums.

Terms of RFC 9110: a validator (ETag, Last-Modified) is strong when it changes with every change of a byte.
"""

import dataclasses
import hashlib
import re
from pathlib import Path
from typing import Self

import httpx

from mmkg.errors import FetchError
from mmkg.web.manners import Refused, read_http_date

_ALGORITHMS = {32: "md5", 40: "sha1", 64: "sha256", 128: "sha512"}  # by hex digits
_SAME_SECOND = 60.0  # a file changed so shortly before the answer may change again under the same date
_ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]{0,1000}"')
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.ASCII)
_HTML = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*|<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body|script|title|meta)[\s>]",
    re.IGNORECASE | re.DOTALL,
)
# Servers that label a packed file with how it is packed, though nothing was packed for us.
_CODED_BY_NAME = {
    "gzip": (".gz", ".tgz"), "x-gzip": (".gz", ".tgz"), "bzip2": (".bz2",), "x-bzip2": (".bz2",), "zstd": (".zst",)
}  # fmt: skip
SNIFFED_BYTES = 512


@dataclasses.dataclass(frozen=True)
class Checksum:
    """What a file must be: an algorithm of `hashlib` and its digest in lower-case hex."""

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """A checksum from its digits, MD5, SHA-1, SHA-256 or SHA-512 by their number; None when it is not one."""
        digits = text.strip().lower()
        if len(digits) not in _ALGORITHMS or not re.fullmatch(r"[0-9a-f]+", digits):
            return None
        return cls(_ALGORITHMS[len(digits)], digits)

    @classmethod
    def of(cls, path: Path, algorithm: str = "sha256") -> Self:
        """The checksum of a file's bytes as they lie on disk."""
        with path.open("rb") as file:
            return cls(algorithm, hashlib.file_digest(file, algorithm).hexdigest())

    def __str__(self) -> str:
        """For messages: ``sha256 3f2a…``."""
        return f"{self.algorithm} {self.hex}"


def parse_checksum_file(text: str, file_name: str, where: str) -> Checksum:
    """Find a file's checksum in a file of checksums.

    Known forms: ``HEX  NAME`` (coreutils; ``*NAME`` for binary), ``SHA256 (NAME) = HEX`` (BSD), ``SHA2-256(NAME)= HEX``
    (OpenSSL), and a file of one digest alone.

    Raises:
        FetchError: the file names no such file, or two different checksums of the same kind for it.
    """
    found: dict[str, Checksum] = {}
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for line in lines:
        if bsd := re.fullmatch(r"[A-Za-z0-9-]+ ?\((.+)\) ?= ?([0-9A-Fa-f]+)", line):
            name, digits = bsd.groups()
        else:
            digits, _, name = line.partition(" ")
            name = name.strip().removeprefix("*")
        checksum = Checksum.parse(digits)
        if checksum is None or not (name.rpartition("/")[2] == file_name or (not name and len(lines) == 1)):
            continue
        if found.setdefault(checksum.algorithm, checksum) != checksum:
            raise FetchError(
                f"{where}: two different checksums for {file_name}: {found[checksum.algorithm]}, {checksum}"
            )
    if not found:
        raise FetchError(
            f"{where}: expected a checksum of '{file_name}' (MD5, SHA-1, SHA-256 or SHA-512), found none in "
            f"{len(lines)} lines. Name the right file in `sha256`, or give the digest itself."
        )
    return max(found.values(), key=lambda checksum: len(checksum.hex))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """Where the bytes of a file come from, and what that server said about them."""

    url: str
    etag: str | None
    last_modified: str | None
    total: int | None  # bytes of the whole file
    is_dated: bool  # Last-Modified is old enough to be a strong validator

    @property
    def if_range(self) -> str | None:
        """The strong validator for ``If-Range``, or None: then nothing proves that the file is still the same."""
        if self.etag is not None:
            return None if self.etag.startswith("W/") else self.etag
        return self.last_modified if self.is_dated else None


def read_origin(answer: httpx.Response, url: str, total: int | None) -> Origin:
    """What an answer says about the file; a validator that cannot be sent back is none."""
    etag = answer.headers.get("etag", "")
    modified, said = (read_http_date(answer.headers.get(name)) for name in ("last-modified", "date"))
    return Origin(
        url=url,
        etag=etag if _ETAG.fullmatch(etag) else None,
        last_modified=answer.headers.get("last-modified") if modified is not None else None,
        total=total,
        is_dated=modified is not None and said is not None and said - modified >= _SAME_SECOND,
    )


def is_older(http_date: str | None, than: str | None) -> bool:
    """Whether one date of a header is before another; no when one of them is missing."""
    first, second = read_http_date(http_date), read_http_date(than)
    return first is not None and second is not None and first < second


def read_length(answer: httpx.Response) -> int | None:
    """``Content-Length`` of a body that is not chunked, else None."""
    value = answer.headers.get("content-length", "")
    return int(value) if re.fullmatch(r"[0-9]{1,18}", value) and "transfer-encoding" not in answer.headers else None


def read_content_range(answer: httpx.Response) -> tuple[int, int, int | None] | None:
    """First byte, last byte and whole length that a 206 says it gives; None when it does not say so in one range."""
    match = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", "").strip())
    if match is None:
        return None
    first, last, total = int(match[1]), int(match[2]), None if match[3] == "*" else int(match[3])
    return (first, last, total) if first <= last and (total is None or last < total) else None


def read_unmet_length(answer: httpx.Response) -> int | None:
    """Whole length that a 416 gives as the reason why it sends no range; None when it does not say so."""
    match = re.fullmatch(r"bytes \*/([0-9]{1,18})", answer.headers.get("content-range", "").strip())
    return int(match[1]) if match else None


def check_coding(answer: httpx.Response, target: Path) -> None:
    """Check that the bytes are the file's own.

    Raises:
        Refused: the server packed them on the way, though it was asked not to.
    """
    coding = answer.headers.get("content-encoding", "identity").strip().lower() or "identity"
    if coding != "identity" and not target.name.lower().endswith(_CODED_BY_NAME.get(coding, ())):
        raise Refused(f"sends the file coded as {coding}, though it was asked for the bytes as they are")


def check_not_html(start: bytes, target: Path) -> None:
    """Check that a file does not begin as a page for people.

    Raises:
        Refused: it does, and is not called so.
    """
    if _HTML.match(start) and target.suffix.lower() not in {".html", ".htm", ".xhtml"}:
        words = re.sub(rb"<[^>]*>|\s+", b" ", start).decode("utf-8", errors="replace").split()
        raise Refused(f"gives a web page instead of the file: '{' '.join(words)[:80]}'")
