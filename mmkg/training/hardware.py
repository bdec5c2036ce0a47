"""What a run is computed on and in which numbers: the device, the threads, the type of the large matrix products."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numba
import torch

from mmkg.errors import ConfigError
from mmkg.training.recipes import LinkPredictionRecipe

logger = logging.getLogger(__name__)

_PRODUCTS = (torch.float32, torch.bfloat16)


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Compute on ``count`` threads of the CPU inside a ``with`` block, 0 for as many as torch is set to.

    Sums over several threads have other last digits than over one, so a run keeps its number from the first step on.
    """
    before = torch.get_num_threads()
    # Its pool starts at the first question, and where both share OpenMP it then sets torch's number too: do that now.
    numba.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose_products(recipe: LinkPredictionRecipe, num_entities: int, device: torch.device) -> torch.dtype:
    """Return the type of the large products: the recipe's, or for ``auto`` the faster one, tried here and now."""
    if recipe.products != "auto":
        dtype: torch.dtype = getattr(torch, recipe.products)
        return dtype
    seconds = {dtype: _seconds_of_product(recipe, num_entities, device, dtype) for dtype in _PRODUCTS}
    logger.info("products: %s", ", ".join(f"{dtype} {taken * 1e3:.1f} ms" for dtype, taken in seconds.items()))
    # bfloat16 keeps 8 bits: only for a gain that shows
    return torch.bfloat16 if seconds[torch.bfloat16] < 0.8 * seconds[torch.float32] else torch.float32


def _seconds_of_product(
    recipe: LinkPredictionRecipe, num_entities: int, device: torch.device, dtype: torch.dtype
) -> float:
    """Best of three, after one that warms up."""
    query = torch.ones((min(recipe.batch_size, 512), recipe.width), dtype=dtype, device=device)
    entity = torch.ones((min(num_entities, 20_000), recipe.width), dtype=dtype, device=device)
    taken = []
    for _ in range(4):
        started = time.perf_counter()
        torch.softmax(query @ entity.t(), dim=1)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - started)
    return min(taken[1:])


def choose_device(name: str) -> torch.device:
    """Return the device of a recipe.

    Raises:
        ConfigError: it is not one, or is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device: '{name}' is not one. Known: auto, cpu, cuda, cuda:0.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: 'cuda' was asked for, but torch finds no GPU here. Use device='cpu' or 'auto'.")
    return device
