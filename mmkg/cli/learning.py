"""What each kind of recipe learns from, and how `mmkg train` and `mmkg evaluate` hand it over.

To add a kind: a prefix in ``KINDS`` with what it needs, and functions here that call its training and evaluation.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mmkg.errors import ConfigError, TrainingError, unknown_name

Progress = Callable[[str], None]
_Recipe = TypeVar("_Recipe")


@dataclass(frozen=True, kw_only=True)
class Learning:
    """What the command line was told.

    Attributes:
        recipe: its name.
        changes: key=value.
        run_folder: of the run.
        build, data, pictures: what to learn from; None where it was not given.
        seeds: how many.
        resume: go on with what is in the run's folder.
        progress: called with lines of text; None for none.
    """

    recipe: str
    changes: list[str]
    run_folder: Path
    build: str | None
    data: Path | None
    pictures: Path | None
    seeds: int
    resume: bool
    progress: Progress | None


@dataclass(frozen=True, kw_only=True)
class Evaluating:
    """What the command line was told of a run that is there.

    Attributes:
        run_folder: of the run.
        build, data, pictures: where they are now; None is where they were.
        split: None where it was not given.
        against: another run to compare with.
    """

    run_folder: Path
    build: str | None = None
    data: Path | None = None
    pictures: Path | None = None
    split: str | None = None
    against: Path | None = None


Evaluated = tuple[dict[str, Any], Path]  # metrics, and where the report is


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of recipe: which options it needs and may have, and what trains it; how its runs are evaluated.

    Where one of several options is needed, `one_of` names them.
    """

    needs: tuple[str, ...]
    one_of: tuple[str, ...] = ()
    may_have: tuple[str, ...] = ()
    several_seeds: bool = False
    train: Callable[[Learning], dict[str, Any]]
    asked_by: tuple[str, ...]  # options of its evaluation
    evaluate: Callable[[Evaluating], Evaluated]


def train_by_recipe(asked: Learning) -> dict[str, Any]:
    """Train by a recipe's name.

    Raises:
        ConfigError: no recipe is called so, or it learns from something else than was given.
    """
    known = list_all_recipes()
    if asked.recipe not in known:
        raise ConfigError(unknown_name("recipe", asked.recipe, known))
    kind = next(kind for prefix, kind in KINDS.items() if asked.recipe.startswith(prefix))
    given = {name: getattr(asked, name) for name in ("build", "data", "pictures")}
    missing = [f"--{name}" for name in kind.needs if given[name] is None]
    if kind.one_of and all(given[name] is None for name in kind.one_of):
        missing.append(" or ".join(f"--{name}" for name in kind.one_of))
    wrong = [f"--{name}" for name, value in given.items() if value is not None and name not in _options(kind)]
    if missing or wrong:
        needs = [f"--{name} {name.upper()}" for name in kind.needs]
        needs += [" or ".join(f"--{name} {name.upper()}" for name in kind.one_of)] if kind.one_of else []
        learns = " and ".join(needs) or "nothing but its own settings"
        told = f"missing: {', '.join(missing)}" if missing else f"leave out {', '.join(wrong)}"
        raise ConfigError(f"{asked.recipe} learns from {learns}; {told}")
    if asked.seeds > 1 and not kind.several_seeds:
        raise ConfigError(f"{asked.recipe} is trained one seed at a time: --set random_seed=1, and another --run")
    return kind.train(asked)


def evaluate_by_recipe(asked: Evaluating) -> Evaluated:
    """Evaluate a run again, by the recipe it was trained by.

    Raises:
        ConfigError: no recipe of ours made the run, or runs of its kind have no such option.
        TrainingError: there is no run.
    """
    from mmkg.training.run_folder import read_config

    run = asked.run_folder
    if not run.exists():
        raise TrainingError(f"{run}: no such run. `mmkg train RECIPE` makes one.")
    name = str(read_config(run)["recipe"].get("name"))
    kind = next((kind for prefix, kind in KINDS.items() if name.startswith(prefix)), None)
    if kind is None:
        raise ConfigError(f"{run}: a run of '{name}', which is no recipe of this version of mmkg")
    options = ("build", "data", "pictures", "split", "against")
    wrong = [f"--{option}" for option in options if getattr(asked, option) is not None and option not in kind.asked_by]
    if wrong:
        known = ", ".join(f"--{option}" for option in kind.asked_by) or "no option"
        raise ConfigError(f"{run}: a run of {name} is evaluated with {known}; leave out {', '.join(wrong)}")
    return kind.evaluate(asked)


