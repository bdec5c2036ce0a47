"""The dumps that a source names by URL are brought here: each to its own place, checked, and not twice."""

import hashlib
import logging
import os
import re
import threading
import time
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmkg.config import FetchConfig, SourceConfig, parse_config
from mmkg.errors import ConfigError, FetchError
from mmkg.sources.fetch import fetch_dumps, named_places, place_of
from mmkg.web import Unreachable, shown_url
from tests.servers.http_files import Act, serve_files

A = b"<http://a/s> <http://a/p> <http://a/o> .\n" * 2000
B = b"<http://b/s> <http://b/p> <http://b/o> .\n" * 3000
QUICK = FetchConfig(attempts=2, timeout_seconds=5, back_off_seconds=0.01)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server():
    with serve_files({"/a.nt": A, "/b.nt": B}) as running:
        yield running


def source(*urls: str, **settings) -> SourceConfig:
    return SourceConfig(kind="ntriples", urls=urls, **settings)


def sums(**files: bytes) -> bytes:
    return "".join(f"{hashlib.sha256(body).hexdigest()}  {name}.nt\n" for name, body in files.items()).encode()


def test_every_url_comes_to_a_file_in_the_order_of_the_config(server, tmp_path):
    done = fetch_dumps(source(server.url("/b.nt"), server.url("/a.nt")), QUICK, tmp_path)
    assert [download.path.read_bytes() for download in done] == [B, A]
    assert [download.path.name for download in done] == ["b.nt", "a.nt"]
    again = fetch_dumps(source(server.url("/b.nt"), server.url("/a.nt")), QUICK, tmp_path)
    assert [download.outcome for download in again] == ["unchanged", "unchanged"]
    assert [download.path for download in again] == [download.path for download in done]


def test_two_hosts_at_a_time_and_one_connection_for_each(server, tmp_path):
    with serve_files({"/a.nt": A, "/b.nt": B}) as other:
        meeting = threading.Barrier(2, timeout=20)
        told: set[str] = set()

        def progress(url: str, done: int, total: int | None) -> None:
            host = url.rpartition("/")[0]
            if host not in told:
                told.add(host)
                meeting.wait()  # each host waits here for the other: one after the other would never end

        urls = [base + path for base in (server.base, other.base) for path in ("/a.nt", "/b.nt")]
        done = fetch_dumps(source(*urls), QUICK, tmp_path, progress=progress)
        assert [download.outcome for download in done] == ["fetched"] * 4
        assert (server.most_open, other.most_open) == (1, 1)


def test_a_digest_in_the_config_is_held(server, tmp_path):
    url = server.url("/a.nt")
    fetch_dumps(source(url, sha256={url: hashlib.sha256(A).hexdigest().upper()}), QUICK, tmp_path)
    with pytest.raises(FetchError, match=r"expected sha256 0{64}, found sha256"):
        fetch_dumps(source(url, sha256={url: "0" * 64}), QUICK, tmp_path)


@pytest.mark.parametrize("algorithm", ["sha256", "md5", "sha1", "sha512"])
def test_a_file_of_checksums_is_fetched_and_held(server, tmp_path, algorithm):
    url, where = server.url("/a.nt"), server.url("/SUMS")
    server.files["/SUMS"] = f"{hashlib.new(algorithm, A).hexdigest()}  a.nt\n{'0' * 32}  b.nt\n".encode()
    section = source(url, sha256={url: where})
    assert fetch_dumps(section, QUICK, tmp_path)[0].outcome == "fetched"
    assert fetch_dumps(section, QUICK, tmp_path)[0].outcome == "unchanged"
    assert server.statuses("/a.nt")[0] == 200
    assert len(server.statuses("/a.nt")) == 1  # the checksum says that it is the file; it is not asked for again
    server.files["/SUMS"] = f"{hashlib.new(algorithm, B).hexdigest()}  a.nt\n".encode()
    with pytest.raises(FetchError, match=f"expected {algorithm}"):
        fetch_dumps(section, QUICK, tmp_path)


def test_a_file_of_checksums_for_many_files_is_fetched_once(server, tmp_path):
    server.files["/SUMS"] = sums(a=A, b=B)
    urls = [server.url("/a.nt"), server.url("/b.nt")]
    fetch_dumps(source(*urls, sha256=dict.fromkeys(urls, server.url("/SUMS"))), QUICK, tmp_path)
    assert server.statuses("/SUMS").count(200) == 1


def test_a_file_of_checksums_without_the_file_is_told(server, tmp_path):
    url = server.url("/a.nt")
    server.files["/SUMS"] = sums(b=B)
    with pytest.raises(FetchError, match=r"SUMS: expected a checksum of 'a\.nt'"):
        fetch_dumps(source(url, sha256={url: server.url("/SUMS")}), QUICK, tmp_path)


