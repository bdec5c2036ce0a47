"""Retrieval figures: do pictures find their captions, captions their pictures, pictures others of the same thing?

A query may have several right answers: a caption that is true of three pictures has three, a picture has all captions
that are true of it. Recall@k is the share of queries with a right answer among the first k; precision@5 the share of
right ones among the first five (or among as many as there are, where there are fewer). ``chance`` is what a random
order would reach: with n right answers among N candidates, recall@k is 1 - C(N - n, k) / C(N, k). It belongs beside
every figure, since with many right answers it is high.

Intervals are bootstraps over what is shown (all pictures of one flag are drawn together) or over captions; the
candidates stay. They say how much a figure would move with other questions, not with another seed of training.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

import imagehash
import numpy as np
import numpy.typing as npt

from mmkg.evaluation.bootstrap import Interval
from mmkg.training.contrastive.pictures import CaptionedPictures, Int64Array

DEPTHS = (1, 5)
DRAWS, LEVEL = 1000, 0.95
FloatArray = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Figures of one set of queries.

    Attributes:
        num_queries: how many questions were asked.
        num_candidates: how many answers were ranked for each.
        figures: recall_at_1, recall_at_5, precision_at_5 -> value with interval.
        chance: the same figures of a random order.
    """

    num_queries: int
    num_candidates: int
    figures: dict[str, Interval]
    chance: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain dictionaries."""
        figures = {name: value.as_json() | {"chance": self.chance[name]} for name, value in self.figures.items()}
        return {"num_queries": self.num_queries, "num_candidates": self.num_candidates, **figures}


def measure_retrieval(
    score_QC: FloatArray, right_QC: BoolArray, groups: Sequence[str], *, random_seed: int = 0
) -> Retrieval | None:
    """Return the figures of queries by their scores for candidates; equal scores stand in the candidates' order.

    Args:
        score_QC: higher is nearer.
        right_QC: which answers are right; a query without one is left out.
        groups: of each query; queries of a group are drawn together.
        random_seed: of the bootstrap.

    Returns:
        None where no query has a right answer.
    """
    asked = np.flatnonzero(right_QC.any(axis=1))
    if not len(asked):
        return None
    score_QC, right_QC = score_QC[asked], right_QC[asked]
    order_QC = np.argsort(-score_QC, axis=1, kind="stable")[:, : max(DEPTHS)]
    hit_QK = np.take_along_axis(right_QC, order_QC, axis=1)
    num_right = right_QC.sum(axis=1)
    num_candidates = right_QC.shape[1]
    values: dict[str, Float64Array] = {}
    for depth in DEPTHS:
        values[f"recall_at_{depth}"] = np.asarray(hit_QK[:, :depth].any(axis=1), dtype=np.float64)
    values["precision_at_5"] = np.asarray(hit_QK.sum(axis=1) / np.minimum(5, num_right), dtype=np.float64)
    chance = {f"recall_at_{k}": float(np.mean([_chance(n, num_candidates, k) for n in num_right])) for k in DEPTHS}
    chance["precision_at_5"] = float(
        np.mean(num_right * min(5, num_candidates) / num_candidates / np.minimum(5, num_right))
    )
    names = [groups[place] for place in asked.tolist()]
    return Retrieval(
        num_queries=len(asked),
        num_candidates=num_candidates,
        figures=_with_intervals(values, names, random_seed),
        chance=chance,
    )


def _chance(num_right: int, num_candidates: int, depth: int) -> float:
    return 1 - comb(num_candidates - int(num_right), depth) / comb(num_candidates, min(depth, num_candidates))


def _with_intervals(values: dict[str, Float64Array], groups: Sequence[str], random_seed: int) -> dict[str, Interval]:
    names, group_of = np.unique(np.array(groups), return_inverse=True)
    sizes = np.bincount(group_of)
    weights = np.random.default_rng(random_seed).multinomial(len(names), [1 / len(names)] * len(names), size=DRAWS)
    found = {}
    for name, value in values.items():
        sums = np.bincount(group_of, weights=value)
        low, high = np.quantile((weights @ sums) / (weights @ sizes), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        found[name] = Interval(value=float(value.mean()), low=float(low), high=float(high))
    return found


def specific_captions(pictures: CaptionedPictures) -> Int64Array:
    """Return of each picture its most specific caption: the one that is true of fewest pictures, then the longest."""
    share = np.asarray(pictures.truth.sum(axis=0)).ravel()
    best: dict[int, tuple[float, int, int]] = {}
    for caption, picture in enumerate(pictures.picture_of.tolist()):
        key = (float(share[pictures.statement_of[caption]]), -len(pictures.texts[caption]), caption)
        best[picture] = min(best.get(picture, key), key)
    return np.array([best[picture][2] for picture in range(len(pictures.files))], dtype=np.int64)


def one_caption_a_statement(pictures: CaptionedPictures, captions: Int64Array) -> Int64Array:
    """Return the first of these captions for each statement: the queries of text → image."""
    _, first = np.unique(pictures.statement_of[captions], return_index=True)
    return captions[np.sort(first)]


def measure_captions(
    image_PD: FloatArray, text_TD: FloatArray, pictures: CaptionedPictures, captions: Int64Array, *, random_seed: int
) -> dict[str, Any]:
    """Return both directions for some captions, each statement once.

    Args:
        image_PD: unit vectors of the pictures.
        text_TD: unit vectors of ``captions``, one statement each.
        pictures: what is true of what.
        captions: places of captions.
        random_seed: of the bootstrap.
    """
    score_PT = image_PD @ text_TD.T
    right_PT = pictures.truth[:, pictures.statement_of[captions]].toarray().astype(bool)
    texts = [pictures.texts[caption] for caption in captions]
    both = {
        "image_to_text": measure_retrieval(score_PT, right_PT, pictures.shows, random_seed=random_seed),
        "text_to_image": measure_retrieval(score_PT.T, right_PT.T, texts, random_seed=random_seed),
    }
    return {direction: found.as_json() for direction, found in both.items() if found is not None}


def measure_look_alikes(image_PD: FloatArray, pictures: CaptionedPictures, *, random_seed: int) -> dict[str, Any]:
    """Return how often a picture finds the first picture of what it shows, and how often a perceptual hash does.

    The first picture of each thing is a candidate; all others are the queries. Empty where nothing is shown twice. The
    peer is the distance of 64-bit perceptual hashes (`imagehash.phash`), which knows nothing of what a flag is.
    """
    _, firsts = np.unique(np.array(pictures.shows), return_index=True)
    firsts = np.sort(firsts)
    queries = np.setdiff1d(np.arange(len(pictures.files)), firsts)
    if not len(queries):
        return {}
    shows = np.array(pictures.shows)
    right_QC = shows[queries][:, None] == shows[firsts][None, :]
    hash_P64 = np.stack([imagehash.phash(image).hash.ravel() for image in pictures.open_pictures()])
    distance_QC = (hash_P64[queries][:, None, :] != hash_P64[firsts][None, :, :]).sum(axis=2)
    groups = shows[queries].tolist()
    scores = {"model": image_PD[queries] @ image_PD[firsts].T, "perceptual_hash": -distance_QC.astype(np.float32)}
    found = {
        name: measure_retrieval(score, right_QC, groups, random_seed=random_seed) for name, score in scores.items()
    }
    return {name: value.as_json() for name, value in found.items() if value is not None}
