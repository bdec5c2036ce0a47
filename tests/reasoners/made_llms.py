"""Language models of four families, of random weights and a few thousand parameters, and a tokenizer for them."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    LlamaConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    T5Config,
)

from mmkg.reasoners.llm import FrozenLlm, LlmConfig, wrap_llm

TEXTS = ["Paris is the capital of France.", "Bern is the capital of Switzerland.", "What is the capital of Chad?"]
VOCABULARY = 320
CAUSAL, ENCODER_DECODER = ("llama", "opt", "opt_projected", "qwen2"), ("t5", "flan_t5")
FAMILIES = (*CAUSAL, *ENCODER_DECODER)

_SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_SMALL = {"num_attention_heads": 2, "num_hidden_layers": 2, "max_position_embeddings": 48, "vocab_size": VOCABULARY}
_T5 = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "vocab_size": VOCABULARY}
_T5_SPECIAL = {"pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0, "dropout_rate": 0.5}
_CONFIGS = {
    "llama": lambda: LlamaConfig(
        hidden_size=16, intermediate_size=24, num_key_value_heads=1, attention_dropout=0.5, **_SMALL, **_SPECIAL
    ),
    "qwen2": lambda: Qwen2Config(
        hidden_size=16,
        intermediate_size=24,
        num_key_value_heads=2,
        attention_dropout=0.5,
        tie_word_embeddings=True,
        **_SMALL,
        **_SPECIAL,
    ),
    "opt": lambda: OPTConfig(
        hidden_size=16, ffn_dim=24, word_embed_proj_dim=16, dropout=0.5, layerdrop=0.5, **_SMALL, **_SPECIAL
    ),
    "opt_projected": lambda: OPTConfig(  # as OPT-350m: words narrower than states
        hidden_size=16,
        ffn_dim=24,
        word_embed_proj_dim=8,
        attention_dropout=0.5,
        do_layer_norm_before=False,
        **_SMALL,
        **_SPECIAL,
    ),
    "t5": lambda: T5Config(**_T5, **_T5_SPECIAL),
    "flan_t5": lambda: T5Config(feed_forward_proj="gated-gelu", tie_word_embeddings=False, **_T5, **_T5_SPECIAL),
}


def make_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<pad>", "<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def make_model(family: str, seed: int = 0):
    """A model with weights large enough that its words are not all alike."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        auto = AutoModelForSeq2SeqLM if family in ENCODER_DECODER else AutoModelForCausalLM
        model = auto.from_config(_CONFIGS[family]())
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(std=0.3)
    return model


def make_llm(family: str, seed: int = 0, **settings) -> FrozenLlm:
    return wrap_llm(make_model(family, seed), make_tokenizer(), LlmConfig(model=family, **settings))
