r"""A ranking head: scores of a fixed set of candidate entities, out of what the LLM read and what stands in the graph.

.. math::
    s(c) = w \cdot k_c + \mathrm{MLP}(k_c, B z) + [c \in G]\; \mathrm{MLP}(x_c, k_c, B z)

with z the LLM's state after the prompt, :math:`k_c` what the task knows of a candidate for this question (how like the
named entities it is, how often it was an answer), x the states of the subgraph's nodes. A candidate outside the
subgraph has the first two terms only; a node that is no candidate has no score; a candidate that stands there twice has
the sum.

MR-MKG ranks the 2,063 candidates of MARS with LLaMA and does not say how (Lee et al., ACL 2024, arXiv:2406.02030,
section 4.1); this head is our decision.
Shape suffixes: B items, C candidates, N nodes, F numbers known of a candidate, H hidden numbers.
"""

import torch
from torch import Tensor, nn


class RankingHead(nn.Module):
    """Scores over a candidate set."""

    def __init__(
        self, *, num_known: int, state_width: int, node_width: int, hidden_width: int = 32, dropout: float = 0.0
    ) -> None:
        """Make the head.

        Args:
            num_known: F; they are best of mean 0 and deviation 1.
            state_width: of the LLM's state.
            node_width: of the states of nodes.
            hidden_width: H, of both MLPs.
            dropout: in both.
        """
        super().__init__()
        self.known_F = nn.Parameter(torch.zeros(num_known))
        self.read = nn.Linear(state_width, hidden_width)
        self.known = nn.Linear(num_known, hidden_width)
        self.candidate = nn.Sequential(nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden_width, 1))
        self.node = nn.Sequential(
            nn.Linear(node_width + num_known + hidden_width, hidden_width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_width, 1),
        )

    def forward(
        self,
        state_Bs: Tensor,
        known_BCF: Tensor,
        node_NW: Tensor | None = None,
        item_N: Tensor | None = None,
        candidate_N: Tensor | None = None,
    ) -> Tensor:
        """Return the scores, (B, C).

        Args:
            state_Bs: what the LLM read.
            known_BCF: what the task knows of each candidate.
            node_NW: states of nodes; None where there is no graph.
            item_N: the item of each node.
            candidate_N: the candidate that each node is, -1 for none.
        """
        read_BH = self.read(state_Bs)
        hidden_BCH = self.known(known_BCF) + read_BH[:, None]
        score_BC = known_BCF @ self.known_F + self.candidate(hidden_BCH).squeeze(2)
        if node_NW is None or item_N is None or candidate_N is None:
            return score_BC
        there = candidate_N >= 0
        item, candidate = item_N[there], candidate_N[there]
        pointer = self.node(torch.cat([node_NW[there], known_BCF[item, candidate], read_BH[item]], dim=1)).squeeze(1)
        return score_BC.index_put((item, candidate), pointer, accumulate=True)
