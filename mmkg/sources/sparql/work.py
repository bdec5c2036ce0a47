"""One step on one range: count it, cut it, or fetch it and hold it against its count.

The beginning of the way of a fact. A step gives an entry for the ledger; it changes nothing itself, so that several
threads can work on ranges of one tree.
"""

import threading
from collections import Counter
from collections.abc import Mapping

from mmkg.config import SparqlConfig
from mmkg.errors import FetchError
from mmkg.sources.sparql.answers import BrokenAnswer, Row, Statements, UnnamedBlank, number_of, text_of
from mmkg.sources.sparql.endpoint import Endpoint, RequestFailed
from mmkg.sources.sparql.ledger import Entry, Ledger
from mmkg.sources.sparql.presets import Limits
from mmkg.sources.sparql.queries import BLANK, COUNT, FIRST, GROUP, KEY, LAST, Queries
from mmkg.sources.sparql.ranges import (
    REST,
    Group,
    Piece,
    coarse,
    common_prefix,
    cut_range,
    dimensions_of,
    halve_range,
    is_within,
    merge_groups,
)
from mmkg.sources.sparql.tree import Node, Tree, entry_of

MAX_FAILURES = 12
"""After so many answers in a row that are of no use the endpoint is given up, however small the ranges have become."""
_MIN_PAGE_ROWS = 100  # the page is not made smaller than this for being slow; single ranges are


