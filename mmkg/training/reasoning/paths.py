"""Made questions whose answer stands a known number of hops away: whoever answers them has looked that far.

"What is the colour at the end of Mavo's way?" The subgraph is a set of ways, each of as many edges as the answer is
hops away: entities that nothing is known of but their edges, and a colour at the end. One way begins at the entity that
is asked about. Each colour ends one way, so that without edges every colour is as likely: chance is one of them. What
lies between has no text and no picture, so no row but the target's own can say which way is the right one, and the
colour must come to it along the edges. Ours; the paper has no such task.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mmkg.errors import ConfigError, unknown_name
from mmkg.evaluation.answers import GivenAnswer, score_answers
from mmkg.evaluation.report import interval_text
from mmkg.reasoners.graph4mm_config import Graph4mmConfig
from mmkg.reasoners.llm import FrozenLlm
from mmkg.subgraphs.assemble import Floats, MultimodalSubgraph, assemble
from mmkg.training.reasoning.question_learner import QuestionLearner
from mmkg.training.reasoning.questions import GraphQuestion, QuestionSet
from mmkg.training.reasoning.recipe import QuestionRecipe
from mmkg.training.reasoning.run import Measured, evaluate_questions, train_questions
from mmkg.training.reasoning.synthetic import made_names, shuffle_subgraphs, unit_vector
from mmkg.training.recipes import change_recipe
from mmkg.training.run_folder import read_run_config
from mmkg.training.runner import Progress

PREFIX = "graph4mm/paths"
_RELATIONS = ("leads to",)


class PathsConfig(BaseModel):
    """How the questions are made. All ours."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    num_hops: int = Field(default=2, ge=1)
    """Edges between the entity that is asked about and its colour."""
    words: tuple[str, ...] = ("red", "blue", "green", "white")
    """Colours, each at the end of one way; chance is one of them."""
    num_train: int = Field(default=4000, ge=1)
    """Questions to learn from; no two have the same name."""
    num_valid: int = Field(default=200, ge=1)
    """To choose by."""
    num_test: int = Field(default=1000, ge=1)
    """To report on."""
    dimension: int = Field(default=32, ge=4)
    """Numbers of a colour's vector, a random code of length 1."""


class PathsRecipe(QuestionRecipe):
    """A run on ways."""

    model: Graph4mmConfig = Graph4mmConfig()
    """What of Graph4MM is trained."""
    data: PathsConfig = PathsConfig()
    """How the questions are made."""


_SETTINGS: dict[str, Any] = {
    "model": Graph4mmConfig(width=64, num_heads=4, num_queries=4, relations=False, alpha=0.2, num_terms=8),
    "batch_size": 32,
    "epochs": 10,
    "learning_rate": 3e-3,
    "gradient_clip": 1.0,
    "max_answer_tokens": 8,
    "valid_every": 2,
    "threads": 1,
    "device": "cpu",
}
_RECIPES: dict[str, dict[str, Any]] = {
    "paths": _SETTINGS,
    "paths_tiny": {
        **_SETTINGS,
        "model": Graph4mmConfig(width=32, num_heads=2, num_queries=4, relations=False, alpha=0.2, num_terms=4),
        "data": PathsConfig(words=("red", "blue"), num_train=400, num_valid=20, num_test=100, dimension=8),
        "batch_size": 16,
        "epochs": 7,
        "learning_rate": 0.005,
        "schedule": "constant",
        "valid_every": 1,
        "bootstrap_draws": 100,
    },
}


def list_path_recipes() -> tuple[str, ...]:
    """Return the names of the recipes."""
    return tuple(sorted(f"graph4mm/{name}" for name in _RECIPES))


def open_path_recipe(name: str, overrides: Mapping[str, Any] | Sequence[str] = ()) -> PathsRecipe:
    """Return a recipe by name, with settings changed.

    Args:
        name: such as ``graph4mm/paths``.
        overrides: ``{"data.num_hops": 3}`` or ``["data.num_hops=3", "model.num_terms=2"]``; a text is read as TOML.

    Raises:
        ConfigError: no recipe or setting is called so, or a value is of the wrong kind.
    """
    if name not in list_path_recipes():
        raise ConfigError(unknown_name("recipe", name, list_path_recipes()))
    return change_recipe(PathsRecipe(name=name, **_RECIPES[name.removeprefix("graph4mm/")]), overrides)


