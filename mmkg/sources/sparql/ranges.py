r"""Ranges of keys: how a selection is cut into pieces that fit a page, without any help from the server's order.

Before the way of a fact begins. The keys are strings (STR of subject, of predicate, of object). Servers do not order
strings alike: SPARQL asks for code points, Jena compares UTF-16 units, Virtuoso bytes of IRIs with wide characters of
literals. All of them put ASCII before everything else and agree about ASCII, so bounds are ASCII strings only, and of
a key only its :func:`coarse` form matters: the part before the first character beyond U+007E, and U+007F in place of
the rest.

Keys that are the same in this form (Москва, Минск) are told apart by the next dimension, MD5 of the key; then come
predicate, object, and the object's language and datatype. So ranges are disjoint and cover all keys, whatever they are.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from mmkg.shards import digest
from mmkg.sources.sparql.selection import Selection

KEY_CHARS = 200
"""So much of a key is looked at for cutting; longer keys that begin alike are told apart by MD5."""
REST = "\x7f"  # stands for everything from the first character on that is not ASCII

_NOT_PLAIN = re.compile(r"[^\x00-\x7e]")

Interval = tuple[str | None, str | None]
"""From this key (inclusive) to that (exclusive); None is no bound."""


@dataclass(frozen=True)
class Dimension:
    """One way to tell statements apart: an expression over a variable, whose values are strings."""

    place: int  # 0 subject, 1 predicate, 2 object
    kind: str  # text | hash | kind (language and datatype)
    variable: str


def dimensions_of(selection: Selection) -> list[Dimension]:
    """All ways to cut a selection, in the order in which they are tried."""
    dimensions = []
    for variable in selection.variables:
        place = selection.places.index(variable)
        dimensions += [Dimension(place, "text", variable), Dimension(place, "hash", variable)]
    if selection.places[2]:
        dimensions.append(Dimension(2, "kind", selection.places[2]))
    return dimensions


@dataclass(frozen=True)
class KeyRange:
    """A piece of a selection: an interval in each of its first dimensions."""

    selection: int
    intervals: tuple[Interval, ...] = ((None, None),)

    @cached_property
    def range_id(self) -> str:
        """Name of the range in the ledger."""
        return digest([self.selection, self.intervals])

    def between(self, low: str | None, high: str | None) -> "KeyRange":
        """The same with another interval in the last dimension."""
        return KeyRange(self.selection, (*self.intervals[:-1], (low, high)))

    def next_dimension(self) -> "KeyRange":
        """The same, to be cut in one dimension more."""
        return KeyRange(self.selection, (*self.intervals, (None, None)))

    def describe(self, selection: Selection) -> str:
        """In the words of a message."""
        said = []
        for (low, high), dimension in zip(self.intervals, dimensions_of(selection), strict=False):
            if low is None and high is None:
                continue
            name = {"text": "STR({})", "hash": "MD5(STR({}))", "kind": "language and datatype of {}"}[dimension.kind]
            bounds = [f"from {low!r}"] * (low is not None) + [f"to before {high!r}"] * (high is not None)
            said.append(f"{name.format(dimension.variable)} {' '.join(bounds)}")
        return f"{selection.name}, {'; '.join(said) or 'all of it'}"


@dataclass(frozen=True)
class Group:
    """Statements whose keys begin alike: how many, and the first and last of their keys, in coarse form."""

    rows: int
    first: str
    last: str


def coarse(key: str) -> str:
    r"""What of a key all servers order alike.

    >>> coarse("http://a/Paris"), coarse("http://a/\u041c\u0438\u043d\u0441\u043a")
    ('http://a/Paris', 'http://a/\x7f')
    """
    key = key[:KEY_CHARS]
    found = _NOT_PLAIN.search(key)
    return key if found is None else key[: found.start()] + REST


def common_prefix(first: str, last: str) -> int:
    """How many characters two keys have in common at their beginning."""
    length = 0
    for one, other in zip(first, last, strict=False):
        if one != other:
            break
        length += 1
    return length


def bound_between(last: str, first: str) -> str:
    """The shortest bound that has the coarse key `last` before it and `first` at or behind it; last < first."""
    return first[: common_prefix(last, first) + 1]


def merge_groups(groups: Iterable[Group]) -> list[Group]:
    """Order groups by key, and join those that no bound can hold apart."""
    merged: list[Group] = []
    for group in sorted(groups, key=lambda group: (group.first, group.last)):
        if merged and group.first <= merged[-1].last:
            before = merged[-1]
            merged[-1] = Group(before.rows + group.rows, before.first, max(before.last, group.last))
        else:
            merged.append(group)
    return merged


@dataclass(frozen=True)
class Piece:
    """A range with what is known of it."""

    range: KeyRange
    rows: int | None
    first: str | None = None
    last: str | None = None


def cut_range(whole: KeyRange, groups: Sequence[Group], max_rows: int) -> list[Piece]:
    """Cut a range between groups into pieces of at most `max_rows`, or of one group that is larger.

    The pieces are in the order of keys, disjoint, and cover the range with all keys that the groups do not know of.
    """
    batches: list[list[Group]] = []
    for group in groups:
        if batches and sum(one.rows for one in batches[-1]) + group.rows <= max_rows:
            batches[-1].append(group)
        else:
            batches.append([group])
    low, end = whole.intervals[-1]
    pieces = []
    for batch, following in zip(batches, [*batches[1:], None], strict=True):
        high = end if following is None else bound_between(batch[-1].last, following[0].first)
        rows = sum(group.rows for group in batch)
        pieces.append(Piece(whole.between(low, high), rows, batch[0].first, batch[-1].last))
        low = high
    return pieces


def halve_range(whole: KeyRange, keys: Iterable[str]) -> list[Piece]:
    """Cut a range in two at the middle of sampled keys; not at all where they are all the same in coarse form."""
    ordered = sorted({coarse(key) for key in keys})
    if len(ordered) < 2:
        return []
    middle = len(ordered) // 2
    bound = bound_between(ordered[middle - 1], ordered[middle])
    low, high = whole.intervals[-1]
    return [Piece(whole.between(low, bound), None), Piece(whole.between(bound, high), None)]


def is_within(key: str, interval: Interval) -> bool:
    """Whether a key lies in an interval of a text dimension."""
    low, high = interval
    key = coarse(key)
    return (low is None or key >= low) and (high is None or key < high)
