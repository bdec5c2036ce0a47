"""Runs: a folder that can be killed, continued, evaluated, compared and repeated."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from mmkg.errors import ConfigError, TrainingError
from mmkg.training.checkpoint import read_checkpoint
from mmkg.training.recipes import open_recipe
from mmkg.training.run import compare_runs, evaluate_run, train

from .made_graphs import ring_data, write_tables


@pytest.fixture
def tables(tmp_path):
    return write_tables(tmp_path / "tables", ring_data())


def recipe_of(name="complex", **overrides):
    return open_recipe(f"link_prediction/{name}_tiny", {"device": "cpu", "epochs": 6, "valid_every": 2, **overrides})


_KILLED = """
    import sys
    from pathlib import Path
    from mmkg.training.recipes import open_recipe
    from mmkg.training.run import train

    def progress(line):
        if line.startswith("epoch 4/6: "):  # its checkpoint is not written yet
            print("now", flush=True)
            sys.stdin.read()

    recipe = open_recipe("link_prediction/rgat_complex_tiny", {overrides!r})
    train(recipe, Path(sys.argv[1]), Path(sys.argv[2]), progress=progress)
"""


def test_a_run_killed_in_its_fourth_epoch_and_resumed_is_bit_for_bit_the_run_that_was_not(tmp_path, tables):
    overrides = {"device": "cpu", "epochs": 6, "valid_every": 2, "attention_dropout": 0.2, "threads": 1}
    recipe = open_recipe("link_prediction/rgat_complex_tiny", overrides)
    straight = train(recipe, tables, tmp_path / "straight")

    code = textwrap.dedent(_KILLED).replace("{overrides!r}", repr(overrides))
    killed = subprocess.Popen(
        [sys.executable, "-c", code, str(tables), str(tmp_path / "killed")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert killed.stdout.readline() == "now\n"
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    killed.stdin.close()
    killed.stdout.close()
    document = read_checkpoint(tmp_path / "killed" / "checkpoint.safetensors").document
    assert document["position"]["epoch"] == 3
    assert not (tmp_path / "killed" / "metrics.json").exists()

    resumed = train(recipe, tables, tmp_path / "killed", resume=True)
    for file in ("model.safetensors", "checkpoint.safetensors"):
        one, other = (read_checkpoint(tmp_path / name / file).tensors for name in ("straight", "killed"))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one), file
    assert resumed["mrr"] == straight["mrr"]
    assert len((tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()) == 6


def test_a_run_leaves_everything_that_repeats_it(tmp_path, tables):
    folder, lines = tmp_path / "run", []
    metrics = train(recipe_of(), tables, folder, progress=lines.append)
    assert {path.name for path in folder.iterdir()} == {
        "config.json", "environment.json", "metrics.jsonl", "checkpoint.safetensors", "model.safetensors",
        "metrics.json", "ranks-test.npz", "learning_curve.png", "report.html",
    }  # fmt: skip
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    assert metrics["mrr"]["low"] <= metrics["mrr"]["value"] <= metrics["mrr"]["high"]
    assert metrics["num_triples"] == 30
    assert metrics["training"]["stopped"] == "all 6 epochs are done"
    assert metrics["by_category"]["1-1"]["tail"]["mrr"] > 0
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["torch"] == torch.__version__.partition("+")[0] or environment["torch"] == torch.__version__
    assert environment["random_seed"] == 0
    assert environment["parameters"] == 40 * 32 + 8 * 32
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [("valid_mrr" in row) for row in rows] == [False, True] * 3
    assert (folder / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    assert any("queries/s" in line and "left" in line for line in lines)


def test_the_report_holds_its_pictures_and_names_the_mistakes(tmp_path, tables):
    train(recipe_of(), tables, tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert 'src="http' not in page
    assert "href=" not in page
    worst = json.loads((tmp_path / "run" / "metrics.json").read_text())["worst"]
    assert len(worst) == 10
    assert [w["rank"] for w in worst] == sorted((w["rank"] for w in worst), reverse=True)
    assert worst[0]["relation"] in page
    assert f"{worst[0]['rank']:,.1f} of" in page


def test_several_seeds_in_one_command_are_summed_up(tmp_path, tables):
    summary = train(recipe_of(), tables, tmp_path / "run", seeds=[0, 3])
    parts = [json.loads((tmp_path / "run" / f"seed-{s}" / "metrics.json").read_text()) for s in (0, 3)]
    values = [part["mrr"]["value"] for part in parts]
    assert values[0] != values[1]
    assert summary["mrr"]["mean"] == pytest.approx(sum(values) / 2)
    assert summary["mrr"]["standard_deviation"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert [part["random_seed"] for part in parts] == [0, 3]
    assert "standard deviation" in (tmp_path / "run" / "report.html").read_text()
    single = train(recipe_of(random_seed=3), tables, tmp_path / "single")
    assert single["mrr"]["value"] == values[1]


def test_seeds_that_were_not_reached_are_made_on_resume(tmp_path, tables):
    train(recipe_of(), tables, tmp_path / "run" / "seed-0")
    summary = train(recipe_of(), tables, tmp_path / "run", seeds=[0, 1], resume=True)
    assert set(summary["runs"]) == {"seed-0", "seed-1"}


def test_a_finished_run_is_only_read(tmp_path, tables):
    first = train(recipe_of(), tables, tmp_path / "run")
    when = (tmp_path / "run" / "checkpoint.safetensors").stat().st_mtime_ns
    assert train(recipe_of(), tables, tmp_path / "run", resume=True) == first
    assert (tmp_path / "run" / "checkpoint.safetensors").stat().st_mtime_ns == when


def test_a_run_is_not_written_over_nor_continued_under_other_settings(tmp_path, tables):
    train(recipe_of(epochs=1), tables, tmp_path / "run")
    with pytest.raises(TrainingError, match="holds a run already"):
        train(recipe_of(epochs=1), tables, tmp_path / "run")
    with pytest.raises(TrainingError, match="epochs: 1 then, 2 now"):
        train(recipe_of(epochs=2), tables, tmp_path / "run", resume=True)
    with pytest.raises(TrainingError, match="no run here to go on with"):
        train(recipe_of(epochs=1), tables, tmp_path / "elsewhere", resume=True)


def test_a_run_can_be_evaluated_on_another_split_and_against_another_run(tmp_path, tables):
    train(recipe_of(epochs=40, valid_every=10), tables, tmp_path / "long")
    train(recipe_of(epochs=1), tables, tmp_path / "short")
    on_train = evaluate_run(tmp_path / "long", split="train")
    assert on_train["num_triples"] == len(ring_data().train)
    assert on_train["mrr"]["value"] > 0.5
    metrics = evaluate_run(tmp_path / "long", against=tmp_path / "short")
    (comparison,) = [value for name, value in metrics.items() if "−" in name]
    assert comparison["mrr_difference"]["low"] > 0
    assert "Paired" in (tmp_path / "long" / "report-test.html").read_text()
    assert compare_runs(tmp_path / "long", tmp_path / "short").as_json() == comparison


def test_evaluating_finds_the_numbers_that_training_wrote(tmp_path, tables):
    trained = train(recipe_of("rgat_distmult"), tables, tmp_path / "run")
    assert evaluate_run(tmp_path / "run")["mrr"] == trained["mrr"]


def test_what_cannot_be_evaluated_says_why(tmp_path, tables):
    with pytest.raises(TrainingError, match="no run here"):
        evaluate_run(tmp_path / "nothing")
    train(recipe_of(epochs=1), tables, tmp_path / "runs", seeds=[0, 1])
    with pytest.raises(TrainingError, match="choose one of seed-0, seed-1"):
        evaluate_run(tmp_path / "runs")
    with pytest.raises(ConfigError, match="no split is called 'tset'"):
        evaluate_run(tmp_path / "runs" / "seed-0", split="tset")
    other = write_tables(tmp_path / "other", ring_data(seed=5))
    with pytest.raises(TrainingError, match="not those this run was trained on"):
        evaluate_run(tmp_path / "runs" / "seed-0", tables_folder=other)
    with pytest.raises(TrainingError, match="no ranks here"):
        compare_runs(tmp_path / "runs" / "seed-0", tmp_path / "runs" / "seed-1", split="valid")


@pytest.mark.parametrize("seeds", [[], [1, 1]])
def test_seeds_are_different_numbers(tmp_path, tables, seeds):
    with pytest.raises(ConfigError, match="different numbers"):
        train(recipe_of(), tables, tmp_path / "run", seeds=seeds)


def test_training_leaves_torchs_generator_and_threads_as_they_were(tmp_path, tables):
    torch.manual_seed(11)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    train(recipe_of(epochs=1, threads=1), tables, tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_a_graph_without_test_triples_is_evaluated_on_valid(tmp_path):
    folder: Path = write_tables(tmp_path / "tables", ring_data(test=0))
    assert train(recipe_of(epochs=1), folder, tmp_path / "run")["split"] == "valid"
