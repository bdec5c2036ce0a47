"""Scores of texts: by hand, next to their makers' scorers, intervals in a second way, and what does not matter."""

import functools
import json
import logging
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU

from mmkg.errors import ConfigError, NotInstalled
from mmkg.evaluation import bleu as bleu_module
from mmkg.evaluation.bleu import bleu_counts, bleu_of_sums
from mmkg.evaluation.bootstrap import Interval, cluster_interval, paired_cluster_difference
from mmkg.evaluation.report import html_table
from mmkg.evaluation.rouge import rouge_of_items
from mmkg.evaluation.text_report import text_comparison_table, text_table
from mmkg.evaluation.text_scores import (
    BLEU_SCORES,
    ITEM_SCORES,
    TEXT_SCORES,
    average_runs,
    compare_runs,
    compare_texts,
    cut_sentence,
    mask_years,
    score_groups,
    score_texts,
)

REFERENCES = [
    "American film actor",
    "city in the south of France",
    "1998 film by John Woo about a thief",
    "species of tree in the family of palms",
    "river in the north of England",
    "Italian football club in Rome",
    "German composer of the 19th century",
    "American actor and film director",
]
GOOD = [
    "American actor",
    "city in the south of France",
    "1999 film by John Woo about a thief in Rome",
    "species of plant in the family of palms",
    "river in England",
    "Italian football club",
    "German composer",
    "American film director",
]
POOR = [
    "film",
    "town in the north of France",
    "a film about a thief",
    "",
    "city in the north of England",
    "French football club in Paris",
    "composer of the 19th century",
    "American film actor",
]

words = st.lists(st.sampled_from(["a", "b", "cat", "Dog", "town", "of", "x1"]), min_size=1, max_size=8).map(" ".join)
pairs = st.lists(st.tuples(words, words), min_size=1, max_size=5)


def values_of(scores):
    return {name: interval.value for name, interval in scores.scores.items()}


@functools.cache
def scored(name):
    return score_texts({"good": GOOD, "poor": POOR}[name], REFERENCES, draws=200)


@pytest.mark.capability("G4-15")
def test_bleu_of_two_items_by_hand():
    """7 of 8 words, 4 of 6 pairs, 2 of 4 triples, 1 of 2 quadruples match; 8 words where 9 were expected."""
    found = values_of(score_texts(["a b c d", "x y w v"], ["a b c d e", "x y z w"], draws=0))
    brevity = math.exp(1 - 9 / 8)
    precisions = [7 / 8, 4 / 6, 2 / 4, 1 / 2]
    for order, name in enumerate(BLEU_SCORES, start=1):
        assert found[name] == pytest.approx(brevity * math.prod(precisions[:order]) ** (1 / order))


@pytest.mark.capability("G4-15")
@settings(max_examples=25)
@given(pairs)
def test_bleu_is_what_its_makers_scorer_says_of_the_corpus(texts):
    said, right = [pair[0] for pair in texts], [pair[1] for pair in texts]
    found = bleu_of_sums(bleu_counts(said, [[text] for text in right]).sum(axis=0))
    for order in range(1, 5):
        peer = BLEU(tokenize="none", smooth_method="none", max_ngram_order=order).corpus_score(said, [right]).score
        assert found[order - 1] == pytest.approx(peer / 100, abs=1e-12)


def test_of_several_references_the_one_with_most_of_an_n_gram_and_the_nearest_length_count():
    counts = bleu_counts(["a a b"], [["a a c", "b b", "a b c d e f"]])
    assert counts[0].tolist() == [3, 2, 0, 0, 3, 2, 1, 0, 3, 3]
    assert bleu_counts(["a a b"], [["a b c d", "a b"]])[0, -1] == 2  # equally near: the shorter


def test_a_corpus_without_four_words_anywhere_has_no_bleu_4_even_if_right():
    found = values_of(score_texts(["American actor", "film"], ["American actor", "film"], draws=0))
    assert [found[name] for name in BLEU_SCORES] == [1, 1, 0, 0]


