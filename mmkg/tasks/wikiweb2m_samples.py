"""What is asked of WikiWeb2M pages: sections with a first sentence to write, and the splits of pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from mmkg.errors import ConfigError
from mmkg.tasks.wikiweb2m import Page, Section

SPLIT_ENDS = MappingProxyType({"train": 400_000, "val": 500_000, "test": 600_000})
"""The first page_id beyond each split, as Graph4MM and MMGL part the official files; later pages are in none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SectionSample:
    """Whether the first sentence of a section can be asked for.

    `reason` is None where it can, else not_a_sample (the file says so), table_or_list, no_first_sentence or no_rest.
    """

    page_id: int
    section: int
    reason: str | None


def section_samples(page: Page, *, lists: bool = True) -> tuple[SectionSample, ...]:
    """What of a page can be asked "write the first sentence of this section, from the rest of it", a row a section.

    Args:
        page: whose sections.
        lists: take sections with a table or list, too, where the file does not decide it.
    """

    def reason(section: Section) -> str | None:
        if section.is_sample is False:
            return "not_a_sample"
        if section.contains_table_or_list and not lists:
            return "table_or_list"
        if not section.first_sentence:
            return "no_first_sentence"
        return None if section.rest else "no_rest"

    return tuple(
        SectionSample(page_id=page.page_id, section=place, reason=reason(section))
        for place, section in enumerate(page.sections)
    )


def official_split(page_id: int) -> str | None:
    """The split of a page of the official files by its number: train, val or test; None beyond the first 600,000."""
    return next((name for name, end in SPLIT_ENDS.items() if page_id < end), None)


def split_pages(
    page_ids: Sequence[int], shares: Mapping[str, float], *, random_seed: int
) -> dict[str, tuple[int, ...]]:
    """Draw pages into splits; all sections of a page fall into one.

    Args:
        page_ids: of a small set; their order does not matter.
        shares: of each split, which add to 1. Counts are rounded so that every page is in one split.
        random_seed: of the draw.

    Raises:
        ConfigError: shares that are negative or do not add to 1.
    """
    if any(share < 0 for share in shares.values()) or abs(sum(shares.values()) - 1) > 1e-9:
        raise ConfigError(f"shares of splits: expected none below 0 and a sum of 1, found {dict(shares)}")
    drawn = np.random.default_rng(random_seed).permutation(sorted(set(page_ids))).tolist()
    ends = np.rint(np.cumsum(list(shares.values())) * len(drawn)).astype(int).tolist()
    starts = [0, *ends[:-1]]
    return {name: tuple(sorted(drawn[start:end])) for name, start, end in zip(shares, starts, ends, strict=True)}
