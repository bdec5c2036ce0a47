r"""MM-QFormer: learnable queries that hear a text and read pictures, and become a fixed number of tokens for an LLM.

With Q the queries, T the rows of a text and V those of pictures (both after their own graph attention), one layer is

.. math::
    [Q; T] &\leftarrow \mathrm{LN}([Q; T] + \mathrm{SelfAttn}([Q; T])) \\
    Q &\leftarrow \mathrm{LN}(Q + \mathrm{CrossAttn}(Q, V)) \\
    Q &\leftarrow \mathrm{LN}(Q + \mathrm{FFN}(Q))

in the paper's order, and in the order of the released code

.. math::
    Q &\leftarrow \mathrm{LN}(Q + \mathrm{SelfAttn}(Q)), \quad
    Q \leftarrow \mathrm{LN}(Q + \mathrm{CrossAttn}(Q, V)) \\
    [Q; T'] &= \mathrm{SelfAttn}([Q; T]), \quad Q \leftarrow \mathrm{LN}(Q + \mathrm{FFN}(Q))

with one self-attention used twice, the second time without residual. There each layer reads T as it came in, and T' is
what the last one made of it. Both orders have the same parameters. Ours, where the paper is silent: residuals, and
LayerNorm after each of them (as in BERT, BLIP-2 and the released code); no FFN for text, as in the code (BLIP-2 has a
second one); dropout on what attention and FFN add and not on weights of attention, which keeps torch's fused kernels.
Nothing knows positions: rows of text and pictures may come in any order. The released code has no masks either; ours
hide padding, and an item without any picture goes through the layer as if cross-attention had added 0.
Source: Graph4MM, ICML 2025, arXiv:2510.16990; order and sizes of the code: YennNing/Graph4MM at 00d80c8. BLIP-2: Li
et al., ICML 2023, arXiv:2301.12597.

Shape suffixes: B items, Q queries, T rows of text, V rows of pictures, K rows that are read, H heads, D features of a
head, d width.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from mmkg.errors import ConfigError

FfnActivation = Literal["relu", "gelu"]
_ACTIVATIONS: dict[FfnActivation, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU}


class MmQformerConfig(BaseModel):
    """Settings of :class:`MmQformer`; sizes of the paper are unknown, so defaults are those of the released code."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    width: int = Field(default=768, ge=1)
    """d, numbers in a row of queries, text and pictures."""
    num_heads: int = Field(default=12, ge=1)
    """H, of both attentions; divides the width."""
    num_layers: int = Field(default=1, ge=1)
    """L. The released code has 1."""
    num_queries: int = Field(default=20, ge=1)
    """Q, tokens that come out. The released code has 4 for each of 5 pictures; BLIP-2 has 32."""
    order: Literal["paper", "released"] = "paper"
    """paper | released: what follows what in a layer, as above."""
    ffn_multiple: int = Field(default=4, ge=1)
    """Hidden width of the FFN in widths."""
    activation: FfnActivation = "relu"
    """relu | gelu, in the FFN. The released code has relu; BERT and BLIP-2 have gelu."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """On what attention and FFN add. BERT's and BLIP-2's; the released code has none."""
    query_std: float = Field(default=1.0, gt=0)
    """Queries start as normal(0, query_std): 1 in the released code, 0.02 in BLIP-2."""
    text_in_self_attention: bool = True
    """Whether queries hear the text; False leaves them alone with the pictures."""
    pass_text: bool = False
    """Whether rows of text as the last self-attention left them are returned. The released code never uses them."""

    @model_validator(mode="after")
    def _settings_fit_each_other(self) -> "MmQformerConfig":
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} cannot be split over {self.num_heads} heads; use a multiple")
        if self.pass_text and not self.text_in_self_attention:
            raise ValueError("pass_text needs text_in_self_attention: without it no text is updated")
        return self


@dataclass(frozen=True, kw_only=True, eq=False)
class QformerOutput:
    """What comes out.

    Attributes:
        query_BQd: the tokens, of every item, whatever it lacks.
        text_BTd: updated rows of text, zeros where there was padding; None unless the config says `pass_text`.
    """

    query_BQd: Tensor
    text_BTd: Tensor | None


class RowAttention(nn.Module):
    """Multi-head attention of rows over rows, :math:`W_o\\,\\mathrm{softmax}(q k^\\top / \\sqrt{D})\\,v`, and no more.

    Residual and normalisation are :class:`SublayerEnd`'s. An item with nothing to read gets zeros, W_o's bias included.
    """

    def __init__(self, width: int, num_heads: int, *, project_output: bool = True) -> None:
        """Make the maps, initialised as torch's ``MultiheadAttention`` does.

        Args:
            width: d, of all rows.
            num_heads: divides the width.
            project_output: whether there is a W_o; otherwise heads stand beside each other as they are.
        """
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width) if project_output else None
        for project in (self.query, self.key_value):
            # Glorot's for one matrix of 3d x d
            nn.init.uniform_(project.weight, -((1.5 / width) ** 0.5), (1.5 / width) ** 0.5)
            nn.init.zeros_(project.bias)
        if self.output is not None:
            nn.init.zeros_(self.output.bias)

    def forward(self, query_BQd: Tensor, row_BKd: Tensor, mask_BK: Tensor | None = None) -> Tensor:
        """Return what each query reads, (B, Q, d).

        Args:
            query_BQd: rows that ask.
            row_BKd: rows that are read; K may be 0. What padding holds must be finite.
            mask_BK: bool, False for padding, which nobody reads; None where there is none.
        """
        if row_BKd.shape[1] == 0:  # one row that nobody sees: not every kernel takes none
            row_BKd = row_BKd.new_zeros(len(row_BKd), 1, row_BKd.shape[2])
            mask_BK = row_BKd.new_zeros(row_BKd.shape[:2], dtype=torch.bool)
        query_BHQD = self.query(query_BQd).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
        key_value_BKPHD = self.key_value(row_BKd).unflatten(2, (2, self.num_heads, -1))
        key_BHKD, value_BHKD = key_value_BKPHD.permute(2, 0, 3, 1, 4).unbind(0)
        allowed_B11K = some_B11 = None
        if mask_BK is not None:
            some_B11 = mask_BK.any(dim=1)[:, None, None]
            # where there is nothing, a softmax over padding; over nothing it is NaN in some kernels. Zeroed below
            allowed_B11K = (mask_BK[:, None, :] | ~some_B11)[:, None]
        read_BHQD = functional.scaled_dot_product_attention(query_BHQD, key_BHKD, value_BHKD, attn_mask=allowed_B11K)
        read_BQd = read_BHQD.transpose(1, 2).flatten(2)
        if self.output is not None:
            read_BQd = self.output(read_BQd)
        return read_BQd if some_B11 is None else read_BQd.masked_fill(~some_B11, 0)


class SublayerEnd(nn.Module):
    """What follows attention or FFN: dropout, residual, LayerNorm; the last two can be left out."""

    def __init__(self, width: int, *, dropout: float, residual: bool = True, normalise: bool = True) -> None:
        super().__init__()
        self.residual = residual
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width) if normalise else nn.Identity()

    def forward(self, came_BQd: Tensor, change_BQd: Tensor) -> Tensor:
        """Return the sublayer's output from what came in and what attention or FFN made of it."""
        change_BQd = self.dropout(change_BQd)
        out_BQd: Tensor = self.norm(came_BQd + change_BQd if self.residual else change_BQd)
        return out_BQd


