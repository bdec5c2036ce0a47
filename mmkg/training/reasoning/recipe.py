"""Recipes of MR-MKG on questions: ``mr_mkg/…``, each with a ``tiny`` cousin; ``paper`` has the paper's numbers.

Source of the numbers: Lee et al., ACL 2024, arXiv:2406.02030, section 4.1 and appendix A.4. Not known there, so ours:
schedule and warm-up, clipping, precision, everything of :class:`~mmkg.reasoners.mr_mkg.MrMkgConfig` that says so.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mmkg.config import EmbeddingsConfig
from mmkg.errors import ConfigError, unknown_name
from mmkg.reasoners.graph4mm_config import Graph4mmConfig
from mmkg.reasoners.llm_config import LlmConfig
from mmkg.reasoners.mr_mkg import MrMkgConfig
from mmkg.subgraphs.retrieve import RetrievalConfig
from mmkg.training.recipes import change_recipe
from mmkg.training.settings import LoopSettings

PREFIX = "mr_mkg/"


class QuestionRecipe(LoopSettings):
    """What every run on questions decides, beside how it is trained."""

    name: str
    """What `open_reasoning_recipe` knows it by."""
    llm: LlmConfig = LlmConfig()
    """The language model; frozen."""
    model: MrMkgConfig | Graph4mmConfig = MrMkgConfig()
    """Which reasoner is trained around it, and what of it."""
    initial: str | None = None
    """Folder of a run whose model this one starts from; None starts anew. Its language model and embedder are ours."""
    max_text_tokens: int = Field(default=512, ge=4)
    """Of a question; 512 in the paper. A longer one loses its middle: our choice."""
    max_answer_tokens: int = Field(default=128, ge=1)
    """Of an answer with its end; 128 in the paper's stage 1, 512 on ScienceQA."""
    choice_score: Literal["total", "per_token"] = "total"
    """Which likelihood chooses among choices. Our choice."""
    choose_by: Literal["accuracy", "loss"] = "accuracy"
    """Of the valid questions: what the best model has most of, or least. Our choice."""
    valid_questions: int = Field(default=500, ge=1)
    """So many of the valid questions are looked at while training. Our choice."""
    bootstrap_draws: int = Field(default=1000, ge=0)
    """Of the intervals."""
    device: str = "auto"
    """cpu | cuda | auto: a GPU if there is one."""
    threads: int = Field(default=0, ge=0)
    """Threads of one run on the CPU; 0 is what torch takes."""


class SyntheticConfig(BaseModel):
    """Made questions whose answer is in their subgraph alone. All ours."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    fact: Literal["triple", "picture"] = "triple"
    """Where the answer stands: in a triple of the entity asked about, or in its picture."""
    words: tuple[str, ...] = ("red", "blue", "green", "white")
    """What could be answered; chance is one of them."""
    num_others: int = Field(default=3, ge=1)
    """Other entities of a subgraph, each with a word of its own."""
    num_train: int = Field(default=2000, ge=1)
    """Questions to learn from; no two have the same name."""
    num_valid: int = Field(default=200, ge=1)
    """To choose by."""
    num_test: int = Field(default=1000, ge=1)
    """To report on."""
    dimension: int = Field(default=32, ge=4)
    """Numbers of a vector: random codes of words and entities; pictures of a word have another code, with noise."""
    noise: float = Field(default=0.3, ge=0)
    """Length of what is added to the code (of length 1) of a picture."""


class SyntheticRecipe(QuestionRecipe):
    """A run on made questions."""

    model: MrMkgConfig = MrMkgConfig()
    """What is trained around the language model."""
    data: SyntheticConfig = SyntheticConfig()
    """How they are made."""


class PicturePatches(BaseModel):
    """How a question's own picture becomes rows."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    grid: int = Field(default=2, ge=1, le=16)
    """The whole picture and grid × grid parts of it are a row each; 1 is the whole alone. Our choice: the paper does
    not say whether it takes patches, and with one row the attention of its Eq. 2 has nothing to choose from."""


class SceneRecipe(QuestionRecipe):
    """A run on questions about regions of pictures: the paper's stage 1."""

    model: MrMkgConfig = MrMkgConfig()
    """What is trained around the language model."""
    embeddings: EmbeddingsConfig = EmbeddingsConfig(kind="hashing")
    """What makes vectors of names, attributes, relations and crops."""
    patches: PicturePatches = PicturePatches()
    """Of the picture that is asked about."""
    valid_share: float = Field(default=0.05, gt=0, lt=1)
    """Of the pictures, with all their questions: to choose by. Our choice; the paper names none."""
    test_share: float = Field(default=0.05, gt=0, lt=1)
    """Likewise, to report on."""


class ScienceQaRecipe(QuestionRecipe):
    """A run on ScienceQA."""

    model: MrMkgConfig = MrMkgConfig()
    """What is trained around the language model."""
    embeddings: EmbeddingsConfig = EmbeddingsConfig(kind="hashing")
    """Makes the vectors of queries; of the graph too, where a build has none. A build with vectors brings its own."""
    retrieval: RetrievalConfig = RetrievalConfig()
    """Of each problem's subgraph."""
    max_images: int = Field(default=1, ge=0)
    """Pictures of an entity in a subgraph. Our choice."""
    patches: PicturePatches = PicturePatches()
    """Of the problem's own picture, where its file is at hand."""
    captions: bool = True
    """Whether the caption of a picture stands in the text."""
    rationale: Literal["none", "two_pass"] = "two_pass"
    """two_pass: stage A writes a rationale, stage B reads it with the question, as in Multimodal-CoT."""
    answering: Literal["likelihood", "generation"] = "likelihood"
    """Choose the likeliest answer, or read the choice out of what is written. Our choice; the paper writes."""
    answer_form: Literal["sentence", "choice"] = "sentence"
    """What is said: "The answer is (B)." as in the paper, or the letter and words of the choice, "(B) Louisiana"."""
    max_rationale_tokens: int = Field(default=512, ge=1)
    """Of what stage A writes; 512 in the paper."""
    valid_share: float = Field(default=0.1, gt=0, lt=1)
    """Of train, by skill: to choose by, where the official test split is not at hand and val is reported on. Ours."""
    train_problems: int | None = Field(default=None, ge=1)
    """At most so many, the first; None for all."""
    test_problems: int | None = Field(default=None, ge=1)
    """At most so many, the first; None for all."""


