"""A pull that is killed at a random moment and started again ends with the parts of an undisturbed one."""

import contextlib
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mmkg.config import SparqlConfig
from mmkg.errors import FetchError
from mmkg.sources.sparql import pull
from mmkg.sources.sparql.ledger import LEDGER_FILE
from tests.servers.lying_sparql import LyingServer, Question, Reply, lying_server
from tests.sources.sparql_pulls import statements_in

P = "http://a/p"
# Imports once, and then becomes one pull after the other: a line of JSON in, the pull's process id out.
_PULLS = """
import json, os, sys
from pathlib import Path
import SPARQLWrapper
from mmkg.config import SparqlConfig
from mmkg.sources.sparql import pull
for line in sys.stdin:
    config, folder = json.loads(line)
    process = os.fork()
    if process == 0:
        pull(SparqlConfig.model_validate(config), Path(folder))
        os._exit(0)
    print(process, flush=True)
    print(os.waitpid(process, 0)[1], flush=True)
"""


@pytest.fixture
def server() -> Iterator[LyingServer]:
    with lying_server() as running:
        lines = [f'<http://a/item_{n:03d}> <{P}> "value {n}" .' for n in range(300)]
        running.load("\n".join(lines).encode())
        running.lie = lambda question: Reply(question.truth, wait_seconds=0.02)
        yield running


def config_of(server: LyingServer, connections: int = 2) -> SparqlConfig:
    return SparqlConfig(
        endpoint=server.endpoint, predicates=(P,), page_rows=10, delay_seconds=0, connections=connections
    )


def _wait_for_lines(ledger: Path, lines: int) -> None:
    """Until a pull has taken so many steps, or is done."""
    end = time.monotonic() + 60
    while time.monotonic() < end and not (ledger.parent / "pull.json").exists():
        if ledger.exists() and ledger.read_bytes().count(b"\n") >= lines:
            return
        time.sleep(0.005)


