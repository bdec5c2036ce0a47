"""N-Triples: no line is lost, and the compiled way gives what pyoxigraph gives."""

import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmkg.sources import tokenizer
from mmkg.sources.base import MAX_IRI_BYTES, MAX_RAW_BYTES, REJECT_REASONS, LineRejected
from mmkg.sources.lines_ntriples import parse_ntriples
from mmkg.sources.statements import parse_statement, repair_iri, scoped_names
from mmkg.terms import XSD, spell_literal, spell_node
from tests.sources.dumps import CONTEXT, FRANCE, block_of, read, statement_of, strict_statements

GOOD = '<http://a/s> <http://a/p> "o" .\n'
ELEVEN_LINES = (
    "<http://a/1> <http://a/p> <http://a/o> .\n"
    '<http://a/2> <http://a/p> "plain" .\n'
    '<http://a/3> <http://a/p> "not closed .\n'  # reject
    '<http://a/4> <http://a/p> "text"@en .\n'
    '<http://a/5> <http://a/p> <http://a/"quoted" `name`> .\n'  # repaired
    "<http://a/6> <http://a/p> <http://a/o>\n"  # reject: no dot
    '<http://a/7> <http://a/p> "tag that is no BCP 47"@e .\n'
    '<http://a/8> <http://a/p> "bad \\escape" .\n'  # reject
    '<http://a/9> <http://a/p> "1"^^<http://www.w3.org/2001/XMLSchema#integer> .\n'
    "this is no triple\n"  # reject
    "<http://a/11> <http://a/p> _:b .\n"
)


def test_eleven_lines_with_four_bad_ones_give_seven_triples_and_four_rejects(tmp_path: Path) -> None:
    reading = read(ELEVEN_LINES, tmp_path)
    assert [row["line"] for row in reading.triples] == [1, 2, 4, 5, 7, 9, 11]
    assert [row["line"] for row in reading.rejects] == [3, 6, 8, 10]
    assert [row["reason"] for row in reading.rejects] == ["unterminated", "unterminated", "bad_escape", "syntax"]
    assert [row["line"] for row in reading.triples if row["repaired"]] == [5]
    assert reading.triples[3]["tail"] == "http://a/%22quoted%22%20%60name%60"
    assert reading.triples[4]["language"] == "e"


def test_a_reject_says_where_it_stood_and_what_it_was(tmp_path: Path) -> None:
    content = ELEVEN_LINES.encode()
    for reject in read(ELEVEN_LINES, tmp_path).rejects:
        start = reject["byte_offset"]
        assert content[start : start + reject["raw_bytes"]] == reject["raw"] == content.split(b"\n")[reject["line"] - 1]
        assert reject["reason"] in REJECT_REASONS
        assert reject["detail"]


@pytest.mark.parametrize("bad", ['<http://a/s> <http://a/p> "never closed', "garbage", "\xff" * 3])
def test_one_bad_line_in_a_thousand_costs_that_line_alone(tmp_path: Path, bad: str) -> None:
    lines = [f'<http://a/{n}> <http://a/p> "{n}" .\n' for n in range(1000)]
    lines[500] = bad + "\n"
    reading = read("".join(lines), tmp_path)
    assert (reading.counts.triples, reading.counts.rejects) == (999, 1)
    assert [row["value"] for row in reading.triples] == [str(n) for n in range(1000) if n != 500]
    assert reading.rejects[0]["line"] == 501


def test_comments_and_blank_lines_are_counted(tmp_path: Path) -> None:
    counts = read(f"# one\n\n   \t\n{GOOD}  # two\n{GOOD.strip()} # after the dot\n", tmp_path).counts
    assert (counts.lines, counts.triples, counts.comments, counts.blank) == (6, 2, 2, 2)


def test_a_datatype_of_string_is_none_and_languages_are_lower_case(tmp_path: Path) -> None:
    reading = read(f'<a:s> <a:p> "x"^^<{XSD}string> .\n<a:s> <a:p> "x"@EN-gb .\n<a:s> <a:p> "x"@De-1996 .\n', tmp_path)
    assert [(row["datatype"], row["language"]) for row in reading.triples] == [
        (None, None),
        (None, "en-gb"),
        (None, "de-1996"),
    ]


