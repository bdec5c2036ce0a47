"""Made questions whose answer is in their subgraph and nowhere else: whoever answers them has read the graph.

"What is the colour of Mavo?", and the subgraph says ``Mavo -colour-> red`` among ``Mavo -shadow-> blue`` and the
colours and shadows of other entities. Names are new in each question and colours are drawn, so neither the text nor a
language model can know. In the other form (`fact = "picture"`), "What is the colour next to Mavo?", no triple says a
colour: each entity has a picture, whose vector is the code of its colour's pictures with noise, and what is asked for
is the picture of the entity that ``Mavo -next to->`` leads to.

The asked entity is the subgraph's seed, as one that was found in the question would be. Ours; no paper has this task.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmkg.errors import ConfigError
from mmkg.evaluation.answers import GivenAnswer, score_answers
from mmkg.evaluation.bootstrap import Interval
from mmkg.evaluation.report import interval_text
from mmkg.reasoners.llm import FrozenLlm, open_llm
from mmkg.subgraphs.assemble import Floats, Ints, MultimodalSubgraph, Picture, assemble
from mmkg.training.hardware import choose_device
from mmkg.training.reasoning.question_learner import QuestionLearner
from mmkg.training.reasoning.questions import GraphQuestion, QuestionSet
from mmkg.training.reasoning.recipe import SyntheticConfig, SyntheticRecipe, open_reasoning_recipe
from mmkg.training.reasoning.run import Measured, evaluate_questions, train_questions
from mmkg.training.recipes import change_recipe
from mmkg.training.run_folder import CONFIG, METRICS_FILE, check_run_folder, read_json, read_run_config
from mmkg.training.runner import Progress, say

_RELATIONS = ("colour", "shadow", "next to")
_COLOUR, _SHADOW, _NEXT = range(3)
_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"
_PATCH_WIDTH = 4
WITHOUT_GRAPH = "without_graph"


def train_synthetic(
    recipe: SyntheticRecipe | str,
    run_folder: Path,
    *,
    with_control: bool = True,
    llm: FrozenLlm | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train with the graph and without, and leave a run folder whose metrics hold three accuracies.

    They are: with each question's own subgraph (``accuracy``), with the subgraph of another question
    (``exchanged_subgraphs``), and of a model that was trained without any (``without_graph``; its run lies in a folder
    of that name).

    Args:
        recipe: a recipe or its name.
        run_folder: made if it is not there.
        with_control: train the model without graph too.
        llm, resume, progress: see :func:`train_questions`.

    Raises:
        ConfigError: the recipe is of another kind.
        TrainingError: see :func:`train_questions`.
    """
    if isinstance(recipe, str):
        opened = open_reasoning_recipe(recipe)
        if not isinstance(opened, SyntheticRecipe):
            raise ConfigError(f"{recipe}: not a recipe of made questions; choose one such as mr_mkg/synthetic_tiny")
        recipe = opened
    going_on = resume and (run_folder / CONFIG).exists()  # else it was stopped before the model with graph began
    if not resume or going_on:
        check_run_folder(run_folder, recipe, resume=resume)
    if llm is None and not recipe.llm.learns:  # one that learns is of one model alone
        llm = open_llm(recipe.llm, device=choose_device(recipe.device))
    questions = synthetic_questions(recipe.data, random_seed=recipe.random_seed)
    control = change_recipe(recipe, {"model.knowledge": "none"})
    folder = run_folder / WITHOUT_GRAPH
    without: dict[str, Any] | None = None
    if with_control:
        say(progress, "without graph")
        begun = resume and (folder / CONFIG).exists()
        without = train_questions(control, questions, folder, inputs={}, llm=llm, resume=begun, progress=progress)
    say(progress, "with graph")
    return train_questions(
        recipe,
        questions,
        run_folder,
        inputs={},
        measure=partial(_measure, recipe, without),
        llm=llm,
        resume=going_on,
        progress=progress,
    )


