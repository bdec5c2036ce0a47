"""Near-duplicates: exact as comparing each with each, and by colours too."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkg.images import duplicates
from mmkg.images.duplicates import MAX_COLOUR_DIFFERENCE, count_entities, differ_by, find_near_duplicates
from mmkg.images.picture import Limits, decode_picture

LIMITS = Limits(max_pixels=10_000_000, max_frames=100, shorter_side_px=336)


def _brute_force(hashes: np.ndarray, max_distance: int) -> list[tuple[int, int]]:
    numbers = [int(value) for value in hashes]
    return [
        (first, second)
        for first in range(len(numbers))
        for second in range(first + 1, len(numbers))
        if (numbers[first] ^ numbers[second]).bit_count() <= max_distance
    ]


@st.composite
def _hashes(draw: st.DrawFn) -> np.ndarray:
    """Some hashes, and others that are few bits from them."""
    centres = draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4))
    found = []
    for _ in range(draw(st.integers(0, 24))):
        value = draw(st.sampled_from(centres))
        for bit in draw(st.lists(st.integers(0, 63), max_size=9, unique=True)):
            value ^= 1 << bit
        found.append(value)
    return np.array(found, np.uint64)


@pytest.mark.parametrize("compare", ["all", "bands"])
@given(hashes=_hashes(), max_distance=st.integers(0, 16))
def test_the_pairs_are_those_of_comparing_each_with_each(compare: str, hashes: np.ndarray, max_distance: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_ALL_PAIRS_BELOW", 2 if compare == "bands" else 1 << 40)
        patch.setattr(duplicates, "_PAIRS_AT_ONCE", 7)  # many blocks
        found = find_near_duplicates(hashes, max_distance)
    assert [tuple(pair) for pair in found.tolist()] == _brute_force(hashes, max_distance)


@pytest.mark.parametrize("max_distance", [1, 2, 5, 6, 8])
def test_planted_pairs_are_found_among_thousands(max_distance: int) -> None:
    rng = np.random.default_rng(max_distance)
    hashes = rng.integers(0, 2**64, 3_000, dtype=np.uint64)
    planted = []
    for place in range(0, 200, 2):
        value = int(hashes[place])
        for bit in rng.choice(64, max_distance, replace=False):
            value ^= 1 << int(bit)
        hashes[place + 1] = value
        planted.append([place, place + 1])
    assert find_near_duplicates(hashes, max_distance).tolist() == planted
    assert find_near_duplicates(hashes, max_distance - 1).tolist() == []


def test_the_same_hash_in_other_colours_is_another_picture() -> None:
    hashes = np.array([7, 7, 7], np.uint64)
    colours = np.zeros((3, 192), np.uint8)
    colours[1, 100] = MAX_COLOUR_DIFFERENCE
    colours[2, 100] = 2 * MAX_COLOUR_DIFFERENCE + 1
    assert find_near_duplicates(hashes, 0, colours).tolist() == [[0, 1]]
    assert find_near_duplicates(hashes, 0).tolist() == [[0, 1], [0, 2], [1, 2]]


def test_no_pictures_have_no_duplicates() -> None:
    none = np.empty(0, np.int64)
    pairs = find_near_duplicates(np.empty(0, np.uint64), 6, np.empty((0, 192), np.uint8))
    assert pairs.shape == (0, 2)
    assert count_entities(pairs, none, none, 0).tolist() == []


@given(st.data())
def test_entities_are_counted_as_by_sets(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 8))
    place = st.integers(0, count - 1)
    pairs = sorted({(a, b) for a, b in data.draw(st.lists(st.tuples(place, place), max_size=10)) if a < b})
    rows = data.draw(st.lists(st.tuples(place, st.integers(0, 5)), max_size=20))
    near = {picture: {picture} for picture in range(count)}
    for first, second in pairs:
        near[first].add(second)
        near[second].add(first)
    expected = [len({entity for picture, entity in rows if picture in near[own]}) for own in range(count)]
    pictures, entities = (np.array([row[side] for row in rows], np.int64) for side in (0, 1))
    found = count_entities(np.array(pairs, np.int64).reshape(-1, 2), pictures, entities, count)
    assert found.tolist() == expected


def test_a_chain_of_small_differences_is_not_one_picture() -> None:
    hashes = np.array([0, 0b111, 0b111111], np.uint64)
    pairs = find_near_duplicates(hashes, 3)
    assert pairs.tolist() == [[0, 1], [1, 2]]
    places = np.arange(3)
    assert count_entities(pairs, places, places, 3).tolist() == [2, 3, 2]


def _look(paths: list[Path]) -> tuple[list[str], np.ndarray, np.ndarray]:
    facts = [decode_picture(path.read_bytes(), LIMITS) for path in paths]
    hashes = np.array([int(found.phash or "", 16) for found in facts], np.uint64)
    colours = np.stack([np.frombuffer(found.colours or b"", np.uint8) for found in facts])
    return [path.stem for path in paths], hashes, colours


# Countries and territories whose flags are, or nearly are, one design in one set of colours.
TWINS = [
    {"bl", "fr", "gf", "gp", "mf", "mq", "nc", "pm", "re", "wf", "yt"},  # France and parts of it
    {"bv", "no", "sj"},
    {"au", "hm"},
    {"gb", "gb-nir", "sh"},
    {"ro", "td"},
    {"us", "um"},
    {"id", "mc"},
    {"nl", "bq"},
]


def _are_twins(first: str, second: str) -> bool:
    return any({first, second} <= group for group in TWINS)


ATLAS_FLAGS = sorted((Path(__file__).parents[2] / "examples" / "atlas" / "flags").glob("*.png"))


def test_flags_of_different_countries_are_no_duplicates_though_their_hashes_collide() -> None:
    names, hashes, colours = _look(ATLAS_FLAGS)
    by_hash = [{names[a], names[b]} for a, b in find_near_duplicates(hashes, 6)]
    for pair in ({"ru", "bg"}, {"ie", "it"}, {"at", "lv"}, {"hu", "nl"}):
        assert pair in by_hash
    both = [(names[a], names[b]) for a, b in find_near_duplicates(hashes, 6, colours)]
    assert all(_are_twins(*pair) for pair in both), both
    assert ("ro", "td") in both


@pytest.mark.shared
def test_real_flags_are_duplicates_of_the_same_flag_only(shared_data: Path) -> None:
    paths = sorted((shared_data / "images" / "country_flags").glob("*.png"))
    names, hashes, colours = _look([*paths, *ATLAS_FLAGS])
    found = [(names[a], names[b]) for a, b in find_near_duplicates(hashes, 6, colours)]
    others = [pair for pair in found if pair[0] != pair[1] and not _are_twins(*pair)]
    assert others == []
    assert len(found) - len(others) >= 60  # drawn flags are found to be the real ones, France's in all its parts
    assert {("fr", "gf"), ("no", "sj"), ("gr", "gr")} <= set(found)


@pytest.mark.shared
def test_the_same_photo_in_another_crop_is_a_duplicate(shared_data: Path) -> None:
    folder = shared_data / "images" / "us_states" / "landscape"
    names, hashes, colours = _look(sorted(folder.iterdir()))
    found = {(names[a], names[b]) for a, b in find_near_duplicates(hashes, 6, colours)}
    assert found == {("delaware", "new-jersey"), ("kansas", "oklahoma")}


@settings(max_examples=20)
@given(st.integers(0, 255), st.integers(0, 255))
def test_a_difference_of_colours_does_not_wrap_around(first: int, second: int) -> None:
    one, other = np.full((1, 192), first, np.uint8), np.full((1, 192), second, np.uint8)
    assert differ_by(one, other)[0] == abs(first - second)