def test_blank_nodes_of_two_dumps_differ_and_those_of_an_export_stay(tmp_path: Path) -> None:
    one = read("_:b <a:p> _:b .\n", tmp_path / "1", name="one.nt").triples[0]
    two = read("_:b <a:p> _:b .\n", tmp_path / "2", name="two.nt").triples[0]
    assert one["head"] == one["tail"] != two["head"]
    again = read(f"{one['head']} <a:p> {two['head']} .\n", tmp_path / "3", name="export.nt").triples[0]
    assert (again["head"], again["tail"]) == (one["head"], two["head"])


def test_blank_nodes_are_named_alike_on_the_fast_and_the_slow_way(tmp_path: Path) -> None:
    reading = read('_:b <a:p> "fast" .\n_:b <a:"p"> "slow" .\n_:m01234567xb <a:"p"> "slow" .\n', tmp_path)
    assert reading.triples[0]["head"] == reading.triples[1]["head"]
    assert reading.triples[2]["head"] == "_:m01234567xb"


def test_a_statement_about_a_quoted_one_is_a_qualifier(tmp_path: Path) -> None:
    reading = read(GOOD + '<< <a:s> <a:p> "o"@en >> <a:since> "1977" .\n', tmp_path)
    assert (reading.counts.triples, reading.counts.qualifiers) == (1, 1)
    row = reading.qualifiers[0]
    assert statement_of(row) == ("a:s", "a:p", None, "o", None, "en")
    assert (row["qualifier"], row["qualifier_value"], row["line"]) == ("a:since", "1977", 2)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'<a:s> <a:p> "caf\xe9" .', "not_utf8"),
        (b"<s> <a:p> <a:o> .", "relative_iri"),
        (b"<http://a:port/> <a:p> <a:o> .", "invalid_iri"),
        (b'<a:s> <a:p> "x', "unterminated"),
        (b'<a:s> <a:p> "\\x" .', "bad_escape"),
        (b'<a:s> <a:p> "x"@en_US .', "syntax"),
        (b"<a:s> <a:p> <a:o> . <a:s> <a:p> <a:o> .", "several_statements"),
        (b"<a:s> <a:p> <a:o> .\r<a:s> <a:p> <a:o> .", "several_statements"),
        (b"<a:s> <a:p> <<( <a:s> <a:p> <a:o> )>> .", "quoted_triple"),
        (b"<a:s> <a:p> 5 .", "syntax"),
    ],
)
def test_a_bad_line_is_rejected_with_its_reason(tmp_path: Path, raw: bytes, reason: str) -> None:
    reading = read(GOOD.encode() + raw + b"\n" + GOOD.encode(), tmp_path)
    assert [row["reason"] for row in reading.rejects] == [reason]
    assert reading.counts.triples == 2
    assert reading.counts.reasons == {reason: 1}


