"""ScienceQA: problems with what a graph knows of them, a rationale and then an answer; nine columns beside baselines.

Two passes as in Multimodal-CoT: stage A learns to write lecture and solution, stage B learns to answer with the true
ones before it, and is asked with those that stage A wrote. Each stage is a run of its own; that of stage A lies in the
folder ``rationale`` of that of stage B. Subgraphs are retrieved by question, context and options.

Beside the model's columns stand, on the same problems: the place that is most often right (choice frequency), guessing,
and the language model alone, by likelihood. Source: Lee et al., ACL 2024, arXiv:2406.02030, section 4; Zhang et al.,
arXiv:2302.00923 (two passes).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mmkg.errors import ConfigError, TrainingError
from mmkg.evaluation.answers import GivenAnswer, is_exact_match
from mmkg.evaluation.question_answering import (
    COLUMNS,
    ScienceQaScore,
    choice_frequency,
    compare_scienceqa,
    random_expectation,
    score_scienceqa,
)
from mmkg.reasoners.llm import FrozenLlm, open_llm
from mmkg.reasoners.mr_mkg import MrMkg, MrMkgConfig
from mmkg.shards import write_json
from mmkg.subgraphs.assemble import EXTRA_RELATIONS
from mmkg.tasks.scienceqa import Problem, read_scienceqa
from mmkg.tasks.scienceqa_texts import read_choice
from mmkg.training.hardware import choose_device
from mmkg.training.reasoning.opened import opened_run
from mmkg.training.reasoning.question_learner import QuestionLearner
from mmkg.training.reasoning.questions import GraphQuestion
from mmkg.training.reasoning.recipe import ScienceQaRecipe, open_reasoning_recipe
from mmkg.training.reasoning.run import Measured, evaluate_questions, train_questions
from mmkg.training.reasoning.scienceqa_data import (
    ScienceQaData,
    answer_questions,
    ask_rationales,
    prepare_scienceqa,
    rationale_questions,
)
from mmkg.training.reasoning.triple_graph import TripleGraph, graph_of_build
from mmkg.training.recipes import change_recipe
from mmkg.training.run_folder import CONFIG, check_run_folder, read_json, read_run_config
from mmkg.training.runner import Progress, say

RATIONALE = "rationale"
RATIONALES = "rationales.json"
_MODEL, _ALONE, _FREQUENT = "MR-MKG", "language model alone", "most frequent place"


def train_scienceqa(
    recipe: ScienceQaRecipe | str,
    data_folder: Path,
    build_folder: Path | None,
    run_folder: Path,
    *,
    graph: TripleGraph | None = None,
    pictures_folder: Path | None = None,
    cache_folder: Path | None = None,
    llm: FrozenLlm | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train, answer the problems that are reported on, and leave a run folder.

    Args:
        recipe: a recipe or its name.
        data_folder: problems, splits, captions.
        build_folder: the graph that problems are looked up in; None where there is `graph`, or the model reads none.
        run_folder: made if it is not there.
        graph: one that is open, such as a conceptual graph, in place of a build.
        pictures_folder: holds ``SPLIT/PID/image.png``; None looks for them in ``data_folder``.
        cache_folder: what was retrieved is kept there for other runs; None keeps it in memory.
        llm, resume, progress: see :func:`train_questions`.

    Returns:
        The content of ``metrics.json``: the nine columns under ``scienceqa``.

    Raises:
        ConfigError: the recipe is of another kind, or its model reads a graph and there is none.
        TrainingError: nothing is left to learn from or to report on; see :func:`train_questions`.
        DumpError: a file is missing or not what its name says.
    """
    if isinstance(recipe, str):
        opened = open_reasoning_recipe(recipe)
        if not isinstance(opened, ScienceQaRecipe):
            raise ConfigError(f"{recipe}: not a recipe of ScienceQA; choose one such as mr_mkg/scienceqa_tiny")
        recipe = opened
    going_on = resume and (run_folder / CONFIG).exists()  # else it was stopped in stage A
    if not resume or going_on:
        check_run_folder(run_folder, recipe, resume=resume)
    if graph is None and build_folder is not None:
        graph = graph_of_build(build_folder, recipe.embeddings)
    pictures_folder = pictures_folder or data_folder
    data = prepare_scienceqa(
        recipe,
        read_scienceqa(data_folder),
        graph,
        pictures_folder=pictures_folder,
        cache_folder=cache_folder,
    )
    say(progress, f"{len(data.train):,} problems to learn from, {len(data.test):,} of {data.reported} to report on")
    if llm is None and not recipe.llm.learns:  # one that learns is of one stage alone
        llm = open_llm(recipe.llm, device=choose_device(recipe.device))
    built = None if build_folder is None else str(build_folder.resolve())
    inputs = {"data": str(data_folder.resolve()), "build": built, "pictures": str(pictures_folder.resolve())}
    rationales: Mapping[str, str] = {}
    if recipe.rationale == "two_pass":
        rationales = _first_pass(recipe, data, run_folder / RATIONALE, inputs, llm, resume=resume, progress=progress)
    return train_questions(
        recipe,
        answer_questions(recipe, data, rationales),
        run_folder,
        inputs=inputs,
        measure=partial(_measure, recipe, data),
        ask=partial(_read_choices, data.problems) if recipe.answering == "generation" else None,
        llm=llm,
        resume=going_on,
        progress=progress,
    )


