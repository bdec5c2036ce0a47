"""A language model of two layers and random weights, to which the words of made questions are one token each."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, LlamaConfig, PreTrainedTokenizerFast, T5Config

from mmkg.reasoners.llm import FrozenLlm, LlmConfig, wrap_llm

_TEXTS = [
    "What is the colour of Mavo?",
    "What is the colour next to Mavo?",
    " red blue green white",
    "The answer is (A).",
]


def make_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TEXTS * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def make_tiny_llm(kind: str = "causal", *, width: int = 64, seed: int = 0) -> FrozenLlm:
    tokenizer = make_tokenizer()
    special = {"pad_token_id": 0, "eos_token_id": 2, "vocab_size": len(tokenizer)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "causal":
            config = LlamaConfig(
                hidden_size=width,
                intermediate_size=2 * width,
                num_key_value_heads=4,
                num_attention_heads=4,
                num_hidden_layers=1,
                max_position_embeddings=640,
                bos_token_id=1,
                **special,
            )
            model = AutoModelForCausalLM.from_config(config)
        else:
            config = T5Config(
                d_model=width, d_kv=8, d_ff=width, num_layers=1, num_heads=2, decoder_start_token_id=0, **special
            )
            model = AutoModelForSeq2SeqLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(std=0.12)
    return wrap_llm(model, tokenizer, LlmConfig(model=f"made-{kind}-{width}-{seed}"))
