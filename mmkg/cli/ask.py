"""Commands that ask a build: query, show, why, subgraph."""

import csv
import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mmkg.cli.output import (
    BuildArgument,
    JsonOption,
    VersionOption,
    cell_text,
    check_output,
    console,
    print_json,
    print_table,
)
from mmkg.errors import ConfigError, NotFound, unknown_name

EntityArgument = Annotated[str, typer.Argument(metavar="ENTITY", help="Its id, a merged id, or its label.")]
_ROWS_OF_A_CARD = 12


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for command in (query, show, why, subgraph):
        app.command(rich_help_panel="Ask")(command)


def _parameters(settings: list[str]) -> dict[str, Any]:
    """NAME=VALUE options; a value is read as JSON where it is JSON, else as a string."""
    parameters = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"--param {setting}: expected name=value, such as label=France")
        try:
            parameters[name] = json.loads(text)
        except json.JSONDecodeError:
            parameters[name] = text
    return parameters


def query(
    build: BuildArgument,
    cypher: Annotated[str, typer.Argument(metavar="CYPHER", help="A reading query; - reads it from standard input.")],
    param: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Value of $NAME in the query.")] = None,
    form: Annotated[str, typer.Option("--format", help="table, json, csv or parquet.")] = "table",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write instead of the terminal.")
    ] = None,
    version: VersionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask in Cypher: the build's own store, or the Neo4j server that its config names.

    docs/inspection.md has queries that read the same on both: cards, neighbours, hubs, facts of one source, paths.
    Two things do not: shortest paths are `[* SHORTEST 1..4]` in the build's own store and
    `SHORTEST 1 (a)-[r]-{1,4}(b)` on Neo4j; a misspelt name is an error there, and a warning on Neo4j. `type(r)` works
    on both.

    Example: mmkg query builds/atlas 'MATCH (a:Entity)-[r]->(b) WHERE a.label = $label RETURN type(r), b.label'
    --param label=France
    """
    from mmkg.builds import open_build, query_served
    from mmkg.store.dates import dates_as_text

    writers = {"table": _write_table, "json": _write_json, "csv": _write_csv, "parquet": _write_parquet}
    form = "json" if as_json else form
    if form not in writers:
        raise ConfigError(unknown_name("format", form, writers))
    if form == "parquet" and output is None:
        raise ConfigError("--format parquet needs --output FILE")
    if output is not None:
        check_output(output)
    text = sys.stdin.read() if cypher == "-" else cypher
    parameters = _parameters(param or [])
    if version is None:
        result = query_served(build, text, parameters)
    else:
        with open_build(build, version) as opened:
            result = opened.query(text, parameters)
    writers[form](dates_as_text(result), output)


def _write_table(result: Any, output: Path | None) -> None:
    rows = [list(row.values()) for row in result.to_pylist()]
    if output:
        output.write_text(
            "\n".join("\t".join(cell_text(value) for value in row) for row in [result.column_names, *rows]) + "\n",
            encoding="utf-8",
        )
        return
    print_table(result.column_names, rows)
    console.print(f"[dim]{len(rows):,} rows[/dim]")


def _write_json(result: Any, output: Path | None) -> None:
    if output:
        output.write_text(json.dumps(result.to_pylist(), ensure_ascii=False, default=str), encoding="utf-8")
    else:
        print_json(result.to_pylist())


def _write_csv(result: Any, output: Path | None) -> None:
    with output.open("w", encoding="utf-8", newline="") if output else sys.stdout as file:
        writer = csv.writer(file)
        writer.writerow(result.column_names)
        writer.writerows(row.values() for row in result.to_pylist())


def _write_parquet(result: Any, output: Path | None) -> None:
    import pyarrow.parquet as pq

    pq.write_table(result, output)


def show(
    build: BuildArgument,
    entity: EntityArgument,
    pictures: Annotated[
        Path | None, typer.Option(help="Draw the entity's pictures side by side to this .png file.")
    ] = None,
    version: VersionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show an entity's card: what it is, its pictures, its attributes, and its neighbours by relation.

    Example: mmkg show builds/atlas France --pictures france.png
    """
    from mmkg.builds import make_card, open_build
    from mmkg.builds.pictures import draw_sheet, read_pictures

    if pictures is not None:
        check_output(pictures, ".png")
    with open_build(build, version) as opened:
        card = make_card(opened, opened.get_entity(entity))
        if pictures is not None:
            seen = [(f"{p['rank']}: {p['width_px']} × {p['height_px']} px", p["sha256"]) for p in card["pictures"]]
            if not seen:
                raise NotFound(f"{card['entity']['label'] or entity}: has no pictures to draw. Leave out --pictures.")
            content = read_pictures(opened, [sha256 for _, sha256 in seen])
            draw_sheet([(caption, content[sha256]) for caption, sha256 in seen], pictures)
    if as_json:
        print_json(card)
        return
    about = card["entity"]
    console.print(f"[bold]{cell_text(about['label'] or about['entity_id'])}[/bold]  {about['entity_id']}")
    if about["description"]:
        console.print(cell_text(about["description"]))
    print_table(
        ["", ""],
        [
            ["types", about["types"]],
            ["also known as", about["aliases"]],
            ["said by", about["sources"]],
        ],
    )
    columns = ["rank", "format", "width_px", "height_px", "licence", "score", "url"]
    _print_cut(["picture", *columns[1:]], [[picture[name] for name in columns] for picture in card["pictures"]])
    if pictures is not None:
        print(f"drew {pictures}")
    _print_cut(["attribute", "value", "said by"], [[a["name"], a["value"], a["sources"]] for a in card["attributes"]])
    for title, arrow in (("out", "→"), ("in", "←")):
        rows = [[f"{arrow} {n['relation']}", n["label"], n["entity_id"], n["sources"]] for n in card[title]]
        _print_cut(["relation", "neighbour", "id", "said by"], rows)


