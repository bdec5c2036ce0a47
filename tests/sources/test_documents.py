"""Turtle, RDF/XML and N-Quads, and which of them a dump is."""

from pathlib import Path

import pytest

from mmkg.errors import DumpError
from mmkg.sources.lines_ntriples import parse_ntriples
from mmkg.sources.sniff import N_QUADS, NTRIPLES, RDF_XML, TURTLE, TURTLE_LINES, choose_rdf_form
from mmkg.terms import XSD
from tests.sources.dumps import CONTEXT, FRANCE, block_of, read, statement_of

PREFIXES = "@prefix y: <http://y/> .\n@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .\n"
TURTLE_TEXT = PREFIXES + (
    "y:a y:b y:c ;\n"
    "    y:d [ y:e 1 ] , _:own .\n"
    "# a comment\n"
    'y:q y:b """x\ny"""@EN .\n'
    '<< y:a y:b y:c >> y:since "1977"^^xsd:gYear .'
)
XML_TEXT = (
    '<?xml version="1.0"?>\n<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:e="http://e/">\n'
    '<rdf:Description rdf:about="http://a/b">\n<e:p>x</e:p>\n</rdf:Description>\n</rdf:RDF>\n'
)
QUADS_TEXT = "<a:b> <b:c> <c:d> <g:h> .\n<a:b> <b:c> <c:e> .\n"
YAGO_LINES = PREFIXES + (
    "y:Elvis\ty:type\ty:Singer\t.\n"
    '<<\ty:Elvis\ty:spouse\ty:Priscilla\t>>\ty:since\t"1967"^^xsd:gYear\t.\n'
    'y:Elvis\ty:name\t"Elvis"@en\t.\n'
)


def test_a_turtle_document_gives_statements_with_the_lines_they_end_on(tmp_path: Path) -> None:
    reading = read(TURTLE_TEXT, tmp_path)
    counts = reading.counts
    assert (counts.form, counts.lines, counts.triples, counts.qualifiers) == ("document", 8, 5, 1)
    scope = CONTEXT.scope
    assert [(statement_of(row), row["line"]) for row in reading.triples] == [
        (("http://y/a", "http://y/b", "http://y/c", None, None, None), 3),
        ((f"_:{scope}y0", "http://y/e", None, "1", XSD + "integer", None), 4),
        (("http://y/a", "http://y/d", f"_:{scope}y0", None, None, None), 4),
        (("http://y/a", "http://y/d", f"_:{scope}xown", None, None, None), 4),
        (("http://y/q", "http://y/b", None, "x\ny", None, "en"), 7),
    ]
    (row,) = reading.qualifiers
    assert statement_of(row)[:3] == ("http://y/a", "http://y/b", "http://y/c")
    assert (row["qualifier"], row["qualifier_value"], row["line"]) == ("http://y/since", "1977", 8)


def test_a_document_gives_the_same_bytes_twice(tmp_path: Path) -> None:
    assert read(TURTLE_TEXT, tmp_path / "1").content == read(TURTLE_TEXT, tmp_path / "2").content


def test_rdf_xml_and_quads_are_read_and_graph_names_dropped_with_a_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert read(XML_TEXT, tmp_path / "1").statements == [("http://a/b", "http://e/p", None, "x", None, None)]
    assert [row[2] for row in read(QUADS_TEXT, tmp_path / "2").statements] == ["c:d", "c:e"]
    assert "1 statements stood in named graphs" in caplog.text


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (PREFIXES + "y:a y:b y:c .\ny:a y:b\n  y:c y:d .\n", r"dump\.nt:5:\d+: not Turtle"),
        (XML_TEXT.replace("</e:p>", ""), r"dump\.nt:\d+:\d+: not RDF/XML"),
    ],
)
def test_a_syntax_error_in_a_document_names_line_and_column(tmp_path: Path, content: str, where: str) -> None:
    with pytest.raises(DumpError, match=where):
        read(content, tmp_path)
    assert not list((tmp_path / "tables").rglob("*.parquet*"))


