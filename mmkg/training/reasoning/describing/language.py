"""The language model of a run that brings its own: trained on names and descriptions of train entities alone."""

from collections.abc import Iterator
from pathlib import Path

from mmkg.reasoners.llm import FrozenLlm
from mmkg.training.reasoning.describing.data import DescribingData
from mmkg.training.reasoning.describing.recipe import DescribingRecipe
from mmkg.training.reasoning.own_language_model import LanguageRow, open_own_language_model
from mmkg.training.runner import Progress


def open_language_model(
    recipe: DescribingRecipe, data: DescribingData, run_folder: Path, *, progress: Progress | None = None
) -> FrozenLlm:
    """Return the language model of a recipe; its own one is trained first, unless the run has it already.

    Args:
        recipe: of the run.
        data: whose train entities it learns from.
        run_folder: of the run; an own model lies in ``language_model/``.
        progress: called with one line of text now and then.
    """
    return open_own_language_model(
        recipe.llm,
        _rows(data),
        run_folder,
        language=recipe.language,
        epochs=recipe.language_epochs,
        random_seed=recipe.random_seed,
        device=recipe.device,
        about="names and descriptions",
        progress=progress,
    )


def _rows(data: DescribingData) -> Iterator[LanguageRow]:
    """Names and descriptions as statements of their own: which name has which description is for the run to learn."""
    hidden = {*data.split.valid.tolist(), *data.split.test.tolist()}
    for entity, (name, shown) in enumerate(zip(data.graph.names, data.shown, strict=True)):
        if entity not in hidden:
            yield "train", "statement", "", name
        if shown is not None:
            yield "train", "statement", "", shown
    for one in data.split.valid.tolist():
        yield "valid", "statement", "", data.graph.descriptions[one] or ""
