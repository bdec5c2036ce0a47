"""A Neo4j store, asked: the same questions and the same answers as the embedded store, while it may be rebuilt.

Each call is one question and is answered from one build (``served.py`` tells how). With `build`, the store answers from
that build or not at all, so that several calls are of one build too. All seeds of a call go in one query.
"""

import datetime
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Self

import neo4j
import pyarrow as pa
from neo4j.exceptions import ClientError, DriverError, Neo4jError

from mmkg.config import StoreConfig
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
from mmkg.store.model import ENTITY_PROPERTIES
from mmkg.store.neo4j.connection import is_transient
from mmkg.store.neo4j.mistakes import explain_refusal, warn_of_unknown_names
from mmkg.store.neo4j.served import Reader, Served
from mmkg.store.neo4j.state import read_state
from mmkg.store.neo4j.values import to_table
from mmkg.store.paths import find_shortest_paths
from mmkg.store.reading import check_names_apart, check_reading

logger = logging.getLogger(__name__)

_IDS_PER_QUERY = 10_000
_TYPES_PER_QUERY = 50
_OPPOSITE: dict[str, Direction] = {"out": "in", "in": "out", "both": "both"}


def open_neo4j(config: StoreConfig, *, build: str | None = None, password: str | None = None) -> "Neo4jStore":
    """Open a loaded Neo4j to ask it.

    Args:
        config: names the server; its password is in the environment.
        build: digest of the content that is expected there; any unless given.
        password: instead of that in the environment.

    Raises:
        StoreError: the server cannot be reached, serves nothing, or another build.
    """
    reader = Reader(config, build=build, password=password)
    try:
        reader.served()
    except BaseException:
        reader.close()
        raise
    return Neo4jStore(reader)


