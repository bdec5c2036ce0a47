"""TFRecord files, plain or gzipped, and the examples in them; read without TensorFlow and without protobuf.

A record stands in a file as its length, its bytes, and a checksum of each, all little-endian::

    uint64 length | uint32 masked CRC-32C of the length | the bytes | uint32 masked CRC-32C of the bytes

and its bytes are a ``tf.train.Example`` or ``SequenceExample`` in the wire format of Protocol Buffers::

    SequenceExample  context = 1 (Features)     feature_lists = 2 (map: name = 1, FeatureList = 2)
    Features         feature = 1 (map: name = 1, Feature = 2)     FeatureList  feature = 1 (repeated Feature)
    Feature          one of bytes_list = 1, float_list = 2, int64_list = 3, whose value = 1 may be packed

A file that was cut, or has another byte than was written, is an error with the number of the record and the byte where
it begins (of what was unzipped, for a gzipped file); nothing behind that place can be trusted. One cut cannot be seen:
a plain file that ends with a record. Address of both formats: https://www.tensorflow.org/tutorials/load_data/tfrecord
and https://protobuf.dev/programming-guides/encoding .
"""

import gzip
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mmkg.errors import DumpError

_HEAD_BYTES, _CHECKSUM_BYTES = 12, 4
_MOST_BYTES = 2**31 - 1  # of one record: Protocol Buffers allow no message beyond it
_GZIP_MAGIC = b"\x1f\x8b"
_CASTAGNOLI = 0x82F63B78  # the polynomial of CRC-32C, bits reversed
_MASK_DELTA = 0xA282EAD8
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5  # wire types
_KINDS: tuple[Literal["bytes", "float", "int64"], ...] = ("bytes", "float", "int64")  # by field number, from 1


