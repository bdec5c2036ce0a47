"""Compiled reading of single characters: classes of bytes, UTF-8, the characters of IRIs, escapes.

All functions trust that the bytes they are given end with a line break, where every scan stops.

Numba's cache of a compiled function is renewed when its own file changes, not when a function that it calls does: after
a change here, remove the ``__pycache__`` folder beside this file.
"""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

compiled = numba.njit(cache=True, nogil=True)

PATH, HOST, SCHEME, LABEL, ALPHA, DIGIT, HEX, TEXT = 1, 2, 4, 8, 16, 32, 64, 128


def _classes() -> npt.NDArray[np.uint8]:
    table = np.zeros(256, dtype=np.uint8)
    alpha = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    digits = b"0123456789"
    marks = {
        ALPHA: alpha,
        DIGIT: digits,
        HEX: digits + b"abcdefABCDEF",
        SCHEME: alpha + digits + b"+-.",
        LABEL: alpha + digits + b"_-",
        HOST: alpha + digits + b"-._~!$&'()*+,;=",
        PATH: alpha + digits + b"-._~!$&'()*+,;=:@/",
        TEXT: bytes(set(range(0x80)) - set(b'"\\\n\r')),  # of a literal, as it stands
    }
    for mark, characters in marks.items():
        for character in characters:
            table[character] |= mark
    return table


CLASS = _classes()


@compiled
def skip_class(data: Any, at: int, mark: int) -> int:
    """The first byte from `at` on that is not of a class."""
    # unsigned: a signed place could count from the end, and asking so costs a quarter of the time
    place, step = np.uint64(at), np.uint64(1)
    while CLASS[data[place]] & mark:
        place += step
    return np.int64(place)  # type: ignore[return-value]


@compiled
def count_class(data: Any, at: int, mark: int) -> int:
    """How many bytes from `at` on are of a class."""
    size = 0
    while CLASS[data[at + size]] & mark:
        size += 1
    return size


@compiled
def skip_spaces(data: Any, at: int) -> int:
    """The first byte from `at` on that is neither space nor tab."""
    while data[at] == 32 or data[at] == 9:
        at += 1
    return at


@compiled
def is_equal(data: Any, start: int, end: int, other: Any) -> bool:
    """Whether the bytes from `start` to `end` are those of `other`."""
    if end - start != other.size:
        return False
    for at in range(other.size - 1, -1, -1):  # noqa: SIM110 - numba compiles no generators
        if data[start + at] != other[at]:
            return False
    return True


@compiled
def code_point(data: Any, at: int) -> tuple[Any, Any]:
    """The character of more than one byte that begins at `at`, and its number of bytes; (-1, 0) if it is not UTF-8."""
    lead = data[at]
    if 0xC2 <= lead <= 0xDF:
        if data[at + 1] & 0xC0 != 0x80:
            return -1, 0
        return (np.int64(lead & 0x1F) << 6) | np.int64(data[at + 1] & 0x3F), 2
    if 0xE0 <= lead <= 0xEF:
        if data[at + 1] & 0xC0 != 0x80 or data[at + 2] & 0xC0 != 0x80:
            return -1, 0
        code = (np.int64(lead & 0x0F) << 12) | (np.int64(data[at + 1] & 0x3F) << 6) | np.int64(data[at + 2] & 0x3F)
        if code < 0x800 or 0xD800 <= code <= 0xDFFF:
            return -1, 0
        return code, 3
    if 0xF0 <= lead <= 0xF4:
        if data[at + 1] & 0xC0 != 0x80 or data[at + 2] & 0xC0 != 0x80 or data[at + 3] & 0xC0 != 0x80:
            return -1, 0
        code = (
            (np.int64(lead & 0x07) << 18)
            | (np.int64(data[at + 1] & 0x3F) << 12)
            | (np.int64(data[at + 2] & 0x3F) << 6)
            | np.int64(data[at + 3] & 0x3F)
        )
        if code < 0x10000 or code > 0x10FFFF:
            return -1, 0
        return code, 4
    return -1, 0


@compiled
def iri_character(data: Any, at: int) -> int:
    """Bytes of the RFC 3987 `ucschar` at `at`; 0 if there is none. Planes above 2 are left to the parser."""
    code, size = code_point(data, at)
    if (
        0xA0 <= code <= 0xD7FF
        or 0xF900 <= code <= 0xFDCF
        or 0xFDF0 <= code <= 0xFFEF
        or 0x10000 <= code <= 0x1FFFD
        or 0x20000 <= code <= 0x2FFFD
    ):
        return size
    return 0


@compiled
def read_escape(data: Any, at: int) -> tuple[Any, Any]:
    """The character that the escape at `at` (a backslash) stands for, and the escape's length; (-1, 0) if none."""
    kind = data[at + 1]
    if kind == 117 or kind == 85:  # u, U
        digits = 4 if kind == 117 else 8
        code = 0
        for place in range(at + 2, at + 2 + digits):
            byte = data[place]
            if not CLASS[byte] & HEX:
                return -1, 0
            code = code * 16 + (byte - 48 if byte <= 57 else (byte | 32) - 87)
        if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            return -1, 0
        return code, 2 + digits
    if kind == 110:
        return 10, 2
    if kind == 34 or kind == 92 or kind == 39:  # " \ '
        return np.int64(kind), 2
    if kind == 116:
        return 9, 2
    if kind == 114:
        return 13, 2
    if kind == 98:
        return 8, 2
    if kind == 102:
        return 12, 2
    return -1, 0


@compiled
def utf8_bytes(code: int) -> int:
    """How many bytes a character has in UTF-8."""
    return 1 if code < 0x80 else 2 if code < 0x800 else 3 if code < 0x10000 else 4
