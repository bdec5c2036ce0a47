"""What of the pictures stops a version: each limit on a handful of rows that can be checked by finger."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mmkg.builds.check_report import Check, CheckReport
from mmkg.builds.picture_checks import PictureCounts, check_pictures, count_pictures
from mmkg.config import ChecksConfig
from mmkg.shards import write_table
from mmkg.tables import IMAGES


def write_images(folder: Path, *rows: tuple[str, str | None, str | None]) -> Path:
    """Rows are (status, sha256, licence)."""
    full = [
        {
            **dict.fromkeys(IMAGES.names),
            "entity_index": number,
            "url": f"http://host/{number}",
            "origin": "depiction",
            "status": status,
            "reason": "",
            "sha256": sha256,
            "licence": licence,
        }
        for number, (status, sha256, licence) in enumerate(rows)
    ]
    write_table(folder, "images", [pa.Table.from_pylist(full, IMAGES)])
    return folder


def only(rows: Any) -> Check:
    [row] = rows
    assert isinstance(row, Check)
    return row


FOUR = (("ok", "a", "CC BY-SA 4.0"), ("ok", "b", None), ("too_small", "c", "CC0"), ("http_404", None, None))


def test_kept_failed_and_licensed_pictures_are_counted(tmp_path):
    folder = write_images(tmp_path, *FOUR)
    assert count_pictures(folder, ChecksConfig()) == PictureCounts(rows=4, failed=1, kept=2, licensed=1)
    only_zero = ChecksConfig(licences=("CC0*",))
    assert count_pictures(folder, only_zero).licensed == 0


def test_no_limit_looks_at_nothing():
    counts = PictureCounts(rows=4, failed=1, kept=2, licensed=1)
    assert list(check_pictures(ChecksConfig(), counts, None)) == []


@pytest.mark.parametrize(("kept", "passed"), [(95, True), (94, False), (120, True)])
def test_pictures_may_be_lost_up_to_the_limit(kept, passed):
    before = PictureCounts(rows=100, failed=0, kept=100, licensed=0)
    now = PictureCounts(rows=200, failed=0, kept=kept, licensed=0)
    row = only(check_pictures(ChecksConfig(max_pictures_lost=0.05), now, before))
    assert (row.before, row.now, row.passed) == (100, kept, passed)


def test_lost_pictures_are_not_tried_on_the_first_build():
    now = PictureCounts(rows=2, failed=0, kept=2, licensed=0)
    row = only(check_pictures(ChecksConfig(max_pictures_lost=0.05), now, None))
    assert row.passed is None
    assert "no version with pictures" in row.detail


@pytest.mark.parametrize(("failed", "passed"), [(2, True), (3, False)])
def test_addresses_may_fail_up_to_the_limit(failed, passed):
    now = PictureCounts(rows=10, failed=failed, kept=5, licensed=0)
    row = only(check_pictures(ChecksConfig(max_picture_failures=0.2), now, None))
    assert (row.now, row.passed) == (failed, passed)


@pytest.mark.parametrize(("licensed", "passed"), [(9, True), (8, False)])
def test_enough_kept_pictures_must_have_an_allowed_licence(licensed, passed):
    now = PictureCounts(rows=10, failed=0, kept=10, licensed=licensed)
    row = only(check_pictures(ChecksConfig(min_picture_licence_share=0.9), now, None))
    assert row.passed is passed
    assert ("8 of 10 pictures kept have an allowed licence" in row.message) is not passed
    assert CheckReport(checks=(row,)).problems == (() if passed else (row.message,))