def evaluate_synthetic(run_folder: Path, *, split: str = "test", llm: FrozenLlm | None = None) -> dict[str, Any]:
    """Answer a split of a run's questions again; write ``metrics-SPLIT.json`` and ``report-SPLIT.html``.

    Args:
        run_folder: of a finished run.
        split: train | valid | test.
        llm: of the run's recipe, where it is open already.

    Raises:
        ConfigError: no split is called so.
        TrainingError: there is no such run, or its language model is another than then.
    """
    recipe, _ = read_run_config(run_folder, SyntheticRecipe)
    questions = synthetic_questions(recipe.data, random_seed=recipe.random_seed).reporting(split)
    # of another split the control was not asked
    control = run_folder / WITHOUT_GRAPH / METRICS_FILE
    without = read_json(control) if split == "test" and control.exists() else None
    measure = partial(_measure, recipe, without)
    return evaluate_questions(recipe, questions, run_folder, split=split, measure=measure, llm=llm)


def synthetic_questions(config: SyntheticConfig, *, random_seed: int = 0) -> QuestionSet:
    """Make the questions of all three splits; the same seed makes the same ones.

    Each has a picture of its own that shows noise, so that a model without graph has something to learn with.

    Raises:
        ConfigError: words are fewer than two, or repeated.
    """
    if len(set(config.words)) != len(config.words) or len(config.words) < 2:
        raise ConfigError(f"data.words: expected at least two different words, found {list(config.words)}")
    random = np.random.default_rng(random_seed)
    codes = {name: unit_vector(random, config.dimension) for name in (*_RELATIONS, "image of", "attribute of")}
    words = {word: unit_vector(random, config.dimension) for word in config.words}
    pictures = {word: unit_vector(random, config.dimension) for word in config.words}
    names = made_names(random, config.num_train + config.num_valid + config.num_test)
    questions = [_question(config, name, words, pictures, random) for name in names]
    first, second = config.num_train, config.num_train + config.num_valid
    return QuestionSet(
        train=questions[:first],
        valid=questions[first:second],
        test=questions[second:],
        relation_RD=np.stack(list(codes.values())),
        embedder=f"random codes {random_seed}",
        told={"chance": 1 / len(config.words)},
    )


def shuffle_subgraphs(questions: Sequence[GraphQuestion], *, random_seed: int = 0) -> list[GraphQuestion]:
    """Give each question the subgraph of another one: what is known is as much as before, and of no use."""
    if len(questions) < 2:
        raise ConfigError(f"subgraphs can be exchanged between two questions or more, found {len(questions)}")
    order = np.random.default_rng(random_seed).permutation(len(questions))
    other = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))  # one circle: none keeps its own
    return [replace(question, subgraph=questions[other[place]].subgraph) for place, question in enumerate(questions)]


def _measure(
    recipe: SyntheticRecipe,
    without: Mapping[str, Any] | None,
    learner: QuestionLearner,
    answers: Sequence[GivenAnswer],
) -> Measured:
    """The same questions with subgraphs of others, and beside it what was trained without any."""
    draws = recipe.bootstrap_draws
    asked = shuffle_subgraphs(learner.questions.test, random_seed=recipe.random_seed)
    exchanged = score_answers(learner.answer(asked), draws=draws)
    rows = [
        ["", "accuracy"],
        ["its own subgraph", interval_text(score_answers(answers, draws=draws).accuracy)],
        ["the subgraph of another question", interval_text(exchanged.accuracy)],
        ["chance", f"{1 / len(recipe.data.words):.4f}"],
    ]
    numbers = {"exchanged_subgraphs": exchanged.as_json()}
    if without is not None:
        rows.append(["trained without graph", interval_text(Interval(**without["accuracy"]))])
        numbers[WITHOUT_GRAPH] = without["accuracy"]
    return Measured(numbers=numbers, tables={"Where the answer comes from": rows})


