"""A small MR-MKG and a batch of questions for it: three subgraphs of several sizes, two with pictures, one empty."""

import numpy as np
import torch

from mmkg.reasoners.mr_mkg import MrMkg, MrMkgConfig, MrMkgInput
from mmkg.subgraphs.assemble import MultimodalSubgraph, Picture, assemble
from mmkg.subgraphs.batch_multimodal import batch_multimodal

from .made_llms import make_llm

VECTOR, PATCH, RELATIONS = 6, 5, 3


def make_subgraph(seed: int, num_entities: int, num_edges: int, pictures: int) -> MultimodalSubgraph:
    rng = np.random.default_rng(seed)
    vectors = [rng.normal(size=VECTOR).astype(np.float32) for _ in range(num_entities)]
    return assemble(
        entity_ids=[f"e{seed}-{number}" for number in range(num_entities)],
        labels=[None] * num_entities,
        vectors=vectors,
        src=rng.integers(0, max(num_entities, 1), num_edges),
        relation=rng.integers(0, RELATIONS, num_edges),
        dst=rng.integers(0, max(num_entities, 1), num_edges),
        num_relations=RELATIONS,
        num_seeds=min(num_entities, 1),
        dimension=VECTOR,
        pictures={
            number: [Picture(sha256=f"p{seed}-{number}", vector=rng.normal(size=VECTOR).astype(np.float32))]
            for number in range(pictures)
        },
    )


SUBGRAPHS = [make_subgraph(0, 5, 7, 3), make_subgraph(1, 3, 2, 2), make_subgraph(2, 0, 0, 0)]
TEXTS = ["What is the capital of Chad?", "Paris is", "Bern"]


def make_model(family: str = "llama", seed: int = 0, **settings) -> MrMkg:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = MrMkgConfig(**{"graph_width": 8, "num_heads": 2, "dropout": 0.0, **settings})
        relation_RD = torch.randn(RELATIONS + 2, VECTOR)
        return MrMkg(config, make_llm(family), relation_RD=relation_RD, patch_width=PATCH, num_named=1).eval()


def make_input(model: MrMkg, items=(0, 1, 2), pictures=(True, False, True), subgraphs=None) -> MrMkgInput:
    patch_BPD = torch.randn(3, 4, PATCH, generator=torch.Generator().manual_seed(3))
    mask_BP = torch.tensor(pictures)[:, None].expand(3, 4) & torch.tensor(
        [[True] * 4, [True] * 4, [True, True, False, False]]
    )
    chosen = list(items)
    return MrMkgInput(
        tokens=[model.llm.tokens(TEXTS[item]) for item in chosen],
        graph=batch_multimodal([(subgraphs or SUBGRAPHS)[item] for item in chosen]),
        patch_BPD=patch_BPD[chosen],
        patch_mask_BP=mask_BP[chosen],
    )
