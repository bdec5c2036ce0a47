"""Recipes of language models. The two called ``language/atlas_...`` made those in ``mmkg/reasoners/atlas_lm``;
``language/descriptions`` makes the one that ``graph4mm/describe`` begins with."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mmkg.errors import ConfigError, unknown_name
from mmkg.training.recipes import change_recipe

PREFIX = "language/"


class LanguageRecipe(BaseModel):
    """One run. All defaults are ours, for a model of half a million parameters and minutes of one CPU core."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str
    """What `open_language_recipe` knows it by."""
    # --- model
    kind: Literal["causal", "seq2seq"] = "causal"
    """causal: built as LLaMA; seq2seq: as T5. Word vectors are those of the output too."""
    vocabulary_size: int = Field(default=1280, ge=300)
    """Tokens: 256 bytes, so that no text is refused, three special ones, and pieces of words."""
    width: int = Field(default=96, ge=8)
    """Of word vectors and states."""
    num_layers: int = Field(default=3, ge=1)
    """Of the decoder, and of the encoder where there is one."""
    num_heads: int = Field(default=4, ge=1)
    """Attention heads; the width is a multiple of it."""
    hidden_width: int = Field(default=256, ge=8)
    """Of the feed-forward layers."""
    max_positions: int = Field(default=512, ge=64)
    """Of a causal model; a T5 has relative positions. Training texts are shorter: about 40, at most 150 tokens."""
    # --- optimisation
    kind_repeats: dict[str, int] = {}
    """How often rows of a kind are seen in an epoch, beside once for a kind that is not named."""
    tokens_per_batch: int = Field(default=1024, ge=64)
    """Positions of a step, with padding; texts of about one length come together."""
    epochs: int = Field(default=5, ge=1)
    """Passes over all train rows."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """Of AdamW at its highest; rises linearly and falls as a half cosine to 0."""
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of the run in which the learning rate rises."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Of matrices; vectors have none."""
    gradient_clip: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient of all parameters together."""
    # --- where and from what
    random_seed: int = Field(default=0, ge=0)
    """Of the first weights and the order of rows."""
    device: str = "cpu"
    """cpu | cuda | auto."""
    threads: int = Field(default=1, ge=0)
    """Threads on the CPU; 0 is what torch takes."""


_TINY: dict[str, Any] = {
    "vocabulary_size": 400,
    "width": 32,
    "num_layers": 1,
    "num_heads": 2,
    "hidden_width": 48,
    "epochs": 1,
}
_RECIPES: dict[str, dict[str, Any]] = {
    "atlas_causal": {"kind": "causal"},
    "atlas_seq2seq": {"kind": "seq2seq", "num_layers": 2, "epochs": 8},
    # of texts that a reasoner brings: names and descriptions of entities
    "descriptions": {"vocabulary_size": 4000, "width": 128, "num_layers": 2, "hidden_width": 256, "epochs": 3},
}


def list_language_recipes() -> tuple[str, ...]:
    """Return the names of the recipes of language models."""
    return tuple(sorted(f"{PREFIX}{name}{cousin}" for name in _RECIPES for cousin in ("", "_tiny")))


def open_language_recipe(name: str, overrides: Mapping[str, Any] | Sequence[str] = ()) -> LanguageRecipe:
    """Return a recipe by name, with settings changed.

    Args:
        name: such as ``language/atlas_causal``.
        overrides: ``{"epochs": 5}`` or ``["epochs=5"]``; a text value is read as TOML.

    Raises:
        ConfigError: no recipe or setting is called so, or a value is of the wrong kind or does not fit.
    """
    known = list_language_recipes()
    if name not in known:
        raise ConfigError(unknown_name("recipe", name, known))
    short = name.removeprefix(PREFIX)
    settings = {**_RECIPES[short.removesuffix("_tiny")], **(_TINY if short.endswith("_tiny") else {}), "name": name}
    recipe = change_recipe(LanguageRecipe(**settings), overrides)
    if recipe.width % (2 * recipe.num_heads):  # rotary positions turn pairs of numbers
        raise ConfigError(f"{name}: width is {recipe.width}: not a multiple of twice num_heads, {recipe.num_heads}")
    return recipe
