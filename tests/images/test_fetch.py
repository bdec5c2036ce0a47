"""A real server on loopback counts what is asked of it, and when: politeness is what its log shows."""

import datetime
import errno
import hashlib
import itertools
import socket
import time

import pytest

from mmkg.errors import FetchError
from mmkg.images import fetch, politeness
from mmkg.images.fetch import Fetcher, check_who_asks
from mmkg.images.library import PictureLibrary
from mmkg.images.recorder import Backlog, Recorder
from mmkg.web.bounded import BoundedClient, Limits
from tests.images.fetching import CONTACT, candidates, fast, rows_of, run, statuses
from tests.servers.pictures import png_of, serve_pictures

ON_THE_WAY_SECONDS = 0.05  # between the client's sending and the server's clock, on a busy machine


@pytest.fixture
def library(tmp_path):
    return PictureLibrary(tmp_path / "pictures")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serve_pictures(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def short_waits(monkeypatch):
    """Back-off without Retry-After is hundredths of a second."""
    monkeypatch.setattr(fetch, "FIRST_BACK_OFF_SECONDS", 0.02)
    monkeypatch.setattr(politeness, "FIRST_BACK_OFF_SECONDS", 0.02)


def test_a_picture_is_kept_with_what_the_server_said_of_it(server, library):
    url = server.url("/ok/facts.png")
    report = run(fast(), library, url)
    row = library.last_attempts().to_pylist()[0]
    data = png_of("/ok/facts.png")
    assert (row["status"], row["kind"], row["http_status"], row["final_url"]) == ("ok", "ok", 200, url)
    assert row["sha256"] == hashlib.sha256(data).hexdigest()
    assert row["etag"] == f'"{hashlib.md5(data).hexdigest()}"'
    assert row["content_type"] == "image/png"
    assert row["bytes"] > len(data)  # the headers count
    stored = library.served.read().to_pylist()
    assert stored == [{"sha256": row["sha256"], "format": "png", "bytes": data}]
    assert (report.num_new_pictures, report.new_bytes, dict(report.statuses)) == (1, len(data), {"ok": 1})


@pytest.mark.parametrize(
    ("path", "status", "kind", "detail"),
    [
        ("/status/404/x", "http_404", "permanent", "404"),
        ("/status/410/x", "http_410", "permanent", "410"),
        ("/svg/x", "svg", "permanent", "bitmap"),
        ("/html/x", "not_a_picture", "permanent", "html, served as image/png"),
        ("/typed/text/html/x", "ok", "ok", "png, served as text/html"),
        ("/typed/image/png/x", "ok", "ok", ""),
        ("/large/200000/x", "too_large", "permanent", ""),
        ("/cut/x", "cut", "transient", ""),
        ("/status/500/x", "http_500", "transient", "500"),
        ("/noai/x", "noai", "permanent", "X-Robots-Tag: noai"),
    ],
)
def test_each_answer_has_its_status(server, library, path, status, kind, detail):
    run(fast(attempts=1, max_bytes=100_000), library, server.url(path))
    row = library.last_attempts().to_pylist()[0]
    assert (row["status"], row["kind"]) == (status, kind)
    assert detail in row["detail"]
    assert (row["sha256"] is None) == (kind != "ok")
    assert library.served.read().num_rows == (kind == "ok")


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("file:///etc/passwd", "bad_scheme"),
        ("ftp://a.example/x.png", "bad_scheme"),
        ("data:image/png;base64,AAAA", "bad_scheme"),
        ("http://10.0.0.1/x.png", "private_address"),
        ("http://169.254.169.254/latest", "private_address"),
        ("http://user:word@a.example/x.png", "credentials"),
        ("no address at all", "bad_url"),
    ],
)
def test_what_is_refused_before_anybody_is_asked_is_a_row_too(library, url, status):
    report = run(fast(allow_loopback=False), library, url)
    assert statuses(library) == {url: status}
    assert report.statuses == {status: 1}


def test_noai_is_heeded_by_setting(server, library):
    run(fast(noai=False), library, server.url("/noai/by-setting"))
    assert statuses(library) == {server.url("/noai/by-setting"): "ok"}


def test_every_request_says_who_asks(library, tmp_path):
    with serve_pictures(tmp_path) as server:
        run(fast(robots=True), library, server.url("/ok/1"), server.url("/hop/" + server.url("/ok/2")))
        asked = server.requests() + server.requests("/robots.txt")
        assert len(asked) == 4
        assert all(CONTACT in request.headers["user-agent"] for request in asked)


