"""What a contrastive run leaves for the eye: learning curves, and a page with figures and what captions find."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 } td, th { padding: .25em .8em; border-bottom: 1px solid #ddd }
th { text-align: left } td.n { text-align: right; font-variant-numeric: tabular-nums } img { vertical-align: middle }
h1 { margin-bottom: 0 } .note { color: #666 }
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
    figure = Figure(figsize=(8.0, 3.2), layout="constrained", dpi=110)  # not through pyplot: it keeps figures in a list
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    looks = [row for row in history if "valid_recall_at_1" in row]
    for direction, colour in (("image_to_text", "#1f4e79"), ("text_to_image", "#c55a11")):
        for depth, line in ((1, "o-"), (5, "o--")):
            values = [row[f"valid_{direction}_recall_at_{depth}"] for row in looks]
            label = f"{_DIRECTIONS[direction]}, recall@{depth}"
            left.plot([row["epoch"] for row in looks], values, line, color=colour, ms=3, label=label)
    right.plot([row["epoch"] for row in history], [row["loss"] for row in history], "-", color="#1f4e79")
    for axes, title in ((left, "valid pictures, most specific captions"), (right, "training loss")):
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epochs")
        axes.grid(color="#d9d9d9")
    if looks:
        left.legend(fontsize=7)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


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
    parts = [f"<h1>{_text(name)}</h1>", f'<p class="note">{_text(metrics["how"])}</p>']
    for split, figures in metrics["splits"].items():
        parts += [f"<h2>{_text(split)}</h2>", _figures_table(figures)]
    if curve is not None:
        parts += ["<h2>Learning</h2>", f'<p><img alt="learning curves" src="{_data_url(curve, "png")}"></p>']
    parts += ["<h2>What captions find</h2>", _grid(examples)]
    parts += ["<h2>Settings</h2>", _table(["setting", "value"], [[key, str(value)] for key, value in settings.items()])]
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{_text(name)}</title><style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _figures_table(figures: Mapping[str, Any]) -> str:
    rows = []
    for captions, directions in figures["captions"].items():
        rows += [_figures_row(captions, direction, values) for direction, values in directions.items()]
    rows += [_figures_row("look-alikes", direction, values) for direction, values in figures["look_alikes"].items()]
    return _table(["captions", "", "queries", "candidates", *_FIGURES.values()], rows)


def _figures_row(captions: str, direction: str, values: Mapping[str, Any]) -> list[str]:
    cells = [_figure(values[key]) for key in _FIGURES]
    return [captions, _DIRECTIONS[direction], f"{values['num_queries']:,}", f"{values['num_candidates']:,}", *cells]


def _figure(value: Mapping[str, float]) -> str:
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}], chance {value['chance']:.3f}"


def _grid(examples: Sequence[Example]) -> str:
    rows = ["<tr><th>caption</th><th>split</th><th>true of</th><th>nearest</th></tr>"]
    for example in examples:
        words = f"<td>{_text(example.caption)}</td><td>{_text(example.split)}</td><td class=n>{example.num_right}</td>"
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
    return _data_url(buffer.getvalue(), "png")


def _data_url(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{_text(cell)}</th>" for cell in header)
    lines = [
        "".join(f"<td{' class=n' if cell[:1].isdigit() else ''}>{_text(cell)}</td>" for cell in row) for row in rows
    ]
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _text(words: str) -> str:
    return html.escape(words)
