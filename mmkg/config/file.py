"""A whole config file, and its JSON schema."""

from typing import Any

from pydantic import Field, model_validator

from mmkg.config.graph import GraphConfig, IdentityConfig, SplitsConfig, StoreConfig
from mmkg.config.images import EmbeddingsConfig, ImagesConfig
from mmkg.config.section import Section
from mmkg.config.service import ChecksConfig, NotifyConfig
from mmkg.config.sources import FetchConfig, LinkConfig, SourceConfig

_MAX_SOURCES = 63  # bits of a `sources` column without its sign


class Config(Section):
    """A whole config file."""

    graph: GraphConfig
    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    links: tuple[LinkConfig, ...] = ()
    identity: IdentityConfig = IdentityConfig()
    splits: SplitsConfig = SplitsConfig()
    store: StoreConfig = StoreConfig()
    fetch: FetchConfig = FetchConfig()
    images: ImagesConfig = ImagesConfig()
    embeddings: EmbeddingsConfig = EmbeddingsConfig()
    checks: ChecksConfig = ChecksConfig()
    notify: NotifyConfig = NotifyConfig()

    @property
    def source_names(self) -> tuple[str, ...]:
        """The distinct names of the sources, in order; bit i of a `sources` column is the i-th of them."""
        return tuple(dict.fromkeys(source.name for source in self.sources))

    @model_validator(mode="after")
    def _sources_fit_their_bits(self) -> "Config":
        if len(self.source_names) > _MAX_SOURCES:
            raise ValueError(
                f"{len(self.source_names)} names of sources, but a build tells at most {_MAX_SOURCES} apart; "
                "give dumps that belong together one `name`"
            )
        return self

    @model_validator(mode="after")
    def _splits_have_a_source(self) -> "Config":
        if self.splits.from_sources and not any(source.split for source in self.sources):
            raise ValueError("splits.from_sources is set, but no [[sources]] has `split`")
        return self


def config_schema() -> dict[str, Any]:
    """The JSON schema of a config file."""
    schema = Config.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "mmkg graph"
    return schema
