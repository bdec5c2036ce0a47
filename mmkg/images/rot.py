"""Link rot: of each host, what still gives pictures, what gave them once and does no more, and since when."""

import pyarrow as pa
import pyarrow.compute as pc

from mmkg.images.library import FOLDER_SCHEME, PictureLibrary
from mmkg.images.politeness import host_of

ROT_REPORT = pa.schema(
    [
        pa.field("host", pa.string(), nullable=False),  # name:port; folder:NAME; empty for what is no address
        pa.field("asked", pa.int64(), nullable=False),  # addresses
        pa.field("ok", pa.int64(), nullable=False),  # whose newest attempt gave the picture, or found it unchanged
        pa.field("gone", pa.int64(), nullable=False),  # that gave a picture once, and fail for good now
        pa.field("permanent", pa.int64(), nullable=False),  # that fail for good, the gone ones too
        pa.field("transient", pa.int64(), nullable=False),  # whose newest attempt failed in passing
        pa.field("rate_gone", pa.float64()),  # gone among those that gave a picture once; null if none did
        pa.field("first_ok_at", pa.timestamp("us", tz="UTC")),  # oldest success
        pa.field("last_ok_at", pa.timestamp("us", tz="UTC")),  # newest success
        pa.field(
            "statuses", pa.string(), nullable=False
        ),  # of the failures, most frequent first: "3 http_404, 1 timeout"
    ]
)
"""One row a host, those with most gone addresses first."""


def make_rot_report(library: PictureLibrary) -> pa.Table:
    """Count by host what became of all addresses of a ledger: columns of `ROT_REPORT`."""
    rows = library.attempts.read(["url", "tried_at", "kind"])
    good = (
        rows.filter(pc.equal(rows["kind"], "ok")).group_by("url").aggregate([("tried_at", "min"), ("tried_at", "max")])
    )
    newest = library.last_attempts(["url", "status", "kind"])
    places = pc.index_in(newest["url"], good["url"])
    newest = (
        newest.append_column("host", pa.array([_place_of(url.as_py()) for url in newest["url"]], pa.string()))
        .append_column("first_ok_at", good["tried_at_min"].take(places))
        .append_column("last_ok_at", good["tried_at_max"].take(places))
    )
    worked = pc.is_valid(newest["first_ok_at"])
    columns = {
        "is_ok": pc.equal(newest["kind"], "ok"),
        "is_permanent": pc.equal(newest["kind"], "permanent"),
        "is_transient": pc.equal(newest["kind"], "transient"),
        "worked": worked,
        "is_gone": pc.and_(worked, pc.equal(newest["kind"], "permanent")),
    }
    for name, values in columns.items():
        newest = newest.append_column(name, values.cast(pa.int64()))
    counts = newest.group_by("host").aggregate(
        [("url", "count"), *((name, "sum") for name in columns), ("first_ok_at", "min"), ("last_ok_at", "max")]
    )
    once = counts["worked_sum"].cast(pa.float64())
    rate = pc.divide(counts["is_gone_sum"].cast(pa.float64()), pc.if_else(pc.equal(once, 0.0), None, once))
    failures = _failures(newest)
    report = pa.table(
        {
            "host": counts["host"],
            "asked": counts["url_count"],
            "ok": counts["is_ok_sum"],
            "gone": counts["is_gone_sum"],
            "permanent": counts["is_permanent_sum"],
            "transient": counts["is_transient_sum"],
            "rate_gone": rate,
            "first_ok_at": counts["first_ok_at_min"],
            "last_ok_at": counts["last_ok_at_max"],
            "statuses": [failures.get(host.as_py(), "") for host in counts["host"]],
        },
        schema=ROT_REPORT,
    )
    return report.sort_by([("gone", "descending"), ("permanent", "descending"), ("host", "ascending")])


def _failures(newest: pa.Table) -> dict[str, str]:
    """The failures of each host by status, in words."""
    failed = (
        newest.filter(pc.not_equal(newest["kind"], "ok")).group_by(["host", "status"]).aggregate([("url", "count")])
    )
    words: dict[str, list[str]] = {}
    for row in failed.sort_by([("url_count", "descending"), ("status", "ascending")]).to_pylist():
        words.setdefault(row["host"], []).append(f"{row['url_count']:,} {row['status']}")
    return {host: ", ".join(parts) for host, parts in words.items()}


def _place_of(url: str) -> str:
    return url.partition("/")[0] if url.startswith(FOLDER_SCHEME) else host_of(url)
