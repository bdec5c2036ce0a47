"""Split MARS anew so that no pair of entities stands on both sides.

Of the released dev items, 40 % ask for a pair that stands in train too, under another relation, so a look-up answers
them. Here train + dev (or whatever is given) are split again: no unordered pair of entities is on both sides, neither
as example nor as question and answer. Items whose example would be on the other side are given up, and so are those
whose example is their own pair. Lines keep MARS's own form, and the order of the files.

    python examples/mars/split_by_pair.py data/mars --output data/mars_by_pair --seed 0

writes ``train.json``, ``dev.json`` and ``counts.json`` and prints the counts. The folder is that of MARS with MarKG
in it or beside it (``--markg``); files may be gzipped.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mmkg.errors import MmkgError
from mmkg.tasks.mars import SPLITS, MarKG, MarsItem, read_markg, read_mars
from mmkg.tasks.mars_controls import split_by_pair


def write_items(path: Path, items: Sequence[MarsItem], markg: MarKG) -> None:
    """Write items as MARS does: one JSON object a line, entities by their id."""
    ids = markg.entity_ids
    lines = [
        json.dumps(
            {
                "example": [ids[item.example_head], ids[item.example_tail]],
                "question": ids[item.question],
                "answer": ids[item.answer],
                "relation": item.relation,
                "mode": item.mode,
            }
        )
        for item in items
    ]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Read, split, write; return 0, or 1 after a message about what is wrong with the input."""
    parser = argparse.ArgumentParser(
        description="Split MARS so that no pair of entities stands on both sides.",
        epilog="example: python examples/mars/split_by_pair.py data/mars --output data/mars_by_pair --dev-share 0.2",
    )
    parser.add_argument("folder", type=Path, help="with train.json and dev.json, or their .gz")
    parser.add_argument("--markg", type=Path, help="folder of MarKG, if it is not in the first one")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to; made if it is not there")
    parser.add_argument("--splits", nargs="+", default=["train", "dev"], choices=SPLITS, help="what to split again")
    parser.add_argument("--dev-share", type=float, default=0.2, help="of the pairs of each relation (default 0.2)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default 0)")
    options = parser.parse_args(arguments)
    try:
        markg = read_markg(options.markg or options.folder)
        items = [item for name in options.splits for item in read_mars(options.folder, name, markg)]
        split = split_by_pair(items, options.dev_share, options.seed)
    except MmkgError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    counts = {"items": len(items), "dev_share": options.dev_share, "seed": options.seed, **split.counts()}
    options.output.mkdir(parents=True, exist_ok=True)
    write_items(options.output / "train.json", split.train, markg)
    write_items(options.output / "dev.json", split.dev, markg)
    (options.output / "counts.json").write_text(json.dumps(counts, indent=2) + "\n", encoding="utf-8")
    for name, count in counts.items():
        print(f"{name:36} {count:,}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
