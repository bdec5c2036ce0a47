"""JSON files of benchmarks: found plain or gzipped, read whole or element by element; a file that is cut is an error.

What is wrong with one record of a file is a :class:`Reject`, with the record's name and a reason.
"""

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, TypeGuard, cast

from mmkg.errors import DumpError

_CHUNK_CHARACTERS = 2**20
_MOST_CHARACTERS = 2**28  # of one element: none of a benchmark comes near, so beyond it the file is broken
_SHOWN_CHARACTERS = 80
_NO_VALUE = (RecursionError, ValueError)  # nested thousands deep; a number of thousands of digits
_WHITE_SPACE = " \t\n\r"


@dataclass(frozen=True, kw_only=True)
class Reject:
    """A record that cannot be used.

    Attributes:
        file: its name, without the folder.
        item: the record's own name, such as a pid, or ``image 7, object 12``.
        reason: one of few words with underscores, for counting.
        detail: what was expected and found, for people.
    """

    file: str
    item: str
    reason: str
    detail: str


def count_reasons(rejects: Iterable[Reject]) -> dict[str, int]:
    """How many records were rejected for each reason, sorted by reason."""
    return dict(sorted(Counter(reject.reason for reject in rejects).items()))


def find_json(folder: Path, *names: str) -> Path | None:
    """The first of some files that is in a folder, each plain or with ``.gz`` behind its name; None without any."""
    candidates = (folder / f"{name}{ending}" for name in names for ending in ("", ".gz"))
    return next((path for path in candidates if path.is_file()), None)


def require_json(folder: Path, *names: str) -> Path:
    """Like :func:`find_json`, for files that there must be.

    Raises:
        DumpError: none of them is there.
    """
    path = find_json(folder, *names)
    if path is None:
        raise DumpError(f"{folder}: expected {' or '.join(names)}, plain or as .gz, found neither. Put it there.")
    return path


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a file that holds one object; a key that comes twice is an error, since one of the two would be lost.

    Raises:
        DumpError: the file is missing, cut, damaged, not JSON or no object.
    """
    with _open(path) as file:
        text = _read(file, path)
    try:
        content = json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise DumpError(
            f"{path}, line {error.lineno}: expected JSON, found {_shown(text[error.pos :])} ({error.msg}). "
            "The file is cut or damaged; fetch it again."
        ) from error
    except _NO_VALUE as error:
        raise DumpError(f"{path}: expected JSON of a benchmark, found what no reader takes: {error}.") from error
    except _RepeatedKeyError as error:
        raise DumpError(f"{path}: expected every key once, found {error} twice. Remove one of them.") from error
    if not isinstance(content, dict):
        raise DumpError(f"{path}: expected an object, found a {type(content).__name__}. It is another file.")
    return cast("dict[str, Any]", content)


def stream_json_array(path: Path) -> Iterator[dict[str, Any]]:
    """Read the elements of a file that holds one array of objects, one at a time: the file may be larger than memory.

    Raises:
        DumpError: the file is missing, cut, damaged, or not such an array.
    """
    with _open(path) as file:
        yield from _Elements(file, path)


def listed(found: Any) -> list[Any]:
    """A field that holds a list, one thing alone, or nothing, as a list."""
    if found is None:
        return []
    return found if isinstance(found, list) else [found]


def entries_of(record: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The objects in a field of a record; what else is in it is no entry."""
    return [entry for entry in listed(record.get(name)) if isinstance(entry, dict)]


def words(found: Any) -> str:
    """A text with single spaces; "" for what is no text."""
    return " ".join(found.split()) if isinstance(found, str) else ""


def is_whole(found: Any) -> TypeGuard[int]:
    """Whether a field holds a whole number; true and false are none."""
    return isinstance(found, int) and not isinstance(found, bool)


class _Elements:
    """The array of a file, through a buffer of text; what was read of it is dropped when more is needed."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self._file, self._path = file, path
        self._buffer, self._at, self._ended = "", 0, False
        self._passed = 0  # characters before the buffer

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self._take("[")
        if self._peek() == "]":
            self._take("]")
        else:
            while True:
                yield self._element()
                if self._peek() == "]":
                    self._take("]")
                    break
                self._take(",")
        if self._peek():
            raise self._broken("nothing behind the array", self._at)

    def _fill(self, size: int) -> None:
        more = _read(self._file, self._path, size)
        self._ended = not more
        self._passed += self._at
        self._buffer, self._at = self._buffer[self._at :] + more, 0

    def _peek(self) -> str:
        """The next character that is no white space, "" at the end."""
        while True:
            while self._at < len(self._buffer):
                if (character := self._buffer[self._at]) not in _WHITE_SPACE:
                    return character
                self._at += 1
            if self._ended:
                return ""
            self._fill(_CHUNK_CHARACTERS)

    def _take(self, expected: str) -> None:
        if self._peek() != expected:
            raise self._broken(f"'{expected}'", self._at)
        self._at += 1

    def _element(self) -> dict[str, Any]:
        decoder, size = json.JSONDecoder(), _CHUNK_CHARACTERS
        if self._peek() != "{":
            raise self._broken("an object", self._at)
        while True:
            try:
                element, self._at = decoder.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                # it may only be cut off by the buffer; each try sees twice as much, so all tries cost about two
                if self._ended or size > _MOST_CHARACTERS:
                    raise self._broken(f"an object that ends ({error.msg})", error.pos) from error
                self._fill(size)
                size *= 2
                continue
            except _NO_VALUE as error:
                raise self._broken(f"an object that can be read ({error})", self._at) from error
            return cast("dict[str, Any]", element)

    def _broken(self, expected: str, position: int) -> DumpError:
        found = _shown(self._buffer[position : position + _SHOWN_CHARACTERS])
        return DumpError(
            f"{self._path}, from character {self._passed + self._at:,} on: expected {expected}, found {found}. "
            "The file is cut, damaged or another one; fetch it again."
        )


class _RepeatedKeyError(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        repeated = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise _RepeatedKeyError(repr(repeated))
    return found


def _open(path: Path) -> TextIO:
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        return cast(TextIO, gzip.open(path, "rt", encoding="utf-8")) if zipped else path.open(encoding="utf-8")
    except FileNotFoundError as error:
        raise DumpError(f"{path}: no such file.") from error
    except OSError as error:
        raise DumpError(f"{path}: cannot be read: {error.strerror}.") from error


def _read(file: TextIO, path: Path, size: int = -1) -> str:
    try:
        return file.read(size)
    except (EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError) as error:
        raise DumpError(
            f"{path}: expected UTF-8 text, plain or gzipped, found it cut or damaged ({error}). Fetch it again."
        ) from error


def _shown(text: str) -> str:
    return repr(text[:_SHOWN_CHARACTERS]) if text else "the end of the file"
