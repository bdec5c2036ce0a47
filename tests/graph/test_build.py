"""The build on graphs that can be checked by finger: what goes where, and that nothing is lost on the way."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmkg.errors import BuildError, ConfigError
from mmkg.graph import workspace
from mmkg.graph.build import build_graph
from mmkg.terms import RDF_TYPE, RDFS, RDFS_LABEL, XSD
from tests.graph.raw_dumps import SAME_AS, Literal, build, dbp, make_config, mid, write_dump, yago

COUNTRY = "http://dbpedia.org/ontology/Country"
CAPITAL = "http://dbpedia.org/ontology/capital"
POPULATION = "http://dbpedia.org/ontology/populationTotal"
MANY = Literal("5932654", XSD + "integer")


@pytest.fixture(scope="module")
def denmark(tmp_path_factory: pytest.TempPathFactory):
    """Denmark and its capital, told by three sources that are linked."""
    return build(
        tmp_path_factory.mktemp("denmark"),
        {
            "freebase": [
                (mid("0k6nt"), "http://rdf.freebase.com/ns/location.country.capital", mid("01lfy")),
                (mid("0k6nt"), "http://rdf.freebase.com/ns/type.object.name", Literal("Denmark", None, "en")),
            ],
            "dbpedia": [
                (dbp("Denmark"), CAPITAL, dbp("Copenhagen")),
                (dbp("Denmark"), CAPITAL, dbp("Copenhagen")),
                (dbp("Denmark"), RDF_TYPE, COUNTRY),
                (dbp("Denmark"), POPULATION, MANY),
                (dbp("Denmark"), SAME_AS, mid("0k6nt")),
                (CAPITAL, RDFS_LABEL, Literal("capital city", None, "en")),
            ],
            "yago": [
                (yago("Denmark"), CAPITAL, yago("Copenhagen")),
                (yago("Denmark"), POPULATION, MANY),
                (yago("Denmark"), RDF_TYPE, COUNTRY),
            ],
        },
        links=[
            (dbp("Denmark"), SAME_AS, yago("Denmark")),
            (dbp("Copenhagen"), SAME_AS, yago("Copenhagen")),
            (mid("01lfy"), SAME_AS, dbp("Copenhagen")),
        ],
    )


def test_linked_iris_are_one_entity_under_the_id_that_the_priority_prefers(denmark):
    assert denmark.ids == [CAPITAL, mid("01lfy"), mid("0k6nt")]
    assert denmark.entity(mid("0k6nt"))["aliases"] == [dbp("Denmark"), yago("Denmark")]
    assert denmark.entity(mid("01lfy"))["aliases"] == [dbp("Copenhagen"), yago("Copenhagen")]
    assert denmark.entity(CAPITAL)["aliases"] == []


def test_a_fact_that_two_sources_state_is_one_triple_with_both_sources(denmark):
    assert denmark.triples == {
        (mid("0k6nt"), CAPITAL, mid("01lfy")): {"dbpedia", "yago"},
        (mid("0k6nt"), "http://rdf.freebase.com/ns/location.country.capital", mid("01lfy")): {"freebase"},
    }


def test_a_value_that_two_sources_state_is_one_literal_with_both_sources(denmark):
    assert denmark.literals[mid("0k6nt"), POPULATION, MANY] == {"dbpedia", "yago"}
    assert len(denmark.literals) == 3


def test_types_are_listed_once_and_their_classes_are_no_entities(denmark):
    assert denmark.types == {mid("0k6nt"): [COUNTRY]}


def test_an_entity_has_the_sources_that_speak_of_it(denmark):
    assert denmark.names_of(denmark.entity(mid("0k6nt"))["sources"]) == {"freebase", "dbpedia", "yago"}
    assert denmark.names_of(denmark.entity(CAPITAL)["sources"]) == {"dbpedia"}


def test_what_is_said_of_a_property_is_its_label_and_stays_a_literal(denmark):
    capital = next(row for row in denmark.rows("relations") if row["relation_id"] == CAPITAL)
    assert capital["label"] == "capital city"
    assert denmark.literals[CAPITAL, RDFS_LABEL, Literal("capital city", None, "en")] == {"dbpedia"}


def test_every_statement_is_accounted_for(denmark):
    counts = denmark.counts
    assert counts["statements"] == 11
    assert counts["link_statements"] == 3
    assert counts["triples"] == 2
    assert counts["literals"] == 3
    assert counts["types"] == 1
    assert counts["merged_links"] == 4
    assert counts["flagged_links"] == 0
    assert counts["classes"] == 2
    assert counts["duplicates"] == 4  # a capital twice in DBpedia and once in YAGO; population; type
    assert counts["entities"] == 3


def test_rows_are_sorted_and_indices_are_dense(denmark):
    triples = [(r["head_index"], r["relation_index"], r["tail_index"]) for r in denmark.rows("triples")]
    assert triples == sorted(triples)
    for table, column in (
        ("entities", "entity_index"),
        ("relations", "relation_index"),
        ("attributes", "attribute_index"),
    ):
        assert [row[column] for row in denmark.rows(table)] == list(range(len(denmark.rows(table))))
    assert denmark.relation_ids == sorted(denmark.relation_ids)


def test_an_iri_that_only_a_link_names_is_an_alias_and_makes_no_entity_by_itself(tmp_path: Path):
    built = build(
        tmp_path,
        {"dbpedia": [(dbp("A"), CAPITAL, dbp("B"))]},
        links=[(mid("a"), SAME_AS, dbp("A")), (mid("x"), SAME_AS, dbp("X"))],
    )
    assert built.ids == [dbp("B"), mid("a")]
    assert built.entity(mid("a"))["aliases"] == [dbp("A")]
    assert {row["entity_id"] for row in built.rows("merges")} == {mid("a"), mid("x")}


def test_a_statement_in_a_link_dump_that_is_no_link_goes_to_the_ledger(tmp_path: Path):
    built = build(
        tmp_path,
        {"dbpedia": [(dbp("A"), CAPITAL, dbp("B"))]},
        links=[(mid("a"), SAME_AS, dbp("A")), (mid("a"), RDFS_LABEL, Literal("A"))],
    )
    assert built.dropped == {(mid("a"), RDFS_LABEL, 2, "not_a_link")}
    assert built.counts["dropped_not_a_link"] == 1


def test_a_same_as_with_a_literal_object_is_a_literal(tmp_path: Path):
    built = build(tmp_path, {"dbpedia": [(dbp("A"), SAME_AS, Literal("http://x.org/A"))]})
    assert built.literals == {(dbp("A"), SAME_AS, Literal("http://x.org/A")): {"dbpedia"}}
    assert built.rows("merges") == []


def test_a_link_to_itself_changes_nothing(tmp_path: Path):
    built = build(tmp_path, {"dbpedia": [(dbp("A"), SAME_AS, dbp("A")), (dbp("A"), CAPITAL, dbp("B"))]})
    assert built.ids == [dbp("A"), dbp("B")]
    assert [(row["verdict"], row["score"]) for row in built.rows("merges")] == [("merged", 1.0)]


def test_types_of_merged_classes_are_canonical(tmp_path: Path):
    built = build(
        tmp_path,
        {"dbpedia": [(dbp("A"), RDF_TYPE, dbp("City")), (dbp("A"), RDF_TYPE, yago("City"))]},
        links=[(dbp("City"), SAME_AS, yago("City"))],
    )
    assert built.types == {dbp("A"): [dbp("City")]}
    assert built.counts["duplicates"] == 1


def test_a_class_with_statements_of_its_own_is_an_entity_too(tmp_path: Path):
    up = RDFS + "subClassOf"
    built = build(tmp_path, {"dbpedia": [(dbp("A"), RDF_TYPE, dbp("City")), (dbp("City"), up, dbp("Place"))]})
    assert built.ids == [dbp("A"), dbp("City"), dbp("Place")]


def test_qualifiers_name_their_statement_by_index_and_carry_a_date(tmp_path: Path):
    member, start = "http://schema.org/memberOf", "http://schema.org/startDate"
    fact = (yago("Denmark"), member, yago("EU"))
    built = build(
        tmp_path,
        {"yago": [fact]},
        qualifiers=[(fact, start, Literal("1973", XSD + "gYear"))] * 2
        + [((yago("Denmark"), member, yago("NATO")), "http://schema.org/in", yago("Europe"))],
        links=[(yago("Europe"), SAME_AS, dbp("Europe"))],
    )
    assert built.ids == [yago("Denmark"), yago("EU"), yago("NATO")]
    first, second = built.rows("qualifiers")
    assert (first["head_index"], first["relation_id"], first["tail_index"]) == (0, member, 1)
    assert (first["qualifier_id"], first["qualifier_text"], str(first["date"])) == (start, "1973", "1973-01-01")
    assert first["date_precision"] == "year"
    assert (second["tail_index"], second["qualifier_tail"], second["date"]) == (2, dbp("Europe"), None)
    assert built.counts["qualifiers"] == 2
    assert built.counts["duplicate_qualifiers"] == 1


def test_blank_nodes_are_entities(tmp_path: Path):
    built = build(tmp_path, {"yago": [("_:b0", CAPITAL, yago("X")), (yago("X"), CAPITAL, "_:b1")]})
    assert built.ids == ["_:b0", "_:b1", yago("X")]


def _digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.parquet"))
    }


def _many_rows() -> Iterator[tuple]:
    for number in range(3000):
        a, b = number * 7 % 501, number * 13 % 401
        yield (dbp(f"E{a}"), f"http://x.org/r{number % 5}", dbp(f"E{b}"))
        yield (dbp(f"E{a}"), RDFS_LABEL, Literal(f"thing {a} {number % 3}", None, ("en", "de", None)[number % 3]))
        yield (dbp(f"E{b}"), RDF_TYPE, f"http://x.org/C{number % 17}")


def test_the_same_input_gives_the_same_bytes_whatever_the_threads_and_the_order_of_folders(tmp_path: Path):
    rows = list(_many_rows())
    first = write_dump(tmp_path / "a", rows[:5000], source="dbpedia")
    second = write_dump(tmp_path / "b", rows[5000:], source="dbpedia")
    links = write_dump(tmp_path / "l", [(dbp(f"E{i}"), SAME_AS, yago(f"E{i}")) for i in range(300)], source="links")
    digests = []
    for threads, order in ((1, [first, second]), (2, [first, second]), (2, [second, first])):
        folder = tmp_path / f"graph-{threads}-{order[0].name}"
        build_graph(make_config(["dbpedia"], graph={"workers": threads}), order, [links], folder)
        digests.append(_digests(folder))
    assert len(digests[0]) == 8
    assert digests[0] == digests[1] == digests[2]


def test_terms_that_share_a_key_are_still_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    strong = workspace.HASHES["duckdb"]

    def weak_without_salt(text):  # the keys of all terms of one length are one, unless salted
        salted = text.contains("#1")
        return salted.ifelse(strong(text), strong(text.length().cast("string")))

    monkeypatch.setitem(workspace.HASHES, "duckdb", weak_without_salt)
    built = build(tmp_path, {"dbpedia": [(dbp("A"), CAPITAL, dbp("B")), (dbp("B"), CAPITAL, dbp("C"))]})
    assert built.triples.keys() == {(dbp("A"), CAPITAL, dbp("B")), (dbp("B"), CAPITAL, dbp("C"))}


def test_a_hash_that_does_not_spread_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    strong = workspace.HASHES["duckdb"]
    monkeypatch.setitem(workspace.HASHES, "duckdb", lambda text: strong(text.substr(0, 4)))
    with pytest.raises(BuildError, match="does not spread strings"):
        build(tmp_path, {"dbpedia": [(dbp("A"), CAPITAL, dbp("B"))]})


def test_a_row_of_an_unknown_source_is_an_error_that_names_the_nearest(tmp_path: Path):
    folder = write_dump(tmp_path / "read", [(dbp("A"), CAPITAL, dbp("B"))], source="dbpeda")
    with pytest.raises(BuildError, match=r"no source is called 'dbpeda'\. Did you mean 'dbpedia'"):
        build_graph(make_config(["dbpedia"]), [folder], [], tmp_path / "graph")


def test_nothing_to_build_from_is_an_error(tmp_path: Path):
    with pytest.raises(BuildError, match="nothing to build from"):
        build_graph(make_config(["dbpedia"]), [], [], tmp_path / "graph")


def test_an_unknown_namespace_in_the_priority_is_an_error(tmp_path: Path):
    config = make_config(["dbpedia"], identity={"source_priority": ["freebse"]})
    with pytest.raises(ConfigError, match="Did you mean 'freebase'"):
        build(tmp_path, {"dbpedia": [(dbp("A"), SAME_AS, dbp("B"))]}, config=config)


def test_an_empty_dump_gives_empty_tables(tmp_path: Path):
    built = build(tmp_path, {"dbpedia": []})
    for table in ("entities", "relations", "attributes", "triples", "literals", "qualifiers", "merges", "dropped"):
        assert built.rows(table) == []
