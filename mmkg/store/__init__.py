"""Cypher stores over a built graph: an index that can always be made again from Parquet.

``load_store`` makes one, ``open_embedded`` asks it, ``open_memory`` is the plain reference with the same answers,
``verify_store`` proves that a store holds what the tables hold.

To add a store: one file, one line here, one entry in ``tests/contracts/test_store.py``.
"""

from mmkg.store.base import (
    Counts,
    CypherStore,
    Direction,
    EntityDescription,
    EntityImage,
    GraphReader,
    LoadReport,
    Neighbour,
    Path,
    Step,
)
from mmkg.store.embedded import EmbeddedStore, open_embedded
from mmkg.store.load import STORE_VERSION, load_store
from mmkg.store.memory import MemoryStore, open_memory
from mmkg.store.verify import verify_store

__all__ = [
    "STORE_VERSION",
    "Counts",
    "CypherStore",
    "Direction",
    "EmbeddedStore",
    "EntityDescription",
    "EntityImage",
    "GraphReader",
    "LoadReport",
    "MemoryStore",
    "Neighbour",
    "Path",
    "Step",
    "load_store",
    "open_embedded",
    "open_memory",
    "verify_store",
]
