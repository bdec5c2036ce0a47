"""The studies of MARS run to their end on a MARS of a few lines, and go on where they were killed."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.training.made_mars import write_mars

SCRIPTS = Path(__file__).resolve().parents[2] / "examples" / "mars"


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import over_splits
    import study

    yield {"study": study, "over_splits": over_splits}
    for module in ("over_splits", "study", "split_by_pair"):
        sys.modules.pop(module, None)


def test_a_study_compares_rows_over_seeds_and_goes_on_with_one_that_was_killed_in_pre_training(
    scripts, tmp_path, monkeypatch, capsys
):
    data, work = write_mars(tmp_path / "mars"), tmp_path / "study"
    words = [str(data), "--work", str(work), "--seeds", "2", "--rows", "_tiny", "--complex-epochs", "1"]
    train, seeds = scripts["study"].train_mars, []

    def killed_at_the_second(recipe, *arguments, progress=None, **settings):
        def stop(line):
            if recipe.random_seed == 1 and "epoch" in line:
                raise KeyboardInterrupt

        seeds.append(recipe.random_seed)
        return train(recipe, *arguments, progress=stop, **settings)

    monkeypatch.setattr(scripts["study"], "train_mars", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        scripts["study"].main(words)
    assert seeds == [0, 1]
    assert not (work / "mars_tiny" / "seed-1" / "config.json").exists()  # it was pre-training
    monkeypatch.setattr(scripts["study"], "train_mars", train)
    scripts["study"].main(words)
    table = json.loads((work / "study.json").read_text())["table"]
    hits = [json.loads((work / f"mars_tiny/seed-{seed}/metrics.json").read_text()) for seed in (0, 1)]
    values = [one["rows"]["MR-MKG"]["groups"]["all"]["hits_at_1"]["value"] for one in hits]
    [row] = [line for line in table if line[0] == "mars_tiny"]
    assert row[1] == f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"
    assert [line[0] for line in table[-5:]] == [
        "answer frequency",
        "look-up",
        "look-up + MarKG neighbours",
        "look-up + strict MarKG",
        "ComplEx, MarKG and pairs",
    ]
    assert f"report: {work / 'study.html'}" in capsys.readouterr().out


def test_splits_by_pair_are_made_trained_on_and_put_together_by_fact(scripts, tmp_path, capsys):
    data, work = write_mars(tmp_path / "mars"), tmp_path / "splits"
    lines = [line for name in ("train.json", "dev.json") for line in (data / name).read_text().splitlines()]
    one_mode = [json.dumps({**json.loads(line), "mode": 0}) for line in lines]  # else none is left to exchange with
    (data / "train.json").write_text("\n".join(one_mode) + "\n")
    words = [str(data), "--work", str(work), "--splits", "2", "--rows", "_tiny", "_no_graph"]
    scripts["over_splits"].main([*words, "--set", "epochs=1", "pretrain_epochs=0", "threads=1"])
    told = json.loads((work / "splits.json").read_text())
    dev = [(work / "splits" / str(split) / "dev.json").read_text().splitlines() for split in (0, 1)]
    facts = {(one["question"], one["relation"], one["answer"]) for lines in dev for one in map(json.loads, lines)}
    assert told["items"] == f"{sum(map(len, dev))} items of {len(facts)} facts"
    for row in ("mars_tiny", "mars_no_graph"):
        ranks = [np.load(work / row / f"split-{split}" / "ranks-dev.npz")["rank"] for split in (0, 1)]
        [cells] = [line[1:] for line in told["table"] if line[0] == row]
        hits = [(rank == 1).mean() for rank in ranks]
        assert cells == [f"{value:.3f}" for value in (*hits, np.mean(hits))]
    assert {"mars_tiny − mars_no_graph", "mars_tiny − look-up"} <= told["paired"].keys()
    assert (work / "splits.html").read_text().count("<table") == 2
    before = capsys.readouterr().out
    scripts["over_splits"].main([*words, "--set", "epochs=1", "pretrain_epochs=0", "threads=1"])
    assert capsys.readouterr().out.splitlines()[-3:] == before.splitlines()[-3:]  # read, not trained again
