"""Vectors of entities and of pictures in a Neo4j store: a property with a vector index, search through it, its recall.

Vectors are no part of a graph's content: they have digests and shards of their own. The state node lists their
properties, so that a load leaves them alone and a node keeps its vector for as long as it stays. The index is
approximate (HNSW): `measure_recall` says how many of the exact nearest it finds.
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import neo4j
import numpy as np
import numpy.typing as npt
from neo4j.exceptions import DriverError, Neo4jError

from mmkg.config import StoreConfig
from mmkg.errors import StoreError, unknown_name
from mmkg.store.columns import IMAGES
from mmkg.store.cypher import IMAGE_TABLE, KEYS, NODE_TABLE, quote_name
from mmkg.store.model import ENTITY_PROPERTIES
from mmkg.store.neo4j import statements
from mmkg.store.neo4j.connection import explain
from mmkg.store.neo4j.lock import LoaderLock, take_over
from mmkg.store.neo4j.state import StoreState, read_state

Similarity = Literal["cosine", "euclidean"]
Node = Literal["entity", "image"]  # named by entity_id, by sha256
MAX_DIMENSIONS = 4096  # of the server's index
_ROWS_PER_BATCH = 1_000
_INDEX_SECONDS = 3600
_CANDIDATES = 4  # for each that is asked for: on 300 random vectors, recall 0.8 with 1

_FIND_INDEX = "SHOW VECTOR INDEXES YIELD name, options WHERE name = $name RETURN options.indexConfig AS config"
_AWAIT_INDEX = "CALL db.awaitIndex($name, $seconds)"
_LABELS: Mapping[str, str] = {"entity": NODE_TABLE, "image": IMAGE_TABLE}
_WORDS = {"entity": "entities", "image": "pictures"}


def index_name(property_name: str, node: Node = "entity") -> str:
    """Name of the vector index of a property; a hyphen, which no property has, keeps those of pictures apart."""
    return f"{property_name}_vectors" if node == "entity" else f"{property_name}-{node}_vectors"


def load_vectors(
    driver: neo4j.Driver,
    config: StoreConfig,
    property_name: str,
    keys: Sequence[str],
    vectors: npt.NDArray[np.float32],
    *,
    node: Node = "entity",
    similarity: Similarity = "cosine",
) -> None:
    """Give entities or pictures a vector each, and make the index by which they are searched; safe to repeat.

    Args:
        driver: to the server.
        config: names the database.
        property_name: A-Z, a-z, 0-9 and ``_``; nothing else that such nodes have may be called so.
        keys: n nodes of the store: entity_id of entities, sha256 of pictures.
        vectors: (n, d), finite; with cosine, none of length 0.
        node: entity | image.
        similarity: cosine | euclidean.

    Raises:
        StoreError: nothing is served, another loader is at work, a node is not there, or a vector cannot be used.
    """
    _check_vectors(keys, vectors, similarity)
    load_id = uuid.uuid4().hex
    lock = LoaderLock(driver, config.database, load_id)
    try:
        with driver.session(database=config.database) as session:
            lock.acquire()
            state = _check_state(read_state(session), property_name, node, config)
            take_over(session, load_id=load_id, holder=lock.holder, graph=state.graph)
            known = state.vectors_of[_LABELS[node]]
            if property_name not in known:  # first: what a killed loader leaves must be known as ours
                name = "vectors" if node == "entity" else "image_vectors"
                values = {name: [*known, property_name]}
                session.run(statements.SET_STATE, {"load_id": load_id, "values": values}).consume()
            _make_index(session, property_name, node, vectors.shape[1], similarity)
            for first in range(0, len(keys), _ROWS_PER_BATCH):
                some = list(keys[first : first + _ROWS_PER_BATCH])
                rows = list(map(list, zip(some, vectors[first : first + _ROWS_PER_BATCH].tolist(), strict=True)))
                _write_batch(session, property_name, node, some, rows)
            session.run(_AWAIT_INDEX, {"name": index_name(property_name, node), "seconds": _INDEX_SECONDS}).consume()
    except (DriverError, Neo4jError, OSError) as error:
        raise explain(error, config) from error
    finally:
        lock.release()


def search_vectors(
    driver: neo4j.Driver,
    config: StoreConfig,
    property_name: str,
    vector: npt.NDArray[np.float32],
    k: int,
    *,
    node: Node = "entity",
) -> list[tuple[str, float]]:
    """The k entities or pictures whose vectors are nearest, by the index: nearest first, with their similarity.

    Args:
        driver: to the server.
        config: names the database.
        property_name: as it was loaded.
        vector: (d,).
        k: how many, at least 1.
        node: entity | image.

    Returns:
        entity_id or sha256 and, with cosine, the cosine in [-1, 1]; with euclidean, 1 / (1 + distance squared).

    Raises:
        StoreError: there is no such index, or the vector is not of its dimensions.
    """
    if k < 1:
        raise StoreError(f"k: expected 1 or more, found {k}")
    name = index_name(property_name, node)
    try:
        with driver.session(database=config.database, default_access_mode=neo4j.READ_ACCESS) as session:
            dimensions, similarity = _index_of(session, name)
            if vector.shape != (dimensions,):
                raise StoreError(
                    f"vector index {name}: expected a vector of {dimensions} numbers, found one of shape {vector.shape}"
                )
            rows = session.run(
                _search(property_name, node, similarity),
                {"name": name, "k": k, "candidates": _CANDIDATES * k, "vector": vector.tolist()},
            ).values()
    except (DriverError, Neo4jError, OSError) as error:
        raise explain(error, config) from error
    # the server's own function tells (1 + cosine) / 2
    return [(key, 2 * score - 1 if similarity == "cosine" else score) for key, score in rows]


def measure_recall(
    driver: neo4j.Driver,
    config: StoreConfig,
    property_name: str,
    keys: Sequence[str],
    vectors: npt.NDArray[np.float32],
    queries: npt.NDArray[np.float32],
    *,
    k: int = 10,
    node: Node = "entity",
    similarity: Similarity = "cosine",
) -> float:
    """Share of the exact k nearest that the index finds, mean over queries.

    Args:
        driver: to the server.
        config: names the database.
        property_name: as it was loaded.
        keys: n, as they were loaded.
        vectors: (n, d), as they were loaded.
        queries: (m, d).
        k: how many are asked for; at most n.
        node: entity | image.
        similarity: as it was loaded.
    """
    k = min(k, len(keys))
    found = 0
    for query in queries:
        exact = {keys[place] for place in _nearest(vectors, query, k, similarity)}
        near = search_vectors(driver, config, property_name, query, k, node=node)
        found += len(exact & {key for key, _ in near})
    return found / (k * len(queries))


def _nearest(
    vectors: npt.NDArray[np.float32], query: npt.NDArray[np.float32], k: int, similarity: Similarity
) -> npt.NDArray[np.intp]:
    """Rows of the k nearest, exactly."""
    if similarity == "cosine":
        scores = (vectors @ query) / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(query))
    else:
        scores = -((vectors - query) ** 2).sum(axis=1)
    return np.argsort(-scores, kind="stable")[:k]


def _check_vectors(keys: Sequence[str], vectors: npt.NDArray[np.float32], similarity: str) -> None:
    if vectors.ndim != 2 or len(vectors) != len(keys):
        raise StoreError(f"vectors: expected shape ({len(keys)}, d), found {vectors.shape}")
    if not 1 <= vectors.shape[1] <= MAX_DIMENSIONS:
        raise StoreError(f"vectors: expected 1 to {MAX_DIMENSIONS} dimensions, found {vectors.shape[1]}")
    if similarity not in ("cosine", "euclidean"):
        raise StoreError(f"similarity: expected cosine or euclidean, found {similarity!r}")
    wrong = ~np.isfinite(vectors).all(axis=1)
    if similarity == "cosine":
        wrong |= ~vectors.any(axis=1)
    if wrong.any():
        raise StoreError(
            f"vectors: {int(wrong.sum()):,} are not finite or of length 0, the first that of "
            f"{keys[int(wrong.argmax())]}. Leave such nodes out: they have no vector."
        )


def _check_state(state: StoreState | None, property_name: str, node: Node, config: StoreConfig) -> StoreState:
    if node not in _LABELS:
        raise StoreError(unknown_name("kind of node", node, _LABELS))
    quote_name(property_name)
    if state is None or not state.is_served or state.model is None:
        raise StoreError(f"{config.uri}: nothing is served yet. Load a graph first.")
    taken = [*ENTITY_PROPERTIES, *(prop.name for prop in state.model.properties)]
    if property_name in (taken if node == "entity" else IMAGES.names):
        who = "the graph has" if node == "entity" else "pictures have"
        raise StoreError(f"vectors: {who} an attribute '{property_name}'. Choose another name.")
    return state


def _index_of(session: neo4j.Session, name: str) -> tuple[int, str]:
    """Dimensions and similarity of an index."""
    found: list[list[dict[str, Any]]] = session.run(_FIND_INDEX, {"name": name}).values()
    if not found:
        raise StoreError(f"there is no vector index {name}. Load vectors into the store first.")
    [[options]] = found
    return int(options["vector.dimensions"]), str(options["vector.similarity_function"]).lower()


def _search(property_name: str, node: Node, similarity: str) -> str:
    """The index keeps eight bits of a number: more than k are taken from it, and scored by the vectors themselves."""
    score = f"vector.similarity.{'cosine' if similarity == 'cosine' else 'euclidean'}"
    return (
        "CALL db.index.vector.queryNodes($name, $candidates, $vector) YIELD node "
        f"RETURN node.{KEYS[_LABELS[node]]} AS key, {score}(node.{quote_name(property_name)}, $vector) AS score "
        "ORDER BY score DESC, key LIMIT $k"
    )


def _make_index(session: neo4j.Session, property_name: str, node: Node, dimensions: int, similarity: str) -> None:
    name = index_name(property_name, node)
    quoted = statements.quote_any_name(name)
    try:
        made = _index_of(session, name)
    except StoreError:
        made = None
    if made is not None and made != (dimensions, similarity):
        session.run(f"DROP INDEX {quoted}").consume()
    session.run(
        f"CREATE VECTOR INDEX {quoted} IF NOT EXISTS FOR (e:{_LABELS[node]}) ON (e.{quote_name(property_name)}) "
        "OPTIONS {indexConfig: {`vector.dimensions`: $dimensions, `vector.similarity_function`: $similarity}}",
        {"dimensions": dimensions, "similarity": similarity},
    ).consume()


def _write_batch(
    session: neo4j.Session, property_name: str, node: Node, keys: Sequence[str], rows: list[list[Any]]
) -> None:
    label = _LABELS[node]
    statement = (
        f"UNWIND $rows AS row MATCH (e:{label} {{{KEYS[label]}: row[0]}}) "
        "CALL db.create.setNodeVectorProperty(e, $property, row[1]) RETURN count(e) AS done"
    )
    record = session.run(statement, {"rows": rows, "property": property_name}).single(strict=True)
    if record["done"] != len(rows):
        found = {row[0] for row in session.run(statements.find_nodes(label), {"ids": list(keys)}).values()}
        missing = [key for key in keys if key not in found]
        raise StoreError(
            f"vectors: {len(missing):,} of a batch of {len(rows):,} {_WORDS[node]} are not in the store, the first "
            f"{missing[0] if missing else keys[0]}. Load the graph that the vectors belong to."
        )
