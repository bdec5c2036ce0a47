"""Spelling, repair and dates."""

import datetime

import pyoxigraph as ox
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmkg.terms import XSD, parse_date, percent_encode, spell_literal, spell_node

encodable = st.text(st.characters(exclude_categories=["Cs"]))


def test_forbidden_characters_become_percent_codes_and_nothing_else_changes() -> None:
    assert percent_encode('http://a/"b`<c>{d}|e\\f^g h\x00') == "http://a/%22b%60%3Cc%3E%7Bd%7D%7Ce%5Cf%5Eg%20h%00"
    assert percent_encode("http://dbpedia.org/resource/Åland_%28x%29?a=b&c#é") == (
        "http://dbpedia.org/resource/Åland_%28x%29?a=b&c#é"
    )


@given(encodable)
def test_encoding_twice_is_as_once_and_leaves_nothing_forbidden(text: str) -> None:
    once = percent_encode(text)
    assert percent_encode(once) == once
    assert not any(character <= " " or character in '<>"{}|\\^`' for character in once)


@given(encodable, st.sampled_from([(None, None), (XSD + "integer", None), (None, "en"), (None, "zh-hant-tw")]))
def test_a_spelt_literal_is_read_back_as_it_was(value: str, kind: tuple[str | None, str | None]) -> None:
    datatype, language = kind
    line = f"<http://a/s> <http://a/p> {spell_literal(value, datatype, language)} ."
    assert "\n" not in line and "\r" not in line
    [quad] = ox.parse(line, format=ox.RdfFormat.N_TRIPLES)
    assert (quad.object.value, quad.object.language) == (value, language)
    if datatype is not None:
        assert quad.object.datatype.value == datatype


def test_nodes_are_iris_or_blank() -> None:
    assert spell_node("http://a/b") == "<http://a/b>"
    assert spell_node("_:b0") == "_:b0"


@pytest.mark.parametrize(
    ("text", "date", "precision"),
    [
        ("2012-05-01", (2012, 5, 1), "day"),
        ("2012-05-01Z", (2012, 5, 1), "day"),
        ("2012-05-01+02:00", (2012, 5, 1), "day"),
        ("2012-05-01T23:59:59.123Z", (2012, 5, 1), "day"),
        ("2012-05-01T23:59", (2012, 5, 1), "day"),
        ("2012-05-##", (2012, 5, 1), "month"),
        ("2012-##-##", (2012, 1, 1), "year"),
        ("2012-05-00", (2012, 5, 1), "month"),
        ("2012-00-00", (2012, 1, 1), "year"),
        ("2012-05", (2012, 5, 1), "month"),
        ("2012", (2012, 1, 1), "year"),
        ("2012Z", (2012, 1, 1), "year"),
        ("1917.0426", (1917, 4, 26), "day"),
        ("1917.0400", (1917, 4, 1), "month"),
        ("1861.0000", (1861, 1, 1), "year"),
        ("2024-02-29", (2024, 2, 29), "day"),
    ],
)
def test_every_form_of_the_sources_is_read(text: str, date: tuple[int, int, int], precision: str) -> None:
    found = parse_date(text)
    assert found is not None
    assert (found.date, found.precision) == (datetime.date(*date), precision)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "12",
        "20120501",
        "2012-13-01",
        "2023-02-29",
        "2012-##-05",
        "1948.75",  # a decimal year, as Freebase's numbers have them
        "1917.0431",
        "1917.1301",
        "0000",
        "-0044-03-15",
        "12012-01-01",
        "2012-05-01 10:00",
        "2012-05-01Tnoon",
        "٢٠١٢",  # digits, but not those of an xsd:date
        "2012\n",
        "in 2012",
    ],
)
def test_what_is_no_date_is_none(text: str) -> None:
    assert parse_date(text) is None


@given(st.dates(min_value=datetime.date(1, 1, 1)))
def test_any_iso_date_is_read_to_the_day(date: datetime.date) -> None:
    found = parse_date(date.isoformat())
    assert found is not None and found.date == date and found.precision == "day"


@given(encodable)
def test_any_text_is_a_date_with_a_known_precision_or_none(text: str) -> None:
    found = parse_date(text)
    assert found is None or found.precision in {"year", "month", "day"}
