"""The scripts that train Graph4MM many times: the sweep over K and α, and the study of ablations and controls."""

import importlib
import json
import sys
from pathlib import Path

import pytest

from tests.tasks.described_files import write_described

EXAMPLES = Path(__file__).parents[2] / "examples" / "graph4mm"
TINY = [
    'language="language/descriptions_tiny"', "language_epochs=1", "epochs=1", "batch_size=8", "bootstrap_draws=10",
    "model.width=16", "model.num_heads=2", "model.num_queries=2", "data.num_valid=4", "data.num_test=8",
]  # fmt: skip


@pytest.fixture
def scripts(monkeypatch):
    """The two scripts; forgotten after, as if they had been called from a shell."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    names = ("runs", "sweep", "describe_study")
    for name in names:
        sys.modules.pop(name, None)
    yield importlib.import_module("sweep"), importlib.import_module("describe_study")
    for name in names:
        sys.modules.pop(name, None)


def test_the_sweep_has_an_interval_for_each_k_and_alpha_and_a_second_call_only_reads(scripts, tmp_path, capsys):
    sweep, _ = scripts
    words = ["--work", str(tmp_path), "--recipe", "graph4mm/paths_tiny", "--terms", "2", "exact", "--alphas", "0.5"]
    words += ["--set", "data.num_train=16", "data.num_test=10", "data.num_valid=2", "epochs=1"]
    sweep.main(words)
    said = json.loads((tmp_path / "sweep.json").read_text())
    assert list(said["runs"]) == ["alpha=0.5 K=2", "alpha=0.5 K=exact"]
    assert all(run["low"] <= run["value"] <= run["high"] for run in said["runs"].values())
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    first = capsys.readouterr().out
    assert "2 of 2 runs" in first
    sweep.main(words)
    again = capsys.readouterr().out
    assert "runs" not in again
    assert again.splitlines()[-1] == first.splitlines()[-1]


def test_the_study_pairs_every_row_and_control_with_the_first(scripts, tmp_path, capsys):
    _, study = scripts
    data = write_described(tmp_path / "data")
    words = [str(data), "--work", str(tmp_path / "work"), "--seeds", "1", "--rows", "", "_name", "--set", *TINY]
    study.main(words)
    found = json.loads((tmp_path / "work" / "describe_study.json").read_text())
    others = {name.partition(" − ")[2] for name in found["paired"]}
    assert others == {"describe_name", "commonest", "most alike", "medoid", "medoid, rare pairs count more"}
    assert "Teacher-forced: no generation" in capsys.readouterr().out
    assert "<h2>Paired by entity</h2>" in (tmp_path / "work" / "describe_study.html").read_text()
