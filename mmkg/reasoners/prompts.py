"""Prompts of a frozen language model: word embeddings, the texts of a template, and slots that vectors fill.

What every reasoner does alike before the language model reads, and the protocol by which questions reach a reasoner.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from mmkg.errors import ConfigError
from mmkg.reasoners.llm import FrozenLlm
from mmkg.reasoners.llm_forms import IGNORED
from mmkg.reasoners.slots import Prompt, fill_slots, parse_template
from mmkg.subgraphs.assemble import Floats, MultimodalSubgraph


class HasPrompt(Protocol):
    """What a reasoner made of a batch before the language model sees it."""

    @property
    def prompt(self) -> Prompt:
        """Rows for the language model."""


class Reasoner(Protocol):
    """A ``torch.nn.Module`` around a frozen language model that reads texts, subgraphs and pictures, and goes on."""

    llm: FrozenLlm

    def read_questions(
        self,
        tokens: Sequence[Sequence[int]],
        subgraphs: Sequence[MultimodalSubgraph],
        patches: Sequence[Floats | None],
    ) -> Any:
        """Return a :class:`HasPrompt`: what the language model is to go on from.

        Args:
            tokens: of each question's text, at least one.
            subgraphs: what is known of each; may be empty.
            patches: (P, D) vectors of each question's own picture; None without one.
        """

    def answer_loss(self, read: Any, targets: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Return the negative log likelihood of each answer, (B,), and of how many tokens it is the sum."""

    def further_losses(self, read: Any, generator: torch.Generator) -> Mapping[str, tuple[float, Tensor]]:
        """Return other losses by name, means over the batch, each with its weight; what has none is left out."""

    def prompt_rows(self, subgraph: MultimodalSubgraph, num_patches: int) -> tuple[int, int]:
        """Return how many rows a prompt has whatever its text, and how often as many as its text has tokens."""


class PromptMaker:
    """A template beside its language model."""

    def __init__(self, llm: FrozenLlm, template: str, slots: Sequence[str]) -> None:
        """Read the template.

        Args:
            llm: whose word embeddings are taken.
            template: see :func:`~mmkg.reasoners.slots.parse_template`.
            slots: the names that there are.

        Raises:
            ConfigError: the template names another slot, or the question's text stands nowhere.
        """
        self.llm = llm
        self.template = parse_template(template, slots)
        if "text" not in self.template.slots:
            raise ConfigError(f"the prompt '{template}' has no <text>, so the question would not be asked")

    @property
    def fixed_rows(self) -> int:
        """Rows of a prompt beside its slots: the token that the language model expects first, and texts between."""
        between = sum(len(self.llm.tokens(part)) for is_slot, part in self.template.parts if not is_slot)
        return between + (0 if self.llm.bos_id is None else 1)

    def words(self, token_BL: Tensor) -> Tensor:
        """Return word embeddings (B, L, d) in the type of what is trained, whatever that of the language model."""
        return self.llm.embed(token_BL).float()

    def embed(self, tokens: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Return word embeddings (B, L, d) of texts, padded on the right, and their mask.

        Raises:
            ConfigError: a text is empty.
        """
        empty = [place for place, row in enumerate(tokens) if not row]
        if empty or not tokens:
            raise ConfigError(f"question {empty[0] if empty else 0} of the batch has no text; leave it out beforehand")
        longest = max(len(row) for row in tokens)
        device = self._device
        pad = self.llm.pad_id
        token_BL = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in tokens], device=device)
        length_B = torch.tensor([len(row) for row in tokens], device=device)
        mask_BL = torch.arange(longest, device=device)[None, :] < length_B[:, None]
        return self.words(token_BL), mask_BL

    def fill(self, filled: Sequence[Mapping[str, Tensor]]) -> Prompt:
        """Put rows into the slots, item by item; see :func:`~mmkg.reasoners.slots.fill_slots`."""
        texts = [text for is_slot, text in self.template.parts if not is_slot]
        rows_of = {text: self.words(torch.tensor([self.llm.tokens(text)], device=self._device))[0] for text in texts}
        bos_id = self.llm.bos_id
        first = None if bos_id is None else self.words(torch.tensor([[bos_id]], device=self._device))[0]
        return fill_slots(self.template, filled, rows_of, first)

    @property
    def _device(self) -> torch.device:
        return next(self.llm.parameters()).device


def pad_targets(targets: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Return targets (B, T), with what a loss leaves out after the end of the shorter ones."""
    longest = max(len(target) for target in targets)
    return torch.tensor([[*target, *[IGNORED] * (longest - len(target))] for target in targets], device=device)


def rows_of_items(row_BLd: Tensor, mask_BL: Tensor) -> list[Tensor]:
    """Return each item's rows that the mask shows; cut out of all at once, so that gradients come together once."""
    counts: list[int] = mask_BL.sum(dim=1).tolist()
    return list(torch.split(row_BLd[mask_BL], counts))


def pad_patches(patches: Sequence[Floats | None]) -> tuple[Tensor, Tensor] | None:
    """Return patches (B, P, D), zeros in padding, and their mask (B, P); None where no question has a picture."""
    shapes = [one.shape for one in patches if one is not None]
    if not shapes:
        return None
    patch_BPD = torch.zeros(len(patches), max(shape[0] for shape in shapes), shapes[0][1])
    mask_BP = torch.zeros(patch_BPD.shape[:2], dtype=torch.bool)
    for row, one in enumerate(patches):
        if one is not None:
            patch_BPD[row, : len(one)] = torch.from_numpy(one)
            mask_BP[row, : len(one)] = True
    return patch_BPD, mask_BP
