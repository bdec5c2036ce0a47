"""CIDEr: how much of what is special about an item's references is in its prediction.

Words and word groups weigh by how few items' references hold them. So CIDEr of one item depends on which other items
are evaluated with it, and a mean over a part of them is not what that part alone would score.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmkg.errors import ConfigError, unknown_name
from mmkg.evaluation.bootstrap import FloatArray

MAX_ORDER = 4
SIGMA = 6.0  # words of difference in length that are forgiven
VARIANTS = ("cider-d", "cider")
_SCALE = 10.0

NGram = tuple[str, ...]


@dataclass(frozen=True)
class _Vector:
    """A text as weights of its n-grams of all orders, with the length of each order's part and its words."""

    weights: dict[NGram, float]
    norms: list[float]
    num_words: int


def cider_of_items(
    predictions: Sequence[str], references: Sequence[Sequence[str]], *, variant: str = "cider-d"
) -> FloatArray:
    r"""Return (N,): CIDEr of each item, 0 to 10; their mean is that of the corpus.

    .. math::
        \mathrm{CIDEr\text{-}D}(c, S) = \frac{10}{4 m} \sum_{n=1}^{4} \sum_{s \in S}
        e^{-(l_c - l_s)^2 / 2 \sigma^2}\,
        \frac{\min(g^n_c, g^n_s) \cdot g^n_s}{\lVert g^n_c \rVert \lVert g^n_s \rVert}, \quad
        g^n_t(w) = h_t(w) \log \frac{N}{\max(1, d(w))}

    with :math:`m` the references of the item, :math:`h_t(w)` how often the n-gram w stands in the text t,
    :math:`d(w)` the items with w in a reference, :math:`l` the number of words and :math:`\sigma` = 6.
    ``cider`` is the paper's first form, without the minimum and without the penalty of length.

    What it leads to: an item whose prediction is its reference word for word has 10 only if it has four words or more
    and none of the four orders consists of n-grams that every item has; two words have 5. Of one item alone the score
    is 0, whatever was said: nothing is special there.

    Args:
        predictions: one text of each item; without any word it scores 0.
        references: the texts that would be right, at least one of each item.
        variant: ``cider-d``, which published tables call CIDEr, or ``cider``.

    Raises:
        ConfigError: there is no item, an item has no reference, the counts differ, or no variant is called so.

    Source: Vedantam et al., CVPR 2015, arXiv:1411.5726, equations 1 to 4. As the released scorer (``CiderScorer`` of
    pycocoevalcap 1.2, which MMGL and Graph4MM carry along) we count n-grams and do not divide by their number, which
    matters to the minimum, and scale by 10 in both variants. Words are what stands between spaces, neither stemmed
    nor lower-cased, as in Graph4MM; the paper stems.
    """
    if variant not in VARIANTS:
        raise ConfigError(unknown_name("variant of CIDEr", variant, VARIANTS))
    if not len(predictions) or len(predictions) != len(references) or not all(references):
        raise ConfigError(
            f"CIDEr is of one item or more with one prediction and at least one reference each; found "
            f"{len(predictions)} predictions, {len(references)} items of references, "
            f"{sum(not texts for texts in references)} of them without any"
        )
    reference_counts = [[_count(text) for text in texts] for texts in references]
    num_items_with = Counter(
        gram for counts in reference_counts for gram in {gram for count in counts for gram in count}
    )
    value_N = np.zeros(len(predictions))
    for item, (prediction, counts) in enumerate(zip(predictions, reference_counts, strict=True)):
        said = _weigh(_count(prediction), num_items_with, len(predictions))
        rights = [_weigh(count, num_items_with, len(predictions)) for count in counts]
        value_N[item] = _SCALE * sum(_similarity(said, right, variant) for right in rights) / len(rights)
    return value_N


def _count(text: str) -> Counter[NGram]:
    words = text.split()
    return Counter(tuple(words[i : i + n]) for n in range(1, MAX_ORDER + 1) for i in range(len(words) - n + 1))


def _weigh(count: Counter[NGram], num_items_with: Counter[NGram], num_items: int) -> _Vector:
    weights = {gram: times * math.log(num_items / max(1, num_items_with[gram])) for gram, times in count.items()}
    squares = [0.0] * MAX_ORDER
    for gram, weight in weights.items():
        squares[len(gram) - 1] += weight**2
    num_words = sum(times for gram, times in count.items() if len(gram) == 1)
    return _Vector(weights, [math.sqrt(square) for square in squares], num_words)


def _similarity(said: _Vector, right: _Vector, variant: str) -> float:
    """0 to 1: the mean over orders; an order that one of the two texts does not have, or without weight, counts 0."""
    products = [0.0] * MAX_ORDER
    for gram, weight in said.weights.items():
        right_weight = right.weights.get(gram, 0.0)
        products[len(gram) - 1] += (min(weight, right_weight) if variant == "cider-d" else weight) * right_weight
    norms = [a * b for a, b in zip(said.norms, right.norms, strict=True)]
    cosines = [product / norm if norm else 0.0 for product, norm in zip(products, norms, strict=True)]
    apart = said.num_words - right.num_words
    penalty = math.exp(-(apart**2) / (2 * SIGMA**2)) if variant == "cider-d" else 1.0
    return penalty * sum(cosines) / MAX_ORDER
