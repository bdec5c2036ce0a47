"""How many frames a picture has, counted up to a limit and without decoding any.

Pillow counts those of GIF and TIFF by going through the whole file and parsing each; WebP, AVIF, MPO and animated PNG
state the number in their header.
"""

import struct

from PIL import Image

_GIF_EXTENSION, _GIF_FRAME, _GIF_TRAILER = 0x21, 0x2C, 0x3B


def count_frames(image: Image.Image, data: bytes, kind: str, limit: int) -> int:
    """Count the frames of an opened picture; a number above `limit` means "more than that".

    Args:
        image: as Pillow opened it.
        data: its bytes.
        kind: its format, as `sniff_format` calls it.
        limit: where counting may stop.
    """
    if kind == "gif":
        return max(1, count_gif_frames(data, limit))
    if kind == "tiff":
        return max(1, count_tiff_pages(data, limit))
    return int(getattr(image, "n_frames", 1))


def count_gif_frames(data: bytes, limit: int) -> int:
    """Count the image descriptors of a GIF, at most `limit` + 1, up to where its blocks end or make no sense."""
    place = 13 + _colour_table_bytes(data[10:11])  # header and logical screen, then the global colours
    frames = 0
    while frames <= limit and place < len(data):
        block = data[place]
        if block == _GIF_FRAME:
            frames += 1
            place += 10 + _colour_table_bytes(data[place + 9 : place + 10]) + 1  # … and the code size
        elif block == _GIF_EXTENSION:
            place += 2
        else:
            break
        place = _skip_blocks(data, place)
    return frames


def _colour_table_bytes(flags: bytes) -> int:
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


def _skip_blocks(data: bytes, place: int) -> int:
    """Step over blocks that each begin with their size, the last one being empty."""
    end = len(data)
    while place < end and (size := data[place]):
        place += size + 1
    return place + 1


def count_tiff_pages(data: bytes, limit: int) -> int:
    """Count the directories of a TIFF or BigTIFF, at most `limit` + 1; a chain that comes back ends where it does."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    count_form, entry_bytes, next_form = ("Q", 20, "Q") if big else ("H", 12, "I")
    place = _read_number(data, 8 if big else 4, order + next_form)
    seen: set[int] = set()
    while place and place not in seen and len(seen) <= limit:
        entries = _read_number(data, place, order + count_form)
        if entries is None:
            break
        seen.add(place)
        place = _read_number(data, place + struct.calcsize(count_form) + entries * entry_bytes, order + next_form)
    return len(seen)


def _read_number(data: bytes, place: int, form: str) -> int | None:
    if place + struct.calcsize(form) > len(data):
        return None
    return int(struct.unpack_from(form, data, place)[0])