@pytest.mark.capability("G4-15")
def test_rouge_by_hand():
    """The example of Lin, 2004, section 3.1: the same words in another order have less in common in sequence."""
    found = rouge_of_items(["police kill the gunman"], [["Police killed the gunman."]])
    assert found[0] == pytest.approx([3 / 4, 1 / 3, 3 / 4])
    turned = rouge_of_items(["the gunman kill police"], [["police killed the gunman"]])
    assert turned[0] == pytest.approx([3 / 4, 1 / 3, 2 / 4])
    shorter = rouge_of_items(["the gunman"], [["police killed the gunman"]])
    assert shorter[0] == pytest.approx([2 * 1 * 0.5 / 1.5, 2 * 1 * (1 / 3) / (4 / 3), 2 * 1 * 0.5 / 1.5])


def longest_common(first, second):
    """The length of the longest common subsequence, as it is defined."""
    if not first or not second:
        return 0
    if first[0] == second[0]:
        return 1 + longest_common(first[1:], second[1:])
    return max(longest_common(first[1:], second), longest_common(first, second[1:]))


@pytest.mark.capability("G4-15")
@settings(max_examples=25)
@given(words, words)
def test_rouge_l_is_f_of_the_longest_common_subsequence(said, right):
    first, second = said.lower().split(), right.lower().split()
    length = longest_common(first, second)
    assert rouge_of_items([said], [[right]])[0, 2] == pytest.approx(2 * length / (len(first) + len(second)))


def test_rouge_takes_the_best_reference_of_each_kind():
    both = rouge_of_items(["a b c"], [["c b a", "a b x y"]])[0]
    alone = rouge_of_items(["a b c"] * 2, [["c b a"], ["a b x y"]])
    assert both == pytest.approx(alone.max(axis=0))
    assert alone[0, 0] > alone[1, 0]
    assert alone[0, 1] < alone[1, 1]


def test_other_letters_have_no_rouge_and_the_log_says_so(caplog):
    with caplog.at_level(logging.WARNING, logger="mmkg"):
        found = values_of(score_texts(["東京 の 町 です", "a b c d"], ["東京 の 町 です", "a b c d"], draws=0))
    assert (found["rouge_l"], found["bleu_4"], found["exact"]) == (0.5, 1, 1)
    assert "1 items have no reference with a letter a-z or a digit" in caplog.text


@pytest.mark.capability("G4-15")
def test_a_perfect_system_has_all_there_is():
    found = values_of(score_texts(REFERENCES, REFERENCES, draws=0))
    assert [found[name] for name in (*BLEU_SCORES, "rouge_1", "rouge_2", "rouge_l", "exact")] == [1] * 8
    assert found["cider"] == pytest.approx((7 * 10 + 10 * 3 / 4) / 8)  # one of three words has no fourth order


def test_exact_match_lays_case_spaces_and_a_final_stop_aside():
    column = score_texts(["A  dog.", "a dog", "cat"], [["a dog"], "dog", ["mouse", "Cat"]], draws=0).items.column
    assert column("exact").tolist() == [1, 0, 1]


def test_an_empty_prediction_scores_nothing():
    found = score_texts(["", "  \n", "a b c d e"], [".", "a town", "a b c d e"], draws=10)
    assert found.items.score_N5[:2].tolist() == [[0] * 5] * 2
    assert found.items.bleu_N10[:2].tolist() == [[0] * 9 + [1], [0] * 9 + [2]]
    assert values_of(found)["bleu_4"] == pytest.approx(math.exp(1 - 8 / 5))
    assert set(values_of(score_texts([""], ["a"], draws=10)).values()) == {0}


@settings(max_examples=15)
@given(pairs, st.randoms(use_true_random=False))
def test_the_order_of_items_does_not_matter(texts, random):
    other = random.sample(texts, len(texts))
    one, two = (score_texts(*zip(*some, strict=True), draws=0) for some in (texts, other))
    assert values_of(one) == pytest.approx(values_of(two), abs=1e-12)


def test_one_reference_and_a_list_of_one_are_the_same():
    assert values_of(scored("good")) == values_of(score_texts(GOOD, [[text] for text in REFERENCES], draws=0))


