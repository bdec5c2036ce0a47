"""Runs that tell classes: a recipe and MarKG in, a run's folder out, with scores by group of classes.

Beside what a run on questions leaves (see :mod:`mmkg.training.reasoning.run`), ``metrics.json`` holds under ``groups``
accuracy on seen and unseen classes, among their kind and among all, with controls and differences entity by entity;
under ``class_is_said`` how often a description or a neighbour says the class. ``accuracy`` is that of all questions
together and mixes the groups.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmkg.errors import TrainingError
from mmkg.evaluation.answers import GivenAnswer
from mmkg.reasoners.graph4mm import Graph4mm
from mmkg.reasoners.llm import open_llm
from mmkg.training.checkpoint import BEST, load_trained, read_checkpoint
from mmkg.training.distributed import Processes
from mmkg.training.hardware import choose_device, using_threads
from mmkg.training.loop import TrainingLoop
from mmkg.training.reasoning.classes.data import GROUPS, ClassesData, read_classes_data
from mmkg.training.reasoning.classes.language import open_class_language_model
from mmkg.training.reasoning.classes.measure import difference_of, group_of, measure_classes
from mmkg.training.reasoning.classes.recipe import ClassesRecipe, open_class_recipe
from mmkg.training.reasoning.classes.semantic import SemanticLearner, SemanticReader
from mmkg.training.reasoning.question_learner import QuestionLearner
from mmkg.training.reasoning.run import Measured, evaluate_questions, read_answers, report_answers, train_questions
from mmkg.training.run_folder import (
    METRICS_FILE,
    check_run_folder,
    read_json,
    read_run_config,
)
from mmkg.training.runner import OpenedRun, Progress, over_seeds, run_seeds, run_to_end, say, training_summary

VECTORS = "vectors"  # beside the runs' folders, if no other place is given


def train_classes(
    recipe: ClassesRecipe | str,
    run_folder: Path,
    *,
    data_folder: Path,
    cache_folder: Path | None = None,
    seeds: Sequence[int] | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train on seen classes, tell the classes of all test entities, and leave a run folder.

    Args:
        recipe: a recipe or its name.
        run_folder: made if it is not there.
        data_folder: with the files of MarKG, or ``MarKG/`` in it.
        cache_folder: keeps vectors of texts; ``vectors`` beside the run's folder unless given.
        seeds: several runs in folders ``seed-N``; None is one, with the recipe's own. Classes are drawn by
            `data.split_seed`, so all seeds have the same ones.
        resume: go on with what is in the folder; a finished run is only read.
        progress: called with one line of text now and then.

    Returns:
        The content of ``metrics.json``.

    Raises:
        TrainingError: see :func:`train_questions`.
        ConfigError, DumpError, EmbeddingError: see :func:`read_classes_data`.
    """
    recipe = open_class_recipe(recipe) if isinstance(recipe, str) else recipe
    cache = run_folder.parent / VECTORS if cache_folder is None else cache_folder
    data = read_classes_data(recipe, data_folder, cache)
    counts = data.questions.told["entities"]
    say(progress, f"{len(data.split.seen)} classes are seen, {len(data.split.unseen)} are not; entities: {counts}")
    inputs = {"data": str(data_folder.resolve()), "cache": str(cache.resolve())}

    def train_one(one: ClassesRecipe, folder: Path, resume: bool, progress: Progress | None) -> dict[str, Any]:
        if one.answering == "vectors":
            return _train_semantic(one, data, folder, inputs, resume=resume, progress=progress)
        check_run_folder(folder, one, resume=resume)  # before a language model is trained
        llm = open_class_language_model(one, data, folder, progress=progress)
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
    return run_seeds(recipe, run_folder, seeds, train_one, summarise_class_runs, resume=resume, progress=progress)


def evaluate_classes(
    run_folder: Path, *, split: str = "test", data_folder: Path | None = None, cache_folder: Path | None = None
) -> dict[str, Any]:
    """Tell the classes of a split's entities again; write ``metrics-SPLIT.json`` and ``report-SPLIT.html``.

    Args:
        run_folder: of a finished run.
        split: train | valid | test.
        data_folder, cache_folder: where the data and vectors are now; None is where they were.

    Raises:
        ConfigError: no split is called so.
        TrainingError: there is no such run, or its data or language model are others than then.
    """
    recipe, config = read_run_config(run_folder, ClassesRecipe)
    data = read_classes_data(recipe, data_folder or Path(config["data"]), cache_folder or Path(config["cache"]))
    asked = replace(data, questions=data.questions.reporting(split))
    if recipe.answering == "likelihood":
        llm = open_class_language_model(recipe, data, run_folder)
        measure = partial(_measure, recipe, asked)
        return evaluate_questions(recipe, asked.questions, run_folder, split=split, measure=measure, llm=llm)
    with _opened_semantic(recipe, data) as learner:
        _load_best(learner, run_folder)
        return _finish(recipe, learner, asked, run_folder, {}, split=split)


