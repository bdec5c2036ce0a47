"""Zero-shot classification: whole classes are held out, so that no label of theirs is met in training.

Graph4MM trains on six classes of Ele-Fashion and is tested on five others. A number on unseen classes alone does not
say what was given up on the seen ones, so a share of their items is held out too, and both can be reported.
"""

from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np

from mmkg.errors import ConfigError, unknown_name

Item = TypeVar("Item", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class ClassSplit(Generic[Item]):
    """Items of classes that are met in training, and of classes that are not.

    Attributes:
        seen: names of the classes of train, valid and test_seen, sorted.
        unseen: names of the classes of test_unseen, sorted.
        left_out: classes that have too few items, and how many; their items are in no part.
        train, valid, test_seen: items of seen classes.
        test_unseen: items of unseen classes.
    """

    seen: tuple[str, ...]
    unseen: tuple[str, ...]
    left_out: Mapping[str, int]
    train: tuple[Item, ...]
    valid: tuple[Item, ...]
    test_seen: tuple[Item, ...]
    test_unseen: tuple[Item, ...]

    @property
    def parts(self) -> Mapping[str, tuple[Item, ...]]:
        """The four parts by name."""
        return {
            "train": self.train,
            "valid": self.valid,
            "test_seen": self.test_seen,
            "test_unseen": self.test_unseen,
        }


def class_split(
    class_of: Mapping[Item, str],
    *,
    num_unseen: int | None = None,
    unseen: Collection[str] | None = None,
    min_items: int = 1,
    valid_share: float = 0.1,
    test_share: float = 0.2,
    random_seed: int = 0,
) -> ClassSplit[Item]:
    """Hold out whole classes, and a share of each of the others.

    Args:
        class_of: the class of each item; items are strings or integers, unlabelled ones are not in it.
        num_unseen: how many classes to draw as unseen; either this or ``unseen``.
        unseen: names of the unseen classes, as a paper gives them.
        min_items: classes with fewer items are left out.
        valid_share: share of each seen class to choose a checkpoint by; never of an unseen one.
        test_share: share of each seen class; one item at least stays in train.
        random_seed: of the classes and the items.

    Returns:
        The parts; the same ones whatever the order of ``class_of``.

    Raises:
        ConfigError: both or neither of ``num_unseen`` and ``unseen``, an unknown class, shares that leave nothing to
            train on, or no class left to see.
    """
    if min(valid_share, test_share) < 0 or valid_share + test_share >= 1:
        raise ConfigError(
            f"expected shares of valid and test that add to less than 1, found {valid_share}, {test_share}"
        )
    random = np.random.default_rng(random_seed)
    empty = _draw_classes(class_of, num_unseen=num_unseen, unseen=unseen, min_items=min_items, random=random)
    items_of: dict[str, list[Item]] = {name: [] for name in (*empty.seen, *empty.unseen)}
    for item in _in_order(class_of):
        if class_of[item] in items_of:
            items_of[class_of[item]].append(item)
    train: list[Item] = []
    valid: list[Item] = []
    test: list[Item] = []
    for name in empty.seen:
        items = items_of[name]
        drawn = [items[place] for place in random.permutation(len(items))]
        num_test = min(round(test_share * len(items)), len(items) - 1)
        num_valid = min(round(valid_share * len(items)), len(items) - 1 - num_test)
        test += drawn[:num_test]
        valid += drawn[num_test : num_test + num_valid]
        train += drawn[num_test + num_valid :]
    split = replace(
        empty,
        train=tuple(_in_order(train)),
        valid=tuple(_in_order(valid)),
        test_seen=tuple(_in_order(test)),
        test_unseen=tuple(_in_order([item for name in empty.unseen for item in items_of[name]])),
    )
    check_class_split(split, class_of)
    return split


def official_class_split(
    official: Mapping[str, Sequence[Item]],
    class_of: Mapping[Item, str],
    *,
    num_unseen: int | None = None,
    unseen: Collection[str] | None = None,
    min_items: int = 1,
    random_seed: int = 0,
) -> ClassSplit[Item]:
    """Hold out whole classes of a benchmark that has its own train, valid and test.

    Train and valid keep the seen classes only. Both parts of test are the benchmark's own, so that a number on unseen
    classes is of items that other work is tested on too.

    Args:
        official: ``train``, ``valid`` and ``test`` -> items; an item without a class is put aside.
        class_of: see :func:`class_split`; counts against ``min_items`` are over all three parts.
        num_unseen: how many classes to draw as unseen; either this or ``unseen``.
        unseen: names of the unseen classes.
        min_items: classes with fewer items are left out.
        random_seed: of the classes.

    Raises:
        ConfigError: see :func:`class_split`; or an item stands in two parts.
    """
    inside = {item: class_of[item] for part in official.values() for item in part if item in class_of}
    random = np.random.default_rng(random_seed)
    empty = _draw_classes(inside, num_unseen=num_unseen, unseen=unseen, min_items=min_items, random=random)

    def of(part: str, classes: Sequence[str]) -> tuple[Item, ...]:
        known = set(classes)
        return tuple(_in_order([item for item in official[part] if inside.get(item) in known]))

    split = replace(
        empty,
        train=of("train", empty.seen),
        valid=of("valid", empty.seen),
        test_seen=of("test", empty.seen),
        test_unseen=of("test", empty.unseen),
    )
    check_class_split(split, class_of)
    return split


def check_class_split(split: ClassSplit[Item], class_of: Mapping[Item, str]) -> None:
    """Make sure that training meets no unseen class, and no item stands twice.

    Raises:
        ConfigError: a class is both seen and unseen, an item is in a part that its class has no place in, or an item
            is in two parts.
    """
    if both := set(split.seen) & set(split.unseen):
        raise ConfigError(f"expected classes to be seen or unseen, found {sorted(both)} to be both")
    where: dict[Item, str] = {}
    for part, items in split.parts.items():
        allowed = set(split.unseen if part == "test_unseen" else split.seen)
        for item in items:
            if class_of.get(item) not in allowed:
                kind = "unseen" if part == "test_unseen" else "seen"
                raise ConfigError(
                    f"expected only {kind} classes in {part}, found item {item!r} of class {class_of.get(item)!r}"
                )
            if item in where:
                raise ConfigError(f"expected every item in one part, found {item!r} in {where[item]} and in {part}")
            where[item] = part


def _draw_classes(
    class_of: Mapping[Item, str],
    *,
    num_unseen: int | None,
    unseen: Collection[str] | None,
    min_items: int,
    random: np.random.Generator,
) -> ClassSplit[Item]:
    """A split without items."""
    size = Counter(class_of.values())
    kept = sorted(name for name, count in size.items() if count >= min_items)
    if (num_unseen is None) == (unseen is None):
        raise ConfigError("expected either num_unseen or unseen, found both or neither")
    if unseen is not None:
        for name in sorted(set(unseen) - set(kept)):
            if name in size:
                raise ConfigError(f"class {name!r} has {size[name]} items, fewer than min_items={min_items}")
            raise ConfigError(unknown_name("class", name, kept))
        chosen = set(unseen)
    else:
        chosen = {kept[place] for place in random.permutation(len(kept))[:num_unseen]}
    if not 0 < len(chosen) < len(kept) or (num_unseen is not None and num_unseen != len(chosen)):
        raise ConfigError(
            f"expected at least one unseen and one seen class among {len(kept)} with {min_items} items or more, found "
            f"{num_unseen if num_unseen is not None else len(chosen)} to be unseen"
        )
    return ClassSplit(
        seen=tuple(name for name in kept if name not in chosen),
        unseen=tuple(sorted(chosen)),
        left_out={name: count for name, count in sorted(size.items()) if count < min_items},
        train=(),
        valid=(),
        test_seen=(),
        test_unseen=(),
    )


def _in_order(items: Collection[Item]) -> list[Item]:
    def key(item: Any) -> Any:
        return item  # strings among strings, integers among integers

    return sorted(items, key=key)
