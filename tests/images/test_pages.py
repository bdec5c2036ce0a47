"""Licence and author of Wikimedia's files are asked for with their pictures, 50 at a time, from the wiki's API.

The wiki is a server on loopback: which file an address is of, and where it is asked for, are the two things replaced.
"""

import urllib.parse

import pytest

from mmkg.images import fetch, pages
from mmkg.images.library import PictureLibrary
from mmkg.images.wikimedia import Wikimedia
from tests.images.fetching import fast, rows_of, run
from tests.servers.pictures import serve_pictures


@pytest.fixture
def library(tmp_path):
    return PictureLibrary(tmp_path / "pictures")


@pytest.fixture
def api(tmp_path):
    with serve_pictures(tmp_path) as server:
        yield server


@pytest.fixture
def wiki(tmp_path, api, monkeypatch):
    real = pages.metadata_requests
    with serve_pictures(tmp_path) as server:

        def file_of(url: str, width_px: int) -> Wikimedia | None:
            name = urllib.parse.unquote(url.rpartition("/")[2])
            return Wikimedia(url, name, "", "wiki.example") if "/file/" in url else None

        def requests(names, site, *, width_px):
            return [url.replace("https://wiki.example", api.base) for url in real(names, site, width_px=width_px)]

        monkeypatch.setattr(pages, "standard_thumbnail", file_of)
        monkeypatch.setattr(pages, "metadata_requests", requests)
        yield server


def asking(**fetch):
    return fast(wikimedia_metadata=True, **fetch)


def test_licence_and_author_come_with_the_picture_fifty_files_a_request(wiki, api, library):
    urls = [wiki.url(f"/file/Flag {n}.png".replace(" ", "%20")) for n in range(120)]
    report = run(asking(), library, *urls, wiki.url("/ok/elsewhere"))
    assert report.statuses == {"ok": 121}
    assert len(api.requests("/w/api.php")) == 3
    row = rows_of(library, urls[7])[0]
    assert (row["licence"], row["author"]) == ("CC BY 4.0", "painter of Flag 7.png")
    assert row["source_page"] == api.url("/wiki/File%3AFlag%207.png")
    assert rows_of(library, wiki.url("/ok/elsewhere"))[0]["licence"] is None
    assert run(asking(), library, *urls).num_due == 0


def test_the_address_that_the_wiki_names_is_asked_in_place_of_ours(wiki, api, library):
    url = wiki.url("/file/Renamed.png")
    run(asking(), library, url)
    assert wiki.requests("/file/") == []
    assert rows_of(library, url)[0]["final_url"] == api.url("/thumb/Renamed.png")


def test_a_file_that_the_wiki_does_not_know_is_fetched_and_not_asked_about_again(wiki, api, library):
    url = wiki.url("/file/Missing.png")
    assert run(asking(), library, url).statuses == {"ok": 1}
    assert library.resolve([url]).to_pylist()[0]["licence"] is None
    assert run(asking(), library, url).num_due == 0


def test_pictures_that_were_fetched_without_get_their_licence_without_being_sent_again(wiki, api, library):
    url = wiki.url("/file/Here.png")
    run(fast(), library, url)
    report = run(asking(), library, url)
    assert report.num_due == 1
    assert library.resolve([url]).to_pylist()[0]["licence"] == "CC BY 4.0"
    assert run(asking(), library, url).num_due == 0


def test_a_licence_is_asked_for_with_each_refresh_and_outlives_one_without(wiki, api, library):
    url = wiki.url("/file/Kept.png")
    run(asking(), library, url)
    run(asking(refresh_days=0), library, url)
    run(fast(refresh_days=0), library, url)
    assert [row["status"] for row in rows_of(library, url)] == ["ok", "unchanged", "ok"]  # at last from another address
    assert len(api.requests("/w/api.php")) == 2
    assert library.resolve([url]).to_pylist()[0]["licence"] == "CC BY 4.0"


def test_when_the_wiki_fails_the_picture_comes_and_its_licence_is_asked_for_in_the_next_run(
    wiki, api, library, monkeypatch
):
    url = wiki.url("/file/Later.png")
    requests = pages.metadata_requests
    with monkeypatch.context() as broken:
        broken.setattr(pages, "metadata_requests", lambda *_, **__: [api.url("/status/404/api")])
        assert run(asking(attempts=2), library, url).statuses == {"ok": 1}
        assert len(api.requests("/status/404/api")) == 2
    assert pages.metadata_requests is requests
    assert run(asking(), library, url).num_due == 1
    assert library.resolve([url]).to_pylist()[0]["author"] == "painter of Later.png"


def test_what_was_found_is_known_to_a_second_try_too(wiki, api, library):
    url = wiki.url("/file/Flaky.png")
    run(asking(), library, url)
    assert [row["status"] for row in rows_of(library, url)] == ["http_500", "ok"]
    assert rows_of(library, url)[1]["licence"] == "CC BY 4.0"
    assert rows_of(library, url)[1]["final_url"] == api.url("/flaky/1/Flaky.png")
    assert len(api.requests("/w/api.php")) == 1


def test_a_width_that_the_original_does_not_have_is_followed_by_the_next_smaller_one(wiki, library, monkeypatch):
    url = wiki.url("/status/400/960px")
    smaller = {url: wiki.url("/status/400/500px"), wiki.url("/status/400/500px"): wiki.url("/ok/330px")}
    monkeypatch.setattr(fetch, "smaller_thumbnail", smaller.get)
    report = run(fast(), library, url)
    assert [row["status"] for row in rows_of(library, url)] == ["http_400", "http_400", "ok"]
    assert rows_of(library, url)[2]["final_url"] == wiki.url("/ok/330px")
    assert report.statuses == {"ok": 1}
