"""The relational steps on Spark give the very bytes that they give on DuckDB."""

import os
import shutil
import unicodedata
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest

from mmkg import pipeline
from mmkg.config import Config, read_config
from mmkg.engine import _SPARK, keep_engine, open_engine
from mmkg.errors import BuildError
from mmkg.graph.build import build_graph
from mmkg.graph.export import export_ntriples
from mmkg.graph.splits import build_splits
from mmkg.graph.validate import build_findings
from mmkg.graph.workspace import Workspace
from mmkg.terms import RDF_TYPE, RDFS_LABEL, SKOS, XSD
from tests.graph.raw_dumps import SAME_AS, Literal, dbp, fb, make_config, mid, write_dump, yago

pytestmark = [
    pytest.mark.slow,
    # PySpark leaves the socket on which a result came in to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*<socket:pytest.PytestUnraisableExceptionWarning"),
]
_ATLAS = Path(__file__).parents[2] / "examples" / "atlas" / "atlas.toml"
_GRAPH_TABLES = {"entities", "relations", "attributes", "triples", "literals", "qualifiers", "merges", "dropped"}


@pytest.fixture(scope="module", autouse=True)
def one_spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One JVM for this file; it compiles quickly rather than well, because no test is long enough to gain by that."""
    home = os.environ.get("JAVA_HOME")
    if find_spec("pyspark") is None or shutil.which("java", path=f"{home}/bin" if home else None) is None:
        missing = "needs pyspark and Java 17: pip install 'mmkg[spark]', apt install openjdk-17-jre-headless"
        if os.environ.get("CI", "").lower() in {"1", "true"}:
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    with pytest.MonkeyPatch.context() as patch:
        # The quick compiler's own 48 MB for code are too few: Java then ends with NoSuchMethodError of linkToSpecial.
        patch.setenv("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC")
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        temporary = tmp_path_factory.mktemp("spark")
        with keep_engine(temporary):
            yield
            java = _SPARK._gateway.proc
        assert java.poll() is not None, "a JVM is left"
        assert not list(temporary.iterdir())


def tables(folder: Path) -> dict[str, bytes]:
    """The bytes of every file of a stage, but for its manifest."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.parquet"))}


def test_the_atlas_built_on_spark_has_the_bytes_and_the_digests_of_the_one_built_on_duckdb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    stages = {}
    for engine in ("duckdb", "spark"):
        settings = [f"graph.engine={engine}", f"graph.output={tmp_path / engine}", "graph.workers=2"]
        config = read_config(_ATLAS, [*settings, "graph.memory_limit=1GB"])
        results = pipeline.build(config, until="findings").results
        stages[engine] = {result.stage.name: result for result in results if result.stage.name != "read"}
    assert stages["spark"].keys() == {"graph", "splits", "findings"}
    for name, ours in stages["spark"].items():
        theirs = stages["duckdb"][name]
        assert ours.stage.digest == theirs.stage.digest
        assert ours.manifest.counts == theirs.manifest.counts
        assert ours.manifest.tables == theirs.manifest.tables  # names, rows, bytes and SHA-256 of every shard
        assert tables(ours.folder) == tables(theirs.folder)
    assert stages["spark"]["graph"].manifest.tables.keys() == _GRAPH_TABLES
    left_in_working_folder = {path.name for path in tmp_path.iterdir()}
    assert left_in_working_folder == {"duckdb", "spark"}  # no spark-warehouse, metastore_db, derby.log
    assert not list(tmp_path.rglob("mmkg-spill-*"))
    graph = stages["spark"]["graph"].folder
    export_ntriples(graph, tmp_path / "ours", engine=config.graph, with_dropped=True)
    export_ntriples(graph, tmp_path / "theirs", with_dropped=True)
    for file in ("statements.nt", "qualifiers.nt", "sameas.nt", "dropped.nt"):
        assert (tmp_path / "ours" / file).read_bytes() == (tmp_path / "theirs" / file).read_bytes()


