"""MR-MKG: questions with a subgraph, ScienceQA, scenes, MARS."""

from collections.abc import Mapping
from typing import Any, TypeVar

from mmkg.cli.kinds.base import Evaluated, Evaluating, Kind, Learning, asked_seeds, evaluated_split, given_folder
from mmkg.errors import ConfigError

_Recipe = TypeVar("_Recipe")


def _reasoning_recipe(asked: Learning, kind: type[_Recipe]) -> _Recipe:
    """The recipe that was asked for, with its changes; its name's start has chosen its kind."""
    from mmkg.training.reasoning.recipe import open_reasoning_recipe

    recipe = open_reasoning_recipe(asked.recipe, asked.changes)
    if not isinstance(recipe, kind):
        raise ConfigError(f"{asked.recipe}: expected a {kind.__name__}, found a {type(recipe).__name__}")
    return recipe


def _mars(asked: Learning) -> dict[str, Any]:
    from mmkg.training.reasoning.mars.recipe import open_mars_recipe
    from mmkg.training.reasoning.mars.run import train_mars

    return train_mars(
        open_mars_recipe(asked.recipe, asked.changes),
        given_folder(asked.data),
        asked.run_folder,
        seeds=asked_seeds(asked),
        resume=asked.resume,
        progress=asked.progress,
    )


def _scienceqa(asked: Learning) -> dict[str, Any]:
    from mmkg.builds import find_build_folder
    from mmkg.training.reasoning.recipe import ScienceQaRecipe
    from mmkg.training.reasoning.scienceqa import train_scienceqa

    return train_scienceqa(
        _reasoning_recipe(asked, ScienceQaRecipe),
        given_folder(asked.data),
        find_build_folder(asked.build) if asked.build else None,
        asked.run_folder,
        pictures_folder=asked.pictures,
        resume=asked.resume,
        progress=asked.progress,
    )


def _synthetic(asked: Learning) -> dict[str, Any]:
    from mmkg.training.reasoning.recipe import SyntheticRecipe
    from mmkg.training.reasoning.synthetic import train_synthetic

    return train_synthetic(
        _reasoning_recipe(asked, SyntheticRecipe), asked.run_folder, resume=asked.resume, progress=asked.progress
    )


def _scenes(asked: Learning) -> dict[str, Any]:
    from mmkg.training.reasoning.recipe import SceneRecipe
    from mmkg.training.reasoning.scene_pretraining import train_scenes

    return train_scenes(
        _reasoning_recipe(asked, SceneRecipe),
        given_folder(asked.data),
        asked.run_folder,
        pictures_folder=asked.pictures,
        resume=asked.resume,
        progress=asked.progress,
    )


def _evaluate_mars(asked: Evaluating) -> Evaluated:
    from mmkg.training.reasoning.mars.run import evaluate_mars

    metrics = evaluate_mars(asked.run_folder, data_folder=asked.data, against=asked.against)
    return metrics, asked.run_folder / "report.html"


def _evaluate_scienceqa(asked: Evaluating) -> Evaluated:
    from mmkg.builds import find_build_folder
    from mmkg.training.reasoning.scienceqa import evaluate_scienceqa

    build = find_build_folder(asked.build) if asked.build else None
    return evaluated_split(
        asked,
        lambda split: evaluate_scienceqa(
            asked.run_folder,
            split=split,
            data_folder=asked.data,
            build_folder=build,
            pictures_folder=asked.pictures,
        ),
    )


def _evaluate_synthetic(asked: Evaluating) -> Evaluated:
    from mmkg.training.reasoning.synthetic import evaluate_synthetic

    return evaluated_split(asked, lambda split: evaluate_synthetic(asked.run_folder, split=split))


def _evaluate_scenes(asked: Evaluating) -> Evaluated:
    from mmkg.training.reasoning.scene_pretraining import evaluate_scenes

    return evaluated_split(
        asked,
        lambda split: evaluate_scenes(
            asked.run_folder, split=split, data_folder=asked.data, pictures_folder=asked.pictures
        ),
    )


def _of_questions(prefix: str) -> tuple[str, ...]:
    from mmkg.training.reasoning.recipe import list_reasoning_recipes

    return tuple(name for name in list_reasoning_recipes() if name.startswith(prefix))


def _list_mr_mkg_mars() -> tuple[str, ...]:
    from mmkg.training.reasoning.mars.recipe import list_mars_recipes

    return list_mars_recipes()


def _list_mr_mkg_scienceqa() -> tuple[str, ...]:
    return _of_questions("mr_mkg/scienceqa")


def _list_mr_mkg_synthetic() -> tuple[str, ...]:
    return _of_questions("mr_mkg/synthetic")


def _list_mr_mkg_pretrain() -> tuple[str, ...]:
    return _of_questions("mr_mkg/pretrain")


KINDS: Mapping[str, Kind] = {  # by the start of the recipe's name
    "mr_mkg/mars": Kind(
        list_recipes=_list_mr_mkg_mars,
        needs=("data",),
        several_seeds=True,
        train=_mars,
        asked_by=("data", "against"),
        evaluate=_evaluate_mars,
    ),
    "mr_mkg/scienceqa": Kind(
        list_recipes=_list_mr_mkg_scienceqa,
        needs=("data",),
        may_have=("build", "pictures"),
        train=_scienceqa,
        asked_by=("data", "build", "pictures", "split"),
        evaluate=_evaluate_scienceqa,
    ),
    "mr_mkg/synthetic": Kind(
        list_recipes=_list_mr_mkg_synthetic,
        needs=(),
        train=_synthetic,
        asked_by=("split",),
        evaluate=_evaluate_synthetic,
    ),
    "mr_mkg/pretrain": Kind(
        list_recipes=_list_mr_mkg_pretrain,
        needs=("data",),
        may_have=("pictures",),
        train=_scenes,
        asked_by=("data", "pictures", "split"),
        evaluate=_evaluate_scenes,
    ),
}
