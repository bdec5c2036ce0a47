"""Pictures of the web, asked for politely: threads take what the queues give, every try becomes an attempt.

What one address goes through: its host's turn (`queues`, `politeness`), robots.txt of each server on the way
(`robots`), the request with its checks and limits (`mmkg.web.bounded`), and a look at the headers and the bytes that
came (`answers`). A failure that may pass goes back to its host's queue, `attempts` times in a run.
"""

import contextlib
import datetime
import queue
import threading
from collections.abc import Callable, Generator
from typing import NoReturn

import pyarrow as pa

from mmkg.config.images import ImageFetchConfig
from mmkg.errors import ImageError
from mmkg.images.answers import read_answer
from mmkg.images.pages import NotNow, PageFinder
from mmkg.images.politeness import FIRST_BACK_OFF_SECONDS, Closed, Lease, Politeness, host_of
from mmkg.images.queues import HostQueues, Taken
from mmkg.images.recorder import Attempt, Backlog
from mmkg.images.robots import MAX_ROBOTS_BYTES, Robots, RobotsFile
from mmkg.images.wikimedia import PageInfo, smaller_thumbnail
from mmkg.web.addresses import Failure, read_target
from mmkg.web.bounded import Answer, BoundedClient, Limits, Skip
from mmkg.web.manners import back_off, check_contact, shown_url

_PATIENCE_SECONDS = 3.0  # for which a thread waits for a host; beyond, the address goes back to the queue
_NOT_NOW = "not_now"
_THROTTLED = frozenset({429, 503})
_OF_THE_HOST = frozenset({"unknown_host", "private_address", "tls"})  # no other address of it would fare better
_ROBOTS_UNKNOWN = frozenset({"coding", "too_large"})
_OURS = frozenset({_NOT_NOW, "host_waits", "host_down", "robots_unreachable"})  # no answer of the host


def open_client(config: ImageFetchConfig, contact: str) -> BoundedClient:
    """A client within the limits of a config.

    Raises:
        FetchError: there is no contact, or one that a header cannot hold.
    """
    limits = Limits(
        max_bytes=config.max_bytes,
        max_seconds=config.max_seconds,
        timeout_seconds=config.timeout_seconds,
        max_redirects=config.max_redirects,
        schemes=config.schemes,
        allow_loopback=config.allow_loopback,
    )
    return BoundedClient(contact=contact, limits=limits, connections=config.connections)


def check_who_asks(config: ImageFetchConfig, contact: str, urls: pa.Array) -> None:
    """Check that we say who asks, before anybody is asked.

    Raises:
        FetchError: there is no contact, and one of the addresses is not of this machine, or that is not allowed.
    """
    if contact.strip():
        check_contact(contact, asked="pictures")
        return
    for url in urls:
        with contextlib.suppress(Failure):  # nobody is asked for what is no address
            is_here = read_target(url.as_py(), config.schemes).is_here
            if not (is_here and config.allow_loopback):
                check_contact(contact, asked=shown_url(url.as_py()))


