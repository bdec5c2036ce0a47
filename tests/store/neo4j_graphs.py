"""A Neo4j for tests: one server a process, and the plainest way to put a small graph into it.

The loader shares no code with `mmkg.store.neo4j.load`: readers are tested against what is written out here.
"""

import atexit
import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import neo4j
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmkg.config import StoreConfig
from mmkg.store.content import Content, write_content
from mmkg.store.cypher import quote_name
from mmkg.store.dates import date_values
from mmkg.store.migrations import read_migrations
from tests.servers.fuseki import skip_or_fail
from tests.servers.neo4j import Neo4jServer, missing_tools
from tests.store.graphs import SOURCES


@cache
def shared_server() -> Neo4jServer:
    """The server of this process, started when it is first asked for; skips where there is no Java."""
    if missing := missing_tools():
        skip_or_fail(missing)
    home = Path(tempfile.mkdtemp(prefix="mmkg-neo4j-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    server = Neo4jServer(home)
    os.environ["NEO4J_PASSWORD"] = server.password  # where a user would have it
    atexit.register(server.kill)
    server.start()
    with server.driver() as driver:
        for migration in read_migrations("neo4j"):
            for statement in migration.statements:
                driver.execute_query(statement, database_="neo4j")
    return server


@pytest.fixture(scope="session")
def neo4j_server() -> Neo4jServer:
    """A running server; what is in it is whatever the test before left."""
    return shared_server()


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEO4J_PASSWORD", "not-a-secret")


def config_of(server: Neo4jServer, config: StoreConfig | None = None) -> StoreConfig:
    """A config with the server's address."""
    return (config or StoreConfig(min_attribute_share=0.0)).model_copy(update={"uri": server.uri})


def put(
    server: Neo4jServer,
    tables: Path,
    folder: Path,
    config: StoreConfig,
    *,
    version: str = "0001",
    sources: Sequence[str] = SOURCES,
    images_folder: Path | None = None,
) -> Content:
    """Make the server serve a graph, and nothing else; nothing is done where it does so already."""
    content = write_content(tables, config, sources, folder, images_folder=images_folder)
    with server.driver() as driver, driver.session(database="neo4j") as session:
        served = session.run("MATCH (s:MmkgStore) RETURN s.build").values()
        if served != [[content.digest.total]]:
            session.execute_write(_replace, content, version)
    return content


def _replace(transaction: neo4j.ManagedTransaction, content: Content, version: str) -> None:
    transaction.run("MATCH (n) WHERE NOT n:MmkgStore DETACH DELETE n").consume()
    rows = _rows(pq.read_table(content.nodes))
    if rows:
        columns = ", ".join(f"{quote_name(name)}: {_value(name, content)}" for name in rows[0])
        transaction.run(f"UNWIND $rows AS row CREATE (e:Entity {{{columns}}})", rows=rows).consume()
    for name, file in content.edges.items():
        transaction.run(
            "UNWIND $rows AS row MATCH (a:Entity {entity_id: row.from}), (b:Entity {entity_id: row.to}) "
            f"CREATE (a)-[:{quote_name(name)} {{relation_id: row.relation_id, sources: row.sources}}]->(b)",
            rows=_rows(pq.read_table(file)),
        ).consume()
    for label, path in (("Image", content.images), ("HAS_IMAGE", content.image_links)):
        create = "CREATE (i:Image) SET i = row"
        if label == "HAS_IMAGE":
            create = (
                "MATCH (e:Entity {entity_id: row.from}), (i:Image {sha256: row.to}) "
                "CREATE (e)-[:HAS_IMAGE {rank: row.rank, score: row.score}]->(i)"
            )
        if path is not None:
            transaction.run(f"UNWIND $rows AS row {create}", rows=_rows(pq.read_table(path))).consume()
    state = {
        "graph": "test",
        "version": version,
        "build": content.digest.total,
        "state": "ready",
        "format": 1,
        "model": json.dumps(dataclasses.asdict(content.model)),
    }
    transaction.run(
        "MERGE (s:MmkgStore {key: 'store'}) SET s.flips = coalesce(s.flips, 0) + 2 SET s += $state", state=state
    ).consume()


def _value(name: str, content: Content) -> str:
    column = f"row.{quote_name(name)}"
    for prop in content.model.properties:
        if prop.name == name and prop.value_column == "date":
            return f"[day IN {column} | date(day)]" if prop.many else f"date({column})"
    return column


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    columns: dict[str, list[Any]] = {}
    for field in table.schema:
        kind = field.type.value_type if pa.types.is_list(field.type) else field.type
        column = table[field.name]
        columns[field.name] = list(map(_text, date_values(column))) if pa.types.is_date32(kind) else column.to_pylist()
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _text(value: Any) -> Any:
    if isinstance(value, list):
        return [_text(one) for one in value]
    return None if value is None else str(value)


def environment() -> Mapping[str, str]:
    """Environment of a process that reaches the server."""
    return {**os.environ, "NEO4J_PASSWORD": "not-a-secret"}
