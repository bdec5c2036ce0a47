"""The loop by itself, on a learner made for it: steps that are cut up, what is kept, what goes on, what is refused."""

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from mmkg.errors import ConfigError, NotInstalled, TrainingError
from mmkg.training.checkpoint import load_trained, read_checkpoint, trained_state, write_checkpoint
from mmkg.training.learner import Look, LossParts, ParameterGroup
from mmkg.training.run_folder import read_history
from mmkg.training.runner import over_seeds, run_seeds, run_to_end
from mmkg.training.settings import learning_rate_at

from .made_learner import MadeLearner, finish, loop_of, opener, settings_of, timeless


def train(folder, make_learner, **options):
    settings = options.pop("settings", settings_of())
    done = {"done": True}
    return run_to_end(settings, folder, opener(make_learner, settings), lambda _loop: done, inputs={}, **options)


# --- steps


@pytest.mark.parametrize("by_weight", [False, True])
@pytest.mark.parametrize("accumulate", [2, 3, 7, 50])
def test_micro_batches_make_the_step_of_the_whole_batch(accumulate, by_weight):
    whole = finish(loop_of(MadeLearner(by_weight=by_weight), gradient_clip=0.5))
    parts = finish(loop_of(MadeLearner(by_weight=by_weight), gradient_clip=0.5, accumulate=accumulate))
    assert parts.learner.calls > whole.learner.calls
    for name, value in whole.model.named_parameters():
        torch.testing.assert_close(parts.model.get_parameter(name), value, rtol=1e-9, atol=1e-11)
    losses = [[row["loss"] for row in loop.position.history] for loop in (whole, parts)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


def test_a_mean_over_tokens_is_weighed_by_tokens_not_by_rows():
    """Row r has r % 3 + 1 tokens: the gradient of both halves is that of the whole, and not their plain mean."""
    loop = loop_of(MadeLearner(by_weight=True, num_examples=6, batch_size=6), accumulate=2)
    rows = np.array([2, 5, 0, 3, 1, 4])  # tokens 3 3 1 | 1 2 2
    bias = loop.model.head[-1].bias
    with torch.no_grad():
        error = loop.model(loop.learner.x[rows], torch.from_numpy(rows == 0)) - loop.learner.y[rows]
    tokens = torch.tensor([3.0, 3, 1, 1, 2, 2])
    loop._step(rows)
    assert bias.grad.item() == pytest.approx((2 * error * tokens).sum().item() / 12)
    plain = ((2 * error * tokens)[:3].sum() / 7 + (2 * error * tokens)[3:].sum() / 5) / 2
    assert bias.grad.item() != pytest.approx(plain.item(), rel=1e-3)


def test_rows_without_anything_to_predict_are_left_out_and_a_batch_of_them_is_told():
    """The mean over no token is nan."""
    loop = loop_of(MadeLearner(by_weight=True, num_examples=6, batch_size=6), accumulate=3)
    loop.learner.row_weight[:4] = 0
    loop._step(np.array([0, 1, 4, 5, 2, 3]))
    alone = loop_of(MadeLearner(by_weight=True, num_examples=6, batch_size=6))
    alone._step(np.array([4, 5]))
    torch.testing.assert_close(loop.model.head[0].weight, alone.model.head[0].weight, rtol=1e-9, atol=1e-11)
    with pytest.raises(TrainingError, match="step 1: none of the 4 rows has anything to predict"):
        loop._step(np.arange(4))


def test_under_bfloat16_products_are_short_parameters_long_and_the_loss_is_near():
    plain, short = (finish(loop_of(MadeLearner().float_(), precision=p)) for p in ("float32", "bfloat16"))
    assert set(plain.learner.outputs) == {torch.float32}
    assert set(short.learner.outputs) == {torch.bfloat16}
    assert {parameter.dtype for parameter in short.model.parameters()} == {torch.float32}
    losses = [[row["loss"] for row in loop.position.history] for loop in (plain, short)]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.03)


