"""Multimodal subgraphs as tensors: side by side for an encoder, and padded by graph for attention over their nodes.

Shape suffixes: N nodes of all graphs, G graphs, M most nodes of one graph, D numbers of a vector, K pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmkg.errors import ConfigError, require
from mmkg.subgraphs.assemble import MultimodalSubgraph
from mmkg.subgraphs.batch import MessageGraph

require("torch", extra="graph", needed_by="a batch of multimodal subgraphs")

import torch  # noqa: E402 - after the check that says how to install it
from torch import Tensor  # noqa: E402


@dataclass(frozen=True, kw_only=True, eq=False)
class MultimodalBatch:
    """Several multimodal subgraphs, each keeping its nodes in order.

    Attributes:
        graph: all of them side by side, edges as the triples point.
        vector_ND: float32, zeros where there is none.
        has_vector_N: bool.
        kind_N: int64, a :class:`~mmkg.subgraphs.assemble.NodeKind` each.
        seed_N: int64, 1 for the first seed of a graph, 2 for the second, …; 0 for what is no seed.
        node_GM: int64, the nodes of each graph; 0 in padding.
        mask_GM: bool, False in padding.
        picture_K: int64, nodes of pictures that have a vector, of entities that have one.
        entity_of_picture_K: int64, the node of each one's entity.
    """

    graph: MessageGraph
    vector_ND: Tensor
    has_vector_N: Tensor
    kind_N: Tensor
    seed_N: Tensor
    node_GM: Tensor
    mask_GM: Tensor
    picture_K: Tensor
    entity_of_picture_K: Tensor

    @property
    def num_graphs(self) -> int:
        """G."""
        return self.graph.num_graphs

    def to(self, device: torch.device | str) -> "MultimodalBatch":
        """Return this batch on a device."""
        return MultimodalBatch(
            graph=self.graph.to(device),
            vector_ND=self.vector_ND.to(device),
            has_vector_N=self.has_vector_N.to(device),
            kind_N=self.kind_N.to(device),
            seed_N=self.seed_N.to(device),
            node_GM=self.node_GM.to(device),
            mask_GM=self.mask_GM.to(device),
            picture_K=self.picture_K.to(device),
            entity_of_picture_K=self.entity_of_picture_K.to(device),
        )


def batch_multimodal(subgraphs: Sequence[MultimodalSubgraph]) -> MultimodalBatch:
    """Put subgraphs side by side; an empty one has no node and no true place in the mask.

    Raises:
        ConfigError: none, or subgraphs that count relations or numbers of a vector differently.
    """
    if not subgraphs:
        raise ConfigError("a batch needs at least one subgraph, found none")
    for name, found in (
        ("num_relations", {subgraph.num_relations for subgraph in subgraphs}),
        ("numbers of a vector", {subgraph.vector_ND.shape[1] for subgraph in subgraphs}),
    ):
        if len(found) > 1:
            raise ConfigError(f"the subgraphs of a batch must agree in {name}, found {sorted(found)}")
    sizes = np.array([subgraph.num_nodes for subgraph in subgraphs])
    first = np.concatenate([[0], np.cumsum(sizes)])
    graph_N = np.repeat(np.arange(len(subgraphs)), sizes)
    place_N = np.arange(first[-1]) - first[graph_N]
    node_GM = np.zeros((len(subgraphs), max(1, int(sizes.max()))), np.int64)
    mask_GM = np.zeros(node_GM.shape, np.bool_)
    node_GM[graph_N, place_N] = np.arange(first[-1])
    mask_GM[graph_N, place_N] = True
    shifted = list(zip(subgraphs, first.tolist(), strict=False))
    pairs = [
        (start + picture, start + entity)
        for subgraph, start in shifted
        for picture, entity in subgraph.entity_of_image.items()
        if subgraph.has_vector_N[picture] and subgraph.has_vector_N[entity]
    ]
    picture_K, entity_K = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    seeds = np.array([subgraph.num_seeds for subgraph in subgraphs])
    return MultimodalBatch(
        graph=MessageGraph(
            src_E=torch.from_numpy(np.concatenate([part.src_E + start for part, start in shifted])),
            relation_E=torch.from_numpy(np.concatenate([part.relation_E for part in subgraphs])),
            dst_E=torch.from_numpy(np.concatenate([part.dst_E + start for part, start in shifted])),
            num_nodes=int(first[-1]),
            num_relations=subgraphs[0].num_relations,
            num_graphs=len(subgraphs),
            graph_of_node_N=torch.from_numpy(graph_N.astype(np.int64)),
        ),
        vector_ND=torch.from_numpy(np.concatenate([part.vector_ND for part in subgraphs])),
        has_vector_N=torch.from_numpy(np.concatenate([part.has_vector_N for part in subgraphs])),
        kind_N=torch.from_numpy(np.concatenate([part.kind_N for part in subgraphs])),
        seed_N=torch.from_numpy(np.where(place_N < seeds[graph_N], place_N + 1, 0)),
        node_GM=torch.from_numpy(node_GM),
        mask_GM=torch.from_numpy(mask_GM),
        picture_K=torch.from_numpy(picture_K.copy()),
        entity_of_picture_K=torch.from_numpy(entity_K.copy()),
    )
