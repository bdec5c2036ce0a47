"""Subgraphs as tensors: the last step of a fact before an encoder; from here on one says node, edge, src and dst.

A :class:`MessageGraph` holds one subgraph or a batch of them (block-diagonal, so that no message crosses from one to
another) as three int64 tensors, an edge ``e`` carrying a message from ``src_E[e]`` to ``dst_E[e]`` under
``relation_E[e]``. It is made once and asked often: the orders that kernels need (:meth:`MessageGraph.csr`,
:meth:`MessageGraph.csr_by_src`) and DGL's own graph (:meth:`MessageGraph.dgl`) are made at the first call and kept.

This module is the first on the way to import torch, and the only one to import dgl.
"""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import numpy as np

from mmkg.errors import ConfigError, require

require("torch", extra="graph", needed_by="a graph for encoders")

import torch  # noqa: E402 - after the check that says how to install it
from torch import Tensor  # noqa: E402

Indices: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, kw_only=True)
class Csr:
    """The edges of a graph grouped by one end, as numpy arrays for compiled kernels.

    The edges of node ``n`` stand at places ``indptr[n]`` to ``indptr[n + 1]``; the edge at place ``p`` is ``edge[p]``
    of the graph, its other end is ``other[p]`` and its relation ``relation[p]``. Within a node, edges keep their order.
    ``by_dst[p]`` is the place of the same edge in the grouping by dst (p itself, in that grouping).
    """

    indptr: Indices  # (N + 1,)
    edge: Indices  # (E,)
    other: Indices  # (E,)
    relation: Indices  # (E,)
    by_dst: Indices  # (E,)

    @cached_property
    def in_order(self) -> bool:
        """Whether the edge at each place p is edge p, as where a graph's edges were sorted by that end before."""
        return bool((self.edge[:-1] < self.edge[1:]).all())


