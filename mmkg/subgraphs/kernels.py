"""The compiled inner loops of τ-hop expansion: breadth-first search over two CSR lists, caps, and edges each once.

Compiled at the first use (about ten seconds) and kept beside this file, or in the user's cache where that is not
writable: a second process loads it in 0.02 s. Nothing here checks its arguments: :mod:`mmkg.subgraphs.expand` does.
Arrays that grow are handed back, because a compiled function cannot make its caller's array longer.

Buffers: ``nodes`` is (2, capacity), rows entity index and hop; ``edges`` is (4, capacity), rows src, relation, dst,
triple, where src and dst number the nodes of one subgraph; ``cuts`` is (5, capacity), rows entity index, hop, degree,
kept, reason.

``visited[entity]`` is ``query << 32 | local number``: an entry of an earlier query reads as "not visited", so that
no query pays for clearing an array as long as the graph.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

CUT_BY_MAX_NEIGHBOURS = 1
CUT_BY_MAX_NODES = 2

UNLIMITED = np.int64(2**62)
_LOCAL = np.int64(0xFFFFFFFF)
_SHIFT = np.int64(32)
MAX_QUERY = 2**31 - 2


Ints = NDArray[np.int64]
Mask = NDArray[np.uint8]


class Lists(NamedTuple):
    """One direction of the adjacency: the edges of entity i stand at ``indptr[i]:indptr[i + 1]``."""

    indptr: NDArray[np.int64]
    neighbours: NDArray[np.signedinteger[Any]]
    relations: NDArray[np.int32]
    triples: NDArray[np.int64]


class Plan(NamedTuple):
    """What one expansion asks for, as numbers."""

    num_hops: int
    use_out: bool
    use_in: bool
    induced: bool
    max_neighbours: int
    max_nodes: int
    sampled: bool
    random_seed: int


@njit(cache=True, nogil=True)
def count_edges(counts: Ints, near: Ints) -> None:
    """Add the edges of a batch to ``counts[entity + 1]``."""
    for row in range(near.shape[0]):
        counts[near[row] + 1] += 1


@njit(cache=True, nogil=True)
def fill_lists(lists: Lists, free: Ints, near: Ints, relations: Ints, far: Ints, first_row: int) -> None:
    """Put the edges of a batch into the lists of their near ends; ``free[entity]`` is the next free place, moved on."""
    for row in range(near.shape[0]):
        place = free[near[row]]
        free[near[row]] = place + 1
        lists.neighbours[place] = far[row]
        lists.relations[place] = relations[row]
        lists.triples[place] = first_row + row


@njit(cache=True, nogil=True)
def _grow(buffer: Ints, needed: int) -> Ints:
    """The same rows with room for at least `needed` columns."""
    if needed <= buffer.shape[1]:
        return buffer
    wider = np.empty((buffer.shape[0], max(needed, 2 * buffer.shape[1])), np.int64)
    wider[:, : buffer.shape[1]] = buffer
    return wider


@njit(cache=True, nogil=True)
def _mix(value: np.uint64) -> np.uint64:
    """One step of splitmix64: a well-spread 64-bit hash (Steele, Lea and Flood, OOPSLA 2014)."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@njit(cache=True, nogil=True)
def _pick(rank: int, kept: int, degree: int, key: np.uint64) -> int:
    """Rank of the edge taken from the `rank`-th of `kept` equal stretches of a list of `degree` edges."""
    low = rank * degree // kept
    width = (rank + 1) * degree // kept - low
    return low + int(_mix(key + np.uint64(rank)) % np.uint64(width))


@njit(cache=True, nogil=True)
def _degree(lists: Lists, entity: int, allowed: Mask) -> np.int64:
    """Edges of an entity in one direction whose relation is allowed."""
    begin, end = lists.indptr[entity], lists.indptr[entity + 1]
    if allowed.shape[0] == 0:
        return end - begin
    count = np.int64(0)
    for position in range(begin, end):
        count += allowed[lists.relations[position]]
    return count


