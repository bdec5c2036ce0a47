"""Recipes: everything that decides what a training run computes, under a name.

A recipe is a frozen config. ``link_prediction/rgat_complex`` is one that is worth its minutes on a graph like
FB15k-237; ``link_prediction/rgat_complex_tiny`` is its cousin for a graph of a few hundred entities and a few seconds.
"""

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmkg.errors import ConfigError, unknown_name
from mmkg.reasoners.triple_scores import ConvEConfig


class LinkPredictionRecipe(BaseModel):
    """One link prediction run. Where a default is somebody's, it says whose; the rest were measured on FB15k-237."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str
    """What `open_recipe` knows it by."""
    # --- model
    decoder: Literal["distmult", "complex", "conve"] = "complex"
    """What scores a triple."""
    encoder: str = "none"
    """none | rgat | gat | gcn: what lets neighbours speak before the decoder."""
    width: int = Field(default=200, ge=2)
    """Numbers in a vector; for ComplEx half of them are real parts. 200 is the usual one since ConvE."""
    num_layers: int = Field(default=1, ge=1)
    """Layers of the encoder: how many hops a message travels."""
    num_heads: int = Field(default=4, ge=1)
    """Attention heads of the encoder; the width is a multiple of it."""
    message: Literal["sum", "product"] = "sum"
    """How a relation vector enters a message of RGAT."""
    residual: bool = True
    """Add what comes into a layer of the encoder to what leaves it."""
    normalisation: Literal["none", "batch", "layer"] = "batch"
    """Of what a layer gathers, before it is added."""
    initial_gain: float = Field(default=0.1, gt=0)
    """Of the normalisation: small, so that training begins near the decoder alone."""
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of attention weights that are dropped at each step (Veličković et al. 2018)."""
    encoder_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of what a layer gathered that is dropped, before it is added."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the head's features that a query does not see."""
    initial_scale: float = Field(default=0.1, gt=0)
    """Standard deviation of all vectors before training."""
    conve: ConvEConfig = ConvEConfig()
    """Settings of ConvE."""
    features: Literal["none", "text", "text_image"] = "none"
    """What an entity has beside its free vector, of the build's `vectors`: nothing; a linear map of its text's vector;
    that, and a map of the mean of its kept pictures' vectors. Maps begin at zero; an entity without a vector has its
    free vector alone. The build needs `kind` in [embeddings], for pictures one that embeds them (clip)."""
    backend: Literal["auto", "dgl", "torch", "fused"] = "auto"
    """How the encoder's operators are computed."""
    hide_batch_edges: bool = True
    """Hide from the encoder the triples that the batch asks for, so that it cannot read the answer off its input."""
    # --- optimisation
    batch_size: int = Field(default=1024, ge=2)
    """Unique queries per step; the encoder runs once a step."""
    epochs: int = Field(default=20, ge=1)
    """Passes over all queries; with `max_minutes`, at most so many."""
    max_minutes: float | None = Field(default=None, gt=0)
    """Time for training and validation; the learning rate then falls with the clock, and two runs may differ."""
    learning_rate: float = Field(default=0.01, gt=0)
    """Of Adam; falls linearly to 0."""
    n3: float = Field(default=0.05, ge=0)
    """Weight of the cubes of head, relation and tail; 0.05 is that of Lacroix et al. 2018 for FB15k-237."""
    query_weight: Literal["uniform", "triples"] = "triples"
    """What a query counts in loss and N3: one, or as many as it has train triples, which is the mean over triples that
    Lacroix et al. take (on FB15k-237, ComplEx, one epoch: valid MRR .24 with triples, .20 with uniform)."""
    gradient_clip: float | None = Field(default=None, gt=0)
    """Largest norm of the gradient of all parameters together."""
    products: Literal["float32", "bfloat16", "auto"] = "float32"
    """Type of the large matrix products; auto takes the faster of the two, measured at the start and written down."""
    # --- watching
    valid_triples: int = Field(default=2000, ge=1)
    """Size of the fixed sample of valid triples that is ranked while training."""
    valid_every: int = Field(default=1, ge=1)
    """Epochs between two looks at the sample."""
    patience: int = Field(default=0, ge=0)
    """Stop after so many looks without a better valid MRR; 0 never stops early."""
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    """Longest time between two checkpoints; there is one at the end of each epoch in any case."""
    # --- where and from what
    random_seed: int = Field(default=0, ge=0)
    """Of the first vectors, the order of queries, dropout and the bootstrap."""
    device: str = "auto"
    """cpu | cuda | auto: a GPU if there is one."""
    threads: int = Field(default=0, ge=0)
    """Threads of one run on the CPU; 0 is what torch takes."""
    drop_unused: bool = True
    """Leave out entities that no triple of a split names."""


