"""Fixtures of the tests of stores."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmkg.store.content import Content
from mmkg.store.neo4j.load import Neo4jLoadReport, load_neo4j
from tests.servers.neo4j import Neo4jServer
from tests.store.neo4j_checks import CONFIG, Load, run
from tests.store.neo4j_graphs import config_of, shared_server


@pytest.fixture
def empty_server() -> Iterator[Neo4jServer]:
    """A running server without any node."""
    server = shared_server()
    run(server, "MATCH (n) DETACH DELETE n")
    yield server
    run(server, "MATCH (n) DETACH DELETE n")


@pytest.fixture
def load(empty_server: Neo4jServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """`load_neo4j` into the server, with a hint and all folders of content beside each other."""

    monkeypatch.setenv("NEO4J_PASSWORD", empty_server.password)

    def call(content: Content, **options: Any) -> Neo4jLoadReport:
        options = {"graph": "test", "version": content.folder.name, "hint": tmp_path / "neo4j.json"} | options
        options.setdefault("previous", [path for path in tmp_path.iterdir() if (path / "content.json").exists()])
        return load_neo4j(content, config_of(empty_server, CONFIG), **options)

    return call
