"""Ranges of keys are disjoint and cover every key, whatever the keys and in whichever order a server has them."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmkg.sources.sparql.queries import spell_string
from mmkg.sources.sparql.ranges import (
    KEY_CHARS,
    Group,
    KeyRange,
    Piece,
    bound_between,
    coarse,
    cut_range,
    dimensions_of,
    halve_range,
    is_within,
    merge_groups,
)
from mmkg.sources.sparql.selection import Selection

# Few characters, so that keys have much in common: ASCII, U+007F, Latin, Cyrillic, both ends of UTF-16's disorder.
KEYS = st.lists(st.text("aB/~\x00\x7fé\u041c\uff5e\U0001f600", max_size=8), min_size=1, max_size=60)
LONG_KEYS = st.lists(
    st.builds(lambda head, tail: head * (KEY_CHARS - 2) + tail, st.sampled_from("ab"), st.text("xyé", max_size=6)),
    min_size=1,
    max_size=30,
)
ORDERS = {
    "code points": lambda key: [ord(character) for character in key],
    "UTF-16": lambda key: key.encode("utf-16-be"),
    "UTF-8 bytes": lambda key: key.encode(),
}
WHOLE = KeyRange(0)


def groups_of(keys: list[str], prefix_chars: int) -> list[Group]:
    """As a server counts them: by the beginnings of keys."""
    by_prefix: dict[str, list[str]] = {}
    for key in keys:
        by_prefix.setdefault(key[:prefix_chars], []).append(key)
    return merge_groups(
        [Group(len(some), coarse(min(some)), max(coarse(min(some)), coarse(max(some)))) for some in by_prefix.values()]
    )


def holders(key: str, pieces: list[Piece], order: str) -> list[int]:
    """Which pieces hold a key, by the comparison of a server."""
    rank = ORDERS[order]
    found = []
    for index, piece in enumerate(pieces):
        low, high = piece.range.intervals[-1]
        if (low is None or rank(key) >= rank(low)) and (high is None or rank(key) < rank(high)):
            found.append(index)
    return found


@pytest.mark.parametrize("order", ORDERS)
@given(keys=KEYS | LONG_KEYS, other_keys=KEYS, prefix_chars=st.integers(1, 6), max_rows=st.integers(1, 20))
def test_every_key_lies_in_one_piece_and_the_counts_are_right(
    order: str, keys: list[str], other_keys: list[str], prefix_chars: int, max_rows: int
) -> None:
    groups = groups_of(keys, prefix_chars)
    pieces = cut_range(WHOLE, groups, max_rows)
    held = Counter(index for key in keys for index in holders(key, pieces, order))
    assert [held[index] for index in range(len(pieces))] == [piece.rows for piece in pieces]
    assert sum(held.values()) == len(keys)
    assert all(len(holders(key, pieces, order)) == 1 for key in other_keys)  # keys that came meanwhile
    large = {group.rows for group in groups if group.rows > max_rows}
    assert all(piece.rows is not None and (piece.rows <= max_rows or piece.rows in large) for piece in pieces)


@pytest.mark.parametrize("order", ORDERS)
@given(keys=KEYS | LONG_KEYS, sample=st.integers(1, 20))
def test_halves_hold_every_key_once_and_neither_is_empty(order: str, keys: list[str], sample: int) -> None:
    pieces = halve_range(WHOLE, keys[:sample])
    if not pieces:
        assert len({coarse(key) for key in keys[:sample]}) == 1
        return
    assert all(len(holders(key, pieces, order)) == 1 for key in keys)
    assert {index for key in keys[:sample] for index in holders(key, pieces, order)} == {0, 1}


@pytest.mark.parametrize("order", ORDERS)
@given(key=st.text(max_size=12), keys=KEYS)
def test_our_comparison_is_that_of_every_server(order: str, key: str, keys: list[str]) -> None:
    pieces = cut_range(WHOLE, groups_of(keys, 2), 1)
    ours = [index for index, piece in enumerate(pieces) if is_within(key, piece.range.intervals[-1])]
    assert ours == holders(key, pieces, order)


@given(keys=KEYS)
def test_repeated_cutting_ends_at_single_coarse_keys(keys: list[str]) -> None:
    waiting, done = [(WHOLE, keys)], []
    while waiting:
        whole, inside = waiting.pop()
        pieces = halve_range(whole, inside)
        if not pieces:
            done.append({coarse(key) for key in inside})
        for piece in pieces:
            waiting.append((piece.range, [key for key in inside if is_within(key, piece.range.intervals[-1])]))
    assert sorted(key for some in done for key in some) == sorted({coarse(key) for key in keys})
    assert all(len(some) == 1 for some in done)


@given(keys=st.lists(st.text("abc", min_size=1, max_size=6), min_size=2, max_size=2, unique=True))
def test_a_bound_lies_between_its_keys_and_is_no_longer_than_needed(keys: list[str]) -> None:
    last, first = sorted(keys)
    bound = bound_between(last, first)
    assert last < bound <= first
    assert first.startswith(bound)
    assert len(bound) == 1 or not last < bound[:-1]


@given(text=st.text())
def test_a_string_in_a_query_is_the_string(text: str) -> None:
    import pyoxigraph as ox

    [solution] = ox.Store().query(f"SELECT ({spell_string(text)} AS ?text) WHERE {{}}")  # type: ignore[misc]
    assert solution["text"].value == text


def test_the_dimensions_are_those_of_the_variables() -> None:
    selection = Selection(name="x", pattern="", places=("?s", "", "?s"), constants=(None, None, None))
    assert [(one.kind, one.variable) for one in dimensions_of(selection)] == [
        ("text", "?s"),
        ("hash", "?s"),
        ("kind", "?s"),
    ]


def test_a_range_is_described_in_words() -> None:
    selection = Selection(name="predicate <http://a/p>", pattern="", places=("?s", "", "?o"), constants=(None,) * 3)
    deep = KeyRange(0, (("http://a/A", "http://a/B"), (None, "8"), ("x", None)))
    assert deep.describe(selection) == (
        "predicate <http://a/p>, STR(?s) from 'http://a/A' to before 'http://a/B'; MD5(STR(?s)) to before '8'; "
        "STR(?o) from 'x'"
    )
    assert WHOLE.describe(selection) == "predicate <http://a/p>, all of it"
