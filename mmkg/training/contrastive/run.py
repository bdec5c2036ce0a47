"""Contrastive runs: a recipe and a folder of captioned pictures in, a run's folder out.

Beside what every run's folder holds (see :mod:`mmkg.training.runner`), there are at the end ``model/`` (the best model
by valid recall, as open_clip loads it, in place of ``model.safetensors``), ``learning_curve.png`` and ``report.html``.
All figures are those of ``model/``, loaded by open_clip with its own preprocessing and float16 weights: what is
measured is what is shipped.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmkg.embeddings.atlas_tokenizer import AtlasTokenizer, make_vocabulary
from mmkg.errors import ConfigError, TrainingError
from mmkg.shards import write_bytes, write_json
from mmkg.training.contrastive.learner import ContrastiveLearner, loop_settings
from mmkg.training.contrastive.model import export_model, make_model, open_exported
from mmkg.training.contrastive.pictures import (
    TRAIN,
    VALID,
    CaptionedPictures,
    Int64Array,
    digest_of_pictures,
    read_captioned_pictures,
)
from mmkg.training.contrastive.recipe import ContrastiveRecipe, open_contrastive_recipe
from mmkg.training.contrastive.report import Example, make_contrastive_report, plot_learning
from mmkg.training.contrastive.retrieval import (
    FloatArray,
    measure_captions,
    measure_look_alikes,
    one_caption_a_statement,
    specific_captions,
)
from mmkg.training.distributed import Processes
from mmkg.training.hardware import choose_device, using_threads
from mmkg.training.loop import TrainingLoop
from mmkg.training.run_folder import (
    CONFIG,
    CURVE,
    ENVIRONMENT,
    REPORT,
    read_history,
    read_json,
)
from mmkg.training.runner import OpenedRun, Progress, run_to_end, training_summary

MODEL_FOLDER = "model"
HOW = (
    "Each statement is asked once; a caption that is true of several pictures has several right answers. 'specific' is "
    "the caption of each picture that is true of the fewest pictures of the split, 'all' every statement, the others "
    "the kinds of the index. Intervals hold 95 % of 1,000 bootstrap draws of what is shown, or of captions; chance is "
    "a random order."
)
_EXAMPLES, _FOUND = 24, 3
_ROWS_AT_ONCE = 256


def train_contrastive(
    recipe: ContrastiveRecipe | str,
    pictures_folder: Path,
    run_folder: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train by a recipe, evaluate on every split but train, and leave a run folder.

    Args:
        recipe: a recipe or its name.
        pictures_folder: holds ``index.tsv`` and the pictures it names.
        run_folder: made if it is not there.
        resume: go on with what is in ``run_folder``; a finished run is only read.
        progress: called with one line of text now and then.

    Returns:
        The content of ``metrics.json``.

    Raises:
        TrainingError: the folder holds a run already and ``resume`` is off, or one by another recipe or of other
            pictures; pictures are missing; training diverges.
        ConfigError: the recipe does not fit the machine.
        NotInstalled: open_clip is not there.
    """
    recipe = open_contrastive_recipe(recipe) if isinstance(recipe, str) else recipe

    @contextmanager
    def open_run(processes: Processes) -> Iterator[OpenedRun]:
        with _opened(recipe, pictures_folder) as (learner, counts):
            settings = loop_settings(recipe)
            loop = TrainingLoop(learner, settings, device=learner.device, processes=processes, progress=progress)
            yield OpenedRun(loop=loop, environment=counts)

    def finish(loop: TrainingLoop) -> dict[str, Any]:
        splits = read_captioned_pictures(pictures_folder)
        tokens = make_vocabulary(splits[TRAIN].texts, recipe.vocabulary_size)
        export_model(run_folder / MODEL_FOLDER, loop.best, recipe, tokens)
        with using_threads(recipe.threads):
            return _finish(run_folder, recipe, splits, loop)

    inputs = {"pictures": str(pictures_folder.resolve())}
    return run_to_end(
        recipe, run_folder, open_run, finish, inputs=inputs, resume=resume, keep_best=False, progress=progress
    )


def evaluate_contrastive_run(
    run_folder: Path, *, pictures_folder: Path | None = None, split: str = "test"
) -> dict[str, Any]:
    """Measure a run's model on a split; write ``metrics-SPLIT.json`` and ``report-SPLIT.html``.

    Args:
        run_folder: of a finished run.
        pictures_folder: other pictures, or where they are now; None is where they were.
        split: of them.

    Raises:
        TrainingError: there is no finished run in the folder, or pictures are missing.
        ConfigError: no split is called so.
    """
    if not (run_folder / MODEL_FOLDER).exists():
        raise TrainingError(f"{run_folder}: no finished contrastive run here ({MODEL_FOLDER}/ is missing)")
    config = read_json(run_folder / CONFIG)
    recipe = ContrastiveRecipe(**config["recipe"])
    splits = read_captioned_pictures(pictures_folder or Path(config["pictures"]))
    if split not in splits:
        raise ConfigError(f"no split is called '{split}' here. Known: {', '.join(sorted(splits))}.")
    with using_threads(recipe.threads):
        measured, examples = _measure(run_folder / MODEL_FOLDER, {split: splits[split]}, recipe.random_seed)
    metrics = {"name": recipe.name, "how": HOW, "splits": measured}
    settings = {**recipe.model_dump(), **read_json(run_folder / ENVIRONMENT)}
    page = make_contrastive_report(f"{recipe.name} on {split}", metrics, None, examples, settings)
    write_bytes(run_folder / f"report-{split}.html", page.encode())
    write_json(run_folder / f"metrics-{split}.json", metrics)
    return metrics


