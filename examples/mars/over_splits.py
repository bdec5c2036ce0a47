"""MR-MKG on several splits of MARS by pair: what the 228 facts of one dev cannot tell, the facts of all may.

    python examples/mars/over_splits.py data/mars --work runs/mars_splits --splits 5

Each split is drawn by split_by_pair.py, so no pair of dev stands in train, and each row is trained on it anew. Nothing
was chosen on these splits. Below --work lie the splits and a folder a row and split; finished ones are only read, so
the same command goes on after a kill. At the end it writes splits.html and splits.json: Hits@1 of each row and of the
look-ups, split by split, and the paired difference of the first row with each other one. A fact that is in the dev of
several splits is one cluster: intervals do not count it twice.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from split_by_pair import main as write_split

from mmkg.evaluation.analogy import compare_analogies
from mmkg.evaluation.report import html_note, html_page, html_table
from mmkg.shards import write_bytes, write_json
from mmkg.tasks.mars import SPLITS
from mmkg.tasks.mars_controls import clusters
from mmkg.training.reasoning.mars.data import MarsData, read_mars_data
from mmkg.training.reasoning.mars.recipe import open_mars_recipe
from mmkg.training.reasoning.mars.run import read_mars_ranks, train_mars
from mmkg.training.run_folder import is_begun

ROWS = ("", "_strict", "_pairs_only", "_no_graph")


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of MARS, with MarKG/ in it")
    parser.add_argument("--work", type=Path, required=True, help="folder of the splits and the runs")
    parser.add_argument("--splits", type=int, default=5, help="drawn by seeds 0, 1, … so many")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), help="ends of recipe names; '' is the whole model")
    parser.add_argument("--set", dest="settings", nargs="*", default=[], help="settings of every recipe, key=value")
    arguments = parser.parse_args(words)
    dev: list[MarsData] = []
    rank_of: dict[str, list[np.ndarray]] = {}
    for split in range(arguments.splits):
        folder = arguments.work / "splits" / str(split)
        make_split(arguments.data, folder, split)
        for row in arguments.rows:
            recipe, run = open_mars_recipe(f"mr_mkg/mars{row}", arguments.settings), arguments.work / f"mars{row}"
            run = run / f"split-{split}"
            train_mars(recipe, folder, run, cache_folder=arguments.work / "vectors", resume=is_begun(run))
            if row == arguments.rows[0]:
                dev.append(read_mars_data(recipe, folder, arguments.work / "vectors"))
            rank_of.setdefault(f"mars{row}", []).append(read_mars_ranks(run, dev[-1]))
            print(f"split {split}: mars{row} {(rank_of[f'mars{row}'][-1] == 1).mean():.3f}", flush=True)
        for name, rank_Q in dev[-1].lookup_ranks().items():
            rank_of.setdefault(name, []).append(rank_Q)
    report(dev, rank_of, arguments.work)


def make_split(data_folder: Path, folder: Path, seed: int) -> None:
    """Split by pair into a folder that can be trained on; nothing is done where it is there."""
    if (folder / "counts.json").exists():
        return
    if write_split([str(data_folder), "--output", str(folder), "--seed", str(seed)]):
        raise SystemExit(1)
    items = {f"{name}.json{end}" for name in SPLITS for end in ("", ".gz")}
    for path in data_folder.iterdir():  # MarKG and the candidates
        if path.name not in items and not (folder / path.name).exists():
            (folder / path.name).symlink_to(path.resolve())


def report(dev: list[MarsData], rank_of: dict[str, list[np.ndarray]], work: Path) -> None:
    """Write splits.html and splits.json, and print the tables."""
    cluster_Q = clusters([item for data in dev for item in data.dev])
    header = ["", *(f"split {split}" for split in range(len(dev))), "mean"]
    cells, pairs, kept = [], [], {}
    for name, ranks in rank_of.items():
        hits = [float((rank_Q == 1).mean()) for rank_Q in ranks]
        cells.append([name, *(f"{value:.3f}" for value in hits), f"{np.mean(hits):.3f}"])
    first = next(iter(rank_of))
    for name in list(rank_of)[1:]:
        sides = [np.concatenate(rank_of[side]) for side in (first, name)]
        found = compare_analogies(*sides, cluster_Q).differences["hits_at_1"]
        kept[f"{first} − {name}"] = found.as_json()
        interval = found.difference
        text = f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"
        pairs.append([f"{first} − {name}", text, f"{found.p_value:.3g}"])
    counted = f"{len(cluster_Q):,} items of {cluster_Q.max() + 1:,} facts"
    for line in [[counted], header, *cells, *pairs]:
        print("  ".join(line), flush=True)
    parts = [
        html_note(f"Hits@1 on dev of each split, {counted} in all; no pair of dev stands in train."),
        html_table(header, cells),
        "<h2>Paired, all splits</h2>",
        html_note("Intervals and p by cluster: a fact's items go together, over all splits."),
        html_table(["first − second", "difference of Hits@1", "p"], pairs),
    ]
    write_bytes(work / "splits.html", html_page("MR-MKG on MARS, split by pair", parts).encode())
    write_json(work / "splits.json", {"items": counted, "table": [header, *cells], "paired": kept})
    print(f"report: {work / 'splits.html'}")


if __name__ == "__main__":
    main()
