"""The language model of a run that brings its own: trained first, on texts of what the run may learn from alone."""

from collections.abc import Iterable
from pathlib import Path

from mmkg.reasoners.llm import FrozenLlm, open_llm
from mmkg.reasoners.llm_config import LlmConfig
from mmkg.shards import write_bytes
from mmkg.training.hardware import choose_device
from mmkg.training.language.recipe import open_language_recipe
from mmkg.training.language.run import MODEL_FOLDER, train_language
from mmkg.training.language.text import TEXT_FILE
from mmkg.training.run_folder import METRICS_FILE
from mmkg.training.runner import Progress, say

OWN = "own"
"""As `llm.model` of a recipe: a language model that is trained first."""
FOLDER = "language_model"

LanguageRow = tuple[str, str, str, str]
"""Split (train, valid or test), kind, prompt and answer; a statement has no prompt."""


def open_own_language_model(
    config: LlmConfig,
    rows: Iterable[LanguageRow],
    run_folder: Path,
    *,
    language: str,
    epochs: int,
    random_seed: int,
    device: str,
    about: str,
    progress: Progress | None = None,
) -> FrozenLlm:
    """Return the language model of a recipe; its own one is trained first, unless the run has it already.

    Args:
        config: of the recipe; where `model` is not "own", it is opened as it says and nothing is trained.
        rows: what an own model learns; not read where it is there already. Tabs and line ends become spaces.
        run_folder: of the run; an own model lies in ``language_model/``.
        language: recipe of an own model, see :mod:`mmkg.training.language.recipe`.
        epochs: passes over the rows.
        random_seed: of the own model.
        device: cpu | cuda | auto.
        about: what the rows are of, for the progress.
        progress: called with one line of text now and then.

    Raises:
        ConfigError: no recipe is called so, or the model cannot be had.
        TrainingError: there is no train row, or training diverges.
    """
    chosen = choose_device(device)
    if config.model != OWN:
        return open_llm(config, device=chosen)
    folder = run_folder / FOLDER
    trained = folder / "run"
    if not (trained / METRICS_FILE).exists():
        say(progress, f"a language model of {about}")
        for path in sorted(trained.glob("**/*"), reverse=True):  # of a run that was ended; it is not gone on with
            path.unlink() if path.is_file() else path.rmdir()
        folder.mkdir(parents=True, exist_ok=True)
        lines = ["split\tkind\tprompt\tanswer", *("\t".join(map(_cell, row)) for row in rows)]
        write_bytes(folder / TEXT_FILE, ("\n".join(lines) + "\n").encode())
        changes = {"epochs": epochs, "random_seed": random_seed, "device": device}
        train_language(open_language_recipe(language, changes), folder, trained, progress=progress)
    return open_llm(config.model_copy(update={"model": str(trained / MODEL_FOLDER)}), device=chosen)


def _cell(text: str) -> str:
    return " ".join(text.split())