# Texts on which engines differ: order of code points beyond 16 bits, ends of lines, NUL, backslashes, SQL's own
# characters, white space at an end, variables, patterns, composed and decomposed letters, no text at all.
_HOSTILE = (
    "", " ", "a", "a ", "A", "\t", "a\nb", "a\r", "\x00", "\x85", "\u2028x", "\\", "\\n", "'", '"', "`", "--",
    "%_*?[]{}", "${spark.app.name}", "$1", ":x", "ß", "SS", "İ", "é", unicodedata.normalize("NFD", "é"), "\uffff",
    "\U00010000",
    "👩‍👩‍👧", "\u202eabc", "Ω", "中", "null", "NULL", "NaN", "-0", "1e400", "x" * 5000,
)  # fmt: skip
_NAMES = [f"{number}{text[:8]}" for number, text in enumerate(_HOSTILE)]
_VALUES = [*_HOSTILE, "007", "+1.5", ".5", "-3e-2", "2011-02-30", "-0043-03-15", "1984", "1984-##-##", "1984-02-29T1Z"]


def hostile_dumps() -> dict[str, list]:
    """Three sources that say odd things of the same entities, partly the same, and partly twice."""
    r = [f"http://x.org/r{text}" for text in ("", "'", "\\", "${a}", "%20", "ß", "👩", "é")]
    nodes = [make(name) for name in _NAMES for make in (mid, dbp, yago)]
    nodes += ["_:b1", "_:b'", "urn:no-host", "http://x.org/", "http://x.org/a/", "http://x.org/a#\x85", r[0]]
    chain = list(pairwise(nodes))
    sources: dict[str, list] = {"freebase": [], "dbpedia": [], "yago": []}
    for number, (one, other) in enumerate(chain):
        source = sources[("freebase", "dbpedia", "yago")[number % 3]]
        source += [(one, r[number % 8], other), (one, r[(number + 1) % 8], other), (one, r[number % 8], other)]
        sources["dbpedia"] += [(one, r[1], other), (other, r[2], one)]
    for number, value in enumerate(_VALUES):
        datatype = (None, XSD + "date", XSD + "double", "http://x.org/t'${b}")[number % 4]
        language = (None, "en", "en-gb", "de", "zh-hant")[number % 5] if datatype is None else None
        for name in (RDFS_LABEL, SKOS + "prefLabel", r[4], fb("type.object.name")):
            sources["freebase"].append((nodes[number % 7], name, Literal(value, None, language)))
        sources["yago"].append((nodes[number % 11], r[number % 8], Literal(value, datatype, language)))
        sources["dbpedia"].append((nodes[3 * number % 50], RDFS_LABEL, Literal(value, None, language)))
    for number, node in enumerate(nodes):
        sources["yago"].append(
            (node, RDF_TYPE, ("http://x.org/A'", "http://x.org/B${c}", "http://x.org/C")[number % 3])
        )
        sources["freebase"].append((node, fb("type.object.type"), fb("people.person")))
        sources["freebase"].append((fb("people.person"), fb("type.type.instance"), node))
    for number in range(25):  # one odd head among 25, and among 20: exactly the share that makes it odd
        for usual in ("http://x.org/usual25", *(["http://x.org/usual20"] if number < 20 else [])):
            sources["dbpedia"].append((dbp(f"Person{number}"), usual, dbp("Place")))
        sources["dbpedia"].append((dbp(f"Person{number}"), RDF_TYPE, "http://x.org/C" if number else "http://x.org/D"))
    cvt, film, actor = mid("0cvt'${d}"), mid("0film"), mid("0actor\\")
    sources["freebase"] += [
        (film, fb("film.film.starring"), cvt),
        (cvt, fb("film.performance.actor"), actor),
        (cvt, fb("film.performance.character"), mid("0role")),
        (cvt, fb("film.performance.note"), Literal("${e}\\'", None, "en")),
        (actor, fb("people.person.parents"), film),
        (film, fb("people.person.children"), actor),
    ]
    return sources


