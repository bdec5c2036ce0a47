"""MR-MKG on MARS against everything that should be weaker: ablations, look-ups, ComplEx, several seeds, paired.

    python examples/mars/study.py data/mars --work runs/mars_study --seeds 3

A folder a row and seed below --work; finished ones are only read, so the same command goes on after a kill. At the end
it writes study.html and study.json: Hits@1 and MRR of each row on all of dev, on unseen pairs and on questions with
another partner, the mean over seeds with its deviation, and the paired difference of the first row with each other row.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmkg.evaluation.analogy import answer_columns, rank_answers
from mmkg.evaluation.analogy_report import make_analogy_report
from mmkg.evaluation.report import html_note, html_page, html_table
from mmkg.shards import write_bytes, write_json
from mmkg.tasks.mars import as_columns
from mmkg.training.data import LinkPredictionData
from mmkg.training.hardware import using_threads
from mmkg.training.link_prediction import LinkPredictionLearner, loop_settings
from mmkg.training.loop import TrainingLoop
from mmkg.training.models import make_model
from mmkg.training.reasoning.mars.data import OTHER, UNSEEN, MarsData, read_mars_data
from mmkg.training.reasoning.mars.graph import facts_of, relation_names
from mmkg.training.reasoning.mars.recipe import open_mars_recipe
from mmkg.training.reasoning.mars.run import MODEL_ROW, compare_mars_runs, read_mars_ranks, train_mars
from mmkg.training.recipes import open_recipe
from mmkg.training.run_folder import METRICS_FILE, is_begun, read_json

ROWS = ("", "_no_pretraining", "_gat", "_gnn", "_no_encoder", "_pairs_only", "_strict", "_no_graph")
GROUPS = ("all", UNSEEN, OTHER)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of MARS, with MarKG/ in it")
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=3, help="0, 1, … so many")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), help="ends of recipe names; '' is the whole model")
    parser.add_argument("--set", dest="settings", nargs="*", default=[], help="settings of every recipe, key=value")
    parser.add_argument("--complex-epochs", type=int, default=60, help="of ComplEx, 10 s each; 0 leaves it out")
    arguments = parser.parse_args(words)
    folders = {}
    for row in arguments.rows:
        recipe = open_mars_recipe(f"mr_mkg/mars{row}", arguments.settings)
        for seed in range(arguments.seeds):
            folder = arguments.work / f"mars{row}" / f"seed-{seed}"
            folders.setdefault(row, []).append(folder)
            one = recipe.model_copy(update={"random_seed": seed})
            metrics = train_mars(
                one,
                arguments.data,
                folder,
                cache_folder=arguments.work / "vectors",
                resume=is_begun(folder),
            )
            figures = metrics["rows"][MODEL_ROW]["groups"]
            shown = ", ".join(f"{group} {figures[group]['hits_at_1']['value']:.3f}" for group in groups_of(metrics))
            print(f"mars{row} seed {seed}: Hits@1 {shown}", flush=True)
    report(arguments.data, arguments.work, folders, arguments.complex_epochs)


def groups_of(metrics: dict[str, Any]) -> list[str]:
    """Those of `GROUPS` that have items."""
    return [group for group in GROUPS if "hits_at_1" in metrics["rows"][MODEL_ROW]["groups"][group]]


def complex_ranks(data: MarsData, epochs: int) -> np.ndarray:
    """Ranks of dev by ComplEx on MarKG and train: the relation that fits the example best, then the answer.

    Only relations of train are tried, the one with the highest score of (head, relation, tail).
    """
    triples = np.unique(np.concatenate([data.markg.triples, np.array(facts_of(data.train, data.markg))]), axis=0)
    none = np.empty((0, 3), np.int64)
    first, count = len(data.markg.relation_ids), len(relation_names(data.train))
    graph = LinkPredictionData(
        num_entities=len(data.markg.names), num_relations=first + count, train=triples, valid=none, test=none
    )
    recipe = open_recipe("link_prediction/complex", {"max_minutes": None, "epochs": epochs, "threads": 1})
    device = torch.device("cpu")
    with using_threads(1):
        torch.manual_seed(0)
        learner = LinkPredictionLearner(recipe, graph, make_model(recipe, graph), device=device)
        for _ in TrainingLoop(learner, loop_settings(recipe), device=device).run():
            pass
        scorer = learner.model.scorer()
        head, tail, question, answer = torch.from_numpy(as_columns(data.dev)).T
        fits, scores = [], []
        for relation in range(first, first + count):
            number = torch.full_like(head, relation)
            fit = scorer.score(torch.stack([head, number], dim=1), 0, graph.num_entities)
            fits.append(fit.gather(1, tail[:, None])[:, 0])
            asked = scorer.score(torch.stack([question, number], dim=1), 0, graph.num_entities)
            scores.append(asked[:, torch.from_numpy(data.candidate_C)])
        chosen = torch.stack(fits).argmax(dim=0)
        score_QC = torch.stack(scores)[chosen, torch.arange(len(data.dev))].float().numpy()
    return rank_answers(score_QC, answer_columns(answer.numpy(), data.candidate_C))


def report(data_folder: Path, work: Path, folders: dict[str, list[Path]], complex_epochs: int) -> None:
    """Write study.html and study.json, and print the table."""
    first = next(iter(folders))
    data = read_mars_data(open_mars_recipe("mr_mkg/mars"), data_folder, work / "vectors")
    metrics = {row: [read_json(folder / METRICS_FILE) for folder in of_row] for row, of_row in folders.items()}
    groups = groups_of(metrics[first][0])
    exchanged = "MR-MKG, examples exchanged"
    cells, kept = [], {}
    for row, of_row in metrics.items():
        for label, key in ((f"mars{row}", MODEL_ROW), (f"mars{row}, examples exchanged", exchanged)):
            if key == exchanged and row != first:
                continue
            line = [label]
            for group in groups:
                for name in ("hits_at_1", "mrr"):
                    values = [one["rows"][key]["groups"][group][name]["value"] for one in of_row]
                    mean = sum(values) / len(values)
                    spread = (sum((v - mean) ** 2 for v in values) / max(1, len(values) - 1)) ** 0.5
                    line.append(f"{mean:.3f} ± {spread:.3f}")
            cells.append(line)
    for name, one in metrics[first][0]["rows"].items():
        if name not in (MODEL_ROW, exchanged):
            figures = one["groups"]
            cells.append([name, *(f"{figures[g][n]['value']:.3f}" for g in groups for n in ("hits_at_1", "mrr"))])
    others = data.lookup_ranks()
    if complex_epochs:
        others["ComplEx, MarKG and pairs"] = complex_ranks(data, complex_epochs)
        figures = data.summarise(others["ComplEx, MarKG and pairs"], draws=1000).groups
        values = [f"{figures[g].figures[n].value:.3f}" for g in groups for n in ("hits_at_1", "mrr")]
        cells.append(["ComplEx, MarKG and pairs", *values])
    header = ["", *(f"{name}, {group}" for group in groups for name in ("Hits@1", "MRR"))]
    pairs = []
    for row in list(folders)[1:]:
        for group in groups:
            mask = None if group == "all" else group
            found = compare_mars_runs(data, folders[first], folders[row], mask=mask).differences["hits_at_1"]
            kept[f"mars{first} − mars{row}, {group}"] = found.as_json()
            interval = found.difference
            text = f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"
            pairs.append([f"mars{first} − mars{row}", group, text, f"{found.p_value:.3g}"])
    for line in [header, *cells, *pairs]:
        print("  ".join(line), flush=True)
    ranks = {f"mars{row}, seed 0": read_mars_ranks(of_row[0], data) for row, of_row in folders.items()}
    rows = {name: data.summarise(rank, draws=1000) for name, rank in {**others, **ranks}.items()}
    parts = [
        html_note(
            f"Mean ± deviation over seeds; look-ups have none. Dev, {len(data.dev):,} items of "
            f"{data.cluster_of_item.max() + 1:,} facts."
        ),
        html_table(header, cells),
        "<h2>Paired, all seeds</h2>",
        html_note("Hits@1; intervals and p by cluster: all items of a fact, over all seeds, go together."),
        html_table(["first − second", "items", "difference of Hits@1", "p"], pairs),
    ]
    write_bytes(work / "study.html", html_page("MR-MKG on MARS", parts).encode())
    write_bytes(work / "study-seed-0.html", make_analogy_report("Seed 0", rows, comparisons={}).encode())
    write_json(work / "study.json", {"table": [header, *cells], "paired": kept})
    print(f"report: {work / 'study.html'}")


if __name__ == "__main__":
    main()
