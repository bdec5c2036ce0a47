"""Recipes of contrastive training. ``contrastive/atlas_clip`` made the weights in ``mmkg/embeddings/atlas_clip``."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

from mmkg.errors import ConfigError, unknown_name
from mmkg.training.recipes import change_recipe

PREFIX = "contrastive/"


class AugmentationConfig(BaseModel):
    """How far pictures are changed before the model sees them. Never mirrored: a flag's hoist is on its left.

    Each value is the limit of a uniform draw, each picture's own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    untouched: float = Field(default=0.15, ge=0, le=1)
    """Share of pictures that are only resized."""
    rotation_degrees: float = Field(default=9, ge=0)
    """Turned to either side."""
    shear: float = Field(default=0.12, ge=0)
    """Sideways, in parts of the height."""
    enlarge: float = Field(default=0.1, ge=0)
    """Cut away, in parts of the side; each axis has its own draw, which also changes the aspect."""
    shrink: float = Field(default=0.22, ge=0, lt=1)
    """Background around the picture, in parts of the side."""
    shift: float = Field(default=0.06, ge=0)
    """Of the middle, in parts of the side."""
    perspective: float = Field(default=0.12, ge=0, lt=1)
    """How much nearer one side is than the other."""
    wave: float = Field(default=0.04, ge=0)
    """Height of a wave through the picture, in parts of the side; every third picture has one."""
    brightness: float = Field(default=0.25, ge=0, lt=1)
    """Factor between 1 - x and 1 + x."""
    contrast: float = Field(default=0.25, ge=0, lt=1)
    """As `brightness`, around the picture's mean."""
    saturation: float = Field(default=0.3, ge=0, lt=1)
    """As `brightness`, around the picture's grey."""
    hue_degrees: float = Field(default=5, ge=0)
    """Small: more would make a yellow orange, and its caption false."""
    blur: float = Field(default=0.8, ge=0, le=1)
    """Share of a 3 × 3 mean in what is seen, drawn for each picture; every second picture has it."""
    coarse: float = Field(default=0.25, ge=0, le=1)
    """Share of pictures that are shown at half their resolution."""
    noise: float = Field(default=0.04, ge=0)
    """Standard deviation of noise on each channel (0 … 1)."""
    jpeg: float = Field(default=0.25, ge=0, le=1)
    """Share of pictures that go through JPEG at a quality of 20 to 75."""


