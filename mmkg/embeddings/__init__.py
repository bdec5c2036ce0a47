"""From picture and text to vector: embedders, the pipeline that runs them, shards that say who made them, search.

To add an embedder: a file with its class, a line in ``_EMBEDDERS``, an entry in ``tests/contracts/test_embedder.py``.

>>> from mmkg.config import EmbeddingsConfig
>>> embedder = open_embedder(EmbeddingsConfig(kind="hashing"))
>>> embedder.embed_texts(["France", "the French Republic"]).shape
(2, 256)
"""

import importlib

from mmkg.config import EmbeddingsConfig
from mmkg.embeddings.base import (
    MODALITIES,
    Embedder,
    EmbedderIdentity,
    Modality,
    OutOfMemory,
    content_key,
    unit_rows,
)
from mmkg.embeddings.encode import encode_pictures, encode_texts, vector_archive
from mmkg.embeddings.nearest import Index, build_index, measure_recall
from mmkg.embeddings.pipeline import EncodeReport, FailedRow
from mmkg.embeddings.texts import entity_texts
from mmkg.embeddings.vectors import Vectors, open_vectors, write_vectors
from mmkg.errors import ConfigError, unknown_name

__all__ = [
    "MODALITIES",
    "Embedder",
    "EmbedderIdentity",
    "EncodeReport",
    "FailedRow",
    "Index",
    "Modality",
    "OutOfMemory",
    "Vectors",
    "build_index",
    "content_key",
    "embedder_names",
    "encode_pictures",
    "encode_texts",
    "entity_texts",
    "measure_recall",
    "open_embedder",
    "open_vectors",
    "unit_rows",
    "vector_archive",
    "write_vectors",
]

_EMBEDDERS: dict[str, tuple[str, str]] = {  # kind: module, class; imported when one is opened
    "clip": ("mmkg.embeddings.clip", "ClipEmbedder"),
    "hashing": ("mmkg.embeddings.hashing", "HashingEmbedder"),
    "sentence": ("mmkg.embeddings.sentence", "SentenceEmbedder"),
}


def embedder_names() -> list[str]:
    """The kinds that :func:`open_embedder` knows, sorted."""
    return sorted(_EMBEDDERS)


def open_embedder(config: EmbeddingsConfig) -> Embedder:
    """Open the embedder of a config: load its model, bring it to its device and precision.

    Raises:
        ConfigError: the config names no embedder.
        NotInstalled: it needs packages of an extra.
        EmbeddingError: the model, its weights or the device cannot be had.
    """
    if config.kind not in _EMBEDDERS:
        raise ConfigError(unknown_name("embedder", config.kind, _EMBEDDERS) + " Set `kind` in [embeddings].")
    module, name = _EMBEDDERS[config.kind]
    embedder: Embedder = getattr(importlib.import_module(module), name)(config)
    return embedder