def test_numbers_beside_the_loss_are_averaged_over_the_rows_of_an_epoch():
    learner = MadeLearner()
    seen, loss = [], learner.loss
    learner.loss = lambda rows, random: seen.append(rows) or loss(rows, random)
    row = finish(loop_of(learner, epochs=1)).position.history[0]
    assert row["first"] == pytest.approx(sum(rows[0] * len(rows) for rows in seen) / 20)
    assert row["half"] == pytest.approx(row["loss"] / 2)


def test_a_number_that_only_some_steps_have_is_averaged_over_those():
    learner, batches = MadeLearner(), iter(range(3))
    learner.loss = lambda rows, random: LossParts(
        loss=learner.model.never.sum(), numbers={"here": 4.0} if next(batches) == 1 else {}
    )
    assert finish(loop_of(learner, epochs=1)).position.history[0]["here"] == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.002, 1, 2, 2, 2]),
        ("linear", [0.002, 1, 2, 1, 0]),
        ("cosine", [0.002, 1, 2, 1 + math.cos(math.pi / 2), 0]),
    ],
)
def test_the_learning_rate_rises_and_falls_by_hand(schedule, expected):
    settings = settings_of(learning_rate=2.0, warmup=0.2, schedule=schedule)
    assert [learning_rate_at(share, settings) for share in (0, 0.1, 0.2, 0.6, 1)] == pytest.approx(expected)


def test_groups_have_their_own_rate_and_decay():
    learner = MadeLearner()
    head, rest = list(learner.model.head.parameters()), [learner.model.rare, learner.model.never]
    learner.parameter_groups = lambda: [
        ParameterGroup(parameters=head, weight_decay=0.1),
        ParameterGroup(parameters=rest, weight_decay=0.0, rate_share=0.25),
    ]
    loop = loop_of(learner, schedule="constant")
    loop._step(np.arange(7))
    assert [(g["lr"], g["weight_decay"]) for g in loop.stepper.optimiser.param_groups] == [(0.01, 0.1), (0.0025, 0.0)]
    learner.parameter_groups = lambda: [ParameterGroup(parameters=head, weight_decay=0.1)]
    with pytest.raises(TrainingError, match="each of the 6 trained tensors once; found 4"):
        loop_of(learner)


def test_only_matrices_decay():
    loop = loop_of(MadeLearner(), weight_decay=0.3)
    matrices, others = loop.stepper.optimiser.param_groups
    assert {p.ndim for p in matrices["params"]} == {2}
    assert {p.ndim for p in others["params"]} == {1}
    assert (matrices["weight_decay"], others["weight_decay"]) == (0.3, 0.0)


def test_a_learner_may_act_after_each_step_and_add_columns():
    learner = MadeLearner()
    learner.after_step = lambda: learner.model.rare.clamp_(-1e-4, 1e-4)
    learner.row = lambda: {"largest": float(learner.model.rare.detach().abs().max())}
    history = finish(loop_of(learner)).position.history
    assert [row["largest"] for row in history] == [1e-4] * 4


# --- what is kept


def test_what_is_frozen_is_neither_changed_nor_saved(tmp_path):
    learner = MadeLearner()
    before = {name: value.clone() for name, value in learner.model.body.state_dict().items()}
    train(tmp_path / "run", lambda: learner)
    for file, start in (("checkpoint.safetensors", "model."), ("model.safetensors", "")):
        names = {name for name in read_checkpoint(tmp_path / "run" / file).tensors if name.startswith(start)}
        assert not any("body" in name for name in names)
        assert {f"{start}head.0.weight", f"{start}rare", f"{start}means.running_mean"} <= names
    assert all(torch.equal(value, before[name]) for name, value in learner.model.body.state_dict().items())
    assert all(parameter.grad is None for parameter in learner.model.body.parameters())


def test_a_best_model_is_put_back_beside_whatever_is_frozen(tmp_path):
    learner, other = MadeLearner(), MadeLearner()
    train(tmp_path / "run", lambda: learner)
    with torch.no_grad():
        other.model.body[0].weight.fill_(7.0)
    load_trained(other.model, read_checkpoint(tmp_path / "run" / "model.safetensors").tensors, tmp_path)
    assert torch.equal(other.model.head[0].weight, learner.model.head[0].weight)
    assert (other.model.body[0].weight == 7).all()


