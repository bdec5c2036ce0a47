"""The server's own counts of nodes and relationships, which it keeps up with each commit: nothing is read for them."""

from collections.abc import Mapping
from dataclasses import dataclass

import neo4j

from mmkg.store.neo4j import statements


@dataclass(frozen=True)
class GraphCounts:
    """The server's own counts, kept up with each commit."""

    nodes: int
    labels: Mapping[str, int]
    types: Mapping[str, int]

    @property
    def ours(self) -> int:
        """Nodes of our labels, if none has two."""
        return sum(self.labels.get(label, 0) for label in (*statements.GRAPH_LABELS, *statements.OUR_LABELS))


def read_counts(session: neo4j.Session) -> GraphCounts:
    """Ask the server for its counts; it does not read the graph for them."""
    nodes, labels, types = 0, {}, {}
    for record in session.run(statements.GRAPH_COUNTS):
        data = record["data"]
        for row in data.get("nodes", ()):
            if "label" in row:
                labels[row["label"]] = row["count"]
            else:
                nodes = row["count"]
        for row in data.get("relationships", ()):
            if "relationshipType" in row and "startLabel" not in row and "endLabel" not in row:
                types[row["relationshipType"]] = row["count"]
    return GraphCounts(
        nodes, {k: count for k, count in labels.items() if count}, {k: count for k, count in types.items() if count}
    )
