"""Settings of Graph4MM: what of it is there and how large, with a switch for every ablation and baseline."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mmkg.encoders.hop_diffusion import truncation_error
from mmkg.encoders.hop_diffusion_dense import Mask
from mmkg.reasoners.node_rows import NodeText

Structure = Literal["diffused", "hop_aware", "none"]


class Graph4mmConfig(BaseModel):
    """What of Graph4MM is there and how large; unknown numbers of the paper are our choice."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    reads: Literal["graph", "mean", "nothing"] = "graph"
    """graph: what queries find; mean: one row, the mean of the text nodes' rows, the control that has no attention;
    nothing: the language model has the text alone."""
    text_structure: Structure = "diffused"
    """diffused | hop_aware | none, of the text subgraph: the paper's table 3 mixes them by modality."""
    image_structure: Structure = "diffused"
    """The same of the image subgraph."""
    modalities: Literal["shared", "separate", "joint"] = "shared"
    """One diffusion's weights for both subgraphs (released), weights of their own, or one diffusion over both at once
    and the edges between them (ours)."""
    lent_edges: bool = True
    """Pictures are tied as their entities are, beside edges of their own; False where a subgraph says itself which
    pictures belong together, as pages do."""
    graph_as_modality: bool = False
    """The baseline: one more row, a GCN's state of the target in the text subgraph, beside queries without it."""
    node_text: NodeText = "vectors"
    """vectors | states | words: what a text node's row is made of, see :mod:`mmkg.reasoners.node_rows`."""
    relations: bool = True
    """Whether a node knows the relations that tie it to the target. Ours; the paper's edges have none."""
    places: int = Field(default=0, ge=0)
    """Places among the text nodes that are told apart, in the subgraph's order; 0 for none. Ours."""
    max_node_tokens: int = Field(default=64, ge=1)
    """Of a text node's text, for states and words; 512 in the released code."""
    width: int = Field(default=128, ge=1)
    """W, of nodes and queries; 768 in the released code."""
    num_heads: int = Field(default=4, ge=1)
    """Of the diffusion and of the QFormer; 12 in the released code."""
    alpha: float = Field(default=0.1, gt=0, le=1)
    """α of the diffusion; 0.1 in the released code."""
    num_terms: int | Literal["exact"] = 4
    """K, terms of the diffusion, so K − 1 hops; 4 in the released code. "exact" is all of them."""
    attention_heads: Literal["mean", "each"] = "mean"
    """Whether heads of the diffusion are averaged (released) or each diffuses its share of the features."""
    mask: Mask = "logits"
    """logits | renormalise | literal, see :mod:`mmkg.encoders.hop_diffusion`; the latter two for study."""
    residual: bool = True
    """H + 𝒜H as in the paper; False as released."""
    rescale: bool = True
    """Divide by what K terms add to; False as released."""
    isolated: Literal["self", "zero"] = "self"
    """What a node without neighbours keeps of A."""
    self_loops: bool = True
    """Whether a node is its own neighbour; False as released."""
    max_hops: int = Field(default=8, ge=0)
    """Distances that Hop-Aware tells apart; 50 for text in the released code."""
    order: Literal["paper", "released"] = "paper"
    """Of the QFormer's sublayers."""
    num_layers: int = Field(default=1, ge=1)
    """L, of the QFormer; 1 in the released code."""
    num_queries: int = Field(default=20, ge=1)
    """Q; 20 in the released code (4 for each of 5 pictures)."""
    pass_text: bool = False
    """Also give the language model the rows of the text nodes, as the QFormer left them. The released code makes them
    and does not use them."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """In the QFormer; none in the released code."""
    word_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the text's words that the language model does not see when training. Ours: for one that would learn
    names by heart."""
    loss: Literal["target", "whole"] = "target"
    """Learn to say the target, or (released) the text before it too; padding never counts, in the released code it
    does."""
    template: str = "<text><graph>"
    """The prompt: the paper puts multimodal tokens after text tokens."""

    @model_validator(mode="after")
    def _settings_fit_each_other(self) -> "Graph4mmConfig":
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} cannot be split over {self.num_heads} heads; use a multiple")
        if self.modalities == "joint" and (self.text_structure, self.image_structure) != ("diffused", "diffused"):
            raise ValueError("modalities = 'joint' is one diffusion over both: both structures must be 'diffused'")
        return self

    @property
    def reads_graph(self) -> bool:
        """Whether anything beside the text is read."""
        return self.reads != "nothing"

    @property
    def left_out(self) -> float:
        """Largest absolute row sum of what the diffusion's K terms leave out: (1 − α)^K."""
        return truncation_error(self.alpha, None if self.num_terms == "exact" else self.num_terms)