def compare_class_runs(
    first: Path, second: Path, *, split: str = "test", draws: int = 1000, random_seed: int = 0
) -> dict[str, dict[str, dict[str, float]]]:
    """Return by how much the first of two runs is better, by group, with intervals over classes and over entities.

    Args:
        first, second: folders of finished runs, of one seed each.
        split: that both answered.
        draws, random_seed: of the bootstrap.

    Raises:
        TrainingError: a run left no answers, or the two were asked other questions.
    """
    one, other = read_answers(first, split), read_answers(second, split)
    if {key: (answer.right, answer.num_choices) for key, answer in one.items()} != {
        key: (answer.right, answer.num_choices) for key, answer in other.items()
    }:
        raise TrainingError(
            f"{first} and {second}: were asked about other entities or classes; compare runs of one split"
        )
    found = {}
    for group in GROUPS:
        keys = [key for key in one if group_of(key) == group]
        if keys:
            found[group] = difference_of(
                np.array([one[key].is_right for key in keys], np.float64),
                np.array([other[key].is_right for key in keys], np.float64),
                [one[key].right for key in keys],
                draws=draws,
                random_seed=random_seed,
            )
    return found


def summarise_class_runs(folders: Sequence[Path]) -> dict[str, Any]:
    """Return mean and standard deviation over seeds of what is reported."""
    metrics = [read_json(folder / METRICS_FILE) for folder in folders]
    values = {
        f"{group}.{name}": [one["groups"][group][part]["value"] for one in metrics]
        for group in GROUPS
        for name, part in (("accuracy", "by_class"), ("macro", "macro"))
        if all(group in one["groups"] for one in metrics)
    }
    return {"name": metrics[0]["name"], "seeds": len(folders), "over_seeds": over_seeds(values)}


# --- answers by vectors ----------------------------------------------------------------------------------------------


def _train_semantic(
    recipe: ClassesRecipe,
    data: ClassesData,
    folder: Path,
    inputs: Mapping[str, Any],
    *,
    resume: bool,
    progress: Progress | None,
) -> dict[str, Any]:
    held: list[SemanticLearner] = []

    @contextmanager
    def open_run(processes: Processes) -> Iterator[OpenedRun]:
        with _opened_semantic(recipe, data) as learner:
            held.append(learner)
            loop = TrainingLoop(learner, recipe, device=learner.device, processes=processes, progress=progress)
            told = {"questions_told": dict(data.questions.told), "questions": learner.digest}
            yield OpenedRun(loop=loop, environment=told)

    def finish(loop: TrainingLoop) -> dict[str, Any]:
        learner = held[-1]
        load_trained(learner.model, loop.best, folder / BEST)
        with using_threads(recipe.threads):
            return _finish(recipe, learner, data, folder, {"training": training_summary(loop)})

    return run_to_end(recipe, folder, open_run, finish, inputs=inputs, resume=resume, progress=progress)


@contextmanager
def _opened_semantic(recipe: ClassesRecipe, data: ClassesData) -> Iterator[SemanticLearner]:
    """A new reader and its questions; torch's threads and generator are put back after."""
    device = choose_device(recipe.device)
    relation_RD = torch.from_numpy(data.questions.relation_RD)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), using_threads(recipe.threads):
        llm = open_llm(recipe.llm, device=device)
        torch.manual_seed(recipe.random_seed)
        model = SemanticReader(
            Graph4mm(recipe.model, llm, relation_RD=relation_RD),
            dimension=relation_RD.shape[1],
            temperature=recipe.temperature,
        )
        yield SemanticLearner(
            model.to(device),
            data,
            batch_size=recipe.batch_size,
            valid_questions=recipe.valid_questions,
            device=device,
        )


def _load_best(learner: SemanticLearner, run_folder: Path) -> None:
    best = read_checkpoint(run_folder / BEST)
    if best.document["data"] != learner.digest:
        raise TrainingError(
            f"{run_folder / BEST}: trained on other questions or vectors: expected digest {best.document['data']}, "
            f"found {learner.digest}. Give the same files and embedder, or train anew."
        )
    learner.load_state(best.document["learner"])
    load_trained(learner.model, best.tensors, run_folder / BEST)


def _finish(
    recipe: ClassesRecipe,
    learner: SemanticLearner,
    data: ClassesData,
    run_folder: Path,
    further: Mapping[str, Any],
    *,
    split: str | None = None,
) -> dict[str, Any]:
    """Answer the test questions, measure, and report."""
    answers = learner.answer(data.questions.test)
    measured = _measure(recipe, data, None, answers)
    return report_answers(recipe, learner.model, answers, measured, run_folder, further, split=split)


def _measure(
    recipe: ClassesRecipe,
    data: ClassesData,
    learner: QuestionLearner | None,  # noqa: ARG001 - what a measure is given
    answers: Sequence[GivenAnswer],
) -> Measured:
    return measure_classes(data, recipe.name, answers, draws=recipe.bootstrap_draws, random_seed=recipe.random_seed)
