"""One polite request to an endpoint, and whether its answer is whole as far as HTTP tells.

Before the way of a fact begins. SPARQLWrapper makes the request; the opening is ours, for it needs the headers of
errors (Retry-After), the headers of cut answers, and caps on bytes and time. Answers that are HTTP 200 and still not
whole are told by: any other 2xx status (Virtuoso 8 says 206), ``X-SPARQL-MaxRows`` (rows cut), ``X-SPARQL-Anytime``,
``X-SQL-State`` and ``X-SQL-Message`` (query stopped, partial result), a content type that is no JSON, a shorter body
than declared, JSON without its end. Sources: https://wiki.dbpedia.org/public-sparql-endpoint ;
https://docs.openlinksw.com/virtuoso/anytimequeries/ .
"""

import email.utils
import http.client
import logging
import random
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from email.message import Message
from importlib.metadata import version
from typing import Any

from mmkg.config import SparqlConfig
from mmkg.errors import FetchError, require
from mmkg.sources.sparql.answers import Bindings, BrokenAnswer, parse_answer
from mmkg.sources.sparql.presets import Limits, check_contact, is_loopback

logger = logging.getLogger(__name__)

BACKOFF_SECONDS = 1.0
"""First wait after "busy" without Retry-After; doubled each time, with up to half of it more by chance."""
MAX_BACKOFF_SECONDS = 120.0
MAX_RETRY_AFTER_SECONDS = 900.0
"""An endpoint that asks for a longer wait is left in peace: the pull stops, and goes on when it is started again."""
BROKEN_ATTEMPTS = 3
"""An answer that is broken is asked for again so often; after that its range is cut in two."""

_CHUNK_BYTES = 2**16
_TOO_SLOW = re.compile(rb"time[d]?[\s_-]*out|TimeoutException|S1T00|exceeds the limit of|QueryCancel|cancelled", re.I)
_PARTIAL_HEADERS = ("X-SPARQL-Anytime", "X-SQL-State", "X-SQL-Message")


class RequestFailed(Exception):  # noqa: N818 - never leaves this package
    """A query has no whole answer, and asking again for the same is in vain: its range should be cut.

    Args:
        kind: slow, large, broken or partial.
        found: what came, in words.
        cut_at: the row limit that the endpoint declares.
    """

    def __init__(self, kind: str, found: str, cut_at: int | None = None) -> None:
        super().__init__(found)
        self.kind, self.cut_at = kind, cut_at


