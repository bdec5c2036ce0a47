"""Runs of language models: a recipe and a folder of texts in, a run's folder out.

A run's folder holds ``config.json`` (recipe and texts), ``metrics.jsonl`` (a row an epoch), and at the end ``model/``
(as transformers and :func:`mmkg.reasoners.llm.open_llm` open it) and ``metrics.json``. All figures are those of
``model/`` with its float16 weights: what is measured is what is shipped.
"""

import json
import math
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from mmkg.errors import TrainingError
from mmkg.reasoners.llm import LlmConfig, open_llm
from mmkg.shards import digest, write_bytes, write_json
from mmkg.training.hardware import choose_device, using_threads
from mmkg.training.language.figures import measure_language_model
from mmkg.training.language.model import loss_of, make_model, save_model
from mmkg.training.language.recipe import LanguageRecipe, open_language_recipe
from mmkg.training.language.text import Batch, Rows, make_tokenizer, read_texts

MODEL_FOLDER = "model"


def train_language(
    recipe: LanguageRecipe | str,
    text_folder: Path,
    run_folder: Path,
    *,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Train by a recipe, measure on what was held out, and leave a run folder.

    Args:
        recipe: a recipe or its name.
        text_folder: holds ``text.tsv``.
        run_folder: made if it is not there.
        progress: called with one line of text after each epoch.

    Returns:
        The content of ``metrics.json``.

    Raises:
        TrainingError: the folder holds a run already, texts are missing, or training diverges.
        ConfigError: the recipe does not fit the machine.
        NotInstalled: transformers is not there.
    """
    recipe = open_language_recipe(recipe) if isinstance(recipe, str) else recipe
    if run_folder.exists() and any(run_folder.iterdir()):
        raise TrainingError(f"{run_folder}: not empty; give a new folder, or remove it")
    splits = read_texts(text_folder)
    run_folder.mkdir(parents=True, exist_ok=True)
    texts = digest({split: [vars(text) for text in rows] for split, rows in splits.items()})
    write_json(run_folder / "config.json", {"recipe": recipe.model_dump(), "texts": texts})
    device, draw = choose_device(recipe.device), random.Random(recipe.random_seed)
    started = time.monotonic()
    with torch.random.fork_rng(devices=[]), using_threads(recipe.threads):
        torch.manual_seed(recipe.random_seed)
        # of a reading nothing but the sentences of the other kinds: its made-up words would take their place
        tokenizer = make_tokenizer([text for text in splits["train"] if text.kind != "reading"], recipe.vocabulary_size)
        model = make_model(recipe, tokenizer).to(device)
        rows = {split: Rows(texts, tokenizer, recipe.kind) for split, texts in splits.items()}
        history: list[dict[str, Any]] = []
        for row in _epochs(recipe, model, rows, device, draw):
            row["minutes"] = round((time.monotonic() - started) / 60, 2)
            history.append(row)
            write_bytes(run_folder / "metrics.jsonl", "".join(json.dumps(one) + "\n" for one in history).encode())
            if progress is not None:
                progress("  ".join(f"{name} {value}" for name, value in row.items()))
        save_model(model.cpu(), tokenizer, run_folder / MODEL_FOLDER)
        llm = open_llm(LlmConfig(model=str(run_folder / MODEL_FOLDER)))
        metrics = {
            "name": recipe.name,
            "digest": llm.digest,
            "parameters": sum(parameter.numel() for parameter in llm.parameters()),
            "training": {"steps": history[-1]["steps"], "minutes": history[-1]["minutes"], "torch": torch.__version__},
            **measure_language_model(llm, splits, random_seed=recipe.random_seed),
        }
    write_json(run_folder / "metrics.json", metrics)
    return metrics


def _epochs(
    recipe: LanguageRecipe, model: Any, rows: dict[str, Rows], device: torch.device, draw: random.Random
) -> Iterator[dict[str, Any]]:
    """Train; yield a row of figures after each epoch."""
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))
    an_epoch = sum(1 for _ in rows["train"].batches(recipe.tokens_per_batch, recipe.kind_repeats, random.Random(0)))
    total = an_epoch * recipe.epochs
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step / total, recipe.warmup))
    steps = 0
    for epoch in range(recipe.epochs):
        model.train()
        nll, count = 0.0, 0
        for batch in rows["train"].batches(recipe.tokens_per_batch, recipe.kind_repeats, draw):
            optimiser.zero_grad()
            loss, tokens = loss_of(model, Batch(batch.given_BP.to(device), batch.target_BT.to(device)))
            (loss / tokens).backward()  # type: ignore[no-untyped-call]
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_clip)
            if not torch.isfinite(norm):
                raise TrainingError(f"training diverged at step {steps}: lower learning_rate, {recipe.learning_rate}")
            optimiser.step()
            if steps + 1 < total:
                rate.step()
            nll, count, steps = nll + loss.item(), count + tokens, steps + 1
        row = {"epoch": epoch + 1, "steps": steps, "train_nll": round(nll / count, 4)}
        if "valid" in rows:
            row["valid_nll"] = round(_valid(model, rows["valid"], recipe, device), 4)
        yield row


@torch.no_grad()
def _valid(model: Any, rows: Rows, recipe: LanguageRecipe, device: torch.device) -> float:
    model.eval()
    batches = rows.batches(recipe.tokens_per_batch, {}, random.Random(0))
    pairs = [loss_of(model, Batch(one.given_BP.to(device), one.target_BT.to(device))) for one in batches]
    return sum(loss.item() for loss, _ in pairs) / sum(count for _, count in pairs)


def _rate(part: float, warmup: float) -> float:
    """Share of the highest rate after a part of the run."""
    if part < warmup:
        return max(part / warmup, 0.01)
    return 0.5 * (1 + math.cos(math.pi * (part - warmup) / (1 - warmup)))