def test_of_a_model_that_is_trained_whole_all_is_saved_and_of_tied_parameters_both_names():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2, bias=False))
    model[2].weight = model[0].weight
    assert trained_state(model).keys() == model.state_dict().keys()
    assert trained_state(model.requires_grad_(False)) == {}


@pytest.mark.parametrize(("later_wins", "kept"), [(False, 1), (True, 3)])
def test_of_equal_scores_the_learner_says_which_model_is_kept(later_wins, kept):
    learner, scores = MadeLearner(), iter([0.5, 0.2, 0.5, 0.3])
    learner.look = lambda: Look(score=next(scores), label="score", numbers={}, later_wins=later_wins)
    assert finish(loop_of(learner)).position.best_epoch == kept


def test_a_score_that_chooses_nothing_is_told_and_the_last_model_kept():
    learner, scores = MadeLearner(), iter([0.5, 0.9, 0.1])
    learner.look = lambda: Look(score=next(scores), label="score", numbers={}, chooses=False)
    loop = finish(loop_of(learner, epochs=3, patience=1))
    assert (loop.position.best_epoch, loop.position.best_score) == (3, 0.1)


def test_the_model_is_told_when_it_is_trained_and_when_it_is_looked_at():
    learner, seen = MadeLearner(), []
    loss, look = learner.loss, learner.look
    learner.loss = lambda rows, random: seen.append(("loss", learner.model.training)) or loss(rows, random)
    learner.look = lambda: seen.append(("look", learner.model.training, torch.is_grad_enabled())) or look()
    finish(loop_of(learner, epochs=2))
    assert seen == [*[("loss", True)] * 3, ("look", False, False)] * 2


# --- going on


@pytest.mark.parametrize("cut_at", [3, 12, 17])
def test_a_run_cut_in_the_middle_of_an_epoch_goes_on_to_the_same_bits(tmp_path, cut_at):
    """Three steps of two micro-batches an epoch, dropout of torch's generator and noise of numpy's."""
    settings = settings_of(
        accumulate=2, checkpoint_minutes=1e-9, weight_decay=0.01, warmup=0.3, schedule="cosine", average=0.9
    )
    kind = {"dropout": 0.3, "noise": 0.1, "by_weight": True}
    train(tmp_path / "straight", lambda: MadeLearner(**kind), settings=settings)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", lambda: MadeLearner(**kind, cut_at=cut_at), settings=settings)
    position = read_checkpoint(tmp_path / "cut" / "checkpoint.safetensors").document["position"]
    assert position["step"] == (cut_at - 1) // 2
    torch.rand(13)  # whatever happened in between
    train(tmp_path / "cut", lambda: MadeLearner(**kind), settings=settings, resume=True)
    for file in ("checkpoint.safetensors", "model.safetensors"):
        one, other = (read_checkpoint(tmp_path / name / file).tensors for name in ("straight", "cut"))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one), file
    histories = [timeless(read_history(tmp_path / name)) for name in ("straight", "cut")]
    assert histories[0] == histories[1]


def test_a_checkpoint_of_other_data_or_another_loop_is_refused(tmp_path):
    path, loop = tmp_path / "checkpoint.safetensors", loop_of(MadeLearner())
    write_checkpoint(path, loop.tensors(), loop.document())
    with pytest.raises(TrainingError, match="the numbers have changed since this run began"):
        loop_of(MadeLearner(num_examples=19)).load(read_checkpoint(path), path)
    write_checkpoint(path, loop.tensors(), {**loop.document(), "position": {"best_mrr": 0.5}})
    with pytest.raises(TrainingError, match="another version of mmkg"):
        loop_of(MadeLearner()).load(read_checkpoint(path), path)


