"""Whether an endpoint still holds what was pulled: some pages before a killed pull goes on, all counts at the end.

The beginning of the way of a fact. Each page was proved when it came; what is left is what changed between the first
page and the last. Each selection is counted again; where that differs from the pages, or cannot be had as a whole, its
pieces are counted, down to the pages. Equal counts do not tell other values apart, and between a kill and the next
start an endpoint may have been loaded with other data; so some pages of a killed pull are fetched again.
"""

from mmkg.errors import FetchError
from mmkg.sources.sparql.answers import BrokenAnswer
from mmkg.sources.sparql.endpoint import RequestFailed
from mmkg.sources.sparql.tree import Node, Tree
from mmkg.sources.sparql.work import Worker


def find_changed_pages(worker: Worker, tree: Tree) -> tuple[list[Node], bool]:
    """Fetch some pages of a killed pull again: the first, the middle and the last, and of those with blank nodes too.

    Returns:
        those that are not what they were; and whether the endpoint must have been loaded anew: half of them or more, or
        one with blank nodes, whose names hold for one load only.

    Raises:
        FetchError: one of them does not come any more.
    """
    pages = [leaf for leaf in tree.leaves() if leaf.page_sha256 is not None]
    blanks = [leaf for leaf in pages if leaf.page_has_blanks]
    looked_at = {some[place]: None for some in (pages, blanks) if some for place in (0, len(some) // 2, -1)}
    changed = []
    for page in looked_at:
        try:
            if not worker.is_as_pulled(page):
                changed.append(page)
        except (RequestFailed, BrokenAnswer) as error:
            raise FetchError(
                f"{worker.endpoint.url}: {tree.describe(page)} was pulled and does not come again ({error}), so that "
                "it is not known whether it has changed. Start again later: the pull goes on from here, until "
                f"max_resume_hours after its beginning; or remove {worker.folder} to begin anew."
            ) from error
    return changed, 2 * len(changed) >= max(1, len(looked_at)) or any(page.page_has_blanks for page in changed)


def find_changes(worker: Worker, tree: Tree) -> tuple[int, list[tuple[Node, int]]]:
    """Count everything again.

    Returns:
        what the endpoint counts in all; and the ranges in which that is not what was pulled, each with its new count.

    Raises:
        FetchError: a page's range cannot be counted any more.
    """
    total = 0
    changes: list[tuple[Node, int]] = []
    for root in tree.roots:
        rows, changed = _look_at(worker, tree, root)
        total += rows
        changes += changed
    return total, changes


def _look_at(worker: Worker, tree: Tree, node: Node) -> tuple[int, list[tuple[Node, int]]]:
    try:
        rows = int(worker.count(node)["rows"])
    except (RequestFailed, BrokenAnswer) as error:
        if not node.children:
            raise FetchError(
                f"{worker.endpoint.url}: {tree.describe(node)} was pulled and cannot be counted again ({error}), so "
                "that it is not proved that nothing has changed. Start again later: the pull goes on from here, until "
                "max_resume_hours after its beginning."
            ) from error
        below = [_look_at(worker, tree, child) for child in node.children]
        return sum(count for count, _ in below), [change for _, changed in below for change in changed]
    if rows == node.total_rows:
        return rows, []
    if not node.children:
        return rows, [(node, rows)]
    changes = [change for child in node.children for change in _look_at(worker, tree, child)[1]]
    # No piece has changed, and their sum has: the whole is pulled again, and given up if that happens again.
    return rows, changes or [(node, rows)]
