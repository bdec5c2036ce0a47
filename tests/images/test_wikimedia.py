"""Wikimedia's files: all addresses of one are the same standard thumbnail, and their API's answers are understood."""

import hashlib
import json
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmkg.errors import ImageError
from mmkg.images.wikimedia import (
    STANDARD_WIDTHS_PX,
    clean_file_name,
    is_wikimedia,
    metadata_requests,
    parse_metadata,
    smaller_thumbnail,
    standard_thumbnail,
    thumbnail_of_file,
)

PERU = "https://upload.wikimedia.org/wikipedia/commons/thumb/c/cf/Flag_of_Peru.svg/330px-Flag_of_Peru.svg.png"


@pytest.mark.parametrize(
    "url",
    [
        "http://commons.wikimedia.org/wiki/Special:FilePath/Flag_of_Peru.svg",
        "https://commons.wikimedia.org/wiki/Special:FilePath/Flag%20of%20Peru.svg?width=300",
        "https://commons.wikimedia.org/wiki/Special:Redirect/file/flag_of_Peru.svg",
        "https://commons.wikimedia.org/w/index.php?title=Special:FilePath/Flag_of_Peru.svg&width=1000",
        "https://commons.wikimedia.org/wiki/File:Flag_of_Peru.svg",
        "https://commons.m.wikimedia.org/wiki/File:Flag_of_Peru.svg#file",
        "http://upload.wikimedia.org/wikipedia/commons/c/cf/Flag_of_Peru.svg",
        "https://upload.wikimedia.org/wikipedia/commons/thumb/c/cf/Flag_of_Peru.svg/200px-Flag_of_Peru.svg.png",
    ],
)
def test_all_addresses_of_a_file_are_one_standard_thumbnail(url: str) -> None:
    found = standard_thumbnail(url, 330)
    assert found is not None
    assert (found.url, found.file_name) == (PERU, "Flag of Peru.svg")
    assert found.source_page == "https://commons.wikimedia.org/wiki/File:Flag_of_Peru.svg"
    assert found.site == "commons.wikimedia.org"


@pytest.mark.parametrize(
    ("name", "thumbnail"),
    [
        ("A.jpg", "330px-A.jpg"),
        ("A.PNG", "330px-A.PNG"),
        ("A.tif", "lossy-page1-330px-A.tif.jpg"),
        ("A.webp", "330px-A.webp.png"),
        ("x" * 170 + ".jpg", "330px-thumbnail.jpg"),  # MediaWiki shortens names of more than 160 bytes
        ("x" * 170 + ".JPG", "330px-thumbnail.jpg"),  # and writes the ending of those in lower case
        ("x" * 170 + ".SVG", "330px-thumbnail.svg.png"),
    ],
)
def test_a_thumbnail_is_called_as_its_format_asks(name: str, thumbnail: str) -> None:
    found = thumbnail_of_file(name, "commons.wikimedia.org", 330)
    assert found is not None
    assert found.url.rpartition("/")[2] == thumbnail


def test_a_file_of_a_wiki_stays_in_that_wiki() -> None:
    found = standard_thumbnail("http://en.wikipedia.org/wiki/Special:FilePath/Plan_of_a_Battle.png?width=300", 330)
    assert found is not None
    assert found.url.startswith("https://upload.wikimedia.org/wikipedia/en/thumb/")
    assert found.source_page == "https://en.wikipedia.org/wiki/File:Plan_of_a_Battle.png"
    assert standard_thumbnail(found.url, 330) == found


def test_quotes_pluses_and_ampersands_are_of_the_name() -> None:
    name = """St Peter's "X & Y" + Z?.jpg"""
    found = thumbnail_of_file(name, "commons.wikimedia.org", 330)
    assert found is not None
    assert not set(found.url) & set(" '\"&+?")
    assert clean_file_name(unquote(found.url.split("/")[-2])) == name


@pytest.mark.parametrize(
    "url",
    [
        "https://en.wikipedia.org/wiki/Peru",
        "https://commons.wikimedia.org/wiki/Category:Peru",
        "https://commons.wikimedia.org/wiki/Special:FilePath/Anthem.ogg",
        "https://commons.wikimedia.org/wiki/Special:FilePath/Constitution.pdf",
        "https://upload.wikimedia.org/math/a/b/c/formula.png",
        "https://upload.wikimedia.org.evil.example/wikipedia/commons/c/cf/Flag_of_Peru.svg",
        "https://example.org/wiki/File:Flag_of_Peru.svg",
        "http://[wikipedia.org/wiki/File:A.jpg",
    ],
)
def test_what_is_no_picture_of_wikimedia_has_no_thumbnail(url: str) -> None:
    assert standard_thumbnail(url, 330) is None


