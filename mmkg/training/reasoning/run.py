"""Runs on questions: a recipe and a set of questions in, a run's folder out; and a run's model asked other questions.

Beside what every run's folder holds (see :mod:`mmkg.training.runner`) there are at the end ``answers-test.jsonl``,
``learning_curve.png`` and ``report.html``. A checkpoint holds what was trained, and digests of what was not: language
model, embedder, questions. Whoever brings others is refused.

A model of which nothing learns (no graph, no picture, no LoRA) is measured as it is.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from mmkg.errors import TrainingError
from mmkg.evaluation.answers import GivenAnswer, failed_answers, score_answers
from mmkg.evaluation.answers_report import make_answers_report
from mmkg.evaluation.plots import plot_learning_curves
from mmkg.reasoners.llm import FrozenLlm
from mmkg.reasoners.trainable import trainable_report
from mmkg.shards import write_bytes, write_json
from mmkg.training.checkpoint import BEST, CHECKPOINT, load_trained, read_checkpoint, trained_state
from mmkg.training.distributed import Processes, join_processes
from mmkg.training.environment import describe_environment
from mmkg.training.hardware import using_threads
from mmkg.training.loop import TrainingLoop
from mmkg.training.reasoning.opened import load_initial, opened_learner, opened_run
from mmkg.training.reasoning.question_learner import QuestionLearner, check_state
from mmkg.training.reasoning.questions import GraphQuestion, QuestionSet
from mmkg.training.reasoning.recipe import QuestionRecipe
from mmkg.training.run_folder import (
    CONFIG,
    CURVE,
    ENVIRONMENT,
    METRICS_FILE,
    REPORT,
    check_run_folder,
    read_history,
    read_json,
)
from mmkg.training.runner import OpenedRun, Progress, over_seeds, run_to_end, say, training_summary

NOTHING_LEARNS = "nothing of this model learns; it was measured as it is"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What came out of a run beside the accuracy of its test questions.

    Attributes:
        numbers: more entries for ``metrics.json``.
        tables: for the report: heading -> rows of cells, the first one the header.
    """

    numbers: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, Sequence[Sequence[str]]] = field(default_factory=dict)


Ask = Callable[[QuestionLearner, Sequence[GraphQuestion]], list[GivenAnswer]]
Measure = Callable[[QuestionLearner, Sequence[GivenAnswer]], Measured]


