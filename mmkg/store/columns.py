"""Columns of the files that every store is loaded from, and how these are laid out in Parquet.

Entities and the pictures that they have are nodes; triples and the links from an entity to its pictures are edges. The
first column of nodes is the property by which the store knows them, the first two of edges are both ends'.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from mmkg.store.model import Property

_VALUE_TYPES = {"number": pa.float64(), "date": pa.date32(), "text": pa.string()}
EDGES = pa.schema(
    [
        pa.field("from", pa.string(), nullable=False),
        pa.field("to", pa.string(), nullable=False),
        pa.field("relation_id", pa.string(), nullable=False),
        pa.field("sources", pa.list_(pa.string()), nullable=False),
    ]
)
IMAGES = pa.schema(
    [
        pa.field("sha256", pa.string(), nullable=False),  # of the bytes as served
        pa.field("url", pa.string()),  # null only where somebody else took it from a server
        pa.field("source_page", pa.string()),
        pa.field("licence", pa.string()),
        pa.field("author", pa.string()),
        pa.field("format", pa.string()),
        pa.field("width_px", pa.int64()),
        pa.field("height_px", pa.int64()),
    ]
)
IMAGE_LINKS = pa.schema(
    [
        pa.field("from", pa.string(), nullable=False),  # entity_id
        pa.field("to", pa.string(), nullable=False),  # sha256
        pa.field("rank", pa.int64(), nullable=False),  # 0 is the best of the entity's
        pa.field("score", pa.float64()),
    ]
)


def nodes_schema(properties: Sequence[Property]) -> pa.Schema:
    """Columns of the file of entities, in the order of the node table's."""
    fields = [
        pa.field("entity_id", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("description", pa.string()),
        pa.field("types", pa.list_(pa.string())),
        pa.field("aliases", pa.list_(pa.string())),
    ]
    for prop in properties:
        value_type = value_type_of(prop)
        fields.append(pa.field(prop.name, pa.list_(value_type) if prop.many else value_type))
    return pa.schema(fields)


def value_type_of(prop: Property) -> pa.DataType:
    """Type of one value of a property."""
    return _VALUE_TYPES[prop.value_column]


def parquet_options(repeated: Sequence[str]) -> dict[str, Any]:
    """How nodes and edges are laid out in Parquet.

    Without least and greatest values: DuckDB 2.0.0 answers ``IS NULL`` with every row of a group whose other values are
    all the same, if it is told so by these two and the column has no dictionary. Nothing asks for a range of them.

    Args:
        repeated: columns that repeat few values.
    """
    return {"compression": "snappy", "use_dictionary": list(repeated), "write_statistics": False}
