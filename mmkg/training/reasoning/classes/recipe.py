"""Recipes ``graph4mm/classes…``: which class is an entity of, where some classes are never met in training (G4-16).

The paper does this on Ele-Fashion (OPT-125M, six classes seen and five not); ``graph4mm/classes_paper`` has its numbers
and those of the released code, as far as they are known. All else is ours.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mmkg.config import EmbeddingsConfig
from mmkg.errors import ConfigError, unknown_name
from mmkg.reasoners.graph4mm_config import Graph4mmConfig
from mmkg.reasoners.llm_config import LlmConfig
from mmkg.training.reasoning.own_language_model import OWN
from mmkg.training.reasoning.recipe import QuestionRecipe
from mmkg.training.recipes import change_recipe

PREFIX = "graph4mm/classes"


class ClassesConfig(BaseModel):
    """Which classes there are, and what is shown of an entity. All ours."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    relation: str = "instance of"
    """Whose tails are the classes; its triples are in no subgraph, in neither direction. An entity with several classes
    is left out, since more than one answer would be right."""
    min_members: int = Field(default=8, ge=2)
    """Classes with fewer entities are left out."""
    num_classes: int | None = Field(default=None, ge=3)
    """At most so many, the largest; None for all."""
    num_unseen: int = Field(default=20, ge=1)
    """Classes that are drawn to be never met in training."""
    split_seed: int = Field(default=0, ge=0)
    """Of the draw of classes and entities; another seed is another test."""
    valid_share: float = Field(default=0.1, ge=0, lt=1)
    """Of each seen class: to choose by."""
    test_share: float = Field(default=0.3, gt=0, lt=1)
    """Of each seen class: to report on, beside all entities of unseen classes."""
    own: Literal["description", "name"] = "description"
    """What is said of the entity itself. A description often says the class: the run tells how often."""
    max_neighbours: int = Field(default=12, ge=0)
    """Entities one hop away that are shown: those with fewest facts of their own first, since they tell most."""
    max_second: int = Field(default=8, ge=0)
    """Entities two hops away that are shown: those that most of the first hop lead to."""
    class_nodes: Literal["hidden", "shown"] = "hidden"
    """Whether an entity that is one of the classes may be a neighbour: other relations tie entities to their class."""
    in_words: bool = False
    """Names of neighbours stand in the text, by hop: "1-hop neighbours: …"."""
    exchanged: bool = False
    """The placebo: each entity has its own text, and the surroundings of another of its part of the split."""


class ClassesRecipe(QuestionRecipe):
    """A run that learns to tell classes."""

    model: Graph4mmConfig = Graph4mmConfig()
    """What of Graph4MM is trained."""
    data: ClassesConfig = ClassesConfig()
    """What is asked and shown."""
    embeddings: EmbeddingsConfig = EmbeddingsConfig(kind="sentence", model="minilm", precision="fp32")
    """Makes vectors of entities' texts, relations and classes."""
    answering: Literal["vectors", "likelihood"] = "vectors"
    """vectors: the class whose text's vector is nearest to what was read, see
    :mod:`mmkg.training.reasoning.classes.semantic`; likelihood: the class that the language model holds for likeliest,
    as in the paper, which needs one that knows words of classes it was never shown."""
    class_text: Literal["name", "description"] = "name"
    """Of which a class's vector is made; "description" is both. The language model says the name."""
    temperature: float = Field(default=0.05, gt=0)
    """Of the softmax over classes, at the start; it is learnt."""
    language: str = "language/descriptions"
    """Recipe of the language model that is trained first, if `llm.model` is "own"."""
    language_epochs: int = Field(default=3, ge=1)
    """Passes of that model over its texts."""


