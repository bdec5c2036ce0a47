"""One TOML file describes one graph. Every stage reads its own part; unknown keys are errors that name the nearest one.

``schemas/config/mmkg.schema.json`` is printed from these models, so that an editor completes the file.
"""

import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mmkg.errors import ConfigError

_MAX_SOURCES = 63  # bits of a `sources` column without its sign


class _Section(BaseModel):
    """A part of the file: frozen, and closed against unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class GraphConfig(_Section):
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
    """Where the relational steps run."""
    keep_builds: int = Field(default=3, ge=1)
    """How many finished builds stay on disk; older ones are removed after a successful build."""


class SourceConfig(_Section):
    """One source: a kind, its dumps, and what only that kind knows."""

    kind: str
    """freebase | dbpedia | yago | mmkb | ntriples | tsv"""
    paths: tuple[str, ...] = Field(min_length=1)
    """Files, folders or globs, relative to the config file."""
    name: str = ""
    """What provenance calls it; the kind unless set. Two entities of one source are never merged (see `identity`)."""
    split: Literal["", "train", "valid", "test"] = ""
    """These dumps are one split of a benchmark."""
    base_iri: str = ""
    """What relative names of a TSV are put behind; the kind's own namespace unless set."""
    fold_cvt: bool = False
    """Freebase: replace compound value nodes by direct relations between what they tie together."""
    drop_redundant: bool = True
    """Freebase: lines that only repeat another (type.type.instance, reverse properties) go to the ledger."""

    @model_validator(mode="after")
    def _name_is_kind_unless_set(self) -> "SourceConfig":
        if not self.name:
            object.__setattr__(self, "name", self.kind)
        return self


class LinkConfig(_Section):
    """Identity links between sources."""

    kind: Literal["sameas", "mmkb"]
    """sameas: owl:sameAs statements in N-Triples or Turtle; mmkb: `/m/… <SameAs> <…> .`"""
    paths: tuple[str, ...] = Field(min_length=1)
    """Files, folders or globs, relative to the config file."""
    name: str = "links"
    """What provenance calls them."""


class IdentityConfig(_Section):
    """When two IRIs are one entity, and when they are not in spite of a link."""

    max_class_size: int = Field(default=12, ge=2)
    """A class of more IRIs is cut along its weakest links."""
    source_priority: tuple[str, ...] = ("freebase", "dbpedia", "yago")
    """Whose IRI becomes the entity's id: the first of these namespaces that the class holds, then the smallest IRI."""
    disjoint_types: tuple[tuple[str, str], ...] = ()
    """Pairs of type IRIs that nothing can have both of."""


class SplitsConfig(_Section):
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


class StoreConfig(_Section):
    """The Cypher store of the build."""

    uri: str = "embedded"
    """embedded: a database inside the build."""
    attributes: tuple[str, ...] = ()
    """Attribute IRIs that become properties however rare they are."""
    min_attribute_share: float = Field(default=0.01, ge=0, le=1)
    """Attributes that at least this share of the entities have become properties."""
    max_attributes: int = Field(default=300, ge=0)
    """At most so many properties, commonest first."""


class ChecksConfig(_Section):
    """What stops a bad build from being served; a check without a number is off."""

    max_reject_share: float | None = Field(default=None, ge=0, le=1)
    """Rejected lines over all lines, of each dump."""
    max_triples_lost: float | None = Field(default=None, ge=0, le=1)
    """How much smaller than the build being served the new one may be, in triples."""
    max_orphan_share: float | None = Field(default=None, ge=0, le=1)
    """Entities without any triple, over all entities."""
    max_unlabelled_share: float | None = Field(default=None, ge=0, le=1)
    """Entities without label, over all entities."""
    shapes: tuple[str, ...] = ()
    """SHACL files to check the graph against (small graphs: it is held in memory)."""
    shacl_max_triples: int = Field(default=200_000, ge=0)
    """Graphs of more statements are not checked by SHACL, and the report says so."""


class Config(_Section):
    """A whole config file."""

    graph: GraphConfig
    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    links: tuple[LinkConfig, ...] = ()
    identity: IdentityConfig = IdentityConfig()
    splits: SplitsConfig = SplitsConfig()
    store: StoreConfig = StoreConfig()
    checks: ChecksConfig = ChecksConfig()

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


