"""How the tables of a graph become nodes, properties and relationship types: the same model for every store.

A relation becomes a relationship type called as ``relations.name``. An attribute becomes a property when the config
names it or enough entities have it; the rest stays in the table ``literals``. A property has one type for all
entities, because an embedded column has one: DOUBLE, DATE or STRING by ``attributes.value_type``, and a list of it
where any entity has two distinct values. So one new second value turns a property into a list at the next build; the
model in the store's manifest says which it is. Text loses its language tag here: a list holds the distinct texts of all
languages, sorted; values that are not of the property's type (``"unknown"`` as a population) are left out and counted.
All of it is still in ``literals``, which is the truth.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from mmkg.config import StoreConfig
from mmkg.errors import ConfigError, unknown_name
from mmkg.shards import open_table, table_glob
from mmkg.store.cypher import quote_name

logger = logging.getLogger(__name__)

ENTITY_PROPERTIES = ("entity_id", "label", "description", "types", "aliases")
# Taken, in any case, by tables and columns that the stores have of their own.
_RESERVED_TYPES = ("entity", "image", "has_image")
_RESERVED_PROPERTIES = (*ENTITY_PROPERTIES, "_id", "_label")
_COLUMN_TYPES = {"number": "DOUBLE", "date": "DATE", "text": "STRING"}


@dataclass(frozen=True, kw_only=True)
class Relationship:
    """A relation as the store holds it."""

    relation_index: int
    relation_id: str
    type: str  # in Cypher
    count: int


@dataclass(frozen=True, kw_only=True)
class Property:
    """An attribute as the store holds it."""

    attribute_index: int
    attribute_id: str
    name: str  # in Cypher
    value_column: str  # number | date | text: the column of literals
    many: bool  # a list

    @property
    def column_type(self) -> str:
        """Type of the embedded column."""
        return _COLUMN_TYPES[self.value_column] + ("[]" if self.many else "")


@dataclass(frozen=True, kw_only=True)
class StoreModel:
    """What a store is to hold of a graph."""

    relationships: tuple[Relationship, ...]
    properties: tuple[Property, ...]
    source_names: tuple[str, ...]

    def relation_ids(self) -> dict[str, str]:
        """Relation id of each relationship type."""
        return {relationship.type: relationship.relation_id for relationship in self.relationships}


def read_model(tables_folder: Path, config: StoreConfig, source_names: Sequence[str]) -> StoreModel:
    """Decide what a store holds of the graph in a folder.

    Raises:
        StoreError: a name is not made of ASCII letters, digits and ``_``.
        ConfigError: the config names an attribute that the graph does not have.
    """
    rows = open_table(tables_folder, "relations").to_table().to_pylist()
    types = _free_names([row["name"] for row in rows], _RESERVED_TYPES, "relation")
    relationships = tuple(
        Relationship(
            relation_index=row["relation_index"], relation_id=row["relation_id"], type=name, count=row["count"]
        )
        for row, name in zip(rows, types, strict=True)
    )
    return StoreModel(
        relationships=relationships,
        properties=_choose_properties(tables_folder, config),
        source_names=tuple(source_names),
    )


def list_sources(bits: int, source_names: Sequence[str]) -> tuple[str, ...]:
    """Names of the sources in a bit set, in order of the config."""
    return tuple(name for bit, name in enumerate(source_names) if bits >> bit & 1)


def _free_names(names: Sequence[str], reserved: Sequence[str], kind: str) -> list[str]:
    """The names, with ``_`` appended to those that are taken in any case; checked to be quotable."""
    taken = set(reserved)
    free: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (name.casefold() in reserved, name)):
        quote_name(name)
        chosen = name
        while chosen.casefold() in taken:
            chosen += "_"
        if chosen != name:
            logger.warning("%s '%s' is called '%s' in the store: the name is taken", kind, name, chosen)
        taken.add(chosen.casefold())
        free[name] = chosen
    return [free[name] for name in names]


def _choose_properties(tables_folder: Path, config: StoreConfig) -> tuple[Property, ...]:
    """The attributes that become properties: those the config names, then the commonest, at most so many in all."""
    rows = open_table(tables_folder, "attributes").to_table().to_pylist()
    by_id = {row["attribute_id"]: row for row in rows}
    for attribute_id in config.attributes:
        if attribute_id not in by_id:
            message = unknown_name("attribute", attribute_id, by_id).partition(" Known:")[0]
            raise ConfigError(f"store.attributes: {message} The table `attributes` of the build lists all.")
    enough = config.min_attribute_share * open_table(tables_folder, "entities").count_rows()
    named = [by_id[attribute_id] for attribute_id in dict.fromkeys(config.attributes)]
    common = sorted(
        (row for row in rows if row["num_entities"] >= enough and row["attribute_id"] not in config.attributes),
        key=lambda row: (-row["num_entities"], row["attribute_id"]),
    )
    chosen = [*named, *common[: max(0, config.max_attributes - len(named))]]
    names = _free_names([row["name"] for row in chosen], _RESERVED_PROPERTIES, "attribute")
    many = _with_several_values(tables_folder, {row["attribute_index"]: row["value_type"] for row in chosen})
    return tuple(
        Property(
            attribute_index=row["attribute_index"],
            attribute_id=row["attribute_id"],
            name=name,
            value_column=row["value_type"],
            many=row["attribute_index"] in many,
        )
        for row, name in zip(chosen, names, strict=True)
    )


def _with_several_values(tables_folder: Path, value_columns: Mapping[int, str]) -> set[int]:
    """Indices of the attributes of which some entity has two distinct values of the attribute's type."""
    found: set[int] = set()
    with duckdb.connect() as connection:
        for column in ("number", "date", "text"):
            indices = [index for index, value_column in value_columns.items() if value_column == column]
            if indices:
                rows = connection.execute(
                    f"SELECT DISTINCT attribute_index FROM (SELECT attribute_index FROM read_parquet($files) "  # noqa: S608
                    f"WHERE list_contains($indices, attribute_index) AND {column} IS NOT NULL "
                    f"GROUP BY attribute_index, entity_index HAVING min({column}) <> max({column}))",
                    {"files": table_glob(tables_folder, "literals"), "indices": indices},
                ).fetchall()
                found.update(index for (index,) in rows)
    return found
