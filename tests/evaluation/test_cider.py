"""CIDEr by hand, and next to the numbers of the scorer that published tables were made with."""

import math

import numpy as np
import pytest

from mmkg.errors import ConfigError
from mmkg.evaluation.cider import cider_of_items

# What CiderScorer of pycocoevalcap 1.2 (numpy 2.4.6) gave for these texts: predictions, references, scores.
RELEASED = {
    "films": (
        ["1998 film by John Woo", "American film actor", "city in France", ""],
        [
            ["1997 film by John Woo"],
            ["American film and television actor"],
            ["city in the south of France"],
            ["American actor"],
        ],
        [6.703431372549, 2.071145996312, 2.257723920537, 0.0],
    ),
    "words said too often": (
        ["a a a a b", "the the cat", "dog dog dog"],
        [["a a b"], ["the cat sat on the mat"], ["a dog"]],
        [3.76370680927, 2.441862710185, 0.771004723],
    ),
    "several references": (
        ["a man rides a brown horse", "two dogs play in the snow"],
        [
            ["a man is riding a horse", "a man rides a brown horse on a beach", "man on horse"],
            ["two dogs playing in snow", "dogs run through the deep snow"],
        ],
        [3.420569314132, 1.800933076138],
    ),
    "common words": (
        [
            "the town of York",
            "the town of Bath",
            "a town",
            "the river Ouse in the north of the country of England and its banks",
        ],
        [["the town of York"], ["the city of Bath"], ["the town of Hull"], ["the river Ouse"]],
        [10.0, 2.782864460609, 0.465037016797, 0.534533097884],
    ),
    "one item": (["a town in England"], [["a town in England"]], [0.0]),
}


@pytest.mark.capability("G4-15")
@pytest.mark.parametrize("corpus", RELEASED)
def test_the_released_scorer_has_the_same_numbers(corpus):
    predictions, references, expected = RELEASED[corpus]
    assert cider_of_items(predictions, references) == pytest.approx(expected, abs=1e-11)


@pytest.mark.capability("G4-15")
def test_two_items_by_hand():
    """Each word has the weight log 2, so weights cancel; two words have two orders of four, so 5 is all there is."""
    references = [["a b"], ["c d"]]
    assert cider_of_items(["a b", "c x"], references) == pytest.approx([10 / 4 * (1 + 1), 10 / 4 * (1 / 2)])
    # c twice: (2, 1)·(1, 1) is clipped to 2; "c c" and "c d" against "c d"; one word too many
    cosines = 2 / math.sqrt(5 * 2) + 1 / math.sqrt(2)
    assert cider_of_items(["a b", "c c d"], references)[1] == pytest.approx(10 / 4 * cosines * math.exp(-1 / 72))
    plain = 3 / math.sqrt(5 * 2) + 1 / math.sqrt(2)
    assert cider_of_items(["a b", "c c d"], references, variant="cider")[1] == pytest.approx(10 / 4 * plain)


def test_rare_words_weigh_more_by_hand():
    """Of two items "the" stands in both: log 2/2 = 0 is its weight, so only the other word counts."""
    found = cider_of_items(["the cat", "the dog"], [["the cat"], ["the mouse"]])
    assert found == pytest.approx([10 / 4 * (1 + 1), 0])


def test_references_of_one_item_count_once_among_items():
    """ "a" in two references of one item is in one item of two: weight log 2, as "b" and "c"."""
    found = cider_of_items(["a", "c"], [["a", "a b"], ["c"]])
    against_pair = 1 / math.sqrt(2) * math.exp(-1 / 72)
    assert found == pytest.approx([10 / 4 * (1 + against_pair) / 2, 10 / 4])


def test_the_penalty_of_length_and_clipping_only_lower_the_score():
    predictions, references, _ = RELEASED["words said too often"]
    strict, plain = (cider_of_items(predictions, references, variant=name) for name in ("cider-d", "cider"))
    assert (strict <= plain + 1e-12).all()
    assert strict.sum() < plain.sum() - 1


def test_all_is_within_ten_and_a_word_for_word_text_of_four_words_has_it():
    texts = [f"entity {n} has number {n} here" for n in range(5)]
    assert cider_of_items(texts, [[text] for text in texts]) == pytest.approx(np.full(5, 10.0))


def test_words_are_neither_lower_cased_nor_parted_from_their_stops():
    assert cider_of_items(["Paris.", "Rome"], [["paris"], ["Rome."]]) == pytest.approx([0, 0])


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ConfigError, match="found 0 predictions"):
        cider_of_items([], [])
    with pytest.raises(ConfigError, match="1 predictions, 2 items"):
        cider_of_items(["a"], [["a"], ["b"]])
    with pytest.raises(ConfigError, match="1 of them without any"):
        cider_of_items(["a", "b"], [["a"], []])
    with pytest.raises(ConfigError, match="Did you mean 'cider-d'"):
        cider_of_items(["a"], [["a"]], variant="cider-r")
