"""Raw triples to graph tables: mmkg against hand-written DuckDB SQL and Polars, on one made-up input, results compared.

The input: three sources that tell of overlapping things, 5 statements an IRI (1 M nodes to 5 M edges, skewed), 77 % of
them between nodes, 8 % types, 7 % labels, 8 % numbers, 900 relations; links merge a tenth of the things. The peers do
the core of the work only: merge by the links, index in order of id, drop repetitions with a bit set of sources, sort,
write triples, entities and literals as Parquet. mmkg does that and the rest: guard and ``merges``, labels, types,
aliases, numbers and dates read, inverses, names, ledger.

Each contender runs in a process of its own, so that its peak memory is its own.

    python benchmarks/build_graph.py [--quick] [--statements 50000000]
"""

import argparse
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from measure import Ratio, machine

from mmkg.config import Config, parse_config
from mmkg.graph.build import build_graph
from mmkg.graph.identity import choose_canonical, close_links
from mmkg.shards import open_table, table_glob, write_table
from mmkg.terms import DBPEDIA, FREEBASE, OWL_SAME_AS, RDF_TYPE, RDFS_LABEL, TYPE_PREDICATES, XSD, YAGO

SOURCES = {"freebase": (FREEBASE + "m.0", 0.5), "dbpedia": (DBPEDIA + "Thing_", 0.3), "yago": (YAGO + "Thing_", 0.2)}
FLOOR_PER_SECOND = 1_000_000
FLOOR_GIGABYTES = 4.0


def iris(prefix: str, numbers: np.ndarray) -> pa.Array:
    return pc.binary_join_element_wise(prefix, pa.array(numbers).cast(pa.string()), "")


def statements(source: str, rows: int, things: int, random_seed: int) -> Iterator[pa.Table]:
    """Raw rows of one source."""
    rng = np.random.default_rng(random_seed)
    prefix, _ = SOURCES[source]
    nothing = pa.scalar(None, pa.string())
    for start in range(0, rows, 1 << 18):
        size = min(1 << 18, rows - start)
        head, tail = ((things * rng.random(size) ** 1.5).astype(np.int64) for _ in range(2))
        number, kind = (300 * rng.random(size) ** 3).astype(np.int64), rng.random(size)
        is_type, is_label, is_number = (kind < 0.08), (kind >= 0.08) & (kind < 0.15), (kind >= 0.15) & (kind < 0.23)
        literal = pa.array(is_label | is_number)
        relation = iris(f"http://{source}.org/ontology/relation_", number)
        relation = pc.if_else(pa.array(is_type), RDF_TYPE, pc.if_else(pa.array(is_label), RDFS_LABEL, relation))
        node = pc.if_else(pa.array(is_type), iris(f"http://{source}.org/ontology/Class_", number), iris(prefix, tail))
        value = pc.if_else(pa.array(is_label), iris("Thing number ", head), pa.array(tail).cast(pa.string()))
        yield pa.table(
            {
                "head": iris(prefix, head),
                "relation": relation,
                "tail": pc.if_else(literal, nothing, node),
                "value": pc.if_else(literal, value, nothing),
                "datatype": pc.if_else(pa.array(is_number), pa.scalar(XSD + "integer"), nothing),
                "language": pc.if_else(pa.array(is_label), pa.scalar("en"), nothing),
                "source": pa.array([source] * size).dictionary_encode(),
                "dump": pa.array([f"{source}.nt"] * size).dictionary_encode(),
                "line": np.arange(start + 1, start + size + 1),
                "repaired": np.zeros(size, np.bool_),
            }
        )


