"""Makers of odd and hostile pictures, each out of the bytes of its format."""

import io
import struct
import zlib
from collections.abc import Iterable
from typing import Any

from PIL import Image, ImageDraw

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
ORIENTATION_TAG = 0x0112


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def letter_f(scale: int = 8) -> Image.Image:
    """A picture that no turn and no mirror leaves as it is: 48 × 64 px at scale 8, corners of four colours."""
    image = Image.new("RGB", (6, 8), WHITE)
    for x, y in [(1, 1), (2, 1), (3, 1), (4, 1), (1, 2), (1, 3), (1, 4), (2, 4), (3, 4), (1, 5), (1, 6)]:
        image.putpixel((x, y), BLACK)
    for place, colour in {(0, 0): RED, (5, 0): GREEN, (0, 7): BLUE, (5, 7): (255, 255, 0)}.items():
        image.putpixel(place, colour)
    return image.resize((6 * scale, 8 * scale), Image.Resampling.NEAREST)


def drawing(seed: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """A picture with contrast that differs from that of every other seed."""
    image = Image.new("RGB", size, (seed * 37 % 256, seed * 91 % 256, seed * 53 % 256))
    draw = ImageDraw.Draw(image)
    for corner in range(3):
        x, y = (seed * 7 + corner * 17) % size[0], (seed * 11 + corner * 29) % size[1]
        draw.rectangle((x, y, x + 15, y + 9), fill=((seed * 3 + corner * 80) % 256, corner * 120, 255 - corner * 100))
    return image


def exif_with_orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = value
    return exif


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, *, bits: int = 8, colour: int = 0, idat: bytes, extra: bytes = b"") -> bytes:
    """A PNG out of its parts; `colour` is 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", idat) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def zeros(size: int) -> bytes:
    """zlib stream of so many zeros, made in pieces."""
    packer = zlib.compressobj(9)
    piece = bytes(1 << 20)
    parts = [packer.compress(piece[: min(1 << 20, size - start)]) for start in range(0, size, 1 << 20)]
    return b"".join([*parts, packer.flush()])


def large_png(width: int, height: int, *, colour: int = 0, bits: int = 8) -> bytes:
    """A black PNG of a few kilobytes and many pixels."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    return png(width, height, colour=colour, bits=bits, idat=zeros(height * (1 + width * channels * bits // 8)))


def png_with_text_bomb(kind: bytes, inflated: int = 200_000_000) -> bytes:
    """A small picture with a zTXt, iTXt or iCCP chunk that inflates to hundreds of megabytes."""
    head = {b"zTXt": b"k\0\0", b"iTXt": b"k\0\1\0\0\0", b"iCCP": b"k\0\0"}[kind]
    rows = zlib.compress(bytes(8 * 9))
    return png(8, 8, idat=rows, extra=png_chunk(kind, head + zeros(inflated)))


def png_with_idat_bomb(inflated: int = 500_000_000) -> bytes:
    """A header of 8 × 8 px, and pixels for millions."""
    return png(8, 8, idat=zeros(inflated))


def gif(frames: int) -> bytes:
    """An animation of so many frames of 2 × 2 px, black or white by turns."""
    screen = b"GIF89a" + struct.pack("<HHBBB", 2, 2, 0x80, 0, 0) + bytes([0, 0, 0, 255, 255, 255])
    control = b"\x21\xf9\x04\x00\x0a\x00\x00\x00"
    pixels = [b"\x02\x03\x44\x02\x05\x00", b"\x02\x03\x4c\x12\x05\x00"]
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 2, 2, 0)
    return screen + b"".join(control + frame + pixels[place % 2] for place in range(frames)) + b";"


def tiff_that_loops() -> bytes:
    """A TIFF of one page whose next page is itself."""
    data = bytearray(encode(drawing(1), "TIFF"))
    place = struct.unpack_from("<I", data, 4)[0]
    entries = struct.unpack_from("<H", data, place)[0]
    struct.pack_into("<I", data, place + 2 + 12 * entries, place)
    return bytes(data)


def webp_with_canvas(width: int, height: int) -> bytes:
    """The header of an animated WebP whose canvas is as large as one likes."""
    extended = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0"
    extended += struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    return b"RIFF" + struct.pack("<I", 4 + len(extended)) + b"WEBP" + extended


def icon_of(inner: bytes) -> bytes:
    """An icon that says it is 16 × 16 px and holds the PNG it is given."""
    return b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22) + inner


def jpeg_segments(data: bytes, *segments: tuple[int, bytes]) -> bytes:
    """A JPEG with further segments (marker, content) after its first two bytes."""
    extra = b"".join(struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content for marker, content in segments)
    return data[:2] + extra + data[2:]


def html_jpeg() -> bytes:
    """A JPEG that is a page too: a comment in it holds markup."""
    return jpeg_segments(encode(drawing(3), "JPEG"), (0xFE, b"--><html><script>alert(1)</script><!--"))


def jpeg_with_exif(content: bytes) -> bytes:
    """A JPEG whose EXIF segment holds any bytes."""
    return jpeg_segments(encode(drawing(4), "JPEG"), (0xE1, b"Exif\0\0" + content))


def ycck_jpeg(inks: tuple[int, int, int, int]) -> bytes:
    """A JPEG of 16 × 16 px in YCCK, as Adobe writes it: black inverted, the other inks as luminance and colour.

    Pillow writes CMYK only, so the three are transformed here, and Adobe's segment is told so (last byte 2).
    """
    cyan, magenta, yellow = inks[:3]  # the standard takes 255 - C of inverted inks for red: that is the ink itself
    y = 0.299 * cyan + 0.587 * magenta + 0.114 * yellow
    cb, cr = 128 + (yellow - y) * 0.564, 128 + (cyan - y) * 0.713
    # Pillow inverts what it is given when it writes CMYK, so it is given the inverse of what the file is to hold.
    stored = [255 - min(255, round(value)) for value in (y, cb, cr)] + [inks[3]]
    data = bytearray(encode(Image.new("CMYK", (16, 16), tuple(stored)), "JPEG", quality=100, subsampling=0))
    data[data.index(b"Adobe") + 11] = 2
    return bytes(data)


SVG_WITH_ENTITY = (
    b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY leak SYSTEM "file:///etc/passwd">]>'
    b'<svg xmlns="http://www.w3.org/2000/svg"><text>&leak;</text></svg>'
)


def rows_of(pictures: Iterable[bytes]) -> list[tuple[str, bytes]]:
    """Rows for a decoder; the digests are places in the list."""
    return [(f"{place:064d}", data) for place, data in enumerate(pictures)]