def list_all_recipes() -> tuple[str, ...]:
    """The names of the recipes of every kind."""
    from mmkg.training.contrastive.recipe import list_contrastive_recipes
    from mmkg.training.language.recipe import list_language_recipes
    from mmkg.training.reasoning.describing.recipe import list_describing_recipes
    from mmkg.training.reasoning.mars.recipe import list_mars_recipes
    from mmkg.training.reasoning.paths import list_path_recipes
    from mmkg.training.reasoning.recipe import list_reasoning_recipes
    from mmkg.training.recipes import list_recipes

    return (
        *list_recipes(),
        *list_contrastive_recipes(),
        *list_language_recipes(),
        *list_mars_recipes(),
        *list_describing_recipes(),
        *list_path_recipes(),
        *list_reasoning_recipes(),
    )


def _options(kind: Kind) -> tuple[str, ...]:
    return (*kind.needs, *kind.one_of, *kind.may_have)


def _folder(path: Path | None) -> Path:
    if path is None:  # never: `needs` was checked
        raise ConfigError("a folder is missing")
    return path


def _several(asked: Learning) -> list[int] | None:
    return list(range(asked.seeds)) if asked.seeds > 1 else None


def _reasoning_recipe(asked: Learning, kind: type[_Recipe]) -> _Recipe:
    """The recipe that was asked for, with its changes; its name's start has chosen its kind."""
    from mmkg.training.reasoning.recipe import open_reasoning_recipe

    recipe = open_reasoning_recipe(asked.recipe, asked.changes)
    if not isinstance(recipe, kind):
        raise ConfigError(f"{asked.recipe}: expected a {kind.__name__}, found a {type(recipe).__name__}")
    return recipe


def _link_prediction(asked: Learning) -> dict[str, Any]:
    from mmkg.builds import find_build_folder
    from mmkg.training.recipes import open_recipe
    from mmkg.training.run import train

    return train(
        open_recipe(asked.recipe, asked.changes),
        find_build_folder(asked.build or ""),
        asked.run_folder,
        seeds=_several(asked),
        resume=asked.resume,
        progress=asked.progress,
    )


def _contrastive(asked: Learning) -> dict[str, Any]:
    from mmkg.training.contrastive.recipe import open_contrastive_recipe
    from mmkg.training.contrastive.run import train_contrastive

    recipe = open_contrastive_recipe(asked.recipe, asked.changes)
    return train_contrastive(
        recipe, _folder(asked.pictures), asked.run_folder, resume=asked.resume, progress=asked.progress
    )


def _language(asked: Learning) -> dict[str, Any]:
    from mmkg.training.language.recipe import open_language_recipe
    from mmkg.training.language.run import train_language

    if asked.resume:
        raise ConfigError(f"{asked.recipe} takes minutes and cannot be gone on with; train it anew in another --run")
    recipe = open_language_recipe(asked.recipe, asked.changes)
    return train_language(recipe, _folder(asked.data), asked.run_folder, progress=asked.progress)


def _mars(asked: Learning) -> dict[str, Any]:
    from mmkg.training.reasoning.mars.recipe import open_mars_recipe
    from mmkg.training.reasoning.mars.run import train_mars

    return train_mars(
        open_mars_recipe(asked.recipe, asked.changes),
        _folder(asked.data),
        asked.run_folder,
        seeds=_several(asked),
        resume=asked.resume,
        progress=asked.progress,
    )


def _scienceqa(asked: Learning) -> dict[str, Any]:
    from mmkg.builds import find_build_folder
    from mmkg.training.reasoning.recipe import ScienceQaRecipe
    from mmkg.training.reasoning.scienceqa import train_scienceqa

    return train_scienceqa(
        _reasoning_recipe(asked, ScienceQaRecipe),
        _folder(asked.data),
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
        _folder(asked.data),
        asked.run_folder,
        pictures_folder=asked.pictures,
        resume=asked.resume,
        progress=asked.progress,
    )


def _describing(asked: Learning) -> dict[str, Any]:
    from mmkg.builds import find_build_folder
    from mmkg.training.reasoning.describing.recipe import open_describing_recipe
    from mmkg.training.reasoning.describing.run import train_descriptions

    return train_descriptions(
        open_describing_recipe(asked.recipe, asked.changes),
        asked.run_folder,
        data_folder=asked.data,
        build_folder=find_build_folder(asked.build) if asked.build else None,
        seeds=_several(asked),
        resume=asked.resume,
        progress=asked.progress,
    )


def _paths(asked: Learning) -> dict[str, Any]:
    from mmkg.training.reasoning.paths import open_path_recipe, train_paths

    return train_paths(
        open_path_recipe(asked.recipe, asked.changes), asked.run_folder, resume=asked.resume, progress=asked.progress
    )


