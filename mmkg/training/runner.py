"""From a recipe to a finished folder: what every kind of run does alike, and several seeds of it.

A run's folder holds ``config.json`` (the recipe and where the data are), ``environment.json``, ``metrics.jsonl`` (a row
an epoch), ``checkpoint.safetensors`` (to go on from), ``model.safetensors`` (the best model by valid score; only what
was trained, and beside what: its data, and what was frozen), and at the end ``metrics.json`` with whatever the kind of
run writes beside it. A folder with ``metrics.json`` is a finished run.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from mmkg.errors import ConfigError
from mmkg.shards import write_json
from mmkg.training.checkpoint import BEST, CHECKPOINT, read_checkpoint, write_checkpoint
from mmkg.training.distributed import Processes, join_processes
from mmkg.training.environment import describe_environment
from mmkg.training.learner import KeepsState
from mmkg.training.loop import TrainingLoop
from mmkg.training.recipes import Recipe, change_recipe
from mmkg.training.run_folder import (
    CONFIG,
    ENVIRONMENT,
    METRICS_FILE,
    check_run_folder,
    is_begun,
    read_json,
    write_history,
)
from mmkg.training.tensorboard import writing_events

logger = logging.getLogger(__name__)

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class OpenedRun:
    """A loop that is ready to run, and what is to be known of it later."""

    loop: TrainingLoop
    environment: Mapping[str, Any] = field(default_factory=dict)  # more entries for environment.json


def run_to_end(
    recipe: BaseModel,
    run_folder: Path,
    open_run: Callable[[Processes], AbstractContextManager[OpenedRun]],
    finish: Callable[[TrainingLoop], dict[str, Any]],
    *,
    inputs: Mapping[str, Any],
    resume: bool = False,
    keep_best: bool = True,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train to the end, with checkpoints that a run can go on from, and finish.

    Args:
        recipe: all settings; kept in the folder.
        run_folder: made if it is not there.
        open_run: opens data, model and loop, on the device of this process; what it changed it puts back.
        finish: measures what came out and returns the content of ``metrics.json``, which is written last. Called after
            ``open_run`` has closed, by the first process alone.
        inputs: where the data are, as JSON values; kept beside the recipe.
        resume: go on with what is in the folder; a finished run is only read.
        keep_best: write the best model to a file of its own, whenever there is a better one.
        progress: called with one line of text now and then.

    Returns:
        The content of ``metrics.json``.

    Raises:
        TrainingError: the folder holds a run already and ``resume`` is off, or one by another recipe or of other data,
            or training diverges.
        NotInstalled: the settings ask for TensorBoard's files and it is not there.
    """
    processes = join_processes()
    progress = progress if processes.is_first else None
    check_run_folder(run_folder, recipe, resume=resume)
    # gathered, not sent by the first: so nobody writes before all have checked
    finished = processes.gather((run_folder / METRICS_FILE).exists())[0]
    if finished:
        say(progress, "this run is finished; its metrics are read")
        return read_json(run_folder / METRICS_FILE)
    with open_run(processes) as opened:
        _train(opened, recipe, run_folder, inputs, resume=resume, keep_best=keep_best, progress=progress)
        loop = opened.loop
    metrics: dict[str, Any] = {}
    if processes.is_first:
        metrics = finish(loop)
        write_json(run_folder / METRICS_FILE, metrics)
    return processes.from_first(metrics)


