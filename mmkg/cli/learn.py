"""Commands that learn from a build: train and evaluate."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mmkg.cli.output import JsonOption, print_json, print_table
from mmkg.errors import TrainingError, require

_SHOWN = {"mrr": "MRR", "hits_at_1": "Hits@1", "hits_at_3": "Hits@3", "hits_at_10": "Hits@10"}


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command(rich_help_panel="Learn")(train)
    app.command(rich_help_panel="Learn")(evaluate)


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Such as link_prediction/rgat_complex.")],
    build: Annotated[str, typer.Option(metavar="BUILD", help="The build to learn from.")],
    run: Annotated[Path | None, typer.Option(help="Folder of the run; runs/RECIPE unless given.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the recipe.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Train with so many seeds, 0, 1, …, and report over all.")] = 1,
    max_minutes: Annotated[float | None, typer.Option(help="Time for each seed.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with what is in the run's folder.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train by a recipe and evaluate on the test split; leaves metrics, plots, a checkpoint and a report.

    Example: mmkg train link_prediction/rgat_complex_tiny --build builds/atlas
    """
    require("torch", extra="graph", needed_by="mmkg train")
    from mmkg.builds import find_build_folder
    from mmkg.training.recipes import open_recipe
    from mmkg.training.run import train as train_run

    changes = [*(settings or []), *([f"max_minutes={max_minutes}"] if max_minutes else [])]
    chosen = open_recipe(recipe, changes)
    folder = run or Path("runs") / recipe.replace("/", "-")
    metrics = train_run(
        chosen,
        find_build_folder(build),
        folder,
        seeds=list(range(seeds)) if seeds > 1 else None,
        resume=resume,
        progress=None if as_json else lambda line: print(line, flush=True),
    )
    if as_json:
        print_json(metrics)
        return
    print_metrics(metrics)
    print(f"report: {folder / 'report.html'}")


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    build: Annotated[str | None, typer.Option(metavar="BUILD", help="Where its tables are now, if they moved.")] = None,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    against: Annotated[Path | None, typer.Option(help="Another run to compare with, triple by triple.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Rank a split with a run's best model, with intervals; compare two runs triple by triple.

    Example: mmkg evaluate runs/link_prediction-rgat_complex_tiny --split valid
    """
    require("torch", extra="graph", needed_by="mmkg evaluate")
    from mmkg.builds import find_build_folder
    from mmkg.training.run import evaluate_run

    if not run.exists():
        raise TrainingError(f"{run}: no such run. `mmkg train RECIPE --build BUILD` makes one.")
    metrics = evaluate_run(run, tables_folder=find_build_folder(build) if build else None, split=split, against=against)
    if as_json:
        print_json(metrics)
        return
    print_metrics(metrics)
    print(f"report: {run / f'report-{split}.html'}")


def print_metrics(metrics: dict[str, Any]) -> None:
    """Print a run's metrics with their 95 % intervals, or the mean and spread over several seeds."""
    if "seeds" in metrics:
        rows = [
            [_SHOWN[key], f"{metrics[key]['mean']:.4f} ± {metrics[key]['standard_deviation']:.4f}"] for key in _SHOWN
        ]
        print_table([f"{metrics['name']}, test", f"mean ± deviation over {len(metrics['seeds'])} seeds"], rows)
        return
    rows = [
        [_SHOWN[key], f"{metrics[key]['value']:.4f}", f"{metrics[key]['low']:.4f} … {metrics[key]['high']:.4f}"]
        for key in _SHOWN
    ]
    print_table([f"{metrics['split']}, {metrics['num_triples']:,} triples", "value", "95 % interval"], rows)
    for title, other in metrics.items():
        if " − " in title:
            print(f"{title}: {other}")
