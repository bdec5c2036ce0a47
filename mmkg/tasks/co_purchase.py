r"""Products of Amazon's "Grocery and Gourmet Food" with what was bought and viewed beside them, as ReChorus keeps them.

A line of ``item_meta.csv.gz``, with tabs and under a line of names::

    item_id ⇥ i_category ⇥ r_complement ⇥ r_substitute
    3 ⇥ 21 ⇥ [4879, 7578, 161, 2202, 2627, 2901, 141, 2135] ⇥ [16, 5828, 109, 4555]

``r_complement`` lists products that were *also bought*, ``r_substitute`` those that were *also viewed*. A list is what
a shop showed beside the product, so it is cut at some length and often goes one way only. In the file is not: names,
texts, pictures, or what a category is called.

Address: https://github.com/THUwangcy/ReChorus, folder ``data/Grocery_and_Gourmet_Food``. Licence: MIT for the
repository; the data behind it, of Amazon, is for academic use. Citation: McAuley et al., Image-based Recommendations on
Styles and Substitutes, SIGIR 2015, arXiv:1506.04757; Wang et al., Make It a Chorus, SIGIR 2020.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmkg.errors import DumpError, NotFound, unknown_name
from mmkg.tasks.edge_split import Int64Array, undirected_pairs
from mmkg.tasks.json_files import is_whole
from mmkg.tasks.line_files import numbered_lines, require_lines

logger = logging.getLogger(__name__)

RELATIONS = ("r_complement", "r_substitute")

_COLUMNS = ("item_id", "i_category", *RELATIONS)
_MOST_SHOWN = 80  # characters of a broken line


@dataclass(frozen=True, kw_only=True, eq=False)
class CoPurchases:
    """What was read of a folder; the index of a product is its place in the file.

    Attributes:
        item_ids: (N,) the ids of the file.
        category_N: (N,) category of each product, a number without a name.
        edges: relation -> (E, 2) indices (product, product beside it), as written.
        num_dangling: relation -> how many listed ids have no line of their own.
    """

    item_ids: Int64Array
    category_N: Int64Array
    edges: Mapping[str, Int64Array]
    num_dangling: Mapping[str, int]

    def pairs(self, relation: str) -> Int64Array:
        """(P, 2) joined products without direction, for :func:`mmkg.tasks.edge_split.split_edges`.

        Raises:
            NotFound: no relation is called so.
        """
        if relation not in self.edges:
            raise NotFound(unknown_name("relation", relation, self.edges))
        return undirected_pairs(self.edges[relation], len(self.item_ids))


def read_co_purchases(folder: Path) -> CoPurchases:
    """Read the products of a folder and the edges between them.

    Args:
        folder: holds ``item_meta.csv``, plain or gzipped.

    Raises:
        DumpError: the file is missing or cut, a line is not what it holds, or a product stands twice.
    """
    path = require_lines(folder, "item_meta.csv")
    lines = numbered_lines(path)
    _, header = next(lines, (0, ""))
    if tuple(header.split("\t")) != _COLUMNS:
        raise DumpError(
            f"{path}, line 1: expected {' TAB '.join(_COLUMNS)}, found {header[:_MOST_SHOWN]!r}. It is another file."
        )
    index_of: dict[int, int] = {}
    categories: list[int] = []
    listed: dict[str, list[list[int]]] = {relation: [] for relation in RELATIONS}
    for number, line in lines:
        item, category, *lists = _row(path, number, line)
        if item in index_of:
            raise DumpError(f"{path}, line {number}: expected every product once, found {item} again.")
        index_of[item] = len(index_of)
        categories.append(category)
        for relation, beside in zip(RELATIONS, lists, strict=True):
            listed[relation].append(beside)
    if not index_of:
        raise DumpError(f"{path}: expected a product a line, found none. Fetch the file again.")
    item_ids = np.array(list(index_of), dtype=np.int64)
    edges, dangling = {}, {}
    for relation in RELATIONS:
        edges[relation], dangling[relation] = _edges(listed[relation], index_of)
    counts = {relation: f"{len(edges[relation]):,}" for relation in RELATIONS}
    logger.info("%s: %s products, edges %s, without a line %s", path, f"{len(item_ids):,}", counts, dangling)
    return CoPurchases(
        item_ids=item_ids, category_N=np.array(categories, dtype=np.int64), edges=edges, num_dangling=dangling
    )


def _row(path: Path, number: int, line: str) -> tuple[int, int, list[int], list[int]]:
    columns = line.split("\t")
    if len(columns) != len(_COLUMNS):
        raise DumpError(
            f"{path}, line {number}: expected {len(_COLUMNS)} columns with tabs between them, found {len(columns)}: "
            f"{line[:_MOST_SHOWN]!r}. The file is cut or another one."
        )
    try:
        item, category, complement, substitute = (json.loads(column) for column in columns)
    except ValueError as error:
        raise DumpError(
            f"{path}, line {number}: expected numbers and lists of numbers, found {line[:_MOST_SHOWN]!r}."
        ) from error
    lists = (complement, substitute)
    if not (is_whole(item) and is_whole(category)) or not all(
        isinstance(beside, list) and all(map(is_whole, beside)) for beside in lists
    ):
        raise DumpError(
            f"{path}, line {number}: expected two whole numbers and two lists of them, found {line[:_MOST_SHOWN]!r}."
        )
    return item, category, complement, substitute


def _edges(listed: list[list[int]], index_of: Mapping[int, int]) -> tuple[Int64Array, int]:
    found = [(source, index_of.get(item, -1)) for source, beside in enumerate(listed) for item in beside]
    edge_E2 = np.array(found, dtype=np.int64).reshape(-1, 2)
    inside = edge_E2[:, 1] >= 0
    return edge_E2[inside], int(np.count_nonzero(~inside))
