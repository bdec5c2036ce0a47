"""Which language model a reasoner reads with, and in which form. Nothing heavy is imported here: recipes hold it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Dtype = Literal["float32", "bfloat16", "float16", "auto"]


class LoraConfig(BaseModel):
    """Low-rank changes of a frozen model's matrices, through ``peft``. Source: Hu et al., arXiv:2106.09685."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    rank: int = Field(default=8, ge=1)
    """Of the change of each matrix."""
    alpha: float = Field(default=16.0, gt=0)
    """The change counts alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of what enters the change that is dropped when training; nothing of the model itself ever is."""
    targets: tuple[str, ...] = ()
    """Last parts of the names of matrices to change, such as ``q_proj``; none: those that peft knows for the family."""


class LlmConfig(BaseModel):
    """A language model: where it comes from and how it is computed."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    model: str = "atlas-causal"
    """atlas-causal | atlas-seq2seq (bundled, tiny), a folder as transformers saves it, or a hub name OWNER/NAME."""
    revision: str | None = None
    """Commit, tag or branch of a hub name; a commit makes a run repeatable."""
    dtype: Dtype = "float32"
    """Type of the weights; auto is what the files hold. Part of the model's digest."""
    device_map: Literal["none", "auto"] = "none"
    """auto spreads layers over all GPUs and the CPU's memory; needs accelerate."""
    gradient_checkpointing: bool = False
    """Compute a layer again in the backward pass instead of keeping it: less memory, about a third more time."""
    trains: bool = False
    """Learn all weights of the model too, in float32: for a small one that nobody taught to read vectors. False leaves
    it as it is, as all four papers' main runs do."""
    lora: LoraConfig | None = None
    """Train low-rank changes of the model too; None leaves it as it is, as all four papers' main runs do."""

    @model_validator(mode="after")
    def _one_way_to_learn(self) -> "LlmConfig":
        if self.trains and (self.lora is not None or self.dtype != "float32"):
            raise ValueError("trains learns all weights in float32: leave out lora, and dtype")
        return self

    @property
    def learns(self) -> bool:
        """Whether anything of the model learns."""
        return self.trains or self.lora is not None