_MODEL: dict[str, Any] = {"width": 128, "num_heads": 4, "num_queries": 8}
_FULL: dict[str, Any] = {
    "batch_size": 32,
    "epochs": 15,
    "learning_rate": 1e-3,
    "weight_decay": 0.05,
    "warmup": 0.05,
    "gradient_clip": 1.0,
    "max_text_tokens": 64,
    "max_answer_tokens": 16,
    "choose_by": "loss",
    "threads": 1,
    "device": "cpu",
}
_NO_STRUCTURE: dict[str, Any] = {"text_structure": "none", "image_structure": "none"}
_LIKELIHOOD: dict[str, Any] = {"answering": "likelihood", "epochs": 8}
_TRAINED = {"model": OWN, "trains": True}
_VARIANTS: dict[str, dict[str, dict[str, Any]]] = {  # name -> changes of model, data, language model and the rest
    "": {},
    "_text": {"model": {"reads": "nothing"}},
    "_no_structure": {"model": {**_NO_STRUCTURE, "relations": False}},
    "_hop_aware": {"model": {"text_structure": "hop_aware", "image_structure": "hop_aware"}},
    "_gnn": {"model": {**_NO_STRUCTURE, "graph_as_modality": True}},
    "_words": {
        "model": {"reads": "nothing"},
        "data": {"in_words": True},
        "recipe": {"max_text_tokens": 256},
    },
    "_placebo": {"data": {"exchanged": True}},
    "_name": {"data": {"own": "name"}},
    "_name_placebo": {"data": {"own": "name", "exchanged": True}},
    "_name_text": {"data": {"own": "name"}, "model": {"reads": "nothing"}},
    "_likelihood": {"llm": _TRAINED, "recipe": _LIKELIHOOD},
    "_likelihood_text": {"llm": _TRAINED, "recipe": _LIKELIHOOD, "model": {"reads": "nothing"}},
    "_paper": {
        "llm": {"model": "facebook/opt-125m"},
        "model": {"node_text": "states", "max_node_tokens": 512, "width": 768, "num_heads": 12, "num_queries": 20},
        "data": {"num_classes": 11, "num_unseen": 5, "in_words": True},  # six seen
        "recipe": {
            "answering": "likelihood",
            "embeddings": EmbeddingsConfig(kind="clip", model="ViT-B-16", pretrained="openai"),
            "batch_size": 32,  # 2 at once
            "accumulate": 16,
            "epochs": 50,
            "learning_rate": 1e-4,
            "betas": (0.9, 0.95),
            "weight_decay": 0.01,
            "max_text_tokens": 1024,
            "max_answer_tokens": 128,
            "choose_by": "accuracy",  # its generation task chooses by BLEU-4
            "device": "auto",
            "threads": 0,
        },
    },
    "_tiny": {
        "llm": {},
        "model": {"width": 16, "num_heads": 2, "num_queries": 2},
        "data": {"min_members": 4, "num_unseen": 2, "max_neighbours": 4, "max_second": 3},
        "recipe": {
            "embeddings": EmbeddingsConfig(kind="hashing"),
            "language": "language/descriptions_tiny",
            "language_epochs": 1,
            "batch_size": 8,
            "epochs": 2,
            "bootstrap_draws": 50,
        },
    },
}


def list_class_recipes() -> tuple[str, ...]:
    """Return the names of the recipes."""
    return tuple(sorted(f"{PREFIX}{variant}" for variant in _VARIANTS))


def open_class_recipe(name: str, overrides: Mapping[str, Any] | Sequence[str] = ()) -> ClassesRecipe:
    """Return a recipe by name, with settings changed.

    Args:
        name: such as ``graph4mm/classes``.
        overrides: ``{"epochs": 5}`` or ``["epochs=5", "data.num_unseen=10"]``; a text value is read as TOML.

    Raises:
        ConfigError: no recipe or setting is called so, or a value is of the wrong kind.
    """
    known = list_class_recipes()
    if name not in known:
        raise ConfigError(unknown_name("recipe", name, known))
    changes = _VARIANTS[name.removeprefix(PREFIX)]
    recipe = ClassesRecipe(
        name=name,
        llm=LlmConfig(**changes.get("llm", {})),
        model=Graph4mmConfig(**{**_MODEL, **changes.get("model", {})}),
        data=ClassesConfig(**changes.get("data", {})),
        **{**_FULL, **changes.get("recipe", {})},
    )
    return change_recipe(recipe, overrides)