@pytest.mark.parametrize("form", ["ntriples", "slow", "turtle lines", "turtle", "tsv", "quoted"])
@pytest.mark.parametrize("letter", ["x", "é"])
def test_an_iri_that_no_index_takes_is_rejected_in_every_form(tmp_path: Path, form: str, letter: str) -> None:
    fits = "http://a/" + letter * ((MAX_IRI_BYTES - 9) // len(letter.encode()))
    lines = []
    for iri in (fits, fits + letter):
        lines += {
            "ntriples": [f"<{iri}> <a:p> <a:o> .", f"<a:s> <{iri}> <a:o> .", f"<a:s> <a:p> <{iri}> ."],
            "slow": [f'<{iri}> <a:"p"> <a:o> .', f'<a:s> <{iri}> <a:"o"> .', f'<a:"s"> <a:p> <{iri}> .'],
            "quoted": [f"<< <a:s> <a:p> <{iri}> >> <a:since> <a:o> .", f"<< <a:s> <a:p> <a:o> >> <{iri}> <a:o> ."],
            "turtle lines": [f"y:s y:p <{iri}> .", f"<{iri}> y:p y:o .", f"y:s <{iri}> y:o ."],
            "turtle": [f"y:s y:p y:o , <{iri}> .", f"<{iri}> y:p y:o ; y:q 1 ."],
            "tsv": [f"{iri}\ta:p\ta:o", f"a:s\ta:p\t{iri}"],
        }[form]
    head = "@prefix y: <http://y/> .\n" if form.startswith("turtle") else ""
    reading = read(head + "\n".join(lines) + "\n", tmp_path, kind="tsv" if form == "tsv" else "ntriples")
    rejects = 3 if form == "turtle" else len(lines) // 2
    assert reading.counts.reasons == {"long_iri": rejects}
    assert f"expected at most {MAX_IRI_BYTES:,}" in reading.rejects[0]["detail"]
    assert max(len(row["detail"]) for row in reading.rejects) < 1_000


def test_line_ends_and_marks_of_other_systems_change_nothing(tmp_path: Path) -> None:
    plain = read(GOOD * 3, tmp_path / "plain")
    for number, content in enumerate((GOOD.replace("\n", "\r\n") * 3, "\ufeff" + GOOD * 3, (GOOD * 3).rstrip("\n"))):
        assert read(content, tmp_path / str(number)).statements == plain.statements


def test_byte_offsets_count_the_byte_order_mark(tmp_path: Path) -> None:
    content = "\ufeff" + GOOD + "bad\r\n" + "worse"
    offsets = [row["byte_offset"] for row in read(content, tmp_path).rejects]
    assert offsets == [content.encode().index(b"bad"), content.encode().index(b"worse")]


def test_a_nul_byte_in_a_literal_stays(tmp_path: Path) -> None:
    assert read('<a:s> <a:p> "x\0y" .\n', tmp_path).triples[0]["value"] == "x\0y"


def test_a_long_reject_is_cut(tmp_path: Path) -> None:
    reject = read(GOOD + "x" * 200_000 + "\n", tmp_path).rejects[0]
    assert (len(reject["raw"]), reject["raw_bytes"]) == (MAX_RAW_BYTES, 200_000)


@pytest.mark.parametrize("language", ["en--ltr", "ar--rtl"])
def test_a_base_direction_stays_with_its_language(tmp_path: Path, language: str) -> None:
    assert read(f'<a:s> <a:p> "x"@{language} .\n', tmp_path).triples[0]["language"] == language


# --- the compiled way against pyoxigraph ----------------------------------------------------------------------------

_IRI = st.one_of(
    st.sampled_from(
        ["http://a/b", "urn:x", "http://é.org:80/ü?q=1&r#f", "http://a/%C3%A9", "a:", "x://", "http://a?b#c?/"]
    ),
    st.text(st.sampled_from('ab:/?#%20[]@!.é\u00a0\ue000\ufdd0\U0001f600\U000e0001-~_<"`{ \\u'), max_size=12).map(
        "http://".__add__
    ),
    st.text(st.sampled_from("ab:/?#%5é\U0001fffe+-."), max_size=8),
)
_NODE = st.one_of(_IRI.map(lambda iri: f"<{iri}>"), st.text(st.sampled_from("ab1-_.:é·"), max_size=5).map("_:".__add__))
_ESCAPES = [r"\n", r"\t", r"\"", r"\\", r"\'", r"\b", r"\f", r"\r", r"\u00e9", r"\U0001F600", r"\uD800", r"\x", r"\u12"]
_STRING = st.lists(
    st.one_of(
        st.characters(),
        st.sampled_from(_ESCAPES),
    ),
    max_size=8,
).map("".join)  # fmt: skip
_TAG = st.sampled_from(
    [
        "en",
        "EN-us",
        "zh-Hant-TW",
        "es-419",
        "e",
        "english",
        "a1",
        "en-",
        "en--ltr",
        "x-y",
        "sl-rozaj",
        "de-1996",
        "zh-min-nan",
        "i-klingon",
        "abc-def-ghi",
    ]
)
_SUFFIX = st.one_of(
    st.just(""),
    _TAG.map("@".__add__),
    _IRI.map(lambda iri: f"^^<{iri}>"),
    st.sampled_from(["string", "integer", "date"]).map(lambda name: f"^^<{XSD}{name}>"),
    st.sampled_from(["langString", "dirLangString", "HTML"]).map(
        lambda name: f"^^<http://www.w3.org/1999/02/22-rdf-syntax-ns#{name}>"
    ),
)
_LITERAL = st.tuples(_STRING, _SUFFIX).map(lambda parts: f'"{parts[0]}"{parts[1]}')
_SPACE = st.sampled_from([" ", "\t", "", "  ", "\u00a0", "\x0c", "\r"])
_SPACES = st.lists(_SPACE, min_size=4, max_size=4) | st.just([" ", " ", " ", ""])
_LINE = st.builds(
    lambda head, relation, tail, s, end: f"{head}{s[0]}<{relation}>{s[1]}{tail}{s[2]}{end}{s[3]}",
    _NODE, _IRI, _NODE | _LITERAL, _SPACES, st.sampled_from([".", ". # comment", ".#é", ". x", "", "..", ". \r# x"]),
)  # fmt: skip


def _check_against_pyoxigraph(line: bytes) -> bool:
    """Whether the tokenizer accepted a line; if so, pyoxigraph must read the same triple."""
    data = line.replace(b"\n", b"") + b"\n"
    rows = np.zeros((tokenizer.FIELDS, 1), dtype=np.int32)
    assert tokenizer.tokenize(np.frombuffer(data, dtype=np.uint8), rows) == len(data)
    status = rows[tokenizer.STATUS, 0]
    if status == tokenizer.TRIPLE:
        parsed = parse_ntriples(block_of(data), CONTEXT)
        ours = [statement_of(row) for row in parsed.tables["triples_raw"].to_pylist()]
        assert ours == strict_statements(data, CONTEXT.scope)
    elif status in (tokenizer.BLANK, tokenizer.COMMENT):
        assert strict_statements(data.decode(errors="replace"), CONTEXT.scope) == []
    return bool(status == tokenizer.TRIPLE)


@given(_LINE)
@example('<http://a/s>\t<http://a/p>\t"a\\u00e9\\n"@en-us\t.')
@example("_:a <a:p> _:b .\r")
@example("# comment\r<a:s> <a:p> <a:o> .")
def test_what_the_tokenizer_accepts_pyoxigraph_reads_the_same(line: str) -> None:
    _check_against_pyoxigraph(line.encode("utf-8", "surrogatepass"))


_SEEDS = [
    b'<http://rdf.freebase.com/ns/m.0abc>\t<http://a/rdf-schema#label>\t"Caf\xc3\xa9 \\"x\\" \\u00e9"@pt-br\t.',
    b"_:a1 <http://a/p?q=1#f> <http://\xc3\xa9.org:80/%20/x> . # comment",
    b'<urn:x> <a:b> "1"^^<http://www.w3.org/2001/XMLSchema#integer> .',
    b'<a:b> <a:b> "x"^^<http://www.w3.org/2001/XMLSchema#string>.\r',
    b'<a:b><a:b>"\xf0\x9f\x98\x80\\U0001F600".',
]


@given(
    st.sampled_from(_SEEDS),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 2), st.integers(0, 255)), min_size=1, max_size=3),
)
def test_mutated_lines_are_read_as_pyoxigraph_does_or_left_to_it(
    seed: bytes, changes: list[tuple[int, int, int]]
) -> None:
    line = bytearray(seed)
    for place, kind, byte in changes:
        place %= len(line) + 1
        if kind == 0:
            line[place : place + 1] = bytes([byte])
        elif kind == 1:
            line[place:place] = bytes([byte])
        else:
            del line[place : place + 1]
    _check_against_pyoxigraph(bytes(line))