Recipe = TypeVar("Recipe", bound=BaseModel)

_TINY: dict[str, Any] = {
    "width": 32,
    "num_heads": 2,
    "batch_size": 128,
    "epochs": 60,
    "valid_every": 10,
    "valid_triples": 500,
    "n3": 0.01,
}
_TINY_CONVE: dict[str, Any] = {
    "conve": ConvEConfig(height=4, channels=16, input_dropout=0.0, channel_dropout=0.0, hidden_dropout=0.1),
    "learning_rate": 0.01,
    "n3": 0.0,
}

_RECIPES: dict[str, dict[str, Any]] = {
    "complex": {"decoder": "complex", "epochs": 25},
    "distmult": {"decoder": "distmult", "epochs": 25},
    "conve": {"decoder": "conve", "n3": 0.0, "learning_rate": 0.003, "epochs": 40},
    "rgat_complex": {"decoder": "complex", "encoder": "rgat", "epochs": 40},
    "rgat_distmult": {"decoder": "distmult", "encoder": "rgat", "epochs": 40},
}
_PREFIX = "link_prediction/"


def list_recipes() -> tuple[str, ...]:
    """Return the names of all recipes."""
    return tuple(sorted(f"{_PREFIX}{name}{cousin}" for name in _RECIPES for cousin in ("", "_tiny")))


def open_recipe(name: str, overrides: Mapping[str, Any] | Sequence[str] = ()) -> LinkPredictionRecipe:
    """Return a recipe by name, with settings changed.

    Args:
        name: such as ``link_prediction/rgat_complex``.
        overrides: ``{"epochs": 5}`` or ``["epochs=5", "conve.channels=16"]``; a text value is read as TOML.

    Raises:
        ConfigError: no recipe or setting is called so, or a value is of the wrong kind.
    """
    known = list_recipes()
    if name not in known:
        raise ConfigError(unknown_name("recipe", name, known))
    short = name.removeprefix(_PREFIX)
    tiny = short.endswith("_tiny")
    settings: dict[str, Any] = {**_RECIPES[short.removesuffix("_tiny")], "name": name}
    if tiny:
        settings |= _TINY | (_TINY_CONVE if settings["decoder"] == "conve" else {})
    recipe = LinkPredictionRecipe(**settings)
    return change_recipe(recipe, overrides)


def change_recipe(recipe: Recipe, overrides: Mapping[str, Any] | Sequence[str]) -> Recipe:
    """Return a copy of a recipe, of any kind, with settings changed; see :func:`open_recipe`.

    Raises:
        ConfigError: no setting is called so, or a value is of the wrong kind.
    """
    changes = overrides if isinstance(overrides, Mapping) else dict(_parse(text) for text in overrides)
    settings: dict[str, Any] = recipe.model_dump()
    for key, value in changes.items():
        section: dict[str, Any] = settings
        *parents, last = key.split(".")
        for parent in parents:
            section = _entry(section, parent, key)
        _entry(section, last, key)
        section[last] = value
    try:
        return type(recipe).model_validate(settings)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, p['loc']))}: {p['msg']}. Found: {p['input']!r}." for p in error.errors()]
        raise ConfigError(f"{settings['name']}: " + " ".join(problems)) from error


def _entry(section: Any, key: str, dotted: str) -> Any:
    if not isinstance(section, dict):
        raise ConfigError(f"'{dotted}' goes through a setting that is a value, not a group of settings")
    if key not in section:
        raise ConfigError(unknown_name("setting of a recipe", key, section))
    return section[key]


def _parse(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"{text}: expected key=value, such as epochs=5")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()