@njit(cache=True, nogil=True)
def _follow(
    lists: Lists, other: Lists, outward: bool, local: int, degree: int, kept: int, allowed: Mask, plan: Plan,
    visited: Ints, key: int, nodes: Ints, first: int, found: int, edges: Ints, count: int,
) -> tuple[Ints, int, Ints, int, int, bool]:  # fmt: skip
    """Walk `kept` of the `degree` allowed edges of one node in one direction.

    Returns:
        nodes, found, edges, count, lost, doubtful: `lost` edges led to nodes beyond max_nodes; `doubtful` says that
        an edge may have been written from both its ends.
    """
    entity, hop = nodes[0, first + local], nodes[1, first + local]
    nodes = _grow(nodes, found + min(kept, max(plan.max_nodes - (found - first), 0)))
    walked = not plan.induced
    if walked:
        edges = _grow(edges, count + kept)
    cut = kept < degree
    draw = _mix(_mix(np.uint64(plan.random_seed) ^ _mix(np.uint64(entity))) + np.uint64(outward))
    position, rank, lost, doubtful = lists.indptr[entity], 0, 0, False
    for step in range(kept):
        target = _pick(step, kept, degree, draw) if cut and plan.sampled else np.int64(step)
        if allowed.shape[0] == 0:
            position = lists.indptr[entity] + target
        else:
            while allowed[lists.relations[position]] == 0 or rank < target:
                rank += allowed[lists.relations[position]]
                position += 1
        neighbour = np.int64(lists.neighbours[position])
        if visited[neighbour] >> _SHIFT == key:
            far = visited[neighbour] & _LOCAL
        elif found - first < plan.max_nodes:
            far = found - first
            visited[neighbour] = key << _SHIFT | far
            nodes[0, found], nodes[1, found] = neighbour, hop + 1
            found += 1
        else:
            far = np.int64(-1)
            lost += 1
        if walked and far >= 0:
            write = True
            if not outward and plan.use_out and nodes[1, first + far] < plan.num_hops:
                # The far end is expanded as well and writes this edge from its own list, unless its cap cuts it there.
                write = (
                    other.indptr[neighbour + 1] - other.indptr[neighbour]
                    > plan.max_neighbours - plan.max_neighbours // 2
                )
                doubtful |= write
            if write:
                edges[0, count], edges[2, count] = (local, far) if outward else (far, local)
                edges[1, count], edges[3, count] = lists.relations[position], lists.triples[position]
                count += 1
        if allowed.shape[0] > 0:
            rank += 1
            position += 1
    return nodes, found, edges, count, lost, doubtful


