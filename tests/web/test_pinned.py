"""What is connected to is what was checked: look-ups, connections, TLS, and connections that are used again."""

import functools
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mmkg.web import pinned
from mmkg.web.bounded import BoundedClient, Limits
from tests.servers.hostile import CERTIFICATE, serve_hostile

HOST = "pictures.example"
PUBLIC = "93.184.216.34"


@pytest.fixture
def hostile():
    with serve_hostile() as server:
        yield server


class Names:
    """A name server of ours: gives one list of addresses after the other, the last one for ever; counts."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def __call__(self, host, port, **kwargs):
        self.asked.append(host)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answer]


def open_client(resolve, **kwargs):
    limits = {"max_bytes": 10_000, "max_seconds": 5, "timeout_seconds": 5, "max_redirects": 5, "allow_loopback": True}
    own = {name: kwargs.pop(name) for name in list(kwargs) if name in limits}
    return BoundedClient(contact="me@example.org", limits=Limits(**limits | own), resolve=resolve, **kwargs)


def test_one_look_up_serves_the_check_and_the_connection(hostile):
    with serve_hostile({"/who": b"another machine"}, host="127.0.0.2", port=hostile.port):
        hostile.files["/who"] = b"the one that was checked"
        names = Names(["127.0.0.1"], ["127.0.0.2"])  # who looks up twice comes to another machine
        with open_client(names) as client:
            for _ in range(5):
                assert client.get(hostile.url("/who", host=HOST)).body == b"the one that was checked"
        assert names.asked == [HOST]  # one connection was enough
        assert hostile.connections == 1


def test_an_answer_that_changes_is_checked_anew_for_each_connection(hostile):
    names = Names(["127.0.0.1"], ["10.0.0.1"])
    with open_client(names) as client:
        assert client.get(hostile.url("/no-length/5", host=HOST)).status == "ok"  # ends with its connection
        assert client.get(hostile.url("/ok", host=HOST)).status == "private_address"
    assert hostile.paths() == ["/no-length/5"]
    assert len(names.asked) == 2


@pytest.mark.parametrize(
    "answer",
    [
        ["127.0.0.1", "10.0.0.1"],
        ["169.254.169.254", "127.0.0.1"],
        ["127.0.0.1", "::ffff:127.0.0.1"],
        ["127.0.0.1", "fe80::1%lo"],
        ["127.0.0.1"] + [f"127.0.0.{last}" for last in range(1, 100)] + ["192.168.0.1"],
    ],
)
def test_one_bad_address_of_a_host_is_one_too_many(hostile, answer):
    with open_client(Names(answer)) as client:
        refused = client.get(hostile.url("/ok", host=HOST))
    assert (refused.status, refused.kind, hostile.connections) == ("private_address", "permanent", 0)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:93.184.216.34"])
def test_a_name_of_a_private_address_is_refused(hostile, address):
    with open_client(Names([address]), allow_loopback=False) as client:
        assert client.get(hostile.url("/ok", host=HOST)).status == "private_address"
    assert hostile.connections == 0


def test_a_public_name_is_connected_to_by_its_address_and_asked_by_its_name(hostile, monkeypatch):
    called = []

    def connect(address, port, timeout_seconds):
        called.append((str(address), port))
        return socket.create_connection((hostile.host, port))

    monkeypatch.setattr(pinned, "_connect", connect)
    with open_client(Names([PUBLIC], ["127.0.0.1"]), allow_loopback=False) as client:
        assert client.get(hostile.url("/ok", host="Pictures.EXAMPLE.")).status == "ok"
    assert called == [(PUBLIC, hostile.port)]
    assert hostile.asked[0].headers["host"] == f"{HOST}:{hostile.port}"


def test_a_number_is_not_looked_up(hostile):
    names = Names(["10.0.0.1"])
    with open_client(names) as client:
        assert client.get(hostile.url("/ok")).status == "ok"
        assert client.get(f"http://[::ffff:127.0.0.1]:{hostile.port}/ok").status == "private_address"
    assert names.asked == []


def test_when_one_address_is_dead_the_next_is_called(hostile, monkeypatch):
    real, called = pinned._connect, []

    def connect(address, port, timeout_seconds):
        called.append((str(address), round(timeout_seconds)))
        if str(address) == "127.0.0.9":
            raise TimeoutError
        return real(address, port, timeout_seconds)

    monkeypatch.setattr(pinned, "_connect", connect)
    with open_client(Names(["127.0.0.8", "127.0.0.9", "127.0.0.1"]), timeout_seconds=3) as client:
        assert client.get(hostile.url("/ok", host=HOST)).status == "ok"
    assert called == [("127.0.0.8", 1), ("127.0.0.9", 2), ("127.0.0.1", 3)]  # the first refuses, the second is silent


def test_a_host_of_many_dead_addresses_is_given_up(monkeypatch):
    called = []

    def connect(address, port, timeout_seconds):
        called.append(address)
        raise OSError("no way there")

    monkeypatch.setattr(pinned, "_connect", connect)
    with open_client(Names([f"127.0.1.{last}" for last in range(1, 200)])) as client:
        assert client.get(f"http://{HOST}:8080/").status == "connection"
    assert len(called) == 4


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (socket.gaierror(socket.EAI_NONAME, "no such name"), "unknown_host", "permanent"),
        (socket.gaierror(socket.EAI_NODATA, "no address"), "unknown_host", "permanent"),
        (socket.gaierror(socket.EAI_AGAIN, "later"), "lookup", "transient"),
        (socket.gaierror(socket.EAI_FAIL, "broken"), "lookup", "transient"),
        (OSError("no network"), "lookup", "transient"),
        ([], "unknown_host", "permanent"),
    ],
)
def test_a_name_that_does_not_exist_is_told_from_a_name_server_that_does_not_answer(error, status, kind):
    with open_client(Names(error)) as client:
        answer = client.get(f"http://{HOST}/")
    assert (answer.status, answer.kind) == (status, kind)


def test_a_bug_in_a_look_up_is_not_swallowed():
    with open_client(Names(ZeroDivisionError())) as client, pytest.raises(ZeroDivisionError):
        client.get(f"http://{HOST}/")


def test_a_look_up_that_hangs_ends_with_the_request():
    release = threading.Event()
    with open_client(lambda *_, **__: release.wait() and [], timeout_seconds=0.1) as client:
        silent = client.get(f"http://{HOST}/")
    with open_client(lambda *_, **__: release.wait() and [], max_seconds=0.1) as client:
        slow = client.get(f"http://{HOST}/")
    release.set()
    assert (silent.status, silent.kind) == ("timeout", "transient")
    assert (slow.status, slow.kind) == ("too_slow", "transient")


def test_look_ups_that_hang_do_not_pile_up(monkeypatch):
    monkeypatch.setattr(pinned, "_MAX_LOOK_UPS", 2)
    release, asked = threading.Event(), []
    with open_client(lambda *_, **__: asked.append(1) or (release.wait() and []), timeout_seconds=0.05) as client:
        assert [client.get(f"http://{HOST}/").status for _ in range(5)] == ["timeout"] * 5
    release.set()
    assert len(asked) == 2


def test_a_port_that_nobody_listens_on_may_be_listened_on_later():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with open_client(Names(["127.0.0.1"])) as client:
        answer = client.get(f"http://{HOST}:{port}/")
    assert (answer.status, answer.kind) == ("refused_connection", "transient")


@functools.cache
def trusting():
    return ssl.create_default_context(cafile=CERTIFICATE)


def test_tls_goes_to_the_checked_address_and_is_checked_by_the_name():
    names = Names(["127.0.0.1"])
    with serve_hostile(tls=True) as server, open_client(names, ssl_context=trusting()) as client:
        for _ in range(3):
            answer = client.get(server.url("/ok/5000", host=HOST))
            assert (answer.status, len(answer.body)) == ("ok", 5_000)
        assert server.connections == len(names.asked) == 1
        other = client.get(server.url("/ok", host="other.example"))
        number = client.get(server.url("/ok"))
    assert (other.status, other.kind, number.status) == ("tls", "permanent", "tls")
    assert "other.example" in other.detail
    assert len(server.asked) == 3


def test_a_certificate_that_nobody_vouches_for_is_refused():
    with serve_hostile(tls=True) as server, open_client(Names(["127.0.0.1"])) as client:
        answer = client.get(server.url("/ok", host=HOST))
    assert (answer.status, answer.kind, server.asked) == ("tls", "permanent", [])


def _greet(server):
    line, _ = server.accept()
    with line:
        line.sendall(b"220 mail.example ESMTP\r\n")


def test_a_server_without_tls_holds_nobody_up(hostile):
    limits = {"timeout_seconds": 0.2}
    with open_client(Names(["127.0.0.1"]), ssl_context=trusting(), **limits) as client:
        waits = client.get(f"https://{HOST}:{hostile.port}/")
    with socket.create_server(("127.0.0.1", 0)) as mail, ThreadPoolExecutor(1) as thread:
        asked = thread.submit(_greet, mail)
        with open_client(Names(["127.0.0.1"]), ssl_context=trusting(), **limits) as client:
            speaks = client.get(f"https://{HOST}:{mail.getsockname()[1]}/")
        asked.result()
    assert (waits.status, speaks.status) == ("timeout", "tls")


def test_a_connection_is_used_again_for_its_own_origin_only(hostile):
    names = Names(["127.0.0.1"])
    with serve_hostile() as second, open_client(names) as client:
        for host in ("a.example", "b.example", "a.example", "b.example"):
            assert client.get(hostile.url("/ok", host=host)).status == "ok"
        assert client.get(second.url("/ok", host="a.example")).status == "ok"
        assert (hostile.connections, second.connections) == (2, 1)
        assert names.asked == ["a.example", "b.example", "a.example"]


def test_no_more_connections_are_open_than_are_allowed(hostile):
    with open_client(Names(["127.0.0.1"]), connections=2) as client, ThreadPoolExecutor(8) as threads:
        hosts = [f"h{number % 5}.example" for number in range(40)]
        answers = list(threads.map(lambda host: client.get(hostile.url("/ok", host=host)).status, hosts))
        pool = client._connections
        assert len(pool._idle) + pool._in_use <= 2
    assert answers == ["ok"] * 40
    assert not pool._idle


def test_a_request_that_finds_an_idle_connection_closed_is_sent_again_once(hostile):
    with open_client(Names(["127.0.0.1"])) as client:
        assert client.get(hostile.url("/once")).body == b"once"
        assert client.get(hostile.url("/once")).body == b"once"  # its first connection closes when it is asked
        assert client.get(hostile.url("/close")).status == "cut"
    assert hostile.paths() == ["/once", "/once", "/once", "/close", "/close"]
    with open_client(Names(["127.0.0.1"])) as client:
        assert client.get(hostile.url("/close")).status == "cut"  # a fresh one: not asked again
    assert hostile.paths()[5:] == ["/close"]


def test_when_one_idle_connection_is_closed_the_others_are_not_believed(hostile):
    together = threading.Barrier(2, timeout=5)
    hostile.files["/wait"] = b"here"
    with open_client(Names(["127.0.0.1"])) as client, ThreadPoolExecutor(2) as threads:
        hostile.before_answer = together.wait  # both are asked before one is answered
        assert [answer.status for answer in threads.map(client.get, [hostile.url("/wait")] * 2)] == ["ok"] * 2
        hostile.before_answer = None
        assert hostile.connections == 2
        assert client.get(hostile.url("/once")).body == b"once"  # on a third: both close when they are asked
    assert hostile.connections == 3


@pytest.mark.parametrize("path", ["/two-answers", "/too-long"])
def test_bytes_after_an_answer_are_never_the_next_answer(hostile, path):
    with open_client(Names(["127.0.0.1"])) as client:
        assert client.get(hostile.url(path)).body == b"true"
        assert client.get(hostile.url("/ok/3")).body == b"xxx"
