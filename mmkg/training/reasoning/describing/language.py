"""The language model of a run that brings its own: trained on names and descriptions of train entities alone."""

from pathlib import Path

from mmkg.reasoners.llm import FrozenLlm, open_llm
from mmkg.shards import write_bytes
from mmkg.training.hardware import choose_device
from mmkg.training.language.recipe import open_language_recipe
from mmkg.training.language.run import MODEL_FOLDER, train_language
from mmkg.training.language.text import TEXT_FILE
from mmkg.training.reasoning.describing.data import DescribingData
from mmkg.training.reasoning.describing.recipe import OWN, DescribingRecipe
from mmkg.training.run_folder import METRICS_FILE
from mmkg.training.runner import Progress, say

FOLDER = "language_model"


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
    device = choose_device(recipe.device)
    if recipe.llm.model != OWN:
        return open_llm(recipe.llm, device=device)
    folder = run_folder / FOLDER
    trained = folder / "run"
    if not (trained / METRICS_FILE).exists():
        say(progress, "a language model of names and descriptions")
        for path in sorted(trained.glob("**/*"), reverse=True):  # of a run that was ended; it is not gone on with
            path.unlink() if path.is_file() else path.rmdir()
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / TEXT_FILE, _texts(data).encode())
        changes = {"epochs": recipe.language_epochs, "random_seed": recipe.random_seed, "device": recipe.device}
        train_language(open_language_recipe(recipe.language, changes), folder, trained, progress=progress)
    return open_llm(recipe.llm.model_copy(update={"model": str(trained / MODEL_FOLDER)}), device=device)


def _texts(data: DescribingData) -> str:
    """Rows of ``text.tsv``: of a described train entity its name and what it is, of every other its name alone."""
    lines = ["split\tkind\tprompt\tanswer"]
    hidden = {*data.split.valid.tolist(), *data.split.test.tolist()}
    for entity, (name, shown) in enumerate(zip(data.graph.names, data.shown, strict=True)):
        if shown is not None:
            lines.append(f"train\tdescription\t{_cell(name)}\t{_cell(shown)}")
        elif entity not in hidden:
            lines.append(f"train\tstatement\t\t{_cell(name)}")
    names, said = data.graph.names, data.graph.descriptions
    lines += [f"valid\tdescription\t{_cell(names[one])}\t{_cell(said[one])}" for one in data.split.valid.tolist()]
    return "\n".join(lines) + "\n"


def _cell(text: str | None) -> str:
    return " ".join((text or "").split())
