"""Recipes: names, overrides, and what is said about mistakes."""

import pytest
from pydantic import ValidationError

from mmkg.errors import ConfigError
from mmkg.training.recipes import LinkPredictionRecipe, list_recipes, open_recipe


def test_each_recipe_has_a_tiny_cousin_with_the_same_model():
    names = list_recipes()
    large = [name for name in names if not name.endswith("_tiny")]
    assert {f"{name}_tiny" for name in large} == set(names) - set(large)
    assert {name.removeprefix("link_prediction/") for name in large} == {
        "rgat_distmult", "rgat_complex", "complex", "distmult", "conve",
    }  # fmt: skip
    for name in large:
        one, tiny = open_recipe(name), open_recipe(f"{name}_tiny")
        assert (one.decoder, one.encoder) == (tiny.decoder, tiny.encoder)
        assert tiny.width < one.width


def test_settings_are_changed_by_mapping_or_by_text():
    by_mapping = open_recipe("link_prediction/conve", {"epochs": 5, "conve.channels": 16, "device": "cpu"})
    by_text = open_recipe("link_prediction/conve", ["epochs=5", "conve.channels=16", "device=cpu"])
    assert by_mapping == by_text
    assert (by_text.epochs, by_text.conve.channels, by_text.device) == (5, 16, "cpu")


@pytest.mark.parametrize(
    ("name", "overrides", "words"),
    [
        ("link_prediction/rgat_komplex", [], "Did you mean 'link_prediction/rgat_complex'"),
        ("link_prediction/complex", ["epoch=5"], "Did you mean 'epochs'"),
        ("link_prediction/complex", ["conve.chanels=5"], "Did you mean 'channels'"),
        ("link_prediction/complex", ["epochs.x=5"], "is a value"),
        ("link_prediction/complex", ["epochs"], "key=value"),
        ("link_prediction/complex", ["epochs=many"], "epochs: .*Found: 'many'"),
        ("link_prediction/complex", ["epochs=0"], "epochs: .*Found: 0"),
        ("link_prediction/complex", ["decoder=transe"], "decoder: "),
    ],
)
def test_a_mistake_is_named(name, overrides, words):
    with pytest.raises(ConfigError, match=words):
        open_recipe(name, overrides)


def test_a_recipe_is_frozen():
    with pytest.raises(ValidationError):
        open_recipe("link_prediction/complex").epochs = 7


def test_a_recipe_survives_json():
    recipe = open_recipe("link_prediction/conve_tiny")
    assert LinkPredictionRecipe.model_validate_json(recipe.model_dump_json()) == recipe