class Fetcher:
    """Asks for what is due; one run.

    Args:
        config: how politely.
        client: within the limits of the config; closed by the caller.
        backlog: bounds what is begun and not on disk yet.
        now: the time of an attempt.
        pages: finds licence and author of a file; without it nobody is asked for them.
    """

    def __init__(
        self,
        config: ImageFetchConfig,
        client: BoundedClient,
        backlog: Backlog,
        *,
        now: Callable[[], datetime.datetime],
        pages: PageFinder | None = None,
    ) -> None:
        self._config = config
        self._client = client
        self._backlog = backlog
        self._now = now
        self._pages = pages
        self._politeness = Politeness(
            requests_per_second=config.requests_per_second,
            burst=config.burst,
            connections_per_host=config.connections_per_host,
            max_wait_seconds=config.max_wait_seconds,
            alone_until_known=config.robots,
        )
        self._queues = HostQueues(self._politeness)
        self._robots = Robots(
            attempts=config.attempts,
            slow_down=lambda origin, seconds: self._politeness.slow_down(host_of(origin), seconds),
        )
        self._tries: dict[int, int] = {}  # of the addresses that failed so far
        self._instead: dict[int, str] = {}  # what is asked in place of an address
        self._came: queue.SimpleQueue[Attempt | BaseException | None] = queue.SimpleQueue()

    def fetch(self, due: pa.Table) -> Generator[Attempt, None, None]:
        """Ask, and give every attempt as it ends, in no order; the backlog has room again when they are on disk.

        Args:
            due: columns of `mmkg.images.library.DUE`, each address once.
        """
        for item, url in enumerate(due["url"]):
            self._queues.add(host_of(url.as_py()), item)
        running = min(self._config.connections, due.num_rows)
        # Daemons: an interrupted run does not wait for servers.
        threads = [threading.Thread(target=self._work, args=(due,), daemon=True) for _ in range(running)]
        for thread in threads:
            thread.start()
        try:
            while running:
                match self._came.get():
                    case None:
                        running -= 1
                    case Attempt() as attempt:
                        yield attempt
                    case error:
                        raise error
        finally:
            self._queues.stop()
            self._backlog.stop()

    def _work(self, due: pa.Table) -> None:
        try:
            while self._backlog.begin() and (taken := self._queues.take()) is not None:
                known = {name: due[name][taken.item].as_py() for name in due.column_names}
                attempt = self._try(taken, known)
                if attempt is None:
                    self._backlog.end(1)
                    continue
                self._backlog.came(len(attempt.body))
                self._came.put(attempt)
                if attempt.is_last:
                    self._queues.done()
            self._backlog.end(1)
            self._came.put(None)
        except BaseException as error:  # noqa: BLE001 - is raised in the thread that reads the attempts
            self._came.put(error)

    def _try(self, taken: Taken, known: dict[str, str | None]) -> Attempt | None:
        """Ask for an address once; None when nobody was asked for it, and it waits in its queue again."""
        url = str(known["url"])
        if closed := taken.closed:
            return Attempt(url=url, tried_at=self._now(), status=closed.status, kind=closed.kind, detail=closed.detail)
        hops = 0

        def before_hop(address: str) -> None:
            nonlocal hops
            self._check_robots(taken.lease, address)
            self._wait_turn(taken.lease, address)
            hops += 1

        with contextlib.closing(taken.lease) as lease:
            try:
                page = self._find_page(taken.item, lease)
            except NotNow as not_now:
                self._queues.put_back(host_of(url), taken.item, not_now.wait_seconds)
                return None
            asked = self._instead.get(taken.item) or (page and page.thumbnail_url) or url
            answer = self._client.get(
                asked, _conditions(known), before_hop=before_hop, validated_url=known["final_url"]
            )
            self._note(lease, answer)
        if answer.status == _NOT_NOW and not hops:
            self._queues.put_back(host_of(url), taken.item, answer.retry_after_seconds or 0.0)
            return None
        wait = self._wait_before_next(taken.item, asked, answer)
        attempt = read_answer(url, answer, known, page, noai=self._config.noai, now=self._now(), is_last=wait is None)
        if wait is not None:
            self._queues.put_back(host_of(url), taken.item, wait)
        elif self._pages is not None:
            self._pages.forget(taken.item)
        return attempt

    def _check_robots(self, lease: Lease, url: str) -> None:
        """Let an address pass that robots.txt allows.

        Raises:
            Skip: it does not, or nobody can tell now.
        """
        if not self._config.robots:
            return
        verdict = self._robots.check(url, lambda address: self._ask_robots(lease, address))
        if verdict.status == "robots_wait":
            self._raise_not_now(host_of(url), FIRST_BACK_OFF_SECONDS, verdict.detail)
        self._politeness.known(host_of(url))
        if verdict.status != "allowed":
            raise Skip(verdict.status, verdict.detail, kind="permanent" if verdict.status == "robots" else "transient")

    def _ask_robots(self, lease: Lease, url: str) -> RobotsFile:
        answer = self._client.get(
            url, before_hop=lambda address: self._wait_turn(lease, address), max_bytes=MAX_ROBOTS_BYTES
        )
        self._note(lease, answer)
        if answer.status == "ok":
            return RobotsFile(text=answer.body.decode("utf-8", errors="replace"))
        if answer.status in {_NOT_NOW, "host_waits", "host_down"}:
            # Not a failure, unless it leads to a host that is closed: that one is not asked later in this run.
            leads_to_closed = answer.status != _NOT_NOW and not self._politeness.closed(host_of(url))
            return RobotsFile(failure=answer.detail, was_asked=leads_to_closed)
        status = answer.http_status or 0
        is_failure = answer.kind == "transient" or answer.status in _ROBOTS_UNKNOWN or status >= 500
        if not is_failure or (400 <= status < 500 and status != 429):
            return RobotsFile()  # none there; or a refusal of ours that the picture meets as well
        if status not in _THROTTLED:
            self._politeness.hold(host_of(url), None)
        return RobotsFile(failure=f"{answer.status}: {answer.detail}")

    def _wait_turn(self, lease: Lease, url: str) -> None:
        """Wait until a host may be asked.

        Raises:
            Skip: it is not asked any more, or not so soon.
        """
        host = host_of(url)
        if wait := lease.enter(host, _PATIENCE_SECONDS):
            self._raise_not_now(host, wait, f"{host} is not asked for another {wait:.0f} s")

    def _raise_not_now(self, host: str, wait: float, detail: str) -> NoReturn:
        if closed := self._politeness.closed(host):
            raise Skip(closed.status, closed.detail, kind=closed.kind)
        raise Skip(_NOT_NOW, detail, kind="transient", retry_after_seconds=wait)

    def _note(self, lease: Lease, answer: Answer) -> None:
        """Tell the politeness what a host's answer means for it: before the lease ends, and another begins."""
        host = lease.host
        if not lease.is_used or answer.final_url is None or host_of(answer.final_url) != host:
            return  # was refused here, nobody was asked
        if answer.http_status in _THROTTLED:
            self._politeness.hold(host, answer.retry_after_seconds)
        elif answer.status in _OF_THE_HOST:
            self._politeness.close(host, Closed(answer.status, answer.detail, answer.kind))
        elif answer.kind == "transient" and (answer.http_status is None or answer.http_status < 400):
            # A picture that ends too soon may be the picture's fault: its host answered, and is up.
            is_of_the_picture = answer.status == "cut" and answer.http_status == 200
            if answer.status not in _OURS and not is_of_the_picture:
                self._politeness.failed(host, f"{answer.status}: {answer.detail}")
        else:
            self._politeness.answered(host)

    def _find_page(self, item: int, lease: Lease) -> PageInfo | None:
        """What a wiki says about a file of its, now: licences change, files are renamed."""
        if self._pages is None:
            return None

        def ask(url: str) -> bytes:
            # Without robots.txt, which is about crawling: an API is there for programs.
            answer = self._client.get(url, before_hop=lambda address: self._wait_turn(lease, address))
            self._note(lease, answer)
            if answer.status == _NOT_NOW:
                raise NotNow(answer.retry_after_seconds or 0.0)
            if answer.kind != "ok" or answer.retry_after_seconds is not None:  # a wiki that lags says so with 200
                if answer.http_status not in _THROTTLED:
                    self._politeness.hold(host_of(url), answer.retry_after_seconds)
                raise ImageError(f"{shown_url(url)}: {answer.status}, {answer.detail}")
            return answer.body

        return self._pages.find(item, ask)

    def _wait_before_next(self, item: int, asked: str, answer: Answer) -> float | None:
        """In how many seconds an address is asked again in this run; None when it is not."""
        if answer.status == "http_400" and (smaller := smaller_thumbnail(asked)):
            self._instead[item] = smaller  # the original is not so wide; ends at the smallest width
            return 0.0
        tries = self._tries[item] = self._tries.get(item, 0) + 1
        host = host_of(answer.final_url or asked)
        is_done = answer.kind != "transient" or answer.status in {"robots_unreachable", "host_waits", "host_down"}
        if is_done or tries >= self._config.attempts or self._politeness.closed(host):
            self._tries.pop(item)
            return None
        if answer.status == _NOT_NOW or answer.http_status in _THROTTLED:
            return answer.retry_after_seconds or 0.0  # its host is held as a whole
        return back_off(tries, answer.retry_after_seconds, FIRST_BACK_OFF_SECONDS)


def _conditions(known: dict[str, str | None]) -> dict[str, str]:
    """Headers that ask for a picture only if it is another one than that which is here."""
    if known["sha256"] is None:
        return {}
    conditions = {"If-None-Match": known["etag"], "If-Modified-Since": known["last_modified"]}
    return {name: value for name, value in conditions.items() if value}