class SubgraphArrays(Protocol):
    """What :func:`message_graph_of` reads of a subgraph: local numbering, numpy arrays."""

    @property
    def node_index(self) -> np.ndarray[Any, Any]:
        """(N,) the entity_index of each node."""

    @property
    def src(self) -> np.ndarray[Any, Any]:
        """(E,) local number of each edge's head."""

    @property
    def relation(self) -> np.ndarray[Any, Any]:
        """(E,) relation_index of each edge."""

    @property
    def dst(self) -> np.ndarray[Any, Any]:
        """(E,) local number of each edge's tail."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MessageGraph:
    """One graph, or a batch of graphs side by side, along whose edges messages travel.

    Attributes:
        src_E: int64 (E,), where each message starts.
        relation_E: int64 (E,), in [0, num_relations).
        dst_E: int64 (E,), where each message ends.
        num_nodes: N, nodes without edges included.
        num_relations: R, how many relation vectors an encoder is to be given.
        num_graphs: G, how many graphs stand side by side; some may have no nodes.
        graph_of_node_N: int64 (N,), in [0, num_graphs); None stands for zeros.

    Raises:
        ConfigError: tensors of other shapes or types, or a number out of its range.
    """

    src_E: Tensor
    relation_E: Tensor
    dst_E: Tensor
    num_nodes: int
    num_relations: int
    num_graphs: int = 1
    graph_of_node_N: Tensor | None = None
    _made: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Check what was given; a graph that came through here can be indexed without looking."""
        ends = {"src_E": self.src_E, "relation_E": self.relation_E, "dst_E": self.dst_E}
        limits = {"src_E": self.num_nodes, "relation_E": self.num_relations, "dst_E": self.num_nodes}
        for name, tensor in ends.items():
            _check_indices(name, tensor, length=self.src_E.shape[0] if self.src_E.dim() else -1, limit=limits[name])
        if self.graph_of_node_N is not None:
            _check_indices("graph_of_node_N", self.graph_of_node_N, length=self.num_nodes, limit=self.num_graphs)

    @property
    def num_edges(self) -> int:
        """E, the number of edges."""
        return self.src_E.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.src_E.device

    def graph_index(self) -> Tensor:
        """Return int64 (N,): which graph of the batch each node belongs to, zeros for a single graph."""
        if self.graph_of_node_N is None:
            return torch.zeros(self.num_nodes, dtype=torch.int64, device=self.device)
        return self.graph_of_node_N

    def to(self, device: torch.device | str) -> "MessageGraph":
        """Return this graph on ``device``: itself if it is there, or the same copy at each call."""
        wanted = torch.empty(0, device=device).device  # "cuda" -> cuda:0
        if wanted == self.device:
            return self
        key = f"to {wanted}"
        if key not in self._made:
            self._made[key] = replace(
                self,
                src_E=self.src_E.to(wanted),
                relation_E=self.relation_E.to(wanted),
                dst_E=self.dst_E.to(wanted),
                graph_of_node_N=None if self.graph_of_node_N is None else self.graph_of_node_N.to(wanted),
            )
        made: MessageGraph = self._made[key]
        return made

    def csr(self) -> Csr:
        """Return the edges grouped by dst (``other`` is src), sorted at the first call; graph on the CPU."""
        if "csr" not in self._made:
            edge = _sorted_edges(self.dst_E)
            places = np.arange(self.num_edges)
            self._made["csr"] = self._grouped(edge, self.dst_E, self.src_E, by_dst=places)
        made: Csr = self._made["csr"]
        return made

    def csr_by_src(self) -> Csr:
        """Return the edges grouped by src (``other`` is dst), sorted at the first call; graph on the CPU."""
        if "csr_by_src" not in self._made:
            edge = _sorted_edges(self.src_E)
            place_of_edge = np.empty(self.num_edges, dtype=np.int64)
            place_of_edge[self.csr().edge] = np.arange(self.num_edges)
            self._made["csr_by_src"] = self._grouped(edge, self.src_E, self.dst_E, by_dst=place_of_edge[edge])
        made: Csr = self._made["csr_by_src"]
        return made

    def _grouped(self, edge: Indices, key_E: Tensor, other_E: Tensor, *, by_dst: Indices) -> Csr:
        indptr = np.zeros(self.num_nodes + 1, dtype=np.int64)
        np.cumsum(np.bincount(key_E.numpy(), minlength=self.num_nodes), out=indptr[1:])
        return Csr(
            indptr=indptr,
            edge=edge,
            other=other_E.numpy()[edge],
            relation=self.relation_E.numpy()[edge],
            by_dst=by_dst,
        )

    def dgl(self) -> Any:
        """Return the :class:`dgl.DGLGraph` of the edges, in their order, made at the first call.

        Raises:
            NotInstalled: dgl cannot be imported.
        """
        if "dgl" not in self._made:
            self._made["dgl"] = import_dgl().graph((self.src_E, self.dst_E), num_nodes=self.num_nodes)
        return self._made["dgl"]

    def dgl_of_relations(self) -> Any:
        """Return a bipartite DGLGraph with an edge from the relation of each edge to its dst, in the edges' order.

        With it a sum over relation vectors is one sparse product, and no vector per edge is made.

        Raises:
            NotInstalled: dgl cannot be imported.
        """
        if "dgl_of_relations" not in self._made:
            self._made["dgl_of_relations"] = import_dgl().heterograph(
                {("relation", "names", "node"): (self.relation_E, self.dst_E)},
                num_nodes_dict={"relation": self.num_relations, "node": self.num_nodes},
            )
        return self._made["dgl_of_relations"]

    def with_inverse_relations(self) -> "MessageGraph":
        """Return a graph of 2E edges and 2R relations: edge E + e runs against edge e, under its relation + R.

        Do this once, before :meth:`with_self_relation`.
        """
        return replace(
            self,
            src_E=torch.cat([self.src_E, self.dst_E]),
            relation_E=torch.cat([self.relation_E, self.relation_E + self.num_relations]),
            dst_E=torch.cat([self.dst_E, self.src_E]),
            num_relations=2 * self.num_relations,
        )

    def with_self_relation(self) -> "MessageGraph":
        """Return a graph of E + N edges and R + 1 relations: edge E + n leads from node n to itself, by relation R."""
        nodes = torch.arange(self.num_nodes, dtype=torch.int64, device=self.device)
        return replace(
            self,
            src_E=torch.cat([self.src_E, nodes]),
            relation_E=torch.cat([self.relation_E, torch.full_like(nodes, self.num_relations)]),
            dst_E=torch.cat([self.dst_E, nodes]),
            num_relations=self.num_relations + 1,
        )


