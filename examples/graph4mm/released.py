"""What the released code of Graph4MM computes, written anew from a description of it, mistakes included.

For comparing, never for training. :class:`ReleasedHopDiffusion` is its attention with diffusion, dense and per batch;
:func:`text_edges` the edges of a page's text nodes, as meant and as released. Ours are ``mmkg.encoders.hop_diffusion``
and what the page's graph is made with.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

NUM_TEXT_SLOTS = 12  # the target and eleven others


class ReleasedHopDiffusion(nn.Module):
    """Attention of all nodes to all, averaged over heads, masked, renormalised; then four terms of its powers.

    The value and output maps of the attention are trained parameters that nothing comes through.
    """

    def __init__(self, width: int, num_heads: int = 12, *, alpha: float = 0.1, num_terms: int = 4) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, num_heads, batch_first=True)
        self.alpha, self.num_terms = alpha, num_terms

    def forward(self, node_BND: Tensor, mask_BNN: Tensor) -> Tensor:
        """Return the diffused features (B, N, D): no value map, no residual.

        Args:
            node_BND: features.
            mask_BNN: 1 where an edge is, 0 elsewhere and on the diagonal.
        """
        _, weight_BNN = self.attention(node_BND, node_BND, node_BND, average_attn_weights=True)
        share_BNN = masked_shares(weight_BNN, mask_BNN)
        power_BNN = torch.eye(share_BNN.shape[1], dtype=share_BNN.dtype).expand_as(share_BNN)
        total_BNN = torch.zeros_like(share_BNN)
        for k in range(self.num_terms):
            total_BNN = total_BNN + self.alpha * (1 - self.alpha) ** k * power_BNN
            power_BNN = power_BNN @ share_BNN
        return total_BNN @ node_BND


def masked_shares(weight_BNN: Tensor, mask_BNN: Tensor) -> Tensor:
    """Return A (B, N, N), in which every sample has the mean attention of the whole batch under its own mask.

    The mask comes as (B, 1, N, N), so the product with (B, N, N) is (B, B, N, N): row b has the weights of each sample
    under mask b, and the mean over axis 1, meant for heads, is one over samples.
    """
    masked_BBNN = weight_BNN * mask_BNN[:, None]
    return (masked_BBNN / (masked_BBNN.sum(dim=3, keepdim=True) + 1e-9)).mean(dim=1)


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section of a page that is not the target.

    Attributes:
        number: in the page.
        parent: number of the section that it stands below; None at the top.
        has_image: whether it has an image, and with it a caption.
    """

    number: int
    parent: int | None = None
    has_image: bool = False


def text_edges(
    sections: Sequence[Section], *, target: Section, released: bool
) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """Return the pairs of text nodes that edges join, and those among them that join parents and children.

    Nodes: 0 the target, 1 the page, then the target's caption if it has one, then the other sections in order, each
    followed by its caption. Edges: target and page, target and caption, a chain from the page through the rest, and
    sections with the section that they stand below.

    Args:
        sections: the others, in the page's order.
        target: the section whose first sentence is to be written.
        released: with the numbers of the released code. The target was put before the other nodes and the counter is
            read after it went up, so each end but the two constants is one too high; and the map from sections to
            nodes, which parents are looked up in, is not filled any more.
    """
    shift, next_node = int(released), 2
    node_of = {target.number: 0}
    edges = {(0, 1 + shift)}
    if target.has_image:
        edges.add((0, next_node + shift))
        next_node += 1
    before = 1  # a constant in the code, so not shifted
    for section in sections:
        node_of[section.number] = next_node
        for _ in range(1 + section.has_image):
            edges.add((before, next_node + shift))
            before = next_node + shift
            next_node += 1
    below = set()
    if not released:
        for section in (target, *sections):
            if section.parent in node_of:
                ends = sorted((node_of[section.parent], node_of[section.number]))
                below.add((ends[0], ends[1]))
    return edges | below, below


def image_slots(sections: Sequence[Section]) -> list[tuple[int, int]]:
    """Return for each image of a page its node in the released image graph and its slot in the tensor of features.

    The graph counts sections that have an image, the tensor has a slot for every section, zeros where none is.
    """
    having = [slot for slot, section in enumerate(sections) if section.has_image]
    return list(enumerate(having))
