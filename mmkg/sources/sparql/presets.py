"""What known endpoints allow, and what a pull therefore asks for: the settings of a config with the preset's behind.

Before the way of a fact begins: nothing has been asked yet.
"""

import ipaddress
import urllib.parse
from dataclasses import dataclass, replace

from mmkg.config import SparqlConfig
from mmkg.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much is asked for at a time, and how often."""

    max_rows: int | None  # the endpoint cuts answers at so many rows without saying so; None: no such limit is known
    page_rows: int  # statements asked for at a time, below max_rows
    delay_seconds: float  # between the beginnings of two requests
    timeout_seconds: float
    connections: int
    attempts: int = 6
    max_answer_bytes: int = 256 * 2**20


PRESETS: dict[str, Limits] = {
    # No facts known: one connection, and a page that any server can make.
    "generic": Limits(max_rows=None, page_rows=10_000, delay_seconds=0.2, timeout_seconds=60, connections=1),
    # ResultSetMaxRows 10,000, MaxQueryExecutionTime 120 s, 50 connections and 100 requests/s per address; cut and
    # timed-out answers are HTTP 200. Source: https://wiki.dbpedia.org/public-sparql-endpoint . We ask for far less than
    # is allowed, and stop 10 s before the server would give a partial answer.
    "dbpedia": Limits(max_rows=10_000, page_rows=9_000, delay_seconds=0.5, timeout_seconds=110, connections=2),
    # 60 s a query, 60 s of processing and 30 errors a minute per address and User-Agent, then 429 with Retry-After;
    # one request at a time is asked for; no cap on rows. Source:
    # https://www.mediawiki.org/wiki/Wikidata_Query_Service/User_Manual#Query_limits
    "wikidata": Limits(max_rows=None, page_rows=20_000, delay_seconds=1, timeout_seconds=55, connections=1),
    # ResultSetMaxRows = 10000 stands in the virtuoso.ini that is delivered. Source:
    # https://docs.openlinksw.com/virtuoso/dbadm/ , section [SPARQL]
    "virtuoso": Limits(max_rows=10_000, page_rows=9_000, delay_seconds=0, timeout_seconds=60, connections=2),
}


def limits_of(config: SparqlConfig) -> Limits:
    """The preset of a config with the config's own settings over it.

    Raises:
        ConfigError: a page would be as large as the endpoint's answers can be, so that a cut could not be told.
    """
    preset = PRESETS[config.preset]
    limits = replace(
        preset,
        max_rows=preset.max_rows if config.max_rows is None else config.max_rows,
        delay_seconds=preset.delay_seconds if config.delay_seconds is None else config.delay_seconds,
        timeout_seconds=preset.timeout_seconds if config.timeout_seconds is None else config.timeout_seconds,
        connections=preset.connections if config.connections is None else config.connections,
        attempts=config.attempts,
        max_answer_bytes=config.max_answer_bytes,
    )
    page_rows = preset.page_rows if config.page_rows is None else config.page_rows
    if limits.max_rows is None:
        return replace(limits, page_rows=page_rows)
    if config.page_rows is None:
        return replace(limits, page_rows=max(1, min(page_rows, limits.max_rows * 9 // 10)))
    if page_rows >= limits.max_rows:
        raise ConfigError(
            f"sparql: page_rows = {page_rows:,} is not below the {limits.max_rows:,} rows at which {config.endpoint} "
            "cuts its answers, so that a whole page could not be told from a cut one. Set a smaller page_rows, or "
            "max_rows to what the endpoint really allows."
        )
    return replace(limits, page_rows=page_rows)


def is_loopback(url: str) -> bool:
    """Whether a URL names this very machine."""
    host = urllib.parse.urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_contact(config: SparqlConfig) -> None:
    """Nothing is pulled from other machines by somebody who cannot be asked to stop.

    Raises:
        ConfigError: the endpoint is on another machine, and the config has no contact.
    """
    if not config.contact and not is_loopback(config.endpoint):
        raise ConfigError(
            f"sparql: {config.endpoint} is on another machine, and `contact` is not set. Its owner must be able to "
            'reach you: set contact = "name@example.org" (or a URL) in [sources.sparql]; it is sent as User-Agent.'
        )
