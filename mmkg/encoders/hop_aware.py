r"""Hop-Aware attention: a learnt vector for each distance from the target, added to the node's.

.. math:: h_i \leftarrow h_i + t_{\mathrm{hop}(i)}

Costs N·d where diffusion costs E·d. A node further away than the table reaches takes its last distance; one that no
edge ties to the target (hop −1) has a vector of its own. Source: Graph4MM, Hop-Aware variant; in the released code it
is commented out, and its data set gives no hops.
"""

import torch
from torch import Tensor, nn

from mmkg.errors import ConfigError


class HopAware(nn.Module):
    """The table of distances."""

    def __init__(self, width: int, max_hops: int) -> None:
        """Make the table, small against unit vectors.

        Args:
            width: d.
            max_hops: the greatest distance that has a vector of its own.
        """
        super().__init__()
        if max_hops < 0:
            raise ConfigError(f"max_hops: expected 0 or more, found {max_hops}")
        self.max_hops = max_hops
        self.table = nn.Embedding(max_hops + 2, width)  # the last row is for what cannot be reached
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, node_ND: Tensor, hop_N: Tensor) -> Tensor:
        """Return (N, d): nodes with the vectors of their distances added.

        Args:
            node_ND: vectors.
            hop_N: int64, edges to the target; -1 for a node that has no way to it.

        Raises:
            ConfigError: not one vector of that width and one whole number for each node.
        """
        width = self.table.embedding_dim
        if node_ND.dim() != 2 or node_ND.shape[1] != width or tuple(hop_N.shape) != (len(node_ND),):
            raise ConfigError(
                f"hop-aware attention expects vectors of shape (N, {width}) and one hop for each of N nodes, found "
                f"{tuple(node_ND.shape)} and {tuple(hop_N.shape)}"
            )
        if hop_N.dtype != torch.int64:
            raise ConfigError(f"hop_N must be int64, found {str(hop_N.dtype).removeprefix('torch.')}")
        row_N = torch.where(hop_N < 0, self.max_hops + 1, hop_N.clamp(max=self.max_hops))
        out_ND: Tensor = node_ND + self.table(row_N)
        return out_ND
