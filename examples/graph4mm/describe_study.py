"""Describing entities of FB15k-237: Graph4MM against its ablations, baselines and controls; several seeds, paired.

    python examples/graph4mm/describe_study.py data/kg/freebase --work runs/describe --seeds 3 --jobs 2

The folder holds entity2wikidata.json, relation2text.txt and fb15k-237/train.txt, plain or gzipped. A folder for each
row and seed below --work; finished ones are only read, so the same command goes on after a kill. At the end it prints,
and writes to describe_study.html and describe_study.json: scores of each row as means over seeds with intervals by
entity, the same by how often train has the description and with years masked, teacher-forced scores apart, and paired
differences of the first row with every other. Intervals know the entities, not the seeds: the deviation over seeds
stands beside them.
"""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from runs import Asked, train_all
from sweep import settings_of

from mmkg.evaluation.bootstrap import Difference
from mmkg.evaluation.described import describe_without_model, group_descriptions
from mmkg.evaluation.report import html_note, html_page, html_table
from mmkg.evaluation.text_report import text_comparison_table, text_table
from mmkg.evaluation.text_scores import TextScores, average_runs, compare_runs, mask_years, score_groups, score_texts
from mmkg.shards import write_bytes, write_json
from mmkg.tasks.descriptions import read_described_graph, shown_descriptions, split_descriptions
from mmkg.training.reasoning.describing.recipe import open_describing_recipe
from mmkg.training.reasoning.describing.run import SCORES
from mmkg.training.reasoning.run import read_answers

ROWS = (
    "", "_no_text_structure", "_no_structure", "_hop_aware", "_gnn", "_words", "_name", "_relations", "_mean",
    "_placebo", "_frozen",
)  # fmt: skip


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="files of FB15k-237")
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=3, help="0, 1, … so many")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), help="ends of recipe names; '' is the whole model")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one core each")
    parser.add_argument("--set", dest="settings", nargs="*", default=[], help="settings of every recipe, key=value")
    arguments = parser.parse_args(words)
    shared = settings_of(arguments.settings)
    asked = {
        (row, seed): Asked(
            f"graph4mm/describe{row}",
            tuple({**shared, "random_seed": seed}.items()),
            arguments.work / f"describe{row}" / f"seed-{seed}",
            arguments.data,
        )
        for seed in range(arguments.seeds)
        for row in arguments.rows
    }
    metrics = train_all(list(asked.values()), jobs=arguments.jobs)
    by_row = {row: {seed: asked[row, seed].folder for seed in range(arguments.seeds)} for row in arguments.rows}
    report(arguments.data, arguments.work, by_row, metrics, shared)


def report(
    data: Path,
    work: Path,
    folders: Mapping[str, Mapping[int, Path]],
    metrics: Mapping[Path, dict[str, Any]],
    settings: Mapping[str, Any],
) -> None:
    """Print the tables, and write them."""
    keys, right, controls, groups = without_model(data, settings)
    runs: dict[str, list[TextScores]] = {}
    masked: dict[str, list[TextScores]] = {}
    for row, of_row in folders.items():
        said = [read_answers(folder) for folder in of_row.values()]
        runs[f"describe{row}"] = [score_texts([one[key].given for key in keys], right) for one in said]
        years = [mask_years(text) for text in right]
        masked[f"describe{row}"] = [score_texts([mask_years(one[key].given) for key in keys], years) for one in said]
    runs |= {name: [score_texts(texts, right)] for name, texts in controls.items()}
    first = next(iter(runs))
    tables = {
        "Written freely": text_table({name: average_runs(found) for name, found in runs.items()}, scores=SCORES),
        "Deviation over seeds": _deviations(runs),
        "Years masked": text_table({name: average_runs(found) for name, found in masked.items()}, scores=SCORES),
        "Teacher-forced: no generation": _forced(folders, metrics),
        **{
            f"ROUGE-L where train has the description: {group} ({int(mask.sum())})": text_table(
                {
                    n: average_runs([score_groups(one, {group: mask})[group] for one in found])
                    for n, found in runs.items()
                },
                scores=("rouge_l",),
            )
            for group, mask in groups.items()
        },
    }
    differences: dict[str, dict[str, Difference]] = {
        f"{first} − {name}": compare_runs(runs[first], found) for name, found in runs.items() if name != first
    }
    tables["Paired by entity"] = text_comparison_table(differences, scores=("bleu_4", "rouge_l", "cider"))
    for heading, table in tables.items():
        print(f"\n{heading}")
        for line in table:
            print("  ".join(line))
    note = "Means over seeds; intervals hold 95% of 1,000 bootstrap draws of entities."
    parts = [html_note(note)]
    for heading, table in tables.items():
        parts += [f"<h2>{heading}</h2>", html_table(table[0], table[1:])]
    write_bytes(work / "describe_study.html", html_page("Describing entities of FB15k-237", parts).encode())
    paired = {name: {score: one.as_json() for score, one in found.items()} for name, found in differences.items()}
    write_json(work / "describe_study.json", {"tables": tables, "paired": paired})


def without_model(
    data: Path, settings: Mapping[str, Any]
) -> tuple[list[str], list[str], dict[str, list[str]], dict[str, np.ndarray]]:
    """Test entities, their descriptions, what controls say of them, and how often train has them."""
    config = open_describing_recipe("graph4mm/describe", settings).data
    graph = read_described_graph(data)
    split = split_descriptions(
        graph, num_valid=config.num_valid, num_test=config.num_test, random_seed=config.split_seed
    )
    shown = shown_descriptions(graph, split)
    right = [str(graph.descriptions[at]) for at in split.test.tolist()]
    counts = Counter(text for text in shown if text is not None)
    groups = {name: mask for name, mask in group_descriptions(right, counts).items() if mask.any()}
    controls = describe_without_model(graph.triples, len(graph.relations), shown, split.test)
    return [graph.entity_ids[at] for at in split.test.tolist()], right, controls, groups


def _deviations(runs: Mapping[str, Sequence[TextScores]]) -> list[list[str]]:
    rows = [["", *SCORES]]
    for name, found in runs.items():
        if len(found) > 1:
            values = [[one.scores[score].value for one in found] for score in SCORES]
            rows.append([name, *(f"{np.std(column, ddof=1):.4f}" for column in values)])
    return rows


def _forced(folders: Mapping[str, Mapping[int, Path]], metrics: Mapping[Path, dict[str, Any]]) -> list[list[str]]:
    rows = [["", *SCORES]]
    for row, of_row in folders.items():
        found = [metrics[folder]["teacher_forced"] for folder in of_row.values()]
        rows.append([f"describe{row}", *(f"{np.mean([one[name]['value'] for one in found]):.4f}" for name in SCORES)])
    return rows


if __name__ == "__main__":
    main()
