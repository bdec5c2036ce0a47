"""The report of link rot counts by host what is gone: what gave a picture once and fails for good now."""

import datetime

import pytest

from mmkg.images.library import PictureLibrary
from mmkg.images.rot import ROT_REPORT, make_rot_report
from tests.images.test_library import DAY, NOON, add, attempt

A, B = "http://a.example/", "https://b.example/"


@pytest.fixture
def library(tmp_path):
    return PictureLibrary(tmp_path / "pictures")


def test_an_empty_ledger_gives_an_empty_report(library):
    assert make_rot_report(library).equals(ROT_REPORT.empty_table())


def test_each_address_counts_once_by_its_newest_attempt(library):
    add(
        library,
        attempt(A + "kept", data=b"A", at=NOON - 9 * DAY),
        attempt(A + "gone", data=b"B", at=NOON - 8 * DAY),
        attempt(A + "gone-too", data=b"B", at=NOON - 7 * DAY),
        attempt(A + "late", data=b"B", at=NOON - 6 * DAY),
        attempt(A + "never", "http_404", "permanent"),
        attempt(B + "late", "timeout", "transient"),
        attempt("folder:flags/pe.png", data=b"A"),
        attempt("nonsense", "bad_url", "permanent"),
        bytes_=[b"A", b"B"],
    )
    add(
        library,
        attempt(A + "kept", "unchanged", "ok", data=b"A"),
        attempt(A + "gone", "http_404", "permanent"),
        attempt(A + "gone-too", "http_410", "permanent"),
        attempt(A + "late", "http_503", "transient"),
    )
    rows = {row["host"]: row for row in make_rot_report(library).to_pylist()}
    assert list(rows) == ["a.example:80", "", "b.example:443", "folder:flags"]
    a = rows["a.example:80"]
    assert (a["asked"], a["ok"], a["gone"], a["permanent"], a["transient"]) == (5, 1, 2, 3, 1)
    assert a["rate_gone"] == pytest.approx(2 / 4)
    assert (a["first_ok_at"], a["last_ok_at"]) == (NOON - 9 * DAY, NOON)
    assert a["statuses"] == "2 http_404, 1 http_410, 1 http_503"
    b = rows["b.example:443"]
    assert (b["asked"], b["transient"], b["rate_gone"], b["first_ok_at"]) == (1, 1, None, None)
    assert rows["folder:flags"]["ok"] == 1
    assert sum(row["asked"] for row in rows.values()) == 8


def test_an_address_that_came_back_is_not_gone(library):
    hour = datetime.timedelta(hours=1)
    add(library, attempt(A, data=b"A"), bytes_=[b"A"])
    add(library, attempt(A, "http_404", "permanent", NOON + hour))
    assert make_rot_report(library)["gone"].to_pylist() == [1]
    add(library, attempt(A, data=b"A", at=NOON + 2 * hour))
    assert make_rot_report(library)["gone"].to_pylist() == [0]
