r"""τ-hop expansion: the entities within τ edges of the seeds, how far each is, and the triples between them.

On the way of a fact: between the adjacency and what learns or is drawn. With one seed the result is its ego-subgraph;
with several it is a breadth-first search from all of them at once, and the hop is the distance to the nearest.

*Walked* (the default, and the faster): the triples that a walk of τ steps can use, so every allowed triple that stands
at a node of hop < τ. A triple between two nodes at hop τ is not there. *Induced*: every allowed triple between two
nodes of the subgraph, whichever way the walk went; what :func:`networkx.ego_graph` and DGL's and PyG's k-hop
functions give.

Caps are for hubs, and each use of one is a row of ``Subgraph.truncations``:

- ``max_neighbours``: edges followed at one node. Out-edges and in-edges share it half and half; what one direction
  leaves unused goes to the other. Which: the first in table order, or, with `random_seed`, one of each of
  ``max_neighbours`` equal stretches of the list (in table order, so every frequent relation keeps its share).
  The draw depends on the seed and on the node alone, not on threads, batch or other seeds.
- ``max_nodes``: nodes of one subgraph, seeds included, in the order found. Edges between nodes that are in stay.

With ``induced``, a triple between two kept nodes is there even where a cap did not follow it.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmkg.errors import MmkgError, unknown_name
from mmkg.subgraphs.adjacency import Adjacency
from mmkg.subgraphs.kernels import UNLIMITED, Plan, expand_seed_sets
from mmkg.subgraphs.subgraph import Subgraph, Subgraphs

Direction = Literal["both", "out", "in"]
_DIRECTIONS = {"both": (True, True), "out": (True, False), "in": (False, True)}
_SETS_PER_TASK = 32
_ANY_RELATION = np.empty(0, np.uint8)
_ANY_RELATION.flags.writeable = False

Ints = NDArray[np.int64]


def expand(
    adjacency: Adjacency,
    seed_indices: ArrayLike,
    *,
    num_hops: int,
    relations: Sequence[int] | None = None,
    direction: Direction = "both",
    max_neighbours: int | None = None,
    max_nodes: int | None = None,
    induced: bool = False,
    random_seed: int | None = None,
) -> Subgraph:
    """Cut the subgraph around one set of seeds.

    Args:
        adjacency: the graph.
        seed_indices: (S,) entity indices; repeats count once, none gives an empty subgraph.
        num_hops: τ, 0 or more.
        relations: relation indices that may be walked; None for all.
        direction: "out" walks from head to tail, "in" from tail to head, "both" either way. Edges of the result
            point from head to tail always.
        max_neighbours: most edges followed at one node; None for all.
        max_nodes: most nodes, the seeds among them; None for all.
        induced: every triple between the nodes, not only the walked ones.
        random_seed: sample what `max_neighbours` keeps; None keeps the first.

    Raises:
        MmkgError: a seed or relation does not exist, or an option cannot be used.
    """
    plan, allowed = _plan(
        adjacency, num_hops, relations, direction, max_neighbours, max_nodes, induced=induced, random_seed=random_seed
    )
    seeds = _seed_array(seed_indices, adjacency.num_entities, "")
    if max_nodes is not None and len(seeds) > max_nodes:
        _check_room(seeds, max_nodes, "")
    offsets = np.array([0, len(seeds)])
    nodes, edges, cuts, _ = _run(adjacency, plan, allowed, seeds, offsets)
    return Subgraph(num_hops, nodes[0], nodes[1], edges[0], edges[1], edges[2], edges[3], cuts)


def expand_many(
    adjacency: Adjacency,
    seed_sets: Sequence[ArrayLike],
    *,
    num_hops: int,
    relations: Sequence[int] | None = None,
    direction: Direction = "both",
    max_neighbours: int | None = None,
    max_nodes: int | None = None,
    induced: bool = False,
    random_seed: int | None = None,
    num_threads: int | None = None,
) -> Subgraphs:
    """Cut one subgraph around each set of seeds, in parallel; each is what :func:`expand` gives for it alone.

    Args:
        adjacency: the graph.
        seed_sets: one array of entity indices for each subgraph.
        num_threads: None for one a core. The result does not depend on it.
        num_hops, relations, direction, max_neighbours, max_nodes, induced, random_seed: as in :func:`expand`.

    Raises:
        MmkgError: as in :func:`expand`, naming the seed set.
    """
    plan, allowed = _plan(
        adjacency, num_hops, relations, direction, max_neighbours, max_nodes, induced=induced, random_seed=random_seed
    )
    if num_threads is not None:
        _check_number("num_threads", num_threads, 1)
    seeds, offsets = _flatten(adjacency, seed_sets, max_nodes)
    parts = []
    for first in range(0, len(seed_sets), _SETS_PER_TASK):
        part = offsets[first : first + _SETS_PER_TASK + 1]
        parts.append((seeds[part[0] : part[-1]], part - part[0]))
    threads = min(num_threads or os.cpu_count() or 1, len(parts))
    if threads <= 1:
        results = [_run(adjacency, plan, allowed, *part) for part in parts]
    else:
        with ThreadPoolExecutor(threads, thread_name_prefix="expand") as pool:
            results = list(pool.map(lambda part: _run(adjacency, plan, allowed, *part), parts))
    return _join(num_hops, results)


def _run(
    adjacency: Adjacency, plan: Plan, allowed: NDArray[np.uint8], seeds: Ints, offsets: Ints
) -> tuple[Ints, Ints, Ints, Ints]:
    workspace = adjacency.lend_workspace()
    query = workspace.take_numbers(len(offsets) - 1)
    try:
        nodes, edges, cuts, starts = expand_seed_sets(
            adjacency.outgoing,
            adjacency.incoming,
            allowed,
            plan,
            seeds,
            offsets,
            workspace.visited,
            query,
            workspace.nodes,
            workspace.edges,
        )
        found, count, num_cuts = starts[:, -1].tolist()
        result = nodes[:, :found].copy(), edges[:, :count].copy(), cuts[:, :num_cuts].copy(), starts
        workspace.keep_buffers(nodes, edges)
    finally:
        adjacency.return_workspace(workspace)
    return result


def _join(num_hops: int, results: list[tuple[Ints, Ints, Ints, Ints]]) -> Subgraphs:
    """Put the parts behind one another; their starts move on by what stands before."""
    starts = [np.zeros((3, 1), np.int64)]
    for part in results:
        starts.append(part[3][:, 1:] + starts[-1][:, -1:])
    nodes, edges, cuts = (
        np.concatenate([np.empty((rows, 0), np.int64), *(part[place] for part in results)], axis=1)
        for place, rows in enumerate((2, 4, 5))
    )
    return Subgraphs(num_hops, nodes, edges, cuts, np.concatenate(starts, axis=1))


def _plan(
    adjacency: Adjacency,
    num_hops: int,
    relations: Sequence[int] | None,
    direction: Direction,
    max_neighbours: int | None,
    max_nodes: int | None,
    *,
    induced: bool,
    random_seed: int | None,
) -> tuple[Plan, NDArray[np.uint8]]:
    """Check the options and write them as numbers."""
    if direction not in _DIRECTIONS:
        raise MmkgError(unknown_name("direction", str(direction), _DIRECTIONS))
    _check_number("num_hops", num_hops, 0)
    for name, cap in (("max_neighbours", max_neighbours), ("max_nodes", max_nodes)):
        if cap is not None:
            _check_number(name, cap, 1)
    use_out, use_in = _DIRECTIONS[direction]
    plan = Plan(
        int(num_hops),
        use_out,
        use_in,
        bool(induced),
        int(UNLIMITED if max_neighbours is None else max_neighbours),
        int(UNLIMITED if max_nodes is None else max_nodes),
        random_seed is not None,
        0 if random_seed is None else random_seed % 2**62,
    )
    return plan, _ANY_RELATION if relations is None else _relation_mask(relations, adjacency.num_relations)


def _check_number(name: str, value: int, least: int) -> None:
    if not isinstance(value, int | np.integer) or value < least:
        raise MmkgError(f"{name}: expected a whole number, {least} or more, found {value!r}.")


def _relation_mask(relations: Sequence[int], num_relations: int) -> NDArray[np.uint8]:
    chosen = np.asarray(relations)
    if chosen.size and (chosen.dtype.kind not in "iu" or chosen.min() < 0 or chosen.max() >= num_relations):
        raise MmkgError(f"relations: expected relation indices 0 … {num_relations - 1:,}, found {list(relations)}.")
    # One place more than there are relations: a mask of length 0 would read as "any relation".
    mask = np.zeros(num_relations + 1, np.uint8)
    mask[chosen.astype(np.int64)] = 1
    mask.flags.writeable = False
    return mask


def _seed_array(seed_indices: ArrayLike, num_entities: int, where: str) -> Ints:
    try:
        seeds = np.atleast_1d(np.asarray(seed_indices))
    except ValueError as error:  # lists of different lengths
        raise MmkgError(f"{where}seeds: expected a list of entity indices, found {seed_indices!r}.") from error
    if seeds.size == 0:
        return np.empty(0, np.int64)
    if seeds.ndim != 1 or seeds.dtype.kind not in "iu":
        raise MmkgError(f"{where}seeds: expected a list of entity indices, found {seeds.dtype} of shape {seeds.shape}.")
    if seeds.min() < 0 or seeds.max() >= num_entities:
        wrong = next(seed for seed in seeds.tolist() if not 0 <= seed < num_entities)
        raise MmkgError(f"{where}seeds: no entity has index {wrong:,}; expected 0 … {num_entities - 1:,}.")
    return np.ascontiguousarray(seeds, np.int64)


def _check_room(seeds: Ints, max_nodes: int, where: str) -> None:
    different = len(np.unique(seeds))
    if different > max_nodes:
        raise MmkgError(
            f"{where}max_nodes: the {different} seeds alone are more than {max_nodes}. Raise it, or give fewer seeds."
        )


def _flatten(adjacency: Adjacency, seed_sets: Sequence[ArrayLike], max_nodes: int | None) -> tuple[Ints, Ints]:
    """All seeds in one array, and where each set begins."""
    arrays = [
        _seed_array(seed_set, adjacency.num_entities, f"seed set {number}: ")
        for number, seed_set in enumerate(seed_sets)
    ]
    for number, array in enumerate(arrays):
        if max_nodes is not None and len(array) > max_nodes:
            _check_room(array, max_nodes, f"seed set {number}: ")
    offsets = np.zeros(len(arrays) + 1, np.int64)
    np.cumsum([len(array) for array in arrays], out=offsets[1:])
    return np.concatenate([np.empty(0, np.int64), *arrays]), offsets
