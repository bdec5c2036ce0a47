"""What may become of a request to a stranger: every status, whether another try may mend it, and the answer itself."""

import dataclasses
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Literal

from mmkg.web import manners

Kind = Literal["ok", "transient", "permanent"]

STATUSES: Mapping[str, tuple[Kind, str]] = MappingProxyType(
    {
        "ok": ("ok", "came whole"),
        "unchanged": ("ok", "is what it was (304)"),
        "bad_url": ("permanent", "is not a URL of the web"),
        "bad_scheme": ("permanent", "has a scheme that is not asked"),
        "bad_port": ("permanent", "has a port that is not one of the web's"),
        "credentials": ("permanent", "has a user name or a password in it"),
        "no_contact": ("permanent", "sends us to another machine, and we have no contact to give"),
        "private_address": ("permanent", "is not on the public internet"),
        "unknown_host": ("permanent", "has a host that does not exist"),
        "lookup": ("transient", "has a host that cannot be looked up at the moment"),
        "refused_connection": ("transient", "refuses connections"),
        "connection": ("transient", "cannot be reached, or broke the connection"),
        "timeout": ("transient", "was silent for too long"),
        "too_slow": ("transient", "took too long in all"),
        "cut": ("transient", "ended before its end"),
        "tls": ("permanent", "has a certificate that is not trusted, or no TLS that we speak"),
        "protocol": ("permanent", "does not speak HTTP"),
        "coding": ("permanent", "is coded, though it was asked for as it is"),
        "too_large": ("permanent", "has more bytes than are taken"),
        "too_many_redirects": ("permanent", "sends us on too often"),
        "redirect_loop": ("permanent", "sends us in a circle"),
        "downgrade": ("permanent", "sends us from https to http"),
    }
)
"""What may become of a request, whether another try may mend it, and in words. Besides, ``http_404`` and its like."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may cost, and where it may go."""

    max_bytes: int  # of the body
    max_seconds: float  # in all
    timeout_seconds: float  # of silence
    max_redirects: int
    schemes: tuple[str, ...] = ("https", "http")
    allow_loopback: bool = False  # let this machine be asked: for tests


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """What became of one request."""

    status: str  # key of STATUSES, or http_404 and its like
    kind: Kind  # ok | transient | permanent
    http_status: int | None  # of the last answer
    detail: str  # in words, for a person
    final_url: str | None  # that was asked or refused last, without user name and password; None: longer than any
    headers: Mapping[str, str]  # of the last answer, by lower-case name; of a name with several lines, joined by commas
    body: bytes  # empty unless ok
    received: int  # bytes that came, headers and redirects among them
    seconds: float  # without the waits that were ours
    retry_after_seconds: float | None  # what the last answer asks for


class Skip(Exception):  # noqa: N818 - not an error: ends one request
    """Raised by `before_hop` to end the request.

    Args:
        status: of the answer, such as ``robots``.
        detail: in words.
        kind: whether another try may end otherwise.
        retry_after_seconds: when that would be.
    """

    def __init__(
        self, status: str, detail: str, *, kind: Kind = "permanent", retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.kind: Kind = kind
        self.retry_after_seconds = retry_after_seconds


def kind_of(status: str) -> Kind:
    """Whether a status is final: of a name in :data:`STATUSES`, or of an HTTP status such as ``http_404``.

    >>> kind_of("http_404"), kind_of("http_503"), kind_of("cut")
    ('permanent', 'transient', 'transient')
    """
    if status in STATUSES:
        return STATUSES[status][0]
    return "transient" if manners.may_pass(int(status.removeprefix("http_"))) else "permanent"


def in_words(status: str) -> str:
    """A status that has no more to say."""
    if status in STATUSES:
        return STATUSES[status][1]
    code = int(status.removeprefix("http_"))
    phrase = HTTPStatus(code).phrase if code in set(HTTPStatus) else ""
    return f"answers {code} {phrase}".rstrip()
