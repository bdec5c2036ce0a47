"""What a kind of recipe is to the command line: which options it needs, what trains it, how its runs are evaluated."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmkg.errors import ConfigError

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Learning:
    """What the command line was told.

    Attributes:
        recipe: its name.
        changes: key=value.
        run_folder: of the run.
        build, data, pictures: what to learn from; None where it was not given.
        seeds: how many.
        resume: go on with what is in the run's folder.
        progress: called with lines of text; None for none.
    """

    recipe: str
    changes: list[str]
    run_folder: Path
    build: str | None
    data: Path | None
    pictures: Path | None
    seeds: int
    resume: bool
    progress: Progress | None


@dataclass(frozen=True, kw_only=True)
class Evaluating:
    """What the command line was told of a run that is there.

    Attributes:
        run_folder: of the run.
        build, data, pictures: where they are now; None is where they were.
        split: None where it was not given.
        against: another run to compare with.
    """

    run_folder: Path
    build: str | None = None
    data: Path | None = None
    pictures: Path | None = None
    split: str | None = None
    against: Path | None = None


Evaluated = tuple[dict[str, Any], Path]  # metrics, and where the report is


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of recipe: which options it needs and may have, and what trains it; how its runs are evaluated.

    Where one of several options is needed, `one_of` names them.
    """

    needs: tuple[str, ...]
    one_of: tuple[str, ...] = ()
    may_have: tuple[str, ...] = ()
    several_seeds: bool = False
    list_recipes: Callable[[], tuple[str, ...]]
    train: Callable[[Learning], dict[str, Any]]
    asked_by: tuple[str, ...]  # options of its evaluation
    evaluate: Callable[[Evaluating], Evaluated]


def given_folder(path: Path | None) -> Path:
    """Return a folder that the command line was given; that it was is checked beforehand."""
    if path is None:  # never: `needs` was checked
        raise ConfigError("a folder is missing")
    return path


def asked_seeds(asked: Learning) -> list[int] | None:
    """Return the seeds, where several were asked for."""
    return list(range(asked.seeds)) if asked.seeds > 1 else None


def evaluated_split(asked: Evaluating, evaluate: Callable[[str], dict[str, Any]]) -> Evaluated:
    """Evaluate the split that was asked for, test unless another was."""
    split = asked.split or "test"
    return evaluate(split), asked.run_folder / f"report-{split}.html"
