"""A page to look at the pictures of a build: what became of all candidates, plots, and samples of each verdict.

The page holds its pictures, small, and asks for nothing from anywhere. Samples are drawn by the order of digests, so
that the same build gives the same page.
"""

import base64
import dataclasses
import html
import io
from collections import ChainMap, Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure
from PIL import Image

from mmkg.builds.charts import draw_bars, make_figure, say_none, thousands, to_png
from mmkg.builds.opened import Build
from mmkg.builds.pictures import read_pictures
from mmkg.shards import write_bytes

_THUMBNAIL_PX = 120
_SAMPLES = 12
_COLOUR = "#3b6ea5"
_COLUMNS = (
    "entity_index", "status", "origin", "reason", "sha256", "url", "width_px", "height_px", "score", "margin",
    "licence",
)  # fmt: skip
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse } td, th { padding: .2em .8em; border-bottom: 1px solid #ddd; text-align: left }
td.n { text-align: right } figure { display: inline-block; width: 9em; margin: .5em; vertical-align: top }
figure img { max-width: 100%; max-height: 8em } figcaption { font-size: 12px; overflow-wrap: anywhere }
img.plot { max-width: 100% }
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PictureSummary:
    """What became of the candidates of a build."""

    candidates: int
    kept: int
    entities: int  # that have a picture
    statuses: Mapping[str, int]  # commonest first
    origins: Mapping[str, Mapping[str, int]]  # origin → status → rows
    unmatched: Mapping[str, int]  # reason → pictures and statements that belong to no entity
    examples: Mapping[str, Mapping[str, str]]  # origin → status → the reason of one of these candidates
    unmatched_examples: Mapping[str, str]  # reason → one of them, and why in words
    licences: Mapping[str, int]  # of the kept ones; "" where nobody says


def summarise_pictures(build: Build) -> PictureSummary:
    """Count what became of every candidate of a build.

    Raises:
        ShardError: the build was made without pictures.
    """
    rows = build.images.to_table(columns=list(_COLUMNS))
    unmatched = build.image_unmatched.to_table(columns=["reason", "place", "detail"]).to_pylist()
    statuses, origins, reasons = (rows[name].to_pylist() for name in ("status", "origin", "reason"))
    examples: dict[str, dict[str, str]] = {}
    for origin, status, reason in zip(origins, statuses, reasons, strict=True):
        examples.setdefault(origin, {}).setdefault(status, reason)
    unmatched_examples: dict[str, str] = {}
    for row in unmatched:
        unmatched_examples.setdefault(row["reason"], f"{row['place']}: {row['detail']}")
    kept = rows.filter(_is(rows, "ok"))
    by_origin = {
        origin: _count(status for status, other in zip(statuses, origins, strict=True) if other == origin)
        for origin in sorted(set(origins))
    }
    return PictureSummary(
        candidates=rows.num_rows,
        kept=kept.num_rows,
        entities=pc.count_distinct(kept["entity_index"]).as_py(),
        statuses=_count(statuses),
        origins=by_origin,
        unmatched=_count(row["reason"] for row in unmatched),
        examples=examples,
        unmatched_examples=unmatched_examples,
        licences=_count(licence or "" for licence in kept["licence"].to_pylist()),
    )


def _is(rows: pa.Table, status: str) -> Any:
    return pc.equal(rows["status"].cast("string"), status)


def _count(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))


def draw_picture_charts(build: Build) -> dict[str, Figure]:
    """Plots of a build's pictures: statuses, pictures an entity, sizes, and scores where there are some."""
    rows = build.images.to_table(columns=list(_COLUMNS))
    statuses = _count(rows["status"].to_pylist())
    figure = make_figure(8, 1.8 + 0.32 * max(len(statuses), 2))
    ax = figure.subplots()
    figure.suptitle(
        f"{build.manifest.graph} {build.manifest.version}: {rows.num_rows:,} candidates by what became of them"
    )
    names = list(statuses)[::-1]
    draw_bars(ax, names, [statuses[name] for name in names], _COLOUR, "candidates")
    ax.set_xlabel("candidates")
    ax.xaxis.set_major_formatter(thousands())
    if not names:
        say_none(ax, "no candidates")
    charts = {"statuses": figure}
    kept = rows.filter(_is(rows, "ok"))
    per_entity = np.bincount(np.unique(kept["entity_index"].to_numpy(), return_counts=True)[1], minlength=2)[1:]
    charts["pictures an entity"] = _histogram(
        np.arange(1, len(per_entity) + 1), per_entity, "pictures kept", "entities"
    )
    sides = pc.min_element_wise(rows["width_px"], rows["height_px"]).drop_null().to_numpy()
    charts["sizes"] = _spread(sides, "shorter side (px)")
    for name, words in (("score", "cosine with “a picture of LABEL, a TYPE”"), ("margin", "margin over distractors")):
        values = rows[name].drop_null().to_numpy()
        if len(values):
            charts[f"{name}s"] = _spread(values, words)
    return charts


