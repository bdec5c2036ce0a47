"""What a model of torch is computed on: devices, precision, memory; and the digest of its weights."""

import hashlib
import logging
import math
import pickle
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from safetensors import SafetensorError

from mmkg.embeddings.base import OutOfMemory
from mmkg.errors import EmbeddingError

logger = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# how the libraries of models say that something is not there, is not whole, or does not fit
READ_ERRORS = (
    OSError,
    RuntimeError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    EOFError,
    SafetensorError,
    pickle.UnpicklingError,
)
_LARGE = 50_000_000  # parameters; a smaller model keeps its digits, and the time of a measurement
_ROUNDS = 2
_GAIN = 0.67  # of the time of fp32: bf16 keeps 8 bits, so only for a gain that shows on a busy machine too


def choose_devices(name: str) -> list[torch.device]:
    """The devices of a config: ``auto`` (all GPUs, or the CPU), ``cpu``, ``cuda`` (all GPUs), ``cuda:0``, or several.

    Args:
        name: several are separated by commas: ``cuda:0,cuda:1``.

    Raises:
        EmbeddingError: one is not a device, or is not there.
    """
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = [torch.device("cuda", number) for number in range(num_gpus)]
    if name == "auto":
        return gpus or [torch.device("cpu")]
    if name == "cuda" and gpus:
        return gpus
    devices = []
    for part in name.split(","):
        try:
            device = torch.device(part.strip())
        except RuntimeError as error:
            raise EmbeddingError(f"device: '{part}' is not one. Known: auto, cpu, cuda, cuda:0.") from error
        if device.type == "cuda" and device not in gpus:
            raise EmbeddingError(
                f"device: '{part}' was asked for; torch finds {num_gpus} GPUs here. Set device = 'auto'."
            )
        devices.append(device)
    return devices


def choose_precision(asked: str, num_parameters: int, seconds_of: Callable[[str], float]) -> str:
    """In which precision a model computes: as asked, or for ``auto`` bf16 where it is faster here by a third.

    Args:
        asked: fp32 | bf16 | fp16 | auto.
        num_parameters: a small model computes in fp32 unless asked.
        seconds_of: of a batch in a precision, best of some.
    """
    if asked != "auto":
        return asked
    if num_parameters < _LARGE:
        return "fp32"
    seconds = dict.fromkeys(("fp32", "bf16"), math.inf)
    for precision in ("fp32", "bf16") * _ROUNDS:  # in turns: another process may take the machine from one of them
        seconds[precision] = min(seconds[precision], seconds_of(precision))
    chosen = "bf16" if seconds["bf16"] < _GAIN * seconds["fp32"] else "fp32"
    logger.info("precision: fp32 %.3f s, bf16 %.3f s a batch, so %s", seconds["fp32"], seconds["bf16"], chosen)
    return chosen


def best_seconds(work: Callable[[], object], repeats: int = 2) -> float:
    """Seconds of the fastest of some calls, after one that warms up."""
    work()
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return min(taken)


def weights_digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of tensors in order of name: of each its name, type, shape and numbers."""
    hashed = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        hashed.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        hashed.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return hashed.hexdigest()


@contextmanager
def telling_memory_errors() -> Iterator[None]:
    """Turn what torch raises when memory runs out, on a GPU or a CPU, into `OutOfMemory`."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory(_too_large(error)) from error
    except RuntimeError as error:  # the allocator of the CPU has no class of its own
        if "allocate memory" in str(error):
            raise OutOfMemory(_too_large(error)) from error
        raise


def _too_large(error: BaseException) -> str:
    told = str(error).partition("\n")[0] or type(error).__name__
    return f"memory ran out: {told}. Set a smaller model, or precision = 'bf16', in [embeddings]."