@pytest.mark.parametrize("seed", _SEEDS)
def test_every_single_byte_change_of_plain_lines_agrees_with_pyoxigraph(seed: bytes) -> None:
    assert _check_against_pyoxigraph(seed)
    for place in range(len(seed)):
        for byte in (0, 9, 13, 32, 34, 35, 37, 45, 46, 58, 60, 62, 64, 92, 94, 0x7F, 0x80, 0xC0, 0xE2, 0xF5):
            _check_against_pyoxigraph(seed[:place] + bytes([byte]) + seed[place + 1 :])
        _check_against_pyoxigraph(seed[:place])
        _check_against_pyoxigraph(seed[:place] + seed[place + 1 :])


def test_plain_lines_are_not_left_to_the_slow_way() -> None:
    assert _check_against_pyoxigraph(FRANCE.encode())
    assert all(_check_against_pyoxigraph(seed) for seed in _SEEDS)


@given(_LINE, _LINE, _LINE)
def test_a_line_is_read_the_same_alone_and_among_others(first: str, second: str, third: str) -> None:
    lines = [line.replace("\n", "").encode("utf-8", "surrogatepass") for line in (first, second, third)]
    together = parse_ntriples(block_of(b"\n".join(lines)), CONTEXT)
    alone = [parse_ntriples(block_of(line + b"\n"), CONTEXT) for line in lines]
    for table in ("triples_raw", "rejects"):
        rows = together.tables[table].to_pylist() if table in together.tables else []
        single = [row for parsed in alone if table in parsed.tables for row in parsed.tables[table].to_pylist()]
        ignored = ("line", "byte_offset")
        assert [{k: v for k, v in row.items() if k not in ignored} for row in rows] == [
            {k: v for k, v in row.items() if k not in ignored} for row in single
        ]
    assert together.counts.accounted == together.counts.lines == 3


