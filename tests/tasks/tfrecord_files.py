"""A writer of TFRecord files and examples, for tests: as short as the format allows, its checksum bit by bit."""

import struct


def crc32c(data: bytes) -> int:
    checksum = 0xFFFFFFFF
    for byte in data:
        checksum ^= byte
        for _ in range(8):
            checksum = checksum >> 1 ^ (0x82F63B78 if checksum & 1 else 0)
    return checksum ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    checksum = crc32c(data)
    return struct.pack("<I", ((checksum >> 15 | checksum << 17) + 0xA282EAD8) % 2**32)


def framed(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def varint(value: int) -> bytes:
    value %= 2**64  # negative numbers stand as their complement
    groups = []
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def message(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def feature(values, *, packed: bool = True) -> bytes:
    """A feature of texts, bytes, floats or whole numbers; one without values has no list at all."""
    if not values:
        return b""
    if isinstance(values[0], str | bytes):
        texts = [value.encode() if isinstance(value, str) else value for value in values]
        return message(1, b"".join(message(1, text) for text in texts))
    number, tag = (2, b"\x0d") if isinstance(values[0], float) else (3, b"\x08")
    rows = [struct.pack("<f", value) if isinstance(value, float) else varint(value) for value in values]
    return message(number, message(1, b"".join(rows)) if packed else b"".join(tag + row for row in rows))


def entry(name: str, value: bytes) -> bytes:
    """An entry of a map of features or of feature lists."""
    return message(1, message(1, name.encode()) + message(2, value))


def sequence_example(context, lists, *, packed: bool = True) -> bytes:
    """Context: name to values; lists: name to the values of every step."""
    features = b"".join(entry(name, feature(values, packed=packed)) for name, values in context.items())
    sequences = b"".join(
        entry(name, b"".join(message(1, feature(values, packed=packed)) for values in steps))
        for name, steps in lists.items()
    )
    return message(1, features) + message(2, sequences)
