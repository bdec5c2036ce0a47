"""Recipes ``graph4mm/describe…``: the full model, a name for each ablation, baseline and control, and a tiny cousin.

There is no such task in the paper, so all numbers are ours but those of :class:`Graph4mmConfig` that say otherwise.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mmkg.errors import ConfigError, unknown_name
from mmkg.reasoners.graph4mm_config import Graph4mmConfig
from mmkg.reasoners.llm_config import LlmConfig
from mmkg.training.reasoning.own_language_model import OWN
from mmkg.training.reasoning.recipe import QuestionRecipe
from mmkg.training.recipes import change_recipe

PREFIX = "graph4mm/describe"


class NeighbourhoodConfig(BaseModel):
    """Which entities are described, and what is shown of their surroundings."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    num_valid: int = Field(default=1000, ge=1)
    """Entities to choose by; their descriptions are hidden everywhere."""
    num_test: int = Field(default=1000, ge=1)
    """Entities to report on; likewise."""
    split_seed: int = Field(default=0, ge=0)
    """Of the draw of both; another seed is another test."""
    max_neighbours: int = Field(default=24, ge=0)
    """Neighbours that are shown: of each relation and direction the one with fewest facts of its own, relations with
    few neighbours first, then the next one of each."""
    max_alike: int = Field(default=8, ge=0)
    """Train entities that share most (relation, neighbour) pairs with it, rare pairs counting more: mostly two hops
    away, through a neighbour that is shown or not."""
    shown: Literal["texts", "relations"] = "texts"
    """texts: names, and descriptions of train entities; relations: which relations there are, and nothing else."""
    num_in_words: int = Field(default=0, ge=0)
    """So many of the nodes stand in the prompt in words too, as the paper's neighbours do: alike entities first, then
    neighbours; the first of them last, right before the entity's own name."""
    exchanged: bool = False
    """The placebo: each entity has its own name and the surroundings of another."""
    max_images: int = Field(default=2, ge=0)
    """Pictures of an entity at most, where a build has any."""


class DescribingRecipe(QuestionRecipe):
    """A run that learns to describe entities."""

    model: Graph4mmConfig = Graph4mmConfig()
    """What of Graph4MM is trained."""
    data: NeighbourhoodConfig = NeighbourhoodConfig()
    """What is shown."""
    language: str = "language/descriptions"
    """Recipe of the language model that is trained first, if `llm.model` is "own"."""
    language_epochs: int = Field(default=3, ge=1)
    """Passes of that model over names and descriptions of train entities."""


_MODEL: dict[str, Any] = {
    "node_text": "words",
    "max_node_tokens": 32,
    "width": 128,
    "num_heads": 4,
    "num_queries": 16,
    "places": 33,
}
_FULL: dict[str, Any] = {
    "llm": LlmConfig(model=OWN, trains=True),
    "batch_size": 64,
    "epochs": 8,
    "learning_rate": 1e-3,
    "weight_decay": 0.01,
    "warmup": 0.05,
    "gradient_clip": 1.0,
    "max_text_tokens": 160,
    "max_answer_tokens": 32,
    "choose_by": "loss",
    "valid_questions": 1000,
    "threads": 1,
    "device": "cpu",
}
_TINY: dict[str, Any] = {
    "language": "language/descriptions_tiny",
    "language_epochs": 1,
    "batch_size": 8,
    "epochs": 2,
    "valid_questions": 20,
    "bootstrap_draws": 50,
}
_TINY_MODEL: dict[str, Any] = {"width": 16, "num_heads": 2, "num_queries": 4, "places": 8}
_TINY_DATA: dict[str, Any] = {"num_valid": 4, "num_test": 8, "max_neighbours": 4, "max_alike": 3}
_NO_STRUCTURE: dict[str, Any] = {"text_structure": "none", "image_structure": "none"}
_VARIANTS: dict[str, dict[str, dict[str, Any]]] = {  # name -> changes of model, data and the rest
    "": {},
    "_no_text_structure": {"model": {"text_structure": "none"}},
    "_no_structure": {"model": {**_NO_STRUCTURE, "relations": False, "places": 0}},
    "_hop_aware": {"model": {"text_structure": "hop_aware", "image_structure": "hop_aware"}},
    "_gnn": {"model": {**_NO_STRUCTURE, "graph_as_modality": True}},
    "_words": {"model": {"reads": "nothing"}},
    "_name": {"model": {"reads": "nothing"}},
    "_relations": {"model": _NO_STRUCTURE, "data": {"shown": "relations", "max_alike": 0}},
    "_mean": {"model": {"reads": "mean", **_NO_STRUCTURE}, "data": {"max_alike": 0}},
    "_placebo": {"data": {"exchanged": True}},
    "_frozen": {"llm": {"trains": False}},
}


def list_describing_recipes() -> tuple[str, ...]:
    """Return the names of the recipes."""
    return tuple(sorted([*(f"{PREFIX}{variant}" for variant in _VARIANTS), f"{PREFIX}_tiny"]))


def open_describing_recipe(name: str, overrides: Mapping[str, Any] | Sequence[str] = ()) -> DescribingRecipe:
    """Return a recipe by name, with settings changed.

    Args:
        name: such as ``graph4mm/describe``.
        overrides: ``{"epochs": 5}`` or ``["epochs=5", "model.num_terms=8"]``; a text value is read as TOML.

    Raises:
        ConfigError: no recipe or setting is called so, or a value is of the wrong kind.
    """
    known = list_describing_recipes()
    if name not in known:
        raise ConfigError(unknown_name("recipe", name, known))
    tiny = name == f"{PREFIX}_tiny"
    changes = {} if tiny else _VARIANTS[name.removeprefix(PREFIX)]
    settings = {**_FULL, **(_TINY if tiny else {}), **changes.get("recipe", {})}
    settings["llm"] = LlmConfig(**{"model": OWN, "trains": True, **changes.get("llm", {})})
    settings["model"] = Graph4mmConfig(**{**_MODEL, **(_TINY_MODEL if tiny else {}), **changes.get("model", {})})
    settings["data"] = NeighbourhoodConfig(**{**(_TINY_DATA if tiny else {}), **changes.get("data", {})})
    return change_recipe(DescribingRecipe(name=name, **settings), overrides)
