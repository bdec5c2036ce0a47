"""The table ``entities``: what each is called and described by, its types, and every IRI it is known by.

Where a fact stands here: indices are given and ``literals`` is written; labels are chosen from it. The rule: the first
of the config's languages that the entity has a label in (``en-gb`` counts as ``en``, after it), then one without
language, then any, in the order of the tags; of several the first of ``terms.LABEL_PREDICATES``, then the smallest. A
text of more than `MAX_LABEL_CHARACTERS` is no name: it stays among the literals.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow as pa

from mmkg.graph.statements import is_type
from mmkg.graph.workspace import Workspace
from mmkg.shards import TableWriter

MAX_LABEL_CHARACTERS = 2_000
"""Nobody is called longer than this; at 4 bytes a character, an index of a store takes it (Neo4j's: 8,167 bytes)."""
_BEFORE_TEXT = "\t"  # stands in no language tag, so it ends the part of a sort key before the text


def choose_texts(literals: Any, attributes: Any, predicates: Sequence[str], languages: Sequence[str]) -> Any:
    """One text for each entity that has any by the predicates: entity_index, text.

    Args:
        literals: entity_index, attribute_index, text, language.
        attributes: term, attribute_index.
        predicates: in the order in which they are preferred.
        languages: of the config, in the order in which they are preferred.
    """
    ranked = [(predicate, rank) for rank, predicate in enumerate(predicates)]
    wanted = attributes.filter(attributes["term"].isin(predicates))
    wanted = wanted.select("attribute_index", predicate_rank=wanted["term"].cases(*ranked, else_=len(predicates)))
    texts = literals.join(wanted, "attribute_index")
    language = texts["language"]
    cases = []
    for rank, tag in enumerate(tag.lower() for tag in languages):
        cases += [(language == tag, 2 * rank), (language.startswith(tag + "-"), 2 * rank + 1)]
    cases.append((language.isnull(), 2 * len(languages)))
    language_rank = ibis.cases(*cases, else_=2 * len(languages) + 1)
    # The smallest of such keys is one aggregate over strings, where a window would sort all of them.
    in_language = (language_rank > 2 * len(languages)).ifelse(language, "")
    key = (
        language_rank.cast("string").lpad(3, "0")
        + in_language
        + _BEFORE_TEXT
        + texts["predicate_rank"].cast("string").lpad(2, "0")
        + texts["text"]
    )
    chosen = texts.select("entity_index", choice=key).group_by("entity_index").agg(choice=ibis._["choice"].min())
    start = chosen["choice"].find(_BEFORE_TEXT) + 3
    return chosen.select("entity_index", text=chosen["choice"].substr(start))


def typed_entities(workspace: Workspace, nodes: Any, terms: Any, entity_of: Any, aliases: Any | None) -> Any:
    """The types of entities: entity_index, type (canonical IRI), one row each, and `rows` it stands for."""
    types = nodes.filter(is_type(workspace, nodes["relation"]))
    types = types.join(entity_of.select(head="key", entity_index="entity_index"), "head")
    types = types.select("entity_index", "tail")
    if aliases is not None:
        types = types.left_join(aliases.select(tail="key", canonical="canonical"), "tail")
        types = types.select("entity_index", "tail", "canonical")
        types = types.select("entity_index", tail=ibis.coalesce(types["canonical"], types["tail"]))
    named = types.join(terms.select(tail="key", term="term"), "tail").select("entity_index", "term")
    return named.group_by("entity_index", type=named["term"]).agg(rows=named.count())


def alias_terms(terms: Any, entity_of: Any, aliases: Any | None) -> Any | None:
    """The IRIs merged into entities: entity_index, alias; None if nothing was merged."""
    if aliases is None:
        return None
    others = aliases.filter(aliases["key"] != aliases["canonical"])
    named = others.join(terms, "key").join(entity_of, "key")
    return named.select("entity_index", alias="term")


def read_labels(workspace: Workspace, named: Sequence[Any], entity_of: Any, labels: Any) -> dict[str, str]:
    """The label by IRI of relations and attributes that are subjects of label statements.

    Args:
        workspace: the engine.
        named: tables with columns key and term.
        entity_of: key, entity_index.
        labels: from :func:`choose_texts`.
    """
    terms = ibis.union(*(table.select("key", "term") for table in named), distinct=True)
    rows = workspace.fetch(terms.join(entity_of, "key").join(labels, "entity_index").select("term", "text"))
    return dict(zip(rows["term"].to_pylist(), rows["text"].to_pylist(), strict=True))


class _Lists:
    """Turns a stream of (entity_index, string) in order into a list column for each range of entities."""

    def __init__(self, batches: Iterator[pa.Table], column: str) -> None:
        self._batches = batches
        self._column = column
        self._index = np.zeros(0, np.int64)
        self._values: pa.ChunkedArray = pa.chunked_array([], pa.string())
        self.rows = 0
        self.rows_in = 0

    def take(self, stop: int, start: int) -> pa.Array:
        """Lists of the entities start … stop-1."""
        while (not len(self._index) or self._index[-1] < stop) and (batch := next(self._batches, None)) is not None:
            self._index = np.concatenate([self._index, batch["entity_index"].to_numpy()])
            values = batch[self._column].cast(pa.string())
            self._values = pa.chunked_array([*self._values.chunks, *values.chunks], pa.string())
            self.rows += batch.num_rows
            if "rows" in batch.column_names:
                self.rows_in += int(batch["rows"].to_numpy().sum())
        offsets = np.searchsorted(self._index, np.arange(start, stop + 1))
        values = self._values.slice(0, offsets[-1]).combine_chunks()
        if isinstance(values, pa.ChunkedArray):  # no chunk at all
            values = pa.array([], pa.string())
        self._index = self._index[offsets[-1] :]
        self._values = self._values.slice(offsets[-1])
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)


def write_entities(
    workspace: Workspace, folder: Path, entities: Any, labels: Any, descriptions: Any, types: Any, aliases: Any | None
) -> tuple[int, int]:
    """Write the table `entities`.

    Args:
        workspace: the engine.
        folder: of the build.
        entities: key, term, entity_index, sources.
        labels: from :func:`choose_texts`.
        descriptions: likewise.
        types: from :func:`typed_entities`.
        aliases: from :func:`alias_terms`.

    Returns:
        How many (entity, type) pairs; how many statements those stand for.
    """
    label, description = (
        texts.select("entity_index", **{name: texts["text"]})
        for name, texts in (("label", labels), ("description", descriptions))
    )
    named = (
        entities.left_join(label, "entity_index")
        .left_join(description, "entity_index")
        .select("entity_index", "label", "description", "sources", entity_id="term")
    )
    type_lists = _Lists(workspace.stream(types.order_by("entity_index", "type")), "type")
    alias_rows = iter(()) if aliases is None else workspace.stream(aliases.order_by("entity_index", "alias"))
    alias_lists = _Lists(alias_rows, "alias")
    done = 0
    with TableWriter(folder, "entities") as writer:
        for batch in workspace.stream(named.order_by("entity_index")):
            start, done = done, done + batch.num_rows
            with_lists = batch.append_column("types", type_lists.take(done, start))
            writer.write(with_lists.append_column("aliases", alias_lists.take(done, start)))
    return type_lists.rows, type_lists.rows_in
