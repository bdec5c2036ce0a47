"""What tells reasoning from look-up on MARS: strict graph, subsets, exchanged examples, clusters, a split by pair.

Many dev pairs also stand in train, under another relation, and the graph has edges between the two entities of many
pairs; so a high score may come from look-up alone. A pair is always unordered here: (low index, high index). The pairs
of an item are its example and its (question, answer).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmkg.errors import ConfigError
from mmkg.tasks.mars import Int64Array, MarKG, MarsItem, as_columns

BoolArray = npt.NDArray[np.bool_]
Pair = tuple[int, int]


def example_pair(item: MarsItem) -> Pair:
    """Return the two entities of the example, lower index first."""
    return _pair(item.example_head, item.example_tail)


def answer_pair(item: MarsItem) -> Pair:
    """Return question and answer, lower index first."""
    return _pair(item.question, item.answer)


def seen_pairs(train: Sequence[MarsItem]) -> frozenset[Pair]:
    """Return every pair of these items, examples included."""
    return frozenset(pair for item in train for pair in (example_pair(item), answer_pair(item)))


def unseen_mask(items: Sequence[MarsItem], train: Sequence[MarsItem]) -> BoolArray:
    """Return bool (Q,): question and answer are no pair of train, whatever the relation."""
    seen = seen_pairs(train)
    return np.array([answer_pair(item) not in seen for item in items], dtype=np.bool_)


def other_partner_mask(items: Sequence[MarsItem], train: Sequence[MarsItem]) -> BoolArray:
    """Return bool (Q,): in some pair of train the question has another partner than the answer, under another relation.

    These are the items where a look-up of the question is led astray unless the example is read.
    """
    partners: dict[int, set[tuple[int, str]]] = {}
    for item in train:
        for first, second in (example_pair(item), answer_pair(item)):
            partners.setdefault(first, set()).add((second, item.relation))
            partners.setdefault(second, set()).add((first, item.relation))
    return np.array(
        [
            any(
                partner != item.answer and relation != item.relation
                for partner, relation in partners.get(item.question, ())
            )
            for item in items
        ],
        dtype=np.bool_,
    )


def own_example_mask(items: Sequence[MarsItem]) -> BoolArray:
    """Return bool (Q,): the example is the item's own pair, in either order, and so gives the answer away."""
    return np.array([example_pair(item) == answer_pair(item) for item in items], dtype=np.bool_)


def clusters(items: Sequence[MarsItem]) -> Int64Array:
    """Return int64 (Q,): the number of each item's fact (question, relation, answer), in the order of first appearance.

    Items of one fact differ in example and mode only, so they are no independent evidence: draw them together.
    """
    number: dict[tuple[int, str, int], int] = {}
    return np.array(
        [number.setdefault((item.question, item.relation, item.answer), len(number)) for item in items], dtype=np.int64
    )


def strict_triples(markg: MarKG, items: Sequence[MarsItem]) -> Int64Array:
    """Return the triples of MarKG, int64 (T, 3), without any edge between the two entities of a pair of these items.

    Give all items that are trained or evaluated on. With MARS train and dev, 32,874 of 33,301 remain.
    """
    num_entities = len(markg.entity_ids)
    pairs = np.array(sorted(seen_pairs(items)), dtype=np.int64).reshape(-1, 2)
    ends = np.sort(markg.triples[:, [0, 2]], axis=1)
    between = np.isin(ends[:, 0] * num_entities + ends[:, 1], pairs[:, 0] * num_entities + pairs[:, 1])
    return markg.triples[~between]


