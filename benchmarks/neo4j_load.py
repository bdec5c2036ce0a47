"""Graph → live Neo4j, against one MERGE per triple and a plain loop of UNWIND MERGE, on a real server in one run.

    python benchmarks/neo4j_load.py            30 k entities, 300 k triples, 237 relations
    python benchmarks/neo4j_load.py --quick    a tenth of the size

Ours is all of `load_neo4j`: lock, migrations, batches, reading all of it back, digest, switch. The peers write the same
relationships with the same properties, but entities with nothing but their id, and look at nothing afterwards. Then
the same build again (nothing may be written), and 1 % and 10 % of the triples changed: seconds, and how long the commit
takes, in which readers wait.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from copy_store import write_graph
from measure import Ratio, machine

from mmkg.config import StoreConfig
from mmkg.store.content import Content, write_content
from mmkg.store.neo4j.load import Neo4jLoadReport, load_neo4j
from mmkg.store.neo4j.lock import read_bookmark
from tests.servers.neo4j import PASSWORD, Neo4jServer, running_neo4j

SOURCES = ("dbpedia",)
PEER_BATCH = 5_000


def rows_by_type(content: Content, limit: int = 0) -> Iterator[tuple[str, list[list[object]]]]:
    """Relationship type and its rows of [from, to, relation_id, sources]; with `limit`, so many in all."""
    left = limit or sys.maxsize
    for name, path in content.edges.items():
        columns = pq.read_table(path).slice(0, left).to_pydict()
        rows = [list(row) for row in zip(*columns.values(), strict=True)]
        left -= len(rows)
        if rows:
            yield name, rows


def merge_one_by_one(server: Neo4jServer, content: Content, triples: int) -> float:
    """Triples a second by one autocommitted MERGE each."""
    with server.driver() as driver, driver.session(database="neo4j") as session:
        prepare(session)
        started = time.perf_counter()
        for name, rows in rows_by_type(content, triples):
            for row in rows:
                session.run(
                    "MERGE (a:Entity {entity_id: $row[0]}) MERGE (b:Entity {entity_id: $row[1]}) "
                    f"MERGE (a)-[r:`{name}`]->(b) SET r.relation_id = $row[2], r.sources = $row[3]",
                    row=row,
                ).consume()
        return triples / (time.perf_counter() - started)


def merge_in_batches(server: Neo4jServer, content: Content) -> float:
    """Triples a second by UNWIND MERGE, 5,000 a batch."""
    with server.driver() as driver, driver.session(database="neo4j") as session:
        prepare(session)
        started = time.perf_counter()
        triples = 0
        for name, rows in rows_by_type(content):
            for first in range(0, len(rows), PEER_BATCH):
                session.run(
                    "UNWIND $rows AS row MERGE (a:Entity {entity_id: row[0]}) MERGE (b:Entity {entity_id: row[1]}) "
                    f"MERGE (a)-[r:`{name}`]->(b) SET r.relation_id = row[2], r.sources = row[3]",
                    rows=rows[first : first + PEER_BATCH],
                ).consume()
            triples += len(rows)
        return triples / (time.perf_counter() - started)


def prepare(session) -> None:  # type: ignore[no-untyped-def]
    session.run("CREATE CONSTRAINT peer IF NOT EXISTS FOR (e:Entity) REQUIRE e.entity_id IS UNIQUE").consume()
    session.run("CALL db.awaitIndexes(60)").consume()


def wipe(server: Neo4jServer) -> None:
    """Empty the database, constraints and indexes included; the process stays, and with it its compiled code."""
    with server.driver() as driver, driver.session(database="neo4j") as session:
        session.run("MATCH (n) CALL (n) { DETACH DELETE n } IN TRANSACTIONS OF 5000 ROWS").consume()
        for row in list(session.run("SHOW CONSTRAINTS YIELD name")):
            session.run(f"DROP CONSTRAINT `{row['name']}`").consume()
        for row in list(session.run("SHOW INDEXES YIELD name, type WHERE type <> 'LOOKUP'")):
            session.run(f"DROP INDEX `{row['name']}`").consume()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the size")
    parser.add_argument("--relations", type=int, default=237)
    parser.add_argument("--single", type=int, default=2_000, help="triples that are merged one by one")
    options = parser.parse_args()
    os.environ["NEO4J_PASSWORD"] = PASSWORD
    entities, triples = (3_000, 30_000) if options.quick else (30_000, 300_000)
    print(machine())
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        contents = {}
        for name, share in (("all", 1.0), ("less1", 0.99), ("less10", 0.9)):
            write_graph(folder / name / "tables", entities, triples, options.relations)
            if share < 1:
                thin(folder / name / "tables", share)
            contents[name] = write_content(folder / name / "tables", StoreConfig(), SOURCES, folder / name / "content")
        digest = contents["all"].digest
        print(f"{digest.num_nodes:,} entities, {digest.num_edges:,} triples, {options.relations} relations")
        with running_neo4j(folder / "home", heap="2g") as server:
            compare(server, contents["all"], folder, options.single)
            follow(server, contents, folder)


def compare(server: Neo4jServer, content: Content, folder: Path, single: int) -> None:
    """Ours and the peers, each into an empty database; a small warm-up first, so that the server's code is compiled."""
    merge_one_by_one(server, content, min(single, 500))
    wipe(server)
    one = merge_one_by_one(server, content, single)
    wipe(server)
    loop = merge_in_batches(server, content)
    wipe(server)
    started = time.perf_counter()
    report = load(server, content, folder)
    seconds = time.perf_counter() - started
    rate = content.digest.num_edges / seconds
    print(f"ours: {report.how}, {seconds:.2f} s, {dict(report.seconds)}")
    rates = {"unit": "tr/s", "more_is_better": True}
    print(Ratio(work="graph to live Neo4j, verified", peer="MERGE each", ours=rate, theirs=one, target=20, **rates))
    print(Ratio(work="graph to live Neo4j, verified", peer="UNWIND MERGE", ours=rate, theirs=loop, target=1.5, **rates))


