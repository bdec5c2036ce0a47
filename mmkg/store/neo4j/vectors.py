"""Vectors of entities in a Neo4j store: a property with a vector index, search through it, and how good that is.

Vectors are no part of a graph's content: they have digests and shards of their own. The state node lists their
properties, so that a load leaves them alone and an entity keeps its vector for as long as it stays. The index is
approximate (HNSW): `measure_recall` says how many of the exact nearest it finds.
"""

import uuid
from collections.abc import Sequence
from typing import Any, Literal

import neo4j
import numpy as np
import numpy.typing as npt
from neo4j.exceptions import DriverError, Neo4jError

from mmkg.config import StoreConfig
from mmkg.errors import StoreError
from mmkg.store.cypher import NODE_TABLE, quote_name
from mmkg.store.model import ENTITY_PROPERTIES
from mmkg.store.neo4j import statements
from mmkg.store.neo4j.connection import explain
from mmkg.store.neo4j.lock import LoaderLock, take_over
from mmkg.store.neo4j.state import StoreState, read_state

Similarity = Literal["cosine", "euclidean"]
MAX_DIMENSIONS = 4096  # of the server's index
_ROWS_PER_BATCH = 1_000
_INDEX_SECONDS = 3600
_CANDIDATES = 4  # for each that is asked for: on 300 random vectors, recall 0.8 with 1

_FIND_INDEX = "SHOW VECTOR INDEXES YIELD name, options WHERE name = $name RETURN options.indexConfig AS config"
_AWAIT_INDEX = "CALL db.awaitIndex($name, $seconds)"
_SET_VECTORS = (
    f"UNWIND $rows AS row MATCH (e:{NODE_TABLE} {{entity_id: row[0]}}) "
    "CALL db.create.setNodeVectorProperty(e, $property, row[1]) RETURN count(e) AS done"
)


def index_name(property_name: str) -> str:
    """Name of the vector index of a property."""
    return f"{property_name}_vectors"


def load_vectors(
    driver: neo4j.Driver,
    config: StoreConfig,
    property_name: str,
    entity_ids: Sequence[str],
    vectors: npt.NDArray[np.float32],
    *,
    similarity: Similarity = "cosine",
) -> None:
    """Give entities a vector each, and make the index by which they are searched; safe to repeat.

    Args:
        driver: to the server.
        config: names the database.
        property_name: A-Z, a-z, 0-9 and ``_``; no attribute of the graph may be called so.
        entity_ids: n entities of the store.
        vectors: (n, d), finite; with cosine, none of length 0.
        similarity: cosine | euclidean.

    Raises:
        StoreError: nothing is served, another loader is at work, an entity is not there, or a vector cannot be used.
    """
    _check_vectors(entity_ids, vectors, similarity)
    load_id = uuid.uuid4().hex
    lock = LoaderLock(driver, config.database, load_id)
    try:
        with driver.session(database=config.database) as session:
            lock.acquire()
            state = _check_state(read_state(session), property_name, config)
            take_over(session, load_id=load_id, holder=lock.holder, graph=state.graph)
            if property_name not in state.vectors:  # first: what a killed loader leaves must be known as ours
                values = {"vectors": [*state.vectors, property_name]}
                session.run(statements.SET_STATE, {"load_id": load_id, "values": values}).consume()
            _make_index(session, property_name, vectors.shape[1], similarity)
            for first in range(0, len(entity_ids), _ROWS_PER_BATCH):
                ids = list(entity_ids[first : first + _ROWS_PER_BATCH])
                rows = list(map(list, zip(ids, vectors[first : first + _ROWS_PER_BATCH].tolist(), strict=True)))
                _write_batch(session, property_name, ids, rows)
            session.run(_AWAIT_INDEX, {"name": index_name(property_name), "seconds": _INDEX_SECONDS}).consume()
    except (DriverError, Neo4jError, OSError) as error:
        raise explain(error, config) from error
    finally:
        lock.release()


def search_vectors(
    driver: neo4j.Driver, config: StoreConfig, property_name: str, vector: npt.NDArray[np.float32], k: int
) -> list[tuple[str, float]]:
    """The k entities whose vectors are nearest, by the index: nearest first, with their similarity.

    Args:
        driver: to the server.
        config: names the database.
        property_name: as it was loaded.
        vector: (d,).
        k: how many, at least 1.

    Returns:
        entity_id and, with cosine, the cosine in [-1, 1]; with euclidean, 1 / (1 + distance squared).

    Raises:
        StoreError: there is no such index, or the vector is not of its dimensions.
    """
    if k < 1:
        raise StoreError(f"k: expected 1 or more, found {k}")
    name = index_name(property_name)
    try:
        with driver.session(database=config.database, default_access_mode=neo4j.READ_ACCESS) as session:
            dimensions, similarity = _index_of(session, property_name)
            if vector.shape != (dimensions,):
                raise StoreError(
                    f"vector index {name}: expected a vector of {dimensions} numbers, found one of shape {vector.shape}"
                )
            rows = session.run(
                _search(property_name, similarity),
                {"name": name, "k": k, "candidates": _CANDIDATES * k, "vector": vector.tolist()},
            ).values()
    except (DriverError, Neo4jError, OSError) as error:
        raise explain(error, config) from error
    # the server's own function tells (1 + cosine) / 2
    return [(entity_id, 2 * score - 1 if similarity == "cosine" else score) for entity_id, score in rows]