def test_a_checksum_for_a_url_that_is_not_there_is_no_silence(tmp_path):
    with pytest.raises(ConfigError, match=r"Did you mean 'http://h\.example/a\.nt'"):
        fetch_dumps(source("http://h.example/a.nt", sha256={"http://h.example/a.n": "0" * 64}), QUICK, tmp_path)
    with pytest.raises(ConfigError, match="expected 64 hex digits"):
        fetch_dumps(source("http://h.example/a.nt", sha256={"http://h.example/a.nt": "abc"}), QUICK, tmp_path)


@pytest.mark.parametrize(
    ("urls", "sha256"),
    [
        (["https://me:secret@h.example/a.nt"], {"https://you:secret@h.example/b.nt": "0" * 64}),
        (["https://me:secret@h.example/a.nt"], {"https://me:secret@h.example/a.nt": "ftp://me:secret@h.example/SUMS"}),
        (["https://me:secret@[::1/a.nt"], {}),
        (["https://me:secret/x@h.example/a.nt"], {}),
        (["me:secret@h.example/a.nt"], {}),
    ],
    ids=["unknown URL", "no checksum", "broken host", "password with a slash", "no scheme"],
)
def test_no_message_about_a_url_holds_its_password(tmp_path, urls, sha256):
    with pytest.raises(ConfigError, match=r"sources\.\w+: ") as caught:
        fetch_dumps(source(*urls, sha256=sha256), QUICK, tmp_path)
    assert "secret" not in str(caught.value)


def test_a_url_of_an_endpoint_or_a_server_that_is_refused_is_named_without_its_password():
    data = {
        "graph": {"name": "g"},
        "sources": [{"kind": "sparql", "sparql": {"endpoint": "https://me:secret@h/sparql", "predicates": ["a:b"]}}],
        "store": {"uri": "neo4j://me:secret@h:7687"},
    }
    with pytest.raises(ConfigError, match=r"https://h/sparql.*\n.*neo4j://h:7687") as caught:
        parse_config(data, Path("g.toml"))
    assert "secret" not in str(caught.value)


def test_one_file_that_fails_keeps_no_other_away_and_every_failure_is_named(server, tmp_path):
    urls = [server.url(path) for path in ("/gone.nt", "/a.nt", "/away.nt")]
    with pytest.raises(FetchError) as caught:
        fetch_dumps(source(*urls), QUICK, tmp_path)
    assert "/gone.nt" in str(caught.value)
    assert "/away.nt" in str(caught.value)
    assert place_of(urls[1], tmp_path).read_bytes() == A


def test_mirrors_are_bases_behind_which_the_name_is_put(server, tmp_path):
    server.always["/a.nt"] = Act(status=503)
    with serve_files({"/pub/dumps/a.nt": A}) as mirror:
        fetch = QUICK.model_copy(update={"mirrors": (server.base + "/no", mirror.base + "/pub/dumps/")})
        done = fetch_dumps(source(server.url("/a.nt")), fetch, tmp_path)[0]
    assert (done.outcome, done.path.read_bytes()) == ("mirror", A)
    assert done.path == place_of(server.url("/a.nt"), tmp_path)


def test_keep_uses_the_copy_of_the_last_time_and_says_so(server, tmp_path, caplog):
    section = source(server.url("/a.nt"))
    first = fetch_dumps(section, QUICK, tmp_path)[0]
    server.always["/a.nt"] = Act(status=503)
    with pytest.raises(Unreachable):
        fetch_dumps(section, QUICK, tmp_path)
    keep = QUICK.model_copy(update={"if_unreachable": "keep"})
    with caplog.at_level(logging.WARNING):
        kept = fetch_dumps(section, keep, tmp_path)[0]
    assert (kept.outcome, kept.path, kept.sha256) == ("kept", first.path, first.sha256)
    assert "the copy of the last time is used" in caplog.text


def test_keep_keeps_nothing_that_is_not_whole_or_not_what_it_must_be(server, tmp_path):
    keep = QUICK.model_copy(update={"if_unreachable": "keep"})
    url = server.url("/a.nt")
    server.always["/a.nt"] = Act(status=503)
    with pytest.raises(Unreachable):  # never fetched
        fetch_dumps(source(url), keep, tmp_path)
    server.always.clear()
    path = fetch_dumps(source(url), keep, tmp_path)[0].path
    server.always["/a.nt"] = Act(status=503)
    with pytest.raises(Unreachable):
        fetch_dumps(source(url, sha256={url: hashlib.sha256(B).hexdigest()}), keep, tmp_path)
    os.truncate(path, 100)
    with pytest.raises(Unreachable):
        fetch_dumps(source(url), keep, tmp_path)


