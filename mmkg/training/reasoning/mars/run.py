"""Runs on MARS: a recipe and the files of MARS and MarKG in, a folder out.

A run's folder is that of every run (see :mod:`mmkg.training.runner`), with ``pretraining/``, the run on MarKG's own
triples, where the recipe asks for it (encoder and adapters go on from there, the ranking head begins anew: MarKG's
answers are others), ``ranks-dev.npz``, ``learning_curve.png`` and ``report.html``. Reported is dev;
no epoch is chosen by it, the last model is kept. Beside the model always stand the look-ups, the subsets that tell
reasoning from look-up, and the control with exchanged examples.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmkg.errors import TrainingError
from mmkg.evaluation.analogy import AnalogyComparison, answer_columns, compare_analogies, rank_answers
from mmkg.evaluation.analogy_report import failed_items, make_analogy_report
from mmkg.evaluation.plots import plot_learning_curves
from mmkg.reasoners.trainable import check_frozen, frozen_digests, trainable_report
from mmkg.shards import write_bytes, write_json
from mmkg.tasks.mars import as_columns
from mmkg.tasks.mars_controls import exchange_examples
from mmkg.training.checkpoint import BEST, load_trained, read_checkpoint, trained_state
from mmkg.training.distributed import Processes
from mmkg.training.loop import TrainingLoop
from mmkg.training.reasoning.mars.data import MarsData, read_mars_data
from mmkg.training.reasoning.mars.graph import questions_of
from mmkg.training.reasoning.mars.model import digest_of_stage, opened_learner
from mmkg.training.reasoning.mars.recipe import MarsRecipe, open_mars_recipe
from mmkg.training.run_folder import (
    CONFIG,
    CURVE,
    ENVIRONMENT,
    METRICS_FILE,
    REPORT,
    check_run_folder,
    is_begun,
    read_history,
    read_json,
    read_run_config,
)
from mmkg.training.runner import OpenedRun, over_seeds, run_seeds, run_to_end, say, training_summary

Progress = Callable[[str], None]
Metrics = dict[str, Any]
PRETRAINING = "pretraining"
RANKS = "ranks-dev.npz"
MODEL_ROW = "MR-MKG"


def train_mars(
    recipe: MarsRecipe | str,
    data_folder: Path,
    run_folder: Path,
    *,
    seeds: Sequence[int] | None = None,
    cache_folder: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Metrics:
    """Train by a recipe on train, rank dev, and leave a run folder.

    Args:
        recipe: a recipe or its name.
        data_folder: of MARS, with ``MarKG/`` in it.
        run_folder: made if it is not there.
        seeds: several make one run each below ``run_folder``, and a summary; None takes the recipe's seed.
        cache_folder: keeps vectors; ``vectors`` beside the run's folder unless given.
        resume: go on with what is in ``run_folder``; a finished run is only read.
        progress: called with one line of text now and then.

    Returns:
        The content of ``metrics.json``.

    Raises:
        TrainingError: the folder holds a run already and ``resume`` is off, or one by another recipe, of other data or
            beside another language model; or training diverges.
        DumpError, EmbeddingError, ConfigError: the data, the embedder or a setting cannot be used.
    """
    recipe = open_mars_recipe(recipe) if isinstance(recipe, str) else recipe
    data = read_mars_data(recipe, data_folder, cache_folder or run_folder.parent / "vectors")

    def train_one(one: MarsRecipe, folder: Path, resume: bool, progress: Progress | None) -> Metrics:
        return _train_one(one, data, data_folder, folder, resume=resume, progress=progress)

    def summarise(folders: Sequence[Path]) -> Metrics:
        return _over_seeds(recipe, folders)

    chosen = [recipe.random_seed] if seeds is None else list(seeds)
    return run_seeds(recipe, run_folder, chosen, train_one, summarise, resume=resume, progress=progress)


def read_mars_ranks(run_folder: Path, data: MarsData) -> npt.NDArray[np.float64]:
    """The ranks of dev that a run left; of several seeds the mean of their reciprocals is not a rank, so one seed's.

    Args:
        run_folder: of the run.
        data: whose dev it must have ranked.

    Raises:
        TrainingError: it left none, or of other items.
    """
    path = run_folder / RANKS
    if not path.exists():
        raise TrainingError(f"{path}: no ranks here. Was this run finished? One run of several seeds is `seed-0`.")
    with np.load(path) as arrays:
        if "items" not in arrays or not np.array_equal(arrays["items"], as_columns(data.dev)):
            raise TrainingError(f"{path}: ranks of other items than this dev's; runs are compared on the same files")
        return np.asarray(arrays["rank"], dtype=np.float64)


# --- one run ---------------------------------------------------------------------------------------------------------


def _train_one(
    recipe: MarsRecipe,
    data: MarsData,
    data_folder: Path,
    folder: Path,
    *,
    resume: bool,
    progress: Progress | None,
) -> Metrics:
    before = folder / PRETRAINING
    if resume and not is_begun(folder):
        check_run_folder(folder, recipe, resume=True)  # which refuses

    def train(one: MarsRecipe, where: Path, stage: str, finish: Callable[[TrainingLoop], Metrics]) -> Metrics:
        initial = before / BEST if stage == "mars" and recipe.pretrain_epochs else None
        return run_to_end(
            one,
            where,
            _opener(one, data, initial, stage=stage, progress=progress),
            finish,
            inputs={"mars": str(data_folder.resolve())},
            resume=resume and (where / CONFIG).exists(),
            progress=progress,
        )

    if recipe.pretrain_epochs and not (resume and (folder / METRICS_FILE).exists()):
        changes = {
            "epochs": recipe.pretrain_epochs,
            "learning_rate": recipe.pretrain_learning_rate,
            "batch_size": recipe.pretrain_batch_size,
        }
        say(progress, "pre-training on MarKG")
        train(recipe.model_copy(update=changes), before, "markg", training_summary)
    return train(recipe, folder, "mars", lambda loop: _finish(recipe, data, folder, training_summary(loop)))


def _opener(
    recipe: MarsRecipe, data: MarsData, initial: Path | None, *, stage: str, progress: Progress | None
) -> Callable[[Processes], Any]:
    @contextmanager
    def open_run(processes: Processes) -> Iterator[OpenedRun]:
        with opened_learner(recipe, data, stage=stage) as learner:
            if initial is not None:
                _check_stage(read_checkpoint(initial).document["data"], digest_of_stage(data, "markg"), initial)
                head = {name: row for name, row in trained_state(learner.model).items() if name.startswith("head.")}
                load_trained(learner.model, {**read_checkpoint(initial).tensors, **head}, initial)
            loop = TrainingLoop(learner, recipe, device=learner.device, processes=processes, progress=progress)
            told = {"frozen": frozen_digests(learner.model), "trained": trainable_report(learner.model).as_json()}
            yield OpenedRun(loop=loop, environment=told)

    return open_run


def _finish(
    recipe: MarsRecipe,
    data: MarsData,
    folder: Path,
    training: Mapping[str, Any],
    others: Mapping[str, npt.NDArray[np.float64]] | None = None,
) -> Metrics:
    """Rank dev with the best model, and everything that stands beside it."""
    with opened_learner(recipe, data, stage="mars") as learner:
        best = read_checkpoint(folder / BEST)
        check_frozen(learner.model, read_json(folder / ENVIRONMENT)["frozen"], folder / BEST)
        _check_stage(best.document["data"], learner.digest, folder / BEST)
        load_trained(learner.model, best.tensors, folder / BEST)
        parameters = trainable_report(learner.model).as_json()
        asked = questions_of(data.dev, data.markg, data.train)
        score_QC = learner.scores(asked)
        columns = answer_columns(as_columns(data.dev)[:, 3], data.candidate_C)
        rank_Q = rank_answers(score_QC, columns)
        exchanged = exchange_examples(data.dev, recipe.random_seed)
        exchanged_Q = rank_answers(learner.scores(questions_of(exchanged, data.markg, data.train)), columns)
    best_Q = data.candidate_C[score_QC.argmax(axis=1)]
    ranks = {**data.lookup_ranks(), **(others or {}), "MR-MKG, examples exchanged": exchanged_Q, MODEL_ROW: rank_Q}
    rows = {name: data.summarise(rank, draws=recipe.bootstrap_draws) for name, rank in ranks.items()}
    comparisons = {
        f"{MODEL_ROW} − {name}": compare_analogies(rank_Q, rank, data.cluster_of_item, draws=recipe.bootstrap_draws)
        for name, rank in ranks.items()
        if name != MODEL_ROW
    }
    failed = failed_items(rank_Q, best_Q, data.dev, data.markg)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, items=as_columns(data.dev), rank=rank_Q, best=best_Q, exchanged=exchanged_Q)
    write_bytes(folder / RANKS, buffer.getvalue())
    curve = plot_learning_curves(
        {recipe.name: read_history(folder)}, column="valid_hits_at_1", title="Hits@1 of dev; the last model is kept"
    )
    write_bytes(folder / CURVE, curve)
    page = make_analogy_report(
        recipe.name,
        rows,
        comparisons=comparisons,
        failed=failed,
        curve=curve,
        settings=recipe.model_dump(),
        notes=_NOTES,
    )
    write_bytes(folder / REPORT, page.encode())
    return {
        "name": recipe.name,
        "random_seed": recipe.random_seed,
        "split": "dev",
        "rows": {name: metrics.as_json() for name, metrics in rows.items()},
        "comparisons": {name: comparison.as_json() for name, comparison in comparisons.items()},
        "training": dict(training),
        "parameters": parameters,
        "failed": failed,
    }


def _check_stage(found: str, expected: str, path: Path) -> None:
    if found != expected:
        raise TrainingError(
            f"{path}: trained on other files of MARS or MarKG, or with another embedder. Train anew, in another folder."
        )


_NOTES = (
    "Ranks over the candidates, ties in the middle. Intervals by cluster: items of one (question, relation, answer) go "
    "together. No epoch was chosen by dev, the last model is kept; settings were chosen on train and dev, so a split "
    "of its own (`examples/mars/split_by_pair.py`) is the harder test.",
    "Entities are given by name and description: no pictures, so modes differ in nothing and the alignment is silent.",
    "What tells reasoning from look-up: pairs that no item of train holds, questions that have another partner under "
    "another relation, and examples exchanged between items, which must make a reasoner worse.",
)


def _over_seeds(recipe: MarsRecipe, folders: Sequence[Path]) -> Metrics:
    """Mean and deviation of each group's Hits@1 and MRR, and the mean of the seeds against each look-up."""
    metrics = [read_json(folder / METRICS_FILE) for folder in folders]
    groups = metrics[0]["rows"][MODEL_ROW]["groups"]
    rows = {
        row: {
            group: over_seeds(
                {
                    name: [one["rows"][row]["groups"][group][name]["value"] for one in metrics]
                    for name in ("hits_at_1", "hits_at_3", "hits_at_10", "mrr")
                }
            )
            for group, figures in groups.items()
            if "hits_at_1" in figures
        }
        for row in (MODEL_ROW, "MR-MKG, examples exchanged")
    }
    return {
        "name": recipe.name,
        "seeds": [one["random_seed"] for one in metrics],
        "split": "dev",
        "rows": rows,
        "lookups": {row: one for row, one in metrics[0]["rows"].items() if row not in rows},
    }


