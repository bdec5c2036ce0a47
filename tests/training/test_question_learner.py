"""Learning from questions: batches, the loss, what is looked at, what a checkpoint holds and who may go on with it."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmkg.embeddings import open_embedder
from mmkg.errors import ConfigError, TrainingError
from mmkg.evaluation.answers import failed_answers, is_exact_match, score_answers
from mmkg.reasoners.mr_mkg import MrMkg, MrMkgConfig
from mmkg.training.checkpoint import read_checkpoint, write_checkpoint
from mmkg.training.reasoning.opened import load_initial, opened_learner
from mmkg.training.reasoning.question_learner import AskingSettings, QuestionLearner
from mmkg.training.reasoning.recipe import (
    SceneRecipe,
    SyntheticConfig,
    list_reasoning_recipes,
    open_reasoning_recipe,
    recipe_class,
)
from mmkg.training.reasoning.run import NOTHING_LEARNS, evaluate_questions, train_questions
from mmkg.training.reasoning.scene_pretraining import scene_questions, train_scenes
from mmkg.training.reasoning.synthetic import synthetic_questions
from mmkg.training.run_folder import read_json
from tests.tasks.visual_genome_files import draw_pictures, parts, write_files

from .made_tiny_llm import make_tiny_llm

CPU = torch.device("cpu")
MADE = SyntheticConfig(num_train=12, num_valid=6, num_test=6, num_others=1, dimension=8)
TINY = {
    "data.num_train": 12,
    "data.num_valid": 6,
    "data.num_test": 6,
    "epochs": 1,
    "batch_size": 4,
    "bootstrap_draws": 10,
    "model.graph_width": 8,
}


def tiny_recipe(**settings):
    return open_reasoning_recipe("mr_mkg/synthetic_tiny", {**TINY, **settings})


def learner_of(questions, llm=None, *, batch_size=4, max_text_tokens=64, **settings):
    model_settings = {"graph_width": 8, "num_heads": 2, "dropout": 0.0, **settings}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MrMkg(
            MrMkgConfig(**model_settings),
            llm or make_tiny_llm(width=16),
            relation_RD=torch.from_numpy(questions.relation_RD),
            patch_width=questions.patch_width,
            num_named=1,
        )
    asking = AskingSettings(batch_size=batch_size, max_text_tokens=max_text_tokens, max_answer_tokens=8)
    return QuestionLearner(model.eval(), questions, asking, device=CPU)


@pytest.fixture(scope="module")
def made():
    """Some with a picture of their own, some without; one that nothing is known of."""
    questions = synthetic_questions(MADE.model_copy(update={"fact": "picture"}))
    nothing = questions.train[0].subgraph
    nothing = nothing.keep_nodes(np.zeros(nothing.num_nodes, bool))
    train = [replace(q, patches=None) if row % 3 == 0 else q for row, q in enumerate(questions.train)]
    train[5] = replace(train[5], subgraph=nothing)
    return replace(questions, train=train)


@pytest.fixture(scope="module")
def llm():
    return make_tiny_llm(width=16)


# --- batches


def skewed(questions, count=600):
    """Most texts short, some ten times as long."""
    lengths = np.random.default_rng(0).geometric(0.15, size=count).clip(max=55)
    base = questions.train[1]
    return replace(questions, train=[replace(base, key=str(n), text="colour " * int(n)) for n in lengths])


def test_little_of_the_prompts_is_padding_though_lengths_are_skewed(made, llm):
    learner = learner_of(skewed(made), llm, batch_size=8)
    unsorted = [np.arange(start, start + 8) for start in range(0, 600, 8)]
    padded = sum(8 * learner.length_Q[rows].max() for rows in unsorted)
    assert 1 - learner.length_Q.sum() / padded > 0.4  # what there would be in the order in which they came
    assert learner.padding() <= 0.10


def test_equal_seeds_give_equal_batches_and_each_question_comes_once(made, llm):
    learner = learner_of(skewed(made), llm, batch_size=7)
    first, again, other = (
        [rows.tolist() for rows in learner.batches(np.random.default_rng(seed))] for seed in (1, 1, 2)
    )
    assert first == again != other
    assert len(first) == len(other)
    assert sorted(row for rows in first for row in rows) == list(range(600))
    means = [np.mean(learner.length_Q[rows]) for rows in first]
    assert means != sorted(means)  # not the short ones first


@pytest.mark.parametrize(
    "settings",
    [{}, {"query": "image"}, {"knowledge": "text"}, {"knowledge": "none"}, {"pictures": False}],
    ids=["whole", "by_image", "text", "none", "no_picture"],
)
@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_the_length_of_a_prompt_is_known_before_it_is_made(made, settings, kind):
    learner = learner_of(made, make_tiny_llm(kind, width=16), **settings)
    rows = np.arange(12)
    prompt = learner._read([learner._train[row] for row in rows]).prompt
    assert prompt.mask_BP.sum(dim=1).tolist() == learner.length_Q.tolist()
    lengths = learner.length_Q
    batches = learner.batches(np.random.default_rng(0))
    real, held = 0, 0
    for batch in batches:
        mask_BP = learner._read([learner._train[row] for row in batch]).prompt.mask_BP
        real, held = real + int(mask_BP.sum()), held + mask_BP.numel()
    assert learner.padding() == pytest.approx(1 - real / held)
    assert real == lengths.sum()


def test_a_text_that_is_too_long_loses_its_middle_and_an_answer_its_end(made, llm):
    long = replace(made.train[1], text="first " + "colour " * 100 + "last", choices=None, answer="red " * 20)
    learner = learner_of(replace(made, train=[long]), llm)
    asked = learner._train[0]
    text = llm.text(asked.tokens)
    assert len(asked.tokens) == 64
    assert text.startswith("first")
    assert text.endswith("last")
    assert learner.num_cut == 1
    assert len(asked.target) == 8
    assert asked.target[-1] == llm.eos_id


@pytest.mark.parametrize(("split", "given"), [("train", {}), ("valid", {}), ("test", {}), ("test", {"choices": None})])
def test_a_question_that_is_too_long_for_the_language_model_is_told_before_anything_is_learnt(made, split, given):
    llm = make_tiny_llm(width=16)
    long = replace(made.train[1], key="the long one", text="colour " * 60, **given)  # read with graph and picture
    questions = replace(made, **{split: [made.train[1], long]})
    found = learner_of(questions, llm, alignment_weight=0)
    prompt = found._length(found._ask(long))
    answer = 8 if given else max(len(found._target(long.text, choice)) for choice in long.choices)
    llm.max_positions = prompt + answer
    learner_of(questions, llm)  # just fits
    llm.max_positions = prompt + answer - 4
    said = f"question the long one of {split}: the language model has {prompt + answer - 4} positions, found {prompt} "
    with pytest.raises(ConfigError, match=said) as told:
        learner_of(questions, llm)
    fits = int(re.search(r"Set max_text_tokens to (\d+) \(it is 64\)", str(told.value))[1])
    assert len(found._ask(long).tokens) - fits == 2  # it stands there three times, and four positions are missing
    learner_of(questions, llm, max_text_tokens=fits)
    llm.max_positions = 12
    with pytest.raises(ConfigError, match="Set max_answer_tokens to less than 8"):
        learner_of(questions, llm)


def test_answers_that_are_written_need_room_though_there_are_choices(made):
    llm = make_tiny_llm(width=16)
    found = learner_of(made, llm)
    recipe = tiny_recipe(**{"model.num_heads": 2})
    llm.max_positions = max(found._length(found._ask(one)) for part in (made.train, made.test) for one in part) + 7
    with opened_learner(recipe, made, llm=llm):
        pass
    with (
        pytest.raises(ConfigError, match="of test: the language model has"),
        opened_learner(recipe, made, llm=llm, writes_all=True),
    ):
        pass


def test_prompt_and_answer_of_an_encoder_decoder_have_positions_of_their_own(made):
    llm = make_tiny_llm("seq2seq", width=16)
    found = learner_of(made, llm)
    llm.max_positions = max(found._length(found._ask(one)) for part in (made.train, made.test) for one in part)
    learner_of(made, llm)
    llm.max_positions -= 1
    with pytest.raises(ConfigError, match=r"questions are too long\. Set max_text_tokens"):
        learner_of(made, llm)


# --- the loss


def test_the_loss_is_the_mean_over_answer_tokens_with_their_end_and_the_weighed_alignment(made, llm):
    questions = [
        replace(q, choices=None, answer=answer) for q, answer in zip(made.train[1:3], ("red", "a bird"), strict=True)
    ]
    learner = learner_of(replace(made, train=questions), llm, alignment_weight=0.5, margin=10.0)
    targets = [one.target for one in learner._train]
    assert [llm.text(target[:-1]).strip() for target in targets] == ["red", "a bird"]
    assert all(target[-1] == llm.eos_id for target in targets)
    assert len(targets[0]) < len(targets[1])
    total = 0.0
    for one in learner._train:  # one token after the other, by hand
        prompt = learner._read([one]).prompt
        for place, token in enumerate(one.target):
            row_1Pd = torch.cat([prompt.row_BPd, llm.embed(torch.tensor([one.target[:place]], dtype=torch.int64))], 1)
            logit_V = llm.model(inputs_embeds=row_1Pd).logits[0, -1]
            total -= logit_V.log_softmax(0)[token].item()
    parts = learner.loss(np.arange(2), np.random.default_rng(0))
    count = sum(map(len, targets))
    assert parts.weight == count
    assert parts.numbers["answer_loss"].item() == pytest.approx(total / count, rel=1e-4)
    assert parts.numbers["alignment_loss"].item() > 0
    both = parts.numbers["answer_loss"] + 0.5 * parts.numbers["alignment_loss"]
    assert parts.loss.item() == pytest.approx(both.item(), rel=1e-6)


def test_questions_without_graph_and_picture_teach_nothing_and_stop_nothing(made, llm):
    learner = learner_of(made, llm, knowledge="none")
    learner.loss(np.array([0, 3]), np.random.default_rng(0)).loss.backward()  # of these two none has a picture
    assert not any(p.grad.any() for p in learner.model.parameters() if p.requires_grad)
    learner.loss(np.array([0, 1]), np.random.default_rng(0)).loss.backward()
    assert learner.model.visual_adapter.project.weight.grad.any()


@pytest.mark.capability("MR-20")
def test_of_text_knowledge_pictures_of_the_graph_are_not_read(made, llm):
    changed = []
    for question in made.train:
        graph = question.subgraph
        vectors = np.where(graph.is_image[:, None], 3.0, graph.vector_ND).astype(np.float32)
        changed.append(replace(question, subgraph=replace(graph, vector_ND=vectors)))
    for knowledge, felt in (("text", False), ("multimodal", True)):
        losses = [
            learner_of(replace(made, train=train), llm, knowledge=knowledge, alignment_weight=0)
            .loss(np.arange(12), np.random.default_rng(0))
            .loss.item()
            for train in (made.train, changed)
        ]
        assert (losses[0] != losses[1]) == felt


# --- answers


@pytest.mark.parametrize("choice_score", ["total", "per_token"])
def test_the_choice_is_the_likeliest_one_and_the_look_counts_them(made, llm, choice_score):
    choices = ("red", "a blue bird", "white")
    valid = [replace(q, choices=choices, answer="red") for q in made.valid]
    learner = learner_of(replace(made, valid=valid), llm)
    learner.settings = replace(learner.settings, choice_score=choice_score)
    answers = learner.answer(valid)
    for question, answer in zip(valid, answers, strict=True):
        likelihood = []
        for choice in choices:
            one = replace(question, answer=choice)
            asked = [learner._ask(one)]
            nll, count = learner.model.answer_loss(learner._read(asked), [asked[0].target])
            likelihood.append(-nll.item() / (count.item() if choice_score == "per_token" else 1))
        assert answer.choice == int(np.argmax(likelihood))
        assert answer.given == choices[answer.choice]
        assert answer.is_right == (answer.choice == 0)
    look = learner.look()
    assert look.score == sum(answer.is_right for answer in answers) / 6
    assert look.numbers["valid_accuracy"] == look.score
    assert learner_of(replace(made, valid=[]), llm).look() is None


def test_a_free_answer_is_what_is_written_and_right_when_it_is_the_same(made, llm):
    asked = [replace(question, choices=None) for question in made.valid]
    learner = learner_of(made, llm)
    answers = learner.answer(asked)
    assert [answer.given for answer in answers] == learner.write(asked)
    again = [replace(q, answer=answer.given or "-") for q, answer in zip(asked, answers, strict=True)]
    assert all(answer.is_right for answer in learner.answer(again) if answer.given)
    assert is_exact_match("A  dog.", "a dog")
    assert not is_exact_match("dogs", "dog")


def test_the_score_has_an_interval_and_mistakes_are_named(made, llm):
    answers = learner_of(made, llm).answer(made.valid)
    right = [replace(answer, is_right=row % 3 == 0) for row, answer in enumerate(answers)]
    score = score_answers(right, draws=50)
    assert score.accuracy.value == pytest.approx(2 / 6)
    assert score.accuracy.low <= score.accuracy.value <= score.accuracy.high
    assert score.chance == 0.25
    assert [one.key for one in failed_answers(right, count=2)] == [right[1].key, right[5].key]
    together = score_answers([replace(answer, cluster="one") for answer in right], draws=50)
    assert together.accuracy.low == together.accuracy.high  # one cluster: nothing varies
    with pytest.raises(ConfigError, match="no question was asked"):
        score_answers([])


def test_a_question_that_cannot_be_asked_is_told(made):
    one = made.train[0]
    with pytest.raises(TrainingError, match="found no text"):
        replace(one, text=" ")
    with pytest.raises(TrainingError, match="the answer 'pink' among them"):
        replace(one, answer="pink")
    with pytest.raises(TrainingError, match="at least one, found shape"):
        replace(one, patches=np.zeros((0, 4), np.float32))


# --- runs


@pytest.fixture(scope="module")
def run(tmp_path_factory, llm):
    folder = tmp_path_factory.mktemp("run") / "run"
    recipe = tiny_recipe()
    questions = synthetic_questions(recipe.data)
    metrics = train_questions(recipe, questions, folder, inputs={"where": "made"}, llm=llm)
    return folder, recipe, questions, metrics


@pytest.mark.capability("MR-14", "MR-19")
def test_a_run_leaves_everything_and_its_checkpoints_hold_what_was_trained_alone(run, llm):
    folder, _, questions, metrics = run
    names = {"config.json", "environment.json", "metrics.jsonl", "metrics.json", "model.safetensors"}
    names |= {"checkpoint.safetensors", "learning_curve.png", "report.html", "answers-test.jsonl"}
    assert names <= {path.name for path in folder.iterdir()}
    for name in ("model.safetensors", "checkpoint.safetensors"):
        assert not [
            tensor for tensor in read_checkpoint(folder / name).tensors if ".llm." in tensor or "llm." in tensor
        ]
    said = read_json(folder / "environment.json")
    kept = read_checkpoint(folder / "model.safetensors").document["learner"]
    assert kept == {"frozen": {"llm": llm.digest}, "embedder": questions.embedder, "questions": questions.digest}
    assert said["frozen"] == {"llm": llm.digest}
    assert said["questions"] == questions.digest
    assert said["trained_parameters"] == metrics["parameters"]["total"]["trainable"]
    assert metrics["parameters"]["parts"]["llm"]["trainable"] == 0
    answers = [json.loads(line) for line in (folder / "answers-test.jsonl").read_text().splitlines()]
    assert metrics["num_right"] == sum(answer["is_right"] for answer in answers)
    page = (folder / "report.html").read_text()
    for one in metrics["failed"]:
        assert one["question"] in page
    assert "knowledge_adapter" in page
    assert f"{metrics['accuracy']['value']:.4f} [" in page


def test_a_checkpoint_beside_another_language_model_or_with_other_vectors_is_refused(run, tmp_path, llm):
    folder, recipe, questions, _ = run
    (folder / "metrics.json").rename(tmp_path / "kept.json")  # as if it were not finished
    again = {"inputs": {}, "resume": True}
    try:
        for width, seed in ((16, 1), (32, 0)):
            other = make_tiny_llm(width=width, seed=seed)
            with pytest.raises(TrainingError, match="trained beside another language model: expected digest"):
                train_questions(recipe, questions, folder, llm=other, **again)
            with pytest.raises(TrainingError, match="trained beside another language model"):
                evaluate_questions(recipe, questions, folder, llm=other)
        with pytest.raises(TrainingError, match="another embedder: expected 'random codes 0', found 'random codes 1'"):
            train_questions(recipe, synthetic_questions(recipe.data, random_seed=1), folder, llm=llm, **again)
        graph = questions.train[0].subgraph
        changed = replace(questions.train[0], subgraph=replace(graph, vector_ND=graph.vector_ND + 1))
        with pytest.raises(TrainingError, match="other questions, or on vectors of another build"):
            train_questions(recipe, replace(questions, train=[changed, *questions.train[1:]]), folder, llm=llm, **again)
    finally:
        (tmp_path / "kept.json").rename(folder / "metrics.json")


def test_a_run_is_evaluated_with_its_best_model_on_questions_of_its_graph(run, llm):
    folder, recipe, questions, metrics = run
    again = evaluate_questions(recipe, replace(questions, train=(), valid=()), folder, split="again", llm=llm)
    assert again["accuracy"] == metrics["accuracy"]
    assert (folder / "report-again.html").exists()
    with pytest.raises(TrainingError, match="no run here"):
        evaluate_questions(recipe, questions, Path("nowhere"), llm=llm)


def test_a_run_is_not_asked_over_the_graph_of_another_build(run, tmp_path, llm):
    folder, recipe, questions, metrics = run
    relation_RD = questions.relation_RD
    others = {
        "in another order": relation_RD[[1, 0, *range(2, len(relation_RD))]],
        "one more": relation_RD[[0, *range(len(relation_RD))]],
    }
    for other in others.values():
        with pytest.raises(TrainingError, match="trained on the graph of another build: expected its 5 relations"):
            evaluate_questions(recipe, replace(questions, relation_RD=other), folder, llm=llm)
    # the same labels, embedded on another device
    near = replace(questions, relation_RD=relation_RD + np.float32(1e-6))
    assert evaluate_questions(recipe, near, folder, split="near", llm=llm)["accuracy"] == metrics["accuracy"]
    # a model that reads no graph does not care
    bare = tiny_recipe(**{"model.knowledge": "none"})
    train_questions(bare, questions, tmp_path / "bare", inputs={}, llm=llm)
    evaluate_questions(bare, replace(questions, relation_RD=relation_RD[::-1].copy()), tmp_path / "bare", llm=llm)


def test_a_model_from_another_run_is_refused_by_what_it_says_itself(run, tmp_path, llm):
    folder, recipe, questions, _ = run
    mixed = tmp_path / "mixed"
    shutil.copytree(folder, mixed)
    best = read_checkpoint(folder / "model.safetensors")
    state = {**best.document["learner"], "frozen": {"llm": "another"}}
    write_checkpoint(mixed / "model.safetensors", best.tensors, {**best.document, "learner": state})
    with pytest.raises(TrainingError, match="trained beside another language model: expected digest another"):
        evaluate_questions(recipe, questions, mixed, llm=llm)


def test_a_run_that_was_stopped_goes_on_to_the_same_bits(tmp_path, llm):
    recipe = tiny_recipe(epochs=2, **{"model.dropout": 0.3, "model.alignment_weight": 0.1, "data.fact": "picture"})
    questions = synthetic_questions(recipe.data)

    def stop(line):
        if line.startswith("epoch 2/2"):
            raise KeyboardInterrupt

    train_questions(recipe, questions, tmp_path / "whole", inputs={}, llm=llm)
    with pytest.raises(KeyboardInterrupt):
        train_questions(recipe, questions, tmp_path / "cut", inputs={}, llm=llm, progress=stop)
    train_questions(recipe, questions, tmp_path / "cut", inputs={}, llm=llm, resume=True)
    whole, cut = (read_checkpoint(tmp_path / name / "model.safetensors").tensors for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


@pytest.mark.capability("MR-14")
def test_a_second_stage_starts_from_the_first_and_relations_of_another_graph_start_new(run, tmp_path, llm):
    folder, recipe, questions, _ = run
    first = read_checkpoint(folder / "model.safetensors").tensors
    for relation_RD, is_same in ((questions.relation_RD, True), (questions.relation_RD[::-1].copy(), False)):
        second = replace(questions, relation_RD=relation_RD)
        with opened_learner(recipe, second, llm=llm) as learner:
            new = learner.model.get_parameter("knowledge.free").detach().clone()
            told = load_initial(learner, folder)
            assert ("knowledge.free" in told["loaded"]) == is_same
            assert told["new"] == ([] if is_same else ["knowledge.free"])
            for name in told["loaded"]:
                assert torch.equal(learner.model.get_parameter(name).cpu(), first[name])
            if not is_same:
                assert torch.equal(learner.model.get_parameter("knowledge.free"), new)
            assert np.array_equal(learner.model.knowledge.relation_text_RD.numpy(), relation_RD)
    more = replace(questions, relation_RD=np.concatenate([questions.relation_RD, questions.relation_RD[:2]]))
    with opened_learner(recipe, more, llm=llm) as learner:
        assert load_initial(learner, folder)["new"] == ["knowledge.free"]
    started = tiny_recipe(initial=str(folder))
    metrics = train_questions(started, questions, tmp_path / "second", inputs={}, llm=llm)
    assert "knowledge.node.weight" in metrics["initial"]["loaded"]
    with pytest.raises(TrainingError, match="another language model"):
        other = make_tiny_llm(width=16, seed=1)
        train_questions(started, questions, tmp_path / "third", inputs={}, llm=other)
    with pytest.raises(TrainingError, match="no run here to start from"):
        absent = tiny_recipe(initial=str(tmp_path / "absent"))
        train_questions(absent, questions, tmp_path / "fourth", inputs={}, llm=llm)


def test_a_model_of_which_nothing_learns_is_measured_as_it_is(tmp_path, llm):
    recipe = tiny_recipe(**{"model.knowledge": "none", "model.pictures": False})
    questions = synthetic_questions(recipe.data)
    metrics = train_questions(recipe, questions, tmp_path / "run", inputs={}, llm=llm)
    assert metrics["training"]["stopped"] == NOTHING_LEARNS
    assert metrics["parameters"]["total"]["trainable"] == 0
    assert metrics["num_questions"] == 6
    with pytest.raises(TrainingError, match="holds a run already"):
        train_questions(recipe, questions, tmp_path / "run", inputs={}, llm=llm)


# --- recipes


def test_recipes_have_the_papers_numbers_and_tell_what_is_unknown():
    assert {name.removeprefix("mr_mkg/") for name in list_reasoning_recipes()} == {
        "pretrain_paper",
        "pretrain_tiny",
        "scienceqa_paper",
        "scienceqa_tiny",
        "synthetic",
        "synthetic_tiny",
    }
    for name, epochs, rate, batch, written in (
        ("mr_mkg/pretrain_paper", 2, 5e-5, 2, 128),
        ("mr_mkg/scienceqa_paper", 3, 4e-5, 1, 512),
    ):
        recipe = open_reasoning_recipe(name)
        assert (recipe.epochs, recipe.learning_rate, recipe.batch_size) == (epochs, rate, batch)
        assert (recipe.max_text_tokens, recipe.max_answer_tokens) == (512, written)
        assert (recipe.optimiser, recipe.weight_decay) == ("adamw", 0.01)
        assert isinstance(recipe, recipe_class(name))
    changed = open_reasoning_recipe("mr_mkg/synthetic_tiny", ["epochs=2", "llm.model=here", "data.noise=0.5"])
    assert (changed.epochs, changed.llm.model, changed.data.noise) == (2, "here", 0.5)
    with pytest.raises(ConfigError, match=r"'mr_mkg/pretrain'.*Did you mean"):
        open_reasoning_recipe("mr_mkg/pretrain")
    with pytest.raises(ConfigError, match="setting of a recipe is called 'marg'"):
        open_reasoning_recipe("mr_mkg/synthetic_tiny", ["model.marg=1"])


# --- stage 1: scene graphs


@pytest.mark.capability("MR-05", "MR-14")
@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_scene_graphs_are_learnt_from_their_files_to_the_report(tmp_path, kind):
    folder = draw_pictures(write_files(tmp_path / "genome", parts()))
    recipe = open_reasoning_recipe("mr_mkg/pretrain_tiny", {"epochs": 2, "bootstrap_draws": 10, "patches.grid": 2})
    assert isinstance(recipe, SceneRecipe)
    metrics = train_scenes(recipe, folder, tmp_path / "run", llm=make_tiny_llm(kind, width=16))
    said = read_json(tmp_path / "run" / "environment.json")
    assert said["questions_told"]["pictures"] == {"train": 1, "valid": 0, "test": 1}
    assert said["questions_told"]["left_out"] == {"free_form": 1, "no_picture": 1}
    assert metrics["num_questions"] + said["num_questions"]["train"] == 3
    assert metrics["training"]["steps"] == 2
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(row["answer_loss"]) and row["alignment_loss"] >= 0 for row in rows)
    questions = scene_questions(recipe, folder, folder, open_embedder(recipe.embeddings))
    asked = [*questions.train, *questions.test]
    assert {question.patches.shape for question in asked} == {(5, 256)}  # the whole picture and four parts
    assert {question.text for question in asked} >= {"Question: Where is it?\nAnswer:"}
    with pytest.raises(TrainingError, match="not a recipe of scenes"):
        train_scenes("mr_mkg/synthetic_tiny", folder, tmp_path / "other")


def test_scenes_of_one_picture_are_told_to_be_too_few(tmp_path):
    files = parts()
    files["qa_to_region_mapping.json"] = {"1": 100}
    folder = draw_pictures(write_files(tmp_path / "genome", files))
    with pytest.raises(TrainingError, match=r"at least two pictures.*found 1 of 1; left out"):
        train_scenes("mr_mkg/pretrain_tiny", folder, tmp_path / "run")