def weights_of(num_clusters, *, draws, random_seed):
    return np.random.default_rng(random_seed).multinomial(
        num_clusters, np.full(num_clusters, 1 / num_clusters), size=draws
    )


@pytest.mark.capability("G4-15")
def test_a_bleu_interval_is_that_of_whole_corpora_that_are_drawn_and_scored_one_by_one():
    peer = BLEU(tokenize="none", smooth_method="none")
    drawn = []
    for weight_N in weights_of(len(GOOD), draws=60, random_seed=5):
        places = np.repeat(np.arange(len(GOOD)), weight_N)
        said, right = [GOOD[place] for place in places], [REFERENCES[place] for place in places]
        drawn.append(peer.corpus_score(said, [right]).score / 100)
    low, high = np.quantile(drawn, [0.05, 0.95])
    found = score_texts(GOOD, REFERENCES, draws=60, level=0.9, random_seed=5).scores["bleu_4"]
    assert (found.low, found.high) == pytest.approx((low, high))
    assert 0 < low < found.value < high < 1


@pytest.mark.parametrize("clusters", [None, ["p", "q", "p", "", "r", "q", "", "p"]])
def test_the_other_intervals_are_those_of_means_by_cluster(clusters):
    found = score_texts(GOOD, REFERENCES, clusters=clusters, draws=80, random_seed=2)
    for name in ITEM_SCORES:
        by_hand = cluster_interval(found.items.column(name), found.items.cluster_N, draws=80, random_seed=2)
        assert found.scores[name].as_json() == pytest.approx(by_hand.as_json())


def test_clusters_are_drawn_whole_and_an_empty_name_is_a_cluster_of_its_own():
    found = score_texts(GOOD, REFERENCES, clusters=["p", "q", "p", "", "r", "q", "", "p"], draws=5)
    assert found.as_json()["num_clusters"] == 5
    first, *_, second, last = found.items.cluster_N
    assert first == found.items.cluster_N[2] == last
    assert len({first, second, found.items.cluster_N[3]}) == 3
    one = score_texts(GOOD, REFERENCES, clusters=["all"] * 8, draws=5).scores["bleu_2"]  # there is one draw of one
    assert (one.low, one.high) == pytest.approx((one.value, one.value))


def test_a_group_has_the_scores_of_its_items_and_keeps_the_ciders_of_the_whole():
    member = np.array([True, False, True, False, True, False, False, True])
    whole = scored("good")
    parts = score_groups(whole, {"frequent": member, "rare": ~member})
    alone = score_texts(
        [GOOD[n] for n in np.flatnonzero(member)], [REFERENCES[n] for n in np.flatnonzero(member)], draws=200
    )
    for name in TEXT_SCORES:
        if name != "cider":
            assert parts["frequent"].scores[name] == alone.scores[name]
    both = [values_of(parts[name])["cider"] for name in ("frequent", "rare")]
    assert np.mean(both) == pytest.approx(values_of(whole)["cider"])  # four items each
    assert values_of(alone)["cider"] != pytest.approx(both[0], abs=0.01)
    assert parts["rare"].as_json()["num_items"] == 4


def test_a_group_draws_the_clusters_of_its_own_items():
    member = np.array([False, True, True, False, True, True, False, False])
    whole = score_texts(GOOD, REFERENCES, clusters=["x", "p", "p", "y", "q", "p", "z", "q"], draws=50)
    part = score_groups(whole, {"rare": member})["rare"]
    by_hand = cluster_interval(whole.items.column("rouge_l")[member], np.array([0, 0, 1, 0]), draws=50)
    assert part.scores["rouge_l"].as_json() == pytest.approx(by_hand.as_json())


def test_scores_go_into_json():
    read = json.loads(json.dumps(scored("good").as_json()))
    assert read["bootstrap"] == {"level": 0.95, "draws": 200, "random_seed": 0}
    assert read["num_items"] == 8
    assert all(read[name]["low"] <= read[name]["value"] <= read[name]["high"] for name in TEXT_SCORES)


