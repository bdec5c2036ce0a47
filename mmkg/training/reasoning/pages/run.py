"""Runs that write first sentences: a recipe and pages in, a run's folder out, with scores of what was written.

Beside what a run on questions leaves (see :mod:`mmkg.training.reasoning.run`), ``metrics.json`` holds under ``texts``
scores of free-running text, and under ``teacher_forced`` those of the likeliest token after the right ones, which are
no generation; both once more under ``cut``, with what was written cut at its first full stop as the released code
does, which also takes the former for the latter. Beside them stand controls without a model, and paired differences to
them. All intervals draw pages, not sections.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mmkg.evaluation.answers import GivenAnswer
from mmkg.evaluation.text_report import text_comparison_table, text_table
from mmkg.evaluation.text_scores import TextScores, compare_texts, cut_sentence, score_texts
from mmkg.reasoners.llm import FrozenLlm
from mmkg.training.reasoning.own_language_model import open_own_language_model
from mmkg.training.reasoning.pages.data import PagesData, prepare_pages
from mmkg.training.reasoning.pages.recipe import PagesRecipe, open_page_recipe
from mmkg.training.reasoning.pages.texts import commonest_of, language_rows
from mmkg.training.reasoning.question_learner import QuestionLearner
from mmkg.training.reasoning.run import Measured, evaluate_questions, summarise_text_runs, train_questions
from mmkg.training.run_folder import METRICS_FILE, check_run_folder, read_json, read_run_config
from mmkg.training.runner import Progress, run_seeds, say

SCORES = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider")
"""What tables show."""


def train_pages(
    recipe: PagesRecipe | str,
    run_folder: Path,
    *,
    data: Path,
    pictures_folder: Path | None = None,
    seeds: Sequence[int] | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train, write the first sentence of every test section, and leave a run folder.

    Args:
        recipe: a recipe or its name.
        run_folder: made if it is not there.
        data: a file of pages, or a folder with such files: TFRecords of WikiWeb2M or JSON lines like them.
        pictures_folder: files of their pictures; None for a graph of texts.
        seeds: several runs in folders ``seed-N``; None is one, with the recipe's own.
        resume: go on with what is in the folder; a finished run is only read.
        progress: called with one line of text now and then.

    Returns:
        The content of ``metrics.json``.

    Raises:
        ConfigError: the recipe does not fit, or there is no such folder of pictures.
        TrainingError: nothing is left to learn from or to report on, or see :func:`train_questions`.
        DumpError: a file is missing or not what its name says.
    """
    recipe = open_page_recipe(recipe) if isinstance(recipe, str) else recipe
    pages = prepare_pages(recipe, data, pictures_folder=pictures_folder)
    questions = pages.questions
    clusters = len({question.cluster for question in questions.test})
    say(
        progress,
        f"{len(questions.train):,} sections to learn from, {len(questions.test):,} of {clusters:,} pages to report on",
    )
    inputs = {
        "data": str(data.resolve()),
        "pictures": None if pictures_folder is None else str(pictures_folder.resolve()),
    }

    def train_one(one: PagesRecipe, folder: Path, resume: bool, progress: Progress | None) -> dict[str, Any]:
        if (folder / METRICS_FILE).exists() and resume:
            return read_json(folder / METRICS_FILE)
        check_run_folder(folder, one, resume=resume)  # before the minutes of a language model
        return train_questions(
            one,
            questions,
            folder,
            inputs=inputs,
            measure=partial(_measure, one, pages),
            llm=_language_model(one, pages, folder, progress),
            resume=resume,
            progress=progress,
        )

    if seeds is None:
        return train_one(recipe, run_folder, resume, progress)
    summarise = partial(summarise_text_runs, SCORES)
    return run_seeds(recipe, run_folder, seeds, train_one, summarise, resume=resume, progress=progress)


