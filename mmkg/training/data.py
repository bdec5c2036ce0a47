"""What a link prediction model learns from: the build's splits as arrays of indices, and its queries with all answers.

A *query* is a pair (h, r) with all its train tails; the inverse query (t, r + R) asks for heads. Queries are unique: a
pair with a hundred tails is one row with a hundred labels, so an epoch over FB15k-237 has 149,689 queries where there
are 544,230 triples in both directions.
"""

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmkg.errors import ConfigError, TrainingError
from mmkg.evaluation.link_prediction import Int64Array, with_inverse_triples
from mmkg.shards import digest, open_table
from mmkg.training.features import EntityFeatures, FeatureKind, read_features

logger = logging.getLogger(__name__)

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, kw_only=True, eq=False)
class LinkPredictionData:
    """Triples of a graph, split; rows are head, relation, tail, as dense numbers of this object.

    Attributes:
        num_entities: N.
        num_relations: R, without inverses.
        train: (T, 3) int64, without repetitions.
        valid: (V, 3) int64.
        test: (S, 3) int64.
        entity_index: (N,) the build's entity_index of each entity, which differs from its number here when unused
            entities were dropped.
        features: vectors of the entities' texts and pictures; None without.

    Raises:
        TrainingError: a split is not an (n, 3) int64 array, there is no train triple, or a number is out of range.
    """

    num_entities: int
    num_relations: int
    train: Int64Array
    valid: Int64Array
    test: Int64Array
    entity_index: Int64Array = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    features: EntityFeatures | None = None

    def __post_init__(self) -> None:
        """Check shapes and ranges, so that nothing later has to."""
        if not len(self.entity_index):
            object.__setattr__(self, "entity_index", np.arange(self.num_entities, dtype=np.int64))
        for name in SPLITS:
            self._check(name, getattr(self, name))
        if not len(self.train):
            raise TrainingError("there is no train triple. Has the build `splits`, and do they leave any for train?")

    def _check(self, name: str, triples: Int64Array) -> None:
        if triples.ndim != 2 or triples.shape[1] != 3 or triples.dtype != np.int64:
            raise TrainingError(f"{name} must be int64 of shape (n, 3), found {triples.dtype} of shape {triples.shape}")
        if not len(triples):
            return
        highest = triples.max(axis=0)
        limit = (self.num_entities, self.num_relations, self.num_entities)
        if triples.min() < 0 or any(found >= below for found, below in zip(highest, limit, strict=True)):
            raise TrainingError(
                f"{name} must name entities below {self.num_entities} and relations below {self.num_relations}, "
                f"found up to (head, relation, tail) = {tuple(int(n) for n in highest)}; "
                "splits and entities must be of one build"
            )

    def split(self, name: str) -> Int64Array:
        """Return the triples of train | valid | test.

        Raises:
            ConfigError: no split is called so.
        """
        if name not in SPLITS:
            raise ConfigError(f"no split is called '{name}'. Known: {', '.join(SPLITS)}.")
        triples: Int64Array = getattr(self, name)
        return triples

    def known(self) -> Int64Array:
        """Return every triple of all splits: what must not count as a mistake when ranking."""
        return np.concatenate([self.train, self.valid, self.test])

    def digest(self) -> str:
        """Return 16 hex digits that change when any triple, count or feature does; a checkpoint remembers them."""
        parts: list[Any] = [self.num_entities, self.num_relations]
        parts += [[len(t), int(np.bitwise_xor.reduce(_mixed(t)))] for t in (self.train, self.valid, self.test)]
        if self.features is not None:
            parts.append(self.features.digest)
        return digest(parts)


def _mixed(triples: Int64Array) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """One number a row, order of rows kept; splitmix64's constants."""
    mixed = np.arange(len(triples), dtype=np.uint64)
    for column in triples.T:
        mixed = (mixed ^ column.astype(np.uint64)) * np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(31)
    return mixed


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainQueries:
    """The unique queries of train, both directions, each with its tails and with the triples that state them.

    Tails and triples of query q stand at places ``indptr[q]`` to ``indptr[q + 1]``.
    """

    query: Int64Array  # (Q, 2) head, relation in [0, 2R)
    indptr: Int64Array  # (Q + 1,)
    tail: Int64Array  # (2T,)
    triple: Int64Array  # (2T,) row of train, the same for a triple and its inverse

    def __len__(self) -> int:
        """Return Q."""
        return len(self.query)

    def batch(self, rows: Int64Array) -> tuple[Int64Array, Int64Array, Int64Array]:
        """Return (row, tail, triple), flat: of each label its place in ``rows``, its entity, and its train triple."""
        count = self.indptr[rows + 1] - self.indptr[rows]
        row = np.repeat(np.arange(len(rows), dtype=np.int64), count)
        place = np.arange(len(row), dtype=np.int64) - (np.cumsum(count) - count)[row] + self.indptr[rows][row]
        return row, self.tail[place], self.triple[place]


