"""What was fetched, kept for all builds of a graph: the bytes of each picture once, and every attempt to get one.

Two archives lie in one folder. `image_bytes` is looked up by content (``sha256``), `image_attempts` is the ledger: rows
are only ever added, and the newest of an address counts. Bytes are on disk before the attempt that names them; a
picture whose bytes somebody removed counts as never fetched.
"""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmkg.shards import Archive
from mmkg.tables import IMAGE_ATTEMPTS, IMAGE_BYTES

Retry = Literal["", "transient", "all"]
FOLDER_SCHEME = "folder:"  # of a picture of this machine: folder:NAME/FILE

RESOLVED = pa.schema(
    [
        pa.field("url", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),  # ok where the picture is here, else of the newest attempt
        pa.field("kind", pa.string(), nullable=False),  # ok | transient | permanent; transient if never tried
        pa.field("detail", pa.string(), nullable=False),  # of a picture that is here: what a later attempt met
        pa.field("sha256", pa.string()),  # set where the picture is here
        pa.field("licence", pa.string()),
        pa.field("author", pa.string()),
        pa.field("source_page", pa.string()),
        pa.field("tried_at", pa.timestamp("us", tz="UTC")),  # of the newest attempt
    ]
)
"""What the library knows of an address: :meth:`PictureLibrary.resolve`."""

DUE = pa.schema(
    [
        pa.field("url", pa.string(), nullable=False),
        pa.field("sha256", pa.string()),  # of the picture that is here already; then the rest is known of it
        *(
            IMAGE_ATTEMPTS.field(name)
            for name in ("final_url", "etag", "last_modified", "licence", "author", "source_page")
        ),
    ]
)
"""What is to be asked, and what was known of it before: :meth:`PictureLibrary.choose_due`."""

_PAGE_COLUMNS = ("licence", "author", "source_page")  # empty rather than null: was asked for, and nobody knows


