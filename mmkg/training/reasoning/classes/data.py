"""Questions "which class is it of?" out of MarKG: classes that are seen and those that are not, and how much is given
away.

Each test entity is asked about twice: among the classes of its own kind (seen or unseen), and among all of them, which
is the generalised form of zero-shot learning. The group of a question stands in its key, ``Q513/unseen_of_all``.
Descriptions of held-out entities are read where these are neighbours: they are what is known of a thing, not its label.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from mmkg.embeddings import encode_texts, open_embedder, vector_archive
from mmkg.embeddings.texts import find_texts
from mmkg.errors import ConfigError, unknown_name
from mmkg.subgraphs.assemble import EXTRA_RELATIONS, Floats
from mmkg.tasks.class_split import ClassSplit, class_split
from mmkg.tasks.mars import MarKG, read_markg
from mmkg.training.reasoning.classes.neighbours import Neighbours, Surroundings
from mmkg.training.reasoning.classes.recipe import ClassesConfig, ClassesRecipe
from mmkg.training.reasoning.questions import GraphQuestion, QuestionSet

GROUPS = ("seen", "unseen", "seen_of_all", "unseen_of_all")
"""Entities of seen or unseen classes, among classes of their kind or among all."""
ASKED = "Class:"  # where the language model goes on


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassesData:
    """Everything that a run reads.

    Attributes:
        markg: names, descriptions, triples.
        class_of: class of each entity that has exactly one, of those that are kept.
        split: of these entities.
        neighbours: the graph without the relation that is asked for.
        questions: train and valid among seen classes; test in all `GROUPS`.
        text_of_class: what a class's vector is made of.
        vector_of: (D,) of each text: of questions, nodes and classes.
    """

    markg: MarKG
    class_of: Mapping[int, str]
    split: ClassSplit[int]
    neighbours: Neighbours
    questions: QuestionSet
    text_of_class: Mapping[str, str]
    vector_of: Mapping[str, Floats]

    @cached_property
    def said(self) -> frozenset[str]:
        """Ids of the entities whose own name or description says their class word for word."""
        markg = self.markg
        return frozenset(
            markg.entity_ids[entity]
            for entity, name in self.class_of.items()
            if _says(name, [markg.names[entity], markg.descriptions[entity] or ""])
        )

    def class_vectors(self, names: Sequence[str]) -> Floats:
        """(K, D) of some classes."""
        return np.stack([self.vector_of[self.text_of_class[name]] for name in names])


def read_classes_data(recipe: ClassesRecipe, data_folder: Path, cache_folder: Path) -> ClassesData:
    """Read MarKG, draw the classes, and make a question of each entity that has one.

    Args:
        recipe: what is asked and shown, and by which embedder.
        data_folder: of MarKG, or its parent.
        cache_folder: keeps vectors of texts; made if it is not there.

    Raises:
        DumpError: a file is missing or broken.
        ConfigError: no relation is called so, or too few classes are large enough.
        EmbeddingError: the embedder cannot be had.
    """
    markg, config = read_markg(data_folder), recipe.data
    relation = _relation(markg, config)
    of_entity, entity_of_class = _classes(markg, config, relation)
    split = class_split(
        of_entity,
        num_unseen=config.num_unseen,
        min_items=config.min_members,
        valid_share=config.valid_share,
        test_share=config.test_share,
        random_seed=config.split_seed,
    )
    names = (*split.seen, *split.unseen)
    class_of = {entity: name for entity, name in of_entity.items() if name in set(names)}
    neighbours = Neighbours(markg, config, relation=relation, classes={entity_of_class[name] for name in names})
    taken = _exchanged(split, config.split_seed) if config.exchanged else {entity: entity for entity in class_of}
    around = {entity: neighbours.around(taken[entity]) for entity in sorted(class_of)}
    node_texts = {entity: _node_texts(markg, config, entity, shown) for entity, shown in around.items()}
    said = {
        entity: "\n".join([*([neighbours.in_words(shown)] if config.in_words else []), node_texts[entity][0]]).strip()
        for entity, shown in around.items()
    }
    end = f"\n{ASKED}" if recipe.answering == "likelihood" else ""  # no part of what vectors are made of
    text_of_class = {
        name: name if recipe.class_text == "name" else _text(markg, entity_of_class[name], "description")
        for name in names
    }
    relations = [*markg.relation_names, *EXTRA_RELATIONS]
    embedder = open_embedder(recipe.embeddings)
    texts = [text for of_one in node_texts.values() for text in of_one]
    texts = list(dict.fromkeys([*texts, *said.values(), *text_of_class.values(), *relations]))
    archive = vector_archive(cache_folder, embedder.identity)
    encode_texts(embedder, recipe.embeddings, dict.fromkeys(texts), archive)
    vector_of = dict(zip(texts, find_texts(archive, texts), strict=True))
    vector_of |= {text + end: vector_of[text] for text in said.values()}
    subgraphs = {
        entity: neighbours.subgraph(
            shown,
            key=markg.entity_ids[entity],
            texts=node_texts[entity],
            vector_of=vector_of.__getitem__,
            dimension=embedder.identity.dimension,
        )
        for entity, shown in around.items()
    }

    def questions(entities: Sequence[int], group: str) -> list[GraphQuestion]:
        choices = names if group.endswith("_of_all") else split.unseen if group == "unseen" else split.seen
        return [
            GraphQuestion(
                key=f"{markg.entity_ids[entity]}/{group}",
                text=said[entity] + end,
                subgraph=subgraphs[entity],
                answer=class_of[entity],
                choices=choices,
                cluster=class_of[entity],
            )
            for entity in entities
        ]

    tested = [(split.test_seen, "seen"), (split.test_unseen, "unseen")]
    return ClassesData(
        markg=markg,
        class_of=class_of,
        split=split,
        neighbours=neighbours,
        questions=QuestionSet(
            train=questions(split.train, "seen"),
            valid=questions(split.valid, "seen"),
            test=[one for end in ("", "_of_all") for part, kind in tested for one in questions(part, kind + end)],
            relation_RD=np.stack([vector_of[name] for name in relations]),
            embedder=embedder.identity.digest,
            told={
                "classes": {"seen": list(split.seen), "unseen": list(split.unseen)},
                "entities": {part: len(items) for part, items in split.parts.items()},
                "left_out": _left_out(markg, config, relation),
                "class_is_said": {
                    part: count_said(markg, neighbours, class_of, entity_of_class, around, entities)
                    for part, entities in split.parts.items()
                },
            },
        ),
        text_of_class=text_of_class,
        vector_of=vector_of,
    )


def count_said(
    markg: MarKG,
    neighbours: Neighbours,
    class_of: Mapping[int, str],
    entity_of_class: Mapping[str, int],
    around: Mapping[int, Surroundings],
    entities: Sequence[int],
) -> dict[str, Any]:
    """Count in what entities' class is said word for word, whatever the case.

    Returns:
        ``entities``: how many were looked at; of these have the class in ``own_name``, ``own_description``,
        ``neighbour_names`` and ``neighbour_descriptions`` that are shown; and ``other_relation``: how many another
        relation ties to their class, whether it is shown or not.
    """
    found: Counter[str] = Counter()
    for entity in entities:
        says = partial(_says, class_of[entity])
        others = (*around[entity].first, *around[entity].second)
        found["own_name"] += says([markg.names[entity]])
        found["own_description"] += says([markg.descriptions[entity] or ""])
        found["neighbour_names"] += says([markg.names[one] for one in others])
        found["neighbour_descriptions"] += says([markg.descriptions[one] or "" for one in others])
        found["other_relation"] += entity_of_class[class_of[entity]] in neighbours.tied(entity)
    return {"entities": len(entities), **found}


# --- parts -----------------------------------------------------------------------------------------------------------


def _relation(markg: MarKG, config: ClassesConfig) -> int:
    if config.relation not in markg.relation_names:
        raise ConfigError(unknown_name("relation", config.relation, markg.relation_names))
    return markg.relation_names.index(config.relation)


def _classes(markg: MarKG, config: ClassesConfig, relation: int) -> tuple[dict[int, str], dict[str, int]]:
    """Class of each entity that has one alone, and the entity that each class is; the largest classes where asked."""
    pairs = markg.triples[markg.triples[:, 1] == relation]
    times = Counter(pairs[:, 0].tolist())
    of_entity = {head: tail for head, _, tail in pairs.tolist() if times[head] == 1}
    size = Counter(of_entity.values())
    kept = [one for one in size if size[one] >= config.min_members]
    largest = sorted(kept, key=lambda one: (-size[one], one))[: config.num_classes]
    same = Counter(markg.names[one] for one in largest)
    name = {
        one: markg.names[one] if same[markg.names[one]] == 1 else f"{markg.names[one]} ({markg.entity_ids[one]})"
        for one in largest
    }
    return {head: name[tail] for head, tail in of_entity.items() if tail in name}, {name[one]: one for one in largest}


def _left_out(markg: MarKG, config: ClassesConfig, relation: int) -> dict[str, int]:
    """Entities with more than one class; classes that are too small, and entities of these."""
    pairs = markg.triples[markg.triples[:, 1] == relation]
    times = Counter(pairs[:, 0].tolist())
    size = Counter(tail for head, _, tail in pairs.tolist() if times[head] == 1)
    small = [count for count in size.values() if count < config.min_members]
    return {
        "entities_with_several_classes": sum(count > 1 for count in times.values()),
        "small_classes": len(small),
        "entities_of_small_classes": sum(small),
    }


def _text(markg: MarKG, entity: int, shown: str) -> str:
    description = markg.descriptions[entity]
    return markg.names[entity] if shown == "name" or description is None else f"{markg.names[entity]}: {description}"


def _node_texts(markg: MarKG, config: ClassesConfig, entity: int, shown: Surroundings) -> list[str]:
    """The entity's own text, then names and descriptions of its neighbours."""
    others = [_text(markg, one, "description") for one in (*shown.first, *shown.second)]
    return [_text(markg, entity, config.own), *others]


def _exchanged(split: ClassSplit[int], random_seed: int) -> dict[int, int]:
    """Another entity of the same part for each: one circle in random order, so that none keeps its own."""
    taken: dict[int, int] = {}
    for entities in split.parts.values():
        drawn = np.random.default_rng(random_seed).permutation(entities).tolist()
        taken |= dict(zip(drawn, [*drawn[1:], *drawn[:1]], strict=True))
    return taken


def _says(name: str, texts: Sequence[str]) -> bool:
    pattern = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE)
    return any(pattern.search(text) for text in texts)
