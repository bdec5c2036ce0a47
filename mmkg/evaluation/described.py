"""Describing entities without a model: what the commonest text, a neighbour's text and the medoid of alike ones reach.

A reasoner's score says something only beside these: an entity's description often stands word for word on others of
its kind. Source: none; the medoid is the strongest control without learning that we know of.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mmkg.errors import ConfigError
from mmkg.evaluation.rouge import rouge_of_items
from mmkg.evaluation.text_scores import ITEM_SCORES
from mmkg.subgraphs.alike import most_alike, pairs_of

Ints = NDArray[np.int64]
FREQUENT = 10
"""A description is frequent if at least so many train entities have it, rare if fewer have, unseen if none has."""
NUM_ALIKE = 10


def describe_without_model(
    triples: Ints, num_relations: int, shown: Sequence[str | None], asked: Ints
) -> dict[str, list[str]]:
    """Return what each control says of the entities that are asked about, by its name.

    ``commonest``: the description that most entities have. ``most alike``: that of the entity with the highest Jaccard
    index over (relation, neighbour) pairs. ``medoid``: of the descriptions of the 10 most alike, the one with the
    highest mean ROUGE-L to the others; ``medoid, rare pairs count more`` weighs a pair by log(N / entities that have
    it). Where nothing is alike, the commonest is said.

    Args:
        triples: (T, 3) facts.
        num_relations: R.
        shown: (N,) descriptions that may be used; None where one is hidden or there is none.
        asked: entities; theirs must be hidden.

    Raises:
        ConfigError: no description is shown, or one of an entity that is asked about is.
    """
    known = np.array([at for at, text in enumerate(shown) if text is not None], dtype=np.int64)
    if not len(known):
        raise ConfigError("no description is shown, so there is nothing to say")
    if (seen := np.intersect1d(known, asked)).size:
        raise ConfigError(f"the description of entity {int(seen[0])} is shown and asked for; hide it")
    text_of = {at: str(shown[at]) for at in known.tolist()}
    commonest = Counter(text_of.values()).most_common(1)[0][0]
    pairs = pairs_of(triples, len(shown), num_relations)
    rarity = np.log(len(shown) / np.maximum(np.asarray(pairs.sum(axis=0)).ravel(), 1))
    said: dict[str, list[str]] = {"commonest": [commonest] * len(asked)}
    for name, weight in (("", None), (", rare pairs count more", rarity)):
        alike, _ = most_alike(pairs, asked, known, NUM_ALIKE, weight=weight)
        texts = [[text_of[one] for one in row if one >= 0] for row in alike.tolist()]
        if not name:
            said["most alike"] = [row[0] if row else commonest for row in texts]
        said[f"medoid{name}"] = _medoids(texts, commonest)
    return said


def group_descriptions(right: Sequence[str], counts: Mapping[str, int]) -> dict[str, NDArray[np.bool_]]:
    """Return which items have a description that is frequent, rare or unseen in train."""
    count_N = np.array([counts.get(text, 0) for text in right])
    return {"frequent": count_N >= FREQUENT, "rare": (count_N > 0) & (count_N < FREQUENT), "unseen": count_N == 0}


def _medoids(texts: Sequence[Sequence[str]], otherwise: str) -> list[str]:
    pairs = [(one, other) for row in texts for one in set(row) for other in set(row)]
    unique = list(dict.fromkeys(pairs))
    column = ITEM_SCORES.index("rouge_l")
    scores = rouge_of_items([one for one, _ in unique], [[other] for _, other in unique])[:, column]
    likeness = dict(zip(unique, scores.tolist(), strict=True))
    medoids = []
    for row in texts:
        totals = [sum(likeness[one, other] for other in row) for one in row]
        medoids.append(row[int(np.argmax(totals))] if row else otherwise)
    return medoids
