"""What bytes are, by their content: the name of a file and the type a server says are not asked.

Formats that are never decoded (SVG runs scripts and asks other servers, PDF and PostScript are programs) are known here
too, so that they are refused by name.
"""

import re
from collections.abc import Callable
from types import MappingProxyType

# What is decoded: our name of the format, and Pillow's.
DECODED_FORMATS = MappingProxyType(
    {
        "jpeg": "JPEG",
        "png": "PNG",
        "gif": "GIF",
        "webp": "WEBP",
        "bmp": "BMP",
        "tiff": "TIFF",
        "avif": "AVIF",
        "ico": "ICO",
    }
)

_MAGIC = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),  # BigTIFF
    (b"MM\0+", "tiff"),
    (b"\xff\x0a", "jxl"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "jxl"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "jp2"),
    (b"\xff\x4f\xff\x51", "jp2"),
    (b"8BPS", "psd"),
    (b"%PDF-", "pdf"),
    (b"%!PS", "postscript"),
    (b"\xc5\xd0\xd3\xc6", "postscript"),  # with a preview for DOS
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "zip"),
)
_BMP_HEADER_BYTES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_TEXT_BYTES = 4096  # an SVG may begin with a long comment or document type
_SVG = re.compile(rb"<(?:[a-z0-9_-]+:)?svg[\s>]")
_HTML = re.compile(rb"<(?:!doctype html|html|head|body|script|iframe|title|meta)[\s>]")
# Code that a browser would run; metadata of pictures (XMP) writes "<" of a text as "&lt;".
_MARKUP = re.compile(rb"<(?:html|body|script|iframe|svg|!doctype\s+html)[\s>]|<\?php\s", re.IGNORECASE)


def sniff_format(data: bytes) -> str | None:
    """Name the format of some bytes; their first 4 KiB are enough.

    >>> sniff_format(b"GIF89a..."), sniff_format(b"<!DOCTYPE html>"), sniff_format(b"hello")
    ('gif', 'html', None)
    """
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF":
        return "webp" if data[8:12] == b"WEBP" else "riff"
    if data[4:8] == b"ftyp":
        return _sniff_brands(data)
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADER_BYTES:
        return "bmp"
    if data[:4] == b"\0\0\1\0" and data[4:6] != b"\0\0" and data[9:10] == b"\0":
        return "ico"
    return _sniff_text(data)


def _sniff_brands(data: bytes) -> str:
    """Tell what family a file of ISO boxes is from, by its first box: the main brand, then those it is read as."""
    end = min(int.from_bytes(data[:4], "big"), len(data), 256)
    brands = [data[8:12], *(data[start : start + 4] for start in range(16, end, 4))]
    if not _AVIF_BRANDS.isdisjoint(brands):
        return "avif"
    return "heif" if not _HEIF_BRANDS.isdisjoint(brands) else "mp4"


def _sniff_text(data: bytes) -> str | None:
    head = data[:_TEXT_BYTES]
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):  # UTF-16: every other byte of markup is a null
        head = head[2:].replace(b"\0", b"")
    head = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not head.startswith(b"<"):
        return None
    svg, html = _SVG.search(head), _HTML.search(head)
    if svg and not (html and html.start() < svg.start()):
        return "svg"
    if html:
        return "html"
    return "xml" if head.startswith(b"<?xml") else None


def find_markup(data: bytes) -> str | None:
    """Find markup that a browser would run inside a picture's bytes (a polyglot): its first tag, or None.

    >>> find_markup(b"GIF89a/*<script>*/"), find_markup(b"GIF89a")
    ('<script>', None)
    """
    found = _MARKUP.search(data)
    return found.group().decode("ascii").strip() if found else None


def ends_early(data: bytes, kind: str) -> bool:
    """Whether bytes of a known format stop before the format's own end; False where that is not known."""
    return kind in _ENDS and not _ENDS[kind](data)


def _riff_is_whole(data: bytes) -> bool:
    return len(data) >= int.from_bytes(data[4:8], "little") + 8


def _bmp_is_whole(data: bytes) -> bool:
    return len(data) >= int.from_bytes(data[2:6], "little")


_ENDS: dict[str, Callable[[bytes], bool]] = {
    "jpeg": lambda data: b"\xff\xd9" in data[-4096:],  # some cameras pad
    "png": lambda data: b"IEND" in data[-4096:],
    "gif": lambda data: b";" in data[-16:],
    "webp": _riff_is_whole,
    "bmp": _bmp_is_whole,
}


def read_webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height in px that a WebP's header states, or None.

    Pillow takes memory for the whole canvas when it opens a WebP, so its size must be known before.
    """
    if data[12:16] == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if data[12:16] == b"VP8L" and data[20:21] == b"\x2f":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if data[12:16] == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    return None
