"""Controls of MARS: every promise on graphs and items that can be checked with a finger, then on the released ones."""

import json
import runpy
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkg.errors import ConfigError
from mmkg.tasks.mars import MarKG, MarsItem, as_columns, read_markg, read_mars
from mmkg.tasks.mars_controls import (
    answer_pair,
    clusters,
    example_pair,
    exchange_examples,
    other_partner_mask,
    own_example_mask,
    seen_pairs,
    split_by_pair,
    strict_triples,
    unseen_mask,
)


def item(head, tail, question, answer, relation="r", mode=0):
    return MarsItem(
        example_head=head, example_tail=tail, question=question, answer=answer, relation=relation, mode=mode
    )


def markg_of(triples, num_entities=10):
    entity_ids = tuple(f"Q{index}" for index in range(num_entities))
    return MarKG(
        entity_ids=entity_ids,
        names=entity_ids,
        descriptions=(None,) * num_entities,
        relation_ids=("r", "s"),
        relation_names=("r", "s"),
        relation_descriptions=(None, None),
        triples=np.array(triples, dtype=np.int64),
        rejects=(),
    )


def test_the_strict_graph_has_no_edge_between_the_two_entities_of_a_pair_in_either_direction():
    markg = markg_of([[1, 0, 0], [0, 1, 1], [0, 0, 2], [3, 0, 2], [2, 1, 2], [4, 0, 5]])
    strict = strict_triples(markg, [item(0, 1, 2, 3), item(2, 2, 7, 8)])
    assert strict.tolist() == [[0, 0, 2], [4, 0, 5]]
    assert strict_triples(markg, []).tolist() == markg.triples.tolist()


def test_a_pair_is_seen_whichever_way_round_as_example_or_as_question_and_answer():
    train = [item(0, 1, 3, 2)]
    assert seen_pairs(train) == {(0, 1), (2, 3)}
    items = [item(8, 9, 1, 0), item(8, 9, 2, 3), item(8, 9, 0, 2), item(0, 1, 8, 9)]
    assert unseen_mask(items, train).tolist() == [False, False, True, True]


def test_another_partner_counts_only_under_another_relation():
    train = [item(0, 1, 2, 3, "r"), item(4, 0, 5, 6, "s")]
    items = [
        item(8, 9, 0, 1, "r"),  # 4 under s
        item(8, 9, 0, 4, "s"),  # 1 under r
        item(8, 9, 0, 7, "t"),  # both
        item(8, 9, 2, 7, "r"),  # 3, but under r
        item(8, 9, 2, 3, "s"),  # no other partner
        item(8, 9, 7, 0, "r"),  # never seen
    ]
    assert other_partner_mask(items, train).tolist() == [True, True, True, False, False, False]


def test_an_example_that_is_the_own_pair_is_found_in_either_order():
    items = [item(0, 1, 0, 1), item(1, 0, 0, 1), item(0, 1, 0, 2), item(3, 3, 3, 3)]
    assert own_example_mask(items).tolist() == [True, True, False, True]


def test_clusters_are_distinct_questions_with_relation_and_answer():
    items = [item(0, 1, 2, 3), item(4, 5, 2, 3, mode=1), item(0, 1, 2, 3, "s"), item(0, 1, 3, 2), item(9, 8, 2, 3)]
    assert clusters(items).tolist() == [0, 0, 1, 2, 0]


entity = st.integers(0, 5)
some_items = st.lists(
    st.builds(item, entity, entity, entity, entity, st.sampled_from("rst"), st.integers(0, 2)), min_size=1, max_size=25
)


@settings(max_examples=60, deadline=None)
@given(items=some_items, random_seed=st.integers(0, 5))
def test_exchanged_examples_are_those_of_another_item_with_another_relation_and_the_same_mode(items, random_seed):
    donors = [
        [d for d in items if d.mode == one.mode and d.relation != one.relation and example_pair(d) != answer_pair(one)]
        for one in items
    ]
    if not all(donors):
        with pytest.raises(ConfigError, match="another item of the same mode with another relation"):
            exchange_examples(items, random_seed)
        return
    exchanged = exchange_examples(items, random_seed)
    assert exchanged == exchange_examples(items, random_seed)
    assert not own_example_mask(exchanged).any()
    for before, after, eligible in zip(items, exchanged, donors, strict=True):
        assert (after.question, after.answer, after.relation, after.mode) == (
            before.question,
            before.answer,
            before.relation,
            before.mode,
        )
        assert (after.example_head, after.example_tail) in {(d.example_head, d.example_tail) for d in eligible}


def test_every_eligible_donor_is_drawn_about_equally_often():
    items = [item(0, 1, 2, 3, "r"), item(4, 5, 6, 7, "s"), item(6, 7, 4, 5, "t")]
    drawn = Counter(exchange_examples(items, random_seed)[0].example_head for random_seed in range(400))
    assert set(drawn) == {4, 6}
    assert abs(drawn[4] - 200) < 50  # 5 standard deviations


