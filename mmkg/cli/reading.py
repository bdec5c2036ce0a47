"""Commands around dumps and the machine: read (a look at a new dump) and doctor (what is missing, how to mend it)."""

import dataclasses
import os
from pathlib import Path
from typing import Annotated

import typer

from mmkg.cli import doctor as checks
from mmkg.cli.output import JsonOption, print_dumps, print_json, print_table
from mmkg.errors import ConfigError

_REJECTS_SHOWN = 10


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command(rich_help_panel="Look")(read)
    app.command(rich_help_panel="Look")(doctor)


def read(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="freebase, dbpedia, yago, mmkb, ntriples or tsv.")],
    dumps: Annotated[list[str], typer.Argument(metavar="DUMP...", help="Files, folders or globs.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the tables; must not exist.")
    ],
    base_iri: Annotated[str, typer.Option(help="What relative names are put behind.")] = "",
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 is one a core.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Read dumps to `triples_raw` and `rejects`, for a look at a new file; nothing is built.

    Example: mmkg read dbpedia dumps/labels_en.ttl.bz2 --output look
    """
    from mmkg.cli.progress import reading_progress
    from mmkg.config import SourceConfig
    from mmkg.pipeline import Dump
    from mmkg.shards import open_table
    from mmkg.sources import dump_names, find_dumps, read_dump

    if output.exists():
        raise ConfigError(f"{output}: is there already. Choose another folder, or remove it.")
    source = SourceConfig(kind=kind, paths=tuple(dumps), base_iri=base_iri)
    paths = find_dumps(source.paths)
    counts = []
    rejects = []
    with reading_progress() as progress:
        for path, name in zip(paths, dump_names(paths), strict=True):
            dump = Dump(section=source, path=path, name=name)
            folder = output / name
            bar = progress(dump)
            found = read_dump(source, path, name, folder, workers=workers or os.cpu_count() or 1, progress=bar)
            counts.append(dataclasses.asdict(found))
            rejects += open_table(folder, "rejects").head(_REJECTS_SHOWN).to_pylist()
    if as_json:
        print_json({"dumps": counts, "first_rejects": rejects})
        return
    print_dumps(counts, with_source=False)
    if rejects:
        rows = [
            [f"{r['dump']}:{r['line']}", r["reason"], r["raw"][:80].decode("utf-8", "backslashreplace")]
            for r in rejects
        ]
        print_table(["first rejects", "reason", "line"], rows)
    print(f"wrote {output}")


def doctor(as_json: JsonOption = False) -> None:
    """Check this installation and machine; each fault comes with what mends it.

    Example: mmkg doctor
    """
    results = checks.examine()
    if as_json:
        print_json([dataclasses.asdict(result) for result in results])
    else:
        print_table(["check", "", "found", "to mend it"], [[r.name, r.verdict, r.found, r.remedy] for r in results])
    if any(result.verdict == "fault" for result in results):
        raise typer.Exit(1)
