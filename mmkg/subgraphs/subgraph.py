"""A subgraph as numbers, and what other libraries make of it.

On the way of a fact: cut out of the adjacency by :mod:`mmkg.subgraphs.expand`. Everything is an index of one build;
who knows labels hands them to the conversions. Nodes are numbered from 0 in the order in which they were found:
the seeds first, then hop by hop.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmkg.errors import MmkgError, require
from mmkg.subgraphs.kernels import CUT_BY_MAX_NEIGHBOURS, CUT_BY_MAX_NODES

if TYPE_CHECKING:
    import networkx as nx

REASONS = {CUT_BY_MAX_NEIGHBOURS: "max_neighbours", CUT_BY_MAX_NODES: "max_nodes"}

Ints = NDArray[np.int64]

SUBGRAPH_NODES = pa.schema(
    [
        pa.field("node", pa.int64(), nullable=False),  # 0 … N-1, in the order found
        pa.field("entity_index", pa.int64(), nullable=False),
        pa.field("hop", pa.int64(), nullable=False),  # 0 for a seed
        pa.field("label", pa.string()),  # null where no labels were given
    ]
)
SUBGRAPH_EDGES = pa.schema(
    [
        pa.field("src", pa.int64(), nullable=False),  # a node: the head of the triple
        pa.field("dst", pa.int64(), nullable=False),  # a node: its tail
        pa.field("head_index", pa.int64(), nullable=False),
        pa.field("relation_index", pa.int64(), nullable=False),
        pa.field("tail_index", pa.int64(), nullable=False),
        pa.field("triple", pa.int64(), nullable=False),  # its row in the table of triples
        pa.field("relation_label", pa.string()),
    ]
)


class Truncation(NamedTuple):
    """A node of which not every edge was followed, and why."""

    entity_index: int
    hop: int
    degree: int  # edges in the walked directions, with an allowed relation; with "max_nodes", those within the cap
    kept: int
    reason: str  # max_neighbours | max_nodes (the edge led to a node for which there was no room)


@dataclass(frozen=True, eq=False)
class Subgraph:
    """Nodes with their distance from the nearest seed, and edges in the direction of their triples.

    Attributes:
        node_index: (N,) entity index of each node; the seeds are the first `num_seeds`.
        hop: (N,) edges between the node and the nearest seed, along what was walked.
        src, dst: (E,) nodes 0 … N-1: head and tail of the triple.
        relation: (E,) relation index.
        triple: (E,) row in the table of triples; every triple stands here once.
        cuts: (5, C) what was cut, as numbers; read `truncations`.
    """

    num_hops: int
    node_index: Ints
    hop: Ints
    src: Ints
    relation: Ints
    dst: Ints
    triple: Ints
    cuts: Ints

    @property
    def num_nodes(self) -> int:
        """N."""
        return len(self.node_index)

    @property
    def num_edges(self) -> int:
        """E."""
        return len(self.triple)

    @cached_property
    def num_seeds(self) -> int:
        """How many different seeds there are."""
        return int(np.searchsorted(self.hop, 0, side="right"))

    @property
    def seeds(self) -> Ints:
        """Entity index of each different seed, in the order given."""
        return self.node_index[: self.num_seeds]

    @property
    def truncations(self) -> tuple[Truncation, ...]:
        """Every node at which a cap left edges out; empty when the subgraph is whole."""
        return tuple(
            Truncation(entity, hop, degree, kept, REASONS[reason])
            for entity, hop, degree, kept, reason in self.cuts.T.tolist()
        )

    def __repr__(self) -> str:
        """Its size, not its content."""
        cut = f", cut at {self.cuts.shape[1]} nodes" if self.cuts.shape[1] else ""
        return f"Subgraph({self.num_nodes} nodes, {self.num_edges} edges, {self.num_hops} hops{cut})"

    def check_labels(self, labels: Sequence[str] | None, relation_labels: Sequence[str] | None) -> None:
        """Check that there is a label for every node and for every relation that occurs.

        Raises:
            MmkgError: there is not.
        """
        if labels is not None and len(labels) != self.num_nodes:
            raise MmkgError(f"labels: expected one for each of the {self.num_nodes} nodes, found {len(labels)}.")
        highest = int(self.relation.max(initial=-1))
        if relation_labels is not None and len(relation_labels) <= highest:
            raise MmkgError(
                f"relation_labels: expected one for each relation index up to {highest}, found {len(relation_labels)}."
            )

    def to_arrow(
        self, labels: Sequence[str] | None = None, relation_labels: Sequence[str] | None = None
    ) -> tuple[pa.Table, pa.Table]:
        """The nodes and the edges as two tables.

        Args:
            labels: one for each node, in the order of `node_index`.
            relation_labels: the label of relation i at place i.

        Raises:
            MmkgError: labels are missing.
        """
        self.check_labels(labels, relation_labels)
        nodes = [
            pa.array(np.arange(self.num_nodes)),
            pa.array(self.node_index),
            pa.array(self.hop),
            pa.nulls(self.num_nodes, pa.string()) if labels is None else pa.array(labels, pa.string()),
        ]
        names = None if relation_labels is None else [relation_labels[i] for i in self.relation.tolist()]
        edges = [
            pa.array(self.src),
            pa.array(self.dst),
            pa.array(self.node_index[self.src]),
            pa.array(self.relation),
            pa.array(self.node_index[self.dst]),
            pa.array(self.triple),
            pa.nulls(self.num_edges, pa.string()) if names is None else pa.array(names, pa.string()),
        ]
        return pa.Table.from_arrays(nodes, schema=SUBGRAPH_NODES), pa.Table.from_arrays(edges, schema=SUBGRAPH_EDGES)

    def to_dict(
        self, labels: Sequence[str] | None = None, relation_labels: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Nodes, edges and truncations as lists of dictionaries, ready for JSON. Arguments as in :meth:`to_arrow`."""
        nodes, edges = self.to_arrow(labels, relation_labels)
        if labels is None:
            nodes = nodes.drop_columns(["label"])
        if relation_labels is None:
            edges = edges.drop_columns(["relation_label"])
        return {
            "num_hops": self.num_hops,
            "nodes": nodes.to_pylist(),
            "edges": edges.to_pylist(),
            "truncations": [row._asdict() for row in self.truncations],
        }

    def to_networkx(
        self, labels: Sequence[str] | None = None, relation_labels: Sequence[str] | None = None
    ) -> "nx.MultiDiGraph[int]":
        """A multigraph whose nodes are entity indices and whose edge keys are rows of the table of triples.

        Nodes carry `hop` and, where given, `label`; edges carry `relation_index` and, where given, `relation`.
        Arguments as in :meth:`to_arrow`.
        """
        import networkx as nx

        self.check_labels(labels, relation_labels)
        graph: nx.MultiDiGraph[int] = nx.MultiDiGraph(num_hops=self.num_hops)
        for place, (entity, hop) in enumerate(zip(self.node_index.tolist(), self.hop.tolist(), strict=True)):
            graph.add_node(entity, hop=hop, **({} if labels is None else {"label": labels[place]}))
        heads, tails = self.node_index[self.src].tolist(), self.node_index[self.dst].tolist()
        for head, relation, tail, triple in zip(
            heads, self.relation.tolist(), tails, self.triple.tolist(), strict=True
        ):
            name = {} if relation_labels is None else {"relation": relation_labels[relation]}
            graph.add_edge(head, tail, key=triple, relation_index=relation, **name)
        return graph

    def to_dgl(self) -> Any:
        """A ``DGLGraph`` on the CPU: ``ndata`` entity_index and hop, ``edata`` relation_index and triple, all int64.

        Raises:
            NotInstalled: there is no dgl.
        """
        dgl = require("dgl", extra="graph", needed_by="Subgraph.to_dgl")
        torch = require("torch", extra="graph", needed_by="Subgraph.to_dgl")
        graph = dgl.graph(
            (torch.tensor(self.src), torch.tensor(self.dst)), num_nodes=self.num_nodes, idtype=torch.int64
        )
        graph.ndata["entity_index"], graph.ndata["hop"] = torch.tensor(self.node_index), torch.tensor(self.hop)
        graph.edata["relation_index"], graph.edata["triple"] = torch.tensor(self.relation), torch.tensor(self.triple)
        return graph

    def to_pyg(self) -> Any:
        """A ``torch_geometric.data.Data``: edge_index (2, E), edge_type, triple, entity_index, hop, all int64.

        Raises:
            NotInstalled: there is no torch_geometric.
        """
        torch = require("torch", extra="bench", needed_by="Subgraph.to_pyg")
        data = require("torch_geometric.data", extra="bench", needed_by="Subgraph.to_pyg")
        return data.Data(
            edge_index=torch.tensor(np.stack([self.src, self.dst])),
            edge_type=torch.tensor(self.relation),
            triple=torch.tensor(self.triple),
            entity_index=torch.tensor(self.node_index),
            hop=torch.tensor(self.hop),
            num_nodes=self.num_nodes,
        )


