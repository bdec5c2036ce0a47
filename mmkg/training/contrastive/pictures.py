"""Pictures with captions, as ``index.tsv`` in a folder lists them: a header, then a row for each picture and caption.

==========  ========  ==============================================================================================
column      needed    what it holds
==========  ========  ==============================================================================================
file        yes       the picture, relative to the folder
caption     yes       what is true of it
split       no        train | valid | others, which are evaluated; without it, a tenth is valid and a tenth test
shows       no        what the picture shows: pictures of one thing share it; the file unless given
statement   no        key of what the caption says: captions of one statement say the same; the caption unless given
kind        no        kind of statement, by which figures are told apart; "caption" unless given
==========  ========  ==============================================================================================

A caption is taken to be true of all pictures that have its statement, and of no other.
"""

import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy import sparse
from torch import Tensor

from mmkg.errors import TrainingError

INDEX = "index.tsv"
TRAIN, VALID, TEST = "train", "valid", "test"
Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class CaptionedPictures:
    """The pictures of one split and their captions.

    Attributes:
        folder: that the files are relative to.
        files: of the pictures.
        shows: what each shows.
        texts: captions.
        picture_of: of each caption, the place of its picture.
        statements: of each caption, what it says.
        kinds: of each caption.
    """

    folder: Path
    files: Sequence[str]
    shows: Sequence[str]
    texts: Sequence[str]
    picture_of: Int64Array
    statements: Sequence[str]
    kinds: Sequence[str]

    @cached_property
    def statement_names(self) -> list[str]:
        """All statements, in order."""
        return sorted(set(self.statements))

    @cached_property
    def statement_of(self) -> Int64Array:
        """Of each caption, the place of its statement in `statement_names`."""
        place = {name: number for number, name in enumerate(self.statement_names)}
        return np.array([place[statement] for statement in self.statements], dtype=np.int64)

    @cached_property
    def truth(self) -> sparse.csr_matrix:
        """Pictures × statements: 1 where the statement is true of the picture."""
        ones = np.ones(len(self.texts), dtype=np.float32)
        shape = (len(self.files), len(self.statement_names))
        matrix = sparse.csr_matrix((ones, (self.picture_of, self.statement_of)), shape=shape)
        matrix.data[:] = 1  # a statement in two phrasings is no truer
        return matrix

    @cached_property
    def captions_by_kind(self) -> list[dict[str, list[int]]]:
        """Of each picture: kind -> places of its captions."""
        found: list[dict[str, list[int]]] = [{} for _ in self.files]
        for caption, (picture, kind) in enumerate(zip(self.picture_of.tolist(), self.kinds, strict=True)):
            found[picture].setdefault(kind, []).append(caption)
        return found

    def pixels(self, size_px: int) -> Tensor:
        """Return all pictures squashed to a square, (pictures, 3, size_px, size_px) of uint8; 3 size² bytes a picture.

        Raises:
            TrainingError: a file is missing or is not a picture.
        """
        whole = torch.empty((len(self.files), 3, size_px, size_px), dtype=torch.uint8)
        for place, image in enumerate(self.open_pictures()):
            small = image.resize((size_px, size_px), Image.Resampling.BICUBIC)
            whole[place] = torch.from_numpy(np.array(small)).permute(2, 0, 1)
        return whole

    def open_pictures(self) -> Iterator[Image.Image]:
        """Yield the pictures in RGB.

        Raises:
            TrainingError: a file is missing or is not a picture.
        """
        for file in self.files:
            try:
                with Image.open(self.folder / file) as image:
                    yield image.convert("RGB")
            except (OSError, ValueError) as error:
                raise TrainingError(
                    f"{self.folder / file}: not a picture ({error}); mend or remove its rows of {INDEX}"
                ) from error


def read_captioned_pictures(folder: Path) -> dict[str, CaptionedPictures]:
    """Return split -> its pictures, in the order of the index.

    Raises:
        TrainingError: there is no index, a column or a value of it is missing, or nothing is there to train on.
    """
    path = folder / INDEX
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except OSError as error:
        raise TrainingError(f"{path}: pictures with captions are listed there: {error}") from error
    for number, row in enumerate(rows, start=2):
        if not row.get("file") or not row.get("caption"):
            raise TrainingError(
                f"{path}, line {number}: expected a file and a caption, separated by a tab; found {row}"
            )
    by_split: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_split.setdefault(row.get("split") or _drawn_split(row.get("shows") or row["file"]), []).append(row)
    if TRAIN not in by_split:
        raise TrainingError(
            f"{path}: no picture of the split '{TRAIN}'. Found: {', '.join(sorted(by_split)) or 'no rows'}."
        )
    return {split: _gather(folder, of_split) for split, of_split in by_split.items()}


def digest_of_pictures(folder: Path, splits: dict[str, CaptionedPictures]) -> str:
    """Return a digest of the index and of every picture that it names."""
    whole = hashlib.sha256((folder / INDEX).read_bytes())
    for file in sorted({file for pictures in splits.values() for file in pictures.files}):
        try:
            whole.update(hashlib.sha256((folder / file).read_bytes()).digest())
        except OSError as error:
            raise TrainingError(f"{folder / file}: named by {INDEX}, but cannot be read: {error}") from error
    return whole.hexdigest()[:16]


def _gather(folder: Path, rows: Sequence[dict[str, str]]) -> CaptionedPictures:
    shows = {row["file"]: row.get("shows") or row["file"] for row in rows}
    place = {file: number for number, file in enumerate(shows)}
    return CaptionedPictures(
        folder=folder,
        files=list(shows),
        shows=list(shows.values()),
        texts=[row["caption"] for row in rows],
        picture_of=np.array([place[row["file"]] for row in rows], dtype=np.int64),
        statements=[row.get("statement") or row["caption"] for row in rows],
        kinds=[row.get("kind") or "caption" for row in rows],
    )


def _drawn_split(shows: str) -> str:
    """By a hash of what is shown, so that pictures of one thing stay together and added rows move no others."""
    share = hashlib.sha256(shows.encode()).digest()[0] / 256
    return TRAIN if share < 0.8 else VALID if share < 0.9 else TEST
