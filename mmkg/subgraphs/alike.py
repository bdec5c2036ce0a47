r"""Which entities stand alike in a graph: those that share many (relation, neighbour) pairs.

.. math:: J(a, b) = \frac{|P_a \cap P_b|}{|P_a \cup P_b|}

with :math:`P_a` the pairs (relation with its direction, neighbour) of entity a. Two alike entities are two hops apart
or not tied at all: a cap that keeps nodes by hop alone would lose them among all others.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]

_ROWS_AT_ONCE = 512


def pairs_of(triples: Ints, num_entities: int, num_relations: int) -> sparse.csr_array:
    """Return a 0/1 matrix (N, pairs): which (relation, direction, neighbour) pairs each entity has.

    Args:
        triples: (T, 3) head, relation, tail.
        num_entities: N.
        num_relations: R.
    """
    head, relation, tail = triples.T
    entity = np.concatenate([head, tail])
    pair = np.concatenate([relation * num_entities + tail, (num_relations + relation) * num_entities + head])
    _, column = np.unique(pair, return_inverse=True)
    shape = (num_entities, int(column.max()) + 1 if len(column) else 0)
    found = sparse.csr_array((np.ones(len(entity)), (entity, column)), shape=shape)
    found.data[:] = 1.0  # a triple that comes twice is one
    return found


def most_alike(
    pairs: sparse.csr_array, asked: Ints, among: Ints, count: int, *, weight: Doubles | None = None
) -> tuple[Ints, Doubles]:
    """Return for each entity the most alike others, the most alike first; (A, count) numbers and likenesses.

    An entity is never like itself; where fewer share a pair with it, the number is -1 and the likeness 0. Of equals
    the one with the lower number comes first.

    Args:
        pairs: of all entities, see :func:`pairs_of`.
        asked: (A,) entities.
        among: entities that may be found, each once.
        count: how many for each.
        weight: of each pair, such as one that is less for pairs of many entities; None is 1 each.
    """
    weighted = pairs if weight is None else pairs @ sparse.diags_array(weight)
    size = np.asarray(weighted.sum(axis=1)).ravel()
    others = pairs[among].T.tocsc()
    found = np.full((len(asked), count), -1, dtype=np.int64)
    likeness = np.zeros((len(asked), count))
    for start in range(0, len(asked), _ROWS_AT_ONCE):
        rows = asked[start : start + _ROWS_AT_ONCE]
        shared = (weighted[rows] @ others).tocsr()
        for at, entity in enumerate(rows.tolist()):
            first, last = shared.indptr[at], shared.indptr[at + 1]
            other = among[shared.indices[first:last]]
            both = shared.data[first:last]
            alike = both / (size[entity] + size[other] - both)
            keep = other != entity
            other, alike = other[keep], alike[keep]
            order = np.lexsort((other, -alike))[:count]
            found[start + at, : len(order)] = other[order]
            likeness[start + at, : len(order)] = alike[order]
    return found, likeness
