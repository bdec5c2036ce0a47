"""Search in a finished build: the pictures, and the entities by their texts, that are nearest to words or to a picture.

The query goes through the very embedder that made the build's vectors; another one is refused.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mmkg.builds.opened import Build
from mmkg.builds.versions import VECTORS_FOLDER
from mmkg.config import DecodeConfig, EmbeddingsConfig, ImagesConfig
from mmkg.embeddings import Embedder, Index, Modality, build_index, measure_recall, open_embedder
from mmkg.embeddings.nearest import MAX_EXACT_ROWS, IndexKind
from mmkg.errors import EmbeddingError, ImageError
from mmkg.images.decode import Decoder
from mmkg.shards import digest, write_json

_RECALL_QUERIES = 100  # rows of the index itself


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hit:
    """Something near to the query."""

    score: float  # cosine, -1 … 1; that of a picture cannot be compared with that of a text
    entity_ids: tuple[str, ...]  # that have the picture, or whose text it is
    labels: tuple[str, ...]
    sha256: str | None = None  # of the picture
    url: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """What a search gave, nearest first."""

    pictures: tuple[Hit, ...]
    entities: tuple[Hit, ...]
    recall: Mapping[str, float | None]
    """Of the index of `pictures` and of `entities` against the exact scan, at 10; None where all were scanned."""


def search(
    build: Build,
    query: str | Path,
    *,
    k: int = 10,
    entity_ids: Collection[str] | None = None,
    index: IndexKind = "auto",
) -> Found:
    """Find what is nearest to words or to a picture.

    Args:
        build: a finished build with vectors.
        query: words, or the path of a picture.
        k: how many pictures, and how many entities, at least 1.
        entity_ids: only these entities and their pictures.
        index: exact (a scan) | usearch (nearly all of the nearest) | auto: usearch beyond a million vectors.

    Returns:
        Pictures that were kept, and to words also entities by their texts; none of what the embedder has no vectors of.

    Raises:
        EmbeddingError: the build has no vectors, or none of pictures though the query is one; or the embedder that made
            them cannot be had, or the query is empty.
        ImageError: the file is no picture that can be decoded.
    """
    if isinstance(query, str) and not query.strip():
        raise EmbeddingError("nothing to search for: expected words, or the path of a picture")
    has_looks = "image" in build.vectors.identity.modalities and build.has_pictures
    if isinstance(query, Path) and not has_looks:
        raise EmbeddingError(
            f"{build.folder}: has no vectors of pictures to compare {query} with. Name pictures in [images] of its "
            "config, and in [embeddings] what embeds them (kind = 'clip'); or search for words."
        )
    embedder = _embedder_of(build)
    asked = embedder.embed_texts([query]) if isinstance(query, str) else _embed_picture(build, embedder, query)
    allowed = None if entity_ids is None else set(_indices_of(build, entity_ids))
    modalities = embedder.identity.modalities
    pictures, entities = tuple[Hit, ...](), tuple[Hit, ...]()
    used: dict[str, float | None] = {}
    if has_looks:
        shown = _kept_pictures(build)
        hits, used["pictures"] = _nearest(build, "image", asked, k, index, set(shown), _of(shown, allowed))
        pictures = tuple(_hit(build, score, shown[sha256], sha256) for sha256, score in hits)
    if "text" in modalities and isinstance(query, str):
        hits, used["entities"] = _nearest(build, "text", asked, k, index, None, allowed)
        entities = tuple(_hit(build, score, _Shown([entity_index])) for entity_index, score in hits)
    return Found(pictures=pictures, entities=entities, recall=used)


@functools.lru_cache(maxsize=1)
def _open(settings: EmbeddingsConfig) -> Embedder:
    return open_embedder(settings)


def _embedder_of(build: Build) -> Embedder:
    """The embedder that made the vectors of a build."""
    made_by = build.vectors.identity
    settings = EmbeddingsConfig.model_validate(build.manifest.config.get("embeddings", {}))
    embedder = _open(settings.model_copy(update={"precision": made_by.precision}))
    if embedder.identity.digest != made_by.digest:
        now = embedder.identity
        raise EmbeddingError(
            f"{build.folder}: its vectors were made by {made_by.kind} '{made_by.model}' ({made_by.digest}); what is "
            f"here under that name is now another ({now.digest}). Bring the weights back, or run `mmkg build` again."
        )
    return embedder


def _embed_picture(build: Build, embedder: Embedder, path: Path) -> npt.NDArray[np.float32]:
    """The vector (1, d) of a file, decoded and normalised as the build's own pictures were."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}. Expected a picture.") from error
    images = ImagesConfig.model_validate(build.manifest.config.get("images", {}))
    settings: DecodeConfig = images.decode.model_copy(update={"workers": 1})
    with Decoder(settings) as decoder:
        [row] = decoder.decode([(hashlib.sha256(content).hexdigest(), content)]).to_pylist()
    if row["status"] != "ok":
        raise ImageError(f"{path}: {row['status']}: {row['detail']}. Expected a picture such as a PNG or a JPEG.")
    return embedder.embed_images([embedder.prepare_image(row["normalised"])])


