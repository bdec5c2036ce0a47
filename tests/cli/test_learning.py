"""`mmkg train` and `mmkg evaluate` of reasoners: what a recipe learns from, and what is printed."""

import json
import sys
from pathlib import Path

import pytest

from mmkg.cli import main
from mmkg.cli.learning import KINDS, list_all_recipes
from tests.tasks.described_files import write_described
from tests.tasks.visual_genome_files import draw_pictures, parts, write_files
from tests.training.made_mars import write_mars
from tests.training.test_classes_run import write_markg
from tests.training.test_scienceqa_run import write_problems


def run(monkeypatch, capsys, *arguments: str) -> tuple[int, str, str]:
    """Exit status, output and errors of the command line, in this process: torch is here already."""
    monkeypatch.setattr(sys, "argv", ["mmkg", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    said = capsys.readouterr()
    return int(exit_.value.code or 0), said.out, said.err


def test_every_recipe_is_of_one_kind():
    for name in list_all_recipes():
        assert len([prefix for prefix in KINDS if name.startswith(prefix)]) == 1, name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mr_mkg/mras",), "no recipe is called 'mr_mkg/mras'. Did you mean 'mr_mkg/mars'"),
        (("mr_mkg/mars",), "mr_mkg/mars learns from --data DATA; missing: --data"),
        (("mr_mkg/mars", "--data", "x", "--build", "y"), "leave out --build"),
        (("mr_mkg/synthetic_tiny", "--data", "x"), "learns from nothing but its own settings; leave out --data"),
        (("mr_mkg/synthetic_tiny", "--seeds", "2"), "one seed at a time: --set random_seed=1"),
        (("link_prediction/complex",), "learns from --build BUILD; missing: --build"),
        (("contrastive/atlas_clip", "--build", "x"), "missing: --pictures"),
        (("graph4mm/describe",), "learns from --data DATA or --build BUILD; missing: --data or --build"),
        (("graph4mm/paths_tiny", "--data", "x"), "learns from nothing but its own settings; leave out --data"),
        (("mr_mkg/mars_tiny", "--data", "x", "--set", "epoch=3"), "no setting of a recipe is called 'epoch'"),
        (("mr_mkg/mars_tiny", "--data", "nowhere"), "nowhere"),
    ],
)
def test_what_a_recipe_lacks_or_cannot_have_is_told(monkeypatch, capsys, tmp_path, arguments, message):
    status, _, error = run(monkeypatch, capsys, "train", *arguments, "--run", str(tmp_path / "run"))
    assert status == 1
    assert message in " ".join(error.split())


def test_a_run_on_mars_prints_the_model_beside_the_look_ups_and_is_evaluated_again(monkeypatch, capsys, tmp_path: Path):
    data, folder = write_mars(tmp_path / "mars"), tmp_path / "runs" / "one"
    settings = [part for key in ("batch_size=4", "epochs=1", "pretrain_epochs=0") for part in ("--set", key)]
    status, output, error = run(
        monkeypatch, capsys, "train", "mr_mkg/mars_tiny", "--data", str(data), "--run", str(folder), *settings
    )
    assert status == 0, error
    for shown in ("look-up + MarKG neighbours", "MR-MKG", "unseen pairs", str(folder / "report.html")):
        assert shown in output
    status, again, error = run(monkeypatch, capsys, "evaluate", str(folder))
    assert status == 0, error
    table = [line for line in output.splitlines() if "MR-MKG" in line or "look-up" in line]
    assert table == [line for line in again.splitlines() if "MR-MKG" in line or "look-up" in line]
    status, paired, error = run(monkeypatch, capsys, "evaluate", str(folder), "--against", str(folder), "--json")
    assert status == 0, error
    difference = json.loads(paired)["comparisons"]["MR-MKG − run one"]
    assert (difference["mrr"]["value"], difference["ties"]) == (0, 3)
    for wrong in (("--build", "x"), ("--pictures", "x"), ("--split", "train"), ("--against", str(tmp_path))):
        assert run(monkeypatch, capsys, "evaluate", str(folder), *wrong)[0] == 1
    data.rename(tmp_path / "moved")
    assert run(monkeypatch, capsys, "evaluate", str(folder))[0] == 1
    status, moved, error = run(monkeypatch, capsys, "evaluate", str(folder), "--data", str(tmp_path / "moved"))
    assert status == 0, error
    assert table == [line for line in moved.splitlines() if "MR-MKG" in line or "look-up" in line]


def trained(monkeypatch, capsys, recipe: str, folder: Path, *arguments: str, settings: tuple[str, ...] = ()) -> dict:
    """Train a small run by the command line and return its metrics."""
    changes = [part for one in ("epochs=1", "bootstrap_draws=10", *settings) for part in ("--set", one)]
    status, output, error = run(
        monkeypatch, capsys, "train", recipe, "--run", str(folder), "--json", *arguments, *changes
    )
    assert status == 0, error
    return json.loads(output)


def evaluated(monkeypatch, capsys, folder: Path, *arguments: str) -> dict:
    status, output, error = run(monkeypatch, capsys, "evaluate", str(folder), "--json", *arguments)
    assert status == 0, error
    return json.loads(output)


