"""Commands that make and compare builds: init, build, status, diff, rollback, export."""

import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmkg.cli import atlas
from mmkg.cli.export import export
from mmkg.cli.output import (
    BuildArgument,
    JsonOption,
    VersionOption,
    cell_text,
    console,
    print_dumps,
    print_json,
    print_table,
)
from mmkg.errors import CheckFailed, ConfigError, unknown_name

_MOVERS_SHOWN = 20

if TYPE_CHECKING:
    from mmkg.builds.publishing import BuildReport
    from mmkg.store.neo4j import Neo4jLoadReport

_OWN_CONFIG = """# One file describes one graph. `mmkg build graph.toml` does what is not yet done.
# Every key, with its meaning: schemas/config/mmkg.schema.json. Unknown keys are errors.

[graph]
name = "{name}"
output = "builds"              # builds/{name}/<version>/, and a pointer to the one being served
languages = ["en"]             # order in which labels and descriptions are chosen
memory_limit = "4GB"           # beyond it, the relational engine spills to disk

[[sources]]
kind = "ntriples"              # freebase | dbpedia | yago | mmkb | ntriples | tsv
paths = ["dumps/*.nt.gz"]      # files, folders or globs; gzip, bzip2, zstd and plain are told apart by content
# urls = ["https://…/x.nt.gz"] # files to fetch before each build, when they have changed

# [[links]]
# kind = "sameas"              # owl:sameAs statements; or mmkb: `/m/… <SameAs> <…> .`
# paths = ["dumps/sameas.nt"]

[store]
uri = "embedded"               # or a Neo4j server such as neo4j://localhost:7687; its password is in $NEO4J_PASSWORD

# [images]                     # pictures of entities; docs/pictures.md
# from_graph = true            # those that the graph states by foaf:depiction, dbo:thumbnail, schema:image
# [[images.folders]]           # those of a folder of this machine
# path = "pictures"
# mapping = "pictures.tsv"     # a line of column names, file<tab>entity, then one line a picture

# [fetch]
# contact = "you@example.org"  # in the User-Agent: without it no server is asked

# [embeddings]                 # vectors of texts and pictures, for `mmkg search`
# kind = "clip"
# model = "ViT-B-32"           # any model of open_clip
# pretrained = "laion2b_s34b_b79k"

# [checks]                     # what stops a bad build from being served; docs/checks.md explains each
# max_reject_share = 0.01
# max_triples_lost = 0.1
# max_relation_drift = 0.5
# max_entities_lost = 0.05

# [notify]                     # who is told how a rebuild ended: a program that gets JSON, or a webhook
# command = ["./tell-me"]
"""


ForceOption = Annotated[
    bool, typer.Option("--force", help="Neo4j: take a store that somebody else wrote into; what they wrote is lost.")
]


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for command in (init, build, status, diff, rollback, export):
        app.command(rich_help_panel="Build")(command)


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make.")] = Path("my-graph"),
    bundled_atlas: Annotated[
        bool, typer.Option("--atlas", help="Copy the bundled graph of countries, to play with.")
    ] = False,
) -> None:
    """Write a commented config: for your own dumps, or for the bundled atlas.

    Example: mmkg init my-graph && mmkg build my-graph/graph.toml
    """
    if bundled_atlas:
        config = atlas.copy_atlas(folder)
    else:
        config = folder / "graph.toml"
        if config.exists():
            raise ConfigError(f"{config}: is there already. Choose another folder, or edit it.")
        (folder / "dumps").mkdir(parents=True, exist_ok=True)
        config.write_text(_OWN_CONFIG.format(name=folder.resolve().name), encoding="utf-8")
    print(f"wrote {config}\nnext: mmkg build {shlex.quote(str(config))}")