class Worker:
    """Does the next step of a range; may be used by several threads."""

    def __init__(self, config: SparqlConfig, limits: Limits, endpoint: Endpoint, tree: Tree, ledger: Ledger) -> None:
        self.limits, self.endpoint, self.folder = limits, endpoint, ledger.folder
        self.bisected = 0
        self._tree, self._ledger = tree, ledger
        self._page_rows = limits.page_rows
        self._statements = [Statements(selection, config.endpoint) for selection in tree.selections]
        self._queries = {
            (number, lacks): Queries(selection, may_lack_text=lacks)
            for number, selection in enumerate(tree.selections)
            for lacks in (False, True)
        }
        self._with_names = [False] * len(tree.selections)
        self._cut_sizes: Counter[int] = Counter()
        self._failures: Counter[str] = Counter()  # in a row: of counts and groups, and of pages
        self._lock = threading.Lock()

    def _queries_of(self, node: Node) -> Queries:
        return self._queries[node.range.selection, self._tree.may_lack_text(node)]

    def work(self, node: Node) -> Entry:
        """Take the next step of a range.

        Raises:
            FetchError: there is none; or the endpoint cannot be reached or refuses.
        """
        if node.rows is None or (node.rows > self._page_rows and node.first is None):
            return self._count(node)
        if node.rows > self._page_rows:
            return self._split(node, node.rows, self._page_rows, "more than a page")
        return self._fetch(node, node.rows)

    def count(self, node: Node) -> Entry:
        """Ask how many statements a range has.

        Raises:
            RequestFailed: the endpoint cannot tell.
        """
        row = self._one_row(self._queries_of(node).count(node.range))
        first, last = (None if (key := text_of(row, name)) is None else coarse(key) for name in (FIRST, LAST))
        entry = {"rows": number_of(row, COUNT), "blanks": number_of(row, BLANK), "first": first, "last": last}
        return {"step": "count", "range": node.range.range_id, **entry}

    def _with_extent(self, node: Node, entry: Entry) -> Entry:
        """Virtuoso 7 finds no MAX among strings with and without wide characters: sampled keys stand in for it."""
        first, last = entry["first"], entry["last"]
        if entry["rows"] <= self._page_rows or (first is not None and last is not None and first <= last):
            return entry
        keys = self._sample(node)
        return {**entry, "first": min(keys, default=""), "last": max(keys, default="")}

    def _sample(self, node: Node) -> list[str]:
        answer = self.endpoint.select(self._queries_of(node).sample(node.range), may_be_cut=True)
        return [coarse(text_of(row, KEY) or "") for row in answer]

    def _one_row(self, query: str) -> Mapping[str, Mapping[str, str]]:
        rows = self.endpoint.select(query)
        if len(rows) != 1:
            raise RequestFailed("broken", f"{len(rows)} rows where a count is one")
        return rows[0]

    def _count(self, node: Node) -> Entry:
        try:
            entry = self._with_extent(node, self.count(node))
        except (RequestFailed, BrokenAnswer) as error:
            self._note_failure("count", node, error)
            return self._halve(node, str(error))
        self._failures["count"] = 0  # not those of pages: a range that can be counted may still never come whole
        return entry

    def _note_failure(self, step: str, node: Node, error: Exception) -> None:
        with self._lock:
            self._failures[step] += 1
            self.bisected += 1
            if isinstance(error, RequestFailed) and error.cut_at is not None and error.cut_at <= self._page_rows:
                self._page_rows = max(1, error.cut_at - 1)
            hopeless = self._failures[step] >= MAX_FAILURES
        if hopeless:
            raise FetchError(
                f"{self.endpoint.url} has given {MAX_FAILURES} answers in a row that are of no use, the last one for "
                f"{self._tree.describe(node)}: {error}. Start again later, with a longer timeout_seconds, or pull less."
            ) from error

    # Cutting

    def _split(self, node: Node, rows: int, max_rows: int, why: str) -> Entry:
        """Cut a range by the counts of groups of keys; where it cannot group or tell the extent, at sampled keys."""
        if node.first is None or node.last is None:
            return self._halve(node, why)
        if node.first == node.last:
            return self._go_deeper(node, rows, why)
        prefix_chars = common_prefix(node.first, node.last) + 1
        try:
            groups = self._groups(node, prefix_chars)
            if sum(group.rows for group in groups) != rows:
                rows = number_of(self._one_row(self._queries_of(node).count(node.range)), COUNT)
        except (RequestFailed, BrokenAnswer) as error:
            self._note_failure("count", node, error)
            return self._halve(node, str(error))
        groups = merge_groups(groups)
        if sum(group.rows for group in groups) != rows or len(groups) < 2:
            return self._halve(node, f"groups of keys that do not add up to {rows:,}")
        return self._pieces(node, cut_range(node.range, groups, max_rows))

    def _groups(self, node: Node, prefix_chars: int) -> list[Group]:
        """The groups of a range; where their extent does not fit their name, it is taken from the name."""
        groups = []
        for row in self.endpoint.select(self._queries_of(node).groups(node.range, prefix_chars)):
            name, first, last = (text_of(row, column) or "" for column in (GROUP, FIRST, LAST))
            if name and not (first.startswith(name) and last.startswith(name)):
                first, last = name, name + REST
            groups.append(Group(number_of(row, COUNT), coarse(first), max(coarse(first), coarse(last))))
        return groups

    def _halve(self, node: Node, why: str) -> Entry:
        """Cut a range in two at keys that the endpoint finds first, without counting."""
        try:
            keys = self._sample(node)
        except (RequestFailed, BrokenAnswer) as error:
            raise FetchError(
                f"{self.endpoint.url}: {self._tree.describe(node)} cannot be had whole ({why}), and not even some keys "
                f"of it come ({error}). Set a longer timeout_seconds, or pull less."
            ) from error
        pieces = halve_range(node.range, keys)
        return self._pieces(node, pieces) if pieces else self._go_deeper(node, node.rows, why)

    def _go_deeper(self, node: Node, rows: int | None, why: str) -> Entry:
        """Nothing is told apart in this dimension any more: take the next one."""
        selection = self._tree.selections[node.range.selection]
        if len(node.range.intervals) == len(dimensions_of(selection)):
            raise FetchError(
                f"{self.endpoint.url}: {self._tree.describe(node)} cannot be cut any further; the endpoint counts "
                f"{'?' if rows is None else f'{rows:,}'} statements in it, and a whole answer does not come ({why}). "
                "Set a longer timeout_seconds or more page_rows; or the endpoint does not tell the truth."
            )
        return self._pieces(node, [Piece(node.range.next_dimension(), rows)])

    def _pieces(self, node: Node, pieces: list[Piece]) -> Entry:
        return {"step": "split", "range": node.range.range_id, "pieces": [entry_of(piece) for piece in pieces]}

    # Fetching

    def _fetch(self, node: Node, declared: int) -> Entry:
        """Fetch a page; it is taken if as many different statements come as the endpoint counts, and cut otherwise."""
        try:
            rows = self._rows(node)
        except (RequestFailed, BrokenAnswer) as error:
            self._note_failure("page", node, error)
            if isinstance(error, RequestFailed) and error.kind == "slow":
                self._page_rows = max(min(_MIN_PAGE_ROWS, self._page_rows), min(self._page_rows, declared // 2))
            return self._split(node, declared, max(1, declared // 2), str(error))
        self._check_keys(node, rows)
        lines = list(dict.fromkeys(row.line for row in rows))
        if len(rows) != declared or len(lines) != declared or len(rows) == self.limits.max_rows:
            declared = number_of(self._one_row_of_count(node), COUNT)
            if len(rows) != declared or len(lines) != declared or len(rows) == self.limits.max_rows:
                return self._cut_page(node, len(rows), len(lines), declared)
        self._failures.clear()
        sha256 = self._ledger.write_page(node.range.range_id, lines)
        blanks = any(map(self._statements[node.range.selection].may_have_blank, lines))
        return {"step": "page", "range": node.range.range_id, "rows": len(lines), "sha256": sha256, "blanks": blanks}

    def is_as_pulled(self, node: Node) -> bool:
        """Fetch a page again, and compare it with the one on disk.

        Raises:
            RequestFailed: it does not come, or not whole.
            BrokenAnswer: it comes as no statements.
            FetchError: it has another number of statements, and cannot be counted.
        """
        lines = dict.fromkeys(row.line for row in self._rows(node))
        if len(lines) != node.page_rows and number_of(self._one_row_of_count(node), COUNT) == node.page_rows:
            raise RequestFailed("partial", f"{len(lines):,} statements where it counts {node.page_rows:,}")
        return [line.encode() + b"\n" for line in lines] == list(self._ledger.read_page(node.range.range_id))

    def _one_row_of_count(self, node: Node) -> Mapping[str, Mapping[str, str]]:
        try:
            return self._one_row(self._queries_of(node).count(node.range))
        except (RequestFailed, BrokenAnswer) as error:
            raise FetchError(
                f"{self.endpoint.url}: {self._tree.describe(node)} gave another number of statements than it had "
                f"counted, and cannot be counted again ({error}). Start again later: the pull goes on from here, "
                "until max_resume_hours after its beginning."
            ) from error

    def _cut_page(self, node: Node, rows: int, lines: int, declared: int) -> Entry:
        """An answer that is not what was counted, twice: the range is cut, and the endpoint's limit learned."""
        found = f"{rows:,} rows with {lines:,} different statements where it counts {declared:,}"
        self._note_failure("page", node, RequestFailed("partial", found))
        with self._lock:
            if rows < declared:
                self._cut_sizes[rows] += 1
                if self._cut_sizes[rows] > 1 and rows <= self._page_rows:  # twice the same: that is its limit
                    self._page_rows = max(1, rows - 1)
        if declared == 0:
            raise FetchError(
                f"{self.endpoint.url}: {self._tree.describe(node)} gives {found}. It does not tell the truth."
            )
        return self._split(node, declared, max(1, declared // 2), found)

    def _rows(self, node: Node) -> list[Row]:
        """The statements of a range; the names of blank nodes are asked for where there are any."""
        number = node.range.selection
        queries, statements = self._queries_of(node), self._statements[number]
        if not self._with_names[number] and not self._tree.roots[number].blanks:
            answer = self.endpoint.select(queries.page(node.range, with_names=False))
            try:
                return statements.rows_of(answer)
            except UnnamedBlank:
                self._with_names[number] = True
        answer = self.endpoint.select(queries.page(node.range, with_names=True))
        try:
            return statements.rows_of(answer)
        except UnnamedBlank as error:
            raise FetchError(
                f"{self.endpoint.url}: {self._tree.describe(node)} has the blank node _:{error}, which the endpoint "
                "calls otherwise in every answer, so that pages cannot be put together. Pull classes or predicates "
                "without blank nodes, give them IRIs in an own CONSTRUCT, or use a dump."
            ) from error

    def _check_keys(self, node: Node, rows: list[Row]) -> None:
        """Every statement must lie in the range that was asked for."""
        dimensions = dimensions_of(self._tree.selections[node.range.selection])
        for interval, dimension in zip(node.range.intervals, dimensions, strict=False):
            if dimension.kind != "text" or interval == (None, None):
                continue
            for row in rows:
                if not is_within(row.keys[dimension.place], interval):
                    raise FetchError(
                        f"{self.endpoint.url}: asked for {self._tree.describe(node)}, it gave {row.line[:200]}. It "
                        "compares strings in an order of its own, or does not tell the truth; use a dump."
                    )
