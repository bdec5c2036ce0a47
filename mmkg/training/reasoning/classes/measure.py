"""How well classes are told: by group, over entities and over classes, beside what needs no training.

Entities of one class are not independent, and few classes are drawn: an interval over classes says how a number would
move with other classes, one over entities how it would with other entities of the same classes. Both stand side by
side. Macro accuracy is the mean over classes of each one's accuracy, so that large classes do not decide alone; of
generalised zero-shot learning the harmonic mean of its macro accuracies on seen and unseen classes is told too.
Source of the latter: Xian et al., CVPR 2017, arXiv:1703.04394.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mmkg.errors import ConfigError
from mmkg.evaluation.answers import GivenAnswer
from mmkg.evaluation.bootstrap import (
    Difference,
    FloatArray,
    Int64Array,
    Interval,
    cluster_interval,
    paired_cluster_difference,
)
from mmkg.evaluation.report import interval_text
from mmkg.training.reasoning.classes.data import GROUPS, ClassesData
from mmkg.training.reasoning.questions import GraphQuestion
from mmkg.training.reasoning.run import Measured

COSINE, COMMONEST, NEIGHBOURS = "nearest class name", "commonest class", "commonest class of neighbours"
NOT_SAID = "where neither name nor description says the class"
TITLES = {
    "seen": "seen classes, among the seen",
    "unseen": "unseen classes, among the unseen",
    "seen_of_all": "seen classes, among all",
    "unseen_of_all": "unseen classes, among all",
}


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """Accuracy on the questions of a group.

    Attributes:
        by_class: accuracy, with an interval over classes that are drawn together with all their entities.
        by_entity: the same accuracy, with an interval over entities.
        macro: mean over classes, with an interval over classes.
        chance: of guessing.
        num_entities, num_classes: that were asked about.
    """

    by_class: Interval
    by_entity: Interval
    macro: Interval
    chance: float
    num_entities: int
    num_classes: int

    def as_json(self) -> dict[str, Any]:
        """Return everything by name."""
        return asdict(self)


def group_of(key: str) -> str:
    """Return the group of a question by its key.

    >>> group_of("Q513/unseen_of_all")
    'unseen_of_all'
    """
    return key.rpartition("/")[2]


def score_classes(
    right_N: FloatArray, class_N: Sequence[str], *, chance: float, draws: int = 1000, random_seed: int = 0
) -> ClassScore:
    """Return accuracies of some questions, with their intervals.

    Args:
        right_N: 1 where the answer was right.
        class_N: class of each entity.
        chance: of guessing.
        draws, random_seed: of the bootstrap.

    Raises:
        ConfigError: there is no question.
    """
    if not len(right_N):
        raise ConfigError("no question was asked, so there is nothing to score")
    names, cluster_N = np.unique(list(class_N), return_inverse=True)
    of_class = np.bincount(cluster_N, weights=right_N) / np.bincount(cluster_N)
    bootstrap: dict[str, Any] = {"draws": draws, "random_seed": random_seed}
    return ClassScore(
        by_class=cluster_interval(right_N, cluster_N.astype(np.int64), **bootstrap),
        by_entity=cluster_interval(right_N, np.arange(len(right_N)), **bootstrap),
        macro=cluster_interval(of_class, np.arange(len(names)), **bootstrap),
        chance=chance,
        num_entities=len(right_N),
        num_classes=len(names),
    )


def answers_without_model(data: ClassesData, questions: Sequence[GraphQuestion]) -> dict[str, list[str | None]]:
    """Return what is answered to each question without training; None where a way has no answer.

    `nearest class name`: by cosine of the vectors of the question's text and of the classes' texts. `commonest class`:
    of train, where it may be chosen. `commonest class of neighbours`: among train entities one hop away, else the
    commonest of all; asked of seen classes alone. Of an unseen class no entity's class may be known, a neighbour's as
    little as its own, so it could never be said.
    """
    class_of, train = data.class_of, set(data.split.train)
    size = Counter(class_of[entity] for entity in data.split.train)
    commonest = min(size, key=lambda name: (-size[name], name))
    said: dict[str, list[str | None]] = {COSINE: [], COMMONEST: [], NEIGHBOURS: []}
    for one in questions:
        choices = one.choices or ()
        score_K = _unit(data.class_vectors(choices)) @ _unit(data.vector_of[one.text])
        said[COSINE].append(choices[int(score_K.argmax())])
        said[COMMONEST].append(commonest if commonest in choices else None)
        near = data.neighbours.near(data.markg.index_of[_entity_id(one.key)])
        around = Counter(class_of[other] for other in near if other in train)
        best = min(around, key=lambda name: (-around[name], -size[name], name)) if around else commonest
        said[NEIGHBOURS].append(best if group_of(one.key) == "seen" else None)
    return said


def measure_classes(
    data: ClassesData, name: str, answers: Sequence[GivenAnswer], *, draws: int, random_seed: int
) -> Measured:
    """Return what a run says of its classes: scores by group, of controls too, and differences pair by pair.

    Args:
        data: that was asked.
        name: of the run.
        answers: to the test questions, in their order.
        draws, random_seed: of the bootstrap.
    """
    questions = data.questions.test
    controls = answers_without_model(data, questions)
    bootstrap: dict[str, Any] = {"draws": draws, "random_seed": random_seed}
    groups: dict[str, Any] = {}
    tables: dict[str, list[list[str]]] = {}
    macro: dict[str, dict[str, float]] = {}
    for group in GROUPS:
        places = [place for place, one in enumerate(answers) if group_of(one.key) == group]
        if not places:
            continue
        of_class = [answers[place].right for place in places]
        chance = 1 / answers[places[0]].num_choices
        given: dict[str, list[str | None]] = {name: [answers[place].given for place in places]}
        given |= {way: said for way in controls if None not in (said := [controls[way][place] for place in places])}
        right = {
            way: np.array([one == other for one, other in zip(said, of_class, strict=True)], np.float64)
            for way, said in given.items()
        }
        scores = {way: score_classes(found, of_class, chance=chance, **bootstrap) for way, found in right.items()}
        apart = {
            f"{name} − {way}": difference_of(right[name], right[way], of_class, **bootstrap)
            for way in right
            if way != name
        }
        macro[group] = {way: one.macro.value for way, one in scores.items()}
        not_said = [at for at, place in enumerate(places) if _entity_id(answers[place].key) not in data.said]
        hard = {
            way: score_classes(found[not_said], [of_class[at] for at in not_said], chance=chance, **bootstrap)
            for way, found in right.items()
            if not_said
        }
        groups[group] = {
            **scores[name].as_json(),
            "controls": {way: scores[way].as_json() for way in scores if way != name},
            "differences": apart,
            "not_said": {way: one.as_json() for way, one in hard.items()},
        }
        tables[TITLES[group]] = _table({**scores, **{f"{way}, {NOT_SAID}": one for way, one in hard.items()}}, apart)
    numbers: dict[str, Any] = {"groups": groups, "class_is_said": data.questions.told["class_is_said"]}
    if {"seen_of_all", "unseen_of_all"} <= macro.keys():
        both = macro["seen_of_all"].keys() & macro["unseen_of_all"].keys()
        numbers["harmonic_mean"] = {
            way: harmonic_mean(macro["seen_of_all"][way], macro["unseen_of_all"][way]) for way in sorted(both)
        }
    tables["Entities whose class is said word for word"] = _table_of_said(data.questions.told["class_is_said"])
    return Measured(numbers=numbers, tables=tables)


def difference_of(
    first_N: FloatArray, second_N: FloatArray, class_N: Sequence[str], *, draws: int, random_seed: int
) -> dict[str, dict[str, float]]:
    """Return by how much the first is better, entity by entity, with intervals over classes and over entities."""
    _, cluster_N = np.unique(list(class_N), return_inverse=True)
    clusters: dict[str, Int64Array] = {
        "by_class": cluster_N.astype(np.int64),
        "by_entity": np.arange(len(first_N)),
    }
    found: dict[str, Difference] = {
        way: paired_cluster_difference(first_N, second_N, cluster, draws=draws, random_seed=random_seed)
        for way, cluster in clusters.items()
    }
    return {way: one.as_json() for way, one in found.items()}


def harmonic_mean(first: float, second: float) -> float:
    """Return 2ab / (a + b); 0 where one is 0.

    >>> harmonic_mean(0.5, 0.25)
    0.3333333333333333
    """
    return 2 * first * second / (first + second) if first + second > 0 else 0.0


def _entity_id(key: str) -> str:
    return key.rpartition("/")[0]


def _table(scores: Mapping[str, ClassScore], apart: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[list[str]]:
    rows = [["", "accuracy, over classes", "accuracy, over entities", "mean over classes"]]
    rows += [
        [
            f"{way} ({one.num_entities} entities of {one.num_classes} classes)",
            interval_text(one.by_class),
            interval_text(one.by_entity),
            interval_text(one.macro),
        ]
        for way, one in scores.items()
    ]
    rows.append(["chance", f"{next(iter(scores.values())).chance:.4f}", "", ""])
    for pair, found in apart.items():
        cells = [
            f"{one['value']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}], p {one['p_value']:.3g}"
            for one in found.values()
        ]
        rows.append([pair, *cells, ""])
    return rows


def _table_of_said(said: Mapping[str, Mapping[str, int]]) -> list[list[str]]:
    columns = list(next(iter(said.values())))
    header = ["", *(column.replace("_", " ") for column in columns)]
    return [header, *([part.replace("_", " "), *(str(found[one]) for one in columns)] for part, found in said.items())]


def _unit(vector: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    length = np.linalg.norm(vector, axis=-1, keepdims=True)
    unit: np.ndarray[Any, Any] = vector / np.where(length > 0, length, 1)
    return unit
