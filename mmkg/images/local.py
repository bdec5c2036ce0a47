"""Pictures of folders on this machine, read into the library as if a server had given them.

A file is known by size, time of change and inode (kept as its `etag`): one that is as it was is not opened, and gets no
row, so that a build over unchanged folders leaves the library byte for byte as it is.
"""

import dataclasses
import datetime
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mmkg.config import ImagesConfig
from mmkg.errors import ImageError
from mmkg.images.answers import judge_bytes
from mmkg.images.folders import find_file
from mmkg.images.library import FOLDER_SCHEME, PictureLibrary, Retry
from mmkg.images.recorder import Attempt, Backlog


def read_local(
    images: ImagesConfig,
    urls: Sequence[str],
    library: PictureLibrary,
    backlog: Backlog,
    *,
    retry: Retry,
    now: Callable[[], datetime.datetime],
) -> Iterator[Attempt]:
    """Read what is new or has changed, in the order of the addresses.

    Args:
        images: names the folders; ``fetch.max_bytes`` is the most that a file may have.
        urls: ``folder:NAME/FILE``, each once.
        library: what is there already.
        backlog: is told of what is read.
        retry: as in `PictureLibrary.choose_due`.
        now: the time of an attempt.
    """
    for url, last in zip(urls, _last_rows(library, urls), strict=True):
        kind = last["kind"]
        if (retry == "transient" and kind != "transient") or (
            retry == "all" and kind not in {"transient", "permanent"}
        ):
            continue
        attempt = read_file(images, url, known_etag=last["etag"] if kind in {"ok", "permanent"} else None, now=now)
        if attempt is None or (attempt.status, attempt.etag) == (last["status"], last["etag"]):
            continue
        if attempt.sha256 is not None and attempt.sha256 == last["sha256"]:
            attempt = dataclasses.replace(attempt, status="unchanged", body=b"")
        backlog.begin()
        backlog.came(len(attempt.body))
        yield attempt


def _last_rows(library: PictureLibrary, urls: Sequence[str]) -> Iterator[dict[str, str | None]]:
    columns = ["url", "kind", "status", "etag", "sha256"]
    rows = library.last_attempts(columns)
    here = set(library.served.keys().to_pylist())
    places = {url: place for place, url in enumerate(rows["url"].to_pylist())}
    for url in urls:
        row = rows.slice(places[url], 1).to_pylist()[0] if url in places else dict.fromkeys(columns)
        yield row if row["sha256"] is None or row["sha256"] in here else dict.fromkeys(columns)


def read_file(
    images: ImagesConfig, url: str, *, known_etag: str | None, now: Callable[[], datetime.datetime]
) -> Attempt | None:
    """Read one picture; None when it is as it was.

    Args:
        images: names the folders.
        url: ``folder:NAME/FILE``.
        known_etag: of the file as it was when it was read last.
        now: the time of the attempt.
    """
    began = time.monotonic()

    def ended(status: str, kind: str, detail: str, etag: str | None = None, received: int = 0) -> Attempt:
        return Attempt(
            url=url,
            tried_at=now(),
            status=status,
            kind=kind,
            detail=detail,
            etag=etag,
            received=received,
            seconds=time.monotonic() - began,
        )

    try:
        path = find_file(images, url)
    except ImageError as error:
        return ended("no_file", "permanent", str(error))
    try:
        if not path.resolve().is_relative_to(_root(images, url).resolve()):
            return ended("outside_folder", "permanent", f"{path} is a link that leads out of its folder")
        # Not to be blocked by a pipe that has a picture's name.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123 - a descriptor
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                return ended("no_file", "permanent", f"{path} is no regular file")
            etag = f"{facts.st_size}-{facts.st_mtime_ns}-{facts.st_ino}"
            if etag == known_etag:
                return None
            if facts.st_size > images.fetch.max_bytes:
                return ended("too_large", "permanent", f"{facts.st_size:,} bytes", etag)
            data = file.read(images.fetch.max_bytes + 1)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        return ended("no_file", "permanent", f"{path}: {error.strerror}")
    except OSError as error:
        return ended("unreadable", "transient", f"{path}: {error.strerror}")
    if len(data) != facts.st_size:
        return ended("unreadable", "transient", f"{path}: changes while it is read")
    status, detail, data_format = judge_bytes(data)
    if status != "ok":
        return ended(status, "permanent", detail, etag, len(data))
    return dataclasses.replace(
        ended("ok", "ok", detail, etag, len(data)),
        final_url=path.as_uri(),
        sha256=hashlib.sha256(data).hexdigest(),
        body=data,
        format=data_format,
    )


def _root(images: ImagesConfig, url: str) -> Path:
    """The folder that an address names; the longest name, as in `find_file`."""
    names = {folder.name: folder.path for folder in images.folders if url.startswith(f"{FOLDER_SCHEME}{folder.name}/")}
    return Path(names[max(names, key=len)])
