"""The forms that are no RDF: FB15k, MMKB, the older YAGO and plain TSV."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmkg.sources.base import LineContext
from mmkg.sources.lines_tsv import date_literal, freebase_iri, freebase_path, full_iri, named_iri
from mmkg.sources.mmkb import IMAGE_INDEX, parse_mmkb_line
from mmkg.sources.statements import repair_iri
from mmkg.sources.yago import parse_yago_columns_line
from mmkg.terms import FREEBASE, OWL_SAME_AS, RDFS_LABEL, XSD, YAGO
from tests.sources.dumps import read, statement_of

YAGO_BASE = LineContext(source="yago", dump="d", base_iri=YAGO)


def test_fb15k_lines_become_freebase_iris(tmp_path: Path) -> None:
    content = (
        "/m/027rn\t/location/country/form_of_government\t/m/06cx9\n"
        "/m/017dcd\t/tv/tv_program/regular_cast./tv/regular_tv_appearance/actor\t/m/06v8s0\n"
        "/m/027rn\tDominican Republic\n"
        "/music/artist/origin\tmusic artist origin\n"
        "/m/027rn\t/a/b\tnot a path\n"
        "/m/027rn\n"
    )
    reading = read(content, tmp_path, kind="freebase")
    assert reading.statements == [
        (
            FREEBASE + "m.027rn",
            FREEBASE + "location.country.form_of_government",
            FREEBASE + "m.06cx9",
            None,
            None,
            None,
        ),
        (
            FREEBASE + "m.017dcd",
            FREEBASE + "tv.tv_program.regular_cast..tv.regular_tv_appearance.actor",
            FREEBASE + "m.06v8s0",
            *[None] * 3,
        ),
        (FREEBASE + "m.027rn", FREEBASE + "type.object.name", None, "Dominican Republic", None, None),
        (FREEBASE + "music.artist.origin", RDFS_LABEL, None, "music artist origin", None, None),
    ]
    assert [row["reason"] for row in reading.rejects] == ["bad_value", "columns"]


_HOP = st.lists(st.from_regex(r"[a-z0-9_]+", fullmatch=True), min_size=1, max_size=4).map(
    lambda parts: "/" + "/".join(parts)
)


@given(st.lists(_HOP, min_size=1, max_size=2))
def test_freebase_paths_come_back(hops: list[str]) -> None:
    path = ".".join(hops)
    iri = freebase_iri(path)
    assert iri is not None
    assert freebase_path(iri) == path


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/m/06rf7\t<http://x/y>\t9.70404945", (FREEBASE + "m.06rf7", "http://x/y", "9.70404945", "double")),
        ("<Doncaster>\t<hasLongitude>\t-1.133", (YAGO + "Doncaster", YAGO + "hasLongitude", "-1.133", "double")),
        ("<A>\t<wasBornOnDate>\t2002.0913", (YAGO + "A", YAGO + "wasBornOnDate", "2002-09-13", "date")),
        ("<A>\t<wasBornOnDate>\t1861.0000", (YAGO + "A", YAGO + "wasBornOnDate", "1861", "gYear")),
        ("<A>\t<wasBornOnDate>\t1861.0500", (YAGO + "A", YAGO + "wasBornOnDate", "1861-05", "gYearMonth")),
        ("<A>\t<diedOnDate>\t632.0608", (YAGO + "A", YAGO + "diedOnDate", "0632-06-08", "date")),
        ("<A>\t<diedOnDate>\t2002.1305", (YAGO + "A", YAGO + "diedOnDate", "2002.1305", "double")),
        ("<A>\t<hasHeight>\t2002.0913", (YAGO + "A", YAGO + "hasHeight", "2002.0913", "double")),
        ("<A>\t<hasHeight>\t-3.5E+7", (YAGO + "A", YAGO + "hasHeight", "-3.5E+7", "double")),
    ],
)  # fmt: skip
def test_mmkb_numbers_are_doubles_and_dates_are_dates(line: str, expected: tuple[str, str, str, str]) -> None:
    statement = parse_mmkb_line(line, YAGO_BASE)
    head, relation, value, datatype = expected
    assert (statement.head, statement.relation) == (head, relation)
    assert (statement.tail.value, statement.tail.datatype) == (value, XSD + datatype)  # type: ignore[union-attr]


def test_mmkb_images_and_links(tmp_path: Path) -> None:
    content = (
        "/m/01m4kpp\tFBIMG00001\n<http://dbpedia.org/resource/A>\tDBIMG00002\n"
        "/m/01m4kpp <SameAs> <http://dbpedia.org/resource/A> .\n/m/1\tno image\n/m/1\t<x>\tnan\n"
    )
    reading = read(content, tmp_path, kind="mmkb")
    assert [row[1:4] for row in reading.statements] == [
        (IMAGE_INDEX, None, "FBIMG00001"),
        (IMAGE_INDEX, None, "DBIMG00002"),
        (OWL_SAME_AS, "http://dbpedia.org/resource/A", None),
    ]
    assert reading.counts.reasons == {"bad_value": 2}


def test_yago_columns_give_triples_and_qualifiers_of_time(tmp_path: Path) -> None:
    content = (
        "<Nathan_Eccleston>\t<isAffiliatedTo>\t<Charlton_Athletic_F.C.>\n"
        '<James_Tavernier>\t<playsFor>\t<Milton_Keynes_Dons_F.C.>\t<occursSince>\t"2012-##-##"\n'
        '<Star_Trek:_Nemesis>\t<rdfs:label>\t"Star Trek"@eng\n'
        '<A>\t<b>\t<C>\t<occursUntil>\t"2012-03-04"\n<A>\t<b>\t<C>\t<d>\n'
    )
    reading = read(content, tmp_path, kind="yago")
    assert (reading.counts.triples, reading.counts.qualifiers, reading.counts.rejects) == (4, 0, 1)
    assert reading.statements[2][:1] == (YAGO + "Star_Trek:_Nemesis",)
    assert reading.statements[2][3:] == ("Star Trek", None, "eng")
    since, until = reading.qualifiers
    assert statement_of(since)[:3] == (YAGO + "James_Tavernier", YAGO + "playsFor", YAGO + "Milton_Keynes_Dons_F.C.")
    assert (since["qualifier"], since["qualifier_value"]) == (YAGO + "occursSince", "2012")
    assert since["qualifier_datatype"] == XSD + "gYear"
    assert (until["qualifier_value"], until["line"]) == ("2012-03-04", 4)


@pytest.mark.parametrize(
    ("text", "value", "datatype"),
    [("2012-##-##", "2012", "gYear"), ("2012-05-##", "2012-05", "gYearMonth"), ("999-##-##", "0999", "gYear")],
)
def test_open_dates_keep_their_precision(text: str, value: str, datatype: str) -> None:
    statement = parse_yago_columns_line(f'<a>\t<b>\t"{text}"', YAGO_BASE)
    assert (statement.tail.value, statement.tail.datatype) == (value, XSD + datatype)  # type: ignore[union-attr]
    assert date_literal("2012-13-##") is None


def test_another_base_takes_the_place_of_the_kinds_own(tmp_path: Path) -> None:
    reading = read("<A>\t<b>\t<C>\n", tmp_path / "1", kind="yago", base_iri="http://my/")
    assert reading.statements[0][:3] == ("http://my/A", "http://my/b", "http://my/C")
    reading = read("New York\tis in\tU.S.\n", tmp_path / "2", kind="tsv", base_iri="http://my/")
    assert reading.statements[0][:3] == ("http://my/New%20York", "http://my/is%20in", "http://my/U.S.")


def test_tsv_takes_names_iris_and_literals(tmp_path: Path) -> None:
    content = (
        'France\tcapital\tParis\nFrance\tpopulation\t"68000000"^^<http://www.w3.org/2001/XMLSchema#integer>\n'
        "http://a/b\t<http://a/c>\t100%\nonly\ttwo\na\t\tb\n"
    )
    reading = read(content, tmp_path, kind="tsv")
    assert [row[:4] for row in reading.statements] == [
        ("urn:mmkg:France", "urn:mmkg:capital", "urn:mmkg:Paris", None),
        ("urn:mmkg:France", "urn:mmkg:population", None, "68000000"),
        ("http://a/b", "http://a/c", "urn:mmkg:100%25", None),
    ]
    assert reading.counts.reasons == {"columns": 2}


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r<>"), min_size=1).filter(str.strip))
def test_names_become_valid_iris(name: str) -> None:
    iri = named_iri(name.strip(), "http://base/")
    assert repair_iri(iri) == iri


@given(st.sets(st.text(st.sampled_from('ab %#?/é"`25'), min_size=1, max_size=4), min_size=2, max_size=2))
def test_different_names_become_different_iris(names: set[str]) -> None:
    assert len({named_iri(name, "http://base/") for name in names}) == 2


def test_short_names_become_full_ones() -> None:
    assert full_iri("/m/027rn", "") == FREEBASE + "m.027rn"
    assert full_iri("<http://a/b c>", "") == "http://a/b%20c"
    assert full_iri("<Rock_'n'_Roll>", YAGO) == YAGO + "Rock_'n'_Roll"
