r"""Adapters: vectors of pictures and of a graph, brought into the LLM's space and read by attention of the text.

.. math::
    H = X W + b \quad (1, 4), \qquad
    H' = \mathrm{softmax}\!\left(\frac{Q H^\top}{\sqrt{d}}\right) H \quad (2, 5)

with X the vectors of a picture's patches or of a graph's nodes, Q the word embeddings of the text (or H of the
picture), and d the width of a word embedding. There are no further projections, as in the paper. H' has one row for
each row of Q, however many rows X has, and lies in the convex hull of H.
Source: Lee et al., ACL 2024, arXiv:2406.02030, section 3.3.

Shape suffixes: B items, L rows of the query, P rows of the input, d width of a word embedding.
"""

import math

import torch
from torch import Tensor, nn

from mmkg.errors import ConfigError


class Adapter(nn.Module):
    """A linear map into the LLM's space, and what a query reads there."""

    def __init__(self, input_width: int, output_width: int) -> None:
        """Make W and b.

        Args:
            input_width: numbers in a row of X.
            output_width: d.
        """
        super().__init__()
        self.project = nn.Linear(input_width, output_width)

    def forward(self, query_BLd: Tensor, row_BPd: Tensor, mask_BP: Tensor) -> Tensor:
        """Return H', (B, L, d): what each row of the query reads in rows that :meth:`adapt` gave.

        An item without any row gets zeros; whoever makes the prompt leaves its places out.
        """
        return read_rows(query_BLd, row_BPd, mask_BP)[0]

    def adapt(self, vector_BPD: Tensor) -> Tensor:
        """Return H = X W + b, (…, d)."""
        adapted: Tensor = self.project(vector_BPD)
        return adapted


def read_rows(query_BLd: Tensor, row_BPd: Tensor, mask_BP: Tensor) -> tuple[Tensor, Tensor]:
    """Return what queries read in rows, (B, L, d), and their attention, (B, L, P).

    Args:
        query_BLd: queries.
        row_BPd: rows, both keys and values.
        mask_BP: bool, False for padding, which no query sees.

    Returns:
        Convex combinations of an item's rows, and their weights, which sum to 1; zeros where an item has no row.

    Raises:
        ConfigError: widths or numbers of items differ.
    """
    if query_BLd.shape[0] != row_BPd.shape[0] or query_BLd.shape[2] != row_BPd.shape[2]:
        raise ConfigError(
            f"queries of shape {tuple(query_BLd.shape)} cannot read rows of shape {tuple(row_BPd.shape)}: "
            "expected the same number of items and the same width"
        )
    if row_BPd.shape[1] == 0:
        return torch.zeros_like(query_BLd), query_BLd.new_zeros(*query_BLd.shape[:2], 0)
    logit_BLP = query_BLd @ row_BPd.transpose(1, 2) / math.sqrt(query_BLd.shape[2])
    logit_BLP = logit_BLP.masked_fill(~mask_BP[:, None, :], torch.finfo(logit_BLP.dtype).min)
    weight_BLP = logit_BLP.softmax(dim=2) * mask_BP[:, None, :]  # all masked: a softmax of equals, times 0
    return weight_BLP @ row_BPd, weight_BLP
