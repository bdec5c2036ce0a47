"""What somebody else wrote into our database: counted for the message, with numbers by which it can be taken away."""

from collections import Counter
from dataclasses import dataclass, field

_EXAMPLES = 3


@dataclass
class Foreign:
    """What no build of ours can hold."""

    nodes: list[int] = field(default_factory=list)
    edges: list[int] = field(default_factory=list)
    properties: list[tuple[int, dict[str, None]]] = field(default_factory=list)  # node, names to remove
    labels: dict[str, list[int]] = field(default_factory=dict)  # label → nodes
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def note(self, kind: str, example: str) -> None:
        """Count one, and keep the first few."""
        self.counts[kind] += 1
        if self.counts[kind] <= _EXAMPLES:
            self.examples.setdefault(kind, []).append(example[:200])

    def describe(self) -> list[str]:
        """``2 nodes of other kinds (:Person 17)``, for each kind."""
        return [f"{count:,} {kind} ({'; '.join(self.examples[kind])})" for kind, count in self.counts.items()]

    @property
    def num_rows(self) -> int:
        """Rows of the batches that take it away."""
        labels = sum(len(numbers) for numbers in self.labels.values())
        return len(self.nodes) + len(self.edges) + len(self.properties) + labels

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.counts)
