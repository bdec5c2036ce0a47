"""What the tests of fetching share: two files, one call with short patience, and a download that was cut off."""

import hashlib
import random
from pathlib import Path
from typing import Any

import pytest

from mmkg.errors import FetchError
from mmkg.web import Checksum, Download, download
from tests.servers.http_files import Act, FileServer

DUMP = "/dumps/facts.nt.gz"
CONTENT = random.Random(1).randbytes(300_000)
OTHER = random.Random(2).randbytes(300_000)


def fetch(server: FileServer, target: Path, path: str = DUMP, **settings: Any) -> Download:
    settings = {"contact": "", "attempts": 3, "timeout_seconds": 5.0, "pause": lambda seconds: None, **settings}
    return download(server.url(path), target, **settings)


def sha256(content: bytes) -> Checksum:
    return Checksum("sha256", hashlib.sha256(content).hexdigest())


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if "partial" in path.name)


def begin(server: FileServer, target: Path, size: int = 200_000) -> None:
    """Leave a partial file of that size, as a killed download does."""
    server.acts[DUMP] = [Act(drop_after=size)]
    with pytest.raises(FetchError):
        fetch(server, target, attempts=1)
    assert target.with_name(target.name + ".partial").stat().st_size == size
    server.asked.clear()
