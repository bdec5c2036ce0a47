"""What a run of the flow shows in Prefect's pages, as artifacts whose keys begin with what they show.

=====================  =================================================================================
key                    what it is
=====================  =================================================================================
dumps-GRAPH            table: each dump, and what became of its lines
rejects-GRAPH          table: each dump, why lines were rejected, how many
stages-GRAPH           how long each stage took, or that it was skipped, its digest and counts
checks-GRAPH           table: everything held against a limit of ``[checks]``; failures first
difference-GRAPH       table: what was added, removed and kept, against the version before
changes-GRAPH          the same in words: relations and sources that moved most, examples, changed dumps
plots-GRAPH            plots of the difference and of the graph
pictures-GRAPH         progress of fetching pictures
picture-statuses-GRAPH table: what became of every candidate picture
vectors-GRAPH          progress of embedding texts and pictures
load-GRAPH             progress of the load into a Neo4j server, renewed every few seconds
=====================  =================================================================================
"""

import base64
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from mmkg.builds import open_build, read_build_manifest
from mmkg.builds.check_report import CheckReport
from mmkg.builds.compare import Difference
from mmkg.config import Config
from mmkg.shards import StageResult

_SECONDS_BETWEEN_UPDATES = 5.0
_MOVERS = 20  # relations shown; the others are in `mmkg diff`


def artifact_key(what: str, config: Config) -> str:
    """The key of an artifact of a graph: Prefect takes lower-case letters, digits and dashes."""
    return f"{what}-{re.sub('[^a-z0-9]+', '-', config.graph.name.lower()).strip('-')}"


def show_dumps(config: Config, reads: Sequence[StageResult]) -> None:
    """Show what became of the lines of every dump, and why lines were rejected."""
    columns = ("source", "dump", "lines", "triples", "qualifiers", "rejects", "comments", "blank", "repaired")
    rows = [
        {**{column: result.manifest.counts[column] for column in columns}, "skipped": result.skipped}
        for result in reads
    ]
    create_table_artifact(
        key=artifact_key("dumps", config), table=rows, description="Lines of each dump: what became of every one."
    )
    rejects = [
        {"dump": result.manifest.counts["dump"], "rejected because": reason, "lines": lines}
        for result in reads
        for reason, lines in result.manifest.counts["reasons"].items()
        if lines
    ]
    if rejects:
        create_table_artifact(
            key=artifact_key("rejects", config), table=rejects, description="Rejected lines by reason."
        )


def show_stages(config: Config, results: Sequence[StageResult]) -> None:
    """Show what each stage after reading did."""
    lines = ["| stage | done in | digest | counts |", "| --- | --- | --- | --- |"]
    for result in results:
        if result.stage.name == "read":
            continue
        counts = ", ".join(
            f"{name.replace('_', ' ')} {value:,}"
            for name, value in result.manifest.counts.items()
            if isinstance(value, int) and value
        )
        done = "skipped" if result.skipped else f"{result.manifest.seconds:.1f} s"
        lines.append(f"| {result.stage.name} | {done} | {result.stage.digest} | {counts} |")
    create_markdown_artifact(
        key=artifact_key("stages", config), markdown="\n".join(lines), description="What each stage did."
    )


def show_checks(config: Config, report: CheckReport) -> None:
    """Show everything that was held against a limit, failures first; nothing when no limit is set."""
    if not report.checks:
        return
    failed = len(report.failed)
    create_table_artifact(
        key=artifact_key("checks", config),
        table=report.to_rows(),
        description=f"**{failed} of {len(report.checks)} did not pass.**" if failed else "All passed, or not tried.",
    )