def _question(
    config: SyntheticConfig,
    name: str,
    words: dict[str, Floats],
    pictures: dict[str, Floats],
    random: np.random.Generator,
) -> GraphQuestion:
    count = 1 + config.num_others  # the asked entity comes first
    colour = random.integers(len(config.words), size=count)
    shadow = random.integers(len(config.words), size=count)
    subgraph = (_with_triples if config.fact == "triple" else _with_pictures)(
        config, name, colour, shadow, words, pictures, random
    )
    by_triple = config.fact == "triple"
    return GraphQuestion(
        key=name,
        text=f"What is the colour {'of' if by_triple else 'next to'} {name}?",
        subgraph=subgraph,
        answer=config.words[int(colour[0 if by_triple else _next(len(colour))[0]])],
        choices=config.words,
        patches=random.normal(size=(1, _PATCH_WIDTH)).astype(np.float32),
    )


def _with_triples(
    config: SyntheticConfig,
    name: str,
    colour: Ints,
    shadow: Ints,
    words: dict[str, Floats],
    _pictures: dict[str, Floats],
    random: np.random.Generator,
) -> MultimodalSubgraph:
    """Entities, then the words that are said of them; a colour and a shadow of each, in random order."""
    count = len(colour)
    entity = np.arange(count)
    said, place = np.unique(np.concatenate([colour, shadow]), return_inverse=True)
    order = random.permutation(len(said))  # so that a word's place says nothing
    place = count + np.argsort(order)[place]
    triples = np.concatenate(
        [
            np.stack([entity, np.full(count, _COLOUR), place[:count]], axis=1),
            np.stack([entity, np.full(count, _SHADOW), place[count:]], axis=1),
            np.stack([entity, np.full(count, _NEXT), _next(count)], axis=1),
        ]
    )
    triples = triples[random.permutation(len(triples))]
    mentioned = [config.words[word] for word in said[order].tolist()]
    return _assemble(config, name, count, triples, random, words={word: words[word] for word in mentioned})


def _with_pictures(
    config: SyntheticConfig,
    name: str,
    colour: Ints,
    _shadow: Ints,
    _words: dict[str, Floats],
    pictures: dict[str, Floats],
    random: np.random.Generator,
) -> MultimodalSubgraph:
    """Entities in a ring, each with a picture."""
    count = len(colour)
    entity = np.arange(count)
    triples = np.stack([entity, np.full(count, _NEXT), _next(count)], axis=1)
    shown: dict[int, list[Picture]] = {}
    for place, word in enumerate(colour.tolist()):
        vector = pictures[config.words[word]] + config.noise * unit_vector(random, config.dimension)
        shown[place] = [Picture(sha256=f"{name}/{place}", vector=vector.astype(np.float32))]
    return _assemble(config, name, count, triples, random, pictures=shown)


def _assemble(
    config: SyntheticConfig,
    name: str,
    count: int,
    triples: Ints,
    random: np.random.Generator,
    *,
    words: dict[str, Floats] | None = None,
    pictures: dict[int, list[Picture]] | None = None,
) -> MultimodalSubgraph:
    named: dict[str, Any] = {name: unit_vector(random, config.dimension)}
    named |= {f"{name}'s other {place}": unit_vector(random, config.dimension) for place in range(1, count)}
    named |= words or {}
    return assemble(
        entity_ids=list(named),
        labels=list(named),
        vectors=list(named.values()),
        src=triples[:, 0],
        relation=triples[:, 1],
        dst=triples[:, 2],
        num_relations=len(_RELATIONS),
        num_seeds=1,
        dimension=config.dimension,
        pictures=pictures,
    )


def _next(count: int) -> Ints:
    """Whom each entity stands next to: all stand in a ring."""
    return np.roll(np.arange(count), 1)


def unit_vector(random: np.random.Generator, dimension: int) -> Floats:
    """Return a vector of length 1 in a random direction."""
    vector = random.normal(size=dimension)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def made_names(random: np.random.Generator, count: int) -> list[str]:
    """Different made-up names of two or more syllables."""
    found: dict[str, None] = {}
    syllables = 2
    while len(found) < count:
        for _ in range(count):
            drawn = [random.choice(list(letters)) for _ in range(syllables) for letters in (_CONSONANTS, _VOWELS)]
            found.setdefault("".join(drawn).capitalize(), None)
        syllables += 1
    return list(found)[:count]
