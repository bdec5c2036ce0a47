"""Whether a picture shows its entity: how much nearer "a picture of LABEL, a TYPE" is than the labels of others.

The vectors come from whoever builds the graph; this module knows no model. The distractors are the same for all
pictures, so that margins can be compared.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import pyarrow.dataset as ds

Vectors = npt.NDArray[np.float32]

_SAMPLE_AT_LEAST = 10_000  # entities that are looked at for labels: few have none
_PAIRS_AT_ONCE = 4_096  # pictures with their entities: 16 MB at 1,024 numbers each
_NOT_WORDS = re.compile(r"[_\W]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WIKIDATA_ID = re.compile(r"_Q\d+$")  # Human_settlement_Q486972, as YAGO calls its classes
_SAYS_NOTHING = frozenset({"thing", "topic", "entity", "named individual", "class", "concept"})


@dataclass(frozen=True)
class Scorer:
    """What turns pictures and texts into vectors of one space: rows of length 1, float32."""

    image_vectors: Callable[[Sequence[str]], tuple[Vectors, npt.NDArray[np.bool_]]]
    """By sha256: (n, d) vectors, and (n,) whether a picture has one."""
    text_vectors: Callable[[Sequence[str]], Vectors]
    """(m, d) vectors of texts."""


@dataclass(frozen=True)
class Prompts:
    """What pictures are held against."""

    own: dict[int, str]
    """By entity_index: "a picture of LABEL, a TYPE"; entities without label are missing."""
    labels: dict[int, str]
    """By entity_index: the label, folded."""
    distractors: list[tuple[str, str]]
    """Folded label and prompt of entities that were drawn; one more than asked for, as one's own label is left out."""


@dataclass(frozen=True)
class Scores:
    """Of pictures with their entities; NaN where there is no vector or no label."""

    score: Vectors
    """(n,) cosine with the entity's own prompt."""
    margin: Vectors
    """(n,) score less that of the nearest distractor."""


def type_words(iri: str) -> str:
    """The last part of a type's IRI in words.

    >>> type_words("http://dbpedia.org/ontology/PopulatedPlace"), type_words("http://rdf.freebase.com/ns/location.country")
    ('populated place', 'country')
    """
    last = re.split(r"[/#:.]", iri.rstrip("/#"))[-1]
    return _NOT_WORDS.sub(" ", _CAMEL.sub(" ", _WIKIDATA_ID.sub("", last))).strip().lower()


def write_prompt(label: str, types: Sequence[str]) -> str:
    """What a picture of an entity is expected to be near to.

    >>> write_prompt("Peru", ["http://dbpedia.org/ontology/Country"]), write_prompt("Peru", [])
    ('a picture of Peru, a country', 'a picture of Peru')
    """
    kind = next((words for iri in types if (words := type_words(iri)) and words not in _SAYS_NOTHING), "")
    article = "an" if kind[:1] in {"a", "e", "i", "o", "u"} else "a"
    return f"a picture of {label}, {article} {kind}" if kind else f"a picture of {label}"


def prepare_prompts(
    entities: ds.Dataset, wanted: npt.NDArray[np.int64], num_distractors: int, random_seed: int
) -> Prompts:
    """Write the prompts of some entities, and draw those of others.

    Args:
        entities: the table `entities`.
        wanted: entity_index of those that have pictures.
        num_distractors: that each picture is held against.
        random_seed: of the draw; the same for one seed and one table, whatever pictures there are.
    """
    columns = ["entity_index", "label", "types"]
    rows = entities.to_table(columns=columns, filter=pc.field("entity_index").isin(wanted)).to_pylist()
    named = [row for row in rows if row["label"]]
    return Prompts(
        own={row["entity_index"]: write_prompt(row["label"], row["types"]) for row in named},
        labels={row["entity_index"]: row["label"].casefold() for row in named},
        distractors=_draw(entities, num_distractors + 1, random_seed),
    )


def _draw(entities: ds.Dataset, count: int, random_seed: int) -> list[tuple[str, str]]:
    """Draw prompts of entities of different labels."""
    total = entities.count_rows()
    size = min(total, max(4 * count, _SAMPLE_AT_LEAST))
    drawn = np.random.default_rng(random_seed).choice(total, size=size, replace=False)
    rows = entities.to_table(
        columns=["entity_index", "label", "types"], filter=pc.field("entity_index").isin(drawn) & pc.is_valid("label")
    ).to_pylist()
    by_index = {row["entity_index"]: row for row in rows}
    prompts: dict[str, str] = {}
    for index in drawn.tolist():
        row = by_index.get(index)
        if row and row["label"] and len(prompts) < count:
            prompts.setdefault(row["label"].casefold(), write_prompt(row["label"], row["types"]))
    return list(prompts.items())


def score_pictures(scorer: Scorer, prompts: Prompts, sha256s: Sequence[str], entities: Sequence[int]) -> Scores:
    """Score pictures against their entities, in blocks.

    Args:
        scorer: gives the vectors.
        prompts: of these entities.
        sha256s: (n,) pictures …
        entities: (n,) … and the entity_index that each is of.
    """
    score = np.full(len(sha256s), np.nan, np.float32)
    margin = score.copy()
    if not len(sha256s) or not prompts.own:
        return Scores(score, margin)
    against = scorer.text_vectors([prompt for _, prompt in prompts.distractors])
    for start in range(0, len(sha256s), _PAIRS_AT_ONCE):
        block = slice(start, start + _PAIRS_AT_ONCE)
        score[block], margin[block] = _score_block(scorer, prompts, against, sha256s[block], entities[block])
    return Scores(score, margin)


def _score_block(
    scorer: Scorer, prompts: Prompts, against: Vectors, sha256s: Sequence[str], entities: Sequence[int]
) -> tuple[Vectors, Vectors]:
    images, has_vector = scorer.image_vectors(sha256s)
    score = np.full(len(sha256s), np.nan, np.float32)
    margin = score.copy()
    rows = [row for row, entity in enumerate(entities) if has_vector[row] and entity in prompts.own]
    if not rows:
        return score, margin
    texts = [prompts.own[entities[row]] for row in rows]
    distinct = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    own = scorer.text_vectors(list(distinct))[[distinct[text] for text in texts]]
    score[rows] = np.einsum("nd,nd->n", images[rows], own)
    far = images[rows] @ against.T
    columns = {label: column for column, (label, _) in enumerate(prompts.distractors)}
    own_column = np.array([columns.get(prompts.labels[entities[row]], -1) for row in rows])
    is_among = np.flatnonzero(own_column >= 0)
    far[is_among, own_column[is_among]] = -np.inf  # one's own label is no distractor
    margin[rows] = score[rows] - _best_of_first(far, len(columns) - 1)
    margin[~np.isfinite(margin)] = np.nan
    return score, margin


def _best_of_first(far: Vectors, count: int) -> Vectors:
    """The best of each row's first `count` distractors that are not its own label."""
    counted = np.cumsum(np.isfinite(far), axis=1) <= count
    best: Vectors = np.where(counted, far, -np.inf).max(axis=1, initial=-np.inf)
    return best
