"""The graph, how its entities are told apart, how it is split, and where it is kept."""

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from mmkg.config.section import Section


class GraphConfig(Section):
    """What the graph is called, where its builds go, and what a build may use of the machine."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Folder name of the graph under `output`."""
    output: Path = Path("builds")
    """Folder of all builds, relative to the config file."""
    languages: tuple[str, ...] = ("en",)
    """Order in which labels and descriptions are chosen; then one without language, then any."""

    @field_validator("languages")
    @classmethod
    def _lower_case(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(language.lower() for language in languages)  # as the tables hold them

    random_seed: int = 0
    """Seed of everything that is drawn by chance in a build."""
    workers: int = Field(default=0, ge=0)
    """Processes that read dumps; 0 is one a core."""
    memory_limit: str = Field(default="4GB", pattern=r"^\d+(\.\d+)?\s*(MB|GB|TB|MiB|GiB|TiB)$")
    """Memory of the relational engine; beyond it, it spills to disk."""
    engine: Literal["duckdb", "spark"] = "duckdb"
    """Where the relational steps run; both give the same tables."""
    spark_master: str = ""
    """Engine spark: URL of the cluster, such as spark://HOST:7077; this machine unless set (see docs/spark.md)."""
    keep_builds: int = Field(default=3, ge=1)
    """How many finished builds stay on disk; older ones are removed after a successful build."""

    @property
    def folder(self) -> Path:
        """Folder of all versions and stages of the graph."""
        return self.output / self.name


class IdentityConfig(Section):
    """When two IRIs are one entity, and when they are not in spite of a link."""

    max_class_size: int = Field(default=12, ge=2)
    """A class of more IRIs is cut along its weakest links."""
    source_priority: tuple[str, ...] = ("freebase", "dbpedia", "yago")
    """Whose IRI becomes the entity's id: the first of these namespaces that the class holds, then the smallest IRI."""
    disjoint_types: tuple[tuple[str, str], ...] = ()
    """Pairs of type IRIs that nothing can have both of."""


class SplitsConfig(Section):
    """Train, valid and test triples for learning."""

    valid: float = Field(default=0.05, ge=0, lt=1)
    """Share of the triples; not used where the sources bring splits."""
    test: float = Field(default=0.05, ge=0, lt=1)
    """Share of the triples; not used where the sources bring splits."""
    from_sources: bool = False
    """Take the splits that `[[sources]]` name; triples of other sources are train, or left out if they would leak."""
    leak_share: float = Field(default=0.8, gt=0, le=1)
    """Two relations are split together when so much of the smaller one's pairs are also the other's, in either
    direction."""

    @model_validator(mode="after")
    def _something_is_left_for_train(self) -> "SplitsConfig":
        if self.valid + self.test >= 1:
            raise ValueError(f"valid + test is {self.valid + self.test:g}, which leaves nothing for train")
        return self


class StoreConfig(Section):
    """The Cypher store of the build."""

    uri: str = "embedded"
    """embedded: a database inside the build; neo4j://HOST:7687, neo4j+s:// or bolt://: a Neo4j server, loaded live."""
    user: str = "neo4j"
    """Neo4j: who loads and asks. The password is in the environment."""
    password_env: str = "NEO4J_PASSWORD"  # noqa: S105 - the name of a variable
    """Neo4j: the environment variable with the password."""
    database: str = "neo4j"
    """Neo4j: which database; Community edition has only this one."""
    connections: int = Field(default=2, ge=1)
    """Neo4j: batches that are sent at the same time, as long as nothing is served yet; as many of its cores work."""
    max_batch_rows: int = Field(default=20_000, ge=1)
    """Neo4j: rows of a batch that grows as long as the server takes them well."""
    attributes: tuple[str, ...] = ()
    """Attribute IRIs that become properties however rare they are."""
    min_attribute_share: float = Field(default=0.01, ge=0, le=1)
    """Attributes that at least this share of the entities have become properties."""
    max_attributes: int = Field(default=300, ge=0)
    """At most so many properties, commonest first."""

    @property
    def is_embedded(self) -> bool:
        """Whether the store is a database inside the build, and not a server."""
        return self.uri == "embedded"

    @field_validator("uri")
    @classmethod
    def _is_an_address(cls, uri: str) -> str:
        if uri != "embedded" and not re.fullmatch(r"(neo4j|bolt)(\+s|\+ssc)?://[^/@]+", uri):
            raise ValueError(
                "expected 'embedded', or an address such as neo4j://localhost:7687 without user or password"
            )
        return uri
