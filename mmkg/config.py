"""One TOML file describes one graph. Every stage reads its own part; unknown keys are errors that name the nearest one.

``schemas/config/mmkg.schema.json`` is printed from these models, so that an editor completes the file.
"""

import difflib
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mmkg.errors import ConfigError

_MAX_SOURCES = 63  # bits of a `sources` column without its sign
_IRI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\x00-\x20<>\"{}|^`\\]+")  # as SPARQL spells it between < and >


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
    """Where the relational steps run; both give the same tables."""
    spark_master: str = ""
    """Engine spark: URL of the cluster, such as spark://HOST:7077; this machine unless set (see docs/spark.md)."""
    keep_builds: int = Field(default=3, ge=1)
    """How many finished builds stay on disk; older ones are removed after a successful build."""

    @property
    def folder(self) -> Path:
        """Folder of all versions and stages of the graph."""
        return self.output / self.name


class SparqlConfig(_Section):
    """What a source of kind ``sparql`` pulls from an endpoint; exactly one of classes, predicates and query."""

    endpoint: str
    """URL of the endpoint, such as https://dbpedia.org/sparql."""
    preset: Literal["generic", "dbpedia", "wikidata", "virtuoso"] = "generic"
    """Whose limits the settings below start from."""
    contact: str = Field(default="", pattern=r"^[^\r\n]*$")
    """E-mail address or URL in the User-Agent; nothing is pulled from other machines without it."""
    graph: str = ""
    """IRI of the graph that is asked; the endpoint's default graph unless set."""
    classes: tuple[str, ...] = ()
    """IRIs: all statements about the instances of these classes."""
    predicates: tuple[str, ...] = ()
    """IRIs: all statements with these predicates."""
    query: str = ""
    """An own CONSTRUCT query without LIMIT, OFFSET and ORDER BY."""
    max_rows: int | None = Field(default=None, ge=2)
    """Rows at which the endpoint cuts its answers; the preset's unless set."""
    page_rows: int | None = Field(default=None, ge=1)
    """Statements asked for at a time, fewer than `max_rows`; the preset's unless set."""
    delay_seconds: float | None = Field(default=None, ge=0)
    """Wait between the beginnings of two requests; the preset's unless set."""
    timeout_seconds: float | None = Field(default=None, gt=0)
    """How long a page may take before it is cut in two; the preset's unless set."""
    connections: int | None = Field(default=None, ge=1)
    """Requests at the same time; the preset's unless set."""
    attempts: int = Field(default=6, ge=1)
    """How often a request is tried while the endpoint is busy or cannot be reached."""
    max_answer_bytes: int = Field(default=256 * 2**20, ge=1024)
    """A larger answer is cut off, and its range cut in two."""
    max_age_hours: float = Field(default=20, ge=0)
    """A finished pull that is younger is used again."""

    @field_validator("endpoint")
    @classmethod
    def _is_http(cls, endpoint: str) -> str:
        if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s#]*)?", endpoint):
            raise ValueError(f"'{endpoint}' is no http(s) URL of an endpoint, such as https://dbpedia.org/sparql")
        return endpoint

    @field_validator("classes", "predicates")
    @classmethod
    def _are_iris(cls, iris: tuple[str, ...]) -> tuple[str, ...]:
        for iri in iris:
            if not _IRI.fullmatch(iri):
                raise ValueError(f"'{iri}' is no whole IRI, such as http://dbpedia.org/ontology/Film")
        return tuple(dict.fromkeys(iris))

    @model_validator(mode="after")
    def _asks_for_one_thing(self) -> "SparqlConfig":
        if sum(map(bool, (self.classes, self.predicates, self.query.strip()))) != 1:
            raise ValueError("set exactly one of `classes`, `predicates` and `query`")
        if self.graph and not _IRI.fullmatch(self.graph):
            raise ValueError(f"graph = '{self.graph}' is no whole IRI")
        return self


