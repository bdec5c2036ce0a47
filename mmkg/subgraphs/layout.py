"""Where the nodes of a picture stand: a radial tree, the seeds in the middle and each hop on a ring around it.

On the way of a fact: between a cut subgraph and its picture (:mod:`mmkg.subgraphs.draw`). Every node gets a wedge of
the circle inside its parent's wedge, so what hangs together stands together; wedges are as wide as the nodes in them
need. Lengths are inches on paper, because labels have a size on paper.

Source of the wedges: Wills, "NicheWorks", Journal of Computational and Graphical Statistics 8(2), 1999.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmkg.subgraphs.subgraph import Subgraph

_RING_GAP = 0.55  # inches of edge that stay visible between the labels of two rings
_SLOT = 0.205  # inches along a ring that one rotated label needs
_PLATE_SLOTS = 1.5  # a plate is higher than bare text
_WIDE_SLOT = 0.62  # inches along a ring that one upright label needs


_MAX_LABEL_CHARACTERS = 26
_POINTS = 1 / 72  # inches
_CHARACTER_WIDTH = 0.56  # of the font size; DejaVu Sans on average


def shorten(name: str, most: int = _MAX_LABEL_CHARACTERS) -> str:
    """A label on one line, cut with an ellipsis."""
    name = " ".join(name.split())
    return name if len(name) <= most else name[: most - 1].rstrip() + "…"


def text_width(text: str, font_size: float) -> float:
    """Inches; characters of East Asian scripts count twice."""
    return sum(2.0 if ord(c) > 0x2E7F else 1.0 for c in text) * _CHARACTER_WIDTH * font_size * _POINTS


@dataclass(frozen=True)
class Layout:
    """Positions of the first N nodes of a subgraph.

    Attributes:
        position: (N, 2) inches from the middle.
        angle: (N,) radians, of the way from the middle to the node.
        is_leaf: (N,) nothing hangs on the node further out.
        ring_radius: inches, one for each level.
        upright: labels may be written upright; else along the way from the middle.
    """

    position: NDArray[np.float64]
    angle: NDArray[np.float64]
    is_leaf: NDArray[np.bool_]
    ring_radius: list[float]
    upright: bool


def radial_layout(
    subgraph: Subgraph, num_nodes: int, label_width: NDArray[np.float64], *, edge_room: float = 0.0, upright: bool
) -> Layout:
    """Place the first `num_nodes` nodes of a subgraph.

    Args:
        subgraph: what to place; its first nodes are its nearest.
        num_nodes: how many to place.
        label_width: (num_nodes,) inches.
        edge_room: inches between two rings that what is written along an edge needs.
        upright: leave room for upright labels.
    """
    parent = _parents(subgraph, num_nodes)
    # With several seeds the middle stays empty and they form the first ring.
    shift = 0 if subgraph.num_seeds <= 1 else 1
    level = subgraph.hop[:num_nodes] + shift
    num_levels = int(level.max(initial=0)) + 1
    has_child = np.zeros(num_nodes, bool)
    has_child[parent[parent >= 0]] = True
    need = _angular_need(parent, level, num_levels, has_child)
    angle = _angles(parent, need, num_nodes)
    total = float(need[parent < 0].sum()) or 1.0
    slot = _WIDE_SLOT if upright else _SLOT
    radius = [0.0]
    for ring in range(1, num_levels):
        inner = label_width[(level == ring - 1) & has_child].max(initial=0.0)
        outer = label_width[(level == ring) & has_child].max(initial=0.0)
        # An upright label is as long towards the middle as it is high, except at the sides.
        reach = 0.62 if upright else 0.5
        step = radius[-1] + max(_RING_GAP, edge_room) + reach * inner + (0.35 * outer if upright else 0.5 * outer)
        crowded = ring / max(num_levels - 1, 1) * slot * total / (2 * math.pi)
        radius.append(max(step, crowded))
    distance = np.array(radius)[level]
    position = np.stack([distance * np.cos(angle), distance * np.sin(angle)], axis=1)
    return Layout(position, angle, ~has_child, radius, upright)


def _parents(subgraph: Subgraph, num_nodes: int) -> NDArray[np.int64]:
    """The first-found neighbour of each node that is one hop nearer; -1 for the seeds."""
    hop = subgraph.hop
    parent = np.full(num_nodes, num_nodes, np.int64)
    for near, far in ((subgraph.src, subgraph.dst), (subgraph.dst, subgraph.src)):
        tree = (far < num_nodes) & (hop[near] == hop[far] - 1)
        np.minimum.at(parent, far[tree], near[tree])
    parent[hop[:num_nodes] == 0] = -1
    # Induced subgraphs have all walked edges between their nodes, so every other node has a parent.
    return parent


def _angular_need(
    parent: NDArray[np.int64], level: NDArray[np.int64], num_levels: int, has_child: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Slots of the outermost ring that a node and what hangs on it take; a slot further in is wider, as an angle."""
    own = (num_levels - 1) / np.maximum(level, 1) * np.where(has_child, _PLATE_SLOTS, 1.0)
    below = np.zeros(len(parent))
    for node in range(len(parent) - 1, -1, -1):  # children come after their parents
        below[node] = max(below[node], own[node])
        if parent[node] >= 0:
            below[parent[node]] += below[node]
    return below


def _angles(parent: NDArray[np.int64], need: NDArray[np.float64], num_nodes: int) -> NDArray[np.float64]:
    """The middle of each node's wedge; wedges run clockwise from the top."""
    total = float(need[parent < 0].sum()) or 1.0
    width = need / total * 2 * math.pi
    free = np.zeros(num_nodes)  # where the next child's wedge begins
    angle = np.zeros(num_nodes)
    begin_of_next_root = 0.0
    children_need = np.zeros(num_nodes)
    np.add.at(children_need, parent[parent >= 0], need[parent >= 0])
    for node in range(num_nodes):
        if parent[node] < 0:
            begin = begin_of_next_root
            begin_of_next_root += width[node]
        else:
            begin = free[parent[node]]
            free[parent[node]] += width[node]
        angle[node] = begin + width[node] / 2
        # Children narrower than the wedge stand in its middle.
        free[node] = begin + (width[node] - children_need[node] / total * 2 * math.pi) / 2
    return math.pi / 2 - angle