def test_nobody_is_asked_without_a_contact(server, library):
    urls = [server.url("/ok/no-contact"), "https://pictures.example/x.png"]
    with pytest.raises(FetchError, match="Set `contact`"):
        run(fast(), library, *urls, contact=" ")
    with pytest.raises(FetchError, match="Set `contact`"):
        run(fast(allow_loopback=False), library, urls[0], contact="")
    assert server.requests("/ok/no-contact") == []
    assert library.attempts.read().num_rows == 0
    run(fast(), library, urls[0], contact="")
    assert statuses(library) == {urls[0]: "ok"}


def test_a_contact_that_a_header_cannot_hold_is_refused():
    with pytest.raises(FetchError, match="cannot stand in a User-Agent"):
        check_who_asks(fast().fetch, "me\r\nX-Evil: 1", candidates("http://127.0.0.1/x")["url"])


def test_a_host_is_not_asked_before_the_end_of_its_retry_after(library, tmp_path):
    with serve_pictures(tmp_path) as server:
        urls = [server.url("/retry/1/429/1/a"), *(server.url(f"/ok/{number}") for number in range(20))]
        report = run(fast(connections_per_host=1), library, *urls)
        first, second, *_ = server.requests()
        assert first.status == 429
        assert second.read_at - first.answered_at >= 1.0
        assert len(server.requests()) == 22  # the address was put back
    assert report.statuses == {"ok": 21}
    assert [row["status"] for row in rows_of(library, urls[0])] == ["http_429", "ok"]


def test_with_several_connections_only_what_was_on_its_way_arrives_after_a_host_says_wait(library, tmp_path):
    with serve_pictures(tmp_path, delay_seconds=0.02) as server:
        urls = [server.url(f"/ok/{number}") for number in range(60)]
        urls.insert(10, server.url("/retry/1/503/1/a"))
        report = run(fast(connections_per_host=4, connections=8), library, *urls)
        requests = server.requests()
        said = next(request for request in requests if request.status == 503).answered_at
        early = [request for request in requests if said + ON_THE_WAY_SECONDS < request.read_at < said + 1.0]
    assert early == []
    assert report.statuses == {"ok": 61}


def test_a_host_that_wants_a_long_wait_is_left_alone_until_the_next_run(library, tmp_path):
    with serve_pictures(tmp_path) as server:
        urls = [server.url("/retry/1/429/3600/a"), *(server.url(f"/ok/{number}") for number in range(30))]
        report = run(fast(connections_per_host=1), library, *urls)
        assert len(server.requests()) == 1
        assert report.statuses == {"http_429": 1, "host_waits": 30}
        assert {row["kind"] for row in library.last_attempts().to_pylist()} == {"transient"}
        assert "max_wait_seconds = 120" in rows_of(library, urls[5])[0]["detail"]
        assert run(fast(), library, *urls, retry="transient").statuses == {"ok": 31}


def test_a_host_has_no_more_connections_and_requests_than_allowed(library, tmp_path):
    with serve_pictures(tmp_path, delay_seconds=0.02) as server:
        urls = [server.url(f"/ok/{number}") for number in range(24)]
        run(fast(connections_per_host=2, connections=12, requests_per_second=40, burst=4), library, *urls)
        requests = server.requests()
    assert max(request.num_open for request in requests) == 2
    times = [request.read_at for request in requests]
    assert times[-1] - times[0] >= (24 - 4) / 40 - ON_THE_WAY_SECONDS


def test_a_slow_host_does_not_hold_up_another(library, tmp_path):
    with serve_pictures(tmp_path, delay_seconds=0.25) as slow, serve_pictures(tmp_path) as quick:
        urls = [slow.url(f"/ok/{number}") for number in range(4)] + [quick.url(f"/ok/{n}") for n in range(40)]
        run(fast(connections_per_host=1, connections=2), library, *urls)
        assert quick.requests()[-1].answered_at < slow.requests()[1].answered_at


def test_robots_are_asked_for_once_and_obeyed(library, tmp_path):
    robots = "User-agent: *\nDisallow: /\n\nUser-agent: mmkg\nDisallow: /ok/private\n"
    with serve_pictures(tmp_path, robots=robots) as server:
        allowed = [server.url(f"/ok/{number}") for number in range(20)]
        report = run(fast(robots=True, connections_per_host=4), library, *allowed, server.url("/ok/private/x"))
        assert len(server.requests("/robots.txt")) == 1
        assert server.requests("/ok/private") == []
        assert report.statuses == {"ok": 20, "robots": 1}
        row = rows_of(library, server.url("/ok/private/x"))[0]
        assert (row["kind"], row["http_status"]) == ("permanent", None)
        assert "robots.txt" in row["detail"]
        assert run(fast(), library, server.url("/ok/private/x"), retry="all").statuses == {"ok": 1}  # by setting