@pytest.mark.capability("G4-15")
def test_two_systems_are_compared_on_the_same_drawn_items():
    found = compare_texts(scored("good"), scored("poor"), draws=60, random_seed=5)
    sums = [weights_of(len(GOOD), draws=60, random_seed=5) @ scored(name).items.bleu_N10 for name in ("good", "poor")]
    apart = np.array([bleu_of_sums(one)[1] - bleu_of_sums(two)[1] for one, two in zip(*sums, strict=True)])
    low, high = np.quantile(apart, [0.025, 0.975])
    bleu = found["bleu_2"].difference
    assert (bleu.low, bleu.high) == pytest.approx((low, high))
    assert bleu.value == pytest.approx(values_of(scored("good"))["bleu_2"] - values_of(scored("poor"))["bleu_2"])
    assert found["bleu_2"].p_value == pytest.approx(2 * ((apart <= 0).sum() + 1) / 61)
    first, second = (scored(name).items for name in ("good", "poor"))
    rouge = paired_cluster_difference(
        first.column("rouge_l"), second.column("rouge_l"), first.cluster_N, draws=60, random_seed=5
    )
    assert found["rouge_l"].as_json() == pytest.approx(rouge.as_json())


def test_a_system_is_not_better_than_itself_and_the_other_way_round_is_the_negative():
    same = compare_texts(scored("good"), scored("good"), draws=20)
    assert {json.dumps(one.as_json()) for one in same.values()} == {
        json.dumps({"value": 0.0, "low": 0.0, "high": 0.0, "p_value": 1.0})
    }
    there = compare_texts(scored("good"), scored("poor"), draws=50)
    back = compare_texts(scored("poor"), scored("good"), draws=50)
    for name in TEXT_SCORES:
        ends = there[name].difference
        assert (back[name].difference.low, back[name].difference.high) == pytest.approx((-ends.high, -ends.low))


def test_seeds_are_averaged_draw_by_draw():
    """BLEU by the mean over runs of each draw's corpus BLEU, not by the BLEU of all runs' counts."""
    runs, other = [scored("good"), scored("poor"), scored("poor")], scored("poor")
    weights = weights_of(len(GOOD), draws=40, random_seed=0)
    drawn = np.mean([bleu_of_sums(weights @ run.items.bleu_N10)[:, 0] for run in runs], axis=0)
    found = average_runs(runs, draws=40)
    assert found["bleu_1"].value == pytest.approx(np.mean([values_of(run)["bleu_1"] for run in runs]))
    assert (found["bleu_1"].low, found["bleu_1"].high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))
    pooled = bleu_of_sums(sum(run.items.bleu_N10.sum(axis=0) for run in runs))[0]
    assert found["bleu_1"].value != pytest.approx(pooled, abs=1e-4)
    column = np.mean([run.items.column("rouge_l") for run in runs], axis=0)
    by_hand = cluster_interval(column, other.items.cluster_N, draws=40)
    assert found["rouge_l"].as_json() == pytest.approx(by_hand.as_json())
    apart = compare_runs(runs, [other], draws=40)
    assert apart["bleu_1"].difference.value == pytest.approx(found["bleu_1"].value - values_of(other)["bleu_1"])
    paired = paired_cluster_difference(column, other.items.column("rouge_l"), other.items.cluster_N, draws=40)
    assert apart["rouge_l"].as_json() == pytest.approx(paired.as_json())


def test_runs_on_other_items_are_not_compared():
    turned = score_texts(GOOD, REFERENCES[::-1], draws=0)
    clustered = score_texts(GOOD, REFERENCES, clusters=["p"] * 8, draws=0)
    for other in (turned, clustered):
        with pytest.raises(ConfigError, match="other items"):
            compare_texts(scored("good"), other)
        with pytest.raises(ConfigError, match=r"run 1 of 2.* was scored on other items"):
            average_runs([scored("good"), other])
    with pytest.raises(ConfigError, match="found none"):
        compare_runs([scored("good")], [])


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ConfigError, match="no text was written"):
        score_texts([], [])
    with pytest.raises(ConfigError, match="found 1 predictions and 2 items"):
        score_texts(["a"], ["a", "b"])
    with pytest.raises(ConfigError, match=r"item 1 of 2, .*found an empty one"):
        score_texts(["a", "b"], ["a", " "])
    with pytest.raises(ConfigError, match=r"item 0 of 2, .*found none"):
        score_texts(["a", "b"], [[], "b"])
    with pytest.raises(ConfigError, match="a cluster for each of 2 items, found 1"):
        score_texts(["a", "b"], ["a", "b"], clusters=["p"])


