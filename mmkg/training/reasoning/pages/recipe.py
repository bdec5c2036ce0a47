"""Recipes ``graph4mm/pages…``: the full model, the paper's and the released numbers, and a name for each ablation.

``pages`` brings a small language model of its own, trained first on the pages to learn from; ``pages_tiny`` takes
seconds. ``pages_paper`` has the numbers of paper and script: OPT-125M, AdamW 1e-4, β .9/.95, weight decay .01, batch 8
× 16, 1,024 input tokens, target 128, width 768, 12 heads, 20 queries, K 4, α .1, CLIP ViT-B-16. Our choice there, since
they do not say or the loop has no such thing: a linear fall of the learning rate in place of steps of × 0.1, dividing
by what K terms add to, heads that are averaged, the loss of valid questions to choose by (BLEU-4 there), which sections
of the official files make the small set (the first ones).

``pages_released`` is what the released code computes, as far as ours can: its order of sublayers, loss over input and
target, no residual, sums of K terms as they are, no self loops, nothing for a node without neighbours, heads averaged
and renormalised after the mask, one diffusion's weights for both subgraphs, predictions cut at the first full stop. Not
so, on purpose: samples of a batch do not see each other, padding counts neither in means nor in the loss, edges stand
where they are meant to stand and pictures line up with theirs, and the rows of all queries come after the text, four a
picture at its place there.

Relations and places of nodes, which are ours, are off: without a structure of one modality, nothing else tells of it.
Pictures have the edges of the page's image graph alone.
Source: Graph4MM, ICML 2025, arXiv:2510.16990, tables 2 and 5; its released script.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mmkg.config import EmbeddingsConfig
from mmkg.errors import ConfigError, unknown_name
from mmkg.reasoners.graph4mm_config import Graph4mmConfig
from mmkg.reasoners.llm_config import LlmConfig
from mmkg.subgraphs.pages import MAX_IMAGES, MAX_TEXT
from mmkg.training.reasoning.own_language_model import OWN
from mmkg.training.reasoning.recipe import QuestionRecipe
from mmkg.training.recipes import change_recipe

PREFIX = "graph4mm/pages"
MARKER = "summary:"
"""What the model goes on from; the same words in every recipe. Ours."""


class PagesConfig(BaseModel):
    """Which sections are asked about, and what is shown of their pages."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    split: Literal["drawn", "file", "official"] = "drawn"
    """Of pages, never of sections alone: drawn by the shares below; as the file says; by a page's number in the
    official files (train before 400,000, valid before 500,000, test before 600,000)."""
    valid_share: float = Field(default=0.125, gt=0, lt=1)
    """Of drawn pages: to choose by."""
    test_share: float = Field(default=0.25, gt=0, lt=1)
    """Of drawn pages: to report on."""
    split_seed: int = Field(default=0, ge=0)
    """Of the draw; another seed is another test."""
    max_train: int | None = Field(default=None, ge=1)
    """Questions to learn from at most, the first ones; None for all. The paper's small set has 13,539."""
    max_valid: int | None = Field(default=None, ge=1)
    """To choose by at most, the first ones."""
    max_test: int | None = Field(default=None, ge=1)
    """To report on at most, the first ones. The paper's small set has 1,768."""
    lists: bool = True
    """Ask about sections with a table or list too, where the file does not decide it; the official files do not."""
    max_texts: int = Field(default=MAX_TEXT, ge=1)
    """Text nodes at most, the section itself among them; 12 in the released code."""
    max_images: int = Field(default=MAX_IMAGES, ge=0)
    """Pictures at most, where there is a folder of them; 5 in the released code."""
    num_hops: int | None = Field(default=None, ge=0)
    """The paper's τ, in each subgraph apart; None for the whole page."""
    neighbours_in_words: Literal["no", "in_order", "by_hop"] = "no"
    """Whether the texts of other nodes stand in the prompt as well: one after another as in the released code, or under
    their distance as in the paper, "1-hop neighbours: …"."""
    max_neighbour_words: int = Field(default=40, ge=1)
    """Words of each of them. Ours; the released code cuts tokens."""

    @model_validator(mode="after")
    def _something_to_learn_from(self) -> "PagesConfig":
        if self.valid_share + self.test_share >= 1:
            raise ValueError(
                f"valid_share and test_share leave nothing to learn from: {self.valid_share} + {self.test_share}"
            )
        return self


class PagesRecipe(QuestionRecipe):
    """A run that learns to write first sentences of sections."""

    model: Graph4mmConfig = Graph4mmConfig()
    """What of Graph4MM is trained."""
    data: PagesConfig = PagesConfig()
    """What is asked and shown."""
    embeddings: EmbeddingsConfig = EmbeddingsConfig(kind="clip", model="atlas")
    """Makes vectors of pictures, and of texts where `model.node_text` is "vectors"."""
    language: str = "language/descriptions"
    """Recipe of the language model that is trained first, if `llm.model` is "own"."""
    language_epochs: int = Field(default=4, ge=1)
    """Passes of that model over the sentences of the pages to learn from."""
    cut_predictions: bool = True
    """Report scores of texts that are cut at their first full stop, too, as published scores are."""


