"""Graph4MM: descriptions and classes of entities, sections of pages, and ways whose answer lies hops away."""

from collections.abc import Mapping
from typing import Any

from mmkg.cli.kinds.base import Evaluated, Evaluating, Kind, Learning, asked_seeds, evaluated_split, given_folder


def _describing(asked: Learning) -> dict[str, Any]:
    from mmkg.builds import find_build_folder
    from mmkg.training.reasoning.describing.recipe import open_describing_recipe
    from mmkg.training.reasoning.describing.run import train_descriptions

    return train_descriptions(
        open_describing_recipe(asked.recipe, asked.changes),
        asked.run_folder,
        data_folder=asked.data,
        build_folder=find_build_folder(asked.build) if asked.build else None,
        seeds=asked_seeds(asked),
        resume=asked.resume,
        progress=asked.progress,
    )


def _paths(asked: Learning) -> dict[str, Any]:
    from mmkg.training.reasoning.paths import open_path_recipe, train_paths

    return train_paths(
        open_path_recipe(asked.recipe, asked.changes), asked.run_folder, resume=asked.resume, progress=asked.progress
    )


def _pages(asked: Learning) -> dict[str, Any]:
    from mmkg.training.reasoning.pages.recipe import open_page_recipe
    from mmkg.training.reasoning.pages.run import train_pages

    return train_pages(
        open_page_recipe(asked.recipe, asked.changes),
        asked.run_folder,
        data=given_folder(asked.data),
        pictures_folder=asked.pictures,
        seeds=asked_seeds(asked),
        resume=asked.resume,
        progress=asked.progress,
    )


def _classes(asked: Learning) -> dict[str, Any]:
    from mmkg.training.reasoning.classes.recipe import open_class_recipe
    from mmkg.training.reasoning.classes.run import train_classes

    return train_classes(
        open_class_recipe(asked.recipe, asked.changes),
        asked.run_folder,
        data_folder=given_folder(asked.data),
        seeds=asked_seeds(asked),
        resume=asked.resume,
        progress=asked.progress,
    )


def _evaluate_describing(asked: Evaluating) -> Evaluated:
    from mmkg.builds import find_build_folder
    from mmkg.training.reasoning.describing.run import evaluate_descriptions

    build = find_build_folder(asked.build) if asked.build else None
    return evaluated_split(
        asked,
        lambda split: evaluate_descriptions(asked.run_folder, split=split, data_folder=asked.data, build_folder=build),
    )


def _evaluate_paths(asked: Evaluating) -> Evaluated:
    from mmkg.training.reasoning.paths import evaluate_paths

    return evaluated_split(asked, lambda split: evaluate_paths(asked.run_folder, split=split))


def _evaluate_pages(asked: Evaluating) -> Evaluated:
    from mmkg.training.reasoning.pages.run import evaluate_pages

    return evaluated_split(
        asked,
        lambda split: evaluate_pages(asked.run_folder, split=split, data=asked.data, pictures_folder=asked.pictures),
    )


def _evaluate_classes(asked: Evaluating) -> Evaluated:
    from mmkg.training.reasoning.classes.run import evaluate_classes

    return evaluated_split(asked, lambda split: evaluate_classes(asked.run_folder, split=split, data_folder=asked.data))


def _list_graph4mm_describe() -> tuple[str, ...]:
    from mmkg.training.reasoning.describing.recipe import list_describing_recipes

    return list_describing_recipes()


def _list_graph4mm_paths() -> tuple[str, ...]:
    from mmkg.training.reasoning.paths import list_path_recipes

    return list_path_recipes()


def _list_graph4mm_pages() -> tuple[str, ...]:
    from mmkg.training.reasoning.pages.recipe import list_page_recipes

    return list_page_recipes()


def _list_graph4mm_classes() -> tuple[str, ...]:
    from mmkg.training.reasoning.classes.recipe import list_class_recipes

    return list_class_recipes()


KINDS: Mapping[str, Kind] = {  # by the start of the recipe's name
    "graph4mm/describe": Kind(
        list_recipes=_list_graph4mm_describe,
        needs=(),
        one_of=("data", "build"),
        several_seeds=True,
        train=_describing,
        asked_by=("data", "build", "split"),
        evaluate=_evaluate_describing,
    ),
    "graph4mm/paths": Kind(
        list_recipes=_list_graph4mm_paths, needs=(), train=_paths, asked_by=("split",), evaluate=_evaluate_paths
    ),
    "graph4mm/pages": Kind(
        list_recipes=_list_graph4mm_pages,
        needs=("data",),
        may_have=("pictures",),
        several_seeds=True,
        train=_pages,
        asked_by=("data", "pictures", "split"),
        evaluate=_evaluate_pages,
    ),
    "graph4mm/classes": Kind(
        list_recipes=_list_graph4mm_classes,
        needs=("data",),
        several_seeds=True,
        train=_classes,
        asked_by=("data", "split"),
        evaluate=_evaluate_classes,
    ),
}
