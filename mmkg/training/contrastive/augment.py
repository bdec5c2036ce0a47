"""Augmentation: pictures as they might have been photographed, drawn anew each time a picture is seen.

One pass over a batch: geometry through one sampling grid (turn, shear, crop, background around it, perspective, a
wave), then colour, blur, coarse resolution, noise, JPEG. All draws come from one generator, so a batch that is made
again is the same.
"""

import io
import math

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own short name
from PIL import Image
from torch import Tensor

from mmkg.training.contrastive.recipe import AugmentationConfig

_GREY = (0.299, 0.587, 0.114)  # luma of ITU-R BT.601
_WAVES = 1 / 3  # share of pictures with a wave
_BLURRED = 1 / 2  # share of blurred pictures
_JPEG_QUALITY = (20, 75)


def augment(pixels_BCHW: Tensor, size_px: int, config: AugmentationConfig, random: np.random.Generator) -> Tensor:
    """Return pictures as they are seen once, (B, 3, size_px, size_px) of float32 in 0 … 1.

    Args:
        pixels_BCHW: uint8, squashed to squares; best somewhat larger than ``size_px``.
        size_px: side of what the model sees.
        config: how far pictures are changed.
        random: everything is drawn from it.
    """
    whole = pixels_BCHW.float() / 255
    plain = F.interpolate(whole, (size_px, size_px), mode="bilinear", antialias=True)
    changed = _colours(_sample(whole, size_px, config, random), config, random)
    changed = _jpeg(_soften(changed, config, random), config, random)
    keep = torch.from_numpy(random.random(len(whole)) < config.untouched)
    return torch.where(keep[:, None, None, None], plain, changed)


def _uniform(random: np.random.Generator, count: int, limit: float) -> Tensor:
    return torch.from_numpy(random.uniform(-limit, limit, count).astype(np.float32))


def _chosen(random: np.random.Generator, count: int, share: float) -> Tensor:
    return torch.from_numpy(random.random(count) < share)


def _sample(whole: Tensor, size_px: int, config: AugmentationConfig, random: np.random.Generator) -> Tensor:
    """Geometry: where in the picture each pixel looks; background where it looks beside it."""
    count = len(whole)
    angle = _uniform(random, count, math.radians(config.rotation_degrees))
    shear = _uniform(random, count, config.shear)
    # Looking further apart than the picture is wide shows background, less far apart cuts it.
    reach = torch.from_numpy(random.uniform(1 - config.enlarge, 1 / (1 - config.shrink), (count, 2)).astype(np.float32))
    shift = torch.from_numpy(random.uniform(-2 * config.shift, 2 * config.shift, (count, 2)).astype(np.float32))
    tilt_x, tilt_y = _uniform(random, count, config.perspective), _uniform(random, count, config.perspective)
    wave = _uniform(random, count, 2 * config.wave) * _chosen(random, count, _WAVES)
    phase, turns = _uniform(random, count, math.pi), torch.from_numpy(random.uniform(0.7, 2, count).astype(np.float32))
    side = torch.linspace(-1 + 1 / size_px, 1 - 1 / size_px, size_px)
    y, x = torch.meshgrid(side, side, indexing="ij")
    x, y = x[None], y[None]
    angle, shear, tilt_x, tilt_y, wave, phase, turns = (
        value[:, None, None] for value in (angle, shear, tilt_x, tilt_y, wave, phase, turns)
    )
    depth = 1 + tilt_x * x + tilt_y * y
    x, y = x / depth, y / depth
    x, y = x * angle.cos() - y * angle.sin() + shear * y, x * angle.sin() + y * angle.cos()
    x, y = x * reach[:, 0, None, None] + shift[:, 0, None, None], y * reach[:, 1, None, None] + shift[:, 1, None, None]
    y = y + wave * torch.sin(math.pi * turns * x + phase)
    with_mask = torch.cat([whole, torch.ones_like(whole[:, :1])], dim=1)
    seen = F.grid_sample(with_mask, torch.stack([x, y], dim=-1), mode="bilinear", align_corners=False)
    background = torch.from_numpy(random.random((count, 3)).astype(np.float32))[:, :, None, None]
    return seen[:, :3] + (1 - seen[:, 3:]) * background


def _colours(image: Tensor, config: AugmentationConfig, random: np.random.Generator) -> Tensor:
    """Saturation and hue as one matrix a picture, then contrast and brightness."""
    count = len(image)
    saturation = 1 + _uniform(random, count, config.saturation)
    hue = _uniform(random, count, math.radians(config.hue_degrees))
    contrast, brightness = 1 + _uniform(random, count, config.contrast), 1 + _uniform(random, count, config.brightness)
    grey_33 = torch.tensor(_GREY).expand(3, 3)
    axis = 1 / math.sqrt(3)  # hue turns colours around the axis of greys (Rodrigues' formula)
    cross_33 = torch.tensor([[0.0, -axis, axis], [axis, 0.0, -axis], [-axis, axis, 0.0]])
    cosine, sine = hue.cos()[:, None, None], hue.sin()[:, None, None]
    turn_B33 = cosine * torch.eye(3) + sine * cross_33 + (1 - cosine) / 3
    saturate_B33 = saturation[:, None, None] * torch.eye(3) + (1 - saturation[:, None, None]) * grey_33
    mixed = torch.einsum("bij,bjhw->bihw", turn_B33 @ saturate_B33, image)
    mean = mixed.mean(dim=(1, 2, 3), keepdim=True)
    return ((mean + (mixed - mean) * contrast[:, None, None, None]) * brightness[:, None, None, None]).clamp(0, 1)


def _soften(image: Tensor, config: AugmentationConfig, random: np.random.Generator) -> Tensor:
    """Blur, half resolution, noise."""
    count, size = len(image), image.shape[-1]
    share = torch.from_numpy(random.uniform(0, config.blur, count).astype(np.float32))
    share = (share * _chosen(random, count, _BLURRED))[:, None, None, None]
    blurred = F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    image = image + share * (blurred - image)
    coarse = F.interpolate(F.avg_pool2d(image, 2), (size, size), mode="bilinear")
    image = torch.where(_chosen(random, count, config.coarse)[:, None, None, None], coarse, image)
    strength = torch.from_numpy(random.uniform(0, config.noise, count).astype(np.float32))[:, None, None, None]
    noise = torch.from_numpy(random.standard_normal(image.shape, dtype=np.float32))
    return (image + strength * noise).clamp(0, 1)


def _jpeg(image: Tensor, config: AugmentationConfig, random: np.random.Generator) -> Tensor:
    """Some pictures through the JPEG of Pillow, each at its own quality."""
    qualities = random.integers(*_JPEG_QUALITY, len(image))
    for place in np.flatnonzero(random.random(len(image)) < config.jpeg).tolist():
        pixels = (image[place] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=int(qualities[place]))
        with Image.open(buffer) as opened:
            image[place] = torch.from_numpy(np.array(opened)).permute(2, 0, 1).float() / 255
    return image
