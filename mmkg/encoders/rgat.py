r"""RGAT: graph attention in which the relation of an edge enters both its weight and its message.

.. math::
    l_e = \mathrm{LeakyReLU}_{0.2}(a_h \cdot [W x_i \,;\, W x_j \,;\, W_r e_r]), \quad
    \alpha = \mathrm{softmax\ over\ all\ edges\ into\ } i, \quad
    m_e = W x_j + W_r e_r \;\text{ or }\; W x_j \circ W_r e_r

MR-MKG (Lee et al. 2024) gives no formula for its RGAT; since its relation vectors come from CLIP and there are 1,345 of
them, a relation enters as a vector here. With ``num_bases`` it is a matrix instead, the operator that PyTorch Geometric
documents as ``RGATConv`` (after Busbridge et al. 2019, arXiv:1904.05811), with the relation vector as edge feature:

.. math::
    W_r = \sum_b c_{rb} V_b, \quad m_e = W_r x_j, \quad
    l_e = \mathrm{LeakyReLU}_{0.2}(q_h \cdot W_r x_i + k_h \cdot W_r x_j + a_h \cdot W_e e_r)

computed per basis, so that neither a matrix per edge nor one per relation is ever made.
"""

from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmkg.encoders import ops
from mmkg.encoders.base import LayerEnd, check_inputs, check_whole
from mmkg.encoders.gat import GatConfig, attention_dropout, joined_heads, new_scores
from mmkg.encoders.ops import Message
from mmkg.encoders.terms import AttentionTerms
from mmkg.errors import ConfigError, unknown_name
from mmkg.subgraphs.batch import MessageGraph


@dataclass(frozen=True, kw_only=True)
class RgatConfig(GatConfig):
    """Settings of :class:`Rgat`; relation_width must be given.

    Attributes:
        message: how the relation vector enters the message, "sum" or "product" (sum was +.015 MRR better on FB15k-237).
        num_bases: matrices per relation out of so many bases; None is a vector per relation.
        num_relations: R, inverse and self relations included; needed with num_bases only.
    """

    message: Message = "sum"
    num_bases: int | None = None
    num_relations: int | None = None

    def __post_init__(self) -> None:
        """Check every value."""
        super().__post_init__()
        check_whole("relation_width", self.relation_width, least=1)
        if self.message not in ("sum", "product"):
            raise ConfigError(unknown_name("message", self.message, [m for m in get_args(Message) if m != "source"]))
        if self.num_bases is not None:
            check_whole("num_bases", self.num_bases, least=1)
            if self.num_relations is None:
                raise ConfigError("num_bases of an encoder needs num_relations as well: each relation has coefficients")
            check_whole("num_relations", self.num_relations, least=1)


class RgatLayer(nn.Module):
    """One layer with a vector per relation, which the layer projects with its own ``W_r``."""

    def __init__(self, config: RgatConfig, layer: int) -> None:
        super().__init__()
        self.config = config
        width = config.num_heads * config.head_width
        self.project = nn.Linear(config.input_width(layer), width, bias=False)
        self.project_relation = nn.Linear(config.relation_width, width, bias=False)
        self.score_dst = new_scores(config)
        self.score_src = new_scores(config)
        self.score_relation = new_scores(config)
        self.end = LayerEnd(config, layer)

    def forward(self, graph: MessageGraph, node_ND: Tensor, relation_RD: Tensor, keep_E: Tensor | None) -> Tensor:
        """Return the new node states."""
        value_NHD, vector_RHD, terms = self._terms(node_ND, relation_RD, keep_E)
        out_NHD = ops.attend(
            graph,
            terms,
            value_NHD,
            vector_RHD,
            message=self.config.message,
            dropout_EH=attention_dropout(self, self.config, graph, value_NHD),
            backend=self.config.backend,
        )
        out: Tensor = self.end(node_ND, joined_heads(out_NHD, self.config))
        return out

    def attention(
        self, graph: MessageGraph, node_ND: Tensor, relation_RD: Tensor, keep_E: Tensor | None = None
    ) -> Tensor:
        """Return each edge's share of its dst's attention per head, (E, H), without gradient and dropout."""
        return ops.attention(graph, self._terms(node_ND, relation_RD, keep_E)[2], backend=self.config.backend)

    def _terms(
        self, node_ND: Tensor, relation_RD: Tensor, keep_E: Tensor | None
    ) -> tuple[Tensor, Tensor, AttentionTerms]:
        value_NHD = self.project(node_ND).unflatten(1, (self.config.num_heads, -1))
        vector_RHD = self.project_relation(relation_RD).unflatten(1, (self.config.num_heads, -1))
        terms = AttentionTerms(
            dst_NH=(value_NHD * self.score_dst).sum(2),
            src_NH=(value_NHD * self.score_src).sum(2),
            relation_RH=(vector_RHD * self.score_relation).sum(2),
            keep_E=keep_E,
        )
        return value_NHD, vector_RHD, terms


