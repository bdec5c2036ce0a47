"""Commands that make and compare builds: init, build, status, diff, rollback, export."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mmkg.cli import atlas
from mmkg.cli.output import BuildArgument, JsonOption, VersionOption, console, print_dumps, print_json, print_table
from mmkg.errors import ConfigError, unknown_name

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

# [[links]]
# kind = "sameas"              # owl:sameAs statements; or mmkb: `/m/… <SameAs> <…> .`
# paths = ["dumps/sameas.nt"]

[store]
uri = "embedded"

# [checks]                     # what stops a bad build from being served
# max_reject_share = 0.01
# max_triples_lost = 0.1
"""


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
    print(f"wrote {config}\nnext: mmkg build {config}")


def build(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The TOML file of the graph.")],
    until: Annotated[
        str, typer.Option(help="Stop after this stage: read, graph, splits, findings, adjacency or store.")
    ] = "store",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, e.g. graph.workers=2.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Build everything that is not yet there, and say what was done, skipped and rejected.

    Example: mmkg build examples/atlas/atlas.toml
    """
    from mmkg import pipeline
    from mmkg.cli.progress import reading_progress
    from mmkg.config import read_config

    if until not in pipeline.STAGES:
        raise ConfigError(unknown_name("stage", until, pipeline.STAGES))
    with reading_progress() as progress:
        report = pipeline.build(read_config(config, settings or []), until=until, progress=progress)
    if as_json:
        print_json(
            {
                "version": report.version,
                "folder": report.folder,
                "unchanged": report.unchanged,
                "removed_versions": report.removed_versions,
                "stages": [
                    {**vars(r.manifest), "tables": None, "skipped": r.skipped, "folder": r.folder}
                    for r in report.results
                ],
            }
        )
        return
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
    if report.folder:
        print(f"{'nothing has changed' if report.unchanged else 'built'}: {report.folder}")


def _summary(counts: Any) -> str:
    """The counts of a stage that are not zero, in one line."""
    parts = []
    for name, value in counts.items():
        if isinstance(value, dict):
            parts += [f"{name} {key} {number:,}" for key, number in value.items() if number]
        elif isinstance(value, int) and value and not isinstance(value, bool):
            parts.append(f"{name.replace('_', ' ')} {value:,}")
    return ", ".join(parts)


def status(build: BuildArgument, version: VersionOption = None, as_json: JsonOption = False) -> None:
    """Show a build's stages, counts, rejects by reason, digests and versions.

    Example: mmkg status builds/atlas
    """
    from mmkg.builds import list_versions, open_build, served_version

    with open_build(build, version) as opened:
        manifest = opened.manifest
        dumps = opened.dumps.to_table().to_pylist()
        rejects = (
            opened.rejects.to_table(columns=["dump", "reason"])
            .group_by(["dump", "reason"])
            .aggregate([([], "count_all")])
        )
        reasons = sorted(rejects.to_pylist(), key=lambda row: (row["dump"], row["reason"]))
        root = opened.folder.parent
    versions = [{"version": v, "served": v == served_version(root)} for v in list_versions(root)]
    if as_json:
        print_json({"manifest": vars(manifest), "dumps": dumps, "rejects": reasons, "versions": versions})
        return
    console.print(
        f"[bold]{manifest.graph}[/bold] {manifest.version}, built {manifest.created}, digest {manifest.digest}"
    )
    for problem in manifest.problems:
        console.print(f"[red]not served:[/red] {problem}")
    print_dumps(dumps)
    if reasons:
        print_table(["dump", "rejected because", "lines"], [[r["dump"], r["reason"], r["count_all"]] for r in reasons])
    others = [name for name in manifest.stages if not name.startswith("read:")]
    print_table(["stage", "digest", "result"], [[n, manifest.stages[n], _summary(manifest.counts[n])] for n in others])
    print_table(["version", "served"], [[v["version"], v["served"]] for v in versions])


def diff(
    old: Annotated[str, typer.Argument(metavar="BUILD", help="The earlier build.")],
    new: Annotated[str, typer.Argument(metavar="BUILD", help="The later build.")],
    as_json: JsonOption = False,
) -> None:
    """Say what changed between two builds, by ids.

    Example: mmkg diff builds/atlas/0001-3f2a91c0 builds/atlas
    """
    from mmkg.builds import open_build
    from mmkg.builds.compare import compare_builds

    with open_build(old) as before, open_build(new) as after:
        changes = compare_builds(before, after)
        dumps = {b: {row["dump"]: row["sha256"] for row in b.dumps.to_table().to_pylist()} for b in (before, after)}
    changed = sorted(name for name in dumps[before] | dumps[after] if dumps[before].get(name) != dumps[after].get(name))
    if as_json:
        print_json({"tables": changes, "changed_dumps": changed})
        return
    print_table(["table", "added", "removed", "kept"], [[name, *change.values()] for name, change in changes.items()])
    print(f"changed dumps: {', '.join(changed) or 'none'}")


def rollback(
    build: Annotated[Path, typer.Argument(metavar="BUILD", help="The graph's folder, such as builds/atlas.")],
    to: Annotated[
        str | None, typer.Option(help="Serve this version; the one before the served one unless given.")
    ] = None,
) -> None:
    """Serve an earlier version again; nothing is rebuilt.

    Example: mmkg rollback builds/atlas
    """
    from mmkg.builds import find_build_folder, roll_back, serve

    root = find_build_folder(build).parent
    if to is None:
        to = roll_back(root)
    else:
        serve(root, to)
    print(f"serving {root / to}")


def export(
    build: BuildArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder to write into.")],
    form: Annotated[
        str, typer.Option("--format", help="ntriples (every statement) or tsv (train, valid and test for PyKEEN).")
    ] = "ntriples",
    with_dropped: Annotated[bool, typer.Option(help="N-Triples: also what the build left out on purpose.")] = False,
    version: VersionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a build's statements as N-Triples without loss, or its splits as TSV.

    Example: mmkg export builds/atlas --output atlas-nt
    """
    from mmkg.builds import find_build_folder
    from mmkg.graph.export import export_ntriples, export_tsv

    folder = find_build_folder(build, version)
    if form == "ntriples":
        rows = export_ntriples(folder, output, with_dropped=with_dropped)
    elif form == "tsv":
        rows = export_tsv(folder, folder, output)
    else:
        raise ConfigError(unknown_name("format", form, ["ntriples", "tsv"]))
    if as_json:
        print_json(rows)
        return
    print_table(["file", "lines"], [[str(output / name), count] for name, count in rows.items()])
