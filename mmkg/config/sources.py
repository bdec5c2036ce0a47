"""Where statements come from: dumps, endpoints, links between them, and how dumps are fetched."""

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from mmkg.config.section import Section

_IRI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\x00-\x20<>\"{}|^`\\]+")  # as SPARQL spells it between < and >


class SparqlConfig(Section):
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
    """A finished pull that began less than so long ago is used again."""
    max_resume_hours: float = Field(default=48, ge=0)
    """A pull that was killed is gone on with if it began less than so long ago, and is begun anew otherwise."""

    @field_validator("endpoint")
    @classmethod
    def _is_http(cls, endpoint: str) -> str:
        if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s#]*)?", endpoint):
            raise ValueError(
                f"'{endpoint}' is no http(s) URL of an endpoint without password, such as https://dbpedia.org/sparql"
            )
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


class SourceConfig(Section):
    """One source: a kind, its dumps, and what only that kind knows."""

    kind: str
    """freebase | dbpedia | yago | mmkb | ntriples | tsv | sparql"""
    paths: tuple[str, ...] = ()
    """Files, folders or globs, relative to the config file."""
    urls: tuple[str, ...] = ()
    """Dumps to fetch before each build, by http(s); one that has not changed is not fetched again (see `fetch`)."""
    sha256: dict[str, str] = Field(default={})
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


class LinkConfig(Section):
    """Identity links between sources."""

    kind: Literal["sameas", "mmkb"]
    """sameas: owl:sameAs statements in N-Triples or Turtle; mmkb: `/m/… <SameAs> <…> .`"""
    paths: tuple[str, ...] = Field(min_length=1)
    """Files, folders or globs, relative to the config file."""
    name: str = "links"
    """What provenance calls them."""


class FetchConfig(Section):
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
