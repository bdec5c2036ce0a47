"""Small worlds of entities and pictures for the gates: tables out of a few words."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from PIL import Image

from mmkg.config.images import GatesConfig, ImagesConfig
from mmkg.images.gates import judge
from mmkg.images.library import RESOLVED
from mmkg.images.margins import Scorer
from mmkg.images.picture import Limits, decode_picture
from mmkg.tables import ENTITIES, IMAGE_CANDIDATES, PICTURES
from tests.images.made_pictures import encode

LIMITS = Limits(max_pixels=10_000_000, max_frames=100, shorter_side_px=336)
DIMENSION = 32


def scene(seed: int, size: tuple[int, int] = (96, 72)) -> Image.Image:
    """A picture that looks like no other seed's: 6 × 6 random colours, blurred into each other."""
    colours = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC)


def unit(vector: np.ndarray) -> np.ndarray:
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def text_vector(text: str) -> np.ndarray:
    """A direction of its own for each text."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return unit(np.random.default_rng(seed).standard_normal(DIMENSION))


@dataclass
class World:
    """Entities, and candidates of them with their bytes."""

    labels: list[str | None]
    types: list[list[str]] = field(default_factory=list)
    candidates: list[dict[str, Any]] = field(default_factory=list)
    served: dict[str, bytes] = field(default_factory=dict)  # by address
    attempts: dict[str, tuple[str, str]] = field(default_factory=dict)  # status and detail, where nothing came
    vectors: dict[str, np.ndarray] = field(default_factory=dict)  # by sha256

    def add(
        self,
        entity_index: int,
        data: bytes | Image.Image,
        *,
        url: str = "",
        licence: str | None = None,
        vector: np.ndarray | None = None,
    ) -> str:
        """Add a picture of an entity; returns its address."""
        content = data if isinstance(data, bytes) else encode(data, "PNG")
        url = self.add_failed(entity_index, "ok", "", url=url, licence=licence)
        self.served[url] = content
        if vector is not None:
            self.vectors[hashlib.sha256(content).hexdigest()] = vector
        return url

    def add_failed(
        self, entity_index: int, status: str, detail: str, *, url: str = "", licence: str | None = None
    ) -> str:
        place = sum(row["entity_index"] == entity_index for row in self.candidates)
        url = url or f"https://example.org/{entity_index}/{place}"
        facts = {"file_name": None, "source_page": None, "licence": licence, "author": None}
        row = {"entity_index": entity_index, "place": place, "url": url, "origin": "image", "detail": "made"}
        self.candidates.append(row | facts)
        self.attempts[url] = (status, detail)
        return url

    def tables(self) -> dict[str, Any]:
        """The arguments of `judge`."""
        rows = []
        for url, (status, detail) in self.attempts.items():
            data = self.served.get(url)
            sha256 = None if data is None else hashlib.sha256(data).hexdigest()
            kind = "ok" if status == "ok" else "permanent"
            rows.append({"url": url, "status": status, "kind": kind, "detail": detail, "sha256": sha256})
        names = [name for name in PICTURES.names if name != "normalised"]
        pictures = {}
        for data in self.served.values():
            sha256 = hashlib.sha256(data).hexdigest()
            if sha256 not in pictures:
                facts = vars(decode_picture(data, LIMITS)) | {"sha256": sha256}
                pictures[sha256] = {name: facts[name] for name in names}
        entities = [
            {
                "entity_index": place,
                "entity_id": f"http://example.org/{place}",
                "label": label,
                "types": self.types[place] if self.types else [],
                "aliases": [],
                "sources": 1,
            }
            for place, label in enumerate(self.labels)
        ]
        plain = pa.schema([f if f.name != "origin" else pa.field("origin", pa.string()) for f in IMAGE_CANDIDATES])
        return {
            "entities": ds.dataset(pa.Table.from_pylist(entities, ENTITIES)),
            "candidates": pa.Table.from_pylist(self.candidates, plain).cast(IMAGE_CANDIDATES),
            "resolved": pa.Table.from_pylist(rows, RESOLVED),
            "pictures": pa.Table.from_pylist(list(pictures.values()), pa.schema([PICTURES.field(n) for n in names])),
        }

    def scorer(self) -> Scorer:
        """Vectors that were given to pictures; texts have one of their own."""

        def image_vectors(sha256s: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
            found = [self.vectors.get(sha256) for sha256 in sha256s]
            rows = [np.zeros(DIMENSION, np.float32) if vector is None else vector for vector in found]
            return np.stack(rows), np.array([vector is not None for vector in found])

        def text_vectors(texts: Sequence[str]) -> np.ndarray:
            return np.stack([text_vector(text) for text in texts])

        return Scorer(image_vectors, text_vectors)

    def judge(self, folder: Path, *, with_scorer: bool = False, **gates: Any) -> list[dict[str, Any]]:
        """Rows of `images`."""
        config = ImagesConfig(gates=GatesConfig(**gates))
        scorer = self.scorer() if with_scorer else None
        counts = judge(config, **self.tables(), folder=folder, scorer=scorer)
        rows: list[dict[str, Any]] = pq.read_table(folder / "images").to_pylist()
        assert counts["candidates"] == len(rows) == len(self.candidates)
        return rows


def precision_and_recall(rows: Iterable[dict[str, Any]], truth: dict[str, str], gate: str) -> tuple[float, float]:
    """Of one gate, against what each address is known to be."""
    stopped = {row["url"] for row in rows if row["status"] == gate}
    meant = {url for url, status in truth.items() if status == gate}
    right = len(stopped & meant)
    return right / max(1, len(stopped)), right / max(1, len(meant))
