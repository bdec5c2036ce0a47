"""What tests of the Neo4j loader share: small contents, and what a server holds, asked past the code under test."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmkg.config import StoreConfig
from mmkg.store.content import Content, write_content
from mmkg.store.neo4j.load import Neo4jLoadReport
from mmkg.store.neo4j.lock import read_bookmark
from mmkg.store.neo4j.read_back import read_back
from mmkg.store.neo4j.state import read_state
from tests.servers.neo4j import Neo4jServer
from tests.store.graphs import SOURCES, Graph, images_of, write_graph

CONFIG = StoreConfig(min_attribute_share=0.0)
Load = Callable[..., Neo4jLoadReport]


def content_of(graph: Graph, folder: Path) -> Content:
    tables = write_graph(folder.with_name(f"{folder.name}-tables"), graph)
    return write_content(tables, CONFIG, SOURCES, folder, images_folder=images_of(tables))


def run(server: Neo4jServer, query: str, parameters: Mapping[str, Any] | None = None) -> list[list[Any]]:
    with server.driver() as driver, driver.session(database="neo4j") as session:
        return session.run(query, dict(parameters or {})).values()


def bookmark(server: Neo4jServer) -> str:
    with server.driver() as driver:
        return read_bookmark(driver, "neo4j")


def check_holds(server: Neo4jServer, content: Content, folder: Path) -> None:
    """The server holds exactly a content, and says so."""
    with server.driver() as driver:
        with driver.session(database="neo4j") as session:
            state = read_state(session)
        assert state is not None
        found = read_back(driver, "neo4j", content.model, folder / "found", vectors=state.vectors_of)
    assert not found.foreign
    assert found.content.digest == content.digest
    assert (state.build, state.state, state.flips % 2) == (content.digest.total, "ready", 0)
    assert (state.entities, state.relationships) == (content.digest.num_nodes, content.digest.num_edges)
    assert (state.images, state.image_links) == (content.digest.num_images, content.digest.num_image_links)