def train_questions(
    recipe: QuestionRecipe,
    questions: QuestionSet,
    run_folder: Path,
    *,
    inputs: Mapping[str, Any],
    measure: Measure | None = None,
    ask: Ask | None = None,
    llm: FrozenLlm | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train by a recipe, answer the test questions with the best model, and leave a run folder.

    Args:
        recipe: all settings.
        questions: to learn from, to choose by, to report on.
        run_folder: made if it is not there.
        inputs: where the data are, as JSON values.
        measure: what else is measured of the best model, given its test answers.
        ask: how the model answers, if not by :meth:`QuestionLearner.answer`; there is room for answers in writing.
        llm: of the recipe, where it is open already; None opens it. What LoRA changes in it stays changed.
        resume: go on with what is in the folder; a finished run is only read.
        progress: called with one line of text now and then.

    Returns:
        The content of ``metrics.json``.

    Raises:
        TrainingError: the folder holds a run already and ``resume`` is off, or one by another recipe, of other
            questions or beside another language model; or training diverges.
        ConfigError: the recipe does not fit, nothing is left to report on, or a question with its answer is too long
            for the language model.
    """
    started: dict[str, Any] = {}
    held: list[QuestionLearner] = []

    @contextmanager
    def open_run(processes: Processes) -> Iterator[OpenedRun]:
        with opened_learner(recipe, questions, llm=llm, writes_all=ask is not None) as learner:
            held.append(learner)
            if (path := run_folder / CHECKPOINT).exists():
                check_state(learner, read_checkpoint(path).document["learner"], path)
            elif recipe.initial is not None:
                started.update(load_initial(learner, Path(recipe.initial)))
                say(progress, f"starting from {recipe.initial}: {len(started['loaded'])} tensors")
            loop = TrainingLoop(learner, recipe, device=learner.device, processes=processes, progress=progress)
            yield OpenedRun(loop=loop, environment=_told(learner))

    def finish(loop: TrainingLoop) -> dict[str, Any]:
        learner = held[-1]
        load_trained(learner.model, loop.best, run_folder / BEST)
        training = {**training_summary(loop), "best_valid_score": loop.position.best_score}
        with using_threads(recipe.threads):
            return _finish(recipe, learner, run_folder, {"training": training, **_initial(started)}, ask, measure)

    if not recipe.model.reads_graph and not recipe.llm.learns:
        with opened_learner(recipe, questions, llm=llm, writes_all=ask is not None) as learner:
            if not trained_state(learner.model):
                return _measure_only(recipe, learner, run_folder, inputs, ask, measure, resume=resume)
    return run_to_end(recipe, run_folder, open_run, finish, inputs=inputs, resume=resume, progress=progress)


def evaluate_questions(
    recipe: QuestionRecipe,
    questions: QuestionSet,
    run_folder: Path,
    *,
    split: str = "test",
    ask: Ask | None = None,
    measure: Measure | None = None,
    llm: FrozenLlm | None = None,
) -> dict[str, Any]:
    """Answer questions with a run's best model; write ``metrics-SPLIT.json``, answers and ``report-SPLIT.html``.

    Args:
        recipe: of the run.
        questions: with those that are asked as their ``test``.
        run_folder: of the run.
        split: what they are called.
        ask, measure, llm: see :func:`train_questions`.

    Raises:
        TrainingError, ConfigError: see :func:`opened_run`.
    """
    with opened_run(recipe, questions, run_folder, llm=llm, writes_all=ask is not None) as learner:
        return _finish(recipe, learner, run_folder, {}, ask, measure, split=split)


# --- parts -----------------------------------------------------------------------------------------------------------


def _told(learner: QuestionLearner) -> dict[str, Any]:
    return {
        "questions_told": dict(learner.questions.told),
        "num_questions": {
            "train": len(learner.questions.train),
            "valid": len(learner.questions.valid),
            "test": len(learner.questions.test),
        },
        "texts_cut": learner.num_cut,
        "patch_width": learner.questions.patch_width,
        "padding": round(learner.padding(), 4) if learner.num_examples else 0.0,
    }


def _initial(started: Mapping[str, Any]) -> dict[str, Any]:
    return {"initial": dict(started)} if started else {}


def _measure_only(
    recipe: QuestionRecipe,
    learner: QuestionLearner,
    run_folder: Path,
    inputs: Mapping[str, Any],
    ask: Ask | None,
    measure: Measure | None,
    *,
    resume: bool,
) -> dict[str, Any]:
    check_run_folder(run_folder, recipe, resume=resume)
    if (run_folder / METRICS_FILE).exists():
        return read_json(run_folder / METRICS_FILE)
    metrics: dict[str, Any] = {}
    processes = join_processes()
    if processes.is_first:
        run_folder.mkdir(parents=True, exist_ok=True)
        write_json(run_folder / CONFIG, {"recipe": recipe.model_dump(), **inputs})
        described = {**describe_environment(learner.device), **learner.state(), **_told(learner)}
        write_json(run_folder / ENVIRONMENT, described)
        metrics = _finish(recipe, learner, run_folder, {"training": {"stopped": NOTHING_LEARNS}}, ask, measure)
        write_json(run_folder / METRICS_FILE, metrics)
    return processes.from_first(metrics)


def _finish(
    recipe: QuestionRecipe,
    learner: QuestionLearner,
    run_folder: Path,
    further: Mapping[str, Any],
    ask: Ask | None,
    measure: Measure | None,
    *,
    split: str | None = None,
) -> dict[str, Any]:
    """Answer the test questions, measure, and report."""
    asked = learner.questions.test
    answers = ask(learner, asked) if ask is not None else learner.answer(asked)
    measured = Measured() if measure is None else measure(learner, answers)
    further = {**further, "padding": _told(learner)["padding"]}
    return report_answers(recipe, learner.model, answers, measured, run_folder, further, split=split)


def report_answers(
    recipe: QuestionRecipe,
    model: nn.Module,
    answers: Sequence[GivenAnswer],
    measured: Measured,
    run_folder: Path,
    further: Mapping[str, Any],
    *,
    split: str | None = None,
) -> dict[str, Any]:
    """Write answers, plot and report of a run; return the metrics.

    Args:
        recipe: of the run.
        model: that answered.
        answers: to the questions that are reported on.
        measured: what else came out.
        run_folder: of the run, with its environment and history.
        further: more entries for the metrics.
        split: of an evaluation, whose metrics are written too; None at the end of training.
    """
    score = score_answers(answers, draws=recipe.bootstrap_draws, random_seed=recipe.random_seed)
    parameters = trainable_report(model)
    metrics: dict[str, Any] = {
        "name": recipe.name,
        "random_seed": recipe.random_seed,
        **score.as_json(),
        **measured.numbers,
        **further,
        "parameters": parameters.as_json(),
        "failed": [vars(answer) for answer in failed_answers(answers)],
    }
    name = "test" if split is None else split
    lines = "".join(json.dumps(vars(answer), ensure_ascii=False) + "\n" for answer in answers)
    write_bytes(run_folder / f"answers-{name}.jsonl", lines.encode())
    history = read_history(run_folder)
    curve = _curve(recipe.name, history) if split is None and history else None
    if curve is not None:
        write_bytes(run_folder / CURVE, curve)
    page = make_answers_report(
        recipe.name if split is None else f"{recipe.name} on {split}",
        score,
        failed=failed_answers(answers),
        curve=curve,
        parameters=[
            [part.name, f"{part.trainable:,}", f"{part.frozen:,}", f"{part.fraction:.2%}"]
            for part in (*parameters.parts, parameters.total)
        ],
        tables=measured.tables,
        settings={**recipe.model_dump(), **read_json(run_folder / ENVIRONMENT)},
    )
    write_bytes(run_folder / (REPORT if split is None else f"report-{split}.html"), page.encode())
    if split is not None:
        write_json(run_folder / f"metrics-{split}.json", metrics)
    return metrics


def read_answers(run_folder: Path, split: str = "test") -> dict[str, GivenAnswer]:
    """Return what a run answered, by key of the question.

    Raises:
        TrainingError: the run left no answers.
    """
    path = run_folder / f"answers-{split}.jsonl"
    if not path.exists():
        raise TrainingError(f"{path}: no answers here; train the run to its end, or evaluate it on '{split}'")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {row["key"]: GivenAnswer(**row) for row in rows}


def summarise_text_runs(scores: Sequence[str], folders: Sequence[Path]) -> dict[str, Any]:
    """Return mean and standard deviation over seeds of scores of texts, written freely and teacher-forced."""
    metrics = [read_json(folder / METRICS_FILE) for folder in folders]
    values = {
        f"{kind}.{name}": [one[kind][name]["value"] for one in metrics]
        for kind in ("texts", "teacher_forced")
        for name in scores
    }
    return {"name": metrics[0]["name"], "seeds": len(folders), "over_seeds": over_seeds(values)}


def _curve(name: str, history: Sequence[Mapping[str, Any]]) -> bytes:
    by_loss = any("valid_answer_loss" in row for row in history) and not any("valid_accuracy" in row for row in history)
    column, what = ("valid_answer_loss", "answer loss") if by_loss else ("valid_accuracy", "accuracy")
    return plot_learning_curves({name: history}, column=column, title=f"{what} of the valid questions")
