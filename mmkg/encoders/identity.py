"""No encoder: node vectors go through unchanged. The control that says what an encoder adds to its decoder."""

from dataclasses import dataclass

from torch import Tensor, nn

from mmkg.encoders.base import check_inputs, check_whole
from mmkg.subgraphs.batch import MessageGraph


@dataclass(frozen=True, kw_only=True)
class IdentityConfig:
    """Settings of :class:`Identity`: the width of what goes through."""

    node_width: int

    def __post_init__(self) -> None:
        """Check the width."""
        check_whole("node_width", self.node_width, least=1)


class Identity(nn.Module):
    """Returns the node vectors."""

    def __init__(self, config: IdentityConfig) -> None:
        super().__init__()
        self.config = config
        self.output_width = config.node_width

    def forward(
        self, graph: MessageGraph, node_ND: Tensor, relation_RD: Tensor, _keep_E: Tensor | None = None
    ) -> Tensor:
        """Return ``node_ND``; see :class:`mmkg.encoders.base.Encoder`."""
        check_inputs(graph, node_ND, relation_RD, node_width=self.config.node_width, relation_width=None)
        return node_ND
