"""A picture of a subgraph: seeds in the middle, a ring and a shade for each hop, labels that can be read.

On the way of a fact: the last step for a person who looks. Drawn by matplotlib without its windows or global state,
so it works on a server and in a thread, and no figure stays open.
"""

import logging
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmkg.errors import MmkgError
from mmkg.shards import PARTIAL_SUFFIX
from mmkg.subgraphs.draw_edges import draw_edges, longest_label, plates, related_pairs
from mmkg.subgraphs.layout import Layout, radial_layout, shorten, text_width
from mmkg.subgraphs.subgraph import Subgraph

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

MAX_DRAWN_NODES = 150
_MAX_LABELLED_EDGES = 40
_MAX_UPRIGHT_NODES = 16

_SEED_COLOUR = "#d9622b"
_HOP_COLOURS = ("#1b4f72", "#3d85b0", "#86b9d6", "#c4dbe8", "#e3edf3")  # darker is nearer
_INK = "#22303c"
# Asked in this order for characters that matplotlib's own font lacks; those not installed are left out.
_FALLBACK_FONTS = ("Noto Sans", "Noto Sans CJK JP", "Noto Sans Arabic", "Noto Sans Devanagari", "WenQuanYi Zen Hei")


def draw_subgraph(
    subgraph: Subgraph,
    labels: Sequence[str] | None,
    relation_labels: Sequence[str] | None,
    path: Path,
    *,
    max_drawn_nodes: int = MAX_DRAWN_NODES,
    title: str | None = None,
) -> Path:
    """Draw a subgraph into a PNG or SVG file, chosen by the name's ending; returns the path.

    Args:
        subgraph: what to draw; beyond `max_drawn_nodes` the nearest nodes are drawn and a note says so.
        labels: one for each node; None writes entity indices.
        relation_labels: the label of relation i at place i; None writes none. Written while edges are few.
        path: ends in ``.png`` or ``.svg``; its folder is made.
        max_drawn_nodes: more than 150 are hard to read.
        title: None writes the seeds and the sizes.

    Raises:
        MmkgError: another ending, labels that do not fit, or nothing to draw.
    """
    path = Path(path)
    form = path.suffix.lower().removeprefix(".")
    if form not in ("png", "svg"):
        raise MmkgError(f"{path}: a picture ends in .png or .svg, not '{path.suffix}'.")
    if subgraph.num_nodes == 0:
        raise MmkgError("the subgraph has no node, so there is nothing to draw. Give at least one seed.")
    if max_drawn_nodes < 1:
        raise MmkgError(f"max_drawn_nodes: expected 1 or more, found {max_drawn_nodes}.")
    subgraph.check_labels(labels, relation_labels)

    import matplotlib as mpl

    num_nodes = min(subgraph.num_nodes, max_drawn_nodes)
    names = [str(i) for i in subgraph.node_index] if labels is None else list(labels)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    with (
        mpl.rc_context({"svg.hashsalt": "mmkg", "font.family": _fonts()}),
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        figure = _figure(subgraph, names, relation_labels, num_nodes, title)
        figure.savefig(partial, format=form, metadata={"Date": None} if form == "svg" else None)
    _pass_on(caught, path)
    partial.replace(path)
    return path


def _fonts() -> list[str]:
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in _FALLBACK_FONTS if name in installed)]


