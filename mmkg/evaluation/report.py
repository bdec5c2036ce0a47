"""A report that one file holds: numbers with intervals, plots, and the worst mistakes by name.

The HTML has its pictures inside and asks for nothing from anywhere, so it can be mailed and opened years later.
"""

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmkg.evaluation.bootstrap import Interval
from mmkg.evaluation.link_prediction import DIRECTIONS, Ranks
from mmkg.evaluation.metrics import METRICS, Comparison, LinkPredictionMetrics
from mmkg.evaluation.plots import plot_learning_curves, plot_mrr, plot_ranks

_TITLES = {
    "mrr": "MRR",
    "hits_at_1": "Hits@1",
    "hits_at_3": "Hits@3",
    "hits_at_10": "Hits@10",
    "mean_rank": "mean rank",
    "adjusted_mean_rank": "adjusted mean rank (1 is chance)",
    "adjusted_mean_rank_index": "adjusted mean rank index (0 is chance, 1 is perfect)",
}
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 } td, th { padding: .25em .8em; border-bottom: 1px solid #ddd }
th { text-align: left } td.n { text-align: right; font-variant-numeric: tabular-nums } img { max-width: 100% }
h1 { margin-bottom: 0 } .note { color: #666 }
"""


@dataclass(frozen=True, kw_only=True)
class WorstExample:
    """A true triple that the model ranks far down.

    Attributes:
        head: label of the head; "?" stands for the one that was asked for in ``answer``.
        relation: label of the relation.
        tail: label of the tail.
        answer: "head" or "tail": which of them was asked for.
        rank: realistic rank of the true answer.
        num_candidates: how many entities were ranked.
    """

    head: str
    relation: str
    tail: str
    answer: str
    rank: float
    num_candidates: int


def worst_examples(
    ranks: Ranks, entity_names: Sequence[str], relation_names: Sequence[str], *, count: int = 10
) -> list[WorstExample]:
    """Return the ``count`` questions with the highest realistic ranks, worst first; equal ranks in order of triples."""
    flat = ranks.realistic.reshape(-1)
    examples = []
    for place in np.argsort(-flat, kind="stable")[:count].tolist():
        row, side = divmod(place, len(DIRECTIONS))
        head, relation, tail = ranks.triples[row].tolist()
        examples.append(
            WorstExample(
                head=entity_names[head],
                relation=relation_names[relation],
                tail=entity_names[tail],
                answer=DIRECTIONS[side],
                rank=float(flat[place]),
                num_candidates=int(ranks.num_candidates[row, side]),
            )
        )
    return examples


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a report says of one run.

    Attributes:
        name: of the run.
        metrics: on the evaluated split.
        ranks: they were made of.
        history: rows of ``metrics.jsonl``.
        worst: mistakes to look at.
        config: the recipe, setting -> value.
        environment: versions, threads, seeds.
    """

    name: str
    metrics: LinkPredictionMetrics
    ranks: Ranks
    history: Sequence[Mapping[str, Any]]
    worst: Sequence[WorstExample]
    config: Mapping[str, Any]
    environment: Mapping[str, Any]


def make_report(
    runs: Sequence[RunResult], *, title: str, split: str, comparisons: Mapping[str, Comparison] | None = None
) -> str:
    """Return an HTML page about one or more runs on one split.

    Args:
        runs: at least one; the plots of ranks and the mistakes are those of each run in turn.
        title: heading of the page.
        split: which triples were ranked: train | valid | test.
        comparisons: "one against other" -> paired comparison.
    """
    parts = [_note(runs, split), _metric_table(runs)]
    if len(runs) > 1:
        parts.append(_seed_table(runs))
    parts += [html_picture(plot_mrr({run.name: run.metrics.both["mrr"] for run in runs}), "MRR with interval")]
    if comparisons:
        parts.append(_comparison_table(comparisons))
    histories = {run.name: run.history for run in runs if run.history}
    if histories:
        parts += ["<h2>Learning</h2>", html_picture(plot_learning_curves(histories), "learning curves")]
    for run in runs:
        parts += [
            f"<h2>{html_text(run.name)}</h2>",
            html_picture(plot_ranks(run.ranks), "ranks"),
            _direction_table(run),
        ]
        if run.worst:
            parts += ["<h3>Furthest from right</h3>", _worst_table(run.worst)]
        parts += ["<h3>Settings</h3>", html_pairs({**run.config, **run.environment})]
    return html_page(title, parts)


def html_page(title: str, parts: Sequence[str], *, style: str = "") -> str:
    """Return a page out of its title, which is its heading too, and what stands below it, as HTML.

    Args:
        title: plain text.
        parts: HTML.
        style: CSS beside that of every page.
    """
    body = "\n".join([f"<h1>{html_text(title)}</h1>", *parts])
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{html_text(title)}</title><style>{_STYLE}{style}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def html_note(words: str) -> str:
    """Return a remark in grey."""
    return f'<p class="note">{html_text(words)}</p>'


def _note(runs: Sequence[RunResult], split: str) -> str:
    first = runs[0].metrics
    return (
        f'<p class="note">{first.num_triples:,} {html_text(split)} triples, each asked in both directions; '
        f"filtered ranks, ties in the middle. Intervals hold {first.level:.0%} of {first.draws:,} bootstrap draws of "
        "triples: how much a number would move with other triples, not with another seed of training.</p>"
    )


def _metric_table(runs: Sequence[RunResult]) -> str:
    rows = [[_TITLES[name], *(interval_text(run.metrics.both[name]) for run in runs)] for name in METRICS]
    return html_table(["", *(run.name for run in runs)], rows)


def _seed_table(runs: Sequence[RunResult]) -> str:
    rows = []
    for name in METRICS:
        values = np.array([run.metrics.both[name].value for run in runs])
        rows.append([_TITLES[name], f"{values.mean():.4f}", f"{values.std(ddof=1):.4f}"])
    return "<h2>Over runs</h2>" + html_table(["", "mean", "standard deviation"], rows)


def _comparison_table(comparisons: Mapping[str, Comparison]) -> str:
    rows = [
        [name, interval_text(c.difference), f"{c.p_value:.3g}", f"{c.wins:,}", f"{c.losses:,}", f"{c.ties:,}"]
        for name, c in comparisons.items()
    ]
    return "<h2>Paired</h2>" + html_table(["", "difference of MRR", "p", "better on", "worse on", "equal on"], rows)


def _direction_table(run: RunResult) -> str:
    names = ("mrr", "hits_at_1", "hits_at_3", "hits_at_10", "mean_rank")
    rows = [[f"true {d}", *(f"{values[name]:.4f}" for name in names)] for d, values in run.metrics.by_direction.items()]
    rows += [
        [f"{category}, true {direction}", *(f"{values[name]:.4f}" for name in names)]
        for category, directions in run.metrics.by_category.items()
        for direction, values in directions.items()
    ]
    return html_table(["", *(_TITLES[name] for name in names)], rows)


def _worst_table(worst: Sequence[WorstExample]) -> str:
    rows = []
    for example in worst:
        asked = {"head": ("?", example.tail), "tail": (example.head, "?")}[example.answer]
        answer = example.head if example.answer == "head" else example.tail
        rows.append(
            [asked[0], example.relation, asked[1], answer, f"{example.rank:,.1f} of {example.num_candidates:,}"]
        )
    return html_table(["head", "relation", "tail", "true answer", "rank"], rows)


def interval_text(interval: Interval) -> str:
    """Return a value with its interval."""
    return f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]"


def html_pairs(values: Mapping[str, Any]) -> str:
    """Return a table of settings."""
    return html_table(["setting", "value"], [[name, str(value)] for name, value in values.items()])


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; cells are texts, those that begin with a digit stand on the right."""
    head = "".join(f"<th>{html_text(cell)}</th>" for cell in header)
    lines = ["".join(f"<td{_align(cell)}>{html_text(cell)}</td>" for cell in row) for row in rows]
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _align(cell: str) -> str:
    return ' class="n"' if cell[:1].isdigit() or cell[:2].strip("-").isdigit() else ""


def html_picture(png: bytes, words: str) -> str:
    """Return a picture that is inside the page."""
    return f'<p><img alt="{html_text(words)}" src="data:image/png;base64,{base64.b64encode(png).decode()}"></p>'


def html_text(words: str) -> str:
    """Return words that no part of is markup."""
    return html.escape(words)
