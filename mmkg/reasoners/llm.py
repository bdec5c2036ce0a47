"""The language model that all reasoners share: frozen, and read through vectors instead of words.

A reasoner puts vectors of its own (a graph's, a picture's) beside word vectors into one prompt. The model below takes
such a prompt and says how likely a text is after it, writes one, or returns its own state. Its weights do not change
unless the settings say so, gradients go through it to the prompt. Causal models (OPT, LLaMA, Qwen, ...) and
encoder-decoder models (T5, ...) are used alike: for the former the prompt comes before the text, for the latter it is
what the encoder reads.

Shape suffixes: B prompts, P prompt positions, T target tokens, d width of a word vector, V words.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmkg.errors import ConfigError, require
from mmkg.reasoners.llm_config import LlmConfig, LoraConfig
from mmkg.reasoners.llm_forms import (
    IGNORED,
    LORA,
    add_lora,
    align,
    check_prompt,
    check_target,
    digest_llm,
    find_stop_ids,
    freeze,
    no_checkpointing,
    start_checkpointing,
)
from mmkg.reasoners.llm_source import read_llm

__all__ = ["IGNORED", "FrozenLlm", "LlmConfig", "LlmOutput", "LlmScores", "LoraConfig", "open_llm", "wrap_llm"]


@dataclass(frozen=True, kw_only=True)
class LlmOutput:
    """What a model says of targets.

    Attributes:
        nll_B: minus the sum of log p of each target token, float32.
        count_B: target tokens, without padding.
        logit_BTV: of every word before each target token; padding has some value.
    """

    nll_B: Tensor
    count_B: Tensor
    logit_BTV: Tensor

    @property
    def loss(self) -> Tensor:
        """Mean over all target tokens of the batch."""
        return self.nll_B.sum() / self.count_B.sum().clamp(min=1)


@dataclass(frozen=True, kw_only=True)
class LlmScores:
    """Log likelihood of several continuations of each prompt.

    Attributes:
        total: for each prompt a tensor of the sums over tokens, one number for each of its continuations.
        per_token: the same divided by the number of tokens.
    """

    total: list[Tensor]
    per_token: list[Tensor]


class FrozenLlm(nn.Module):
    """A language model that is read, not trained; made by :func:`open_llm` or :func:`wrap_llm`.

    It stays in evaluation mode whatever mode its parent is put in. What it returns for a row depends on the row's real
    positions alone, not on where padding lies in the prompt, nor on other rows.

    Attributes:
        kind: causal | encoder_decoder.
        width: d, numbers in a word vector; not always that of the states (OPT-350m).
        state_width: numbers in what :meth:`states` returns.
        tokenizer: of transformers.
        max_positions: most positions of a prompt (causal: with its target); None where there is no limit.
        pad_id: some token to fill with; never seen by the model.
        bos_id: the token that the model expects first, if it has one. Prompts bring it themselves.
        eos_id: the token that ends a text. Targets that are to stop bring it themselves.
    """

    kind: Literal["causal", "encoder_decoder"]

    def __init__(self, model: Any, tokenizer: Any, config: LlmConfig) -> None:
        super().__init__()
        settings = model.config
        self.kind = "encoder_decoder" if settings.is_encoder_decoder else "causal"
        self.model = model
        self.tokenizer = tokenizer
        self.config = config
        self.bos_id: int | None = tokenizer.bos_token_id
        self.stop_ids = find_stop_ids(model, tokenizer)
        self.eos_id = self.stop_ids[0]
        self.pad_id: int = self.eos_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        text_settings = settings.get_text_config() if self.kind == "causal" else settings
        self.max_positions: int | None = getattr(text_settings, "max_position_embeddings", None)
        self.width: int = model.get_input_embeddings().embedding_dim
        self.state_width: int = model.get_output_embeddings().weight.shape[1]
        self._start_id: int | None = getattr(settings, "decoder_start_token_id", None)
        if self.kind == "encoder_decoder" and self._start_id is None:
            raise ConfigError(f"{config.model}: its config has no decoder_start_token_id, so nothing can be generated")
        self._keeps = "logits_to_keep" in inspect.signature(type(model).forward).parameters
        self._make_plain(config)
        self.train(False)

    def _make_plain(self, config: LlmConfig) -> None:
        """Frozen, without dropout, and with nothing of its makers' that would change what greedy search finds."""
        transformers = require("transformers", extra="llm", needed_by="a language model")
        freeze(self.model)
        self.model.generation_config = transformers.GenerationConfig(
            eos_token_id=list(self.stop_ids), pad_token_id=self.pad_id, decoder_start_token_id=self._start_id
        )
        if config.lora is not None:
            add_lora(self.model, config.lora)
        if config.trains:
            _ = self.digest  # of what it starts from; what it becomes stands in checkpoints
            self.model.requires_grad_(True)
        if config.gradient_checkpointing:
            self.model.activation_checkpointing_enable({"use_reentrant": False})
            self.model.disable_input_require_grads()  # only the other way of checkpointing needs word vectors to learn

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode; only the dropout of LoRA follows ``mode``."""
        super().train(False)
        for name, module in self.named_modules():
            if LORA in name:
                module.training = mode
        start_checkpointing(self.model)
        return self

    @cached_property
    def digest(self) -> str:
        """16 hex digits over settings, weights before training and tokenizer; computed once, when first asked for."""
        return digest_llm(self.model, self.tokenizer)

    def tokens(self, text: str, max_tokens: int | None = None) -> list[int]:
        """Return a text's tokens without special ones, the first ``max_tokens`` of them."""
        tokens: list[int] = self.tokenizer.encode(text, add_special_tokens=False, verbose=False)
        return tokens[:max_tokens]

    def text(self, tokens: Sequence[int]) -> str:
        """Return what tokens say, without special ones."""
        text: str = self.tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text

    def embed(self, token_BL: Tensor) -> Tensor:
        """Return the model's own word vectors (B, L, d), scaled as the model itself scales them."""
        vector_BLd: Tensor = self.model.get_input_embeddings()(token_BL)
        return vector_BLd

    def forward(self, prompt_BPd: Tensor, mask_BP: Tensor, target_BT: Tensor) -> LlmOutput:
        """Return how likely targets are after prompts.

        Args:
            prompt_BPd: vectors (B, P, d), of any floating type.
            mask_BP: bool, False where padding is, anywhere in a row.
            target_BT: tokens, with :data:`IGNORED` after the end of the shorter ones.

        Raises:
            ConfigError: shapes do not fit, a row has no real position, a target has a hole, or all is too long.
        """
        count_B = check_prompt(prompt_BPd, mask_BP, self.width)
        self.check_length(count_B, check_target(target_BT, len(prompt_BPd)))
        logit_BTV = self._logits(prompt_BPd, mask_BP, target_BT)
        target_BT = target_BT.to(logit_BTV.device)
        nll_BT = functional.cross_entropy(
            logit_BTV.float().transpose(1, 2), target_BT, ignore_index=IGNORED, reduction="none"
        )
        return LlmOutput(nll_B=nll_BT.sum(dim=1), count_B=(target_BT != IGNORED).sum(dim=1), logit_BTV=logit_BTV)

    def states(self, prompt_BPd: Tensor, mask_BP: Tensor) -> Tensor:
        """Return the model's state (B, state_width) after each prompt: what its first word would be read from.

        Causal: of the last layer at the last real position. Encoder-decoder: of the decoder before its first word.
        """
        self.check_length(check_prompt(prompt_BPd, mask_BP, self.width))
        return self._states(prompt_BPd, mask_BP)

    @torch.no_grad()
    def generate(
        self, prompt_BPd: Tensor, mask_BP: Tensor, *, max_new_tokens: int, num_beams: int = 1
    ) -> list[list[int]]:
        """Write a text after each prompt: the likeliest next token again and again, or by beams.

        Nothing is sampled, and settings that came with the model (temperature, penalties) are not used.

        Returns:
            For each row the tokens before the one that ends the text, at most ``max_new_tokens``.
        """
        self.check_length(check_prompt(prompt_BPd, mask_BP, self.width), max_new_tokens)
        # encoders: either side would do. Causal: each row's next token comes in the same column
        side: Literal["left", "right"] = "right" if self.kind == "causal" else "left"
        prompt_BPd, mask_BP = align(prompt_BPd.to(self.dtype), mask_BP, side)
        with no_checkpointing(self.model):
            written_BT = self.model.generate(
                inputs_embeds=prompt_BPd,
                attention_mask=mask_BP.long(),
                max_new_tokens=max_new_tokens,
                num_beams=num_beams,
                do_sample=False,
            )
        skip = 1 if self.kind == "encoder_decoder" else 0  # the token that a decoder starts from
        return [self.until_stop(row[skip:]) for row in written_BT.tolist()]

    @torch.no_grad()
    def score(
        self,
        prompt_BPd: Tensor,
        mask_BP: Tensor,
        targets: Sequence[Sequence[Sequence[int]]],
        *,
        rows_at_once: int = 64,
    ) -> LlmScores:
        """Return the log likelihood of several continuations of each prompt.

        Args:
            prompt_BPd: vectors (B, P, d).
            mask_BP: bool, False where padding is.
            targets: for each prompt its continuations, each a list of tokens; how many may differ between prompts.
            rows_at_once: pairs of prompt and continuation in one pass: memory, not numbers, depends on it.

        Raises:
            ConfigError: a continuation is empty, or there are not as many lists as prompts.
        """
        if len(targets) != len(prompt_BPd):
            raise ConfigError(f"targets: expected a list for each of {len(prompt_BPd)} prompts, found {len(targets)}")
        pairs = [(row, list(tokens)) for row, lists in enumerate(targets) for tokens in lists]
        for row, tokens in pairs:
            if not tokens:
                raise ConfigError(f"targets: a continuation of prompt {row} has no token, so it has no likelihood")
        total = torch.empty(len(pairs))
        for start in range(0, len(pairs), rows_at_once):
            part = pairs[start : start + rows_at_once]
            rows = torch.tensor([row for row, _ in part], device=prompt_BPd.device)
            target = nn.utils.rnn.pad_sequence(
                [torch.tensor(tokens) for _, tokens in part], batch_first=True, padding_value=IGNORED
            )
            said = self(prompt_BPd[rows], mask_BP[rows], target.to(prompt_BPd.device))
            total[start : start + len(part)] = -said.nll_B.cpu()
        count = torch.tensor([len(tokens) for _, tokens in pairs])
        each = [len(lists) for lists in targets]
        return LlmScores(total=list(torch.split(total, each)), per_token=list(torch.split(total / count, each)))

    # --- parts -------------------------------------------------------------------------------------------------------

    @property
    def dtype(self) -> torch.dtype:
        """Type of its word embeddings."""
        dtype: torch.dtype = self.model.get_input_embeddings().weight.dtype
        return dtype

    def _logits(self, prompt_BPd: Tensor, mask_BP: Tensor, target_BT: Tensor) -> Tensor:
        real_BT = target_BT != IGNORED
        token_BT = target_BT.masked_fill(~real_BT, self.pad_id)
        prompt_BPd = prompt_BPd.to(self.dtype)
        if self.kind == "encoder_decoder":
            start_B1 = torch.full_like(token_BT[:, :1], self._start_id or 0)
            prompt_BPd, mask_BP = align(prompt_BPd, mask_BP, "left")
            said = self.model(
                inputs_embeds=prompt_BPd,
                attention_mask=mask_BP.long(),
                decoder_input_ids=torch.cat([start_B1, token_BT[:, :-1]], dim=1),
                use_cache=False,
            )
            return said.logits
        # Each row: its prompt, then its target, then padding. No real position sees any padding, so there is no mask.
        whole_BLd = torch.cat([prompt_BPd, self.embed(token_BT).to(prompt_BPd.device)], dim=1)
        whole_BLd, _ = align(whole_BLd, torch.cat([mask_BP, real_BT], dim=1), "left")
        before_B = mask_BP.sum(dim=1) - 1  # the position from which a row's first target token is read
        first = int(before_B.min()) if self._keeps else 0
        keep = {"logits_to_keep": whole_BLd.shape[1] - first} if self._keeps else {}
        logit_BLV = self.model(inputs_embeds=whole_BLd, use_cache=False, **keep).logits
        place_BT = before_B[:, None] - first + torch.arange(target_BT.shape[1], device=before_B.device)
        place_BT = place_BT.clamp(max=logit_BLV.shape[1] - 1).to(logit_BLV.device)
        return logit_BLV.gather(1, place_BT[:, :, None].expand(-1, -1, logit_BLV.shape[2]))

    def _states(self, prompt_BPd: Tensor, mask_BP: Tensor) -> Tensor:
        prompt_BPd, mask_BP = align(prompt_BPd.to(self.dtype), mask_BP, "left")
        if self.kind == "encoder_decoder":
            read_BPd = self.model.get_encoder()(inputs_embeds=prompt_BPd, attention_mask=mask_BP.long())
            start_B1 = torch.full((len(prompt_BPd), 1), self._start_id or 0, device=prompt_BPd.device)
            said = self.model.get_decoder()(
                input_ids=start_B1,
                encoder_hidden_states=read_BPd.last_hidden_state,
                encoder_attention_mask=mask_BP.long(),
                use_cache=False,
            )
            return said.last_hidden_state[:, 0]
        state_BPd = self.model.base_model(inputs_embeds=prompt_BPd, use_cache=False).last_hidden_state
        rows = torch.arange(len(state_BPd), device=state_BPd.device)
        return state_BPd[rows, mask_BP.sum(dim=1).to(state_BPd.device) - 1]

    def until_stop(self, row: list[int]) -> list[int]:
        """Return the tokens before the one that ends a text."""
        end = next((place for place, token in enumerate(row) if token in self.stop_ids), len(row))
        return row[:end]

    def check_length(self, prompt_B: Tensor, further: Tensor | int = 0) -> None:
        """Raise ConfigError unless the model has positions for prompts of so many rows and so many tokens after."""
        if self.max_positions is None:
            return
        whole_B = prompt_B + further if self.kind == "causal" else torch.maximum(prompt_B, prompt_B * 0 + further)
        if int(whole_B.max()) > self.max_positions:
            raise ConfigError(
                f"the language model has {self.max_positions} positions, found {int(whole_B.max())} (the longest "
                f"prompt has {int(prompt_B.max())}); shorten the text, or take fewer prefix tokens"
            )


def open_llm(config: LlmConfig, *, device: str | torch.device = "cpu") -> FrozenLlm:
    """Open the language model of a config.

    Args:
        config: which, and in which form.
        device: where it is computed; not read with ``device_map='auto'``.

    Raises:
        ConfigError: nothing is called so, or what is there cannot be read.
        FetchError: a hub name is neither in the cache nor to be had.
        NotInstalled: transformers, accelerate (device map) or peft (LoRA) is not there.
    """
    model, tokenizer = read_llm(config)
    llm = wrap_llm(model, tokenizer, config)
    return llm if config.device_map == "auto" else llm.to(device)


def wrap_llm(model: Any, tokenizer: Any, config: LlmConfig | None = None) -> FrozenLlm:
    """Freeze a model of transformers that is already made, with its tokenizer; the model itself is changed.

    Args:
        model: causal or encoder-decoder, with a language model head.
        tokenizer: with a token that ends a text.
        config: of it, ``gradient_checkpointing`` and ``lora`` are read; None takes neither.
    """
    return FrozenLlm(model, tokenizer, config or LlmConfig(model=model.config.name_or_path or "made"))
