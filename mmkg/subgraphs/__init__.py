"""Subgraphs: what stands within τ hops of some entities, cut out of memory-mapped arrays.

On the way of a fact: after the build's `triples`, before shards for training and pictures for people.
:mod:`.adjacency` maps the graph, :mod:`.adjacency_build` writes it, :mod:`.expand` cuts, :mod:`.subgraph` is the result
and its conversions, :mod:`.draw` makes a picture of it.
"""

from mmkg.subgraphs.adjacency import Adjacency, open_adjacency
from mmkg.subgraphs.adjacency_build import build_adjacency
from mmkg.subgraphs.draw import draw_subgraph
from mmkg.subgraphs.expand import Direction, expand, expand_many
from mmkg.subgraphs.subgraph import Subgraph, Subgraphs, Truncation

__all__ = [
    "Adjacency",
    "Direction",
    "Subgraph",
    "Subgraphs",
    "Truncation",
    "build_adjacency",
    "draw_subgraph",
    "expand",
    "expand_many",
    "open_adjacency",
]
