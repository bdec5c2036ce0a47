"""The language model of a run that brings its own: trained on texts of entities that are not held out.

What a class is called it can only have read there: names and descriptions of other entities, and of the classes
themselves. It is small and has read little, so of classes that no question of train has it knows next to nothing; that
is its limit and not the graph's, which is why answers by vectors stand beside it.
"""

from collections.abc import Iterator
from pathlib import Path

from mmkg.reasoners.llm import FrozenLlm
from mmkg.training.reasoning.classes.data import ClassesData
from mmkg.training.reasoning.classes.recipe import ClassesRecipe
from mmkg.training.reasoning.own_language_model import LanguageRow, open_own_language_model
from mmkg.training.runner import Progress


def open_class_language_model(
    recipe: ClassesRecipe, data: ClassesData, run_folder: Path, *, progress: Progress | None = None
) -> FrozenLlm:
    """Return the language model of a recipe; its own one is trained first, unless the run has it already.

    Args:
        recipe: of the run.
        data: whose texts it learns from.
        run_folder: of the run; an own model lies in ``language_model/``.
        progress: called with one line of text now and then.
    """
    return open_own_language_model(
        recipe.llm,
        language_rows(data),
        run_folder,
        language=recipe.language,
        epochs=recipe.language_epochs,
        random_seed=recipe.random_seed,
        device=recipe.device,
        about="names and descriptions",
        progress=progress,
    )


def language_rows(data: ClassesData) -> Iterator[LanguageRow]:
    """Names and descriptions of entities that are not held out, and of train entities the class too."""
    split, markg = data.split, data.markg
    hidden = {*split.valid, *split.test_seen, *split.test_unseen}
    for entity, (name, description) in enumerate(zip(markg.names, markg.descriptions, strict=True)):
        if entity not in hidden:
            yield "train", "statement", "", ": ".join(part for part in (name, description) if part)
    for part, questions in (("train", data.questions.train), ("valid", data.questions.valid)):
        for one in questions:
            yield part, "class", one.text, one.answer
