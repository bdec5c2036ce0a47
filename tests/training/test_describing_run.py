"""Runs that describe entities: what is shown and what is hidden, what a run leaves, going on, measuring again."""

import json
import shutil

import numpy as np
import pytest

from mmkg.errors import ConfigError, TrainingError
from mmkg.evaluation.text_scores import score_texts
from mmkg.reasoners.llm_config import LlmConfig
from mmkg.subgraphs.assemble import Picture
from mmkg.tasks.descriptions import read_described_graph
from mmkg.training.reasoning.describing.data import prepare_descriptions
from mmkg.training.reasoning.describing.recipe import (
    NeighbourhoodConfig,
    list_describing_recipes,
    open_describing_recipe,
)
from mmkg.training.reasoning.describing.run import evaluate_descriptions, train_descriptions
from mmkg.training.reasoning.own_language_model import FOLDER
from mmkg.training.reasoning.run import read_answers
from mmkg.training.run_folder import read_json
from tests.tasks.described_files import write_described

TINY = {"epochs": 1, "bootstrap_draws": 10, "valid_questions": 4}
CONFIG = NeighbourhoodConfig(num_valid=4, num_test=8, max_neighbours=4, max_alike=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_described(tmp_path_factory.mktemp("data") / "kg")


@pytest.fixture(scope="module")
def graph(folder):
    return read_described_graph(folder)


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "one"
    recipe = open_describing_recipe("graph4mm/describe_tiny", TINY)
    return train_descriptions(recipe, run, data_folder=folder), run


def all_questions(data):
    return [*data.questions.train, *data.questions.valid, *data.questions.test]


@pytest.mark.capability("G4-04")
def test_a_subgraph_holds_the_entity_its_neighbours_and_all_facts_between_them(graph):
    data = prepare_descriptions(graph, CONFIG.model_copy(update={"max_neighbours": 99, "max_alike": 0}))
    ids = list(graph.entity_ids)
    facts = {(ids[h], r, ids[t]) for h, r, t in graph.triples.tolist()}
    for question in all_questions(data):
        subgraph = question.subgraph
        near = {t for h, _, t in facts if h == question.key} | {h for h, _, t in facts if t == question.key}
        assert set(subgraph.keys) == near | {question.key}
        assert subgraph.keys[0] == question.key
        assert subgraph.num_seeds == 1
        edges = zip(subgraph.src_E.tolist(), subgraph.relation_E.tolist(), subgraph.dst_E.tolist(), strict=True)
        found = {(subgraph.keys[s], r, subgraph.keys[t]) for s, r, t in edges}
        assert found == {fact for fact in facts if fact[0] in subgraph.keys and fact[2] in subgraph.keys}
        assert (subgraph.hop_N[1:] == 1).all()


def test_nobody_sees_a_description_of_valid_or_test_nor_their_own(graph):
    data = prepare_descriptions(graph, CONFIG)
    described = dict(zip(graph.entity_ids, graph.descriptions, strict=True))
    names = dict(zip(graph.entity_ids, graph.names, strict=True))
    hidden = {graph.entity_ids[at] for at in [*data.split.valid.tolist(), *data.split.test.tolist()]}
    seen_with_text = 0
    for question in all_questions(data):
        for at, (key, label) in enumerate(zip(question.subgraph.keys, question.subgraph.labels, strict=True)):
            expected = names[key] if at == 0 or key in hidden else f"{names[key]}: {described[key]}"
            assert label == expected
            seen_with_text += label != names[key]
    assert seen_with_text > 50


def test_what_is_not_shown_is_counted_and_each_relation_tells_its_rarest_neighbour_first(graph):
    """A person has a town, a friend, and is the friend of one: one neighbour of each relation and direction."""
    data = prepare_descriptions(graph, CONFIG.model_copy(update={"max_neighbours": 2, "max_alike": 0}))
    told = data.questions.told
    shown = sum(question.subgraph.num_nodes - 1 for question in all_questions(data))
    assert told["neighbours"] - told["neighbours_not_shown"] == shown == 2 * len(all_questions(data))
    whole = prepare_descriptions(graph, CONFIG.model_copy(update={"max_neighbours": 99, "max_alike": 0}))
    town = next(one for one in all_questions(whole) if one.key == "/t/Kiel")
    people = {key for key in town.subgraph.keys if key.startswith("/p/")}
    assert town.subgraph.keys[1] == "/c/Germany"  # the only one of its relation; of people there are five
    assert len(people) == 5
    assert set(town.subgraph.keys) == {"/t/Kiel", "/c/Germany", *people}


def test_alike_entities_are_of_train_and_two_hops_away(graph):
    data = prepare_descriptions(graph, CONFIG.model_copy(update={"max_neighbours": 0}))
    train = {graph.entity_ids[at] for at in data.split.train.tolist()}
    person = next(one for one in data.questions.test if one.key.startswith("/p/"))
    alike = person.subgraph.keys[1:]
    assert len(alike) == 3
    assert set(alike) <= train
    number = int(person.key[3:])
    assert all(int(key[3:]) % 6 == number % 6 for key in alike)  # of the same town


def test_the_placebo_has_its_own_name_and_the_surroundings_of_another(graph):
    data = prepare_descriptions(graph, CONFIG)
    placebo = prepare_descriptions(graph, CONFIG.model_copy(update={"exchanged": True}))
    moved = 0
    for own, other in zip(all_questions(data), all_questions(placebo), strict=True):
        assert (own.key, own.text, own.answer) == (other.key, other.text, other.answer)
        assert other.subgraph.labels[0] == own.subgraph.labels[0]
        moved += set(own.subgraph.keys[1:]) != set(other.subgraph.keys[1:])
    assert moved > len(all_questions(data)) / 2


@pytest.mark.capability("G4-17")
def test_nodes_can_stand_in_words_and_relations_alone(graph):
    data = prepare_descriptions(graph, CONFIG.model_copy(update={"num_in_words": 5}))
    for question in data.questions.test:
        *nodes, name = question.text.split(" ; ")
        assert name == question.subgraph.labels[0]
        assert len(nodes) == min(5, question.subgraph.num_nodes - 1)
        assert set(nodes) <= set(question.subgraph.labels[1:])
    person = next(one for one in data.questions.test if one.key.startswith("/p/"))
    assert all(node.startswith("Person") for node in person.text.split(" ; ")[-4:])  # alike ones stand next to the name
    bare = prepare_descriptions(graph, CONFIG.model_copy(update={"shown": "relations"}))
    assert all(label is None for one in all_questions(bare) for label in one.subgraph.labels)


@pytest.mark.capability("G4-05")
def test_pictures_of_a_build_become_nodes(graph):
    vector = np.ones(3, np.float32)
    town = graph.entity_ids.index("/t/Kiel")
    pictures = {town: [Picture(sha256="seen", vector=vector), Picture(sha256="failed", vector=None)]}
    data = prepare_descriptions(graph, CONFIG, pictures=pictures)
    with_town = next(one for one in data.questions.train if "/t/Kiel" in one.subgraph.keys)
    images = with_town.subgraph.image_subgraph()
    assert images.keys == ("seen", "failed")
    assert images.has_vector_N.tolist() == [True, False]
    assert data.questions.relation_RD.shape == (len(graph.relations) + 2, 3)


@pytest.mark.capability("G4-14", "G4-15")
def test_a_run_tells_written_text_from_teacher_forced_and_stands_beside_controls(finished):
    metrics, run = finished
    written = read_answers(run)
    assert len(written) == 8
    given, right = zip(*((one.given, one.right) for one in written.values()), strict=True)
    again = score_texts(given, right, draws=10)
    assert metrics["texts"]["rouge_l"]["value"] == pytest.approx(again.scores["rouge_l"].value)
    assert metrics["teacher_forced"] != metrics["texts"]
    assert set(metrics["controls"]) == {"commonest", "most alike", "medoid", "medoid, rare pairs count more"}
    assert metrics["controls"]["medoid"]["rouge_l"]["value"] > metrics["controls"]["commonest"]["rouge_l"]["value"]
    assert metrics["left_out_by_diffusion"] == pytest.approx(0.9**4)
    assert sum(group["num_items"] for group in metrics["groups"].values()) == 8
    page = (run / "report.html").read_text()
    assert "Teacher-forced" in page
    assert "medoid" in page


def test_the_language_model_knows_train_entities_alone(finished, folder, graph):
    _, run = finished
    rows = (run / FOLDER / "text.tsv").read_text().splitlines()[1:]
    data = prepare_descriptions(graph, open_describing_recipe("graph4mm/describe_tiny").data)
    test_names = {graph.names[at] for at in data.split.test.tolist()}
    learnt = [row.split("\t")[3] for row in rows if row.startswith("train")]
    train = data.split.train.tolist()
    assert learnt == [text for at in train for text in (graph.names[at], graph.descriptions[at])]
    assert not test_names & set(learnt)


def test_a_finished_run_is_measured_again_alike_and_refuses_other_data(finished, folder, tmp_path):
    metrics, run = finished
    again = evaluate_descriptions(run)
    assert again["texts"] == metrics["texts"]
    assert again["teacher_forced"] == metrics["teacher_forced"]
    of_train = evaluate_descriptions(run, split="train")
    assert of_train["controls"] == {}
    assert of_train["texts"]["num_items"] == 27
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    words = other / "relation2text.txt"
    words.write_text(words.read_text().replace("\ttown", "\tother words"))
    with pytest.raises(TrainingError, match="another embedder"):
        evaluate_descriptions(run, data_folder=other)


def test_a_stopped_run_goes_on_to_the_same_end(finished, folder, tmp_path):
    metrics, run = finished
    stopped = tmp_path / "stopped"
    shutil.copytree(run, stopped)
    for name in ("metrics.json", "answers-test.jsonl", "report.html"):
        (stopped / name).unlink()
    recipe = open_describing_recipe("graph4mm/describe_tiny", TINY)
    with pytest.raises(TrainingError, match="holds a run already"):
        train_descriptions(recipe, stopped, data_folder=folder)
    again = train_descriptions(recipe, stopped, data_folder=folder, resume=True)
    assert again["texts"] == metrics["texts"]
    # ended while the language model was made: it is made anew
    (stopped / FOLDER / "run" / "metrics.json").unlink()
    for name in ("metrics.json", "config.json", "checkpoint.safetensors"):
        (stopped / name).unlink()
    assert train_descriptions(recipe, stopped, data_folder=folder)["texts"] == metrics["texts"]


def test_weights_of_a_language_model_that_learns_are_in_the_checkpoint(finished, folder):
    _, run = finished
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert history[-1]["epoch"] == 1
    described = read_json(run / "environment.json")
    assert described["trained_parameters"] == described["parameters"]


def test_every_recipe_says_what_it_changes():
    recipes = {name: open_describing_recipe(name) for name in list_describing_recipes()}
    full = recipes["graph4mm/describe"]
    assert recipes["graph4mm/describe_no_text_structure"].model.text_structure == "none"
    assert recipes["graph4mm/describe_hop_aware"].model.text_structure == "hop_aware"
    assert recipes["graph4mm/describe_gnn"].model.graph_as_modality
    assert not recipes["graph4mm/describe_words"].model.reads_graph
    assert not recipes["graph4mm/describe_name"].model.reads_graph
    assert recipes["graph4mm/describe_relations"].data.shown == "relations"
    assert recipes["graph4mm/describe_mean"].model.reads == "mean"
    assert recipes["graph4mm/describe_placebo"].data.exchanged
    assert recipes["graph4mm/describe_frozen"].llm == LlmConfig(model="own")
    others = [recipe.model_dump() | {"name": ""} for name, recipe in recipes.items() if name != full.name]
    assert full.model_dump() | {"name": ""} not in others
    with pytest.raises(ConfigError, match="Did you mean 'graph4mm/describe_name'"):
        open_describing_recipe("graph4mm/describe_nam")


def test_one_of_two_folders_is_needed(tmp_path):
    with pytest.raises(ConfigError, match="from a folder of files"):
        train_descriptions("graph4mm/describe_tiny", tmp_path / "run")
