"""What language models of several families have in common once a few differences are taken away.

Where padding lies (:func:`align`), what decides a model's numbers (:func:`digest_llm`), dropout, checkpointing, LoRA.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmkg.errors import ConfigError, require
from mmkg.reasoners.llm_config import LoraConfig

IGNORED = -100
"""Stands in a target where there is no token: what comes after the shorter ones of a batch."""
LORA = "lora_"  # in the name of every tensor that peft adds
_WRAPPED = ".base_layer"  # in the name of every tensor that peft put into a layer of its own
# of a config: where it came from and how it is run, not what it computes
_NOT_OF_THE_MODEL = {"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache"}


def align(vector_BLd: Tensor, mask_BL: Tensor, side: Literal["left", "right"]) -> tuple[Tensor, Tensor]:
    """Move the real positions of each row together, in their order, to one side; cut what all rows then have too much.

    With all padding behind a row's last position no causal model sees it, whatever positions it has; with all padding
    before the first one, every row ends in the same column, as generation wants it.

    Args:
        vector_BLd: (B, L, d).
        mask_BL: bool, False where padding is, anywhere in a row.
        side: where the real positions go.

    Returns:
        (B, L', d) with zeros for padding (never what stood there: a NaN times zero is a NaN), and its mask, with L'
        the number of real positions of the longest row.
    """
    count_B = mask_BL.sum(dim=1)
    longest = int(count_B.max())
    if longest == mask_BL.shape[1] and bool(mask_BL.all()):
        return vector_BLd, mask_BL
    # a stable sort: 0 before 1, equal ones in their order
    order_BL = (mask_BL if side == "right" else ~mask_BL).to(torch.int8).argsort(dim=1, stable=True)
    order_BL = order_BL[:, -longest:] if side == "right" else order_BL[:, :longest]
    aligned_BLd = vector_BLd.gather(1, order_BL[:, :, None].expand(-1, -1, vector_BLd.shape[2]))
    aligned_BL = mask_BL.gather(1, order_BL)
    return aligned_BLd.masked_fill(~aligned_BL[:, :, None], 0.0), aligned_BL


def digest_llm(model: Any, tokenizer: Any) -> str:
    """Return 16 hex digits of SHA-256 over a model's settings, its weights by name, and its tokenizer.

    Low-rank changes do not count: they are trained. The type of the weights does, as it decides the numbers.
    """
    sha256 = hashlib.sha256()
    settings = {
        key: value
        for key, value in model.config.to_diff_dict().items()
        if key not in _NOT_OF_THE_MODEL and "drop" not in key
    }
    sha256.update(json.dumps(settings, sort_keys=True, default=str).encode())
    tensors = dict(model.named_parameters())
    for name in sorted(tensors):
        if LORA in name:
            continue
        tensor = tensors[name].detach().cpu().contiguous()
        sha256.update(f"{name.replace(_WRAPPED, '')} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha256.update(tensor.flatten().view(torch.uint8).numpy())
    backend = getattr(tokenizer, "backend_tokenizer", None)
    words = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    sha256.update((words + json.dumps(special, sort_keys=True)).encode())
    return sha256.hexdigest()[:16]


def freeze(model: nn.Module) -> None:
    """No parameter of a model learns, and none of its layers drops anything, in whatever mode it is put.

    Checkpointing works in training mode only, where families keep dropout in modules or in plain numbers.
    """
    model.requires_grad_(False)
    holders: list[Any] = [*model.modules(), *(m.config for m in model.modules() if hasattr(m, "config"))]
    for holder in holders:
        if isinstance(holder, nn.modules.dropout._DropoutNd):
            holder.p = 0.0
        for name, value in list(vars(holder).items()):
            if "drop" in name and isinstance(value, int | float) and not isinstance(value, bool):
                setattr(holder, name, 0.0)


def start_checkpointing(model: nn.Module) -> None:
    """Let the layers for which checkpointing was switched on do it: they do in training mode only.

    The mode is to be the same in the backward pass as in the forward pass; it changes nothing else once dropout is 0.
    """
    for layer in _checkpointed(model):
        layer.training = True  # not .train(): nothing below it


@contextmanager
def no_checkpointing(model: nn.Module) -> Iterator[None]:
    """Inside a ``with`` block layers keep what they computed: checkpointing throws away what generation reads again."""
    layers = [layer for layer in _checkpointed(model) if layer.training]
    for layer in layers:
        layer.training = False
    try:
        yield
    finally:
        for layer in layers:
            layer.training = True


def _checkpointed(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if getattr(module, "gradient_checkpointing", False)]


def add_lora(model: nn.Module, config: LoraConfig) -> None:
    """Put low-rank changes into a model's matrices; they start at nothing and are the only ones that learn.

    Raises:
        ConfigError: the targets name no matrix of the model, or none are named and peft does not know its family.
        NotInstalled: peft is not there.
    """
    peft = require("peft", extra="llm", needed_by="LoRA")
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=list(config.targets) or None,
    )
    try:
        peft.inject_adapter_in_model(settings, model)
    except ValueError as error:
        matrices = sorted({name.rpartition(".")[2] for name, m in model.named_modules() if isinstance(m, nn.Linear)})
        raise ConfigError(
            f"lora.targets: {list(config.targets) or 'none'}: {error} Matrices of this model: {', '.join(matrices)}."
        ) from error
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(LORA in name)


def find_stop_ids(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """Return the tokenizer's token that ends a text, then those that a model's makers take too (LLaMA 3 has several).

    Raises:
        ConfigError: there is none.
    """
    theirs = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    found: Iterable[int] = [] if theirs is None else [theirs] if isinstance(theirs, int) else theirs
    own = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    stops = tuple(dict.fromkeys([*own, *found]))
    if not stops:
        raise ConfigError("the language model has no token that ends a text: neither tokenizer nor config names one")
    return stops


def check_prompt(prompt_BPd: Tensor, mask_BP: Tensor, width: int) -> Tensor:
    """Return how many real positions each prompt has.

    Raises:
        ConfigError: shapes or types do not fit, or a prompt is empty.
    """
    if prompt_BPd.dim() != 3 or prompt_BPd.shape[2] != width or prompt_BPd.shape[:2] != mask_BP.shape:
        raise ConfigError(
            f"prompt: expected vectors (B, P, {width}) and a mask (B, P), "
            f"found {tuple(prompt_BPd.shape)} and {tuple(mask_BP.shape)}"
        )
    if mask_BP.dtype != torch.bool:
        raise ConfigError(f"mask: expected bool, True for a real position, found {mask_BP.dtype}")
    count_B = mask_BP.sum(dim=1)
    if not len(count_B):
        raise ConfigError("prompt: the batch is empty")
    if int(count_B.min()) == 0:
        raise ConfigError(f"prompt: row {int(count_B.argmin())} is all padding; give it at least one position")
    return count_B


def check_target(target_BT: Tensor, num_prompts: int) -> Tensor:
    """Return how many tokens each target has.

    Raises:
        ConfigError: the shape does not fit, or padding stands before a token.
    """
    if target_BT.dim() != 2 or len(target_BT) != num_prompts or not target_BT.shape[1]:
        raise ConfigError(f"target: expected tokens ({num_prompts}, T), found {tuple(target_BT.shape)}")
    real_BT = target_BT != IGNORED
    if bool((real_BT[:, 1:] & ~real_BT[:, :-1]).any()):
        raise ConfigError(f"target: {IGNORED} stands before a token; padding goes to the right end of a row")
    return real_BT.sum(dim=1)