class Neo4jStore:
    """A Neo4j store, read-only; made by :func:`open_neo4j`. May be used from several threads."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def __enter__(self) -> Self:
        """Use the store in a ``with`` block that closes it."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the store."""
        self.close()

    def close(self) -> None:
        """Close all connections; closing twice is allowed."""
        self._reader.close()

    @property
    def build(self) -> str:
        """Digest of the content that is served now: pin it with ``open_neo4j(config, build=…)``."""
        return self._reader.served().build

    @property
    def version(self) -> str:
        """Version of the graph that is served now; several may be of one content."""

        def question(session: neo4j.Session, _: Served) -> str:
            state = read_state(session)
            return (state.version if state else None) or ""

        return self._reader.ask(question)

    def query(
        self,
        cypher: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        limit_rows: int | None = None,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> pa.Table:
        """Ask one reading query; see :class:`mmkg.store.base.CypherStore`, and ``values.py`` for the types of columns.

        A label, type or property that the store does not have is no mistake for Neo4j: it is missing everywhere, and
        the log says so with the nearest name.
        """
        values = dict(parameters or {})
        check_not_negative("limit_rows", limit_rows or 0)
        if timeout_seconds < 0:
            raise StoreError(f"timeout_seconds: expected 0 (never) or more, found {timeout_seconds}")
        check_reading(cypher, values, "neo4j")
        check_names_apart(cypher)
        # the driver takes None for the server's own limit, and 0 for none
        asked = neo4j.Query(cypher, timeout=timeout_seconds)

        def question(session: neo4j.Session, served: Served) -> tuple[pa.Table, neo4j.ResultSummary, bool, Served]:
            try:
                result = session.run(asked, values)
                names = list(result.keys())
                records = list(result) if limit_rows is None else result.fetch(limit_rows + 1)
                summary = result.consume()
            except (Neo4jError, DriverError) as error:
                if is_transient(error) or not isinstance(error, ClientError):
                    raise
                raise explain_refusal(cypher, error, timeout_seconds) from error
            except (TypeError, ValueError, OverflowError) as error:
                raise QueryError(f"the value of a parameter cannot be passed on: {error}") from error
            more = limit_rows is not None and len(records) > limit_rows
            return to_table(names, records[:limit_rows]), summary, more, served

        table, summary, more, served = self._reader.ask(question)
        if more:
            logger.warning("query: the first %s rows are shown, there are more", f"{limit_rows:,}")
        warn_of_unknown_names(summary, served)
        if summary.plan is not None and summary.profile is None:
            return pa.table({"plan": [summary.plan["args"]["string-representation"]]})
        if summary.profile is not None:
            return pa.table({"plan": [summary.profile["args"]["string-representation"]]})
        return table

    def counts(self) -> Counts:
        """Number of entities, relationships and pictures, counted now."""

        def question(session: neo4j.Session, served: Served) -> Counts:
            [[entities]] = session.run(statements.COUNT_ENTITIES).values()
            [[images]] = session.run(statements.COUNT_IMAGES).values()
            [[image_links]] = session.run(statements.count_relationships(statements.IMAGE_LINK)).values()
            names = list(served.relation_ids)
            by_relation = dict.fromkeys(names, 0)
            for part in _parts(names, _TYPES_PER_QUERY):
                query = statements.count_relationships_neo4j(part)
                by_relation.update(dict(session.run(query).values()))
            return Counts(
                entities=entities,
                relationships=sum(by_relation.values()),
                by_relation=by_relation,
                images=images,
                image_links=image_links,
            )

        return self._reader.ask(question)

    def find_images(self, entity_ids: Sequence[str]) -> list[EntityImage]:
        """The pictures of each of some entities; see :class:`mmkg.store.base.GraphReader`."""
        ids = list(dict.fromkeys(entity_ids))

        def question(session: neo4j.Session, _: Served) -> list[EntityImage]:
            found: dict[str, list[EntityImage]] = {entity_id: [] for entity_id in ids}
            for part in _parts(ids, _IDS_PER_QUERY):
                for entity_id, images in session.run(statements.FIND_IMAGES_NEO4J, {"ids": part}).values():
                    found[entity_id] = [EntityImage(entity_id, *image) for image in images]
            _check_entities(session, [entity_id for entity_id in ids if not found[entity_id]])
            return [
                image
                for entity_id in ids
                for image in sorted(found[entity_id], key=lambda image: (image.rank, image.sha256))
            ]

        return self._reader.ask(question)

    def find_entity(self, name: str) -> tuple[str, ...]:
        """Ids of all entities called so, sorted: by id, else by merged alias, else label, else label in any case."""

        def question(session: neo4j.Session, served: Served) -> tuple[str, ...]:
            for step in _ways_to_find(name, served.indexes):
                if rows := session.run(step, {"name": name, "words": _phrase(name)}).values():
                    return tuple(sorted(entity_id for (entity_id,) in rows))
            return ()

        return self._reader.ask(question)

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
        seeds = list(dict.fromkeys(entity_ids))

        def question(session: neo4j.Session, served: Served) -> list[Neighbour]:
            types = choose_types(relations, served.relation_ids)
            return _neighbours(session, seeds, _ways(direction), types, limit)

        return self._reader.ask(question)

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

        def question(session: neo4j.Session, served: Served) -> list[Path]:
            types = choose_types(relations, served.relation_ids)
            _check_entities(session, [start_id, end_id])
            if not limit:
                return []

            def steps(ids: Sequence[str]) -> Iterable[tuple[str, Step]]:
                return _steps(session, ids, direction, types)

            def steps_back(ids: Sequence[str]) -> Iterable[tuple[str, Step]]:
                for here, step in _steps(session, ids, _OPPOSITE[direction], types):
                    yield here, Step(_OPPOSITE[step.direction], step.relation, step.entity_id)

            return find_shortest_paths(start_id, end_id, steps, steps_back, max_hops=max_hops, limit=limit)

        return self._reader.ask(question)

    def describe_entity(self, entity_id: str) -> EntityDescription:
        """What the store holds about one entity."""

        def question(session: neo4j.Session, served: Served) -> EntityDescription:
            properties = served.model.properties
            plain = [prop.name for prop in properties if prop.value_column != "date"]
            dates = [prop.name for prop in properties if prop.value_column == "date" and not prop.many]
            date_lists = [prop.name for prop in properties if prop.value_column == "date" and prop.many]
            query = statements.describe_entity_neo4j([*ENTITY_PROPERTIES[1:], *plain], dates, date_lists)
            rows = session.run(query, {"entity_id": entity_id}).values()
            if not rows:
                raise no_entity(entity_id)
            label, description, types, aliases, *values = rows[0][0]
            found = dict(zip([*plain, *dates, *date_lists], values, strict=True))
            found |= {name: _date(found[name]) for name in (*dates, *date_lists)}
            facts = _neighbours(session, [entity_id], ("out", "in"), None, None)
            return EntityDescription(
                entity_id=entity_id,
                label=label,
                description=description,
                types=tuple(types),
                aliases=tuple(aliases),
                attributes={prop.name: found[prop.name] for prop in properties if found[prop.name] is not None},
                facts_out=tuple(fact for fact in facts if fact.direction == "out"),
                facts_in=tuple(fact for fact in facts if fact.direction == "in"),
            )

        return self._reader.ask(question)

    def expand(
        self,
        entity_ids: Sequence[str],
        num_hops: int,
        *,
        relations: Sequence[str] | None = None,
        direction: Direction = "both",
    ) -> dict[str, int]:
        """Distance in hops of each entity within `num_hops` of the nearest seed."""
        check_direction(direction)
        check_not_negative("num_hops", num_hops)
        seeds = list(dict.fromkeys(entity_ids))

        def question(session: neo4j.Session, served: Served) -> dict[str, int]:
            types = choose_types(relations, served.relation_ids)
            _check_entities(session, seeds)
            hops = dict.fromkeys(seeds, 0)
            if num_hops and types != ():
                query = statements.expand_neo4j(direction, types, num_hops)
                for part in _parts(seeds, _IDS_PER_QUERY):
                    for entity_id, hop in session.run(query, {"ids": part}).values():
                        hops[entity_id] = min(hop, hops.get(entity_id, hop))
            return hops

        return self._reader.ask(question)


def _ways(direction: str) -> tuple[str, ...]:
    return ("out", "in") if direction == "both" else (direction,)


def _parts(items: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _check_entities(session: neo4j.Session, ids: Sequence[str]) -> None:
    for part in _parts(ids, _IDS_PER_QUERY):
        if missing := session.run(statements.MISSING_ENTITIES, {"ids": part}).values():
            raise no_entity(missing[0][0])


def _ways_to_find(name: str, indexes: Collection[str]) -> tuple[str, ...]:
    """The steps of ``find_entity``, by an index of words where it finds all that reading every entity would.

    An alias without words is in no index. Beyond ASCII, Lucene and Cypher disagree on some lower-case letters (final
    sigma, dotted İ), and a name without letters or digits has no words.
    """
    by_alias, in_any_case = statements.FIND_BY_ALIAS, statements.FIND_BY_ANY_CASE
    if statements.ALIAS_INDEX in indexes and name.strip():
        by_alias = statements.FIND_BY_ALIAS_INDEXED
    if statements.WORD_INDEX in indexes and name.isascii() and any(map(str.isalnum, name)):
        in_any_case = statements.FIND_BY_ANY_CASE_INDEXED
    return statements.FIND_BY_ID, by_alias, statements.FIND_BY_LABEL, in_any_case


def _phrase(text: str) -> str:
    """The words of a text in their order, as Lucene's query language has it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _neighbours(
    session: neo4j.Session,
    seeds: Sequence[str],
    ways: Sequence[str],
    types: Sequence[str] | None,
    limit: int | None,
) -> list[Neighbour]:
    """All seeds' neighbours in the order of the protocol."""
    found: dict[str, list[Neighbour]] = {seed: [] for seed in seeds}
    query = statements.neighbours_neo4j(ways, types, limited=limit is not None)
    for part in _parts(seeds, _IDS_PER_QUERY) if types != () else ():
        parameters = {"ids": part} | ({} if limit is None else {"limit": limit})
        for seed, way, steps in session.run(query, parameters).values():
            found[seed] += [
                Neighbour(seed, way, relation, neighbour, label, tuple(sources))
                for relation, neighbour, label, sources in steps
            ]
    _check_entities(session, [seed for seed in seeds if not found[seed]])
    order = {"out": 0, "in": 1}
    return [
        step
        for seed in seeds
        for step in sorted(found[seed], key=lambda step: (order[step.direction], step.relation, step.neighbour_id))
    ]


def _steps(
    session: neo4j.Session, ids: Sequence[str], direction: str, types: Sequence[str] | None
) -> Iterable[tuple[str, Step]]:
    if types == ():
        return
    query = statements.steps_neo4j(_ways(direction), types)
    for part in _parts(ids, _IDS_PER_QUERY):
        for here, way, steps in session.run(query, {"ids": part}).values():
            for relation, entity_id in steps:
                yield here, Step(way, relation, entity_id)


def _date(text: Any) -> Any:
    """A date, or a list of dates, from ISO text; text stays where Python's dates do not reach."""
    if isinstance(text, list):
        return [_date(one) for one in text]
    if text is None or text[0] in "+-" or text.startswith("0000"):
        return text
    return datetime.date.fromisoformat(text)
