"""An entity's card: its attributes with every value, and its neighbours by relation, each with who said so."""

import dataclasses
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mmkg.builds.opened import Build, Entity
from mmkg.builds.pictures import pictures_of


def make_card(build: Build, entity: Entity) -> dict[str, Any]:
    """Gather what a build knows of an entity.

    Returns:
        ``entity`` (its row), ``attributes`` (name, value, datatype, language, sources), ``pictures`` (those kept: rank,
        sha256, url, licence, …), and the neighbours ``out`` and ``in`` (relation, entity_id, label, sources), as lists
        of dictionaries.
    """
    literals = build.literals.to_table(filter=pc.field("entity_index") == entity.entity_index).to_pylist()
    names = _by_index(build, "attributes", "attribute_index", {row["attribute_index"] for row in literals})
    attributes = [
        {
            "name": names[row["attribute_index"]]["name"],
            "value": row["text"],
            "datatype": row["datatype"],
            "language": row["language"],
            "sources": build.name_sources(row["sources"]),
        }
        for row in literals
    ]
    return {
        "entity": dataclasses.asdict(entity),
        "attributes": sorted(attributes, key=lambda row: (row["name"], row["language"] or "", row["value"])),
        "pictures": [dataclasses.asdict(picture) for picture in pictures_of(build, [entity])],
        "out": _neighbours(build, entity, "head_index", "tail_index"),
        "in": _neighbours(build, entity, "tail_index", "head_index"),
    }


def _neighbours(build: Build, entity: Entity, here: str, there: str) -> list[dict[str, Any]]:
    triples = build.triples.to_table(filter=pc.field(here) == entity.entity_index).to_pylist()
    relations = build.relation_names
    entities = _by_index(build, "entities", "entity_index", {row[there] for row in triples})
    rows = [
        {
            "relation": relations[row["relation_index"]],
            "entity_id": entities[row[there]]["entity_id"],
            "label": entities[row[there]]["label"],
            "sources": build.name_sources(row["sources"]),
        }
        for row in triples
    ]
    return sorted(rows, key=lambda row: (row["relation"], row["label"] or "", row["entity_id"]))


def _by_index(build: Build, table: str, column: str, indices: set[int]) -> dict[int, dict[str, Any]]:
    chosen = pc.field(column).isin(pa.array(sorted(indices), pa.int64()))
    return {row[column]: row for row in build.table(table).to_table(filter=chosen).to_pylist()}
