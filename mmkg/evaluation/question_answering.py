"""ScienceQA's nine columns, each with its number of problems and an interval; two runs on the same problems; baselines.

NAT, SOC and LAN are the subjects; TXT are the problems with a hint, IMG those with a picture, NO those with neither:
TXT and IMG overlap, and every problem is in one of the three at least. G1-6 and G7-12 are grades. AVG is over all
problems, not over columns. A problem without a choice that could be read is wrong, and counted apart.

Source: ``tools/evaluate_acc.py`` of https://github.com/lupantech/ScienceQA (Lu et al., NeurIPS 2022, arXiv:2209.09513).
It scores the whole test split only; a column without problems, which it cannot divide, has no accuracy here.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mmkg.errors import ConfigError, DumpError
from mmkg.evaluation.bootstrap import (
    Difference,
    FloatArray,
    Int64Array,
    Interval,
    cluster_interval,
    paired_cluster_difference,
)
from mmkg.tasks.json_files import read_json_object
from mmkg.tasks.scienceqa import Problem

Cluster = Literal["problem", "skill"]

_LAST_OF_PRIMARY = 6  # grade
_IN_COLUMN: Mapping[str, Callable[[Problem], bool]] = {
    "NAT": lambda problem: problem.subject == "natural science",
    "SOC": lambda problem: problem.subject == "social science",
    "LAN": lambda problem: problem.subject == "language science",
    "TXT": lambda problem: bool(problem.hint),
    "IMG": lambda problem: problem.image is not None,
    "NO": lambda problem: not problem.hint and problem.image is None,
    "G1-6": lambda problem: problem.grade <= _LAST_OF_PRIMARY,
    "G7-12": lambda problem: problem.grade > _LAST_OF_PRIMARY,
    "AVG": lambda _: True,
}
COLUMNS = tuple(_IN_COLUMN)


@dataclass(frozen=True, kw_only=True)
class ColumnScore:
    """Accuracy over the problems of a column.

    Attributes:
        accuracy: share of right choices, 0 to 1; None where the column has no problem.
        num_problems: of the column.
        num_right: choices that are the answer.
        num_unanswered: problems without a choice: wrong.
    """

    accuracy: Interval | None
    num_problems: int
    num_right: int
    num_unanswered: int

    def as_json(self) -> dict[str, Any]:
        """Return everything by name."""
        return {
            "accuracy": self.accuracy.as_json() if self.accuracy else None,
            "num_problems": self.num_problems,
            "num_right": self.num_right,
            "num_unanswered": self.num_unanswered,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class ScienceQaScore:
    """What one run got right.

    Attributes:
        columns: a score for each of `COLUMNS`, in that order.
        problems: what was scored.
        right_N: whether each of them was answered right.
        cluster: what was drawn as one in the bootstrap.
        level: what share of bootstrap draws the intervals hold.
        draws: how many bootstrap draws were made.
        random_seed: of the draws.
    """

    columns: Mapping[str, ColumnScore]
    problems: tuple[Problem, ...]
    right_N: npt.NDArray[np.bool_]
    cluster: Cluster
    level: float
    draws: int
    random_seed: int

    def as_json(self) -> dict[str, Any]:
        """Return the columns, and how the intervals were made, as plain dictionaries."""
        return {
            "columns": {name: score.as_json() for name, score in self.columns.items()},
            "bootstrap": {
                "level": self.level,
                "draws": self.draws,
                "random_seed": self.random_seed,
                "unit": self.cluster,
            },
        }


def score_scienceqa(
    problems: Sequence[Problem],
    chosen: Mapping[str, int | None],
    *,
    cluster: Cluster = "problem",
    draws: int = 1000,
    level: float = 0.95,
    random_seed: int = 0,
) -> ScienceQaScore:
    """Return the nine columns.

    Args:
        problems: of one split, or of several.
        chosen: by pid, the index that was chosen, or None where none could be read. Other pids are not looked at.
        cluster: what is drawn as one. Problems of a skill come from one template, so "skill" says how far the numbers
            would move with other skills; its intervals are wider. "problem" is what is usually told.
        draws: bootstrap draws; 0 makes every interval the value itself.
        level: share of the draws that an interval holds, its ends are percentiles.
        random_seed: of the draws.

    Raises:
        ConfigError: there is no problem, one of them is not in `chosen`, or a choice is none of its problem's.
    """
    if not problems:
        raise ConfigError("no problem was given, so there is nothing to score")
    _check_chosen(problems, chosen)
    right_N = np.array([chosen[problem.pid] == problem.answer for problem in problems])
    silent_N = np.array([chosen[problem.pid] is None for problem in problems])
    cluster_N = _clusters(problems, cluster)
    columns = {}
    for name, in_N in _columns(problems).items():
        accuracy = None
        if in_N.any():
            accuracy = cluster_interval(
                right_N[in_N].astype(np.float64), cluster_N[in_N], draws=draws, level=level, random_seed=random_seed
            )
        columns[name] = ColumnScore(
            accuracy=accuracy,
            num_problems=int(in_N.sum()),
            num_right=int(right_N[in_N].sum()),
            num_unanswered=int(silent_N[in_N].sum()),
        )
    return ScienceQaScore(
        columns=columns,
        problems=tuple(problems),
        right_N=right_N,
        cluster=cluster,
        level=level,
        draws=draws,
        random_seed=random_seed,
    )


def compare_scienceqa(first: ScienceQaScore, second: ScienceQaScore) -> dict[str, Difference | None]:
    """Return by how much the first run is better, by column, problem by problem; None for a column without problems.

    Unit, level, draws and seed of the bootstrap are those of the first score.

    Raises:
        ConfigError: the two did not score the same problems in the same order.
    """
    pids = [[problem.pid for problem in score.problems] for score in (first, second)]
    if pids[0] != pids[1]:
        apart = sorted(set(pids[0]) ^ set(pids[1]))
        which = f"for example {apart[0]} in one only" if apart else "in another order"
        raise ConfigError(f"the two runs scored different problems, {which}; score both on the same problems")
    first_N, second_N = first.right_N.astype(np.float64), second.right_N.astype(np.float64)
    cluster_N = _clusters(first.problems, first.cluster)
    return {
        name: paired_cluster_difference(
            first_N[in_N],
            second_N[in_N],
            cluster_N[in_N],
            draws=first.draws,
            level=first.level,
            random_seed=first.random_seed,
        )
        if in_N.any()
        else None
        for name, in_N in _columns(first.problems).items()
    }


def read_results(path: Path) -> dict[str, int | None]:
    """Read a file of results in the official form: an object whose ``results`` gives an index by pid.

    Indices may be texts, as the official script allows; null and -1, which some models' scripts write where they could
    read no answer, become None. What else the file holds (accuracy, prompts, outputs) is not read.

    Raises:
        DumpError: the file is missing, cut, or not of that form.
    """
    results = read_json_object(path).get("results")
    if not isinstance(results, dict):
        raise DumpError(f"{path}: expected 'results', an object of indices by pid, found none. It is another file.")
    chosen: dict[str, int | None] = {}
    for pid, value in results.items():
        try:
            # True and 1.5 are no indices, though int() takes them
            index = -1 if value is None else int(value) if type(value) in (int, str) else None
        except ValueError:
            index = None
        if index is None or index < -1:
            raise DumpError(f"{path}, pid {pid}: expected the index of a choice, -1 or null, found {value!r}.")
        chosen[pid] = None if index == -1 else index
    return chosen


def choice_frequency(train: Sequence[Problem], problems: Sequence[Problem]) -> dict[str, int]:
    """Answer each problem by the place that is most often right among train problems with as many choices.

    Of places that are as often right, the first is taken; so is the very first place where no train problem has as many
    choices. What a model adds to this, it has from the question.
    """
    places: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for problem in train:
        places[len(problem.choices)][problem.answer] += 1
    best = {count: min(found, key=lambda place: (-found[place], place)) for count, found in places.items()}
    return {problem.pid: best.get(len(problem.choices), 0) for problem in problems}


def random_expectation(problems: Sequence[Problem]) -> dict[str, float | None]:
    """Accuracy of guessing, by column: the mean of 1 / number of choices, None where it is empty."""
    chance_N: FloatArray = np.array([1 / len(problem.choices) for problem in problems])
    return {name: float(chance_N[in_N].mean()) if in_N.any() else None for name, in_N in _columns(problems).items()}


def _columns(problems: Sequence[Problem]) -> dict[str, npt.NDArray[np.bool_]]:
    return {
        name: np.array([belongs(problem) for problem in problems], dtype=np.bool_)
        for name, belongs in _IN_COLUMN.items()
    }


def _clusters(problems: Sequence[Problem], cluster: Cluster) -> Int64Array:
    if cluster == "problem":
        return np.arange(len(problems))
    _, cluster_N = np.unique([problem.skill for problem in problems], return_inverse=True)
    return cluster_N.astype(np.int64)


def _check_chosen(problems: Sequence[Problem], chosen: Mapping[str, int | None]) -> None:
    absent = [problem.pid for problem in problems if problem.pid not in chosen]
    if absent:
        more = f" and {len(absent) - 1:,} more" if len(absent) > 1 else ""
        raise ConfigError(
            f"pid {absent[0]}{more}: expected a choice for each of {len(problems):,} problems, found none. "
            "Give None for a problem that was asked and not answered."
        )
    for problem in problems:
        index = chosen[problem.pid]
        if index is not None and not 0 <= index < len(problem.choices):
            raise ConfigError(f"pid {problem.pid}: expected a choice of 0 to {len(problem.choices) - 1}, found {index}")
