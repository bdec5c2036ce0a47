"""Classes that training never meets, and a held-out share of those that it does."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkg.errors import ConfigError
from mmkg.tasks.class_split import check_class_split, class_split, official_class_split

TEN_EACH = {f"{name}{number}": name for name in ("cat", "dog", "elk", "fox") for number in range(10)}


@pytest.mark.capability("G4-16")
@settings(max_examples=30)
@given(st.dictionaries(st.integers(0, 99), st.sampled_from("abcde"), min_size=8), st.integers(1, 3), st.integers(0, 3))
def test_no_unseen_label_is_in_training(class_of, num_unseen, seed):
    if len(set(class_of.values())) <= num_unseen:
        with pytest.raises(ConfigError, match="at least one unseen and one seen class"):
            class_split(class_of, num_unseen=num_unseen, random_seed=seed)
        return
    split = class_split(class_of, num_unseen=num_unseen, random_seed=seed)
    met = {class_of[item] for item in (*split.train, *split.valid)}
    asked = {class_of[item] for item in split.test_unseen}
    assert met == set(split.seen)  # every seen class, too, has something to learn from
    assert asked == set(split.unseen) and len(asked) == num_unseen and not met & asked
    assert {class_of[item] for item in split.test_seen} <= met
    assert sorted(item for part in split.parts.values() for item in part) == sorted(class_of)


@pytest.mark.capability("G4-16")
def test_shares_of_seen_classes_and_all_of_unseen_ones():
    split = class_split(TEN_EACH, unseen=["dog"], valid_share=0.1, test_share=0.3)
    assert split.seen == ("cat", "elk", "fox") and split.unseen == ("dog",)
    assert {part: len(items) for part, items in split.parts.items()} == {
        "train": 18,
        "valid": 3,
        "test_seen": 9,
        "test_unseen": 10,
    }
    for part, count in (("train", 6), ("valid", 1), ("test_seen", 3)):
        assert [TEN_EACH[item] for item in split.parts[part]] == [c for c in split.seen for _ in range(count)]


def test_the_draw_depends_on_the_seed_but_not_on_the_order():
    backwards = dict(reversed(TEN_EACH.items()))
    assert class_split(TEN_EACH, num_unseen=2, random_seed=5) == class_split(backwards, num_unseen=2, random_seed=5)
    drawn = {class_split(TEN_EACH, num_unseen=2, random_seed=seed).unseen for seed in range(20)}
    assert len(drawn) == 6  # all pairs of four classes
    assert len({class_split(TEN_EACH, unseen=["cat"], random_seed=seed).test_seen for seed in range(5)}) == 5


def test_small_classes_are_left_out_and_counted():
    class_of = TEN_EACH | {"gnu0": "gnu", "gnu1": "gnu"}
    split = class_split(class_of, num_unseen=1, min_items=3)
    assert split.left_out == {"gnu": 2}
    assert not {"gnu0", "gnu1"} & {item for part in split.parts.values() for item in part}
    with pytest.raises(ConfigError, match="'gnu' has 2 items, fewer than min_items=3"):
        class_split(class_of, unseen=["gnu"], min_items=3)


def test_a_class_of_one_item_is_learned_from():
    split = class_split({"a": "one", "b": "other"}, unseen=["other"], test_share=0.5, valid_share=0.4)
    assert (split.train, split.valid, split.test_seen, split.test_unseen) == (("a",), (), (), ("b",))


@pytest.mark.capability("G4-16")
def test_a_benchmark_keeps_its_own_test():
    official = {"train": ["cat0", "dog0", "elk0", "none"], "valid": ["dog1", "fox1"], "test": ["cat2", "dog2", "fox2"]}
    split = official_class_split(official, TEN_EACH, unseen=["dog"])
    assert split.parts == {
        "train": ("cat0", "elk0"),
        "valid": ("fox1",),
        "test_seen": ("cat2", "fox2"),
        "test_unseen": ("dog2",),
    }
    with pytest.raises(ConfigError, match="found 'cat0' in train and in test_seen"):
        official_class_split(official | {"test": ["cat0"]}, TEN_EACH, unseen=["dog"])


@pytest.mark.capability("G4-16")
def test_a_split_that_was_tampered_with_does_not_pass():
    split = class_split(TEN_EACH, unseen=["dog"])
    check_class_split(split, TEN_EACH)
    with pytest.raises(ConfigError, match="only seen classes in train, found item 'dog0' of class 'dog'"):
        check_class_split(replace(split, train=(*split.train, "dog0")), TEN_EACH)
    with pytest.raises(ConfigError, match="only unseen classes in test_unseen, found item 'cat0'"):
        check_class_split(replace(split, test_unseen=("cat0",)), TEN_EACH)
    with pytest.raises(ConfigError, match="in train and in valid"):
        check_class_split(replace(split, valid=split.train[:1]), TEN_EACH)
    with pytest.raises(ConfigError, match=r"found \['dog'\] to be both"):
        check_class_split(replace(split, seen=("cat", "dog")), TEN_EACH)


def test_settings_that_leave_nothing_are_said():
    for settings_of, message in (
        ({}, "both or neither"),
        ({"num_unseen": 1, "unseen": ["dog"]}, "both or neither"),
        ({"num_unseen": 4}, "among 4 with 1 items or more, found 4 to be unseen"),
        ({"num_unseen": 9}, "found 9 to be unseen"),
        ({"num_unseen": 0}, "found 0 to be unseen"),
        ({"unseen": ["dogg"]}, "no class is called 'dogg'. Did you mean 'dog'?"),
        ({"num_unseen": 1, "test_share": 1.0}, "add to less than 1"),
    ):
        with pytest.raises(ConfigError) as caught:
            class_split(TEN_EACH, **settings_of)
        assert message in str(caught.value)
