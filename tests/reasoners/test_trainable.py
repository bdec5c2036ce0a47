"""What of a model learns: the report, the tensors of a checkpoint, and the language model it was trained beside."""

from pathlib import Path

import pytest
import torch
from torch import nn

from mmkg.errors import TrainingError
from mmkg.reasoners.llm import LoraConfig
from mmkg.reasoners.trainable import check_frozen, frozen_digests, trainable_report
from mmkg.training.checkpoint import load_trained, trained_state

from .made_llms import make_llm

PATH = Path("runs/one/checkpoint.safetensors")


class Reasoner(nn.Module):
    """An adapter of 4 · 3 + 3 numbers with its normalisations, a frozen picture encoder, a scale, a language model."""

    def __init__(self, width: int = 3, llm: nn.Module | None = None) -> None:
        super().__init__()
        # of the two normalisations the second has no parameters of its own
        self.adapter = nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.BatchNorm1d(width, affine=False))
        self.pictures = nn.Sequential(nn.Linear(2, 5), nn.BatchNorm1d(5)).requires_grad_(False)
        self.activation = nn.GELU()
        self.scale = nn.Parameter(torch.ones(7))
        self.llm = llm or make_llm("llama")


@pytest.mark.capability("MR-19")
def test_sums_of_the_report_agree_with_a_count_by_hand():
    reasoner = Reasoner()
    report = trainable_report(reasoner)
    llm = sum(parameter.numel() for parameter in reasoner.llm.parameters())
    counted = {part.name: (part.trainable, part.frozen) for part in report.parts}
    assert counted == {
        "adapter": (4 * 3 + 3 + 3 + 3, 0),
        "pictures": (0, 2 * 5 + 5 + 5 + 5),
        "activation": (0, 0),
        "llm": (0, llm),
        "(itself)": (7, 0),
    }
    assert (report.total.trainable, report.total.frozen) == (28, 25 + llm)
    assert report.total.total == sum(parameter.numel() for parameter in reasoner.parameters())
    assert report.total.fraction == pytest.approx(28 / (53 + llm))
    assert report.as_json()["parts"]["adapter"] == {"trainable": 21, "frozen": 0, "total": 21, "fraction": 1.0}
    lines = report.as_text().splitlines()
    assert lines[0].split() == ["part", "trainable", "frozen", "fraction"]
    assert lines[-1].split() == ["total", "28", f"{25 + llm:,}", f"{28 / (53 + llm):.2%}"]
    assert len({len(line) for line in lines}) == 1


def test_a_parameter_that_two_parts_share_is_counted_once():
    first, second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
    second.weight = first.weight
    report = trainable_report(nn.ModuleDict({"first": first, "second": second}))
    assert [(part.name, part.total) for part in report.parts] == [("first", 9), ("second", 0)]


def test_lora_is_counted_as_what_learns_of_the_language_model():
    llm = make_llm("llama", lora=LoraConfig(rank=2, targets=("q_proj",)))
    part = next(part for part in trainable_report(Reasoner(llm=llm)).parts if part.name == "llm")
    assert part.trainable == 2 * (2 * 16 + 16 * 2)  # two layers, each 16 → 2 → 16
    assert {name for name in trained_state(Reasoner(llm=llm)) if name.startswith("llm.")} == {
        f"llm.model.model.layers.{layer}.self_attn.q_proj.lora_{side}.default.weight"
        for layer in (0, 1)
        for side in "AB"
    }


def test_a_checkpoint_holds_what_learns_and_its_running_means_and_nothing_else():
    running = {"running_mean", "running_var", "num_batches_tracked"}
    assert set(trained_state(Reasoner())) == {
        "scale",
        *(f"adapter.{name}" for name in ("0.weight", "0.bias", "1.weight", "1.bias")),
        *(f"adapter.{place}.{name}" for place in (1, 2) for name in running),
    }


def test_what_was_trained_goes_into_a_fresh_model_and_nothing_else_changes():
    trained, fresh = Reasoner(), Reasoner(llm=make_llm("llama", seed=1))
    trained.adapter.train()(torch.randn(8, 4))
    with torch.no_grad():
        trained.scale += 1
    frozen = {name: tensor.clone() for name, tensor in fresh.state_dict().items()}
    load_trained(fresh, {name: tensor.clone() for name, tensor in trained_state(trained).items()}, PATH)
    names = trained_state(trained).keys()
    assert all(torch.equal(fresh.state_dict()[name], trained.state_dict()[name]) for name in names)
    assert all(torch.equal(fresh.state_dict()[name], frozen[name]) for name in frozen.keys() - names)


def test_tensors_of_another_model_are_refused_and_change_nothing():
    reasoner = Reasoner()
    tensors = {name: tensor.clone() + 1 for name, tensor in trained_state(reasoner).items()}
    without = {name: tensor for name, tensor in tensors.items() if name != "scale"}
    before = reasoner.adapter[0].weight.clone()
    with pytest.raises(
        TrainingError, match=rf"{PATH}: of another model: 2 tensors differ, first 'other': expected none"
    ):
        load_trained(reasoner, {**without, "other": torch.ones(1)}, PATH)
    with pytest.raises(TrainingError, match=r"first 'scale': expected \(7,\), found \(8,\)"):
        load_trained(reasoner, {**tensors, "scale": torch.ones(8)}, PATH)
    assert torch.equal(reasoner.adapter[0].weight, before)


def test_a_checkpoint_made_beside_another_language_model_is_refused():
    reasoner, other = Reasoner(), Reasoner(llm=make_llm("llama", seed=1))
    digests = frozen_digests(reasoner)
    assert digests == {"llm": reasoner.llm.digest}
    check_frozen(Reasoner(), digests, PATH)
    with pytest.raises(
        TrainingError,
        match=rf"{PATH}: trained beside another language model: expected digest {digests['llm']} as 'llm', "
        rf"found 'llama', digest {other.llm.digest}\. Set the model",
    ):
        check_frozen(other, digests, PATH)
    with pytest.raises(TrainingError, match="found none"):
        check_frozen(nn.Linear(1, 1), digests, PATH)
