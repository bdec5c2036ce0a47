"""Problems of ScienceQA with what a graph and their pictures say of them, and the questions that are made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmkg.embeddings import Embedder, open_embedder
from mmkg.errors import ConfigError, TrainingError
from mmkg.subgraphs.assemble import EXTRA_RELATIONS, Floats, MultimodalSubgraph, assemble
from mmkg.tasks.scienceqa import LETTERS, Problem, ScienceQa
from mmkg.tasks.scienceqa_texts import answer_prompt, answer_text, rationale_prompt, rationale_text, retrieval_text
from mmkg.training.reasoning.patches import embed_patches
from mmkg.training.reasoning.questions import GraphQuestion, QuestionSet, split_off
from mmkg.training.reasoning.recipe import ScienceQaRecipe
from mmkg.training.reasoning.triple_graph import TripleGraph, retrieve_subgraphs

_NO_EDGES = np.empty(0, np.int64)
_NOTHING = assemble(  # the subgraph of a problem whose model reads none
    entity_ids=[],
    labels=[],
    vectors=[],
    src=_NO_EDGES,
    relation=_NO_EDGES,
    dst=_NO_EDGES,
    num_relations=0,
    num_seeds=0,
    dimension=1,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class ScienceQaData:
    """Problems of three parts, and what is known of each.

    Attributes:
        train, valid, test: problems.
        reported: the official split that `test` is of.
        subgraphs, patches: by pid; a problem without picture file has no patches.
        relation_RD: of the graph.
        embedder: digest of what made the vectors.
        told: counts, as JSON values.
    """

    train: Sequence[Problem]
    valid: Sequence[Problem]
    test: Sequence[Problem]
    reported: str
    subgraphs: Mapping[str, MultimodalSubgraph]
    patches: Mapping[str, Floats]
    relation_RD: Floats
    embedder: str
    told: Mapping[str, Any]

    @property
    def problems(self) -> dict[str, Problem]:
        """By pid."""
        return {problem.pid: problem for part in (self.train, self.valid, self.test) for problem in part}


def prepare_scienceqa(
    recipe: ScienceQaRecipe,
    read: ScienceQa,
    graph: TripleGraph | None,
    *,
    pictures_folder: Path,
    cache_folder: Path | None = None,
    reported: str | None = None,
) -> ScienceQaData:
    """Split, look up, and embed pictures.

    What is reported on is the official test split, chosen by val. Where no test problem is at hand it is val, and then
    a share of train's skills is held out to choose by, so that val chooses nothing. A split that is asked for
    (`reported`) stands alone: nothing is held out for choosing.

    Raises:
        ConfigError: the model reads a graph and there is none.
        TrainingError: no problem is left to learn from or to report on.
    """
    if graph is None and recipe.model.knowledge != "none":
        raise ConfigError(
            f"{recipe.name}: its model reads a graph: give a build or a graph of triples, or set model.knowledge='none'"
        )
    train = read.split("train")[: recipe.train_problems]
    valid: list[Problem] = []
    if reported is None and read.split("test"):
        reported, valid = "test", read.split("val")
    elif reported is None:
        reported = "val"
        held = split_off([problem.skill for problem in train], recipe.valid_share, recipe.random_seed)
        valid = [problem for problem in train if problem.skill in held]
        train = [problem for problem in train if problem.skill not in held]
    test = read.split(reported)[: recipe.test_problems]
    if not train or not test:
        raise TrainingError(
            f"expected ScienceQA problems to learn from and to report on, found {len(train)} and {len(test)}"
        )
    problems = [*train, *valid, *test]
    embedder = graph.embedder if graph is not None else open_embedder(recipe.embeddings)
    patches, failed = _patches(recipe, problems, embedder, pictures_folder)
    subgraphs: dict[str, MultimodalSubgraph] = {}
    if graph is not None:
        queries = [retrieval_text(problem) for problem in problems]
        found = retrieve_subgraphs(
            graph, queries, recipe.retrieval, max_images=recipe.max_images, cache_folder=cache_folder
        )
        subgraphs = {problem.pid: subgraph for problem, subgraph in zip(problems, found, strict=True)}
    return ScienceQaData(
        train=train,
        valid=valid,
        test=test,
        reported=reported,
        subgraphs=subgraphs,
        patches=patches,
        relation_RD=np.zeros((len(EXTRA_RELATIONS), 1), np.float32) if graph is None else graph.relation_RD,
        embedder=embedder.identity.digest,
        told={
            "reported_split": reported,
            "problems": {"train": len(train), "valid": len(valid), "test": len(test)},
            "rejected": len(read.rejects),
            "missing": dict(read.missing),
            "pictures_named": sum(problem.image is not None for problem in problems),
            "pictures_read": len(patches),
            "pictures_failed": failed,
            "empty_subgraphs": sum(subgraph.num_nodes == 0 for subgraph in subgraphs.values()),
        },
    )


def rationale_questions(recipe: ScienceQaRecipe, data: ScienceQaData) -> QuestionSet:
    """Return what stage A learns: the rationale after each problem; problems without one are left out of train."""

    def ask(problems: Sequence[Problem]) -> list[GraphQuestion]:
        return [
            _question(data, problem, rationale_prompt(problem, with_caption=recipe.captions), rationale)
            for problem in problems
            if (rationale := rationale_text(problem))
        ]

    return _set(data, ask(data.train), ask(data.valid), ask(data.test))


def ask_rationales(recipe: ScienceQaRecipe, data: ScienceQaData) -> list[GraphQuestion]:
    """Return the problems of valid, then of test, as stage A is asked them; what is right is not read."""
    return [
        _question(
            data, problem, rationale_prompt(problem, with_caption=recipe.captions), rationale_text(problem) or "-"
        )
        for problem in (*data.valid, *data.test)
    ]


def answer_questions(recipe: ScienceQaRecipe, data: ScienceQaData, rationales: Mapping[str, str]) -> QuestionSet:
    """Return what stage B learns: the answer after each problem and its rationale.

    Args:
        recipe: with or without rationale.
        data: problems.
        rationales: that stage A wrote, by pid, of valid and test; train has the true ones.
    """

    def ask(problems: Sequence[Problem], given: Mapping[str, str]) -> list[GraphQuestion]:
        return [
            _question(
                data,
                problem,
                answer_prompt(problem, given.get(problem.pid), with_caption=recipe.captions),
                _said(recipe, problem, problem.answer),
                choices=_choices(recipe, problem),
            )
            for problem in problems
        ]

    true = {problem.pid: rationale_text(problem) for problem in data.train} if recipe.rationale == "two_pass" else {}
    return _set(data, ask(data.train, true), ask(data.valid, rationales), ask(data.test, rationales))


# --- parts -----------------------------------------------------------------------------------------------------------


def _patches(
    recipe: ScienceQaRecipe, problems: Sequence[Problem], embedder: Embedder, folder: Path
) -> tuple[dict[str, Floats], dict[str, int]]:
    """Patches of the pictures that are at hand, by pid, and why others have none."""
    if not recipe.model.pictures or "image" not in embedder.identity.modalities:
        return {}, {}
    paths = [(problem.pid, folder / problem.image_path) for problem in problems if problem.image_path is not None]
    patches, failed = embed_patches(paths, embedder, grid=recipe.patches.grid)
    reasons = list(failed.values())
    return patches, {reason: reasons.count(reason) for reason in sorted(set(reasons))}


def _question(
    data: ScienceQaData, problem: Problem, text: str, answer: str, *, choices: tuple[str, ...] | None = None
) -> GraphQuestion:
    return GraphQuestion(
        key=problem.pid,
        text=text,
        subgraph=data.subgraphs.get(problem.pid, _NOTHING),
        answer=answer,
        choices=choices,
        patches=data.patches.get(problem.pid),
    )


def _said(recipe: ScienceQaRecipe, problem: Problem, choice: int) -> str:
    """What is said when this choice is taken."""
    if recipe.answer_form == "sentence":
        return answer_text(replace(problem, answer=choice))
    return f"({LETTERS[choice]}) {problem.choices[choice]}"


def _choices(recipe: ScienceQaRecipe, problem: Problem) -> tuple[str, ...]:
    return tuple(_said(recipe, problem, choice) for choice in range(len(problem.choices)))


def _set(
    data: ScienceQaData,
    train: Sequence[GraphQuestion],
    valid: Sequence[GraphQuestion],
    test: Sequence[GraphQuestion],
) -> QuestionSet:
    return QuestionSet(
        train=train,
        valid=valid,
        test=test,
        relation_RD=data.relation_RD,
        embedder=data.embedder,
        told=data.told,
    )
