"""Real pictures and what is on them: the table made by hand, and how a matching is scored by it.

The table says what is on each of 860 pictures, by hand and by Wikipedia's addresses. It knows no entity for four
pictures that the graph has one for (`NOT_IN_TABLE`), each looked up in the graph: Guernsey and Kyrgyzstan as countries,
the French horn as what Freebase calls a horn and DBpedia French_horn, and the maraca as Maracas and dbr:Maraca. It has
nothing on the 750 logos.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from mmkg.config import ImagesConfig
from mmkg.images.folders import find_file
from mmkg.terms import FREEBASE

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "mmkb" / "pictures.toml"
FOLDERS = (
    "images/country_flags",
    "images/us_states/flag",
    "images/us_states/landscape",
    "images/imagenet_sample",
    "tasks/topics_graph/logos",
    "tasks/mars/images",
)
"""Below the shared data: 1,610 pictures."""
NOT_IN_TABLE = {
    "images/country_flags/gg.png": "m.0366c",
    "images/country_flags/kg.png": "m.0jt3tjf",
    "images/imagenet_sample/n03394916_French_horn.jpg": "m.0319l",
    "images/imagenet_sample/n03720891_maraca.jpg": "m.0xzly",
}


@dataclass(frozen=True)
class Picture:
    """A row of the table."""

    path: str  # below the shared data
    label: str
    mid: str  # m.0f8l9c; "" where no entity is known
    is_homonym: bool  # its label is the name of another thing


def read_table(shared_data: Path) -> list[Picture]:
    """What is on each of the 860 pictures."""
    with (shared_data / "images" / "gold_image_entity.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [
        Picture(row["path"], row["label"], row["fb_mid"].replace("/m/", "m."), "HOMONYM" in row["note"]) for row in rows
    ]


def list_files(shared_data: Path) -> list[Path]:
    """All pictures of the folders."""
    found = (path for folder in FOLDERS for path in (shared_data / folder).rglob("*"))
    return sorted(path for path in found if path.suffix in {".png", ".jpg"})


def read_matches(images: ImagesConfig, graph: Path, candidates: Path, shared_data: Path) -> dict[str, str]:
    """MID or other IRI by the picture's path below the shared data.

    Args:
        images: names the folders.
        graph: folder of the table `entities`.
        candidates: folder of the table `image_candidates`, all of it of those folders.
        shared_data: where the folders lie.
    """
    ids = pq.read_table(graph / "entities", columns=["entity_id"])["entity_id"]
    found: dict[str, str] = {}
    for row in pq.read_table(candidates / "image_candidates").to_pylist():
        path = find_file(images, row["url"]).resolve().relative_to(shared_data.resolve()).as_posix()
        assert path not in found, f"{path} is matched to two entities"
        found[path] = ids[row["entity_index"]].as_py().removeprefix(FREEBASE)
    return found


@dataclass(frozen=True)
class Score:
    """How well some pictures were matched."""

    pictures: int
    known: int  # of which the table names an entity
    matched: int
    right: int  # by the table
    right_by_graph: int  # of the others: those that the table lacks

    @property
    def precision(self) -> float:
        """By the table alone; 1 where nothing was matched."""
        return self.right / self.matched if self.matched else 1.0

    @property
    def recall(self) -> float:
        """By the table alone; 1 where it knows nothing."""
        return self.right / self.known if self.known else 1.0


def score_matches(pictures: Sequence[Picture], found: Mapping[str, str]) -> Score:
    """Hold matches (MID by path) against the table."""
    matched = [picture for picture in pictures if picture.path in found]
    return Score(
        pictures=len(pictures),
        known=sum(bool(picture.mid) for picture in pictures),
        matched=len(matched),
        right=sum(bool(picture.mid) and found[picture.path] == picture.mid for picture in matched),
        right_by_graph=sum(NOT_IN_TABLE.get(picture.path) == found[picture.path] for picture in matched),
    )
