"""What every kind of source must do, whatever its form. A new kind is one entry in `DUMPS`."""

import gzip
from pathlib import Path

import pytest

from mmkg.sources import LINKS, REJECT_REASONS, SOURCES
from mmkg.sources.statements import repair_iri
from tests.sources.dumps import COMPRESSIONS, read, statement_of

OWL = "http://www.w3.org/2002/07/owl#"
# kind: good lines, and lines of which none is a triple
DUMPS = {
    "freebase": (
        ["/m/027rn\t/location/country/form_of_government\t/m/06cx9", "/m/06rf7\tSchleswig-Holstein"],
        ["/m/1\t", "one column", "/m/1\t/a\t/b\t/c\t/d", "x\ty\tz"],
    ),
    "dbpedia": (
        ['<http://dbpedia.org/resource/Andorra> <http://a/p> "Andorra"@en .', "<a:b> <c:d> _:e ."],
        ["<a:b> <c:d> .", '<a:b> <c:d> "x', "a\tb\tc"],
    ),
    "yago": (
        ["<A>\t<playsFor>\t<B>", '<A>\t<playsFor>\t<B>\t<occursSince>\t"2012-##-##"', '<A>\t<p>\t"x"@en'],
        ["<A>\t<b>", "A\tb\tc", "<A>\t<b>\t<C>\t<d>"],
    ),
    "mmkb": (
        ["/m/06rf7\t<http://a/longitude>\t9.7", "<A>\t<wasBornOnDate>\t2002.0913", "/m/01\tFBIMG00001"],
        ["/m/06rf7\t<http://a/b>\tmany", "x\ty\t1", "/m/1 <SameAs> nothing ."],
    ),
    "ntriples": (['<a:b> <c:d> "e" .', "<< <a:b> <c:d> <e:f> >> <g:h> <i:j> ."], ["<a> <c:d> <e:f> .", "bad"]),
    "sparql": (
        ['<a:b> <c:d> "e"@en .', "<http://a/\\u00E9> <c:d> <e:f> ."],
        ["<a:b> <c:d> .", '<a:b> <c:d> "\\uD800" .'],
    ),
    "tsv": (["France\tcapital\tParis", 'France\tname\t"France"@en'], ["France\tcapital", "a\tb\tc\td", 'a\tb\t"c']),
}  # fmt: skip
LINK_DUMPS = {
    "sameas": ([f"<http://a/x> <{OWL}sameAs> <http://b/x> ."], ["<a:b> <c:d> <e:f> .", f'<a:b> <{OWL}sameAs> "x" .']),
    "mmkb": (["/m/01m4kpp <SameAs> <http://dbpedia.org/resource/A> ."], ["/m/01\tFBIMG00001", "<a:b> <c:d> <e:f> ."]),
}
CASES = [pytest.param(kind, False, *lines, id=kind) for kind, lines in DUMPS.items()] + [
    pytest.param(kind, True, *lines, id=f"links-{kind}") for kind, lines in LINK_DUMPS.items()
]
every_kind = pytest.mark.parametrize(("kind", "links", "good", "bad"), CASES)


def test_every_kind_has_an_entry() -> None:
    assert set(DUMPS) == set(SOURCES)
    assert set(LINK_DUMPS) == set(LINKS)


@pytest.mark.parametrize("kind", SOURCES)
def test_a_kind_introduces_itself(kind: str) -> None:
    source = SOURCES[kind]
    assert source.kind == kind
    assert source.info.title
    assert source.info.licence
    assert source.info.expects


@pytest.mark.parametrize("kind", SOURCES)
def test_the_example_of_a_kind_is_a_line_of_it(tmp_path: Path, kind: str) -> None:
    example = SOURCES[kind].info.example
    prefixes = "" if kind != "yago" else "".join(
        f"@prefix {p}: <http://{p}/> .\n" for p in ("yago", "rdf")
    )  # fmt: skip
    assert read(prefixes + example + "\n", tmp_path, kind=kind).counts.triples == 1


@every_kind
def test_good_lines_are_statements_and_bad_lines_rejects(
    tmp_path: Path, kind: str, links: bool, good: list[str], bad: list[str]
) -> None:
    reading = read("\n".join(good * 10 + bad), tmp_path, kind=kind, links=links)
    counts = reading.counts
    assert (counts.triples + counts.qualifiers, counts.rejects) == (10 * len(good), len(bad))
    assert counts.accounted == counts.lines == 10 * len(good) + len(bad)
    assert [row["raw"].decode() for row in reading.rejects] == bad
    assert [row["line"] for row in reading.rejects] == [10 * len(good) + n + 1 for n in range(len(bad))]
    assert {row["reason"] for row in reading.rejects} <= set(REJECT_REASONS)


@every_kind
def test_order_and_provenance(tmp_path: Path, kind: str, links: bool, good: list[str], bad: list[str]) -> None:
    reading = read("\n".join(good * 10 + bad), tmp_path, kind=kind, links=links)
    rows = reading.triples + reading.qualifiers
    name = "links" if links else kind
    assert {row["source"] for row in rows} == {name}
    assert {row["dump"] for row in rows + reading.rejects} == {"dump.nt"}
    for table in (reading.triples, reading.qualifiers, reading.rejects):
        assert [row["line"] for row in table] == sorted(row["line"] for row in table)


@every_kind
def test_iris_are_absolute_and_valid(tmp_path: Path, kind: str, links: bool, good: list[str], bad: list[str]) -> None:
    for row in read("\n".join(good * 10), tmp_path, kind=kind, links=links).triples:
        for node in (row["head"], row["relation"], row["tail"]):
            assert node is None or node.startswith("_:") or (":" in node and repair_iri(node) == node)
        assert (row["tail"] is None) != (row["value"] is None)
        assert row["datatype"] is None or row["language"] is None


@every_kind
def test_compression_line_ends_blocks_and_workers_change_no_row(
    tmp_path: Path, kind: str, links: bool, good: list[str], bad: list[str]
) -> None:
    lines = (good + bad) * 10
    content = "\n".join(lines).encode()
    expected = read(content, tmp_path / "0", kind=kind, links=links)
    variants = {
        "crlf": (content.replace(b"\n", b"\r\n"), {}),
        "bom": (b"\xef\xbb\xbf" + content, {}),
        "end": (content + b"\n", {}),
        "blocks": (content, {"block_bytes": 200}),
        "members": (gzip.compress(content[:100]) + gzip.compress(content[100:]), {}),
        **{name: (compress(content), {}) for name, compress in COMPRESSIONS.items()},
    }
    for name, (variant, settings) in variants.items():
        reading = read(variant, tmp_path / name, kind=kind, links=links, **settings)
        assert reading.triples == expected.triples, name
        assert [statement_of(row) for row in reading.qualifiers] == [statement_of(row) for row in expected.qualifiers]
        assert [row["raw"] for row in reading.rejects] == [row["raw"] for row in expected.rejects], name