class SourceConfig(_Section):
    """One source: a kind, its dumps, and what only that kind knows."""

    kind: str
    """freebase | dbpedia | yago | mmkb | ntriples | tsv | sparql"""
    paths: tuple[str, ...] = ()
    """Files, folders or globs, relative to the config file."""
    urls: tuple[str, ...] = ()
    """Dumps to fetch before each build, by http(s); one that has not changed is not fetched again (see `fetch`)."""
    sha256: dict[str, str] = {}
    """What the file of a URL must be: URL → SHA-256 in hex, or the URL of a file of checksums."""
    sparql: SparqlConfig | None = None
    """Kind sparql: what is pulled from which endpoint."""
    name: str = ""
    """What provenance calls it; the kind unless set. Two entities of one source are never merged (see `identity`)."""
    licence: str = ""
    """Under which licence its statements are, such as CC BY-SA 4.0; that of the kind unless set (see `checks`)."""
    split: Literal["", "train", "valid", "test"] = ""
    """These dumps are one split of a benchmark."""
    base_iri: str = ""
    """What relative names of a TSV are put behind; the kind's own namespace unless set."""
    fold_cvt: bool = False
    """Freebase: replace compound value nodes by direct relations between what they tie together."""
    drop_redundant: bool = True
    """Freebase: lines that only repeat another (type.type.instance, reverse properties) go to the ledger."""

    @model_validator(mode="after")
    def _says_where_its_statements_come_from(self) -> "SourceConfig":
        if (self.kind == "sparql") != (self.sparql is not None):
            raise ValueError("kind = 'sparql' and the section [sources.sparql] go together")
        if self.sparql is not None and (self.paths or self.urls):
            raise ValueError("a source of kind sparql has no `paths` and no `urls`")
        if self.sparql is None and not (self.paths or self.urls):
            raise ValueError("set `paths` (files of this machine) or `urls` (files to fetch)")
        return self

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
    """embedded: a database inside the build; neo4j://HOST:7687, neo4j+s:// or bolt://: a Neo4j server, loaded live."""
    user: str = "neo4j"
    """Neo4j: who loads and asks. The password is in the environment."""
    password_env: str = "NEO4J_PASSWORD"  # noqa: S105 - the name of a variable
    """Neo4j: the environment variable with the password."""
    database: str = "neo4j"
    """Neo4j: which database; Community edition has only this one."""
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


class FetchConfig(_Section):
    """How dumps that `[[sources]]` name by URL are fetched."""

    contact: str = ""
    """E-mail address or URL in the User-Agent; nothing is fetched from other machines without it."""
    mirrors: tuple[str, ...] = ()
    """Bases to try, in this order, when a file's own host does not answer: the file's name is put behind."""
    attempts: int = Field(default=5, ge=1)
    """Failures in a row before the next mirror is tried; one that brought us on is none."""
    timeout_seconds: float = Field(default=60, gt=0)
    """How long a server may be silent."""
    back_off_seconds: float = Field(default=1, ge=0)
    """The first wait after a failure; later ones are doubled, and `Retry-After` is obeyed in any case."""
    if_unreachable: Literal["fail", "keep"] = "fail"
    """keep: build with the copy of the last time when no host answers, and say so."""


class NotifyConfig(_Section):
    """Who is told how a scheduled rebuild ended. A hook that fails is logged, and fails nothing."""

    command: tuple[str, ...] = ()
    """Program and arguments; gets the message as JSON on standard input."""
    webhook: str = ""
    """URL that gets the message as JSON by POST."""
    webhook_env: str = ""
    """The environment variable with that URL, where it is a secret."""
    when: Literal["failure", "change", "always"] = "change"
    """failure: only when something went wrong; change: also when a new version is served; always: also when nothing
    has changed."""
    timeout_seconds: float = Field(default=30, gt=0)
    """How long a hook may take."""

    @model_validator(mode="after")
    def _one_webhook(self) -> "NotifyConfig":
        if self.webhook and self.webhook_env:
            raise ValueError("set `webhook` or `webhook_env`, not both")
        if self.webhook and not self.webhook.startswith(("http://", "https://")):
            raise ValueError(f"webhook is '{self.webhook}', expected a URL that begins with http:// or https://")
        return self


class ChecksConfig(_Section):
    """What stops a bad build from being served; a check without a number is off. docs/checks.md has an example of each.

    Those that speak of the version being served are not tried on the first build.
    """

    max_reject_share: float | None = Field(default=None, ge=0, le=1)
    """Rejected lines over all lines, of each dump."""
    max_triples_lost: float | None = Field(default=None, ge=0, le=1)
    """How much smaller than the version being served the new one may be, in triples."""
    max_relation_drift: float | None = Field(default=None, ge=0)
    """By which share the count of a relation, or of an attribute, may grow or shrink; 1 if it vanishes."""
    min_relation_count: int = Field(default=100, ge=1)
    """Relations and attributes with fewer statements in the version being served are not held to max_relation_drift."""
    max_source_drift: float | None = Field(default=None, ge=0)
    """By which share the triples, or the literals, that a source states may grow or shrink."""
    max_entities_lost: float | None = Field(default=None, ge=0, le=1)
    """Entities of the version being served whose id is gone, over all of its entities; an id that another entity now
    has as an alias is not gone."""
    max_orphan_share: float | None = Field(default=None, ge=0, le=1)
    """Entities without any triple, over all entities."""
    max_unlabelled_share: float | None = Field(default=None, ge=0, le=1)
    """Entities without label, over all entities."""
    max_null_share: dict[Literal["label", "description", "types"], Annotated[float, Field(ge=0, le=1)]] = {}
    """Entities with nothing in a column, over all entities: column → limit."""
    min_licence_share: float | None = Field(default=None, ge=0, le=1)
    """Triples, and literals, that a source with an allowed licence states, over all of them."""
    licences: tuple[str, ...] = ()
    """Allowed licences, as patterns in any case such as "CC BY*"; any licence that is known unless set."""
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
    fetch: FetchConfig = FetchConfig()
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
