"""The tree of ranges: a root for each selection, cut into pieces down to the pages.

Before the way of a fact begins. All change is by entries of the ledger: what a killed pull had
found out is the tree that the same entries give again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mmkg.sources.sparql.ledger import Entry
from mmkg.sources.sparql.ranges import KeyRange, Piece
from mmkg.sources.sparql.selection import Selection


@dataclass(eq=False)
class Node:
    """A range and what is known of it."""

    range: KeyRange
    rows: int | None = None  # what the endpoint counts
    blanks: int | None = None  # of them with blank nodes
    first: str | None = None  # of the keys in the last dimension, in coarse form
    last: str | None = None
    children: list["Node"] = field(default_factory=list)
    page_sha256: str | None = None
    page_rows: int = 0
    page_has_blanks: bool = False  # IRIs made of blank nodes are in the page

    @property
    def total_rows(self) -> int:
        """Statements in the pages below."""
        if self.children:
            return sum(child.total_rows for child in self.children)
        return self.page_rows if self.page_sha256 is not None else 0

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do for this node itself."""
        return bool(self.children) or self.page_sha256 is not None or self.rows == 0


class Tree:
    """All ranges of a pull."""

    def __init__(self, selections: Sequence[Selection]) -> None:
        self.selections = selections
        self.roots = [Node(KeyRange(number)) for number in range(len(selections))]
        self.pulled_rows = 0
        self._by_id = {root.range.range_id: root for root in self.roots}

    @property
    def expected_rows(self) -> int:
        """What the roots count; 0 for those that could not be counted as a whole."""
        return sum(root.rows or 0 for root in self.roots)

    def describe(self, node: Node) -> str:
        """A range in the words of a message."""
        return node.range.describe(self.selections[node.range.selection])

    def may_lack_text(self, node: Node) -> bool:
        """Whether there may be blank nodes in a selection, as far as is known: their STR fails on some servers."""
        return self.roots[node.range.selection].blanks != 0

    def take(self, entry: Entry) -> list[Node]:
        """Take one step; returns the nodes that now have something left to do.

        Steps: count (rows, blanks, first, last), split (pieces), page (rows, sha256, blanks), again (pull once more).
        """
        node = self._by_id[entry["range"]]
        if entry["step"] == "count":
            node.rows, node.blanks = entry["rows"], entry["blanks"]
            node.first, node.last = entry["first"], entry["last"]
        elif entry["step"] == "split":
            node.children = [_node_of(piece, node.range.selection) for piece in entry["pieces"]]
            self._by_id.update({child.range.range_id: child for child in node.children})
            return list(node.children)
        elif entry["step"] == "page":
            node.page_sha256, node.page_rows, node.rows = entry["sha256"], entry["rows"], entry["rows"]
            node.page_has_blanks = entry.get("blanks", False)
            self.pulled_rows += entry["rows"]
        else:
            self.pulled_rows -= node.total_rows
            node.rows = node.blanks = node.first = node.last = None
            node.children, node.page_sha256, node.page_rows = [], None, 0
        return [] if node.is_done else [node]

    def lose_page(self, leaf: Node) -> None:
        """The page of a leaf is not on disk: it has to be fetched again."""
        self.pulled_rows -= leaf.page_rows
        leaf.page_sha256, leaf.page_rows = None, 0

    def leaves(self) -> Iterator[Node]:
        """The nodes that are not cut, in the order of keys."""
        stack = self.roots[::-1]
        while stack:
            node = stack.pop()
            if node.children:
                stack += node.children[::-1]
            else:
                yield node

    def pending(self) -> list[Node]:
        """What is left to do, in the order of keys."""
        return [leaf for leaf in self.leaves() if not leaf.is_done]


def entry_of(piece: Piece) -> Entry:
    """A piece as it stands in the ledger."""
    return {"intervals": piece.range.intervals, "rows": piece.rows, "first": piece.first, "last": piece.last}


def _node_of(piece: Entry, selection: int) -> Node:
    intervals = tuple((low, high) for low, high in piece["intervals"])
    return Node(KeyRange(selection, intervals), rows=piece["rows"], first=piece["first"], last=piece["last"])
