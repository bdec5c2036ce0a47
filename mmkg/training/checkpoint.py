"""Checkpoints: everything that the rest of a run depends on, in one file that is there whole or not at all.

A checkpoint is one safetensors file: model, optimiser, best model so far and the states of random generators as
tensors, everything else (epoch, batch, step, clock, history) as JSON in the file's own header. One file and one rename,
so there is no moment at which two files disagree. Going on from it gives, on the CPU, the same bits as never having
stopped. Of a model only what is trained is in it: a frozen LLM is read again from where it came.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mmkg.errors import TrainingError
from mmkg.shards import PARTIAL_SUFFIX
from mmkg.shards.files import commit

CHECKPOINT = "checkpoint.safetensors"
BEST = "model.safetensors"
_HEADER = "mmkg"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Tensors by dotted name, and a JSON document beside them."""

    tensors: Mapping[str, Tensor]
    document: Mapping[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors below ``prefix.``, named without it."""
        start = f"{prefix}."
        return {name.removeprefix(start): value for name, value in self.tensors.items() if name.startswith(start)}


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> None:
    """Write a checkpoint whole or not at all; one that is there stays until the new one is on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    # clone: safetensors refuses tensors that share memory
    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    save_file(whole, partial, metadata={_HEADER: json.dumps(document)})
    commit(partial, path)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU.

    Raises:
        TrainingError: there is none, or it is not one of ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            document = json.loads((file.metadata() or {})[_HEADER])
            return Checkpoint(tensors={name: file.get_tensor(name) for name in file.keys()}, document=document)  # noqa: SIM118
    except FileNotFoundError as error:
        raise TrainingError(
            f"{path}: no checkpoint here. Was this run started, and did its first epoch end?"
        ) from error
    except (SafetensorError, KeyError, json.JSONDecodeError, struct.error) as error:
        raise TrainingError(f"{path}: not a checkpoint of mmkg ({error}). Remove it and train again.") from error


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's moments and step counts as ``NUMBER.KEY``, by the number of the parameter."""
    state = optimiser.state_dict()["state"]
    return {f"{number}.{key}": value for number, entries in state.items() for key, value in entries.items()}


def load_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what :func:`optimiser_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """Return what training changes, by name: parameters that require a gradient, and the buffers that go with them.

    A buffer goes with them unless it lies in a frozen module, which is one that has parameters and trains none of
    them: running means of a normalisation are there, tables of a frozen LLM are not. Of a model that is trained whole
    this is its ``state_dict``. The tensors are the model's own, not copies.
    """
    trained = {name for name, value in model.named_parameters(remove_duplicate=False) if value.requires_grad}
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    frozen = tuple(
        f"{name}." for name, module in model.named_modules(remove_duplicate=False) if name and _frozen(module)
    )
    whole_is_frozen = _frozen(model)
    return {
        name: value
        for name, value in model.state_dict().items()
        if name in trained or (name not in parameters and not whole_is_frozen and not name.startswith(frozen))
    }


def _frozen(module: nn.Module) -> bool:
    parameters = list(module.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)


def load_trained(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Put back what :func:`trained_state` gave; what is frozen stays as it is.

    Raises:
        TrainingError: they are of another model; the message names what differs.
    """
    have = {name: tuple(value.shape) for name, value in trained_state(model).items()}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    if have != found:
        differ = sorted(name for name in have.keys() | found.keys() if have.get(name) != found.get(name))
        name = differ[0]
        raise TrainingError(
            f"{path}: of another model: {len(differ)} tensors differ, first '{name}': "
            f"expected {have.get(name, 'none')}, found {found.get(name, 'none')}"
        )
    model.load_state_dict(dict(tensors), strict=False)


def random_tensors(device: torch.device) -> dict[str, Tensor]:
    """Return the states of torch's generators that a run on ``device`` draws from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def load_random(tensors: Mapping[str, Tensor], device: torch.device) -> None:
    """Put back what :func:`random_tensors` gave."""
    torch.set_rng_state(tensors["cpu"])
    if device.type == "cuda" and "cuda" in tensors:
        torch.cuda.set_rng_state(tensors["cuda"], device)