def test_keep_is_not_for_a_host_that_answers_something_else(server, tmp_path):
    keep = QUICK.model_copy(update={"if_unreachable": "keep"})
    fetch_dumps(source(server.url("/a.nt")), keep, tmp_path)
    server.always["/a.nt"] = Act(status=404)
    with pytest.raises(FetchError, match="answers 404"):
        fetch_dumps(source(server.url("/a.nt")), keep, tmp_path)


def test_an_interrupt_stops_the_other_hosts_soon(server, tmp_path):
    server.chunk_seconds = 0.05
    server.files["/long.nt"] = A * 100
    with serve_files({"/a.nt": A}) as other:

        def progress(url: str, done: int, total: int | None) -> None:
            if url.startswith(other.base):
                raise KeyboardInterrupt

        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            fetch_dumps(source(server.url("/long.nt"), other.url("/a.nt")), QUICK, tmp_path, progress=progress)
        assert time.monotonic() - started < 10  # 8 MB would take 25 s


# ---- places


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://h.example/d/x.nt.gz", "x.nt.gz"),
        ("https://h.example/d/x%20y.nt", "x_y.nt"),
        ("https://h.example/get?file=x.ttl.bz2&v=2", "x.ttl.bz2"),
        ("https://h.example/get?q=1", "get"),
        ("https://h.example/", "dump"),
        ("https://h.example/%2e%2e%2fetc%2fpasswd", "_etc_passwd"),
        ("https://h.example/get?file=../../x.nt", "get"),
        ("https://h.example/.hidden.nt", "hidden.nt"),
    ],
)
def test_a_place_keeps_the_name_of_the_file(url, name):
    assert place_of(url, Path("d")).name == name


def test_places_of_other_hosts_queries_and_ports_differ():
    urls = [
        "https://a/x.nt",
        "https://b/x.nt",
        "https://a/y/x.nt",
        "https://a/x.nt?v=1",
        "http://a/x.nt",
        "https://a:8/x.nt",
    ]
    assert len({place_of(url, Path("d")) for url in urls}) == len(urls)
    assert place_of("https://me:pw@a/x.nt#z", Path("d")) == place_of("https://a/x.nt", Path("d"))


@pytest.mark.parametrize(
    "url",
    ["https://me:pw@h/x.nt", "https://me:pw@münchen.example/é x.nt", "http://H:80/a/../x.nt", "http://h/get?file=é.nt"],
)
def test_a_place_is_found_again_from_the_url_as_it_is_shown(url):
    assert place_of(shown_url(url), Path("d")) == place_of(url, Path("d"))


@given(st.text(max_size=300), st.text(max_size=60))
def test_no_url_leads_out_of_its_folder(path, host):
    try:
        place = place_of(f"http://{host}/{path}", Path("downloads"))
    except ConfigError:
        return
    assert place.parts[0] == "downloads"
    assert len(place.parts) == 3
    assert not any(part in {"", ".", ".."} or "/" in part or "\0" in part for part in place.parts)
    assert len(place.name.encode()) <= 150
    assert not place.name.startswith(".")


@pytest.mark.parametrize("url", ["ftp://h/x.nt", "x.nt", "http:///x.nt", "http://[::1/x.nt", "http://h:99999/x.nt"])
def test_what_is_no_url_of_the_web_is_a_mistake_of_the_config(tmp_path, url):
    with pytest.raises(ConfigError, match="expected a URL of http or https"):
        fetch_dumps(source(url), QUICK, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_named_places_are_those_of_dumps_and_checksums(tmp_path):
    section = source(
        "http://h/a.nt", "http://h/b.nt", sha256={"http://h/a.nt": "http://h/SUMS", "http://h/b.nt": "0" * 64}
    )
    expected = {place_of(f"http://h/{name}", tmp_path) for name in ("a.nt", "b.nt", "SUMS")}
    assert named_places(section, tmp_path) == expected


def test_the_page_shows_a_config_that_is_one_and_every_key_of_fetch():
    page = (Path(__file__).parents[2] / "docs" / "fetching.md").read_text(encoding="utf-8")
    data = tomllib.loads(re.search(r"```toml\n(.*?)```", page, re.DOTALL)[1])
    config = parse_config(data, Path("graph.toml"))
    assert set(config.sources[0].sha256) == set(config.sources[0].urls)
    assert set(data["fetch"]) == set(FetchConfig.model_fields)
