"""The graph of MARS: MarKG and the pairs of train as one, and the subgraph of each item.

A pair of train is an edge of its own relation (``analogy P31``), so that what a look-up knows is in the graph and an
ablation can take it out. An item's subgraph is retrieved from its question entity, as in the paper: the nearest
triples, their entities, one hop, the best of it; among the pairs and in MarKG apart, which is ours. When an item is
learnt from, its own two facts are hidden before anything is retrieved: an answer that only they lead to must not be
left behind as a node without edges.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from mmkg.errors import ConfigError
from mmkg.subgraphs.adjacency import Adjacency
from mmkg.subgraphs.assemble import MultimodalSubgraph, Picture, assemble
from mmkg.subgraphs.retrieve import RetrievalCache, RetrievalConfig
from mmkg.subgraphs.triple_index import ComposedIndex
from mmkg.tasks.mars import MarKG, MarsItem
from mmkg.tasks.mars_controls import strict_triples

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

RELEVANCE_GAIN = 20.0  # of a cosine, before triples of one node are summed: only the best count
NUM_FEATURES = 8  # of a node, see `node_features`


class MarsGraphConfig(BaseModel):
    """Which edges the graph of MARS has, and how an item's subgraph is retrieved."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    with_markg: bool = True
    """MarKG's triples."""
    with_facts: bool = True
    """The pairs of train; without them and with MarKG, nothing of train can be looked up."""
    with_example: bool = False
    """The example's two entities are nodes too, with their edges to what is there. The paper retrieves from the
    question alone; with the example Hits@1 of dev was .02 lower."""
    strict: bool = False
    """Leave out of MarKG every edge between the two entities of a pair of train or dev."""
    retrieval: RetrievalConfig = RetrievalConfig(num_nearest=20, num_triples=48, max_neighbours=200)
    """n, N and hops among the pairs of train; the paper's N for MARS is about 10."""
    markg_retrieval: RetrievalConfig = RetrievalConfig(num_nearest=1, num_triples=24, max_neighbours=200)
    """The same in MarKG, which has twenty times as many triples: with one budget they would leave no room for pairs."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """An analogy over the graph: as head is to tail, so is the question to what?

    Attributes:
        head, tail, question, answer: entity indices.
        relation: of the graph; its two facts are hidden when this is learnt from.
        reverse: the facts run from answer to question and from tail to head.
        own_count: items of train that hold this fact, as question or example; they say nothing when this is learnt.
    """

    head: int
    tail: int
    question: int
    answer: int
    relation: int
    reverse: bool = False
    own_count: int = 0

    @property
    def facts(self) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """The triples that say the answer and the example."""
        if self.reverse:
            return (self.answer, self.relation, self.question), (self.tail, self.relation, self.head)
        return (self.question, self.relation, self.answer), (self.head, self.relation, self.tail)


@dataclass(frozen=True, kw_only=True, eq=False)
class ItemGraph:
    """An item's subgraph, and what is known of its nodes.

    Attributes:
        subgraph: the seed is the question; with examples also head and tail, each once.
        entity_N: entity index of each node; -1 for a picture.
        relevance_N2: how near the question the triples of each node are, those of MarKG and those of train; 0 for none.
        tied_N4: how many triples lead from the question to each node, of MarKG and of train, and back.
    """

    subgraph: MultimodalSubgraph
    entity_N: Ints
    relevance_N2: Floats
    tied_N4: Floats


def relation_names(train: Sequence[MarsItem]) -> list[str]:
    """The relations of train, sorted: they are numbered after those of MarKG."""
    return sorted({item.relation for item in train})


def questions_of(items: Sequence[MarsItem], markg: MarKG, train: Sequence[MarsItem]) -> list[Question]:
    """Items as questions over the graph.

    Args:
        items: of train, or others: a relation that train does not have is numbered -1 and hides nothing.
        markg: the graph.
        train: numbers relations, and says how often each fact is asked for.
    """
    number = {name: len(markg.relation_ids) + place for place, name in enumerate(relation_names(train))}
    count: Counter[tuple[int, str, int]] = Counter()
    for item in train:
        count[item.question, item.relation, item.answer] += 1
        count[item.example_head, item.relation, item.example_tail] += 1
    return [
        Question(
            head=item.example_head,
            tail=item.example_tail,
            question=item.question,
            answer=item.answer,
            relation=number.get(item.relation, -1),
            own_count=count[item.question, item.relation, item.answer],
        )
        for item in items
    ]


def swapped(items: Sequence[MarsItem]) -> list[MarsItem]:
    """Items with question and example exchanged: their examples are facts to learn from as well, 766 more in train."""
    return [
        replace(
            item,
            example_head=item.question,
            example_tail=item.answer,
            question=item.example_head,
            answer=item.example_tail,
        )
        for item in items
    ]


def facts_of(train: Sequence[MarsItem], markg: MarKG) -> list[tuple[int, int, int]]:
    """The triples that train says, of questions and of examples, each once and in order; relations as in the graph."""
    return sorted({fact for question in questions_of(train, markg, train) for fact in question.facts})


def count_answers(train: Sequence[MarsItem]) -> Counter[int]:
    """How often each entity is an answer in train, or the tail of an example."""
    return Counter(entity for item in train for entity in (item.answer, item.example_tail))


def markg_triples(markg: MarKG, config: MarsGraphConfig, pairs: Sequence[MarsItem]) -> Ints:
    """MarKG's triples, without those between the two entities of a pair where the config is strict."""
    return strict_triples(markg, pairs) if config.strict else markg.triples