def measure_recall(
    driver: neo4j.Driver,
    config: StoreConfig,
    property_name: str,
    entity_ids: Sequence[str],
    vectors: npt.NDArray[np.float32],
    queries: npt.NDArray[np.float32],
    *,
    k: int = 10,
    similarity: Similarity = "cosine",
) -> float:
    """Share of the exact k nearest that the index finds, mean over queries.

    Args:
        driver: to the server.
        config: names the database.
        property_name: as it was loaded.
        entity_ids: n, as they were loaded.
        vectors: (n, d), as they were loaded.
        queries: (m, d).
        k: how many are asked for; at most n.
        similarity: as it was loaded.
    """
    k = min(k, len(entity_ids))
    found = 0
    for query in queries:
        exact = {entity_ids[place] for place in _nearest(vectors, query, k, similarity)}
        found += len(exact & {entity_id for entity_id, _ in search_vectors(driver, config, property_name, query, k)})
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


def _check_vectors(entity_ids: Sequence[str], vectors: npt.NDArray[np.float32], similarity: str) -> None:
    if vectors.ndim != 2 or len(vectors) != len(entity_ids):
        raise StoreError(f"vectors: expected shape ({len(entity_ids)}, d), found {vectors.shape}")
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
            f"{entity_ids[int(wrong.argmax())]}. Leave such entities out: they have no vector."
        )


def _check_state(state: StoreState | None, property_name: str, config: StoreConfig) -> StoreState:
    quote_name(property_name)
    if state is None or not state.is_served or state.model is None:
        raise StoreError(f"{config.uri}: nothing is served yet. Load a graph first.")
    if property_name in (*ENTITY_PROPERTIES, *(prop.name for prop in state.model.properties)):
        raise StoreError(f"vectors: the graph has an attribute '{property_name}'. Choose another name.")
    return state


def _index_of(session: neo4j.Session, property_name: str) -> tuple[int, str]:
    """Dimensions and similarity of a property's index."""
    found: list[list[dict[str, Any]]] = session.run(_FIND_INDEX, {"name": index_name(property_name)}).values()
    if not found:
        raise StoreError(f"there is no vector index {index_name(property_name)}. Load vectors into the store first.")
    [[options]] = found
    return int(options["vector.dimensions"]), str(options["vector.similarity_function"]).lower()


def _search(property_name: str, similarity: str) -> str:
    """The index keeps eight bits of a number: more than k are taken from it, and scored by the vectors themselves."""
    score = f"vector.similarity.{'cosine' if similarity == 'cosine' else 'euclidean'}"
    return (
        "CALL db.index.vector.queryNodes($name, $candidates, $vector) YIELD node "
        f"RETURN node.entity_id AS entity_id, {score}(node.{quote_name(property_name)}, $vector) AS score "
        "ORDER BY score DESC, entity_id LIMIT $k"
    )


def _make_index(session: neo4j.Session, property_name: str, dimensions: int, similarity: str) -> None:
    name = index_name(property_name)
    try:
        made = _index_of(session, property_name)
    except StoreError:
        made = None
    if made is not None and made != (dimensions, similarity):
        session.run(f"DROP INDEX {quote_name(name)}").consume()
    session.run(
        f"CREATE VECTOR INDEX {quote_name(name)} IF NOT EXISTS FOR (e:{NODE_TABLE}) ON (e.{quote_name(property_name)}) "
        "OPTIONS {indexConfig: {`vector.dimensions`: $dimensions, `vector.similarity_function`: $similarity}}",
        {"dimensions": dimensions, "similarity": similarity},
    ).consume()


def _write_batch(session: neo4j.Session, property_name: str, ids: Sequence[str], rows: list[list[Any]]) -> None:
    record = session.run(_SET_VECTORS, {"rows": rows, "property": property_name}).single(strict=True)
    if record["done"] != len(rows):
        found = {row[0] for row in session.run(statements.FIND_NODES, {"ids": list(ids)}).values()}
        missing = [entity_id for entity_id in ids if entity_id not in found]
        raise StoreError(
            f"vectors: {len(missing):,} of a batch of {len(rows):,} entities are not in the store, the first "
            f"{missing[0] if missing else ids[0]}. Load the graph that the vectors belong to."
        )
