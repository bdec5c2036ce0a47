"""The reasoner really uses the graph: answers that are nowhere else, in triples or in a neighbour's picture."""

import math

import numpy as np
import pytest

from mmkg.errors import ConfigError
from mmkg.subgraphs.assemble import NodeKind
from mmkg.training.reasoning.recipe import SyntheticConfig, open_reasoning_recipe
from mmkg.training.reasoning.synthetic import WITHOUT_GRAPH, shuffle_subgraphs, synthetic_questions, train_synthetic
from mmkg.training.run_folder import read_history, read_json

from .made_tiny_llm import make_tiny_llm

SMALL = SyntheticConfig(num_train=40, num_valid=5, num_test=5)


def answer_by_hand(question, fact):
    """What the subgraph says, followed with a finger."""
    graph = question.subgraph
    edges = list(zip(graph.src_E.tolist(), graph.relation_E.tolist(), graph.dst_E.tolist(), strict=True))
    if fact == "triple":
        (place,) = [dst for src, relation, dst in edges if (src, relation) == (0, 0)]
        return graph.labels[place]
    (neighbour,) = [dst for src, relation, dst in edges if (src, relation) == (0, 2)]
    (picture,) = [src for src, relation, dst in edges if (relation, dst) == (graph.num_relations - 2, neighbour)]
    return graph.vector_ND[picture]


def test_the_answer_follows_from_the_triples_and_from_nothing_else():
    questions = synthetic_questions(SMALL)
    for question in questions.train:
        assert answer_by_hand(question, "triple") == question.answer
        assert question.subgraph.keys[0] == question.key
        assert question.answer not in question.text
    texts = [q.text for part in (questions.train, questions.valid, questions.test) for q in part]
    assert len(set(texts)) == 50  # a name is new in each question


def test_the_answer_follows_from_the_picture_of_the_neighbour_alone():
    questions = synthetic_questions(SMALL.model_copy(update={"fact": "picture"})).train
    shown = [answer_by_hand(question, "picture") for question in questions]
    near = np.array(shown) @ np.array(shown).T / np.outer(*[np.linalg.norm(shown, axis=1)] * 2)
    same = np.array([[one.answer == other.answer for other in questions] for one in questions])
    assert near[same].min() > near[~same].max()  # pictures of a colour are alike
    for question in questions:
        graph = question.subgraph
        assert not set(SMALL.words) & set(graph.labels)
        assert (graph.kind_N == NodeKind.IMAGE).sum() == SMALL.num_others + 1


def test_the_same_seed_makes_the_same_questions_and_no_exchanged_subgraph_is_its_own():
    first, again, other = (synthetic_questions(SMALL, random_seed=seed) for seed in (0, 0, 1))
    assert first.digest == again.digest != other.digest
    exchanged = shuffle_subgraphs(first.train)
    assert all(new.subgraph is not old.subgraph for new, old in zip(exchanged, first.train, strict=True))
    assert {id(q.subgraph) for q in exchanged} == {id(q.subgraph) for q in first.train}
    assert [q.answer for q in exchanged] == [q.answer for q in first.train]
    with pytest.raises(ConfigError, match="at least two different words"):
        synthetic_questions(SMALL.model_copy(update={"words": ("red", "red")}))


@pytest.mark.capability("MR-P7")
@pytest.mark.parametrize("fact", ["triple", "picture"])
def test_with_the_graph_nearly_all_are_right_with_another_or_without_as_many_as_by_chance(tmp_path, fact):
    settings = {"data.fact": fact, "data.num_train": 800, "epochs": 3, "valid_every": 3}
    recipe = open_reasoning_recipe("mr_mkg/synthetic_tiny", settings)
    # without graph the two kinds of questions are the same, so one control is enough
    metrics = train_synthetic(recipe, tmp_path / "run", llm=make_tiny_llm(), with_control=fact == "triple")
    count, chance = recipe.data.num_test, 1 / len(recipe.data.words)
    by_chance = chance + 4 * math.sqrt(chance * (1 - chance) / count)
    assert metrics["accuracy"]["value"] >= 0.95
    assert metrics["exchanged_subgraphs"]["accuracy"]["value"] < by_chance
    assert metrics["chance"] == chance
    if fact == "triple":
        assert metrics[WITHOUT_GRAPH]["value"] < by_chance
        assert read_json(tmp_path / "run" / WITHOUT_GRAPH / "metrics.json")["training"]["steps"] == 300
    losses = [row["answer_loss"] for row in read_history(tmp_path / "run")]
    assert losses == sorted(losses, reverse=True)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "the subgraph of another question" in page
    assert (tmp_path / "run" / "learning_curve.png").stat().st_size > 1000