Reasoning = SyntheticRecipe | SceneRecipe | ScienceQaRecipe

_PAPER: dict[str, Any] = {"weight_decay": 0.01, "gradient_clip": 1.0}
_CLIP = EmbeddingsConfig(kind="clip", model="ViT-L-14", pretrained="openai")  # "ViT-L/32" in the paper is no model
_TINY_MODEL = MrMkgConfig(graph_width=32, num_heads=2, dropout=0.0)
_SYNTHETIC_TINY: dict[str, Any] = {
    "model": MrMkgConfig(graph_width=64, num_heads=2, dropout=0.0, alignment_weight=0.0),
    "data": SyntheticConfig(num_others=2, num_train=1000, num_valid=50, num_test=200, dimension=16),
    "batch_size": 8,
    "epochs": 4,
    "learning_rate": 0.01,
    "schedule": "constant",
    "gradient_clip": 1.0,
    "max_answer_tokens": 8,
    "threads": 1,
    "device": "cpu",
}
_RECIPES: dict[str, tuple[type[Reasoning], dict[str, Any]]] = {
    "synthetic": (
        SyntheticRecipe,
        {
            "model": MrMkgConfig(graph_width=64, num_heads=4, dropout=0.0),
            "data": SyntheticConfig(
                words=("red", "blue", "green", "white", "black", "yellow", "brown", "grey"),
                num_others=6,
                num_train=4000,
            ),
            "batch_size": 32,
            "epochs": 12,
            "learning_rate": 3e-3,
            "gradient_clip": 1.0,
            "max_answer_tokens": 8,
            "valid_every": 2,
        },
    ),
    "synthetic_tiny": (SyntheticRecipe, _SYNTHETIC_TINY),
    "pretrain_paper": (
        SceneRecipe,
        {
            **_PAPER,
            "llm": LlmConfig(model="google/flan-t5-xl", gradient_checkpointing=True),
            "model": MrMkgConfig(graph_width=1024, num_heads=8),
            "embeddings": _CLIP,
            "patches": PicturePatches(grid=4),
            "batch_size": 2,
            "epochs": 2,
            "learning_rate": 5e-5,
            "max_text_tokens": 512,
            "max_answer_tokens": 128,
        },
    ),
    "pretrain_tiny": (
        SceneRecipe,
        {
            "model": _TINY_MODEL,
            "batch_size": 2,
            "epochs": 4,
            "learning_rate": 5e-3,
            "weight_decay": 0.01,
            "max_text_tokens": 64,
            "max_answer_tokens": 16,
            "valid_share": 0.34,
            "test_share": 0.34,
            "threads": 1,
            "device": "cpu",
        },
    ),
    "scienceqa_paper": (
        ScienceQaRecipe,
        {
            **_PAPER,
            "llm": LlmConfig(model="google/flan-t5-xxl", gradient_checkpointing=True),
            "model": MrMkgConfig(graph_width=1024, num_heads=8),
            "embeddings": _CLIP,
            "patches": PicturePatches(grid=4),
            "answering": "generation",
            "batch_size": 1,
            "epochs": 3,
            "learning_rate": 4e-5,
            "max_text_tokens": 512,
            "max_answer_tokens": 512,
        },
    ),
    "scienceqa_tiny": (
        ScienceQaRecipe,
        {
            "model": _TINY_MODEL,
            "retrieval": RetrievalConfig(num_nearest=5, num_triples=10),
            "batch_size": 16,
            "epochs": 2,
            "learning_rate": 3e-3,
            "weight_decay": 0.01,
            "gradient_clip": 1.0,
            "max_text_tokens": 96,
            "max_answer_tokens": 32,
            "max_rationale_tokens": 48,
            "valid_questions": 100,
            "threads": 1,
        },
    ),
}


def list_reasoning_recipes() -> tuple[str, ...]:
    """Return the names of the recipes of MR-MKG on questions with text answers."""
    return tuple(sorted(PREFIX + name for name in _RECIPES))


def open_reasoning_recipe(name: str, overrides: Mapping[str, Any] | Sequence[str] = ()) -> Reasoning:
    """Return a recipe by name, with settings changed.

    Args:
        name: such as ``mr_mkg/scienceqa_tiny``.
        overrides: ``{"epochs": 5}`` or ``["epochs=5", "llm.model=google/flan-t5-small"]``; a value is read as TOML.

    Raises:
        ConfigError: no recipe or setting is called so, or a value is of the wrong kind.
    """
    known = list_reasoning_recipes()
    if name not in known:
        raise ConfigError(unknown_name("recipe", name, known))
    kind, settings = _RECIPES[name.removeprefix(PREFIX)]
    return change_recipe(kind(name=name, **settings), overrides)


def recipe_class(name: str) -> type[Reasoning]:
    """Return the class of a recipe by its name, to read a run's config back.

    Raises:
        ConfigError: no recipe is called so.
    """
    if name not in list_reasoning_recipes():
        raise ConfigError(unknown_name("recipe", name, list_reasoning_recipes()))
    return _RECIPES[name.removeprefix(PREFIX)][0]
