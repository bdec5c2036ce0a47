"""Runs: a recipe and the tables of a build in, a folder out that can be continued, evaluated, compared and repeated.

A run's folder holds ``config.json`` (the recipe and where the tables are), ``environment.json``, ``metrics.jsonl`` (a
row an epoch), ``checkpoint.safetensors`` (to go on from), ``model.safetensors`` (the best model by valid MRR), and at
the end ``metrics.json``, ``ranks-test.npz``, ``learning_curve.png`` and ``report.html``. A run of several seeds holds
one such folder each, ``seed-0``, ``seed-1``, …, and what they have in common beside them.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
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
from mmkg.training.checkpoint import BEST, CHECKPOINT, load_model, read_checkpoint, write_checkpoint
from mmkg.training.data import LinkPredictionData, read_link_prediction_data, read_names
from mmkg.training.environment import describe_environment
from mmkg.training.hardware import choose_device, using_threads
from mmkg.training.loop import LinkPredictionLoop
from mmkg.training.models import make_model
from mmkg.training.recipes import LinkPredictionRecipe, change_recipe, open_recipe
from mmkg.training.run_folder import (
    CONFIG,
    CURVE,
    ENVIRONMENT,
    METRICS_FILE,
    REPORT,
    check_run_folder,
    read_history,
    read_json,
    read_ranks,
    read_run_config,
    write_history,
    write_ranks,
)

logger = logging.getLogger(__name__)

Progress = Callable[[str], None]


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
        tables_folder: holds ``splits``, ``entities`` and ``relations``; a build's folder does.
        run_folder: made if it is not there.
        seeds: several make one run each below ``run_folder``, and a summary; None takes the recipe's seed.
        resume: go on with what is in ``run_folder``; a finished run is only read.
        progress: called with one line of text now and then.

    Returns:
        The content of ``metrics.json``.

    Raises:
        TrainingError: the folder holds a run already and ``resume`` is off, or one by another recipe or of other
            tables, or training diverges.
        ConfigError: the recipe does not fit the data or the machine.
        ShardError: a table is missing.
    """
    recipe = open_recipe(recipe) if isinstance(recipe, str) else recipe
    chosen = [recipe.random_seed] if seeds is None else list(seeds)
    if not chosen or len(set(chosen)) < len(chosen):
        raise ConfigError(f"seeds must be different numbers, at least one; found {chosen}")
    if len(chosen) == 1:
        recipe = change_recipe(recipe, {"random_seed": chosen[0]})
        return _train_one(recipe, tables_folder, run_folder, resume=resume, progress=progress)
    for seed in chosen:
        folder = run_folder / f"seed-{seed}"
        say = None if progress is None else _prefixed(progress, f"seed {seed}: ")
        one = change_recipe(recipe, {"random_seed": seed})
        _train_one(one, tables_folder, folder, resume=resume and (folder / CONFIG).exists(), progress=say)
    results = [_read_result(run_folder / f"seed-{seed}", tables_folder) for seed in chosen]
    summary = _over_seeds(recipe, chosen, results)
    page = make_report(results, title=f"{recipe.name}, {len(chosen)} seeds", split="test")
    write_bytes(run_folder / REPORT, page.encode())
    write_json(run_folder / METRICS_FILE, summary)
    return summary


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


@dataclass(frozen=True, kw_only=True)
class _Opened:
    recipe: LinkPredictionRecipe
    data: LinkPredictionData
    loop: LinkPredictionLoop
    tables_folder: Path


def _train_one(
    recipe: LinkPredictionRecipe, tables_folder: Path, folder: Path, *, resume: bool, progress: Progress | None
) -> dict[str, Any]:
    check_run_folder(folder, recipe, resume=resume)
    if (folder / METRICS_FILE).exists():
        _say(progress, "this run is finished; its metrics are read")
        return read_json(folder / METRICS_FILE)
    data = read_link_prediction_data(tables_folder, drop_unused=recipe.drop_unused)
    with _opened(recipe, data, tables_folder, progress) as opened:
        loop, path = opened.loop, folder / CHECKPOINT
        folder.mkdir(parents=True, exist_ok=True)
        if resume and path.exists():
            loop.load(read_checkpoint(path), path)
            _say(progress, f"going on after step {loop.position.step:,}")
        else:
            write_json(folder / CONFIG, {"recipe": recipe.model_dump(), "tables": str(tables_folder.resolve())})
        write_json(folder / ENVIRONMENT, _environment(loop))
        for _ in loop.run():
            if loop.best:
                write_checkpoint(folder / BEST, loop.best, {"epoch": loop.position.best_epoch, "data": data.digest()})
            write_checkpoint(path, loop.tensors(), loop.document())
            write_history(folder, loop.position.history)
    result, _ = _evaluate(folder, tables_folder, "test" if len(data.test) else "valid", progress)
    return _finish(folder, result)