class _Busy(Exception):  # noqa: N818
    def __init__(self, found: str, retry_after: float | None) -> None:
        super().__init__(found)
        self.retry_after = retry_after


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Asks the same at the new address, if that is http(s), and no way from the world into this machine."""

    def redirect_request(  # the signature is the library's
        self,
        req: Any,
        fp: Any,  # noqa: ARG002
        code: int,  # noqa: ARG002
        msg: str,  # noqa: ARG002
        headers: Any,  # noqa: ARG002
        newurl: str,
    ) -> Any:
        """Follow one redirect."""
        if not newurl.startswith(("http://", "https://")):
            raise FetchError(
                f"{req.full_url} sends us to {newurl}, which is not http(s). Nothing is fetched from there."
            )
        if is_loopback(newurl) != is_loopback(req.full_url):
            raise FetchError(
                f"{req.full_url} sends us to {newurl}: from another machine to this one, or the other way round. If "
                "that is meant, set it as `endpoint`."
            )
        kept = {name: value for name, value in req.header_items() if name.lower() not in {"content-length", "host"}}
        return urllib.request.Request(newurl, data=req.data, headers=kept, method=req.get_method())  # noqa: S310


class Endpoint:
    """Asks an endpoint, at most so often and so much at once as the limits say; may be used by several threads.

    Raises:
        ConfigError: the endpoint is on another machine and the config names no contact.
        NotInstalled: SPARQLWrapper is missing.
    """

    def __init__(self, config: SparqlConfig, limits: Limits) -> None:
        check_contact(config)
        self.url = config.endpoint
        self.requests = self.retried = 0
        self._graph = config.graph or None
        self._limits = limits
        self._wrapper = require("SPARQLWrapper", extra="sparql", needed_by="a source of kind sparql")
        contact = f" ({config.contact})" if config.contact else ""
        self._agent = f"mmkg/{version('mmkg')}{contact} SPARQLWrapper/{self._wrapper.__version__}"
        handlers: list[Any] = [_Redirects()]
        if is_loopback(self.url):
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)
        self._lock = threading.Lock()
        self._next_start = 0.0
        self._closing = threading.Event()

    def close(self) -> None:
        """Let threads that wait for their turn go; they raise FetchError."""
        self._closing.set()

    def select(self, query: str, *, may_be_cut: bool = False) -> Bindings:
        """The rows of a SELECT; with `may_be_cut` some of them will do.

        Raises:
            RequestFailed: no whole answer, and the same again would be in vain.
            FetchError: the endpoint cannot be reached, stays busy, or refuses.
        """
        busy = broken = 0
        while True:
            try:
                return self._ask(query, may_be_cut)
            except _Busy as error:
                busy += 1
                if busy >= self._limits.attempts:
                    raise FetchError(
                        f"{self.url} is busy or cannot be reached ({error}), {busy} times in a row. Start again later: "
                        "the pull goes on from where it is. Or set a longer delay_seconds, or fewer connections."
                    ) from error
                self._pause(error.retry_after, busy, str(error))
            except BrokenAnswer as error:
                broken += 1
                if broken >= BROKEN_ATTEMPTS:
                    raise RequestFailed("broken", f"{broken} times an answer that is not whole: {error}") from error
                self._pause(None, broken, str(error))
            with self._lock:
                self.retried += 1

    def _pause(self, retry_after: float | None, attempt: int, why: str) -> None:
        """Let all requests wait: the endpoint has asked for it, or something is wrong with it."""
        if retry_after is not None and retry_after > MAX_RETRY_AFTER_SECONDS:
            raise FetchError(
                f"{self.url} asks us to wait {retry_after:,.0f} s ({why}). Start again after that: the pull goes on "
                "from where it is."
            )
        backoff = min(MAX_BACKOFF_SECONDS, BACKOFF_SECONDS * 2.0 ** (attempt - 1)) * (1 + random.random() / 2)
        seconds = backoff if retry_after is None else retry_after
        logger.warning("%s: %s; waiting %.1f s", self.url, why, seconds)
        with self._lock:
            self._next_start = max(self._next_start, time.monotonic() + seconds)

    def _wait_for_turn(self) -> None:
        while True:
            with self._lock:
                now = time.monotonic()
                if now >= self._next_start:
                    self._next_start = now + self._limits.delay_seconds
                    self.requests += 1
                    return
                wait = self._next_start - now
            if self._closing.wait(wait):
                raise FetchError("the pull was stopped")

    def _ask(self, query: str, may_be_cut: bool) -> Bindings:
        wrapper = self._wrapper.SPARQLWrapper(self.url, agent=self._agent, defaultGraph=self._graph)
        wrapper.setMethod("POST")
        wrapper.setReturnFormat("json")
        wrapper.setOnlyConneg(True)
        wrapper.setQuery(query)
        wrapper.queryType = "SELECT"  # it guesses by looking for words, also in prefixes
        request = wrapper._createRequest()  # query() would open it without our opener
        self._wait_for_turn()
        deadline = time.monotonic() + self._limits.timeout_seconds
        try:
            with self._opener.open(request, timeout=self._limits.timeout_seconds) as response:
                cut = _sign_of_cut(response.status, response.headers)
                if cut is not None and not may_be_cut:
                    raise cut
                return parse_answer(self._read(response, deadline))
        except urllib.error.HTTPError as error:
            raise self._judge(error) from error
        except TimeoutError as error:
            raise self._slow() from error
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise self._slow() from error
            raise _Busy(f"cannot be reached: {error.reason}", None) from error
        except (http.client.HTTPException, ConnectionError) as error:
            raise BrokenAnswer(f"the connection was dropped: {error!r}") from error

    def _slow(self) -> RequestFailed:
        return RequestFailed("slow", f"no whole answer within {self._limits.timeout_seconds:g} s")

    def _read(self, response: Any, deadline: float) -> bytes:
        body = bytearray()
        while chunk := response.read1(_CHUNK_BYTES):
            body += chunk
            if len(body) > self._limits.max_answer_bytes:
                raise RequestFailed("large", f"more than {self._limits.max_answer_bytes:,} bytes")
            if time.monotonic() > deadline:
                raise self._slow()
        if response.length:  # what Content-Length promised and did not come
            raise BrokenAnswer(f"the connection was dropped {response.length:,} bytes before the end")
        if "json" not in (kind := response.headers.get_content_type()) and "javascript" not in kind:
            raise BrokenAnswer(f"{kind} instead of JSON: {bytes(body[:80])!r}")
        return bytes(body)

    def _judge(self, error: urllib.error.HTTPError) -> Exception:
        """What an HTTP status other than 2xx means for the range."""
        try:
            body = error.read(_CHUNK_BYTES)
        except (http.client.HTTPException, OSError) as unread:
            body = repr(unread).encode()
        finally:
            error.close()
        said = f"HTTP {error.code}, '{_excerpt(body)}'"
        if error.code in {408, 504, 524} or (error.code >= 400 and error.code != 429 and _TOO_SLOW.search(body)):
            return RequestFailed("slow", said)
        if error.code in {429, 503}:
            return _Busy(said, _retry_after(error.headers))
        if error.code >= 500 or error.code == 413:
            return BrokenAnswer(said)
        if error.code < 400:
            said += f", Location: {error.headers.get('Location')}"
        hints = {
            400: "It may not know SPARQL 1.1; try the query on its own page.",
            401: "It wants a password; this endpoint is not public.",
            403: "It refuses us; write to its owner, or use a dump.",
            404: "Look at the address in `endpoint`.",
        }
        return FetchError(f"{self.url} refused the query: {said}. {hints.get(error.code, 'Look at `endpoint`.')}")


def _sign_of_cut(status: int, headers: Mapping[str, str]) -> RequestFailed | None:
    rows = headers.get("X-SPARQL-MaxRows")
    if rows is not None:
        cut_at = int(rows) if rows.strip().isdigit() else None
        return RequestFailed("partial", f"the header X-SPARQL-MaxRows: {rows}", cut_at)
    for name in _PARTIAL_HEADERS:
        if (value := headers.get(name)) is not None:
            return RequestFailed("partial", f"the header {name}: {value[:100]}")
    return None if status == 200 else RequestFailed("partial", f"HTTP {status} instead of 200")


def _retry_after(headers: Message) -> float | None:
    """Seconds to wait, from a number or a date (RFC 9110, section 10.2.3)."""
    value = (headers.get("Retry-After") or "").strip()
    if re.fullmatch(r"\d{1,9}", value):
        return float(value)
    try:
        date = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    date = date.replace(tzinfo=UTC) if date.tzinfo is None else date
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


def _excerpt(body: bytes) -> str:
    text = re.sub(r"<[^>]*>", " ", body.decode("utf-8", "replace"))
    return " ".join(text.split())[:200]
