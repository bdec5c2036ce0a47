"""What a new version must pass before it is served, and who is told."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mmkg.config.section import Section


class ChecksConfig(Section):
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
    max_null_share: dict[Literal["label", "description", "types"], Annotated[float, Field(ge=0, le=1)]] = Field(
        default={}
    )
    """Entities with nothing in a column, over all entities: column → limit."""
    min_licence_share: float | None = Field(default=None, ge=0, le=1)
    """Triples, and literals, that a source with an allowed licence states, over all of them."""
    licences: tuple[str, ...] = ()
    """Allowed licences, as patterns in any case such as "CC BY*"; any licence that is known unless set."""
    max_pictures_lost: float | None = Field(default=None, ge=0, le=1)
    """How much smaller than the version being served the new one may be, in pictures that are kept."""
    max_picture_failures: float | None = Field(default=None, ge=0, le=1)
    """Addresses of pictures that gave nothing, over all of them."""
    min_picture_licence_share: float | None = Field(default=None, ge=0, le=1)
    """Pictures that are kept and have an allowed licence, over all that are kept."""
    shapes: tuple[str, ...] = ()
    """SHACL files to check the graph against (small graphs: it is held in memory)."""
    shacl_max_triples: int = Field(default=200_000, ge=0)
    """Graphs of more statements are not checked by SHACL, and the report says so."""


class NotifyConfig(Section):
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
