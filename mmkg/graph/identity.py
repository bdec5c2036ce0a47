"""Which IRIs are one entity: classes over identity links, and the links that are not believed.

Where a fact stands here: links are pairs of integers (ranks of IRIs in order). The closure is one pass of connected
components (SciPy): seconds for 50 M links. A class is *inconsistent* if it holds

- two IRIs of one source namespace (two MIDs, two DBpedia resources; ``http`` and ``https`` of one IRI count once),
- two types that the config calls disjoint, each on another member, or
- more IRIs than ``identity.max_class_size``.

Only inconsistent classes are looked at link by link. Their links are taken from the most to the least credible (ties:
in order of the IRIs), and a link is refused if the two parts it would tie together are inconsistent together: Kruskal's
maximum spanning forest under a constraint. So the weakest links are those that are cut, no link is cut that could stay,
and each part is consistent. A refused link is `flagged`, with the reason for which it was refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mmkg.errors import ConfigError, unknown_name

MERGED = "link"
TWO_OF_ONE_SOURCE = "two_of_one_source"
DISJOINT_TYPES = "disjoint_types"
TOO_LARGE = "too_large"
REASONS = (MERGED, TWO_OF_ONE_SOURCE, DISJOINT_TYPES, TOO_LARGE)

# IRI prefixes that `identity.source_priority` can call by name.
NAMESPACES = {
    "freebase": ("rdf.freebase.com/ns/",),
    "dbpedia": ("dbpedia.org/resource/",),
    "yago": ("yago-knowledge.org/resource/",),
    "wikidata": ("www.wikidata.org/entity/", "wikidata.dbpedia.org/resource/"),
}


@dataclass(frozen=True)
class LinkGraph:
    """Links as integers.

    Attributes:
        left: L ranks of the links' smaller ends.
        right: L ranks of the larger ends; each pair once.
        namespace: N codes, the same for IRIs of one source namespace; -1 for a node that is in none (blank nodes).
        bare: N codes, the same for IRIs that differ in their scheme only.
        priority: N places in `identity.source_priority`; smaller is preferred as canonical.
        marked: M ranks of nodes with a type out of `identity.disjoint_types`.
        mark: M numbers, 2·i and 2·i+1 for the two types of the i-th pair.
    """

    left: np.ndarray
    right: np.ndarray
    namespace: np.ndarray
    bare: np.ndarray
    priority: np.ndarray
    marked: np.ndarray
    mark: np.ndarray


@dataclass(frozen=True)
class Identity:
    """What the guard decided.

    Attributes:
        class_of: N class numbers, the same for IRIs that are one entity.
        canonical: N ranks of the IRI that each became.
        reason: L indices into :data:`REASONS`; 0 where the link was believed.
        num_flagged_classes: inconsistent classes that were cut.
    """

    class_of: np.ndarray
    canonical: np.ndarray
    reason: np.ndarray
    num_flagged_classes: int


def close_links(num_nodes: int, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Class number of each node under the equivalence that the links generate."""
    ones = np.ones(len(left), np.int8)
    links = coo_array((ones, (left.astype(np.int32), right.astype(np.int32))), shape=(num_nodes, num_nodes))
    _, class_of = connected_components(links, directed=False)
    return class_of


def find_inconsistent(links: LinkGraph, class_of: np.ndarray, max_class_size: int) -> np.ndarray:
    """Numbers of the classes that the guard has to look at, in order.

    May name a class that holds two types of a disjoint pair on one member only; the guard then finds nothing to refuse.
    """
    sizes = np.bincount(class_of)
    suspects = [np.flatnonzero(sizes > max_class_size)]
    nodes = np.flatnonzero((links.namespace >= 0) & (sizes[class_of] > 1))
    # One row for each IRI whatever its scheme, then classes in which a namespace is left twice.
    rows = np.stack([class_of[nodes], links.namespace[nodes], links.bare[nodes]])
    rows = rows[:, np.lexsort(rows[::-1])]
    rows = rows[:, np.concatenate([[True], np.any(rows[:, 1:] != rows[:, :-1], axis=0)])[: rows.shape[1]]]
    twice = np.all(rows[:2, 1:] == rows[:2, :-1], axis=0)
    suspects.append(rows[0, 1:][twice])
    if len(links.marked):
        marks = np.unique(np.stack([class_of[links.marked], links.mark]), axis=1)
        both = (marks[0, 1:] == marks[0, :-1]) & (marks[1, 1:] == marks[1, :-1] + 1) & (marks[1, 1:] % 2 == 1)
        suspects.append(marks[0, 1:][both])
    return np.unique(np.concatenate(suspects))


