"""Retrieval figures: by hand, chance against every possible order, questions with several right answers."""

import itertools

import numpy as np
import pytest
from PIL import Image

from mmkg.training.contrastive.pictures import CaptionedPictures, read_captioned_pictures
from mmkg.training.contrastive.retrieval import (
    measure_captions,
    measure_look_alikes,
    measure_retrieval,
    one_caption_a_statement,
    specific_captions,
)


def captioned(truths: list[list[str]], *, shows: list[str] | None = None) -> CaptionedPictures:
    """Picture i has the captions truths[i]."""
    pairs = [(picture, text) for picture, texts in enumerate(truths) for text in texts]
    files = [f"{number}.png" for number in range(len(truths))]
    return CaptionedPictures(
        folder=None,
        files=files,
        shows=shows or files,
        texts=[text for _, text in pairs],
        picture_of=np.array([picture for picture, _ in pairs]),
        statements=[text for _, text in pairs],
        kinds=["caption"] * len(pairs),
    )


def test_recall_and_precision_of_three_queries_by_hand():
    scores = np.array([[9, 8, 7, 6, 5, 4], [9, 8, 7, 6, 5, 4], [9, 8, 7, 6, 5, 4]], dtype=np.float32)
    right = np.zeros((3, 6), dtype=bool)
    right[0, [0, 2]] = True  # first and third: both recalls, two of two among five
    right[1, 3] = True  # fourth: recall@5
    right[2, 5] = True  # sixth: neither
    found = measure_retrieval(scores, right, ["a", "b", "c"])
    values = {name: figure.value for name, figure in found.figures.items()}
    assert values == pytest.approx({"recall_at_1": 1 / 3, "recall_at_5": 2 / 3, "precision_at_5": 2 / 3})
    assert (found.num_queries, found.num_candidates) == (3, 6)


def test_a_query_without_a_right_answer_is_left_out():
    right = np.array([[True, False], [False, False]])
    found = measure_retrieval(np.ones((2, 2), dtype=np.float32), right, ["a", "b"])
    assert found.num_queries == 1
    assert measure_retrieval(np.ones((1, 2), dtype=np.float32), right[1:], ["b"]) is None


def test_chance_is_the_mean_over_all_orders():
    right = np.array([[True, True, False, False, False, False], [False, False, False, True, False, False]])
    chance = measure_retrieval(np.zeros((2, 6), dtype=np.float32), right, ["a", "b"]).chance
    orders = np.array(list(itertools.permutations(range(6))))
    for depth in (1, 5):
        hits = [right[query][orders[:, :depth]].any(axis=1).mean() for query in range(2)]
        assert chance[f"recall_at_{depth}"] == pytest.approx(np.mean(hits))
    shares = [(right[query][orders[:, :5]].sum(axis=1) / right[query].sum()).mean() for query in range(2)]
    assert chance["precision_at_5"] == pytest.approx(np.mean(shares))


def test_queries_of_one_group_are_drawn_together():
    """Ten copies of two questions tell no more than the two: the interval stays that of two."""
    scores = np.tile(np.array([[1.0, 0.0], [1.0, 0.0]], dtype=np.float32), (10, 1))
    right = np.tile(np.array([[True, False], [False, True]]), (10, 1))
    figure = measure_retrieval(scores, right, ["a", "b"] * 10).figures["recall_at_1"]
    assert (figure.low, figure.value, figure.high) == (0, 0.5, 1)
    apart = measure_retrieval(scores, right, [str(row) for row in range(20)]).figures["recall_at_1"]
    assert apart.high - apart.low < 0.6


def test_the_most_specific_caption_is_the_one_that_is_true_of_the_fewest():
    pictures = captioned([["a flag", "a red flag", "a red flag with a cross"], ["a flag", "a red flag"], ["a flag"]])
    chosen = [pictures.texts[place] for place in specific_captions(pictures)]
    assert chosen == ["a red flag with a cross", "a red flag", "a flag"]


def test_a_caption_of_two_pictures_is_right_for_both_of_them():
    pictures = captioned([["flag", "red"], ["flag", "red"], ["flag", "blue"]])
    places = one_caption_a_statement(pictures, np.arange(len(pictures.texts)))
    assert [pictures.texts[place] for place in places] == ["flag", "red", "blue"]
    image = np.eye(3, dtype=np.float32)
    text = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=np.float32)  # flag, red, blue
    both = measure_captions(image, text, pictures, places, random_seed=0)
    assert both["text_to_image"]["recall_at_1"]["value"] == 1  # red finds the second picture, which is red too
    # The first picture is at right angles to all texts and takes the first, "flag", which is true.
    assert both["image_to_text"]["recall_at_1"]["value"] == 1
    assert both["image_to_text"]["num_candidates"] == 3


def test_look_alikes_ask_every_other_picture_for_the_first_of_its_thing(tmp_path):
    rows = ["file\tsplit\tshows\tcaption"]
    for number, (thing, grey) in enumerate([("dark", 10), ("light", 240), ("dark", 20), ("light", 230), ("light", 15)]):
        image = Image.new("L", (32, 32), grey)
        image.paste(255 - grey, (0, 0, 16 if thing == "dark" else 32, 16))
        image.save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png\ttrain\t{thing}\tsomething")
    (tmp_path / "index.tsv").write_text("\n".join(rows) + "\n")
    pictures = read_captioned_pictures(tmp_path)["train"]
    vectors = np.array([[1, 0], [0, 1], [1, 0], [0, 1], [1, 0]], dtype=np.float32)  # the last light one looks dark
    found = measure_look_alikes(vectors, pictures, random_seed=0)
    assert found["model"]["num_queries"] == 3
    assert found["model"]["num_candidates"] == 2
    assert found["model"]["recall_at_1"]["value"] == pytest.approx(2 / 3)
    assert found["perceptual_hash"]["recall_at_1"]["value"] == 1
    assert measure_look_alikes(vectors[:2], captioned([["a"], ["b"]]), random_seed=0) == {}
