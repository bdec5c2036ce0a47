"""One GET within limits: what a hostile server may do to us, which is nothing but a row with a status."""

import dataclasses
import pickle
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmkg.errors import FetchError
from mmkg.web.bounded import STATUSES, BoundedClient, Skip, kind_of
from mmkg.web.manners import read_retry_after
from tests.servers.hostile import ETAG
from tests.web.bounds import CONTACT, LIMITS, answering, to


def test_a_picture_comes_whole(hostile, client):
    answer = client.get(hostile.url("/ok/5000"))
    assert (answer.status, answer.kind, answer.http_status) == ("ok", "ok", 200)
    assert (answer.body, answer.final_url) == (b"x" * 5_000, hostile.url("/ok/5000"))
    assert answer.headers["etag"] == ETAG
    assert answer.headers["x-robots-tag"] == "noai, noindex"  # of a name with two lines, both
    assert 5_000 < answer.received < 5_200
    assert 0 < answer.seconds < LIMITS.max_seconds
    assert pickle.loads(pickle.dumps(answer)) == answer


def test_we_say_who_asks_and_ask_for_the_bytes_as_they_are(hostile, client):
    client.get(hostile.url("/ok"), {"Accept": "image/*"})
    headers = hostile.asked[0].headers
    assert headers["user-agent"].startswith("mmkg/")
    assert f"(+{CONTACT})" in headers["user-agent"]
    assert (headers["accept-encoding"], headers["accept"]) == ("identity", "image/*")
    assert not {"cookie", "authorization", "referer"} & headers.keys()


WHOLE = {"/ok/0": 0, "/ok/100000": 100_000, "/no-length/5000": 5_000, "/tiny-chunks/30000": 30_000, "/moved/ok/9": 9}
BROKEN = {
    "/length/100001": ("too_large", "permanent"),
    "/length/99999999999999999999": ("too_large", "permanent"),
    "/endless": ("too_large", "permanent"),
    "/endless-chunks": ("too_large", "permanent"),
    "/endless-extensions": ("too_large", "permanent"),
    "/endless-trailers": ("protocol", "permanent"),
    "/endless-hints": ("protocol", "permanent"),
    "/headers/10000": ("protocol", "permanent"),
    "/short-headers/10000": ("protocol", "permanent"),
    "/giant-header": ("protocol", "permanent"),
    "/two-lengths": ("protocol", "permanent"),
    "/bad-chunks": ("protocol", "permanent"),
    "/bad-coding": ("protocol", "permanent"),
    "/garbage": ("protocol", "permanent"),
    "/upgrade": ("protocol", "permanent"),
    "/two-locations": ("protocol", "permanent"),
    "/range": ("http_206", "permanent"),
    "/coded/gzip": ("coding", "permanent"),
    "/coded/identity,br": ("coding", "permanent"),
    "/cut": ("cut", "transient"),
    "/cut-chunk": ("cut", "transient"),
    "/cut-head": ("cut", "transient"),
    "/close": ("cut", "transient"),
    "/reset": ("connection", "transient"),
}


@pytest.mark.parametrize(("path", "size"), WHOLE.items())
def test_what_is_odd_but_whole_is_taken(hostile, client, path, size):
    answer = client.get(hostile.url(path))
    assert (answer.status, len(answer.body)) == ("ok", size)


@pytest.mark.parametrize(("path", "expected"), BROKEN.items())
def test_what_is_broken_or_has_no_end_is_a_status(hostile, client, path, expected):
    answer = client.get(hostile.url(path))
    assert (answer.status, answer.kind, answer.body) == (*expected, b"")
    assert answer.detail.isprintable()
    assert answer.received < 3 * LIMITS.max_bytes + 300_000
    assert client.get(hostile.url("/ok")).status == "ok"


@pytest.mark.parametrize("path", ["/silent", "/stall"])
def test_a_server_that_is_silent_is_left(hostile, path):
    with BoundedClient(contact="", limits=dataclasses.replace(LIMITS, timeout_seconds=0.15)) as client:
        answer = client.get(hostile.url(path))
    assert (answer.status, answer.kind, answer.body) == ("timeout", "transient", b"")
    assert 0.1 < answer.seconds < LIMITS.max_seconds


@pytest.mark.parametrize("path", ["/drip-head", "/drip-body"])
def test_a_server_that_is_never_silent_and_never_done_is_left(hostile, path):
    with BoundedClient(contact="", limits=dataclasses.replace(LIMITS, max_seconds=0.3)) as client:
        answer = client.get(hostile.url(path))
    assert (answer.status, answer.kind, answer.body) == ("too_slow", "transient", b"")
    assert 0.2 < answer.seconds < LIMITS.timeout_seconds


