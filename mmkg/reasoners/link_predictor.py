r"""A link predictor: vectors of entities and relations, an encoder that lets neighbours speak, a decoder that scores.

.. math:: X' = \mathrm{encoder}(G, X, M), \quad s(h, r, t) = \mathrm{decoder}(X'_h, Z_r, X'_t)

with X the vectors of entities, M the relation vectors that messages carry and Z those the decoder reads: two tables,
since a regulariser that is right for the one shrinks the other. Without encoder X' is X, and the model is its decoder
alone: the control that stands beside every encoder. X is a free vector for each entity, plus the mapped vectors of its
text and pictures where the model is given :class:`~mmkg.reasoners.feature_map.FeatureMap`\ s.

Shape suffixes: N entities, R relations, D width, B queries, K candidates, E edges.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmkg.errors import ConfigError
from mmkg.reasoners.feature_map import FeatureMap
from mmkg.reasoners.triple_scores import TripleDecoder
from mmkg.subgraphs.batch import MessageGraph


class LinkPredictor(nn.Module):
    """Embeddings, encoder and decoder in one module."""

    def __init__(
        self,
        *,
        num_entities: int,
        num_relations: int,
        decoder: TripleDecoder,
        width: int,
        encoder: nn.Module | None = None,
        graph: MessageGraph | None = None,
        feature_maps: Mapping[str, FeatureMap] | None = None,
        initial_scale: float = 0.1,
        dropout: float = 0.0,
    ) -> None:
        """Make the tables.

        Args:
            num_entities: N.
            num_relations: R, without inverses; the decoder gets 2R relations.
            decoder: scores triples.
            width: D of entities and relations.
            encoder: an encoder of width D, see :class:`mmkg.encoders.Encoder`; None is the decoder alone.
            graph: what it runs on, inverse and self relations already there.
            feature_maps: by modality, what is added to the entities' free vectors; None adds nothing.
            initial_scale: standard deviation of the vectors before training.
            dropout: share of an entity's features that a query does not see.

        Raises:
            ConfigError: an encoder without a graph, or a graph of other entities.
        """
        super().__init__()
        self.num_entities, self.num_relations, self.width = num_entities, num_relations, width
        self.entity_ND = nn.Parameter(torch.randn(num_entities, width) * initial_scale)
        self.relation_RD = nn.Parameter(torch.randn(2 * num_relations, width) * initial_scale)
        self.decoder = decoder
        self.encoder = encoder
        self.feature_maps = nn.ModuleDict(dict(feature_maps or {}))
        self.dropout = nn.Dropout(dropout)
        self._graph = graph
        if encoder is None:
            return
        if graph is None or graph.num_nodes != num_entities:
            found = "none" if graph is None else f"one of {graph.num_nodes} nodes"
            raise ConfigError(f"an encoder needs the graph of all {num_entities} entities, found {found}")
        self.message_RD = nn.Parameter(torch.randn(graph.num_relations, width) * initial_scale)

    @property
    def graph(self) -> MessageGraph | None:
        """What the encoder runs on, on the device of the vectors; None without encoder."""
        return None if self._graph is None else self._graph.to(self.entity_ND.device)

    def states(self, keep_E: Tensor | None = None) -> Tensor:
        """Return the entities' states, (N, D).

        Args:
            keep_E: bool, False hides an edge of the graph from the encoder.
        """
        entity_ND: Tensor = self.entity_ND
        for feature_map in self.feature_maps.values():
            entity_ND = feature_map(entity_ND)
        if self.encoder is None or self.graph is None:
            return entity_ND
        state_ND: Tensor = self.encoder(self.graph, entity_ND, self.message_RD, keep_E)
        return state_ND

    def queries(self, state_ND: Tensor, query_B2: Tensor) -> Tensor:
        """Return query_BD of the decoder for queries (h, r), r in [0, 2R)."""
        head_BD = self.dropout(state_ND[query_B2[:, 0]])
        return self.decoder.query(head_BD, self.relation_RD[query_B2[:, 1]])

    def penalty(self, state_ND: Tensor, query_B2: Tensor, row_T: Tensor, tail_T: Tensor, weight_B: Tensor) -> Tensor:
        """Return the weighted mean of N3 over queries: of head, of relation, and the mean over the tails of each query.

        Args:
            state_ND: states of all entities.
            query_B2: queries (h, r).
            row_T: the query of each label, ascending; every query has at least one.
            tail_T: the entity of each label.
            weight_B: what each query counts; as many as its labels is the mean over triples of Lacroix et al.
        """
        share_B = weight_B / weight_B.sum()
        label_T = torch.bincount(row_T, minlength=len(query_B2)).to(share_B.dtype).reciprocal()[row_T]
        times_N = share_B.new_zeros(self.num_entities)
        times_N.index_add_(0, query_B2[:, 0], share_B).index_add_(0, tail_T, label_T * share_B[row_T])
        times_R = share_B.new_zeros(len(self.relation_RD)).index_add_(0, query_B2[:, 1], share_B)
        return self.decoder.n3(state_ND) @ times_N + self.decoder.n3(self.relation_RD) @ times_R

    @torch.no_grad()
    def scorer(self, *, products: torch.dtype | None = None) -> "StateScorer":
        """Return what :func:`mmkg.evaluation.link_prediction.rank_triples` asks: the states of now, encoded once.

        The module is put into evaluation mode and left there.

        Args:
            products: type of the matrix products; None is that of the vectors.
        """
        self.eval()
        return StateScorer(self, self.states().detach(), products)


class StateScorer:
    """Scores of candidates from states that were encoded once."""

    def __init__(self, model: LinkPredictor, state_ND: Tensor, products: torch.dtype | None) -> None:
        self.num_entities, self.num_relations = model.num_entities, model.num_relations
        self._model, self._state_ND = model, state_ND
        self._candidate_ND = state_ND if products is None else state_ND.to(products)

    @torch.no_grad()
    def score(self, query_B2: Tensor, start: int, stop: int) -> Tensor:
        """Return (B, stop - start): scores of entities start … stop - 1 as tails of queries (h, r)."""
        query_BD = self._model.queries(self._state_ND, query_B2.to(self._state_ND.device))
        bias = self._model.decoder.bias
        score_BK = self._model.decoder.score_candidates(
            query_BD.to(self._candidate_ND.dtype), self._candidate_ND[start:stop]
        )
        return score_BK if bias is None else score_BK + bias[start:stop]
