"""What tests of the fetcher share: a config without needless waits, candidates, and the ledger as a dictionary."""

from typing import Any

import pyarrow as pa

from mmkg.config.images import ImagesConfig
from mmkg.images.collect import CollectReport, collect
from mmkg.images.library import PictureLibrary

CONTACT = "keeper@graph.example"


def fast(**fetch: Any) -> ImagesConfig:
    """A config that asks this machine, as fast as it can unless told otherwise."""
    settings = {"allow_loopback": True, "requests_per_second": 10_000, "burst": 1_000, "robots": False}
    return ImagesConfig.model_validate({"fetch": settings | fetch})


def candidates(*urls: str) -> pa.Table:
    return pa.table({"url": pa.array(urls, pa.string())})


def run(
    images: ImagesConfig, library: PictureLibrary, *urls: str, contact: str = CONTACT, **more: Any
) -> CollectReport:
    return collect(images, contact, candidates(*urls), library, **more)


def statuses(library: PictureLibrary) -> dict[str, str]:
    """The newest attempt of each address."""
    rows = library.last_attempts()
    return dict(zip(rows["url"].to_pylist(), rows["status"].to_pylist(), strict=True))


def rows_of(library: PictureLibrary, url: str) -> list[dict[str, Any]]:
    """All attempts of an address, in order of time."""
    rows = [row for row in library.attempts.read().to_pylist() if row["url"] == url]
    return sorted(rows, key=lambda row: row["tried_at"])
