"""The command export: a build as N-Triples, as splits for other libraries, or as files that a Neo4j server imports."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from mmkg.cli.output import BuildArgument, JsonOption, VersionOption, print_json, print_table
from mmkg.errors import ConfigError, unknown_name

FORMATS = ("ntriples", "tsv", "neo4j")


def export(
    build: BuildArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder to write into.")],
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="ntriples (every statement), tsv (train, valid and test for PyKEEN) or neo4j (files for "
            "`neo4j-admin database import full`, and the call).",
        ),
    ] = "ntriples",
    with_dropped: Annotated[bool, typer.Option(help="N-Triples: also what the build left out on purpose.")] = False,
    run: Annotated[
        bool, typer.Option("--run", help="Neo4j: import the files here; the server is on this machine and stopped.")
    ] = False,
    neo4j_admin: Annotated[
        str, typer.Option(metavar="COMMAND", help="Neo4j: how neo4j-admin is called, e.g. 'sudo -u neo4j neo4j-admin'.")
    ] = "neo4j-admin",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Neo4j: with --run, delete what the database holds before.")
    ] = False,
    version: VersionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a build as N-Triples without loss, its splits as TSV, or import files for an empty Neo4j.

    After an import, start the server and run `mmkg build` with store.uri set to it: it makes constraints and indexes,
    checks the digest and lets readers in.

    Example: mmkg export builds/atlas --output atlas-nt

    Example: mmkg export builds/atlas --format neo4j --output atlas-neo4j --run
    """
    from mmkg.builds import find_build_folder

    if form not in FORMATS:
        raise ConfigError(unknown_name("format", form, FORMATS))
    if form != "neo4j" and (run or overwrite):
        raise ConfigError(f"--run and --overwrite are for --format neo4j, found --format {form}")
    if overwrite and not run:
        raise ConfigError("--overwrite needs --run; without it nothing is imported, so nothing is deleted")
    folder = find_build_folder(build, version)
    if form == "neo4j":
        _export_neo4j(folder, output, neo4j_admin=neo4j_admin, run=run, overwrite=overwrite, as_json=as_json)
        return
    from mmkg.graph.export import export_ntriples, export_tsv

    if form == "ntriples":
        rows = export_ntriples(folder, output, with_dropped=with_dropped)
    else:
        rows = export_tsv(folder, folder, output)
    if as_json:
        print_json(rows)
        return
    print_table(["file", "lines"], [[str(output / name), count] for name, count in rows.items()])


def _export_neo4j(folder: Path, output: Path, *, neo4j_admin: str, run: bool, overwrite: bool, as_json: bool) -> None:
    from mmkg.builds.import_files import export_neo4j
    from mmkg.builds.versions import read_build_manifest
    from mmkg.cli.progress import step_progress
    from mmkg.config import StoreConfig
    from mmkg.store.neo4j.admin import run_import

    store = StoreConfig.model_validate(read_build_manifest(folder).config["store"])
    try:
        admin = tuple(shlex.split(neo4j_admin))
    except ValueError as error:
        raise ConfigError(f"--neo4j-admin {neo4j_admin}: {error}") from error
    if not admin:
        raise ConfigError("--neo4j-admin is empty: expected a command such as neo4j-admin")
    files = export_neo4j(folder, output)
    command = files.command(admin, database=store.database)
    report = None
    if run:
        uri = None if store.is_embedded else store.uri
        with step_progress() as progress:
            report = run_import(
                files,
                admin,
                uri=uri,
                database=store.database,
                overwrite=overwrite,
                progress=lambda step, percent: progress(step, percent, 100),
            )
    if as_json:
        print_json({**vars(files), "command": command, "imported": report and vars(report)})
        return
    sizes = [[str(output / name), (output / name).stat().st_size] for name in files.files]
    print_table(["file", "bytes"], sizes)
    print(f"{files.entities:,} entities, {files.relationships:,} relationships")
    if report is None:
        print(f"stop the server, then: cd {shlex.quote(str(output))} && {shlex.join(command)}")
    else:
        print(f"imported in {report.seconds:.1f} s")
    print("then start the server and run `mmkg build` with store.uri set to it, which finishes the load")
