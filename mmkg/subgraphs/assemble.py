r"""A multimodal subgraph: entities and their pictures as nodes, triples and "image of" as edges, in one numbering.

On the way of a fact: after a subgraph was cut or triples were retrieved, before tensors. The *text subgraph* are the
nodes that words describe (entities, attributes) and the edges between them, the *image subgraph* the pictures, their
own edges and those that their entities lend them, and between the two run the edges "image of". A picture is one hop
further away than its entity. Relations are numbered as in the build; two more follow: ``image of`` (R) and ``attribute
of`` (R + 1).

What has no vector (an entity without text, a picture that failed) keeps its node: its row is zeros and its mask says
so. Source: Lee et al., ACL 2024, arXiv:2406.02030, section 3.1 and appendix A.3 for the two relations.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from mmkg.errors import MmkgError

IMAGE_OF, ATTRIBUTE_OF = "image of", "attribute of"
EXTRA_RELATIONS = (IMAGE_OF, ATTRIBUTE_OF)

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


class NodeKind(IntEnum):
    """What a node of a multimodal subgraph is."""

    ENTITY = 0
    IMAGE = 1
    ATTRIBUTE = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class MultimodalSubgraph:
    """Nodes of several kinds, with vectors where there are any, and edges in the direction of their triples.

    Attributes:
        keys: (N,) what a node is: entity_id, sha256 of a picture, or the text of an attribute.
        labels: (N,) for people; None where nothing is known.
        kind_N: int64, a :class:`NodeKind` each.
        hop_N: int64, edges to the nearest seed; -1 for a node that no edge of the subgraph ties to a seed.
        vector_ND: float32, zeros where there is none.
        has_vector_N: whether a row of `vector_ND` is a vector.
        src_E, relation_E, dst_E: int64.
        num_relations: of the build, and the two of `EXTRA_RELATIONS` after them.
        num_seeds: the first so many nodes are what was asked for.
    """

    keys: tuple[str, ...]
    labels: tuple[str | None, ...]
    kind_N: Ints
    hop_N: Ints
    vector_ND: Floats
    has_vector_N: Bools
    src_E: Ints
    relation_E: Ints
    dst_E: Ints
    num_relations: int
    num_seeds: int

    def __post_init__(self) -> None:
        """Check that the parts belong together."""
        count = len(self.keys)
        for name in ("labels", "kind_N", "hop_N", "vector_ND", "has_vector_N"):
            if len(getattr(self, name)) != count:
                raise MmkgError(f"{name}: expected one for each of the {count} nodes, found {len(getattr(self, name))}")
        if not len(self.src_E) == len(self.relation_E) == len(self.dst_E):
            raise MmkgError("src_E, relation_E and dst_E of a multimodal subgraph must be of one length")
        _check_ends(self.src_E, self.dst_E, count)
        if not 0 <= self.num_seeds <= count:
            raise MmkgError(f"num_seeds: expected 0 to {count}, found {self.num_seeds}")

    @property
    def num_nodes(self) -> int:
        """N."""
        return len(self.keys)

    @property
    def num_edges(self) -> int:
        """E."""
        return len(self.src_E)

    @property
    def is_image(self) -> Bools:
        """Which nodes are pictures."""
        return np.asarray(self.kind_N == NodeKind.IMAGE)

    @property
    def is_cross(self) -> Bools:
        """Which edges lead between the image subgraph and the text subgraph."""
        return np.asarray(self.is_image[self.src_E] != self.is_image[self.dst_E])

    @property
    def entity_of_image(self) -> Mapping[int, int]:
        """Node of a picture to the node of its entity, in order of pictures; of several entities the first."""
        found: dict[int, int] = {}
        for src, relation, dst in zip(self.src_E.tolist(), self.relation_E.tolist(), self.dst_E.tolist(), strict=True):
            if relation == self.num_relations - 2:
                found.setdefault(src, dst)
        return found

    def text_subgraph(self) -> "MultimodalSubgraph":
        """Entities and attributes, and the edges between them."""
        return self.keep_nodes(~self.is_image)

    def image_subgraph(self, *, lent: bool = True) -> "MultimodalSubgraph":
        """Pictures, with the edges between them, and tied as their entities are.

        Args:
            lent: add an edge for each triple and pair of pictures of its two ends, behind the edges between pictures.
        """
        alone = self.keep_nodes(self.is_image)
        if not lent:
            return alone
        images = np.flatnonzero(self.is_image)
        pictures: dict[int, list[int]] = {}
        for picture, entity in self.entity_of_image.items():
            pictures.setdefault(entity, []).append(int(np.searchsorted(images, picture)))
        edges = [
            (first, relation, second)
            for src, relation, dst in zip(
                self.src_E.tolist(), self.relation_E.tolist(), self.dst_E.tolist(), strict=True
            )
            for first in pictures.get(src, [])
            for second in pictures.get(dst, [])
        ]
        src, relation, dst = np.array(edges, dtype=np.int64).reshape(-1, 3).T
        return replace(
            alone,
            src_E=np.concatenate([alone.src_E, src]),
            relation_E=np.concatenate([alone.relation_E, relation]),
            dst_E=np.concatenate([alone.dst_E, dst]),
        )

    def keep_nodes(self, keep_N: Bools) -> "MultimodalSubgraph":
        """The subgraph of some nodes and of the edges between them, renumbered in order."""
        places = np.flatnonzero(keep_N)
        number = np.full(self.num_nodes, -1)
        number[places] = np.arange(len(places))
        stays = keep_N[self.src_E] & keep_N[self.dst_E]
        return MultimodalSubgraph(
            keys=tuple(self.keys[place] for place in places),
            labels=tuple(self.labels[place] for place in places),
            kind_N=self.kind_N[places],
            hop_N=self.hop_N[places],
            vector_ND=self.vector_ND[places],
            has_vector_N=self.has_vector_N[places],
            src_E=number[self.src_E[stays]],
            relation_E=self.relation_E[stays],
            dst_E=number[self.dst_E[stays]],
            num_relations=self.num_relations,
            num_seeds=int(keep_N[: self.num_seeds].sum()),
        )


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture of an entity, as a node is made of it.

    Attributes:
        sha256: of its bytes.
        vector: (D,), None where it has none: it failed, or nobody embedded it.
    """

    sha256: str
    vector: Floats | None