_TEMPLATE = f"<text><graph> {MARKER}"
_PAPERS_GRAPH: dict[str, Any] = {"relations": False, "places": 0, "lent_edges": False, "template": _TEMPLATE}
_MODEL: dict[str, Any] = {
    **_PAPERS_GRAPH,
    "node_text": "words",
    "max_node_tokens": 48,
    "width": 128,
    "num_heads": 4,
    "num_queries": 20,
    "max_hops": 16,
}
_FULL: dict[str, Any] = {
    "batch_size": 16,
    "epochs": 8,
    "patience": 2,  # a few hundred sections are learnt by heart in a few passes
    "learning_rate": 3e-4,
    "weight_decay": 0.01,
    "warmup": 0.05,
    "gradient_clip": 1.0,
    "max_text_tokens": 160,
    "max_answer_tokens": 48,
    "choose_by": "loss",
    "threads": 1,
    "device": "cpu",
}
_PAPER: dict[str, Any] = {
    "embeddings": EmbeddingsConfig(kind="clip", model="ViT-B-16", pretrained="openai"),
    "batch_size": 128,
    "accumulate": 16,
    "epochs": 50,
    "learning_rate": 1e-4,
    "betas": (0.9, 0.95),
    "weight_decay": 0.01,
    "warmup": 0.064,  # 2,000 of 50 × 10,000 / 16 updates
    "max_text_tokens": 1024,
    "max_answer_tokens": 128,
    "choose_by": "loss",
    "valid_questions": 1000,
}
_PAPER_MODEL: dict[str, Any] = {
    **_PAPERS_GRAPH,
    "modalities": "separate",
    "node_text": "states",
    "max_node_tokens": 512,
    "width": 768,
    "num_heads": 12,
    "alpha": 0.1,
    "num_terms": 4,
    "num_queries": 20,
    "max_hops": 50,
}
_PAPER_DATA: dict[str, Any] = {
    "split": "official",
    "max_train": 13_539,
    "max_valid": 1768,  # unknown: as many as of the test
    "max_test": 1768,
    "lists": False,
    "neighbours_in_words": "by_hop",
}
_RELEASED_MODEL: dict[str, Any] = {
    "modalities": "shared",
    "order": "released",
    "loss": "whole",
    "residual": False,
    "rescale": False,
    "self_loops": False,
    "isolated": "zero",
    "mask": "renormalise",
    "attention_heads": "mean",
}
_TINY: dict[str, Any] = {
    "embeddings": EmbeddingsConfig(kind="hashing"),
    "language": "language/descriptions_tiny",
    "language_epochs": 1,
    "batch_size": 8,
    "epochs": 2,
    "max_text_tokens": 48,
    "max_answer_tokens": 16,
    "valid_questions": 20,
    "bootstrap_draws": 50,
}
_TINY_MODEL: dict[str, Any] = {"width": 16, "num_heads": 2, "num_queries": 4, "max_node_tokens": 16, "max_hops": 4}
_NO_STRUCTURE: dict[str, Any] = {"text_structure": "none", "image_structure": "none"}
_ABLATIONS: dict[str, dict[str, Any]] = {  # name -> changes of the model
    "_no_text_structure": {"text_structure": "none"},
    "_no_image_structure": {"image_structure": "none"},
    "_hop_aware": {"text_structure": "hop_aware", "image_structure": "hop_aware"},
    "_gnn": {**_NO_STRUCTURE, "graph_as_modality": True},
    "_text": {"reads": "nothing"},
}


def list_page_recipes() -> tuple[str, ...]:
    """Return the names of the recipes."""
    return tuple(sorted(PREFIX + variant for variant in ("", "_tiny", "_paper", "_released", *_ABLATIONS)))


def open_page_recipe(name: str, overrides: Mapping[str, Any] | Sequence[str] = ()) -> PagesRecipe:
    """Return a recipe by name, with settings changed.

    Args:
        name: such as ``graph4mm/pages``.
        overrides: ``{"epochs": 5}`` or ``["epochs=5", "data.neighbours_in_words=by_hop"]``; a text value is read as
            TOML.

    Raises:
        ConfigError: no recipe or setting is called so, or a value is of the wrong kind.
    """
    known = list_page_recipes()
    if name not in known:
        raise ConfigError(unknown_name("recipe", name, known))
    variant = name.removeprefix(PREFIX)
    if variant in ("_paper", "_released"):
        released = variant == "_released"
        settings = {**_PAPER, "llm": LlmConfig(model="facebook/opt-125m")}
        model = {**_PAPER_MODEL, **(_RELEASED_MODEL if released else {})}
        data = {**_PAPER_DATA, **({"neighbours_in_words": "in_order"} if released else {})}
    else:
        tiny = variant == "_tiny"
        settings = {**_FULL, **(_TINY if tiny else {}), "llm": LlmConfig(model=OWN, trains=True)}
        model = {**_MODEL, **(_TINY_MODEL if tiny else {}), **_ABLATIONS.get(variant, {})}
        data = {}
    recipe = PagesRecipe(name=name, model=Graph4mmConfig(**model), data=PagesConfig(**data), **settings)
    return change_recipe(recipe, overrides)
