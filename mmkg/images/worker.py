"""The process that decodes pictures for :class:`mmkg.images.decode.Decoder`, one at a time, within limits.

Started as ``python -m mmkg.images.worker '{"max_pixels": …}'``. A picture comes on standard input as its length
(8 bytes, big-endian) and its bytes; the answer goes to standard output as two lengths (4 bytes each), what was seen as
JSON, and the normalised picture. It ends when its input ends. Nothing a decoder prints gets into the answers, no file
can be written, and no core is dumped.
"""

import base64
import json
import os
import resource
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

from mmkg.images.decoder_process import ANSWER, REQUEST
from mmkg.images.picture import Limits, decode_picture

_MIN_FREE_BYTES = 32_000_000  # of address space for a picture: less is a setting that decodes nothing
_EXTRA_SECONDS = 2  # of processor time beyond the limit: the one who asked kills first, if he is still there

_TINY_GIF = (
    b"GIF89a\x02\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00\x02\x00\x01\x00\x00\x02\x02D\n\x00;"
)


def main() -> None:
    """Read pictures, answer them, until the input ends."""
    settings = json.loads(sys.argv[1])
    max_seconds, memory_bytes = settings.pop("max_seconds"), settings.pop("memory_bytes")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the one who asked decides
    answers = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    limits = Limits(**settings)
    decode_picture(_TINY_GIF, limits)  # loads what is loaded with the first picture, before memory is limited
    problem = _limit_process(memory_bytes)
    _answer(answers, {"ready": not problem, "detail": problem}, b"")
    os.dup2(nowhere, 2)
    while (length := _read(REQUEST.size)) is not None:
        data = _read(REQUEST.unpack(length)[0])
        if data is None:
            return
        _limit_processor_time(max_seconds)
        facts = asdict(decode_picture(data, limits))
        normalised = facts.pop("normalised") or b""
        facts["colours"] = base64.b64encode(facts["colours"] or b"").decode()
        _answer(answers, facts, normalised)


def _limit_process(memory_bytes: int) -> str:
    """Limit memory, files and core dumps; what is wrong with that limit, or nothing."""
    statm = Path("/proc/self/statm")
    taken = int(statm.read_text("ascii").split()[0]) * resource.getpagesize() if statm.exists() else 0
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    if taken + _MIN_FREE_BYTES > memory_bytes:
        return f"a process takes {taken // 1_000_000:,} MB before it decodes anything"
    return ""


def _limit_processor_time(seconds: float) -> None:
    """End this process by SIGXCPU if one picture takes too long, also when nobody is left to kill it."""
    used = time.process_time()
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(used + seconds) + _EXTRA_SECONDS, hard))


def _read(size: int) -> bytes | None:
    """Exactly so many bytes of standard input, or None where it ends before."""
    data = bytearray()
    while len(data) < size:
        piece = os.read(0, min(size - len(data), 1 << 20))
        if not piece:
            return None
        data += piece
    return bytes(data)


def _answer(handle: int, facts: dict[str, object], normalised: bytes) -> None:
    words = json.dumps(facts).encode()
    rest = memoryview(ANSWER.pack(len(words), len(normalised)) + words + normalised)
    while rest:
        rest = rest[os.write(handle, rest) :]


if __name__ == "__main__":
    main()
