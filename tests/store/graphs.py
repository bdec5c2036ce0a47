"""Small graphs as the five tables that a store is made of, from what a test can write in a few lines."""

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmkg.shards import write_table
from mmkg.tables import SCHEMAS

SOURCES = ("freebase", "dbpedia")


@dataclass
class Graph:
    """Triples are (head, relation, tail), with bits of the sources if not 1; literals are (entity, name, value)."""

    entities: Sequence[str]
    triples: Sequence[tuple[Any, ...]] = ()
    literals: Sequence[tuple[str, str, Any]] = ()
    labels: Mapping[str, str | None] = field(default_factory=dict)
    descriptions: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, Sequence[str]] = field(default_factory=dict)
    aliases: Mapping[str, Sequence[str]] = field(default_factory=dict)
    relation_names: Mapping[str, str] = field(default_factory=dict)  # relation → name in Cypher, if it is another
    relations: Sequence[str] = ()  # also those without triples
    images: Sequence["Picture"] = ()  # None of them: the table is not written


@dataclass
class Picture:
    """One row of the table images, of which a test names what matters to it."""

    entity: str
    sha256: str | None
    rank: int | None = 0
    score: float | None = None
    url: str = "http://example.org/picture.png"
    status: str = "ok"
    licence: str | None = None
    author: str | None = None
    source_page: str | None = None
    format: str | None = "png"
    width_px: int | None = 3
    height_px: int | None = 2


def relation_id(relation: str) -> str:
    """The IRI of a relation of a test."""
    return f"http://example.org/relation/{relation}"


def write_graph(folder: Path, graph: Graph) -> Path:
    """Write the tables; indices follow the order of ids, as a build's do."""
    entity_ids = sorted(graph.entities)
    index = {entity_id: i for i, entity_id in enumerate(entity_ids)}
    relations = sorted({*graph.relations, *(triple[1] for triple in graph.triples)})
    attributes = sorted({name for _, name, _ in graph.literals})
    triples = sorted((index[h], relations.index(r), index[t], *(rest or [1])) for h, r, t, *rest in graph.triples)
    literals = [_literal(index[e], attributes.index(name), value) for e, name, value in graph.literals]
    tables = {
        "entities": [
            {
                "entity_index": i,
                "entity_id": entity_id,
                "label": graph.labels.get(entity_id),
                "description": graph.descriptions.get(entity_id),
                "types": list(graph.types.get(entity_id, ())),
                "aliases": list(graph.aliases.get(entity_id, ())),
                "sources": 1,
            }
            for entity_id, i in index.items()
        ],
        "relations": [
            {
                "relation_index": i,
                "relation_id": relation_id(relation),
                "name": graph.relation_names.get(relation, relation),
                "label": None,
                "count": sum(triple[1] == i for triple in triples),
                "functional": False,
                "inverse_index": None,
            }
            for i, relation in enumerate(relations)
        ],
        "attributes": [_attribute(i, name, literals) for i, name in enumerate(attributes)],
        "triples": [
            dict(zip(("head_index", "relation_index", "tail_index", "sources"), row, strict=True)) for row in triples
        ],
        "literals": literals,
    }
    for name, rows in tables.items():
        write_table(folder, name, [pa.Table.from_pylist(rows, schema=SCHEMAS[name])])
    if graph.images:
        write_images(folder.with_name(f"{folder.name}-images"), graph.images, index)
    return folder


def write_images(folder: Path, pictures: Sequence[Picture], index: Mapping[str, int]) -> Path:
    """Write the table images; `index` is the entity_index of each entity."""
    rows = [
        {name: value for name, value in vars(picture).items() if name != "entity"}
        | {"entity_index": index[picture.entity], "origin": "image", "reason": "", "num_entities": 1}
        for picture in pictures
    ]
    write_table(folder, "images", [pa.Table.from_pylist(rows, schema=SCHEMAS["images"])])
    return folder


def images_of(tables: Path) -> Path | None:
    """The folder of the table images of what `write_graph` wrote, if it wrote one."""
    folder = tables.with_name(f"{tables.name}-images")
    return folder if folder.exists() else None


def attribute_id(name: str) -> str:
    """The IRI of an attribute of a test."""
    return f"http://example.org/attribute/{name}"


def _literal(entity: int, attribute: int, value: Any) -> dict[str, Any]:
    is_number = isinstance(value, int | float)
    is_date = isinstance(value, datetime.date | np.datetime64)
    return {
        "entity_index": entity,
        "attribute_index": attribute,
        "text": value if isinstance(value, str) else str(value) if is_date else json.dumps(value),
        "number": float(value) if is_number else None,
        "date": int(np.datetime64(value, "D").astype(int))
        if is_date
        else None,  # days: years before 1 are no dates here
        "date_precision": "day" if is_date else None,
        "datatype": None,
        "language": None,
        "sources": 1,
    }


def _attribute(index: int, name: str, literals: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    rows = [row for row in literals if row["attribute_index"] == index]
    kinds = [("number", row["number"]) for row in rows] + [("date", row["date"]) for row in rows]
    return {
        "attribute_index": index,
        "attribute_id": attribute_id(name),
        "name": name,
        "label": None,
        "count": len(rows),
        "num_entities": len({row["entity_index"] for row in rows}),
        "value_type": next((kind for kind, value in kinds if value is not None), "text"),
    }
