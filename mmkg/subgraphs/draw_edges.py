"""The arrows of a picture of a subgraph: from plate to plate, with the relations along them while there are few.

On the way of a fact: part of :mod:`mmkg.subgraphs.draw`. Lengths are inches on paper.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmkg.subgraphs.layout import Layout, shorten, text_width
from mmkg.subgraphs.subgraph import Subgraph

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_EDGE_COLOUR = "#a9b4bd"
_CROSS_COLOUR = "#d3dade"  # edges that do not run from one ring to the next
_EDGE_FONT_SIZE = 6.5
_MAX_EDGE_CHARACTERS = 18


def related_pairs(subgraph: Subgraph, num_nodes: int) -> dict[tuple[int, int], list[int]]:
    """Relations between each ordered pair of drawn nodes: one arrow, however many triples."""
    pairs: dict[tuple[int, int], list[int]] = {}
    drawn = (subgraph.src < num_nodes) & (subgraph.dst < num_nodes)
    columns = (column[drawn].tolist() for column in (subgraph.src, subgraph.dst, subgraph.relation))
    for src, dst, relation in zip(*columns, strict=True):
        pairs.setdefault((src, dst), []).append(relation)
    return pairs


def longest_label(pairs: dict[tuple[int, int], list[int]], relation_labels: Sequence[str]) -> float:
    """Inches that the labels along the edges want; very long ones get less than that."""
    texts = (relation_labels[relations[0]][:_MAX_EDGE_CHARACTERS] for relations in pairs.values())
    return max((text_width(text, _EDGE_FONT_SIZE) for text in texts), default=0.0)


def plates(subgraph: Subgraph, layout: Layout, width: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 3) half length, half height and rotation in radians of the plate or dot that a node is drawn as."""
    is_seed = subgraph.hop[: len(width)] == 0
    is_plate = is_seed | ~layout.is_leaf
    rotation = np.where(is_seed | layout.upright | layout.is_leaf, 0.0, layout.angle)
    length = np.where(is_plate, width / 2 * np.where(is_seed, 1.3, 1.0) + 0.07, 0.07)
    return np.stack([length, np.where(is_plate, 0.13, 0.07), rotation], axis=1)


def _rim(centre: NDArray[np.float64], towards: NDArray[np.float64], plate: NDArray[np.float64]) -> NDArray[np.float64]:
    """The point at which the way from a node's centre to another leaves the node's plate."""
    along = towards - centre
    along = along / max(float(np.hypot(*along)), 1e-9)
    length, height, rotation = plate
    forward = abs(along[0] * math.cos(rotation) + along[1] * math.sin(rotation))
    sideways = abs(along[1] * math.cos(rotation) - along[0] * math.sin(rotation))
    return centre + along * (min(length / max(forward, 1e-9), height / max(sideways, 1e-9)) + 0.03)


def draw_edges(
    axes: "Axes",
    subgraph: Subgraph,
    layout: Layout,
    plates: NDArray[np.float64],
    pairs: dict[tuple[int, int], list[int]],
    relation_labels: Sequence[str] | None,
) -> None:
    """One arrow for each pair, with its relations along it where their labels are given."""
    from matplotlib.patches import FancyArrowPatch

    for (src, dst), relations in pairs.items():
        crosses = abs(subgraph.hop[src] - subgraph.hop[dst]) != 1
        bend = 0.18 if (dst, src) in pairs or crosses else 0.0
        if src == dst:
            above = layout.position[src] + (0, plates[src, 1])
            begin, end, bend = above - (0.08, 0), above + np.array((0.08, 0)), -2.0
        else:
            begin = _rim(layout.position[src], layout.position[dst], plates[src])
            end = _rim(layout.position[dst], layout.position[src], plates[dst])
        arrow = FancyArrowPatch(
            tuple(begin), tuple(end), connectionstyle=f"arc3,rad={bend}", arrowstyle="-|>", mutation_scale=8,
            color=_CROSS_COLOUR if crosses and relation_labels is None else _EDGE_COLOUR, linewidth=0.9,
            shrinkA=0, shrinkB=0, zorder=1,
        )  # fmt: skip
        axes.add_patch(arrow)
        if relation_labels is not None:
            _label_edge(axes, begin, end, bend, [relation_labels[relation] for relation in relations])


def _label_edge(
    axes: "Axes", begin: NDArray[np.float64], end: NDArray[np.float64], bend: float, relations: list[str]
) -> None:
    """Write the relations along the middle of an edge, as far as there is room, and never upside down."""
    more = f" +{len(relations) - 1}" if len(relations) > 1 else ""
    room = float(np.hypot(*(end - begin))) - 0.2
    fitting = int(room / text_width("m", _EDGE_FONT_SIZE)) - len(more)
    text = shorten(relations[0], max(fitting, 8)) + more
    across = np.array([end[1] - begin[1], begin[0] - end[0]])
    middle = (begin + end) / 2 + across * bend / 2
    degrees = math.degrees(math.atan2(end[1] - begin[1], end[0] - begin[0]))
    degrees = (degrees + 90) % 180 - 90
    axes.text(
        middle[0], middle[1], text, fontsize=_EDGE_FONT_SIZE, color="#5d6b76", rotation=degrees,
        rotation_mode="anchor", ha="center", va="center", zorder=2, parse_math=False,
        bbox={"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none", "alpha": 0.9},
    )  # fmt: skip
