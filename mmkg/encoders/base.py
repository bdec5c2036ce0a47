"""What every encoder is: from node and relation vectors to node states; and what surrounds each of their layers."""

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, get_args

import torch
from torch import Tensor, nn

from mmkg.encoders.ops import Backend
from mmkg.errors import ConfigError, unknown_name
from mmkg.subgraphs.batch import MessageGraph

Activation: TypeAlias = Literal["none", "relu", "elu", "gelu", "tanh"]
Normalisation: TypeAlias = Literal["none", "batch", "layer"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "none": nn.Identity,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
}


class Encoder(Protocol):
    """A ``torch.nn.Module`` that turns node vectors into node states, seeing the graph.

    A batch of graphs side by side gives each of them what it gets alone (with batch normalisation: when evaluating).
    """

    output_width: int

    def __call__(
        self, graph: MessageGraph, node_ND: Tensor, relation_RD: Tensor, keep_E: Tensor | None = None
    ) -> Tensor:
        """Return the node states (N, output_width).

        Args:
            graph: N nodes and R relations, inverse and self relations among them where wanted.
            node_ND: (N, node_width).
            relation_RD: (R, relation_width), one vector for each of ``graph.num_relations``.
            keep_E: bool (E,), False hides an edge as if it were not there; None shows all.

        Raises:
            ConfigError: shapes that do not belong to the graph.
        """


@dataclass(frozen=True, kw_only=True)
class LayersConfig:
    """What the encoders that are stacks of layers share.

    Attributes:
        node_width: features of a node that come in.
        relation_width: features of a relation vector; read by encoders that use them.
        output_width: features of a node state, in every layer; None is node_width.
        num_layers: 1 to 4 (MR-MKG's sweep; about 2 was best there).
        residual: add a layer's input to its output (through a matrix where widths differ). Without it, and without a
            self relation, a node keeps nothing of its own.
        activation: between layers, none after the last.
        normalisation: of a layer's output before it is added.
        initial_gain: of the normalisation. Ours: 0.1, so that training starts near the input (+.015 MRR on
            FB15k-237, with batch normalisation).
        dropout: on a layer's output, when training.
        backend: of the operators, see :mod:`mmkg.encoders.ops`.
    """

    node_width: int
    relation_width: int = 0
    output_width: int | None = None
    num_layers: int = 1
    residual: bool = True
    activation: Activation = "elu"
    normalisation: Normalisation = "none"
    initial_gain: float = 0.1
    dropout: float = 0.0
    backend: Backend = "auto"

    def __post_init__(self) -> None:
        """Check every value."""
        check_whole("node_width", self.node_width, least=1)
        check_whole("relation_width", self.relation_width, least=0)
        if self.output_width is not None:
            check_whole("output_width", self.output_width, least=1)
        check_whole("num_layers", self.num_layers, least=1, most=4)
        check_fraction("dropout", self.dropout)
        for kind, name, known in (
            ("activation", self.activation, get_args(Activation)),
            ("normalisation", self.normalisation, get_args(Normalisation)),
            ("backend", self.backend, get_args(Backend)),
        ):
            if name not in known:
                raise ConfigError(unknown_name(kind, name, known))

    @property
    def width(self) -> int:
        """Features of a node state."""
        return self.output_width or self.node_width

    def input_width(self, layer: int) -> int:
        """Features that layer number ``layer`` (from 0) receives."""
        return self.node_width if layer == 0 else self.width


class LayerEnd(nn.Module):
    """What follows the aggregation of a layer: bias or normalisation, activation, dropout, residual."""

    def __init__(self, config: LayersConfig, layer: int) -> None:
        super().__init__()
        width, last = config.width, layer == config.num_layers - 1
        self.normalisation = config.normalisation
        self.norm: nn.Module | None = None
        self.bias: nn.Parameter | None = None
        if config.normalisation == "none":
            self.bias = nn.Parameter(torch.zeros(width))
        else:  # has a bias of its own
            norm = nn.BatchNorm1d(width) if config.normalisation == "batch" else nn.LayerNorm(width)
            nn.init.constant_(norm.weight, config.initial_gain)
            self.norm = norm
        self.activation = nn.Identity() if last else _ACTIVATIONS[config.activation]()
        self.dropout = nn.Dropout(config.dropout)
        self.skip: nn.Module | None = None
        if config.residual:
            came = config.input_width(layer)
            self.skip = nn.Identity() if came == width else nn.Linear(came, width, bias=False)

    def forward(self, came_ND: Tensor, gathered_ND: Tensor) -> Tensor:
        """Return the layer's output from what came in and what was gathered along the edges."""
        if self.norm is not None and len(gathered_ND) > 0:
            if self.normalisation == "batch" and self.training and len(gathered_ND) == 1:
                raise ConfigError(
                    "normalisation 'batch' needs at least 2 nodes to train on, found 1; "
                    "batch several graphs, or use normalisation 'layer'"
                )
            gathered_ND = self.norm(gathered_ND)
        if self.bias is not None:
            gathered_ND = gathered_ND + self.bias
        out_ND: Tensor = self.dropout(self.activation(gathered_ND))
        return out_ND if self.skip is None else out_ND + self.skip(came_ND)


def check_inputs(
    graph: MessageGraph, node_ND: Tensor, relation_RD: Tensor, *, node_width: int, relation_width: int | None
) -> None:
    """Raise ConfigError unless the vectors belong to the graph and the encoder; a width of None is not looked at."""
    if tuple(node_ND.shape) != (graph.num_nodes, node_width):
        raise ConfigError(
            f"the encoder expects node vectors of shape ({graph.num_nodes}, {node_width}), found {tuple(node_ND.shape)}"
        )
    if relation_width is not None and tuple(relation_RD.shape) != (graph.num_relations, relation_width):
        raise ConfigError(
            f"the encoder expects relation vectors of shape ({graph.num_relations}, {relation_width}), one for each "
            f"relation of the graph, inverse and self relations included; found {tuple(relation_RD.shape)}"
        )


def check_whole(name: str, value: int, *, least: int, most: int | None = None) -> None:
    """Raise ConfigError unless a setting is a whole number in its range."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        span = f"from {least} to {most}" if most is not None else f"of {least} or more"
        raise ConfigError(f"{name} of an encoder must be a whole number {span}, found {value!r}")


def check_fraction(name: str, value: float) -> None:
    """Raise ConfigError unless a setting is a probability below 1."""
    if not 0 <= value < 1:
        raise ConfigError(f"{name} of an encoder must be at least 0 and less than 1, found {value!r}")
