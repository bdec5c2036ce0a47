"""A file server that misbehaves when told to, a mirror of it, and a place to fetch to."""

from pathlib import Path

import pytest

from tests.servers.http_files import serve_files
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