def evaluate_pages(
    run_folder: Path, *, split: str = "test", data: Path | None = None, pictures_folder: Path | None = None
) -> dict[str, Any]:
    """Write the first sentences of a split again; leave ``metrics-SPLIT.json`` and ``report-SPLIT.html``.

    Args:
        run_folder: of a finished run.
        split: train | valid | test, by page as then.
        data: where the pages are now; None is where they were.
        pictures_folder: likewise, of their pictures.

    Raises:
        ConfigError: no split is called so.
        TrainingError: there is no such run, or its language model or embedder is another than then.
    """
    recipe, config = read_run_config(run_folder, PagesRecipe)
    if pictures_folder is None and config["pictures"] is not None:
        pictures_folder = Path(config["pictures"])
    pages = prepare_pages(recipe, data or Path(config["data"]), pictures_folder=pictures_folder)
    llm = _language_model(recipe, pages, run_folder, None)
    asked = pages.reporting(split)
    measure = partial(_measure, recipe, asked)
    return evaluate_questions(recipe, asked.questions, run_folder, split=split, measure=measure, llm=llm)


# --- parts -----------------------------------------------------------------------------------------------------------


def _language_model(recipe: PagesRecipe, pages: PagesData, run_folder: Path, progress: Progress | None) -> FrozenLlm:
    return open_own_language_model(
        recipe.llm,
        language_rows(pages.train_pages, pages.questions.valid),
        run_folder,
        language=recipe.language,
        epochs=recipe.language_epochs,
        random_seed=recipe.random_seed,
        device=recipe.device,
        about="sentences of the pages to learn from",
        progress=progress,
    )


def _measure(
    recipe: PagesRecipe, pages: PagesData, learner: QuestionLearner, answers: Sequence[GivenAnswer]
) -> Measured:
    """Scores of what was written, of what is likeliest after the right words, and of the controls."""
    questions = learner.questions.test
    right, clusters = [question.answer for question in questions], [question.cluster for question in questions]

    def scored(texts: Sequence[str]) -> TextScores:
        draws, seed = recipe.bootstrap_draws, recipe.random_seed
        return score_texts(texts, right, clusters=clusters, draws=draws, random_seed=seed)

    free, forced = [answer.given for answer in answers], learner.write_forced(questions)
    written, guessed = scored(free), scored(forced)
    controls = {name: scored([said[question.key] for question in questions]) for name, said in pages.controls.items()}
    controls["commonest first sentence"] = scored([commonest_of(pages.sentences)] * len(questions))
    differences = {
        f"{recipe.name} − {name}": compare_texts(
            written, control, draws=recipe.bootstrap_draws, random_seed=recipe.random_seed
        )
        for name, control in controls.items()
    }
    cut: dict[str, TextScores] = {}
    if recipe.cut_predictions:
        cut = {"texts": scored([*map(cut_sentence, free)]), "teacher_forced": scored([*map(cut_sentence, forced)])}
    return Measured(
        numbers={
            "texts": written.as_json(),
            "teacher_forced": guessed.as_json(),
            "cut": {name: found.as_json() for name, found in cut.items()},
            "controls": {name: found.as_json() for name, found in controls.items()},
            "differences": {
                name: {score: found[score].as_json() for score in SCORES} for name, found in differences.items()
            },
            "left_out_by_diffusion": recipe.model.left_out,
        },
        tables={
            f"Written freely ({len(questions):,} sections of {len(set(clusters)):,} pages)": _table(
                {recipe.name: written, **controls}
            ),
            "Against controls": text_comparison_table(differences, scores=SCORES),
            "Teacher-forced: the likeliest token after the right ones, no generation": _table({recipe.name: guessed}),
            **({"Cut at the first full stop, as the released code does": _table(cut)} if cut else {}),
        },
    )


def _table(systems: Mapping[str, TextScores]) -> list[list[str]]:
    return text_table({name: found.scores for name, found in systems.items()}, scores=SCORES)
