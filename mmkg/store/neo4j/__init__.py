"""A graph in a Neo4j server: loaded live as a difference or through import files, asked in Cypher, searched by vectors.

``load_neo4j`` brings a server to a build, ``open_neo4j`` asks it. Needs the extra ``neo4j``; what is imported from here
says so where the driver is not installed, and ``import mmkg.store.neo4j`` alone does not load it.
"""

import importlib
from typing import TYPE_CHECKING, Any

from mmkg.errors import require

if TYPE_CHECKING:
    from mmkg.store.neo4j.admin import run_import
    from mmkg.store.neo4j.connection import BackOff, explain, is_transient, open_driver
    from mmkg.store.neo4j.files import ImportFiles, write_import_files
    from mmkg.store.neo4j.load import load_neo4j
    from mmkg.store.neo4j.reader import Neo4jStore, open_neo4j
    from mmkg.store.neo4j.report import Neo4jLoadReport
    from mmkg.store.neo4j.state import StoreState, read_state
    from mmkg.store.neo4j.vectors import load_vectors, search_vectors

__all__ = [
    "BackOff",
    "ImportFiles",
    "Neo4jLoadReport",
    "Neo4jStore",
    "StoreState",
    "explain",
    "is_transient",
    "load_neo4j",
    "load_vectors",
    "open_driver",
    "open_neo4j",
    "read_state",
    "run_import",
    "search_vectors",
    "write_import_files",
]
_WITHOUT_DRIVER = {"ImportFiles": "files", "run_import": "admin", "write_import_files": "files"}
_WITH_DRIVER = {
    "BackOff": "connection",
    "Neo4jLoadReport": "report",
    "Neo4jStore": "reader",
    "StoreState": "state",
    "explain": "connection",
    "is_transient": "connection",
    "load_neo4j": "load",
    "load_vectors": "vectors",
    "open_driver": "connection",
    "open_neo4j": "reader",
    "read_state": "state",
    "search_vectors": "vectors",
}


def __getattr__(name: str) -> Any:
    """Import a part when it is first asked for."""
    if name in _WITHOUT_DRIVER:
        return getattr(importlib.import_module(f"{__name__}.{_WITHOUT_DRIVER[name]}"), name)
    if name in _WITH_DRIVER:
        require("neo4j", extra="neo4j", needed_by="the Neo4j store")
        return getattr(importlib.import_module(f"{__name__}.{_WITH_DRIVER[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
