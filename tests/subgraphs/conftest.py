"""Graphs that can be checked by finger."""

import numpy as np
import pytest

from mmkg.subgraphs import Adjacency

from .reference import CHAIN, HUB, adjacency_of


@pytest.fixture
def chain() -> Adjacency:
    return adjacency_of(6, CHAIN)


@pytest.fixture
def hub() -> Adjacency:
    return adjacency_of(21, HUB)


@pytest.fixture(scope="session")
def skewed() -> Adjacency:
    """2,000 entities, 12,000 triples, 7 relations, degrees up to some hundreds."""
    rng = np.random.default_rng(7)
    heads = (2000 * rng.random(12_000) ** 1.5).astype(np.int64)
    tails = rng.permutation(2000)[(2000 * rng.random(12_000) ** 2.5).astype(np.int64)]
    return Adjacency.from_triples(heads, rng.integers(0, 7, 12_000), tails, num_entities=2000)
