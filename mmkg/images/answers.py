"""What an answer of a server is to the ledger: a picture by its bytes, or a reason why it is none."""

import datetime
import hashlib
from collections.abc import Mapping

from mmkg.images.formats import sniff_format
from mmkg.images.recorder import Attempt
from mmkg.images.robots import find_no_ai
from mmkg.images.wikimedia import PageInfo
from mmkg.web.bounded import Answer

NOT_PICTURES = frozenset({"html", "xml", "pdf", "postscript", "gzip", "zip", "mp4", "riff"})
"""What `sniff_format` knows besides pictures: refused as ``not_a_picture``. SVG is refused by its own name."""

# Types that say what the bytes are, where they are not called image/FORMAT.
_CONTENT_TYPES = {
    "jpeg": {"image/jpg", "image/pjpeg"},
    "ico": {"image/x-icon", "image/vnd.microsoft.icon"},
    "bmp": {"image/x-ms-bmp"},
    "heif": {"image/heic"},
    "psd": {"image/vnd.adobe.photoshop"},
}
_MAX_HEADER_CHARACTERS = 1_000  # a longer ETag is not kept


def read_answer(
    url: str,
    answer: Answer,
    known: Mapping[str, str | None],
    page: PageInfo | None,
    *,
    noai: bool,
    now: datetime.datetime,
    is_last: bool,
) -> Attempt:
    """Make the ledger's row of an answer.

    Args:
        url: what was asked for.
        answer: what came.
        known: of the picture that is here already: columns of `mmkg.images.library.DUE`.
        page: what a wiki says about the file.
        noai: whether ``X-Robots-Tag`` is heeded.
        now: the time.
        is_last: whether the address is not asked again in this run.
    """
    status, kind, detail, data_format = answer.status, answer.kind, answer.detail, ""
    sha256 = known["sha256"] if status == "unchanged" else None
    if answer.kind == "ok" and noai and (directive := find_no_ai(answer.headers.get("x-robots-tag", ""))):
        status, kind, detail, sha256 = "noai", "permanent", f"X-Robots-Tag: {directive}", None
    elif status == "ok":
        status, detail, data_format = judge_bytes(answer.body, answer.headers.get("content-type", ""))
        kind = "ok" if status == "ok" else "permanent"
        sha256 = hashlib.sha256(answer.body).hexdigest() if status == "ok" else None
    elif status == "unchanged":
        detail = ""
    elif status == "not_now":
        status = "host_waits"
    is_ok = kind == "ok"
    return Attempt(
        url=url,
        tried_at=now,
        status=status,
        kind=kind,
        detail=detail,
        http_status=answer.http_status,
        final_url=answer.final_url,
        sha256=sha256,
        received=answer.received,
        seconds=answer.seconds,
        # 304 need not repeat what it confirms.
        etag=_header(answer, "etag") or (known["etag"] if status == "unchanged" else None),
        last_modified=_header(answer, "last-modified") or (known["last_modified"] if status == "unchanged" else None),
        content_type=_header(answer, "content-type"),
        licence=page.licence if page else known["licence"] if is_ok else None,
        author=page.author if page else known["author"] if is_ok else None,
        source_page=page.source_page if page else known["source_page"] if is_ok else None,
        is_last=is_last,
        body=answer.body if status == "ok" else b"",
        format=data_format,
    )


def judge_bytes(data: bytes, content_type: str = "") -> tuple[str, str, str]:
    """Whether bytes are a picture: status (ok, svg or not_a_picture), what is to be said of it, and their format."""
    data_format = sniff_format(data)
    if data_format == "svg":
        return "svg", "SVG runs programs and asks other servers; a bitmap of it is wanted", ""
    if data_format is None or data_format in NOT_PICTURES:
        what = data_format or (f"unknown bytes, at first {data[:12].hex(' ')}" if data else "nothing")
        return "not_a_picture", f"{what}{_said(content_type)}", ""
    said = content_type.partition(";")[0].strip().lower()
    is_so = said in {f"image/{data_format}", "", *_CONTENT_TYPES.get(data_format, ())}
    return "ok", "" if is_so else f"{data_format}{_said(content_type)}", data_format


def _said(content_type: str) -> str:
    return f", served as {content_type[:100]}" if content_type else ""


def _header(answer: Answer, name: str) -> str | None:
    value = answer.headers.get(name)
    return value if value and len(value) <= _MAX_HEADER_CHARACTERS else None
