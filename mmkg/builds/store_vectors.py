"""Vectors of a version in the Neo4j server that serves it, where `[embeddings]` asks for that: ``in_store = true``.

They follow the switch of readers: an index over them is no part of the graph, and a search that comes in between finds
the vectors of the nodes that stayed. A server that has the vectors of this content already is not written to.
"""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from mmkg.builds.opened import open_build
from mmkg.config import EmbeddingsConfig, StoreConfig
from mmkg.shards import write_json

logger = logging.getLogger(__name__)

TEXT_PROPERTY, IMAGE_PROPERTY = "text_vector", "image_vector"
_MARK = "neo4j_vectors.json"  # in the graph's folder: what was loaded last, and where


def deliver_vectors(
    root: Path, version: str, store: StoreConfig, content: str, progress: Callable[[str, int, int | None], None] | None
) -> int:
    """Bring the vectors of a version to its server; returns how many nodes got one, 0 if nothing had to be done.

    Entities get ``text_vector``, pictures that were kept ``image_vector``, each with its index.

    Args:
        root: folder of the graph.
        version: that the server serves.
        store: names the server.
        content: digest of what the server holds.
        progress: told what is being loaded.

    Raises:
        StoreError: the server cannot be written to.
    """
    with open_build(root / version) as build:
        settings = EmbeddingsConfig.model_validate(build.manifest.config.get("embeddings", {}))
        if not settings.in_store or not build.has_vectors:
            return 0
        vectors = build.vectors
        mark = {"uri": store.uri, "database": store.database, "content": content, "vectors": vectors.digest}
        path = root / _MARK
        if path.exists() and json.loads(path.read_text(encoding="utf-8")) == mark:
            return 0
        indices, texts = vectors.all("text")
        entity_ids = np.array(build.entities.to_table(columns=["entity_id"])["entity_id"].to_pylist(), dtype=object)
        kept: list[str] = []
        if build.has_pictures:
            rows = build.images.to_table(columns=["sha256"], filter=pc.field("status") == "ok")
            kept = sorted(set(rows["sha256"].to_pylist()))
        pictures, mask = vectors.pictures(kept)
    from mmkg.store.neo4j import load_vectors, open_driver

    shown = [sha256 for sha256, is_there in zip(kept, mask, strict=True) if is_there]
    with open_driver(store) as driver:
        if len(indices):
            _tell(progress, "neo4j: vectors of texts", len(indices))
            load_vectors(driver, store, TEXT_PROPERTY, list(entity_ids[indices]), texts)
        if shown:
            _tell(progress, "neo4j: vectors of pictures", len(shown))
            load_vectors(driver, store, IMAGE_PROPERTY, shown, pictures[mask], node="image")
    write_json(path, mark)
    logger.info("neo4j: %s vectors of texts, %s of pictures", f"{len(indices):,}", f"{len(shown):,}")
    return len(indices) + len(shown)


def _tell(progress: Callable[[str, int, int | None], None] | None, what: str, total: int) -> None:
    if progress is not None:
        progress(what, 0, total)
