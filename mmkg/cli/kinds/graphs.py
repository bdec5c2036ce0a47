"""Link prediction, contrastive training, and language models: learnt from a build, from pictures, from texts."""

from collections.abc import Mapping
from typing import Any

from mmkg.cli.kinds.base import Evaluated, Evaluating, Kind, Learning, asked_seeds, evaluated_split, given_folder
from mmkg.errors import ConfigError


def _link_prediction(asked: Learning) -> dict[str, Any]:
    from mmkg.builds import find_build_folder
    from mmkg.training.recipes import open_recipe
    from mmkg.training.run import train

    return train(
        open_recipe(asked.recipe, asked.changes),
        find_build_folder(asked.build or ""),
        asked.run_folder,
        seeds=asked_seeds(asked),
        resume=asked.resume,
        progress=asked.progress,
    )


def _contrastive(asked: Learning) -> dict[str, Any]:
    from mmkg.training.contrastive.recipe import open_contrastive_recipe
    from mmkg.training.contrastive.run import train_contrastive

    recipe = open_contrastive_recipe(asked.recipe, asked.changes)
    return train_contrastive(
        recipe, given_folder(asked.pictures), asked.run_folder, resume=asked.resume, progress=asked.progress
    )


def _language(asked: Learning) -> dict[str, Any]:
    from mmkg.training.language.recipe import open_language_recipe
    from mmkg.training.language.run import train_language

    if asked.resume:
        raise ConfigError(f"{asked.recipe} takes minutes and cannot be gone on with; train it anew in another --run")
    recipe = open_language_recipe(asked.recipe, asked.changes)
    return train_language(recipe, given_folder(asked.data), asked.run_folder, progress=asked.progress)


def _evaluate_link_prediction(asked: Evaluating) -> Evaluated:
    from mmkg.builds import find_build_folder
    from mmkg.training.run import evaluate_run

    tables = find_build_folder(asked.build) if asked.build else None
    return evaluated_split(
        asked,
        lambda split: evaluate_run(asked.run_folder, tables_folder=tables, split=split, against=asked.against),
    )


def _evaluate_contrastive(asked: Evaluating) -> Evaluated:
    from mmkg.training.contrastive.run import evaluate_contrastive_run

    return evaluated_split(
        asked, lambda split: evaluate_contrastive_run(asked.run_folder, pictures_folder=asked.pictures, split=split)
    )


def _evaluate_language(asked: Evaluating) -> Evaluated:
    raise ConfigError(
        f"{asked.run_folder}: a language model is measured once, when it is trained; see "
        f"{asked.run_folder / 'metrics.json'}"
    )


def _list_link_prediction() -> tuple[str, ...]:
    from mmkg.training.recipes import list_recipes

    return list_recipes()


def _list_contrastive() -> tuple[str, ...]:
    from mmkg.training.contrastive.recipe import list_contrastive_recipes

    return list_contrastive_recipes()


def _list_language() -> tuple[str, ...]:
    from mmkg.training.language.recipe import list_language_recipes

    return list_language_recipes()


KINDS: Mapping[str, Kind] = {  # by the start of the recipe's name
    "link_prediction/": Kind(
        list_recipes=_list_link_prediction,
        needs=("build",),
        several_seeds=True,
        train=_link_prediction,
        asked_by=("build", "split", "against"),
        evaluate=_evaluate_link_prediction,
    ),
    "contrastive/": Kind(
        list_recipes=_list_contrastive,
        needs=("pictures",),
        train=_contrastive,
        asked_by=("pictures", "split"),
        evaluate=_evaluate_contrastive,
    ),
    "language/": Kind(
        list_recipes=_list_language, needs=("data",), train=_language, asked_by=(), evaluate=_evaluate_language
    ),
}