def _pass_on(caught: list[warnings.WarningMessage], path: Path) -> None:
    """Log once that some characters have no glyph; anything else that matplotlib warned of is warned of again."""
    missing = [warning for warning in caught if "missing from font" in str(warning.message)]
    if missing:
        logger.warning("%s: no installed font has %s of the labels' characters", path.name, len(missing))
    for warning in caught:
        if warning not in missing:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def _figure(
    subgraph: Subgraph, names: list[str], relation_labels: Sequence[str] | None, num_nodes: int, title: str | None
) -> "Figure":
    """One unit of the axes is one inch of paper, so that what fits by number fits to the eye."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [shorten(name) for name in names[:num_nodes]]
    upright = num_nodes <= _MAX_UPRIGHT_NODES
    size = 9.0 if num_nodes <= 60 else 8.0
    width = np.array([text_width(name, size) for name in shown])
    pairs = related_pairs(subgraph, num_nodes)
    if len(pairs) > _MAX_LABELLED_EDGES:
        relation_labels = None
    written = 0.0 if relation_labels is None else longest_label(pairs, relation_labels)
    layout = radial_layout(
        subgraph, num_nodes, width + 0.2, edge_room=0.9 * written if upright else written + 0.35, upright=upright
    )
    left, right, bottom, top = _extent(layout, width)
    heading = title or _heading(subgraph, names)
    notes = _notes(subgraph, num_nodes)
    top += 0.45
    bottom -= 0.4 + 0.2 * len(notes)
    missing = max(text_width(heading, 13), *(text_width(note, 8.5) for note in notes), 4.0) + 0.5 - (right - left)
    left, right = left - max(missing, 0) / 2, right + max(missing, 0) / 2

    figure = Figure(figsize=(right - left, top - bottom), dpi=130, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(left, right), ylim=(bottom, top))
    axes.axis("off")
    _draw_rings(axes, layout)
    draw_edges(axes, subgraph, layout, plates(subgraph, layout, width), pairs, relation_labels)
    _draw_nodes(axes, subgraph, layout, shown, size)
    axes.text(
        left + 0.25, top - 0.3, heading, fontsize=13, fontweight="bold", color=_INK, va="center", parse_math=False
    )
    _draw_legend(axes, subgraph, num_nodes, left + 0.32, bottom + 0.27 + 0.2 * len(notes))
    for line, note in enumerate(reversed(notes)):
        axes.text(left + 0.25, bottom + 0.2 + 0.2 * line, note, fontsize=8.5, color="#8a5a00", va="center")
    return figure


def _heading(subgraph: Subgraph, names: list[str]) -> str:
    seeds = ", ".join(shorten(name) for name in names[: min(subgraph.num_seeds, 3)])
    more = f" and {subgraph.num_seeds - 3} more" if subgraph.num_seeds > 3 else ""
    counts = ((subgraph.num_hops, "hop"), (subgraph.num_nodes, "node"), (subgraph.num_edges, "edge"))
    return f"{seeds}{more}: " + ", ".join(f"{count:,} {noun}{'' if count == 1 else 's'}" for count, noun in counts)


def _notes(subgraph: Subgraph, num_nodes: int) -> list[str]:
    notes = []
    if num_nodes < subgraph.num_nodes:
        edges = int(((subgraph.src < num_nodes) & (subgraph.dst < num_nodes)).sum())
        notes.append(
            f"Drawn: the nearest {num_nodes:,} of {subgraph.num_nodes:,} nodes "
            f"and {edges:,} of {subgraph.num_edges:,} edges."
        )
    for reason in ("max_neighbours", "max_nodes"):
        rows = [row for row in subgraph.truncations if row.reason == reason]
        if rows:
            where = "1 node" if len(rows) == 1 else f"{len(rows):,} nodes"
            edges = sum(row.degree - row.kept for row in rows)
            notes.append(f"Cut by {reason} at {where}: {edges:,} edges not followed.")
    return notes


def _extent(layout: Layout, width: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of everything that is drawn, in inches from the middle."""
    x, y = layout.position.T
    ring = layout.ring_radius[-1]
    if layout.upright:
        beside, above = np.where(layout.is_leaf, width + 0.2, width / 2 + 0.1), np.full(len(x), 0.35)
    else:
        reach = np.where(layout.is_leaf, width + 0.15, width / 2 + 0.1)
        # The plate of a seed lies flat, whatever its angle.
        beside = np.maximum(reach * np.abs(np.cos(layout.angle)), np.where(layout.is_leaf, 0, width / 2))
        above = reach * np.abs(np.sin(layout.angle)) + 0.1
    margin = 0.2
    return (
        min(-ring, float((x - beside).min())) - margin,
        max(ring, float((x + beside).max())) + margin,
        min(-ring, float((y - above).min())) - margin,
        max(ring, float((y + above).max())) + margin,
    )


def _draw_rings(axes: "Axes", layout: Layout) -> None:
    from matplotlib.patches import Circle

    for radius in layout.ring_radius[1:]:
        axes.add_patch(Circle((0, 0), radius, fill=False, edgecolor="#edf0f2", linewidth=1, zorder=0))


def _colour(hop: int) -> str:
    return _SEED_COLOUR if hop == 0 else _HOP_COLOURS[min(hop, len(_HOP_COLOURS)) - 1]


def _draw_nodes(axes: "Axes", subgraph: Subgraph, layout: Layout, names: list[str], size: float) -> None:
    """Seeds and inner nodes are plates with their name on; leaves are dots with their name outside."""
    paper = {"boxstyle": "round,pad=0.06", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
    for node, name in enumerate(names):
        (x, y), angle, hop = layout.position[node], layout.angle[node], int(subgraph.hop[node])
        degrees = math.degrees(angle) % 360
        turned = 90 < degrees < 270  # written from outside to inside, or it would stand on its head
        if hop == 0 or not layout.is_leaf[node]:
            rotation = 0.0 if layout.upright or hop == 0 else degrees - 180 * turned
            axes.text(
                x, y, name, fontsize=size + 2 * (hop == 0), fontweight="bold" if hop == 0 else "normal",
                color=_INK if hop > 2 else "white", rotation=rotation, rotation_mode="anchor",
                ha="center", va="center_baseline" if rotation else "center", zorder=5 if hop == 0 else 4,
                parse_math=False,
                bbox={"boxstyle": "round,pad=0.3", "facecolor": _colour(hop), "edgecolor": "white", "linewidth": 1.2},
            )  # fmt: skip
            continue
        axes.plot(x, y, "o", markersize=7, color=_colour(hop), markeredgecolor="white", markeredgewidth=0.8, zorder=3)
        along = np.array([math.cos(angle), math.sin(angle)])
        if layout.upright:
            x, y = np.array([x, y]) + along * (0.12, 0.16)
            align = "center" if abs(along[0]) < 0.35 else "right" if turned else "left"
            rotation = 0.0
        else:
            x, y = np.array([x, y]) + along * 0.11
            align, rotation = "right" if turned else "left", degrees - 180 * turned
        axes.text(
            x, y, name, fontsize=size, color=_INK, rotation=rotation, rotation_mode="anchor",
            ha=align, va="center", zorder=4, parse_math=False, bbox=paper,
        )  # fmt: skip


def _draw_legend(axes: "Axes", subgraph: Subgraph, num_nodes: int, x: float, y: float) -> None:
    """How many of the drawn nodes are how far."""
    for hop, count in enumerate(np.bincount(subgraph.hop[:num_nodes]).tolist()):
        text = f"{'seed' if hop == 0 else f'hop {hop}'} ({count})"
        axes.plot(x, y, "o", markersize=7, color=_colour(hop), markeredgecolor="white")
        axes.text(x + 0.11, y, text, fontsize=8.5, color=_INK, va="center")
        x += text_width(text, 8.5) + 0.35
