"""The pull: ranges are counted, cut until they fit a page, fetched, proved, and laid down in the order of keys.

The beginning of the way of a fact: it comes out of somebody else's service and becomes a line of a file of ours. A
range's page is kept only if as many different statements came as the endpoint had counted; what is cut, too slow or
broken is cut in two, down to single statements. Every step is a line of the ledger, so that a killed pull goes on.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mmkg.config import SparqlConfig
from mmkg.errors import FetchError
from mmkg.shards import digest
from mmkg.sources.sparql.endpoint import Endpoint, RequestFailed
from mmkg.sources.sparql.ledger import (
    Entry,
    Ledger,
    Progress,
    find_result,
    hold_folder,
    write_parts,
    write_result,
)
from mmkg.sources.sparql.presets import limits_of
from mmkg.sources.sparql.proof import find_changed_pages, find_changes
from mmkg.sources.sparql.queries import ORDER_QUERY
from mmkg.sources.sparql.selection import Selection
from mmkg.sources.sparql.selections import selections_of
from mmkg.sources.sparql.tree import Node, Tree
from mmkg.sources.sparql.work import Worker

logger = logging.getLogger(__name__)

PULL_VERSION = 1
"""Raised when the same endpoint would give other parts."""
MAX_ROUNDS = 3
"""So often ranges that have changed meanwhile are pulled again."""


@dataclass(frozen=True, kw_only=True)
class PullReport:
    """What a pull brought, and what it took."""

    folder: Path
    files: tuple[Path, ...]  # the parts, in order
    statements: int
    requests: int
    ranges: int  # pages that the parts are made of
    bisected: int  # ranges cut in two because an answer was cut, too slow, too large or broken
    retried: int  # requests that were made again
    resumed: int  # pages that an earlier, killed pull had brought
    seconds: float
    endpoint_total: int  # what the endpoint counts at the end


def pull(config: SparqlConfig, folder: Path, *, progress: Progress | None = None) -> PullReport:
    """Fetch all statements that a config asks for into a folder, as ``part-000000.nt.gz``…

    The folder is for this pull alone. A killed pull that began less than `max_resume_hours` ago goes on from its
    ledger, if some of its pages are still what they were; a finished one of the same settings that began less than
    `max_age_hours` ago is returned without a request. The same content gives the same parts, byte for byte.

    Args:
        config: endpoint, what is asked for, and limits.
        folder: where the parts go; is made.
        progress: called with the statements so far and the expected total.

    Raises:
        ConfigError: no contact, a query that cannot be paged, or a page as large as the endpoint's limit.
        FetchError: the endpoint cannot be reached, or completeness cannot be proved; names the range. Or another pull
            is at work in the folder.
        NotInstalled: SPARQLWrapper is missing.
    """
    with hold_folder(folder):
        return _pull_held(config, folder, progress)


def _pull_held(config: SparqlConfig, folder: Path, progress: Progress | None) -> PullReport:
    started = time.monotonic()
    asked = config.model_dump(include={"endpoint", "graph", "classes", "predicates", "query"})
    settings = digest([PULL_VERSION, asked])
    if (result := find_result(folder, settings, config.max_age_hours)) is not None:
        logger.info("%s: pulled at %s, not again", config.endpoint, result["finished"])
        parts = tuple(folder / part["name"] for part in result["parts"])
        unchanged = {name: result[name] for name in ("statements", "ranges", "endpoint_total")}
        nothing = {"requests": 0, "bisected": 0, "retried": 0, "resumed": result["ranges"], "seconds": 0.0}
        return PullReport(folder=folder, files=parts, **unchanged, **nothing)
    endpoint = Endpoint(config, limits_of(config))
    selections = selections_of(config)
    ledger = Ledger(folder, settings, config.max_resume_hours)
    try:
        report, tree = _pull(config, endpoint, selections, ledger, progress)
    finally:
        ledger.close()
    report = replace(report, seconds=time.monotonic() - started)
    facts = {name: value for name, value in asdict(report).items() if name not in {"folder", "files"}}
    parts_info = _lay_down(folder, tree, ledger)
    result = {"settings": settings, "started": ledger.started, **asked, **facts, "parts": parts_info}
    write_result(folder, result)
    ledger.remove()
    if 0 < config.max_age_hours * 3600 <= report.seconds:
        took = f"took {report.seconds / 3600:.1f} h, no less than max_age_hours"
        logger.warning("%s: the pull %s: the next build pulls all of it again. Set that to more.", endpoint.url, took)
    return replace(report, files=tuple(folder / part["name"] for part in parts_info))


def _pull(
    config: SparqlConfig,
    endpoint: Endpoint,
    selections: Sequence[Selection],
    ledger: Ledger,
    progress: Progress | None,
) -> tuple[PullReport, Tree]:
    tree = Tree(selections)
    worker = Worker(config, limits_of(config), endpoint, tree, ledger)
    resumed = _replay(tree, ledger)
    _check_order(endpoint)
    changed, is_reloaded = find_changed_pages(worker, tree)
    if changed:
        where = "; ".join(tree.describe(page) for page in changed)
        what = "all is pulled anew" if is_reloaded else "that is pulled again"
        since = f"since {ledger.started}, when a killed pull began"
        logger.warning("%s: %s, there changed: %s; %s", endpoint.url, since, where, what)
    if is_reloaded:
        ledger.begin_anew()
        tree, resumed = Tree(selections), 0
        worker = Worker(config, limits_of(config), endpoint, tree, ledger)
    else:
        for page in changed:
            _take(tree, ledger, {"step": "again", "range": page.range.range_id, "rows": page.page_rows})
            resumed -= 1
    for round_number in range(MAX_ROUNDS + 1):
        _work_off(worker, tree, ledger, progress)
        total, changes = find_changes(worker, tree)
        if not changes:
            break
        names = [tree.describe(node) for node, _ in changes]
        logger.warning("%s: changed while it was pulled: %s", endpoint.url, "; ".join(names[:5]))
        if round_number == MAX_ROUNDS:
            node, rows = changes[0]
            raise FetchError(
                f"{endpoint.url} keeps changing: {tree.describe(node)} had {node.total_rows:,} statements when it was "
                f"pulled and {rows:,} now, after {MAX_ROUNDS} pulls of what had changed; {len(changes)} ranges are so. "
                "Pull when it is quieter, or pull less at a time."
            )
        for node, rows in changes:
            _take(tree, ledger, {"step": "again", "range": node.range.range_id, "rows": rows})
    leaves = [leaf for leaf in tree.leaves() if leaf.page_sha256 is not None]
    if not leaves:
        raise FetchError(
            f"{endpoint.url} holds no statement of {', '.join(one.name for one in tree.selections)}. Look at the "
            "spelling of the IRIs, and whether the endpoint has them in its default graph (`graph`)."
        )
    report = PullReport(
        folder=ledger.folder,
        files=(),
        statements=sum(leaf.page_rows for leaf in leaves),
        requests=endpoint.requests,
        ranges=len(leaves),
        bisected=worker.bisected,
        retried=endpoint.retried,
        resumed=resumed,
        seconds=0.0,
        endpoint_total=total,
    )
    return report, tree


def _check_order(endpoint: Endpoint) -> None:
    """Ranges need servers that agree about the order of ASCII, and put it before everything else.

    Raises:
        FetchError: this one orders by the rules of a language, or cannot answer at all.
    """
    try:
        rows = endpoint.select(ORDER_QUERY)
    except RequestFailed as error:
        raise FetchError(
            f"{endpoint.url} does not answer the simplest query: {error}. Is this a SPARQL endpoint?"
        ) from error
    says = [row.get(name, {}).get("value") for row in rows for name in ("capitals", "accents", "signs")]
    if says != ["yes"] * 3:
        raise FetchError(
            f"{endpoint.url} does not compare strings by code as SPARQL 1.1 (section 17.3.2) asks for: expected yes, "
            f"yes, yes for 'Z' < 'a', 'z' < 'é', 'a-' < 'aB', found {says}. Its ranges cannot be trusted; use a dump."
        )


def _replay(tree: Tree, ledger: Ledger) -> int:
    """Take the steps of a killed pull again, without its requests; returns how many of its pages are whole."""
    for entry in ledger.entries[1:]:
        tree.take(entry)
    kept = 0
    for leaf in tree.leaves():
        if leaf.page_sha256 is None:
            continue
        if ledger.has_page(leaf.range.range_id, leaf.page_sha256):
            kept += 1
        else:
            tree.lose_page(leaf)
    return kept


def _take(tree: Tree, ledger: Ledger, entry: Entry) -> list[Node]:
    ledger.add(entry)
    return tree.take(entry)


def _work_off(worker: Worker, tree: Tree, ledger: Ledger, progress: Progress | None) -> None:
    """Do everything that is left, depth first, in `connections` threads; only this thread changes the tree."""
    waiting = tree.pending()[::-1]
    running: dict[Future[Entry], Node] = {}

    def take(future: Future[Entry]) -> None:
        node, entry = running.pop(future), future.result()
        waiting.extend(_take(tree, ledger, entry)[::-1])
        if entry["step"] == "page":
            logger.info("sparql: %s statements of %s", f"{node.page_rows:,}", tree.describe(node))
            if progress is not None:
                progress(tree.pulled_rows, max(tree.expected_rows, tree.pulled_rows))

    with ThreadPoolExecutor(max_workers=worker.limits.connections, thread_name_prefix="sparql") as executor:
        try:
            while waiting or running:
                while waiting and len(running) < worker.limits.connections:
                    node = waiting.pop()
                    running[executor.submit(worker.work, node)] = node
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    take(future)
        except BaseException:
            worker.endpoint.close()
            for future in wait(running).done:  # what the other threads have brought is kept
                if future.exception() is None:
                    take(future)
            raise


def _lay_down(folder: Path, tree: Tree, ledger: Ledger) -> list[dict[str, Any]]:
    def lines() -> Iterator[bytes]:
        for leaf in tree.leaves():
            if leaf.page_sha256 is not None:
                yield from ledger.read_page(leaf.range.range_id)

    return write_parts(folder, lines())