def train_queries(data: LinkPredictionData) -> TrainQueries:
    """Group the train triples and their inverses by query, sorted by head, relation, tail.

    Raises:
        TrainingError: a triple is there twice; a query would have the same label twice.
    """
    both = with_inverse_triples(data.train, data.num_relations)
    triple = np.tile(np.arange(len(data.train), dtype=np.int64), 2)
    order = np.lexsort((both[:, 2], both[:, 1], both[:, 0]))
    both, triple = both[order], triple[order]
    if (both[1:] == both[:-1]).all(axis=1).any():
        raise TrainingError("train holds a triple twice; keep one of each (numpy.unique with axis=0 does)")
    new = np.ones(len(both), dtype=np.bool_)
    new[1:] = (both[1:, :2] != both[:-1, :2]).any(axis=1)
    first = np.flatnonzero(new).astype(np.int64)
    return TrainQueries(
        query=np.ascontiguousarray(both[first, :2]),
        indptr=np.append(first, len(both)).astype(np.int64),
        tail=np.ascontiguousarray(both[:, 2]),
        triple=triple,
    )


def read_link_prediction_data(
    tables_folder: Path, *, drop_unused: bool = True, features: FeatureKind = "none"
) -> LinkPredictionData:
    """Read the splits of a build.

    Args:
        tables_folder: holds the tables ``splits``, ``entities`` and ``relations``.
        drop_unused: leave out entities that occur in no triple of train, valid or test, so that no model ranks or
            stores them; how many is logged.
        features: which vectors of entities to read with them, see :func:`mmkg.training.features.read_features`.

    Raises:
        ShardError: a table is missing.
        TrainingError: the splits leave nothing to train on, or do not fit the entities, or the build has not the
            vectors that ``features`` ask for.
    """
    num_entities = open_table(tables_folder, "entities").count_rows()
    num_relations = open_table(tables_folder, "relations").count_rows()
    splits = open_table(tables_folder, "splits").to_table()
    triples = {name: _triples_of(splits, name) for name in SPLITS}
    whole = LinkPredictionData(
        num_entities=num_entities,
        num_relations=num_relations,
        train=triples["train"],
        valid=triples["valid"],
        test=triples["test"],
    )
    data = _without_unused(whole) if drop_unused else whole
    if features == "none":
        return data
    return replace(data, features=read_features(tables_folder, data.entity_index, features))


def _without_unused(whole: LinkPredictionData) -> LinkPredictionData:
    """The same triples over the entities that occur in them, in their order."""
    num_entities = whole.num_entities
    used = np.unique(whole.known()[:, [0, 2]])
    if len(used) == num_entities:
        return whole
    logger.info("dropped %s of %s entities that occur in no triple of a split", num_entities - len(used), num_entities)
    number = np.full(num_entities, -1, dtype=np.int64)
    number[used] = np.arange(len(used))
    train, valid, test = (
        np.stack([number[t[:, 0]], t[:, 1], number[t[:, 2]]], axis=1) for t in (whole.train, whole.valid, whole.test)
    )
    return replace(whole, num_entities=len(used), entity_index=used, train=train, valid=valid, test=test)


def _triples_of(splits: pa.Table, name: str) -> Int64Array:
    rows = splits.filter(pc.equal(splits["split"], name))
    columns = [rows[column].to_numpy() for column in ("head_index", "relation_index", "tail_index")]
    triples = np.stack(columns, axis=1).astype(np.int64)
    if name != "train" or not len(triples):
        return triples
    unique = np.unique(triples, axis=0)  # sorted, so the order of rows in the table does not matter
    if len(unique) < len(triples):
        logger.info("dropped %s repeated train triples", len(triples) - len(unique))
    return unique


def read_names(tables_folder: Path, data: LinkPredictionData) -> tuple[list[str], list[str]]:
    """Return a text for each entity (N) and relation (R): its label, or its id where it has none.

    Raises:
        ShardError: a table is missing.
    """
    entities = open_table(tables_folder, "entities").to_table(columns=["entity_index", "entity_id", "label"])
    entities = entities.sort_by("entity_index").take(pa.array(data.entity_index))
    relations = open_table(tables_folder, "relations").to_table(columns=["relation_index", "relation_id", "label"])
    relations = relations.sort_by("relation_index")
    return (
        pc.coalesce(entities["label"], entities["entity_id"]).to_pylist(),
        pc.coalesce(relations["label"], relations["relation_id"]).to_pylist(),
    )
