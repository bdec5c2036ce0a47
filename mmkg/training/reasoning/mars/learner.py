r"""The learner of MARS: analogies in, ranks of the candidates out; and its pre-training on MarKG's own triples.

.. math:: L = L_{answer} + \mu L_{relation} + \lambda L_a

The answer is ranked among the candidates by :class:`~mmkg.reasoners.ranking.RankingHead`; the LLM reads "A is to B as C
is to". What is asked for is hidden where it is learnt: the two facts of an item, and its share in how often its answer
was an answer. MarKG pre-training makes analogies out of pairs of MarKG's triples of one relation, either way round, and
predicts the entity and the relation, as the paper says ("entity and relation prediction"); μ is our choice.
Source: Lee et al., ACL 2024, arXiv:2406.02030, section 4.1.
"""

import functools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from mmkg.errors import ConfigError
from mmkg.evaluation.analogy import answer_columns, rank_answers
from mmkg.reasoners.mr_mkg import MrMkg, MrMkgInput, Read
from mmkg.reasoners.ranking import RankingHead
from mmkg.reasoners.trainable import check_frozen, frozen_digests
from mmkg.subgraphs.batch_multimodal import MultimodalBatch, batch_multimodal
from mmkg.tasks.mars import MarKG
from mmkg.training.batches import batches_by_length
from mmkg.training.checkpoint import CHECKPOINT
from mmkg.training.learner import Look, LossParts
from mmkg.training.reasoning.mars.graph import ItemGraph, MarsGraph, Question, node_features
from mmkg.training.reasoning.mars.known import CandidateKnowledge

Int64Array = npt.NDArray[np.int64]
NUM_NAMED = 3  # question, example head, example tail
_ROWS_AT_ONCE = 64
_GRAPHS_KEPT = 4096  # some 80 kB each
_WORDS = ("", " is to", " as", " is to")  # before and after the three names


class AnalogyModel(nn.Module):
    """MR-MKG, a ranking head over the candidates, and a head that tells the relation."""

    def __init__(self, reasoner: MrMkg, head: RankingHead, num_relations: int) -> None:
        super().__init__()
        self.reasoner, self.head = reasoner, head
        self.relation = nn.Linear(reasoner.llm.state_width, num_relations)


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranked:
    """A batch that was read.

    Attributes:
        score_BC: of the candidates.
        relation_BR: logits of the relation, its inverse after each.
        read: what the reasoner made of it.
        graph: the subgraphs; None where none is read.
    """

    score_BC: Tensor
    relation_BR: Tensor
    read: Read
    graph: MultimodalBatch | None