def build(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The TOML file of the graph.")],
    until: Annotated[
        str,
        typer.Option(
            help="Stop after this stage: read, graph, splits, findings, adjacency, candidates, pictures, vectors, "
            "images or store."
        ),
    ] = "store",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, e.g. graph.workers=2.")
    ] = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="Serve it this once though checks do not pass, or it was rolled back.")
    ] = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Build everything that is not yet there, and say what was done, skipped and rejected.

    Example: mmkg build examples/atlas/atlas.toml
    """
    from mmkg import pipeline
    from mmkg.cli.progress import reading_progress, step_progress
    from mmkg.config import read_config

    if until not in pipeline.STAGES:
        raise ConfigError(unknown_name("stage", until, pipeline.STAGES))
    try:
        with reading_progress() as progress, step_progress() as steps:
            report = pipeline.build(
                read_config(config, settings or []),
                until=until,
                accept=accept,
                force=force,
                progress=progress,
                step_progress=steps,
            )
    except CheckFailed as error:
        if error.report is not None and not as_json:
            columns = ("name", "subject", "before", "now", "share", "limit")
            rows = [[row[column] for column in columns] for row in error.report.to_rows(only_failed=True)]
            print_table(["check", *columns[1:]], rows)
        raise
    if as_json:
        print_json(
            {
                "version": report.version,
                "folder": report.folder,
                "unchanged": report.unchanged,
                "withdrawn": report.withdrawn,
                "removed_versions": report.removed_versions,
                "delivery": report.delivery and vars(report.delivery),
                "stages": [
                    {**vars(r.manifest), "tables": None, "skipped": r.skipped, "folder": r.folder}
                    for r in report.results
                ],
            }
        )
        return
    _print_built(report)


def _print_built(report: "BuildReport") -> None:
    """What a build did, stage by stage."""
    print_dumps([r.manifest.counts for r in report.results if r.stage.name == "read"])
    rows = [
        [
            r.stage.name,
            "skipped" if r.skipped else f"{r.manifest.seconds:.1f} s",
            r.stage.digest,
            _summary(r.manifest.counts),
        ]
        for r in report.results
        if r.stage.name != "read"
    ]
    if rows:
        print_table(["stage", "done in", "digest", "result"], rows)
    if report.delivery:
        print(_describe_load(report.delivery))
    if report.folder:
        done = "rolled back before, so not served again" if report.withdrawn else "nothing has changed"
        print(f"{done if report.unchanged else 'built'}: {report.folder}")


def _summary(counts: Any) -> str:
    """The counts of a stage that are not zero, in one line."""
    parts = []
    for name, value in counts.items():
        if isinstance(value, dict):
            parts += [f"{name} {key} {number:,}" for key, number in value.items() if number]
        elif isinstance(value, int) and value and not isinstance(value, bool):
            parts.append(f"{name.replace('_', ' ')} {value:,}")
    return ", ".join(parts)


def _describe_load(report: "Neo4jLoadReport") -> str:
    """What a server's load did, in one line."""
    changes = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in report.changes.items())
    taken = f"; of somebody else, removed: {cell_text(report.foreign)}" if report.foreign else ""
    waited = f"; readers waited {report.commit_seconds:.2f} s" if report.commit_seconds else ""
    nothing = "the same content" if report.how == "renamed" else "nothing written"
    holds = f"holds {report.entities:,} entities, {report.relationships:,} relationships"
    holds += f", {report.images:,} pictures" if report.images else ""
    return f"neo4j: {report.how}, {holds} ({changes or nothing}{taken}{waited})"


