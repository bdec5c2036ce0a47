"""Made questions whose answer stands some hops away: how they are made, and who finds it."""

import numpy as np
import pytest

from mmkg.errors import ConfigError
from mmkg.training.reasoning.paths import PathsConfig, evaluate_paths, open_path_recipe, path_questions, train_paths

SMALL = PathsConfig(num_train=30, num_valid=5, num_test=10)


@pytest.mark.parametrize("hops", [1, 2, 3])
def test_the_answer_is_the_only_colour_that_edges_tie_to_the_target_and_stands_so_many_hops_away(hops):
    questions = path_questions(SMALL.model_copy(update={"num_hops": hops}))
    for question in [*questions.train, *questions.test]:
        subgraph = question.subgraph
        reached = np.flatnonzero(subgraph.hop_N >= 0)
        colours = [(subgraph.labels[at], int(subgraph.hop_N[at])) for at in reached if subgraph.labels[at]]
        assert colours == [(question.answer, hops)]
        assert sorted(label for label in subgraph.labels if label) == sorted(SMALL.words)
        assert subgraph.has_vector_N.sum() == len(SMALL.words)  # of nothing else is anything known


def test_answers_are_as_likely_as_each_other_and_their_place_says_nothing():
    questions = path_questions(PathsConfig(num_train=2000, num_valid=1, num_test=1))
    answers = [question.answer for question in questions.train]
    assert all(0.2 < answers.count(word) / 2000 < 0.3 for word in SMALL.words)
    places = np.array([one.subgraph.labels.index(one.answer) for one in questions.train])
    assert abs(places.mean() - 6) < 0.3  # of places 1 to 11, all alike


def test_the_same_seed_makes_the_same_questions_and_one_colour_is_refused():
    first, again, other = path_questions(SMALL), path_questions(SMALL), path_questions(SMALL, random_seed=1)
    assert first.digest == again.digest != other.digest
    with pytest.raises(ConfigError, match="at least two different words"):
        path_questions(SMALL.model_copy(update={"words": ("red", "red")}))


@pytest.mark.capability("G4-06")
def test_diffusion_finds_what_stands_two_hops_away_and_one_hop_cannot(tmp_path):
    found = train_paths("graph4mm/paths_tiny", tmp_path / "run")
    assert found["accuracy"]["value"] >= 0.95
    assert found["exchanged_subgraphs"]["accuracy"]["value"] < 0.7
    again = evaluate_paths(tmp_path / "run")
    assert again["accuracy"] == found["accuracy"]
    near = train_paths(open_path_recipe("graph4mm/paths_tiny", {"model.num_terms": 2}), tmp_path / "near")
    assert near["accuracy"]["value"] < 0.7