def test_the_content_decides_the_syntax_not_the_name() -> None:
    def form(text: str) -> object:
        return choose_rdf_form(text.encode(), "")

    assert form(FRANCE * 5) == form(FRANCE + "bad\nworse\n") == form("") == form("bad\nworse\n") == NTRIPLES
    assert form(TURTLE_TEXT) == form("PREFIX y: <http://y/>\ny:a y:b y:c , y:d .\n") == TURTLE
    assert form("<a:b> a <c:d> ;\n <e:f> 1 .\n") == TURTLE
    assert form(YAGO_LINES) == TURTLE_LINES
    assert form(XML_TEXT) == RDF_XML
    assert form(QUADS_TEXT) == N_QUADS


def test_turtle_lines_are_read_in_blocks_behind_their_prefixes(tmp_path: Path) -> None:
    whole = read(YAGO_LINES * 20, tmp_path / "1", kind="yago")
    counts = whole.counts
    assert (counts.form, counts.triples, counts.qualifiers, counts.comments) == ("lines", 40, 20, 40)
    cut = read(YAGO_LINES * 20, tmp_path / "2", kind="yago", block_bytes=150)
    two = read(YAGO_LINES * 20, tmp_path / "3", kind="yago", block_bytes=150, workers=2)
    assert (cut.triples, cut.qualifiers) == (whole.triples, whole.qualifiers)
    assert cut.content == two.content
    assert statement_of(whole.triples[0])[:3] == ("http://y/Elvis", "http://y/type", "http://y/Singer")
    assert (whole.qualifiers[0]["qualifier_value"], whole.qualifiers[0]["line"]) == ("1967", 4)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ('y:Elvis\ty:name\t"not closed\t.', "syntax unterminated"),
        ("y:Elvis\tunknown:name\ty:x\t.", "syntax"),
        ("y:Elvis\ty:name\ty:x", "unterminated"),
        ("y:Elvis\ty:name\ty:x , y:z\t.", "several_statements"),
        ("y:Elvis\ty:name\t[ y:a 1 ]\t.", "several_statements"),
    ],
)
def test_one_bad_turtle_line_costs_that_line_alone(tmp_path: Path, bad: str, reason: str) -> None:
    lines = [f"y:{n}\ty:p\ty:o\t.\n" for n in range(100)]
    lines[50] = bad + "\n"
    reading = read(PREFIXES + "".join(lines), tmp_path, kind="yago")
    assert (reading.counts.triples, reading.counts.rejects) == (99, 1)
    assert [row["head"] for row in reading.triples] == [f"http://y/{n}" for n in range(100) if n != 50]
    assert reading.rejects[0]["line"] == 53
    assert reading.rejects[0]["reason"] in reason.split()


def test_anonymous_blank_nodes_of_turtle_lines_are_the_same_on_every_run(tmp_path: Path) -> None:
    content = PREFIXES + "[]\ty:p\ty:o\t.\n" * 30
    one, two = (read(content, tmp_path / str(n), kind="yago", block_bytes=100) for n in range(2))
    assert one.content == two.content
    assert len({row["head"] for row in one.triples}) == 30


def test_labels_of_turtle_lines_that_look_random_are_one_node_in_all_blocks(tmp_path: Path) -> None:
    content = PREFIXES + "_:d489315e03cd3df221785d083ede5e3a\ty:p\ty:o\t.\n" * 30
    assert len({row["head"] for row in read(content, tmp_path, kind="yago", block_bytes=100).triples}) == 1


def test_a_block_of_ntriples_is_the_same_as_its_turtle(tmp_path: Path) -> None:
    lines = '<http://y/a> <http://y/b> "x\\n"@en .\n<http://y/a> <http://y/b> <http://y/c> .\n'
    document = read(PREFIXES + 'y:a y:b "x\\n"@en ,\n y:c .\n', tmp_path)
    block = parse_ntriples(block_of(lines.encode()), CONTEXT).tables["triples_raw"].to_pylist()
    assert document.statements == [statement_of(row) for row in block]