def status(build: BuildArgument, version: VersionOption = None, as_json: JsonOption = False) -> None:
    """Show a build's stages, counts, rejects by reason, digests, versions, and who is rebuilding it now.

    Example: mmkg status builds/atlas
    """
    from mmkg.builds import list_versions, open_build, served_version
    from mmkg.builds.lock import who_holds
    from mmkg.builds.serving import read_served

    with open_build(build, version) as opened:
        manifest = opened.manifest
        dumps = opened.dumps.to_table().to_pylist()
        rejects = (
            opened.rejects.to_table(columns=["dump", "reason"])
            .unify_dictionaries()  # each dump's part of the table has its own
            .group_by(["dump", "reason"])
            .aggregate([([], "count_all")])
        )
        reasons = sorted(rejects.to_pylist(), key=lambda row: (row["dump"], row["reason"]))
        root = opened.folder.parent
    now, withdrawn = served_version(root), read_served(root).withdrawn
    versions = [{"version": v, "served": v == now, "withdrawn": v in withdrawn} for v in list_versions(root)]
    holder = who_holds(root)
    if as_json:
        held_by = dataclasses.asdict(holder) if holder else None
        print_json(
            {"manifest": vars(manifest), "dumps": dumps, "rejects": reasons, "versions": versions, "held_by": held_by}
        )
        return
    console.print(
        f"[bold]{manifest.graph}[/bold] {manifest.version}, built {manifest.created}, digest {manifest.digest}"
    )
    for problem in manifest.problems:
        word = "accepted:" if manifest.may_be_served else "[red]not served:[/red]"
        console.print(f"{word} {problem}")
    print_dumps(dumps)
    if reasons:
        print_table(["dump", "rejected because", "lines"], [[r["dump"], r["reason"], r["count_all"]] for r in reasons])
    others = [name for name in manifest.stages if not name.startswith("read:")]
    print_table(["stage", "digest", "result"], [[n, manifest.stages[n], _summary(manifest.counts[n])] for n in others])
    print_table(["version", "served", "rolled back"], [list(v.values()) for v in versions])
    if holder:
        print(f"held by {holder.describe()}")


def diff(
    old: Annotated[str, typer.Argument(metavar="BUILD", help="The earlier build.")],
    new: Annotated[str, typer.Argument(metavar="BUILD", help="The later build.")],
    as_json: JsonOption = False,
) -> None:
    """Say what changed between two builds, by ids.

    Example: mmkg diff builds/atlas/0001-3f2a91c0 builds/atlas
    """
    from mmkg.builds import open_build
    from mmkg.builds.compare import find_differences

    with open_build(old) as before, open_build(new) as after:
        found = find_differences(before, after)
    if as_json:
        print_json(dataclasses.asdict(found))
        return
    print_table(["table", "added", "removed", "kept"], [list(row.values()) for row in found.table_rows()])
    changes = ["before", "after", "added", "removed"]
    moved = [list(vars(row).values()) for row in found.movers]
    if moved:
        print_table(["", "what moved most", *changes], moved[:_MOVERS_SHOWN])
    if len(moved) > _MOVERS_SHOWN:
        print(f"and {len(moved) - _MOVERS_SHOWN:,} more; all with --json")
    print_table(["source", "states", *changes], [list(vars(row).values()) for row in found.sources])
    if found.examples:
        print_table(["such as", "head", "relation", "tail"], [list(vars(row).values()) for row in found.examples])
    print(f"changed dumps: {', '.join(found.changed_dumps) or 'none'}")


def rollback(
    build: Annotated[Path, typer.Argument(metavar="BUILD", help="The graph's folder, such as builds/atlas.")],
    to: Annotated[str | None, typer.Option(help="Serve this version; the one served before unless given.")] = None,
    force: ForceOption = False,
) -> None:
    """Serve an earlier version again, on the server too if the graph has one; nothing is rebuilt.

    What was served after it is withdrawn: a build that makes the same again does not serve it, unless with --accept.

    Example: mmkg rollback builds/atlas
    """
    from mmkg.builds import find_build_folder, switch_to, version_before
    from mmkg.builds.lock import hold_graph
    from mmkg.cli.progress import step_progress

    root = find_build_folder(build).parent
    with hold_graph(root), step_progress() as progress:
        to = to or version_before(root)
        report = switch_to(root, to, back=True, force=force, progress=progress)
    if report:
        print(_describe_load(report))
    print(f"serving {root / to}")
