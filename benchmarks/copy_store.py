"""Graph → embedded store, against a bare COPY of the same files; and one-step questions for 100 seeds.

    python benchmarks/copy_store.py            1 M entities, 5 M triples, 300 relations
    python benchmarks/copy_store.py --quick    100 k entities, 500 k triples

Ours is all of `load_store`: prepare Parquet files from the tables, COPY, verify, hash, switch. The peer is only the
COPY of files prepared before, by the engine itself.
"""

import argparse
import logging
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parent))

from measure import Ratio, machine, median_seconds

from mmkg.config import StoreConfig
from mmkg.errors import QueryError
from mmkg.shards import write_table
from mmkg.store import load_store, open_embedded
from mmkg.store.connection import writable_database
from mmkg.store.load import copy_files
from mmkg.store.model import read_model
from mmkg.store.prepare import prepare
from mmkg.tables import SCHEMAS

SOURCES = ("dbpedia",)
BUFFER_BYTES = 2 << 30


def write_graph(folder: Path, entities: int, triples: int, relations: int) -> None:
    """A graph with skewed degrees and relation sizes, by a fixed seed."""
    rng = np.random.default_rng(0)
    index = pa.array(np.arange(entities))
    names = pa.array([f"http://dbpedia.org/resource/Entity_{i:08d}" for i in range(entities)])
    table = {
        "entity_index": index,
        "entity_id": names,
        "label": pa.array([f"Entity {i}" for i in range(entities)]),
        "description": pa.nulls(entities, pa.string()),
        "types": pa.array([["http://dbpedia.org/ontology/Thing"]] * entities),
        "aliases": pa.array([[f"http://yago-knowledge.org/resource/E{i}"] for i in range(entities)]),
        "sources": pa.array(np.ones(entities, dtype=np.int64)),
    }
    write_table(folder, "entities", [pa.table(table)])
    ends = (entities * rng.random((2, triples)) ** 2).astype(np.int64)
    relation = (relations * rng.random(triples) ** 2).astype(np.int64)
    rows = np.unique(np.stack([ends[0], relation, ends[1]]), axis=1)
    columns = {"head_index": rows[0], "relation_index": rows[1], "tail_index": rows[2]}
    write_table(folder, "triples", [pa.table(columns | {"sources": np.ones(rows.shape[1], dtype=np.int64)})])
    counts = np.bincount(rows[1], minlength=relations)
    rows_of_relations = [
        {
            "relation_index": i,
            "relation_id": f"http://dbpedia.org/ontology/relation{i}",
            "name": f"relation{i}",
            "label": None,
            "count": int(counts[i]),
            "functional": False,
            "inverse_index": None,
        }
        for i in range(relations)
    ]
    write_table(folder, "relations", [pa.Table.from_pylist(rows_of_relations, schema=SCHEMAS["relations"])])
    for name in ("attributes", "literals"):
        write_table(folder, name, [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the size")
    parser.add_argument("--relations", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=1, help="of the loads")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    entities, triples = (100_000, 500_000) if options.quick else (1_000_000, 5_000_000)
    print(machine())
    print(f"{entities:,} entities, {triples:,} triples drawn, {options.relations} relations")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_graph(folder / "tables", entities, triples, options.relations)
        loads = [0]

        def load() -> None:
            loads[0] += 1
            report = load_store(folder / "tables", folder / "store", StoreConfig(), SOURCES, buffer_bytes=BUFFER_BYTES)
            print(f"ours: {report.bytes / 1e6:,.0f} MB, {dict(report.seconds)}")

        model = read_model(folder / "tables", StoreConfig(), SOURCES)
        files = prepare(folder / "tables", model, folder / "files")

        def bare_copy() -> None:
            loads[0] += 1
            with writable_database(folder / f"bare{loads[0]}.lbug", buffer_bytes=BUFFER_BYTES) as connection:
                copy_files(connection, model, files)

        theirs = median_seconds(bare_copy, repeats=options.repeats)
        ours = median_seconds(load, repeats=options.repeats)
        print(Ratio(work="graph to embedded store", peer="bare COPY", ours=ours, theirs=theirs, unit="s", target=0.9))
        rate = files.num_edges / ours
        print(f"{rate:,.0f} triples/s, {entities / ours:,.0f} entities/s together")
        ask(folder / "store", entities)


def ask(store_folder: Path, entities: int) -> None:
    """100 seeds, one hop: our batch against one UNWIND and one IN query."""
    seeds = [f"http://dbpedia.org/resource/Entity_{i:08d}" for i in np.random.default_rng(1).integers(0, entities, 100)]
    with open_embedded(store_folder) as store:
        found = store.find_neighbours(seeds, direction="out")
        pattern = "MATCH (e:Entity)-[r]->(n:Entity) WHERE e.entity_id IN $seeds RETURN e.entity_id, n.entity_id"
        unwind = "UNWIND $seeds AS s MATCH (e:Entity {entity_id: s})-[r]->(n:Entity) RETURN s, n.entity_id"
        if store.query(pattern, {"seeds": seeds}).num_rows != len(found):
            raise SystemExit("the two ways differ")
        ours = 1000 * median_seconds(lambda: store.find_neighbours(seeds, direction="out"), repeats=7)
        both = 1000 * median_seconds(lambda: store.find_neighbours(seeds), repeats=7)
        one_type = 1000 * median_seconds(lambda: store.find_neighbours(seeds, relations=["relation1"]), repeats=7)
        for name, cypher in (("IN $seeds", pattern), ("UNWIND $seeds", unwind)):
            try:
                theirs = 1000 * median_seconds(lambda cypher=cypher: store.query(cypher, {"seeds": seeds}), repeats=3)
            except QueryError as error:  # UNWIND over 300 types does not fit into 1 GiB
                print(f"100 seeds, 1 hop out: {name} fails: {error}")
                continue
            print(Ratio(work="100 seeds, 1 hop out", peer=name, ours=ours, theirs=theirs, unit="ms", target=1))
        verdict = "reached" if ours <= 60 else "MISSED"
        print(f"100 seeds, 1 hop: out {ours:.1f} ms (target 60 ms: {verdict}), both ways {both:.1f} ms")
        print(f"100 seeds, 1 hop both ways along one relation: {one_type:.1f} ms")


if __name__ == "__main__":
    main()
