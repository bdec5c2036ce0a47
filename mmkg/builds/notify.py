"""Telling people how a rebuild ended: a command that gets the message on standard input, a webhook that gets a POST.

A hook can never fail a build: what goes wrong with it is logged and returned. Both get the same JSON, whose ``text`` is
one paragraph for people, which is where chat services (Slack, Mattermost, …) look for it.
"""

import contextlib
import dataclasses
import json
import logging
import os
import queue
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Literal
from urllib.parse import urlsplit

import httpx

from mmkg.config import NotifyConfig

logger = logging.getLogger(__name__)

Ending = Literal["served", "unchanged", "checks failed", "failed"]

_ANSWER_BYTES = 500
"""So much of what a hook answered is told."""
_WHEN: Mapping[str, tuple[Ending, ...]] = {
    "failure": ("checks failed", "failed"),
    "change": ("checks failed", "failed", "served"),
    "always": ("checks failed", "failed", "served", "unchanged"),
}
_PROBLEMS_IN_TEXT = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class RebuildMessage:
    """How a rebuild ended."""

    graph: str
    outcome: Ending
    version: str | None  # that was made, or is still served when nothing has changed; None if it did not come so far
    folder: str | None  # of that version
    seconds: float
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)  # such as entities, triples, literals, rejects
    difference: str = ""  # to the version served before, in one line
    problems: tuple[str, ...] = ()  # checks that did not pass, or the error; of a served version: what was accepted
    host: str = dataclasses.field(default_factory=socket.gethostname)

    @property
    def text(self) -> str:
        """The message for people."""
        version = f" {self.version}" if self.version else ""
        lines = [f"{self.graph}{version}: {self.outcome} after {self.seconds:,.0f} s on {self.host}"]
        if self.counts:
            lines.append(", ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in self.counts.items()))
        if self.difference:
            lines.append(self.difference)
        accepted = "accepted: " if self.outcome == "served" else ""
        lines += [f"- {accepted}{problem}" for problem in self.problems[:_PROBLEMS_IN_TEXT]]
        if more := max(len(self.problems) - _PROBLEMS_IN_TEXT, 0):
            lines.append(f"- and {more:,} more")
        if self.folder:
            lines.append(self.folder)
        return "\n".join(lines)

    def to_json(self) -> str:
        """What a hook gets: every field by name, and `text`."""
        return json.dumps({**dataclasses.asdict(self), "text": self.text}, ensure_ascii=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HookResult:
    """What became of one hook."""

    hook: str  # command | webhook
    target: str  # the program; the host of the URL, as the rest of it is often a secret
    ok: bool
    detail: str  # exit status or HTTP status, and the beginning of what it answered
    seconds: float


def notify(config: NotifyConfig, message: RebuildMessage) -> tuple[HookResult, ...]:
    """Tell the hooks of a config, if they want to hear of such an ending; never raises.

    Args:
        config: the hooks, when they are called, and how long each may take.
        message: how the rebuild ended.

    Returns:
        What became of each hook that was called; a failure is also logged as a warning.
    """
    if message.outcome not in _WHEN[config.when]:
        return ()
    results = []
    if config.command:
        results.append(_measure("command", config.command[0], lambda: _run_command(config, message)))
    if config.webhook or config.webhook_env:
        url = config.webhook or os.environ.get(config.webhook_env, "")
        if url:
            target = urlsplit(url).hostname or "?"
            results.append(_measure("webhook", target, lambda: _post(url, config.timeout_seconds, message)))
        else:
            detail = f"the environment variable {config.webhook_env} is not set"
            results.append(HookResult(hook="webhook", target="?", ok=False, detail=detail, seconds=0.0))
    for result in results:
        if result.ok:
            logger.info("told %s %s: %s", result.hook, result.target, result.detail)
        else:
            logger.warning("could not tell %s %s: %s", result.hook, result.target, result.detail)
    return tuple(results)


def _measure(hook: str, target: str, call: Callable[[], tuple[bool, str]]) -> HookResult:
    """Call a hook; whatever it raises is its result, since a rebuild must not fail by the way it is told."""
    started = time.monotonic()
    try:
        ok, detail = call()
    except Exception as error:  # noqa: BLE001 - the promise of `notify`
        ok, detail = False, f"{type(error).__name__}: {error}"
    return HookResult(hook=hook, target=target, ok=ok, detail=detail, seconds=round(time.monotonic() - started, 3))


def _run_command(config: NotifyConfig, message: RebuildMessage) -> tuple[bool, str]:
    """Run the program in a group of its own, so that one that hangs ends with everything it started."""
    with subprocess.Popen(
        list(config.command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            # A program that does not read its input is no error: communicate() lets a broken pipe pass.
            answer, _ = process.communicate(message.to_json().encode(), timeout=config.timeout_seconds)
        except subprocess.TimeoutExpired:
            return False, f"no answer within {config.timeout_seconds:g} s; stopped"
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    return process.returncode == 0, _tell(f"exit status {process.returncode}", answer)


def _post(url: str, timeout_seconds: float, message: RebuildMessage) -> tuple[bool, str]:
    """POST within a time that holds for the whole exchange; the client's own limits hold for each read only."""
    results: queue.Queue[tuple[bool, str]] = queue.Queue()

    def send() -> None:
        try:
            with (
                _no_address_in_log(),
                httpx.stream(
                    "POST",
                    url,
                    content=message.to_json().encode(),
                    headers={"Content-Type": "application/json"},
                    timeout=timeout_seconds,
                ) as response,
            ):
                answer = b""
                for chunk in response.iter_raw():
                    answer += chunk
                    if len(answer) >= _ANSWER_BYTES:
                        break
                status = f"HTTP {response.status_code} {response.reason_phrase}".rstrip()
                results.put((response.is_success, _tell(status, answer)))
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            results.put((False, f"{type(error).__name__}: {error}"))

    threading.Thread(target=send, name="mmkg webhook", daemon=True).start()
    try:
        return results.get(timeout=timeout_seconds)
    except queue.Empty:
        return False, f"no answer within {timeout_seconds:g} s"


@contextlib.contextmanager
def _no_address_in_log() -> Iterator[None]:
    """The client logs each address, and that of a webhook is often a secret: what it logs in this thread is dropped."""
    here = threading.get_ident()

    def is_elsewhere(record: logging.LogRecord) -> bool:
        return record.thread != here

    client = logging.getLogger("httpx")
    client.addFilter(is_elsewhere)
    try:
        yield
    finally:
        client.removeFilter(is_elsewhere)


def _tell(status: str, answer: bytes) -> str:
    """A status and the beginning of an answer on one line."""
    words = " ".join(answer[:_ANSWER_BYTES].decode("utf-8", errors="replace").split())
    return f"{status}: {words}" if words else status
