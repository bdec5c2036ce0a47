"""One rebuild of a graph at a time; who is turned away learns who holds it, since when, and whether that one lives."""

import contextlib
import dataclasses
import datetime
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mmkg.builds import lock
from mmkg.builds.lock import LOCK_FILE, Holder, hold_graph, who_holds
from mmkg.errors import BuildError

# The module alone, without the rest of `mmkg.builds`: a process that only locks starts in an instant.
_HOLD = f"""
import importlib.util, os, sys, time
from pathlib import Path
spec = importlib.util.spec_from_file_location("lock", {lock.__file__!r})
sys.modules["lock"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
with module.hold_graph(Path(sys.argv[1]), holder="nightly-7"):
    print("held", flush=True)
    time.sleep(60)
"""

_LOCK = """
import fcntl, sys, time
with open(sys.argv[1]) as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print("held", flush=True)
    time.sleep(60)
"""


@contextlib.contextmanager
def other_process(root: Path):
    """A process that holds the graph until it is killed."""
    process = subprocess.Popen([sys.executable, "-c", _HOLD, str(root)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_the_message_to_the_second_says_all_of_the_first(tmp_path):
    with other_process(tmp_path) as process, pytest.raises(BuildError) as caught, hold_graph(tmp_path):
        pass
    message = str(caught.value)
    assert f"nightly-7 (process {process.pid} of " in message
    assert f" on {socket.gethostname()}), since 20" in message
    assert str(tmp_path) in message
    assert "-c " in message  # of its command line
    assert "That process is alive. Wait for it" in message


def test_who_holds_tells_it_without_taking_it(tmp_path):
    assert who_holds(tmp_path) is None
    with other_process(tmp_path) as process:
        holder = who_holds(tmp_path)
        assert (holder.name, holder.process, holder.host, holder.is_alive) == (
            "nightly-7",
            process.pid,
            socket.gethostname(),
            True,
        )
        started = datetime.datetime.fromisoformat(holder.started)
        assert abs((datetime.datetime.now(datetime.UTC) - started).total_seconds()) < 60
    assert who_holds(tmp_path) is None


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_process_that_ended_holds_nothing_however_it_ended(tmp_path, how):
    with other_process(tmp_path) as process:
        process.stderr = None
        process.send_signal(how)
        process.wait()
        with hold_graph(tmp_path) as root:
            assert root == tmp_path
            assert who_holds(tmp_path).process == os.getpid()


def test_it_is_given_back_at_the_end_and_after_an_error(tmp_path):
    with contextlib.suppress(RuntimeError), hold_graph(tmp_path):
        raise RuntimeError
    with hold_graph(tmp_path):
        pass
    assert (tmp_path / LOCK_FILE).read_bytes() == b""


def test_the_same_process_cannot_hold_it_twice(tmp_path):
    refused = pytest.raises(BuildError, match=f"process {os.getpid()}")
    with hold_graph(tmp_path, holder="first"), refused, hold_graph(tmp_path):
        pass


def test_a_look_never_turns_a_rebuild_away(tmp_path):
    with hold_graph(tmp_path):
        pass
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            who_holds(tmp_path)

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(100):
            with hold_graph(tmp_path):
                pass
    finally:
        stop.set()
        for looker in lookers:
            looker.join()


def test_a_worker_that_outlives_its_killed_parent_holds_nothing(tmp_path):
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        with contextlib.suppress(BaseException), hold_graph(tmp_path):
            worker = os.fork()
            if worker == 0:
                time.sleep(10)
                os._exit(0)
            os.write(writer, worker.to_bytes(4, "little"))
            time.sleep(10)
        os._exit(0)
    worker = int.from_bytes(os.read(reader, 4), "little")
    try:
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
        with hold_graph(tmp_path):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)
        os.close(reader)
        os.close(writer)


def test_a_child_that_was_given_the_lock_by_hand_is_told_apart_from_its_dead_parent(tmp_path):
    with hold_graph(tmp_path) as root:
        said = json.loads((root / LOCK_FILE).read_text())
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / LOCK_FILE).write_text(json.dumps({**said, "process": gone.pid}))
    command = [sys.executable, "-c", _LOCK, str(tmp_path / LOCK_FILE)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        child.stdout.readline()
        refused = pytest.raises(BuildError, match="That process has ended, but another one that it started still holds")
        with refused, hold_graph(tmp_path):
            pass
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def test_a_number_given_to_another_process_is_not_the_holder():
    mine = Holder(
        name="",
        process=os.getpid(),
        birth=1,  # ticks since boot
        host=socket.gethostname(),
        user="me",
        started="2026-01-01T00:00:00+00:00",
        command="mmkg build",
    )
    assert mine.is_alive is False
    assert dataclasses.replace(mine, birth=None).is_alive is True
    assert dataclasses.replace(mine, host="another").is_alive is None
    assert dataclasses.replace(mine, process=1, birth=None).is_alive is True


def test_a_lock_of_another_machine_that_was_never_given_back_is_told(tmp_path, caplog):
    with hold_graph(tmp_path):
        said = json.loads((tmp_path / LOCK_FILE).read_text())
    (tmp_path / LOCK_FILE).write_text(json.dumps({**said, "host": "node7"}))
    with caplog.at_level(logging.WARNING), hold_graph(tmp_path):
        pass
    assert "was never given back by process" in caplog.text
    assert "on node7" in caplog.text


def test_who_comes_after_one_that_was_killed_is_told_of_it(tmp_path, caplog):
    with other_process(tmp_path) as process:
        process.kill()
        process.wait()
        with caplog.at_level(logging.WARNING), hold_graph(tmp_path):
            pass
    assert f"was never given back by nightly-7 (process {process.pid} of " in caplog.text
    assert "That one was killed." in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING), hold_graph(tmp_path):
        pass
    assert caplog.text == ""  # the one before came to its end


@pytest.mark.parametrize("text", ["", "123", '{"half', '{"process": 1}', "\0\0"])
def test_a_file_that_does_not_tell_is_no_obstacle(tmp_path, text):
    (tmp_path / LOCK_FILE).write_text(text)
    with hold_graph(tmp_path):
        assert who_holds(tmp_path).process == os.getpid()


def test_a_folder_that_cannot_be_written_is_one_message(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BuildError, match=r"set graph\.output"), hold_graph(tmp_path / "file" / "graph"):
        pass


def test_of_many_at_once_exactly_one_works_at_a_time(tmp_path):
    alone = "Path(sys.argv[1], 'in').touch(exist_ok=False); time.sleep(0.05); Path(sys.argv[1], 'in').unlink()"
    command = [sys.executable, "-c", _HOLD.replace("time.sleep(60)", alone), str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert any(process.returncode == 0 for process in processes)
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0 or re.search(r"BuildError: .*another build of this graph is running", errors)
        assert "FileExistsError" not in errors
