"""Questions "describe this entity" out of a graph: what is shown of its surroundings, and the subgraph it makes.

A subgraph holds the entity (its name alone), neighbours in facts, entities that stand alike, and every fact between
any two of them. Own descriptions are never there, nor those of valid and test entities: not even through a neighbour,
since a node's text is its own name and description only.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mmkg.builds.opened import open_build
from mmkg.errors import TrainingError
from mmkg.shards import digest
from mmkg.subgraphs.alike import most_alike, pairs_of
from mmkg.subgraphs.assemble import EXTRA_RELATIONS, Floats, Ints, MultimodalSubgraph, Picture, assemble
from mmkg.tasks.descriptions import DescribedGraph, DescriptionSplit, shown_descriptions, split_descriptions
from mmkg.training.reasoning.describing.recipe import NeighbourhoodConfig
from mmkg.training.reasoning.questions import GraphQuestion, QuestionSet
from mmkg.training.reasoning.triple_graph import kept_pictures


@dataclass(frozen=True, kw_only=True, eq=False)
class DescribingData:
    """Everything that a run reads.

    Attributes:
        graph: names, descriptions, facts.
        split: by entity.
        shown: what neighbours may see of each entity.
        questions: in the order of the split.
    """

    graph: DescribedGraph
    split: DescriptionSplit
    shown: Sequence[str | None]
    questions: QuestionSet


def described_graph_of_build(build_folder: Path) -> tuple[DescribedGraph, dict[int, list[Picture]]]:
    """Return a build as a described graph, with the pictures that it has vectors of.

    Entities without a description are never described. Facts are all of the build, those of its valid and test splits
    for link prediction too: they are not what is asked for here.

    Raises:
        TrainingError: no entity of the build has a description.
    """
    with open_build(build_folder) as build:
        rows = build.entities.to_table(columns=["entity_id", "description"])
        columns = ["head_index", "relation_index", "tail_index"]
        triples = build.triples.to_table(columns=columns)
        relations = build.relations.to_table(columns=["label", "name"]).to_pylist()
        graph = DescribedGraph(
            entity_ids=rows["entity_id"].to_pylist(),
            names=build.entity_labels,
            descriptions=[text and " ".join(text.split()) for text in rows["description"].to_pylist()],
            relations=[row["label"] or row["name"] for row in relations],
            triples=np.stack([triples[name].to_numpy() for name in columns], axis=1).astype(np.int64),
        )
        pictures = kept_pictures(build)
    if not any(graph.descriptions):
        raise TrainingError(f"{build_folder}: no entity has a description, so there is nothing to learn to say")
    return graph, pictures


def prepare_descriptions(
    graph: DescribedGraph, config: NeighbourhoodConfig, *, pictures: Mapping[int, Sequence[Picture]] | None = None
) -> DescribingData:
    """Split the entities, and make a question of each.

    Args:
        graph: names, descriptions, facts.
        config: what is shown.
        pictures: of entities, by number.

    Raises:
        ConfigError: nothing would be left to learn from.
    """
    split = split_descriptions(
        graph, num_valid=config.num_valid, num_test=config.num_test, random_seed=config.split_seed
    )
    shown = shown_descriptions(graph, split)
    maker = _Maker(graph, config, split, shown, pictures or {})
    parts = {name: maker.questions(entities) for name, entities in vars(split).items()}
    relation_RD = np.zeros((len(graph.relations) + len(EXTRA_RELATIONS), maker.dimension), np.float32)
    questions = QuestionSet(
        **parts,
        relation_RD=relation_RD,
        embedder=digest(["texts as they are", list(graph.relations), maker.dimension]),
        told={
            "entities": len(graph.entity_ids),
            "facts": len(graph.triples),
            "rejected": len(graph.rejects),
            **maker.cut,
        },
    )
    return DescribingData(graph=graph, split=split, shown=shown, questions=questions)


class _Maker:
    """Makes subgraphs of one graph."""

    def __init__(
        self,
        graph: DescribedGraph,
        config: NeighbourhoodConfig,
        split: DescriptionSplit,
        shown: Sequence[str | None],
        pictures: Mapping[int, Sequence[Picture]],
    ) -> None:
        self.graph, self.config, self.split, self.shown = graph, config, split, shown
        self.pictures = pictures if config.shown == "texts" else {}
        known = [one.vector for of_one in self.pictures.values() for one in of_one if one.vector is not None]
        self.dimension = len(known[0]) if known else 0
        count = len(graph.entity_ids)
        self.facts: dict[int, list[tuple[int, int]]] = defaultdict(list)  # head -> relation, tail
        # entity -> relation and direction -> its neighbours
        self.facts_of: dict[int, dict[tuple[int, bool], set[int]]] = defaultdict(lambda: defaultdict(set))
        for head, relation, tail in graph.triples.tolist():
            self.facts[head].append((relation, tail))
            if head != tail:
                self.facts_of[head][relation, False].add(tail)
                self.facts_of[tail][relation, True].add(head)
        self.degree = np.bincount(graph.triples[:, [0, 2]].ravel(), minlength=count)
        self.cut = {"neighbours": 0, "neighbours_not_shown": 0}

    def questions(self, entities: Ints) -> list[GraphQuestion]:
        """One for each entity, in order."""
        surroundings = entities
        if self.config.exchanged:  # one circle: none keeps its own
            surroundings = np.roll(np.random.default_rng(self.config.split_seed).permutation(entities), 1)
            order = np.random.default_rng(self.config.split_seed).permutation(len(entities))
            surroundings = surroundings[np.argsort(order)]
        alike = self._alike(surroundings)
        return [
            self._question(entity, around, row)
            for entity, around, row in zip(entities.tolist(), surroundings.tolist(), alike.tolist(), strict=True)
        ]

    def _alike(self, entities: Ints) -> Ints:
        graph = self.graph
        if not self.config.max_alike:
            return np.zeros((len(entities), 0), np.int64)
        pairs = pairs_of(graph.triples, len(graph.entity_ids), len(graph.relations))
        rarity = np.log(len(graph.entity_ids) / np.asarray(pairs.sum(axis=0)).ravel())
        return most_alike(pairs, entities, self.split.train, self.config.max_alike, weight=rarity)[0]

    def _question(self, entity: int, around: int, alike: Sequence[int]) -> GraphQuestion:
        near = [other for other in self._neighbours(around) if other != entity]
        kept = near[: self.config.max_neighbours]
        self.cut["neighbours"] += len(near)
        self.cut["neighbours_not_shown"] += len(near) - len(kept)
        similar = [one for one in alike if one >= 0 and one != entity]
        others = [*kept, *(one for one in similar if one not in kept)]
        subgraph = self._subgraph(entity, around, others)
        said = list(dict.fromkeys([*similar, *kept]))[: self.config.num_in_words]
        text = " ; ".join([*(self._text(one) for one in reversed(said)), self.graph.names[entity]])
        description = self.graph.descriptions[entity]
        return GraphQuestion(key=self.graph.entity_ids[entity], text=text, subgraph=subgraph, answer=description or "")

    def _neighbours(self, entity: int) -> list[int]:
        """Neighbours, those first that tell most: of each relation and direction its rarest one, then its next one.

        Among these, relations with few neighbours come first: a film has one director and many actors.
        """
        order = []
        for others in self.facts_of[entity].values():
            rarest = sorted(others, key=lambda other: (self.degree[other], other))
            order += [(rank, len(others), self.degree[other], other) for rank, other in enumerate(rarest)]
        return list(dict.fromkeys(other for *_, other in sorted(order)))

    def _subgraph(self, entity: int, around: int, others: Sequence[int]) -> MultimodalSubgraph:
        nodes = [around, *others]
        place = {node: at for at, node in enumerate(nodes)}
        facts = ((head, relation, tail) for head in nodes for relation, tail in self.facts[head] if tail in place)
        edges = sorted({(place[head], relation, place[tail]) for head, relation, tail in facts})
        src, relation, dst = np.array(edges, dtype=np.int64).reshape(-1, 3).T
        called = [entity, *others]  # the placebo has its own name
        labels: list[str | None] = [None] * len(called)
        if self.config.shown == "texts":
            labels = [self.graph.names[entity], *(self._text(one) for one in others)]
        nothing: list[Floats | None] = [None] * len(called)
        return assemble(
            entity_ids=[self.graph.entity_ids[one] for one in called],
            labels=labels,
            vectors=nothing,
            src=src,
            relation=relation,
            dst=dst,
            num_relations=len(self.graph.relations),
            num_seeds=1,
            dimension=self.dimension,
            pictures={at: self.pictures[one] for at, one in enumerate(called) if one in self.pictures},
            max_images=self.config.max_images,
        )

    def _text(self, entity: int) -> str:
        """What is seen of a neighbour."""
        shown = self.shown[entity]
        return self.graph.names[entity] if shown is None else f"{self.graph.names[entity]}: {shown}"


def count_descriptions(data: DescribingData) -> dict[str, int]:
    """How many train entities have each description."""
    counts: dict[str, int] = {}
    for entity in data.split.train.tolist():
        text = data.shown[entity]
        if text is not None:
            counts[text] = counts.get(text, 0) + 1
    return counts


def reporting(data: DescribingData, split: str) -> DescribingData:
    """Return the data with the questions of a split as those to report on."""
    return replace(data, questions=data.questions.reporting(split))
