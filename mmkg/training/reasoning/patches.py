"""A question's own picture as rows: the whole of it and the parts of a grid, each a vector of an embedder.

Embedders give one vector a picture. With one row the attention over a picture has nothing to choose from, so parts of
the picture are embedded as pictures of their own: our stand-in for the patch tokens of a vision transformer.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from mmkg.embeddings.base import Embedder, open_picture
from mmkg.embeddings.pipeline import in_pieces
from mmkg.errors import EmbeddingError
from mmkg.images.crops import Crop, crop_picture
from mmkg.subgraphs.assemble import Floats

_AT_ONCE = 64  # pictures whose parts are in memory together


def embed_patches(
    pictures: Iterable[tuple[str, Path]], embedder: Embedder, *, grid: int
) -> tuple[dict[str, Floats], Mapping[str, str]]:
    """Return patches (1 + grid², D) by name, the whole picture first, and why a picture has none.

    A part that is too thin to be one, or without a usable vector, is left out; with a grid of 1 there is one row.

    Args:
        pictures: name and file of each.
        embedder: of pictures.
        grid: parts a side.

    Returns:
        The patches, and name -> no_picture | not_a_picture | no_vector.
    """
    found: dict[str, Floats] = {}
    failed: dict[str, str] = {}
    for window in in_pieces(pictures, _AT_ONCE):
        crops: dict[str, list[Crop]] = {}
        for name, path in window:
            try:
                crops[name] = _cut(open_picture(path.read_bytes()), grid)
            except FileNotFoundError:
                failed[name] = "no_picture"
            except EmbeddingError:
                failed[name] = "not_a_picture"
        flat = [crop for parts in crops.values() for crop in parts]
        if not flat:
            continue
        rows = embedder.embed_images([embedder.prepare_image(crop.data) for crop in flat])
        usable = np.asarray(np.isfinite(rows).all(axis=1) & rows.any(axis=1))
        start = 0
        for name, parts in crops.items():
            stop = start + len(parts)
            patches = rows[start:stop][usable[start:stop]].astype(np.float32)
            start = stop
            if len(patches):
                found[name] = patches
            else:
                failed[name] = "no_vector"
    return found, failed


def _cut(picture: Image.Image, grid: int) -> list[Crop]:
    width, height = picture.size
    boxes = [(0, 0, width, height)]
    if grid > 1:
        across = [width * place // grid for place in range(grid + 1)]
        down = [height * place // grid for place in range(grid + 1)]
        boxes += [
            (across[column], down[row], across[column + 1], down[row + 1])
            for row in range(grid)
            for column in range(grid)
            if across[column] < across[column + 1] and down[row] < down[row + 1]
        ]
    return [crop_picture(picture, box) for box in boxes]