def feed_forward(width: int, multiple: int, activation: FfnActivation) -> nn.Sequential:
    """Return a new two-layer FFN, width to ``multiple`` widths and back."""
    hidden = multiple * width
    return nn.Sequential(nn.Linear(width, hidden), _ACTIVATIONS[activation](), nn.Linear(hidden, width))


class QformerLayer(nn.Module):
    """One layer, in either order."""

    def __init__(self, config: MmQformerConfig) -> None:
        super().__init__()
        self.order = config.order
        self.self_attention = RowAttention(config.width, config.num_heads)
        self.cross_attention = RowAttention(config.width, config.num_heads)
        self.ffn = feed_forward(config.width, config.ffn_multiple, config.activation)
        self.self_end, self.cross_end, self.ffn_end = (
            SublayerEnd(config.width, dropout=config.dropout) for _ in range(3)
        )

    def forward(
        self,
        query_BQd: Tensor,
        text_BTd: Tensor,
        text_mask_BT: Tensor,
        image_BVd: Tensor,
        image_mask_BV: Tensor,
        *,
        with_text: bool,
    ) -> tuple[Tensor, Tensor]:
        """Return the new queries and rows of text; without ``with_text`` none of the latter are made, (B, 0, d)."""
        if self.order == "paper":
            query_BQd, text_BTd = self._hear(query_BQd, text_BTd, text_mask_BT, with_text=with_text, end=self.self_end)
        else:
            query_BQd = self.self_end(query_BQd, self.self_attention(query_BQd, query_BQd))
        query_BQd = self.cross_end(query_BQd, self.cross_attention(query_BQd, image_BVd, image_mask_BV))
        if self.order == "released":
            query_BQd, text_BTd = self._hear(query_BQd, text_BTd, text_mask_BT, with_text=with_text, end=None)
        return self.ffn_end(query_BQd, self.ffn(query_BQd)), text_BTd

    def _hear(
        self, query_BQd: Tensor, text_BTd: Tensor, text_mask_BT: Tensor, *, with_text: bool, end: SublayerEnd | None
    ) -> tuple[Tensor, Tensor]:
        """Self-attention over [queries; text], with what follows it or bare."""
        num_queries = query_BQd.shape[1]
        row_BKd = torch.cat([query_BQd, text_BTd], dim=1)
        mask_BK = torch.cat([text_mask_BT.new_ones(query_BQd.shape[:2]), text_mask_BT], dim=1)
        asked_BQd = row_BKd if with_text else query_BQd
        heard_BQd = self.self_attention(asked_BQd, row_BKd, mask_BK)
        if end is not None:
            heard_BQd = end(asked_BQd, heard_BQd)
        return heard_BQd[:, :num_queries], heard_BQd[:, num_queries:]


