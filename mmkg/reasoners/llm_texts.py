"""Whole texts before a frozen language model: the likelihood of prompt and target together, and a vector of a text."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmkg.errors import ConfigError
from mmkg.reasoners.llm import FrozenLlm
from mmkg.reasoners.llm_forms import IGNORED, align, check_prompt, check_target


def sequence_loss(
    llm: FrozenLlm, prompt_BPd: Tensor, mask_BP: Tensor, label_BP: Tensor, target_BT: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the negative log likelihood of prompts and targets together, (B,), and of how many tokens it is.

    Args:
        prompt_BPd, mask_BP, target_BT: see :meth:`FrozenLlm.forward`.
        label_BP: the token that a row of the prompt stands for, IGNORED where it stands for none.

    Raises:
        ConfigError: an encoder-decoder model, which says no prompt; or as there.
    """
    if llm.kind != "causal":
        raise ConfigError("a loss over the whole sequence needs a causal language model: an encoder says nothing")
    count_B = check_prompt(prompt_BPd, mask_BP, llm.width)
    llm.check_length(count_B, check_target(target_BT, len(prompt_BPd)))
    real_BT = target_BT != IGNORED
    token_BT = target_BT.masked_fill(~real_BT, llm.pad_id)
    whole_BLd = torch.cat([prompt_BPd.to(llm.dtype), llm.embed(token_BT)], dim=1)
    mask_BL = torch.cat([mask_BP, real_BT], dim=1)
    whole_BLd, there_BL = align(whole_BLd, mask_BL, "left")
    label_BL = torch.cat([label_BP, target_BT], dim=1)
    label_BL1, _ = align(label_BL[:, :, None].double(), mask_BL, "left")  # exact for every token
    label_BL = label_BL1[:, :, 0].long().masked_fill(~there_BL, IGNORED)[:, 1:]
    logit_BLV = llm.model(inputs_embeds=whole_BLd, use_cache=False).logits[:, :-1]
    nll_BL = functional.cross_entropy(
        logit_BLV.float().transpose(1, 2), label_BL, ignore_index=IGNORED, reduction="none"
    )
    return nll_BL.sum(dim=1), (label_BL != IGNORED).sum(dim=1)


@torch.no_grad()
def mean_states(llm: FrozenLlm, tokens: Sequence[Sequence[int]], *, rows_at_once: int = 64) -> Tensor:
    """Return the mean of the states of each text's tokens, (n, state_width): the model's own vector of a text.

    Causal: of the last layer; encoder-decoder: of the encoder. Padding does not count (in the released code of
    Graph4MM it does). A text without tokens has zeros. Autocast is off: what is kept is not to depend on who asked
    first.

    Raises:
        ConfigError: a text has more tokens than the model has positions.
    """
    device = next(llm.parameters()).device
    vector_nd = torch.zeros(len(tokens), llm.state_width, device=device)
    llm.check_length(torch.tensor([0, *map(len, tokens)]))
    places = sorted((place for place, row in enumerate(tokens) if row), key=lambda place: len(tokens[place]))
    for start in range(0, len(places), rows_at_once):
        part = places[start : start + rows_at_once]
        row_BL = nn.utils.rnn.pad_sequence(
            [torch.tensor(list(tokens[place])) for place in part], batch_first=True, padding_value=IGNORED
        ).to(device)
        mask_BL = row_BL != IGNORED
        vector_BLd = llm.embed(row_BL.masked_fill(~mask_BL, llm.pad_id)).to(llm.dtype)
        reads = llm.model.get_encoder() if llm.kind == "encoder_decoder" else llm.model.base_model
        extra = {} if llm.kind == "encoder_decoder" else {"use_cache": False}
        with torch.autocast(device.type, enabled=False):
            said = reads(inputs_embeds=vector_BLd, attention_mask=mask_BL.long(), **extra).last_hidden_state.float()
        mean_Bd = (said * mask_BL[:, :, None]).sum(1) / mask_BL.sum(1, keepdim=True)
        vector_nd[torch.tensor(part, device=device)] = mean_Bd
    return vector_nd