class RecordError(DumpError):
    """A record, or the example in it, is not what was written.

    `reason` is cut | bad_checksum | not_gzip for a file, after which reading ends; not_an_example | repeated_key for
    the bytes of one record, whose neighbours are as good as before.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Feature:
    """The values of a feature; `kind` is None where it was written without a list."""

    kind: Literal["bytes", "float", "int64"] | None = None
    values: tuple[bytes | float | int, ...] = ()


@dataclass(frozen=True, slots=True)
class SequenceExample:
    """Features of the whole, and of each sequence a feature for every step; an `Example` has no sequence."""

    context: Mapping[str, Feature]
    feature_lists: Mapping[str, tuple[Feature, ...]]


def masked_crc32c(data: bytes) -> int:
    """The checksum of a TFRecord: CRC-32C, turned right by 15 bits, plus a constant, modulo 2**32."""
    checksum = int(_crc32c(np.frombuffer(data, np.uint8), _TABLE))
    return ((checksum >> 15 | checksum << 17) + _MASK_DELTA) & 0xFFFFFFFF


def read_records(path: Path) -> Iterator[bytes]:
    """The bytes of every record of a file, in order; both checksums are verified before a record is given out.

    A file is plain when the checksum of its first length holds, since a length may begin like a gzipped file.

    Raises:
        DumpError: there is no such file, or it has no byte at all.
        RecordError: it was cut, or its bytes are not those that were written.
    """
    with _open(path) as file:
        number = offset = 0
        while head := _take(file, _HEAD_BYTES, _Place(path, number, offset), may_end=True):
            place = _Place(path, number, offset)
            length, checksum = struct.unpack("<QI", head)
            _check(head[:8], checksum, "length", place)
            if length > _MOST_BYTES:
                raise RecordError(f"{place}: expected at most {_MOST_BYTES:,} bytes, found {length:,}.", "bad_checksum")
            data = _take(file, length, place)
            (checksum,) = struct.unpack("<I", _take(file, _CHECKSUM_BYTES, place))
            _check(data, checksum, "data", place)
            yield data
            number += 1
            offset += _HEAD_BYTES + length + _CHECKSUM_BYTES


def parse_example(data: bytes) -> SequenceExample:
    """Parse the bytes of a record, a ``SequenceExample`` or an ``Example``: their first fields are written alike.

    Fields that are not known are passed over. A message that comes in parts is put together, as the format asks;
    a name that comes twice in a map is an error, since one of the two features would be lost.

    Raises:
        RecordError: the bytes are no example.
    """
    parts: dict[int, list[bytes]] = {1: [], 2: []}
    for number, wire_type, found in _fields(data):
        if number in parts:
            parts[number].append(_message(found, wire_type))
    return SequenceExample(
        context={name: _feature(value) for name, value in _map_entries(parts[1])},
        feature_lists={
            name: tuple(
                _feature(_message(found, wire_type)) for number, wire_type, found in _fields(value) if number == 1
            )
            for name, value in _map_entries(parts[2])
        },
    )


@dataclass(frozen=True, slots=True)
class _Place:
    path: Path
    number: int
    offset: int

    def __str__(self) -> str:
        return f"{self.path}, record {self.number:,} from byte {self.offset:,} on"


def _open(path: Path) -> BinaryIO:
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise DumpError(f"{path}: no such file.") from error
    except OSError as error:
        raise DumpError(f"{path}: cannot be read: {error.strerror}.") from error
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    if not head:
        file.close()
        raise DumpError(f"{path}: expected records, found an empty file. Fetch it again.")
    plain = len(head) == _HEAD_BYTES and masked_crc32c(head[:8]) == struct.unpack("<I", head[8:])[0]
    if plain or not head.startswith(_GZIP_MAGIC):
        return file
    file.close()
    return cast(BinaryIO, gzip.open(path, "rb"))


def _take(file: BinaryIO, size: int, place: _Place, *, may_end: bool = False) -> bytes:
    """The next bytes of a file; none of them, where it may end here and does."""
    try:
        data = file.read(size)
    except EOFError as error:
        raise RecordError(f"{place}: the gzipped file ends in the middle. Fetch it again.", "cut") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise RecordError(f"{place}: the gzipped file is damaged ({error}). Fetch it again.", "not_gzip") from error
    if len(data) < size and (data or not may_end):
        raise RecordError(
            f"{place}: expected {size:,} more bytes, found {len(data):,} and the end of the file. Fetch it again.",
            "cut",
        )
    return data


def _check(data: bytes, expected: int, what: str, place: _Place) -> None:
    if (found := masked_crc32c(data)) != expected:
        raise RecordError(
            f"{place}: the checksum of its {what} is {expected:#010x}, its bytes give {found:#010x}. "
            "The file is damaged, or no TFRecord file; fetch it again.",
            "bad_checksum",
        )


def _map_entries(messages: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    """Name and value of every entry of a map, over the messages that hold it; parts of a value are joined."""
    names: set[str] = set()
    for message in messages:
        for number, wire_type, found in _fields(message):
            if number != 1:
                continue
            key, values = b"", []
            for part, part_type, content in _fields(_message(found, wire_type)):
                if part == 1:
                    key = _message(content, part_type)
                elif part == 2:
                    values.append(_message(content, part_type))
            try:
                name = key.decode()
            except UnicodeDecodeError as error:
                raise _no_example(f"a name in UTF-8, found {key[:40]!r}") from error
            if name in names:
                raise RecordError(f"expected every feature once in an example, found {name!r} twice", "repeated_key")
            names.add(name)
            yield name, b"".join(values)


def _feature(message: bytes) -> Feature:
    kind: Literal["bytes", "float", "int64"] | None = None
    values: list[bytes | float | int] = []
    for number, wire_type, found in _fields(message):
        if not 1 <= number <= len(_KINDS):
            continue
        if kind is not None and kind != _KINDS[number - 1]:
            raise _no_example(f"a feature of one kind, found {kind} and {_KINDS[number - 1]}")
        kind = _KINDS[number - 1]
        for part, part_type, content in _fields(_message(found, wire_type)):
            if part == 1:
                values += _values(kind, part_type, content)
    return Feature(kind, tuple(values))


def _values(kind: str, wire_type: int, found: Any) -> Iterable[bytes | float | int]:
    """One value of a list, or several that were packed."""
    if kind == "bytes":
        return [_message(found, wire_type)]
    if kind == "float":
        packed = found if wire_type in (_LENGTH, _FIXED32) else b"?"
        if len(packed) % 4:
            raise _no_example(f"floats of four bytes, found wire type {wire_type}")
        return cast("Iterable[float]", struct.unpack(f"<{len(packed) // 4}f", packed))
    if wire_type == _VARINT:
        return [_signed(found)]
    numbers, at, packed = [], 0, _message(found, wire_type)
    while at < len(packed):
        value, at = _varint(packed, at)
        numbers.append(_signed(value))
    return numbers


def _fields(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """Field number, wire type and content of every field of a message: a number for a varint, else bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        if not 0 < number < 2**29:
            raise _no_example(f"a field number from 1 on, found {number} before byte {at}")
        if wire_type == _VARINT:
            value, at = _varint(data, at)
            yield number, wire_type, value
            continue
        if wire_type == _LENGTH:
            size, at = _varint(data, at)
        elif wire_type in (_FIXED32, _FIXED64):
            size = 4 if wire_type == _FIXED32 else 8
        else:
            raise _no_example(f"a wire type of 0, 1, 2 or 5, found {wire_type} before byte {at}")
        if at + size > len(data):
            raise _no_example(f"{size:,} bytes from byte {at} on, found {len(data) - at:,}")
        yield number, wire_type, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned number of up to 64 bits, seven to a byte, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise _no_example(f"a number that ends, found the end of the message at byte {at}")
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            if value >= 2**64:
                break
            return value, at
    raise _no_example(f"a number of at most 64 bits before byte {at}, found a longer one")


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def _message(found: Any, wire_type: int) -> bytes:
    if wire_type != _LENGTH:
        raise _no_example(f"bytes with their length, found wire type {wire_type}")
    return cast(bytes, found)


def _no_example(expected_and_found: str) -> RecordError:
    return RecordError(f"no example of TensorFlow: expected {expected_and_found}", "not_an_example")


def _table() -> NDArray[np.uint32]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(_CASTAGNOLI), table >> 1).astype(np.uint32)
    return table


@njit(cache=True, nogil=True)
def _crc32c(data: NDArray[np.uint8], table: NDArray[np.uint32]) -> np.uint32:
    checksum = np.uint32(0xFFFFFFFF)
    for place in range(data.shape[0]):
        checksum = table[(checksum ^ data[place]) & 0xFF] ^ (checksum >> np.uint32(8))
    return np.uint32(checksum ^ np.uint32(0xFFFFFFFF))


_TABLE = _table()
