"""What a graph states about pictures: which objects are addresses, and whose."""

from pathlib import Path

import pytest

from mmkg.config import ImagesConfig
from mmkg.images.from_graph import picture_address
from mmkg.terms import DBPEDIA, DBPEDIA_ONTOLOGY, FOAF, SCHEMA_ORG
from tests.images.named_graph import NamedGraph, run_discovery

COMMONS = "http://commons.wikimedia.org/wiki/Special:FilePath/"
HORNBILL, PERU, LAKE = DBPEDIA + "African_grey_hornbill", DBPEDIA + "Peru", "http://example.org/Lake_Naivasha"
STATED = ImagesConfig(from_graph=True)


def test_depiction_and_thumbnail_of_one_file_are_one_candidate(tmp_path: Path) -> None:
    raw = [
        (PERU, DBPEDIA_ONTOLOGY + "thumbnail", COMMONS + "Flag_of_Peru.svg?width=300"),
        (PERU, FOAF + "depiction", COMMONS + "Flag_of_Peru.svg"),
        (PERU, SCHEMA_ORG + "image", '"https://example.org/llama.jpg'),
    ]
    found = run_discovery(STATED, NamedGraph({PERU: "Peru"}, raw=raw), tmp_path)
    assert [(row["place"], row["origin"], row["file_name"]) for row in found.candidates] == [
        (0, "depiction", "Flag of Peru.svg"),
        (1, "image", None),
    ]
    assert found.urls(PERU)[0].endswith("/330px-Flag_of_Peru.svg.png")
    assert found.counts["from_depiction"] == 1


def test_a_thing_that_is_described_is_no_picture(tmp_path: Path) -> None:
    raw = [
        (HORNBILL, FOAF + "depiction", COMMONS + "Tockus_nasutus.jpg"),
        (HORNBILL, FOAF + "depiction", LAKE),
        (HORNBILL, SCHEMA_ORG + "image", "_:b0"),
        (LAKE, FOAF + "name", '"Lake Naivasha'),
    ]
    found = run_discovery(STATED, NamedGraph({HORNBILL: "Hornbill", LAKE: "Lake Naivasha"}, raw=raw), tmp_path)
    assert [row["file_name"] for row in found.candidates] == ["Tockus nasutus.jpg"]
    assert [(row["place"], row["name"], row["reason"]) for row in found.unmatched] == [
        (HORNBILL, "_:b0", "not_a_picture_url"),
        (HORNBILL, LAKE, "not_a_picture_url"),
    ]


def test_a_statement_about_an_alias_is_about_its_entity(tmp_path: Path) -> None:
    graph = NamedGraph(
        {"http://rdf.freebase.com/ns/m.016wzw": "Peru"},
        aliases={"http://rdf.freebase.com/ns/m.016wzw": [PERU]},
        raw=[(PERU, FOAF + "depiction", COMMONS + "Flag_of_Peru.svg"), (LAKE, FOAF + "img", COMMONS + "Lake.jpg")],
    )
    found = run_discovery(STATED, graph, tmp_path)
    assert len(found.urls("http://rdf.freebase.com/ns/m.016wzw")) == 1
    assert [(row["place"], row["reason"]) for row in found.unmatched] == [(LAKE, "no_entity")]


def test_only_the_predicates_of_the_config_are_read(tmp_path: Path) -> None:
    raw = [(PERU, FOAF + "homepage", "https://example.org/a.jpg"), (PERU, FOAF + "img", "https://example.org/b.jpg")]
    found = run_discovery(STATED, NamedGraph({PERU: "Peru"}, raw=raw), tmp_path)
    assert found.urls(PERU) == ["https://example.org/b.jpg"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file:///etc/passwd", "bad_url"),
        ("file:/etc/passwd.png", "bad_url"),
        ("ftp://example.org/a.jpg", "bad_url"),
        ("data:image/png;base64,AAAA", "bad_url"),
        ("http:///a.jpg", "bad_url"),
        ("http://[::1/a.jpg", "bad_url"),
        ("http://example.org/" + "a" * 9_000, "bad_url"),
        ("nothing of the kind", "bad_url"),
        ("http://en.wikipedia.org/wiki/Peru", "not_a_picture_url"),
        ("http://dbpedia.org/resource/Lake_Naivasha", "not_a_picture_url"),
        ("http://www.wikidata.org/entity/Q42", "not_a_picture_url"),
        ("http://example.org/anthem.ogg", "not_a_picture_url"),
        ("http://example.org/peru.html?size=2", "not_a_picture_url"),
    ],
)
def test_what_cannot_be_asked_for_has_a_reason(text: str, reason: str) -> None:
    assert picture_address(text, 330) == reason


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://example.org/a b/é.jpg?x=ü#top", "http://example.org/a%20b/%C3%A9.jpg?x=%C3%BC"),
        ("HTTPS://example.org/picture/17", "https://example.org/picture/17"),
        ("//example.org/a.jpg", "https://example.org/a.jpg"),
        ("http://example.org/a%20b.jpg", "http://example.org/a%20b.jpg"),
    ],
)
def test_an_address_is_spelt_as_it_is_asked(text: str, url: str) -> None:
    address = picture_address(text, 330)
    assert not isinstance(address, str)
    assert address.url == url


@pytest.mark.parametrize(
    "text", ["Image:SpreadBrothelCover.jpg", "SpreadBrothelCover.jpg", "File:SpreadBrothelCover.jpg"]
)
def test_a_bare_name_of_a_file_is_one_of_commons(text: str) -> None:
    address = picture_address(text, 250)
    assert not isinstance(address, str)
    assert (address.file_name, address.url.rpartition("/")[2]) == (
        "SpreadBrothelCover.jpg",
        "250px-SpreadBrothelCover.jpg",
    )
