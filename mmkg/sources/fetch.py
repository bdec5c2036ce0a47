"""The dumps that a source names by URL, on their way to this machine: the step before a dump is read.

Each URL has one place below a folder, the same in every build, so that the next build finds the copy, asks whether it
has changed, and goes on with what is half there. One connection a host, several hosts at a time.
"""

import dataclasses
import logging
import re
import threading
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from mmkg.config import FetchConfig, SourceConfig
from mmkg.errors import ConfigError, FetchError, unknown_name
from mmkg.shards import digest
from mmkg.web import Checksum, Download, Unreachable, download, is_intact, parse_checksum_file, shown_url

logger = logging.getLogger(__name__)

FetchProgress = Callable[[str, int, int | None], None]  # URL, bytes on disk so far, bytes in all if known
_MAX_HOSTS_AT_A_TIME = 4
_MAX_CHECKSUM_FILE_BYTES = 64 * 1024 * 1024
_MAX_NAME_BYTES = 150  # what is put behind it for partial files must still fit into 255
_DUMP_NAME = re.compile(
    r"[^/\\]+\.(?:nt|ttl|nq|trig|tsv|txt|csv|rdf|owl|xml|json|jsonld)(?:\.(?:gz|bz2|zst))?", re.ASCII
)


class _Stopped(Exception):  # noqa: N818 - never leaves this module
    """Another thread of the same call failed or was interrupted."""


def place_of(url: str, folder: Path) -> Path:
    """Where the file of a URL lies: ``FOLDER/HOST-DIGEST/NAME``.

    The digest is of the URL, so that two hosts, paths or queries never share a place; the name is the file's own,
    cleaned of all that could lead out of the folder. A name in the query (``?file=x.nt.gz``) counts when the path has
    none.

    Raises:
        ConfigError: it is no URL of http or https.

    >>> place_of("https://a.example/dumps/x.nt.gz", Path("d")).name
    'x.nt.gz'
    """
    _split(url)
    shown = shown_url(url)
    parts = _split(shown)  # the place does not depend on what is not shown
    name = urllib.parse.unquote(parts.path.rpartition("/")[2])
    if not _DUMP_NAME.fullmatch(name):
        values = [value for _, value in urllib.parse.parse_qsl(parts.query)]
        name = next((value for value in values if _DUMP_NAME.fullmatch(value)), name)
    name = re.sub(r"[^\w.+=@~-]", "_", name).lstrip(".")
    while len(name.encode()) > _MAX_NAME_BYTES:
        name = name[1:].lstrip(".")  # the end tells what it is
    host = re.sub(r"[^\w.-]", "_", parts.hostname or "host").strip(".")[:100]
    return folder / f"{host}-{digest(shown)[:12]}" / (name or "dump")


def named_places(section: SourceConfig, folder: Path) -> set[Path]:
    """All places below a folder that a source's URLs, and those of its files of checksums, have."""
    return {place_of(url, folder) for url in (*section.urls, *filter(_is_url, section.sha256.values()))}


def fetch_dumps(
    section: SourceConfig, fetch: FetchConfig, folder: Path, *, progress: FetchProgress | None = None
) -> list[Download]:
    """Bring the files of a source's URLs below a folder; those that have not changed are not fetched again.

    Args:
        section: names `urls`, and what each of them must be in `sha256`.
        fetch: contact, mirrors, patience, and what happens when no host answers.
        folder: the downloads of this graph; each file's place in it is :func:`place_of`.
        progress: called with the URL, the bytes on disk and the bytes in all, from several threads.

    Returns:
        One for each URL, in the order of the config; `path` is the file to read.

    Raises:
        ConfigError: one of `urls` is none; or `sha256` names another one, or holds neither a digest nor a URL.
        FetchError: naming every file that could not be brought here. The others are here, and stay.
    """
    urls = list(dict.fromkeys(section.urls))
    _check_checksums(section, urls)
    hosts: dict[str, list[str]] = {}
    for url in urls:
        hosts.setdefault(_split(url).netloc.rpartition("@")[2].lower(), []).append(url)
    stop = threading.Event()
    jobs = [_Host(mine, section.sha256, fetch, folder, progress, stop) for mine in hosts.values()]
    results = _run(jobs, stop)
    failed = [error for url in urls if isinstance(error := results[url], FetchError)]
    if failed:
        kind = type(failed[0]) if len(failed) == 1 else FetchError
        raise kind("\n".join(str(error) for error in failed)) from failed[0]
    return [done for url in urls if isinstance(done := results[url], Download)]