def _environment(loop: LinkPredictionLoop) -> dict[str, Any]:
    described = describe_environment(loop.device)
    parameters = sum(parameter.numel() for parameter in loop.model.parameters())
    return described | {
        "products": str(loop.products).removeprefix("torch."),
        "random_seed": loop.recipe.random_seed,
        "parameters": parameters,
    }


@contextmanager
def _opened(
    recipe: LinkPredictionRecipe, data: LinkPredictionData, tables_folder: Path, progress: Progress | None
) -> Iterator[_Opened]:
    """A model with its first vectors drawn by the recipe's seed; torch's threads and generator are put back after."""
    device = choose_device(recipe.device)
    random = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    with random, using_threads(recipe.threads):
        torch.manual_seed(recipe.random_seed)
        model = make_model(recipe, data).to(device)
        loop = LinkPredictionLoop(recipe, data, model, device=device, progress=progress)
        yield _Opened(recipe=recipe, data=data, loop=loop, tables_folder=tables_folder)


def _evaluate(
    folder: Path, tables_folder: Path | None, split: str, progress: Progress | None
) -> tuple[RunResult, LinkPredictionData]:
    """Rank a split with the best model of a run; leaves the ranks in its folder."""
    recipe, tables_folder = read_run_config(folder, tables_folder)
    data = read_link_prediction_data(tables_folder, drop_unused=recipe.drop_unused)
    triples = data.split(split)
    if not len(triples):
        raise ConfigError(f"the split '{split}' of {tables_folder} is empty, so there is nothing to rank")
    best = read_checkpoint(folder / BEST)
    if best.document["data"] != data.digest():
        raise TrainingError(f"{folder}: the tables in {tables_folder} are not those this run was trained on")
    _say(progress, f"ranking {len(triples):,} {split} triples")
    with _opened(recipe, data, tables_folder, progress) as opened:
        load_model(opened.loop.model, best.tensors, folder / BEST)
        ranks = opened.loop.rank(triples)
    write_ranks(folder, split, ranks)
    return _result(folder, recipe, ranks, data, tables_folder), data


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
    recipe, _ = read_run_config(folder, tables_folder)
    data = read_link_prediction_data(tables_folder, drop_unused=recipe.drop_unused)
    split = "test" if len(data.test) else "valid"
    return _result(folder, recipe, read_ranks(folder, split), data, tables_folder)


def _finish(folder: Path, result: RunResult) -> dict[str, Any]:
    """Write plots, report, and metrics last: a folder with ``metrics.json`` is a finished run."""
    document = read_checkpoint(folder / CHECKPOINT).document["position"]
    split = "test" if (folder / "ranks-test.npz").exists() else "valid"
    metrics = _as_json(result, split) | {
        "training": {
            "stopped": document["stopped"],
            "steps": document["step"],
            "minutes": round(document["elapsed_seconds"] / 60, 3),
            "best_epoch": document["best_epoch"],
            "best_valid_mrr": document["best_mrr"] if document["best_mrr"] >= 0 else None,
        }
    }
    write_bytes(folder / CURVE, plot_learning_curves({result.name: result.history}))
    write_bytes(folder / REPORT, make_report([result], title=result.name, split=split).encode())
    write_json(folder / METRICS_FILE, metrics)
    return metrics


def _as_json(result: RunResult, split: str) -> dict[str, Any]:
    return {
        "name": result.name,
        "split": split,
        "random_seed": result.config["random_seed"],
        **result.metrics.as_json(),
        "worst": [vars(example) for example in result.worst],
    }


def _over_seeds(recipe: LinkPredictionRecipe, seeds: Sequence[int], results: Sequence[RunResult]) -> dict[str, Any]:
    values = {name: np.array([result.metrics.both[name].value for result in results]) for name in METRICS}
    return {
        "name": recipe.name,
        "seeds": list(seeds),
        **{
            name: {"mean": float(column.mean()), "standard_deviation": float(column.std(ddof=1))}
            for name, column in values.items()
        },
        "runs": {f"seed-{seed}": result.metrics.as_json() for seed, result in zip(seeds, results, strict=True)},
    }


def _say(progress: Progress | None, line: str) -> None:
    logger.info("%s", line)
    if progress is not None:
        progress(line)


def _prefixed(progress: Progress, prefix: str) -> Progress:
    return lambda line: progress(f"{prefix}{line}")
