"""The other end of :mod:`mmkg.images.worker`: starts the process, asks it with a deadline, ends it when it misbehaves.

What comes back was made by a process that hostile bytes may have taken over: it is read as JSON and bytes of bounded
length, never unpickled.
"""

import json
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmkg.errors import ImageError

if TYPE_CHECKING:  # the worker reads this file too, and starts in half the time without the config
    from mmkg.config.images import DecodeConfig

REQUEST = struct.Struct(">Q")  # how long the picture is
ANSWER = struct.Struct(">II")  # how long what was seen in it is, as JSON, and how long the normalised picture
_MAX_WORDS_BYTES = 1 << 16
_START_SECONDS = 120.0  # Pillow and SciPy from a cold disk
_PIPE_BYTES = 1 << 16
# Nothing of the environment is needed to decode: no keys go where hostile bytes are read.
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "PYTHONHOME", "LANG", "LC_ALL")
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Died(Exception):  # noqa: N818 - not shown to users: becomes a row
    """The process ended, or answered what is no answer, while it had a picture."""


class TooSlow(Exception):  # noqa: N818 - not shown to users: becomes a row
    """The process did not answer in time."""


@dataclass(frozen=True)
class Answer:
    """What the process says of one picture."""

    facts: dict[str, Any]
    normalised: bytes


class DecoderProcess:
    """One process that decodes one picture at a time; not to be shared between threads.

    Raises:
        ImageError: the process cannot be started, or its memory limit leaves nothing for a picture.
    """

    def __init__(self, config: "DecodeConfig") -> None:
        self._config = config
        package_parent = str(Path(__file__).parents[2])
        settings = {
            "max_pixels": config.max_pixels,
            "max_frames": config.max_frames,
            "shorter_side_px": config.shorter_side_px,
            "max_seconds": config.max_seconds,
            "memory_bytes": config.memory_mb * 1_000_000,
        }
        kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        with tempfile.TemporaryFile() as complaints:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mmkg.images.worker", json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                env={**kept, **_ONE_THREAD, "PYTHONPATH": package_parent},
                bufsize=0,
            )
            try:
                self._open_pipes()
                self._check_started(complaints)
            except BaseException:
                self.kill()
                raise

    def _open_pipes(self) -> None:
        if self._process.stdin is None or self._process.stdout is None:
            raise ImageError("the process that decodes pictures has no pipes")
        self._to, self._from = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._to, False)
        os.set_blocking(self._from, False)

    def _check_started(self, complaints: Any) -> None:
        try:
            facts = self._receive(time.monotonic() + _START_SECONDS).facts
        except (Died, TooSlow) as error:
            self.kill()
            complaints.seek(0)
            said = complaints.read()[-2000:].decode(errors="replace").strip()
            raise ImageError(
                f"the process that decodes pictures does not start: {error}. It needs {self._config.memory_mb:,} MB of "
                f"address space (`memory_mb` of [images.decode]). It said:\n{said or '(nothing)'}"
            ) from error
        if not facts.get("ready"):
            raise ImageError(
                f"no picture can be decoded in {self._config.memory_mb:,} MB: {facts.get('detail')}. "
                "Raise `memory_mb` of [images.decode]."
            )

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def decode(self, data: bytes) -> Answer:
        """Have one picture decoded.

        Raises:
            Died: the process is gone, or what it says is no answer; it is of no further use.
            TooSlow: no answer in time; it was killed.
        """
        deadline = time.monotonic() + self._config.max_seconds
        try:
            self._send(REQUEST.pack(len(data)) + data, deadline)
            return self._receive(deadline)
        except (Died, TooSlow):
            self.kill()
            raise

    def _send(self, data: bytes, deadline: float) -> None:
        rest = memoryview(data)
        while rest:
            self._wait(self._to, select.POLLOUT, deadline)
            try:
                rest = rest[os.write(self._to, rest[:_PIPE_BYTES]) :]
            except BlockingIOError:  # the pipe has less room than the piece is long
                continue
            except BrokenPipeError as error:
                raise Died(self._how_it_ended()) from error

    def _receive(self, deadline: float) -> Answer:
        words_bytes, picture_bytes = ANSWER.unpack(self._read(ANSWER.size, deadline))
        if words_bytes > _MAX_WORDS_BYTES or picture_bytes > self._max_picture_bytes:
            raise Died(f"an answer of {words_bytes + picture_bytes:,} bytes")
        try:
            facts = json.loads(self._read(words_bytes, deadline))
        except ValueError as error:
            raise Died("an answer that is not JSON") from error
        if not isinstance(facts, dict):
            raise Died("an answer that is no JSON object")
        return Answer(facts, self._read(picture_bytes, deadline))

    @property
    def _max_picture_bytes(self) -> int:
        return 16 * 4 * self._config.shorter_side_px**2 + _MAX_WORDS_BYTES  # 4 bytes a pixel of the longest picture

    def _read(self, size: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._wait(self._from, select.POLLIN, deadline)
            try:
                piece = os.read(self._from, min(size - len(data), 1 << 20))
            except BlockingIOError:
                continue
            if not piece:
                raise Died(self._how_it_ended())
            data += piece
        return bytes(data)

    def _wait(self, handle: int, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(handle, event)
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise TooSlow(f"no answer in {self._config.max_seconds:g} s")

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "the process closed its pipes"
        if code == -signal.SIGXCPU:
            raise TooSlow(f"more than {self._config.max_seconds:g} s of processor time")
        return f"the process ended with {signal.Signals(-code).name if code < 0 else f'status {code}'}"

    def kill(self) -> None:
        """End it, whatever it does; safe to call twice."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
