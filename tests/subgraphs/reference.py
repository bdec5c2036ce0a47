"""The second way: τ-hop expansion in plain Python over a list of triples, slow and short enough to be believed."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from mmkg.subgraphs import Adjacency

Triple = tuple[int, int, int]


def adjacency_of(num_entities: int, triples: Sequence[tuple[int, int, int]]) -> Adjacency:
    table = np.array(triples, np.int64).reshape(-1, 3)
    return Adjacency.from_triples(table[:, 0], table[:, 1], table[:, 2], num_entities=num_entities)


# 0 -0-> 1 -0-> 2 -1-> 3 -0-> 4,  1 -1-> 3,  4 -1-> 4,  and 5 alone
CHAIN = [(0, 0, 1), (1, 0, 2), (1, 1, 3), (2, 1, 3), (3, 0, 4), (4, 1, 4)]

# 0 is a hub with 10 tails 1 … 10 (relation 0) and 10 heads 11 … 20 (relation 1).
HUB = [(0, 0, tail) for tail in range(1, 11)] + [(head, 1, 0) for head in range(11, 21)]


@dataclass
class Reference:
    hops: dict[int, int] = field(default_factory=dict)  # in the order found
    triples: set[int] = field(default_factory=set)
    truncations: list[tuple[int, int, int, int, str]] = field(default_factory=list)


def brute_force(
    triples: list[Triple],
    seeds: list[int],
    *,
    num_hops: int,
    relations: list[int] | None = None,
    direction: str = "both",
    max_neighbours: int | None = None,
    max_nodes: int | None = None,
    induced: bool = False,
) -> Reference:
    """Expand by scanning all triples for every node."""

    def allowed(row: int) -> bool:
        return relations is None or triples[row][1] in relations

    found = Reference(dict.fromkeys(seeds, 0))
    level = list(found.hops)
    for hop in range(num_hops):
        following: list[int] = []
        for node in level:
            out = [row for row, (h, _, _) in enumerate(triples) if h == node and allowed(row) and direction != "in"]
            into = [row for row, (_, _, t) in enumerate(triples) if t == node and allowed(row) and direction != "out"]
            degree = len(out) + len(into)
            if max_neighbours is not None and degree > max_neighbours:
                half = max_neighbours - max_neighbours // 2
                kept_out = min(len(out), max(half, max_neighbours - len(into)))
                out, into = out[:kept_out], into[: max_neighbours - kept_out]
                found.truncations.append((node, hop, degree, max_neighbours, "max_neighbours"))
            followed = 0
            for row, far in [(row, triples[row][2]) for row in out] + [(row, triples[row][0]) for row in into]:
                if far not in found.hops:
                    if max_nodes is not None and len(found.hops) >= max_nodes:
                        continue
                    found.hops[far] = hop + 1
                    following.append(far)
                found.triples.add(row)
                followed += 1
            if followed < len(out) + len(into):
                found.truncations.append((node, hop, len(out) + len(into), followed, "max_nodes"))
        level = following
    if induced:
        found.triples = {
            row for row, (h, _, t) in enumerate(triples) if allowed(row) and h in found.hops and t in found.hops
        }
    return found


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[Triple]]:
    """A multigraph: self loops, repeated triples and isolated entities are likely, and there may be no triple."""
    num_entities = draw(st.integers(1, 12))
    entity = st.integers(0, num_entities - 1)
    return num_entities, draw(st.lists(st.tuples(entity, st.integers(0, 3), entity), max_size=40))


@st.composite
def seeded_graphs(draw: st.DrawFn) -> tuple[int, list[Triple], list[int]]:
    """A multigraph and up to four seeds, which may repeat."""
    num_entities, triples = draw(graphs())
    return num_entities, triples, draw(st.lists(st.integers(0, num_entities - 1), max_size=4))