class MmQformer(nn.Module):
    """The queries and L layers."""

    def __init__(self, config: MmQformerConfig) -> None:
        super().__init__()
        self.config = config
        self.query_Qd = nn.Parameter(torch.randn(config.num_queries, config.width) * config.query_std)
        self.layers = nn.ModuleList(QformerLayer(config) for _ in range(config.num_layers))

    def forward(
        self, text_BTd: Tensor, text_mask_BT: Tensor, image_BVd: Tensor, image_mask_BV: Tensor
    ) -> QformerOutput:
        """Return the tokens of each item, and its updated text where the config says so.

        Args:
            text_BTd: rows of text; T may be 0.
            text_mask_BT: bool, False for padding; an item may have no True.
            image_BVd: rows of pictures; V may be 0.
            image_mask_BV: bool, as for text.

        Raises:
            ConfigError: shapes that do not fit each other or the config, or a mask that is not bool.
        """
        _check_rows("text", text_BTd, text_mask_BT, self.config.width)
        _check_rows("image", image_BVd, image_mask_BV, self.config.width)
        if len(text_BTd) != len(image_BVd):
            raise ConfigError(
                f"the QFormer expects text and pictures of the same items, found {len(text_BTd)} items "
                f"with text and {len(image_BVd)} with pictures"
            )
        if not self.config.text_in_self_attention:
            text_BTd, text_mask_BT = text_BTd[:, :0], text_mask_BT[:, :0]
        # whatever padding holds, even NaN, which a weight of 0 would not hide
        text_BTd = text_BTd.masked_fill(~text_mask_BT[:, :, None], 0)
        image_BVd = image_BVd.masked_fill(~image_mask_BV[:, :, None], 0)
        paper, pass_text = self.config.order == "paper", self.config.pass_text
        query_BQd, heard_BTd = self.query_Qd.expand(len(text_BTd), -1, -1), text_BTd
        for number, layer in enumerate(self.layers, start=1):
            last = number == len(self.layers)
            query_BQd, heard_BTd = layer(
                query_BQd,
                heard_BTd if paper else text_BTd,
                text_mask_BT,
                image_BVd,
                image_mask_BV,
                with_text=pass_text if last else paper,
            )
        if not pass_text:
            return QformerOutput(query_BQd=query_BQd, text_BTd=None)
        return QformerOutput(query_BQd=query_BQd, text_BTd=heard_BTd.masked_fill(~text_mask_BT[:, :, None], 0))


def num_parameters(config: MmQformerConfig) -> int:
    """Return how many numbers a QFormer learns: Qd + L (8d² + 8d of attention, 2md² + (m + 1)d of FFN, 6d of norms).

    In the released code's size, d = 768 and m = 4, a layer has 9,451,776 and 20 queries have 15,360.
    """
    d, m = config.width, config.ffn_multiple
    attention, ffn, norms = 2 * (4 * d * d + 4 * d), 2 * m * d * d + (m + 1) * d, 3 * 2 * d
    return config.num_queries * d + config.num_layers * (attention + ffn + norms)


def _check_rows(what: str, row_BKd: Tensor, mask_BK: Tensor, width: int) -> None:
    if row_BKd.dim() != 3 or row_BKd.shape[2] != width:
        raise ConfigError(
            f"the QFormer expects rows of {what} of shape (items, rows, {width}), found {tuple(row_BKd.shape)}"
        )
    if mask_BK.shape != row_BKd.shape[:2] or mask_BK.dtype != torch.bool:
        raise ConfigError(
            f"the QFormer expects a bool mask of shape {tuple(row_BKd.shape[:2])} for {what}, "
            f"found {mask_BK.dtype} of shape {tuple(mask_BK.shape)}"
        )
