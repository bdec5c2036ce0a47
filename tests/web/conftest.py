"""A file server that misbehaves when told to, a mirror of it, a hostile server, and a guard that keeps us here."""

from pathlib import Path

import pytest

from mmkg.web.bounded import BoundedClient
from tests.servers.hostile import serve_hostile
from tests.servers.http_files import serve_files
from tests.servers.loopback import only_loopback
from tests.web.bounds import CONTACT, LIMITS
from tests.web.fetching import CONTENT, DUMP


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server():
    with serve_files({DUMP: CONTENT}) as running:
        yield running


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "facts.nt.gz"


@pytest.fixture
def mirror():
    with serve_files({DUMP: CONTENT}) as running:
        yield running


@pytest.fixture(scope="module")
def running():
    with serve_hostile() as server:
        yield server


@pytest.fixture
def hostile(running):
    running.asked.clear()
    return running


@pytest.fixture
def client():
    with BoundedClient(contact=CONTACT, limits=LIMITS) as opened:
        yield opened


@pytest.fixture(autouse=True)
def stays_on_loopback(monkeypatch):
    with only_loopback(monkeypatch):
        yield
