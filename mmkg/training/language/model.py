"""Tiny models as transformers builds them, and how they are saved."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mmkg.errors import require
from mmkg.reasoners.llm_forms import IGNORED
from mmkg.training.language.recipe import LanguageRecipe
from mmkg.training.language.text import Batch


def make_model(recipe: LanguageRecipe, tokenizer: Any) -> Any:
    """Return a new model of a recipe, its weights from torch's generator."""
    transformers = require("transformers", extra="llm", needed_by="a language model")
    special = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    if recipe.kind == "causal":
        settings = transformers.LlamaConfig(
            hidden_size=recipe.width,
            intermediate_size=recipe.hidden_width,
            num_hidden_layers=recipe.num_layers,
            num_attention_heads=recipe.num_heads,
            max_position_embeddings=recipe.max_positions,
            initializer_range=0.05,
            tie_word_embeddings=True,
            **special,
        )
        return transformers.AutoModelForCausalLM.from_config(settings)
    settings = transformers.T5Config(
        d_model=recipe.width,
        d_kv=recipe.width // recipe.num_heads,
        d_ff=recipe.hidden_width,
        num_layers=recipe.num_layers,
        num_heads=recipe.num_heads,
        dropout_rate=0.0,
        decoder_start_token_id=tokenizer.pad_token_id,
        **special,
    )
    return transformers.AutoModelForSeq2SeqLM.from_config(settings)


def loss_of(model: Any, batch: Batch) -> tuple[Tensor, int]:
    """Return the sum of -log p over all targets of a batch, and how many there are."""
    if model.config.is_encoder_decoder:
        start_B1 = torch.full_like(batch.target_BT[:, :1], model.config.decoder_start_token_id)
        before_BT = torch.cat([start_B1, batch.target_BT[:, :-1].clamp(min=0)], dim=1)
        mask_BP = (batch.given_BP != model.config.pad_token_id).long()
        said = model(batch.given_BP, attention_mask=mask_BP, decoder_input_ids=before_BT, use_cache=False)
        logit_BTV, target_BT = said.logits, batch.target_BT
    else:  # all padding is behind
        logit_BTV = model(batch.given_BP[:, :-1], use_cache=False).logits
        target_BT = batch.target_BT[:, 1:]
    nll = functional.cross_entropy(logit_BTV.flatten(0, 1), target_BT.flatten(), ignore_index=IGNORED, reduction="sum")
    return nll, int((target_BT != IGNORED).sum())


def save_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write model and tokenizer as transformers opens them, weights in float16; the model becomes so too."""
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