def message_graph_of(subgraph: SubgraphArrays, num_relations: int) -> MessageGraph:
    """Return a subgraph as a message graph, node ``n`` being ``subgraph.node_index[n]``; each edge runs head to tail.

    Args:
        subgraph: its edges in local numbers.
        num_relations: R of the whole build, not of the subgraph, so that relation vectors can be shared.

    Raises:
        ConfigError: a relation of the subgraph is not below ``num_relations``.
    """
    return MessageGraph(
        src_E=_int64(subgraph.src),
        relation_E=_int64(subgraph.relation),
        dst_E=_int64(subgraph.dst),
        num_nodes=len(subgraph.node_index),
        num_relations=num_relations,
    )


def batch_graphs(graphs: Sequence[MessageGraph]) -> MessageGraph:
    """Return the graphs side by side as one, block-diagonal: nodes and edges in order, no edge between two graphs.

    Args:
        graphs: on one device, with the same relations; batches among them keep their graphs apart.

    Raises:
        ConfigError: no graph, or graphs that count their relations differently.
    """
    if not graphs:
        raise ConfigError("a batch needs at least one graph, found none")
    counts = {graph.num_relations for graph in graphs}
    if len(counts) > 1:
        raise ConfigError(
            f"the graphs of a batch must share their relations, found num_relations {sorted(counts)}; "
            "give each the num_relations of the whole build"
        )
    first_node = np.cumsum([0, *(graph.num_nodes for graph in graphs)])
    first_graph = np.cumsum([0, *(graph.num_graphs for graph in graphs)])
    return MessageGraph(
        src_E=torch.cat([graph.src_E + int(first) for graph, first in zip(graphs, first_node, strict=False)]),
        relation_E=torch.cat([graph.relation_E for graph in graphs]),
        dst_E=torch.cat([graph.dst_E + int(first) for graph, first in zip(graphs, first_node, strict=False)]),
        num_nodes=int(first_node[-1]),
        num_relations=graphs[0].num_relations,
        num_graphs=int(first_graph[-1]),
        graph_of_node_N=torch.cat(
            [graph.graph_index() + int(first) for graph, first in zip(graphs, first_graph, strict=False)]
        ),
    )


def import_dgl() -> Any:
    """Import dgl for torch, without the questions and warnings of its first import.

    Raises:
        NotInstalled: dgl cannot be imported.
    """
    os.environ.setdefault("DGLBACKEND", "pytorch")  # else dgl prints, and writes a file into the home folder
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dgl 1.1.3 was written for older Pythons and torches, and says so at length
        return require("dgl", extra="graph", needed_by="the DGL graph of a subgraph")


def _sorted_edges(key_E: Tensor) -> Indices:
    if key_E.device.type != "cpu":
        raise ConfigError(
            f"edges are grouped for kernels on the CPU, but the graph is on {key_E.device}; use .to('cpu')"
        )
    return np.argsort(key_E.numpy(), kind="stable")


def _check_indices(name: str, tensor: Tensor, *, length: int, limit: int) -> None:
    if tensor.dim() != 1 or tensor.dtype != torch.int64 or tensor.shape[0] != length:
        raise ConfigError(
            f"{name} of a message graph must be int64 of shape ({'E' if length < 0 else length},), "
            f"found {str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"
        )
    # On a GPU the look at the values would wait for it; graphs are made on the CPU and then moved.
    if tensor.device.type == "cpu" and length > 0 and not (int(tensor.min()) >= 0 and int(tensor.max()) < limit):
        raise ConfigError(
            f"{name} of a message graph must lie in [0, {limit}), "
            f"found values from {int(tensor.min())} to {int(tensor.max())}"
        )


def _int64(indices: np.ndarray[Any, Any]) -> Tensor:
    # a copy, so that a memory-mapped or read-only array stays what it is
    return torch.from_numpy(np.array(indices, dtype=np.int64))
