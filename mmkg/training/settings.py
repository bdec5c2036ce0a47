"""Settings of the training loop: what it needs to know of a recipe, whatever is learnt.

A recipe can derive from :class:`LoopSettings`, hold one, or make one out of its own settings.
"""

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class LoopSettings(BaseModel):
    """How a model is trained. The defaults are our choice; a recipe sets what its paper says."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    batch_size: int = Field(default=32, ge=1)
    """Examples of a step, of all micro-batches and processes together."""
    accumulate: int = Field(default=1, ge=1)
    """Micro-batches of a step: the memory of a smaller batch, the gradient of the whole one."""
    epochs: int = Field(default=3, ge=1)
    """Passes over all examples; with `max_minutes`, at most so many."""
    max_minutes: float | None = Field(default=None, gt=0)
    """Time for training and validation; the learning rate then falls with the clock, and two runs may differ."""
    optimiser: Literal["adam", "adamw"] = "adamw"
    """adamw takes weight decay out of the parameters, adam adds it to the gradient."""
    betas: tuple[float, float] = (0.9, 0.999)
    """How slowly the optimiser's two means forget; torch's own."""
    fused_optimiser: bool = True
    """One kernel for all parameters: faster, with other last digits."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """At its highest."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Of matrices; vectors and numbers have none, as in CLIP."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate falls to 0 after its rise, or does not."""
    warmup: float = Field(default=0.0, ge=0, lt=1)
    """Share of the run in which the learning rate rises."""
    gradient_clip: float | None = Field(default=None, gt=0)
    """Largest norm of the gradient of all parameters together."""
    average: float = Field(default=0.0, ge=0, lt=1)
    """Decay of the running mean over steps that is measured and kept instead of the last step; 0 is none."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: the forward pass under torch's autocast; parameters and optimiser keep their type."""
    valid_every: int = Field(default=1, ge=1)
    """Epochs between two looks at the valid sample; there is one at the end in any case."""
    patience: int = Field(default=0, ge=0)
    """Stop after so many looks without a better score; 0 never stops early."""
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    """Longest time between two checkpoints; there is one at the end of each epoch in any case."""
    random_seed: int = Field(default=0, ge=0)
    """Of the first parameters, the order of examples, and everything that is drawn."""
    tensorboard: bool = False
    """Write the history for TensorBoard as well; `metrics.jsonl` holds the same numbers."""


_LOWEST_SHARE = 1e-3  # never quite 0, so that the first step is one


def learning_rate_at(share_done: float, settings: LoopSettings) -> float:
    """Return the learning rate when so much of a run is over: a linear rise, then the fall of the schedule.

    Args:
        share_done: 0 … 1.
        settings: rate, warmup and schedule.
    """
    if share_done < settings.warmup:
        return settings.learning_rate * max(share_done / settings.warmup, _LOWEST_SHARE)
    left = (share_done - settings.warmup) / (1 - settings.warmup)
    if settings.schedule == "linear":
        return settings.learning_rate * (1 - left)
    if settings.schedule == "cosine":
        return settings.learning_rate * (1 + math.cos(math.pi * left)) / 2
    return settings.learning_rate
