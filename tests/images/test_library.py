"""The library keeps every attempt, and says of an address what counts: what is here, what is due, what failed."""

import datetime
import hashlib

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkg.images.library import DUE, RESOLVED, PictureLibrary
from mmkg.tables import IMAGE_ATTEMPTS, IMAGE_BYTES

NOON = datetime.datetime(2026, 5, 1, 12, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def attempt(url, status="ok", kind="ok", at=NOON, data=None, **more):
    row = dict.fromkeys(IMAGE_ATTEMPTS.names)
    row |= {"url": url, "tried_at": at, "status": status, "kind": kind, "detail": "", "bytes": 0, "seconds": 0.1}
    return row | {"sha256": sha(data) if data is not None else None} | more


def add(library, *attempts, bytes_=()):
    served = [{"sha256": sha(data), "format": "png", "bytes": data} for data in bytes_]
    library.commit(pa.Table.from_pylist(list(attempts), IMAGE_ATTEMPTS), pa.Table.from_pylist(served, IMAGE_BYTES))


@pytest.fixture
def library(tmp_path):
    return PictureLibrary(tmp_path / "pictures")


def resolved(library, *urls):
    table = library.resolve(urls)
    assert table.schema.equals(RESOLVED)
    return table.to_pylist()


def due(library, urls, **settings):
    table = library.choose_due(urls, **({"refresh_days": 30, "now": NOON} | settings))
    assert table.schema.equals(DUE)
    return table["url"].to_pylist()


def test_an_empty_library_knows_nothing_and_everything_is_due(library):
    assert [row["status"] for row in resolved(library, "b", "a", "b")] == ["not_tried"] * 3
    assert due(library, ["b", "a", "b"]) == ["b", "a"]
    assert library.last_attempts().num_rows == 0


def test_bytes_are_on_disk_before_the_attempt_that_names_them(library, monkeypatch):
    def power_cut(rows):
        raise OSError("no power")

    monkeypatch.setattr(library.attempts, "append", power_cut)
    with pytest.raises(OSError, match="no power"):
        add(library, attempt("a", data=b"A"), bytes_=[b"A"])
    assert library.served.keys().to_pylist() == [sha(b"A")]
    assert library.attempts.read().num_rows == 0


def test_the_newest_attempt_counts_whatever_part_it_lies_in(library):
    add(library, attempt("a", "http_404", "permanent", NOON + DAY))
    add(library, attempt("a", "timeout", "transient", NOON))
    add(library, attempt("a", "http_500", "transient", NOON - DAY))
    assert library.last_attempts()["status"].to_pylist() == ["http_404"]
    assert resolved(library, "a")[0]["kind"] == "permanent"


@settings(max_examples=25)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50)), max_size=30, unique_by=lambda pair: pair))
def test_last_attempts_are_those_of_a_dictionary_filled_in_order_of_time(tmp_path_factory, events):
    library = PictureLibrary(tmp_path_factory.mktemp("library"))
    add(library, *(attempt(url, f"http_{400 + n}", "permanent", NOON + n * DAY) for url, n in events[:10]))
    add(library, *(attempt(url, f"http_{400 + n}", "permanent", NOON + n * DAY) for url, n in events[10:]))
    expected = {url: f"http_{400 + n}" for url, n in sorted(events, key=lambda event: event[1])}
    rows = library.last_attempts()
    assert dict(zip(rows["url"].to_pylist(), rows["status"].to_pylist(), strict=True)) == expected


@pytest.mark.parametrize(("status", "kind"), [("http_404", "permanent"), ("timeout", "transient")])
def test_a_picture_stays_usable_when_its_address_fails_later(library, status, kind):
    add(library, attempt("a", data=b"A", licence="CC0"), bytes_=[b"A"])
    add(library, attempt("a", status, kind, NOON + DAY, detail="it says so"))
    row = resolved(library, "a")[0]
    assert (row["status"], row["kind"], row["sha256"], row["licence"]) == ("ok", "ok", sha(b"A"), "CC0")
    assert status in row["detail"] and "2026-05-02" in row["detail"] and "it says so" in row["detail"]
    assert row["tried_at"] == NOON + DAY


def test_a_picture_that_its_owner_withdraws_from_machine_learning_is_not_usable_any_more(library):
    add(library, attempt("a", data=b"A"), bytes_=[b"A"])
    add(library, attempt("a", "noai", "permanent", NOON + DAY))
    assert resolved(library, "a")[0]["sha256"] is None
    add(library, attempt("a", "timeout", "transient", NOON + 2 * DAY))
    row = resolved(library, "a")[0]
    assert (row["sha256"], row["status"]) == (None, "timeout")
    add(library, attempt("a", data=b"A", at=NOON + 3 * DAY))
    assert resolved(library, "a")[0]["status"] == "ok"


def test_unchanged_is_ok_with_the_same_picture(library):
    add(library, attempt("a", data=b"A"), bytes_=[b"A"])
    add(library, attempt("a", "unchanged", "ok", NOON + DAY, data=b"A"))
    row = resolved(library, "a")[0]
    assert (row["status"], row["sha256"], row["detail"]) == ("ok", sha(b"A"), "")


def test_a_picture_whose_bytes_were_removed_is_asked_for_again_without_conditions(library):
    add(library, attempt("a", data=b"A", etag='"1"'), bytes_=[b"A"])
    for part in library.served.parts():
        part.unlink()
    row = resolved(library, "a")[0]
    assert (row["status"], row["sha256"]) == ("not_tried", None)
    table = library.choose_due(["a"], refresh_days=30, now=NOON)
    assert table.to_pylist()[0] == dict.fromkeys(DUE.names) | {"url": "a"}


def test_what_is_due_in_a_build_and_in_each_kind_of_retry(library):
    add(
        library,
        attempt("here", data=b"A"),
        attempt("old", data=b"A", at=NOON - 31 * DAY),
        attempt("gone", "http_404", "permanent"),
        attempt("late", "timeout", "transient"),
        bytes_=[b"A"],
    )
    add(library, attempt("was-here", data=b"A", at=NOON - DAY), attempt("was-here", "cut", "transient"))
    urls = ["new", "here", "old", "gone", "late", "was-here"]
    assert due(library, urls) == ["new", "old", "late", "was-here"]
    assert due(library, urls, retry="transient") == ["late", "was-here"]
    assert due(library, urls, retry="all") == ["gone", "late", "was-here"]


def test_a_picture_is_asked_for_again_conditionally_when_its_days_are_over(library):
    facts = {"etag": '"1"', "last_modified": "Mon", "final_url": "b", "licence": "CC0", "source_page": "p"}
    add(library, attempt("a", data=b"A", **facts), bytes_=[b"A"])
    assert due(library, ["a"], now=NOON + 30 * DAY - datetime.timedelta(seconds=1)) == []
    row = library.choose_due(["a"], refresh_days=30, now=NOON + 30 * DAY).to_pylist()[0]
    assert row == {"url": "a", "sha256": sha(b"A"), "author": None, **facts}
    assert due(library, ["a"], refresh_days=0) == ["a"]


def test_a_picture_whose_page_nobody_asked_for_is_due_once(library):
    add(library, attempt("a", data=b"A"), attempt("b", data=b"A", source_page=""), bytes_=[b"A"])
    assert due(library, ["a", "b"], page_wanted=["a", "b"]) == ["a"]
    assert resolved(library, "b")[0]["source_page"] is None  # was asked for; nobody knows
