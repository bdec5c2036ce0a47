"""Devices, precision, memory, and the digest of weights."""

import pytest
import torch

from mmkg.embeddings.base import OutOfMemory
from mmkg.embeddings.hardware import (
    best_seconds,
    choose_devices,
    choose_precision,
    telling_memory_errors,
    weights_digest,
)
from mmkg.errors import EmbeddingError


def test_weights_are_digested_in_order_of_name() -> None:
    one, two = torch.arange(6.0).reshape(2, 3), torch.ones(2)
    assert weights_digest({"a": one, "b": two}) == weights_digest({"b": two, "a": one})


@pytest.mark.parametrize(
    "other",
    [
        {"b": torch.arange(6.0).reshape(2, 3)},
        {"a": torch.arange(6.0).reshape(3, 2)},
        {"a": torch.arange(6.0).reshape(2, 3).to(torch.float64)},
        {"a": torch.arange(6.0).reshape(2, 3).nextafter(torch.tensor(9.0))},
        {"a": torch.arange(6.0).reshape(2, 3), "b": torch.empty(0)},
    ],
    ids=["name", "shape", "type", "last bit", "another tensor"],
)
def test_weights_that_differ_in_anything_have_another_digest(other: dict[str, torch.Tensor]) -> None:
    assert weights_digest(other) != weights_digest({"a": torch.arange(6.0).reshape(2, 3)})


def test_weights_of_any_layout_and_precision_are_digested_by_their_numbers() -> None:
    matrix = torch.arange(6.0).reshape(2, 3)
    assert weights_digest({"a": matrix.t()}) == weights_digest({"a": matrix.t().contiguous()})
    assert weights_digest({"a": matrix.to(torch.bfloat16), "scalar": torch.tensor(2.0)})


def test_devices_are_those_that_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_devices("cpu,cpu") == [torch.device("cpu")] * 2
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_devices("auto") == [torch.device("cpu")]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    both = [torch.device("cuda", 0), torch.device("cuda", 1)]
    assert choose_devices("auto") == choose_devices("cuda") == choose_devices("cuda:0, cuda:1") == both


@pytest.mark.parametrize(
    ("name", "says"),
    [("gpu", "'gpu' is not one"), ("cuda", "torch finds 0 GPUs"), ("cpu,cuda:7", "'cuda:7' was asked")],
)
def test_a_device_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch, name: str, says: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EmbeddingError, match=says):
        choose_devices(name)


@pytest.mark.parametrize(
    ("seconds", "chosen"), [({"fp32": 1, "bf16": 0.3}, "bf16"), ({"fp32": 1, "bf16": 0.9}, "fp32")]
)
def test_auto_takes_bf16_where_it_is_clearly_faster(seconds: dict[str, float], chosen: str) -> None:
    assert choose_precision("auto", 10**9, seconds.__getitem__) == chosen


def test_nothing_is_measured_for_a_small_model_or_a_precision_that_is_asked_for() -> None:
    assert choose_precision("auto", 1000, {}.__getitem__) == "fp32"
    assert choose_precision("fp16", 10**9, {}.__getitem__) == "fp16"


def test_a_machine_that_is_busy_while_one_precision_is_measured_decides_nothing() -> None:
    told = {"fp32": iter([9.0, 1.0]), "bf16": iter([2.0, 2.0])}  # fp32 was disturbed in the first round
    assert choose_precision("auto", 10**9, lambda precision: next(told[precision])) == "fp32"


def test_the_first_call_is_not_measured() -> None:
    calls = []
    best_seconds(lambda: calls.append(1), repeats=2)
    assert len(calls) == 3


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_torch_raises_when_memory_runs_out_is_told_as_that(error: Exception) -> None:
    with pytest.raises(OutOfMemory, match=r"memory ran out: .*Set a smaller model"), telling_memory_errors():
        raise error


def test_memory_that_really_runs_out_is_told_as_that() -> None:
    with pytest.raises(OutOfMemory), telling_memory_errors():
        torch.empty(2**60, dtype=torch.uint8)


def test_other_errors_of_torch_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="must match"), telling_memory_errors():
        torch.ones(2) + torch.ones(3)
