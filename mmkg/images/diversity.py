"""Which few of an entity's pictures to keep: good ones that differ from each other."""

import numpy as np
import numpy.typing as npt


def choose_diverse(
    scores: npt.NDArray[np.floating], similarity: npt.NDArray[np.floating], k: int, weight: float
) -> list[int]:
    r"""Choose items one by one, each the best by its score less its likeness to what is chosen already.

    .. math:: \arg\max_{i \notin S} \; (1 - w) \, \mathrm{score}_i - w \max_{j \in S} \mathrm{similarity}_{ij}

    The first has the best score. Of equals, the one that comes first is taken.

    Args:
        scores: (n,), 0 … 1.
        similarity: (n, n), 0 … 1.
        k: how many to choose, at most.
        weight: what difference counts against score: 0 takes the best, 1 the most different.

    Returns:
        Places of the chosen ones, in the order in which they were chosen.

    Source: maximal marginal relevance; Carbonell and Goldstein, SIGIR 1998; their lambda is 1 - weight.
    """
    left = list(range(len(scores)))
    nearest = np.zeros(len(scores))  # likeness of each to the chosen one that it is most like
    chosen: list[int] = []
    while left and len(chosen) < k:
        gains = scores if not chosen else (1 - weight) * scores - weight * nearest
        best = max(left, key=lambda place: (float(gains[place]), -place))
        left.remove(best)
        chosen.append(best)
        nearest = np.maximum(nearest, similarity[best])
    return chosen