def test_a_run_on_made_questions_is_evaluated_again_with_its_control(monkeypatch, capsys, tmp_path):
    folder = tmp_path / "run"
    settings = ("data.num_train=8", "data.num_valid=4", "data.num_test=6")
    metrics = trained(monkeypatch, capsys, "mr_mkg/synthetic_tiny", folder, settings=settings)
    again = evaluated(monkeypatch, capsys, folder)
    for name in ("accuracy", "exchanged_subgraphs", "without_graph"):
        assert again[name] == metrics[name]
    assert (folder / "report-test.html").exists()
    valid = evaluated(monkeypatch, capsys, folder, "--split", "valid")
    assert valid["num_questions"] == 4
    assert "without_graph" not in valid  # it was asked the test questions
    status, output, _ = run(monkeypatch, capsys, "evaluate", str(folder))
    assert status == 0
    assert "accuracy" in output
    assert str(folder / "report-test.html") in output
    for wrong, message in (
        (("--data", "x"), "is evaluated with --split; leave out --data"),
        (("--split", "tset"), "no split is called 'tset'"),
    ):
        status, _, error = run(monkeypatch, capsys, "evaluate", str(folder), *wrong)
        assert status == 1
        assert message in " ".join(error.split())


def test_a_run_on_scenes_is_evaluated_again_where_its_files_are_now(monkeypatch, capsys, tmp_path):
    data, folder = draw_pictures(write_files(tmp_path / "genome", parts())), tmp_path / "run"
    metrics = trained(monkeypatch, capsys, "mr_mkg/pretrain_tiny", folder, "--data", str(data))
    data.rename(tmp_path / "moved")
    assert run(monkeypatch, capsys, "evaluate", str(folder))[0] == 1
    again = evaluated(monkeypatch, capsys, folder, "--data", str(tmp_path / "moved"))
    assert again["accuracy"] == metrics["accuracy"]
    on_train = evaluated(monkeypatch, capsys, folder, "--data", str(tmp_path / "moved"), "--split", "train")
    assert on_train["num_questions"] + again["num_questions"] == 3


def test_a_run_on_scienceqa_is_evaluated_on_another_split(monkeypatch, capsys, tmp_path):
    data, folder = write_problems(tmp_path / "data", with_test=True), tmp_path / "run"
    settings = ("model.knowledge=none", "rationale=none")
    metrics = trained(monkeypatch, capsys, "mr_mkg/scienceqa_tiny", folder, "--data", str(data), settings=settings)
    data.rename(tmp_path / "moved")
    again = evaluated(monkeypatch, capsys, folder, "--data", str(tmp_path / "moved"))
    assert again["scienceqa"] == metrics["scienceqa"]
    assert (
        evaluated(monkeypatch, capsys, folder, "--data", str(tmp_path / "moved"), "--split", "val")["reported_split"]
        == "val"
    )


def test_what_cannot_be_evaluated_is_told(monkeypatch, capsys, tmp_path):
    for name, message in (
        ("language/atlas_causal_tiny", "a language model is measured once, when it is trained"),
        ("mr_mkg/of_tomorrow", "no recipe of this version"),
    ):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"recipe": {"name": name}}))
        status, _, error = run(monkeypatch, capsys, "evaluate", str(folder))
        assert status == 1
        assert message in " ".join(error.split())
    (tmp_path / "several" / "seed-0").mkdir(parents=True)
    for folder, message in ((tmp_path / "several", "choose one of seed-0"), (tmp_path / "none", "no such run")):
        status, _, error = run(monkeypatch, capsys, "evaluate", str(folder))
        assert status == 1
        assert message in " ".join(error.split())


def test_a_run_that_describes_prints_scores_beside_controls_and_several_seeds_their_mean(monkeypatch, capsys, tmp_path):
    data, folder = write_described(tmp_path / "data"), tmp_path / "run"
    settings = [part for key in ("epochs=1", "bootstrap_draws=5", "valid_questions=4") for part in ("--set", key)]
    asked = ("train", "graph4mm/describe_tiny", "--data", str(data), *settings)
    status, output, error = run(monkeypatch, capsys, *asked, "--seeds", "2", "--run", str(folder))
    assert status == 0, error
    assert "mean ± deviation over 2 seeds" in output
    assert "texts.rouge_l" in output
    status, output, error = run(monkeypatch, capsys, "evaluate", str(folder / "seed-0"), "--split", "valid")
    assert status == 0, error
    for shown in ("ROUGE-L", "medoid", "teacher-forced", "report-valid.html"):
        assert shown in output


def test_a_run_that_tells_classes_prints_seen_and_unseen_ones_beside_controls(monkeypatch, capsys, tmp_path):
    data, folder = write_markg(tmp_path / "data"), tmp_path / "run"
    settings = [part for key in ("epochs=1", "bootstrap_draws=5") for part in ("--set", key)]
    asked = ("train", "graph4mm/classes_tiny", "--data", str(data), "--run", str(folder), *settings)
    status, output, error = run(monkeypatch, capsys, *asked)
    assert status == 0, error
    for shown in ("seen of all", "unseen of all", "nearest class name", "graph4mm/classes_tiny"):
        assert shown in output