class MarsLearner:
    """Learns questions over the graph of MARS; see :class:`mmkg.training.learner.Learner`."""

    unit = "analogies"
    inputs = "files of MARS"
    divisible = True

    def __init__(
        self,
        model: AnalogyModel,
        graph: MarsGraph | None,
        markg: MarKG,
        candidate_C: Int64Array,
        known: CandidateKnowledge,
        *,
        questions: Sequence[Question],
        valid: Sequence[Question] = (),
        batch_size: int,
        relation_weight: float,
        once_a_fact: bool,
        data_digest: str,
        max_tokens: int = 64,
    ) -> None:
        """Hold what is learnt.

        Args:
            model: on its device.
            graph: None where the model reads none.
            markg: names of the entities.
            candidate_C: entities to rank.
            known: what is known of the candidates without the graph.
            questions: what is learnt from.
            valid: what is measured on the way; the last model is kept all the same, since these are reported.
            batch_size: of a step.
            relation_weight: μ.
            once_a_fact: an epoch has each fact once, by an example drawn anew, instead of each item.
            data_digest: of all that.
            max_tokens: of a question's text; long names are cut.

        Raises:
            ConfigError: there is nothing to learn, or an answer is not among the candidates.
        """
        self._model, self.graph, self.markg, self.candidate_C = model, graph, markg, candidate_C
        self.questions, self.valid, self.batch_size = list(questions), list(valid), batch_size
        self.relation_weight, self._max_tokens, self._digest = relation_weight, max_tokens, data_digest
        self.device = next(model.parameters()).device
        self._column = {entity: column for column, entity in enumerate(candidate_C.tolist())}
        lost = [question for question in self.questions if question.answer not in self._column]
        if lost:
            raise ConfigError(
                f"{len(lost):,} of {len(self.questions):,} analogies have an answer that is no candidate, first "
                f"'{markg.names[lost[0].answer]}' ({markg.entity_ids[lost[0].answer]}); leave them out beforehand"
            )
        self.known = known
        self._graph_of = functools.lru_cache(maxsize=_GRAPHS_KEPT)(self._make_graph)
        self._names: dict[int, list[int]] = {}
        words = model.reasoner.llm.tokens
        self._between = [words(word) if word else [] for word in _WORDS]
        by_fact: dict[object, list[int]] = defaultdict(list)
        for number, question in enumerate(self.questions):
            by_fact[question.facts[0] if once_a_fact else number].append(number)
        self._groups = list(by_fact.values())
        self._length_R = np.array([len(self._tokens_of(self.questions[group[0]])) for group in self._groups])

    @property
    def model(self) -> nn.Module:
        """Reasoner and heads."""
        return self._model

    @property
    def digest(self) -> str:
        """Of files, vectors and stage."""
        return self._digest

    @property
    def num_examples(self) -> int:
        """Facts, or items."""
        return len(self._groups)

    def state(self) -> Mapping[str, Any]:
        """Digests of the language model, for checkpoints."""
        return {"frozen": frozen_digests(self._model)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """See that a checkpoint was made beside the same language model."""
        check_frozen(self._model, state["frozen"], Path(CHECKPOINT))

    def batches(self, random: np.random.Generator) -> Sequence[Int64Array]:
        """Return an epoch's rows, in batches of like length."""
        return batches_by_length(self._length_R, self.batch_size, random)

    def loss(self, rows: Int64Array, random: np.random.Generator) -> LossParts:
        """Return the loss of these facts, each by an example that is drawn."""
        drawn = [self._groups[row][random.integers(len(self._groups[row]))] for row in rows.tolist()]
        questions = [self.questions[number] for number in drawn]
        config = self._model.reasoner.config
        ranked = self.forward(questions, hide=True)
        column_B = torch.tensor([self._column[q.answer] for q in questions], device=self.device)
        answer = functional.cross_entropy(ranked.score_BC, column_B)
        total, numbers = answer, {"answer_loss": answer.detach()}
        if self.relation_weight:
            told_B = torch.tensor([2 * q.relation + q.reverse for q in questions], device=self.device)
            told = functional.cross_entropy(ranked.relation_BR, told_B)
            total, numbers["relation_loss"] = total + self.relation_weight * told, told.detach()
        if config.alignment_weight and ranked.graph is not None:
            generator = torch.Generator().manual_seed(int(random.integers(2**31)))
            aligned = self._model.reasoner.alignment_loss(ranked.read, ranked.graph, generator)
            total, numbers["alignment_loss"] = total + config.alignment_weight * aligned, aligned.detach()
        return LossParts(loss=total, numbers=numbers)

    def look(self) -> Look | None:
        """Measure Hits@1 and MRR of the valid questions; no model is chosen by them, they are reported."""
        if not self.valid:
            return None
        rank_Q = self.rank(self.valid)
        numbers = {"valid_hits_at_1": float((rank_Q == 1).mean()), "valid_mrr": float((1 / rank_Q).mean())}
        return Look(score=numbers["valid_hits_at_1"], label="dev Hits@1", numbers=numbers, chooses=False)

    @torch.no_grad()
    def scores(self, questions: Sequence[Question]) -> npt.NDArray[np.float32]:
        """Return the scores of all candidates, (Q, C); nothing is hidden."""
        self._model.eval()
        parts = [np.empty((0, len(self.candidate_C)), np.float32)]
        for start in range(0, len(questions), _ROWS_AT_ONCE):
            score_BC = self.forward(questions[start : start + _ROWS_AT_ONCE], hide=False).score_BC
            parts.append(score_BC.float().cpu().numpy())
        return np.concatenate(parts)

    def rank(self, questions: Sequence[Question]) -> npt.NDArray[np.float64]:
        """Return the realistic rank of each answer; infinite where it is no candidate."""
        columns = answer_columns(np.array([question.answer for question in questions]), self.candidate_C)
        return rank_answers(self.scores(questions), columns)

    # --- tensors -----------------------------------------------------------------------------------------------------

    def forward(self, questions: Sequence[Question], *, hide: bool) -> Ranked:
        """Return the scores of all candidates.

        Args:
            questions: what is asked.
            hide: their facts are hidden, since they are learnt from.
        """
        reasoner, head = self._model.reasoner, self._model.head
        tokens = [self._tokens_of(question) for question in questions]
        known_BCF = self.known.of(questions, hide=hide)
        if self.graph is None or reasoner.knowledge is None:
            read = reasoner.read(MrMkgInput(tokens=tokens))
            state_Bs = reasoner.states(read)
            score_BC = head(state_Bs, known_BCF)
            return Ranked(score_BC=score_BC, relation_BR=self._model.relation(state_Bs), read=read, graph=None)
        graphs = [self._graph_of(question, hide) for question in questions]
        batch = batch_multimodal([graph.subgraph for graph in graphs]).to(self.device)
        features = [
            node_features(graph, question, self.known.answer_counts, hide=hide)
            for graph, question in zip(graphs, questions, strict=True)
        ]
        read = reasoner.read(
            MrMkgInput(
                tokens=tokens,
                graph=batch,
                feature_NF=torch.from_numpy(np.concatenate(features)).to(self.device),
            )
        )
        state_Bs = reasoner.states(read)
        entity_N = np.concatenate([graph.entity_N for graph in graphs]).tolist()
        candidate_N = torch.tensor([self._column.get(entity, -1) for entity in entity_N], device=self.device)
        score_BC = head(state_Bs, known_BCF, read.node_NW, batch.graph.graph_index(), candidate_N)
        return Ranked(score_BC=score_BC, relation_BR=self._model.relation(state_Bs), read=read, graph=batch)

    def _make_graph(self, question: Question, hide: bool) -> ItemGraph:
        if self.graph is None:
            raise ConfigError("a model that reads no graph asked for a subgraph")
        return self.graph.subgraph_of(question, hide=hide)

    def _tokens_of(self, question: Question) -> list[int]:
        """A is to B as C is to."""
        row = list(self._between[0])
        for entity, after in zip((question.head, question.tail, question.question), self._between[1:], strict=True):
            row += [*self._name(entity), *after]
        return row

    def _name(self, entity: int) -> list[int]:
        if entity not in self._names:
            room = (self._max_tokens - sum(map(len, self._between))) // 3
            self._names[entity] = self._model.reasoner.llm.tokens(" " + self.markg.names[entity], max(1, room))
        return self._names[entity]


def markg_questions(triples: Int64Array, candidate_C: Int64Array, *, per_fact: int, random_seed: int) -> list[Question]:
    """Make analogies out of MarKG: pairs of triples of one relation, either way round, with candidates as answers.

    Args:
        triples: of MarKG, (T, 3), or those of them that may be known.
        candidate_C: what answers may be.
        per_fact: analogies of each triple and direction, each with another example.
        random_seed: of the examples.
    """
    random = np.random.default_rng(random_seed)
    candidates = set(candidate_C.tolist())
    pairs: dict[tuple[int, bool], list[tuple[int, int]]] = defaultdict(list)
    for head, relation, tail in triples.tolist():
        pairs[relation, False].append((head, tail))
        pairs[relation, True].append((tail, head))
    questions = []
    for (relation, reverse), of_relation in sorted(pairs.items()):
        if len(of_relation) < 2:
            continue
        for place, (question, answer) in enumerate(of_relation):
            if answer not in candidates:
                continue
            others = random.choice(len(of_relation) - 1, size=min(per_fact, len(of_relation) - 1), replace=False)
            for other in others.tolist():
                head, tail = of_relation[other + (other >= place)]
                questions.append(
                    Question(head=head, tail=tail, question=question, answer=answer, relation=relation, reverse=reverse)
                )
    return questions
