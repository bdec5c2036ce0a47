"""Lists of addresses: every spelling of an id, every bad line with its number."""

import bz2
import gzip
from pathlib import Path

from mmkg.config import ImagesConfig
from mmkg.images.url_lists import ListedUrl, read_url_list
from mmkg.terms import DBPEDIA, FREEBASE
from tests.images.named_graph import NamedGraph, run_discovery

GRIFFITH = FREEBASE + "m.01m4kpp"
LINES = f"""\
m.01m4kpp\thttp://example.org/1.jpg
/m/01m4kpp\thttp://example.org/2.jpg

<{DBPEDIA}Andy_Griffith>\t<http://example.org/3.jpg>
# a comment
{DBPEDIA}Andy_Griffith\thttp://example.org/4.jpg
<Andy_Griffith>\thttp://example.org/5.jpg
"""


def test_each_spelling_of_an_id_is_read(tmp_path: Path) -> None:
    (tmp_path / "urls.txt").write_text(LINES, encoding="utf-8")
    lines = list(read_url_list(tmp_path / "urls.txt", "urls.txt"))
    assert [line.iri for line in lines] == [
        GRIFFITH,
        GRIFFITH,
        DBPEDIA + "Andy_Griffith",
        DBPEDIA + "Andy_Griffith",
        "http://yago-knowledge.org/resource/Andy_Griffith",
    ]
    assert [line.url for line in lines] == [f"http://example.org/{number}.jpg" for number in range(1, 6)]
    assert [line.place for line in lines] == [f"urls.txt:{number}" for number in (1, 2, 4, 6, 7)]


def test_compression_is_seen_by_content(tmp_path: Path) -> None:
    content = LINES.encode()
    found = []
    for name, data in {"a.txt": content, "b.txt": gzip.compress(content), "c.txt": bz2.compress(content)}.items():
        (tmp_path / name).write_bytes(data)
        found.append(list(read_url_list(tmp_path / name, "urls")))
    assert found[0] == found[1] == found[2]


def test_a_bad_line_is_told_with_its_number(tmp_path: Path) -> None:
    lines = [
        "m.01m4kpp",
        "m.01m4kpp\t",
        "a name\thttp://example.org/a.jpg",
        "m.01m4kpp\thttp://a.org/b.jpg\tmore",
        "\xff",
    ]
    (tmp_path / "urls.txt").write_bytes("\r\n".join(lines).encode("latin-1"))
    found = list(read_url_list(tmp_path / "urls.txt", "urls.txt"))
    assert [line.iri for line in found] == [None] * 5
    assert found[2] == ListedUrl("urls.txt:3", None, lines[2])


def test_lists_become_candidates_in_their_order(tmp_path: Path) -> None:
    first, second = tmp_path / "first" / "urls.txt", tmp_path / "second" / "urls.txt"
    for path, lines in {
        first: [
            "m.01m4kpp\thttp://z.org/1.jpg",
            "m.01m4kpp\tfile:///etc/passwd",
            "m.0none\thttp://z.org/2.jpg",
            "oops",
        ],
        second: ["m.01m4kpp\thttp://a.org/1.jpg", "m.01m4kpp\thttp://z.org/1.jpg"],
    }.items():
        path.parent.mkdir()
        path.write_text("\n".join(lines), encoding="utf-8")
    images = ImagesConfig(url_lists=(str(first), str(second)))
    found = run_discovery(images, NamedGraph({GRIFFITH: "Andy Griffith"}), tmp_path)
    assert [(row["url"], row["detail"]) for row in found.candidates] == [
        ("http://z.org/1.jpg", "first/urls.txt:1"),
        ("http://a.org/1.jpg", "second/urls.txt:1"),
    ]
    assert [(row["place"], row["reason"]) for row in found.unmatched] == [
        ("first/urls.txt:2", "bad_url"),
        ("first/urls.txt:3", "no_entity"),
        ("first/urls.txt:4", "bad_line"),
    ]
