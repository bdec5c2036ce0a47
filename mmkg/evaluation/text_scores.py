"""Scores of written texts against references: BLEU, ROUGE, CIDEr, exact match, with intervals, and paired comparisons.

All but BLEU are means of a number of each item. Corpus BLEU is a function of sums of n-gram counts, so each bootstrap
draw has its own sums. Intervals say how much a score would move with other items of the same kind; how much it moves
with the seed of training, only several runs say.

The scores cannot know how a text was made: what a model says when it is shown the right words so far (teacher-forced)
has far higher scores than what it writes alone, and belongs under another name.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mmkg.errors import ConfigError
from mmkg.evaluation.answers import is_exact_match
from mmkg.evaluation.bleu import BLEU_ORDER, NUM_COUNTS, bleu_counts, bleu_of_sums
from mmkg.evaluation.bootstrap import (
    Difference,
    FloatArray,
    Int64Array,
    Interval,
    drawn_sums,
    percentile_interval,
    two_sided_p,
)
from mmkg.evaluation.cider import cider_of_items
from mmkg.evaluation.rouge import rouge_of_items

BLEU_SCORES = tuple(f"bleu_{order}" for order in range(1, BLEU_ORDER + 1))
ITEM_SCORES = ("rouge_1", "rouge_2", "rouge_l", "cider", "exact")
TEXT_SCORES = (*BLEU_SCORES, *ITEM_SCORES)
YEAR = "0000"  # one word to every scorer, and no year itself

_YEAR = re.compile(r"(?<![0-9])(?:1[0-9]{3}|20[0-9]{2})(?![0-9])")
_SHORTEST_CUT = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class TextItems:
    """What each of N items adds to the scores.

    Attributes:
        references: the texts that would be right, of each item.
        bleu_N10: matched n-grams of order 1 to 4, n-grams of order 1 to 4, words of the prediction, words of the
            reference that is nearest in length.
        score_N5: the columns of ``ITEM_SCORES``: F of ROUGE-1, ROUGE-2 and ROUGE-L, CIDEr, exact match.
        cluster_N: items of one cluster are drawn together.
    """

    references: tuple[tuple[str, ...], ...]
    bleu_N10: FloatArray
    score_N5: FloatArray
    cluster_N: Int64Array

    def column(self, name: str) -> FloatArray:
        """Return (N,): one of ``ITEM_SCORES`` of each item."""
        return self.score_N5[:, ITEM_SCORES.index(name)]

    def are_those_of(self, other: "TextItems") -> bool:
        """Whether another run was scored on the same items with the same references and clusters."""
        return self.references == other.references and np.array_equal(self.cluster_N, other.cluster_N)


@dataclass(frozen=True, kw_only=True, eq=False)
class TextScores:
    """All scores of one system's texts.

    Attributes:
        scores: name of ``TEXT_SCORES`` -> corpus score with its interval; 0 to 1, CIDEr 0 to 10.
        items: what they were made of.
        draws: of the bootstrap.
        level: share of the draws that an interval holds.
        random_seed: of the draws.
    """

    scores: Mapping[str, Interval]
    items: TextItems
    draws: int
    level: float
    random_seed: int

    def as_json(self) -> dict[str, Any]:
        """Return the corpus scores by name, and how many items were scored and clusters drawn."""
        return {
            "num_items": len(self.items.references),
            "num_clusters": len(np.unique(self.items.cluster_N)),
            **{name: interval.as_json() for name, interval in self.scores.items()},
            "bootstrap": {"level": self.level, "draws": self.draws, "random_seed": self.random_seed},
        }


def score_texts(
    predictions: Sequence[str],
    references: Sequence[str | Sequence[str]],
    *,
    clusters: Sequence[str] | None = None,
    draws: int = 1000,
    level: float = 0.95,
    random_seed: int = 0,
) -> TextScores:
    """Return BLEU-1 to 4, ROUGE-1, 2 and L, CIDEr and exact match of the predictions of one system.

    BLEU (:func:`bleu_of_sums`): of the corpus, words are what stands between spaces, case counts, no smoothing, 0 to
    1. That is the default of torchmetrics, with which MMGL and Graph4MM report. The default of sacrebleu parts
    punctuation from words (``13a``), smooths orders without a match (``exp``) and goes to 100. Where no prediction has
    n words, or none of their n-grams matches, BLEU-n is 0, even if all texts are right.

    ROUGE (:func:`rouge_of_items`): F, lower-cased, not stemmed; words are runs of a-z and 0-9.

    CIDEr (:func:`cider_of_items`): words weigh by how few items' references hold them, of all references given here.

    Exact match (:func:`is_exact_match`): case, spaces and a final stop laid aside; any of the references.

    Args:
        predictions: one text of each item; a prediction without a word scores 0 everywhere.
        references: of each item the text that would be right, or several of them.
        clusters: of each item; items of one are not independent and are drawn together; "" for one of its own.
        draws: bootstrap draws; 0 makes every interval the value itself.
        level: share of the draws that an interval holds.
        random_seed: of the draws.

    Raises:
        ConfigError: there is no item, counts differ, or an item has no reference or an empty one.
        NotInstalled: the extra ``text`` is missing.
    """
    rights = _checked_references(predictions, references, clusters)
    exact = [_is_exact(said, texts) for said, texts in zip(predictions, rights, strict=True)]
    items = TextItems(
        references=rights,
        bleu_N10=bleu_counts(predictions, rights),
        score_N5=np.column_stack([rouge_of_items(predictions, rights), cider_of_items(predictions, rights), exact]),
        cluster_N=_numbered(clusters, len(rights)),
    )
    scores = _intervals([items], draws=draws, level=level, random_seed=random_seed)
    return TextScores(scores=scores, items=items, draws=draws, level=level, random_seed=random_seed)


def score_groups(whole: TextScores, groups: Mapping[str, npt.ArrayLike]) -> dict[str, TextScores]:
    """Return the scores of parts of the items, such as those with frequent, rare and unseen references.

    CIDEr of an item stays what it is in the whole, so that the parts average to it.

    Args:
        whole: scores of all items.
        groups: name -> N times whether the item belongs to it.

    Raises:
        ConfigError: a group is empty, or does not say yes or no of each item.
    """
    parts = {}
    items = whole.items
    for name, mask in groups.items():
        member_N = np.asarray(mask)
        if member_N.dtype != np.bool_ or member_N.shape != items.cluster_N.shape:
            raise ConfigError(
                f"group '{name}': expected yes or no of each of {len(items.cluster_N)} items, found "
                f"{member_N.dtype} of shape {member_N.shape}"
            )
        if not member_N.any():
            raise ConfigError(f"group '{name}' has no item, so there is nothing to score; leave it out")
        part = TextItems(
            references=tuple(items.references[place] for place in np.flatnonzero(member_N).tolist()),
            bleu_N10=items.bleu_N10[member_N],
            score_N5=items.score_N5[member_N],
            cluster_N=items.cluster_N[member_N],
        )
        scores = _intervals([part], draws=whole.draws, level=whole.level, random_seed=whole.random_seed)
        parts[name] = replace(whole, scores=scores, items=part)
    return parts


def average_runs(
    runs: Sequence[TextScores], *, draws: int = 1000, level: float = 0.95, random_seed: int = 0
) -> dict[str, Interval]:
    """Return the mean over runs of each score; every run has the same items in a draw.

    Args:
        runs: of one system with different seeds of training, at least one.
        draws: bootstrap draws of items, not of runs.
        level: share of the draws that an interval holds.
        random_seed: of the draws.

    Raises:
        ConfigError: there is no run, or they were not scored on the same items.
    """
    return _intervals([run.items for run in runs], draws=draws, level=level, random_seed=random_seed)


def compare_texts(
    first: TextScores, second: TextScores, *, draws: int = 1000, level: float = 0.95, random_seed: int = 0
) -> dict[str, Difference]:
    """Return by how much the first run's scores are higher, item by item: what is hard for both does not blur it.

    Raises:
        ConfigError: the two were not scored on the same items.
    """
    return compare_runs([first], [second], draws=draws, level=level, random_seed=random_seed)


def compare_runs(
    firsts: Sequence[TextScores],
    seconds: Sequence[TextScores],
    *,
    draws: int = 1000,
    level: float = 0.95,
    random_seed: int = 0,
) -> dict[str, Difference]:
    """Return by how much the first system's mean over runs is higher, score by score, on the same drawn items.

    Intervals and p-values know the items, not the seeds: a gap as small as that between runs of one system is none.

    Args:
        firsts: runs of the first system with different seeds of training.
        seconds: of the second; there may be more or fewer.
        draws: bootstrap draws of items.
        level: share of the draws that an interval holds.
        random_seed: of the draws.

    Raises:
        ConfigError: a system has no run, or not all were scored on the same items.
    """
    if firsts and seconds and not firsts[0].items.are_those_of(seconds[0].items):
        raise ConfigError("the two systems were scored on other items or references; score both on the same ones")
    first_S, first_BS = _mean_over_runs([run.items for run in firsts], draws=draws, random_seed=random_seed)
    second_S, second_BS = _mean_over_runs([run.items for run in seconds], draws=draws, random_seed=random_seed)
    return {
        name: Difference(
            difference=percentile_interval(float(value), drawn_B, level=level), p_value=two_sided_p(drawn_B)
        )
        for name, value, drawn_B in zip(TEXT_SCORES, first_S - second_S, (first_BS - second_BS).T, strict=True)
    }


def mask_years(text: str) -> str:
    """Return the text with each number from 1000 to 2099 as "0000": for scores that do not ask for the year.

    >>> mask_years("1998 film, set in the 1920s; 12345 extras")
    '0000 film, set in the 0000s; 12345 extras'
    """
    return _YEAR.sub(YEAR, text)


def cut_sentence(text: str) -> str:
    """Return what stands before the text's first full stop, or all of it where that is one of the first six characters.

    So MMGL, on which Graph4MM builds, cuts predictions, but not references: the full stop of a reference is then a
    difference to BLEU and CIDEr. An early stop ("U.S. city. It") protects all that follows.

    Source: ``evaluate_loop`` in language_modelling/run_generation.py of MMGL, commit 2f28a56.
    """
    stop = text.find(".")
    return text[:stop] if stop > _SHORTEST_CUT else text


def _checked_references(
    predictions: Sequence[str], references: Sequence[str | Sequence[str]], clusters: Sequence[str] | None
) -> tuple[tuple[str, ...], ...]:
    if not len(predictions) and not len(references):
        raise ConfigError("no text was written, so there is nothing to score")
    if len(predictions) != len(references):
        raise ConfigError(
            f"expected one prediction for each item, found {len(predictions)} predictions and {len(references)} "
            "items with references"
        )
    if clusters is not None and len(clusters) != len(predictions):
        raise ConfigError(f"expected a cluster for each of {len(predictions)} items, found {len(clusters)}")
    rights = tuple((texts,) if isinstance(texts, str) else tuple(texts) for texts in references)
    for item, texts in enumerate(rights):
        if not texts or not all(text.split() for text in texts):
            found = "an empty one" if texts else "none"
            raise ConfigError(
                f"item {item} of {len(rights)}, counted from 0: expected references with a word in each, "
                f"found {found}; leave the item out"
            )
    return rights


def _is_exact(said: str, texts: Sequence[str]) -> bool:
    return bool(said.split()) and any(is_exact_match(said, right) for right in texts)


def _numbered(clusters: Sequence[str] | None, count: int) -> Int64Array:
    own = [""] * count
    names = [name or f"\0{place}" for place, name in enumerate(own if clusters is None else clusters)]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _intervals(runs: Sequence[TextItems], *, draws: int, level: float, random_seed: int) -> dict[str, Interval]:
    value_S, drawn_BS = _mean_over_runs(runs, draws=draws, random_seed=random_seed)
    return {
        name: percentile_interval(float(value), drawn_B, level=level)
        for name, value, drawn_B in zip(TEXT_SCORES, value_S, drawn_BS.T, strict=True)
    }


def _mean_over_runs(runs: Sequence[TextItems], *, draws: int, random_seed: int) -> tuple[FloatArray, FloatArray]:
    """(S,) and (B, S): the mean over runs of each score, of all items and of each draw of them."""
    if not runs:
        raise ConfigError("expected one run or more of each system, found none")
    first = runs[0]
    for place, run in enumerate(runs):
        if not run.are_those_of(first):
            raise ConfigError(
                f"run {place} of {len(runs)}, counted from 0, was scored on other items, references or clusters than "
                "the first; score all runs on the same ones"
            )
    each_run = [column for run in runs for column in (run.bleu_N10, run.score_N5)]
    value_NM = np.column_stack([*each_run, np.ones(len(first.cluster_N))])
    drawn_BM = drawn_sums(value_NM, first.cluster_N, draws=draws, random_seed=random_seed)
    return _scores_of_sums(value_NM.sum(axis=0), len(runs)), _scores_of_sums(drawn_BM, len(runs))


def _scores_of_sums(sum_XM: FloatArray, num_runs: int) -> FloatArray:
    """(..., S) out of (..., M): M are the counts and numbers of each run in turn, then the number of items."""
    sum_XRC = sum_XM[..., :-1].reshape(*sum_XM.shape[:-1], num_runs, NUM_COUNTS + len(ITEM_SCORES))
    mean_XR5 = sum_XRC[..., NUM_COUNTS:] / sum_XM[..., -1, None, None]
    bleu_XR4 = bleu_of_sums(sum_XRC[..., :NUM_COUNTS])
    return np.concatenate([bleu_XR4, mean_XR5], axis=-1).mean(axis=-2)
