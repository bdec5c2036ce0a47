"""The running mean of what is trained: by hand, and in the loop."""

import pytest
import torch
from torch import nn

from mmkg.training.average import RunningMean
from mmkg.training.checkpoint import load_trained

from .made_learner import MadeLearner, finish, loop_of


def test_the_mean_forgets_its_first_steps_and_then_keeps_its_decay():
    model, mean = nn.Linear(1, 1, bias=False), RunningMean(0.5)
    expected = None
    for step, value in enumerate([8.0, 4.0, 2.0, 6.0], start=1):
        with torch.no_grad():
            model.weight.fill_(value)
        mean.update(model, step)
        keep = min(0.5, (1 + step) / (10 + step))
        expected = value if expected is None else keep * expected + (1 - keep) * value
    assert mean.mean["weight"].item() == pytest.approx(expected)
    with mean.in_place(model):
        assert model.weight.item() == pytest.approx(expected)
    assert model.weight.item() == 6.0


def test_what_is_looked_at_and_kept_is_the_mean_and_training_goes_on_from_the_last_step():
    plain, averaged = MadeLearner(), MadeLearner()
    seen = []
    look = averaged.look
    averaged.look = lambda: seen.append(averaged.model.head[0].weight.detach().clone()) or look()
    last = finish(loop_of(plain, epochs=2))
    loop = finish(loop_of(averaged, epochs=2, average=0.9))
    assert torch.equal(plain.model.head[0].weight, averaged.model.head[0].weight)  # the steps are the same
    assert not torch.equal(seen[-1], averaged.model.head[0].weight)
    assert torch.equal(loop.mean.mean["head.0.weight"], seen[-1])
    load_trained(plain.model, loop.best, "best")
    assert any(torch.equal(plain.model.head[0].weight, one) for one in seen)
    assert not torch.equal(loop.best["head.0.weight"], last.best["head.0.weight"])