@settings(max_examples=60, deadline=None)
@given(items=some_items, dev_share=st.floats(0.05, 0.95), random_seed=st.integers(0, 5))
def test_a_split_by_pair_has_no_pair_on_both_sides_and_accounts_for_every_item(items, dev_share, random_seed):
    try:
        split = split_by_pair(items, dev_share, random_seed)
    except ConfigError as error:
        assert "expected some on both sides" in str(error)
        return
    assert not seen_pairs(split.train) & seen_pairs(split.dev)
    assert Counter(items) == Counter((*split.train, *split.dev, *split.across, *split.own_example))
    assert own_example_mask(split.own_example).all()
    assert not own_example_mask((*split.train, *split.dev, *split.across)).any()
    assert split.counts()["given_up_example_on_the_other_side"] == len(split.across)
    assert split == split_by_pair(items, dev_share, random_seed)


def test_blocks_that_hang_together_stay_whole_so_that_nothing_is_given_up():
    """Two blocks of four pairs in one relation, tied only inside: a random half would cut most ties."""
    pairs = [(2 * n, 2 * n + 1) for n in range(8)]
    items = [
        item(*pairs[first], *pairs[second])
        for block in (range(4), range(4, 8))
        for first in block
        for second in block
        if first != second
    ]
    split = split_by_pair(items, 0.5, 0)
    assert (len(split.train), len(split.dev), len(split.across)) == (12, 12, 0)


def test_each_relation_gives_the_same_share_of_its_pairs_to_dev():
    items = [
        item(first, first + 100, second, second + 100, relation)
        for relation, start in (("r", 0), ("s", 20))
        for first in range(start, start + 20)
        for second in range(start, start + 20)
        if first != second
    ]
    split = split_by_pair(items, 0.25, 3)
    for start in (0, 20):
        assert sum(start <= low < start + 20 for low, _ in seen_pairs(split.dev)) == 5


@pytest.mark.parametrize("dev_share", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_that_is_none_is_refused(dev_share):
    with pytest.raises(ConfigError, match="dev_share between 0 and 1"):
        split_by_pair([item(0, 1, 2, 3)], dev_share, 0)


@pytest.mark.shared
def test_the_controls_of_the_released_files_have_the_sizes_that_were_counted(shared_data):
    folder = shared_data / "tasks" / "mars"
    markg = read_markg(folder)
    train, dev = (read_mars(folder, split, markg) for split in ("train", "dev"))
    assert len(strict_triples(markg, train + dev)) == 32_874
    assert len(set(clusters(dev).tolist())) == 228
    unseen = unseen_mask(dev, train)
    other = other_partner_mask(dev, train)
    assert (unseen.sum(), other.sum(), (unseen & other).sum()) == (612, 396, 223)
    assert (own_example_mask(train).sum(), own_example_mask(dev).sum()) == (1, 50)
    # the example of every dev item, and its question with the answer, are both asked: items must be answered alone
    assert {answer_pair(one) for one in dev} <= {example_pair(one) for one in dev}
    exchanged = exchange_examples(dev, 0)
    assert (as_columns(exchanged)[:, :2] != as_columns(dev)[:, :2]).any(axis=1).mean() > 0.95


@pytest.mark.shared
def test_the_script_writes_a_split_that_reads_as_mars(shared_data, tmp_path, capsys):
    script = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "mars" / "split_by_pair.py"))
    folder = shared_data / "tasks" / "mars"
    assert script["main"]([str(folder), "--output", str(tmp_path / "new")]) == 0
    assert "dev_items" in capsys.readouterr().out
    markg = read_markg(folder)
    train, dev = (read_mars(tmp_path / "new", split, markg) for split in ("train", "dev"))
    assert unseen_mask(dev, train).all()
    counts = json.loads((tmp_path / "new" / "counts.json").read_text())
    assert (len(train), len(dev)) == (counts["train_items"], counts["dev_items"])
    given_up = sum(count for name, count in counts.items() if name.startswith("given_up"))
    assert len(train) + len(dev) + given_up == counts["items"] == 11_661
    assert given_up < 0.2 * counts["items"]  # sides drawn at random alone give up a third
    first = json.loads((tmp_path / "new" / "train.json").read_text().partition("\n")[0])
    assert list(first) == ["example", "question", "answer", "relation", "mode"]


def test_the_script_says_in_one_line_what_is_missing(tmp_path, capsys):
    script = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "mars" / "split_by_pair.py"))
    assert script["main"]([str(tmp_path), "--output", str(tmp_path / "new")]) == 1
    assert "expected entity2text.txt" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
