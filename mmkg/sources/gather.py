"""From the places that the tokenizer found to Arrow string columns, still without Python objects."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmkg.sources.characters import compiled, read_escape
from mmkg.sources.tokenizer import COPY, LOWER, NONE, SCOPE, UNESCAPE


@compiled
def _encode(code: int, out: Any, to: int) -> int:
    """Write a character as UTF-8; where the next one goes."""
    if code < 0x80:
        out[to] = code
        return to + 1
    if code < 0x800:
        out[to] = 0xC0 | (code >> 6)
        out[to + 1] = 0x80 | (code & 0x3F)
        return to + 2
    if code < 0x10000:
        out[to] = 0xE0 | (code >> 12)
        out[to + 1] = 0x80 | ((code >> 6) & 0x3F)
        out[to + 2] = 0x80 | (code & 0x3F)
        return to + 3
    out[to] = 0xF0 | (code >> 18)
    out[to + 1] = 0x80 | ((code >> 12) & 0x3F)
    out[to + 2] = 0x80 | ((code >> 6) & 0x3F)
    out[to + 3] = 0x80 | (code & 0x3F)
    return to + 4


@compiled
def _copy(data: Any, at: int, out: Any, to: int, size: int) -> None:
    # unsigned places: a signed one could count from the end, and asking so for each byte keeps this from being a copy
    source, target = np.uint64(at), np.uint64(to)
    for place in range(np.uint64(size)):
        out[target + place] = data[source + place]


@compiled
def _gather(data: Any, rows: Any, chosen: Any, column: int, scope: Any, offsets: Any, out: Any) -> None:
    to = 0
    for index in range(chosen.size):
        line = chosen[index]
        at, end, mode = rows[column, line], rows[column + 1, line], rows[column + 2, line]
        offsets[index] = to
        if mode == COPY:
            _copy(data, at, out, to, end - at)
            to += end - at
        elif mode == UNESCAPE:
            while at < end:
                if data[at] == 92:
                    code, size = read_escape(data, at)
                    to = _encode(code, out, to)
                    at += size
                else:
                    out[to] = data[at]
                    to += 1
                    at += 1
        elif mode == LOWER:
            for place in range(at, end):
                byte = data[place]
                out[to] = byte + 32 if 65 <= byte <= 90 else byte
                to += 1
        elif mode == SCOPE:
            _copy(scope, 0, out, to, scope.size)
            to += scope.size
            _copy(data, at, out, to, end - at)
            to += end - at
    offsets[chosen.size] = to


def gather(
    data: npt.NDArray[np.uint8], rows: npt.NDArray[np.int32], chosen: npt.NDArray[np.int64], column: int, scope: bytes
) -> pa.StringArray:
    """Gather one term of the chosen lines as an Arrow column; null where a line has no such term.

    Args:
        data: the bytes that `rows` points into.
        rows: (FIELDS, lines) from :func:`tokenize`.
        chosen: (count,) lines.
        column: HEAD, RELATION, TAIL, VALUE, DATATYPE or LANGUAGE.
        scope: what stands before the blank node labels of this dump, SCOPE_BYTES long.
    """
    present = rows[column + 2, chosen] != NONE
    total = int(rows[column + 3, chosen].sum(dtype=np.int64))
    offsets = np.empty(chosen.size + 1, dtype=np.int32)
    out = np.empty(total, dtype=np.uint8)
    _gather(data, rows, chosen, column, np.frombuffer(scope, dtype=np.uint8), offsets, out)
    validity = None if present.all() else pa.py_buffer(np.packbits(present, bitorder="little"))
    return pa.StringArray.from_buffers(chosen.size, pa.py_buffer(offsets), pa.py_buffer(out), validity)