class _Part:
    """A growing part of an inconsistent class: what must not come twice."""

    __slots__ = ("by_namespace", "marks", "size")

    def __init__(self, namespace: int, bare: int, marks: frozenset[int]) -> None:
        self.size = 1
        self.by_namespace = {} if namespace < 0 else {namespace: bare}
        self.marks = set(marks)

    def conflict(self, other: "_Part", max_class_size: int) -> int:
        """Why the two cannot be one, as an index into REASONS; 0 if they can."""
        small, large = sorted((self.by_namespace, other.by_namespace), key=len)
        if any(namespace in large and large[namespace] != bare for namespace, bare in small.items()):
            return 1
        if any(mark ^ 1 in other.marks for mark in self.marks):
            return 2
        return 3 if self.size + other.size > max_class_size else 0

    def absorb(self, other: "_Part") -> None:
        self.size += other.size
        self.by_namespace.update(other.by_namespace)
        self.marks |= other.marks


def _marks_of(links: LinkGraph) -> dict[int, frozenset[int]]:
    """The disjoint types of each node; a node that has both types of a pair cannot tell, so that pair is left out."""
    found: dict[int, set[int]] = {}
    for node, mark in zip(links.marked.tolist(), links.mark.tolist(), strict=True):
        found.setdefault(node, set()).add(mark)
    return {node: frozenset(m for m in marks if m ^ 1 not in marks) for node, marks in found.items()}


def guard(links: LinkGraph, questioned: np.ndarray, score: np.ndarray, max_class_size: int) -> np.ndarray:
    """Decide the links of inconsistent classes.

    Args:
        links: all links.
        questioned: Q numbers of links in inconsistent classes.
        score: Q credibilities.
        max_class_size: of the config.

    Returns:
        Q indices into :data:`REASONS`.
    """
    marks = _marks_of(links)
    left, right = links.left[questioned].tolist(), links.right[questioned].tolist()
    parent = {node: node for node in left} | {node: node for node in right}
    parts = {
        node: _Part(int(links.namespace[node]), int(links.bare[node]), marks.get(node, frozenset())) for node in parent
    }

    def find(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    reasons = np.zeros(len(questioned), np.int8)
    for number in np.lexsort((links.right[questioned], links.left[questioned], -score)).tolist():
        one, other = find(left[number]), find(right[number])
        if one == other:
            continue
        reason = parts[one].conflict(parts[other], max_class_size)
        if reason:
            reasons[number] = reason
            continue
        if parts[one].size < parts[other].size:
            one, other = other, one
        parts[one].absorb(parts.pop(other))
        parent[other] = one
    return reasons


def choose_canonical(class_of: np.ndarray, priority: np.ndarray) -> np.ndarray:
    """The rank of each node's canonical IRI: first by priority, then the smallest."""
    canonical = np.zeros(int(class_of.max(initial=-1)) + 1, np.int64)
    for place in np.unique(priority)[::-1]:  # of several values for one index NumPy keeps the last
        nodes = np.flatnonzero(priority == place)[::-1]
        canonical[class_of[nodes]] = nodes
    return canonical[class_of]


def priorities(source_priority: Sequence[str], base_iris: dict[str, str]) -> list[tuple[str, ...]]:
    """IRI prefixes without scheme for each name of `identity.source_priority`.

    Args:
        source_priority: names of :data:`NAMESPACES`, names of sources that have a `base_iri`, or IRI prefixes.
        base_iris: `base_iri` by name of source.

    Raises:
        ConfigError: a name is none of these.
    """
    prefixes = []
    for name in source_priority:
        if name in NAMESPACES:
            prefixes.append(NAMESPACES[name])
        elif base_iris.get(name) or ":" in name:
            prefixes.append((base_iris.get(name, name).partition("://")[2] or name,))
        else:
            known = [*NAMESPACES, *(source for source, iri in base_iris.items() if iri)]
            raise ConfigError(
                f"identity.source_priority: {unknown_name('namespace', name, known)} "
                "An IRI prefix such as 'http://example.org/' can be given too."
            )
    return prefixes
