"""Opening a dump: the compression is sniffed by its first bytes, and what was cut off or damaged is an error.

The first step on the way of a fact: bytes on disk become a stream of decompressed bytes.
"""

import io
import os
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import rapidgzip
import zstandard

from mmkg.errors import DumpError

_CHUNK_BYTES = 2**20
_MOST_OUTPUT_BYTES = 16 * 2**20  # of one step of gzip
_ZSTD_CHUNK_BYTES = 4096  # 4 bytes can stand for 128 KiB, so more input at once could be gigabytes of output
_PARALLEL_FROM_BYTES = 4 * 2**20  # below, starting threads costs more than it saves
_PARALLEL_FROM_WORKERS = 4
_TRAILING_ZEROS = 16  # tape padding after a gzip member, which rapidgzip refuses and gzip ignores
_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\x28\xb5\x2f\xfd": "zstd"}


class ByteStream(Protocol):
    """A decompressed dump."""

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; fewer than asked for only at the end."""

    @property
    def bytes_read(self) -> int:
        """How far the file on disk has been read, about."""


def sniff_compression(dump: Path) -> str:
    """Tell gzip, bzip2 and zstd from "plain" by a file's first bytes."""
    with dump.open("rb") as file:
        start = file.read(4)
    if start[:3] == b"\x50\x2a\x4d" or (len(start) == 4 and start[1:] == b"\x2a\x4d\x18"):  # zstd skippable frame
        return "zstd"
    return next((name for magic, name in _MAGIC.items() if start.startswith(magic)), "plain")


@contextmanager
def open_stream(dump: Path, *, workers: int = 1) -> Iterator[ByteStream]:
    """Open a dump for reading decompressed bytes.

    Args:
        dump: a plain, gzip, bzip2 or zstd file; several compressed members after one another are one stream.
        workers: how many parse what comes out; from 4 on, gzip is decompressed by half as many threads.

    Raises:
        DumpError: the file cannot be opened; while reading, it is truncated or damaged.
    """
    try:
        size = dump.stat().st_size
        compression = sniff_compression(dump)
        with _open(dump, compression, size, workers) as stream:
            yield stream
    except FileNotFoundError as error:
        raise DumpError(f"{dump}: no such dump.") from error
    except OSError as error:
        if isinstance(error, BrokenPipeError) or error.filename not in (str(dump), dump):
            raise
        raise DumpError(f"{dump}: cannot be read: {error.strerror}.") from error


def _open(dump: Path, compression: str, size: int, workers: int) -> AbstractContextManager[ByteStream]:
    if compression == "bzip2":
        return _ParallelStream(dump, compression, size, workers)
    # several threads cost about twice the processor time of one, which must feed enough parsers to be worth it
    if (
        compression == "gzip"
        and workers >= _PARALLEL_FROM_WORKERS
        and size >= _PARALLEL_FROM_BYTES
        and not _ends_in_zeros(dump)
    ):
        return _ParallelStream(dump, compression, size, workers)
    if compression == "plain":
        return _PlainStream(dump)
    return _MemberStream(dump, compression, size)


def _ends_in_zeros(dump: Path) -> bool:
    with dump.open("rb") as file:
        file.seek(-_TRAILING_ZEROS, os.SEEK_END)
        return file.read() == bytes(_TRAILING_ZEROS)


def _damaged(dump: Path, compression: str, position: int, size: int, words: str) -> DumpError:
    return DumpError(
        f"{dump}: truncated or damaged {compression} file: {words} at byte {position:,} of {size:,}. Nothing of it is "
        "kept. Download it again, and compare its size or checksum with the publisher's."
    )


class _PlainStream:
    def __init__(self, dump: Path) -> None:
        self._file: BinaryIO = dump.open("rb")

    def __enter__(self) -> "_PlainStream":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        return self._file.read(size)

    @property
    def bytes_read(self) -> int:
        return self._file.tell()


class _ParallelStream:
    """gzip and bzip2 by several threads (rapidgzip)."""

    def __init__(self, dump: Path, compression: str, size: int, workers: int) -> None:
        self._dump, self._compression, self._size = dump, compression, size
        opener = rapidgzip.RapidgzipFile if compression == "gzip" else rapidgzip.IndexedBzip2File
        try:
            self._file = opener(str(dump), parallelization=max(1, workers // 2))
        except (ValueError, RuntimeError) as error:
            raise _damaged(dump, compression, 0, size, _words(error)) from error

    def __enter__(self) -> "_ParallelStream":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        parts = []
        while size:
            try:
                part = self._file.read(size)
            except (ValueError, RuntimeError, OSError) as error:
                raise _damaged(self._dump, self._compression, self.bytes_read, self._size, _words(error)) from error
            if not part:
                # rapidgzip takes a file that ends inside a deflate block for whole; where it stopped gives it away
                if self.bytes_read < self._size:
                    raise _damaged(
                        self._dump, self._compression, self.bytes_read, self._size, "the data ends too early"
                    )
                break
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @property
    def bytes_read(self) -> int:
        return min(self._size, (int(self._file.tell_compressed()) + 7) // 8)


def _words(error: Exception) -> str:
    text = str(error)
    return "the data cannot be decompressed" if text in ("", "std::exception") else text.rstrip(".!")


class _MemberStream:
    """gzip and zstd, one thread: member after member, each of which must end."""

    def __init__(self, dump: Path, compression: str, size: int) -> None:
        self._dump, self._compression, self._size = dump, compression, size
        self._is_gzip = compression == "gzip"
        self._file: BinaryIO = dump.open("rb")
        self._member = self._new_member()
        self._input = b""
        self._output = io.BytesIO()
        self._inside = False  # a member has begun

    def __enter__(self) -> "_MemberStream":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _new_member(self) -> Any:
        """A decompressor of one member: `eof` says that it is over, `unused_data` what stands after it."""
        return zlib.decompressobj(wbits=31) if self._is_gzip else zstandard.ZstdDecompressor().decompressobj()

    def read(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size:
            part = self._output.read(size)
            if not part:
                decompressed = self._decompress()
                if decompressed is None:
                    break
                self._output = io.BytesIO(decompressed)
                continue
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _decompress(self) -> bytes | None:
        """The next piece of output, b"" if a step gave none, None at the end of the file."""
        if not self._input:
            self._input = self._file.read(_CHUNK_BYTES if self._is_gzip else _ZSTD_CHUNK_BYTES)
            if not self._input:
                if self._inside:
                    raise self._damage("the data ends too early")
                return None
        if not self._inside and not self._input.strip(b"\0"):  # padding between or after members
            self._input = b""
            return b""
        try:
            if self._is_gzip:
                output = self._member.decompress(self._input, _MOST_OUTPUT_BYTES)
                rest = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            else:
                output = self._member.decompress(self._input)
                rest = self._member.unused_data if self._member.eof else b""
        except (zlib.error, zstandard.ZstdError) as error:
            raise self._damage(_words(error)) from error
        self._inside = not self._member.eof
        if self._member.eof:
            self._member = self._new_member()
        self._input = rest
        return bytes(output)

    def _damage(self, words: str) -> DumpError:
        return _damaged(self._dump, self._compression, self.bytes_read, self._size, words)

    @property
    def bytes_read(self) -> int:
        return self._file.tell() - len(self._input)
