r"""Rows for the nodes of a subgraph, before attention over its edges: what each node says, and where it stands.

========  =============================================================================================================
vectors   a linear map of the embedder's vector of the node's text
states    a linear map of the mean of the frozen language model's states over the node's text (the released code of
          Graph4MM, which counts padding; ours does not)
words     a linear map of the mean of the language model's word embeddings, which learn if the model does. Ours: for a
          language model that is too small to have states worth reading
========  =============================================================================================================

Ours too, since a knowledge graph has what the paper's pages have not: a vector for each relation and direction that
ties a node to the target, averaged where there are several, one for what no edge ties to it, and one for each place
among the nodes, if wanted. The target's own mark is added by :meth:`NodeRows.mark`, after attention over edges: what
is said of the target has then come to its row along edges, or not at all.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from mmkg.errors import ConfigError
from mmkg.reasoners.llm import FrozenLlm
from mmkg.reasoners.llm_texts import mean_states
from mmkg.subgraphs.assemble import MultimodalSubgraph
from mmkg.subgraphs.batch_multimodal import MultimodalBatch

_STD = 0.1  # of what is learnt of a node beside its vector, about as large as that after its map

NodeText = Literal["vectors", "states", "words"]


class NodeRows(nn.Module):
    """Rows (N, width) of the nodes of one modality."""

    def __init__(
        self,
        llm: FrozenLlm,
        *,
        width: int,
        dimension: int,
        text: NodeText = "vectors",
        num_relations: int = 0,
        num_places: int = 0,
        max_tokens: int = 64,
        marks_targets: bool = False,
    ) -> None:
        """Make the maps.

        Args:
            llm: whose words or states are taken; held by the reasoner, not here.
            width: of a row.
            dimension: numbers in an embedder's vector.
            text: where a row comes from.
            num_relations: R of the graph; 0 leaves relations out.
            num_places: places among a graph's nodes that are told apart, later ones being like the last; 0 for none.
            max_tokens: of a node's text.
            marks_targets: whether there is a mark for :meth:`mark`.

        Raises:
            ConfigError: states of a language model that learns, which would change from step to step.
        """
        super().__init__()
        if text == "states" and llm.config.learns:
            raise ConfigError("node_text = 'states' needs a language model that does not learn; choose 'words'")
        self.text, self.num_relations, self.num_places, self.max_tokens = text, num_relations, num_places, max_tokens
        self._llm = (llm,)  # in a tuple: it is no part of this module
        self._tokens: dict[str, list[int]] = {}
        self._states: dict[str, Tensor] = {}
        came = {"vectors": dimension, "states": llm.state_width, "words": llm.width}[text]
        self.project = nn.Linear(came, width) if came else None
        self.missing = nn.Parameter(torch.randn(width) * _STD)
        self.target = nn.Parameter(torch.randn(width) * _STD) if marks_targets else None
        # relations along a triple, against one, and none at all
        self.relation = nn.Embedding(2 * num_relations + 1, width) if num_relations else None
        self.place = nn.Embedding(num_places, width) if num_places else None
        for table in (self.relation, self.place):
            if table is not None:
                nn.init.normal_(table.weight, std=_STD)

    def forward(self, subgraphs: Sequence[MultimodalSubgraph], batch: MultimodalBatch) -> Tensor:
        """Return the rows of a batch's nodes, (N, width).

        Args:
            subgraphs: what the batch was made of, for their texts.
            batch: the same as tensors.
        """
        vector_ND, known_N = self._vectors(subgraphs, batch)
        row_NW = self.missing.expand(len(known_N), -1)
        if self.project is not None:
            row_NW = torch.where(known_N[:, None], self.project(vector_ND), row_NW)
        if self.relation is not None:
            row_NW = row_NW + self._relations(batch)
        if self.place is not None:
            place_GM = torch.arange(batch.mask_GM.shape[1], device=row_NW.device).expand_as(batch.mask_GM)
            row_NW = row_NW + self.place(place_GM[batch.mask_GM].clamp(max=self.num_places - 1))
        return row_NW

    def mark(self, row_NW: Tensor, batch: MultimodalBatch) -> Tensor:
        """Return rows with the targets' mark, where there is one."""
        return row_NW if self.target is None else row_NW + (batch.seed_N > 0)[:, None] * self.target

    def _vectors(self, subgraphs: Sequence[MultimodalSubgraph], batch: MultimodalBatch) -> tuple[Tensor, Tensor]:
        """What each node says, and whether it says anything."""
        if self.text == "vectors":
            return batch.vector_ND, batch.has_vector_N
        labels = [label or "" for subgraph in subgraphs for label in subgraph.labels]
        device, llm = batch.has_vector_N.device, self._llm[0]
        count_N = torch.tensor([len(self._tokens_of(label)) for label in labels], dtype=torch.int64, device=device)
        known_N = count_N > 0
        if self.text == "states":
            new = [label for label in dict.fromkeys(labels) if label not in self._states]
            states = mean_states(llm, [self._tokens_of(label) for label in new]).cpu()
            self._states.update(zip(new, states, strict=True))
            rows = [self._states[label] for label in labels]
            state_ND = torch.stack(rows) if rows else torch.zeros(0, llm.state_width)
            return state_ND.to(device), known_N
        tokens = [token for label in labels for token in self._tokens_of(label)]
        word_TD = llm.embed(torch.tensor(tokens, dtype=torch.int64, device=device)[None])[0].float()
        node_T = torch.repeat_interleave(torch.arange(len(labels), device=device), count_N)
        total_ND = word_TD.new_zeros(len(labels), llm.width).index_add(0, node_T, word_TD)
        return total_ND / count_N.clamp(min=1)[:, None], known_N

    def _tokens_of(self, label: str) -> list[int]:
        if label not in self._tokens:
            self._tokens[label] = self._llm[0].tokens(label, self.max_tokens) if label else []
        return self._tokens[label]

    def _relations(self, batch: MultimodalBatch) -> Tensor:
        """The mean vector of the relations between each node and a target of its graph."""
        if self.relation is None:
            raise ConfigError("num_relations is 0, so nothing is known of relations")
        graph, is_target_N = batch.graph, batch.seed_N > 0
        if graph.num_relations != self.num_relations:
            raise ConfigError(
                f"the model was made for {self.num_relations} relations, found subgraphs with {graph.num_relations}; "
                "take subgraphs of the graph that it learnt from"
            )
        from_E, to_E = is_target_N[graph.src_E], is_target_N[graph.dst_E]
        outward, inward = from_E & ~to_E, to_E & ~from_E
        node_K = torch.cat([graph.dst_E[outward], graph.src_E[inward]])
        relation_K = torch.cat([graph.relation_E[outward], graph.relation_E[inward] + self.num_relations])
        vector_KW = self.relation(relation_K)
        total_NW = vector_KW.new_zeros(graph.num_nodes, vector_KW.shape[1]).index_add(0, node_K, vector_KW)
        count_N = torch.bincount(node_K, minlength=graph.num_nodes)
        none_W = self.relation.weight[2 * self.num_relations]
        untied_N = (count_N == 0) & ~is_target_N
        return total_NW / count_N.clamp(min=1)[:, None] + untied_N[:, None] * none_W
