"""Do hops beyond the first help? Graph4MM with K = 1, 2, 4, 8 and all terms of the diffusion, and four α, in one table.

    python examples/graph4mm/sweep.py --work runs/sweep --recipe graph4mm/paths --set data.num_hops=3
    python examples/graph4mm/sweep.py --work runs/sweep --recipe graph4mm/describe --data data/kg/freebase --jobs 2

A folder for each run below --work; finished ones are only read, so the same command goes on after a kill. At the end it
prints the table, and writes sweep.json and sweep.png. K counts terms: K = 1 sees no neighbour, K = 2 one hop.
"""

import argparse
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runs import Asked, train_all

from mmkg.evaluation.bootstrap import Interval
from mmkg.evaluation.plots import plot_sweep
from mmkg.shards import write_bytes, write_json

TERMS = ("1", "2", "4", "8", "exact")
ALPHAS = (0.05, 0.1, 0.2, 0.5)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--recipe", default="graph4mm/paths", help="graph4mm/paths… or graph4mm/describe…")
    parser.add_argument("--data", type=Path, help="files of FB15k-237, for describing")
    parser.add_argument("--terms", nargs="*", default=list(TERMS), help='K: numbers, or "exact"')
    parser.add_argument("--alphas", nargs="*", type=float, default=list(ALPHAS), help="α")
    parser.add_argument("--seed", type=int, default=0, help="of every run")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one core each")
    parser.add_argument("--set", dest="settings", nargs="*", default=[], help="settings of every recipe, key=value")
    arguments = parser.parse_args(words)
    shared = settings_of(arguments.settings)
    asked = {
        (alpha, terms): Asked(
            arguments.recipe,
            tuple(
                {
                    **shared,
                    "random_seed": arguments.seed,
                    "model.alpha": alpha,
                    "model.num_terms": terms if terms == "exact" else int(terms),
                }.items()
            ),
            arguments.work / f"alpha-{alpha:g}" / f"K-{terms}" / f"seed-{arguments.seed}",
            arguments.data,
        )
        for alpha in arguments.alphas
        for terms in arguments.terms
    }
    metrics = train_all(list(asked.values()), jobs=arguments.jobs)
    name, key = ("ROUGE-L", "rouge_l") if arguments.recipe.startswith("graph4mm/describe") else ("accuracy", "")
    found = {place: _score(metrics[one.folder], key) for place, one in asked.items()}
    lines = {f"α = {alpha:g}": [found[alpha, terms] for terms in arguments.terms] for alpha in arguments.alphas}
    print("  ".join(["", *(f"K = {terms}" for terms in arguments.terms)]))
    for line, intervals in lines.items():
        print("  ".join([line, *(f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]" for one in intervals)]))
    picture = plot_sweep(lines, arguments.terms, score=f"{name} of test", setting="K, terms of the diffusion")
    write_bytes(arguments.work / "sweep.png", picture)
    table = {f"alpha={alpha:g} K={terms}": one.as_json() for (alpha, terms), one in found.items()}
    write_json(arguments.work / "sweep.json", {"recipe": arguments.recipe, "score": name, "runs": table})


def settings_of(words: Sequence[str]) -> dict[str, Any]:
    """Settings out of key=value, a value being TOML."""
    return {
        key: tomllib.loads(f"value = {value}")["value"] for key, _, value in (word.partition("=") for word in words)
    }


def _score(metrics: dict[str, Any], key: str) -> Interval:
    value = metrics["texts"][key] if key else metrics["accuracy"]
    return Interval(**value)


if __name__ == "__main__":
    main()