@njit(cache=True, nogil=True)
def _shares(out_degree: int, in_degree: int, limit: int) -> tuple[int, int]:
    """How many edges each direction keeps: half of the limit each, and what one leaves unused goes to the other."""
    if out_degree + in_degree <= limit:
        return out_degree, in_degree
    kept_out = min(out_degree, max(limit - limit // 2, limit - in_degree))
    return kept_out, min(in_degree, limit - kept_out)


@njit(cache=True, nogil=True)
def _drop_repeats(edges: Ints, start: int, count: int) -> int:
    """Keep the first of the edges that name the same triple, in the order in which they were walked."""
    order = np.argsort(edges[3, start:count], kind="mergesort")
    repeat = np.zeros(count - start, np.bool_)
    for place in range(1, order.shape[0]):
        repeat[order[place]] = edges[3, start + order[place]] == edges[3, start + order[place - 1]]
    kept = start
    for place in range(start, count):
        if not repeat[place - start]:
            for row in range(4):
                edges[row, kept] = edges[row, place]
            kept += 1
    return kept


@njit(cache=True, nogil=True)
def _induce(
    outgoing: Lists, incoming: Lists, allowed: Mask,
    visited: Ints, key: int, nodes: Ints, first: int, found: int, edges: Ints, count: int,
) -> tuple[Ints, int]:  # fmt: skip
    """Write every allowed edge between two nodes of the subgraph, read from the side with the shorter lists."""
    out_sum, in_sum = np.int64(0), np.int64(0)
    for place in range(first, found):
        entity = nodes[0, place]
        out_sum += outgoing.indptr[entity + 1] - outgoing.indptr[entity]
        in_sum += incoming.indptr[entity + 1] - incoming.indptr[entity]
    outward = out_sum <= in_sum
    lists = outgoing if outward else incoming
    for place in range(first, found):
        entity, local = nodes[0, place], place - first
        for position in range(lists.indptr[entity], lists.indptr[entity + 1]):
            state = visited[lists.neighbours[position]]
            if state >> _SHIFT != key or (allowed.shape[0] > 0 and allowed[lists.relations[position]] == 0):
                continue
            far = state & _LOCAL
            if count == edges.shape[1]:
                edges = _grow(edges, count + 1)
            edges[0, count], edges[2, count] = (local, far) if outward else (far, local)
            edges[1, count], edges[3, count] = lists.relations[position], lists.triples[position]
            count += 1
    return edges, count


@njit(cache=True, nogil=True)
def _record(cuts: Ints, num_cuts: int, entity: int, hop: int, degree: int, kept: int, reason: int) -> tuple[Ints, int]:
    """Append one row to the ledger of what was cut."""
    cuts = _grow(cuts, num_cuts + 1)
    cuts[0, num_cuts], cuts[1, num_cuts], cuts[2, num_cuts] = entity, hop, degree
    cuts[3, num_cuts], cuts[4, num_cuts] = kept, reason
    return cuts, num_cuts + 1


@njit(cache=True, nogil=True)
def expand_seed_sets(
    outgoing: Lists,
    incoming: Lists,
    allowed: Mask,
    plan: Plan,
    seeds: Ints,
    offsets: Ints,
    visited: Ints,
    query: int,
    nodes: Ints,
    edges: Ints,
) -> tuple[Ints, Ints, Ints, Ints]:
    """Expand the seed sets ``seeds[offsets[i]:offsets[i + 1]]`` one after the other.

    Args:
        outgoing, incoming: the adjacency as two :class:`Lists`.
        allowed: (num_relations,) uint8, 1 where a relation may be walked; empty where all may.
        plan: a :class:`Plan`.
        seeds, offsets: (total,) and (sets + 1,) int64.
        visited: (num_entities,) int64, this thread's own.
        query: number of the first query, larger than any that used `visited`; each set takes one.
        nodes, edges: buffers to write into; longer ones are handed back where they were too short.

    Returns:
        nodes (2, ≥ N), edges (4, ≥ E), cuts (5, ≥ C) of all sets one after the other, and starts (3, sets + 1), the
        column of each at which each set begins, and at last N, E, C; edges number their nodes from 0 in each set.
    """
    num_sets = offsets.shape[0] - 1
    cuts = np.empty((5, 4), np.int64)
    starts = np.zeros((3, num_sets + 1), np.int64)
    found, count, num_cuts = np.int64(0), np.int64(0), np.int64(0)
    for number in range(num_sets):
        first, first_edge, doubtful, key = found, count, False, np.int64(query + number)
        nodes = _grow(nodes, found + offsets[number + 1] - offsets[number])
        for place in range(offsets[number], offsets[number + 1]):
            if visited[seeds[place]] >> _SHIFT != key:
                visited[seeds[place]] = key << _SHIFT | (found - first)
                nodes[0, found], nodes[1, found] = seeds[place], 0
                found += 1
        begin, end = first, found
        for _ in range(plan.num_hops):
            for place in range(begin, end):
                entity, hop, local = nodes[0, place], nodes[1, place], place - first
                out_degree = _degree(outgoing, entity, allowed) if plan.use_out else np.int64(0)
                in_degree = _degree(incoming, entity, allowed) if plan.use_in else np.int64(0)
                kept_out, kept_in = _shares(out_degree, in_degree, plan.max_neighbours)
                lost = np.int64(0)
                if kept_out:
                    nodes, found, edges, count, missed, _unsure = _follow(
                        outgoing, incoming, True, local, out_degree, kept_out, allowed, plan,
                        visited, key, nodes, first, found, edges, count,
                    )  # fmt: skip
                    lost += missed
                if kept_in:
                    nodes, found, edges, count, missed, unsure = _follow(
                        incoming, outgoing, False, local, in_degree, kept_in, allowed, plan,
                        visited, key, nodes, first, found, edges, count,
                    )  # fmt: skip
                    lost += missed
                    doubtful |= unsure
                degree, kept = out_degree + in_degree, kept_out + kept_in
                if kept < degree:
                    cuts, num_cuts = _record(cuts, num_cuts, entity, hop, degree, kept, CUT_BY_MAX_NEIGHBOURS)
                if lost:
                    cuts, num_cuts = _record(cuts, num_cuts, entity, hop, kept, kept - lost, CUT_BY_MAX_NODES)
            begin, end = end, found
        if plan.induced:
            edges, count = _induce(outgoing, incoming, allowed, visited, key, nodes, first, found, edges, count)
        elif doubtful:
            count = _drop_repeats(edges, first_edge, count)
        starts[0, number + 1], starts[1, number + 1], starts[2, number + 1] = found, count, num_cuts
    return nodes, edges, cuts, starts
