"""One rebuild of a graph at a time: who holds it, since when, and whether that process is still there.

The lock is an ``flock`` on ``.lock`` in the graph's folder. The system frees it when the process ends, however it ends:
SIGKILL, a power cut, out of memory. The file tells who holds it, and is emptied when it is given back.

What it cannot do: on a network file system the lock reaches other machines only where the mount shares locks (NFS
with ``lockd`` or version 4 does; ``nolock`` and ``local_lock=flock`` do not, and some FUSE mounts have none). There,
two machines could rebuild one graph. When the file names somebody who never gave it back, the log says so: that one was
killed, or, if it is of another machine, may still be at work where the file system does not share locks.
"""

import contextlib
import dataclasses
import datetime
import fcntl
import getpass
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from mmkg.errors import BuildError

logger = logging.getLogger(__name__)

LOCK_FILE = ".lock"
_PATIENCE_SECONDS = 0.5  # a look of `who_holds` takes the lock for an instant, and must not turn a rebuild away
_LONGEST_COMMAND = 500  # characters
_PROC = Path("/proc")

_held: set[int] = set()  # open handles of the locks that this process holds


def _drop_locks() -> None:
    """In a forked child: let go of the parent's locks, or a worker that outlives a killed parent would hold them."""
    for handle in _held:
        os.close(handle)
    _held.clear()


os.register_at_fork(after_in_child=_drop_locks)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a graph, as that process wrote it down."""

    name: str  # what it calls itself, such as the name of a flow run; may be empty
    process: int
    birth: int | None  # start of the process in clock ticks since boot: a number given again is another process
    host: str
    user: str
    started: str  # ISO 8601, UTC
    command: str

    @property
    def is_alive(self) -> bool | None:
        """Whether that process is still there; None when it is of another machine and nobody here can know."""
        if self.host != socket.gethostname():
            return None
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # it is there, and of another user
            pass
        return self.birth is None or _birth(self.process) == self.birth

    def describe(self) -> str:
        """One line for a message."""
        seconds = (_now() - datetime.datetime.fromisoformat(self.started)).total_seconds()
        who = f"process {self.process} of {self.user} on {self.host}"
        return (
            f"{f'{self.name} ({who})' if self.name else who}, since {self.started} ({_span(seconds)}): {self.command}"
        )


@contextlib.contextmanager
def hold_graph(root: Path, *, holder: str | None = None) -> Iterator[Path]:
    """Hold a graph's folder for one rebuild, rollback or clean-up at a time.

    Args:
        root: folder of the graph; made if it is not there.
        holder: what the holder is called in the message to others, such as the name of a flow run.

    Raises:
        BuildError: somebody else holds it; the message names who, since when, and whether that process is alive.
    """
    path = root / LOCK_FILE
    try:
        root.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise BuildError(
            f"{path}: cannot be opened to hold the graph: {error.strerror}. Expected a folder that this user may "
            "write; set graph.output to one."
        ) from error
    _held.add(handle)
    try:
        if not _take(handle):
            raise BuildError(_refusal(root, _read(handle)))
        _warn_of_one_before(root, _read(handle))
        _write(handle, dataclasses.asdict(_myself(holder or "")))
        try:
            yield root
        finally:
            if handle in _held:  # not in a forked child that comes by here
                os.ftruncate(handle, 0)
    finally:
        if handle in _held:
            _held.discard(handle)
            os.close(handle)


def who_holds(root: Path) -> Holder | None:
    """Who holds a graph now; None when nobody does, or when whoever does has not yet written down who it is."""
    try:
        handle = os.open(root / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(handle)
    finally:
        os.close(handle)
    return None


def _take(handle: int) -> bool:
    """Lock, if nobody else has for half a second."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.02)
        else:
            return True


def _refusal(root: Path, holder: Holder | None) -> str:
    message = f"{root}: another build of this graph is running"
    if holder is None:
        return f"{message}; it has not said who it is. Try again in a moment."
    message = f"{message}: {holder.describe()}"
    if holder.is_alive is None:
        return (
            f"{message}\nWhether it is still at work can be seen on {holder.host} only. Wait for it, or stop it there."
        )
    if holder.is_alive:
        return f"{message}\nThat process is alive. Wait for it, or stop it: what it has done so far is not lost."
    return (
        f"{message}\nThat process has ended, but another one that it started still holds the graph: "
        f"`fuser -v {root / LOCK_FILE}` names it. Stop that one, and run the same command again."
    )


def _warn_of_one_before(root: Path, before: Holder | None) -> None:
    """The file is emptied when the graph is given back: whoever is still in it did not come to its end."""
    if before is None:
        return
    if before.host == socket.gethostname():
        why = "That one was killed. What it had done is taken up."
    else:
        why = (
            "Either that one was killed, or this file system does not share locks between machines and it is still at "
            "work: then stop one of the two."
        )
    logger.warning("%s: was never given back by %s\n%s", root, before.describe(), why)


def _myself(name: str) -> Holder:
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]) if sys.argv else ""
    return Holder(
        name=name,
        process=os.getpid(),
        birth=_birth(os.getpid()),
        host=socket.gethostname(),
        user=_user(),
        started=_now().isoformat(timespec="seconds"),
        command=command[:_LONGEST_COMMAND],
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container with a user id that has no name
        return str(os.getuid())


def _birth(process: int) -> int | None:
    """When a process started, in clock ticks since boot; None where the system does not say."""
    try:
        text = (_PROC / str(process) / "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    fields = text.rpartition(")")[2].split()  # the name in brackets may hold anything
    return None if fields[0] in {"Z", "X"} else int(fields[19])  # 22nd of proc(5); a zombie has ended


def _read(handle: int) -> Holder | None:
    try:
        return Holder(**json.loads(os.pread(handle, 65_536, 0)))
    except (ValueError, TypeError):  # empty, half-written, or of an older version
        return None


def _write(handle: int, value: dict[str, object]) -> None:
    text = json.dumps(value).encode()
    os.ftruncate(handle, 0)
    os.pwrite(handle, text, 0)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _span(seconds: float) -> str:
    """A length of time in words.

    >>> _span(42), _span(3900), _span(190_000)
    ('42 s', '1 h 5 min', '2 d 4 h')
    """
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{max(0, int(seconds))} s"
