r"""Scores of triples: the last formula on the way of a fact, from three vectors to one number.

Every decoder here has the form :math:`s(h, r, t) = q(h, r) \cdot t + b_t`: a query vector made of head and relation, a
product with the tail's vector, and for ConvE a bias of the tail. So one matrix product scores all tails of a batch of
queries, or a chunk of them, and a loop over chunks needs no more memory than one chunk.

Relations are counted twice: relation ``r + R`` is the inverse of relation ``r`` of ``R``, and the heads of
``(?, r, t)`` are scored as the tails of ``(t, r + R, ?)`` ("reciprocal" relations: Lacroix et al., ICML 2018,
arXiv:1806.07297).

Shape suffixes: B queries, K candidates, N entities, D width of the vectors.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from mmkg.errors import ConfigError, unknown_name


class ConvEConfig(BaseModel):
    """The settings that only ConvE has; defaults are those of Dettmers et al. for FB15k-237, at width 200."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    height: int = Field(default=10, ge=1)
    """Rows of the image that a vector is folded into; the width of the vectors is a multiple of it."""
    channels: int = Field(default=32, ge=1)
    """Filters of the convolution."""
    kernel: int = Field(default=3, ge=1)
    """Side of a filter."""
    input_dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of the stacked image that is dropped."""
    channel_dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of whole channels that are dropped."""
    hidden_dropout: float = Field(default=0.3, ge=0, lt=1)
    """Share of the query vector that is dropped."""


class TripleDecoder(nn.Module, ABC):
    """Base of the decoders: a query vector of head and relation, and its product with the vectors of candidates."""

    #: bias of each entity as a tail, (N,); None where the formula has none
    bias: nn.Parameter | None

    @abstractmethod
    def query(self, head_BD: Tensor, relation_BD: Tensor) -> Tensor:
        """Return query_BD, such that ``query · tail`` (and the tail's bias) is the score."""

    #: whether the halves of a vector are the real and imaginary parts of complex numbers
    is_complex = False

    def __init__(self) -> None:
        super().__init__()
        self.register_parameter("bias", None)

    def score_candidates(self, query_BD: Tensor, candidate_KD: Tensor, bias_K: Tensor | None = None) -> Tensor:
        """Return score_BK of every candidate as the tail of every query."""
        score_BK = query_BD @ candidate_KD.t()
        return score_BK if bias_K is None else score_BK + bias_K

    def score_triples(self, head_BD: Tensor, relation_BD: Tensor, tail_BD: Tensor) -> Tensor:
        """Return score_B of one tail per query, without the bias of an entity."""
        return (self.query(head_BD, relation_BD) * tail_BD).sum(dim=-1)

    def n3(self, vector_BD: Tensor) -> Tensor:
        r"""Return (B,): the nuclear 3-norm's part of each vector.

        .. math:: \sum_k |x_k|^3

        with the modulus of a complex number where the decoder has such.

        Source: Lacroix et al., ICML 2018, arXiv:1806.07297, equation 4, where it is summed over head, relation and
        tail of a triple and over the batch, divided by the size of the batch and weighted by lambda.
        """
        n3_B: Tensor = _CubedModuli.apply(vector_BD, self.is_complex)
        return n3_B


class _CubedModuli(torch.autograd.Function):
    """The sum of |x|³ with its gradient 3 |x| x, which is 0 at 0 where that of a square root would be infinite."""

    @staticmethod
    def forward(ctx: Any, vector_BD: Tensor, is_complex: bool) -> Tensor:
        if is_complex:
            real, imaginary = vector_BD.chunk(2, dim=-1)
            modulus = torch.hypot(real, imaginary)
        else:
            modulus = vector_BD.abs()
        ctx.save_for_backward(vector_BD, modulus)
        return (modulus * modulus * modulus).sum(dim=-1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_B: Tensor) -> tuple[Tensor, None]:
        vector_BD, modulus = ctx.saved_tensors
        scale = modulus * (3 * grad_B)[:, None]
        if scale.shape != vector_BD.shape:
            scale = torch.cat([scale, scale], dim=-1)
        return scale * vector_BD, None


class DistMult(TripleDecoder):
    r"""A diagonal matrix for each relation.

    .. math:: s(h, r, t) = \sum_k h_k\, r_k\, t_k

    Source: Yang et al., ICLR 2015, arXiv:1412.6575. Symmetric in head and tail for one relation; with a relation and
    its inverse learnt apart, the two directions of a question may differ.
    """

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.width = width

    def query(self, head_BD: Tensor, relation_BD: Tensor) -> Tensor:
        """Return the product of head and relation, (B, D)."""
        return head_BD * relation_BD


