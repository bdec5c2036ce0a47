"""The report of an analogy run: figures of all items and of the subsets that tell reasoning from look-up, side by side.

One HTML file that asks for nothing from anywhere, with the rows of the look-ups above those of the model, paired
differences, plots, and items that failed, by name.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mmkg.evaluation.analogy import AnalogyComparison, AnalogyMetrics
from mmkg.evaluation.plots import GRID, INK, new_figure, to_png
from mmkg.evaluation.report import html_note, html_page, html_pairs, html_picture, html_table, interval_text
from mmkg.tasks.mars import MarKG, MarsItem

_SHOWN = ("hits_at_1", "hits_at_3", "hits_at_10", "mrr")


def failed_items(
    rank_Q: npt.NDArray[np.float64],
    best_Q: npt.NDArray[np.int64],
    items: Sequence[MarsItem],
    markg: MarKG,
    *,
    count: int = 10,
) -> list[dict[str, Any]]:
    """Return items that were not answered, one of each question, evenly drawn from near misses to the furthest off.

    Args:
        rank_Q: of the right answers.
        best_Q: the entity that was ranked first.
        items: that were asked.
        markg: names.
        count: at most so many.
    """
    order = np.argsort(rank_Q, kind="stable")
    wrong = [place for place in order.tolist() if rank_Q[place] > 1]
    of_question = list({items[place].question: place for place in reversed(wrong)}.values())[::-1]
    chosen = [of_question[len(of_question) * number // count] for number in range(count)] if of_question else []
    return [
        {
            "example": f"{markg.names[items[place].example_head]} : {markg.names[items[place].example_tail]}",
            "question": markg.names[items[place].question],
            "right": markg.names[items[place].answer],
            "given": markg.names[int(best_Q[place])],
            "relation": items[place].relation,
            "rank": float(rank_Q[place]) if np.isfinite(rank_Q[place]) else None,
        }
        for place in dict.fromkeys(chosen)
    ]


def make_analogy_report(
    title: str,
    rows: Mapping[str, AnalogyMetrics],
    *,
    comparisons: Mapping[str, AnalogyComparison],
    failed: Sequence[Mapping[str, Any]] = (),
    curve: bytes | None = None,
    settings: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> str:
    """Return the page.

    Args:
        title: of it.
        rows: method -> its figures, all over the same items.
        comparisons: "one − other" -> paired difference.
        failed: of :func:`failed_items`.
        curve: a learning curve as PNG.
        settings: of the run.
        notes: sentences that stand first.
    """
    first = next(iter(rows.values()))
    parts = [html_note(note) for note in notes]
    for group, figures in first.groups.items():
        if not figures.figures:
            continue
        header = [f"{group}, {figures.num_items:,} items", *(name.replace("hits_at_", "Hits@") for name in _SHOWN)]
        cells = [
            [method, *(interval_text(metrics.groups[group].figures[name]) for name in _SHOWN)]
            for method, metrics in rows.items()
        ]
        parts.append(html_table(header, cells))
    parts.append(html_picture(plot_methods(rows), "Hits@1 with intervals"))
    if comparisons:
        differences = [
            [
                name,
                interval_text(c.differences["hits_at_1"].difference),
                f"{c.differences['hits_at_1'].p_value:.3g}",
                interval_text(c.differences["mrr"].difference),
            ]
            for name, c in comparisons.items()
        ]
        parts += ["<h2>Paired</h2>", html_table(["", "Hits@1", "p", "MRR"], differences)]
    if curve is not None:
        parts += ["<h2>Learning</h2>", html_picture(curve, "learning curve")]
    if failed:
        cells = [[str(row[key]) for key in row] for row in failed]
        parts += ["<h2>Items that failed</h2>", html_table(list(failed[0]), cells)]
    if settings:
        parts += ["<h2>Settings</h2>", html_pairs(settings)]
    return html_page(title, parts)


def plot_methods(rows: Mapping[str, AnalogyMetrics]) -> bytes:
    """Draw Hits@1 of each method with its interval, all items and unseen pairs."""
    groups = [group for group in ("all", "unseen pairs") if group in next(iter(rows.values())).groups]
    figure = new_figure(height=1 + 0.35 * len(rows), width=8.0)
    for axes, group in zip(np.atleast_1d(figure.subplots(1, len(groups), sharey=True)), groups, strict=True):
        for place, metrics in enumerate(rows.values()):
            interval = metrics.groups[group].figures["hits_at_1"]
            reach = [[interval.value - interval.low], [interval.high - interval.value]]
            axes.errorbar([interval.value], [place], xerr=reach, fmt="o", color=INK, capsize=3)
        axes.set_yticks(range(len(rows)), list(rows), fontsize=8)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_title(f"Hits@1, {group}", fontsize=9)
        axes.grid(axis="x", color=GRID)
    return to_png(figure)
