"""Controls that describe without a model: by hand."""

import numpy as np
import pytest

from mmkg.errors import ConfigError
from mmkg.evaluation.described import describe_without_model, group_descriptions

# 0 is asked about. 1, 2, 3 share its town (4); 2 and 3 its trade (5) too. 6 stands alone.
TRIPLES = np.array([(0, 0, 4), (1, 0, 4), (2, 0, 4), (3, 0, 4), (0, 1, 5), (2, 1, 5), (3, 1, 5)])
SHOWN = [None, "a town clerk", "red painter from town", "painter from town", "a town", "a trade", None]


def test_commonest_most_alike_and_medoid_by_hand():
    said = describe_without_model(TRIPLES, 2, [*SHOWN, "a town", "a town"], np.array([0, 6]))
    assert said["commonest"] == ["a town", "a town"]
    # 2 and 3 share all pairs with 0: of equals the lower number
    assert said["most alike"] == ["red painter from town", "a town"]
    # ROUGE-L of the three: 2-3 6/7, 1-2 2/7, 1-3 2/6; so 3 is nearest to all
    assert said["medoid"] == ["painter from town", "a town"]
    assert said["medoid, rare pairs count more"] == ["painter from town", "a town"]


def test_what_is_asked_for_must_be_hidden():
    with pytest.raises(ConfigError, match="description of entity 1 is shown and asked for"):
        describe_without_model(TRIPLES, 2, SHOWN, np.array([0, 1]))
    with pytest.raises(ConfigError, match="no description is shown"):
        describe_without_model(TRIPLES, 2, [None] * 7, np.array([0]))


def test_groups_by_how_often_train_says_it():
    groups = group_descriptions(["a", "b", "c", "a"], {"a": 10, "b": 9})
    assert {name: mask.tolist() for name, mask in groups.items()} == {
        "frequent": [True, False, False, True],
        "rare": [False, True, False, False],
        "unseen": [False, False, True, False],
    }
