"""Rows of prompts and answers, their tokenizer, and batches of about one length."""

import csv
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmkg.errors import TrainingError, require
from mmkg.reasoners.llm_forms import IGNORED

TEXT_FILE = "text.tsv"
_COLUMNS = ["split", "kind", "prompt", "answer"]
PAD, START, END = "<pad>", "<s>", "</s>"


@dataclass(frozen=True)
class Text:
    """A row: what is given, and what is to be said. A statement has no prompt."""

    kind: str
    prompt: str
    answer: str


@dataclass(frozen=True)
class Batch:
    """Rows of about one length, padded on the right.

    Attributes:
        given_BP: tokens that are read: the prompt of an encoder, the whole text of a causal model; 0 is padding.
        target_BT: tokens that are to be said, IGNORED elsewhere; of a causal model, in the places of ``given_BP``.
    """

    given_BP: Tensor
    target_BT: Tensor


def read_texts(folder: Path) -> dict[str, list[Text]]:
    """Read ``text.tsv``: split -> rows.

    Raises:
        TrainingError: the file is missing, has other columns, a row without answer, or no train rows.
    """
    path = folder / TEXT_FILE
    if not path.is_file():
        raise TrainingError(
            f"{path}: no such file; write the atlas's by: python examples/atlas/write_lm_text.py {folder}"
        )
    splits: dict[str, list[Text]] = {}
    with path.open(encoding="utf-8", newline="") as lines:
        rows = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        found = next(rows, [])
        if found != _COLUMNS:
            raise TrainingError(f"{path}, line 1: expected the columns {_COLUMNS}, found {found}")
        for number, row in enumerate(rows, start=2):
            if len(row) != len(_COLUMNS) or not row[-1]:
                raise TrainingError(f"{path}, line {number}: expected 4 columns and an answer, found {row}")
            splits.setdefault(row[0], []).append(Text(*row[1:]))
    if not splits.get("train"):
        raise TrainingError(f"{path}: expected rows of the split 'train', found none")
    return splits


def make_tokenizer(texts: Sequence[Text], size: int) -> Any:
    """Return a byte-level BPE tokenizer of transformers, made of texts.

    A space is put before a text and taken away when it is read back, so that a prompt's tokens and an answer's can be
    joined. Digits stand alone.
    """
    tokenizers = require("tokenizers", extra="llm", needed_by="a language model")
    transformers = require("transformers", extra="llm", needed_by="a language model")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    split = tokenizers.pre_tokenizers
    tokenizer.pre_tokenizer = split.Sequence([split.ByteLevel(add_prefix_space=True), split.Digits(True)])
    tokenizer.decoder = tokenizers.decoders.Sequence(
        [tokenizers.decoders.ByteLevel(), tokenizers.decoders.Strip(" ", 1, 0)]
    )
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[PAD, START, END],
        initial_alphabet=sorted(split.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((f"{text.prompt} {text.answer}".strip() for text in texts), trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, bos_token=START, eos_token=END, clean_up_tokenization_spaces=False
    )


class Rows:
    """Rows as tokens, for one kind of model.

    A causal model says a statement whole, and of other rows the answer; the prompt too, unless it is a reading, whose
    context nobody could guess. An encoder-decoder model says answers; statements are not for it.
    """

    def __init__(self, texts: Sequence[Text], tokenizer: Any, kind: str) -> None:
        self.kind = kind
        self.start, self.end = tokenizer.bos_token_id, tokenizer.eos_token_id
        self.texts = [text for text in texts if kind == "causal" or text.prompt]
        self.prompts = _encode(tokenizer, [text.prompt for text in self.texts])
        self.answers = [[*tokens, self.end] for tokens in _encode(tokenizer, [text.answer for text in self.texts])]

    def batches(self, tokens_per_batch: int, repeats: Mapping[str, int], draw: random.Random) -> Iterator[Batch]:
        """Return one epoch: every row as often as its kind says, in an order that is drawn."""
        places = [place for place, text in enumerate(self.texts) for _ in range(repeats.get(text.kind, 1))]
        draw.shuffle(places)
        places.sort(key=lambda place: (len(self.prompts[place]) + len(self.answers[place])) // 4)
        batches: list[list[int]] = []
        while places:
            longest = len(self.prompts[places[-1]]) + len(self.answers[places[-1]]) + 4
            count = max(1, tokens_per_batch // longest)
            batches.append(places[-count:])
            del places[-count:]
        draw.shuffle(batches)
        for batch in batches:
            yield self.batch(batch, draw)

    def batch(self, places: Sequence[int], draw: random.Random) -> Batch:
        """Return rows as tensors."""
        if self.kind != "causal":
            # half of them end without the last token, as a reasoner's may
            given = [[*self.prompts[place], *([self.end] if draw.random() < 0.5 else [])] for place in places]
            return Batch(_pad(given, 0), _pad([self.answers[place] for place in places], IGNORED))
        given, targets = [], []
        for place in places:
            prompt, answer = self.prompts[place], self.answers[place]
            # half of the prompts begin without the first token, as a reasoner's may
            first = [self.start] if not prompt or draw.random() < 0.5 else []
            guessed = [IGNORED] * len(prompt) if self.texts[place].kind == "reading" else prompt
            given.append([*first, *prompt, *answer])
            targets.append([*([IGNORED] * len(first)), *guessed, *answer])
        return Batch(_pad(given, 0), _pad(targets, IGNORED))


def _encode(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    rows: list[list[int]] = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return rows


def _pad(rows: Sequence[Sequence[int]], padding: int) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(row) for row in rows], batch_first=True, padding_value=float(padding)
    ).long()
