"""Embedder `hashing`: vectors by counting, without a model, the same on every machine: for tests and for trying out.

A text's row counts its words and their letter triples, each at a place and with a sign that a checksum gives: feature
hashing. A picture's row is an 8 × 8 grid of its colours and a histogram of them. Near a text are texts that share words
with it, near a picture those that look alike; a text and a picture have nothing to do with each other.

Source: Weinberger et al., Feature Hashing for Large Scale Multitask Learning, ICML 2009, arXiv:0902.2206.
"""

import re
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from importlib.metadata import version

import numpy as np
import numpy.typing as npt
from PIL import Image

from mmkg.config import EmbeddingsConfig
from mmkg.embeddings.base import MODALITIES, EmbedderIdentity, open_picture, unit_rows

_VERSION = 1  # of the features below: raise it when they change
_GRID = 8  # cells a side
_COLOURS = 4  # levels a channel of the histogram
_DIMENSION = _GRID * _GRID * 3 + _COLOURS**3  # 256
_THUMBNAIL_PX = 32  # side of what the histogram counts
_TRIPLE_WEIGHT = 0.25  # against 1 for a word
_WORDS = re.compile(r"\w+")


class HashingEmbedder:
    """Pictures and texts by counting; needs no package beyond NumPy and Pillow."""

    def __init__(self, config: EmbeddingsConfig) -> None:
        self.identity = EmbedderIdentity(
            kind="hashing",
            model=f"hashing-{_VERSION}",
            architecture="",
            pretrained="",
            weights="",
            tokenizer="",
            preprocessing="{}",
            dimension=_DIMENSION,
            unit=True,
            precision="fp32",
            dtype=config.dtype,
            modalities=MODALITIES,
            libraries={name: version(name) for name in ("numpy", "pillow")},
        )

    def prepare_image(self, normalised: bytes) -> npt.NDArray[np.float32]:
        """Features of one picture, (d,).

        Raises:
            EmbeddingError: the bytes are no picture.
        """
        picture = open_picture(normalised)
        grid = np.asarray(picture.resize((_GRID, _GRID), Image.Resampling.BOX), np.float32) / 255 - 0.5
        small = np.asarray(picture.resize((_THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.BOX), np.int64)
        levels = small * _COLOURS // 256
        colour = (levels[..., 0] * _COLOURS + levels[..., 1]) * _COLOURS + levels[..., 2]
        histogram = np.bincount(colour.ravel(), minlength=_COLOURS**3) / colour.size
        # the grid's length is at most 6.9; a histogram's, at most 1, counts for as much as a picture in strong colours
        return np.concatenate([grid.ravel(), 3 * histogram]).astype(np.float32)

    def embed_images(self, batch: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        """Rows of n prepared pictures, (n, d)."""
        return unit_rows(np.stack(batch)) if len(batch) else np.empty((0, _DIMENSION), np.float32)

    def embed_texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Rows of n texts, (n, d); a text without a letter or digit has a row too, the same for all such."""
        rows = np.zeros((len(texts), _DIMENSION), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for feature, weight in _features(text):
                checksum = zlib.crc32(feature.encode("utf-8", "surrogatepass"))
                row[checksum % _DIMENSION] += weight if checksum & 0x8000_0000 else -weight
            if not row.any():
                row[0] = 1
        return unit_rows(rows)

    def count_cut(self, texts: Sequence[str]) -> int:  # noqa: ARG002 - reads every text whole
        """How many texts are longer than what is read of them: none."""
        return 0

    def on_devices(self) -> Sequence["HashingEmbedder"]:
        """This embedder alone."""
        return [self]


def _features(text: str) -> Iterator[tuple[str, float]]:
    """Words and letter triples of a text, with their weights."""
    for word in _WORDS.findall(unicodedata.normalize("NFKC", text).casefold()):
        yield word, 1.0
        framed = f"^{word}$"
        for start in range(len(framed) - 2):
            yield f"3:{framed[start : start + 3]}", _TRIPLE_WEIGHT
