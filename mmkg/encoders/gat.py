"""GAT: attention that does not see relations; the control that tells what relations add.

Source: Veličković et al. 2018, arXiv:1710.10903.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmkg.encoders import ops
from mmkg.encoders.base import LayerEnd, LayersConfig, check_fraction, check_inputs, check_whole
from mmkg.encoders.terms import AttentionTerms
from mmkg.errors import ConfigError
from mmkg.subgraphs.batch import MessageGraph


@dataclass(frozen=True, kw_only=True)
class GatConfig(LayersConfig):
    """Settings of :class:`Gat`.

    Attributes:
        num_heads: H.
        heads: "concat" (each head has output_width / H features) or "mean" (each has output_width).
        attention_dropout: share of edges that are left out of a head's sum, when training.
    """

    num_heads: int = 4
    heads: str = "concat"
    attention_dropout: float = 0.0

    def __post_init__(self) -> None:
        """Check every value."""
        super().__post_init__()
        check_whole("num_heads", self.num_heads, least=1)
        check_fraction("attention_dropout", self.attention_dropout)
        if self.heads not in ("concat", "mean"):
            raise ConfigError(f"heads of an encoder must be 'concat' or 'mean', found {self.heads!r}")
        if self.heads == "concat" and self.width % self.num_heads:
            raise ConfigError(
                f"output_width {self.width} of an encoder cannot be split over {self.num_heads} heads; "
                "use a multiple, or heads = 'mean'"
            )

    @property
    def head_width(self) -> int:
        """D, features of one head."""
        return self.width // self.num_heads if self.heads == "concat" else self.width


class GatLayer(nn.Module):
    """One layer: attention from ``W x_dst`` and ``W x_src``, message ``W x_src``."""

    def __init__(self, config: GatConfig, layer: int) -> None:
        super().__init__()
        self.config = config
        self.project = nn.Linear(config.input_width(layer), config.num_heads * config.head_width, bias=False)
        self.score_dst = new_scores(config)
        self.score_src = new_scores(config)
        self.end = LayerEnd(config, layer)

    def forward(self, graph: MessageGraph, node_ND: Tensor, _relation_RD: Tensor, keep_E: Tensor | None) -> Tensor:
        """Return the new node states."""
        value_NHD, terms = self._terms(node_ND, keep_E)
        out_NHD = ops.attend(
            graph,
            terms,
            value_NHD,
            message="source",
            dropout_EH=attention_dropout(self, self.config, graph, value_NHD),
            backend=self.config.backend,
        )
        out: Tensor = self.end(node_ND, joined_heads(out_NHD, self.config))
        return out

    def attention(
        self, graph: MessageGraph, node_ND: Tensor, _relation_RD: Tensor, keep_E: Tensor | None = None
    ) -> Tensor:
        """Return each edge's share of its dst's attention per head, (E, H), without gradient and dropout."""
        return ops.attention(graph, self._terms(node_ND, keep_E)[1], backend=self.config.backend)

    def _terms(self, node_ND: Tensor, keep_E: Tensor | None) -> tuple[Tensor, AttentionTerms]:
        value_NHD = self.project(node_ND).unflatten(1, (self.config.num_heads, -1))
        terms = AttentionTerms(
            dst_NH=(value_NHD * self.score_dst).sum(2), src_NH=(value_NHD * self.score_src).sum(2), keep_E=keep_E
        )
        return value_NHD, terms


class Gat(nn.Module):
    """A stack of :class:`GatLayer`; relation vectors are taken and not used."""

    def __init__(self, config: GatConfig) -> None:
        super().__init__()
        self.config = config
        self.output_width = config.width
        self.layers = nn.ModuleList(GatLayer(config, layer) for layer in range(config.num_layers))

    def forward(
        self, graph: MessageGraph, node_ND: Tensor, relation_RD: Tensor, keep_E: Tensor | None = None
    ) -> Tensor:
        """Return the node states (N, output_width); see :class:`mmkg.encoders.base.Encoder`."""
        check_inputs(graph, node_ND, relation_RD, node_width=self.config.node_width, relation_width=None)
        for layer in self.layers:
            node_ND = layer(graph, node_ND, relation_RD, keep_E)
        return node_ND


def new_scores(config: GatConfig) -> nn.Parameter:
    """Return one part of the attention vector a, (H, D), initialised as PyG and DGL do (Glorot)."""
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(config.num_heads, config.head_width)))


def joined_heads(out_NHD: Tensor, config: GatConfig) -> Tensor:
    """Return the heads of each node beside each other, or their mean: (N, output_width)."""
    return out_NHD.flatten(1) if config.heads == "concat" else out_NHD.mean(1)


def attention_dropout(layer: nn.Module, config: GatConfig, graph: MessageGraph, like: Tensor) -> Tensor | None:
    """Return the factor on each edge and head, drawn from torch's generator; None when there is nothing to drop."""
    if not layer.training or config.attention_dropout == 0:
        return None
    return nn.functional.dropout(like.new_ones((graph.num_edges, config.num_heads)), config.attention_dropout)
