"""The embedded store: a Ladybug database opened read-only, in any number of processes.

One-step questions are asked one seed a query, on several connections at once: the engine lets go of Python's lock. They
are asked of all relationship types by one untyped pattern, whose first use reads every type's index (about 1 s for 300
types over 1 M nodes) and whose later uses cost about 1 ms for 300 types; name `relations` where you can.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path as FilePath
from typing import Any, Self

import ladybug
import pyarrow as pa

from mmkg.errors import QueryError, StoreError
from mmkg.store import cypher as statements
from mmkg.store.base import (
    DEFAULT_TIMEOUT_SECONDS,
    Counts,
    Direction,
    EntityDescription,
    EntityImage,
    Neighbour,
    Path,
    Step,
    check_direction,
    check_not_negative,
    choose_types,
    no_entity,
)
from mmkg.store.columns import IMAGES
from mmkg.store.connection import ENGINE, fetch_rows, fetch_table, open_database
from mmkg.store.dates import rows_with_dates
from mmkg.store.manifest import StoreManifest, check_file, read_store_manifest
from mmkg.store.model import ENTITY_PROPERTIES
from mmkg.store.paths import find_shortest_paths
from mmkg.store.reading import check_reading, column_names, explain_error

logger = logging.getLogger(__name__)

_MAX_CONNECTIONS = 8
_MAX_TIMEOUT_SECONDS = 30 * 24 * 3600.0


def open_embedded(folder: FilePath, *, buffer_bytes: int = 1 << 30) -> "EmbeddedStore":
    """Open a finished store to ask it.

    Args:
        folder: where `load_store` put it.
        buffer_bytes: memory that the engine may keep pages and results in.

    Raises:
        StoreError: there is no finished store, its file is missing or cut, or another version of the engine made it.
    """
    for attempt in range(3):
        manifest = read_store_manifest(folder)
        if manifest.engine != ENGINE:
            raise StoreError(
                f"{folder}: made by {manifest.engine}, installed is {ENGINE}, and file formats differ. "
                "Run `mmkg build` again."
            )
        try:
            path = check_file(folder, manifest, content=False)
            return EmbeddedStore(open_database(path, buffer_bytes=buffer_bytes), manifest)
        except StoreError:
            # a load that finished in this moment has removed the file we were about to open
            if attempt == 2 or read_store_manifest(folder).file == manifest.file:
                raise
    raise StoreError(f"{folder}: is being loaded again and again; try once more")


class EmbeddedStore:
    """A read-only embedded store; made by :func:`open_embedded`. May be used from several threads."""

    def __init__(self, database: ladybug.Database, manifest: StoreManifest) -> None:
        self.manifest = manifest
        self._database = database
        self._relation_ids = manifest.model.relation_ids()
        self._has_images = manifest.images > 0  # a store that was made before there were pictures has no table of them
        self._lock = threading.Lock()
        self._idle: list[ladybug.Connection] = []
        self._closed = False

    def __enter__(self) -> Self:
        """Use the store in a ``with`` block that closes it."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the store."""
        self.close()

    def close(self) -> None:
        """Close the database; closing twice is allowed."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for connection in self._idle:
                connection.close()
            self._idle.clear()
        self._database.close()

    @contextlib.contextmanager
    def _connection(self, timeout_seconds: float = 0) -> Any:
        """A connection that nobody else is using."""
        with self._lock:
            if self._closed:
                raise StoreError("the store is closed; open it again")
            connection = self._idle.pop() if self._idle else ladybug.Connection(self._database)
        connection.set_query_timeout(round(min(timeout_seconds, _MAX_TIMEOUT_SECONDS) * 1000))
        try:
            yield connection
        finally:
            with self._lock:
                if self._closed or len(self._idle) >= _MAX_CONNECTIONS:
                    connection.close()
                else:
                    self._idle.append(connection)

    def query(
        self,
        cypher: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        limit_rows: int | None = None,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> pa.Table:
        """Ask one reading query; see :class:`mmkg.store.base.CypherStore`."""
        values = dict(parameters or {})
        check_not_negative("limit_rows", limit_rows or 0)
        if timeout_seconds < 0:
            raise StoreError(f"timeout_seconds: expected 0 (never) or more, found {timeout_seconds}")
        check_reading(cypher, values)
        with self._connection(timeout_seconds) as connection:
            try:
                with connection.execute(cypher, values) as result:
                    names = column_names(cypher, result.get_column_names())
                    table: pa.Table = result.get_as_arrow()
            except (RuntimeError, ValueError, TypeError, OverflowError) as error:
                raise self._explain(cypher, error, timeout_seconds) from error
        table = table.rename_columns(names)
        if limit_rows is not None and table.num_rows > limit_rows:
            logger.warning("query: %s of %s rows shown", f"{limit_rows:,}", f"{table.num_rows:,}")
            table = table.slice(0, limit_rows)
        return table

    def _explain(self, cypher: str, error: Exception, timeout_seconds: float) -> QueryError:
        message = str(error)
        if message.startswith("Interrupted"):
            return QueryError(f"stopped after {timeout_seconds:g} seconds. Ask for less, or raise the timeout.")
        if "read-only database" in message:
            return QueryError("the store is read-only: a graph is changed by building it again, not by a query.")
        if not isinstance(error, RuntimeError):
            return QueryError(f"the value of a parameter cannot be passed on: {message}")
        properties = (*ENTITY_PROPERTIES, *(prop.name for prop in self.manifest.model.properties))
        own = (statements.NODE_TABLE, statements.IMAGE_TABLE, statements.IMAGE_LINK, *IMAGES.names, "rank", "score")
        return explain_error(cypher, message, [*self._relation_ids, *properties, *own])

    def counts(self) -> Counts:
        """Number of entities, relationships and pictures, counted now."""
        with self._connection() as connection:
            [[entities]] = fetch_rows(connection, statements.COUNT_ENTITIES)
            by_relation = {
                name: int(fetch_rows(connection, statements.count_relationships(name))[0][0])
                for name in self._relation_ids
            }
            images = image_links = 0
            if self._has_images:
                [[images]] = fetch_rows(connection, statements.COUNT_IMAGES)
                [[image_links]] = fetch_rows(connection, statements.count_relationships(statements.IMAGE_LINK))
        return Counts(
            entities=entities,
            relationships=sum(by_relation.values()),
            by_relation=by_relation,
            images=images,
            image_links=image_links,
        )

    def find_images(self, entity_ids: Sequence[str]) -> list[EntityImage]:
        """The pictures of each of some entities; see :class:`mmkg.store.base.GraphReader`."""
        found: list[EntityImage] = []
        with self._connection() as connection:
            for entity_id in dict.fromkeys(entity_ids):
                rows = []
                if self._has_images:
                    rows = fetch_rows(connection, statements.FIND_IMAGES, {"entity_id": entity_id})
                if not rows:
                    _check_entity(connection, entity_id)
                found += sorted(
                    (EntityImage(entity_id, *row) for row in rows), key=lambda image: (image.rank, image.sha256)
                )
        return found

    def find_entity(self, name: str) -> tuple[str, ...]:
        """Ids of all entities called so, sorted: by id, else by merged alias, else label, else label in any case."""
        with self._connection() as connection:
            for step in statements.FIND_ENTITY:
                rows = fetch_rows(connection, step, {"name": name})
                if rows:
                    return tuple(entity_id for (entity_id,) in rows)
        return ()

    def find_neighbours(
        self,
        entity_ids: Sequence[str],
        *,
        relations: Sequence[str] | None = None,
        direction: Direction = "both",
        limit: int | None = None,
    ) -> list[Neighbour]:
        """What lies one step from each of some entities; see :class:`mmkg.store.base.GraphReader`."""
        check_direction(direction)
        check_not_negative("limit", limit or 0)
        types = choose_types(relations, self._relation_ids)
        ways = [way for way in ("out", "in") if direction in (way, "both")]
        seeds = list(dict.fromkeys(entity_ids))
        workers = max(1, min(os.cpu_count() or 1, len(seeds) // 8, _MAX_CONNECTIONS))
        if workers == 1:
            found = self._neighbours_of(seeds, ways, types, limit)
        else:
            with ThreadPoolExecutor(workers) as pool:
                parts = pool.map(
                    lambda part: self._neighbours_of(part, ways, types, limit),
                    [seeds[worker::workers] for worker in range(workers)],
                )
                found = {seed: steps for part in parts for seed, steps in part.items()}
        return [step for seed in seeds for step in found[seed]]

    def _neighbours_of(
        self, seeds: Sequence[str], ways: Sequence[str], types: tuple[str, ...] | None, limit: int | None
    ) -> dict[str, list[Neighbour]]:
        found: dict[str, list[Neighbour]] = {}
        with self._connection() as connection:
            for seed in seeds:
                steps = found[seed] = []
                # no relation chosen, or none there: an untyped pattern over no types is an error for the engine
                for way in ways if self._relation_ids and types != () else ():
                    query = statements.neighbours(way, types, limited=limit is not None)
                    parameters = {"entity_id": seed} | ({} if limit is None else {"limit": limit})
                    rows = [
                        Neighbour(seed, way, relation, neighbour, label, tuple(sources))
                        for relation, neighbour, label, sources in fetch_rows(connection, query, parameters)
                    ]
                    steps += sorted(rows, key=lambda step: (step.relation, step.neighbour_id))
                if not steps:
                    _check_entity(connection, seed)
        return found

    def find_paths(
        self,
        start_id: str,
        end_id: str,
        *,
        max_hops: int = 4,
        relations: Sequence[str] | None = None,
        direction: Direction = "both",
        limit: int = 100,
    ) -> list[Path]:
        """The shortest paths between two entities; see :class:`mmkg.store.base.GraphReader`."""
        check_direction(direction)
        check_not_negative("max_hops", max_hops)
        check_not_negative("limit", limit)
        choose_types(relations, self._relation_ids)
        with self._connection() as connection:
            _check_entity(connection, start_id)
            _check_entity(connection, end_id)
        if not limit:
            return []
        opposite: dict[str, Direction] = {"out": "in", "in": "out", "both": "both"}

        def steps(entity_ids: Sequence[str]) -> Iterable[tuple[str, Step]]:
            for step in self.find_neighbours(entity_ids, relations=relations, direction=direction):
                yield step.entity_id, Step(step.direction, step.relation, step.neighbour_id)

        def steps_back(entity_ids: Sequence[str]) -> Iterable[tuple[str, Step]]:
            for step in self.find_neighbours(entity_ids, relations=relations, direction=opposite[direction]):
                yield step.entity_id, Step(opposite[step.direction], step.relation, step.neighbour_id)

        return find_shortest_paths(start_id, end_id, steps, steps_back, max_hops=max_hops, limit=limit)

    def describe_entity(self, entity_id: str) -> EntityDescription:
        """What the store holds about one entity."""
        names = [*ENTITY_PROPERTIES[1:], *(prop.name for prop in self.manifest.model.properties)]
        with self._connection() as connection:
            table = fetch_table(connection, statements.entity_properties(names), {"entity_id": entity_id})
        if not table.num_rows:
            raise no_entity(entity_id)
        [[label, description, types, aliases, *values]] = rows_with_dates(table)
        return EntityDescription(
            entity_id=entity_id,
            label=label,
            description=description,
            types=tuple(types),
            aliases=tuple(aliases),
            attributes={name: value for name, value in zip(names[4:], values, strict=True) if value is not None},
            facts_out=tuple(self.find_neighbours([entity_id], direction="out")),
            facts_in=tuple(self.find_neighbours([entity_id], direction="in")),
        )

    def expand(
        self,
        entity_ids: Sequence[str],
        num_hops: int,
        *,
        relations: Sequence[str] | None = None,
        direction: Direction = "both",
    ) -> dict[str, int]:
        """Distance in hops of each entity within `num_hops` of the nearest seed, by the engine's own shortest paths."""
        check_direction(direction)
        check_not_negative("num_hops", num_hops)
        types = choose_types(relations, self._relation_ids) if relations is not None else tuple(self._relation_ids)
        hops = dict.fromkeys(entity_ids, 0)
        with self._connection() as connection:
            for seed in list(hops):
                _check_entity(connection, seed)
                if not num_hops or not types:
                    continue
                query = statements.expand(direction, types, num_hops)
                for entity_id, distance in fetch_rows(connection, query, {"entity_id": seed}):
                    hops[entity_id] = min(distance, hops.get(entity_id, distance))
        return hops


def _check_entity(connection: ladybug.Connection, entity_id: str) -> None:
    if fetch_rows(connection, statements.HAS_ENTITY, {"entity_id": entity_id}) == [[0]]:
        raise no_entity(entity_id)
