"""One picture: from bytes that anybody may have made to what was seen in them and the picture that models get.

Runs inside a worker process (:mod:`mmkg.images.worker`) whose memory and time are limited, because decoders written in
C take hostile bytes here. So this module imports Pillow, NumPy and ImageHash only.

The order of the checks is the defence: format by content, markup, size from the header, number of frames; only then is
anything decoded, by the one plugin of that format. Colour profiles are not applied: models are trained without.
"""

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import MappingProxyType

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import AvifImagePlugin, IcoImagePlugin, Image, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin

from mmkg.images.formats import DECODED_FORMATS, ends_early, find_markup, read_webp_size, sniff_format
from mmkg.images.frames import count_frames
from mmkg.images.upright_rgb import has_alpha, to_plain_mode, to_rgb

_PLUGINS = (AvifImagePlugin, IcoImagePlugin, TiffImagePlugin, WebPImagePlugin)  # registered by being imported
_LOSSLESS = frozenset({"png", "gif", "bmp", "ico"})  # drawings and flags: what JPEG smears
_JPEG_QUALITY = 95
_PNG_LEVEL = 2  # half the time of 6 for a ninth more bytes
_MAX_ASPECT = 16  # of the normalised picture: one of 1 × 100,000,000 px would not become smaller by its shorter side
_DRAFT_GAP = 2  # a JPEG is decoded at 1/2, 1/4 or 1/8 while it stays this many times larger than what is asked for
_REDUCING_GAP = 3.0  # Pillow: box filter by whole numbers first, Lanczos for the rest; next to Lanczos alone
_SMALL_PX = 64  # side of what colours are counted in
_STEPS = 17  # of a channel at 4 bits, when they begin half a step higher
_GRID = 8  # cells a side of the mean colours
_ORIENTATION_TAG = 0x0112
# How a stored picture becomes upright, by EXIF orientation.
_UPRIGHT = MappingProxyType(
    {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
)


class Refused(Exception):  # noqa: N818 - not shown to users: becomes a row
    """A picture is not decoded.

    Args:
        status: a key of :data:`mmkg.images.decode.REFUSALS`.
        detail: in words, with the number that decided.
    """

    def __init__(self, status: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is let through to the decoder, and how large the normalised picture may be."""

    max_pixels: int
    max_frames: int
    shorter_side_px: int


@dataclass(kw_only=True)
class Facts:
    """What was seen in a picture, filled on the way; the names are columns of the table `pictures`."""

    status: str = "ok"
    detail: str = ""
    format: str = "unknown"
    mode: str | None = None
    width_px: int | None = None
    height_px: int | None = None
    num_frames: int | None = None
    orientation: int | None = None
    has_alpha: bool | None = None
    phash: str | None = None
    deviation: float | None = None
    num_colours: int | None = None
    colours: bytes | None = None
    normalised_format: str | None = None
    normalised: bytes | None = field(default=None, repr=False)


def decode_picture(data: bytes, limits: Limits) -> Facts:
    """Decode one picture, or say in `status` and `detail` why not; raises nothing that the bytes can cause.

    Args:
        data: a file as it was served.
        limits: of size, frames and result.
    """
    facts = Facts()
    try:
        with _pillow_limits(limits.max_pixels):
            _decode(data, limits, facts)
    except Refused as refusal:
        facts.status, facts.detail = refusal.status, refusal.detail
    except Exception as error:  # noqa: BLE001 - hostile bytes make decoders raise anything
        facts.status, facts.detail = _explain(error, data, facts.format)
    return facts


@contextlib.contextmanager
def _pillow_limits(max_pixels: int) -> Iterator[None]:
    """Pillow's own guard holds our limit, for pictures inside of pictures (icons, frames larger than their canvas).

    An AVIF is decoded by one thread: each takes address space, of which one a core would be more than a process has.
    """
    before = Image.MAX_IMAGE_PIXELS, AvifImagePlugin.DEFAULT_MAX_THREADS
    Image.MAX_IMAGE_PIXELS, AvifImagePlugin.DEFAULT_MAX_THREADS = max_pixels, 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # broken EXIF, odd tags: the decoded picture is what counts
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, AvifImagePlugin.DEFAULT_MAX_THREADS = before


def _decode(data: bytes, limits: Limits, facts: Facts) -> None:
    facts.format = sniff_format(data) or "unknown"
    if facts.format == "unknown":
        raise Refused("not_a_picture", f"{len(data):,} bytes that begin with {data[:12].hex(' ') or 'nothing'}")
    if facts.format not in DECODED_FORMATS:
        raise Refused("unsupported", f"{facts.format} is not decoded; {', '.join(DECODED_FORMATS)} are")
    if tag := find_markup(data):
        raise Refused("polyglot", f"{facts.format} with {tag} inside: a browser may take it for a page")
    if facts.format == "webp" and (size := read_webp_size(data)):
        _check_pixels(*size, limits, facts)
    with _open(data, facts.format) as image:
        facts.mode = image.mode
        _check_pixels(*image.size, limits, facts)
        facts.num_frames = count_frames(image, data, facts.format, limits.max_frames)
        if facts.num_frames > limits.max_frames:
            facts.num_frames = None
            raise Refused("too_many_frames", f"more than {limits.max_frames:,} frames")
        facts.has_alpha = has_alpha(image)
        if facts.format == "png":
            _scale_transparent_colour(image, data)
        facts.orientation, facts.detail = _read_orientation(image)
        picture = _normalise(image, limits.shorter_side_px, facts)
    _measure(picture, facts)
    facts.normalised_format = "png" if facts.format in _LOSSLESS else "jpeg"
    facts.normalised = _encode(picture, facts.normalised_format)


def _open(data: bytes, kind: str) -> Image.Image:
    """Read the header with the plugin of this format; the bomb guard is ours, except where opening decodes (ICO)."""
    before = Image.MAX_IMAGE_PIXELS
    if kind != "ico":
        Image.MAX_IMAGE_PIXELS = None
    try:
        return Image.open(io.BytesIO(data), formats=[DECODED_FORMATS[kind]])
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _check_pixels(width: int, height: int, limits: Limits, facts: Facts) -> None:
    facts.width_px, facts.height_px = width, height
    if width * height > limits.max_pixels:
        raise Refused("too_many_pixels", f"{width:,} × {height:,} px > {limits.max_pixels:,} px")
    if width < 1 or height < 1:
        raise Refused("corrupt", f"{width:,} × {height:,} px")


def _read_orientation(image: Image.Image) -> tuple[int, str]:
    """EXIF orientation, and a note where it lies; 1 where there is none that can be read."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG)
    except Exception as error:  # noqa: BLE001 - broken EXIF raises anything; the picture itself may be fine
        return 1, f"EXIF cannot be read ({type(error).__name__}): taken as upright"
    if value is None or (type(value) is int and value == 1):
        return 1, ""
    if type(value) is int and value in _UPRIGHT:
        return value, ""
    return 1, f"EXIF orientation {str(value)[:20]!r} is none of 1 … 8: taken as upright"


def _scale_transparent_colour(image: Image.Image, data: bytes) -> None:
    """Bring a PNG's transparent colour to the 8 bits that its pixels are loaded at; Pillow leaves it at the file's."""
    bits, colour = data[24], image.info.get("transparency")
    if bits in {1, 2, 4} and isinstance(colour, int) and image.mode in {"1", "L"}:
        top = (1 << bits) - 1
        image.info["transparency"] = (colour & top) * 255 // top
    elif bits == 16 and isinstance(colour, tuple) and image.mode == "RGB":
        image.info["transparency"] = tuple(value >> 8 for value in colour)


def _normalise(image: Image.Image, shorter_side_px: int, facts: Facts) -> Image.Image:
    """Decode, make small, upright, RGB over white; the cheap steps come after the picture is small."""
    by_pillow = facts.format == "tiff"  # turns TIFFs itself when it loads them, and states the turned size before
    orientation = 1 if by_pillow else (facts.orientation or 1)
    size = _normal_size(*image.size, shorter_side_px)
    if image.format in ("JPEG", "MPO"):
        image.draft(None, (size[0] * _DRAFT_GAP, size[1] * _DRAFT_GAP))
    image.load()
    plain = to_plain_mode(image)
    if plain.size != size:
        plain = plain.resize(size, Image.Resampling.LANCZOS, reducing_gap=_REDUCING_GAP)
    upright = to_rgb(plain)
    if orientation in _UPRIGHT:
        upright = upright.transpose(_UPRIGHT[orientation])
        if orientation >= 5:
            facts.width_px, facts.height_px = facts.height_px, facts.width_px
    upright.info = {}  # Pillow writes what stands here (colour profile, comment) into the next file
    return upright


def _normal_size(width: int, height: int, shorter_side_px: int) -> tuple[int, int]:
    scale = min(1.0, shorter_side_px / min(width, height), shorter_side_px * _MAX_ASPECT / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _measure(picture: Image.Image, facts: Facts) -> None:
    """Hash, contrast and colours of the normalised picture, so that they do not depend on how large the file was."""
    facts.phash = str(imagehash.phash(picture))
    facts.deviation = float(np.asarray(picture.convert("L")).std())
    facts.num_colours = count_colours(np.asarray(picture.resize((_SMALL_PX, _SMALL_PX), Image.Resampling.BOX)))
    facts.colours = picture.resize((_GRID, _GRID), Image.Resampling.BOX).tobytes()


def count_colours(pixels: npt.NDArray[np.uint8]) -> int:
    """Count colours at 4 bits a channel.

    The 16 steps of a channel begin at 0 or, where that gives fewer, half a step higher: noise of one value to either
    side of a step's edge is one colour, not two.

    Args:
        pixels: (height, width, 3).
    """
    codes = np.zeros(pixels.shape[:2], np.int32)
    for channel in range(3):
        values = pixels[..., channel].astype(np.int32)
        steps = min((values >> 4, (values + 8) >> 4), key=_count_distinct)
        codes = codes * _STEPS + steps
    return _count_distinct(codes)


def _count_distinct(numbers: npt.NDArray[np.int32]) -> int:
    return int(np.count_nonzero(np.bincount(numbers.ravel(), minlength=1)))


def _encode(picture: Image.Image, kind: str) -> bytes:
    """The same pixels, the same bytes: no metadata, fixed settings."""
    out = io.BytesIO()
    if kind == "png":
        picture.save(out, "PNG", compress_level=_PNG_LEVEL)
    else:
        picture.save(out, "JPEG", quality=_JPEG_QUALITY, subsampling="4:4:4")
    return out.getvalue()


def _explain(error: Exception, data: bytes, kind: str) -> tuple[str, str]:
    """Status and words for what a decoder raised."""
    words = str(error)[:200] or type(error).__name__
    if isinstance(error, UnidentifiedImageError):
        words = "its header cannot be read"
    if isinstance(error, MemoryError) or "memory" in words.lower().replace("text memory", ""):
        return "too_much_memory", words
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return "too_many_pixels", f"a picture inside of it: {words.partition(',')[0]}"
    if "Decompressed data too large" in words or "text memory" in words.lower():
        return "bomb", words
    if "truncated" in words.lower() or ends_early(data, kind):
        return "truncated", f"{len(data):,} bytes: {words}"
    return "corrupt", words