def _known_keys(where: Sequence[int | str]) -> list[str]:
    """The keys of the section at a path of the file such as ("sources", 0)."""
    model: type[BaseModel] = Config
    for step in where:
        if isinstance(step, int):
            continue
        annotation: Any = model.model_fields[step].annotation
        model = next((a for a in getattr(annotation, "__args__", ()) if isinstance(a, type)), annotation)
    return list(model.model_fields)


def _explain(error: ValidationError, path: Path) -> str:
    """Each problem of a config on a line of its own, with the nearest known key for an unknown one."""
    lines = []
    for problem in error.errors():
        where = problem["loc"]
        dotted = ".".join(str(step) for step in where) or "the file as a whole"
        if problem["type"] == "extra_forbidden":
            known = _known_keys(where[:-1])
            near = difflib.get_close_matches(str(where[-1]), known, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            lines.append(f"{path}: unknown key '{dotted}'.{hint} Known here: {', '.join(known)}.")
        else:
            told = isinstance(problem["input"], BaseModel | dict) or problem["type"] == "missing"
            found = "" if told else f" Found: {problem['input']!r}."
            lines.append(f"{path}: {dotted}: {problem['msg'].removeprefix('Value error, ')}.{found}")
    return "\n".join(lines)


def parse_config(data: dict[str, Any], path: Path) -> Config:
    """Check the content of a config file; `path` is named in messages.

    Raises:
        ConfigError: a key is unknown or missing, or a value is of the wrong kind.
    """
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_explain(error, path)) from error


def override(data: dict[str, Any], settings: Sequence[str]) -> None:
    """Set ``graph.workers=2`` style overrides in a config's content; the value is read as TOML, else as a string.

    An item of a list is named by its number from 0: ``sources.0.fold_cvt=true``.

    Raises:
        ConfigError: a setting is not ``key=value``, or goes through something that is not a section.
    """
    for setting in settings:
        dotted, equals, text = setting.partition("=")
        *sections, key = dotted.split(".")
        if not equals or not key or "" in sections:
            raise ConfigError(f"--set {setting}: expected key=value, such as graph.workers=2")
        section: Any = data
        for step in sections:
            section = _step_into(section, step, setting)
        if isinstance(section, list):
            _step_into(section, key, setting)
            section[int(key)] = _read_value(text)
        else:
            section[key] = _read_value(text)


def _step_into(section: Any, step: str, setting: str) -> Any:
    """The section or list item of that name; a section that is not there yet is made."""
    if isinstance(section, list):
        if not (step.isdecimal() and int(step) < len(section)):
            raise ConfigError(f"--set {setting}: '{step}' is not one of the {len(section)} items, which count from 0")
        return section[int(step)]
    inner = section.setdefault(step, {})
    if not isinstance(inner, dict | list):
        raise ConfigError(f"--set {setting}: '{step}' is a value, not a section")
    return inner


def _read_value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if parsed.keys() == {"value"} else text


def read_config(path: Path, settings: Sequence[str] = ()) -> Config:
    """Read a config file.

    Args:
        path: the TOML file. Paths inside it are relative to its folder and come back absolute.
        settings: overrides such as ``["graph.workers=2"]``.

    Raises:
        ConfigError: the file is missing, is not TOML, or does not describe a graph.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such config file. `mmkg init` writes one to start from.") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}. Expected a TOML file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from error
    override(data, settings)
    return _with_absolute_paths(parse_config(data, path), path.resolve().parent)


def _with_absolute_paths(config: Config, folder: Path) -> Config:
    def absolute(path: str) -> str:
        return str(folder / path)

    graph = config.graph.model_copy(update={"output": folder / config.graph.output})
    sources = tuple(s.model_copy(update={"paths": tuple(map(absolute, s.paths))}) for s in config.sources)
    links = tuple(link.model_copy(update={"paths": tuple(map(absolute, link.paths))}) for link in config.links)
    checks = config.checks.model_copy(update={"shapes": tuple(map(absolute, config.checks.shapes))})
    return config.model_copy(update={"graph": graph, "sources": sources, "links": links, "checks": checks})


def config_schema() -> dict[str, Any]:
    """The JSON schema of a config file."""
    schema = Config.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "mmkg graph"
    return schema