def evaluate_scienceqa(
    run_folder: Path,
    *,
    split: str = "test",
    data_folder: Path | None = None,
    build_folder: Path | None = None,
    graph: TripleGraph | None = None,
    pictures_folder: Path | None = None,
    llm: FrozenLlm | None = None,
) -> dict[str, Any]:
    """Answer an official split with a run's models; write ``metrics-SPLIT.json`` and ``report-SPLIT.html``.

    Args:
        run_folder: of a finished run.
        split: train | val | test, or another list of ``pid_splits.json``.
        data_folder: problems; None is where they were.
        build_folder: the graph; None is where it was.
        graph: one that is open, if it was one that was trained with.
        pictures_folder: None looks in a ``data_folder`` that is given, else where they were.
        llm: of the run's recipe, where it is open already.

    Raises:
        TrainingError: there is no such run, no such problem, or language model or embedder are others than then.
    """
    recipe, config = read_run_config(run_folder, ScienceQaRecipe)
    pictures_folder = pictures_folder or data_folder or Path(config.get("pictures", config["data"]))
    data_folder = data_folder or Path(config["data"])
    if graph is None and (build_folder is not None or config["build"] is not None):
        graph = graph_of_build(build_folder or Path(config["build"]), recipe.embeddings)
    data = prepare_scienceqa(
        recipe, read_scienceqa(data_folder), graph, pictures_folder=pictures_folder, reported=split
    )
    rationales: Mapping[str, str] = {}
    if recipe.rationale == "two_pass":
        stage, _ = read_run_config(run_folder / RATIONALE, ScienceQaRecipe)
        with opened_run(stage, rationale_questions(stage, data), run_folder / RATIONALE, llm=llm) as learner:
            written = learner.write(ask_rationales(recipe, data))
        rationales = dict(zip([problem.pid for problem in data.test], written, strict=True))
    return evaluate_questions(
        recipe,
        answer_questions(recipe, data, rationales),
        run_folder,
        split=split,
        measure=partial(_measure, recipe, data),
        ask=partial(_read_choices, data.problems) if recipe.answering == "generation" else None,
        llm=llm,
    )


# --- parts -----------------------------------------------------------------------------------------------------------


