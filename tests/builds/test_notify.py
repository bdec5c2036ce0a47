"""Hooks are called with the whole message, by a real command and a real HTTP server; none can fail a rebuild."""

import dataclasses
import json
import logging
import os
import re
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mmkg.builds.notify import RebuildMessage, notify
from mmkg.config import NotifyConfig
from mmkg.errors import ConfigError
from tests.graph.graph_tables import make_config

MESSAGE = RebuildMessage(
    graph="atlas",
    outcome="served",
    version="0002-3f2a91c0",
    folder="builds/atlas/0002-3f2a91c0",
    seconds=12.3456,
    counts={"entities": 2993, "triples": 12345},
    difference="against 0001-77939065: triples +3 −1",
    problems=("a “quoted” problem\nof two lines",),
    host="night",
)


def with_outcome(outcome: Any) -> RebuildMessage:
    return dataclasses.replace(MESSAGE, outcome=outcome)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """A webhook's other end on a free loopback port, that keeps what it got."""

    def __init__(self, answer: Answer) -> None:
        self.requests: list[tuple[str, str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append((self.path, self.headers["Content-Type"], json.loads(body)))
                answer(self)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook/secret"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], Server]]:
    servers: list[Server] = []

    def start(answer: Answer) -> Server:
        servers.append(Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def answer_with(status: int, body: bytes = b"") -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return answer


def write_script(folder: Path, text: str) -> tuple[str, str]:
    script = folder / "hook.py"
    script.write_text(text, encoding="utf-8")
    return sys.executable, str(script)


def test_a_command_gets_the_message_on_standard_input(tmp_path: Path) -> None:
    got = tmp_path / "got.json"
    code = f"import sys; data = sys.stdin.read(); open({str(got)!r}, 'w').write(data); print('thanks')"
    [result] = notify(NotifyConfig(command=write_script(tmp_path, code)), MESSAGE)
    assert (result.hook, result.ok, result.detail) == ("command", True, "exit status 0: thanks")
    data = json.loads(got.read_text(encoding="utf-8"))
    assert data.pop("text") == MESSAGE.text
    assert data == {**dataclasses.asdict(MESSAGE), "problems": list(MESSAGE.problems)}


def test_the_text_says_what_a_person_wants_to_know() -> None:
    failed = dataclasses.replace(
        MESSAGE, outcome="checks failed", problems=tuple(f"problem {i}" for i in range(7)), counts={}
    )
    assert failed.text.splitlines() == [
        "atlas 0002-3f2a91c0: checks failed after 12 s on night",
        "against 0001-77939065: triples +3 −1",
        *(f"- problem {i}" for i in range(5)),
        "- and 2 more",
        "builds/atlas/0002-3f2a91c0",
    ]
    assert "- accepted: a “quoted” problem" in MESSAGE.text and "entities 2,993, triples 12,345" in MESSAGE.text


def test_a_command_that_fails_is_logged_with_what_it_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    code = "import sys; print('no mail\\nserver', file=sys.stderr); sys.exit(3)"  # and never reads its input
    [result] = notify(NotifyConfig(command=write_script(tmp_path, code)), MESSAGE)
    assert (result.ok, result.detail) == (False, "exit status 3: no mail server")
    [record] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "exit status 3: no mail server" in record.getMessage()


def test_a_command_that_is_not_there_is_a_result() -> None:
    [result] = notify(NotifyConfig(command=("no-such-program-of-ours",)), MESSAGE)
    assert not result.ok and "No such file" in result.detail


def test_a_command_that_hangs_is_stopped_with_what_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    code = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open({str(pid)!r}, "w").write(str(child.pid))
time.sleep(600)
"""
    command = write_script(tmp_path, code)
    started = time.monotonic()
    [result] = notify(NotifyConfig(command=command, timeout_seconds=4), MESSAGE)
    assert time.monotonic() - started < 20
    assert (result.ok, result.detail) == (False, "no answer within 4 s; stopped")
    assert not _is_running(int(pid.read_text()))


def _is_running(pid: int) -> bool:
    """Whether a process is at work; one that was killed may wait to be collected by the system."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return False
        except (ProcessLookupError, FileNotFoundError):
            return False
        time.sleep(0.05)
    return True


def test_a_webhook_gets_the_message_by_post(serve: Callable[[Answer], Server]) -> None:
    server = serve(answer_with(200, b"ok"))
    [result] = notify(NotifyConfig(webhook=server.url), MESSAGE)
    assert (result.hook, result.target, result.ok, result.detail) == ("webhook", "127.0.0.1", True, "HTTP 200 OK: ok")
    [(path, content_type, data)] = server.requests
    assert (path, content_type) == ("/hook/secret", "application/json")
    assert data["text"] == MESSAGE.text and data["counts"] == MESSAGE.counts


@pytest.mark.parametrize("status", [500, 404, 302])
def test_a_webhook_that_refuses_is_logged_with_its_answer_but_not_its_secret(
    serve: Callable[[Answer], Server], caplog: pytest.LogCaptureFixture, status: int
) -> None:
    caplog.set_level(logging.DEBUG)
    server = serve(answer_with(status, b"<h1>out of\norder</h1>" + b"x" * 10_000))
    [result] = notify(NotifyConfig(webhook=server.url), MESSAGE)
    assert not result.ok
    assert result.detail.startswith(f"HTTP {status} ") and ": <h1>out of order</h1>" in result.detail
    assert len(result.detail) < 600
    [record] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "out of order" in record.getMessage() and "secret" not in caplog.text
    assert len(server.requests) == 1  # a redirect is not followed: the message is for the address that was set


def test_a_webhook_that_hangs_or_drips_is_given_up_in_time(serve: Callable[[Answer], Server]) -> None:
    released = threading.Event()

    def hang(request: BaseHTTPRequestHandler) -> None:
        released.wait(30)

    def drip(request: BaseHTTPRequestHandler) -> None:  # each read is quick, the whole never ends
        request.send_response(200)
        request.end_headers()
        try:
            while not released.wait(0.1):
                request.wfile.write(b".")
                request.wfile.flush()
        except OSError:
            pass

    for answer in (hang, drip):
        started = time.monotonic()
        [result] = notify(NotifyConfig(webhook=serve(answer).url, timeout_seconds=1), MESSAGE)
        assert time.monotonic() - started < 10
        assert not result.ok and ("no answer within 1 s" in result.detail or "Timeout" in result.detail)
    released.set()


def test_no_server_and_no_variable_are_results(
    monkeypatch: pytest.MonkeyPatch, serve: Callable[[Answer], Server]
) -> None:
    server = serve(answer_with(200))
    server.close()
    [result] = notify(NotifyConfig(webhook=server.url), MESSAGE)
    assert not result.ok and "ConnectError" in result.detail
    monkeypatch.delenv("MMKG_HOOK", raising=False)
    [result] = notify(NotifyConfig(webhook_env="MMKG_HOOK"), MESSAGE)
    assert (result.ok, result.detail) == (False, "the environment variable MMKG_HOOK is not set")


def test_the_address_comes_from_the_environment_and_both_hooks_are_called(
    monkeypatch: pytest.MonkeyPatch, serve: Callable[[Answer], Server], tmp_path: Path
) -> None:
    server = serve(answer_with(204))
    monkeypatch.setenv("MMKG_HOOK", server.url)
    config = NotifyConfig(webhook_env="MMKG_HOOK", command=write_script(tmp_path, "raise SystemExit(1)"))
    results = notify(config, MESSAGE)
    assert [(result.hook, result.ok) for result in results] == [("command", False), ("webhook", True)]
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("when", "heard"),
    [
        ("failure", {"failed", "checks failed"}),
        ("change", {"failed", "checks failed", "served"}),
        ("always", {"failed", "checks failed", "served", "unchanged"}),
    ],
)
def test_a_hook_hears_of_what_it_asked_for(when: Any, heard: set[str]) -> None:
    config = NotifyConfig(command=("true",), when=when)
    outcomes = ("served", "unchanged", "checks failed", "failed")
    assert {outcome for outcome in outcomes if notify(config, with_outcome(outcome))} == heard


def test_without_hooks_nobody_is_told() -> None:
    assert notify(NotifyConfig(), with_outcome("failed")) == ()


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"webhook": "http://a", "webhook_env": "B"}, "not both"),
        ({"webhook": "ftp://a"}, "begins with http"),
        ({"when": "never"}, "notify.when"),
    ],
)
def test_hooks_that_make_no_sense_are_errors_of_the_config(section: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_config(notify=section)


PAGE = (Path(__file__).resolve().parents[2] / "docs" / "checks.md").read_text(encoding="utf-8")


def test_the_script_on_the_page_does_what_it_says(tmp_path: Path) -> None:
    [script] = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    command = (*write_script(tmp_path, script), str(tmp_path / "rebuilds.log"))
    [told] = notify(NotifyConfig(command=command), MESSAGE)
    [told_failure] = notify(NotifyConfig(command=command), with_outcome("failed"))
    assert told.ok and told_failure.ok
    assert "<3>atlas 0002-3f2a91c0: failed" in told_failure.detail
    lines = (tmp_path / "rebuilds.log").read_text(encoding="utf-8").splitlines()
    assert lines == ["atlas 0002-3f2a91c0 served 12 s", "atlas 0002-3f2a91c0 failed 12 s"]


def test_the_settings_on_the_page_are_settings_and_each_field_and_limit_is_on_it() -> None:
    blocks = re.findall(r"^```toml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    config = make_config(**tomllib.loads("\n".join(blocks)))
    assert config.notify.webhook_env and config.checks.max_null_share
    limits = {name for name in type(config.checks).model_fields if not name.startswith("sha")} - {"licences", "shapes"}
    assert {name for name in limits if f"`{name}`" not in PAGE.partition("A worked example")[0]} <= {
        "min_relation_count"
    }
    assert [name for name in json.loads(MESSAGE.to_json()) if f"`{name}`" not in PAGE] == []
