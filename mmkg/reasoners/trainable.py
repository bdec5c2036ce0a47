"""What of a model learns: a report of it, and what a checkpoint needs to find unchanged.

A checkpoint of a reasoner holds what was trained, not the language model beside it; of that it holds the digest.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from mmkg.errors import TrainingError
from mmkg.reasoners.llm import FrozenLlm

_ITSELF = "(itself)"
_SHOWN = 5


@dataclass(frozen=True)
class PartCount:
    """Parameters of one part of a model."""

    name: str
    trainable: int
    frozen: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.trainable + self.frozen

    @property
    def fraction(self) -> float:
        """Share that learns; 0 for a part without parameters."""
        return self.trainable / self.total if self.total else 0.0

    def as_json(self) -> dict[str, Any]:
        """Return the numbers by name."""
        return {"trainable": self.trainable, "frozen": self.frozen, "total": self.total, "fraction": self.fraction}


@dataclass(frozen=True)
class TrainableReport:
    """Parameters of a model by part, each counted once: one that two parts share is the first one's."""

    parts: tuple[PartCount, ...]

    @property
    def total(self) -> PartCount:
        """The sum of the parts."""
        return PartCount("total", sum(part.trainable for part in self.parts), sum(part.frozen for part in self.parts))

    def as_json(self) -> dict[str, Any]:
        """Return the counts of each part and of all."""
        return {"parts": {part.name: part.as_json() for part in self.parts}, "total": self.total.as_json()}

    def as_text(self) -> str:
        """Return a table, a line for each part and one for all."""
        rows = [("part", "trainable", "frozen", "fraction")]
        rows += [
            (part.name, f"{part.trainable:,}", f"{part.frozen:,}", f"{part.fraction:.2%}")
            for part in (*self.parts, self.total)
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
            for row in rows
        ]
        return "\n".join(lines)


def trainable_report(module: nn.Module) -> TrainableReport:
    """Count the parameters of each part of a model: its children, and what it holds itself."""
    counts: dict[str, list[int]] = {name: [0, 0] for name, _ in module.named_children()}
    for name, parameter in module.named_parameters():  # each once, under its first name
        part, dot, _ = name.partition(".")
        counts.setdefault(part if dot else _ITSELF, [0, 0])[0 if parameter.requires_grad else 1] += parameter.numel()
    return TrainableReport(tuple(PartCount(name, *numbers) for name, numbers in counts.items()))


def frozen_digests(module: nn.Module) -> dict[str, str]:
    """Return the digest of each frozen language model in a model, by name."""
    return {name: part.digest for name, part in module.named_modules() if isinstance(part, FrozenLlm)}


def check_frozen(module: nn.Module, digests: Mapping[str, str], path: Path) -> None:
    """See that a model's language models are those that a checkpoint was trained beside.

    Args:
        module: the model that the checkpoint is to go into.
        digests: what :func:`frozen_digests` returned when it was written.
        path: of the checkpoint, for the message.

    Raises:
        TrainingError: one is another, or there are others.
    """
    parts = {name: part for name, part in module.named_modules() if isinstance(part, FrozenLlm)}
    found = {name: part.digest for name, part in parts.items()}
    for name in sorted(found.keys() | digests.keys()):
        if found.get(name) != digests.get(name):
            what = f"'{parts[name].config.model}', digest {found[name]}" if name in parts else "none"
            raise TrainingError(
                f"{path}: trained beside another language model: expected digest {digests.get(name, 'none')} as "
                f"'{name}', found {what}. Set the model, revision and dtype that it was trained with, or train anew."
            )