def _first_pass(
    recipe: ScienceQaRecipe,
    data: ScienceQaData,
    folder: Path,
    inputs: Mapping[str, Any],
    llm: FrozenLlm | None,
    *,
    resume: bool,
    progress: Progress | None,
) -> dict[str, str]:
    """Train stage A, and return what it writes of valid and test; a file beside its model keeps that."""
    # a rationale is never written word for word, so that accuracy could not choose
    stage = change_recipe(recipe, {"max_answer_tokens": recipe.max_rationale_tokens, "choose_by": "loss"})
    questions = rationale_questions(stage, data)
    if not questions.train or not questions.test:
        raise TrainingError(
            "expected problems with a lecture or solution in train and in what is reported on, found none in one of "
            "them; set rationale='none'"
        )

    def ask(learner: QuestionLearner, test: Sequence[GraphQuestion]) -> list[GivenAnswer]:
        problems = [*data.valid, *data.test]
        written = dict(zip([one.pid for one in problems], learner.write(ask_rationales(recipe, data)), strict=True))
        write_json(folder / RATIONALES, written)
        return [
            GivenAnswer(
                key=one.key,
                question=one.text,
                right=one.answer,
                given=written[one.key],
                is_right=is_exact_match(written[one.key], one.answer),
            )
            for one in test
        ]

    say(progress, "stage A: rationales")
    begun = resume and (folder / CONFIG).exists()
    train_questions(stage, questions, folder, inputs=inputs, ask=ask, llm=llm, resume=begun, progress=progress)
    say(progress, "stage B: answers")
    return read_json(folder / RATIONALES)


def _read_choices(
    problems: Mapping[str, Problem], learner: QuestionLearner, questions: Sequence[GraphQuestion]
) -> list[GivenAnswer]:
    """Answers that are written, and read as choices, by letter or in their words; one that cannot be read is wrong."""
    answers = []
    for question, text in zip(questions, learner.write(questions), strict=True):
        choices = question.choices or ()
        choice = read_choice(text, len(choices), choices=problems[question.key].choices)
        answers.append(
            GivenAnswer(
                key=question.key,
                question=question.text,
                right=question.answer,
                given=text,
                is_right=choice is not None and choices[choice] == question.answer,
                choice=choice,
                num_choices=len(choices),
            )
        )
    return answers


def _measure(
    recipe: ScienceQaRecipe,
    data: ScienceQaData,
    learner: QuestionLearner,
    answers: Sequence[GivenAnswer],
) -> Measured:
    """The nine columns of the model and of what it is to be compared with."""
    chosen: dict[str, dict[str, int | None]] = {_MODEL: {answer.key: answer.choice for answer in answers}}
    chosen[_ALONE] = _without_model(recipe, data, learner)
    chosen[_FREQUENT] = dict(choice_frequency(data.train, data.test))
    scores = {
        name: score_scienceqa(data.test, found, draws=recipe.bootstrap_draws, random_seed=recipe.random_seed)
        for name, found in chosen.items()
    }
    guessing = random_expectation(data.test)
    differences = {
        f"{_MODEL} − {name}": {
            column: None if one is None else one.as_json()
            for column, one in compare_scienceqa(scores[_MODEL], scores[name]).items()
        }
        for name in (_ALONE, _FREQUENT)
    }
    rows = [["", *COLUMNS], ["problems", *(str(scores[_MODEL].columns[column].num_problems) for column in COLUMNS)]]
    rows += [[name, *_cells(score)] for name, score in scores.items()]
    rows.append(["guessing", *("" if guessing[column] is None else f"{guessing[column]:.3f}" for column in COLUMNS)])
    return Measured(
        numbers={
            "reported_split": data.reported,
            "scienceqa": {name: score.as_json() for name, score in scores.items()},
            "guessing": guessing,
            "differences": differences,
        },
        tables={f"Accuracy on {data.reported}": rows},
    )


def _without_model(recipe: ScienceQaRecipe, data: ScienceQaData, learner: QuestionLearner) -> dict[str, int | None]:
    """The language model alone: question, context and options in words, the likeliest answer."""
    config = MrMkgConfig(knowledge="none", pictures=False, template="<text>")
    llm = learner.llm
    if recipe.llm.learns:
        llm = open_llm(recipe.llm.model_copy(update={"lora": None, "trains": False}), device=learner.device)
    alone = MrMkg(config, llm, relation_RD=torch.zeros(len(EXTRA_RELATIONS), 1))
    questions = answer_questions(change_recipe(recipe, {"rationale": "none"}), data, {})
    asking = QuestionLearner(alone, replace(questions, train=(), valid=()), learner.settings, device=learner.device)
    return {answer.key: answer.choice for answer in asking.answer(questions.test)}


def _cells(score: ScienceQaScore) -> list[str]:
    found = [score.columns[column].accuracy for column in COLUMNS]
    return ["" if one is None else f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]" for one in found]
