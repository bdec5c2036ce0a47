"""Commands about pictures: what became of them, asking again, a page to look at."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from mmkg.cli.output import BuildArgument, JsonOption, VersionOption, check_output, print_json, print_table

images = typer.Typer(
    no_args_is_help=True,
    help="Pictures of entities: what became of them, asking again, a page.\n\nExample: mmkg images status builds/atlas",
)


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.add_typer(images, name="images", rich_help_panel="Build")


@images.command()
def status(build: BuildArgument, version: VersionOption = None, as_json: JsonOption = False) -> None:
    """Say what became of every candidate of a build, by where it was found and why it was not kept.

    Example: mmkg images status builds/atlas
    """
    from mmkg.builds import open_build
    from mmkg.builds.picture_report import summarise_pictures

    with open_build(build, version) as opened:
        summary = summarise_pictures(opened)
    if as_json:
        print_json(vars(summary))
        return
    rows = [
        [origin, name, count, summary.examples[origin][name]]
        for origin, names in summary.origins.items()
        for name, count in names.items()
    ]
    print_table(["found by", "status", "candidates", "such as"], rows)
    if summary.unmatched:
        unmatched = [[name, count, summary.unmatched_examples[name]] for name, count in summary.unmatched.items()]
        print_table(["of no entity, because", "pictures", "such as"], unmatched)
    print_table(["licence", "pictures kept"], [[name or "not said", n] for name, n in summary.licences.items()])
    print(f"{summary.kept:,} pictures kept, of {summary.entities:,} entities; {summary.candidates:,} candidates")


@images.command()
def rot(build: BuildArgument, as_json: JsonOption = False) -> None:
    """Say by host how many addresses gave a picture, how many never did, and how many no longer do.

    Example: mmkg images rot builds/atlas
    """
    from mmkg.builds.retention import find_graph_folder
    from mmkg.builds.versions import PICTURES_FOLDER
    from mmkg.images.library import PictureLibrary
    from mmkg.images.rot import make_rot_report

    rows = make_rot_report(PictureLibrary(find_graph_folder(build) / PICTURES_FOLDER)).to_pylist()
    if as_json:
        print_json(rows)
    elif rows:
        print_table(list(rows[0]), [list(row.values()) for row in rows])
    else:
        print("nothing was fetched yet")


@images.command()
def retry(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The TOML file of the graph.")],
    transient: Annotated[
        bool, typer.Option("--transient/--all", help="Only what failed in passing, or what failed for good too.")
    ] = True,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the config.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask again for pictures that did not come; the next `mmkg build` takes what has come.

    Example: mmkg images retry atlas.toml --transient
    """
    from mmkg import pipeline
    from mmkg.cli.progress import step_progress
    from mmkg.config import read_config

    read = read_config(config, settings or ())
    with step_progress() as progress:
        report = pipeline.retry_pictures(read, retry="transient" if transient else "all", progress=progress)
    if as_json:
        print_json(vars(report))
        return
    if not report.statuses:
        print("nothing has failed in passing; --all asks for the rest too" if transient else "nothing has failed")
        return
    print_table(["status", "addresses"], [[name, count] for name, count in report.statuses.items()])
    print(f"next: mmkg build {shlex.quote(str(config))}")


@images.command()
def report(
    build: BuildArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file.")] = Path("pictures.html"),
    version: VersionOption = None,
) -> None:
    """Write a page with plots and samples of what was kept, and of what was not and why.

    Example: mmkg images report builds/atlas --output pictures.html
    """
    from mmkg.builds import open_build
    from mmkg.builds.picture_report import write_picture_report

    check_output(output, ".html", ".htm")
    with open_build(build, version) as opened:
        summary = write_picture_report(opened, output)
    print(f"{summary.kept:,} of {summary.candidates:,} candidates kept; the page is {output}")
