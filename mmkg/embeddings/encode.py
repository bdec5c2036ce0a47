"""Embed what is new: pictures and texts become vectors in an archive that is kept for all builds of a graph.

What is in the archive already is not embedded again. What has no vector is a failed row of the report, with a reason.
The threads behind it are in `pipeline`.
"""

import itertools
import logging
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from mmkg.config import EmbeddingsConfig
from mmkg.embeddings.base import (
    IDENTITY_METADATA,
    Embedder,
    EmbedderIdentity,
    Modality,
    content_key,
    lacks_modality,
    vector_type,
)
from mmkg.embeddings.pipeline import Content, EncodeReport, Pipeline, Progress, in_pieces
from mmkg.errors import EmbeddingError
from mmkg.shards import Archive

logger = logging.getLogger(__name__)

_TEXTS_IN_VIEW = 64  # batches within which texts are put in order of length


def vector_archive(folder: Path, identity: EmbedderIdentity) -> Archive:
    """The archive of an embedder's vectors, ``FOLDER/DIGEST``, looked up by `content_key`.

    Args:
        folder: of all embedders of a graph, ``builds/GRAPH/vectors``.
        identity: of the embedder; stands in every part's metadata, without versions of libraries.
    """
    schema = pa.schema(
        [
            pa.field("content", pa.string(), nullable=False),
            pa.field("modality", pa.string(), nullable=False),
            pa.field("vector", vector_type(identity), nullable=False),
            # length of the difference to the float32 row: no cosine with it is wrong by more
            pa.field("error", pa.float32(), nullable=False),
        ],
        {IDENTITY_METADATA: identity.to_json(libraries=False).encode()},
    )
    return Archive(folder / identity.digest, schema, "content")


def encode_pictures(
    embedder: Embedder,
    config: EmbeddingsConfig,
    pictures: Iterable[tuple[str, bytes]],
    archive: Archive,
    progress: Progress | None = None,
    *,
    normalised_by: str = "",
) -> EncodeReport:
    """Embed the pictures that are not in the archive yet.

    Args:
        embedder: makes the vectors.
        config: batch size, rows that are committed together.
        pictures: sha256 and normalised bytes of each; read in a thread of its own.
        archive: of this embedder; rows are added to it.
        progress: told how many rows are on disk, after each part.
        normalised_by: digest of how the pictures were normalised, see `content_key`.

    Returns:
        What was done. A picture that cannot be decoded, or whose row is not finite, is a failed row of it.

    Raises:
        EmbeddingError: the embedder has no pictures, the archive is another embedder's, or one picture alone does not
            fit into memory.
    """
    if "image" not in embedder.identity.modalities:
        return _none_of("image", embedder.identity, pictures)
    _check_archive(embedder.identity, archive)
    contents = (
        Content(content_key("image", sha256, normalised_by=normalised_by), sha256, normalised)
        for sha256, normalised in pictures
    )
    return Pipeline("image", embedder, config, archive, progress).run(contents)


def encode_texts(
    embedder: Embedder,
    config: EmbeddingsConfig,
    texts: Iterable[str],
    archive: Archive,
    progress: Progress | None = None,
) -> EncodeReport:
    """Embed the texts that are not in the archive yet, texts of like length together.

    Args:
        embedder: makes the vectors.
        config: batch size, rows that are committed together.
        texts: any number of them; one that comes twice is embedded once.
        archive: of this embedder; rows are added to it.
        progress: told how many rows are on disk, after each part.

    Returns:
        What was done, with the number of texts that are longer than the model reads.

    Raises:
        EmbeddingError: the embedder has no texts, the archive is another embedder's, or one text alone does not
            fit into memory.
    """
    if "text" not in embedder.identity.modalities:
        return _none_of("text", embedder.identity, texts)
    _check_archive(embedder.identity, archive)
    views = in_pieces(texts, _TEXTS_IN_VIEW * config.batch_size)
    by_length = (sorted(view, key=lambda text: (len(text), text)) for view in views)
    contents = (Content(content_key("text", text), text, text) for text in itertools.chain.from_iterable(by_length))
    report = Pipeline("text", embedder, config, archive, progress).run(contents)
    if report.cut:
        logger.info("%s texts are longer than the model reads and were cut", f"{report.cut:,}")
    return report


def _none_of(modality: Modality, identity: EmbedderIdentity, contents: Iterable[object]) -> EncodeReport:
    """What an embedder without a modality does with nothing of it, and only with that."""
    for _ in contents:
        raise lacks_modality(identity, modality)
    return EncodeReport(modality=modality)


def _check_archive(identity: EmbedderIdentity, archive: Archive) -> None:
    if (archive.schema.metadata or {}).get(IDENTITY_METADATA) != identity.to_json(libraries=False).encode():
        raise EmbeddingError(
            f"{archive.folder}: expected an archive of the {identity.kind} embedder '{identity.model}' "
            f"({identity.digest}), found another's. Open it by vector_archive."
        )
