r"""What a reasoner learns from questions: the answer's tokens after what it knows and reads, and what it adds itself.

.. math:: L = L_g + \lambda L_a

:math:`L_g` is the mean negative log likelihood over all answer tokens of a batch, the end of the text among them;
:math:`L_a` whatever else the reasoner has, such as MR-MKG's alignment. Where a step is cut into micro-batches, L_g is
that of the whole step, and L_a is weighed by answer tokens instead of graphs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import nn

from mmkg.errors import ConfigError, TrainingError
from mmkg.evaluation.answers import GivenAnswer, is_exact_match
from mmkg.evaluation.link_prediction import Int64Array
from mmkg.reasoners.llm import FrozenLlm
from mmkg.reasoners.prompts import HasPrompt, Reasoner, pad_targets
from mmkg.reasoners.trainable import check_frozen, frozen_digests
from mmkg.training.batches import batches_by_length, share_of_padding
from mmkg.training.learner import Look, LossParts
from mmkg.training.reasoning.questions import GraphQuestion, QuestionSet

ChoiceScore = Literal["total", "per_token"]
_TIMES = {1: "once", 2: "twice", 3: "three times"}
_FEWEST_TOKENS = 4  # of a text; no recipe sets less


@dataclass(frozen=True, kw_only=True)
class AskingSettings:
    """How questions become tokens, and answers are read out.

    Attributes:
        batch_size: questions of a step, or read at once.
        max_text_tokens: of a question; a longer one loses its middle, so that its beginning and end are read.
        max_answer_tokens: of an answer, with its end; a longer one is cut, and written ones are no longer.
        choice_score: which likelihood chooses: of the whole text, or a token's mean.
        choose_by: what the best model has of the valid questions: most right answers, or the least loss.
        valid_questions: so many of the valid questions are looked at.
        writes_all: test questions are answered in writing, those with choices too.
    """

    batch_size: int
    max_text_tokens: int
    max_answer_tokens: int
    choice_score: ChoiceScore = "total"
    choose_by: Literal["accuracy", "loss"] = "accuracy"
    valid_questions: int = 500
    writes_all: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class _Asked:
    """A question as tokens; the targets of its choices are made when they are needed."""

    question: GraphQuestion
    tokens: list[int]
    target: list[int]


class QuestionLearner:
    """Questions and a reasoner that answers them; a :class:`~mmkg.training.learner.Learner`."""

    unit = "questions"
    inputs = "questions, or the vectors of their subgraphs,"
    divisible = True

    def __init__(
        self, model: nn.Module, questions: QuestionSet, settings: AskingSettings, *, device: torch.device
    ) -> None:
        """Turn all questions into tokens.

        Args:
            model: a :class:`~mmkg.reasoners.prompts.Reasoner`, on ``device``.
            questions: what is learnt from and looked at.
            settings: how they are read.
            device: cpu or a GPU.

        Raises:
            ConfigError: a question with its answer has more positions than the language model.
        """
        self.model, self.questions, self.settings, self.device = model, questions, settings, device
        self.reasoner: Reasoner = cast(Reasoner, model)
        self.llm: FrozenLlm = self.reasoner.llm
        self.num_cut = 0  # questions that lost their middle
        self._train = [self._ask(question) for question in questions.train]
        self._valid = [self._ask(question) for question in questions.valid[: settings.valid_questions]]
        self.length_Q = np.array([self._length(asked) for asked in self._train], np.int64)
        self._check_lengths()

    # --- of the loop -------------------------------------------------------------------------------------------------

    @property
    def digest(self) -> str:
        """Of questions and vectors."""
        return self.questions.digest

    @property
    def num_examples(self) -> int:
        """How many questions there are to learn from."""
        return len(self._train)

    def batches(self, random: np.random.Generator) -> Sequence[Int64Array]:
        """Return an epoch's batches: questions of like length together, the batches in random order."""
        return batches_by_length(self.length_Q, self.settings.batch_size, random)

    def loss(self, rows: Int64Array, random: np.random.Generator) -> LossParts:
        """Return L of some questions, with L_g and L_a apart."""
        asked = [self._train[row] for row in rows.tolist()]
        read = self._read(asked)
        nll_B, count_B = self.reasoner.answer_loss(read, [one.target for one in asked])
        loss = nll_B.sum() / count_B.sum()
        numbers = {"answer_loss": loss.detach()}
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        for name, (weight, further) in self.reasoner.further_losses(read, generator).items():
            loss, numbers[name] = loss + weight * further, further.detach()
        if not loss.requires_grad:  # none of these has a graph or a picture that is read: there is nothing to learn
            trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
            loss = loss + 0 * torch.stack([parameter.sum() for parameter in trained]).sum()
        return LossParts(loss=loss, numbers=numbers, weight=float(count_B.sum()))

    @torch.no_grad()
    def look(self) -> Look | None:
        """Answer the valid questions, or measure their loss; None where there are none."""
        if not self._valid:
            return None
        loss = self._answer_loss(self._valid)
        if self.settings.choose_by == "loss":
            return Look(score=-loss, label="valid score", numbers={"valid_answer_loss": loss})
        answers = self._answers(self._valid)
        accuracy = sum(answer.is_right for answer in answers) / len(answers)
        numbers = {"valid_accuracy": accuracy, "valid_answer_loss": loss}
        # few questions give few different shares: of two alike the model that has learnt longer
        return Look(score=accuracy, label="valid accuracy", numbers=numbers, later_wins=True)

    def state(self) -> Mapping[str, Any]:
        """Return what a checkpoint of this model needs to find unchanged."""
        return {"frozen": frozen_digests(self.model), "embedder": self.questions.embedder, "questions": self.digest}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """See that it is unchanged."""
        check_state(self, state, Path("checkpoint"))

    # --- what else is asked of it ------------------------------------------------------------------------------------

    def padding(self, random_seed: int = 0) -> float:
        """Return which part of the prompts' positions in an epoch's batches is padding, 0 … 1."""
        return share_of_padding(self.length_Q, self.batches(np.random.default_rng(random_seed)))

    @torch.no_grad()
    def answer(self, questions: Sequence[GraphQuestion]) -> list[GivenAnswer]:
        """Answer questions: the likeliest choice, or where there are none what the model writes."""
        self.model.eval()
        return self._answers([self._ask(question, count=False) for question in questions])

    @torch.no_grad()
    def write(self, questions: Sequence[GraphQuestion]) -> list[str]:
        """Return what the model writes after each question, by greedy search, choices or not."""
        self.model.eval()
        return self._write([self._ask(question, count=False) for question in questions])

    @torch.no_grad()
    def write_forced(self, questions: Sequence[GraphQuestion]) -> list[str]:
        """Return the likeliest token at each place of the right answer, given the right ones before it (G4-14).

        Teacher forcing: not what the model writes, which is :meth:`write`; some papers' code scores this as generation.
        """
        self.model.eval()
        asked = [self._ask(question, count=False) for question in questions]
        written = [""] * len(asked)
        for places, part in self._by_length(asked):
            prompt = self._read(part).prompt
            target_BT = pad_targets([one.target for one in part], prompt.row_BPd.device)
            said_BT = self.llm(prompt.row_BPd, prompt.mask_BP, target_BT).logit_BTV.argmax(dim=2)
            for place, one, row in zip(places, part, said_BT.tolist(), strict=True):
                # cut at its own end, as what is written is; the right length is not given away
                written[place] = self.llm.text(self.llm.until_stop(row[: len(one.target)])).strip()
        return written

    # --- parts -------------------------------------------------------------------------------------------------------

    def _ask(self, question: GraphQuestion, *, count: bool = True) -> _Asked:
        most = self.settings.max_text_tokens
        # an encoder has seen texts with their end
        end = [self.llm.eos_id] if self.llm.kind == "encoder_decoder" else []
        tokens = self.llm.tokens(question.text)
        if len(tokens) + len(end) > most:
            self.num_cut += int(count)
            kept = most - len(end)
            tokens = [*tokens[: kept // 2], *tokens[len(tokens) - (kept - kept // 2) :]]
        return _Asked(question=question, tokens=[*tokens, *end], target=self._target(question.text, question.answer))

    def _target(self, text: str, answer: str) -> list[int]:
        """Tokens of an answer and of its end, cut to the most; a causal model goes on with a space."""
        tokens = self.llm.tokens(answer)
        if self.llm.kind == "causal":
            last = text[-1:]
            before, both = self.llm.tokens(last), self.llm.tokens(f"{last} {answer}")
            if both[: len(before)] == before and len(both) > len(before):
                tokens = both[len(before) :]
        return [*tokens[: self.settings.max_answer_tokens - 1], self.llm.eos_id]

    def _length(self, asked: _Asked) -> int:
        """Positions of a prompt, known before it is made."""
        others, times = self._rows(asked)
        return others + times * len(asked.tokens)

    def _rows(self, asked: _Asked) -> tuple[int, int]:
        """Positions of a prompt that are there whatever its text, and how often there are as many as its text has."""
        patches = asked.question.patches
        return self.reasoner.prompt_rows(asked.question.subgraph, 0 if patches is None else len(patches))

    def _check_lengths(self) -> None:
        """See that every question can be read to the end of its answer, before anything is learnt."""
        most = self.llm.max_positions
        if most is None:
            return
        test = [self._ask(question, count=False) for question in self.questions.test]
        parts = {"train": self._train, "valid": self._valid, "test": test}
        found = [
            (split, asked, self._length(asked), self._longest_target(asked, split))
            for split, part in parts.items()
            for asked in part
        ]
        causal = self.llm.kind == "causal"  # else prompt and answer have positions of their own
        too_long = [one for one in found if (one[2] + one[3] if causal else max(one[2], one[3])) > most]
        if not too_long:
            return
        split, asked, prompt, target = max(too_long, key=lambda one: one[2] + one[3])
        # with texts of so many tokens all would fit
        fits = min(
            (most - self._rows(one)[0] - (longest if causal else 0)) // self._rows(one)[1]
            for _, one, _, longest in too_long
        )
        if fits >= _FEWEST_TOKENS and (causal or all(longest <= most for *_, longest in too_long)):
            advice = f"Set max_text_tokens to {fits} (it is {self.settings.max_text_tokens})"
        else:
            advice = f"Set max_answer_tokens to less than {self.settings.max_answer_tokens}"
        times = _TIMES[self._rows(asked)[1]]
        raise ConfigError(
            f"question {asked.question.key} of {split}: the language model has {most} positions, found {prompt} of a "
            f"prompt with {len(asked.tokens)} tokens of text, {times} (knowledge and picture have as many rows), and "
            f"up to {target} of an answer; {len(too_long):,} of {len(found):,} questions are too long. {advice}, or "
            "take a language model with more positions."
        )

    def _longest_target(self, asked: _Asked, split: str) -> int:
        """Most tokens that stand after a prompt: of the answer, of a choice, or of what is written."""
        question = asked.question
        is_written = question.choices is None or self.settings.writes_all
        if (split == "test" and is_written) or (split == "valid" and question.choices is None):
            return self.settings.max_answer_tokens
        if split == "train":
            return len(asked.target)
        return max(len(self._target(question.text, choice)) for choice in question.choices or (question.answer,))

    def _read(self, asked: Sequence[_Asked]) -> HasPrompt:
        questions = [one.question for one in asked]
        read: HasPrompt = self.reasoner.read_questions(
            [one.tokens for one in asked],
            [question.subgraph for question in questions],
            [question.patches for question in questions],
        )
        return read

    def _by_length(self, asked: Sequence[_Asked]) -> Iterator[tuple[list[int], list[_Asked]]]:
        """Questions of like length, as many as are read at once, with their places."""
        order = np.argsort([-self._length(one) for one in asked], kind="stable").tolist()
        size = self.settings.batch_size
        for start in range(0, len(order), size):
            places = order[start : start + size]
            yield places, [asked[place] for place in places]

    def _answers(self, asked: Sequence[_Asked]) -> list[GivenAnswer]:
        free = [place for place, one in enumerate(asked) if one.question.choices is None]
        given: dict[int, tuple[str, int | None]] = {}
        for place, text in zip(free, self._write([asked[place] for place in free]), strict=True):
            given[place] = (text, None)
        closed = [place for place, one in enumerate(asked) if one.question.choices is not None]
        for place, choice in zip(closed, self._choose([asked[place] for place in closed]), strict=True):
            given[place] = ((asked[place].question.choices or ())[choice], choice)
        return [_given(one.question, *given[place]) for place, one in enumerate(asked)]

    def _choose(self, asked: Sequence[_Asked]) -> list[int]:
        chosen = [0] * len(asked)
        for places, part in self._by_length(asked):
            prompt = self._read(part).prompt
            targets = [
                [self._target(one.question.text, choice) for choice in one.question.choices or ()] for one in part
            ]
            scores = self.llm.score(prompt.row_BPd, prompt.mask_BP, targets)
            likelihoods = scores.total if self.settings.choice_score == "total" else scores.per_token
            for place, likelihood in zip(places, likelihoods, strict=True):
                chosen[place] = int(likelihood.argmax())
        return chosen

    def _write(self, asked: Sequence[_Asked]) -> list[str]:
        written = [""] * len(asked)
        for places, part in self._by_length(asked):
            prompt = self._read(part).prompt
            rows = self.llm.generate(prompt.row_BPd, prompt.mask_BP, max_new_tokens=self.settings.max_answer_tokens)
            for place, row in zip(places, rows, strict=True):
                written[place] = self.llm.text(row).strip()
        return written

    def _answer_loss(self, asked: Sequence[_Asked]) -> float:
        total, count = 0.0, 0
        for _, part in self._by_length(asked):
            nll_B, count_B = self.reasoner.answer_loss(self._read(part), [one.target for one in part])
            total, count = total + float(nll_B.sum()), count + int(count_B.sum())
        return total / count


def check_state(learner: QuestionLearner, state: Mapping[str, Any], path: Path, *, same_questions: bool = True) -> None:
    """See that a checkpoint belongs to this language model and to vectors of this embedder, and to these questions.

    Args:
        learner: that the checkpoint is to go into.
        state: what :meth:`QuestionLearner.state` said when it was written.
        path: of the checkpoint, for the message.
        same_questions: off where training goes on with other ones.

    Raises:
        TrainingError: something is another.
        ConfigError: the state is not one of a question learner.
    """
    if not {"frozen", "embedder", "questions"} <= state.keys():
        raise ConfigError(f"{path}: not a checkpoint of a reasoner that learnt from questions; choose such a run")
    check_frozen(learner.model, state["frozen"], path)
    if state["embedder"] != learner.questions.embedder:
        raise TrainingError(
            f"{path}: trained on vectors of another embedder: expected '{state['embedder']}', found "
            f"'{learner.questions.embedder}'. Give vectors of the embedder it was trained with, or train anew."
        )
    if same_questions and state["questions"] != learner.digest:
        raise TrainingError(
            f"{path}: trained on other questions, or on vectors of another build: expected digest "
            f"{state['questions']}, found {learner.digest}. Give the same data and build, or train anew."
        )


def _given(question: GraphQuestion, given: str, choice: int | None) -> GivenAnswer:
    choices = question.choices
    is_right = is_exact_match(given, question.answer) if choices is None else given == question.answer
    return GivenAnswer(
        key=question.key,
        question=question.text,
        right=question.answer,
        given=given,
        is_right=is_right,
        choice=choice,
        num_choices=len(choices or ()),
        cluster=question.cluster,
    )
