"""ScienceQA from files to the nine columns: retrieval, a rationale and then an answer, baselines beside the model."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmkg import pipeline
from mmkg.config import EmbeddingsConfig, read_config
from mmkg.embeddings import open_embedder
from mmkg.errors import ConfigError, DumpError, EmbeddingError, TrainingError
from mmkg.evaluation.question_answering import COLUMNS, choice_frequency, score_scienceqa
from mmkg.subgraphs.assemble import NodeKind
from mmkg.subgraphs.retrieve import RetrievalConfig, retrieve
from mmkg.tasks.scienceqa import read_scienceqa
from mmkg.tasks.scienceqa_texts import rationale_text
from mmkg.training.reasoning.patches import embed_patches
from mmkg.training.reasoning.question_learner import QuestionLearner
from mmkg.training.reasoning.recipe import open_reasoning_recipe
from mmkg.training.reasoning.scene_pretraining import train_scenes
from mmkg.training.reasoning.scienceqa import evaluate_scienceqa, train_scienceqa
from mmkg.training.reasoning.scienceqa_data import answer_questions, prepare_scienceqa, rationale_questions
from mmkg.training.reasoning.triple_graph import (
    graph_of_build,
    graph_of_triples,
    read_named_triples,
    retrieve_subgraphs,
)
from mmkg.training.run_folder import read_json
from tests.graph_config import write_pictured_graph, write_small_graph
from tests.tasks.visual_genome_files import draw_pictures, parts, write_files

from .made_tiny_llm import make_tiny_llm

TRIPLES = [("copper", "is a", "metal"), ("wood", "is a", "solid"), ("metal", "conducts", "heat"), ("Bern", "in", "CH")]
SETTINGS = {"bootstrap_draws": 20, "epochs": 1, "batch_size": 4, "model.graph_width": 8, "max_rationale_tokens": 6}


def problem(pid, split, number):
    return {
        "question": f"Is copper a metal, number {pid}?",
        "choices": ["yes", "no", "perhaps"][: 2 + number % 2],
        "answer": number % 2,
        "hint": "" if number % 2 else "Copper conducts heat.",
        "image": "image.png" if number % 3 == 0 else None,
        "task": "closed choice",
        "grade": f"grade{1 + number}",
        "subject": "natural science",
        "topic": "",
        "category": "",
        "skill": f"skill {number % 4}",
        "lecture": "" if number == 1 else "Copper is a metal.",
        "solution": "",
        "split": split,
    }


def write_problems(folder: Path, *, with_test: bool) -> Path:
    folder.mkdir(parents=True)
    splits = {"train": [str(n) for n in range(8)], "val": ["8", "9"], "test": ["10", "11"] if with_test else []}
    records = {pid: problem(pid, name, int(pid)) for name, pids in splits.items() for pid in pids}
    (folder / "problems.json").write_text(json.dumps(records))
    (folder / "pid_splits.json").write_text(json.dumps(splits))
    (folder / "captions.json").write_text(json.dumps({"captions": {"0": "a coin", "9": "a pan"}}))
    picture = folder / "train" / "0" / "image.png"
    picture.parent.mkdir(parents=True)
    Image.new("RGB", (8, 8), "red").save(picture)
    return folder


@pytest.fixture(scope="module")
def embedder():
    return open_embedder(EmbeddingsConfig(kind="hashing"))


@pytest.fixture(scope="module")
def graph(embedder):
    return graph_of_triples(TRIPLES, embedder)


@pytest.fixture(scope="module")
def llm():
    return make_tiny_llm(width=16)


@pytest.fixture(scope="module")
def run(tmp_path_factory, graph, llm):
    folder = tmp_path_factory.mktemp("scienceqa")
    data = write_problems(folder / "data", with_test=True)
    recipe = open_reasoning_recipe("mr_mkg/scienceqa_tiny", SETTINGS)
    metrics = train_scienceqa(recipe, data, None, folder / "run", graph=graph, llm=llm)
    return recipe, data, folder / "run", metrics


@pytest.mark.capability("MR-15", "MR-17")
def test_two_passes_end_in_nine_columns_beside_baselines(run):
    _, data, folder, metrics = run
    first, second = read_json(folder / "rationale" / "metrics.json"), read_json(folder / "metrics.json")
    assert first["num_questions"] == second["num_questions"] == 2
    assert second == metrics
    answers = [json.loads(line) for line in (folder / "answers-test.jsonl").read_text().splitlines()]
    problems = read_scienceqa(data).split("test")
    scored = score_scienceqa(problems, {one["key"]: one["choice"] for one in answers}, draws=20).as_json()
    assert metrics["scienceqa"]["MR-MKG"] == scored
    assert set(metrics["scienceqa"]) == {"MR-MKG", "language model alone", "most frequent place"}
    assert tuple(scored["columns"]) == COLUMNS
    frequent = choice_frequency(read_scienceqa(data).split("train"), problems)
    assert metrics["scienceqa"]["most frequent place"] == score_scienceqa(problems, frequent, draws=20).as_json()
    assert metrics["guessing"]["AVG"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert metrics["differences"]["MR-MKG − language model alone"]["AVG"]["value"] == pytest.approx(
        scored["columns"]["AVG"]["accuracy"]["value"]
        - metrics["scienceqa"]["language model alone"]["columns"]["AVG"]["accuracy"]["value"]
    )
    assert metrics["reported_split"] == "test"
    page = (folder / "report.html").read_text()
    assert "Accuracy on test" in page
    assert "most frequent place" in page


@pytest.mark.capability("MR-15")
def test_the_second_pass_learns_with_true_rationales_and_is_asked_with_written_ones(run, graph):
    recipe, folder, run_folder, _ = run
    written = read_json(run_folder / "rationale" / "rationales.json")
    assert set(written) == {"8", "9", "10", "11"}
    answers = [json.loads(line) for line in (run_folder / "answers-test.jsonl").read_text().splitlines()]
    for answer in answers:
        rationale = " ".join(written[answer["key"]].split())
        asked = answer["question"]
        assert asked.endswith(f"\nSolution: {rationale}\nAnswer:" if rationale else "\nAnswer:")
        assert "Solution: Copper is a metal" not in asked
    data = prepare_scienceqa(recipe, read_scienceqa(folder), graph, pictures_folder=folder)
    first, second = rationale_questions(recipe, data), answer_questions(recipe, data, written)
    assert [question.key for question in first.train] == ["0", "2", "3", "4", "5", "6", "7"]  # 1 has no rationale
    assert {question.answer for question in first.train} == {"Copper is a metal."}
    by_pid = data.problems
    for question in second.train:
        rationale = rationale_text(by_pid[question.key])
        assert ("Solution: " in question.text) == bool(rationale)
        assert question.text.endswith("\nAnswer:")
    assert second.train[0].choices == ("The answer is (A).", "The answer is (B).")
    assert "Copper conducts heat. a coin" in second.train[0].text
    without = open_reasoning_recipe("mr_mkg/scienceqa_tiny", {"captions": False, "answer_form": "choice"})
    bare = answer_questions(without, data, {})
    assert "a coin" not in bare.train[0].text
    assert bare.train[0].choices == ("(A) yes", "(B) no")


def test_pictures_at_hand_are_read_in_parts_and_others_are_counted(run, graph):
    recipe, folder, _, _ = run
    data = prepare_scienceqa(recipe, read_scienceqa(folder), graph, pictures_folder=folder)
    assert {pid: patches.shape for pid, patches in data.patches.items()} == {"0": (5, 256)}
    assert data.told["pictures_named"] == 4
    assert data.told["pictures_failed"] == {"no_picture": 3}
    (folder / "train" / "3").mkdir(exist_ok=True)
    broken = folder / "train" / "3" / "image.png"
    broken.write_bytes(b"no picture")
    _, failed = embed_patches([("3", broken)], graph.embedder, grid=2)
    assert failed == {"3": "not_a_picture"}


def test_without_test_problems_val_is_reported_on_and_chooses_nothing(tmp_path, graph):
    data = write_problems(tmp_path / "data", with_test=False)
    recipe = open_reasoning_recipe("mr_mkg/scienceqa_tiny", {"valid_share": 0.25})
    prepared = prepare_scienceqa(recipe, read_scienceqa(data), graph, pictures_folder=data)
    assert prepared.reported == "val"
    assert [one.pid for one in prepared.test] == ["8", "9"]
    skills = [{one.skill for one in part} for part in (prepared.train, prepared.valid)]
    assert len(skills[1]) == 1
    assert not skills[0] & skills[1]
    assert {one.pid for one in [*prepared.train, *prepared.valid]} == {str(n) for n in range(8)}


def test_without_graph_the_model_reads_none_and_a_model_that_reads_one_asks_for_it(tmp_path, llm):
    data = write_problems(tmp_path / "data", with_test=True)
    with pytest.raises(ConfigError, match="give a build or a graph of triples"):
        train_scienceqa("mr_mkg/scienceqa_tiny", data, None, tmp_path / "run", llm=llm)
    settings = {**SETTINGS, "model.knowledge": "none", "rationale": "none", "answering": "generation"}
    recipe = open_reasoning_recipe("mr_mkg/scienceqa_tiny", settings)
    metrics = train_scienceqa(recipe, data, None, tmp_path / "run", llm=llm)
    column = metrics["scienceqa"]["MR-MKG"]["columns"]["AVG"]
    answers = [json.loads(line) for line in (tmp_path / "run" / "answers-test.jsonl").read_text().splitlines()]
    assert column["num_unanswered"] == sum(one["choice"] is None for one in answers)
    assert not (tmp_path / "run" / "rationale").exists()


def test_an_answer_that_is_written_in_the_words_of_a_choice_counts(tmp_path, llm, monkeypatch):
    data = write_problems(tmp_path / "data", with_test=True)
    settings = {**SETTINGS, "model.knowledge": "none", "rationale": "none", "answering": "generation"}
    recipe = open_reasoning_recipe("mr_mkg/scienceqa_tiny", settings)
    said = {"10": "yes", "11": "no, it is perhaps"}
    monkeypatch.setattr(QuestionLearner, "write", lambda _, questions: [said[one.key] for one in questions])
    trained = train_scienceqa(recipe, data, None, tmp_path / "run", llm=llm)
    again = evaluate_scienceqa(tmp_path / "run", llm=llm)
    for metrics in (trained, again):
        answers = [json.loads(line) for line in (tmp_path / "run" / "answers-test.jsonl").read_text().splitlines()]
        assert [one["choice"] for one in answers] == [0, None]
        assert metrics["num_right"] == 1


def test_a_run_answers_another_split_with_both_its_models(run, graph, llm):
    _, _, folder, metrics = run
    again = evaluate_scienceqa(folder, split="test", graph=graph, llm=llm)
    assert again["scienceqa"] == metrics["scienceqa"]
    other = evaluate_scienceqa(folder, split="val", graph=graph, llm=llm)  # has no picture file, as train has
    assert other["num_questions"] == 2
    assert other["reported_split"] == "val"
    assert (folder / "report-val.html").exists()
    asked = [json.loads(line)["key"] for line in (folder / "answers-val.jsonl").read_text().splitlines()]
    assert asked == ["8", "9"]


@pytest.mark.capability("MR-14")
def test_stage_one_on_scene_graphs_is_where_stage_two_starts_from(run, tmp_path, graph, llm):
    _, data, _, _ = run
    scenes = draw_pictures(write_files(tmp_path / "genome", parts()))
    settings = {"epochs": 1, "bootstrap_draws": 0, "model.graph_width": 8}
    train_scenes(open_reasoning_recipe("mr_mkg/pretrain_tiny", settings), scenes, tmp_path / "first", llm=llm)
    second = {**SETTINGS, "rationale": "none", "initial": str(tmp_path / "first")}
    recipe = open_reasoning_recipe("mr_mkg/scienceqa_tiny", second)
    metrics = train_scienceqa(recipe, data, None, tmp_path / "second", graph=graph, llm=llm)
    assert {"knowledge.node.weight", "visual_adapter.project.weight"} <= set(metrics["initial"]["loaded"])
    assert metrics["initial"]["new"] == ["knowledge.free"]  # vectors of relations are of one graph
    assert metrics["initial"]["unused"] == ["knowledge.free"]


# --- the graph that is looked up in


@pytest.mark.capability("MR-07")
def test_a_question_brings_the_triples_that_are_retrieved_for_it_and_no_others(graph):
    config = RetrievalConfig(num_nearest=1, num_triples=2)
    (subgraph,) = retrieve_subgraphs(graph, ["copper is a metal"], config)
    found = retrieve(graph.index, graph.adjacency, graph.embedder.embed_texts(["copper is a metal"])[0], config)
    said = {
        (subgraph.labels[src], graph.relation_labels[relation], subgraph.labels[dst])
        for src, relation, dst in zip(subgraph.src_E, subgraph.relation_E, subgraph.dst_E, strict=True)
    }
    named = [tuple(graph.triples[row]) for row in found.rows]
    assert said == {(graph.labels[h], graph.relation_labels[r], graph.labels[t]) for h, r, t in named}
    assert ("copper", "is a", "metal") in said
    assert {subgraph.labels[place] for place in range(subgraph.num_seeds)} == {"copper", "metal"}
    assert subgraph.has_vector_N.all()
    assert graph.empty().num_nodes == 0
    assert graph.relation_RD.shape[0] == len(graph.relation_labels) + 2


def test_triples_in_words_are_read_line_by_line(tmp_path, embedder):
    path = tmp_path / "concepts.tsv"
    path.write_text("copper\tis a\tmetal\n")
    assert read_named_triples(path) == [("copper", "is a", "metal")]
    path.write_text("copper\tis a\tmetal\ncopper\tmetal\n")
    with pytest.raises(DumpError, match=r"line 2: expected head TAB relation TAB tail"):
        read_named_triples(path)
    with pytest.raises(DumpError, match="found none"):
        read_named_triples(tmp_path / "none.tsv")
    with pytest.raises(TrainingError, match="at least one triple"):
        graph_of_triples([], embedder)


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    return pipeline.build(read_config(write_pictured_graph(tmp_path_factory.mktemp("graph")))).folder


def test_a_build_brings_its_vectors_and_pictures(build, embedder):
    graph = graph_of_build(build, EmbeddingsConfig(kind="sentence", model="minilm"))  # its own embedder is taken
    assert graph.embedder.identity.digest == embedder.identity.digest
    said = {(graph.labels[h], graph.relation_labels[r], graph.labels[t]) for h, r, t in graph.triples.tolist()}
    assert ("France", "capital", "Paris") in said
    france = graph.labels.index("France")
    assert np.allclose(graph.entity_ND[france], embedder.embed_texts(["France"])[0], atol=2e-3)  # kept as float16
    (subgraph,) = retrieve_subgraphs(graph, ["the capital of France"], RetrievalConfig(num_triples=3))
    pictures = subgraph.kind_N == NodeKind.IMAGE
    assert pictures.any()
    assert subgraph.has_vector_N[pictures].all()
    (bare,) = retrieve_subgraphs(graph, ["the capital of France"], RetrievalConfig(num_triples=3), max_images=0)
    assert not (bare.kind_N == NodeKind.IMAGE).any()


def test_a_build_without_vectors_is_embedded_and_one_of_another_embedder_is_refused(build, tmp_path, monkeypatch):
    plain = pipeline.build(read_config(write_small_graph(tmp_path / "plain"))).folder
    graph = graph_of_build(plain, EmbeddingsConfig(kind="hashing"))
    assert graph.entity_ND[graph.labels.index("Paris")].any()
    assert not graph.pictures

    def open_other(config):
        embedder = open_embedder(config)
        embedder.identity = replace(embedder.identity, model="another")
        return embedder

    monkeypatch.setattr("mmkg.training.reasoning.triple_graph.open_embedder", open_other)
    with pytest.raises(EmbeddingError, match="queries would lie in another space"):
        graph_of_build(build, EmbeddingsConfig(kind="hashing"))
