"""Parts of a picture: a box is clipped to the picture, and what is left of it is a picture of its own.

A crop is known by the digest of its pixels, so that equal parts of any pictures are embedded once.
"""

import hashlib
import io
import math
from dataclasses import dataclass, field

from PIL import Image

from mmkg.images.upright_rgb import to_plain_mode, to_rgb


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A part of a picture.

    Attributes:
        sha256: of its size and RGB pixels; not of `data`, which may change with the library that encodes.
        width_px, height_px: of the part, at least 1.
        data: as a BMP file: without loss, and many times faster to write than a PNG; it is only kept in memory.
    """

    sha256: str
    width_px: int
    height_px: int
    data: bytes = field(repr=False)


def clip_box(
    *, x: float, y: float, width: float, height: float, width_px: int, height_px: int
) -> tuple[int, int, int, int] | None:
    """The whole pixels that a box touches inside a picture: left, top, right, bottom; None where there are none.

    Args:
        x, y: upper left corner of the box, in pixels from that of the picture.
        width, height: of the box.
        width_px, height_px: of the picture.

    >>> clip_box(x=-5, y=2, width=20, height=3, width_px=10, height_px=10)
    (0, 2, 10, 5)
    >>> clip_box(x=10, y=0, width=5, height=5, width_px=10, height_px=10) is None
    True
    """
    left, top = max(0, math.floor(x)), max(0, math.floor(y))
    right, bottom = min(width_px, math.ceil(x + width)), min(height_px, math.ceil(y + height))
    if width <= 0 or height <= 0 or left >= right or top >= bottom:
        return None
    return left, top, right, bottom


def crop_picture(picture: Image.Image, box: tuple[int, int, int, int]) -> Crop:
    """Cut a part out of a picture of any mode.

    Args:
        picture: as its file stores it. It must not have been turned by its EXIF orientation where boxes were drawn
            on it unturned.
        box: left, top, right, bottom, inside the picture, as from :func:`clip_box`.
    """
    part = to_rgb(to_plain_mode(picture.crop(box)))
    content = hashlib.sha256(f"{part.width}x{part.height} RGB ".encode() + part.tobytes()).hexdigest()
    encoded = io.BytesIO()
    part.save(encoded, "BMP")
    return Crop(sha256=content, width_px=part.width, height_px=part.height, data=encoded.getvalue())
