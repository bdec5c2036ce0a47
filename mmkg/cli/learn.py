"""Commands that learn from a build, or from pictures with captions: train and evaluate."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mmkg.cli.output import JsonOption, print_json, print_table
from mmkg.errors import require

_SHOWN = {"mrr": "MRR", "hits_at_1": "Hits@1", "hits_at_3": "Hits@3", "hits_at_10": "Hits@10"}


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command(rich_help_panel="Learn")(train)
    app.command(rich_help_panel="Learn")(evaluate)


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Such as link_prediction/rgat_complex.")],
    build: Annotated[str | None, typer.Option(metavar="BUILD", help="The build to learn from.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of a benchmark's files, as they are published, for mr_mkg and language.")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder of pictures: with captions (index.tsv) for a contrastive recipe.")
    ] = None,
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

    Example: mmkg train contrastive/atlas_clip_tiny --pictures FOLDER

    Example: mmkg train mr_mkg/synthetic_tiny

    Example: mmkg train mr_mkg/mars --data FOLDER --seeds 3

    Example: mmkg train graph4mm/describe --data FOLDER
    """
    require("torch", extra="graph", needed_by="mmkg train")
    from mmkg.cli.learning import Learning, train_by_recipe

    folder = run or Path("runs") / recipe.replace("/", "-")
    metrics = train_by_recipe(
        Learning(
            recipe=recipe,
            changes=[*(settings or []), *([f"max_minutes={max_minutes}"] if max_minutes else [])],
            run_folder=folder,
            build=build,
            data=data,
            pictures=pictures,
            seeds=seeds,
            resume=resume,
            progress=None if as_json else _say,
        )
    )
    if as_json:
        print_json(metrics)
        return
    print_metrics(metrics)
    if (folder / "report.html").exists():
        print(f"report: {folder / 'report.html'}")


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    build: Annotated[str | None, typer.Option(metavar="BUILD", help="Where its tables are now, if they moved.")] = None,
    data: Annotated[Path | None, typer.Option(help="Where a benchmark's files are now, if they moved.")] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Of a run with pictures: where they are now, or other ones with captions.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="train, valid or test (of ScienceQA: val); test unless given.")
    ] = None,
    against: Annotated[Path | None, typer.Option(help="Another run to compare with, triple by triple.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a run's best model again, on any split, with intervals; compare two runs triple by triple.

    Example: mmkg evaluate runs/link_prediction-rgat_complex_tiny --split valid

    Example: mmkg evaluate runs/mr_mkg-scienceqa_tiny --split val --data FOLDER
    """
    require("torch", extra="graph", needed_by="mmkg evaluate")
    from mmkg.cli.learning import Evaluating, evaluate_by_recipe

    asked = Evaluating(run_folder=run, build=build, data=data, pictures=pictures, split=split, against=against)
    metrics, report = evaluate_by_recipe(asked)
    if as_json:
        print_json(metrics)
        return
    print_metrics(metrics)
    print(f"report: {report}")


def print_metrics(metrics: dict[str, Any]) -> None:
    """Print a run's metrics with their 95 % intervals, or the mean and spread over several seeds."""
    if "splits" in metrics:
        _print_retrieval(metrics["splits"])
        return
    if "rows" in metrics:
        _print_analogies(metrics)
        return
    if "texts" in metrics:
        _print_texts(metrics)
        return
    if "class_is_said" in metrics:
        _print_classes(metrics)
        return
    if "over_seeds" in metrics:
        figures = metrics["over_seeds"].items()
        rows = [[name, f"{one['mean']:.4f} ± {one['standard_deviation']:.4f}"] for name, one in figures]
        print_table([metrics["name"], f"mean ± deviation over {metrics['seeds']} seeds"], rows)
        return
    if "accuracy" in metrics:
        _print_answers(metrics)
        return
    if "mrr" not in metrics:
        print_json(metrics)
        return
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


def _print_retrieval(splits: dict[str, Any]) -> None:
    """Print recall of the most specific captions and of look-alikes, chance beside it."""
    rows = []
    for split, measured in splits.items():
        asked = {**measured["captions"]["specific"], **measured["look_alikes"]}
        for direction, values in asked.items():
            shown = [
                f"{values[key]['value']:.3f} ({values[key]['chance']:.3f})" for key in ("recall_at_1", "recall_at_5")
            ]
            rows.append([split, direction, f"{values['num_queries']:,}", f"{values['num_candidates']:,}", *shown])
    print_table(["split", "direction", "queries", "candidates", "recall@1 (chance)", "recall@5 (chance)"], rows)


def _print_analogies(metrics: dict[str, Any]) -> None:
    """Print Hits@1 and MRR of the model beside the look-ups, all items and those that tell reasoning from look-up."""
    rows = {**metrics.get("lookups", {}), **metrics["rows"]}
    shown = []
    for name, row in rows.items():
        groups = row.get("groups", row)
        cells = []
        for group in ("all", "unseen pairs"):
            for figure in ("hits_at_1", "mrr"):
                value = groups[group][figure]
                spread = f" ± {value['standard_deviation']:.3f}" if "mean" in value else ""
                cells.append(f"{value['mean'] if 'mean' in value else value['value']:.3f}{spread}")
        shown.append([name, *cells])
    print_table([metrics["split"], "Hits@1", "MRR", "Hits@1, unseen pairs", "MRR, unseen pairs"], shown)


def _print_answers(metrics: dict[str, Any]) -> None:
    """Print accuracy with its interval, and whatever stands beside it."""
    rows = []
    for name, entry in metrics.items():
        value = entry.get("accuracy", entry) if isinstance(entry, dict) else {}
        if isinstance(value, dict) and {"value", "low", "high"} <= value.keys():
            rows.append([name.replace("_", " "), f"{value['value']:.4f}", f"{value['low']:.4f} … {value['high']:.4f}"])
    if "chance" in metrics:
        rows.append(["chance", f"{metrics['chance']:.4f}", ""])
    print_table([metrics["name"], "value", "95 % interval"], rows)


def _print_classes(metrics: dict[str, Any]) -> None:
    """Print accuracy on seen and unseen classes, among their kind and among all, beside controls without a model."""
    rows = []
    for group, measured in metrics["groups"].items():
        for name, one in {metrics["name"]: measured, **measured["controls"]}.items():
            value, macro = one["by_class"], one["macro"]
            shown = f"{value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"
            rows.append([group.replace("_", " "), name, shown, f"{macro['value']:.4f}", f"{one['chance']:.4f}"])
    print_table(["classes", "", "accuracy, interval by class", "mean over classes", "chance"], rows)


def _print_texts(metrics: dict[str, Any]) -> None:
    """Print scores of what was written freely, beside controls without a model; teacher-forced scores last."""
    named = {"written": metrics["texts"], **metrics.get("controls", {}), "teacher-forced": metrics["teacher_forced"]}
    shown = ("bleu_4", "rouge_l", "cider")
    rows = [
        [name, *(f"{one[key]['value']:.4f} [{one[key]['low']:.4f}, {one[key]['high']:.4f}]" for key in shown)]
        for name, one in named.items()
    ]
    print_table([metrics["name"], "BLEU-4", "ROUGE-L", "CIDEr"], rows)


def _say(line: str) -> None:
    print(line, flush=True)
