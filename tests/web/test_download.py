"""A file arrives whole or not at all, and nothing is sent twice."""

import datetime
import email.utils
import hashlib
import os
import random
import shutil
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkg.errors import FetchError
from mmkg.web import Checksum, Unreachable, download, is_intact
from tests.servers.http_files import LONG_AGO, Act, serve_files
from tests.web.fetching import CONTENT, DUMP, OTHER, begin, fetch, leftovers, sha256


def test_a_file_arrives_whole_with_what_the_server_said_about_it(server, target):
    done = fetch(server, target)
    assert (done.outcome, done.size, done.received, done.sha256) == ("fetched", 300_000, 300_000, sha256(CONTENT).hex)
    assert target.read_bytes() == CONTENT
    assert done.etag == f'"{hashlib.md5(CONTENT).hexdigest()}"'
    assert done.last_modified == email.utils.formatdate(LONG_AGO, usegmt=True)
    assert done.final_url == done.url == server.url(DUMP)
    assert leftovers(target.parent) == []


def test_an_unchanged_file_is_not_sent_again(server, target):
    fetch(server, target)
    server.asked.clear()
    again = fetch(server, target)
    assert (again.outcome, again.received) == ("unchanged", 0)
    assert [(asked.status, asked.sent) for asked in server.asked] == [(304, 0)]
    headers = server.asked[0].headers
    assert headers["If-None-Match"] == again.etag
    assert headers["If-Modified-Since"] == again.last_modified


def test_the_date_alone_is_enough_to_leave_an_unchanged_file(server, target):
    server.etags = "none"
    fetch(server, target)
    assert fetch(server, target).outcome == "unchanged"


def test_a_changed_file_is_fetched_and_the_old_one_stays_until_it_is_whole(server, target):
    fetch(server, target)
    server.files[DUMP] = OTHER
    server.always[DUMP] = Act(drop_after=100_000)
    with pytest.raises(Unreachable):
        fetch(server, target)
    assert target.read_bytes() == CONTENT
    server.always.clear()
    assert fetch(server, target).outcome == "resumed"
    assert target.read_bytes() == OTHER


def test_a_file_with_the_right_checksum_is_not_even_asked_for(server, target):
    fetch(server, target)
    server.asked.clear()
    assert fetch(server, target, checksum=sha256(CONTENT)).outcome == "unchanged"
    md5 = Checksum("md5", hashlib.md5(CONTENT).hexdigest())
    assert fetch(server, target, checksum=md5).outcome == "unchanged"
    assert server.asked == []


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(path.read_bytes()[:1000]),
        lambda path: path.write_bytes(b"x" + path.read_bytes()[1:]),
        lambda path: path.unlink(),
        lambda path: path.with_name(path.name + ".fetch.json").write_text('{"half'),
    ],
    ids=["cut", "one byte changed", "removed", "record destroyed"],
)
def test_a_copy_that_was_changed_here_is_noticed_and_fetched_again(server, target, change):
    fetch(server, target)
    change(target)
    assert is_intact(target) is None
    assert fetch(server, target).outcome == "fetched"
    assert target.read_bytes() == CONTENT


def test_a_copy_that_was_only_touched_or_moved_is_still_the_copy(server, target):
    fetch(server, target)
    os.utime(target)
    assert fetch(server, target).outcome == "unchanged"
    moved = target.parent / "elsewhere"
    moved.mkdir()
    for path in list(target.parent.glob("facts*")):
        shutil.copy(path, moved)
    assert fetch(server, moved / target.name).outcome == "unchanged"


def test_a_dropped_connection_is_gone_on_with_by_range(server, target):
    server.acts[DUMP] = [Act(drop_after=200_000), Act(drop_after=90_000, reset=True)]
    done = fetch(server, target)
    assert done.outcome == "resumed"
    assert target.read_bytes() == CONTENT
    ranges = [asked.headers.get("Range") for asked in server.asked if asked.status in {200, 206}]
    tail = 65_536
    assert ranges[:2] == [None, f"bytes={200_000 - tail}-"]
    assert server.asked[1].headers["If-Range"] == done.etag
    assert done.received < 300_000 + 2 * tail + 1


def test_a_partial_file_of_an_earlier_run_is_gone_on_with(server, target):
    begin(server, target)
    done = fetch(server, target)
    assert (done.outcome, done.received) == ("resumed", 100_000 + 65_536)
    assert target.read_bytes() == CONTENT


