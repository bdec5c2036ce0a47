"""Whole texts before a language model, against the plain model: one text at a time, without padding, word by word."""

import math

import pytest
import torch

from mmkg.errors import ConfigError
from mmkg.reasoners.llm import IGNORED
from mmkg.reasoners.llm_texts import mean_states, sequence_loss

from .made_graphs import frozen_llm
from .made_llms import CAUSAL, make_llm

FAMILIES = ("llama", "opt", "opt_projected", "qwen2", "t5")
# rows of a prompt at their places of 7, the tokens that some stand for, the target
ITEMS = [
    ([2, 3, 4, 5, 6], {3: 11, 4: 12, 6: 13}, [5, 6]),
    ([0, 3, 6], {0: 14, 6: 15}, [7, 8, 9, 2]),  # the first row: nothing comes before it that could say it
    ([0, 1, 2, 3], {}, [2]),
    ([1, 5], {1: 16, 5: 17}, []),
]


def padded(llm, items=ITEMS, fill=math.nan):
    """The items side by side; padding is full of NaN and of labels, which must touch nothing."""
    generator = torch.Generator().manual_seed(0)
    prompt = torch.full((len(items), 7, llm.width), fill)
    mask = torch.zeros(len(items), 7, dtype=torch.bool)
    label = torch.where(torch.rand(len(items), 7, generator=generator) < 0.5, 3, IGNORED)
    target = torch.full((len(items), 4), IGNORED)
    for row, (places, labels, tokens) in enumerate(items):
        own = torch.Generator().manual_seed(len(places))
        prompt[row, places] = torch.randn(len(places), llm.width, generator=own)
        mask[row, places], label[row, places] = True, IGNORED
        for place, token in labels.items():
            label[row, place] = token
        target[row, : len(tokens)] = torch.tensor(tokens, dtype=torch.int64)
    return prompt, mask, label, target


def by_hand(llm, prompt, mask, label, target):
    """Of one item: each labelled position from those before it, in a pass of its own."""
    rows, labels = prompt[mask], label[mask].tolist()
    tokens = target[target != IGNORED]
    rows = torch.cat([rows, llm.embed(tokens)])
    total, count = 0.0, 0
    for place, token in enumerate([*labels, *tokens.tolist()]):
        if place and token != IGNORED:
            total -= llm.model(inputs_embeds=rows[None, :place]).logits[0, -1].log_softmax(0)[token].item()
            count += 1
    return total, count


@pytest.mark.capability("G4-13")
@pytest.mark.parametrize("family", CAUSAL)
def test_text_and_target_are_said_word_by_word_wherever_padding_lies(family):
    llm = frozen_llm(family)
    parts = padded(llm)
    nll, count = sequence_loss(llm, *parts)
    for row in range(len(ITEMS)):
        total, number = by_hand(llm, *(part[row] for part in parts))
        assert count[row].item() == number
        assert nll[row].item() == pytest.approx(total, rel=1e-4)
    assert count.tolist() == [5, 5, 1, 1]


@pytest.mark.capability("G4-13")
@pytest.mark.parametrize("family", ["llama", "opt"])
def test_without_labels_in_the_prompt_it_is_the_loss_of_the_target_alone(family):
    llm = frozen_llm(family)
    prompt, mask, label, target = padded(llm)
    nll, count = sequence_loss(llm, prompt, mask, torch.full_like(label, IGNORED), target)
    said = llm(prompt, mask, target)
    torch.testing.assert_close(nll, said.nll_B, atol=1e-5, rtol=1e-5)
    assert count.tolist() == said.count_B.tolist()


def test_gradients_reach_what_comes_before_a_label_and_no_other_row_or_padding():
    llm = frozen_llm("llama")
    prompt, mask, label, target = padded(llm)
    prompt.requires_grad_()
    sequence_loss(llm, prompt, mask, label, target)[0][0].backward()
    assert not prompt.grad[1:].any()
    assert prompt.grad[0].any(1).tolist() == mask[0].tolist()
    prompt.grad = None
    sequence_loss(llm, prompt, mask, label, target)[0][3].backward()
    assert prompt.grad[3].any(1).nonzero().tolist() == [[1]]  # its second and last row says nothing that counts


def test_a_model_in_bfloat16_and_autocast_say_about_the_same():
    exact = sequence_loss(frozen_llm("llama"), *padded(frozen_llm("llama")))[0]
    half = make_llm("llama")
    half.model.to(torch.bfloat16)
    torch.testing.assert_close(sequence_loss(half, *padded(half))[0], exact, rtol=0.05, atol=0.3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = sequence_loss(frozen_llm("llama"), *padded(frozen_llm("llama")))[0]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=0.05, atol=0.3)


def test_what_has_no_whole_sequence_is_told():
    llm = frozen_llm("llama")
    prompt, mask, label, target = padded(llm)
    with pytest.raises(ConfigError, match="needs a causal language model: an encoder says nothing"):
        sequence_loss(frozen_llm("t5"), prompt, mask, label, target)
    with pytest.raises(ConfigError, match="row 1 is all padding"):
        sequence_loss(llm, prompt, mask & (torch.arange(4) != 1)[:, None], label, target)
    with pytest.raises(ConfigError, match="padding goes to the right end"):
        sequence_loss(llm, prompt, mask, label, target.flip(1))
    with pytest.raises(ConfigError, match="48 positions, found 49"):
        sequence_loss(llm, prompt, mask, label, torch.full((4, 44), 5))  # its longest prompt has 5 rows


# --- a vector of a text

LISTS = [[5, 6, 7], [], [8], [9, 10, 11, 12, 13], [6, 5, 7], [8]]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rows_at_once", [1, 2, 64])
def test_a_mean_state_is_over_the_texts_own_tokens_and_they_may_be_read_together(family, rows_at_once):
    llm = frozen_llm(family)
    found = mean_states(llm, LISTS, rows_at_once=rows_at_once)
    assert found.shape == (6, llm.state_width)
    assert not found.requires_grad
    reads = llm.model.get_encoder() if llm.kind == "encoder_decoder" else llm.model.base_model
    for tokens, vector in zip(LISTS, found, strict=True):
        expected = torch.zeros(llm.state_width)
        if tokens:
            expected = reads(input_ids=torch.tensor([tokens])).last_hidden_state[0].mean(0)
        torch.testing.assert_close(vector, expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(found[0], found[4], atol=1e-3)  # the order of words counts


def test_no_text_has_no_vector_and_autocast_changes_none():
    llm = frozen_llm("llama")
    assert mean_states(llm, []).shape == (0, llm.state_width)
    exact = mean_states(llm, LISTS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(mean_states(llm, LISTS), exact)
    half = make_llm("llama")
    half.model.to(torch.bfloat16)
    torch.testing.assert_close(mean_states(half, LISTS), exact, rtol=0.05, atol=0.1)


def test_a_text_longer_than_the_model_is_told():
    with pytest.raises(ConfigError, match="48 positions, found 49"):
        mean_states(frozen_llm("opt"), [[5], [5] * 49])
