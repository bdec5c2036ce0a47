"""What the owner of a server lets us have: robots.txt (RFC 9309), and ``X-Robots-Tag`` for machine learning.

robots.txt of an origin is got once in a run. No such file, or any other answer of 4xx: everything is allowed.
A server that fails with it (5xx, silence) allows nothing for now. Our group is ``mmkg``, else ``*``.
"""

import dataclasses
import re
import threading
from collections import Counter
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

from protego import Protego

PRODUCT = "mmkg"
MAX_ROBOTS_BYTES = 512 * 1024  # RFC 9309, 2.5: 500 KiB at least; a longer one counts as a failure of its server
_PATIENCE_SECONDS = 3.0  # for which a thread waits for another one that asks for the same robots.txt
NO_AI = frozenset({"noai", "noimageai"})
_AGENT = re.compile(r"\s*(?:user-agent|useragent|user\s+agent)(?:\s*:|\s)(?P<name>[^#]*)", re.IGNORECASE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RobotsFile:
    """What came of asking for a robots.txt."""

    text: str = ""  # empty where there is none
    failure: str = ""  # in words, where the server failed with it, or could not be asked just now
    was_asked: bool = True


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether an address may be asked for."""

    status: str  # allowed | robots | robots_unreachable | robots_wait: not yet, ask again
    detail: str = ""


def origin_of(url: str) -> str:
    """Scheme, host and port, as robots.txt is one's of.

    >>> origin_of("https://a.example:8443/x/y.png?z#f")
    'https://a.example:8443'
    """
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], "", "", ""))


class Robots:
    """The robots.txt of all origins of a run; thread-safe.

    Args:
        attempts: how often one is asked for while its server fails.
        slow_down: is told the origin and the seconds of a ``Crawl-delay``.
    """

    def __init__(self, *, attempts: int, slow_down: Callable[[str, float], None]) -> None:
        self._attempts = attempts
        self._slow_down = slow_down
        self._known: dict[str, Protego | Verdict] = {}
        self._failures: Counter[str] = Counter()
        self._turns: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def check(self, url: str, ask: Callable[[str], RobotsFile]) -> Verdict:
        """Whether an address may be asked for; the first of an origin gets its robots.txt by `ask`, others wait."""
        rules = self._rules(origin_of(url), ask)
        if isinstance(rules, Verdict):
            return rules
        if rules.can_fetch(url, PRODUCT):
            return Verdict("allowed")
        return Verdict("robots", f"{origin_of(url)}/robots.txt does not let {PRODUCT} have it")

    def _rules(self, origin: str, ask: Callable[[str], RobotsFile]) -> Protego | Verdict:
        with self._guard:
            if (rules := self._known.get(origin)) is not None:
                return rules
            turn = self._turns.setdefault(origin, threading.Lock())
        if not turn.acquire(timeout=_PATIENCE_SECONDS):
            return Verdict("robots_wait", f"{origin}/robots.txt: is being asked for")
        try:
            if (rules := self._known.get(origin)) is None:
                rules = self._read(origin, ask(f"{origin}/robots.txt"))
        finally:
            turn.release()
        return rules

    def _read(self, origin: str, file: RobotsFile) -> Protego | Verdict:
        if file.failure:
            self._failures[origin] += file.was_asked
            if self._failures[origin] < self._attempts:
                return Verdict("robots_wait", f"{origin}/robots.txt: {file.failure}")
            self._known[origin] = Verdict("robots_unreachable", f"{origin}/robots.txt: {file.failure}")
            return self._known[origin]
        rules = Protego.parse(_with_few_names(file.text))
        if delay := rules.crawl_delay(PRODUCT):
            self._slow_down(origin, delay)
        self._known[origin] = rules
        return rules


def _with_few_names(text: str) -> str:
    """A robots.txt in which all whose rules are not ours have one name.

    Protego keeps each rule of a group once for each of its names: those of a hostile file would fill the memory.
    """
    lines = text.removeprefix("\ufeff").splitlines()
    return "\n".join(f"User-agent: {_name(found['name'])}" if (found := _AGENT.match(line)) else line for line in lines)


def _name(agent: str) -> str:
    """A name as Protego takes it: without wildcards, and ours where ours begins with it."""
    plain = agent.strip().lower()
    name = plain if plain in {"", "*"} else plain.replace("*", "") or "other"
    return name if name == "*" or PRODUCT.startswith(name) else "other"


def find_no_ai(value: str) -> str | None:
    """The directive of ``X-Robots-Tag`` that keeps a picture from machine learning, or None.

    A directive may be for one robot by its name (``otherbot: noai``). Several headers come joined by commas, so that
    nobody can tell where one ends: a directive without a name is taken to be for all, which leaves alone rather one
    picture too many. What is not about machine learning (``noindex``, ``none``) is not ours to heed here.

    >>> find_no_ai("noindex, mmkg: noimageai"), find_no_ai("noindex, otherbot: noai")
    ('noimageai', None)
    """
    for part in value.lower().split(","):
        name, colon, directive = part.rpartition(":")
        if directive.strip() in NO_AI and (not colon or name.strip() in {PRODUCT, "*"}):
            return directive.strip()
    return None
