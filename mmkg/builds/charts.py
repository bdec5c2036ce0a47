"""Plots of builds for people: how a graph grew, what moved most, why lines were rejected; PNG files.

Drawn with Matplotlib's Agg canvas and without ``pyplot``, so that a scheduled run needs no display and threads do not
share figures. Data comes from manifests and from :mod:`mmkg.builds.compare`; nothing is measured here.
"""

import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from mmkg.builds.compare import Difference
from mmkg.builds.versions import BuildManifest, list_versions, read_build_manifest, served_version
from mmkg.shards import write_bytes

_PANELS = ("entities", "triples", "literals", "rejects")
_ADDED, _REMOVED, _NEUTRAL = "#2a7f62", "#b3432b", "#3b6ea5"  # told apart by the colour-blind, and in grey
_DOTS_PER_INCH = 120
_MAX_NAME_CHARACTERS = 48
_MAX_TICKS = 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class VersionCounts:
    """What one kept version holds."""

    version: str
    created: str  # ISO 8601, UTC
    served: bool  # now
    passed: bool  # or was accepted
    entities: int
    triples: int
    literals: int
    rejects: int  # of all dumps


def read_history(root: Path) -> list[VersionCounts]:
    """Counts of the kept versions of a graph, oldest first; those that were stopped by a check among them."""
    served = served_version(root)
    return [_counts_of(read_build_manifest(root / version), served) for version in list_versions(root)]


def _counts_of(manifest: BuildManifest, served: str | None) -> VersionCounts:
    graph = manifest.counts["graph"]
    return VersionCounts(
        version=manifest.version,
        created=manifest.created,
        served=manifest.version == served,
        passed=manifest.may_be_served,
        rejects=sum(dump["rejects"] for name, dump in manifest.counts.items() if name.startswith("read:")),
        **{name: graph[name] for name in ("entities", "triples", "literals")},
    )


def count_reasons(manifest: BuildManifest) -> dict[str, int]:
    """Rejected lines of all dumps of a version by reason, commonest first."""
    reasons: dict[str, int] = {}
    for name, dump in manifest.counts.items():
        if name.startswith("read:"):
            for reason, lines in dump["reasons"].items():
                reasons[reason] = reasons.get(reason, 0) + lines
    return dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))


