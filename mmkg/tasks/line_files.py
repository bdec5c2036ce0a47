"""Text files of benchmarks, one record a line: found plain or gzipped, read line by line with the line's number."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from mmkg.errors import DumpError


def require_lines(folder: Path, name: str) -> Path:
    """The file of that name in a folder, plain or with ``.gz`` behind its name.

    Raises:
        DumpError: neither is there.
    """
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise DumpError(f"{folder}: expected {name} or {name}.gz, found neither. Put it there.")


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line) of every line that is not blank; the file is read whole first.

    Raises:
        DumpError: the file is missing, cut, damaged or not UTF-8.
    """
    try:
        packed = path.read_bytes()
        text = (gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed).decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"byte {error.object[error.start]:#04x} at {error.start}"
        raise DumpError(f"{path}: expected UTF-8, found {found}. Fetch the file again.") from error
    except (OSError, EOFError, zlib.error) as error:  # gzip says EOFError where a file was cut off
        raise DumpError(f"{path}: cannot be read whole: {error}. Fetch the file again.") from error
    for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: texts may hold U+2028
        if line.strip():
            yield number, line.rstrip("\r")
