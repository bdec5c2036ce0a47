"""What of an entity is its text: the words that an embedder turns into the entity's text vector."""

from collections.abc import Iterator
from typing import Literal

import pyarrow.dataset as ds

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
