"""Runs that describe entities: a recipe and a graph in, a run's folder out, with scores of what was written.

Beside what a run on questions leaves (see :mod:`mmkg.training.reasoning.run`), ``metrics.json`` holds under ``texts``
scores of free-running text, and under ``teacher_forced`` those of the likeliest token after the right ones: the latter
are no generation. Both stand beside controls without a model, by how well known a description is, and with years
masked, since the graph does not state them.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmkg.errors import ConfigError
from mmkg.evaluation.answers import GivenAnswer
from mmkg.evaluation.described import describe_without_model, group_descriptions
from mmkg.evaluation.text_report import text_table
from mmkg.evaluation.text_scores import TextScores, mask_years, score_groups, score_texts
from mmkg.subgraphs.assemble import Picture
from mmkg.tasks.descriptions import DescribedGraph, read_described_graph
from mmkg.training.reasoning.describing.data import (
    DescribingData,
    count_descriptions,
    described_graph_of_build,
    prepare_descriptions,
    reporting,
)
from mmkg.training.reasoning.describing.language import open_language_model
from mmkg.training.reasoning.describing.recipe import DescribingRecipe, open_describing_recipe
from mmkg.training.reasoning.question_learner import QuestionLearner
from mmkg.training.reasoning.run import Measured, evaluate_questions, summarise_text_runs, train_questions
from mmkg.training.run_folder import METRICS_FILE, check_run_folder, read_json, read_run_config
from mmkg.training.runner import Progress, run_seeds, say

SCORES = ("bleu_4", "rouge_l", "cider", "exact")
"""What tables show."""


def train_descriptions(
    recipe: DescribingRecipe | str,
    run_folder: Path,
    *,
    data_folder: Path | None = None,
    build_folder: Path | None = None,
    seeds: Sequence[int] | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train, write a description of every test entity, and leave a run folder.

    Args:
        recipe: a recipe or its name.
        run_folder: made if it is not there.
        data_folder: files of FB15k-237, see :func:`~mmkg.tasks.descriptions.read_described_graph`.
        build_folder: a build whose entities have descriptions; one of the two is given.
        seeds: several runs in folders ``seed-N``; None is one, with the recipe's own.
        resume: go on with what is in the folder; a finished run is only read.
        progress: called with one line of text now and then.

    Returns:
        The content of ``metrics.json``.

    Raises:
        ConfigError: not exactly one of the two folders is given, or the recipe does not fit.
        TrainingError: no entity has a description, or see :func:`train_questions`.
        DumpError: a file is missing or not what its name says.
    """
    recipe = open_describing_recipe(recipe) if isinstance(recipe, str) else recipe
    graph, pictures = _graph(data_folder, build_folder)
    data = prepare_descriptions(graph, recipe.data, pictures=pictures)
    say(progress, f"{len(data.questions.train):,} entities to learn from, {len(data.questions.test):,} to report on")
    inputs = {"data": str(data_folder or ""), "build": str(build_folder or "")}

    def train_one(one: DescribingRecipe, folder: Path, resume: bool, progress: Progress | None) -> dict[str, Any]:
        if (folder / METRICS_FILE).exists() and resume:
            return read_json(folder / METRICS_FILE)
        check_run_folder(folder, one, resume=resume)  # before the minutes of a language model
        llm = open_language_model(one, data, folder, progress=progress)
        return train_questions(
            one,
            data.questions,
            folder,
            inputs=inputs,
            measure=partial(_measure, one, data),
            llm=llm,
            resume=resume,
            progress=progress,
        )

    if seeds is None:
        return train_one(recipe, run_folder, resume, progress)
    summarise = partial(summarise_text_runs, SCORES)
    return run_seeds(recipe, run_folder, seeds, train_one, summarise, resume=resume, progress=progress)


