"""How we behave on other people's servers: who we say we are, how long we wait, where we let ourselves be sent."""

import contextlib
import datetime
import email.utils
import ipaddress
import random
import re
import threading
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version

import httpx

from mmkg.errors import FetchError

MAX_REDIRECTS = 10
MAX_WAIT_SECONDS = 600.0  # a server that asks for more is left alone until the next run
_MAX_BACK_OFF_SECONDS = 60.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({408, 425, 429})  # of the 4xx, those that another try may mend

_turns: dict[str, threading.Lock] = {}
_turns_guard = threading.Lock()


class Unreachable(FetchError):  # noqa: N818 - reads as what it says
    """A file's own host does not answer, or says that it cannot at the moment; what lies on disk may still be good."""


class Transient(Exception):  # noqa: N818 - not shown to users: the download tries again
    """This attempt failed, and another one may not.

    Args:
        reason: in the words of a message.
        wait_seconds: how long the server asks us to wait.
    """

    def __init__(self, reason: str, wait_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


class StartAgain(Transient):
    """What lies on disk is not the beginning of what the server gives now: from the first byte, at once."""


class Refused(Exception):  # noqa: N818 - not shown to users: the download goes to the next address
    """This address will not give the file, however often it is asked."""


def user_agent(contact: str) -> str:
    """What we call ourselves: ``mmkg/0.1.0 (+mail@example.org)``; without the part in brackets on this machine."""
    name = f"mmkg/{version('mmkg')}"
    return f"{name} (+{contact})" if contact else name


def shown_url(url: str | httpx.URL) -> str:
    """A URL as it may stand in a message, a log or a file: without user name, password and fragment."""
    with contextlib.suppress(httpx.InvalidURL):
        if (read := httpx.URL(url)).host:
            return str(read.copy_with(userinfo=b"", fragment=None))
    return re.sub(r"^[^/]*@|(?<=//).*@", "", str(url), flags=re.DOTALL)  # no URL of the web: all up to the last @ goes


def check_address(address: httpx.URL, contact: str) -> None:
    """Check that an address is one that we ask, and that we say who asks.

    Raises:
        FetchError: the host is not this machine, and there is no contact, or one that a header cannot hold.
        Refused: the address is not http(s), or has no host.
    """
    if address.scheme not in {"http", "https"} or not address.host:
        raise Refused(f"{shown_url(address)} is not an address of http or https")
    check_contact(contact, asked="" if _is_here(address.host) else shown_url(address))


def check_contact(contact: str, *, asked: str) -> None:
    """Check that we can say who asks.

    Args:
        contact: e-mail address or URL.
        asked: what is to be fetched from another machine, for the message; empty where no contact is needed.

    Raises:
        FetchError: there is no contact though one is needed, or it is one that a header cannot hold.
    """
    if not (contact.isascii() and contact.isprintable()):
        raise FetchError(
            f"the contact {contact!r} cannot stand in a User-Agent. Set `contact` in [fetch] to an e-mail "
            "address or a URL."
        )
    if asked and not contact.strip():
        raise FetchError(
            f"{asked}: nothing is fetched from other machines without a contact. Set `contact` in [fetch] "
            "to an e-mail address or a URL where the owner of the server finds you."
        )


def _is_here(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


@contextlib.contextmanager
def host_turn(url: str) -> Iterator[None]:
    """Wait until no other thread of this process asks the same host, so that it has one connection of ours."""
    try:
        host = httpx.URL(url).netloc.decode()
    except httpx.InvalidURL:  # is refused when it is asked
        host = url
    with _turns_guard:
        turn = _turns.setdefault(host, threading.Lock())
    with turn:
        yield


def open_client(contact: str, timeout_seconds: float) -> httpx.Client:
    """A client that names us, asks for bytes as they are, and does not wait for ever. Proxies: of the environment."""
    headers = {"User-Agent": user_agent(contact), "Accept": "*/*", "Accept-Encoding": "identity"}
    return httpx.Client(headers=headers, timeout=timeout_seconds, follow_redirects=False)


@contextlib.contextmanager
def open_answer(
    client: httpx.Client, url: str, headers: Mapping[str, str], *, contact: str
) -> Iterator[httpx.Response]:
    """Ask for a URL, go where it sends us, and give the answer with its body still to be read.

    Every address on the way is checked as the first one. A password in a URL goes to its own host only.

    Raises:
        Refused: it sends us in a circle, too far, away from https to http, or to something that is no web address.
        Transient: it says that it cannot at the moment, or the connection broke, here or in the ``with`` block.
    """
    try:
        address = httpx.URL(url)
        seen = {address}
        while True:
            check_address(address, contact)
            answer = client.send(client.build_request("GET", address, headers=headers), stream=True)
            with contextlib.closing(answer):
                if answer.status_code not in _REDIRECTS or "location" not in answer.headers:
                    _check_status(answer)
                    yield answer
                    return
                address = _next_address(address, answer.headers["location"])
            if address in seen:
                raise Refused(f"sends us in a circle, to {shown_url(address)} again")
            seen.add(address)
            if len(seen) > MAX_REDIRECTS + 1:
                raise Refused(f"sends us on more than {MAX_REDIRECTS} times, at last to {shown_url(address)}")
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise Refused(f"is not an address of http or https: {error}") from error
    except httpx.TransportError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise Refused(f"shows a certificate that is not trusted: {error}") from error
        raise Transient(_explain(error)) from error


def _next_address(address: httpx.URL, location: str) -> httpx.URL:
    further = address.join(location)
    if address.scheme == "https" and further.scheme == "http":
        raise Refused(f"sends us from https to {shown_url(further)}, where anybody on the way could change the file")
    return further


def may_pass(status: int) -> bool:
    """Whether another try may mend an HTTP status that is a failure."""
    return status in _PASSING or (500 <= status < 600 and status not in {501, 505})


def _check_status(answer: httpx.Response) -> None:
    """Let through what the download knows how to read: 200, 206, 304 and 416."""
    status = answer.status_code
    if status in {200, 206, 304, 416}:
        return
    said = f"answers {status} {answer.reason_phrase}".rstrip()
    if may_pass(status):
        raise Transient(said, read_retry_after(answer.headers.get("retry-after")))
    raise Refused(said)


def read_retry_after(value: str | None) -> float | None:
    """Seconds that a ``Retry-After`` header asks for, given as seconds or as a date; None when it says nothing.

    >>> read_retry_after("120"), read_retry_after("soon"), read_retry_after("Thu, 01 Jan 1970 00:00:00 GMT")
    (120.0, None, 0.0)
    """
    if value is None:
        return None
    value = value.strip()
    if value.isdecimal():
        return float(value)
    until = read_http_date(value)
    return None if until is None else max(0.0, until - time.time())


def read_http_date(value: str | None) -> float | None:
    """Seconds since 1970 of a date in a header, or None when there is none."""
    try:
        date = email.utils.parsedate_to_datetime(value) if value else None
        if date is None:
            return None
        return (date if date.tzinfo else date.replace(tzinfo=datetime.UTC)).timestamp()  # "-0000" is UTC, by RFC 5322
    except (ValueError, OverflowError):
        return None


def back_off(failures: int, asked_seconds: float | None, first_seconds: float) -> float:
    """How long to wait after so many failures in a row (from 1): twice as long each time, or by chance down to half.

    What the server asks for is waited in any case, and a little more: not all who were sent away return at once.
    """
    doubled = min(_MAX_BACK_OFF_SECONDS, first_seconds * 2.0 ** min(failures - 1, 30))
    by_chance: float = random.uniform(0.5, 1.0) * doubled
    return by_chance if asked_seconds is None else asked_seconds + min(by_chance, first_seconds)


def _explain(error: httpx.TransportError) -> str:
    """A broken connection in words."""
    if isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout):
        return "does not answer in time"
    if isinstance(error, httpx.TimeoutException):
        return "is silent for too long"
    if isinstance(error, httpx.ConnectError):
        return f"cannot be reached ({error})"
    return f"breaks the connection ({error or type(error).__name__})"
