"""What of the pictures is held against the limits of ``[checks]``; see ``checks.py``.

========================= =============================================================================================
limit                     one row, for the graph: the share that is held against it
========================= =============================================================================================
max_pictures_lost         pictures kept fewer than in the version being served / pictures kept there
max_picture_failures      addresses that gave nothing / addresses that were asked
min_picture_licence_share pictures kept whose licence is allowed / pictures kept
========================= =============================================================================================
"""

import dataclasses
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pyarrow.compute as pc

from mmkg.builds.check_report import Check
from mmkg.config import ChecksConfig
from mmkg.shards import open_table

_SUBJECT = "pictures"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PictureCounts:
    """What the table `images` of one version says."""

    rows: int
    failed: int  # whose address gave nothing
    kept: int
    licensed: int  # of those kept, by the licences of the config


def count_pictures(folder: Path, config: ChecksConfig) -> PictureCounts:
    """Count the rows of a folder's table `images`; a licence is allowed as `checks.licences` says."""
    table = open_table(folder, "images").to_table(columns=["status", "sha256", "licence"])
    kept = table.filter(pc.equal(table["status"].cast("string"), "ok"))
    patterns = [pattern.casefold() for pattern in config.licences or ("*",)]
    allowed = [
        licence for licence in kept["licence"].to_pylist() if licence and _fits(licence.strip().casefold(), patterns)
    ]
    return PictureCounts(
        rows=table.num_rows, failed=table["sha256"].null_count, kept=kept.num_rows, licensed=len(allowed)
    )


def _fits(licence: str, patterns: list[str]) -> bool:
    return bool(licence) and any(fnmatch(licence, pattern) for pattern in patterns)


def check_pictures(config: ChecksConfig, now: PictureCounts, before: PictureCounts | None) -> Iterator[Check]:
    """Hold the pictures of a new version against the limits that are set.

    Args:
        config: the limits.
        now: of the new version.
        before: of the version being served, if there is one and it has pictures.
    """
    if (limit := config.max_pictures_lost) is not None:
        if before is None:
            detail = "no version with pictures is being served yet"
            yield Check(
                name="max_pictures_lost",
                subject=_SUBJECT,
                before=None,
                now=now.kept,
                share=None,
                limit=limit,
                passed=None,
                detail=detail,
            )
        else:
            lost = max(before.kept - now.kept, 0)
            detail = f"{now.kept:,} pictures kept, {lost:,} fewer than the {before.kept:,} of the version being served"
            row = _row("max_pictures_lost", limit, lost, before.kept, before.kept, detail)
            yield dataclasses.replace(row, now=now.kept)
    if (limit := config.max_picture_failures) is not None:
        detail = f"{now.failed:,} of {now.rows:,} addresses of pictures gave nothing"
        yield _row("max_picture_failures", limit, now.failed, now.rows, before.failed if before else None, detail)
    if (limit := config.min_picture_licence_share) is not None and now.kept:
        detail = f"{now.licensed:,} of {now.kept:,} pictures kept have an allowed licence"
        row = _row(
            "min_picture_licence_share", limit, now.licensed, now.kept, before.licensed if before else None, detail
        )
        yield dataclasses.replace(row, passed=now.licensed >= limit * now.kept)


def _row(name: str, limit: float, part: int, whole: int, before: int | None, detail: str) -> Check:
    share = part / whole if whole else 0.0
    return Check(
        name=name,
        subject=_SUBJECT,
        before=before,
        now=part,
        share=share,
        limit=limit,
        passed=share <= limit,
        detail=detail,
    )
