"""``mmkg demo``: the whole way on the bundled atlas, offline: build, ask, look, cut, train, report."""

import json
import logging
import shutil
import time
from pathlib import Path
from typing import Annotated

import typer

from mmkg.cli import atlas
from mmkg.cli.output import console, print_dumps, print_table
from mmkg.errors import CheckFailed, require

# In Cypher, as a user would type them; the answers are in the atlas's expected.json, in this order.
QUESTIONS = (
    "MATCH (:Entity {label: 'Switzerland'})-[:borders]->(b:Entity) RETURN b.label AS answer ORDER BY answer",
    "MATCH (a:Entity)-[:officialLanguage]->(:Entity {label: 'Portuguese'}) RETURN a.label AS answer ORDER BY answer",
    "MATCH (:Entity {label: 'France'})-[:borders]->(b:Entity)-[:borders]->(:Entity {label: 'Germany'}) "
    "RETURN b.label AS answer ORDER BY answer",
)


WORDS = "a red flag with a cross"
_SHOWN = 5


def register(app: typer.Typer) -> None:
    """Add the demo to the command line."""
    app.command(rich_help_panel="Start")(demo)


def demo(
    folder: Annotated[Path, typer.Option(help="Where to put everything that the demo makes.")] = Path("demo"),
) -> None:
    """Build the bundled graph of countries, ask it, search its flags, draw a subgraph, train on it, write a report.

    Example: mmkg demo --folder demo
    """
    started = time.monotonic()
    logging.getLogger("mmkg").setLevel(logging.WARNING)  # the demo tells its own story
    config = folder / atlas.CONFIG_NAME
    if not config.exists():
        atlas.copy_atlas(folder)
    console.print(f"[bold]1. Build[/bold]  mmkg build {config}")
    version = _build(config)
    console.print("\n[bold]2. Ask[/bold]  mmkg query …")
    _ask(version, folder / "expected.json")
    console.print("\n[bold]3. Look[/bold]  mmkg search …")
    _look(version, folder)
    console.print("\n[bold]4. Cut out a subgraph[/bold]  mmkg subgraph … Switzerland --hops 1")
    _cut(version, folder / "switzerland.png")
    console.print("\n[bold]5. Train[/bold]  mmkg train …")
    report = _train(version, folder / "runs")
    seconds = time.monotonic() - started
    print(f"\nEverything is in {folder}: look at {folder / 'switzerland.png'} and {report}. It took {seconds:.0f} s.")


def _build(config: Path) -> Path:
    from mmkg import pipeline
    from mmkg.config import read_config

    report = pipeline.build(read_config(config))
    dumps = [result.manifest.counts for result in report.results if result.stage.name == "read"]
    print_dumps(dumps, with_source=False)
    graph = next(result.manifest.counts for result in report.results if result.stage.name == "graph")
    chosen = ("entities", "relations", "triples", "literals", "qualifiers", "merged_links", "flagged_links")
    print(", ".join(f"{graph[name]:,} {name.replace('_', ' ')}" for name in chosen))
    if report.folder is None:
        raise CheckFailed("the demo's build made no version")
    return report.folder


def _ask(version: Path, expected_path: Path) -> None:
    from mmkg.builds import open_build

    expected = json.loads(expected_path.read_text(encoding="utf-8"))["questions"]
    with open_build(version) as build:
        for cypher, question in zip(QUESTIONS, expected, strict=True):
            answer = [row["answer"] for row in build.query(cypher).to_pylist()]
            right = answer == question["answer"]
            console.print(f"{question['question']}\n  [dim]{cypher.replace('[', chr(92) + '[')}[/dim]")
            console.print(f"  {', '.join(answer)}  {'✓' if right else '✗'}")
            if not right:
                raise CheckFailed(f"expected {', '.join(question['answer'])}. This is a bug of mmkg: please report it.")


def _look(version: Path, folder: Path) -> None:
    from mmkg.builds import open_build
    from mmkg.builds.pictures import draw_sheet, read_pictures
    from mmkg.builds.search import search

    photo, sheet = folder / "photo.jpg", folder / "red_cross.png"
    _take_photo(folder / "flags" / "jm.png", photo)
    with open_build(version) as build:
        found = search(build, WORDS, k=_SHOWN).pictures
        content = read_pictures(build, [hit.sha256 for hit in found if hit.sha256])
        draw_sheet([(hit.labels[0], content[hit.sha256]) for hit in found if hit.sha256], sheet)
        print(f"Which flags look like “{WORDS}”?  (drawn to {sheet})")
        print("  " + ", ".join(f"{hit.labels[0]} {hit.score:.2f}" for hit in found))
        print(f"Which flag looks like {photo}, the flag of Jamaica, turned, blurred and in bad light?")
        like = search(build, photo, k=3).pictures
        right = like[0].labels == ("Jamaica",)
        print(f"  {', '.join(f'{hit.labels[0]} {hit.score:.2f}' for hit in like)}  {'✓' if right else '✗'}")


def _take_photo(flag: Path, target: Path) -> None:
    """Draw a flag as a bad camera would see it."""
    from PIL import Image, ImageEnhance, ImageFilter

    with Image.open(flag) as drawn:
        picture = drawn.convert("RGB").rotate(5, expand=True, fillcolor="#7a8a90")
    picture = ImageEnhance.Brightness(picture).enhance(0.8).filter(ImageFilter.GaussianBlur(2))
    picture.save(target, quality=40)


def _cut(version: Path, picture: Path) -> None:
    from mmkg.builds import open_build
    from mmkg.subgraphs import draw_subgraph

    with open_build(version) as build:
        cut = build.subgraph(["Switzerland"], 1)
        draw_subgraph(cut, [build.entity_labels[i] for i in cut.node_index], build.relation_names, picture)
    print(f"{cut.num_nodes} nodes, {cut.num_edges} edges, drawn to {picture}")


def _train(version: Path, runs: Path) -> Path:
    require("torch", extra="graph", needed_by="the demo's training")
    from mmkg.training.recipes import open_recipe
    from mmkg.training.run import train

    rows = []
    # On the atlas an encoder's valid MRR is highest about the tenth epoch; a decoder alone needs more of them.
    for name, epochs in (("link_prediction/rgat_complex_tiny", 15), ("link_prediction/complex_tiny", 60)):
        run = runs / name.rpartition("/")[2]
        shutil.rmtree(run, ignore_errors=True)  # a demo shows the work each time
        metrics = train(open_recipe(name, {"epochs": epochs, "batch_size": 256, "valid_every": 5}), version, run)
        mrr = metrics["mrr"]
        rows.append([name, mrr["value"], f"{mrr['low']:.3f} … {mrr['high']:.3f}", metrics["hits_at_10"]["value"]])
    print_table(["recipe", "test MRR", "95 % interval", "Hits@10"], rows)
    return runs / "rgat_complex_tiny" / "report.html"