@given(
    st.sampled_from(["http://a/s", "_:b", "http://é/x"]),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.sampled_from([(None, None), (None, "en"), (XSD + "date", None), (None, "zh-hant")]),
)
def test_what_is_spelled_is_read_again(head: str, value: str, kind: tuple[str | None, str | None]) -> None:
    datatype, language = kind
    line = f"{spell_node(head)} <a:p> {spell_literal(value, datatype, language)} .\n"
    row = parse_ntriples(block_of(line.encode()), CONTEXT).tables["triples_raw"].to_pylist()[0]
    assert statement_of(row)[1:] == ("a:p", None, value, datatype, language)
    assert not row["repaired"]


@given(_IRI)
def test_a_repaired_iri_is_valid_or_stays_refused_and_is_repaired_once(iri: str) -> None:
    repaired = repair_iri(iri)
    assert repair_iri(repaired) == repaired
    try:
        strict_statements(f"<{iri}> <a:p> <a:o> .", "m00000000")
    except (SyntaxError, UnicodeEncodeError):
        return
    if "\\" not in iri:
        assert repaired == iri


# --- W3C ------------------------------------------------------------------------------------------------------------

_REPAIRABLE = {f"nt-syntax-bad-uri-0{number}.nt" for number in range(1, 6)}  # forbidden characters inside an IRI


@pytest.mark.shared
def test_w3c_suite_41_positive_and_29_negative(shared_data: Path, tmp_path: Path) -> None:
    with tarfile.open(shared_data / "conformance" / "w3c-rdf11-n-triples.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    manifest = next(tmp_path.rglob("manifest.ttl"))
    files = [manifest.parent / name for name in sorted(set(re.findall(r"<([^>]+\.nt)>", manifest.read_text())))]
    negative = [file for file in files if "-bad-" in file.name]
    positive = [file for file in files if "-bad-" not in file.name]
    assert (len(positive), len(negative)) == (41, 29)
    for file in positive:
        reading = read(file.read_bytes(), tmp_path / "positive" / file.stem)
        assert reading.statements == strict_statements(file.read_bytes(), CONTEXT.scope), file.name
        assert reading.counts.rejects == 0
    for file in negative:
        counts = parse_ntriples(block_of(file.read_bytes()), CONTEXT).counts  # some would pass as a document of Turtle
        assert counts.triples == counts.repaired == (file.name in _REPAIRABLE), file.name
        assert counts.rejects == (file.name not in _REPAIRABLE)
        with pytest.raises(LineRejected):
            for line in file.read_text().splitlines():
                if not line.startswith("#"):
                    parse_statement(line, scoped_names("m00000000"), repair=False)