def exchange_examples(items: Sequence[MarsItem], random_seed: int) -> tuple[MarsItem, ...]:
    """Return the items in the same order, each with the example of another item of its mode and of another relation.

    Whoever reads the example must now do worse; whoever looks the question up does not notice. An item never gets its
    own pair. Donors are drawn with replacement, each of the eligible items equally likely.

    Raises:
        ConfigError: an item has no other of its mode whose example could be taken.
    """
    random = np.random.default_rng(random_seed)
    mode_Q = np.array([item.mode for item in items], dtype=np.int64)
    _, relation_Q = np.unique(np.array([item.relation for item in items], dtype=np.str_), return_inverse=True)
    columns_Q4 = as_columns(items)
    example_Q2 = np.sort(columns_Q4[:, :2], axis=1)
    pair_Q2 = np.sort(columns_Q4[:, 2:], axis=1)
    exchanged = []
    for place, item in enumerate(items):
        eligible = (mode_Q == mode_Q[place]) & (relation_Q != relation_Q[place])
        eligible &= (example_Q2 != pair_Q2[place]).any(axis=1)
        donors = np.flatnonzero(eligible)
        if not len(donors):
            raise ConfigError(
                f"item {place} (relation {item.relation}, mode {item.mode}): expected another item of the same mode "
                "with another relation to take an example from, found none; give more items at once"
            )
        donor = items[int(donors[random.integers(len(donors))])]
        exchanged.append(
            MarsItem(
                example_head=donor.example_head,
                example_tail=donor.example_tail,
                question=item.question,
                answer=item.answer,
                relation=item.relation,
                mode=item.mode,
            )
        )
    return tuple(exchanged)


@dataclass(frozen=True, kw_only=True)
class PairSplit:
    """Train and dev without a common pair; every item given is in exactly one of the four.

    Attributes:
        train: items whose two pairs are on the train side, in the order given.
        dev: items whose two pairs are on the dev side.
        across: given up, since the example is on the one side and the question's pair on the other.
        own_example: given up, since the example is the question's own pair.
    """

    train: tuple[MarsItem, ...]
    dev: tuple[MarsItem, ...]
    across: tuple[MarsItem, ...]
    own_example: tuple[MarsItem, ...]

    def counts(self) -> dict[str, int]:
        """Return the sizes: items, distinct pairs, what was given up and why."""
        return {
            "train_items": len(self.train),
            "train_pairs": len(seen_pairs(self.train)),
            "dev_items": len(self.dev),
            "dev_pairs": len(seen_pairs(self.dev)),
            "dev_facts": len(set(clusters(self.dev).tolist())),
            "given_up_example_on_the_other_side": len(self.across),
            "given_up_example_is_the_own_pair": len(self.own_example),
        }


def split_by_pair(items: Sequence[MarsItem], dev_share: float, random_seed: int) -> PairSplit:
    """Split items so that no unordered pair stands on both sides, neither as example nor as question and answer.

    An item ties its two pairs together, and nearly all pairs of MARS hang together in this way, so items must be given
    up. Pairs are first drawn at random, the same share of each relation. Then a dev pair and a train pair of one
    relation change places as long as this keeps more items, the best exchange first (as Kernighan and Lin 1970 do, but
    downhill only); the shares stay as drawn. A pair of several relations counts for that of most of its items.

    Args:
        items: of all splits that may be mixed, such as train + dev.
        dev_share: of the pairs of each relation, in (0, 1). Of the items it is less: both pairs must be on the side.
            With .2, MARS train + dev become about 9,340 and 830 items (230 facts), and 1,440 are given up.
        random_seed: of the draw.

    Raises:
        ConfigError: ``dev_share`` is not in (0, 1), or one side gets no item.
    """
    if not 0 < dev_share < 1:
        raise ConfigError(f"expected dev_share between 0 and 1, found {dev_share}")
    own_example = own_example_mask(items)
    usable = [item for item, own in zip(items, own_example, strict=True) if not own]
    place: dict[Pair, int] = {}
    for item in usable:
        place.setdefault(example_pair(item), len(place))
        place.setdefault(answer_pair(item), len(place))
    ends_E2 = np.array([(place[example_pair(i)], place[answer_pair(i)]) for i in usable], dtype=np.int64).reshape(-1, 2)
    stratum_P = _main_relation(usable, ends_E2, len(place))
    is_dev_P = _draw_sides(stratum_P, dev_share, np.random.default_rng(random_seed))
    _exchange_pairs(is_dev_P, stratum_P, ends_E2)
    num_dev_E = is_dev_P[ends_E2].sum(axis=1)
    train, across, dev = (tuple(usable[e] for e in np.flatnonzero(num_dev_E == n)) for n in (0, 1, 2))
    if not train or not dev:
        raise ConfigError(
            f"{len(items)} items, dev_share {dev_share}: expected some on both sides, found {len(train)} in train and "
            f"{len(dev)} in dev; give more items or a dev_share nearer to a half"
        )
    own = tuple(item for item, is_own in zip(items, own_example, strict=True) if is_own)
    return PairSplit(train=train, dev=dev, across=across, own_example=own)


