"""What surrounds an entity whose class is asked for: neighbours by hop, without whatever would name the class.

Triples of the relation that is asked for are nowhere, in neither direction and of no entity: "Everest, instance of,
mountain" would be the answer, and "K2, instance of, mountain" a path to it. Classes are no neighbours either, unless
wanted, since other relations tie an entity to its class too.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from mmkg.subgraphs.assemble import Floats, Ints, MultimodalSubgraph, assemble
from mmkg.tasks.mars import MarKG
from mmkg.training.reasoning.classes.recipe import ClassesConfig


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """An entity with those around it.

    Attributes:
        entity: its index.
        first: entities one hop away that are shown.
        second: entities two hops away that are shown.
    """

    entity: int
    first: tuple[int, ...]
    second: tuple[int, ...]

    @property
    def nodes(self) -> tuple[int, ...]:
        """The entity, then the others by hop."""
        return (self.entity, *self.first, *self.second)


class Neighbours:
    """The graph that questions are asked on."""

    def __init__(self, markg: MarKG, config: ClassesConfig, *, relation: int, classes: Collection[int]) -> None:
        """Take the relation out.

        Args:
            markg: names and triples.
            config: how many are shown, and whether classes are.
            relation: that is asked for.
            classes: entities that are classes.
        """
        self.markg, self.config = markg, config
        self.triples: Ints = markg.triples[markg.triples[:, 1] != relation]
        self._kept_out = set(classes) if config.class_nodes == "hidden" else set()
        self._facts: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self._near: dict[int, set[int]] = defaultdict(set)
        for head, of, tail in self.triples.tolist():
            self._facts[head].append((of, tail))
            if head != tail:
                self._near[head].add(tail)
                self._near[tail].add(head)

    def near(self, entity: int) -> set[int]:
        """All entities one hop away that may be shown."""
        return self._near[entity] - self._kept_out

    def tied(self, entity: int) -> set[int]:
        """All entities one hop away, classes among them."""
        return set(self._near[entity])

    def around(self, entity: int) -> Surroundings:
        """The neighbours that are shown; the same ones whatever the order of the triples."""
        first = sorted(self.near(entity), key=lambda one: (len(self._near[one]), one))[: self.config.max_neighbours]
        times = Counter(other for one in first for other in self.near(one))
        reached = times.keys() - self.near(entity) - {entity}
        second = sorted(reached, key=lambda one: (-times[one], len(self._near[one]), one))[: self.config.max_second]
        return Surroundings(entity=entity, first=tuple(first), second=tuple(second))

    def subgraph(
        self,
        shown: Surroundings,
        *,
        key: str,
        texts: Sequence[str],
        vector_of: Callable[[str], Floats],
        dimension: int,
    ) -> MultimodalSubgraph:
        """Return the nodes that are shown and every triple between two of them, the entity first.

        Args:
            shown: the nodes.
            key: what the first node is called: the entity, or in a placebo another one that stands in its place.
            texts: of each node.
            vector_of: vector of a text.
            dimension: numbers of it.
        """
        place = {node: at for at, node in enumerate(shown.nodes)}
        facts = ((head, of, tail) for head in shown.nodes for of, tail in self._facts[head] if tail in place)
        edges = sorted((place[head], of, place[tail]) for head, of, tail in facts)
        src, relation, dst = np.array(edges, dtype=np.int64).reshape(-1, 3).T
        return assemble(
            entity_ids=[key, *(self.markg.entity_ids[node] for node in shown.nodes[1:])],
            labels=texts,
            vectors=[vector_of(text) for text in texts],
            src=src,
            relation=relation,
            dst=dst,
            num_relations=len(self.markg.relation_ids),
            num_seeds=1,
            dimension=dimension,
        )

    def in_words(self, shown: Surroundings) -> str:
        """Names of the neighbours by hop, a line each (G4-16): ``1-hop neighbours: Nepal; Himalayas``."""
        hops = ((1, shown.first), (2, shown.second))
        names = self.markg.names
        return "\n".join(f"{hop}-hop neighbours: {'; '.join(names[one] for one in of)}" for hop, of in hops if of)
