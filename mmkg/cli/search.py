"""The command that finds by meaning and by looks: search."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mmkg.cli.output import BuildArgument, JsonOption, VersionOption, check_output, print_json, print_table
from mmkg.errors import ConfigError, NotFound


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(rich_help_panel="Ask")(search)


def search(
    build: BuildArgument,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="Words, or a file with a picture.")],
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="How many pictures, and how many entities.")] = 5,
    where: Annotated[
        str | None,
        typer.Option(metavar="CYPHER", help="Only entities whose entity_id is in the first column of its answer."),
    ] = None,
    index: Annotated[
        Literal["auto", "exact", "usearch"], typer.Option(help="exact scans all vectors; auto does up to a million.")
    ] = "auto",
    draw: Annotated[Path | None, typer.Option(help="Draw the pictures that were found to this .png file.")] = None,
    version: VersionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the pictures, and the entities by their texts, that are nearest to words or to a picture.

    Example: mmkg search builds/atlas "a red flag with a cross"
    """
    from mmkg.builds import open_build
    from mmkg.builds.pictures import draw_sheet, read_pictures
    from mmkg.builds.search import search as find

    asked = _read_query(query)
    if draw is not None:
        check_output(draw, ".png")
    with open_build(build, version) as opened:
        allowed = None if where is None else opened.query(where).column(0).to_pylist()
        if allowed is not None and not all(isinstance(entity_id, str) for entity_id in allowed):
            raise ConfigError("--where: expected a query whose first column is entity_id, such as RETURN e.entity_id")
        found = find(opened, asked, k=k, entity_ids=allowed, index=index)
        if draw is not None:
            seen = [(f"{hit.score:.3f} {', '.join(hit.labels)}", hit.sha256) for hit in found.pictures if hit.sha256]
            content = read_pictures(opened, [sha256 for _, sha256 in seen])
            draw_sheet([(caption, content[sha256]) for caption, sha256 in seen], draw)
    if as_json:
        print_json(
            {"pictures": [vars(hit) for hit in found.pictures], "entities": [vars(hit) for hit in found.entities]}
        )
        return
    if found.pictures:
        print_table(["picture of", "cosine", "found at"], [[h.labels, h.score, h.url] for h in found.pictures])
    if found.entities:
        print_table(["entity by its text", "cosine", "id"], [[h.labels, h.score, h.entity_ids] for h in found.entities])
    if not found.pictures and not found.entities:
        print("nothing found")
    for what, recall in found.recall.items():
        if recall is not None:
            print(f"{what}: by an index that finds {recall:.1%} of the 10 nearest")
    if draw is not None:
        print(f"drew {draw}")


def _read_query(query: str) -> str | Path:
    """The file that a query names, else its words.

    Raises:
        NotFound: it can only be the name of a picture, and there is no such file.
    """
    from mmkg.images.folders import PICTURE_ENDINGS

    path = Path(query)
    try:
        if path.is_file():
            return path
    except OSError:  # words that are too long for a name
        return query
    if path.suffix.lower() in PICTURE_ENDINGS:
        raise NotFound(f"{query}: no such file. Expected words, or the path of a picture.")
    return query