class MarsGraph:
    """All edges, their vectors, and the subgraph of any item."""

    def __init__(
        self,
        markg: MarKG,
        train: Sequence[MarsItem],
        entity_ND: Floats,
        relation_RD: Floats,
        config: MarsGraphConfig,
        *,
        hidden_pairs: Sequence[MarsItem] = (),
        pictures: Mapping[int, Sequence[Picture]] | None = None,
    ) -> None:
        """Put the edges together.

        Args:
            markg: the graph.
            train: its pairs become edges.
            entity_ND: vectors of the entities.
            relation_RD: vectors of MarKG's relations.
            config: which edges.
            hidden_pairs: more items whose pairs a strict graph must not tie, those of dev.
            pictures: of entities, the best first.

        Raises:
            ConfigError: a graph without any edge was asked for.
        """
        self.markg, self.config, self.pictures = markg, config, pictures or {}
        names = relation_names(train)
        count = len(markg.relation_ids)
        of_id = {name: place for place, name in enumerate(markg.relation_ids)}
        like = np.zeros((len(names), entity_ND.shape[1]), np.float32)
        for place, name in enumerate(names):
            if name in of_id:
                like[place] = relation_RD[of_id[name]]
        self.relation_RD = np.concatenate([relation_RD, like])
        self.entity_ND = entity_ND
        self.group_R = np.repeat([0, 1, 2], [count, len(names), 2])  # MarKG, pairs, "image of" and "attribute of"
        known = markg_triples(markg, config, [*train, *hidden_pairs])
        parts = [known if config.with_markg else np.empty((0, 3), np.int64)]
        if config.with_facts:
            parts.append(np.array(facts_of(train, markg), dtype=np.int64).reshape(-1, 3))
        self.triples = np.concatenate(parts)
        if not len(self.triples):
            raise ConfigError("the graph of MARS has no edge: set with_markg or with_facts, or knowledge='none'")

    @property
    def num_relations(self) -> int:
        """MarKG's, and one for each relation of train."""
        return len(self.relation_RD)

    @cached_property
    def adjacency(self) -> Adjacency:
        """Of all edges."""
        return Adjacency.from_triples(*self.triples.T, num_entities=len(self.markg.entity_ids))

    @cached_property
    def _retrievals(self) -> list[tuple[range, RetrievalCache]]:
        """Rows of MarKG's triples and of train's, and what finds some of them: each of the two has its own budget."""
        first, count = int((self.group_R[self.triples[:, 1]] == 0).sum()), len(self.triples)  # MarKG's come first
        parts = ((range(first), self.config.markg_retrieval), (range(first, count), self.config.retrieval))
        found = []
        for rows, config in parts:
            if rows:
                part = self.triples[rows.start : rows.stop]
                adjacency = Adjacency.from_triples(*part.T, num_entities=len(self.markg.entity_ids))
                index = ComposedIndex(part, self.entity_ND, self.relation_RD)
                found.append((rows, RetrievalCache(None, index, adjacency, config)))
        return found

    @cached_property
    def _row_of(self) -> dict[tuple[int, int, int], int]:
        return {(h, r, t): row for row, (h, r, t) in enumerate(self.triples.tolist())}

    def subgraph_of(self, item: Question, *, hide: bool) -> ItemGraph:
        """Return the subgraph of an item.

        Args:
            item: what is asked.
            hide: the item's two facts are as if they were not there, before anything is retrieved: what only they lead
                to is not in the subgraph either. For what is learnt from.
        """
        example = [item.head, item.tail] if self.config.with_example else []
        named = list(dict.fromkeys([item.question, *example]))
        own = [self._row_of[fact] for fact in item.facts if hide and fact in self._row_of]
        score_of = self._retrieved(item, own)
        entities = dict.fromkeys([*named, *self.triples[list(score_of)][:, [0, 2]].ravel().tolist()])
        for row in (row for end in example for row in self._incident(end)):
            head, _, tail = self.triples[row].tolist()
            if row not in score_of and row not in own and head in entities and tail in entities:
                score_of[row] = -np.inf
        rows = sorted(score_of)
        place = {entity: number for number, entity in enumerate(entities)}
        chosen = self.triples[rows].reshape(-1, 3)
        subgraph = assemble(
            entity_ids=[self.markg.entity_ids[entity] for entity in entities],
            labels=[self.markg.names[entity] for entity in entities],
            vectors=[self.entity_ND[entity] if self.entity_ND[entity].any() else None for entity in entities],
            src=np.array([place[head] for head in chosen[:, 0].tolist()], dtype=np.int64),
            relation=chosen[:, 1],
            dst=np.array([place[tail] for tail in chosen[:, 2].tolist()], dtype=np.int64),
            num_relations=self.num_relations,
            num_seeds=len(named),
            dimension=self.entity_ND.shape[1],
            pictures={place[entity]: self.pictures[entity] for entity in entities if entity in self.pictures},
        )
        return ItemGraph(
            subgraph=subgraph,
            entity_N=np.concatenate([np.array(list(entities)), np.full(subgraph.num_nodes - len(entities), -1)]),
            relevance_N2=self._relevance(subgraph, np.array([score_of[row] for row in rows])),
            tied_N4=self._tied(subgraph),
        )

    def _retrieved(self, item: Question, own: list[int]) -> dict[int, float]:
        """Rows of the item's triples and their cosines, in the order of the retrieval."""
        query_D = self.entity_ND[item.question]
        if not query_D.any():  # nothing to be near to: its own edges
            around = [row for row in self._incident(item.question) if row not in own]
            return dict.fromkeys(around[: self.config.retrieval.num_triples], -np.inf)
        score_of: dict[int, float] = {}
        for rows, retrieval in self._retrievals:
            own_P = [
                [row - rows.start] if row in rows else [] for row in own
            ]  # rows of the other part are none of this
            found = retrieval.retrieve(query_D, (item.question,), own_P[0] if own_P else ())
            ends = {item.head, item.tail} & set(found.seeds.tolist())
            if len(own) > 1 and own_P[1] and (ends or own_P[1][0] in found.rows):  # else the example has no part in it
                found = retrieval.retrieve(query_D, (item.question,), [*own_P[0], *own_P[1]])
            score_of |= dict(zip((found.rows + rows.start).tolist(), found.scores.tolist(), strict=True))
        return score_of

    def _incident(self, entity: int) -> list[int]:
        sides = (self.adjacency.outgoing, self.adjacency.incoming)
        return [row for side in sides for row in side.triples[side.indptr[entity] : side.indptr[entity + 1]].tolist()]

    def _relevance(self, subgraph: MultimodalSubgraph, score_T: npt.NDArray[np.float64]) -> Floats:
        """log(1 + Σ exp(gain · cosine)) over the triples of each node and part."""
        weight_T = np.exp(RELEVANCE_GAIN * score_T)
        group_T = self.group_R[subgraph.relation_E[: len(score_T)]]  # edges to pictures come last
        total_N2 = np.zeros((subgraph.num_nodes, 2))
        np.add.at(total_N2, (subgraph.src_E[: len(score_T)], group_T), weight_T)
        np.add.at(total_N2, (subgraph.dst_E[: len(score_T)], group_T), weight_T)
        return (np.log1p(total_N2) / RELEVANCE_GAIN).astype(np.float32)

    def _tied(self, subgraph: MultimodalSubgraph) -> Floats:
        tied_N4 = np.zeros((subgraph.num_nodes, 4), np.float32)
        group_E = self.group_R[subgraph.relation_E]  # 0 MarKG, 1 train
        ways = ((subgraph.src_E, subgraph.dst_E), (subgraph.dst_E, subgraph.src_E))
        for way, (here_E, there_E) in enumerate(ways):
            asked_E = (here_E == 0) & (group_E < 2)  # node 0 is the question
            np.add.at(tied_N4, (there_E[asked_E], 2 * way + group_E[asked_E]), 1)
        return tied_N4


def node_features(graph: ItemGraph, question: Question, answer_count: Mapping[int, int], *, hide: bool) -> Floats:
    """What is known of each node beside its vector, (N, 8): logs of answer count and degree, relevance, logs of ties.

    Args:
        graph: of the item.
        question: of the item.
        answer_count: how often each entity is an answer in train.
        hide: leave out the item's own fact, since it is learnt from.
    """
    count = np.array([answer_count.get(entity, 0) for entity in graph.entity_N.tolist()], dtype=np.float32)
    if hide:
        count[graph.entity_N == question.answer] -= question.own_count
    ends = np.concatenate([graph.subgraph.src_E, graph.subgraph.dst_E])
    degree = np.bincount(ends, minlength=graph.subgraph.num_nodes).astype(np.float32)
    counts_N2 = np.log1p(np.stack([count, degree], axis=1))
    return np.concatenate([counts_N2, graph.relevance_N2, np.log1p(graph.tied_N4)], axis=1)
