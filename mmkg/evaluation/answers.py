"""Scores of answers to questions: the share that is right, with an interval, and what went wrong.

Where there are choices, an answer is right when its choice is. Else it is right when it is the answer word for word,
after case, spaces and a final stop are laid aside (`exact match`); of free text that is a lower bound.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mmkg.errors import ConfigError
from mmkg.evaluation.bootstrap import Interval, cluster_interval

_STOPS = ".!?"


@dataclass(frozen=True, kw_only=True)
class GivenAnswer:
    """What a model answered to one question.

    Attributes:
        key: of the question.
        question: its text.
        right: what should have been said.
        given: what was said, or the choice that was taken.
        is_right: whether that is right.
        choice: number of the choice that was taken; None where there were none.
        num_choices: how many there were, 0 for a free answer.
        cluster: questions of one cluster are not independent; "" for one of its own.
    """

    key: str
    question: str
    right: str
    given: str
    is_right: bool
    choice: int | None = None
    num_choices: int = 0
    cluster: str = ""


@dataclass(frozen=True, kw_only=True)
class AnswerScore:
    """How many answers were right.

    Attributes:
        accuracy: 0 to 1.
        chance: what guessing would reach where every question has choices; None otherwise.
        num_questions: that were asked.
        num_right: of them.
        draws: of the bootstrap.
        random_seed: of the draws.
    """

    accuracy: Interval
    chance: float | None
    num_questions: int
    num_right: int
    draws: int
    random_seed: int

    def as_json(self) -> dict[str, Any]:
        """Return everything by name."""
        return asdict(self)


def score_answers(answers: Sequence[GivenAnswer], *, draws: int = 1000, random_seed: int = 0) -> AnswerScore:
    """Return the share of right answers; questions of one cluster are drawn together.

    Raises:
        ConfigError: there is no answer.
    """
    if not answers:
        raise ConfigError("no question was asked, so there is nothing to score")
    right_N = np.array([answer.is_right for answer in answers], np.float64)
    names = [answer.cluster or f"\0{place}" for place, answer in enumerate(answers)]
    _, cluster_N = np.unique(names, return_inverse=True)
    counts = [answer.num_choices for answer in answers]
    return AnswerScore(
        accuracy=cluster_interval(right_N, cluster_N.astype(np.int64), draws=draws, random_seed=random_seed),
        chance=float(np.mean([1 / count for count in counts])) if all(counts) else None,
        num_questions=len(answers),
        num_right=int(right_N.sum()),
        draws=draws,
        random_seed=random_seed,
    )


def is_exact_match(given: str, right: str) -> bool:
    """Whether two answers are one, but for case, spaces and a final stop.

    >>> is_exact_match(" A  dog.", "a dog"), is_exact_match("a dog", "dog")
    (True, False)
    """
    return _plain(given) == _plain(right)


def failed_answers(answers: Sequence[GivenAnswer], *, count: int = 10) -> list[GivenAnswer]:
    """Return the first wrong answers, at even distances among all wrong ones."""
    wrong = [answer for answer in answers if not answer.is_right]
    places = np.linspace(0, len(wrong) - 1, min(count, len(wrong))).astype(int)
    return [wrong[place] for place in places.tolist()]


def _plain(text: str) -> str:
    return " ".join(text.split()).rstrip(_STOPS).strip().casefold()
