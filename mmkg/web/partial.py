"""A file while it is being fetched: ``NAME.partial``, what is known about it, and its last step to its true name.

::

    x.nt.gz                 whole; never half-written
    x.nt.gz.fetch.json      where it came from, its validators, and what it was when it was whole
    x.nt.gz.partial         growing; locked by the process that fetches it, freed by the system however that ends
    x.nt.gz.partial.json    where these bytes come from, written before the first of them
"""

import contextlib
import dataclasses
import errno
import fcntl
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmkg.errors import FetchError
from mmkg.web.validators import Checksum, Origin

logger = logging.getLogger(__name__)

PARTIAL_SUFFIX = ".partial"
RECORD_SUFFIX = ".fetch.json"
TAIL_BYTES = 64 * 1024  # fetched again and compared before a partial file is gone on with
FLUSH_BYTES = 64 * 1024 * 1024  # a power cut costs at most so much
SPARE_BYTES = 32 * 1024 * 1024  # left free on the disk
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_locked: set[int] = set()  # open handles of partial files


def _drop_locks() -> None:
    """In a forked child: let go of the parent's files, or a worker that outlives a killed parent would block them."""
    for handle in _locked:
        os.close(handle)
    _locked.clear()


os.register_at_fork(after_in_child=_drop_locks)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """What a whole file was when it got its name, and what its server said about it."""

    url: str  # the address that gave it: the file's own or a mirror's, without password
    etag: str | None
    last_modified: str | None
    sha256: str
    size: int
    mtime_ns: int
    inode: int


def beside(target: Path, suffix: str) -> Path:
    """The file of that suffix beside a target."""
    return target.with_name(target.name + suffix)


def read_record(target: Path) -> Record | None:
    """The record of a whole file, or None when there is none or it cannot be read."""
    return _read_record(beside(target, RECORD_SUFFIX))