def draw_history(graph: str, history: Sequence[VersionCounts]) -> Figure:
    """Entities, triples, literals and rejected lines of each version: four panels, each with its own scale.

    A version that its checks stopped has a cross; the one being served is named in the title.
    """
    figure = make_figure(9, 6)
    served = next((counts.version for counts in history if counts.served), "none")
    crosses = "" if all(counts.passed for counts in history) else "; ×: stopped by its checks"
    figure.suptitle(f"{graph}: what its versions hold (served: {served}{crosses})")
    names = [counts.version.partition("-")[0] for counts in history]
    axes = figure.subplots(2, 2, squeeze=False)
    for panel, ax in zip(_PANELS, axes.flat, strict=True):
        values = [getattr(counts, panel) for counts in history]
        places = range(len(values))
        ax.plot(places, values, color=_NEUTRAL, marker="o")
        stopped = [place for place in places if not history[place].passed]
        ax.plot(stopped, [values[place] for place in stopped], "x", color=_REMOVED, markersize=11, markeredgewidth=2)
        ax.set_title("rejected lines" if panel == "rejects" else panel)
        shown = list(places)[:: -(-len(names) // _MAX_TICKS) or 1]
        ax.set_xticks(shown, [names[place] for place in shown])
        ax.set_xlabel("version")
        ax.set_ylabel("lines" if panel == "rejects" else "count")
        ax.set_ylim(*_limits(values))
        ax.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        ax.yaxis.set_major_formatter(thousands())
        ax.grid(axis="y", alpha=0.3)
    return figure


def _limits(values: Sequence[int]) -> tuple[float, float]:
    """From 0, unless the values are so near to each other that a change would not be seen."""
    low, high = min(values, default=0), max(values, default=0)
    if low > 0.8 * high:
        margin = max(high - low, 0.02 * high, 1)
        return max(low - margin, 0), high + margin
    return 0, high * 1.1 or 1


def draw_movers(difference: Difference, *, max_relations: int = 15) -> Figure:
    """What came (right) and went (left) of the relations and attributes that moved most."""
    movers = difference.movers[:max_relations][::-1]
    figure = make_figure(9, 1.8 + 0.32 * max(len(movers), 2))
    ax = figure.subplots()
    figure.suptitle(f"What moved most: {difference.new_version} against {difference.old_version}")
    draw_bars(ax, [shorten(row.relation_id) for row in movers], [row.added for row in movers], _ADDED, "added")
    draw_bars(ax, [shorten(row.relation_id) for row in movers], [-row.removed for row in movers], _REMOVED, "removed")
    ax.set_xlabel("statements (left: removed, right: added)")
    ax.axvline(0, color="black", linewidth=0.8)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    ax.xaxis.set_major_formatter(thousands(signless=True))
    if movers:
        figure.legend(loc="outside lower right", ncols=2, frameon=False)
        rest = len(difference.movers) - len(movers)
        if rest > 0:
            ax.set_ylabel(f"and {rest:,} more")
    else:
        say_none(ax, "no statement came or went")
    return figure


def draw_rejects(graph: str, version: str, reasons: Mapping[str, int]) -> Figure:
    """Rejected lines by reason, commonest on top."""
    figure = make_figure(8, 1.8 + 0.32 * max(len(reasons), 2))
    ax = figure.subplots()
    total = sum(reasons.values())
    figure.suptitle(f"{graph} {version}: {total:,} rejected lines by reason")
    names = list(reasons)[::-1]
    draw_bars(ax, names, [reasons[name] for name in names], _NEUTRAL, "lines")
    ax.set_xlabel("lines")
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    ax.xaxis.set_major_formatter(thousands())
    if not names:
        say_none(ax, "every line was accepted")
    return figure


def to_png(figure: Figure) -> bytes:
    """The pixels of a figure as PNG."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", dpi=_DOTS_PER_INCH)
    return buffer.getvalue()


def write_charts(root: Path, version: str, folder: Path, difference: Difference | None = None) -> list[Path]:
    """Draw ``history.png``, ``rejects.png`` and, with a difference, ``movers.png``; returns their paths.

    Args:
        root: folder of the graph.
        version: whose rejects are drawn.
        folder: where the pictures go; made if it is not there.
        difference: to the version before, if there is one.
    """
    manifest = read_build_manifest(root / version)
    figures = {"history": draw_history(manifest.graph, read_history(root))}
    if difference is not None:
        figures["movers"] = draw_movers(difference)
    figures["rejects"] = draw_rejects(manifest.graph, version, count_reasons(manifest))
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in figures.items():
        write_bytes(folder / f"{name}.png", to_png(figure))
        paths.append(folder / f"{name}.png")
    return paths


def shorten(iri: str) -> str:
    """The end of an IRI that a person reads, cut at the front where it is long.

    >>> shorten("http://dbpedia.org/ontology/capital")
    'capital'
    """
    name = iri.rstrip("/#").rpartition("#")[2].rpartition("/")[2]
    return name if len(name) <= _MAX_NAME_CHARACTERS else "…" + name[1 - _MAX_NAME_CHARACTERS :]


def make_figure(width_inches: float, height_inches: float) -> Figure:
    """An empty figure whose parts do not overlap."""
    return Figure(figsize=(width_inches, height_inches), layout="constrained")


def draw_bars(ax: Axes, names: Sequence[str], values: Sequence[int], colour: str, label: str) -> None:
    """One horizontal bar a name, with its number beside it; by place, as two IRIs can have one short name."""
    bars = ax.barh(range(len(names)), values, color=colour, label=label)
    ax.bar_label(bars, labels=[f"{abs(value):,}" if value else "" for value in values], padding=3, fontsize=8)
    ax.set_yticks(range(len(names)), names)
    ax.margins(x=0.15)


def say_none(ax: Axes, words: str) -> None:
    """Write across an empty plot why it is empty."""
    ax.text(0.5, 0.5, words, transform=ax.transAxes, ha="center", va="center")
    ax.set_yticks([])


def thousands(*, signless: bool = False) -> FuncFormatter:
    """Numbers of an axis with thousands separated, without their sign if it only tells the direction."""

    def text(value: Any, _place: Any) -> str:
        return f"{abs(value) if signless else value:,.0f}"

    return FuncFormatter(text)