@dataclass(frozen=True, eq=False)
class Subgraphs(Sequence[Subgraph]):
    """Many subgraphs in four arrays, in the order of their seed sets; an item is a view, not a copy.

    Attributes:
        nodes: (2, total) rows entity index and hop.
        edges: (4, total) rows src, relation, dst, triple; src and dst number the nodes of their own subgraph.
        cuts: (5, total) what was cut.
        starts: (3, subgraphs + 1) column of nodes, edges and cuts at which each subgraph begins.
    """

    num_hops: int
    nodes: Ints
    edges: Ints
    cuts: Ints
    starts: Ints

    def __len__(self) -> int:
        """How many subgraphs."""
        return self.starts.shape[1] - 1

    @overload
    def __getitem__(self, place: int) -> Subgraph: ...
    @overload
    def __getitem__(self, place: slice) -> list[Subgraph]: ...

    def __getitem__(self, place: int | slice) -> Subgraph | list[Subgraph]:
        """The subgraph of one seed set, or of several."""
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(f"subgraph {place} of {len(self)}")
        place %= len(self)
        (node, edge, cut), (node_end, edge_end, cut_end) = self.starts[:, place], self.starts[:, place + 1]
        index, hop = self.nodes[:, node:node_end]
        src, relation, dst, triple = self.edges[:, edge:edge_end]
        return Subgraph(self.num_hops, index, hop, src, relation, dst, triple, self.cuts[:, cut:cut_end])

    def __iter__(self) -> Iterator[Subgraph]:
        """The subgraphs in the order of their seed sets."""
        return (self[place] for place in range(len(self)))

    def __repr__(self) -> str:
        """Its size, not its content."""
        return (
            f"Subgraphs({len(self)} of {self.num_hops} hops, {self.nodes.shape[1]} nodes, {self.edges.shape[1]} edges)"
        )
