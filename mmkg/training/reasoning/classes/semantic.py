r"""Answers by vectors: the class whose text's vector is nearest to a learnt map of what was read.

.. math::
    z = t + W_t t + W_g \bar q + b, \qquad
    p(c) = \mathrm{softmax}_c\, \frac{\cos(z, e_c)}{\tau}

with t the vector of the question's text, :math:`\bar q` the mean of Graph4MM's queries after they read the subgraph,
:math:`e_c` the vector of the class's text and :math:`\tau` a learnt temperature. The softmax is over seen classes; an
unseen class is answered by its vector alone, so no language model has to know its words. Both maps begin as 0: before
anything is learnt, the answer is the class nearest to the text, which is the baseline without training.

Source: zero-shot classes by vectors of their names: Socher et al., NeurIPS 2013, arXiv:1301.3666; Frome et al.
(DeViSE), NeurIPS 2013, there with a hinge loss. That queries are read out, the residual and the softmax are ours.

Shape suffixes: B questions, K classes, D numbers of a vector, W width of the graph's side.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mmkg.errors import TrainingError
from mmkg.evaluation.answers import GivenAnswer
from mmkg.evaluation.link_prediction import Int64Array
from mmkg.reasoners.graph4mm import Graph4mm
from mmkg.reasoners.trainable import frozen_digests
from mmkg.shards import digest
from mmkg.subgraphs.assemble import MultimodalSubgraph
from mmkg.training.batches import even_batches
from mmkg.training.learner import Look, LossParts
from mmkg.training.reasoning.classes.data import ASKED, ClassesData
from mmkg.training.reasoning.questions import GraphQuestion

_LARGEST_SCALE = 100.0  # 1/τ, as in CLIP


class SemanticReader(nn.Module):
    """Graph4MM and two maps into the space of texts; its language model is never run."""

    def __init__(self, reasoner: Graph4mm, *, dimension: int, temperature: float) -> None:
        """Make the maps.

        Args:
            reasoner: that reads the subgraph, or nothing: then there is the text alone.
            dimension: D.
            temperature: τ at the start.
        """
        super().__init__()
        self.reasoner = reasoner
        self.from_text = nn.Linear(dimension, dimension, bias=False)
        nn.init.zeros_(self.from_text.weight)
        self.from_graph: nn.Linear | None = None
        config = reasoner.config
        if config.reads_graph:
            with_target = config.graph_as_modality  # whose row is among those of the prompt only
            self.from_graph = nn.Linear(config.width + (reasoner.llm.width if with_target else 0), dimension)
            nn.init.zeros_(self.from_graph.weight)
            nn.init.zeros_(self.from_graph.bias)
            reasoner.output.requires_grad_(with_target)  # else nothing that it makes is read
        self.log_scale = nn.Parameter(torch.tensor(1 / temperature).log())
        self._tokens = reasoner.llm.tokens(ASKED)

    def forward(self, text_BD: Tensor, subgraphs: Sequence[MultimodalSubgraph]) -> Tensor:
        """Return z, (B, D), of length 1."""
        mapped_BD = text_BD + self.from_text(text_BD)
        if self.from_graph is not None:
            mapped_BD = mapped_BD + self.from_graph(self._read(subgraphs))
        return functional.normalize(mapped_BD, dim=1)

    def logits(self, mapped_BD: Tensor, class_KD: Tensor) -> Tensor:
        """Return cos(z, e) / τ, (B, K)."""
        scale = self.log_scale.exp().clamp(max=_LARGEST_SCALE)
        return scale * mapped_BD @ functional.normalize(class_KD, dim=1).T

    def _read(self, subgraphs: Sequence[MultimodalSubgraph]) -> Tensor:
        """The queries' mean, and the graph network's row where there is one."""
        nothing = [None] * len(subgraphs)
        read = self.reasoner.read_questions([self._tokens] * len(subgraphs), subgraphs, nothing)
        if read.query_BQW is None:
            raise TrainingError("a reasoner that reads no graph has no queries to be read out")
        mean_BW = read.query_BQW.mean(dim=1)
        if not self.reasoner.config.graph_as_modality:
            return mean_BW
        start_B = read.prompt.place_of["graph"][:, 0] + self.reasoner.config.num_queries
        row_Bd = read.prompt.row_BPd[torch.arange(len(start_B), device=start_B.device), start_B]
        return torch.cat([mean_BW, row_Bd], dim=1)


class SemanticLearner:
    """Questions and a reader that answers them by vectors; a :class:`~mmkg.training.learner.Learner`."""

    unit = "questions"
    inputs = "questions, or the vectors of their subgraphs,"
    divisible = True

    def __init__(
        self, model: SemanticReader, data: ClassesData, *, batch_size: int, valid_questions: int, device: torch.device
    ) -> None:
        """Hold what is learnt from.

        Args:
            model: on ``device``.
            data: questions and vectors.
            batch_size: questions of a step, or read at once.
            valid_questions: so many of the valid questions are looked at.
            device: cpu or a GPU.
        """
        self.model, self.data, self.device = model, data, device
        self.batch_size = batch_size
        self.questions = data.questions
        self._valid = data.questions.valid[:valid_questions]

    # --- of the loop -------------------------------------------------------------------------------------------------

    @property
    def digest(self) -> str:
        """Of questions, of what their vectors are made of, and of what classes' vectors are made of."""
        return digest([self.questions.digest, dict(self.data.text_of_class)])

    @property
    def num_examples(self) -> int:
        """How many questions there are to learn from."""
        return len(self.questions.train)

    def batches(self, random: np.random.Generator) -> Sequence[Int64Array]:
        """Return an epoch's batches, in random order."""
        return even_batches(self.num_examples, self.batch_size, random)

    def loss(self, rows: Int64Array, random: np.random.Generator) -> LossParts:  # noqa: ARG002 - dropout is torch's
        """Return the mean cross-entropy over the classes that a question has to choose from."""
        asked = [self.questions.train[row] for row in rows.tolist()]
        return LossParts(loss=self._loss(asked) / len(asked), weight=float(len(asked)))

    @torch.no_grad()
    def look(self) -> Look | None:
        """Measure the loss and the accuracy of the valid questions; None where there are none."""
        if not self._valid:
            return None
        loss = sum(
            float(self._loss(self._valid[start : start + self.batch_size]))
            for start in range(0, len(self._valid), self.batch_size)
        ) / len(self._valid)
        right = [answer.is_right for answer in self.answer(self._valid)]
        numbers = {"valid_answer_loss": loss, "valid_accuracy": sum(right) / len(right)}
        return Look(score=-loss, label="valid score", numbers=numbers)

    def state(self) -> Mapping[str, Any]:
        """Return what a model needs to find unchanged where other questions are asked."""
        return {"frozen": frozen_digests(self.model), "embedder": self.questions.embedder}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """See that it is unchanged.

        Raises:
            TrainingError: the language model or the embedder is another.
        """
        if dict(state) != dict(self.state()):
            raise TrainingError(
                f"trained beside another language model or embedder: expected {dict(state)}, found "
                f"{dict(self.state())}. Give what it was trained with, or train anew."
            )

    # --- what else is asked of it ------------------------------------------------------------------------------------

    @torch.no_grad()
    def answer(self, questions: Sequence[GraphQuestion]) -> list[GivenAnswer]:
        """Answer questions: each by the nearest of its classes."""
        self.model.eval()
        chosen = [0] * len(questions)
        for names, places in _by_choices(questions):
            for start in range(0, len(places), self.batch_size):
                part = places[start : start + self.batch_size]
                logit_BK = self._logits([questions[place] for place in part], names)
                for place, choice in zip(part, logit_BK.argmax(dim=1).tolist(), strict=True):
                    chosen[place] = choice
        return [_given(question, choice) for question, choice in zip(questions, chosen, strict=True)]

    # --- parts -------------------------------------------------------------------------------------------------------

    def _loss(self, asked: Sequence[GraphQuestion]) -> Tensor:
        """The sum over some questions."""
        total = torch.zeros((), device=self.device)
        for names, places in _by_choices(asked):
            part = [asked[place] for place in places]
            right_B = torch.tensor([names.index(one.answer) for one in part], device=self.device)
            total = total + functional.cross_entropy(self._logits(part, names), right_B, reduction="sum")
        return total

    def _logits(self, asked: Sequence[GraphQuestion], names: Sequence[str]) -> Tensor:
        text_BD = torch.from_numpy(np.stack([self.data.vector_of[one.text] for one in asked])).to(self.device)
        class_KD = torch.from_numpy(self.data.class_vectors(names)).to(self.device)
        return self.model.logits(self.model(text_BD, [one.subgraph for one in asked]), class_KD)


def _by_choices(questions: Sequence[GraphQuestion]) -> Iterator[tuple[tuple[str, ...], list[int]]]:
    """Places of the questions that choose among the same classes."""
    places: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, one in enumerate(questions):
        places[one.choices or ()].append(place)
    yield from places.items()


def _given(question: GraphQuestion, choice: int) -> GivenAnswer:
    choices = question.choices or ()
    return GivenAnswer(
        key=question.key,
        question=question.text,
        right=question.answer,
        given=choices[choice],
        is_right=choices[choice] == question.answer,
        choice=choice,
        num_choices=len(choices),
        cluster=question.cluster,
    )
