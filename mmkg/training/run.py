"""Runs of link prediction: a recipe and the tables of a build in, a folder out that can be continued and compared.

Beside what every run's folder holds (see :mod:`mmkg.training.runner`), there are at the end ``ranks-test.npz``,
``learning_curve.png`` and ``report.html``. A run of several seeds holds one such folder each, ``seed-0``, ``seed-1``,
…, and what they have in common beside them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from mmkg.errors import ConfigError, TrainingError
from mmkg.evaluation.link_prediction import Ranks
from mmkg.evaluation.metrics import (
    METRICS,
    Comparison,
    compare_ranks,
    relation_categories,
    summarise_ranks,
)
from mmkg.evaluation.plots import plot_learning_curves
from mmkg.evaluation.report import RunResult, make_report, worst_examples
from mmkg.shards import write_bytes, write_json
from mmkg.training.checkpoint import BEST, load_trained, read_checkpoint
from mmkg.training.data import LinkPredictionData, read_link_prediction_data, read_names
from mmkg.training.distributed import Processes
from mmkg.training.hardware import choose_device, using_threads
from mmkg.training.link_prediction import LinkPredictionLearner, loop_settings
from mmkg.training.loop import TrainingLoop
from mmkg.training.models import make_model
from mmkg.training.recipes import LinkPredictionRecipe, open_recipe
from mmkg.training.run_folder import (
    CURVE,
    ENVIRONMENT,
    REPORT,
    read_history,
    read_json,
    read_ranks,
    read_run_config,
    write_ranks,
)
from mmkg.training.runner import OpenedRun, Progress, over_seeds, run_seeds, run_to_end, say, training_summary


def train(
    recipe: LinkPredictionRecipe | str,
    tables_folder: Path,
    run_folder: Path,
    *,
    seeds: Sequence[int] | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train by a recipe, evaluate on test, and leave a run folder.

    Args:
        recipe: a recipe or its name.
        tables_folder: holds ``splits``, ``entities`` and ``relations``, and ``vectors`` for a recipe with features; a
            build's folder does.
        run_folder: made if it is not there.
        seeds: several make one run each below ``run_folder``, and a summary; None takes the recipe's seed.
        resume: go on with what is in ``run_folder``; a finished run is only read.
        progress: called with one line of text now and then.

    Returns:
        The content of ``metrics.json``.

    Raises:
        TrainingError: the folder holds a run already and ``resume`` is off, or one by another recipe or of other
            tables, or training diverges, or the recipe has features and the tables no vectors for them.
        ConfigError: the recipe does not fit the data or the machine.
        ShardError: a table is missing.
    """
    recipe = open_recipe(recipe) if isinstance(recipe, str) else recipe

    def train_one(one: LinkPredictionRecipe, folder: Path, resume: bool, progress: Progress | None) -> dict[str, Any]:
        return _train_one(one, tables_folder, folder, resume=resume, progress=progress)

    def summarise(folders: Sequence[Path]) -> dict[str, Any]:
        results = [_read_result(folder, tables_folder) for folder in folders]
        page = make_report(results, title=f"{recipe.name}, {len(folders)} seeds", split="test")
        write_bytes(run_folder / REPORT, page.encode())
        return _over_seeds(recipe, results)

    chosen = [recipe.random_seed] if seeds is None else list(seeds)
    return run_seeds(recipe, run_folder, chosen, train_one, summarise, resume=resume, progress=progress)


