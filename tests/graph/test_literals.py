"""Numbers and dates that literals spell, against Python's own readings; attributes and their columns."""

import datetime
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmkg.graph.literals import days_from_civil, parse_date, parse_number
from mmkg.terms import RDFS_LABEL, XSD
from tests.graph.raw_dumps import Literal, build, dbp

EPOCH = datetime.date(1970, 1, 1)


def read(parse, text: str, datatype: str | None = None, language: str | None = None):
    """One literal through a vectorised reading."""
    return parse(*(pa.array([value], pa.string()) for value in (text, datatype, language)))


def number(text: str, datatype: str | None = None, language: str | None = None) -> float | None:
    return read(parse_number, text, datatype, language)[0].as_py()


def date(text: str, datatype: str | None = None) -> tuple[str, str] | None:
    days, precision = read(parse_date, text, datatype)
    return None if not days[0].is_valid else (str(days[0].as_py()), precision[0].as_py())


@pytest.mark.parametrize(
    ("text", "expected"),
    [("42", 42.0), ("-3.5e6", -3.5e6), ("+7", 7.0), (".5", 0.5), ("5.", 5.0), ("0", 0.0), ("0.25", 0.25),
     ("1e999", None), ("forty", None), ("", None), ("1 000", None), ("0x10", None), ("NaN", None), ("INF", None),
     ("1,5", None)],
)  # fmt: skip
def test_a_numeral_is_a_number(text: str, expected: float | None):
    assert number(text, XSD + "double") == expected
    assert number(text) == expected


def test_what_kind_of_literal_it_is_decides_whether_a_numeral_is_a_number():
    assert number("007") is None
    assert number("007", XSD + "integer") == 7.0
    assert number("42", "http://dbpedia.org/datatype/kilometre") == 42.0
    assert number("42", None, "en") is None
    assert number("1979", XSD + "gYear") is None
    assert number("1", XSD + "boolean") is None


@pytest.mark.parametrize(
    ("text", "datatype", "expected"),
    [
        ("1973-01-02", "date", ("1973-01-02", "day")),
        ("1973-01-02Z", "date", ("1973-01-02", "day")),
        ("1973-01-02+01:00", "date", ("1973-01-02", "day")),
        ("1973-01-02T10:11:12.5Z", "dateTime", ("1973-01-02", "day")),
        ("1973", "gYear", ("1973-01-01", "year")),
        ("1973Z", "gYear", ("1973-01-01", "year")),
        ("1973-05", "gYearMonth", ("1973-05-01", "month")),
        ("2012-##-##", "date", ("2012-01-01", "year")),
        ("2012-04-##", "date", ("2012-04-01", "month")),
        ("2012-##-04", "date", None),
        ("2012-02-29", "date", ("2012-02-29", "day")),
        ("2011-02-29", "date", None),
        ("1900-02-29", "date", None),
        ("2012-13-01", "date", None),
        ("2012-04-31", "date", None),
        ("soon", "date", None),
        ("1973", None, None),
        ("1973-01-02", None, ("1973-01-02", "day")),
        ("1973-01-02", "string_like", None),
    ],
)
def test_a_date_has_the_precision_of_what_is_known(text: str, datatype: str | None, expected):
    assert date(text, datatype and XSD + datatype) == expected


def test_years_before_the_first_are_dates_too():
    days, precision = read(parse_date, "-0043-03-15", XSD + "date")
    assert days.cast(pa.int32())[0].as_py() == days_from_civil(np.array([-43]), np.array([3]), np.array([15]))[0]
    assert precision[0].as_py() == "day"
    assert read(parse_date, "-0043", XSD + "gYear")[1][0].as_py() == "year"


@given(st.dates())
@example(datetime.date(2000, 2, 29))
def test_days_are_those_of_pythons_calendar(day: datetime.date):
    counted = days_from_civil(np.array([day.year]), np.array([day.month]), np.array([day.day]))
    assert counted[0] == (day - EPOCH).days


@given(st.integers(-9999, -1), st.integers(1, 12))
def test_the_calendar_repeats_every_400_years_before_the_epoch_too(year: int, month: int):
    earlier, later = (days_from_civil(np.array([y]), np.array([month]), np.array([1]))[0] for y in (year, year + 400))
    assert later - earlier == 146097


@given(st.lists(st.one_of(st.none(), st.text("0123456789-#TZ:.+e ", max_size=12)), max_size=20))
def test_readings_are_null_or_what_python_reads(texts: list[str | None]):
    nothing = pa.nulls(len(texts), pa.string())
    kind = pa.array([XSD + "date"] * len(texts), pa.string())
    numbers = parse_number(pa.array(texts, pa.string()), nothing, nothing).to_pylist()
    days, _ = parse_date(pa.array(texts, pa.string()), kind, nothing)
    for text, value, day in zip(texts, numbers, days.cast(pa.int32()).to_pylist(), strict=True):
        if value is not None:
            assert value == float(text)
        if text is not None and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            try:
                expected = (datetime.date.fromisoformat(text) - EPOCH).days
            except ValueError:
                continue  # month 00 and the like: open
            assert day == expected


def test_attributes_count_values_and_entities_and_name_the_column_to_read(tmp_path: Path):
    size, born, note = "http://x.org/Size", "http://x.org/born", "http://y.org/size"
    built = build(
        tmp_path,
        {
            "dbpedia": [
                (dbp("A"), size, Literal("1", XSD + "integer")),
                (dbp("A"), size, Literal("2", XSD + "integer")),
                (dbp("B"), size, Literal("2", XSD + "integer")),
                (dbp("A"), born, Literal("1973", XSD + "gYear")),
                (dbp("A"), note, Literal("3")),
                (dbp("B"), note, Literal("big", None, "en")),
                (dbp("B"), RDFS_LABEL, Literal("B")),
                (size, RDFS_LABEL, Literal("how large", None, "en")),
            ]
        },
    )
    rows = {row["attribute_id"]: row for row in built.rows("attributes")}
    assert {iri: (r["name"], r["count"], r["num_entities"], r["value_type"]) for iri, r in rows.items()} == {
        RDFS_LABEL: ("label_2", 2, 2, "text"),
        size: ("Size", 3, 2, "number"),
        born: ("born", 1, 1, "date"),
        note: ("size_2", 2, 2, "text"),
    }
    assert rows[size]["label"] == "how large"
    assert [
        row["number"] for row in built.rows("literals") if row["attribute_index"] == rows[size]["attribute_index"]
    ] == [1, 2, 2]


def test_values_that_differ_in_language_or_datatype_are_different(tmp_path: Path):
    values = [
        Literal("1"),
        Literal("1", XSD + "integer"),
        Literal("1", None, "en"),
        Literal("1", None, "de"),
        Literal("1"),
    ]
    built = build(tmp_path, {"dbpedia": [(dbp("A"), "http://x.org/p", value) for value in values]})
    assert {value for _, _, value in built.literals} == set(values)
    assert built.counts["duplicates"] == 1
