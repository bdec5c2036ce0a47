"""Writes the tables of a small graph by hand, as the stage that builds a graph would."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmkg.config import Config, parse_config
from mmkg.shards import open_table, write_table
from mmkg.tables import SCHEMAS

EX = "http://example.org/"

Triple = tuple[str, str, str]


def make_config(**sections: Any) -> Config:
    """A config with one source and whatever sections a test is about."""
    sources = [{"kind": "ntriples", "paths": ["unused.nt"], **({"split": "train"} if "splits" in sections else {})}]
    return parse_config(
        {"graph": {"name": "test", "workers": 2, **sections.pop("graph", {})}, "sources": sources, **sections},
        Path("test.toml"),
    )


def write_graph(
    folder: Path,
    triples: Iterable[Triple] = (),
    *,
    types: Mapping[str, Sequence[str]] | None = None,
    labels: Mapping[str, str] | None = None,
    aliases: Mapping[str, Sequence[str]] | None = None,
    literals: Iterable[tuple[str, str, str, str | None, str | None]] = (),
    qualifiers: Iterable[dict[str, Any]] = (),
    dropped: Iterable[dict[str, Any]] = (),
    others: Iterable[str] = (),
) -> Path:
    """Write all tables of a graph.

    Args:
        folder: where to.
        triples: head, relation and tail ids.
        types: of an entity.
        labels: of an entity; only the column `label`, no literal.
        aliases: of an entity.
        literals: entity, attribute, text, datatype, language.
        qualifiers: rows of `qualifiers` with `head` and `tail` ids in place of indices.
        dropped: rows of `dropped`; what is left out is null, or empty text.
        others: entities that nothing else names.
    """
    triples, literals, qualifiers = sorted(set(triples)), list(literals), list(qualifiers)
    types, labels, aliases = types or {}, labels or {}, aliases or {}
    names = {end for h, _, t in triples for end in (h, t)} | set(types) | set(labels) | set(aliases) | set(others)
    names |= {row[0] for row in literals}
    names |= {row[key] for row in qualifiers for key in ("head", "tail") if row.get(key)}
    entity = {name: i for i, name in enumerate(sorted(names))}
    relation = {name: i for i, name in enumerate(sorted({r for _, r, _ in triples}))}
    attribute = {name: i for i, name in enumerate(sorted({row[1] for row in literals}))}
    rows: dict[str, list[dict[str, Any]]] = {
        "entities": [
            {
                "entity_index": i,
                "entity_id": name,
                "label": labels.get(name),
                "types": sorted(types.get(name, ())),
                "aliases": sorted(aliases.get(name, ())),
                "sources": 1,
            }
            for name, i in entity.items()
        ],
        "relations": [
            {
                "relation_index": i,
                "relation_id": name,
                "name": f"r{i}",
                "count": sum(r == name for _, r, _ in triples),
                "functional": False,
            }
            for name, i in relation.items()
        ],
        "attributes": [
            {
                "attribute_index": i,
                "attribute_id": name,
                "name": f"a{i}",
                "count": 0,
                "num_entities": 0,
                "value_type": "text",
            }
            for name, i in attribute.items()
        ],
        "triples": [
            dict(zip(SCHEMAS["triples"].names, indices, strict=True))
            for indices in sorted((entity[h], relation[r], entity[t], 1) for h, r, t in triples)
        ],
        "literals": [
            {
                "entity_index": entity[name],
                "attribute_index": attribute[key],
                "text": text,
                "datatype": datatype,
                "language": language,
                "sources": 1,
            }
            for name, key, text, datatype, language in literals
        ],
        "qualifiers": [
            {**row, "head_index": entity[row["head"]], "tail_index": entity.get(row.get("tail") or ""), "sources": 1}
            for row in qualifiers
        ],
        "merges": [],
        "dropped": list(dropped),
    }
    for table, content in rows.items():
        write_table(folder, table, [_to_table(table, content)])
    return folder


def write_raw(folder: Path, triples: Iterable[Triple]) -> Path:
    """Write `triples_raw` as the stage that reads a dump would."""
    rows = [
        {"head": h, "relation": r, "tail": t, "source": "s", "dump": "d", "line": i, "repaired": False}
        for i, (h, r, t) in enumerate(triples, start=1)
    ]
    write_table(folder, "triples_raw", [_to_table("triples_raw", rows)])
    return folder


def _to_table(table: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    schema = SCHEMAS[table]
    columns = []
    for column in schema:
        plain = pa.string() if pa.types.is_dictionary(column.type) else column.type
        values = pa.array([row.get(column.name) for row in rows], type=plain)
        columns.append(values.cast(column.type) if plain == column.type else values.dictionary_encode())
    return pa.table(columns, schema=schema)


def read_splits(graph_folder: Path, folder: Path) -> dict[Triple, str]:
    """The split of each triple, by ids."""
    entities = open_table(graph_folder, "entities").to_table()["entity_id"].to_pylist()
    relations = open_table(graph_folder, "relations").to_table()["relation_id"].to_pylist()
    return {
        (entities[row["head_index"]], relations[row["relation_index"]], entities[row["tail_index"]]): row["split"]
        for row in open_table(folder, "splits").to_table().to_pylist()
    }
