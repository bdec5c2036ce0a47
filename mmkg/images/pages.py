"""Licence and author of Wikimedia's files, asked for while their pictures are fetched: 50 files a request.

The files whose pictures come next are asked for together. What nobody could tell in a run, because the wiki failed,
stays open in the ledger and is asked for in the next one.
"""

import threading
from collections.abc import Callable

import pyarrow as pa

from mmkg.errors import ImageError
from mmkg.images.wikimedia import (
    TITLES_PER_REQUEST,
    PageInfo,
    metadata_requests,
    parse_metadata,
    standard_thumbnail,
)

NOTHING_KNOWN = PageInfo(None, None, "", None, None, None)
"""The wiki was asked and has no such file; an empty source page keeps it from being asked again."""

_FURTHEST = 5_000  # how many addresses ahead others of the same wiki are looked for


class NotNow(Exception):  # noqa: N818 - not an error: the address waits
    """A wiki cannot be asked at the moment.

    Args:
        wait_seconds: when it may be asked again.
    """

    def __init__(self, wait_seconds: float) -> None:
        super().__init__(f"not before {wait_seconds:.1f} s")
        self.wait_seconds = wait_seconds


def has_page(url: str) -> bool:
    """Whether a wiki can be asked about what an address gives."""
    return standard_thumbnail(url, 0) is not None


class PageFinder:
    """Finds what wikis say about files; thread-safe.

    Args:
        urls: of all pictures of the run, in the order in which they are fetched.
        width_px: of the thumbnail whose address the wiki is asked for.
        attempts: how often a wiki that fails is asked about the same files.
    """

    def __init__(self, urls: pa.ChunkedArray, *, width_px: int, attempts: int) -> None:
        self._urls = urls
        self._width_px = width_px
        self._attempts = attempts
        self._asked = bytearray(len(urls))
        self._found: dict[int, PageInfo] = {}
        self._failures: dict[int, int] = {}  # by the first of the files that were asked for together
        self._turn = threading.Lock()

    def find(self, item: int, ask: Callable[[str], bytes]) -> PageInfo | None:
        """What its wiki says about a file; None for an address that is none of Wikimedia, or when the wiki fails.

        Args:
            item: number of the address in `urls`.
            ask: gives the answer to a URL, or raises `NotNow` or ImageError.

        Raises:
            NotNow: the wiki may be asked later.
        """
        file = standard_thumbnail(self._urls[item].as_py(), self._width_px)
        if file is None:
            return None
        with self._turn:
            if not self._asked[item]:
                self._ask(item, file.site, ask)
            return self._found.get(item)

    def forget(self, item: int) -> None:
        """Drop what was found for an address that is not asked again."""
        self._found.pop(item, None)

    def _ask(self, first: int, site: str, ask: Callable[[str], bytes]) -> None:
        names = self._next_files(first, site)
        try:
            found: dict[str, PageInfo] = {}
            for request in metadata_requests(list(names.values()), site, width_px=self._width_px):
                found |= parse_metadata(ask(request))
        except ImageError as error:
            self._failures[first] = self._failures.get(first, 0) + 1
            if self._failures[first] < self._attempts:
                raise NotNow(0.0) from error
            found = {}
        else:
            self._found |= {item: found.get(name, NOTHING_KNOWN) for item, name in names.items()}
        for item in names:
            self._asked[item] = 1

    def _next_files(self, first: int, site: str) -> dict[int, str]:
        """File names of a wiki by number of address, from one on."""
        names: dict[int, str] = {}
        for item in range(first, min(first + _FURTHEST, len(self._urls))):
            if self._asked[item]:
                continue
            file = standard_thumbnail(self._urls[item].as_py(), self._width_px)
            if file is not None and file.site == site:
                names[item] = file.file_name
                if len(names) == TITLES_PER_REQUEST:
                    break
        return names
