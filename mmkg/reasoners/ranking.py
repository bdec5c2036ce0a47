r"""A ranking head: scores of a fixed set of candidate entities, out of what the LLM read and what stands in the graph.

.. math::
    s(c) = \sum_k w_k \cos(v_{q_k}, v_c) + u \cdot p_c + (A z) \cdot (P v_c)
           + [c \in G]\; \mathrm{MLP}(x_c, B z, \cos(v_{q_k}, v_c)_k)

with z the LLM's state after the prompt, :math:`v` the vectors of entities, :math:`q_k` the entities that the question
names, p what the task knows of a candidate (how often it was an answer), x the states of the subgraph's nodes. A
candidate outside the subgraph has the first three terms only; a node that is no candidate has no score; a candidate
that stands there twice has the sum.

MR-MKG ranks the 2,063 candidates of MARS with LLaMA and does not say how (Lee et al., ACL 2024, arXiv:2406.02030,
section 4.1); this head is our decision.
Shape suffixes: B items, C candidates, N nodes, K entities of the question, D numbers of a vector.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmkg.errors import ConfigError

_GAIN = 20.0  # of similarities: cosines are small numbers, and a weight of 1 should be able to decide


class RankingHead(nn.Module):
    """Scores over a candidate set."""

    candidate_CD: Tensor

    def __init__(
        self,
        candidate_CD: Tensor,
        *,
        state_width: int,
        node_width: int,
        num_named: int,
        num_priors: int = 0,
        hidden_width: int = 32,
        matrix_width: int = 0,
        dropout: float = 0.0,
    ) -> None:
        """Make the head.

        Args:
            candidate_CD: vectors of the candidates, zeros for one without vector.
            state_width: of the LLM's state.
            node_width: of the states of nodes.
            num_named: K, entities that a question names.
            num_priors: numbers that the task knows of a candidate.
            hidden_width: of the MLP over nodes.
            matrix_width: of A z and P v_c; 0 leaves that term out.
            dropout: in the MLP.

        Raises:
            ConfigError: there is no candidate.
        """
        super().__init__()
        if len(candidate_CD) == 0:
            raise ConfigError("a ranking head needs at least one candidate, found none")
        self.register_buffer("candidate_CD", functional.normalize(candidate_CD, dim=1))
        self.similarity_K = nn.Parameter(torch.zeros(num_named))
        self.prior_F = nn.Parameter(torch.zeros(num_priors))
        self.read = nn.Linear(state_width, hidden_width)
        self.node = nn.Sequential(
            nn.Linear(node_width + hidden_width + num_named, hidden_width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_width, 1),
        )
        self.state: nn.Module | None = None
        self.candidate: nn.Module | None = None
        if matrix_width:
            self.state = nn.Linear(state_width, matrix_width)
            self.candidate = nn.Linear(candidate_CD.shape[1], matrix_width, bias=False)

    @property
    def num_candidates(self) -> int:
        """C."""
        return len(self.candidate_CD)

    def forward(
        self,
        state_Bs: Tensor,
        named_BKD: Tensor,
        node_NW: Tensor | None = None,
        item_N: Tensor | None = None,
        candidate_N: Tensor | None = None,
        prior_BCF: Tensor | None = None,
    ) -> Tensor:
        """Return the scores, (B, C).

        Args:
            state_Bs: what the LLM read.
            named_BKD: vectors of the entities that each question names, zeros where there is none.
            node_NW: states of nodes; None where there is no graph.
            item_N: the item of each node.
            candidate_N: the candidate that each node is, -1 for none.
            prior_BCF: what the task knows of each candidate; None where the head was made without.
        """
        cosine_BKC = functional.normalize(named_BKD, dim=2) @ self.candidate_CD.t()
        score_BC = _GAIN * torch.einsum("bkc,k->bc", cosine_BKC, self.similarity_K)
        if prior_BCF is not None:
            score_BC = score_BC + prior_BCF @ self.prior_F
        if self.state is not None and self.candidate is not None:
            score_BC = score_BC + self.state(state_Bs) @ self.candidate(self.candidate_CD).t()
        if node_NW is None or item_N is None or candidate_N is None:
            return score_BC
        there = candidate_N >= 0
        item, candidate = item_N[there], candidate_N[there]
        features = [node_NW[there], self.read(state_Bs)[item], cosine_BKC[item, :, candidate]]
        pointer = self.node(torch.cat(features, dim=1)).squeeze(1)
        return score_BC.index_put((item, candidate), pointer, accumulate=True)