def assemble(
    *,
    entity_ids: Sequence[str],
    labels: Sequence[str | None],
    vectors: Sequence[Floats | None],
    src: Ints,
    relation: Ints,
    dst: Ints,
    num_relations: int,
    num_seeds: int,
    dimension: int,
    pictures: Mapping[int, Sequence[Picture]] | None = None,
    attributes: Mapping[int, Sequence[tuple[str, Floats | None]]] | None = None,
    max_images: int | None = None,
) -> MultimodalSubgraph:
    """Put entities, their pictures and their attributes into one subgraph.

    Args:
        entity_ids: (M,) of the entities, the seeds first.
        labels: (M,).
        vectors: (M,) text vectors of (D,), None where an entity has no text.
        src, relation, dst: triples between the entities, in local numbers.
        num_relations: of the build, without the two that are added here.
        num_seeds: how many of the entities were asked for.
        dimension: D.
        pictures: of an entity, by its local number, the best first. One picture of two entities is one node.
        attributes: texts of an entity, with their vectors.
        max_images: at most so many an entity; None for all.

    Raises:
        MmkgError: parts that do not belong together.
    """
    rows: list[tuple[str, str | None, NodeKind, Floats | None]] = [
        (key, label, NodeKind.ENTITY, vector) for key, label, vector in zip(entity_ids, labels, vectors, strict=True)
    ]
    _check_ends(src, dst, len(rows))
    edges = list(zip(src.tolist(), relation.tolist(), dst.tolist(), strict=True))
    node_of_picture: dict[str, int] = {}
    for entity, found in sorted((pictures or {}).items()):
        for picture in found[:max_images]:
            if picture.sha256 not in node_of_picture:
                node_of_picture[picture.sha256] = len(rows)
                rows.append((picture.sha256, None, NodeKind.IMAGE, picture.vector))
            edges.append((node_of_picture[picture.sha256], num_relations, entity))
    for entity, texts in sorted((attributes or {}).items()):
        for text, vector in texts:
            edges.append((len(rows), num_relations + 1, entity))
            rows.append((text, text, NodeKind.ATTRIBUTE, vector))
    vector_ND = np.zeros((len(rows), dimension), np.float32)
    for place, (key, _, _, vector) in enumerate(rows):
        if vector is None:
            continue
        if vector.shape != (dimension,):
            raise MmkgError(f"{key}: expected a vector of {dimension} numbers, found shape {vector.shape}")
        vector_ND[place] = vector
    ends = np.array(edges, dtype=np.int64).reshape(-1, 3)
    return MultimodalSubgraph(
        keys=tuple(row[0] for row in rows),
        labels=tuple(row[1] for row in rows),
        kind_N=np.array([row[2] for row in rows], dtype=np.int64),
        hop_N=hops_from(num_seeds, len(rows), ends[:, 0], ends[:, 2]),
        vector_ND=vector_ND,
        has_vector_N=np.array([row[3] is not None for row in rows], dtype=np.bool_),
        src_E=ends[:, 0],
        relation_E=ends[:, 1],
        dst_E=ends[:, 2],
        num_relations=num_relations + len(EXTRA_RELATIONS),
        num_seeds=num_seeds,
    )


def hops_from(num_seeds: int, num_nodes: int, src: Ints, dst: Ints) -> Ints:
    """Edges between each node and the nearest of the first `num_seeds`, either way along edges; -1 where there is none.

    >>> hops_from(1, 4, np.array([0, 2]), np.array([1, 1]))
    array([ 0,  1,  2, -1])
    """
    hop_N = np.full(num_nodes, -1, dtype=np.int64)
    hop_N[:num_seeds] = 0
    front, hop = np.arange(num_seeds), 0
    while len(front):
        hop += 1
        at_front = np.zeros(num_nodes, dtype=np.bool_)
        at_front[front] = True
        reached = np.concatenate([dst[at_front[src]], src[at_front[dst]]])
        front = np.unique(reached[hop_N[reached] < 0])
        hop_N[front] = hop
    return hop_N


def _check_ends(src: Ints, dst: Ints, num_nodes: int) -> None:
    ends = np.concatenate([src, dst])
    if len(ends) and (ends.min() < 0 or ends.max() >= num_nodes):
        raise MmkgError(f"an edge of a multimodal subgraph leads to a node outside 0 to {num_nodes - 1}")
