"""What stops a bad version from being served: a finished graph held against the limits of ``[checks]``.

The way of a fact ends here or goes on to the pointer: nothing is changed. Each limit that is set gives one row for each
thing it looks at, passed or not, and the rows are kept with the version as the table `checks`. Versions are compared by
ids, never by indices. Reading what a limit needs is left to ``measures.py``; a limit that is not set costs nothing.

==================== ==================================================================================================
limit                one row for each, and the share that is held against it
==================== ==================================================================================================
max_reject_share     dump: rejects / lines
max_triples_lost     graph: triples fewer than in the version being served / triples of that one
max_relation_drift   relation and attribute of min_relation_count statements or more: change / statements before
max_source_drift     triples and literals of each source: change / statements before
max_entities_lost    graph: ids of the version being served that are neither ids nor aliases now / ids before
max_orphan_share     graph: entities without triple / entities
max_unlabelled_share graph: entities without label / entities
max_null_share       column: entities with nothing there / entities
min_licence_share    triples and literals: those that a source with an allowed licence states / all
…picture…            see ``picture_checks.py``
==================== ==================================================================================================
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmkg.builds.check_report import Check, CheckReport, read_checks, write_checks
from mmkg.builds.measures import Measures, licence_of, licensed_sources, open_measures
from mmkg.builds.picture_checks import check_pictures, count_pictures
from mmkg.builds.versions import BuildManifest, read_build_manifest
from mmkg.config import Config
from mmkg.shards import Stage, run_stage

CHECKS_VERSION = 1

_GRAPH = "graph"
_FIRST_BUILD = "no version is being served yet"
Counts = Mapping[str, Mapping[str, Any]]


def check_version(
    config: Config,
    folder_of_new: Path,
    folder_of_served: Path | None,
    counts: Counts,
    previous_counts: Counts | None,
) -> CheckReport:
    """Hold a finished graph against the ``[checks]`` of its config.

    Args:
        config: the limits, and which licence a source has; a limit that is not set is not tried.
        folder_of_new: has the tables of the graph: the version's, or that of the stage that built the graph.
        folder_of_served: of the version being served, if there is one. What compares with it is not tried without.
        counts: of each stage by name: ``read:DUMP`` (lines, rejects), ``graph`` (triples), ``findings``.
        previous_counts: the same of the version being served.

    Returns:
        A row for each thing looked at. Time is linear in the rows of both graphs.

    Raises:
        BuildError: the served folder is no finished version.
        ShardError: a table is not there or not whole.
    """
    before = previous_counts if folder_of_served is not None else None
    rows = [*_check_rejects(config, counts, before), *_check_triples(config, counts, before)]
    rows += _check_shares(config, counts, before)
    limits = config.checks
    by_tables = (limits.max_relation_drift, limits.max_source_drift, limits.max_entities_lost, limits.min_licence_share)
    if limits.max_null_share or any(limit is not None for limit in by_tables):
        served = None
        if folder_of_served is not None:
            served = (folder_of_served, read_build_manifest(folder_of_served).source_names)
        with open_measures(config.graph, (folder_of_new, config.source_names), served) as measures:
            rows += _check_relations(config, measures)
            rows += _check_sources(config, measures)
            rows += _check_entities(config, measures)
            rows += _check_nulls(config, measures)
            rows += _check_licences(config, measures)
    return CheckReport(checks=tuple(rows))


def run_checks(
    config: Config,
    root: Path,
    graph_folder: Path,
    build_digest: str,
    counts: Counts,
    served: BuildManifest | None,
    images_folder: Path | None = None,
) -> tuple[CheckReport, Path]:
    """Check a build as a stage, so that the same build against the same served version is not measured again.

    Args:
        config: the limits, and which licence a source has.
        root: folder of the graph.
        graph_folder: of the stage that built the graph.
        build_digest: of all stages of the build, so of its tables and counts.
        counts: of each stage by name.
        served: manifest of the version being served, if there is one.
        images_folder: of the stage that chose the pictures, if the config asks for some.

    Returns:
        The report, and the folder with the table `checks`, which belongs into the version.
    """
    stage = Stage(
        name="checks",
        version=CHECKS_VERSION,
        inputs={"build": build_digest, "served": served.digest if served else ""},
        settings={
            "checks": config.checks.model_dump(mode="json", exclude={"shapes", "shacl_max_triples"}),
            "licences": [[source.name, licence_of(source)] for source in config.sources],
        },
    )

    def work(folder: Path) -> dict[str, int]:
        folder_of_served = root / served.version if served else None
        previous_counts = served.counts if served else None
        report = check_version(config, graph_folder, folder_of_served, counts, previous_counts)
        if images_folder is not None:
            has_pictures = folder_of_served is not None and previous_counts is not None and "images" in previous_counts
            before = count_pictures(folder_of_served, config.checks) if folder_of_served and has_pictures else None
            rows = check_pictures(config.checks, count_pictures(images_folder, config.checks), before)
            report = CheckReport(checks=(*report.checks, *rows))
        return write_checks(report, folder)

    result = run_stage(root / "stages", stage, work)
    return read_checks(result.folder), result.folder


def _row(name: str, subject: str, limit: float, part: int, whole: int, detail: str, before: int | None) -> Check:
    """A share that must not be above its limit; of nothing it is 0."""
    share = part / whole if whole else 0.0
    return Check(
        name=name,
        subject=subject,
        before=before,
        now=part,
        share=share,
        limit=limit,
        passed=share <= limit,
        detail=detail,
    )


def _not_tried(name: str, subject: str, limit: float, why: str) -> Check:
    return Check(name=name, subject=subject, before=None, now=None, share=None, limit=limit, passed=None, detail=why)


def _drift(name: str, subject: str, limit: float, before: int, now: int, what: str) -> Check:
    """How far a count moved, over what it was; from nothing to something has no share, so it is not tried."""
    if not before:
        detail = f"{subject}: {now:,} {what}, none before"
        return dataclasses.replace(_not_tried(name, subject, limit, detail), before=before, now=now)
    share = abs(now - before) / before
    word = (
        "as before" if now == before else f"{abs(now - before):,} {'more' if now > before else 'fewer'} than {before:,}"
    )
    detail = f"{subject}: {now:,} {what}, {word}"
    return Check(
        name=name,
        subject=subject,
        before=before,
        now=now,
        share=share,
        limit=limit,
        passed=share <= limit,
        detail=detail,
    )


# --- by the counts of the stages -------------------------------------------------------------------------------------


def _check_rejects(config: Config, counts: Counts, before: Counts | None) -> Iterator[Check]:
    limit = config.checks.max_reject_share
    if limit is None:
        return
    for stage, dump in counts.items():
        if stage.startswith("read:"):
            name = stage.removeprefix("read:")
            detail = f"{name}: {dump['rejects']:,} of {dump['lines']:,} lines are rejects"
            earlier = before[stage]["rejects"] if before and stage in before else None
            yield _row("max_reject_share", name, limit, dump["rejects"], dump["lines"], detail, earlier)


def _check_triples(config: Config, counts: Counts, before: Counts | None) -> Iterator[Check]:
    limit = config.checks.max_triples_lost
    if limit is None:
        return
    if before is None:
        yield _not_tried("max_triples_lost", _GRAPH, limit, _FIRST_BUILD)
        return
    now, earlier = counts["graph"]["triples"], before["graph"]["triples"]
    lost = max(earlier - now, 0)
    detail = f"{now:,} triples, {lost:,} fewer than the {earlier:,} of the version being served"
    yield dataclasses.replace(_row("max_triples_lost", _GRAPH, limit, lost, earlier, detail, earlier), now=now)


def _check_shares(config: Config, counts: Counts, before: Counts | None) -> Iterator[Check]:
    findings = counts["findings"]
    for name, limit, count, words in (
        ("max_orphan_share", config.checks.max_orphan_share, "orphans", "have no triple"),
        ("max_unlabelled_share", config.checks.max_unlabelled_share, "unlabelled", "have no label"),
    ):
        if limit is not None:
            earlier = before["findings"][count] if before else None
            detail = f"{findings[count]:,} of {findings['entities']:,} entities {words}"
            yield _row(name, _GRAPH, limit, findings[count], findings["entities"], detail, earlier)


# --- by the tables of both versions ----------------------------------------------------------------------------------


def _check_relations(config: Config, measures: Measures) -> Iterator[Check]:
    name, limit = "max_relation_drift", config.checks.max_relation_drift
    if limit is None:
        return
    if not measures.has_served:
        yield _not_tried(name, "all relations and attributes", limit, _FIRST_BUILD)
        return
    for kind, subject, before, now in measures.relation_counts():
        if before >= config.checks.min_relation_count:
            yield _drift(name, subject, limit, before, now, "triples" if kind == "relation" else "literals")


def _check_sources(config: Config, measures: Measures) -> Iterator[Check]:
    name, limit = "max_source_drift", config.checks.max_source_drift
    if limit is None:
        return
    if not measures.has_served:
        yield _not_tried(name, "all sources", limit, _FIRST_BUILD)
        return
    for table in ("triples", "literals"):
        before, now = measures.source_counts(table, served=True), measures.source_counts(table)
        for source in dict.fromkeys([*before, *now]):
            counted = before.get(source, 0), now.get(source, 0)
            if any(counted):
                yield _drift(name, f"{source} {table}", limit, *counted, "statements")


def _check_entities(config: Config, measures: Measures) -> Iterator[Check]:
    name, limit = "max_entities_lost", config.checks.max_entities_lost
    if limit is None:
        return
    if not measures.has_served:
        yield _not_tried(name, _GRAPH, limit, _FIRST_BUILD)
        return
    before, lost, examples = measures.lost_entities()
    such_as = f", such as {', '.join(examples)}" if examples else ""
    detail = f"{lost:,} of the {before:,} entities of the version being served are gone{such_as}"
    yield dataclasses.replace(_row(name, _GRAPH, limit, lost, before, detail, before), now=before - lost)


def _check_nulls(config: Config, measures: Measures) -> Iterator[Check]:
    if not config.checks.max_null_share:
        return
    now, before = measures.empty_columns(), measures.empty_columns(served=True) if measures.has_served else None
    for column, limit in config.checks.max_null_share.items():
        detail = f"{now[column]:,} of {now['entities']:,} entities have nothing in the column `{column}`"
        earlier = before[column] if before else None
        yield _row("max_null_share", column, limit, now[column], now["entities"], detail, earlier)


def _check_licences(config: Config, measures: Measures) -> Iterator[Check]:
    name, limit = "min_licence_share", config.checks.min_licence_share
    if limit is None:
        return
    allowed = licensed_sources(config)
    for table in ("triples", "literals"):
        rows, covered = measures.stated_by(table, allowed)
        if not rows:
            continue
        others = ", ".join(source for source in config.source_names if source not in allowed)
        without = f" (without one: {others})" if others else ""
        detail = f"{covered:,} of {rows:,} {table} are stated by a source with an allowed licence{without}"
        share = covered / rows
        earlier = measures.stated_by(table, allowed, served=True)[1] if measures.has_served else None
        yield Check(
            name=name,
            subject=table,
            before=earlier,
            now=covered,
            share=share,
            limit=limit,
            passed=share >= limit,
            detail=detail,
        )
