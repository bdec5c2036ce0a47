"""`mmkg train` and `mmkg evaluate`: from a recipe's name, or a run's, to the kind that does it."""

from typing import Any

from mmkg.cli.kinds import KINDS, Evaluated, Evaluating, Kind, Learning
from mmkg.errors import ConfigError, TrainingError, unknown_name

__all__ = ["Evaluating", "Learning", "evaluate_by_recipe", "list_all_recipes", "train_by_recipe"]


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
    wrong = [f"--{name}" for name, value in given.items() if value is not None and name not in _options_of(kind)]
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
    return tuple(name for kind in KINDS.values() for name in kind.list_recipes())


def _options_of(kind: Kind) -> tuple[str, ...]:
    return (*kind.needs, *kind.one_of, *kind.may_have)