def compare_mars_runs(
    data: MarsData, first: Sequence[Path], second: Sequence[Path], *, mask: str | None = None, draws: int = 1000
) -> AnalogyComparison:
    """Compare two recipes on dev, seed by seed: the items of all seeds of one fact are one cluster.

    Args:
        data: of both.
        first, second: run folders of the seeds, in the same order.
        mask: a subset of dev, such as `UNSEEN`; None for all.
        draws: of the bootstrap.
    """
    keep_Q = np.ones(len(data.dev), np.bool_) if mask is None else data.masks[mask]
    ranks = [np.concatenate([read_mars_ranks(folder, data)[keep_Q] for folder in side]) for side in (first, second)]
    cluster_Q = np.tile(data.cluster_of_item[keep_Q], len(first))
    return compare_analogies(ranks[0], ranks[1], cluster_Q, draws=draws)


def evaluate_mars(
    run_folder: Path,
    data_folder: Path | None = None,
    cache_folder: Path | None = None,
    *,
    against: Path | None = None,
) -> Metrics:
    """Rank dev again with a run's model, and write its report again.

    Args:
        run_folder: of one run; of several seeds one of its ``seed-…`` folders.
        data_folder: of MARS, if it has moved.
        cache_folder: of vectors; ``vectors`` beside the run's folder unless given.
        against: another finished run, to be compared with item by item.

    Raises:
        TrainingError: there is no finished run, or its model was trained beside another language model or on other
            data.
    """
    recipe, config = read_run_config(run_folder, MarsRecipe)
    folder = data_folder or Path(config["mars"])
    data = read_mars_data(recipe, folder, cache_folder or run_folder.parent / "vectors")
    before = read_json(run_folder / METRICS_FILE) if (run_folder / METRICS_FILE).exists() else {}
    other = {} if against is None else {f"run {against.name}": read_mars_ranks(against, data)}
    metrics = _finish(recipe, data, run_folder, before.get("training", {}), other)
    write_json(run_folder / METRICS_FILE, metrics)
    return metrics
