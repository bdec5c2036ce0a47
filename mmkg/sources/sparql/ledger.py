"""What is on disk of a pull: the ledger that a killed one goes on from, the pages, and at the end the parts.

A fact reaches the disk here. Each step on the ranges is one line of ``ledger.jsonl``, flushed before the next; a page
is a file that is named by its range and stands in the ledger with its digest. The parts do not depend on how the ranges
were cut: statements are in the order of keys, and a part ends after so many of them. ``pull.json`` is written last.
One pull at a time holds the folder, by an ``flock`` on it.
"""

import contextlib
import fcntl
import gzip
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mmkg.errors import FetchError
from mmkg.shards import PARTIAL_SUFFIX, file_sha256, write_json
from mmkg.shards.files import commit, sync

LEDGER_FILE = "ledger.jsonl"
PAGES_FOLDER = "pages"
RESULT_FILE = "pull.json"
HOLDER_FILE = "holder.json"
PART_STATEMENTS = 250_000

Entry = dict[str, Any]


@contextlib.contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Hold the folder of a pull, which is made if need be, for one pull at a time.

    The system gives it back when the process ends, however it ends.

    Raises:
        FetchError: another pull holds it; the message names its process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FetchError(
                f"{folder}: another pull is writing here: {_describe_holder(folder)}. Wait for it, or stop it: what it "
                "has brought so far is not lost. Then start again."
            ) from error
        holder = {"process": os.getpid(), "host": socket.gethostname(), "since": datetime.now(UTC).isoformat()}
        write_json(folder / HOLDER_FILE, holder)
        try:
            yield
        finally:
            (folder / HOLDER_FILE).unlink(missing_ok=True)
            fcntl.flock(handle, fcntl.LOCK_UN)  # also for a child that was forked meanwhile and has the handle too
    finally:
        os.close(handle)


def _describe_holder(folder: Path) -> str:
    try:
        holder = json.loads((folder / HOLDER_FILE).read_bytes())
        return f"process {holder['process']} on {holder['host']}, since {holder['since']}"
    except (OSError, ValueError, LookupError, TypeError):
        return "a process that has not said yet which it is"


class Ledger:
    """The steps of a pull, as they are taken.

    Args:
        folder: of the pull, which is held (`hold_folder`).
        settings: digest of what is pulled; a ledger of other settings is thrown away.
        max_hours: a ledger that was begun longer ago is thrown away.
    """

    def __init__(self, folder: Path, settings: str, max_hours: float) -> None:
        self.folder = folder
        self._settings = settings
        self._path = folder / LEDGER_FILE
        self._pages = folder / PAGES_FOLDER
        self.entries = self._read(settings, max_hours)
        self._file = self._path.open("ab")
        self._pages.mkdir(exist_ok=True)
        if not self.entries:
            self.begin_anew()

    @property
    def started(self) -> str:
        """When the pull began, in ISO 8601; a killed one that is gone on with, when its first attempt did."""
        return str(self.entries[0]["started"])

    def begin_anew(self) -> None:
        """Throw away all steps and pages."""
        self._file.truncate(0)  # the steps first: pages that no step names are thrown away by the next pull too
        shutil.rmtree(self._pages)
        self._pages.mkdir()
        self.entries = [{"settings": self._settings, "started": datetime.now(UTC).isoformat()}]
        self.add(self.entries[0])

    def _read(self, settings: str, max_hours: float) -> list[Entry]:
        """The whole lines of the ledger; a last one that a kill has torn is cut off."""
        if not self._path.is_file():
            return []
        entries: list[Entry] = []
        good = 0
        for line in self._path.read_bytes().splitlines(keepends=True):
            try:
                entry = json.loads(line)
            except ValueError:
                break
            if not line.endswith(b"\n") or not isinstance(entry, dict):
                break
            entries.append(entry)
            good += len(line)
        if not entries or entries[0].get("settings") != settings or _hours_since(entries[0]["started"]) >= max_hours:
            return []
        os.truncate(self._path, good)
        return entries

    def add(self, entry: Entry) -> None:
        """Write one step down, so that it outlives us."""
        self._file.write(json.dumps(entry, separators=(",", ":")).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def write_page(self, range_id: str, lines: Iterable[str]) -> str:
        """Write the statements of a range; returns the file's SHA-256."""
        path = self._page(range_id)
        partial = path.with_name(path.name + PARTIAL_SUFFIX)
        with partial.open("wb") as file, gzip.GzipFile("", "wb", 1, file, mtime=0) as packed:
            packed.writelines(line.encode() + b"\n" for line in lines)
        commit(partial, path)
        return file_sha256(path)

    def has_page(self, range_id: str, sha256: str) -> bool:
        """Whether the page is there as it was written."""
        path = self._page(range_id)
        return path.is_file() and file_sha256(path) == sha256

    def read_page(self, range_id: str) -> Iterator[bytes]:
        """The lines of a page."""
        with gzip.open(self._page(range_id), "rb") as file:
            yield from file

    def _page(self, range_id: str) -> Path:
        return self._pages / f"{range_id}.nt.gz"

    def close(self) -> None:
        """Close the file; the ledger stays."""
        self._file.close()

    def remove(self) -> None:
        """Remove ledger and pages, after the result is written."""
        self.close()
        self._path.unlink(missing_ok=True)
        shutil.rmtree(self._pages, ignore_errors=True)


def _hours_since(moment: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds() / 3600


def write_parts(folder: Path, lines: Iterable[bytes]) -> list[dict[str, Any]]:
    """Write all statements as parts; what stood there under the same names goes, parts of an older pull too.

    Returns:
        name, statements, bytes and sha256 of each part.
    """
    (folder / RESULT_FILE).unlink(missing_ok=True)
    for stale in folder.glob("part-*.nt.gz*"):
        stale.unlink()
    parts: list[dict[str, Any]] = []
    iterator = iter(lines)
    while True:
        path = folder / f"part-{len(parts):06d}.nt.gz"
        partial = path.with_name(path.name + PARTIAL_SUFFIX)
        count = 0
        with partial.open("wb") as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
            for line in iterator:
                packed.write(line)
                count += 1
                if count == PART_STATEMENTS:
                    break
        if count == 0:
            partial.unlink()
            break
        commit(partial, path)
        size = path.stat().st_size
        parts.append({"name": path.name, "statements": count, "bytes": size, "sha256": file_sha256(path)})
    sync(folder)
    return parts


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Say that the pull is finished; the last thing of a pull."""
    write_json(folder / RESULT_FILE, {**result, "finished": datetime.now(UTC).isoformat()})


def find_result(folder: Path, settings: str, max_age_hours: float) -> dict[str, Any] | None:
    """What a finished pull of these settings said, if it began lately enough and its parts are as it left them."""
    try:
        result = json.loads((folder / RESULT_FILE).read_bytes())
        usable = result["settings"] == settings and _hours_since(result["started"]) < max_age_hours
        parts = [(folder / part["name"], part["sha256"]) for part in result["parts"]]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    if not usable or not all(path.is_file() and file_sha256(path) == sha256 for path, sha256 in parts):
        return None
    return dict(result)


Progress = Callable[[int, int], None]
"""Called with the statements pulled so far and how many are expected."""