class RgatBasesLayer(nn.Module):
    """One layer with a matrix per relation, each a mixture of bases; relation vectors have a say in the logit."""

    def __init__(self, config: RgatConfig, layer: int, *, num_bases: int, num_relations: int) -> None:
        super().__init__()
        self.config = config
        width = config.num_heads * config.head_width
        self.bases_BIK = nn.Parameter(torch.empty(num_bases, config.input_width(layer), width))
        self.coefficient_RB = nn.Parameter(nn.init.xavier_uniform_(torch.empty(num_relations, num_bases)))
        for basis_IK in self.bases_BIK:
            nn.init.xavier_uniform_(basis_IK)
        self.project_relation = nn.Linear(config.relation_width, width, bias=False)
        self.score_dst = new_scores(config)
        self.score_src = new_scores(config)
        self.score_relation = new_scores(config)
        self.end = LayerEnd(config, layer)

    def forward(self, graph: MessageGraph, node_ND: Tensor, relation_RD: Tensor, keep_E: Tensor | None) -> Tensor:
        """Return the new node states."""
        value_BNHD = self._values(node_ND)
        weight_EH = self._attention(graph, value_BNHD, relation_RD, keep_E)
        dropout_EH = attention_dropout(self, self.config, graph, node_ND)
        if dropout_EH is not None:
            weight_EH = weight_EH * dropout_EH
        coefficient_EB = self.coefficient_RB.index_select(0, graph.relation_E)
        sums = [
            ops.weighted_sum(graph, weight_EH * coefficient_EB[:, b, None], value_NHD, backend=self.config.backend)
            for b, value_NHD in enumerate(value_BNHD)
        ]
        out: Tensor = self.end(node_ND, joined_heads(torch.stack(sums).sum(0), self.config))
        return out

    @torch.no_grad()
    def attention(
        self, graph: MessageGraph, node_ND: Tensor, relation_RD: Tensor, keep_E: Tensor | None = None
    ) -> Tensor:
        """Return each edge's share of its dst's attention per head, (E, H), without gradient and dropout."""
        return self._attention(graph, self._values(node_ND), relation_RD, keep_E)

    def _values(self, node_ND: Tensor) -> Tensor:
        value_BNK = torch.matmul(node_ND, self.bases_BIK)
        return value_BNK.view(*value_BNK.shape[:2], self.config.num_heads, self.config.head_width)

    def _attention(self, graph: MessageGraph, value_BNHD: Tensor, relation_RD: Tensor, keep_E: Tensor | None) -> Tensor:
        vector_RHD = self.project_relation(relation_RD).unflatten(1, (self.config.num_heads, -1))
        coefficient_EB = self.coefficient_RB.index_select(0, graph.relation_E)
        logit_EH = (vector_RHD * self.score_relation).sum(2).index_select(0, graph.relation_E)
        for b, value_NHD in enumerate(value_BNHD):
            dst_NH, src_NH = (value_NHD * self.score_dst).sum(2), (value_NHD * self.score_src).sum(2)
            logit_EH = logit_EH + coefficient_EB[:, b, None] * (
                dst_NH.index_select(0, graph.dst_E) + src_NH.index_select(0, graph.src_E)
            )
        logit_EH = functional.leaky_relu(logit_EH, 0.2)
        return ops.edge_softmax(graph, logit_EH, keep_E=keep_E, backend=self.config.backend)


class Rgat(nn.Module):
    """A stack of :class:`RgatLayer`, or with ``num_bases`` of :class:`RgatBasesLayer`."""

    def __init__(self, config: RgatConfig) -> None:
        super().__init__()
        self.config = config
        self.output_width = config.width
        self.layers = nn.ModuleList(_new_layer(config, layer) for layer in range(config.num_layers))

    def forward(
        self, graph: MessageGraph, node_ND: Tensor, relation_RD: Tensor, keep_E: Tensor | None = None
    ) -> Tensor:
        """Return the node states (N, output_width); see :class:`mmkg.encoders.base.Encoder`."""
        config = self.config
        check_inputs(graph, node_ND, relation_RD, node_width=config.node_width, relation_width=config.relation_width)
        if config.num_bases is not None and config.num_relations != graph.num_relations:
            raise ConfigError(
                f"the encoder was made for {config.num_relations} relations, found a graph with {graph.num_relations}"
            )
        for layer in self.layers:
            node_ND = layer(graph, node_ND, relation_RD, keep_E)
        return node_ND


def _new_layer(config: RgatConfig, layer: int) -> nn.Module:
    if config.num_bases is None or config.num_relations is None:
        return RgatLayer(config, layer)
    return RgatBasesLayer(config, layer, num_bases=config.num_bases, num_relations=config.num_relations)