class ComplEx(TripleDecoder):
    r"""A diagonal matrix of complex numbers for each relation.

    .. math:: s(h, r, t) = \mathrm{Re} \sum_k h_k\, r_k\, \overline{t_k}

    Source: Trouillon et al., ICML 2016, arXiv:1606.06357. A vector of width D holds D / 2 real parts, then as many
    imaginary ones, so width 200 is the papers' rank 100.
    """

    is_complex = True

    def __init__(self, *, width: int) -> None:
        super().__init__()
        if width % 2:
            raise ConfigError(f"ComplEx needs an even width (real and imaginary halves), found {width}")
        self.width = width

    def query(self, head_BD: Tensor, relation_BD: Tensor) -> Tensor:
        """Return the complex product of head and relation, (B, D), real half first.

        With :math:`q = h r` the score is :math:`\\mathrm{Re}(q) \\mathrm{Re}(t) + \\mathrm{Im}(q) \\mathrm{Im}(t)`.
        """
        head_re, head_im = head_BD.chunk(2, dim=-1)
        relation_re, relation_im = relation_BD.chunk(2, dim=-1)
        return torch.cat(
            [head_re * relation_re - head_im * relation_im, head_re * relation_im + head_im * relation_re], dim=-1
        )


class ConvE(TripleDecoder):
    r"""A two-dimensional convolution over head and relation, folded into images and stacked.

    .. math:: s(h, r, t) = f(\mathrm{vec}(f([\bar h; \bar r] * \omega))\, W) \cdot t + b_t

    Source: Dettmers et al., AAAI 2018, arXiv:1707.01476; :math:`f` is ReLU, batch normalisation and dropout stand
    where the authors' released code has them.
    """

    def __init__(self, *, width: int, num_entities: int, config: ConvEConfig | None = None) -> None:
        super().__init__()
        config = config or ConvEConfig()
        if width % config.height:
            raise ConfigError(
                f"ConvE folds a vector into {config.height} rows, so the width must be a multiple of "
                f"{config.height}; found {width}. Change width or conve.height."
            )
        rows, columns = 2 * config.height, width // config.height
        if config.kernel > min(rows, columns):
            raise ConfigError(
                f"ConvE's filters have side {config.kernel}, larger than its image of {rows} x {columns}; "
                "choose a smaller conve.kernel or conve.height"
            )
        self.width, self.height = width, config.height
        flat = config.channels * (rows - config.kernel + 1) * (columns - config.kernel + 1)
        self.image_norm = nn.BatchNorm2d(1)
        self.image_dropout = nn.Dropout(config.input_dropout)
        self.convolution = nn.Conv2d(1, config.channels, config.kernel)
        self.channel_norm = nn.BatchNorm2d(config.channels)
        self.channel_dropout = nn.Dropout2d(config.channel_dropout)
        self.to_query = nn.Linear(flat, width)
        self.query_norm = nn.BatchNorm1d(width)
        self.query_dropout = nn.Dropout(config.hidden_dropout)
        self.bias = nn.Parameter(torch.zeros(num_entities))

    def query(self, head_BD: Tensor, relation_BD: Tensor) -> Tensor:
        """Return (B, D); in training mode the batch is normalised together, so B must be above 1."""
        image_B1HW = torch.cat([self._fold(head_BD), self._fold(relation_BD)], dim=2)
        image_B1HW = self.image_dropout(self.image_norm(image_B1HW))
        channel_BCHW = self.channel_dropout(functional.relu(self.channel_norm(self.convolution(image_B1HW))))
        query_BD = self.query_dropout(self.to_query(channel_BCHW.flatten(start_dim=1)))
        return functional.relu(self.query_norm(query_BD))

    def _fold(self, vector_BD: Tensor) -> Tensor:
        return vector_BD.view(vector_BD.shape[0], 1, self.height, self.width // self.height)


DECODERS: dict[str, Callable[[int, int, ConvEConfig | None], TripleDecoder]] = {
    "distmult": lambda width, _num_entities, _config: DistMult(width=width),
    "complex": lambda width, _num_entities, _config: ComplEx(width=width),
    "conve": lambda width, num_entities, config: ConvE(width=width, num_entities=num_entities, config=config),
}


def open_decoder(name: str, *, width: int, num_entities: int, conve: ConvEConfig | None = None) -> TripleDecoder:
    """Make a decoder by name.

    Args:
        name: distmult | complex | conve.
        width: D, numbers in a vector of an entity or a relation.
        num_entities: N; ConvE has a bias for each.
        conve: settings of ConvE, its paper's if None.

    Raises:
        ConfigError: no decoder is called so, or it cannot have this width.
    """
    if name not in DECODERS:
        raise ConfigError(unknown_name("decoder", name, DECODERS))
    return DECODERS[name](width, num_entities, conve)