def _print_cut(columns: list[str], rows: list[list[Any]]) -> None:
    """A table of the card; long ones are cut, and say so."""
    if rows:
        print_table(columns, rows[:_ROWS_OF_A_CARD])
        if len(rows) > _ROWS_OF_A_CARD:
            console.print(f"[dim]… and {len(rows) - _ROWS_OF_A_CARD:,} more (--json prints all)[/dim]")
        console.print()


def why(
    build: BuildArgument, entity: EntityArgument, version: VersionOption = None, as_json: JsonOption = False
) -> None:
    """Say where everything about an entity came from: which merges, which dump lines.

    Example: mmkg why builds/atlas Niger
    """
    from mmkg.builds import open_build

    with open_build(build, version) as opened:
        found = opened.get_entity(entity)
        links = opened.links_of(found).to_pylist()
        statements = opened.statements_of(found).to_pylist()
    if as_json:
        print_json({"entity": vars(found), "links": links, "statements": statements})
        return
    console.print(f"[bold]{cell_text(found.label)}[/bold]  {found.entity_id}")
    if links:
        columns = ["verdict", "reason", "score", "alias", "other", "dump", "line"]
        print_table(columns, [[row[column] for column in columns] for row in links], title="identity links")
        console.print()
    rows = [
        [
            row["relation"],
            row["tail"] if row["tail"] is not None else row["value"],
            row["head"],
            f"{row['dump']}:{row['line']}",
        ]
        for row in statements
    ]
    console.print(f"[bold]{len(rows):,} statements[/bold]")
    _print_cut(["relation", "value", "of", "dump:line"], rows)


def subgraph(
    build: BuildArgument,
    entities: Annotated[list[str], typer.Argument(metavar="ENTITY...", help="Seed entities: ids or labels.")],
    hops: Annotated[int, typer.Option(min=0, help="τ, how many hops from the seeds.")] = 2,
    relation: Annotated[list[str] | None, typer.Option(help="Only along this relation (may be repeated).")] = None,
    direction: Annotated[Literal["both", "out", "in"], typer.Option(help="As the triples point.")] = "both",
    max_neighbours: Annotated[int | None, typer.Option(min=1, help="Cap of each node; what is cut is listed.")] = None,
    max_nodes: Annotated[int | None, typer.Option(min=1, help="Cap of the whole subgraph.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw it to this .png or .svg file.")] = None,
    version: VersionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cut out what lies within τ hops, as a table, JSON, or a picture.

    Example: mmkg subgraph builds/atlas Switzerland --hops 1 --picture switzerland.png
    """
    from mmkg.builds import open_build
    from mmkg.subgraphs import draw_subgraph

    if picture is not None:
        check_output(picture, ".png", ".svg")
    with open_build(build, version) as opened:
        cut = opened.subgraph(
            entities, hops, relations=relation, direction=direction, max_neighbours=max_neighbours, max_nodes=max_nodes
        )
        labels = [opened.entity_labels[index] for index in cut.node_index]
        names = opened.relation_names
    nodes = [{"label": label, "hop": int(hop)} for label, hop in zip(labels, cut.hop, strict=True)]
    edges = [
        {"head": labels[src], "relation": names[rel], "tail": labels[dst]}
        for src, rel, dst in zip(cut.src, cut.relation, cut.dst, strict=True)
    ]
    label_of = dict(zip(cut.node_index.tolist(), labels, strict=True))
    cuts = [
        {"node": label_of[t.entity_index], "hop": t.hop, "degree": t.degree, "kept": t.kept, "why": t.reason}
        for t in cut.truncations
    ]
    if picture:
        draw_subgraph(cut, labels, names, picture)
    if as_json:
        print_json({"nodes": nodes, "edges": edges, "truncations": cuts})
        return
    by_hop = {hop: [n["label"] for n in nodes if n["hop"] == hop] for hop in range(hops + 1)}
    print_table(["hop", "nodes", "such as"], [[hop, len(found), found[:6]] for hop, found in by_hop.items()])
    _print_cut(["head", "relation", "tail"], [list(edge.values()) for edge in edges])
    if cuts:
        _print_cut(["cut at", "hop", "degree", "kept", "why"], [list(row.values()) for row in cuts])
    if picture:
        print(f"drew {picture}")
