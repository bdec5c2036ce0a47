"""Compiled recognition of N-Triples lines: where in the bytes of a block the terms are, without Python objects.

The tokenizer accepts a strict subset of the grammar and leaves every other line to pyoxigraph. What it accepts,
pyoxigraph (strict, that line alone) reads as the same triple; the tests hold the two against each other.

Grammar: https://www.w3.org/TR/n-triples/ . IRIs: RFC 3987, without user names and IP addresses in the authority, which
are left to the parser. Language tags: BCP 47, the forms language, language-Script, language-REGION and all three.
"""

from typing import Any

import numpy as np

from mmkg.sources.base import MAX_IRI_BYTES
from mmkg.sources.characters import (
    ALPHA,
    CLASS,
    DIGIT,
    HEX,
    HOST,
    LABEL,
    PATH,
    SCHEME,
    TEXT,
    code_point,
    compiled,
    count_class,
    iri_character,
    is_equal,
    read_escape,
    skip_class,
    skip_spaces,
    utf8_bytes,
)
from mmkg.terms import RDF, XSD_STRING

# What a line is.
SLOW, TRIPLE, COMMENT, BLANK, REJECT = 0, 1, 2, 3, 4
# How the bytes of a term become its string.
NONE, COPY, SCOPE, UNESCAPE, LOWER = 0, 1, 2, 3, 4
# Rows of the array that describes the lines, a column each; a term is (start, end, mode, length of the string).
START, END, STATUS, HEAD, RELATION, TAIL, VALUE, DATATYPE, LANGUAGE = 0, 1, 2, 3, 7, 11, 15, 19, 23
FIELDS = 27
SCOPE_BYTES = 12  # of "_:m01234567x", which stands before a label of the dump

_XSD_STRING = np.frombuffer(XSD_STRING.encode(), dtype=np.uint8)
_LANG_STRING = np.frombuffer((RDF + "langString").encode(), dtype=np.uint8)
_DIR_LANG_STRING = np.frombuffer((RDF + "dirLangString").encode(), dtype=np.uint8)


@compiled
def _scan_iri(data: Any, at: int) -> int:
    """Where the IRI after the ``<`` at `at` has its ``>``; -1 if it is not absolute, not plainly valid, or long."""
    start = at + 1
    at += 1
    if not CLASS[data[at]] & ALPHA:
        return -1
    while CLASS[data[at]] & SCHEME:
        at += 1
    if data[at] != 58:  # :
        return -1
    at += 1
    if data[at] == 47 and data[at + 1] == 47:  # //
        at += 2
        while True:
            byte = data[at]
            if CLASS[byte] & HOST:
                at += 1
            elif byte >= 0x80:
                size = iri_character(data, at)
                if size == 0:
                    return -1
                at += size
            else:
                break
        if data[at] == 58:  # a port
            at += 1
            while CLASS[data[at]] & DIGIT:
                at += 1
        if data[at] not in (47, 63, 35, 62):  # / ? # >
            return -1
    part = 0  # path, query, fragment
    while True:
        at = skip_class(data, at, PATH)
        byte = data[at]
        if byte == 62:  # >
            return at if at - start <= MAX_IRI_BYTES else -1
        if byte == 37:  # %
            if not CLASS[data[at + 1]] & HEX or not CLASS[data[at + 2]] & HEX:
                return -1
            at += 3
        elif byte == 63:  # ?
            part = max(part, 1)
            at += 1
        elif byte == 35:  # #
            if part == 2:
                return -1
            part = 2
            at += 1
        elif byte >= 0x80:
            size = iri_character(data, at)
            if size == 0:
                return -1
            at += size
        else:
            return -1


@compiled
def _scan_label(data: Any, at: int) -> int:
    """Where the blank node ``_:label`` at `at` ends; -1 unless it is of letters, digits, _ and -, before a space."""
    if data[at + 1] != 58:
        return -1
    at += 2
    if not CLASS[data[at]] & LABEL or data[at] == 45:  # -
        return -1
    while CLASS[data[at]] & LABEL:
        at += 1
    return at if data[at] == 32 or data[at] == 9 else -1


@compiled
def _is_scoped(data: Any, start: int, end: int) -> bool:
    """Whether the label of ``_:label`` is of the form that sources.base.scoped_label leaves alone."""
    if end - start < SCOPE_BYTES + 1 or data[start + 2] != 109:  # m
        return False
    for at in range(start + 3, start + 11):
        if not (48 <= data[at] <= 57 or 97 <= data[at] <= 102):
            return False
    return data[start + 11] == 120 or data[start + 11] == 121  # x, y


@compiled
def _scan_literal(data: Any, at: int) -> tuple[int, int, bool]:
    """Where the literal that opens at `at` closes (-1: left to the parser), bytes of its string, if it has escapes."""
    at += 1
    length = 0
    escaped = False
    while True:
        plain = skip_class(data, at, TEXT)
        length += plain - at
        at = plain
        byte = data[at]
        if byte == 34:
            return at, length, escaped
        if byte == 92:
            code, size = read_escape(data, at)
            if code < 0:
                return -1, 0, False
            escaped = True
            length += utf8_bytes(code)
            at += size
        elif byte >= 0x80:
            code, size = code_point(data, at)
            if code < 0:
                return -1, 0, False
            length += size
            at += size
        else:  # a line break
            return -1, 0, False