def write_input(folder: Path, total: int) -> None:
    """The three sources and their links."""
    things = int(total / 5 / 2.9)
    for number, (source, (_, share)) in enumerate(SOURCES.items()):
        write_table(folder / source, "triples_raw", statements(source, int(total * share), things, number))
    chosen = np.random.default_rng(9).choice(things, things // 10, replace=False)
    prefixes = [prefix for prefix, _ in SOURCES.values()]
    head = pa.concat_arrays([iris(prefix, chosen) for prefix in prefixes[:2]])
    tail = pa.concat_arrays([iris(prefix, chosen) for prefix in prefixes[1:]])
    rows, nothing = len(head), pa.nulls(len(head), pa.string())
    named = {
        name: pa.array([value] * rows)
        for name, value in (("relation", OWL_SAME_AS), ("source", "links"), ("dump", "l.nt"))
    }
    links = {"head": head, "tail": tail, "value": nothing, "datatype": nothing, "language": nothing, **named}
    links |= {"line": np.arange(1, rows + 1), "repaired": np.zeros(rows, np.bool_)}
    links |= {name: links[name].dictionary_encode() for name in ("source", "dump")}
    write_table(folder / "links", "triples_raw", [pa.table(links)])


def config() -> Config:
    sources = [{"kind": kind, "paths": ["unused"]} for kind in SOURCES]
    return parse_config({"graph": {"name": "bench", "memory_limit": "2GB"}, "sources": sources}, Path("bench.toml"))


def run_mmkg(source: Path, folder: Path) -> None:
    build_graph(config(), [source / name for name in SOURCES], [source / "links"], folder)


def read_aliases(source: Path) -> pa.Table:
    """term, canonical of the links: what both peers are given, by the closure that mmkg uses."""
    links = open_table(source / "links", "triples_raw").to_table(columns=["head", "tail"])
    terms = np.sort(np.unique(np.concatenate([links["head"].to_numpy(), links["tail"].to_numpy()]).astype(str)))
    left, right = (np.searchsorted(terms, links[end].to_numpy().astype(str)) for end in ("head", "tail"))
    class_of = close_links(len(terms), left, right)
    prefixes = [prefix for prefix, _ in SOURCES.values()]
    priority = np.argmax([np.char.startswith(terms, prefix) for prefix in prefixes], axis=0)
    return pa.table({"term": terms, "canonical": terms[choose_canonical(class_of, priority)]})


def run_duckdb(source: Path, folder: Path) -> None:
    """As one would write it by hand: strings are replaced by canonical strings, then joined to their numbers."""
    import duckdb

    aliases = read_aliases(source)
    connection = duckdb.connect(config={"memory_limit": "2GB", "temp_directory": str(folder / "spill"), "threads": 2})
    connection.execute("SET preserve_insertion_order = false")
    connection.register("aliases", aliases)
    connection.read_parquet([table_glob(source / name, "triples_raw") for name in SOURCES]).create_view("raw")
    types = ", ".join(f"'{predicate}'" for predicate in TYPE_PREDICATES)
    steps = [
        "CREATE TABLE alias AS SELECT * FROM aliases WHERE term <> canonical",
        f"""CREATE TABLE facts AS SELECT coalesce(h.canonical, head) AS head, relation,
            coalesce(t.canonical, tail) AS tail, value, datatype, language,
            relation IN ({types}) AND tail IS NOT NULL AS typed,
            CASE source WHEN 'freebase' THEN 1 WHEN 'dbpedia' THEN 2 ELSE 4 END AS sources
            FROM raw LEFT JOIN alias h ON h.term = head LEFT JOIN alias t ON t.term = tail""",
        """CREATE TABLE entities AS SELECT term AS entity_id, bit_or(sources) AS sources,
            row_number() OVER (ORDER BY term) - 1 AS entity_index
            FROM (SELECT head AS term, sources FROM facts UNION ALL
                  SELECT tail, sources FROM facts WHERE tail IS NOT NULL AND NOT typed) GROUP BY term""",
        """CREATE TABLE relations AS
            SELECT relation AS relation_id, row_number() OVER (ORDER BY relation) - 1 AS relation_index
            FROM (SELECT DISTINCT relation FROM facts WHERE tail IS NOT NULL AND NOT typed)""",
        """CREATE TABLE attributes AS
            SELECT relation AS attribute_id, row_number() OVER (ORDER BY relation) - 1 AS attribute_index
            FROM (SELECT DISTINCT relation FROM facts WHERE value IS NOT NULL)""",
        f"""COPY (SELECT entity_index, entity_id, sources FROM entities ORDER BY entity_index)
            TO '{folder}/entities.parquet'""",
        f"""COPY (SELECT h.entity_index AS head_index, relation_index, t.entity_index AS tail_index,
            bit_or(f.sources) AS sources FROM facts f
            JOIN entities h ON h.entity_id = head JOIN entities t ON t.entity_id = tail
            JOIN relations r ON r.relation_id = relation WHERE NOT typed GROUP BY ALL ORDER BY ALL)
            TO '{folder}/triples.parquet'""",
        f"""COPY (SELECT entity_index, attribute_index, value AS text, datatype, language, bit_or(f.sources) AS sources
            FROM facts f JOIN entities e ON e.entity_id = head JOIN attributes a ON a.attribute_id = relation
            WHERE value IS NOT NULL GROUP BY ALL
            ORDER BY entity_index, attribute_index, text, datatype NULLS FIRST, language NULLS FIRST)
            TO '{folder}/literals.parquet'""",
    ]
    for step in steps:
        connection.execute(step)


def run_polars(source: Path, folder: Path) -> None:
    """The same in Polars' lazy frames."""
    import polars as pl

    aliases = pl.from_arrow(read_aliases(source)).lazy().filter(pl.col("term") != pl.col("canonical"))
    raw = pl.scan_parquet([table_glob(source / name, "triples_raw") for name in SOURCES])
    bits = {name: 1 << place for place, name in enumerate(SOURCES)}
    facts = raw.select(
        "head", "relation", "tail", "value", "datatype", "language",
        typed=pl.col("relation").is_in(TYPE_PREDICATES) & pl.col("tail").is_not_null(),
        sources=pl.col("source").cast(pl.String).replace_strict(bits, return_dtype=pl.Int64),
    )  # fmt: skip
    for end in ("head", "tail"):
        facts = facts.join(aliases.rename({"term": end}), on=end, how="left")
        facts = facts.with_columns(pl.coalesce("canonical", end).alias(end)).drop("canonical")
    facts = facts.collect().lazy()
    nodes = facts.filter(pl.col("tail").is_not_null() & ~pl.col("typed"))
    ends = pl.concat([facts.select("sources", term="head"), nodes.select("sources", term="tail")])
    entities = ends.group_by("term").agg(pl.col("sources").bitwise_or()).sort("term").with_row_index("entity_index")
    entities = entities.collect().lazy()
    numbers = entities.select("term", pl.col("entity_index").cast(pl.Int64))

    def numbered(rows: pl.LazyFrame, name: str) -> pl.LazyFrame:
        return rows.select("relation").unique().sort("relation").with_row_index(name).cast({name: pl.Int64})

    triples = (
        nodes.join(numbers.rename({"term": "head", "entity_index": "head_index"}), on="head")
        .join(numbers.rename({"term": "tail", "entity_index": "tail_index"}), on="tail")
        .join(numbered(nodes, "relation_index"), on="relation")
        .group_by("head_index", "relation_index", "tail_index")
        .agg(pl.col("sources").bitwise_or())
        .sort("head_index", "relation_index", "tail_index")
    )
    values = facts.filter(pl.col("value").is_not_null())
    key = ("entity_index", "attribute_index", "text", "datatype", "language")
    literals = (
        values.join(numbers.rename({"term": "head"}), on="head")
        .join(numbered(values, "attribute_index"), on="relation")
        .rename({"value": "text"})
        .group_by(*key)
        .agg(pl.col("sources").bitwise_or())
        .sort(*key, nulls_last=False)
    )
    entities.select("entity_index", "sources", entity_id="term").collect().write_parquet(folder / "entities.parquet")
    triples.collect().write_parquet(folder / "triples.parquet")
    literals.collect().write_parquet(folder / "literals.parquet")


CONTENDERS: dict[str, Callable[[Path, Path], None]] = {"mmkg": run_mmkg, "DuckDB": run_duckdb, "Polars": run_polars}
COMPARED = {
    "entities": ["entity_id", "sources"],
    "triples": ["head_index", "relation_index", "tail_index", "sources"],
    "literals": ["entity_index", "attribute_index", "text", "datatype", "language", "sources"],
}


def timed(name: str, source: Path, folder: Path) -> tuple[float, float, float]:
    """Wall-clock seconds, processor seconds and peak memory in GB of one contender, in the process it is called in."""
    folder.mkdir(parents=True)
    started, busy = time.perf_counter(), time.process_time()
    CONTENDERS[name](source, folder)
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    return seconds, busy, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def check_same(ours: Path, theirs: Path, peer: str) -> None:
    """Compare what both wrote."""
    for table, columns in COMPARED.items():
        one = open_table(ours, table).to_table(columns=columns)
        other = pq.read_table(theirs / f"{table}.parquet").select(columns).cast(one.schema)
        if not one.combine_chunks().equals(other.combine_chunks()):
            raise SystemExit(f"{peer} and mmkg do not agree on {table}: {other.num_rows:,} and {one.num_rows:,} rows")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1 M statements, once")
    parser.add_argument("--statements", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    total, repeats = (1_000_000, 1) if arguments.quick else (arguments.statements, arguments.repeats)
    print(machine())
    with tempfile.TemporaryDirectory(prefix="mmkg-bench-") as root:
        source = Path(root) / "input"
        write_input(source, total)
        measured: dict[str, list[tuple[float, float, float]]] = {name: [] for name in CONTENDERS}
        for repeat in range(repeats):
            for name in CONTENDERS:  # in turn, so that a busy minute is shared
                spawn = multiprocessing.get_context("spawn")
                with ProcessPoolExecutor(1, mp_context=spawn) as pool:
                    measured[name].append(pool.submit(timed, name, source, Path(root) / f"{name}{repeat}").result())
                seconds, busy, memory = measured[name][-1]
                print(f"  {name:<8} {seconds:8.1f} s  {busy:8.1f} s of processor  {memory:5.2f} GB")
        for peer in list(CONTENDERS)[1:]:
            check_same(Path(root) / "mmkg0", Path(root) / f"{peer}0", peer)
    rate = {name: total / statistics.median(row[0] for row in rows) for name, rows in measured.items()}
    memory = {name: max(row[2] for row in rows) for name, rows in measured.items()}
    work = f"build {total / 1e6:g} M statements"
    lines = [
        Ratio(work=work, peer=peer, ours=rate["mmkg"], theirs=rate[peer], unit="rows/s", target=1, more_is_better=True)
        for peer in ("DuckDB", "Polars")
    ]
    lines.append(
        Ratio(
            work=work,
            peer="floor",
            ours=rate["mmkg"],
            theirs=FLOOR_PER_SECOND,
            unit="rows/s",
            target=1,
            more_is_better=True,
        )
    )
    lines += [
        Ratio(work=f"{work}, memory", peer=peer, ours=memory["mmkg"], theirs=memory[peer], unit="GB", target=1)
        for peer in ("DuckDB", "Polars")
    ]
    lines.append(
        Ratio(work=f"{work}, memory", peer="floor", ours=memory["mmkg"], theirs=FLOOR_GIGABYTES, unit="GB", target=1)
    )
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