@given(st.text(min_size=1, max_size=60), st.sampled_from(["jpg", "PNG", "svg", "tiff", "gif"]), st.integers(1, 5000))
def test_a_thumbnail_leads_back_to_its_file(stem: str, ending: str, width_px: int) -> None:
    found = thumbnail_of_file(f"{stem}.{ending}", "commons.wikimedia.org", width_px)
    if found is None:
        assert clean_file_name(f"{stem}.{ending}") is None
        return
    assert standard_thumbnail(found.url, width_px) == found
    assert standard_thumbnail(found.source_page, width_px) == found
    folder, _, last = urlsplit(found.url).path.rpartition("/")
    width = int(last.removeprefix("lossy-page1-").partition("px-")[0])
    assert width in STANDARD_WIDTHS_PX
    assert width >= min(width_px, STANDARD_WIDTHS_PX[-1])
    digest = hashlib.md5(unquote(folder.rpartition("/")[2]).encode()).hexdigest()
    assert folder.split("/")[-3:-1] == [digest[0], digest[:2]]


def test_composed_and_decomposed_names_are_one() -> None:
    composed, decomposed = "Flag_of_S\u00e3o_Tom\u00e9.svg", "Flag_of_Sa\u0303o_Tome\u0301.svg"
    assert thumbnail_of_file(composed, "commons.wikimedia.org", 330) == thumbnail_of_file(
        decomposed, "commons.wikimedia.org", 330
    )


def test_a_refused_width_is_asked_for_one_smaller_until_there_is_none() -> None:
    url, widths = PERU, []
    while (smaller := smaller_thumbnail(url)) is not None:
        widths.append(int(smaller.rpartition("/")[2].partition("px-")[0]))
        url = smaller
    assert widths == [250, 120, 60, 40, 20]
    assert smaller_thumbnail("https://example.org/330px-a.png") is None


def test_only_hosts_of_wikimedia_are_theirs() -> None:
    assert is_wikimedia("https://de.wikisource.org/wiki/Datei:A.jpg")
    assert not is_wikimedia("https://commons.wikimedia.org@example.org/wiki/File:A.jpg")


def test_requests_for_metadata_hold_fifty_files_and_fit_a_url() -> None:
    names = [f"Flag {number}.svg" for number in range(120)]
    requests = metadata_requests(names, "commons.wikimedia.org")
    titles = [parse_qs(urlsplit(url).query)["titles"][0].split("|") for url in requests]
    assert [len(of_request) for of_request in titles] == [50, 50, 20]
    assert [title for of_request in titles for title in of_request] == [f"File:{name}" for name in names]
    long = metadata_requests([f"{'é' * 100}{number}.jpg" for number in range(50)], "commons.wikimedia.org")
    assert len(long) > 1
    assert max(map(len, long)) <= 7_000
    assert metadata_requests([], "commons.wikimedia.org") == []


def _answer(**query: object) -> bytes:
    return json.dumps({"batchcomplete": True, "query": query}).encode()


def _page(title: str, **about: str) -> dict[str, object]:
    image = {
        "thumburl": "https://upload.wikimedia.org/t.png",
        "width": 100,
        "height": 50,
        "descriptionurl": f"https://commons.wikimedia.org/wiki/{title.replace(' ', '_')}",
        "extmetadata": {key: {"value": value} for key, value in about.items()},
    }
    return {"title": title, "imageinfo": [image]}


def test_licence_and_author_come_without_markup() -> None:
    page = _page("File:A.jpg", LicenseShortName="CC BY-SA 3.0", Artist='<a href="//x">Ann &amp; <b>Bo</b></a>')
    info = parse_metadata(_answer(pages=[page]))["A.jpg"]
    assert (info.licence, info.author) == ("CC BY-SA 3.0", "Ann & Bo")
    assert (info.width_px, info.height_px, info.source_page) == (
        100,
        50,
        "https://commons.wikimedia.org/wiki/File:A.jpg",
    )


def test_a_renamed_file_is_found_by_the_name_that_was_asked() -> None:
    body = _answer(
        normalized=[{"from": "File:old_name.jpg", "to": "File:Old name.jpg"}],
        redirects=[{"from": "File:Old name.jpg", "to": "File:New.jpg"}],
        pages=[_page("File:New.jpg", LicenseShortName="CC0"), {"title": "File:Gone.jpg", "missing": True}],
    )
    found = parse_metadata(body)
    assert set(found) == {"New.jpg", "Old name.jpg", "old_name.jpg"}
    assert found["old_name.jpg"].licence == "CC0"


@pytest.mark.parametrize("body", [b"<html>busy</html>", b"[]", b'{"query": {"pages": [{"imageinfo": [1]}]}}'])
def test_an_answer_that_describes_no_files_is_an_error(body: bytes) -> None:
    with pytest.raises(ImageError, match="describes no files"):
        parse_metadata(body)


def test_the_words_of_the_api_are_passed_on() -> None:
    with pytest.raises(ImageError, match="Waiting for a database server"):
        parse_metadata(json.dumps({"error": {"code": "maxlag", "info": "Waiting for a database server"}}).encode())
