r"""The knowledge encoder: a multimodal subgraph in, a state for each node out.

.. math:: X_K = f_{\mathrm{RGAT}}(G)

Vectors of nodes and relations come from an embedder (CLIP in the paper). Messages run along triples and against them,
and from each node to itself. Ours, since the paper gives none of it: a linear map from the embedder's space to the
encoder's width, a vector for each kind of node, one for what has no vector, one for each place among the seeds (the
question's own entities), and a free vector added to each relation's own.
Source: Lee et al., ACL 2024, arXiv:2406.02030, section 3.2 (and its table of encoders: GNN, GAT, RGAT).
"""

from typing import Literal

import torch
from torch import Tensor, nn

from mmkg.encoders import open_encoder
from mmkg.errors import ConfigError
from mmkg.subgraphs.assemble import NodeKind
from mmkg.subgraphs.batch_multimodal import MultimodalBatch

EncoderName = Literal["rgat", "gat", "gcn", "none"]
_TYPES = 2  # of a relation: along a triple, against one


class KnowledgeEncoder(nn.Module):
    """States of the nodes of multimodal subgraphs."""

    relation_text_RD: Tensor
    relation_group_R: Tensor

    def __init__(
        self,
        relation_RD: Tensor,
        *,
        width: int,
        encoder: EncoderName = "rgat",
        num_layers: int = 2,
        num_heads: int = 4,
        dropout: float = 0.0,
        num_named: int = 0,
        num_features: int = 0,
        relation_group_R: Tensor | None = None,
        vector_gain: float = 1.0,
    ) -> None:
        """Make the maps and the encoder.

        Args:
            relation_RD: vectors of the relations' labels, those of `EXTRA_RELATIONS` last; zeros for none.
            width: of node states; a multiple of the heads.
            encoder: "rgat" | "gat" | "gcn" | "none": what lets neighbours speak.
            num_layers: 1 to 4.
            num_heads: of attention.
            dropout: on a layer's output.
            num_named: places among the seeds that are told apart.
            num_features: numbers that a task knows of each node beside its vector, such as how often it was an answer.
            relation_group_R: int64, the group of each relation: relations of one group share a vector. None is one.
            vector_gain: what node vectors are multiplied by; 0 hides what a node is called, and leaves where it stands.

        Raises:
            ConfigError: a setting that the encoder cannot have.
        """
        super().__init__()
        count, dimension = relation_RD.shape
        group_R = torch.zeros(count, dtype=torch.int64) if relation_group_R is None else relation_group_R
        if group_R.shape != (count,):
            raise ConfigError(f"relation_group_R: expected one for each of {count} relations, found {len(group_R)}")
        self.width, self.vector_gain, self.num_named = width, vector_gain, num_named
        self.register_buffer("relation_text_RD", relation_RD.clone())
        self.register_buffer("relation_group_R", group_R)
        self.node = nn.Linear(dimension, width)
        self.feature = nn.Linear(num_features, width, bias=False) if num_features else None
        self.kind = nn.Embedding(len(NodeKind), width)
        self.missing = nn.Embedding(len(NodeKind), width)
        self.place = nn.Embedding(num_named + 1, width)
        self.relation = nn.Linear(dimension, width, bias=False)
        # forward relations, their inverses, the self relation
        self.group = nn.Parameter(torch.randn(_TYPES, int(group_R.max()) + 1 if count else 1, width) * 0.5)
        self.free = nn.Parameter(torch.randn(_TYPES * count + 1, width) * 0.05)
        settings: dict[str, object] = {"node_width": width, "relation_width": width, "backend": "auto"}
        if encoder != "none":
            settings |= {"num_layers": num_layers, "dropout": dropout, "normalisation": "layer", "initial_gain": 1.0}
        if encoder in ("rgat", "gat"):
            settings["num_heads"] = num_heads
        self.encoder: nn.Module = open_encoder(encoder, {"node_width": width} if encoder == "none" else settings)

    def relations(self) -> Tensor:
        """Vectors of the relations, of their inverses and of the self relation, (2R + 1, width)."""
        text_RW = self.relation(self.relation_text_RD)
        group_TRW = self.group[:, self.relation_group_R]
        both = torch.cat([text_RW + group_TRW[0], text_RW + group_TRW[1]])
        return torch.cat([both, torch.zeros_like(both[:1])]) + self.free

    def forward(self, batch: MultimodalBatch, keep_E: Tensor | None = None, feature_NF: Tensor | None = None) -> Tensor:
        """Return the states, (N, width).

        Args:
            batch: subgraphs side by side.
            keep_E: bool, False hides a triple and its inverse.
            feature_NF: what the task knows of each node.

        Raises:
            ConfigError: features that were not announced, or announced and not given.
        """
        if (feature_NF is None) != (self.feature is None):
            raise ConfigError("feature_NF: expected exactly where the encoder was made with num_features above 0")
        known_N1 = batch.has_vector_N[:, None]
        state_NW = torch.where(known_N1, self.node(batch.vector_ND), self.missing(batch.kind_N)) * self.vector_gain
        state_NW = state_NW + self.kind(batch.kind_N) + self.place(batch.seed_N.clamp(max=self.num_named))
        if self.feature is not None and feature_NF is not None:
            state_NW = state_NW + self.feature(feature_NF)
        graph = batch.graph.with_inverse_relations().with_self_relation()
        if keep_E is not None:
            keep_E = torch.cat([keep_E, keep_E, keep_E.new_ones(batch.graph.num_nodes)])
        # sums over many edges stay in float32, whatever the rest is computed in
        with torch.autocast(state_NW.device.type, enabled=False):
            out_NW: Tensor = self.encoder(graph, state_NW.float(), self.relations().float(), keep_E)
        return out_NW