def test_a_group_says_yes_or_no_of_each_item():
    with pytest.raises(ConfigError, match="group 'rare': expected yes or no of each of 8 items, found int64"):
        score_groups(scored("good"), {"rare": [0, 1, 2]})
    with pytest.raises(ConfigError, match="group 'unseen' has no item"):
        score_groups(scored("good"), {"unseen": [False] * 8})


def test_a_scorer_that_is_missing_is_asked_for_by_its_extra(monkeypatch):
    def missing(module, *, extra, needed_by):
        raise NotInstalled(f"{needed_by} needs '{module.partition('.')[0]}' of {extra}")

    monkeypatch.setattr(bleu_module, "require", missing)
    with pytest.raises(NotInstalled, match="the BLEU score needs 'sacrebleu' of text"):
        score_texts(["a"], ["a"])


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("1998 film", "0000 film"),
        ("film (1000–2099)", "film (0000–0000)"),
        ("the 1920s", "the 0000s"),
        ("999 or 2100 or 0999 or 12345 or 21000", "999 or 2100 or 0999 or 12345 or 21000"),
        ("0000", "0000"),
    ],
)
def test_years_are_masked(text, masked):
    assert mask_years(text) == masked
    assert mask_years(masked) == masked


@pytest.mark.capability("G4-15")
def test_masked_texts_score_without_asking_for_the_year():
    said, right = ["1998 film by Woo", "1901 novel by Mann"], ["1997 film by Woo", "1901 novel by Mann"]
    plain = values_of(score_texts(said, right, draws=0))
    masked = values_of(score_texts(*([mask_years(text) for text in texts] for texts in (said, right)), draws=0))
    assert (plain["exact"], masked["exact"]) == (0.5, 1)
    assert (plain["rouge_1"], masked["rouge_1"]) == (pytest.approx(7 / 8), 1)


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("a town. It is old.", "a town"),
        ("town. Old.", "town. Old."),  # at position 4
        ("towns. Old.", "towns. Old."),  # at position 5
        ("a town. ", "a town"),  # at position 6
        ("U.S. city. It is old", "U.S. city. It is old"),  # the first stop is early, so nothing is cut
        ("no stop", "no stop"),
        ("", ""),
    ],
)
def test_predictions_are_cut_as_in_the_released_code(text, cut):
    assert cut_sentence(text) == cut


def test_a_table_has_a_row_for_each_system():
    averaged = average_runs([scored("good"), scored("poor")], draws=20)
    rows = text_table({"good": scored("good").scores, "both": averaged}, scores=["rouge_l", "cider"])
    rouge = scored("good").scores["rouge_l"]
    assert rows[0] == ["", "ROUGE-L", "CIDEr"]
    assert rows[1][:2] == ["good", f"{rouge.value:.4f} [{rouge.low:.4f}, {rouge.high:.4f}]"]
    assert [len(row) for row in rows] == [3, 3, 3]
    assert '<td class="n">' in html_table(rows[0], rows[1:])
    assert len(text_table({"good": scored("good").scores})[0]) == 1 + len(TEXT_SCORES)


def test_a_table_of_comparisons_has_their_p():
    found = compare_texts(scored("good"), scored("good"), draws=20)
    assert text_comparison_table({"good − good": found}, scores=["bleu_4"]) == [
        ["", "BLEU-4"],
        ["good − good", "0.0000 [0.0000, 0.0000], p 1"],
    ]


def test_a_table_of_scores_that_there_are_not_is_refused():
    with pytest.raises(ConfigError, match="no score of texts is called 'bleu'"):
        text_table({"x": {"bleu": Interval(value=0, low=0, high=0)}}, scores=["bleu"])