def test_a_server_that_fails_with_its_robots_is_not_asked_for_pictures(library, tmp_path, short_waits):
    with serve_pictures(tmp_path, robots=503) as server:
        report = run(fast(robots=True), library, *(server.url(f"/ok/{number}") for number in range(10)))
        assert server.requests() == []
        assert len(server.requests("/robots.txt")) == 3
    assert report.statuses == {"robots_unreachable": 10}
    assert set(library.last_attempts()["kind"].to_pylist()) == {"transient"}


def test_robots_that_lead_to_a_host_that_is_left_alone_are_unreachable(library, tmp_path, short_waits):
    with serve_pictures(tmp_path) as there:
        with serve_pictures(tmp_path, robots=there.url("/retry/9/429/3600/robots")) as here:
            report = run(fast(robots=True), library, here.url("/ok/1"))
            assert len(here.requests("/robots.txt")) == 3
        assert len(there.requests()) == 1
    assert report.statuses == {"robots_unreachable": 1}


def test_robots_without_a_file_allow_everything(library, tmp_path):
    with serve_pictures(tmp_path, robots=403) as server:
        assert run(fast(robots=True), library, server.url("/ok/1")).statuses == {"ok": 1}


def test_a_crawl_delay_is_kept(library, tmp_path):
    with serve_pictures(tmp_path, robots="User-agent: *\nCrawl-delay: 0.3\n") as server:
        run(fast(robots=True), library, *(server.url(f"/ok/{number}") for number in range(4)))
        times = [request.read_at for request in server.requests()]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert min(gaps) >= 0.3 - ON_THE_WAY_SECONDS


def test_a_redirect_is_subject_to_the_robots_and_the_waits_of_where_it_leads(library, tmp_path):
    with serve_pictures(tmp_path) as here, serve_pictures(tmp_path, robots="User-agent: *\nDisallow: /") as there:
        report = run(fast(robots=True), library, here.url("/hop/" + there.url("/ok/1")))
        assert report.statuses == {"robots": 1}
        assert there.requests() == []
        assert len(there.requests("/robots.txt")) == 1


def test_a_redirect_to_a_host_that_waits_waits(library, tmp_path):
    with serve_pictures(tmp_path) as here, serve_pictures(tmp_path) as there:
        urls = [there.url("/retry/1/429/1/a"), *(here.url("/hop/" + there.url(f"/ok/{n}")) for n in range(3))]
        report = run(fast(connections=1), library, *urls)
        first, second, *_ = there.requests()
        assert (first.status, report.statuses) == (429, {"ok": 4})
        assert second.read_at - first.answered_at >= 1.0
    assert rows_of(library, urls[1])[-1]["final_url"] == there.url("/ok/0")


def test_a_failure_that_passes_is_tried_again_and_each_try_is_a_row(server, library, short_waits):
    report = run(fast(attempts=3), library, server.url("/flaky/2/a"), server.url("/status/500/b"))
    assert [row["status"] for row in rows_of(library, server.url("/flaky/2/a"))] == ["http_500", "http_500", "ok"]
    assert [row["status"] for row in rows_of(library, server.url("/status/500/b"))] == ["http_500"] * 3
    assert (report.statuses, report.num_attempts) == ({"ok": 1, "http_500": 1}, 6)


def test_a_failure_for_good_is_asked_for_once_and_not_in_the_next_build(server, library):
    url = server.url("/status/404/once")
    run(fast(), library, url)
    assert run(fast(), library, url).num_due == 0
    assert len(server.requests("/status/404/once")) == 1
    assert run(fast(), library, url, retry="transient").num_due == 0
    assert run(fast(), library, url, retry="all").statuses == {"http_404": 1}


def test_a_host_that_does_not_answer_is_given_up(library):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # not listening: connections are refused
        base = f"http://127.0.0.1:{closed.getsockname()[1]}"
        report = run(fast(attempts=1, connections_per_host=1), library, *(f"{base}/{number}" for number in range(40)))
    assert report.statuses == {"refused_connection": 5, "host_down": 35}
    assert set(library.last_attempts()["kind"].to_pylist()) == {"transient"}


