"""`mmkg train` and `mmkg evaluate` of reasoners: what a recipe learns from, and what is printed."""

import json
import sys
from pathlib import Path

import pytest

from mmkg.cli import main
from mmkg.cli.learning import KINDS, list_all_recipes
from tests.training.made_mars import write_mars


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
    for wrong in (("--build", "x"), ("--pictures", "x"), ("--against", str(tmp_path))):
        assert run(monkeypatch, capsys, "evaluate", str(folder), *wrong)[0] == 1
