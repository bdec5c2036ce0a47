"""Several connections that fill a store at the same time: the same content, and an error of one ends them all."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from mmkg.errors import StoreError
from mmkg.store.content import Content
from mmkg.store.neo4j import statements
from mmkg.store.neo4j.batches import Batch
from mmkg.store.neo4j.connection import BackOff, open_driver
from mmkg.store.neo4j.examine import Job
from mmkg.store.neo4j.lanes import BatchSize, Lanes
from mmkg.store.neo4j.load import load_neo4j
from mmkg.store.neo4j.lock import LoaderLock, take_over
from mmkg.store.neo4j.node_ids import NodeIds
from tests.servers.neo4j import PASSWORD, Neo4jServer
from tests.store.graphs import Graph
from tests.store.neo4j_checks import CONFIG, check_holds, content_of, run
from tests.store.neo4j_graphs import config_of

NAMES = [f"e{number:03}" for number in range(120)]
# every relation at the same few hubs: lanes meet at the same nodes all the time
HUBS = Graph(
    entities=NAMES,
    triples=[(f"e{hub:03}", f"r{relation}", tail, 1) for hub in range(3) for relation in range(6) for tail in NAMES],
)


@pytest.fixture
def server(empty_server: Neo4jServer, monkeypatch: pytest.MonkeyPatch) -> Neo4jServer:
    monkeypatch.setenv("NEO4J_PASSWORD", PASSWORD)
    return empty_server


@pytest.fixture
def content(tmp_path: Path) -> Content:
    return content_of(HUBS, tmp_path / "hubs")


def load(server: Neo4jServer, content: Content, connections: int) -> None:
    config = CONFIG.model_copy(update={"connections": connections, "max_batch_rows": 50})
    load_neo4j(content, config_of(server, config), graph="test", version="1")


@pytest.mark.parametrize("connections", [1, 2, 3])
def test_any_number_of_connections_writes_the_same_and_all_are_used(
    server: Neo4jServer, content: Content, tmp_path: Path, connections: int
) -> None:
    load(server, content, connections)
    check_holds(server, content, tmp_path)
    lanes = run(server, "MATCH (l:MmkgLane) RETURN l.lane, l.asked > 1 ORDER BY l.lane")
    assert lanes == [[lane, True] for lane in range(connections)]


def test_lanes_of_a_loader_before_are_refused_by_one_with_fewer(server: Neo4jServer, content: Content) -> None:
    load(server, content, 3)
    [[before]] = run(server, "MATCH (l:MmkgLane {lane: 2}) RETURN l.load_id")
    run(server, "MATCH (s:MmkgStore) SET s.state = 'loading'")
    load(server, content, 1)
    late = {"load_id": before, "lane": 2, "batch": 10**6, "rows": [[{"entity_id": "late"}, None]]}
    assert run(server, statements.once(statements.create_nodes(())), late) == [[[]]]
    assert run(server, "MATCH (e:Entity {entity_id: 'late'}) RETURN e") == []


def test_an_error_in_one_lane_ends_an_endless_part(server: Neo4jServer, content: Content, tmp_path: Path) -> None:
    made = count(1)

    def batches() -> Iterator[Batch]:
        for number in made:
            rows = [[10**9, {}]] if number == 20 else [[{"entity_id": f"n{number}"}, None]]
            statement = "UNWIND $rows AS row MATCH (e) WHERE id(e) = row[0] RETURN count(e) AS done"
            makes = None if number == 20 else [f"n{number}"]
            yield Batch(
                what=f"batch {number}",
                statement=statement if number == 20 else statements.create_nodes(()),
                rows=rows,
                keys=makes,
            )

    config = config_of(server, CONFIG.model_copy(update={"connections": 3}))
    done: list[Batch] = []
    with ExitStack() as stack:
        driver = stack.enter_context(open_driver(config))
        ids = stack.enter_context(NodeIds(tmp_path))
        job = Job(
            content=content,
            config=config,
            driver=driver,
            graph="test",
            version="1",
            previous=(),
            hint=None,
            force=False,
            progress=lambda what, done, total: None,
            work=tmp_path,
            memory_limit="1GB",
        )
        lock = LoaderLock(driver, config.database, "lock")
        stack.callback(lock.release)
        lock.ensure()
        with job.session(write=True) as session:
            take_over(session, load_id="test", holder="test", graph="test", lanes=3)
        with pytest.raises(StoreError, match="batch 20: expected 1 rows, found 0"):
            Lanes(job, lock, "test", BatchSize(100), BackOff).write(batches(), ids, done.append)
    asked = next(made) - 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mmkg-lane")]
    [[written]] = run(server, "MATCH (e:Entity) RETURN count(e)")
    assert 19 - 3 <= len(done) <= written < asked
