"""The frozen language model: small random models of the families that people use; what is bundled is tested below."""

import math
import re
import sys

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mmkg.errors import ConfigError, FetchError, NotInstalled
from mmkg.reasoners.llm import IGNORED, LlmConfig, LoraConfig, open_llm, wrap_llm
from mmkg.reasoners.llm_forms import align, digest_llm

from .made_llms import CAUSAL, ENCODER_DECODER, FAMILIES, make_llm, make_model, make_tokenizer

ONE_EACH = ("llama", "t5")
QUESTION = "What is the capital of Chad?"


@pytest.fixture(params=FAMILIES)
def llm(request):
    return make_llm(request.param)


def prompt_of(llm, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(1, length, llm.width, generator=torch.Generator().manual_seed(seed))


def target_of(*rows: list[int]) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [IGNORED] * (longest - len(row)) for row in rows])


def whole(prompt: torch.Tensor) -> torch.Tensor:
    return torch.ones(prompt.shape[:2], dtype=torch.bool)


def batch_of(parts: list[torch.Tensor], places: list[list[int]], length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompts (1, n, d) side by side, each at its own places; padding is full of NaN, which must touch nothing."""
    prompt = torch.full((len(parts), length, parts[0].shape[2]), math.nan)
    mask = torch.zeros((len(parts), length), dtype=torch.bool)
    for row, (part, where) in enumerate(zip(parts, places, strict=True)):
        prompt[row, where] = part[0]
        mask[row, where] = True
    return prompt, mask


@pytest.fixture
def padded(llm):
    """Three prompts alone, and together: padded on the left, in the middle, and on the right."""
    parts = [prompt_of(llm, length, seed) for seed, length in enumerate((5, 3, 4))]
    return parts, *batch_of(parts, [[2, 3, 4, 5, 6], [0, 3, 6], [0, 1, 2, 3]], 7)


# --- what is said of a target


@pytest.mark.capability("MR-13")
def test_both_kinds_run_forward_and_backward(llm):
    prompt = prompt_of(llm, 4).expand(2, -1, -1).clone().requires_grad_()
    said = llm(prompt, whole(prompt), target_of([5, 6, 7], [8, 2]))
    assert said.logit_BTV.shape == (2, 3, 320)
    assert said.count_B.tolist() == [3, 2]
    said.loss.backward()
    assert prompt.grad.abs().sum(dim=(1, 2)).min() > 0
    assert said.loss.item() == pytest.approx(said.nll_B.sum().item() / 5)


def test_each_token_is_read_after_those_before_it(llm):
    """By the plain model, token by token."""
    prompt, tokens = prompt_of(llm, 4), [5, 6, 7]
    expected = 0.0
    for place, token in enumerate(tokens):
        before = torch.tensor([tokens[:place]], dtype=torch.long)
        if llm.kind == "causal":
            logits = llm.model(inputs_embeds=torch.cat([prompt, llm.embed(before)], dim=1)).logits
        else:
            start = torch.cat([torch.tensor([[0]]), before], dim=1)
            logits = llm.model(inputs_embeds=prompt, decoder_input_ids=start).logits
        expected -= logits[0, -1].log_softmax(0)[token].item()
    assert llm(prompt, whole(prompt), target_of(tokens)).nll_B.item() == pytest.approx(expected, rel=1e-5)


def test_a_row_alone_is_the_same_row_in_a_padded_batch(llm, padded):
    parts, prompt, mask = padded
    tokens = [[5, 6], [7, 8, 9, 2], [2]]
    said, states = llm(prompt, mask, target_of(*tokens)), llm.states(prompt, mask)
    assert states.shape == (3, llm.state_width)
    for row, part in enumerate(parts):
        alone = llm(part, whole(part), target_of(tokens[row]))
        torch.testing.assert_close(said.nll_B[row], alone.nll_B[0], atol=1e-5, rtol=1e-5)
        length = len(tokens[row])
        torch.testing.assert_close(said.logit_BTV[row, :length], alone.logit_BTV[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(states[row], llm.states(part, whole(part))[0], atol=1e-5, rtol=1e-5)


def test_gradients_do_not_cross_rows_and_not_reach_padding(llm):
    parts = [prompt_of(llm, 3, 0), prompt_of(llm, 2, 1)]
    prompt, mask = batch_of(parts, [[0, 2, 3], [1, 3]], 4)
    prompt.requires_grad_()
    llm(prompt, mask, target_of([5, 6], [7])).nll_B[0].backward()
    assert (prompt.grad[1] == 0).all()
    assert (prompt.grad[0, 1] == 0).all()
    assert (prompt.grad[0, [0, 2, 3]].abs().sum(dim=1) > 0).all()


def test_real_positions_keep_their_order_on_either_side():
    vector = torch.tensor([[[1.0], [math.nan], [2.0], [math.nan]], [[math.nan], [3.0], [math.nan], [math.nan]]])
    mask = torch.tensor([[True, False, True, False], [False, True, False, False]])
    left, left_mask = align(vector, mask, "left")
    right, right_mask = align(vector, mask, "right")
    assert left[:, :, 0].tolist() == [[1, 2], [3, 0]]
    assert right[:, :, 0].tolist() == [[1, 2], [0, 3]]
    assert (left_mask.tolist(), right_mask.tolist()) == ([[True, True], [True, False]], [[True, True], [False, True]])


def test_a_state_is_what_the_first_word_is_read_from(llm, padded):
    _, prompt, mask = padded
    said = llm(prompt, mask, target_of([5], [5], [5]))
    state = llm.states(prompt, mask)
    if llm.config.model == "t5":  # the first T5 scales its states before the words; FLAN-T5 does not
        state = state * llm.state_width**-0.5
    torch.testing.assert_close(llm.model.get_output_embeddings()(state), said.logit_BTV[:, 0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ONE_EACH)
def test_scores_of_continuations_are_their_likelihoods_one_by_one(family):
    llm = make_llm(family)
    parts = [prompt_of(llm, 3, 0), prompt_of(llm, 2, 1)]
    prompt, mask = batch_of(parts, [[0, 2, 3], [1, 3]], 4)
    targets = [[[5], [6, 7, 8]], [[9, 2]]]
    scores = llm.score(prompt, mask, targets, rows_at_once=2)
    for row, part in enumerate(parts):
        for place, tokens in enumerate(targets[row]):
            alone = -llm(part, whole(part), target_of(tokens)).nll_B.item()
            assert scores.total[row][place].item() == pytest.approx(alone, rel=1e-5)
            assert scores.per_token[row][place].item() == pytest.approx(alone / len(tokens), rel=1e-5)
    assert [len(row) for row in scores.total] == [2, 1]


# --- writing


def greedy(llm, prompt: torch.Tensor, max_new_tokens: int) -> list[int]:
    """By hand: the likeliest next token, again and again, each time from the beginning."""
    tokens: list[int] = []
    for _ in range(max_new_tokens):
        said = llm(prompt, whole(prompt), target_of([*tokens, 0]))
        token = int(said.logit_BTV[0, -1].argmax())
        if token in llm.stop_ids:
            break
        tokens.append(token)
    return tokens


def test_writing_is_a_greedy_loop_whatever_the_padding(llm, padded):
    parts, prompt, mask = padded
    expected = [greedy(llm, part, 6) for part in parts]
    llm.stop_ids = (*llm.stop_ids, expected[0][2])  # so that one row stops before the others
    llm.model.generation_config.eos_token_id = list(llm.stop_ids)
    expected = [greedy(llm, part, 6) for part in parts]
    assert len(expected[0]) <= 2
    assert max(map(len, expected)) > 2 or expected[1] == expected[0]
    assert llm.generate(prompt, mask, max_new_tokens=6) == expected


@pytest.mark.parametrize("family", ONE_EACH)
def test_beams_find_a_text_at_least_as_likely(family):
    llm = make_llm(family)
    llm.stop_ids = ()  # texts of one length, so that beams compare sums
    llm.model.generation_config.eos_token_id = None
    prompts = torch.cat([prompt_of(llm, 3, seed) for seed in range(8)])
    one, several = (llm.generate(prompts, whole(prompts), max_new_tokens=3, num_beams=n) for n in (1, 8))
    scores = torch.stack(llm.score(prompts, whole(prompts), list(zip(one, several, strict=True))).total)
    assert (scores[:, 1] >= scores[:, 0] - 1e-5).all()
    assert (scores[:, 1] > scores[:, 0] + 1e-5).any()


def test_settings_that_came_with_a_model_do_not_change_what_it_writes():
    plain, model = make_llm("llama"), make_model("llama")
    model.generation_config.update(do_sample=True, temperature=5.0, repetition_penalty=9.0)
    other, prompt = wrap_llm(model, make_tokenizer()), prompt_of(plain, 3)
    assert other.generate(prompt, whole(prompt), max_new_tokens=5) == [greedy(plain, prompt, 5)]


# --- frozen


@pytest.mark.capability("MR-P6")
def test_a_step_changes_what_is_before_the_model_and_no_bit_of_the_model(llm):
    adapter = nn.Linear(3, llm.width)
    parent = nn.ModuleDict({"adapter": adapter, "llm": llm}).train()
    before = {name: tensor.clone() for name, tensor in llm.state_dict().items()}
    start = adapter.weight.clone()
    optimiser = torch.optim.AdamW(parent.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(2):
        prompt = adapter(torch.ones(2, 4, 3))
        loss = llm(prompt, whole(prompt), target_of([5, 6], [7])).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert (adapter.weight != start).all()
    assert all(parameter.grad is None for parameter in llm.parameters())
    assert all(parameter.grad.abs().sum() > 0 for parameter in adapter.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in llm.state_dict().items())


def test_nothing_is_dropped_in_training_mode(llm):
    """All families here were made with a dropout of a half."""
    plain, saving = llm, make_llm(llm.config.model, gradient_checkpointing=True)
    prompt, target = prompt_of(llm, 4), target_of([5, 6])
    expected = llm(prompt, whole(prompt), target).nll_B
    nn.ModuleList([plain, saving]).train()
    assert not any(module.training for module in plain.modules())
    for one in (plain, saving, saving):
        torch.testing.assert_close(one(prompt, whole(prompt), target).nll_B, expected)
    plain.model.train()  # even so
    torch.testing.assert_close(plain(prompt, whole(prompt), target).nll_B, expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpointing_computes_layers_twice_and_changes_nothing(family):
    found, calls = [], []
    for saving in (False, True):
        llm = make_llm(family, gradient_checkpointing=saving)
        prompt, calls = prompt_of(llm, 4).requires_grad_(), []
        norms = [module for module in llm.modules() if type(module).__name__.endswith("Norm")]
        handles = [norm.register_forward_hook(lambda *_, calls=calls: calls.append(1)) for norm in norms]
        loss = llm(prompt, whole(prompt), target_of([5, 6, 7])).loss
        loss.backward()
        for handle in handles:
            handle.remove()
        written = llm.generate(prompt, whole(prompt), max_new_tokens=4)
        found.append((loss.detach(), prompt.grad, len(calls), written))
    assert found[1][2] > 1.3 * found[0][2]  # not those that no gradient is read from any more
    torch.testing.assert_close(found[1][:2], found[0][:2])
    assert found[1][3] == found[0][3]


# --- LoRA


@pytest.mark.parametrize("family", FAMILIES)
def test_lora_starts_as_the_model_and_is_all_that_learns(family):
    plain = make_llm(family)
    targets = ("q", "v") if family in ENCODER_DECODER else ("q_proj", "v_proj")
    llm = make_llm(family, lora=LoraConfig(rank=2, dropout=0.5, targets=targets))
    prompt, target = prompt_of(llm, 4), target_of([5, 6])
    expected = plain(prompt, whole(prompt), target).nll_B
    torch.testing.assert_close(llm(prompt, whole(prompt), target).nll_B, expected)
    assert llm.digest == plain.digest
    learning = {name for name, parameter in llm.named_parameters() if parameter.requires_grad}
    assert learning
    assert all("lora_" in name for name in learning)
    llm.train()
    llm(prompt, whole(prompt), target).loss.backward()
    assert {name for name, parameter in llm.named_parameters() if parameter.grad is not None} == learning
    assert {m.training for name, m in llm.named_modules() if "lora_dropout" in name} == {True}
    assert {m.training for name, m in llm.named_modules() if "lora_" not in name} == {False}


def test_lora_for_matrices_that_are_not_there_names_those_that_are():
    with pytest.raises(ConfigError, match=r"no_such.*Matrices of this model: .*q_proj"):
        make_llm("llama", lora=LoraConfig(targets=("no_such",)))


# --- what a model is


def test_a_digest_is_of_settings_weights_and_tokenizer():
    digests = {make_llm("llama").digest, make_llm("llama", seed=1).digest, make_llm("qwen2").digest}
    assert len(digests) == 3
    assert make_llm("llama").digest == make_llm("llama").digest
    changed = make_llm("llama")
    with torch.no_grad():
        changed.model.lm_head.weight[0, 0] += 1e-3
    assert changed.digest != make_llm("llama").digest
    other = make_llm("llama")
    other.tokenizer.add_tokens(["Chad?"])
    assert other.digest != make_llm("llama").digest


def test_a_saved_and_opened_model_is_the_same(llm, tmp_path):
    llm.model.save_pretrained(tmp_path)
    llm.tokenizer.save_pretrained(tmp_path)
    opened = open_llm(LlmConfig(model=str(tmp_path)))
    # of Qwen, transformers opens the tokenizer of the family, whatever was saved
    assert digest_llm(opened.model, llm.tokenizer) == llm.digest
    assert opened.digest == llm.digest or llm.config.model == "qwen2"
    prompt = prompt_of(llm, 3)
    torch.testing.assert_close(opened.states(prompt, whole(prompt)), llm.states(prompt, whole(prompt)))
    assert opened.generate(prompt, whole(prompt), max_new_tokens=3) == llm.generate(
        prompt, whole(prompt), max_new_tokens=3
    )


def test_widths_and_special_tokens(llm):
    narrow = llm.config.model == "opt_projected"
    assert (llm.width, llm.state_width) == ((8, 8) if narrow else (16, 16))
    assert llm.kind == ("causal" if llm.config.model in CAUSAL else "encoder_decoder")
    assert llm.max_positions == (48 if llm.kind == "causal" else None)
    assert (llm.pad_id, llm.bos_id, llm.eos_id) == (0, 1, 2)
    assert llm.embed(torch.tensor([[5, 6, 7]])).shape == (1, 3, llm.width)


def test_tokens_and_text_have_no_special_tokens():
    llm = make_llm("llama")
    tokens = llm.tokens(QUESTION)
    assert not {0, 1, 2} & set(tokens)
    assert llm.text([1, *tokens, 2]) == QUESTION
    assert llm.tokens(QUESTION, max_tokens=2) == tokens[:2]


def test_a_half_precision_model_takes_a_prompt_of_single_precision(tmp_path):
    plain = make_llm("llama")
    plain.model.save_pretrained(tmp_path)
    plain.tokenizer.save_pretrained(tmp_path)
    llm = open_llm(LlmConfig(model=str(tmp_path), dtype="bfloat16", gradient_checkpointing=True))
    prompt = prompt_of(llm, 3).requires_grad_()
    said = llm(prompt, whole(prompt), target_of([5, 6]))
    said.loss.backward()
    assert (said.nll_B.dtype, prompt.grad.dtype) == (torch.float32, torch.float32)
    expected = plain(prompt, whole(prompt), target_of([5, 6])).nll_B
    torch.testing.assert_close(said.nll_B, expected, rtol=0.05, atol=0.05)
    assert llm.digest != plain.digest  # other numbers


# --- bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, m, t: (p[:, :, :5], m, t), r"expected vectors \(B, P, 16\).*found \(2, 4, 5\)"),
        (lambda p, m, t: (p, m[:, :3], t), r"found \(2, 4, 16\) and \(2, 3\)"),
        (lambda p, m, t: (p, m.long(), t), "expected bool"),
        (lambda p, m, t: (p, m & torch.tensor([[True], [False]]), t), "row 1 is all padding"),
        (lambda p, m, t: (p[:0], m[:0], t[:0]), "the batch is empty"),
        (lambda p, m, t: (p, m, t[:1]), r"expected tokens \(2, T\), found \(1, 3\)"),
        (lambda p, m, t: (p, m, t.flip(1)), "-100 stands before a token"),
        (lambda p, m, t: (p.repeat(1, 12, 1), m.repeat(1, 12), t), "has 48 positions, found 51 .* prompt has 48"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    llm = make_llm("llama")
    prompt = prompt_of(llm, 4).expand(2, -1, -1)
    with pytest.raises(ConfigError, match=message):
        llm(*change(prompt, whole(prompt), target_of([5, 6, 7], [5])))


def test_continuations_that_say_nothing_are_refused():
    llm = make_llm("llama")
    prompt = prompt_of(llm, 4)
    with pytest.raises(ConfigError, match="a continuation of prompt 0 has no token"):
        llm.score(prompt, whole(prompt), [[[5], []]])
    with pytest.raises(ConfigError, match="a list for each of 1 prompts, found 2"):
        llm.score(prompt, whole(prompt), [[[5]], [[5]]])


def test_a_name_that_means_nothing_fails_at_once_and_names_what_is_bundled():
    with pytest.raises(ConfigError, match=r"'atlas-causl'. Did you mean 'atlas-causal'.* Known: .*google/flan-t5"):
        open_llm(LlmConfig(model="atlas-causl"))


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"expected config\.json"):
        open_llm(LlmConfig(model=str(tmp_path)))
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(ConfigError, match=f"{tmp_path} cannot be read: .*CLIP"):
        open_llm(LlmConfig(model=str(tmp_path)))


def test_weights_that_were_cut_are_named(tmp_path):
    llm = make_llm("llama")
    llm.model.save_pretrained(tmp_path)
    llm.tokenizer.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ConfigError, match=f"{tmp_path} cannot be read"):
        open_llm(LlmConfig(model=str(tmp_path)))


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_that_are_missing_are_not_drawn_by_chance(family, tmp_path):
    llm = make_llm(family)
    llm.model.save_pretrained(tmp_path)
    llm.tokenizer.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    name = sorted(name for name in tensors if "layer" in name)[0]
    del tensors[name]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=f"lacks the weights of 1 tensors, {re.escape(name)} first"):
        open_llm(LlmConfig(model=str(tmp_path)))


def test_without_a_network_a_hub_name_fails_soon_with_the_next_step(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(FetchError, match=r"127.0.0.1:9 does not answer.*hf download nobody/none --local-dir"):
        open_llm(LlmConfig(model="nobody/none"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FetchError, match="HF_HUB_OFFLINE is set"):
        open_llm(LlmConfig(model="nobody/none"))


@pytest.mark.parametrize(
    ("missing", "config"),
    [
        ("transformers", LlmConfig()),
        ("peft", LlmConfig(lora=LoraConfig())),
        ("accelerate", LlmConfig(device_map="auto")),
    ],
)
def test_a_package_that_is_missing_is_named_with_its_extra(missing, config, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(NotInstalled, match=rf"'{missing}': pip install 'mmkg\[llm\]'"):
        open_llm(config)