def _of_split(asked: Evaluating, evaluate: Callable[[str], dict[str, Any]]) -> Evaluated:
    split = asked.split or "test"
    return evaluate(split), asked.run_folder / f"report-{split}.html"


def _evaluate_link_prediction(asked: Evaluating) -> Evaluated:
    from mmkg.builds import find_build_folder
    from mmkg.training.run import evaluate_run

    tables = find_build_folder(asked.build) if asked.build else None
    return _of_split(
        asked,
        lambda split: evaluate_run(asked.run_folder, tables_folder=tables, split=split, against=asked.against),
    )


def _evaluate_contrastive(asked: Evaluating) -> Evaluated:
    from mmkg.training.contrastive.run import evaluate_contrastive_run

    return _of_split(
        asked, lambda split: evaluate_contrastive_run(asked.run_folder, pictures_folder=asked.pictures, split=split)
    )


def _evaluate_language(asked: Evaluating) -> Evaluated:
    raise ConfigError(
        f"{asked.run_folder}: a language model is measured once, when it is trained; see "
        f"{asked.run_folder / 'metrics.json'}"
    )


def _evaluate_mars(asked: Evaluating) -> Evaluated:
    from mmkg.training.reasoning.mars.run import evaluate_mars

    metrics = evaluate_mars(asked.run_folder, data_folder=asked.data, against=asked.against)
    return metrics, asked.run_folder / "report.html"


def _evaluate_scienceqa(asked: Evaluating) -> Evaluated:
    from mmkg.builds import find_build_folder
    from mmkg.training.reasoning.scienceqa import evaluate_scienceqa

    build = find_build_folder(asked.build) if asked.build else None
    return _of_split(
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

    return _of_split(asked, lambda split: evaluate_synthetic(asked.run_folder, split=split))


def _evaluate_scenes(asked: Evaluating) -> Evaluated:
    from mmkg.training.reasoning.scene_pretraining import evaluate_scenes

    return _of_split(
        asked,
        lambda split: evaluate_scenes(
            asked.run_folder, split=split, data_folder=asked.data, pictures_folder=asked.pictures
        ),
    )


def _evaluate_describing(asked: Evaluating) -> Evaluated:
    from mmkg.builds import find_build_folder
    from mmkg.training.reasoning.describing.run import evaluate_descriptions

    build = find_build_folder(asked.build) if asked.build else None
    return _of_split(
        asked,
        lambda split: evaluate_descriptions(asked.run_folder, split=split, data_folder=asked.data, build_folder=build),
    )


def _evaluate_paths(asked: Evaluating) -> Evaluated:
    from mmkg.training.reasoning.paths import evaluate_paths

    return _of_split(asked, lambda split: evaluate_paths(asked.run_folder, split=split))


KINDS: Mapping[str, Kind] = {  # by the start of the recipe's name
    "link_prediction/": Kind(
        needs=("build",),
        several_seeds=True,
        train=_link_prediction,
        asked_by=("build", "split", "against"),
        evaluate=_evaluate_link_prediction,
    ),
    "contrastive/": Kind(
        needs=("pictures",), train=_contrastive, asked_by=("pictures", "split"), evaluate=_evaluate_contrastive
    ),
    "language/": Kind(needs=("data",), train=_language, asked_by=(), evaluate=_evaluate_language),
    "mr_mkg/mars": Kind(
        needs=("data",), several_seeds=True, train=_mars, asked_by=("data", "against"), evaluate=_evaluate_mars
    ),
    "mr_mkg/scienceqa": Kind(
        needs=("data",),
        may_have=("build", "pictures"),
        train=_scienceqa,
        asked_by=("data", "build", "pictures", "split"),
        evaluate=_evaluate_scienceqa,
    ),
    "mr_mkg/synthetic": Kind(needs=(), train=_synthetic, asked_by=("split",), evaluate=_evaluate_synthetic),
    "mr_mkg/pretrain": Kind(
        needs=("data",),
        may_have=("pictures",),
        train=_scenes,
        asked_by=("data", "pictures", "split"),
        evaluate=_evaluate_scenes,
    ),
    "graph4mm/describe": Kind(
        needs=(),
        one_of=("data", "build"),
        several_seeds=True,
        train=_describing,
        asked_by=("data", "build", "split"),
        evaluate=_evaluate_describing,
    ),
    "graph4mm/paths": Kind(needs=(), train=_paths, asked_by=("split",), evaluate=_evaluate_paths),
}