def _histogram(places: Any, heights: Any, x_label: str, y_label: str) -> Figure:
    figure = make_figure(6, 3)
    ax = figure.subplots()
    ax.bar(places, heights, color=_COLOUR)
    ax.set_xlabel(x_label)
    ax.set_ylabel(y_label)
    ax.yaxis.set_major_formatter(thousands())
    return figure


def _spread(values: Any, x_label: str) -> Figure:
    figure = make_figure(6, 3)
    ax = figure.subplots()
    if len(values):
        ax.hist(values, bins=40, color=_COLOUR)
    else:
        say_none(ax, "nothing was decoded")
    ax.set_xlabel(x_label)
    ax.set_ylabel("candidates")
    return figure


def write_picture_report(build: Build, target: Path) -> PictureSummary:
    """Write the page, whole or not at all.

    Args:
        build: a finished build with pictures.
        target: an HTML file.

    Returns:
        What it counts.
    """
    summary = summarise_pictures(build)
    title = html.escape(f"Pictures of {build.manifest.graph} {build.manifest.version}")
    parts = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title><style>{_STYLE}</style>",
        f"<h1>{title}</h1>",
        f"<p>{summary.candidates:,} candidates, {summary.kept:,} pictures kept, of {summary.entities:,} entities.</p>",
        _table("What became of them", summary.statuses, dict(ChainMap(*map(dict, summary.examples.values())))),
        _table("Found, but of no entity", summary.unmatched, summary.unmatched_examples),
        _table("Licences of the kept ones", {name or "not said": n for name, n in summary.licences.items()}, {}),
    ]
    for name, figure in draw_picture_charts(build).items():
        parts.append(f"<img class='plot' alt='{html.escape(name)}' src='{_data_uri(to_png(figure), 'png')}'>")
    parts += [_samples(build, status) for status in summary.statuses]
    write_bytes(target, "\n".join(part for part in parts if part).encode())
    return summary


def _table(title: str, counts: Mapping[str, int], examples: Mapping[str, str]) -> str:
    """Counts by name, each with an example of what is counted, if there are examples."""
    if not counts:
        return ""
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td class='n'>{n:,}</td><td>{html.escape(examples.get(name, ''))}</td></tr>"
        for name, n in counts.items()
    )
    return f"<h2>{html.escape(title)}</h2><table>{rows}</table>"


def _samples(build: Build, status: str) -> str:
    """A few candidates of a status that can be looked at, each with its entity and the reason."""
    condition = (pc.field("status") == status) & pc.field("sha256").is_valid()
    rows = build.images.to_table(columns=list(_COLUMNS), filter=condition).sort_by([("sha256", "ascending")])
    rows = rows.slice(0, _SAMPLES).to_pylist()
    content = read_pictures(build, _decoded(build, [row["sha256"] for row in rows]))
    figures = []
    for row in rows:
        if row["sha256"] in content:
            label = html.escape(build.entity_labels[row["entity_index"]])
            reason = html.escape(row["reason"])
            picture = _data_uri(_thumbnail(content[row["sha256"]]), "png")
            figures.append(f"<figure><img alt='' src='{picture}'><figcaption>{label}<br>{reason}</figcaption></figure>")
    return f"<h2>{html.escape(status)}</h2>{''.join(figures)}" if figures else ""


def _decoded(build: Build, sha256s: Sequence[str]) -> list[str]:
    """Those of some pictures that can be looked at."""
    wanted = pc.field("sha256").isin(pa.array(sha256s, pa.string()))
    rows = build.pictures.to_table(columns=["sha256"], filter=wanted & (pc.field("status") == "ok"))
    found: list[str] = rows["sha256"].to_pylist()
    return found


def _thumbnail(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(content)) as picture:
        picture.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
        picture.save(buffer, "PNG")
    return buffer.getvalue()


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