@settings(max_examples=30)
@given(
    size=st.integers(1, 250_000),
    drops=st.lists(st.tuples(st.integers(0, 260_000), st.booleans(), st.booleans()), max_size=6),
    etags=st.sampled_from(["strong", "weak", "none"]),
    is_dated=st.booleans(),
)
def test_any_sequence_of_drops_ends_with_equal_bytes(size, drops, etags, is_dated):
    content = random.Random(size).randbytes(size)
    with serve_files({DUMP: content}) as server, tempfile.TemporaryDirectory() as folder:
        server.etags, server.is_dated = etags, is_dated
        server.acts[DUMP] = [
            Act(drop_after=min(at, size - 1), reset=rst, chunked=chunked) for at, rst, chunked in drops
        ]
        target = Path(folder) / "x.nt"
        fetch(server, target, attempts=len(drops) + 1)
        assert target.read_bytes() == content
        assert leftovers(Path(folder)) == []


def test_progress_is_no_failure_however_often_the_line_breaks(server, target):
    content = random.Random(3).randbytes(2_000_000)
    server.files[DUMP] = content
    server.acts[DUMP] = [Act(drop_after=200_000) for _ in range(12)]
    fetch(server, target, attempts=2)
    assert target.read_bytes() == content


def test_a_server_that_never_ends_a_body_is_given_up_after_the_attempts(server, target):
    server.always[DUMP] = Act(length_more=500)
    with pytest.raises(Unreachable, match=r"300,000 bytes of it are here") as caught:
        fetch(server, target, attempts=3)
    assert "3 attempts" in str(caught.value)
    assert not target.exists()
    assert len(server.asked) < 8


def test_a_silent_server_is_not_waited_for_for_ever(server, target):
    server.acts[DUMP] = [Act(silent_seconds=3), Act(silent_after=150_000)]
    started = time.monotonic()
    fetch(server, target, timeout_seconds=0.3)
    assert time.monotonic() - started < 2.5
    assert target.read_bytes() == CONTENT


def test_a_server_that_drips_is_as_good_as_silent(server, target):
    server.always[DUMP] = Act(drip_seconds=0.05)
    with pytest.raises(Unreachable, match="bytes in"):
        fetch(server, target, timeout_seconds=0.2, attempts=1)


def test_no_server_at_all_is_unreachable(target):
    with serve_files() as gone:
        url = gone.url(DUMP)
    with pytest.raises(Unreachable, match="cannot be reached"):
        download(url, target, contact="", attempts=2, pause=lambda seconds: None)
    assert list(target.parent.iterdir()) == []


def test_too_many_requests_are_waited_for_as_long_as_the_server_says(server, target):
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=90)
    server.acts[DUMP] = [
        Act(status=429, headers={"Retry-After": "7"}),
        Act(status=503, headers={"Retry-After": email.utils.format_datetime(later, usegmt=True)}),
    ]
    waited: list[float] = []
    fetch(server, target, pause=waited.append)
    assert 7 <= waited[0] <= 8
    assert 85 <= waited[1] <= 91


def test_a_real_wait_is_waited(server, target):
    server.acts[DUMP] = [Act(status=429, headers={"Retry-After": "1"})]
    started = time.monotonic()
    fetch(server, target, pause=time.sleep, back_off_seconds=0.01)
    assert time.monotonic() - started >= 1


def test_waits_double_by_chance_and_are_bounded(server, target):
    server.acts[DUMP] = [Act(status=status) for status in (500, 502, 503, 504, 408, 429)]
    waited: list[float] = []
    fetch(server, target, attempts=7, pause=waited.append, back_off_seconds=4.0)
    bounds = [4, 8, 16, 32, 60, 60]
    assert all(bound / 2 <= seconds <= bound for seconds, bound in zip(waited, bounds, strict=True))


def test_a_server_that_asks_for_hours_is_left_alone(server, target):
    server.always[DUMP] = Act(status=429, headers={"Retry-After": "7200"})
    with pytest.raises(Unreachable, match="asks to wait for 7,200 s"):
        fetch(server, target)
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451, 501])
def test_a_refusal_is_not_asked_again(server, target, status):
    server.always[DUMP] = Act(status=status)
    with pytest.raises(FetchError, match=f"answers {status}") as caught:
        fetch(server, target)
    assert not isinstance(caught.value, Unreachable)
    assert len(server.asked) == 1
    assert list(target.parent.iterdir()) == []


def test_progress_counts_to_the_end_and_may_stop_it(server, target):
    told: list[tuple[int, int | None]] = []
    fetch(server, target, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (300_000, 300_000)
    assert told == sorted(told)

    def stop(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    other = target.with_name("b.nt.gz")
    with pytest.raises(KeyboardInterrupt):
        fetch(server, other, progress=stop)
    assert fetch(server, other).outcome == "resumed"