def follow(server: Neo4jServer, contents: dict[str, Content], folder: Path) -> None:
    """The same build again, then smaller ones and back."""
    with server.driver() as driver:
        for hint in (True, False):
            before = read_bookmark(driver, "neo4j")
            started = time.perf_counter()
            report = load(server, contents["all"], folder, hint=hint)
            seconds = time.perf_counter() - started
            wrote = "nothing written" if read_bookmark(driver, "neo4j") == before else "WROTE"
            verdict = "reached" if seconds < 5 else "MISSED"
            print(f"unchanged, by {report.proof}: {seconds:.2f} s, {wrote} (target 5 s: {verdict})")
    for name in ("less1", "all", "less10", "all"):
        started = time.perf_counter()
        report = load(server, contents[name], folder, previous=[content.folder for content in contents.values()])
        seconds = time.perf_counter() - started
        changes = sum(report.changes.values())
        print(
            f"to '{name}': {changes:,} changes in {seconds:.2f} s ({changes / seconds:,.0f}/s), commit "
            f"{report.commit_seconds:.2f} s, proof {report.proof}, {dict(report.seconds)}"
        )


def load(
    server: Neo4jServer, content: Content, folder: Path, *, hint: bool = True, previous: list[Path] | None = None
) -> Neo4jLoadReport:
    return load_neo4j(
        content,
        StoreConfig(uri=server.uri),
        graph="benchmark",
        version=content.folder.parent.name,
        hint=folder / "hint.json" if hint else None,
        previous=previous or [],
    )


def thin(tables: Path, share: float) -> None:
    """Leave a share of the triples, by a fixed seed."""
    import numpy as np

    from mmkg.shards import open_table, write_table

    triples = open_table(tables, "triples").to_table()
    kept = np.random.default_rng(7).random(triples.num_rows) < share
    write_table(tables, "triples", [triples.filter(kept)])


if __name__ == "__main__":
    main()