def _nearest(
    build: Build,
    modality: Modality,
    asked: npt.NDArray[np.float32],
    k: int,
    kind: IndexKind,
    searched: Collection[Any] | None,
    allowed: Collection[Any] | None,
) -> tuple[list[tuple[Any, float]], float | None]:
    """Ids (sha256 or entity_index) and cosines of the nearest; and the recall of the index, if one was used.

    Args:
        build: has the vectors.
        modality: image | text.
        asked: (1, d).
        k: how many.
        kind: of the index.
        searched: ids that the index is made of; all unless given.
        allowed: ids that may be found; all unless given.
    """
    ids, matrix = build.vectors.all(modality)
    made_of = build.vectors.digest
    if searched is not None:
        there = _among(ids, searched)
        ids, matrix = ids[there], matrix[there]
        made_of = digest([made_of, ids.tolist()])
    rows = None if allowed is None else _among(ids, allowed)
    if not len(ids) or (rows is not None and not rows.any()):
        return [], None
    index: Index
    recall = None
    if rows is None and (kind == "usearch" or (kind == "auto" and len(ids) > MAX_EXACT_ROWS)):
        index, recall = _open_stored(build, modality, matrix, made_of)
    else:
        index = build_index(matrix, "exact")
    places, scores = index.search(asked, k, rows)
    return [(ids[place].item(), float(score)) for place, score in zip(places[0], scores[0], strict=True)], recall


def _among(ids: npt.NDArray[Any], some: Collection[Any]) -> npt.NDArray[np.bool_]:
    return np.isin(ids, np.array(list(some), ids.dtype))


def _open_stored(
    build: Build, modality: Modality, matrix: npt.NDArray[np.float32], made_of: str
) -> tuple[Index, float | None]:
    """The index that is kept beside the embedder's vectors, made when it is first asked for, and its recall."""
    from mmkg.embeddings.hnsw import open_index

    folder = build.folder.parent / VECTORS_FOLDER / build.vectors.identity.digest
    path = folder / f"{modality}-{made_of}.usearch"
    told = path.with_suffix(".recall.json")
    index = open_index(path, matrix, made_of)
    if not told.exists():
        step = max(1, len(matrix) // _RECALL_QUERIES)
        write_json(told, {"recall_at_10": measure_recall(index, matrix, matrix[::step][:_RECALL_QUERIES])})
    return index, json.loads(told.read_text(encoding="utf-8"))["recall_at_10"]


@dataclasses.dataclass
class _Shown:
    """Which entities a picture is of."""

    entity_indices: list[int]
    url: str | None = None


def _kept_pictures(build: Build) -> dict[str, _Shown]:
    """The pictures that were kept, by sha256."""
    condition = pc.field("status") == "ok"
    shown: dict[str, _Shown] = {}
    for row in build.images.to_table(columns=["sha256", "entity_index", "url"], filter=condition).to_pylist():
        shown.setdefault(row["sha256"], _Shown([], row["url"])).entity_indices.append(row["entity_index"])
    return shown


def _of(shown: Mapping[str, _Shown], entity_indices: set[int] | None) -> list[str] | None:
    """The pictures of some entities; None for all."""
    if entity_indices is None:
        return None
    return [sha256 for sha256, picture in shown.items() if not entity_indices.isdisjoint(picture.entity_indices)]


def _indices_of(build: Build, entity_ids: Collection[str]) -> list[int]:
    wanted = pc.field("entity_id").isin(pa.array(list(entity_ids), pa.string()))
    found: list[int] = build.entities.to_table(columns=["entity_index"], filter=wanted)["entity_index"].to_pylist()
    return found


def _hit(build: Build, score: float, shown: _Shown, sha256: str | None = None) -> Hit:
    indices = sorted(set(shown.entity_indices))
    wanted = pc.field("entity_index").isin(pa.array(indices, pa.int64()))
    rows = build.entities.to_table(columns=["entity_id"], filter=wanted)
    labels = tuple(build.entity_labels[i] for i in indices)
    return Hit(
        score=score, entity_ids=tuple(rows["entity_id"].to_pylist()), labels=labels, sha256=sha256, url=shown.url
    )