def test_the_best_model_is_written_when_it_is_found_and_not_again(tmp_path, monkeypatch):
    scores, written, learner = iter([0.1, 0.4, 0.3, 0.2]), [], MadeLearner()
    learner.look = lambda: Look(score=next(scores), label="score", numbers={})
    record = lambda path, *parts: written.append(path.name) or write_checkpoint(path, *parts)  # noqa: E731
    monkeypatch.setattr("mmkg.training.runner.write_checkpoint", record)
    train(tmp_path / "run", lambda: learner)
    assert read_checkpoint(tmp_path / "run" / "model.safetensors").document == {"epoch": 2, "data": "20 rows"}
    best, last = "model.safetensors", "checkpoint.safetensors"
    assert written == [best, last, best, last, last, last]


def test_tensorboard_shows_the_history_once_after_a_cut_too(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    settings = settings_of(tensorboard=True)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", lambda: MadeLearner(cut_at=8), settings=settings)
    train(tmp_path / "run", MadeLearner, settings=settings, resume=True)
    (events,) = (tmp_path / "run").glob("events*")
    read = accumulator.EventAccumulator(str(events))
    read.Reload()
    history = read_history(tmp_path / "run")
    for name in ("loss", "valid_error", "learning_rate"):
        shown = [(event.step, event.value) for event in read.Scalars(name)]
        assert shown == [(row["step"], pytest.approx(row[name], rel=1e-6)) for row in history]
    train(tmp_path / "without", MadeLearner)
    assert not list((tmp_path / "without").glob("events*"))


def test_without_tensorboard_a_run_that_asks_for_it_is_not_begun(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(NotInstalled, match="tensorboard=true needs 'tensorboard'"):
        train(tmp_path / "run", MadeLearner, settings=settings_of(tensorboard=True))
    assert not (tmp_path / "run").exists()


def test_several_seeds_by_hand(tmp_path):
    recipe = settings_of()

    def train_one(one, folder, resume, progress):
        folder.mkdir(parents=True)
        return {"figure": one.random_seed}

    summary = run_seeds(recipe, tmp_path, [1, 5], train_one, lambda folders: {"folders": [f.name for f in folders]})
    assert summary == {"folders": ["seed-1", "seed-5"]}
    assert (tmp_path / "metrics.json").exists()
    assert over_seeds({"mrr": [0.2, 0.4]})["mrr"] == pytest.approx({"mean": 0.3, "standard_deviation": 0.02**0.5})


# --- what is refused


def test_a_loss_that_compares_rows_is_not_cut():
    learner = MadeLearner()
    learner.divisible = False
    with pytest.raises(ConfigError, match=r"accumulate is 2 .* cannot be cut"):
        loop_of(learner, accumulate=2)


def test_nothing_to_learn_from_and_nothing_to_train_are_told():
    with pytest.raises(TrainingError, match="no rows to learn from"):
        loop_of(MadeLearner(num_examples=0))
    learner = MadeLearner()
    learner.model.requires_grad_(False)
    with pytest.raises(TrainingError, match="no parameter that is trained"):
        loop_of(learner)


def test_an_epoch_with_another_number_of_batches_is_told():
    learner, numbers = MadeLearner(), iter([7, 7, 5])
    learner.batches = lambda random: [np.arange(3)] * next(numbers)
    with pytest.raises(TrainingError, match="epoch 2 has 5 batches, the first has 7"):
        finish(loop_of(learner))


def test_a_loss_that_is_no_number_ends_the_run_before_it_reaches_the_model():
    learner = MadeLearner()
    learner.loss = lambda rows, random: learner.model.never.sum() * math.nan
    loop = loop_of(learner, gradient_clip=1.0)
    with pytest.raises(TrainingError, match=r"loss is nan at step 0.*learning_rate below 0\.01\.$"):
        finish(loop)
    assert (learner.model.never == 1).all()


def test_a_process_without_a_gpu_of_its_own_is_refused(monkeypatch):
    from mmkg.training.distributed import Processes, check_device

    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match=r"process 3 .* found 2"):
        check_device(Processes(rank=3, count=4), SimpleNamespace(type="cuda"))
