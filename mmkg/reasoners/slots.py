"""Slots: places in a prompt that vectors fill instead of words, of another size in each item of a batch.

A prompt is a template such as ``<knowledge><image><text>``: names in angle brackets are slots, all else is text.
Filled, it is rows of word-embedding width; a batch of prompts is padded on the left, so that what is generated or
appended stands right after each of them, and a mask says which rows are there.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmkg.errors import ConfigError, unknown_name

_SLOT = re.compile(r"<([a-z_]+)>")


@dataclass(frozen=True, kw_only=True)
class Template:
    """Text and slots in their order.

    Attributes:
        parts: (is it a slot, its name or the text), none of them empty.
    """

    parts: tuple[tuple[bool, str], ...]

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the slots, in order."""
        return tuple(name for is_slot, name in self.parts if is_slot)


def parse_template(text: str, known: Sequence[str]) -> Template:
    """Return a template out of its text.

    Args:
        text: such as ``<knowledge><image>Question: <text>``.
        known: the slots that there are; any other name in angle brackets is an error, lest a slip be read as text.

    Raises:
        ConfigError: no slot is called so, or one stands there twice.

    >>> parse_template("<image>What is this? <text>", ["image", "text"]).slots
    ('image', 'text')
    """
    parts: list[tuple[bool, str]] = []
    place = 0
    for match in _SLOT.finditer(text):
        name = match.group(1)
        if name not in known:
            raise ConfigError(unknown_name("slot of a prompt", name, known))
        if match.start() > place:
            parts.append((False, text[place : match.start()]))
        parts.append((True, name))
        place = match.end()
    if place < len(text):
        parts.append((False, text[place:]))
    template = Template(parts=tuple(parts))
    twice = {name for name in template.slots if template.slots.count(name) > 1}
    if twice:
        raise ConfigError(f"slot '{sorted(twice)[0]}' stands twice in the prompt '{text}'")
    return template


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompt:
    """A batch of prompts as rows.

    Attributes:
        row_BPd: (B, P, d), zeros where there is none.
        mask_BP: bool, False for padding; it stands on the left.
        place_of: slot -> (B, 2), from which row to before which row it stands, equal where it is empty.
    """

    row_BPd: Tensor
    mask_BP: Tensor
    place_of: Mapping[str, Tensor]


def fill_slots(
    template: Template,
    filled: Sequence[Mapping[str, Tensor]],
    text_rows: Mapping[str, Tensor],
    first_1d: Tensor | None = None,
) -> Prompt:
    """Put rows into the slots of a template, item by item.

    Args:
        template: what stands where.
        filled: for each item, slot -> rows (n, d); n may be 0 and may differ from item to item.
        text_rows: each text of the template -> its word embeddings (n, d).
        first_1d: a row before each prompt, for an LLM that expects a token there; None for none.

    Raises:
        ConfigError: no item, a slot that is not filled, or rows of several widths.
    """
    if not filled:
        raise ConfigError("a prompt needs at least one item, found none")
    items, places = [], []
    for rows_of in filled:
        missing = set(template.slots) - rows_of.keys()
        if missing:
            raise ConfigError(f"slot '{sorted(missing)[0]}' of the prompt is not filled")
        rows = [rows_of[name] if is_slot else text_rows[name] for is_slot, name in template.parts]
        start = [] if first_1d is None else [first_1d]
        ends = torch.tensor([len(start), *(len(row) for row in rows)]).cumsum(0)
        widths = {row.shape[1] for row in (*start, *rows)}
        if len(widths) > 1:
            raise ConfigError(f"rows of a prompt must have one width, found {sorted(widths)}")
        items.append(torch.cat([*start, *rows]))
        places.append(ends)
    longest = max(len(item) for item in items)
    start_B = torch.tensor([longest - len(item) for item in items])
    mask_BP = (torch.arange(longest)[None, :] >= start_B[:, None]).to(items[0].device)
    # one copy for all items: a gradient of each one's own would be as large as the batch
    row_BPd = items[0].new_zeros(len(items) * longest, items[0].shape[1])
    row_BPd = row_BPd.index_copy(0, mask_BP.flatten().nonzero()[:, 0], torch.cat(items)).view(*mask_BP.shape, -1)
    end_BS = torch.stack(places) + start_B[:, None]
    place_of = {
        name: end_BS[:, number : number + 2] for number, (is_slot, name) in enumerate(template.parts) if is_slot
    }
    return Prompt(row_BPd=row_BPd, mask_BP=mask_BP, place_of=place_of)
