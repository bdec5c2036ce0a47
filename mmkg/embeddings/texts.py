"""What of an entity is its text, which an embedder turns into its text vector; and vectors of texts found again."""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow.dataset as ds

from mmkg.embeddings.base import content_key
from mmkg.shards import Archive

TextKind = Literal["label", "label_description"]


def entity_texts(entities: ds.Dataset, kind: TextKind) -> Iterator[tuple[int, str]]:
    """The text of each entity that has one, in order of entity_index.

    Args:
        entities: the table `entities`.
        kind: its label, or its label and description as ``France: a country in Western Europe``.

    Yields:
        entity_index and text. An entity without label has its description; one without both has no text, so that its
        vector is masked instead of made up.
    """
    columns = ["entity_index", "label"] + (["description"] if kind == "label_description" else [])
    for batch in entities.to_batches(columns=columns):
        for row in batch.to_pylist():
            text = ": ".join(part for part in (row["label"], row.get("description")) if part)
            if text:
                yield row["entity_index"], text


def find_texts(archive: Archive, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Rows (n, d) of texts that were encoded; zeros where a text has none.

    Args:
        archive: of `vector_archive`.
        texts: n, in any order, also twice.
    """
    keys = [content_key("text", text) for text in texts]
    there = archive.find(keys, ["content", "vector"])
    places = {key: place for place, key in enumerate(there["content"].to_pylist())}
    dimension = archive.schema.field("vector").type.list_size
    rows = np.zeros((len(keys), dimension), np.float32)
    found = [place for place, key in enumerate(keys) if key in places]
    if found:
        vectors = np.concatenate([chunk.flatten().to_numpy(zero_copy_only=False) for chunk in there["vector"].chunks])
        rows[found] = vectors.reshape(-1, dimension)[[places[keys[place]] for place in found]]
    return rows