class PictureLibrary:
    """The pictures and the ledger of one graph; may be read while one process adds to it.

    Args:
        folder: of both archives, ``builds/GRAPH/pictures``; made when the first rows come.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.served = Archive(folder / "image_bytes", IMAGE_BYTES, "sha256")
        self.attempts = Archive(folder / "image_attempts", IMAGE_ATTEMPTS, "url")

    def commit(self, attempts: pa.Table, served: pa.Table) -> None:
        """Add attempts, and before them the bytes that they name and that are not here yet: both whole or not at all.

        A process that is killed between the two leaves bytes that no attempt names; they are found again by content.
        """
        self.served.append(served)
        self.attempts.append(attempts)

    def remove_leftovers(self) -> None:
        """Remove what killed processes left half-written; only while nobody else adds."""
        self.served.remove_leftovers()
        self.attempts.remove_leftovers()

    def last_attempts(self, columns: Sequence[str] = tuple(IMAGE_ATTEMPTS.names)) -> pa.Table:
        """The newest attempt of each address, by address: some columns of `IMAGE_ATTEMPTS`."""
        rows = self.attempts.read(list(dict.fromkeys([*columns, "url", "tried_at", "kind", "sha256"])))
        return _newest(rows).select(columns)

    def resolve(self, urls: Sequence[str]) -> pa.Table:
        """What is known of some addresses, in their order: columns of `RESOLVED`.

        A picture that was got once stays usable when its address fails later; `detail` then says with what, since
        when. One that its owner has withdrawn from machine learning since (status ``noai``) does not, nor one of a
        folder of this machine whose file is no picture any more.
        """
        rows = self.attempts.read([name for name in IMAGE_ATTEMPTS.names if name in {*RESOLVED.names, "sha256"}])
        newest = _newest(rows)
        shown = self._with_bytes(_newest(rows.filter(_decides(rows))))
        wanted = pa.array(urls, pa.string())
        newest = _in_order(newest, wanted)
        shown = _in_order(shown, wanted)
        is_here = pc.is_valid(shown["sha256"])
        status = pc.if_else(is_here, "ok", pc.coalesce(newest["status"], pa.scalar("not_tried")))
        # An attempt that got a picture whose bytes are gone says ok of what is not here.
        is_lost = pc.and_(pc.invert(is_here), pc.equal(pc.coalesce(newest["kind"], pa.scalar("")), "ok"))
        status = pc.if_else(is_lost, "not_tried", status)
        kind = pc.if_else(is_here, "ok", pc.coalesce(newest["kind"], pa.scalar("transient")))
        return pa.table(
            {
                "url": wanted,
                "status": status,
                "kind": pc.if_else(is_lost, "transient", kind),
                "detail": _details(newest, is_here),
                "sha256": shown["sha256"],
                **{name: _known(shown[name]) for name in _PAGE_COLUMNS},
                "tried_at": newest["tried_at"],
            },
            schema=RESOLVED,
        )

    def choose_due(
        self,
        urls: Sequence[str],
        *,
        refresh_days: float,
        now: datetime.datetime,
        retry: Retry = "",
        page_wanted: Sequence[str] = (),
    ) -> pa.Table:
        """Those of some addresses that are to be asked now, each once, in their order: columns of `DUE`.

        Args:
            urls: the addresses.
            refresh_days: a picture that is here is due again after so many days; 0: now.
            now: the time, with its zone.
            retry: nothing: what was never asked, what failed in passing, what is old. ``transient``: only what failed
                in passing. ``all``: what failed, also for good.
            page_wanted: of these addresses, those whose licence nobody has asked for are due too.
        """
        wanted = pa.array(dict.fromkeys(urls), pa.string())
        rows = self.attempts.read([name for name in IMAGE_ATTEMPTS.names if name in {*DUE.names, "tried_at", "kind"}])
        newest = _in_order(_newest(rows), wanted)
        good = _in_order(self._with_bytes(_newest(rows.filter(pc.equal(rows["kind"], "ok")))), wanted)
        kind = pc.coalesce(newest["kind"], pa.scalar("none"))
        # Nobody is asked for less because a part of the bytes was removed by hand.
        kind = pc.if_else(pc.and_(pc.equal(kind, "ok"), pc.is_null(good["sha256"])), "none", kind)
        if retry == "transient":
            is_due = pc.equal(kind, "transient")
        elif retry == "all":
            is_due = pc.is_in(kind, pa.array(["transient", "permanent"]))
        else:
            oldest = pa.scalar(now - datetime.timedelta(days=refresh_days), newest["tried_at"].type)
            is_old = pc.less_equal(newest["tried_at"], oldest)
            lacks_page = pc.and_(pc.is_in(wanted, pa.array(page_wanted, pa.string())), pc.is_null(good["source_page"]))
            is_stale = pc.and_(pc.equal(kind, "ok"), pc.or_(pc.fill_null(is_old, True), lacks_page))
            is_due = pc.or_(pc.is_in(kind, pa.array(["none", "transient"])), is_stale)
        known = {name: good[name] for name in DUE.names if name != "url"}
        return pa.table({"url": wanted, **known}, schema=DUE).filter(is_due)

    def _with_bytes(self, rows: pa.Table) -> pa.Table:
        """Those attempts whose bytes are here, or that name none."""
        is_here = pc.or_(pc.is_null(rows["sha256"]), pc.is_in(rows["sha256"], self.served.keys()))
        return rows.filter(is_here)


def _decides(rows: pa.Table) -> pa.ChunkedArray:
    """Which attempts tell whether a picture may be used: those that got it, or found it withdrawn."""
    is_local_failure = pc.and_(pc.equal(rows["kind"], "permanent"), pc.starts_with(rows["url"], FOLDER_SCHEME))
    is_replaced = pc.and_(is_local_failure, pc.not_equal(rows["status"], "no_file"))
    return pc.or_(pc.equal(rows["kind"], "ok"), pc.or_(pc.equal(rows["status"], "noai"), is_replaced))


def _newest(rows: pa.Table) -> pa.Table:
    """The newest row of each address, by address."""
    order = [
        ("tried_at", "ascending"),
        *((name, "ascending") for name in ("kind", "sha256") if name in rows.schema.names),
    ]
    rows = rows.take(pc.sort_indices(rows, sort_keys=order))
    numbered = pa.table({"url": rows["url"], "row": pa.array(np.arange(rows.num_rows))})
    last = numbered.group_by("url").aggregate([("row", "max")]).sort_by("url")
    return rows.take(last["row_max"])


def _in_order(rows: pa.Table, urls: pa.Array) -> pa.Table:
    """The row of each address, in the order of the addresses; all null where there is none."""
    return rows.take(pc.index_in(urls, rows["url"]))


def _known(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)


def _details(newest: pa.Table, is_here: pa.ChunkedArray) -> pa.ChunkedArray:
    """The newest attempt in words; of a picture that is here, only what has gone wrong since."""
    is_ok = pc.equal(newest["kind"], "ok")  # null where nobody was asked
    details = pc.coalesce(newest["detail"], pa.scalar("was never asked for"))
    is_lost = pc.fill_null(pc.and_(is_ok, pc.invert(is_here)), False)
    details = pc.if_else(is_lost, pa.scalar("its bytes are missing; the next build asks again"), details)
    has_failed_since = pc.fill_null(pc.and_(is_here, pc.invert(is_ok)), False)
    words = [
        f"was here before {row['tried_at']:%Y-%m-%d}, when {row['status']}: {row['detail']}"
        for row in newest.filter(has_failed_since).select(["status", "detail", "tried_at"]).to_pylist()
    ]
    since = pc.subtract(pc.cumulative_sum(pc.cast(has_failed_since, pa.int64())), 1)  # which of the words
    return pc.coalesce(pa.array(words, pa.string()).take(pc.if_else(has_failed_since, since, None)), details)