def evaluate_run(
    run_folder: Path,
    *,
    tables_folder: Path | None = None,
    split: str = "test",
    against: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Rank a split with a run's best model; write ``metrics-SPLIT.json``, ranks and ``report-SPLIT.html``.

    Args:
        run_folder: of one run (of several seeds: one of its ``seed-…`` folders).
        tables_folder: where the tables are now; None is where they were.
        split: train | valid | test.
        against: another run folder to compare with, triple by triple, on the same split of the same tables.
        progress: called with one line of text now and then.

    Raises:
        TrainingError: there is no run in a folder, it has not come to its first look, or its tables have changed.
        ConfigError: no split is called so, or it is empty.
    """
    result, _ = _evaluate(run_folder, tables_folder, split, progress)
    comparisons: dict[str, Comparison] = {}
    if against is not None:
        other, _ = _evaluate(against, tables_folder, split, progress)
        comparisons[f"{result.name} − {other.name}"] = compare_ranks(result.ranks, other.ranks)
        shown = [result, other]
    else:
        shown = [result]
    metrics = _as_json(result, split) | {name: c.as_json() for name, c in comparisons.items()}
    write_json(run_folder / f"metrics-{split}.json", metrics)
    page = make_report(shown, title=f"{result.name} on {split}", split=split, comparisons=comparisons)
    write_bytes(run_folder / f"report-{split}.html", page.encode())
    return metrics


def compare_runs(first: Path, second: Path, *, split: str = "test") -> Comparison:
    """Compare two runs by the ranks they left on a split; see :func:`compare_ranks`.

    Raises:
        TrainingError: a run has no ranks of this split.
        ConfigError: they ranked different triples.
    """
    return compare_ranks(read_ranks(first, split), read_ranks(second, split))


# --- one run ---------------------------------------------------------------------------------------------------------


def _train_one(
    recipe: LinkPredictionRecipe, tables_folder: Path, folder: Path, *, resume: bool, progress: Progress | None
) -> dict[str, Any]:
    @contextmanager
    def open_run(processes: Processes) -> Iterator[OpenedRun]:
        data = _read_data(recipe, tables_folder)
        with _opened(recipe, data) as learner:
            settings = loop_settings(recipe)
            loop = TrainingLoop(learner, settings, device=learner.device, processes=processes, progress=progress)
            told = {} if data.features is None else {"features": data.features.describe()}
            yield OpenedRun(loop=loop, environment=told)

    def finish(loop: TrainingLoop) -> dict[str, Any]:
        result, split = _evaluate(folder, tables_folder, None, progress)
        return _finish(folder, result, split, loop)

    inputs = {"tables": str(tables_folder.resolve())}
    return run_to_end(recipe, folder, open_run, finish, inputs=inputs, resume=resume, progress=progress)


def _read_data(recipe: LinkPredictionRecipe, tables_folder: Path) -> LinkPredictionData:
    return read_link_prediction_data(tables_folder, drop_unused=recipe.drop_unused, features=recipe.features)


@contextmanager
def _opened(recipe: LinkPredictionRecipe, data: LinkPredictionData) -> Iterator[LinkPredictionLearner]:
    """A model with its first vectors drawn by the recipe's seed; torch's threads and generator are put back after."""
    device = choose_device(recipe.device)
    random = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    with random, using_threads(recipe.threads):
        torch.manual_seed(recipe.random_seed)
        yield LinkPredictionLearner(recipe, data, make_model(recipe, data).to(device), device=device)


def _evaluate(
    folder: Path, tables_folder: Path | None, split: str | None, progress: Progress | None
) -> tuple[RunResult, str]:
    """Rank a split (None: test, or valid if that is empty) with the best model of a run; leaves the ranks."""
    recipe, config = read_run_config(folder, LinkPredictionRecipe)
    tables_folder = tables_folder or Path(config["tables"])
    data = _read_data(recipe, tables_folder)
    split = split or ("test" if len(data.test) else "valid")
    triples = data.split(split)
    if not len(triples):
        raise ConfigError(f"the split '{split}' of {tables_folder} is empty, so there is nothing to rank")
    best = read_checkpoint(folder / BEST)
    if best.document["data"] != data.digest():
        raise TrainingError(f"{folder}: the tables in {tables_folder} are not those this run was trained on")
    say(progress, f"ranking {len(triples):,} {split} triples")
    with _opened(recipe, data) as learner:
        load_trained(learner.model, best.tensors, folder / BEST)
        ranks = learner.rank(triples)
    write_ranks(folder, split, ranks)
    return _result(folder, recipe, ranks, data, tables_folder), split


def _result(
    folder: Path, recipe: LinkPredictionRecipe, ranks: Ranks, data: LinkPredictionData, tables_folder: Path
) -> RunResult:
    entity_names, relation_names = read_names(tables_folder, data)
    return RunResult(
        name=folder.name if folder.name.startswith("seed-") else f"{recipe.name} ({folder.name})",
        metrics=summarise_ranks(
            ranks,
            random_seed=recipe.random_seed,
            category_of_relation=relation_categories(data.train, data.num_relations),
        ),
        ranks=ranks,
        history=read_history(folder),
        worst=worst_examples(ranks, entity_names, relation_names),
        config=recipe.model_dump(),
        environment=read_json(folder / ENVIRONMENT),
    )


def _read_result(folder: Path, tables_folder: Path) -> RunResult:
    """A finished run's result, from the ranks it left."""
    recipe, _ = read_run_config(folder, LinkPredictionRecipe)
    data = read_link_prediction_data(tables_folder, drop_unused=recipe.drop_unused)
    split = "test" if len(data.test) else "valid"
    return _result(folder, recipe, read_ranks(folder, split), data, tables_folder)


def _finish(folder: Path, result: RunResult, split: str, loop: TrainingLoop) -> dict[str, Any]:
    """Write plots and report; return the metrics."""
    write_bytes(folder / CURVE, plot_learning_curves({result.name: result.history}))
    write_bytes(folder / REPORT, make_report([result], title=result.name, split=split).encode())
    training = {**training_summary(loop), "best_valid_mrr": loop.position.best_score}
    return {**_as_json(result, split), "training": training}


def _as_json(result: RunResult, split: str) -> dict[str, Any]:
    return {
        "name": result.name,
        "split": split,
        "random_seed": result.config["random_seed"],
        **result.metrics.as_json(),
        "worst": [vars(example) for example in result.worst],
    }


def _over_seeds(recipe: LinkPredictionRecipe, results: Sequence[RunResult]) -> dict[str, Any]:
    seeds = [result.config["random_seed"] for result in results]
    return {
        "name": recipe.name,
        "seeds": seeds,
        **over_seeds({name: [result.metrics.both[name].value for result in results] for name in METRICS}),
        "runs": {f"seed-{seed}": result.metrics.as_json() for seed, result in zip(seeds, results, strict=True)},
    }
