"""The files of a run: what they are called, how they are written, and how they come back."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from mmkg.errors import TrainingError
from mmkg.evaluation.link_prediction import Ranks
from mmkg.shards import write_bytes
from mmkg.training.recipes import Recipe

CONFIG = "config.json"
ENVIRONMENT = "environment.json"
HISTORY = "metrics.jsonl"
METRICS_FILE = "metrics.json"
CURVE = "learning_curve.png"
REPORT = "report.html"

_RANK_ARRAYS = ("triples", "optimistic", "pessimistic", "num_candidates")


def read_run_config(folder: Path, recipe: type[Recipe]) -> tuple[Recipe, dict[str, Any]]:
    """Return a run's recipe, and everything that was written beside it.

    Raises:
        TrainingError: there is no run in the folder.
    """
    config = read_config(folder)
    return recipe(**config["recipe"]), config


def read_config(folder: Path) -> dict[str, Any]:
    """Return what a run's recipe was, as JSON values, and everything that was written beside it.

    Raises:
        TrainingError: there is no run in the folder.
    """
    if not (folder / CONFIG).exists():
        seeds = sorted(path.name for path in folder.glob("seed-*"))
        hint = f" It holds runs of several seeds: choose one of {', '.join(seeds)}." if seeds else ""
        raise TrainingError(f"{folder}: no run here ({CONFIG} is missing).{hint}")
    return read_json(folder / CONFIG)


def is_begun(folder: Path) -> bool:
    """Say whether a folder holds a run, or in a folder of its own a stage of one."""
    return (folder / CONFIG).exists() or any(folder.glob(f"*/{CONFIG}"))


def check_run_folder(folder: Path, recipe: BaseModel, *, resume: bool) -> None:
    """Refuse to write over a run, and to go on with one under other settings.

    Raises:
        TrainingError: the folder holds a run and ``resume`` is off, or none or one of another recipe and it is on.
    """
    if not (folder / CONFIG).exists():
        if resume:
            raise TrainingError(f"{folder}: no run here to go on with. Leave out resume to start one.")
        return
    if not resume:
        raise TrainingError(f"{folder}: holds a run already. Go on with it (resume), or choose another folder.")
    before, now = read_json(folder / CONFIG)["recipe"], json.loads(recipe.model_dump_json())
    differ = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if differ:
        changes = ", ".join(f"{key}: {before.get(key)!r} then, {now.get(key)!r} now" for key in differ)
        raise TrainingError(f"{folder}: this run was begun with other settings ({changes}); start a new one")


def write_ranks(folder: Path, split: str, ranks: Ranks) -> None:
    """Keep the ranks of a split, for comparisons triple by triple."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: getattr(ranks, name) for name in _RANK_ARRAYS})
    write_bytes(folder / f"ranks-{split}.npz", buffer.getvalue())


def read_ranks(folder: Path, split: str) -> Ranks:
    """Return the ranks that a run left of a split.

    Raises:
        TrainingError: it left none.
    """
    path = folder / f"ranks-{split}.npz"
    if not path.exists():
        raise TrainingError(f"{path}: no ranks here; evaluate the run on '{split}' first")
    with np.load(path) as arrays:
        return Ranks(**{name: arrays[name] for name in _RANK_ARRAYS})


def write_history(folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows of ``metrics.jsonl``, all of them: after a resume there are none of what was lost."""
    write_bytes(folder / HISTORY, "".join(json.dumps(row) + "\n" for row in history).encode())


def read_history(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of ``metrics.jsonl``, none if there is no such file."""
    path = folder / HISTORY
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file of ours holds."""
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value
