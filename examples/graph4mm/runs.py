"""Many runs of one recipe with other settings and seeds: several at a time, a folder each, finished ones only read."""

import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from mmkg.training.reasoning.describing.recipe import open_describing_recipe
from mmkg.training.reasoning.describing.run import train_descriptions
from mmkg.training.reasoning.paths import open_path_recipe, train_paths
from mmkg.training.run_folder import METRICS_FILE, is_begun, read_json


@dataclass(frozen=True)
class Asked:
    """One run: a recipe's name, its settings and its folder; describing learns from files."""

    recipe: str
    settings: tuple[tuple[str, Any], ...]
    folder: Path
    data: Path | None = None


def train_all(asked: Sequence[Asked], *, jobs: int, say: Callable[[str], None] = print) -> dict[Path, dict[str, Any]]:
    """Train what is not finished, so many at a time, each in a process of its own; return the metrics by folder."""
    found = {one.folder: read_json(one.folder / METRICS_FILE) for one in asked if _finished(one)}
    left = [one for one in asked if one.folder not in found]
    if jobs <= 1:
        done = ((one, train_one(one)) for one in left)
    else:
        pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))
        waiting = {pool.submit(train_one, one): one for one in left}
        done = ((waiting[future], future.result()) for future in as_completed(waiting))
    for one, metrics in done:
        found[one.folder] = metrics
        say(f"{one.folder}: {len(found)} of {len(asked)} runs")
        sys.stdout.flush()
    return {one.folder: found[one.folder] for one in asked}


def train_one(asked: Asked) -> dict[str, Any]:
    """Train one run, or go on with it."""
    settings: Mapping[str, Any] = dict(asked.settings)
    resume = is_begun(asked.folder)
    if asked.recipe.startswith("graph4mm/paths"):
        return train_paths(open_path_recipe(asked.recipe, settings), asked.folder, resume=resume)
    recipe = open_describing_recipe(asked.recipe, settings)
    return train_descriptions(recipe, asked.folder, data_folder=asked.data, resume=resume)


def _finished(asked: Asked) -> bool:
    return (asked.folder / METRICS_FILE).exists()
