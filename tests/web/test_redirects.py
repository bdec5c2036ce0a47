"""Where an answer may send us: each address on the way is checked as the first, and the way has an end."""

import dataclasses
import socket
import ssl

import pytest

from mmkg.web import bounded, pinned
from mmkg.web.bounded import BoundedClient
from tests.servers.hostile import CERTIFICATE, serve_hostile
from tests.web.bounds import CONTACT, LIMITS, answering, to

REDIRECTS = {
    "http://10.0.0.1/": "private_address",
    "http://169.254.169.254/latest/meta-data/": "private_address",
    "http://[::ffff:127.0.0.1]/": "private_address",
    "http://[fe80::1]/": "private_address",
    "http://2130706433/": "bad_url",
    "http://0x7f.1/": "bad_url",
    "http://a b/": "bad_url",
    "http://b.example\\@127.0.0.1/": "bad_url",
    "http://[": "bad_url",
    "http://me:secret@b.example/": "credentials",
    "http://b.example:22/": "bad_port",
    "file:///etc/passwd": "bad_scheme",
    "ftp://b.example/": "bad_scheme",
    "data:image/png;base64,AAAA": "bad_scheme",
    "gopher://b.example/": "bad_scheme",
}


@pytest.mark.parametrize(("location", "status"), REDIRECTS.items())
def test_each_redirect_is_checked_as_the_first_address(hostile, client, location, status):
    answer = client.get(hostile.url(to(location)))
    assert (answer.status, answer.kind, answer.http_status) == (status, "permanent", 302)
    assert len(hostile.asked) == 1
    assert "secret" not in f"{answer.detail} {answer.headers}"


def test_a_redirect_to_this_machine_is_refused_where_it_is_not_allowed(hostile, monkeypatch):
    def connect(address, port, timeout_seconds):
        assert str(address) == "1.1.1.1"
        return socket.create_connection((hostile.host, hostile.port))

    monkeypatch.setattr(pinned, "_connect", connect)
    limits = dataclasses.replace(LIMITS, allow_loopback=False)
    with BoundedClient(contact=CONTACT, limits=limits, resolve=answering("1.1.1.1")) as client:
        for here in (hostile.url("/ok"), f"http://localhost:{hostile.port}/ok", f"http://[::1]:{hostile.port}/ok"):
            assert client.get(f"http://a.example{to(here)}").status == "private_address"
        assert client.get(f"http://a.example{to('http://b.example/ok')}").status == "ok"
    assert hostile.paths()[-1] == "/ok"
    assert len(hostile.asked) == 5


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_followed(hostile, client, code):
    answer = client.get(hostile.url(to("/ok/7", code)))
    assert (answer.status, len(answer.body), answer.final_url) == ("ok", 7, hostile.url("/ok/7"))


def test_redirects_have_an_end(hostile, client):
    assert client.get(hostile.url("/moved/moved/moved/ok")).status == "ok"
    hostile.asked.clear()
    assert client.get(hostile.url("/on/1")).status == "too_many_redirects"
    assert hostile.paths() == ["/on/1", "/on/2", "/on/3", "/on/4"]
    hostile.asked.clear()
    assert client.get(hostile.url(to("#x"))).status == "redirect_loop"
    assert len(hostile.asked) == 1


@pytest.mark.parametrize(("location", "path"), {"/ok/ä": "/ok/%EF%BF%BD", "/ok/Ã¤": "/ok/%C3%A4"}.items())
def test_a_location_that_is_not_ascii_is_read_as_utf_8(hostile, client, location, path):
    hostile.files[path] = b"found"
    assert client.get(hostile.url(to(location.encode("latin-1")))).body == b"found"


def test_a_redirect_without_an_address_and_one_that_we_do_not_know_are_statuses(hostile, client):
    assert client.get(hostile.url("/status/302")).status == "http_302"
    assert client.get(hostile.url(to("/ok", 300))).status == "http_300"


def test_a_page_that_nobody_reads_has_no_cost(hostile, client):
    answer = client.get(hostile.url("/endless-page"))
    assert (answer.status, len(answer.body)) == ("ok", 7)
    assert answer.received < 200_000


def test_a_page_that_nobody_reads_is_not_waited_for(hostile, client, monkeypatch):
    monkeypatch.setattr(bounded, "_REST_SECONDS", 0.05)
    answer = client.get(hostile.url("/stalling-page"))
    assert (answer.status, answer.kind) == ("http_404", "permanent")
    assert answer.seconds < LIMITS.timeout_seconds / 2


def test_https_never_becomes_http(hostile):
    trusting = ssl.create_default_context(cafile=CERTIFICATE)
    with (
        serve_hostile(tls=True) as server,
        BoundedClient(contact=CONTACT, limits=LIMITS, resolve=answering("127.0.0.1"), ssl_context=trusting) as client,
    ):
        down = client.get(server.url(to(hostile.url("/ok")), host="pictures.example"))
        up = client.get(hostile.url(to(server.url("/ok/8", host="pictures.example"))))
    assert (down.status, down.kind) == ("downgrade", "permanent")
    assert "/ok" not in hostile.paths()
    assert (up.status, len(up.body)) == ("ok", 8)
