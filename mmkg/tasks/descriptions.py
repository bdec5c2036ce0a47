"""Describing an entity from its neighbourhood: names, descriptions and facts of a graph, and a split by entity.

The task: say an entity's short description, such as "American actress", from its name and what surrounds it. Its own
description is hidden, and so are those of all entities of the valid and test splits; facts are those of train.

Files of FB15k-237 as they are given away, each plain or gzipped: ``entity2wikidata.json`` (MID to label, description,
Wikidata id), ``fb15k-237/train.txt`` (head, relation, tail by tabs) and ``relation2text.txt``. Of 14,541 entities with
a fact 13,666 have a description; "the same description" is meant letter for letter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmkg.errors import ConfigError, DumpError
from mmkg.tasks.json_files import Reject, read_json_object, require_json
from mmkg.tasks.line_files import numbered_lines, require_lines

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class DescribedGraph:
    """A graph whose entities have names and mostly descriptions.

    Attributes:
        entity_ids: (N,), sorted.
        names: (N,).
        descriptions: (N,), None for an entity without.
        relations: (R,) names of relations, in words where these are known.
        triples: (T, 3) head, relation, tail, each once.
        rejects: what could not be used, with a reason.
    """

    entity_ids: Sequence[str]
    names: Sequence[str]
    descriptions: Sequence[str | None]
    relations: Sequence[str]
    triples: Ints
    rejects: Sequence[Reject] = ()

    def __post_init__(self) -> None:
        """Check that the parts belong together."""
        count = len(self.entity_ids)
        if len(self.names) != count or len(self.descriptions) != count:
            raise ConfigError(f"expected a name and a description or None for each of {count} entities")
        ends = self.triples[:, [0, 2]]
        if len(ends) and (ends.min() < 0 or ends.max() >= count):
            raise ConfigError(f"a triple leads to an entity outside 0 to {count - 1}")


@dataclass(frozen=True, kw_only=True, eq=False)
class DescriptionSplit:
    """Entities with a description, apart.

    Attributes:
        train, valid, test: numbers of entities, sorted.
    """

    train: Ints
    valid: Ints
    test: Ints


def read_described_graph(folder: Path) -> DescribedGraph:
    """Read FB15k-237 with the descriptions of its entities.

    Args:
        folder: holds ``entity2wikidata.json``, ``relation2text.txt`` and ``fb15k-237/train.txt``, plain or gzipped.

    Raises:
        DumpError: a file is missing, cut or not what its name says.
    """
    said = read_json_object(require_json(folder, "entity2wikidata.json"))
    words = {row[0]: row[1] for row in _rows(require_lines(folder, "relation2text.txt"), 2)}
    path = require_lines(folder, "fb15k-237/train.txt")
    rows = sorted(set(_rows(path, 3)))
    ids = sorted({end for head, _, tail in rows for end in (head, tail)})
    keys = sorted({relation for _, relation, _ in rows})
    number, relation_number = {key: at for at, key in enumerate(ids)}, {key: at for at, key in enumerate(keys)}
    rejects, names, descriptions = [], [], []
    for entity in ids:
        told = said.get(entity)
        told = told if isinstance(told, dict) else {}
        name, description = told.get("label"), told.get("description")
        if not isinstance(name, str) or not name.strip():
            rejects.append(
                Reject(file="entity2wikidata.json", item=entity, reason="no_name", detail="its id is its name")
            )
            name = entity
        names.append(" ".join(name.split()))
        descriptions.append(" ".join(description.split()) or None if isinstance(description, str) else None)
    triples = [(number[head], relation_number[relation], number[tail]) for head, relation, tail in rows]
    return DescribedGraph(
        entity_ids=ids,
        names=names,
        descriptions=descriptions,
        relations=[words.get(key, key) for key in keys],
        triples=np.array(triples, dtype=np.int64).reshape(-1, 3),
        rejects=rejects,
    )


def split_descriptions(
    graph: DescribedGraph, *, num_valid: int = 1000, num_test: int = 1000, random_seed: int = 0
) -> DescriptionSplit:
    """Split the entities that have a description.

    Args:
        graph: with descriptions.
        num_valid, num_test: entities to choose by and to report on.
        random_seed: of the draw.

    Raises:
        ConfigError: nothing would be left to learn from.
    """
    described = np.array([at for at, text in enumerate(graph.descriptions) if text is not None], dtype=np.int64)
    if len(described) <= num_valid + num_test:
        raise ConfigError(
            f"{len(described):,} entities have a description: fewer than valid ({num_valid:,}) and test ({num_test:,}) "
            "take, so none is left to learn from; ask for fewer"
        )
    drawn = np.random.default_rng(random_seed).permutation(described)
    first, second = num_valid, num_valid + num_test
    return DescriptionSplit(
        valid=np.sort(drawn[:first]), test=np.sort(drawn[first:second]), train=np.sort(drawn[second:])
    )


def shown_descriptions(graph: DescribedGraph, split: DescriptionSplit) -> list[str | None]:
    """Return what may be seen of each entity by its neighbours: descriptions of train entities, no others."""
    shown: list[str | None] = [None] * len(graph.entity_ids)
    for entity in split.train.tolist():
        shown[entity] = graph.descriptions[entity]
    return shown


def _rows(path: Path, columns: int) -> list[tuple[str, ...]]:
    rows = []
    for number, line in numbered_lines(path):
        row = tuple(line.split("\t"))
        if len(row) != columns or not all(row):
            raise DumpError(f"{path}, line {number}: expected {columns} columns by tabs, found {list(row)}")
        rows.append(row)
    return rows
