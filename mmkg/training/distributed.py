"""Several processes that train one model: each takes its share of every batch, and all make the same step.

``torchrun --nproc-per-node 4 -m mmkg train …`` starts them and says by environment variables who is who. The gradient
of a step is summed over the processes with the weight of what each has seen, so that a step equals that of one process
with the whole batch; only the first process writes files and says anything. One process is the same code with nothing
to exchange. Buffers, such as running means, are each process's own; those of the first are kept.
"""

import atexit
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mmkg.errors import ConfigError
from mmkg.evaluation.link_prediction import Int64Array

T = TypeVar("T")

# The first process may measure for long while the others wait; a process that dies is noticed by torchrun.
_TIMEOUT = timedelta(hours=24)


@dataclass(frozen=True, kw_only=True)
class Processes:
    """Who this process is among those that train together."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def share(self, rows: Int64Array) -> Int64Array:
        """Return this process's part of a batch: every ``count``-th row, so that all get rows of like length."""
        return rows[self.rank :: self.count]

    def gather(self, value: T) -> list[T]:
        """Return everybody's value, by rank."""
        if self.count == 1:
            return [value]
        values: list[T | None] = [None] * self.count
        dist.all_gather_object(values, value)
        return values  # type: ignore[return-value]

    def from_first(self, value: T) -> T:
        """Return the first process's value."""
        if self.count == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def wait(self) -> None:
        """Go on when everybody is here."""
        self.gather(None)

    def copy_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors with those of the first process."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), src=0)

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum each parameter's gradient over the processes, in place.

        One that has none on some processes counts as 0 there; one that has none on any keeps none, so that the
        optimiser leaves it alone as it would with one process.
        """
        if self.count == 1:
            return
        groups: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = {}
        for parameter in parameters:
            groups.setdefault((parameter.dtype, parameter.device), []).append(parameter)
        for (dtype, device), group in groups.items():
            there = torch.tensor([float(p.grad is not None) for p in group], dtype=dtype, device=device)
            parts = [torch.zeros_like(p).reshape(-1) if p.grad is None else p.grad.reshape(-1) for p in group]
            flat = torch.cat([there, *parts])
            dist.all_reduce(flat)
            anywhere = (flat[: len(group)] > 0).tolist()
            sums = torch.split(flat[len(group) :], [p.numel() for p in group])
            for parameter, found, gradient in zip(group, anywhere, sums, strict=True):
                parameter.grad = gradient.view_as(parameter) if found else None


def join_processes() -> Processes:
    """Meet the other processes that torchrun started, once in the life of this one; alone where there are none.

    The backend is gloo for tensors in memory and NCCL for those on a GPU; each process takes the GPU of its number.
    """
    if dist.is_available() and dist.is_initialized():
        return Processes(rank=dist.get_rank(), count=dist.get_world_size())
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or "RANK" not in os.environ:
        return Processes()
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    gpu = torch.cuda.is_available() and local_rank < torch.cuda.device_count()
    if gpu:
        torch.cuda.set_device(local_rank)
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo", timeout=_TIMEOUT)
    # Not at the end of a run: a second run of this process, of another seed, goes on with the same partners.
    atexit.register(dist.destroy_process_group)
    return Processes(rank=dist.get_rank(), count=dist.get_world_size())


def check_device(processes: Processes, device: torch.device) -> None:
    """Refuse to put two processes on one GPU.

    Raises:
        ConfigError: there are fewer GPUs here than processes.
    """
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if processes.count > 1 and device.type == "cuda" and local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"process {local_rank} of this machine has no GPU of its own: found {torch.cuda.device_count()}. "
            "Start as many processes as there are GPUs (torchrun --nproc-per-node), or set device='cpu'."
        )