def _pair(first: int, second: int) -> Pair:
    return (first, second) if first <= second else (second, first)


def _main_relation(items: Sequence[MarsItem], ends_E2: Int64Array, num_pairs: int) -> Int64Array:
    """(P,): number of the relation that most items of each pair have; of equals, the first by name."""
    names, relation_E = np.unique(np.array([item.relation for item in items], dtype=np.str_), return_inverse=True)
    count_PR = np.zeros((num_pairs, max(1, len(names))), dtype=np.int64)
    np.add.at(count_PR, (ends_E2.ravel(), np.repeat(relation_E, 2)), 1)
    return count_PR.argmax(axis=1)


def _draw_sides(stratum_P: Int64Array, dev_share: float, random: np.random.Generator) -> BoolArray:
    """(P,): True for about ``dev_share`` of the pairs of each stratum; what does not divide falls by chance."""
    is_dev_P = np.zeros(len(stratum_P), dtype=np.bool_)
    for stratum in np.unique(stratum_P):
        pairs = random.permutation(np.flatnonzero(stratum_P == stratum))
        is_dev_P[pairs[: int(len(pairs) * dev_share + random.random())]] = True
    return is_dev_P


def _exchange_pairs(is_dev_P: BoolArray, stratum_P: Int64Array, ends_E2: Int64Array) -> None:
    """Change places in ``is_dev_P``, within strata, until no exchange of two pairs keeps more items."""
    tied_PP = np.zeros((len(is_dev_P), len(is_dev_P)), dtype=np.int32)  # items between two pairs
    np.add.at(tied_PP, (ends_E2[:, 0], ends_E2[:, 1]), 1)
    np.add.at(tied_PP, (ends_E2[:, 1], ends_E2[:, 0]), 1)
    to_dev_P = tied_PP @ is_dev_P.astype(np.int32)
    gain_P = np.where(is_dev_P, -1, 1) * (2 * to_dev_P - tied_PP.sum(axis=1))  # items kept by a move alone
    improved = True
    while improved:
        improved = False
        for stratum in np.unique(stratum_P):
            while True:
                dev = np.flatnonzero(is_dev_P & (stratum_P == stratum))
                train = np.flatnonzero(~is_dev_P & (stratum_P == stratum))
                if not len(dev) or not len(train):
                    break
                gain_DT = gain_P[dev][:, None] + gain_P[train][None, :] - 2 * tied_PP[np.ix_(dev, train)]
                best_dev, best_train = np.unravel_index(gain_DT.argmax(), gain_DT.shape)
                if gain_DT[best_dev, best_train] <= 0:
                    break
                for moved in (dev[best_dev], train[best_train]):
                    _move(int(moved), is_dev_P, tied_PP, gain_P)
                improved = True


def _move(pair: int, is_dev_P: BoolArray, tied_PP: npt.NDArray[np.int32], gain_P: npt.NDArray[np.int32]) -> None:
    """Put a pair on the other side and mend the gains: a tie that was cut is kept now, and the other way round."""
    gain_P += np.where(is_dev_P == is_dev_P[pair], 2, -2) * tied_PP[pair]
    is_dev_P[pair] = ~is_dev_P[pair]
    gain_P[pair] *= -1