def show_difference(config: Config, difference: Difference) -> None:
    """Show what differs from the version before: the counts as a table, and what moved most in words."""
    between = f"{difference.new_version} against {difference.old_version}"
    create_table_artifact(
        key=artifact_key("difference", config), table=difference.table_rows(), description=f"{between}."
    )
    moved = ("kind", "relation_id", "before", "after", "added", "removed")
    parts = [
        _cell(difference.summary()),
        f"Changed dumps: {', '.join(map(_cell, difference.changed_dumps)) or 'none'}",
        *_section("What moved most", moved, difference.movers[:_MOVERS]),
        *_section("By source", ("source", "table", "before", "after", "added", "removed"), difference.sources),
        *_section("Examples", ("change", "head", "relation", "tail"), difference.examples),
    ]
    create_markdown_artifact(
        key=artifact_key("changes", config), markdown="\n\n".join(parts), description="What has changed."
    )


def show_plots(config: Config, version: Path, difference: Difference | None) -> None:
    """Show how the graph grew, what moved most, and why lines were rejected.

    The pictures stand inside the text as data: URIs, which both of Prefect's pages show; an image artifact would want
    an address that the reader's browser can reach, and would print it below the picture.
    """
    from mmkg.builds.charts import count_reasons, draw_history, draw_movers, draw_rejects, read_history, to_png
    from mmkg.builds.picture_report import draw_picture_charts

    manifest = read_build_manifest(version)
    figures = {"History": draw_history(manifest.graph, read_history(version.parent))}
    if difference is not None:
        figures["Movers"] = draw_movers(difference)
    if reasons := count_reasons(manifest):
        figures["Rejects"] = draw_rejects(manifest.graph, manifest.version, reasons)
    with open_build(version) as build:
        if build.has_pictures:
            figures |= draw_picture_charts(build)
    images = [
        f"![{name}](data:image/png;base64,{base64.b64encode(to_png(figure)).decode()})"
        for name, figure in figures.items()
    ]
    create_markdown_artifact(
        key=artifact_key("plots", config), markdown="\n\n".join(images), description=f"Plots of {version.name}."
    )


def _section(title: str, columns: Sequence[str], rows: Sequence[Any]) -> list[str]:
    """A heading and a table in Markdown; nothing without rows."""
    if not rows:
        return []
    lines = [f"| {' | '.join(columns)} |", f"| {' | '.join('---' for _ in columns)} |"]
    lines += [f"| {' | '.join(_cell(getattr(row, column)) for column in columns)} |" for row in rows]
    return [f"### {title}", "\n".join(lines)]


def _cell(value: object) -> str:
    """One value as it may stand in a table: what comes from a dump must not end the cell or become markup."""
    if isinstance(value, int):
        return f"{value:,}"
    return re.sub(r"([\\`*_{}\[\]()<>#|!~&])", r"\\\1", " ".join(str(value).split()))


def show_pictures(config: Config, images: StageResult) -> None:
    """Show what became of every candidate picture, commonest first."""
    statuses = images.manifest.counts["statuses"]
    rows = [
        {"status": name, "candidates": count} for name, count in sorted(statuses.items(), key=lambda item: -item[1])
    ]
    if rows:
        create_table_artifact(
            key=artifact_key("picture-statuses", config), table=rows, description="What became of every candidate."
        )


def show_progress(config: Config, key: str) -> Callable[[str, int, int | None], None]:
    """What is told how far long work is, and shows it under a key; nothing is shown before the first word."""
    shown: UUID | None = None
    told_at, last = 0.0, ""

    def tell(what: str, done: int, total: int | None) -> None:
        nonlocal shown, told_at, last
        now = time.monotonic()
        if what == last and done != total and now - told_at < _SECONDS_BETWEEN_UPDATES:
            return
        told_at, last = now, what
        percent = 100.0 * done / total if total else 0.0
        description = f"{what}: {done:,} of {total:,}" if total else f"{what}: {done:,}"
        if shown is None:
            create = create_progress_artifact(progress=percent, key=artifact_key(key, config), description=description)
            shown = cast(UUID, create)
        else:
            update_progress_artifact(artifact_id=shown, progress=percent, description=description)

    return tell