@compiled
def _scan_language(data: Any, at: int) -> int:
    """Where the language tag at `at` (after the @) ends; -1 unless it is of the forms named above."""
    size = count_class(data, at, ALPHA)
    if size != 2 and size != 3:
        return -1
    at += size
    if data[at] == 45 and count_class(data, at + 1, ALPHA) == 4:
        at += 5
    if data[at] == 45:
        if count_class(data, at + 1, ALPHA) == 2:
            at += 3
        elif count_class(data, at + 1, DIGIT) == 3:
            at += 4
        else:
            return -1
    return -1 if CLASS[data[at]] & (LABEL | DIGIT) else at


@compiled
def _set(row: Any, column: int, start: int, end: int, mode: int, length: int) -> None:
    row[column] = start
    row[column + 1] = end
    row[column + 2] = mode
    row[column + 3] = length


@compiled
def _scan_node(data: Any, at: int, row: Any, column: int) -> int:
    """Note the IRI or blank node at `at`; where it ends, or -1."""
    if data[at] == 60:  # <
        end = _scan_iri(data, at)
        if end < 0:
            return -1
        _set(row, column, at + 1, end, COPY, end - at - 1)
        return end + 1
    if data[at] == 95:  # _
        end = _scan_label(data, at)
        if end < 0:
            return -1
        if _is_scoped(data, at, end):
            _set(row, column, at, end, COPY, end - at)
        else:
            _set(row, column, at + 2, end, SCOPE, end - at - 2 + SCOPE_BYTES)
        return end
    return -1


@compiled
def _scan_object(data: Any, at: int, row: Any) -> int:
    """Note the object at `at`; where it ends, or -1."""
    if data[at] != 34:
        return _scan_node(data, at, row, TAIL)
    end, length, escaped = _scan_literal(data, at)
    if end < 0:
        return -1
    _set(row, VALUE, at + 1, end, UNESCAPE if escaped else COPY, length)
    at = end + 1
    if data[at] == 64:  # @
        end = _scan_language(data, at + 1)
        if end >= 0:
            _set(row, LANGUAGE, at + 1, end, LOWER, end - at - 1)
        return end
    if data[at] == 94:  # ^^<
        if data[at + 1] != 94 or data[at + 2] != 60:
            return -1
        at += 2
        end = _scan_iri(data, at)
        if end < 0 or is_equal(data, at + 1, end, _LANG_STRING) or is_equal(data, at + 1, end, _DIR_LANG_STRING):
            return -1
        if not is_equal(data, at + 1, end, _XSD_STRING):
            _set(row, DATATYPE, at + 1, end, COPY, end - at - 1)
        return end + 1
    return at


@compiled
def _scan_end(data: Any, at: int) -> int:
    """The line break after `at` if only spaces and an ASCII comment stand before it; else -1."""
    at = skip_spaces(data, at)
    if data[at] == 35:  # #
        while data[at] != 10 and data[at] != 13 and data[at] < 0x80:
            at += 1
    if data[at] == 13:
        at += 1
    return at if data[at] == 10 else -1


@compiled
def _scan_triple(data: Any, at: int, row: Any) -> int:
    """Note the triple at `at`; the line break after it, or -1."""
    at = _scan_node(data, at, row, HEAD)
    if at < 0:
        return -1
    at = skip_spaces(data, at)
    if data[at] != 60:
        return -1
    at = _scan_node(data, at, row, RELATION)
    if at < 0:
        return -1
    at = _scan_object(data, skip_spaces(data, at), row)
    if at < 0:
        return -1
    at = skip_spaces(data, at)
    return _scan_end(data, at + 1) if data[at] == 46 else -1  # .


@compiled
def _line_break(data: Any, at: int) -> tuple[int, bool]:
    """The line break at or after `at`, and whether a carriage return stands before it that does not belong to it."""
    stray = False
    while data[at] != 10:
        if data[at] == 13 and data[at + 1] != 10:
            stray = True
        at += 1
    return at, stray


@compiled
def tokenize(data: Any, rows: Any) -> int:
    """Recognise the lines of a block.

    Args:
        data: uint8 (bytes,), ending with a line break; offsets must fit int32.
        rows: int32 (FIELDS, lines), zeroed; filled as the constants above say. `START` and `END` are the line without
            its line break and a carriage return before it.

    Returns:
        the number of bytes that were read: all, if `rows` is as long as there are lines.
    """
    line = 0
    at = 0
    while at < data.size and line < rows.shape[1]:
        row = rows[:, line]
        first = skip_spaces(data, at)
        end = _scan_triple(data, first, row)
        status = TRIPLE
        if end < 0:
            row[HEAD:FIELDS] = 0
            end, stray = _line_break(data, first)
            status = SLOW
            if not stray and (data[first] == 10 or data[first] == 13):
                status = BLANK
            elif not stray and data[first] == 35:
                status = COMMENT
        row[START] = at
        row[END] = end - 1 if end > at and data[end - 1] == 13 else end
        row[STATUS] = status
        line += 1
        at = end + 1
    return at
