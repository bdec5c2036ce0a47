"""Plots as PNG bytes: learning curves of any run; of link prediction MRR with intervals, where ranks lie."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmkg.evaluation.bootstrap import Interval
from mmkg.evaluation.link_prediction import DIRECTIONS, Ranks

INK, SECOND, GRID = "#1f4e79", "#c55a11", "#d9d9d9"
_COLOURS = (INK, SECOND, "#548235", "#7f6000", "#7030a0", "#404040")


def plot_learning_curves(
    histories: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    column: str = "valid_mrr",
    title: str = "MRR of the valid sample",
) -> bytes:
    """Draw a valid score and the loss of one or more runs over their minutes.

    Args:
        histories: run -> the rows of its ``metrics.jsonl``.
        column: of the score; rows without it are epochs without a look.
        title: what the score is.
    """
    figure = new_figure(height=3.2, width=8.0)
    left, right = figure.subplots(1, 2)
    for colour, (name, rows) in zip(_colours(len(histories)), histories.items(), strict=True):
        looks = [row for row in rows if column in row]
        left.plot([_minutes(r) for r in looks], [r[column] for r in looks], "o-", color=colour, label=name, ms=3)
        right.plot([_minutes(r) for r in rows], [r["loss"] for r in rows], "-", color=colour, label=name)
    for axes, heading in ((left, title), (right, "training loss")):
        axes.set_title(heading, fontsize=10)
        axes.set_xlabel("minutes")
        axes.grid(color=GRID)
    if len(histories) > 1:
        left.legend(fontsize=8)
    return to_png(figure)


def plot_sweep(lines: Mapping[str, Sequence[Interval]], places: Sequence[str], *, score: str, setting: str) -> bytes:
    """Draw a score with its interval over the values of one setting, a line for each value of another.

    Args:
        lines: name -> one interval for each place.
        places: values of the setting along the axis, in order.
        score: what is drawn.
        setting: what changes along the axis.
    """
    figure = new_figure(height=3.6, width=6.5)
    axes = figure.subplots()
    for number, (colour, (name, intervals)) in enumerate(zip(_colours(len(lines)), lines.items(), strict=True)):
        shift = 0.06 * (number - (len(lines) - 1) / 2)  # so that bars stand beside each other
        at = [place + shift for place in range(len(intervals))]
        below = [one.value - one.low for one in intervals]
        above = [one.high - one.value for one in intervals]
        values = [one.value for one in intervals]
        axes.errorbar(at, values, yerr=[below, above], fmt="o-", color=colour, label=name, ms=4, capsize=3, lw=1)
    axes.set_xticks(range(len(places)), list(places))
    axes.set_xlabel(setting)
    axes.set_ylabel(score)
    axes.grid(color=GRID)
    axes.legend(fontsize=8)
    return to_png(figure)


def plot_mrr(intervals: Mapping[str, Interval]) -> bytes:
    """Draw the MRR of each run with its interval, one below the other."""
    figure = new_figure(height=0.8 + 0.4 * len(intervals), width=6.0)
    axes = figure.subplots()
    for place, (colour, interval) in enumerate(zip(_colours(len(intervals)), intervals.values(), strict=True)):
        reach = [[interval.value - interval.low], [interval.high - interval.value]]
        axes.errorbar([interval.value], [place], xerr=reach, fmt="o", color=colour, capsize=4)
        axes.annotate(f"{interval.value:.4f}", (interval.value, place), (0, 6), textcoords="offset points", fontsize=8)
    axes.set_yticks(range(len(intervals)), list(intervals), fontsize=8)
    axes.set_ylim(len(intervals) - 0.4, -0.7)
    axes.set_xlabel("filtered MRR, both directions")
    axes.grid(axis="x", color=GRID)
    return to_png(figure)


def plot_ranks(ranks: Ranks) -> bytes:
    """Draw how many true answers have which rank, on a logarithmic axis, per direction."""
    figure = new_figure(height=3.0, width=6.0)
    axes = figure.subplots()
    top = max(2.0, float(ranks.realistic.max()))
    edges = np.geomspace(1, top * 1.001, 25)
    for side, (colour, direction) in enumerate(zip((INK, SECOND), DIRECTIONS, strict=True)):
        axes.hist(ranks.realistic[:, side], bins=list(edges), histtype="step", color=colour, label=f"true {direction}")
    axes.set_xscale("log")
    axes.set_xlabel("filtered rank of the true answer (realistic)")
    axes.set_ylabel("questions")
    axes.grid(color=GRID)
    axes.legend(fontsize=8)
    return to_png(figure)


def _minutes(row: Mapping[str, Any]) -> float:
    return float(row["elapsed_seconds"]) / 60


def _colours(count: int) -> list[str]:
    return [_COLOURS[place % len(_COLOURS)] for place in range(count)]


def new_figure(*, height: float, width: float) -> Figure:
    """Return an empty figure of so many inches."""
    # Not through pyplot: that keeps figures in a global list and picks a window system.
    figure = Figure(figsize=(width, height), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: Figure) -> bytes:
    """Return a figure as PNG bytes, the same for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
