"""Full disks, power cuts, kills and other processes: what is on disk is the file, or is gone on with."""

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mmkg.errors import FetchError
from mmkg.web import Download, read_record
from mmkg.web import partial as partial_module
from mmkg.web.partial import claim
from tests.servers.http_files import serve_files
from tests.web.fetching import CONTENT, DUMP, OTHER, begin, fetch, leftovers


def test_the_disk_is_looked_at_before_a_byte_is_fetched(server, target, monkeypatch):
    monkeypatch.setattr(partial_module.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 33_000_000))
    server.files[DUMP] = CONTENT * 4
    with pytest.raises(FetchError, match=r"1,200,000 bytes are to come .* only 33,000,000 are free"):
        fetch(server, target)
    assert list(target.parent.iterdir()) == []
    monkeypatch.setattr(partial_module, "SPARE_BYTES", 0)
    assert fetch(server, target).outcome == "fetched"


def test_what_a_file_that_is_begun_again_takes_up_is_free_for_it(server, target, monkeypatch):
    def leave(free: int) -> None:
        free += partial_module.SPARE_BYTES
        monkeypatch.setattr(partial_module.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, free))

    begin(server, target, 200_000)
    server.files[DUMP] = OTHER  # another file: If-Range is answered by 200, and the half that is here goes
    leave(99_999)
    with pytest.raises(FetchError, match="300,000 bytes are to come"):
        fetch(server, target)
    leave(100_000)
    assert fetch(server, target).outcome == "fetched"
    assert target.read_bytes() == OTHER


_LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
from pathlib import Path
from mmkg.errors import FetchError
from mmkg.web import download
try:
    download(sys.argv[1], Path(sys.argv[2]), contact="")
except FetchError as error:
    print(error)
"""


def test_a_limit_that_is_hit_in_the_middle_is_one_message_and_what_is_there_stays(server, target):
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, server.url(DUMP), str(target)], capture_output=True, text=True, check=True
    )
    assert "cannot be written beyond 100,000 bytes: File too large" in done.stdout
    assert fetch(server, target).outcome == "resumed"
    assert target.read_bytes() == CONTENT


def test_a_full_disk_is_one_message_and_what_is_there_stays(server, target, monkeypatch):
    pwrite = os.pwrite

    def full(handle: int, data: bytes, place: int) -> int:
        if place + len(data) > 150_000:
            raise OSError(28, "No space left on device")
        return pwrite(handle, data, place)

    monkeypatch.setattr(partial_module.os, "pwrite", full)
    with pytest.raises(FetchError, match="No space left on device"):
        fetch(server, target)
    monkeypatch.undo()
    assert fetch(server, target).outcome == "resumed"
    assert target.read_bytes() == CONTENT


def test_a_folder_that_cannot_be_made_is_one_message(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FetchError, match="cannot be opened for writing"):
        fetch(server, tmp_path / "file" / "x.nt")


def test_after_a_power_cut_only_what_was_flushed_is_believed(server, target):
    begin(server, target)
    partial, state = (target.with_name(target.name + suffix) for suffix in (".partial", ".partial.json"))
    said = json.loads(state.read_text())
    assert said["flushed"] == 200_000
    state.write_text(json.dumps({**said, "flushed": 80_000, "boot": "an earlier one"}))
    partial.write_bytes(CONTENT[:80_000] + bytes(120_000))  # blocks that never reached the disk
    fetch(server, target)
    assert server.asked[0].headers["Range"] == f"bytes={80_000 - 65_536}-"
    assert target.read_bytes() == CONTENT


def test_bytes_of_which_nobody_knows_where_they_come_from_are_dropped(server, target):
    target.with_name(target.name + ".partial").write_bytes(OTHER[:5000])
    assert fetch(server, target).received == 300_000
    assert target.read_bytes() == CONTENT


def test_one_killed_between_the_two_renames_is_recovered(server, target, monkeypatch):
    replace = Path.replace

    def stop_at_the_record(self: Path, other: Path) -> Path:
        if other.name.endswith(".fetch.json"):
            raise KeyboardInterrupt
        return replace(self, other)

    monkeypatch.setattr(Path, "replace", stop_at_the_record)
    with pytest.raises(KeyboardInterrupt):
        fetch(server, target)
    monkeypatch.undo()
    assert read_record(target) is None
    assert fetch(server, target).outcome == "unchanged"
    assert leftovers(target.parent) == []


def test_two_at_a_time_fetch_once(server, target):
    server.chunk_seconds = 0.01
    results: list[Download] = []
    threads = [threading.Thread(target=lambda: results.append(fetch(server, target))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done.outcome for done in results) == ["fetched", "unchanged", "unchanged"]
    assert sum(asked.sent for asked in server.asked) == 300_000
    assert leftovers(target.parent) == []


def test_another_process_that_fetches_the_same_is_waited_for(server, target):
    server.chunk_seconds = 0.02
    other = subprocess.Popen([sys.executable, "-c", _FETCH, server.url(DUMP), str(target)], stdout=subprocess.PIPE)
    while not target.with_name(target.name + ".partial").exists():
        time.sleep(0.005)
    mine = fetch(server, target)
    assert (other.wait(timeout=20), mine.outcome) == (0, "unchanged")
    other.stdout.close()


def test_a_forked_child_does_not_hold_the_file_of_its_killed_parent(target):
    reader, writer = os.pipe()
    holder = os.fork()
    if holder == 0:
        with contextlib.suppress(BaseException), claim(target):
            child = os.fork()
            if child == 0:
                time.sleep(5)
                os._exit(0)
            os.write(writer, child.to_bytes(4, "little"))
            time.sleep(5)
        os._exit(0)
    child = int.from_bytes(os.read(reader, 4), "little")
    try:
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
        started = time.monotonic()
        with claim(target):
            assert time.monotonic() - started < 2
    finally:
        os.kill(child, signal.SIGKILL)
        os.close(reader)
        os.close(writer)


_FETCH = """
import sys
from pathlib import Path
from mmkg.web import download
print(download(sys.argv[1], Path(sys.argv[2]), contact="").outcome)
"""


def test_killed_at_random_moments_it_ends_whole_and_byte_equal(tmp_path):
    content = random.Random(4).randbytes(4_000_000)
    moments = random.Random(5)
    target = tmp_path / "big.nt.gz"
    with serve_files({DUMP: content}) as server:
        server.chunk_seconds = 0.004  # about a second in all
        command = [sys.executable, "-c", _FETCH, server.url(DUMP), str(target)]
        killed = 0
        for attempt in itertools.count():
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            while process.poll() is None and not target.with_name("big.nt.gz.partial").exists():
                time.sleep(0.005)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(moments.uniform(0.0, 0.5) if attempt < 8 else 60)
            process.kill()
            killed += process.wait() == -signal.SIGKILL
            process.stdout.close()
            if target.exists():
                break
            assert not target.exists()
        assert killed >= 2
        assert target.read_bytes() == content
        assert sum(asked.sent for asked in server.asked) < 3 * len(content)
        assert fetch(server, target).outcome == "unchanged"
    assert leftovers(tmp_path) == []
