"""The bench of the build: every step compiles for Spark as well, and terms are told apart."""

from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pytest
from ibis.config import Config

from mmkg.engine import open_engine
from mmkg.errors import BuildError
from mmkg.graph.workspace import Workspace, term_key
from mmkg.terms import RDF_TYPE, RDFS_LABEL, XSD
from tests.graph.raw_dumps import SAME_AS, Literal, build, dbp, fb, make_config, mid, write_dump, yago

CVT = mid("0cvt")
FACTS = [
    (mid("0film"), fb("type.object.name"), Literal("Alien", None, "en")),
    (mid("0film"), RDFS_LABEL, Literal("Alien", None, "en")),
    (mid("0film"), fb("film.film.starring"), CVT),
    (CVT, fb("film.performance.actor"), mid("0actor")),
    (mid("0actor"), fb("type.object.type"), fb("people.person")),
    (fb("people.person"), fb("type.type.instance"), mid("0actor")),
    (mid("0actor"), RDF_TYPE, fb("people.person")),
    (mid("0actor"), fb("people.person.parents"), mid("0parent")),
    (mid("0parent"), fb("people.person.children"), mid("0actor")),
    (mid("0parent"), fb("people.person.height_meters"), Literal("1.8", XSD + "double")),
]


class _SparkOptions(Config):
    treat_nan_as_null: bool = False


def test_every_step_of_a_build_compiles_for_spark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    compiled = []

    def compile_first(method: Any) -> Any:
        def wrapped(self: Workspace, *arguments: Any) -> Any:
            expression = arguments[1] if isinstance(arguments[0], str) else arguments[0]
            compiled.append(ibis.to_sql(expression, dialect="pyspark"))
            return method(self, *arguments)

        return wrapped

    # Without pyspark installed nobody has registered its options, which literals of floats ask for.
    monkeypatch.setattr(ibis.options, "pyspark", _SparkOptions())
    monkeypatch.setattr(Workspace, "keep", compile_first(Workspace.keep))
    monkeypatch.setattr(Workspace, "_batches", compile_first(Workspace._batches))
    config = make_config(
        [{"kind": "freebase", "fold_cvt": True}, "dbpedia"],
        identity={"disjoint_types": [["http://x.org/A", "http://x.org/B"]]},
    )
    fact = (mid("0film"), "http://x.org/r", mid("0actor"))
    built = build(
        tmp_path,
        {"freebase": [*FACTS, fact], "dbpedia": [(dbp("A"), "http://x.org/r", dbp("B"))]},
        links=[(mid("0actor"), SAME_AS, dbp("A")), (dbp("A"), SAME_AS, yago("A")), (mid("0film"), SAME_AS, dbp("A"))],
        qualifiers=[(fact, "http://x.org/since", Literal("1979"))],
        config=config,
    )
    assert built.counts["folded_statements"] == 1
    assert built.counts["flagged_links"] == 1
    assert len(compiled) > 40
    assert all("SELECT" in statement for statement in compiled)


@pytest.mark.parametrize(("engine", "function"), [("duckdb", "HASH("), ("pyspark", "XXHASH64(")])
def test_each_engine_hashes_terms_by_its_own_64_bit_function(engine: str, function: str):
    terms = ibis.table({"term": "string"}, name="terms")
    assert function in ibis.to_sql(terms.select(key=term_key(terms["term"], engine=engine)), dialect=engine).upper()


def test_the_key_of_null_is_null_and_a_salt_changes_every_key():
    config = make_config(["dbpedia"]).graph
    with open_engine(config) as connection:
        workspace = Workspace(connection)
        terms = workspace.put("some_terms", pa.table({"term": ["a", "b", None]}))
        plain = workspace.fetch(terms.select(key=workspace.key(terms["term"])))["key"].to_pylist()
        workspace.salt = 1
        salted = workspace.fetch(terms.select(key=workspace.key(terms["term"])))["key"].to_pylist()
    assert plain[2] is None
    assert salted[2] is None
    assert len({*plain[:2], *salted[:2]}) == 4


def test_two_streams_can_be_read_side_by_side(tmp_path: Path):
    folder = write_dump(tmp_path, [(dbp(f"A{i}"), "http://x.org/r", dbp("B")) for i in range(5000)], source="dbpedia")
    with open_engine(make_config(["dbpedia"]).graph) as connection:
        workspace = Workspace(connection)
        raw = workspace.read([folder], "triples_raw")
        pairs = zip(
            workspace.stream(raw.order_by("line"), rows=2048),
            workspace.stream(raw.order_by("line"), rows=2048),
            strict=True,
        )
        rows = sum(one.num_rows for one, other in pairs if one.equals(other))
    assert rows == 5000


def test_a_name_that_is_no_name_is_not_dropped():
    with open_engine(make_config(["dbpedia"]).graph) as connection, pytest.raises(BuildError, match="no name"):
        Workspace(connection).drop("x; drop table y")