def run_seeds(
    recipe: Recipe,
    run_folder: Path,
    seeds: Sequence[int],
    train_one: Callable[[Recipe, Path, bool, Progress | None], dict[str, Any]],
    summarise: Callable[[Sequence[Path]], dict[str, Any]],
    *,
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run a recipe with each of these seeds, and sum up what they have in common.

    Args:
        recipe: has a setting ``random_seed``.
        run_folder: of the one seed; of several it holds a folder each, ``seed-0``, ``seed-1``, …
        seeds: at least one.
        train_one: trains by (recipe, folder, resume, progress) and returns the content of its ``metrics.json``.
        summarise: returns the content of the ``metrics.json`` beside the folders, given them in the order of the seeds.
        resume: go on with seeds that were begun; those that were not are begun.
        progress: called with one line of text now and then.

    Raises:
        ConfigError: seeds are missing or repeated.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds must be different numbers, at least one; found {list(seeds)}")
    if len(seeds) == 1:
        return train_one(change_recipe(recipe, {"random_seed": seeds[0]}), run_folder, resume, progress)
    folders = [run_folder / f"seed-{seed}" for seed in seeds]
    for seed, folder in zip(seeds, folders, strict=True):
        one = change_recipe(recipe, {"random_seed": seed})
        say_seed = None if progress is None else _prefixed(progress, f"seed {seed}: ")
        train_one(one, folder, resume and is_begun(folder), say_seed)
    processes = join_processes()
    summary: dict[str, Any] = {}
    if processes.is_first:
        summary = summarise(folders)
        write_json(run_folder / METRICS_FILE, summary)
    return processes.from_first(summary)


def over_seeds(values: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    """Return mean and standard deviation (of a sample: over n − 1) of each figure's values, one for each seed."""
    columns = {name: np.array(column) for name, column in values.items()}
    return {
        name: {"mean": float(column.mean()), "standard_deviation": float(column.std(ddof=1))}
        for name, column in columns.items()
    }


def training_summary(loop: TrainingLoop) -> dict[str, Any]:
    """Return how training went, for ``metrics.json``: why it ended, how long it took, which model is the best."""
    position = loop.position
    return {
        "stopped": position.stopped,
        "steps": position.step,
        "minutes": round(position.elapsed_seconds / 60, 3),
        "best_epoch": position.best_epoch,
    }


def say(progress: Progress | None, line: str) -> None:
    """Log a line, and tell it to whoever listens."""
    logger.info("%s", line)
    if progress is not None:
        progress(line)


def _train(
    opened: OpenedRun,
    recipe: BaseModel,
    run_folder: Path,
    inputs: Mapping[str, Any],
    *,
    resume: bool,
    keep_best: bool,
    progress: Progress | None,
) -> None:
    loop, path = opened.loop, run_folder / CHECKPOINT
    writes = loop.processes.is_first
    begun = loop.processes.from_first(resume and path.exists())
    if begun:
        loop.load(read_checkpoint(path), path)
        say(progress, f"going on after step {loop.position.step:,}")
    kept = -1.0  # the epoch of the best model that is on disk
    with writing_events(run_folder, wanted=writes and loop.settings.tensorboard) as write_events:
        if writes:
            run_folder.mkdir(parents=True, exist_ok=True)
            if not begun:
                write_json(run_folder / CONFIG, {"recipe": recipe.model_dump(), **inputs})
            write_json(run_folder / ENVIRONMENT, _environment(opened))
        for position in loop.run():
            tensors = loop.tensors()  # asks all processes for their generators
            if not writes:
                continue
            if keep_best and loop.best and position.best_epoch != kept:
                kept = position.best_epoch
                write_checkpoint(run_folder / BEST, loop.best, {"epoch": kept, **_belongs_to(loop)})
            write_checkpoint(path, tensors, loop.document())
            write_history(run_folder, position.history)
            write_events(position.history)


def _belongs_to(loop: TrainingLoop) -> dict[str, Any]:
    """What a model must find again: its data, and what its learner keeps, such as digests of what was frozen."""
    kept = {"learner": dict(loop.learner.state())} if isinstance(loop.learner, KeepsState) else {}
    return {"data": loop.learner.digest, **kept}


def _environment(opened: OpenedRun) -> dict[str, Any]:
    loop = opened.loop
    state = loop.learner.state() if isinstance(loop.learner, KeepsState) else {}
    return {
        **describe_environment(loop.device),
        "processes": loop.processes.count,
        "random_seed": loop.settings.random_seed,
        "parameters": sum(parameter.numel() for parameter in loop.model.parameters()),
        "trained_parameters": sum(p.numel() for p in loop.model.parameters() if p.requires_grad),
        **state,
        **opened.environment,
    }


def _prefixed(progress: Progress, prefix: str) -> Progress:
    return lambda line: progress(f"{prefix}{line}")
