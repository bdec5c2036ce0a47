"""Prompts before a language model: words, texts of a template, slots, padding."""

import numpy as np
import pytest
import torch

from mmkg.errors import ConfigError
from mmkg.reasoners.llm import IGNORED
from mmkg.reasoners.prompts import PromptMaker, pad_patches, pad_targets, rows_of_items

from .made_graphs import frozen_llm
from .made_llms import make_llm

SLOTS = ("text", "graph")


@pytest.mark.capability("G4-11")
def test_each_slot_holds_its_rows_between_the_words_of_the_template():
    llm = frozen_llm("llama")
    maker = PromptMaker(llm, "Bern: <text> is <graph>!", SLOTS)
    filled = [
        {"text": torch.randn(2, llm.width), "graph": torch.randn(3, llm.width)},
        {"text": torch.randn(4, llm.width), "graph": torch.zeros(0, llm.width)},
    ]
    prompt = maker.fill(filled)
    words = [llm.embed(torch.tensor(llm.tokens(text))) for text in ("Bern: ", " is ", "!")]
    first = llm.embed(torch.tensor([llm.bos_id]))
    assert maker.fixed_rows == sum(map(len, [first, *words]))
    for item, rows in enumerate(filled):
        expected = torch.cat([first, words[0], rows["text"], words[1], rows["graph"], words[2]])
        assert torch.equal(prompt.row_BPd[item][prompt.mask_BP[item]], expected)
        assert prompt.mask_BP[item].tolist() == sorted(prompt.mask_BP[item].tolist())  # padding on the left
        for slot in SLOTS:
            start, stop = prompt.place_of[slot][item].tolist()
            assert torch.equal(prompt.row_BPd[item, start:stop], rows[slot])
    assert prompt.mask_BP.sum(1).tolist() == [maker.fixed_rows + 5, maker.fixed_rows + 4]


def test_a_model_that_expects_no_first_token_gets_none():
    maker = PromptMaker(frozen_llm("t5"), "<text>", SLOTS)
    assert maker.fixed_rows == 1  # the made tokenizer has one, so T5 gets it too
    llm = make_llm("qwen2")
    llm.bos_id = None
    maker = PromptMaker(llm, "<text>", SLOTS)
    rows = torch.randn(2, llm.width)
    assert maker.fixed_rows == 0
    assert torch.equal(maker.fill([{"text": rows, "graph": rows}]).row_BPd[0], rows)


def test_texts_become_word_embeddings_in_float32_padded_on_the_right():
    llm = make_llm("llama")
    llm.model.to(torch.bfloat16)
    row_BLd, mask_BL = PromptMaker(llm, "<text>", SLOTS).embed([[5, 6, 7], [8]])
    assert row_BLd.dtype == torch.float32
    assert mask_BL.tolist() == [[True] * 3, [True, False, False]]
    assert torch.equal(row_BLd[0], llm.embed(torch.tensor([5, 6, 7])).float())
    assert torch.equal(row_BLd[1, 0], llm.embed(torch.tensor([8]))[0].float())


def test_a_template_or_a_text_that_asks_nothing_is_told():
    llm = frozen_llm("llama")
    with pytest.raises(ConfigError, match="has no <text>, so the question would not be asked"):
        PromptMaker(llm, "<graph>", SLOTS)
    with pytest.raises(ConfigError, match="knowledge"):
        PromptMaker(llm, "<knowledge><text>", SLOTS)
    with pytest.raises(ConfigError, match="'graph' stands twice"):
        PromptMaker(llm, "<graph><text><graph>", SLOTS)
    maker = PromptMaker(llm, "<text>", SLOTS)
    with pytest.raises(ConfigError, match="question 1 of the batch has no text"):
        maker.embed([[5], []])
    with pytest.raises(ConfigError, match="question 0 of the batch has no text"):
        maker.embed([])
    with pytest.raises(ConfigError, match="slot 'text' of the prompt is not filled"):
        maker.fill([{"graph": torch.zeros(0, llm.width)}])


def test_rows_are_cut_out_by_their_mask_item_by_item():
    row_BLd = torch.arange(12.0).view(2, 3, 2)
    mask_BL = torch.tensor([[True, False, True], [False, False, False]])
    one, two = rows_of_items(row_BLd, mask_BL)
    assert one.tolist() == [[0, 1], [4, 5]]
    assert two.shape == (0, 2)


def test_targets_and_patches_are_padded_behind_their_ends():
    assert pad_targets([[5, 6], [7]], torch.device("cpu")).tolist() == [[5, 6], [7, IGNORED]]
    assert pad_patches([None, None]) is None
    patches = [np.ones((2, 3), np.float32), None, np.full((1, 3), 2, np.float32)]
    patch_BPD, mask_BP = pad_patches(patches)
    assert patch_BPD[:, :, 0].tolist() == [[1, 1], [0, 0], [2, 0]]
    assert mask_BP.tolist() == [[True, True], [False, False], [True, False]]
