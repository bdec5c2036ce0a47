"""One TOML file describes one graph. Every stage reads its own part; unknown keys are errors that name the nearest one.

``schemas/config/mmkg.schema.json`` is printed from these models, so that an editor completes the file.
"""

from mmkg.config.file import Config, config_schema
from mmkg.config.graph import GraphConfig, IdentityConfig, SplitsConfig, StoreConfig
from mmkg.config.images import (
    DecodeConfig,
    EmbeddingsConfig,
    GatesConfig,
    ImageFetchConfig,
    ImagesConfig,
    PictureFolderConfig,
)
from mmkg.config.reading import override, parse_config, read_config
from mmkg.config.service import ChecksConfig, NotifyConfig
from mmkg.config.sources import FetchConfig, LinkConfig, SourceConfig, SparqlConfig

__all__ = [
    "ChecksConfig",
    "Config",
    "DecodeConfig",
    "EmbeddingsConfig",
    "FetchConfig",
    "GatesConfig",
    "GraphConfig",
    "IdentityConfig",
    "ImageFetchConfig",
    "ImagesConfig",
    "LinkConfig",
    "NotifyConfig",
    "PictureFolderConfig",
    "SourceConfig",
    "SparqlConfig",
    "SplitsConfig",
    "StoreConfig",
    "config_schema",
    "override",
    "parse_config",
    "read_config",
]
