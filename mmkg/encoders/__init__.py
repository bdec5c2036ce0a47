"""Encoders: from a graph with vectors on its nodes and relations to node states.

To add one: a file with its config and module, a line in ``_ENCODERS``, an entry in ``tests/contracts/test_encoder.py``.

>>> encoder = open_encoder("rgat", {"node_width": 8, "relation_width": 8, "num_heads": 2})
>>> encoder.output_width
8
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from mmkg.errors import ConfigError, require, unknown_name

require("torch", extra="graph", needed_by="every encoder")

# after the check that says how to install torch
from torch import nn  # noqa: E402

from mmkg.encoders.base import Encoder, LayersConfig  # noqa: E402
from mmkg.encoders.gat import Gat, GatConfig  # noqa: E402
from mmkg.encoders.gcn import Gcn, GcnConfig  # noqa: E402
from mmkg.encoders.hop_diffusion import HopDiffusion, HopDiffusionConfig  # noqa: E402
from mmkg.encoders.identity import Identity, IdentityConfig  # noqa: E402
from mmkg.encoders.rgat import Rgat, RgatConfig  # noqa: E402

__all__ = [
    "Encoder",
    "Gat",
    "GatConfig",
    "Gcn",
    "GcnConfig",
    "HopDiffusion",
    "HopDiffusionConfig",
    "Identity",
    "IdentityConfig",
    "LayersConfig",
    "Rgat",
    "RgatConfig",
    "encoder_names",
    "open_encoder",
]

_ENCODERS: dict[str, tuple[type[Any], type[nn.Module]]] = {
    "gat": (GatConfig, Gat),
    "gcn": (GcnConfig, Gcn),
    "hop_diffusion": (HopDiffusionConfig, HopDiffusion),
    "none": (IdentityConfig, Identity),
    "rgat": (RgatConfig, Rgat),
}


def encoder_names() -> list[str]:
    """Return the names that :func:`open_encoder` knows, sorted."""
    return sorted(_ENCODERS)


def open_encoder(name: str, config: object) -> Any:
    """Return a new encoder, a ``torch.nn.Module`` that is an :class:`Encoder`, with weights from torch's generator.

    Args:
        name: "rgat", "gat", "gcn", "hop_diffusion" or "none".
        config: the encoder's config object, or a mapping with its settings.

    Raises:
        ConfigError: an unknown name or setting, a missing one, or a value that cannot be used.
    """
    if name not in _ENCODERS:
        raise ConfigError(unknown_name("encoder", name, _ENCODERS))
    config_class, encoder_class = _ENCODERS[name]
    if isinstance(config, Mapping):
        config = _config_of(name, config_class, config)
    if type(config) is not config_class:
        raise ConfigError(f"the {name} encoder needs a {config_class.__name__}, found a {type(config).__name__}")
    return encoder_class(config)


def _config_of(name: str, config_class: type[Any], settings: Mapping[str, Any]) -> object:
    known = [field.name for field in fields(config_class)]
    for key in settings:
        if key not in known:
            raise ConfigError(unknown_name(f"setting of the {name} encoder", key, known))
    try:
        return config_class(**settings)
    except TypeError as error:  # the dataclass's own list of what is missing
        raise ConfigError(f"the {name} encoder: {str(error).partition('() ')[2]}") from error