def measure_model(
    model_folder: Path, splits: Mapping[str, CaptionedPictures], *, random_seed: int = 0
) -> dict[str, Any]:
    """Return the retrieval figures of an exported model: split -> captions and look-alikes.

    Raises:
        TrainingError: a picture cannot be read.
        NotInstalled: open_clip is not there.
    """
    return _measure(model_folder, splits, random_seed)[0]


# --- parts -----------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(recipe: ContrastiveRecipe, pictures_folder: Path) -> Iterator[tuple[ContrastiveLearner, dict[str, int]]]:
    """A new model with its pictures, and how many there are of each split; torch is put back as it was after."""
    splits = read_captioned_pictures(pictures_folder)
    tokens = make_vocabulary(splits[TRAIN].texts, recipe.vocabulary_size)
    device = choose_device(recipe.device)
    random = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    with random, using_threads(recipe.threads):
        torch.manual_seed(recipe.random_seed)
        learner = ContrastiveLearner(
            recipe,
            splits[TRAIN],
            splits.get(VALID),
            make_model(recipe, len(tokens)).to(device),
            AtlasTokenizer.of(tokens, recipe.context_length),
            data_digest=digest_of_pictures(pictures_folder, splits),
            device=device,
        )
        yield learner, {f"{split}_pictures": len(pictures.files) for split, pictures in splits.items()}


def _finish(
    folder: Path, recipe: ContrastiveRecipe, splits: dict[str, CaptionedPictures], loop: TrainingLoop
) -> dict[str, Any]:
    """Measure, write plot and report; return the metrics."""
    held_out = {split: pictures for split, pictures in splits.items() if split != TRAIN}
    measured, examples = _measure(folder / MODEL_FOLDER, held_out, recipe.random_seed)
    metrics: dict[str, Any] = {
        "name": recipe.name,
        "how": HOW,
        "splits": measured,
        "training": {**training_summary(loop), "best_valid_recall_at_1": loop.position.best_score},
    }
    curve = plot_learning(read_history(folder))
    write_bytes(folder / CURVE, curve)
    settings = {**recipe.model_dump(), **read_json(folder / ENVIRONMENT)}
    page = make_contrastive_report(recipe.name, metrics, curve, examples, settings)
    write_bytes(folder / REPORT, page.encode())
    return metrics


def _measure(
    model_folder: Path, splits: Mapping[str, CaptionedPictures], random_seed: int
) -> tuple[dict[str, Any], list[Example]]:
    """Figures of each split, and some captions with what they found."""
    model, preprocess, tokenizer = open_exported(model_folder)
    measured: dict[str, Any] = {}
    examples: list[Example] = []
    for split, pictures in splits.items():
        image_PD = _encode(model.encode_image, torch.stack([preprocess(one) for one in pictures.open_pictures()]))
        texts, row_of = np.unique(np.array(pictures.texts), return_inverse=True)
        text_CD = _encode(model.encode_text, tokenizer(texts.tolist()))[row_of]
        every, kinds = np.arange(len(pictures.texts)), np.array(pictures.kinds)
        asked = {"specific": specific_captions(pictures), "all": every}
        if len(set(pictures.kinds)) > 1:
            asked |= {kind: every[kinds == kind] for kind in sorted(set(pictures.kinds))}
        captions = {name: one_caption_a_statement(pictures, places) for name, places in asked.items()}
        measured[split] = {
            "num_pictures": len(pictures.files),
            "captions": {
                name: measure_captions(image_PD, text_CD[places], pictures, places, random_seed=random_seed)
                for name, places in captions.items()
            },
            "look_alikes": measure_look_alikes(image_PD, pictures, random_seed=random_seed),
        }
        examples += _examples(split, pictures, image_PD, text_CD, captions["all"])
    return measured, examples


def _encode(encode: Any, batch: torch.Tensor) -> FloatArray:
    with torch.no_grad():
        parts = [encode(part, normalize=True) for part in torch.split(batch, _ROWS_AT_ONCE)]
    return np.asarray(torch.cat(parts).numpy())


def _examples(
    split: str, pictures: CaptionedPictures, image_PD: FloatArray, text_CD: FloatArray, captions: Int64Array
) -> list[Example]:
    """Some captions at even distances, and the pictures nearest to each."""
    chosen = captions[np.linspace(0, len(captions) - 1, min(_EXAMPLES, len(captions))).astype(int)]
    images = list(pictures.open_pictures())
    found = []
    for caption in chosen.tolist():
        right = pictures.truth[:, [int(pictures.statement_of[caption])]].toarray().ravel() > 0
        nearest = np.argsort(-(image_PD @ text_CD[caption]), kind="stable")[:_FOUND].tolist()
        found.append(
            Example(
                split=split,
                caption=pictures.texts[caption],
                num_right=int(right.sum()),
                found=[(images[place], bool(right[place])) for place in nearest],
            )
        )
    return found