def _check_checksums(section: SourceConfig, urls: Sequence[str]) -> None:
    for url, expected in section.sha256.items():
        if url not in urls:
            known = map(shown_url, urls)
            raise ConfigError(f"sources.sha256: {unknown_name('URL of this source', shown_url(url), known)}")
        if not _is_url(expected) and Checksum.parse(expected) is None:
            raise ConfigError(
                f"sources.sha256: {shown_url(url)}: expected 64 hex digits, or the URL of a file of checksums; "
                f"found '{shown_url(expected)}'."
            )


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _run(jobs: Sequence["_Host"], stop: threading.Event) -> dict[str, Download | FetchError]:
    """Work off all hosts; an interrupt, or a bug in one of them, stops the others between two chunks."""
    if len(jobs) == 1:
        return jobs[0].fetch_all()
    with ThreadPoolExecutor(max_workers=_MAX_HOSTS_AT_A_TIME, thread_name_prefix="fetch") as pool:
        futures = [pool.submit(job.fetch_all) for job in jobs]
        try:
            wait(futures)
        except BaseException:
            stop.set()
            raise
    stopped = [error for future in futures if (error := future.exception()) is not None]
    if stopped:
        raise next((error for error in stopped if not isinstance(error, _Stopped)), stopped[0])
    return {url: result for future in futures for url, result in future.result().items()}


@dataclasses.dataclass
class _Host:
    """The files of one host, one after the other."""

    urls: Sequence[str]
    expected: Mapping[str, str]
    fetch: FetchConfig
    folder: Path
    progress: FetchProgress | None
    stop: threading.Event
    checksum_files: dict[str, str] = dataclasses.field(default_factory=dict)

    def fetch_all(self) -> dict[str, Download | FetchError]:
        """Fetch each; what failed is told at the end, so that one file does not keep the others away."""
        results: dict[str, Download | FetchError] = {}
        try:
            for url in self.urls:
                try:
                    results[url] = self._fetch(url)
                except FetchError as error:
                    results[url] = error
        except BaseException:
            self.stop.set()
            raise
        return results

    def _fetch(self, url: str) -> Download:
        target = place_of(url, self.folder)
        checksum: Checksum | None = None
        try:
            checksum = self._checksum(url)
            mirrors = [f"{base.rstrip('/')}/{url_name(url)}" for base in self.fetch.mirrors]
            return self._download(url, target, checksum=checksum, mirrors=mirrors)
        except Unreachable as error:
            kept = self._keep(url, target, checksum or Checksum.parse(self.expected.get(url, "")))
            if kept is None:
                raise
            logger.warning("%s\n%s: the copy of the last time is used", error, target)
            return kept

    def _download(self, url: str, target: Path, *, checksum: Checksum | None, mirrors: Sequence[str]) -> Download:
        return download(
            url,
            target,
            contact=self.fetch.contact,
            attempts=self.fetch.attempts,
            timeout_seconds=self.fetch.timeout_seconds,
            checksum=checksum,
            mirrors=mirrors,
            progress=lambda done, total: self._tell(url, done, total),
            back_off_seconds=self.fetch.back_off_seconds,
            pause=self._pause,
        )

    def _tell(self, url: str, done: int, total: int | None) -> None:
        if self.stop.is_set():
            raise _Stopped
        if self.progress is not None:
            self.progress(shown_url(url), done, total)

    def _pause(self, seconds: float) -> None:
        if self.stop.wait(seconds):
            raise _Stopped

    def _checksum(self, url: str) -> Checksum | None:
        """What the file of a URL must be: from the config, or from the file of checksums that it names."""
        expected = self.expected.get(url)
        if expected is None:
            return None
        if not _is_url(expected):
            return Checksum.parse(expected)
        if expected not in self.checksum_files:
            done = self._download(expected, place_of(expected, self.folder), checksum=None, mirrors=())
            if done.size > _MAX_CHECKSUM_FILE_BYTES:
                raise FetchError(
                    f"{shown_url(expected)}: {done.size:,} bytes are no file of checksums. Check `sha256`."
                )
            self.checksum_files[expected] = done.path.read_text(encoding="utf-8", errors="replace")
        name = urllib.parse.unquote(url_name(url))
        return parse_checksum_file(self.checksum_files[expected], name, shown_url(expected))

    def _keep(self, url: str, target: Path, checksum: Checksum | None) -> Download | None:
        """The whole copy of the last time, where the config allows it and it is what it must be."""
        record = is_intact(target) if self.fetch.if_unreachable == "keep" else None
        if record is None or (checksum is not None and Checksum.of(target, checksum.algorithm) != checksum):
            return None
        return Download(
            url=shown_url(url),
            path=target,
            outcome="kept",
            size=record.size,
            received=0,
            etag=record.etag,
            last_modified=record.last_modified,
            sha256=record.sha256,
            seconds=0.0,
            final_url=record.url,
        )


def url_name(url: str) -> str:
    """The last part of a URL's path, as it stands there."""
    return _split(url).path.rpartition("/")[2]


def _split(url: str) -> urllib.parse.SplitResult:
    try:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme in {"http", "https"} and parts.hostname and (parts.port is None or parts.port > 0):
            return parts
        reason = "it has another scheme, or no host"
    except ValueError:  # its text may hold a part of the password
        reason = "its host or port cannot be read; in a user name or password / ? # @ are written %2F %3F %23 %40"
    raise ConfigError(f"sources.urls: expected a URL of http or https, found '{shown_url(url)}': {reason}.")
