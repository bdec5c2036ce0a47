"""Questions over subgraphs: what a reasoner is asked and what is right; sets of them, and what made their vectors."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from mmkg.errors import ConfigError, TrainingError, unknown_name
from mmkg.shards import digest
from mmkg.subgraphs.assemble import Floats, MultimodalSubgraph


@dataclass(frozen=True, kw_only=True, eq=False)
class GraphQuestion:
    """A question with its subgraph and its answer.

    Attributes:
        key: its name, told with mistakes.
        text: what is read; ends where the model goes on.
        subgraph: what is known; may be empty.
        answer: what is to be said.
        choices: what could be said, the answer among them, each once; None where anything could.
        patches: (P, D) vectors of the parts of the question's own picture; None without one.
        cluster: questions of one cluster are not independent, e.g. those about one picture; "" for one of its own.
    """

    key: str
    text: str
    subgraph: MultimodalSubgraph
    answer: str
    choices: tuple[str, ...] | None = None
    patches: Floats | None = None
    cluster: str = ""

    def __post_init__(self) -> None:
        """Check that it can be asked and answered."""
        if not self.text.strip() or not self.answer.strip():
            missing = "answer" if self.text.strip() else "text"
            raise TrainingError(f"question {self.key}: expected text and answer, found no {missing}; leave it out")
        if self.choices is not None and (self.answer not in self.choices or len(set(self.choices)) < len(self.choices)):
            raise TrainingError(
                f"question {self.key}: expected different choices with the answer {self.answer!r} among them, "
                f"found {list(self.choices)}"
            )
        if self.patches is not None and (self.patches.ndim != 2 or not len(self.patches)):
            raise TrainingError(
                f"question {self.key}: patches: expected rows (P, D), at least one, found shape {self.patches.shape}"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class QuestionSet:
    """Questions to learn from, to choose by and to report on, over subgraphs that count relations alike.

    Attributes:
        train: what is learnt from.
        valid: what the best model is chosen by; may be empty.
        test: what is reported on.
        relation_RD: vectors of the relations' labels, "image of" and "attribute of" last.
        embedder: names what made the vectors: 16 hex digits or words. Adapters fit the vectors of one embedder only.
        told: what else is to be known of them, as JSON values: how many were left out and why.
    """

    train: Sequence[GraphQuestion]
    valid: Sequence[GraphQuestion]
    test: Sequence[GraphQuestion]
    relation_RD: Floats
    embedder: str
    told: Mapping[str, Any] = field(default_factory=dict)

    def reporting(self, split: str) -> "QuestionSet":
        """Return the questions of a split as those to report on, with none to learn from or to choose by.

        Raises:
            ConfigError: no split is called so.
        """
        parts = {"train": self.train, "valid": self.valid, "test": self.test}
        if split not in parts:
            raise ConfigError(unknown_name("split", split, tuple(parts)))
        return replace(self, train=(), valid=(), test=parts[split])

    @property
    def patch_width(self) -> int:
        """Numbers of a patch's vector; 0 where no question has a picture."""
        parts = (self.train, self.valid, self.test)
        widths = {q.patches.shape[1] for part in parts for q in part if q.patches is not None}
        if len(widths) > 1:
            raise TrainingError(f"patches of questions must be of one width, found {sorted(widths)}")
        return widths.pop() if widths else 0

    @cached_property
    def digest(self) -> str:
        """16 hex digits over texts, answers, subgraphs and vectors, of train and valid."""
        return digest([self.embedder, _array(self.relation_RD), _digest(self.train), _digest(self.valid)])


def split_off(rows: Sequence[str], share: float, random_seed: int) -> set[str]:
    """Draw a share of some names, each once, at least one where there are two: what is kept for choosing a model."""
    names = sorted(set(rows))
    count = min(max(1, round(share * len(names))), len(names) - 1) if len(names) > 1 and share > 0 else 0
    drawn = np.random.default_rng(random_seed).permutation(len(names))[:count]
    return {names[place] for place in drawn.tolist()}


def _digest(questions: Sequence[GraphQuestion]) -> str:
    said = hashlib.sha256()
    for one in questions:
        graph = one.subgraph
        words = (one.key, one.text, one.answer, one.choices, graph.keys, graph.labels, graph.num_seeds)
        said.update(repr(words).encode())
        parts = [
            graph.vector_ND,
            graph.has_vector_N,
            graph.kind_N,
            graph.hop_N,
            graph.src_E,
            graph.relation_E,
            graph.dst_E,
        ]
        for array in (*parts, *([] if one.patches is None else [one.patches])):
            said.update(_array(array).encode())
    return said.hexdigest()


def _array(array: np.ndarray[Any, Any]) -> str:
    return hashlib.sha256(f"{array.shape} {array.dtype} ".encode() + np.ascontiguousarray(array).tobytes()).hexdigest()
