"""Folders of pictures: their files, mapping files of each form, and the way from an address back to a path."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from mmkg.config import ImagesConfig, PictureFolderConfig
from mmkg.errors import ConfigError, ImageError
from mmkg.images.folders import NamedPicture, find_file, list_pictures, read_folder, read_mapping
from mmkg.images.graph_view import as_iri
from tests.images.named_graph import put_files

FLAGS = ("ad.png", "ae.png")


def _read(folder: PictureFolderConfig) -> list[tuple[Any, ...]]:
    """(file, name) of pictures; ("no file", what was asked) of rows without one."""
    return [
        (item.file, item.name) if isinstance(item, NamedPicture) else ("no file", item[1])
        for item in read_folder(folder)
    ]


def _folder(tmp_path: Path, mapping: str = "", **settings: Any) -> PictureFolderConfig:
    path = put_files(tmp_path / "flags", FLAGS)
    return PictureFolderConfig(path=str(path), mapping=str(tmp_path / mapping) if mapping else "", **settings)


def test_pictures_are_told_by_their_endings_and_sorted(tmp_path: Path) -> None:
    put_files(tmp_path, ["b/2.JPG", "b/1.jpeg", "a.png", "readme.txt", "list.json", "noending"])
    assert list_pictures(PictureFolderConfig(path=str(tmp_path))) == ["a.png", "b/1.jpeg", "b/2.JPG"]
    assert list_pictures(PictureFolderConfig(path=str(tmp_path), files=("b/*", "b/1*"))) == ["b/1.jpeg", "b/2.JPG"]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        list_pictures(PictureFolderConfig(path=str(tmp_path / "none")))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("map.json", '{"AD": "Andorra", "AE": "United Arab Emirates"}'),
        ("map.json", '[{"file": "ad.png", "entity": "Andorra"}, {"file": "ae", "entity": "United Arab Emirates"}]'),
        ("map.json", '{"ad": {"entity": "Andorra"}, "ae": {"entity": "United Arab Emirates"}}'),
        ("map.jsonl", '{"file": "AD.png", "entity": "Andorra"}\n{"file": "ae", "entity": "United Arab Emirates"}\n'),
        ("map.tsv", "file\tentity\tmore\nad\tAndorra\t\nae.png\tUnited Arab Emirates\tx\n"),
        ("map.csv", 'entity,file\nAndorra,ad.png\n"United Arab Emirates",./ae.png\n'),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_every_form_of_mapping_says_the_same(tmp_path: Path, name: str, text: str, compressed: bool) -> None:
    content = text.encode()
    (tmp_path / (name + ".gz" * compressed)).write_bytes(gzip.compress(content) if compressed else content)
    assert _read(_folder(tmp_path, name + ".gz" * compressed)) == [
        ("ad.png", "Andorra"),
        ("ae.png", "United Arab Emirates"),
    ]


def test_rows_without_file_and_files_without_row_are_told(tmp_path: Path) -> None:
    (tmp_path / "map.tsv").write_text("file\tentity\nad\tAndorra\nzz\tNowhere\n\t/m/0\n", encoding="utf-8")
    assert _read(_folder(tmp_path, "map.tsv")) == [("ad.png", "Andorra"), ("no file", "zz"), ("ae.png", None)]


def test_a_folder_in_a_mapping_stands_for_its_pictures(tmp_path: Path) -> None:
    put_files(tmp_path / "flags", ["Q1501/1.jpg", "Q1501/2.image.jpg.jpg"])
    (tmp_path / "map.tsv").write_text("file\tentity\nQ1501\tQ1501\nQ1501/1\tpool\n", encoding="utf-8")
    read = _read(_folder(tmp_path, "map.tsv"))
    assert read[:3] == [("Q1501/1.jpg", "Q1501"), ("Q1501/2.image.jpg.jpg", "Q1501"), ("Q1501/1.jpg", "pool")]


def test_licence_and_author_of_a_row_go_before_the_folders(tmp_path: Path) -> None:
    rows = [{"file": "ad", "entity": "Andorra", "licence": "CC0"}, {"file": "ae", "entity": "UAE", "author": "Ann"}]
    (tmp_path / "map.json").write_text(json.dumps(rows), encoding="utf-8")
    first, second = read_folder(_folder(tmp_path, "map.json", licence="CC BY 4.0", source_page="https://example.org"))
    assert isinstance(first, NamedPicture)
    assert isinstance(second, NamedPicture)
    assert (first.licence, first.author, first.source_page) == ("CC0", None, "https://example.org")
    assert (second.licence, second.author) == ("CC BY 4.0", "Ann")


def test_quotes_of_a_tsv_are_of_the_name(tmp_path: Path) -> None:
    (tmp_path / "map.tsv").write_text('file\tentity\nad\t"Heroes"\n', encoding="utf-8")
    assert [row["entity"] for _, row in read_mapping(tmp_path / "map.tsv", "file", "entity")] == ['"Heroes"']


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("map.tsv", "picture\tentity\nad\tAndorra\n", "no column is called 'file'.*Known: entity, picture"),
        ("map.json", '[{"file": "ad", "mid": "/m/0hg5"}]', "no column is called 'entity'"),
        ("map.json", "{", "no mapping that we read"),
        ("map.json", '"ad"', "rows were expected"),
        ("map.jsonl", '["ad"]', "a row is"),
        pytest.param("map.json", "[" * 100_000, "no mapping that we read", id="deep"),
        pytest.param("map.csv", "file,entity\nad," + "x" * 200_000, "map.csv:2: no row of a CSV", id="long"),
    ],
)
def test_a_mapping_without_its_columns_is_an_error(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        _read(_folder(tmp_path, name))


def test_a_mapping_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such mapping"):
        _read(_folder(tmp_path, "none.tsv"))


def test_a_name_is_the_files_last_part_in_words(tmp_path: Path) -> None:
    path = put_files(tmp_path / "states", ["new-york.jpg", "flag/North_Carolina.v2.png", "_.png"])
    assert _read(PictureFolderConfig(path=str(path))) == [
        ("_.png", None),
        ("flag/North_Carolina.v2.png", "North Carolina.v2"),
        ("new-york.jpg", "new york"),
    ]


def test_a_pattern_takes_the_name_out_of_the_path(tmp_path: Path) -> None:
    path = put_files(tmp_path / "net", ["n02085620_Chihuahua.jpg", "Q1501/1.jpg", "other.jpg"])
    read = _read(PictureFolderConfig(path=str(path), name_pattern=r"^n\d+_(?P<name>.+)\.jpg$"))
    assert read == [("Q1501/1.jpg", None), ("n02085620_Chihuahua.jpg", "Chihuahua"), ("other.jpg", None)]


@pytest.mark.parametrize(("pattern", "words"), [("(", "no regular expression"), ("n(.*)", "no group")])
def test_a_pattern_that_finds_no_name_is_an_error(tmp_path: Path, pattern: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        _read(_folder(tmp_path, name_pattern=pattern))


def test_an_address_leads_back_to_its_file(tmp_path: Path) -> None:
    put_files(tmp_path, ["x/a b#1.png", "y/c.png"])
    folders = ({"path": str(tmp_path / "x"), "name": "my"}, {"path": str(tmp_path / "y"), "name": "my/own"})
    images = ImagesConfig.model_validate({"folders": folders})
    assert find_file(images, "folder:my/a b#1.png") == tmp_path / "x" / "a b#1.png"
    assert find_file(images, "folder:my/own/c.png") == tmp_path / "y" / "c.png"


@pytest.mark.parametrize(
    "url", ["folder:my/../secret", "folder:other/a.png", "https://example.org/a.png", "folder:my/"]
)
def test_an_address_leads_nowhere_else(tmp_path: Path, url: str) -> None:
    images = ImagesConfig.model_validate({"folders": ({"path": str(tmp_path), "name": "my"},)})
    with pytest.raises(ImageError, match=r"folder"):
        find_file(images, url)


@pytest.mark.parametrize(
    ("text", "iri"),
    [
        ("/m/0hg5", "http://rdf.freebase.com/ns/m.0hg5"),
        ("m.0hg5", "http://rdf.freebase.com/ns/m.0hg5"),
        ("/g/11b6", "http://rdf.freebase.com/ns/g.11b6"),
        ("Q228", "http://www.wikidata.org/entity/Q228"),
        ("<http://dbpedia.org/resource/A>", "http://dbpedia.org/resource/A"),
        ("http://dbpedia.org/resource/A", "http://dbpedia.org/resource/A"),
        ("Star Trek: Nemesis", None),
        ("Alien:Covenant", None),
        ("Q-Tip", None),
        ("M", None),
    ],
)
def test_ids_are_told_from_names(text: str, iri: str | None) -> None:
    assert as_iri(text) == iri