class ContrastiveRecipe(BaseModel):
    """One contrastive run. Where a default is somebody's, it says whose; the rest were measured on made-up flags."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str
    """What `open_contrastive_recipe` knows it by."""
    # --- model
    embed_width: int = Field(default=64, ge=2)
    """Numbers in a vector of a picture or text."""
    image_size_px: int = Field(default=64, ge=8)
    """Pictures are squashed to a square of this side, so that nothing of them is cut off."""
    patch_size_px: int = Field(default=8, ge=2)
    """Side of a patch of the vision transformer; the image size is a multiple of it."""
    vision_width: int = Field(default=96, ge=4)
    """Of the vision transformer."""
    vision_layers: int = Field(default=3, ge=1)
    """Of the vision transformer."""
    vision_heads: int = Field(default=4, ge=1)
    """The width is a multiple of it."""
    text_width: int = Field(default=64, ge=4)
    """Of the text transformer."""
    text_layers: int = Field(default=2, ge=1)
    """Of the text transformer."""
    text_heads: int = Field(default=4, ge=1)
    """The width is a multiple of it."""
    text_mlp_ratio: float = Field(default=2, gt=0)
    """Width of the text transformer's hidden layers over its width."""
    context_length: int = Field(default=36, ge=3)
    """Tokens of a caption, with start and end; what is longer is cut."""
    vocabulary_size: int = Field(default=256, ge=96)
    """Tokens at most; the characters alone are 84 of them."""
    # --- what is seen
    augmentation: AugmentationConfig = AugmentationConfig()
    """How pictures are changed."""
    captions_per_picture: int = Field(default=2, ge=1)
    """Captions of a picture in a batch: CLIP takes 1. A caption costs a fifth of a picture."""
    kind_weights: dict[str, PositiveFloat] = {}
    """How often captions of a kind are drawn, beside 1 for a kind that is not named. What is learnt late needs more:
    with all kinds alike, colours of flags are told apart at once and shapes hardly."""
    unknown_words: float = Field(default=0.08, ge=0, le=1)
    """Share of captions into which a made-up word is put, so that an unknown word says little."""
    without_articles: float = Field(default=0.15, ge=0, le=1)
    """Share of captions without a, an, the: as people type into a search box."""
    # --- optimisation
    batch_size: int = Field(default=64, ge=2)
    """Pictures of a step."""
    epochs: int = Field(default=12, ge=1)
    """Passes over all train pictures; with `max_minutes`, at most so many."""
    max_minutes: float | None = Field(default=None, gt=0)
    """Time for training and validation; the learning rate then falls with the clock, and two runs may differ."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """Of AdamW at its highest; rises linearly and falls as a half cosine to 0."""
    warmup: float = Field(default=0.08, ge=0, lt=1)
    """Share of the run in which the learning rate rises."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Of matrices; vectors and numbers have none, as in CLIP."""
    gradient_clip: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient of all parameters together."""
    max_logit_scale: float = Field(default=100.0, gt=1)
    """Limit of the learned inverse temperature: CLIP's own."""
    # --- watching
    valid_every: int = Field(default=1, ge=1)
    """Epochs between two looks at the valid pictures."""
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    """Longest time between two checkpoints; there is one at the end of each epoch in any case."""
    # --- where and from what
    random_seed: int = Field(default=0, ge=0)
    """Of the first weights, the order of pictures, the choice of captions, augmentation and the bootstrap."""
    device: str = "auto"
    """cpu | cuda | auto: a GPU if there is one."""
    threads: int = Field(default=0, ge=0)
    """Threads of one run on the CPU; 0 is what torch takes."""


_RECIPES: dict[str, dict[str, Any]] = {
    "atlas_clip": {"threads": 1, "epochs": 16, "kind_weights": {"shape": 4.0, "combined": 2.0, "exact": 2.0}},
    "atlas_clip_tiny": {
        "threads": 1,
        "image_size_px": 32,
        "vision_width": 48,
        "vision_layers": 2,
        "text_width": 32,
        "text_layers": 1,
        "embed_width": 32,
        "learning_rate": 3e-3,
        "epochs": 16,
        "valid_every": 4,
    },
}


def list_contrastive_recipes() -> tuple[str, ...]:
    """Return the names of the recipes of contrastive training."""
    return tuple(sorted(PREFIX + name for name in _RECIPES))


def open_contrastive_recipe(name: str, overrides: Mapping[str, Any] | Sequence[str] = ()) -> ContrastiveRecipe:
    """Return a recipe by name, with settings changed.

    Args:
        name: such as ``contrastive/atlas_clip``.
        overrides: ``{"epochs": 5}`` or ``["epochs=5", "augmentation.jpeg=0"]``; a text value is read as TOML.

    Raises:
        ConfigError: no recipe or setting is called so, a value is of the wrong kind, or sizes do not fit each other.
    """
    known = list_contrastive_recipes()
    if name not in known:
        raise ConfigError(unknown_name("recipe", name, known))
    recipe = change_recipe(ContrastiveRecipe(name=name, **_RECIPES[name.removeprefix(PREFIX)]), overrides)
    for whole, part in (
        ("image_size_px", "patch_size_px"),
        ("vision_width", "vision_heads"),
        ("text_width", "text_heads"),
    ):
        if getattr(recipe, whole) % getattr(recipe, part):
            raise ConfigError(
                f"{name}: {whole} is {getattr(recipe, whole)}: not a multiple of {part}, {getattr(recipe, part)}"
            )
    return recipe
