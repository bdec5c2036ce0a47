"""The table `vectors` of a build: which entity's text and which picture has which vector, and who made them all.

Rows are texts by entity_index, then pictures by sha256. What has no vector has no row: a reader gets zeros for it and a
mask that says so. Every file names its embedder in its schema's metadata; files of two embedders are not read as one.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmkg.embeddings.base import IDENTITY_METADATA, EmbedderIdentity, Modality, content_key, read_identity, vector_type
from mmkg.embeddings.pipeline import in_pieces
from mmkg.errors import EmbeddingError
from mmkg.shards import Archive, digest, file_sha256, write_shard

TABLE = "vectors"
ERROR_METADATA = b"mmkg.vector_error"
"""Key of the schema metadata with what the dtype costs against float32: rows, max and mean error of a cosine."""

_ROWS_PER_PART = 262_144


def vectors_schema(identity: EmbedderIdentity, error: dict[str, float] | None = None) -> pa.Schema:
    """Columns of the table, with the identity and the measured error in the metadata."""
    metadata = {IDENTITY_METADATA: identity.to_json().encode()}
    if error is not None:
        metadata[ERROR_METADATA] = json.dumps(error).encode()
    return pa.schema(
        [
            pa.field("entity_index", pa.int64()),  # of a text; null for a picture
            pa.field("sha256", pa.string()),  # of a picture; null for a text
            pa.field("modality", pa.string(), nullable=False),  # text | image
            pa.field("content", pa.string(), nullable=False),  # content_key of what was embedded
            pa.field("vector", vector_type(identity), nullable=False),
        ],
        metadata,
    )


def write_vectors(
    identity: EmbedderIdentity,
    archive: Archive,
    *,
    texts: Iterable[tuple[int, str]],
    pictures: Iterable[str],
    folder: Path,
    normalised_by: str = "",
) -> dict[str, Any]:
    """Write a build's vectors as ``FOLDER/vectors/part-*.parquet``, taken out of the archive.

    Args:
        identity: of the embedder.
        archive: of that embedder, with what was encoded.
        texts: entity_index and text, each entity once.
        pictures: sha256 of each picture, in any order, also more than once.
        folder: of the stage.
        normalised_by: as `encode_pictures` was told.

    Returns:
        Counts: texts, pictures, without_vector of both, and the error of a cosine that the dtype costs, max and mean.
    """
    stale = list((folder / TABLE).glob("part-*.parquet*"))
    for path in stale:
        path.unlink()
    wanted = _wanted(texts, pictures, normalised_by)
    parts = _Parts(identity, folder)
    asked = {"text": 0, "image": 0}
    found = {"text": 0, "image": 0}
    for piece in in_pieces(wanted, _ROWS_PER_PART):
        rows = _look_up(archive, piece)
        for modality in asked:
            asked[modality] += sum(row["modality"] == modality for row in piece)
            found[modality] += pc.sum(pc.equal(rows["modality"], modality)).as_py() or 0
        parts.write(rows)
    parts.close()
    return {
        "texts": found["text"],
        "texts_without_vector": asked["text"] - found["text"],
        "pictures": found["image"],
        "pictures_without_vector": asked["image"] - found["image"],
        "cosine_error_max": parts.error_max,
        "cosine_error_mean": parts.error_sum / parts.rows if parts.rows else 0.0,
    }


def _wanted(texts: Iterable[tuple[int, str]], pictures: Iterable[str], normalised_by: str) -> Iterator[dict[str, Any]]:
    """What the table is to have, in its order."""
    for entity_index, text in sorted(texts):
        key = content_key("text", text)
        yield {"entity_index": entity_index, "sha256": None, "modality": "text", "content": key}
    for sha256 in sorted(set(pictures)):
        key = content_key("image", sha256, normalised_by=normalised_by)
        yield {"entity_index": None, "sha256": sha256, "modality": "image", "content": key}


def _look_up(archive: Archive, wanted: list[dict[str, Any]]) -> pa.Table:
    """Rows of the table with their error; what is not in the archive is left out."""
    contents = [row["content"] for row in wanted]
    there = archive.find(contents, ["content", "vector", "error"])
    places = pc.index_in(pa.array(contents, pa.string()), there["content"].combine_chunks())
    found = pc.is_valid(places)
    names = ("entity_index", "sha256", "modality", "content")
    kinds = {"entity_index": pa.int64()}
    rows = pa.table({name: pa.array([row[name] for row in wanted], kinds.get(name, pa.string())) for name in names})
    vectors = there.select(["vector", "error"]).take(places.filter(found))
    rows = rows.filter(found)
    return rows.append_column("vector", vectors["vector"]).append_column("error", vectors["error"])


class _Parts:
    """Writes parts, each with its own error in its metadata; a table without rows has one part."""

    def __init__(self, identity: EmbedderIdentity, folder: Path) -> None:
        self.identity = identity
        self.folder = folder / TABLE
        self.parts = self.rows = 0
        self.error_max = self.error_sum = 0.0

    def write(self, rows: pa.Table) -> None:
        error = rows["error"].to_numpy().astype(np.float64)
        told = {
            "rows": len(error),
            "max": float(error.max(initial=0.0)),
            "mean": float(error.mean()) if len(error) else 0.0,
        }
        schema = vectors_schema(self.identity, told)
        path = self.folder / f"part-{self.parts:05d}.parquet"
        write_shard(path, rows.select(schema.names).cast(schema).replace_schema_metadata(schema.metadata))
        self.parts += 1
        self.rows += len(error)
        self.error_max = max(self.error_max, told["max"])
        self.error_sum += float(error.sum())

    def close(self) -> None:
        if not self.parts:
            empty = vectors_schema(self.identity).append(pa.field("error", pa.float32())).empty_table()
            self.write(empty)


@dataclass(frozen=True)
class _Column:
    """Vectors of one modality by their id."""

    ids: npt.NDArray[Any]  # sorted, as the table is
    stored: npt.NDArray[Any]  # (n, d), as on disk

    def find(self, ids: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        if not len(self.ids):
            return np.zeros((len(ids), self.stored.shape[1]), np.float32), np.zeros(len(ids), np.bool_)
        places = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        mask = self.ids[places] == ids
        rows = self.stored[places].astype(np.float32)
        rows[~mask] = 0
        return rows, mask


class Vectors:
    """A build's vectors, read when they are first asked for. Use `open_vectors`."""

    def __init__(self, files: Sequence[Path], identity: EmbedderIdentity) -> None:
        self.files = tuple(files)
        self.identity = identity

    @cached_property
    def digest(self) -> str:
        """Of the files' content: what an index over them names as its source."""
        return digest([file_sha256(path) for path in self.files])

    def texts(
        self, entity_indices: Sequence[int] | npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Text vectors of n entities: rows (n, d) and which of them there are (n,); the others are zeros."""
        return self._texts.find(np.asarray(entity_indices, np.int64))

    def pictures(self, sha256s: Sequence[str]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Vectors of n pictures: rows (n, d) and which of them there are (n,); the others are zeros."""
        return self._pictures.find(np.array(sha256s, np.str_))

    def all(self, modality: Modality) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
        """All ids of a modality (entity_index or sha256), sorted, and their rows (n, d)."""
        column = self._pictures if modality == "image" else self._texts
        return column.ids, column.stored.astype(np.float32)

    @cached_property
    def _texts(self) -> _Column:
        return self._load("text", "entity_index", np.dtype(np.int64))

    @cached_property
    def _pictures(self) -> _Column:
        return self._load("image", "sha256", np.dtype("<U64"))

    def _load(self, modality: Modality, id_column: str, id_type: np.dtype[Any]) -> _Column:
        numbers = np.dtype(self.identity.dtype)
        ids, rows = [np.empty(0, id_type)], [np.empty((0, self.identity.dimension), numbers)]
        for path in self.files:
            table = pq.read_table(path, columns=[id_column, "vector"], filters=[("modality", "=", modality)])
            ids.append(np.asarray(table[id_column].to_numpy(), id_type))
            flat = (chunk.flatten().to_numpy(zero_copy_only=False) for chunk in table["vector"].chunks)
            rows.extend(numbers_of.reshape(-1, self.identity.dimension) for numbers_of in flat)
        return _Column(np.concatenate(ids), np.concatenate(rows))


def open_vectors(folder: Path) -> Vectors:
    """Open the vectors of a build.

    Args:
        folder: of the stage, which holds the table `vectors`.

    Raises:
        EmbeddingError: there are none, one file is not whole, or two were made by two embedders.
    """
    files = sorted((folder / TABLE).glob("part-*.parquet"))
    if not files:
        raise EmbeddingError(f"{folder / TABLE}: no vectors here. Set `kind` in [embeddings] and run `mmkg build`.")
    identities = []
    for path in files:
        try:
            schema = pq.read_schema(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise EmbeddingError(f"{path}: not a whole Parquet file ({error}). Run `mmkg build` again.") from error
        identities.append(read_identity(schema.metadata, path))
        if not schema.equals(vectors_schema(identities[-1])):
            raise EmbeddingError(f"{path}: its columns are not those of a table of vectors. Run `mmkg build` again.")
    for path, identity in zip(files, identities, strict=True):
        if identity.digest != identities[0].digest:
            raise EmbeddingError(
                f"{path}: made by the {identity.kind} embedder '{identity.model}' ({identity.digest}), while "
                f"{files[0].name} is of {identities[0].kind} '{identities[0].model}' ({identities[0].digest}). Vectors "
                f"of two embedders cannot be compared: remove {folder} and run `mmkg build` again."
            )
    return Vectors(files, identities[0])
