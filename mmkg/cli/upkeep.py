"""The command that gives disk space back: gc."""

from typing import Annotated

import typer

from mmkg.cli.output import BuildArgument, JsonOption, print_json, print_table


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command(rich_help_panel="Build")(gc)


def gc(
    build: BuildArgument,
    keep: Annotated[
        int | None,
        typer.Option(min=1, help="How many of the newest versions stay; graph.keep_builds of the config unless given."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove versions, stages and downloads that nobody needs, and say how many bytes that gives back.

    The version being served stays, and so does the one that a rollback would take, unless --keep is 1. What an
    unfinished build has done goes too: finish it first if it is to be gone on with.

    Example: mmkg gc builds/atlas --keep 2 --dry-run
    """
    from mmkg.builds.lock import hold_graph
    from mmkg.builds.retention import find_garbage, find_graph_folder, keep_of, remove_garbage

    root = find_graph_folder(build)
    with hold_graph(root, holder="mmkg gc"):
        garbage = find_garbage(root, keep=keep_of(root) if keep is None else keep)
        if not dry_run:
            remove_garbage(root, garbage)
    freed = sum(item.bytes for item in garbage)
    if as_json:
        print_json({"graph": root, "dry_run": dry_run, "removed": [vars(item) for item in garbage], "bytes": freed})
        return
    if garbage:
        print_table(["kind", "what", "bytes"], [[item.kind, str(item.path), item.bytes] for item in garbage])
    done = "would be removed" if dry_run else "removed"
    print(f"{len(garbage):,} things {done}, {freed:,} bytes given back" if garbage else "nothing to remove")
