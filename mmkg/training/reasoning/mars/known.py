r"""What is known of every candidate of MARS for a question, before any graph is read.

Of candidate c, question q and example h, t, with v vectors of texts (of the name, and of name and description):

- cosines of :math:`v_c` with :math:`v_q, v_h, v_t` and with :math:`v_t - v_h + v_q`, the analogy as a parallelogram
  (Mikolov et al., NAACL 2013);
- whether c is q, h or t: in 174 of the 11,661 items of train and dev the answer is one of them;
- whether c's name stands in q's description ("lullaby": "soothing song"), q's name in c's, and how many words their
  names and descriptions share: in .14 of the facts one of the two stands in what is said of the other;
- how often c was an answer in train, and whether it never was;
- how well c answered questions like this one: :math:`\log \sum_{q' \ne q} [(q', c) \in train]\, e^{\beta(cos(q, q') -
  1)}`, a look-up that finds similar questions and not the question itself, which is for the graph to tell.

When an item is learnt from, its own two facts have no part in any of them.
Shape suffixes: B questions, C candidates, F numbers, A entities that were asked for in train, D numbers of a vector.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from mmkg.errors import ConfigError
from mmkg.tasks.mars import MarKG
from mmkg.training.reasoning.mars.graph import Question
from mmkg.training.reasoning.mars.words import SharedWords

Int64Array = npt.NDArray[np.int64]

LIKENESS_GAIN = 10.0
"""β, of how like two questions are. A second such number at 25, where only near-repetitions count, made dev worse."""
_FLOOR = float(np.exp(-0.7 * LIKENESS_GAIN))  # one question of cosine 0.3: less than that says nothing
_LOWEST, _HIGHEST = -6.0, 12.0  # deviations


class CandidateKnowledge:
    """Numbers of all candidates for any question."""

    def __init__(
        self,
        markg: MarKG,
        vectors: Sequence[npt.NDArray[np.float32]],
        candidate_C: Int64Array,
        *,
        answer_counts: Counter[int],
        facts: Iterable[tuple[int, int, int]],
        sample: Sequence[Question],
        device: torch.device,
    ) -> None:
        """Count what stands in train.

        Args:
            markg: names and descriptions of entities.
            vectors: (N, D) of all entities, one array for each kind of text; zeros for an entity without.
            candidate_C: what may be answered.
            answer_counts: how often each entity is an answer in train.
            facts: pairs of train and their relation, numbered as in the questions.
            sample: questions that are learnt from, of which means and deviations are taken.
            device: where the numbers are computed.

        Raises:
            ConfigError: there is no candidate.
        """
        if not len(candidate_C):
            raise ConfigError("a ranking needs at least one candidate, found none")
        self._vectors = [functional.normalize(torch.from_numpy(rows), dim=1).to(device) for rows in vectors]
        self._candidate_C = torch.from_numpy(candidate_C).to(device)
        self._words = SharedWords(markg, candidate_C)
        self._column = {entity: column for column, entity in enumerate(candidate_C.tolist())}
        self.answer_counts = answer_counts
        count_C = [float(self.answer_counts[entity]) for entity in candidate_C.tolist()]
        self._count_C = torch.tensor(count_C, device=device)
        self._relations: dict[tuple[int, int], set[int]] = defaultdict(set)
        for first, relation, second in facts:
            self._relations[first, second].add(relation)
        asked = sorted({first for first, _ in self._relations})
        self._row = {entity: row for row, entity in enumerate(asked)}
        self._asked_A = torch.tensor(asked, dtype=torch.long, device=device)
        self._candidate_vectors = [vector_ND[self._candidate_C] for vector_ND in self._vectors]
        self._asked_vectors = [vector_ND[self._asked_A] for vector_ND in self._vectors]
        self._partner_AC = torch.zeros(len(asked), len(candidate_C), device=device)
        for first, second in self._relations:
            if second in self._column:
                self._partner_AC[self._row[first], self._column[second]] = 1.0
        raw_BCF = self._raw(sample, hide=True)
        self.mean_F = raw_BCF.mean(dim=(0, 1))
        self.deviation_F = raw_BCF.std(dim=(0, 1)).clamp(min=0.05)

    @property
    def num_known(self) -> int:
        """F."""
        return len(self.mean_F)

    def of(self, questions: Sequence[Question], *, hide: bool) -> Tensor:
        """Return the numbers, (B, C, F), about of mean 0 and deviation 1.

        Args:
            questions: what is asked.
            hide: they are learnt from, so what they say themselves is not known.
        """
        normal_BCF = (self._raw(questions, hide=hide) - self.mean_F) / self.deviation_F
        return normal_BCF.clamp(_LOWEST, _HIGHEST)

    def _raw(self, questions: Sequence[Question], *, hide: bool) -> Tensor:
        device = self._candidate_C.device
        named_B3 = torch.tensor([[q.question, q.head, q.tail] for q in questions], device=device)
        columns = [
            _similar(vector_ND[named_B3], vector_CD)
            for vector_ND, vector_CD in zip(self._vectors, self._candidate_vectors, strict=True)
        ]
        columns.append((self._candidate_C[None, :, None] == named_B3[:, None, :]).float())
        columns.append(torch.from_numpy(self._words.of([q.question for q in questions])).to(device))
        columns.append(self._answered(questions, hide=hide))
        columns.append(self._answered_similar(questions, named_B3[:, 0], hide=hide)[:, :, None])
        return torch.cat(columns, dim=2)

    def _answered(self, questions: Sequence[Question], *, hide: bool) -> Tensor:
        count_BC = self._count_C.repeat(len(questions), 1)
        if hide:
            for row, question in enumerate(questions):
                if question.answer in self._column:
                    count_BC[row, self._column[question.answer]] -= question.own_count
        return torch.stack([count_BC.log1p(), (count_BC == 0).float()], dim=2)

    def _answered_similar(self, questions: Sequence[Question], question_B: Tensor, *, hide: bool) -> Tensor:
        cosines = [
            vector_ND[question_B] @ vector_AD.t()
            for vector_ND, vector_AD in zip(self._vectors, self._asked_vectors, strict=True)
        ]
        like_BA = torch.exp(LIKENESS_GAIN * (torch.stack(cosines).mean(dim=0) - 1))
        like_BA = like_BA * (question_B[:, None] != self._asked_A)
        answered_BC = like_BA @ self._partner_AC
        if hide:
            for row, question in enumerate(questions):
                for first, relation, second in question.facts:
                    if self._relations.get((first, second)) == {relation} and second in self._column:
                        answered_BC[row, self._column[second]] -= like_BA[row, self._row[first]]
        return torch.log(answered_BC.clamp(min=0) + _FLOOR)


def _similar(named_B3D: Tensor, candidate_CD: Tensor) -> Tensor:
    """Cosines with question, head, tail and the fourth corner of their parallelogram, (B, C, 4)."""
    question_BD, head_BD, tail_BD = named_B3D.unbind(dim=1)
    beside_BD = functional.normalize(tail_BD - head_BD + question_BD, dim=1)
    compared_B4D = torch.stack([question_BD, head_BD, tail_BD, beside_BD], dim=1)
    return (compared_B4D @ candidate_CD.t()).transpose(1, 2)