def build_hostile(folder: Path, engine: str) -> tuple[Path, Config, list]:
    """Build the hostile dumps with one engine; Spark in a folder whose name is no kinder (DuckDB reads no such)."""
    dumps = hostile_dumps()
    home = folder / ("a b[1]{x,y}*?\\ %20 k=v 'ß'" if engine == "spark" else "plain")
    links = [(mid(name), SAME_AS, dbp(name)) for name in _NAMES] + [(dbp(n), SAME_AS, yago(n)) for n in _NAMES]
    links += [(dbp(_NAMES[1]), SAME_AS, dbp(_NAMES[2])), (mid(_NAMES[3]), SAME_AS, mid(_NAMES[3]))]
    links += [(mid(_NAMES[0]), "http://x.org/no-link", dbp(_NAMES[0])), (yago(_NAMES[5]), SAME_AS, mid(_NAMES[6]))]
    config = make_config(
        [
            {"kind": "freebase", "fold_cvt": True},
            {"kind": "dbpedia", "name": "d'b${p}\\", "split": "train"},
            {"kind": "yago", "split": "test"},
        ],
        graph={"engine": engine, "languages": ["de", "en"]},
        identity={
            "disjoint_types": [["http://x.org/A'", "http://x.org/B${c}"]],
            "source_priority": ["yago", "dbpedia"],
        },
        splits={"from_sources": True},
    )
    qualified = [
        (statement, f"http://x.org/q{value[:9]}", Literal(value) if number % 2 else dbp(_NAMES[number % 30]))
        for number, (statement, value) in enumerate(zip(dumps["yago"], [*_VALUES, *_VALUES], strict=False))
    ]
    read = [
        write_dump(home / "read" / name, rows, source=source, qualifiers=qualified if name == "yago" else ())
        for (name, rows), source in zip(dumps.items(), config.source_names, strict=True)
    ]
    linked = [write_dump(home / "links", links, source="links")]
    counts = build_graph(config, read, linked, home / "out" / "graph")
    named = [("train", read[1]), ("test", read[2])]
    return (
        home / "out",
        config,
        [
            counts,
            build_splits(config, home / "out" / "graph", named, home / "out" / "splits"),
            build_findings(config, home / "out" / "graph", home / "out" / "findings"),
        ],
    )


def test_hostile_statements_give_the_same_bytes_on_spark(tmp_path: Path):
    (theirs, _, their_counts), (ours, config, our_counts) = (build_hostile(tmp_path, e) for e in ("duckdb", "spark"))
    assert our_counts == their_counts
    counts, splits, findings = our_counts
    for name in ("dropped_redundant", "dropped_reverse", "dropped_folded", "dropped_not_a_link", "folded_statements"):
        assert counts[name], f"the dumps show nothing of {name}"
    assert counts["merged_links"] and counts["flagged_links"] and counts["qualifiers"] and counts["duplicates"]
    assert splits["test"] and splits["unmatched"] and findings["domain_clash"] >= 2
    assert tables(ours).keys() == tables(theirs).keys()
    assert [name for name, content in tables(ours).items() if content != tables(theirs)[name]] == []
    for folder, engine in ((ours, config.graph), (theirs, None)):
        with pytest.raises(BuildError, match=r"m\.0actor.* holds a character"):
            export_ntriples(folder / "graph", folder / "nt", engine=engine)


def test_numbers_of_a_row_keep_64_bits_on_spark(tmp_path: Path):
    import ibis

    with open_engine(make_config(["dbpedia"], graph={"engine": "spark"}).graph, tmp_path) as connection:
        workspace = Workspace(connection)
        rows = workspace.put("rows", pa.table({"term": ["b", "a"]}))
        kept = workspace.keep("numbered", rows.mutate(index=ibis.row_number().over(order_by="term")))
        wide = workspace.fetch(kept.order_by("index").select(wide=kept["index"] * (1 << 20) * 8192))
        assert wide["wide"].to_pylist() == [0, 1 << 33]
        assert wide.schema.field("wide").type == pa.int64()
        workspace.drop("rows", "numbered")
        [spill] = tmp_path.iterdir()
        assert list(spill.iterdir()) == []
    assert list(tmp_path.iterdir()) == []