def train_paths(
    recipe: PathsRecipe | str,
    run_folder: Path,
    *,
    llm: FrozenLlm | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train, and leave a run folder whose metrics hold accuracy with each question's own ways and with another's.

    Args:
        recipe: a recipe or its name.
        run_folder: made if it is not there.
        llm, resume, progress: see :func:`train_questions`.

    Raises:
        TrainingError: see :func:`train_questions`.
    """
    recipe = open_path_recipe(recipe) if isinstance(recipe, str) else recipe
    return train_questions(
        recipe,
        path_questions(recipe.data, random_seed=recipe.random_seed),
        run_folder,
        inputs={},
        measure=partial(_measure, recipe),
        llm=llm,
        resume=resume,
        progress=progress,
    )


def evaluate_paths(run_folder: Path, *, split: str = "test") -> dict[str, Any]:
    """Answer a split of a run's questions again; write ``metrics-SPLIT.json`` and ``report-SPLIT.html``.

    Raises:
        ConfigError: no split is called so.
        TrainingError: there is no such run, or its language model is another than then.
    """
    recipe, _ = read_run_config(run_folder, PathsRecipe)
    questions = path_questions(recipe.data, random_seed=recipe.random_seed).reporting(split)
    return evaluate_questions(recipe, questions, run_folder, split=split, measure=partial(_measure, recipe))


def path_questions(config: PathsConfig, *, random_seed: int = 0) -> QuestionSet:
    """Make the questions of all three splits; the same seed makes the same ones.

    Raises:
        ConfigError: colours are fewer than two, or repeated.
    """
    if len(set(config.words)) != len(config.words) or len(config.words) < 2:
        raise ConfigError(f"data.words: expected at least two different words, found {list(config.words)}")
    random = np.random.default_rng(random_seed)
    codes = {word: unit_vector(random, config.dimension) for word in config.words}
    relation_RD = np.stack([unit_vector(random, config.dimension) for _ in range(len(_RELATIONS) + 2)])
    names = made_names(random, config.num_train + config.num_valid + config.num_test)
    questions = [_question(config, name, codes, random) for name in names]
    first, second = config.num_train, config.num_train + config.num_valid
    return QuestionSet(
        train=questions[:first],
        valid=questions[first:second],
        test=questions[second:],
        relation_RD=relation_RD,
        embedder=f"random codes {random_seed}",
        told={"chance": 1 / len(config.words), "hops": config.num_hops},
    )


def _question(
    config: PathsConfig, name: str, codes: Mapping[str, Floats], random: np.random.Generator
) -> GraphQuestion:
    order = random.permutation(len(config.words)).tolist()
    colours = [config.words[at] for at in order]
    return GraphQuestion(
        key=name,
        text=f"What is the colour at the end of {name}?",
        subgraph=_ways(config, name, colours, codes, random),
        answer=colours[0],  # the way of the entity that is asked about comes first
        choices=config.words,
    )


def _ways(
    config: PathsConfig,
    name: str,
    colours: Sequence[str],
    codes: Mapping[str, Floats],
    random: np.random.Generator,
) -> MultimodalSubgraph:
    """One way for each colour; the target is node 0, all other nodes stand in random order."""
    count, length = len(colours), config.num_hops + 1
    place = np.concatenate([[0], 1 + random.permutation(count * length - 1)]).reshape(count, length)
    vectors: list[Floats | None] = [None] * (count * length)
    labels: list[str | None] = [None] * (count * length)
    for way, colour in enumerate(colours):
        vectors[place[way, -1]], labels[place[way, -1]] = codes[colour], colour
    src, dst = place[:, :-1].ravel(), place[:, 1:].ravel()
    return assemble(
        entity_ids=[f"{name}/{at}" for at in range(count * length)],
        labels=labels,
        vectors=vectors,
        src=src.astype(np.int64),
        relation=np.zeros(len(src), np.int64),
        dst=dst.astype(np.int64),
        num_relations=len(_RELATIONS),
        num_seeds=1,
        dimension=config.dimension,
    )


def _measure(recipe: PathsRecipe, learner: QuestionLearner, answers: Sequence[GivenAnswer]) -> Measured:
    """The same questions with ways of others."""
    draws = recipe.bootstrap_draws
    exchanged = score_answers(learner.answer(shuffle_subgraphs(learner.questions.test)), draws=draws)
    rows = [
        ["", "accuracy"],
        [f"{recipe.data.num_hops} hops, K = {recipe.model.num_terms}", interval_text(score_answers(answers).accuracy)],
        ["the ways of another question", interval_text(exchanged.accuracy)],
        ["chance", f"{1 / len(recipe.data.words):.4f}"],
    ]
    return Measured(
        numbers={"exchanged_subgraphs": exchanged.as_json(), "left_out_by_diffusion": recipe.model.left_out},
        tables={"Where the answer comes from": rows},
    )