def test_the_time_of_all_redirects_together_counts_and_our_own_waits_do_not(hostile):
    with BoundedClient(contact="", limits=dataclasses.replace(LIMITS, max_seconds=1)) as client:
        patient = client.get(hostile.url("/moved/ok/9"), before_hop=lambda url: time.sleep(0.6))
        assert (patient.status, patient.seconds < 1) == ("ok", True)
        assert client.get(hostile.url("/moved/moved/silent")).status == "too_slow"


def test_the_limit_of_bytes_can_be_another_for_one_request(hostile, client):
    assert client.get(hostile.url("/ok/200000")).status == "too_large"
    assert client.get(hostile.url("/ok/200000"), max_bytes=200_000).status == "ok"
    assert client.get(hostile.url("/ok/11"), max_bytes=10).status == "too_large"
    assert client.get(hostile.url("/no-length/11"), max_bytes=10).status == "too_large"


def test_a_length_that_is_too_large_is_believed_and_nothing_more_is_read(hostile, client):
    answer = client.get(hostile.url("/length/99999999999"))
    assert (answer.status, answer.received <= 64 * 1024) == ("too_large", True)


@pytest.mark.parametrize("path", ["/endless", "/endless-chunks", "/length/99999999999", "/tiny-chunks/30000"])
def test_memory_is_bounded_by_the_limit_and_not_by_the_server(hostile, client, path):
    client.get(hostile.url("/ok"))
    tracemalloc.start()
    try:
        client.get(hostile.url(path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 30 * LIMITS.max_bytes  # the server's own bytes are in this process too


def test_only_the_address_that_gave_a_validator_is_asked_with_it(hostile, client):
    asked = {"If-None-Match": ETAG, "If-Modified-Since": "Sat, 01 Jan 2000 00:00:00 GMT", "X-Kept": "yes"}
    same = client.get(hostile.url("/ok"), asked)
    assert (same.status, same.kind, same.http_status, same.body) == ("unchanged", "ok", 304, b"")
    assert client.get(hostile.url("/moved/ok"), asked).status == "ok"  # the validator is that of /moved/ok
    assert client.get(hostile.url("/moved/ok"), asked, validated_url=hostile.url("/ok")).status == "unchanged"
    conditional = [(visit.path, "if-none-match" in visit.headers) for visit in hostile.asked[1:]]
    assert conditional == [("/moved/ok", True), ("/ok", False), ("/moved/ok", False), ("/ok", True)]
    assert all(visit.headers["x-kept"] == "yes" for visit in hostile.asked)
    assert client.get(hostile.url("/status/304")).status == "http_304"  # nobody asked for that


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504, 520, 599])
def test_what_may_pass_is_transient(hostile, client, code):
    answer = client.get(hostile.url(f"/status/{code}/120"))
    assert (answer.status, answer.kind, answer.retry_after_seconds) == (f"http_{code}", "transient", 120)


@pytest.mark.parametrize("code", [204, 400, 401, 403, 404, 410, 418, 451, 501, 505, 999])
def test_what_will_not_pass_is_permanent(hostile, client, code):
    answer = client.get(hostile.url(f"/status/{code}"))
    assert (answer.status, answer.kind, answer.http_status) == (f"http_{code}", "permanent", code)
    assert (answer.retry_after_seconds, answer.body) == (None, b"")


_PARTS_OF_DATES = ["Mon,", " ", "1", "Jan", "1970", "00:00", "GMT", "-0000", "99999", "(", ")"]


@pytest.mark.parametrize(("said", "seconds"), {"0": 0, "soon": None, "-5": None, "9" * 400: 365 * 86_400.0}.items())
def test_retry_after_is_read_with_care(hostile, client, said, seconds):
    assert client.get(hostile.url(f"/status/429/{said}")).retry_after_seconds == seconds


@given(st.text(max_size=40) | st.lists(st.sampled_from(_PARTS_OF_DATES)).map("".join))
@example("0\x1f")
def test_no_retry_after_is_too_odd_to_be_read(said):
    seconds = read_retry_after(said)
    assert seconds is None or seconds >= 0


def test_every_status_says_whether_another_try_may_mend_it():
    assert {kind for kind, _ in STATUSES.values()} == {"ok", "transient", "permanent"}
    assert all(kind_of(status) == kind for status, (kind, _) in STATUSES.items())
    assert {kind_of(f"http_{code.value}") for code in HTTPStatus if code >= 400} == {"transient", "permanent"}
    with pytest.raises(ValueError, match="robots"):
        kind_of("robots")


def test_short_pages_of_errors_leave_the_connection_open(running, client):
    before = running.connections
    for path in ("/status/404", "/status/503", "/status/204", "/moved/ok", "/ok"):
        client.get(running.url(path))
    assert running.connections == before + 1
    client.get(running.url("/length/99999999"))  # left in the middle: this one is closed
    client.get(running.url("/ok"))
    assert running.connections == before + 2


