"""The build stage: ``triples_raw`` of several sources become the tables of one graph.

Where a fact stands here: it comes as strings with a dump and a line, and leaves as a row of ``triples`` or
``literals`` with indices and the bit set of the sources that state it. Steps, in order, each a module of this folder:

1. :mod:`~mmkg.graph.statements`: terms become keys; statements are told apart (links, types, triples, literals).
2. :mod:`~mmkg.graph.freebase`: redundant, reverse and folded lines go to ``dropped``.
3. :mod:`~mmkg.graph.links`, :mod:`~mmkg.graph.identity`: IRIs are merged into entities, doubtful links flagged.
4. :mod:`~mmkg.graph.indices`: entities and relations are numbered in order of id; triples are sorted, each once.
5. :mod:`~mmkg.graph.literals`, :mod:`~mmkg.graph.entities`, :mod:`~mmkg.graph.qualifiers`: the rest of the tables.

The same input gives the same bytes, whatever the number of threads and the order of the folders.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmkg.config import Config
from mmkg.engine import open_engine
from mmkg.errors import BuildError
from mmkg.graph.entities import (
    MAX_LABEL_CHARACTERS,
    alias_terms,
    choose_texts,
    read_labels,
    typed_entities,
    write_entities,
)
from mmkg.graph.freebase import apply_pack
from mmkg.graph.indices import (
    TripleStream,
    index_entities,
    index_relations,
    join_indices,
    sorted_triples,
    write_relations,
)
from mmkg.graph.inverses import PairSample, find_inverses
from mmkg.graph.ledger import DROP_REASONS
from mmkg.graph.links import MergedLinks, merge_links
from mmkg.graph.literals import (
    distinct_literals,
    in_order,
    index_attributes,
    write_attributes,
    write_literals,
)
from mmkg.graph.qualifiers import indexed_qualifiers, write_qualifiers
from mmkg.graph.statements import Statements, open_inputs, read_statements
from mmkg.graph.workspace import Workspace
from mmkg.shards import TableWriter
from mmkg.terms import DESCRIPTION_PREDICATES, LABEL_PREDICATES

logger = logging.getLogger(__name__)

# Goes into the stage's digest: raise it when the same input would give other tables.
BUILD_VERSION = 2


def build_graph(
    config: Config, read_folders: Sequence[Path], link_folders: Sequence[Path], folder: Path
) -> dict[str, int]:
    """Build the tables of a graph out of what was read.

    Args:
        config: names the sources in the order of their bits, the engine, identity and languages.
        read_folders: finished read stages of the sources, one a dump; tables `triples_raw` and `qualifiers_raw`.
        link_folders: finished read stages of link dumps; their owl:sameAs rows count, others go to `dropped`.
        folder: the tables are written into it.

    Returns:
        Counts for the manifest. ``statements + link_statements + folded_statements`` equals ``triples + types +
        literals + merged_links + flagged_links + duplicates`` and all ``dropped_*``.

    Raises:
        BuildError: there is nothing to build from, a row comes from no source of the config, or rows were lost.
        ConfigError: `identity` names a namespace that does not exist.
    """
    with open_engine(config.graph, spill_folder=folder) as connection:
        counts = _build(Workspace(connection), config, read_folders, link_folders, folder)
    _check_balance(counts)
    logger.info(
        "build: %s entities, %s triples, %s literals",
        *(f"{counts[k]:,}" for k in ("entities", "triples", "literals")),
    )
    return counts


def _build(
    workspace: Workspace, config: Config, read_folders: Sequence[Path], link_folders: Sequence[Path], folder: Path
) -> dict[str, int]:
    inputs = open_inputs(workspace, read_folders, link_folders)
    statements = read_statements(workspace, inputs, config.source_names)
    counts = {
        "statements": workspace.count(inputs.triples),
        "link_statements": 0 if inputs.links is None else workspace.count(inputs.links),
    }
    statements, pack_counts = apply_pack(workspace, config, inputs, statements, folder)
    merged = merge_links(workspace, config, statements, folder)
    entities, entity_of = index_entities(workspace, statements, merged.aliases)
    relations = index_relations(workspace, statements)
    num_entities = workspace.count(entities)

    stream = _write_triples(workspace, folder, statements, entity_of, relations, num_entities)
    attributes = index_attributes(workspace, statements.literals, statements.terms)
    values = in_order(distinct_literals(statements.literals, entity_of, attributes))
    literals = write_literals(workspace, folder, values, workspace.count(attributes))

    texts = workspace.read([folder], "literals")
    texts = texts.filter(texts["text"].length() <= MAX_LABEL_CHARACTERS)
    labels = choose_texts(texts, attributes, LABEL_PREDICATES, config.graph.languages)
    labels = workspace.keep("labels", labels)
    types, type_rows = _write_entities(workspace, folder, config, statements, merged, entities, entity_of, labels)
    term_labels = read_labels(workspace, [relations, attributes], entity_of, labels)
    write_attributes(workspace, folder, attributes, literals, term_labels)
    inverses = find_inverses(workspace, folder, stream.sample, stream.counts)
    relation_iris = workspace.fetch(relations.order_by("relation_index"))["term"].to_pylist()
    write_relations(folder, relation_iris, stream, inverses, term_labels)

    qualifiers = None
    if statements.qualifiers is not None:
        qualifiers = indexed_qualifiers(statements.qualifiers, statements.terms, entity_of, merged.aliases)
    num_qualifiers, qualifier_rows = write_qualifiers(workspace, folder, qualifiers)
    triples, values_kept = int(stream.counts.sum()), int(literals.values.sum())
    return (
        counts
        | pack_counts
        | {
            "entities": num_entities,
            "relations": len(stream.counts),
            "attributes": len(literals.values),
            "triples": triples,
            "types": types,
            "literals": values_kept,
            "qualifiers": num_qualifiers,
            "merged_links": merged.merged,
            "flagged_links": merged.flagged,
            "classes": merged.classes,
            "flagged_classes": merged.flagged_classes,
            "duplicates": stream.rows - triples + type_rows - types + literals.rows - values_kept,
            "duplicate_qualifiers": qualifier_rows - num_qualifiers,
        }
    )


def _write_triples(
    workspace: Workspace, folder: Path, statements: Statements, entity_of: Any, relations: Any, num_entities: int
) -> TripleStream:
    rows = workspace.fetch(relations.order_by("relation_index"))["rows"].to_numpy()
    stream = TripleStream(len(rows), PairSample(rows))
    joined = join_indices(workspace, statements.nodes, entity_of, relations)
    with TableWriter(folder, "triples") as writer:
        for batch in stream.distinct(sorted_triples(workspace, joined, num_entities, len(rows))):
            writer.write(batch)
    return stream


def _write_entities(
    workspace: Workspace,
    folder: Path,
    config: Config,
    statements: Statements,
    merged: MergedLinks,
    entities: Any,
    entity_of: Any,
    labels: Any,
) -> tuple[int, int]:
    """Write `entities`; returns how many (entity, type) pairs it holds and how many statements those stand for."""
    literals = workspace.read([folder], "literals")
    attributes = workspace.table("attributes_indexed")
    descriptions = choose_texts(literals, attributes, DESCRIPTION_PREDICATES, config.graph.languages)
    types = typed_entities(workspace, statements.nodes, statements.terms, entity_of, merged.aliases)
    aliases = alias_terms(statements.terms, entity_of, merged.aliases)
    return write_entities(workspace, folder, entities, labels, descriptions, types, aliases)


def _check_balance(counts: Mapping[str, int]) -> None:
    """Check that every row that came in is somewhere.

    Raises:
        BuildError: the sums differ.
    """
    came_in = counts["statements"] + counts["link_statements"] + counts["folded_statements"]
    kept = ("triples", "types", "literals", "merged_links", "flagged_links", "duplicates")
    went_out = sum(counts[name] for name in (*kept, *(f"dropped_{reason}" for reason in DROP_REASONS)))
    if came_in != went_out:
        raise BuildError(
            f"{came_in:,} statements came in, {went_out:,} are accounted for: {dict(counts)}. This is a bug of mmkg: "
            f"please report it with these numbers. The previous build is untouched."
        )
