"""Recipes of MR-MKG on MARS: ``mr_mkg/mars``, its tiny cousin, the paper's numbers, and a name for each ablation.

Source of the paper's numbers: Lee et al., ACL 2024, arXiv:2406.02030, section 4.1 and appendix A.4 (MarKG: 3 epochs,
2e-5, batch 8, 96 tokens; MARS: 3 epochs, 5e-6, batch 4, 128 tokens; AdamW with decay 0.01; LLaMA-2 7B).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from mmkg.config import EmbeddingsConfig
from mmkg.errors import ConfigError, unknown_name
from mmkg.reasoners.llm_config import LlmConfig
from mmkg.reasoners.mr_mkg import MrMkgConfig
from mmkg.subgraphs.retrieve import RetrievalConfig
from mmkg.training.reasoning.mars.graph import MarsGraphConfig
from mmkg.training.recipes import change_recipe
from mmkg.training.settings import LoopSettings

PREFIX = "mr_mkg/mars"


class MarsRecipe(LoopSettings):
    """One run on MARS. What the paper does not give was chosen on train and dev: there is no test split at hand."""

    name: str
    """What `open_mars_recipe` knows it by."""
    llm: LlmConfig = LlmConfig()
    """The language model that reads "A is to B as C is to"; frozen."""
    model: MrMkgConfig = MrMkgConfig()
    """What is trained around it."""
    graph: MarsGraphConfig = MarsGraphConfig()
    """Edges and retrieval."""
    embeddings: EmbeddingsConfig = EmbeddingsConfig(kind="sentence", model="minilm")
    """Who makes vectors of names and descriptions; CLIP in the paper."""
    once_a_fact: bool = True
    """An epoch has each of train's 929 facts once, by an example drawn anew, and not each of its 10,641 items."""
    swap: bool = True
    """Learn from each item's example as a question too, its question being the example. Our choice: twice the facts."""
    relation_weight: float = Field(default=0.5, ge=0)
    """μ, of telling the relation, in the stage on MarKG. Our choice."""
    hidden_width: int = Field(default=32, ge=1)
    """Of the ranking head. Our choice."""
    max_tokens: int = Field(default=128, ge=8)
    """Of a question's text; 128 in the paper."""
    pretrain_epochs: int = Field(default=0, ge=0)
    """Passes over analogies made of MarKG's triples beforehand; 3 in the paper, 0 is the ablation without."""
    pretrain_learning_rate: float = Field(default=2e-3, gt=0)
    """Of that stage; 2e-5 in the paper."""
    pretrain_batch_size: int = Field(default=64, ge=1)
    """Of that stage; 8 in the paper."""
    pretrain_per_fact: int = Field(default=1, ge=1)
    """Analogies of each triple and direction. Our choice."""
    pretrain_limit: int | None = Field(default=None, ge=1)
    """At most so many analogies, drawn by the seed; None for all."""
    bootstrap_draws: int = Field(default=1000, ge=0)
    """Of the intervals."""
    device: str = "auto"
    """cpu | cuda | auto: a GPU if there is one."""
    threads: int = Field(default=0, ge=0)
    """Threads of one run on the CPU; 0 is what torch takes."""


_LOOP: dict[str, Any] = {
    "batch_size": 64,
    "epochs": 12,
    "learning_rate": 3e-3,
    "weight_decay": 0.01,
    "warmup": 0.05,
    "gradient_clip": 1.0,
    "average": 0.99,
    "valid_every": 6,
}
_MODEL = MrMkgConfig(graph_width=32, num_layers=1, dropout=0.2, vector_gain=0.0)
_MARS: dict[str, Any] = {**_LOOP, "model": _MODEL, "pretrain_epochs": 1, "pretrain_limit": 6_000}


def _with_model(**settings: Any) -> dict[str, Any]:
    return {"model": _MODEL.model_copy(update=settings)}


_CHANGES: dict[str, dict[str, Any]] = {
    "": {},
    "_no_graph": _with_model(knowledge="none"),
    "_pairs_only": {"graph": MarsGraphConfig(with_markg=False), "pretrain_epochs": 0},
    "_strict": {"graph": MarsGraphConfig(strict=True)},
    "_gat": _with_model(encoder="gat"),
    "_gnn": _with_model(encoder="gcn"),
    "_no_encoder": _with_model(encoder="none"),
    "_no_alignment": _with_model(alignment_weight=0.0),
    "_no_pretraining": {"pretrain_epochs": 0},
    "_tiny": {
        "embeddings": EmbeddingsConfig(kind="hashing"),
        "epochs": 2,
        "batch_size": 32,
        "pretrain_limit": 64,
        "valid_every": 1,
        "average": 0.9,
        "max_tokens": 48,
    },
    "_paper": {
        "llm": LlmConfig(model="meta-llama/Llama-2-7b-hf", dtype="bfloat16", gradient_checkpointing=True),
        "model": MrMkgConfig(num_layers=2, graph_width=768),
        "graph": MarsGraphConfig(
            retrieval=RetrievalConfig(num_nearest=10, num_triples=10),
            markg_retrieval=RetrievalConfig(num_nearest=10, num_triples=10),
        ),
        "embeddings": EmbeddingsConfig(kind="clip", model="ViT-L-14", pretrained="openai"),
        "once_a_fact": False,
        "batch_size": 4,
        "epochs": 3,
        "learning_rate": 5e-6,
        "pretrain_epochs": 3,
        "pretrain_learning_rate": 2e-5,
        "pretrain_batch_size": 8,
        "average": 0.0,
        "valid_every": 1,
    },
}


def list_mars_recipes() -> tuple[str, ...]:
    """Return the names of the recipes of MARS."""
    return tuple(sorted(f"{PREFIX}{change}" for change in _CHANGES))


def open_mars_recipe(name: str, overrides: Mapping[str, Any] | Sequence[str] = ()) -> MarsRecipe:
    """Return a recipe of MARS by name, with settings changed; see :func:`mmkg.training.recipes.open_recipe`.

    Raises:
        ConfigError: no recipe or setting is called so, or a value is of the wrong kind.
    """
    known = list_mars_recipes()
    if name not in known:
        raise ConfigError(unknown_name("recipe", name, known))
    recipe = MarsRecipe(**{**_MARS, **_CHANGES[name.removeprefix(PREFIX)], "name": name})
    return change_recipe(recipe, overrides)