def _read_record(path: Path) -> Record | None:
    try:
        return Record(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def write_record(target: Path, record: Record) -> None:
    """Write a target's record, whole or not at all."""
    _write_json(beside(target, RECORD_SUFFIX), dataclasses.asdict(record))


def _write_json(path: Path, value: dict[str, Any]) -> None:
    new = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL_SUFFIX}")
    try:
        with new.open("w", encoding="utf-8") as file:
            json.dump(value, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def check_space(folder: Path, needed: int, *, freed: int = 0) -> None:
    """Look at the disk before bytes are fetched.

    Args:
        folder: where they go.
        needed: how many are to come.
        freed: how many that are there go before the first of them comes.

    Raises:
        FetchError: there is not enough room.
    """
    free = shutil.disk_usage(folder).free + freed
    if needed + SPARE_BYTES > free:
        raise FetchError(
            f"{folder}: {needed:,} bytes are to come (and {SPARE_BYTES:,} stay free), but only {free:,} are free. "
            "Free some space (`mmkg gc` removes what no build needs), or set graph.output to another disk."
        )


def _boot() -> str:
    """Tells one start of the machine from another; the same text always where the system does not say."""
    return _BOOT_ID.read_text(encoding="ascii").strip() if _BOOT_ID.exists() else ""


class Partial:
    """The growing file; only inside :func:`claim`, by the one process that holds it."""

    def __init__(self, target: Path, handle: int) -> None:
        self.target = target
        self.path = beside(target, PARTIAL_SUFFIX)
        self.is_finished = False
        self._state_path = beside(target, PARTIAL_SUFFIX + ".json")
        self._handle = handle
        self.size = os.fstat(handle).st_size
        self.origin = self._find_origin()

    def _find_origin(self) -> Origin | None:
        """Where the bytes come from; bytes of unknown origin, or that a power cut may have eaten, are dropped."""
        try:
            state = json.loads(self._state_path.read_text(encoding="utf-8"))
            boot, self._flushed = str(state.pop("boot")), int(state.pop("flushed"))
            origin = Origin(**state)
        except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
            self._cut(0)
            self._flushed = 0
            return None
        if boot != _boot():  # the machine went down: only what was flushed is surely on disk
            self._cut(min(self.size, self._flushed))
        return origin if self.size else None

    def _cut(self, size: int) -> None:
        os.ftruncate(self._handle, size)
        self.size = size

    def tail(self) -> bytes:
        """The last bytes on disk, `TAIL_BYTES` or all if there are fewer."""
        return os.pread(self._handle, min(self.size, TAIL_BYTES), max(0, self.size - TAIL_BYTES))

    def head(self, size: int) -> bytes:
        """The first bytes on disk."""
        return os.pread(self._handle, size, 0)

    def restart(self, origin: Origin | None) -> None:
        """Drop all bytes; those that come next are from `origin`."""
        self._cut(0)
        self._flushed = 0
        self.origin = origin
        with self._explained():
            self._write_state()

    def learn_total(self, total: int) -> None:
        """Note the length of the whole file, where it was not known when its first bytes came."""
        if self.origin is not None and self.origin.total is None:
            self.origin = dataclasses.replace(self.origin, total=total)
            with self._explained():
                self._write_state()

    def _write_state(self) -> None:
        if self.origin is not None:
            state = {**dataclasses.asdict(self.origin), "flushed": self._flushed, "boot": _boot()}
            _write_json(self._state_path, state)

    def append(self, chunk: bytes) -> None:
        """Put bytes behind those that are there.

        Raises:
            FetchError: the disk is full, or a quota or limit of the system is reached; what is there stays.
        """
        rest = memoryview(chunk)
        with self._explained():
            while rest:
                written = os.pwrite(self._handle, rest, self.size)
                self.size += written
                rest = rest[written:]
            if self.size - self._flushed >= FLUSH_BYTES:
                self.flush()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """A full disk, quota or limit in words."""
        try:
            yield
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
                raise
            raise FetchError(
                f"{self.path}: cannot be written beyond {self.size:,} bytes: {error.strerror}. Free some space or "
                "raise the limit; the same command goes on from there. To give the space back, remove the file."
            ) from error

    def flush(self) -> None:
        """Bring the bytes to the disk, and note how many surely are there."""
        os.fsync(self._handle)
        self._flushed = self.size
        self._write_state()

    def finish(self, url: str, checksum: Checksum) -> Record:
        """Give the whole file its name, last of all that happens to its bytes; then its record.

        The record lies ready beside the partial file first, so that one killed between the two renames is recovered.
        """
        with self._explained():
            return self._finish(url, checksum)

    def _finish(self, url: str, checksum: Checksum) -> Record:
        os.fsync(self._handle)
        status = os.fstat(self._handle)
        origin = self.origin
        record = Record(
            url=url,
            etag=origin.etag if origin else None,
            last_modified=origin.last_modified if origin else None,
            sha256=checksum.hex,
            size=status.st_size,
            mtime_ns=status.st_mtime_ns,
            inode=status.st_ino,
        )
        ready = beside(self.target, ".record" + PARTIAL_SUFFIX)
        _write_json(ready, dataclasses.asdict(record))
        self.path.replace(self.target)
        ready.replace(beside(self.target, RECORD_SUFFIX))
        self._state_path.unlink(missing_ok=True)
        _sync_folder(self.target.parent)
        self.is_finished = True
        return record

    def leave(self) -> None:
        """Leave the file so that the next one can go on with it; an empty one is removed."""
        if self.is_finished:
            return
        if self.size == 0 or self.origin is None:
            self._state_path.unlink(missing_ok=True)
            self.path.unlink()
        else:
            try:
                self.flush()
            except OSError as error:  # the disk is full, and that is told already
                logger.warning("%s: what is there may be fetched again after a power cut: %s", self.path, error)


@contextlib.contextmanager
def claim(target: Path) -> Iterator[Partial]:
    """Hold a target's partial file against other processes and threads; waits for whoever holds it.

    The lock is on the file itself and stays with it when it is renamed, so whoever waited looks again.

    Raises:
        FetchError: the folder cannot be made or written.
    """
    path = beside(target, PARTIAL_SUFFIX)
    while True:
        handle = _open(path)
        _locked.add(handle)
        try:
            _lock(handle, path)
            if _is_still(path, handle):
                _recover(target)
                partial = Partial(target, handle)
                try:
                    yield partial
                finally:
                    partial.leave()
                return
        finally:
            if handle in _locked:  # not in a forked child that comes by here
                _locked.discard(handle)
                os.close(handle)


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise FetchError(
            f"{path}: cannot be opened for writing: {error.strerror}. Expected a folder that this user may write, with "
            "some space left."
        ) from error


def _lock(handle: int, path: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        logger.info("%s: is being fetched by another process; waiting for it", path.name)
        fcntl.flock(handle, fcntl.LOCK_EX)


def _is_still(path: Path, handle: int) -> bool:
    """Whether a name still means the file that was opened under it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _recover(target: Path) -> None:
    """Finish what was killed between the two renames of :meth:`Partial.finish`: the target is there, its record not."""
    ready = beside(target, ".record" + PARTIAL_SUFFIX)
    record = _read_record(ready)
    if record is not None and target.exists() and target.stat().st_ino == record.inode:
        ready.replace(beside(target, RECORD_SUFFIX))
    else:
        ready.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