def test_sigkill_at_random_moments_changes_no_byte_and_costs_little(server: LyingServer, tmp_path: Path) -> None:
    config = config_of(server)
    expected = pull(config, tmp_path / "undisturbed")
    random_seed = int(os.environ.get("MMKG_KILL_SEED", "7"))
    draw = random.Random(random_seed)
    killed = 0
    command = [sys.executable, "-c", _PULLS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as pulls:
        assert pulls.stdin is not None
        assert pulls.stdout is not None
        for round_number in range(6):
            folder = tmp_path / str(round_number)
            pulls.stdin.write(json.dumps([config.model_dump(mode="json"), str(folder)]) + "\n")
            pulls.stdin.flush()
            process = int(pulls.stdout.readline())
            _wait_for_lines(folder / LEDGER_FILE, draw.randint(4, 30))
            time.sleep(draw.uniform(0, 0.03))
            with contextlib.suppress(ProcessLookupError):  # it was done before
                os.kill(process, signal.SIGKILL)
            status = int(pulls.stdout.readline())
            assert status in {0, signal.SIGKILL}
            killed += status == signal.SIGKILL
            report = pull(config, folder)
            assert [file.read_bytes() for file in report.files] == [file.read_bytes() for file in expected.files]
            assert report.requests < expected.requests, random_seed
            assert sorted(path.name for path in folder.iterdir()) == ["part-000000.nt.gz", "pull.json"]
    assert killed >= 3


def _stop_after(server: LyingServer, pages: int) -> None:
    def lie(question: Question) -> Reply | None:
        return Reply(b"", 403) if question.kind == "page" and question.number > pages else None

    server.lie = lie


def _pull_half(server: LyingServer, folder: Path, connections: int = 2) -> None:
    """Pull twelve pages; with one connection those of items 0 to 119."""
    _stop_after(server, 12)
    with pytest.raises(FetchError, match="403"):
        pull(config_of(server, connections), folder)
    server.lie = lambda question: None


def test_pages_that_are_there_are_not_asked_for_again(server: LyingServer, tmp_path: Path) -> None:
    _pull_half(server, tmp_path)
    before = server.asked["page"]
    report = pull(config_of(server), tmp_path)
    assert report.resumed == 12
    assert server.asked["page"] - before == report.ranges - 12 + 3  # the first, the middle and the last, to compare
    assert report.statements == 300


@pytest.mark.parametrize("torn", [b'{"step":"page","range":"', b'{"step":"page"}', b"\xff\x00"])
def test_a_torn_last_line_of_the_ledger_is_cut_off(server: LyingServer, tmp_path: Path, torn: bytes) -> None:
    _pull_half(server, tmp_path)
    with (tmp_path / LEDGER_FILE).open("ab") as ledger:
        ledger.write(torn)
    before = server.asked["page"]
    _stop_after(server, before + 3 + 5)  # three to compare
    with pytest.raises(FetchError, match="403"):  # and again: what came behind the torn line counts too
        pull(config_of(server), tmp_path)
    server.lie = lambda question: None
    report = pull(config_of(server), tmp_path)
    assert (report.statements, report.resumed) == (300, 17)


def test_a_page_that_was_damaged_on_disk_is_fetched_again(server: LyingServer, tmp_path: Path) -> None:
    _pull_half(server, tmp_path)
    pages = sorted((tmp_path / "pages").iterdir())
    pages[0].write_bytes(b"damaged")
    pages[1].unlink()
    report = pull(config_of(server), tmp_path)
    assert (report.statements, report.resumed) == (300, 10)


def test_a_ledger_of_other_settings_is_not_gone_on_from(server: LyingServer, tmp_path: Path) -> None:
    _pull_half(server, tmp_path)
    other = SparqlConfig(endpoint=server.endpoint, classes=("http://a/C",), delay_seconds=0)
    server.load(b"<http://a/x> <http://www.w3.org/1999/02/22-rdf-syntax-ns#type> <http://a/C> .")
    report = pull(other, tmp_path)
    assert (report.statements, report.resumed) == (1, 0)


def test_what_changed_while_the_pull_lay_dead_is_pulled_again(server: LyingServer, tmp_path: Path) -> None:
    _pull_half(server, tmp_path)
    server.load("".join(f'<http://a/item_{n:03d}> <{P}> "value {n}" .\n' for n in range(5, 320)).encode())
    report = pull(config_of(server), tmp_path)
    undisturbed = pull(config_of(server), tmp_path / "undisturbed")
    assert report.statements == 315
    assert report.resumed == 11  # the first page lost five
    assert [file.read_bytes() for file in report.files] == [file.read_bytes() for file in undisturbed.files]


def _load_items(server: LyingServer, value: str, node: str = "nodeID://b1", first: str = "first") -> None:
    """The same keys and counts for every value; item 50, on the sixth page, has a blank node as Virtuoso names it."""
    lines = [f'<http://a/item_{n:03d}> <{P}> "{value} {n}" .' for n in range(300)]
    lines[0] = f'<http://a/item_000> <{P}> "{first}" .'
    lines[50] = f"<http://a/item_050> <{P}> <{node}> ."
    server.load("\n".join(lines).encode())


@pytest.mark.parametrize("after", [("other", "nodeID://b1"), ("value", "nodeID://b2")], ids=["values", "blank nodes"])
def test_an_endpoint_that_was_loaded_anew_while_the_pull_lay_dead_is_pulled_anew(
    server: LyingServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, after: tuple[str, str]
) -> None:
    _load_items(server, "value")
    _pull_half(server, tmp_path, connections=1)
    _load_items(server, *after)
    with caplog.at_level(logging.WARNING):
        report = pull(config_of(server), tmp_path)
    assert "when a killed pull began, there changed: " in caplog.text
    assert "all is pulled anew" in caplog.text
    undisturbed = pull(config_of(server), tmp_path / "undisturbed")
    assert (report.statements, report.resumed) == (300, 0)
    assert [file.read_bytes() for file in report.files] == [file.read_bytes() for file in undisturbed.files]


def test_a_single_page_that_changed_is_pulled_again_alone(
    server: LyingServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _load_items(server, "value")
    _pull_half(server, tmp_path, connections=1)
    _load_items(server, "value", first="other")
    with caplog.at_level(logging.WARNING):
        report = pull(config_of(server), tmp_path)
    assert "that is pulled again" in caplog.text
    assert (report.statements, report.resumed) == (300, 11)
    assert sum('"other"' in line for line in statements_in(report)) == 1


def test_a_page_that_comes_again_without_some_rows_is_not_taken_for_one_that_changed(
    server: LyingServer, tmp_path: Path
) -> None:
    _pull_half(server, tmp_path)
    server.lie = lambda question: Reply(question.with_rows(question.rows[1:])) if question.kind == "page" else None
    with pytest.raises(FetchError, match=r"does not come again \(.*statements where it counts"):
        pull(config_of(server), tmp_path)
    server.lie = lambda question: None
    assert pull(config_of(server), tmp_path).resumed == 12


def test_a_page_that_does_not_come_again_stops_the_pull_and_nothing_is_lost(
    server: LyingServer, tmp_path: Path
) -> None:
    _pull_half(server, tmp_path)
    server.lie = lambda question: Reply(question.truth, status=206) if question.kind == "page" else None
    with pytest.raises(FetchError, match=r"predicate <http://a/p>, .*was pulled and does not come again.*remove "):
        pull(config_of(server), tmp_path)
    server.lie = lambda question: None
    assert pull(config_of(server), tmp_path).resumed == 12


def _began(hours_ago: float) -> str:
    return (datetime.now(UTC) - timedelta(hours=hours_ago)).isoformat()


@pytest.mark.parametrize(
    ("hours", "settings", "resumed"), [(47, {}, 12), (49, {}, 0), (49, {"max_resume_hours": 50}, 12)]
)
def test_a_killed_pull_is_gone_on_with_for_so_many_hours_since_it_began(
    server: LyingServer, tmp_path: Path, hours: float, settings: dict[str, float], resumed: int
) -> None:
    _pull_half(server, tmp_path)
    ledger = tmp_path / LEDGER_FILE
    first, *rest = ledger.read_text().splitlines(keepends=True)
    ledger.write_text("".join([json.dumps({**json.loads(first), "started": _began(hours)}) + "\n", *rest]))
    report = pull(config_of(server).model_copy(update=settings), tmp_path)
    assert (report.statements, report.resumed) == (300, resumed)


def test_the_age_of_a_finished_pull_counts_from_when_its_first_attempt_began(
    server: LyingServer, tmp_path: Path
) -> None:
    _pull_half(server, tmp_path)
    began = json.loads((tmp_path / LEDGER_FILE).read_text().splitlines()[0])["started"]
    pull(config_of(server), tmp_path)
    result = json.loads((tmp_path / "pull.json").read_text())
    assert result["started"] == began < result["finished"]
    assert pull(config_of(server), tmp_path).requests == 0
    (tmp_path / "pull.json").write_text(json.dumps({**result, "started": _began(21)}))  # finished just now
    assert pull(config_of(server), tmp_path).requests > 0


def test_a_folder_in_which_a_pull_is_at_work_is_refused_with_the_process(server: LyingServer, tmp_path: Path) -> None:
    refused: list[str] = []

    def lie(question: Question) -> Reply | None:
        if (question.kind, question.number) == ("page", 3):
            try:
                pull(config_of(server), tmp_path)
            except FetchError as error:
                refused.append(str(error))
        return None

    server.lie = lie
    assert pull(config_of(server), tmp_path).statements == 300
    assert f"another pull is writing here: process {os.getpid()} on " in refused[0]
    assert pull(config_of(server), tmp_path).requests == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part-000000.nt.gz", "pull.json"]
