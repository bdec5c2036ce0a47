"""A run that is killed at any moment goes on where it was: the same end, and one shard asked again at most."""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pyarrow as pa
import pytest

from mmkg.images.library import PictureLibrary
from mmkg.shards import Archive
from tests.images.fetching import fast, run
from tests.servers.pictures import PictureServer, serve_pictures

SHARD = 16
KILLS = 4


def addresses(server: PictureServer) -> list[str]:
    """160 pictures, some the same, some missing, and what is no picture."""
    pictures = [server.url(f"/ok/{number}" + ("?same" if number % 10 == 0 else "")) for number in range(140)]
    return (
        pictures
        + [server.url(f"/status/404/{number}") for number in range(12)]
        + [server.url(f"/html/{n}") for n in range(8)]
    )


def fetch(folder: Path, urls: list[str]) -> None:
    images = fast(connections=6, connections_per_host=6)
    run(images, PictureLibrary(folder), *urls, attempts_per_shard=SHARD)


def end_state(library: PictureLibrary, server: PictureServer) -> set[tuple[str, str, str | None]]:
    rows = library.last_attempts().to_pylist()
    return {(row["url"].removeprefix(server.base), row["status"], row["sha256"]) for row in rows}


def check_whole(library: PictureLibrary) -> None:
    """No attempt names a picture that is not there, and nothing half-written has a name."""
    served = library.served.read()
    named = {digest for digest in library.attempts.read()["sha256"].to_pylist() if digest}
    assert named <= set(served["sha256"].to_pylist())


def fetch_until_killed_between_bytes_and_attempts(folder: Path, urls: list[str]) -> None:
    """Dies by its own hand when the second shard's bytes are on disk and its attempts are not."""
    append = Archive.append
    parts = []

    def append_or_die(archive: Archive, rows: pa.Table) -> Path | None:
        if archive.key == "url":
            parts.append(rows)
            if len(parts) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
        return append(archive, rows)

    Archive.append = append_or_die  # type: ignore[method-assign]
    fetch(folder, urls)


@pytest.fixture(scope="module")
def processes():
    """Starts processes in which everything is imported already: the tests kill work, not imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.images.fetching"])
    return context


def test_a_killed_run_goes_on_and_asks_at_most_one_shard_again(tmp_path, processes):
    chance = random.Random(7)
    with serve_pictures(tmp_path, delay_seconds=0.04) as server:
        urls = addresses(server)
        library = PictureLibrary(tmp_path / "killed")
        kills = 0
        while kills < KILLS:
            asked = len(server.requests())
            process = processes.Process(target=fetch, args=(library.folder, urls))
            process.start()
            # Some way after its first request: in the middle of requests, or of writing a shard.
            while len(server.requests()) == asked and process.is_alive():
                time.sleep(0.005)
            time.sleep(chance.uniform(0.01, 0.25))
            process.kill()
            process.join()
            if process.exitcode == 0:
                break  # the machine was so busy that the run was done before it was killed
            kills += 1
            check_whole(library)
        assert kills
        fetch(library.folder, urls)
        check_whole(library)
        assert len(server.requests()) <= len(urls) + kills * SHARD
        assert library.served.read().num_rows == len(set(library.served.keys().to_pylist())) == 127
        assert not list(library.folder.rglob("*.partial"))
        killed = end_state(library, server)
    with serve_pictures(tmp_path) as server:
        uninterrupted = PictureLibrary(tmp_path / "uninterrupted")
        fetch(uninterrupted.folder, addresses(server))
        assert killed == end_state(uninterrupted, server)
        assert len(server.requests()) == len(killed) == 160


def test_a_run_that_dies_between_the_bytes_and_the_attempts_of_a_shard_loses_that_shard_only(tmp_path, processes):
    with serve_pictures(tmp_path) as server:
        urls = addresses(server)
        library = PictureLibrary(tmp_path / "killed")
        process = processes.Process(target=fetch_until_killed_between_bytes_and_attempts, args=(library.folder, urls))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        check_whole(library)
        assert library.last_attempts().num_rows == SHARD // 2
        assert len(library.served.keys()) > SHARD // 2  # bytes that no attempt names
        fetch(library.folder, urls)
        check_whole(library)
        assert library.served.read().num_rows == len(set(library.served.keys().to_pylist())) == 127
        assert len(server.requests()) <= len(urls) + SHARD