def evaluate_descriptions(
    run_folder: Path, *, split: str = "test", data_folder: Path | None = None, build_folder: Path | None = None
) -> dict[str, Any]:
    """Describe the entities of a split again; write ``metrics-SPLIT.json`` and ``report-SPLIT.html``.

    Args:
        run_folder: of a finished run.
        split: train | valid | test.
        data_folder, build_folder: where the data are now; None is where they were.

    Raises:
        ConfigError: no split is called so.
        TrainingError: there is no such run, or its data or language model are others than then.
    """
    recipe, config = read_run_config(run_folder, DescribingRecipe)
    if data_folder is None and build_folder is None:
        data_folder = Path(config["data"]) if config["data"] else None
        build_folder = Path(config["build"]) if config["build"] else None
    graph, pictures = _graph(data_folder, build_folder)
    data = prepare_descriptions(graph, recipe.data, pictures=pictures)
    llm = open_language_model(recipe, data, run_folder)
    asked = reporting(data, split)
    measure = partial(_measure, recipe, asked)
    return evaluate_questions(recipe, asked.questions, run_folder, split=split, measure=measure, llm=llm)


# --- parts -----------------------------------------------------------------------------------------------------------


def _graph(
    data_folder: Path | None, build_folder: Path | None
) -> tuple[DescribedGraph, Mapping[int, Sequence[Picture]]]:
    if data_folder is not None and build_folder is None:
        return read_described_graph(data_folder), {}
    if build_folder is not None and data_folder is None:
        return described_graph_of_build(build_folder)
    raise ConfigError("describing entities learns from a folder of files (data) or from a build: give one of them")


def _measure(
    recipe: DescribingRecipe, data: DescribingData, learner: QuestionLearner, answers: Sequence[GivenAnswer]
) -> Measured:
    """Scores of what was written, of what is likeliest after the right words, and of the controls."""
    questions = learner.questions.test
    right = [question.answer for question in questions]
    written = _scored([answer.given for answer in answers], right, recipe)
    forced = _scored(learner.write_forced(questions), right, recipe)
    masked = _scored([mask_years(one.given) for one in answers], [mask_years(text) for text in right], recipe)
    counts = count_descriptions(data)
    of_group = {name: mask for name, mask in group_descriptions(right, counts).items() if mask.any()}
    groups = score_groups(written, of_group)
    controls = {name: _scored(texts, right, recipe) for name, texts in _controls(data, learner).items()}
    rows = {recipe.name: written, **controls, f"{recipe.name}, years masked": masked}
    return Measured(
        numbers={
            "texts": written.as_json(),
            "teacher_forced": forced.as_json(),
            "years_masked": masked.as_json(),
            "groups": {name: found.as_json() for name, found in groups.items()},
            "controls": {name: found.as_json() for name, found in controls.items()},
            "left_out_by_diffusion": recipe.model.left_out,
        },
        tables={
            "Written freely": text_table({name: found.scores for name, found in rows.items()}, scores=SCORES),
            "By how often train has the description": text_table(
                {f"{name} ({int(of_group[name].sum())})": found.scores for name, found in groups.items()},
                scores=SCORES,
            ),
            "Teacher-forced: the likeliest token after the right ones, no generation": text_table(
                {recipe.name: forced.scores}, scores=SCORES
            ),
        },
    )


def _scored(texts: Sequence[str], right: Sequence[str], recipe: DescribingRecipe) -> TextScores:
    return score_texts(texts, right, draws=recipe.bootstrap_draws, random_seed=recipe.random_seed)


def _controls(data: DescribingData, learner: QuestionLearner) -> dict[str, list[str]]:
    """What is said without a model; of train entities none, since theirs are what the controls say."""
    number = {key: at for at, key in enumerate(data.graph.entity_ids)}
    asked = np.array([number[question.key] for question in learner.questions.test], dtype=np.int64)
    if any(data.shown[entity] is not None for entity in asked.tolist()):
        return {}
    return describe_without_model(data.graph.triples, len(data.graph.relations), data.shown, asked)
