"""The model of a run on MARS and what it learns, made from a recipe: the same for training, ranking and going on."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from mmkg.reasoners.llm import open_llm
from mmkg.reasoners.mr_mkg import MrMkg
from mmkg.reasoners.ranking import RankingHead
from mmkg.shards import digest
from mmkg.subgraphs.assemble import EXTRA_RELATIONS
from mmkg.training.hardware import choose_device, using_threads
from mmkg.training.reasoning.mars.data import MarsData
from mmkg.training.reasoning.mars.graph import (
    NUM_FEATURES,
    MarsGraph,
    Question,
    count_answers,
    facts_of,
    markg_triples,
    questions_of,
    relation_names,
    swapped,
)
from mmkg.training.reasoning.mars.known import CandidateKnowledge
from mmkg.training.reasoning.mars.learner import NUM_NAMED, AnalogyModel, MarsLearner, markg_questions
from mmkg.training.reasoning.mars.recipe import MarsRecipe


@contextmanager
def opened_learner(recipe: MarsRecipe, data: MarsData, *, stage: str) -> Iterator[MarsLearner]:
    """A new model and what it is to learn; torch's threads and generator are put back after."""
    device = choose_device(recipe.device)
    random = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    with random, using_threads(recipe.threads):
        llm = open_llm(recipe.llm, device=device)
        torch.manual_seed(recipe.random_seed)
        graph = None
        relation_RD = np.concatenate(
            [data.relation_RD, np.zeros((len(relation_names(data.train)), data.relation_RD.shape[1]), np.float32)]
        )
        group_R = None
        if recipe.model.knowledge != "none":
            graph = MarsGraph(
                data.markg, data.train, data.entity_ND, data.relation_RD, recipe.graph, hidden_pairs=data.dev
            )
            relation_RD, group_R = graph.relation_RD, torch.from_numpy(graph.group_R)
        num_relations = len(relation_RD)
        extra_RD = np.zeros((len(EXTRA_RELATIONS), relation_RD.shape[1]), np.float32)
        reasoner = MrMkg(
            recipe.model,
            llm,
            relation_RD=torch.from_numpy(np.concatenate([relation_RD, extra_RD])),
            num_named=NUM_NAMED,
            num_features=NUM_FEATURES,
            relation_group_R=group_R,
        )
        learnt = questions_of([*data.train, *(swapped(data.train) if recipe.swap else [])], data.markg, data.train)
        known = CandidateKnowledge(
            data.markg,
            (data.entity_ND, data.name_ND),
            data.candidate_C,
            answer_counts=count_answers(data.train),
            facts=facts_of(data.train, data.markg),
            sample=learnt[:: max(1, len(learnt) // 64)],
            device=device,
        )
        head = RankingHead(
            num_known=known.num_known,
            state_width=llm.state_width,
            node_width=recipe.model.graph_width,
            hidden_width=recipe.hidden_width,
            dropout=recipe.model.dropout,
        )
        model = AnalogyModel(reasoner, head, 2 * num_relations).to(device)
        yield MarsLearner(
            model,
            graph,
            data.markg,
            data.candidate_C,
            known,
            questions=_markg_questions(recipe, data) if stage == "markg" else learnt,
            valid=questions_of(data.dev, data.markg, data.train),
            batch_size=recipe.batch_size,
            relation_weight=recipe.relation_weight if stage == "markg" else 0.0,
            once_a_fact=recipe.once_a_fact and stage == "mars",
            data_digest=digest_of_stage(data, stage),
            max_tokens=recipe.max_tokens,
        )


def _markg_questions(recipe: MarsRecipe, data: MarsData) -> list[Question]:
    """What pre-training learns: all, or as many as the recipe allows, drawn by its seed."""
    questions = markg_questions(
        markg_triples(data.markg, recipe.graph, [*data.train, *data.dev]),
        data.candidate_C,
        per_fact=recipe.pretrain_per_fact,
        random_seed=recipe.random_seed,
    )
    if recipe.pretrain_limit is None or recipe.pretrain_limit >= len(questions):
        return questions
    drawn = np.random.default_rng(recipe.random_seed).permutation(len(questions))[: recipe.pretrain_limit]
    return [questions[number] for number in sorted(drawn.tolist())]


def digest_of_stage(data: MarsData, stage: str) -> str:
    """Names files, vectors and stage: "markg" or "mars"."""
    return digest([data.digest, stage])