def test_each_hop_is_announced_before_it_is_asked(hostile, client):
    hops = []
    client.get(hostile.url("/moved/ok/5#part"), before_hop=lambda url: hops.append((url, len(hostile.asked))))
    assert hops == [(hostile.url("/moved/ok/5"), 0), (hostile.url("/ok/5"), 1)]


def test_an_address_that_is_refused_is_not_announced(client):
    hops = []
    for url in ("file:///etc/passwd", "http://10.0.0.1/", "http://a.example:22/"):
        assert client.get(url, before_hop=hops.append).kind == "permanent"
    assert not hops


def test_a_hop_can_be_skipped(hostile, client):
    def refuse(url):
        if "/ok" in url.removesuffix("/moved/ok"):
            raise Skip("robots", "robots.txt does not allow it", kind="transient", retry_after_seconds=7)

    answer = client.get(hostile.url("/moved/ok"), before_hop=refuse)
    assert (answer.status, answer.kind, answer.detail) == ("robots", "transient", "robots.txt does not allow it")
    assert (answer.retry_after_seconds, answer.final_url) == (7, hostile.url("/ok"))
    assert hostile.paths() == ["/moved/ok"]


def test_other_exceptions_of_a_hop_are_not_swallowed(hostile, client):
    def stop(url):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.get(hostile.url("/ok"), before_hop=stop)
    assert client.get(hostile.url("/ok")).status == "ok"


def test_no_password_is_in_an_answer(client):
    for url in ("http://me:secret@127.0.0.1/", "https://:secret@b.example/x", "ftp://me:secret@b.example/"):
        answer = client.get(url)
        assert answer.status in {"credentials", "bad_scheme"}
        assert "secret" not in repr(answer)


@pytest.mark.parametrize("url", ["x" * 20_000, "http:" + "/" * 1_000_000, "data:image/png;base64," + "A" * 1_000_000])
def test_a_url_longer_than_any_is_not_even_shown(client, url):
    answer = client.get(url)
    assert (answer.status, answer.kind, answer.final_url) == ("bad_url", "permanent", None)
    assert len(answer.detail) < 200


@given(st.text(max_size=50))
@example("http://a\ud800.example/")
def test_whatever_is_asked_the_answer_can_be_written_down(url):
    with BoundedClient(contact=CONTACT, limits=LIMITS, resolve=answering("10.0.0.1")) as client:
        answer = client.get(url)
    assert answer.kind == "permanent"
    assert f"{answer.detail} {answer.final_url}".encode()


def test_nothing_is_asked_without_a_contact(hostile):
    abroad = dataclasses.replace(LIMITS, allow_loopback=False)
    for contact in ("", "  "):
        with pytest.raises(FetchError, match="contact"):
            BoundedClient(contact=contact, limits=abroad)
    for limits in (LIMITS, abroad):
        with pytest.raises(FetchError, match="cannot stand in a User-Agent"):
            BoundedClient(contact="me\r\nHost: b.example", limits=limits)
    with BoundedClient(contact="", limits=LIMITS) as client:
        assert client.get(hostile.url("/ok")).status == "ok"
        with pytest.raises(FetchError, match=r"b\.example.*without a contact"):
            client.get("http://b.example/")
        assert client.get(hostile.url(to("http://b.example/"))).status == "no_contact"


def test_a_proxy_of_the_environment_is_not_used(hostile, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    with BoundedClient(contact=CONTACT, limits=LIMITS) as client:
        assert client.get(hostile.url("/ok")).status == "ok"


def test_threads_get_their_own_answers(hostile):
    with BoundedClient(contact="", limits=LIMITS, connections=4) as client, ThreadPoolExecutor(8) as threads:
        paths = [f"/ok/{size}" for size in range(1, 150)] + ["/cut", "/close", "/status/404"] * 10
        answers = dict(zip(paths, threads.map(lambda path: client.get(hostile.url(path)), paths), strict=True))
    for path, answer in answers.items():
        assert answer.final_url == hostile.url(path)
        assert len(answer.body) == (int(path.removeprefix("/ok/")) if path.startswith("/ok") else 0)


def test_a_slow_server_takes_one_connection_and_not_all(hostile):
    with BoundedClient(contact="", limits=dataclasses.replace(LIMITS, timeout_seconds=2), connections=2) as client:
        slow = threading.Thread(target=client.get, args=(hostile.url("/silent"),))
        slow.start()
        assert [client.get(hostile.url("/ok")).status for _ in range(5)] == ["ok"] * 5
        assert slow.is_alive()
        slow.join()


def test_a_closed_client_keeps_no_connection(hostile):
    with BoundedClient(contact="", limits=LIMITS) as client:
        client.get(hostile.url("/ok"))
        assert len(client._connections._idle) == 1
        client.close()
        assert client.get(hostile.url("/ok")).status == "ok"  # as one that was still under way
        assert not client._connections._idle
