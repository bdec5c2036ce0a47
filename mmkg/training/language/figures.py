"""What a tiny language model knows and can read: perplexity against simple models, and answers that it wrote."""

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mmkg.reasoners.llm import IGNORED, FrozenLlm
from mmkg.training.language.text import Text

_ROWS_AT_ONCE = 64
_ASKED, _EXAMPLES = 300, 6


def measure_language_model(
    llm: FrozenLlm, splits: Mapping[str, Sequence[Text]], *, random_seed: int = 0
) -> dict[str, Any]:
    """Return figures on ``test`` (held-out facts), and for memory on as many rows of ``train``.

    ``perplexity``: of answers (for statements: of all their tokens) with their end, per token, by kind; beside it that
    of the frequency of each token among train answers, and of a draw among all tokens. ``exact``: share of answers that
    greedy search writes letter for letter. ``commonest``: the share that the commonest train answer of the kind has.
    """
    train = [text for text in splits["train"] if text.prompt or llm.kind == "causal"]
    asked = {"test": list(splits.get("test", []))}
    asked["train"] = random.Random(random_seed).sample(train, min(len(train), 6 * _ASKED))
    frequency = _frequency(llm, train)
    figures: dict[str, Any] = {"uniform_perplexity": len(frequency), "splits": {}, "examples": []}
    for split, texts in asked.items():
        kinds = sorted({text.kind for text in texts if text.prompt or llm.kind == "causal"})
        figures["splits"][split] = {}
        for kind in kinds:
            rows = [text for text in texts if text.kind == kind]
            nll, count = _likelihood(llm, rows)
            unigram = sum(-math.log(frequency[token]) for row in rows for token in _answer(llm, row))
            measured: dict[str, Any] = {
                "rows": len(rows),
                "perplexity": round(math.exp(nll / count), 3),
                "unigram_perplexity": round(math.exp(unigram / count), 1),
            }
            if kind != "statement":
                chosen = random.Random(random_seed).sample(rows, min(len(rows), _ASKED))
                written = write_answers(llm, [row.prompt for row in chosen])
                right = [text == row.answer for text, row in zip(written, chosen, strict=True)]
                commonest = Counter(row.answer for row in train if row.kind == kind).most_common(1)[0][0]
                measured |= {
                    "asked": len(chosen),
                    "exact": round(sum(right) / len(right), 3),
                    "commonest": round(sum(row.answer == commonest for row in chosen) / len(chosen), 3),
                }
                figures["examples"] += [
                    {"split": split, "kind": kind, "prompt": row.prompt, "answer": row.answer, "written": text}
                    for text, row in list(zip(written, chosen, strict=True))[:_EXAMPLES]
                ]
            figures["splits"][split][kind] = measured
    return figures


def write_answers(llm: FrozenLlm, prompts: Sequence[str], *, max_new_tokens: int = 24) -> list[str]:
    """Return what a model writes after each prompt, by greedy search."""
    written = []
    for start in range(0, len(prompts), _ROWS_AT_ONCE):
        vector_BPd, mask_BP = _read(llm, prompts[start : start + _ROWS_AT_ONCE])
        rows = llm.generate(vector_BPd, mask_BP, max_new_tokens=max_new_tokens)
        written += [llm.text(row) for row in rows]
    return written


def _read(llm: FrozenLlm, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Word vectors of prompts, and their mask; a causal prompt begins with the first token, an encoder's ends with
    the last one."""
    causal = llm.kind == "causal" and llm.bos_id is not None
    rows = [
        torch.tensor([llm.bos_id, *llm.tokens(text)] if causal else [*llm.tokens(text), llm.eos_id]) for text in prompts
    ]
    token_BP = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
    mask_BP = token_BP >= 0
    return llm.embed(token_BP.clamp(min=0)), mask_BP


def _answer(llm: FrozenLlm, row: Text) -> list[int]:
    return [*llm.tokens(row.answer), llm.eos_id]


@torch.no_grad()
def _likelihood(llm: FrozenLlm, rows: Sequence[Text]) -> tuple[float, int]:
    nll, count = 0.0, 0
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = rows[start : start + _ROWS_AT_ONCE]
        answers = [torch.tensor(_answer(llm, row)) for row in part]
        target_BT = torch.nn.utils.rnn.pad_sequence(answers, batch_first=True, padding_value=IGNORED)
        said = llm(*_read(llm, [row.prompt for row in part]), target_BT)
        nll, count = nll + float(said.nll_B.sum()), count + int(said.count_B.sum())
    return nll, count


def _frequency(llm: FrozenLlm, train: Sequence[Text]) -> list[float]:
    """Of each token among train answers and statements, one more than counted."""
    counted = Counter(token for row in train for token in _answer(llm, row))
    total = sum(counted.values()) + len(llm.tokenizer)
    return [(counted[token] + 1) / total for token in range(len(llm.tokenizer))]
