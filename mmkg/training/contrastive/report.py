"""What a contrastive run leaves for the eye: learning curves, and a page with figures and what captions find."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from mmkg.evaluation.plots import GRID, INK, SECOND, new_figure, to_png
from mmkg.evaluation.report import html_note, html_page, html_pairs, html_picture, html_table, html_text

_STYLE = """body { max-width: 70em } img { vertical-align: middle }
.right { outline: 3px solid #548235 } .wrong { outline: 3px solid #c55a11 }
"""
_THUMBNAIL_PX = 88
_DIRECTIONS = {
    "image_to_text": "picture → caption",
    "text_to_image": "caption → picture",
    "model": "picture → picture",
    "perceptual_hash": "picture → picture, by perceptual hash",
}
_FIGURES = {"recall_at_1": "recall@1", "recall_at_5": "recall@5", "precision_at_5": "precision@5"}


@dataclass(frozen=True, kw_only=True)
class Example:
    """A caption and the pictures it found.

    Attributes:
        split: of the pictures.
        caption: that was asked with.
        num_right: how many pictures of the split it is true of.
        found: the nearest pictures, nearest first, and whether the caption is true of each.
    """

    split: str
    caption: str
    num_right: int
    found: Sequence[tuple[Image.Image, bool]]


def plot_learning(history: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw loss and valid recall over epochs as PNG bytes."""
    figure = new_figure(height=3.2, width=8.0)
    left, right = figure.subplots(1, 2)
    looks = [row for row in history if "valid_recall_at_1" in row]
    for direction, colour in (("image_to_text", INK), ("text_to_image", SECOND)):
        for depth, line in ((1, "o-"), (5, "o--")):
            values = [row[f"valid_{direction}_recall_at_{depth}"] for row in looks]
            label = f"{_DIRECTIONS[direction]}, recall@{depth}"
            left.plot([row["epoch"] for row in looks], values, line, color=colour, ms=3, label=label)
    right.plot([row["epoch"] for row in history], [row["loss"] for row in history], "-", color=INK)
    for axes, title in ((left, "valid pictures, most specific captions"), (right, "training loss")):
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epochs")
        axes.grid(color=GRID)
    if looks:
        left.legend(fontsize=7)
    return to_png(figure)


def make_contrastive_report(
    name: str,
    metrics: Mapping[str, Any],
    curve: bytes | None,
    examples: Sequence[Example],
    settings: Mapping[str, Any],
) -> str:
    """Return an HTML page that has its pictures inside and asks for nothing from anywhere.

    Args:
        name: of the run.
        metrics: content of ``metrics.json``.
        curve: PNG of :func:`plot_learning`, if there is one.
        examples: captions and what they found.
        settings: recipe and environment.
    """
    parts = [html_note(metrics["how"])]
    for split, figures in metrics["splits"].items():
        parts += [f"<h2>{html_text(split)}</h2>", _figures_table(figures)]
    if curve is not None:
        parts += ["<h2>Learning</h2>", html_picture(curve, "learning curves")]
    parts += ["<h2>What captions find</h2>", _grid(examples), "<h2>Settings</h2>", html_pairs(settings)]
    return html_page(name, parts, style=_STYLE)


def _figures_table(figures: Mapping[str, Any]) -> str:
    rows = []
    for captions, directions in figures["captions"].items():
        rows += [_figures_row(captions, direction, values) for direction, values in directions.items()]
    rows += [_figures_row("look-alikes", direction, values) for direction, values in figures["look_alikes"].items()]
    return html_table(["captions", "", "queries", "candidates", *_FIGURES.values()], rows)


def _figures_row(captions: str, direction: str, values: Mapping[str, Any]) -> list[str]:
    cells = [_figure(values[key]) for key in _FIGURES]
    return [captions, _DIRECTIONS[direction], f"{values['num_queries']:,}", f"{values['num_candidates']:,}", *cells]


def _figure(value: Mapping[str, float]) -> str:
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}], chance {value['chance']:.3f}"


def _grid(examples: Sequence[Example]) -> str:
    rows = ["<tr><th>caption</th><th>split</th><th>true of</th><th>nearest</th></tr>"]
    for example in examples:
        told = f"<td>{html_text(example.caption)}</td><td>{html_text(example.split)}</td>"
        words = f"{told}<td class=n>{example.num_right}</td>"
        pictures = "".join(f"<td>{_framed(image, right)}</td>" for image, right in example.found)
        rows.append(f"<tr>{words}{pictures}</tr>")
    return f"<table>{''.join(rows)}</table>"


def _framed(image: Image.Image, right: bool) -> str:
    frame, words = ("right", "true") if right else ("wrong", "not true")
    return f'<img class="{frame}" alt="{words}" src="{_thumbnail(image)}">'


def _thumbnail(image: Image.Image) -> str:
    small = image.copy()
    small.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
