"""Small multimodal subgraphs that can be checked with a finger, and a small Graph4MM that reads them.

``PICTURED``: Paris -0-> France, France -1-> Paris, Bern -2-> France, and a nameless entity -1-> Paris. Paris is the
target. Pictures: one of Paris, one of France, and one of Bern that failed, so it has no vector.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import torch

from mmkg.reasoners.graph4mm import Graph4mm, Graph4mmRead
from mmkg.reasoners.graph4mm_config import Graph4mmConfig
from mmkg.reasoners.llm import FrozenLlm
from mmkg.subgraphs.assemble import MultimodalSubgraph, Picture, assemble

from .made_llms import make_llm

VECTOR, RELATIONS, WIDTH, QUERIES = 6, 3, 8, 3
R = RELATIONS + 2  # with "image of" and "attribute of"


def make_graph(
    name: str,
    labels: Sequence[str | None],
    edges: Sequence[tuple[int, int, int]] = (),
    pictures: Sequence[tuple[int, bool]] = (),
    num_seeds: int = 1,
) -> MultimodalSubgraph:
    """Entities of these labels, (src, relation, dst) between them, and of a picture its entity and whether it failed.

    An entity without label has no vector either.
    """
    random = np.random.default_rng(sum(map(ord, name)))
    vectors = [random.normal(size=VECTOR).astype(np.float32) for _ in range(len(labels) + len(pictures))]
    of_entity: dict[int, list[Picture]] = {}
    for number, (entity, failed) in enumerate(pictures):
        vector = None if failed else vectors[len(labels) + number]
        of_entity.setdefault(entity, []).append(Picture(sha256=f"{name}-p{number}", vector=vector))
    ends = np.array(edges, dtype=np.int64).reshape(-1, 3)
    return assemble(
        entity_ids=[f"{name}-e{number}" for number in range(len(labels))],
        labels=labels,
        vectors=[None if label is None else vector for label, vector in zip(labels, vectors, strict=False)],
        src=ends[:, 0],
        relation=ends[:, 1],
        dst=ends[:, 2],
        num_relations=RELATIONS,
        num_seeds=num_seeds,
        dimension=VECTOR,
        pictures=of_entity,
    )


PICTURED = make_graph(
    "pictured",
    ["Paris", "France is", "Bern", None],
    [(0, 0, 1), (1, 1, 0), (2, 2, 1), (3, 1, 0)],
    [(0, False), (1, False), (2, True)],
)
TEXT_ONLY = make_graph("text", ["Bern", "the capital of Switzerland", "Chad"], [(0, 2, 1), (2, 0, 0)])
EMPTY = make_graph("empty", [], num_seeds=0)
LONE = make_graph("lone", ["Chad"])
EDGELESS = make_graph("edgeless", ["Chad", "Bern", "Paris"], pictures=[(1, False)])
FAILED = make_graph("failed", ["Bern", "Paris"], [(0, 1, 1)], [(0, True), (1, True)])
PICTURES_ALONE = PICTURED.keep_nodes(PICTURED.is_image)  # its texts lost, with the target
GRAPHS = {
    "pictured": PICTURED,
    "text_only": TEXT_ONLY,
    "empty": EMPTY,
    "lone": LONE,
    "edgeless": EDGELESS,
    "failed": FAILED,
    "pictures_alone": PICTURES_ALONE,
}
BATCH = (PICTURED, TEXT_ONLY, EMPTY)
TEXTS = ("What is the capital of Chad?", "Paris is", "Bern")
TARGETS = [[5, 6, 7], [8], [9, 10]]


def renumbered(subgraph: MultimodalSubgraph, order: Sequence[int]) -> MultimodalSubgraph:
    """The same subgraph with its nodes in another order: its new node 0 is the old ``order[0]``."""
    place = np.argsort(order)
    at = np.array(order)
    return replace(
        subgraph,
        keys=tuple(subgraph.keys[old] for old in order),
        labels=tuple(subgraph.labels[old] for old in order),
        kind_N=subgraph.kind_N[at],
        hop_N=subgraph.hop_N[at],
        vector_ND=subgraph.vector_ND[at],
        has_vector_N=subgraph.has_vector_N[at],
        src_E=place[subgraph.src_E],
        dst_E=place[subgraph.dst_E],
    )


def with_vector(subgraph: MultimodalSubgraph, node: int, value: float) -> MultimodalSubgraph:
    """The same subgraph with another vector in one row, whether or not the row counts as a vector."""
    chosen = np.arange(subgraph.num_nodes)[:, None] == node
    return replace(subgraph, vector_ND=np.where(chosen, value, subgraph.vector_ND).astype(np.float32))


@cache
def frozen_llm(family: str) -> FrozenLlm:
    """One for all tests, since nothing changes it."""
    return make_llm(family)


def make_graph4mm(family: str = "llama", *, llm: FrozenLlm | None = None, seed: int = 0, **settings) -> Graph4mm:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        small = {"width": WIDTH, "num_heads": 2, "num_queries": QUERIES}
        model = Graph4mm(
            Graph4mmConfig(**{**small, **settings}), llm or frozen_llm(family), relation_RD=torch.randn(R, VECTOR)
        )
        with torch.no_grad():  # gains, biases and tables are 0, 1 or small at first, and would hide a mistake
            for name, parameter in model.named_parameters():
                if not name.startswith("llm."):
                    parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def ask(model: Graph4mm, subgraphs: Sequence[MultimodalSubgraph] = BATCH, texts: Sequence[str] = TEXTS) -> Graph4mmRead:
    """What the model makes of as many questions as there are subgraphs."""
    asked = [model.llm.tokens(text) for text in texts[: len(subgraphs)]]
    return model.read_questions(asked, subgraphs, [None] * len(subgraphs))


def graph_rows(read: Graph4mmRead, item: int = 0) -> torch.Tensor:
    """Rows of a prompt that came from the graph."""
    start, stop = read.prompt.place_of["graph"][item].tolist()
    return read.prompt.row_BPd[item, start:stop]


def loss_of(model: Graph4mm, subgraphs=BATCH, texts=TEXTS, targets=TARGETS) -> torch.Tensor:
    """The loss of each question."""
    return model.answer_loss(ask(model, subgraphs, texts), targets[: len(subgraphs)])[0]
