"""Import files for Neo4j against DuckDB writing the same CSV; the digest and the difference of two contents.

    python benchmarks/neo4j_files.py            1 M entities, 5 M triples, 300 relations
    python benchmarks/neo4j_files.py --quick    100 k entities, 500 k triples

Ours is all of `write_import_files`, from the Parquet files: looking through the values, joining lists, headers,
the state node. The peer copies a Parquet file with the very fields of the CSV, made before, to CSV: the bare writer.
The difference is found after 1 % of the lines are gone; it should cost in proportion to the size, and hold only these.
"""

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parent))

from copy_store import SOURCES, write_graph
from measure import Ratio, machine, median_seconds

from mmkg.config import StoreConfig
from mmkg.shards import open_table, write_table
from mmkg.store.content import Content, digest_tables, write_content
from mmkg.store.difference import find_difference
from mmkg.store.neo4j.files import write_import_files

TABLES = ("entities", "relationships")


def bare_fields(files: Path, folder: Path) -> None:
    """The fields of the CSV files as Parquet, all text, null where the CSV has nothing."""
    with duckdb.connect() as connection:
        for table in TABLES:
            # with the header's names a column of arrays would still be read as text
            connection.execute(
                f"COPY (SELECT * FROM read_csv('{files / table}.csv', header = false, all_varchar = true, "
                f"delim = ',', quote = '\"', escape = '\"', nullstr = '', allow_quoted_nulls = false)) "
                f"TO '{folder / table}.parquet' (FORMAT parquet)"
            )


def bare_copy(fields: Path, folder: Path) -> None:
    with duckdb.connect(config={"memory_limit": "2GB"}) as connection:
        for table in TABLES:
            connection.execute(
                f"COPY (SELECT * FROM read_parquet('{fields / table}.parquet')) TO '{folder / table}.csv' "
                "(FORMAT csv, HEADER false, DELIMITER ',', QUOTE '\"', ESCAPE '\"', NULLSTR '')"
            )


def measure_files(content: Content, folder: Path, repeats: int) -> None:
    (folder / "fields").mkdir()
    (folder / "bare").mkdir()
    files = write_import_files(content, "benchmark", "0001", folder / "files")
    bare_fields(files.folder, folder / "fields")
    bare_copy(folder / "fields", folder / "bare")
    for table in TABLES:
        if (folder / "bare" / f"{table}.csv").read_bytes() != (files.folder / f"{table}.csv").read_bytes():
            raise SystemExit(f"{table}.csv: the two ways differ")
    rates = {"ours": [], "theirs": []}
    for _ in range(repeats):  # in turn: the machine may be busy
        ours = median_seconds(lambda: write_import_files(content, "benchmark", "0001", folder / "files"), repeats=1)
        theirs = median_seconds(lambda: bare_copy(folder / "fields", folder / "bare"), repeats=1)
        rates["ours"].append(files.bytes / 1e6 / ours)
        rates["theirs"].append(files.bytes / 1e6 / theirs)
    print(
        Ratio(
            work=f"import files, {files.bytes / 1e6:,.0f} MB",
            peer="bare COPY",
            ours=float(np.median(rates["ours"])),
            theirs=float(np.median(rates["theirs"])),
            unit="MB/s",
            target=0.9,
            more_is_better=True,
        )
    )


def drop_triples(tables: Path, share: float) -> None:
    """Take away a share of the triples, by a fixed seed."""
    triples = open_table(tables, "triples").to_table()
    kept = np.random.default_rng(2).random(triples.num_rows) >= share
    write_table(tables, "triples", [triples.filter(kept)])


def timed(work: str, function: object, *arguments: object) -> object:
    started = time.perf_counter()
    result = function(*arguments)  # type: ignore[operator]
    print(f"{work:<44} {time.perf_counter() - started:,.2f} s")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the size")
    parser.add_argument("--relations", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    entities, triples = (100_000, 500_000) if options.quick else (1_000_000, 5_000_000)
    print(machine())
    print(f"{entities:,} entities, {triples:,} triples drawn, {options.relations} relations")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_graph(folder / "tables", entities, triples, options.relations)
        arguments = (folder / "tables", StoreConfig(), SOURCES)
        old: Content = timed("content from tables, with its digest", write_content, *arguments, folder / "old")
        timed("its digest alone", digest_tables, old.nodes, old.edges)
        measure_files(old, folder, options.repeats)
        timed("difference to itself", find_difference, old, old, folder / "work")
        drop_triples(folder / "tables", 0.01)
        new = write_content(*arguments, folder / "new")
        difference = timed("difference, 1 % of the triples gone", find_difference, old, new, folder / "work")
        expected = {"edges_removed": old.digest.num_edges - new.digest.num_edges}
        rows = sum(pq.read_metadata(path).num_rows for path in difference.edges_removed.values())
        if difference.counts != expected or rows != expected["edges_removed"]:
            raise SystemExit(f"the difference is {difference.counts}, expected {expected}")
        print(f"{old.digest.num_edges:,} edges, {difference.num_changes:,} changes")


if __name__ == "__main__":
    main()
