"""All the ways in which a picture may hold its pixels, brought to RGB over white.

Two steps, because making a picture small comes between them: first to one of few modes that can be made small without
mixing up palette indices or clipping 16 bits (`to_plain_mode`), then to RGB (`to_rgb`).
"""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

_SIXTEEN_BITS = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
_STAY = frozenset({"L", "LA", "RGB", "RGBA", "CMYK"})
_WHITE = (255, 255, 255, 255)


def has_alpha(image: Image.Image) -> bool:
    """Whether any pixel may be transparent: an alpha channel, a transparent colour, a palette with alpha."""
    return bool(image.has_transparency_data)


def to_plain_mode(image: Image.Image) -> Image.Image:
    """A loaded picture as L, LA, RGB, RGBA or CMYK, whatever its mode.

    16 bits are scaled by their full range. 32-bit integers and floating-point numbers do not say their range: it is the
    smallest of 0 … 1 (floating point only), 0 … 255 and 0 … 65,535 that holds all values, else from the least to the
    greatest value.
    """
    mode, transparent = image.mode, image.info.get("transparency")
    if mode in _SIXTEEN_BITS:
        return _scale_sixteen_bits(image, transparent)
    if mode in {"I", "F"}:
        values = np.asarray(image)
        return Image.fromarray(scale_to_bytes(values))
    if mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        srgb = ImageCms.createProfile("sRGB")
        return ImageCms.buildTransform(lab, srgb, "LAB", "RGB").apply(image)
    if has_alpha(image):
        if mode in {"LA", "RGBA"}:
            return image
        return image.convert("LA").convert("RGBA") if mode == "La" else image.convert("RGBA")
    if mode in _STAY:
        return image
    return image.convert("L" if mode == "1" else "RGB")


def _scale_sixteen_bits(image: Image.Image, transparent: object) -> Image.Image:
    values = np.asarray(image).astype(np.uint16)
    grey = Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
    if isinstance(transparent, int):
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey


def scale_to_bytes(values: npt.NDArray[np.int32] | npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Numbers without a stated range as 0 … 255; see :func:`to_plain_mode`.

    Args:
        values: (height, width); what is not finite counts as 0.
    """
    numbers = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    least, greatest = float(numbers.min()), float(numbers.max())
    ranges = (1.0, 255.0, 65535.0) if values.dtype.kind == "f" else (255.0, 65535.0)
    fitting = [top for top in ranges if least >= 0 and greatest <= top]
    low, high = (0.0, fitting[0]) if fitting else (least, greatest)
    span = max(high - low, float(np.finfo(np.float32).tiny))
    scaled: npt.NDArray[np.uint8] = np.rint((numbers - low) / span * 255).clip(0, 255).astype(np.uint8)
    return scaled


def to_rgb(image: Image.Image) -> Image.Image:
    """L, LA, RGB, RGBA or CMYK as RGB; what is transparent shows white."""
    if image.mode in {"LA", "RGBA"}:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, _WHITE), layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