def test_a_host_with_many_pictures_that_end_too_soon_is_asked_for_the_others(server, library):
    cut = [server.url(f"/cut/of-many-{number}") for number in range(12)]
    whole = [server.url(f"/ok/beside-cut-{number}") for number in range(3)]
    report = run(fast(attempts=1, connections_per_host=1), library, *cut, *whole)
    assert report.statuses == {"cut": 12, "ok": 3}


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.1.2.3", 80))], "private_address"),
        (None, "unknown_host"),
    ],
)
def test_what_is_wrong_with_a_host_is_found_out_once(library, answer, status):
    looked_up = []

    def resolve(host, *more, **named):
        looked_up.append(host)
        if answer is None:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return answer()

    settings = fast(connections=1).fetch
    limits = Limits(max_bytes=1_000, max_seconds=5, timeout_seconds=5, max_redirects=1)
    urls = [f"http://pictures.example/{number}" for number in range(10)]
    due = library.choose_due(urls, refresh_days=1, now=_noon())
    with BoundedClient(contact=CONTACT, limits=limits, resolve=resolve) as client:
        attempts = list(Fetcher(settings, client, Backlog(), now=_noon).fetch(due))
    assert {attempt.status for attempt in attempts} == {status}
    assert {attempt.kind for attempt in attempts} == {"permanent"}
    assert len(attempts) == 10
    assert len(looked_up) == 1


def _noon() -> datetime.datetime:
    return datetime.datetime(2026, 5, 1, 12, tzinfo=datetime.UTC)


def test_a_picture_that_has_not_changed_is_not_sent_again(server, library):
    url = server.url("/ok/refresh.png")
    run(fast(), library, url)
    report = run(fast(refresh_days=0), library, url)
    first, second = rows_of(library, url)
    assert server.requests("/ok/refresh.png")[1].headers["if-none-match"] == first["etag"]
    assert (second["status"], second["kind"], second["http_status"]) == ("unchanged", "ok", 304)
    assert (second["sha256"], second["etag"]) == (first["sha256"], first["etag"])
    assert (report.num_new_pictures, library.served.read().num_rows) == (0, 1)
    assert run(fast(), library, url).num_due == 0


def test_a_picture_that_is_gone_stays_here_and_the_ledger_tells(server, library):
    url = server.url("/gone-after/1/x")
    run(fast(), library, url)
    run(fast(refresh_days=0), library, url)
    row = library.resolve([url]).to_pylist()[0]
    assert row["status"] == "ok"
    assert "http_404" in row["detail"]
    assert statuses(library) == {url: "http_404"}


def test_a_fault_of_ours_ends_the_run_loudly_and_keeps_what_came(server, library, monkeypatch):
    real = fetch.read_answer

    def faulty(url, *rest, **named):
        if url.endswith("bad"):
            raise ZeroDivisionError("a fault of ours")
        return real(url, *rest, **named)

    monkeypatch.setattr(fetch, "read_answer", faulty)
    with pytest.raises(ZeroDivisionError, match="a fault of ours"):
        run(fast(connections=1), library, server.url("/ok/good"), server.url("/ok/bad"), server.url("/ok/never"))
    assert statuses(library) == {server.url("/ok/good"): "ok"}


def test_an_interrupt_keeps_what_came_and_does_not_wait_for_servers(server, library):
    def interrupt(what, done, total):
        if done:
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(
            fast(connections=4),
            library,
            server.url("/ok/came"),
            *[server.url(f"/slow/9/{n}") for n in range(4)],
            progress=interrupt,
        )
    assert time.monotonic() - began < 5
    assert statuses(library) == {server.url("/ok/came"): "ok"}


def test_when_nothing_can_be_written_down_nobody_is_asked_any_more(library, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Recorder, "add", full)
    with serve_pictures(tmp_path, delay_seconds=0.05) as server:
        with pytest.raises(OSError, match="No space left") as raised:
            run(fast(connections=2), library, *(server.url(f"/ok/{number}") for number in range(100)))
        time.sleep(0.3)
        asked = len(server.requests())
        time.sleep(0.3)
        assert len(server.requests()) == asked < 20
    assert raised.value.errno == errno.ENOSPC  # was held all the time, and with it what the run held


def test_no_more_addresses_are_under_way_than_a_shard_has(tmp_path):
    backlog = Backlog(max_attempts=3, max_bytes=100)
    assert [backlog.begin() for _ in range(3)] == [True] * 3
    backlog.end(1)
    assert backlog.begin()
    backlog.end(3)
    backlog.came(100)
    backlog.stop()  # else the next line would wait for room for bytes
    assert not backlog.begin()
