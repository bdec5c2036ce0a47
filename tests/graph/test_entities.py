"""Which label, description and types an entity gets."""

from pathlib import Path

import pytest

from mmkg.terms import DBPEDIA_ONTOLOGY, FOAF, RDF_TYPE, RDFS, RDFS_LABEL
from tests.graph.raw_dumps import SAME_AS, Literal, build, dbp, fb, make_config, mid

ABSTRACT = DBPEDIA_ONTOLOGY + "abstract"


def _label(tmp_path: Path, languages: list[str], *values: tuple[str, Literal]) -> str | None:
    config = make_config(["dbpedia"], graph={"languages": languages})
    rows = [(dbp("A"), predicate, value) for predicate, value in values]
    return build(tmp_path, {"dbpedia": [*rows, (dbp("A"), "http://x.org/p", dbp("B"))]}, config=config).entity(
        dbp("A")
    )["label"]


GERMAN, ENGLISH, BRITISH = (
    Literal("Köln", None, "de"),
    Literal("Cologne", None, "en"),
    Literal("Cologne GB", None, "en-gb"),
)
PLAIN, FRENCH, SPANISH = Literal("KOELN"), Literal("Cologne F", None, "fr"), Literal("Colonia", None, "es")


@pytest.mark.parametrize(
    ("languages", "values", "expected"),
    [
        (["en", "de"], [GERMAN, ENGLISH, PLAIN], "Cologne"),
        (["de", "en"], [GERMAN, ENGLISH, PLAIN], "Köln"),
        (["en", "de"], [GERMAN, BRITISH], "Cologne GB"),
        (["en"], [BRITISH, ENGLISH], "Cologne"),
        (["en"], [GERMAN, PLAIN, FRENCH], "KOELN"),
        (["en"], [FRENCH, SPANISH], "Colonia"),  # by tag: es before fr
        (["en"], [Literal("b", None, "en"), Literal("a", None, "en")], "a"),
        (["en"], [], None),
    ],
)
def test_the_label_is_chosen_by_language(
    tmp_path: Path, languages: list[str], values: list[Literal], expected: str | None
):
    assert _label(tmp_path, languages, *((RDFS_LABEL, value) for value in values)) == expected


def test_among_labels_of_one_language_the_predicate_decides(tmp_path: Path):
    assert (
        _label(tmp_path, ["en"], (FOAF + "name", Literal("A", None, "en")), (RDFS_LABEL, Literal("B", None, "en")))
        == "B"
    )
    assert _label(tmp_path / "2", ["en"], (FOAF + "name", Literal("A", None, "en")), (RDFS_LABEL, GERMAN)) == "A"


def test_a_text_too_long_for_a_name_is_no_label_but_stays_a_literal(tmp_path: Path):
    long, longest = Literal("x" * 2001, None, "en"), Literal("é" * 2000, None, "de")
    assert _label(tmp_path, ["en"], (RDFS_LABEL, long), (RDFS_LABEL, longest)) == longest.value
    assert _label(tmp_path / "2", ["en"], (RDFS_LABEL, long)) is None
    rows = [(dbp("A"), RDFS_LABEL, long), (dbp("A"), "http://x.org/p", dbp("B"))]
    built = build(tmp_path / "3", {"dbpedia": rows})
    assert [row["text"] for row in built.rows("literals")] == [long.value]


def test_a_label_that_begins_with_a_digit_or_a_tab_comes_out_whole(tmp_path: Path):
    assert _label(tmp_path, ["en"], (RDFS_LABEL, Literal("007\tJames", None, "en"))) == "007\tJames"
    assert _label(tmp_path / "2", ["en"], (RDFS_LABEL, Literal("\t99 Luftballons", None, "de"))) == "\t99 Luftballons"


def test_a_merged_entity_has_labels_and_descriptions_of_all_its_iris(tmp_path: Path):
    built = build(
        tmp_path,
        {
            "freebase": [(mid("0a"), fb("type.object.name"), Literal("Wien", None, "de"))],
            "dbpedia": [
                (dbp("Vienna"), RDFS_LABEL, ENGLISH),
                (dbp("Vienna"), ABSTRACT, Literal("Vienna is …", None, "en")),
            ],
        },
        links=[(mid("0a"), SAME_AS, dbp("Vienna"))],
    )
    entity = built.entity(mid("0a"))
    assert (entity["label"], entity["description"]) == ("Cologne", "Vienna is …")


def test_an_abstract_comes_before_a_comment(tmp_path: Path):
    rows = [
        (dbp("A"), RDFS + "comment", Literal("short", None, "en")),
        (dbp("A"), ABSTRACT, Literal("whole", None, "en")),
    ]
    assert build(tmp_path, {"dbpedia": rows}).entity(dbp("A"))["description"] == "whole"


def test_types_are_sorted_and_each_entity_has_its_own(tmp_path: Path):
    rows = [(dbp(f"E{i}"), RDF_TYPE, f"http://x.org/C{c}") for i in range(50) for c in range(i % 4)]
    rows += [(dbp(f"E{i}"), "http://x.org/p", Literal("x")) for i in range(50)]
    built = build(tmp_path, {"dbpedia": list(reversed(rows))})
    assert {e: len(t) for e, t in built.types.items()} == {dbp(f"E{i}"): i % 4 for i in range(50) if i % 4}
    assert all(types == sorted(types) for types in built.types.values())
    assert built.counts["types"] == sum(i % 4 for i in range(50))
