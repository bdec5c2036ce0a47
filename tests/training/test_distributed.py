"""Several processes: the same steps as one, and one set of files."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mmkg.training.checkpoint import read_checkpoint
from mmkg.training.distributed import Processes
from mmkg.training.run_folder import read_history, read_json

from .two_processes import run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two processes that were told who they are as torchrun tells it."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.two_processes", str(folder)],
        cwd=ROOT,
        env={**os.environ, **told, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", ["rows", "tokens", "single"])
def test_two_processes_take_the_steps_of_one(folder, tmp_path, name):
    """Also where a parameter has a gradient in one of them alone (rare), or in neither (never)."""
    run(tmp_path / name, name)
    one, two = (read_checkpoint(path / name / "checkpoint.safetensors").part("model") for path in (tmp_path, folder))
    assert one.keys() == two.keys()
    for key in one.keys() - {"means.running_mean", "means.running_var", "means.num_batches_tracked"}:
        torch.testing.assert_close(two[key], one[key], rtol=1e-6, atol=1e-6, msg=key)
    assert one["rare"].abs().max() > 0
    assert (two["never"] == 1).all()
    histories = [read_history(path / name) for path in (tmp_path, folder)]
    for key in ("loss", "valid_error", "learning_rate", "step"):
        assert [row[key] for row in histories[0]] == pytest.approx([row[key] for row in histories[1]], rel=1e-6)


def test_two_processes_draw_apart_and_a_run_that_was_cut_goes_on_to_the_same_bits(folder):
    straight, cut = (read_checkpoint(folder / name / "checkpoint.safetensors").tensors for name in ("random", "cut"))
    assert straight.keys() == cut.keys()
    assert all(torch.equal(straight[name], cut[name]) for name in straight)
    assert not torch.equal(straight["random.cpu"], straight["random1.cpu"])


def test_the_first_process_writes_alone_and_says_how_many_there_were(folder):
    assert {path.name for path in (folder / "rows").iterdir()} == {
        "config.json", "environment.json", "metrics.jsonl", "metrics.json",
        "checkpoint.safetensors", "model.safetensors",
    }  # fmt: skip
    assert read_json(folder / "rows" / "environment.json")["processes"] == 2
    assert len(read_history(folder / "rows")) == 4


def test_each_row_of_a_batch_is_one_process_s_and_long_rows_are_everybody_s():
    shares = [Processes(rank=rank, count=3).share(np.arange(7)).tolist() for rank in range(3)]
    assert shares == [[0, 3, 6], [1, 4], [2, 5]]
