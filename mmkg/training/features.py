"""What a link predictor may know of an entity beside its triples: vectors of its text and of its pictures.

They are those of the build's table ``vectors``. What has no vector has no row here: it is left out, not made up.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from mmkg.embeddings.base import EmbedderIdentity
from mmkg.embeddings.vectors import Vectors, open_vectors
from mmkg.errors import EmbeddingError, ShardError, TrainingError
from mmkg.evaluation.link_prediction import Int64Array
from mmkg.shards import digest, open_table

FeatureKind = Literal["none", "text", "text_image"]

_Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class KnownVectors:
    """The entities that have a vector of one modality.

    Attributes:
        row: (M,) int64, their numbers in the data, ascending.
        vector: (M, F) float32.
    """

    row: Int64Array
    vector: _Float32Array


@dataclass(frozen=True, kw_only=True, eq=False)
class EntityFeatures:
    """The vectors of the entities of some data.

    Attributes:
        kind: text | text_image.
        embedder: who made the vectors.
        known: by modality, text or image.
    """

    kind: FeatureKind
    embedder: EmbedderIdentity
    known: Mapping[str, KnownVectors]

    @property
    def digest(self) -> str:
        """16 hex digits that change with the embedder and with any vector: a run knows the vectors it was made with."""
        content = [
            [modality, hashlib.sha256(known.row.tobytes() + known.vector.tobytes()).hexdigest()]
            for modality, known in self.known.items()
        ]
        return digest([self.kind, self.embedder.digest, content])

    def describe(self) -> dict[str, Any]:
        """Return who made the vectors and how many entities have one, for a run's environment."""
        return {
            "embedder": f"{self.embedder.kind} {self.embedder.model}",
            "embedder_digest": self.embedder.digest,
            "features_digest": self.digest,
            "entities_with_vector": {modality: len(known.row) for modality, known in self.known.items()},
        }


def read_features(tables_folder: Path, entity_index: Int64Array, kind: FeatureKind) -> EntityFeatures:
    """Read the vectors of some entities.

    Args:
        tables_folder: of a build with vectors; for text_image with pictures too.
        entity_index: (N,) the build's entity_index of each entity.
        kind: text is a vector of each entity's text; text_image that, and the mean of the vectors of its kept pictures.

    Raises:
        TrainingError: the build has no such vectors, or they cannot be read.
    """
    try:
        vectors = open_vectors(tables_folder)
        known = {"text": _texts(vectors, entity_index)}
        if kind == "text_image":
            known["image"] = _pictures(vectors, tables_folder, entity_index)
    except (EmbeddingError, ShardError) as error:
        raise TrainingError(
            f"features = '{kind}' cannot be had of this build. {error} Or train without: features=none."
        ) from error
    for modality, found in known.items():
        if not len(found.row):
            raise TrainingError(
                f"features = '{kind}': in {tables_folder}, no {modality} of the {len(entity_index)} entities has a "
                f"vector by the {vectors.identity.kind} embedder '{vectors.identity.model}'. {_NEXT_STEP[modality]}"
            )
    return EntityFeatures(kind=kind, embedder=vectors.identity, known=known)


_NEXT_STEP = {
    "text": "Give the build labels or descriptions, or train with features=none.",
    "image": "Name pictures in [images] and an embedder that sees them (kind = 'clip'), or train with features=text.",
}


def _texts(vectors: Vectors, entity_index: Int64Array) -> KnownVectors:
    row_ND, there_N = vectors.texts(entity_index)
    return KnownVectors(row=np.flatnonzero(there_N).astype(np.int64), vector=row_ND[there_N])


def _pictures(vectors: Vectors, tables_folder: Path, entity_index: Int64Array) -> KnownVectors:
    """The mean over each entity's kept pictures that have a vector."""
    kept = open_table(tables_folder, "images").to_table(
        columns=["entity_index", "sha256"], filter=pc.field("status") == "ok"
    )
    # (entity, picture) once each, in an order that no shard decides
    pairs = sorted(set(zip(kept["entity_index"].to_pylist(), kept["sha256"].to_pylist(), strict=True)))
    number = {int(index): place for place, index in enumerate(entity_index)}
    pairs = [(number[index], sha256) for index, sha256 in pairs if index in number]
    row_PD, there_P = vectors.pictures([sha256 for _, sha256 in pairs])
    entity_P = np.array([entity for entity, _ in pairs], dtype=np.int64)[there_P]
    row_M, place_P, count_M = np.unique(entity_P, return_inverse=True, return_counts=True)
    sum_MD = np.zeros((len(row_M), row_PD.shape[1]), np.float32)
    np.add.at(sum_MD, place_P, row_PD[there_P])
    mean_MD: _Float32Array = (sum_MD / count_M[:, None]).astype(np.float32)
    return KnownVectors(row=row_M, vector=mean_MD)
