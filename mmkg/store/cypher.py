"""All Cypher that mmkg itself writes: names are checked and quoted here, values travel as ``$parameters``.

Statements are for the embedded store; what reads the same on Neo4j is marked so, and what is only for Neo4j stands in
the last part. (What loads a Neo4j is in ``neo4j/statements.py``.)
"""

import re
from collections.abc import Sequence
from pathlib import Path

from mmkg.errors import StoreError

NODE_TABLE = "Entity"
IMAGE_TABLE = "Image"
IMAGE_LINK = "HAS_IMAGE"  # from an entity to its pictures
KEYS = {NODE_TABLE: "entity_id", IMAGE_TABLE: "sha256"}  # label of a node → the property that names it
RESULT_LIMIT = 1_000_000_000  # for `LIMIT $limit` where none is asked for

_NAME = re.compile(r"[A-Za-z0-9_]+")
_COLUMN_TYPE = re.compile(r"(STRING|DOUBLE|DATE)(\[\])?")


def quote_name(name: str) -> str:
    """A relation's or attribute's name in backticks; reads the same on Neo4j.

    Raises:
        StoreError: it holds anything but ASCII letters, digits and ``_``. A dot would be taken for ``database.table``
            even in backticks, and other characters are how a query is smuggled into a name.
    """
    if not _NAME.fullmatch(name):
        raise StoreError(
            f"a relation or attribute is called {name[:80]!r}: expected only A-Z, a-z, 0-9 and _. "
            "The columns `name` of the tables `relations` and `attributes` hold such names: build the graph again."
        )
    return f"`{name}`"


def quote_path(path: Path) -> str:
    """A file's path as a string literal of COPY, which takes ``* ? [`` for a pattern and ``\\`` for an escape."""
    literal = re.sub(r"([*?\[])", r"[\1]", str(path))
    return "'" + literal.replace("\\", "\\\\").replace("'", "\\'") + "'"


def relationship_pattern(types: Sequence[str] | None) -> str:
    """``:`a`|`b``` for the inside of ``-[r…]-``; empty for all types; reads the same on Neo4j."""
    return "" if types is None else ":" + "|".join(quote_name(name) for name in types)


# --- definition and load of an embedded database ---------------------------------------------------------------------


def add_property(name: str, column_type: str) -> str:
    """Give entities one more property.

    Raises:
        StoreError: the name or the type is none of ours.
    """
    if not _COLUMN_TYPE.fullmatch(column_type):
        raise StoreError(f"property {name}: expected STRING, DOUBLE or DATE, or a list of them, found {column_type!r}")
    return f"ALTER TABLE {NODE_TABLE} ADD {quote_name(name)} {column_type}"


def create_relationship(name: str) -> str:
    """Make one relationship type, from entity to entity."""
    return (
        f"CREATE REL TABLE {quote_name(name)}(FROM {NODE_TABLE} TO {NODE_TABLE}, relation_id STRING, sources STRING[])"
    )


def copy_into(name: str, file: Path) -> str:
    """Append the rows of a Parquet file to a node or relationship table."""
    return f"COPY {quote_name(name)} FROM {quote_path(file)}"


CHECKPOINT = "CHECKPOINT"

# --- verification ----------------------------------------------------------------------------------------------------

COUNT_ENTITIES = f"MATCH (e:{NODE_TABLE}) RETURN count(*)"
COUNT_IMAGES = f"MATCH (i:{IMAGE_TABLE}) RETURN count(*)"
SHOW_TABLES = "CALL show_tables() RETURN name, type"


def count_relationships(name: str) -> str:
    """Number of relationships of one type; reads the same on Neo4j."""
    return f"MATCH ()-[r:{quote_name(name)}]->() RETURN count(*)"


def find_relationship(name: str) -> str:
    """The relationships of one type from ``$head`` to ``$tail``; reads the same on Neo4j."""
    return (
        f"MATCH (h:{NODE_TABLE} {{entity_id: $head}})-[r:{quote_name(name)}]->(t:{NODE_TABLE} {{entity_id: $tail}}) "
        "RETURN r.relation_id, r.sources"
    )


def entity_properties(names: Sequence[str]) -> str:
    """Chosen properties of ``$entity_id``; reads the same on Neo4j."""
    columns = ", ".join(f"e.{quote_name(name)}" for name in names)
    return f"MATCH (e:{NODE_TABLE} {{entity_id: $entity_id}}) RETURN {columns}"


# --- questions -------------------------------------------------------------------------------------------------------

# The steps by which a name is looked up; the first that finds anything decides. They read the same on Neo4j.
FIND_BY_ID = f"MATCH (e:{NODE_TABLE} {{entity_id: $name}}) RETURN e.entity_id ORDER BY e.entity_id"
FIND_BY_ALIAS = f"MATCH (e:{NODE_TABLE}) WHERE $name IN e.aliases RETURN e.entity_id ORDER BY e.entity_id"
FIND_BY_LABEL = f"MATCH (e:{NODE_TABLE}) WHERE e.label = $name RETURN e.entity_id ORDER BY e.entity_id"
FIND_BY_ANY_CASE = (
    f"MATCH (e:{NODE_TABLE}) WHERE toLower(e.label) = toLower($name) RETURN e.entity_id ORDER BY e.entity_id"
)
FIND_ENTITY = (FIND_BY_ID, FIND_BY_ALIAS, FIND_BY_LABEL, FIND_BY_ANY_CASE)
# The second and the last step on Neo4j, through its indexes of words; ``$words`` are Lucene's query.
ALIAS_INDEX, WORD_INDEX = "entity_aliases", "entity_words"
FIND_BY_ALIAS_INDEXED = (
    f"CALL db.index.fulltext.queryNodes('{ALIAS_INDEX}', $words) YIELD node AS e "
    "WHERE $name IN e.aliases RETURN e.entity_id ORDER BY e.entity_id"
)
FIND_BY_ANY_CASE_INDEXED = (
    f"CALL db.index.fulltext.queryNodes('{WORD_INDEX}', 'label:' + $words) YIELD node AS e "
    "WHERE toLower(e.label) = toLower($name) RETURN e.entity_id ORDER BY e.entity_id"
)
ONLINE_INDEXES = "SHOW INDEXES YIELD name, state WHERE state = 'ONLINE' RETURN name"
# The pictures of ``$entity_id``, in the order of the fields of `EntityImage`; reads the same on Neo4j.
_IMAGE_FIELDS = (
    "i.sha256, r.rank, r.score, i.url, i.licence, i.author, i.source_page, i.width_px, i.height_px, i.format"
)
FIND_IMAGES = (
    f"MATCH (e:{NODE_TABLE} {{entity_id: $entity_id}})-[r:{IMAGE_LINK}]->(i:{IMAGE_TABLE}) RETURN {_IMAGE_FIELDS}"
)
HAS_ENTITY = f"MATCH (e:{NODE_TABLE} {{entity_id: $entity_id}}) RETURN count(*)"


def neighbours(direction: str, types: Sequence[str] | None, *, limited: bool) -> str:
    """What lies one step from ``$entity_id``: type, neighbour, its label, sources.

    One seed a query: `UNWIND $seeds` and `IN $seeds` make the engine read whole tables (field notes: 1,020 and
    258 ms for 100 seeds against 8 ms).
    """
    left, right = ("-", "->") if direction == "out" else ("<-", "-")
    query = (
        f"MATCH (e:{NODE_TABLE} {{entity_id: $entity_id}})"
        f"{left}[r{relationship_pattern(types)}]{right}(n:{NODE_TABLE}) "
        "RETURN label(r) AS relation, n.entity_id AS neighbour, n.label AS neighbour_label, r.sources AS sources"
    )
    return f"{query} ORDER BY relation, neighbour LIMIT $limit" if limited else query


def expand(direction: str, types: Sequence[str], num_hops: int) -> str:
    """All entities within `num_hops` of ``$entity_id`` with their distance, the seed itself left out.

    The types must be named: a pattern of any type leads from one entity to another through a picture that both have.
    """
    left, right = {"out": ("-", "->"), "in": ("<-", "-"), "both": ("-", "-")}[direction]
    return (
        f"MATCH p = (e:{NODE_TABLE} {{entity_id: $entity_id}})"
        f"{left}[{relationship_pattern(types)}* SHORTEST 1..{int(num_hops)}]{right}(n:{NODE_TABLE}) "
        "RETURN n.entity_id, length(p)"
    )


# --- questions, on Neo4j ---------------------------------------------------------------------------------------------

# What a reader knows its answer's graph by; see neo4j/state.py.
READ_SERVED = "MATCH (s:MmkgStore {key: 'store'}) RETURN s.flips, s.state, s.build"
READ_EDITIONS = "CALL dbms.components() YIELD edition RETURN collect(edition) AS editions"
MISSING_ENTITIES = (
    f"UNWIND $ids AS id OPTIONAL MATCH (e:{NODE_TABLE} {{entity_id: id}}) WITH id, e WHERE e IS NULL RETURN id LIMIT 1"
)


def neighbours_neo4j(ways: Sequence[str], types: Sequence[str] | None, *, limited: bool) -> str:
    """What lies one step from each of ``$ids``, in one row a seed and direction, in any order.

    Seed, direction, [[type, neighbour, its label, sources], …]; with `limited`, the first ``$limit`` of these. Grouped
    so, the driver reads twice as many a second as with a row each.
    """
    parts = []
    for way in ways:
        step = f"(e){_arrow(way, 'r' + relationship_pattern(types))}(n:{NODE_TABLE})"
        first = "WITH r, n ORDER BY type(r), n.entity_id LIMIT $limit RETURN r, n } WITH id, r, n" if limited else ""
        match = f"CALL (e) {{ MATCH {step} {first}" if limited else f"MATCH {step}"
        parts.append(
            f"UNWIND $ids AS id MATCH (e:{NODE_TABLE} {{entity_id: id}}) {match} "
            f"RETURN id, '{way}' AS way, collect([type(r), n.entity_id, n.label, r.sources]) AS steps"
        )
    return " UNION ALL ".join(parts)


# The pictures of each of ``$ids`` that has any, in one row a seed: seed, [[field of `EntityImage`, …], …].
FIND_IMAGES_NEO4J = (
    f"UNWIND $ids AS id MATCH (e:{NODE_TABLE} {{entity_id: id}})-[r:{IMAGE_LINK}]->(i:{IMAGE_TABLE}) "
    f"RETURN id, collect([{_IMAGE_FIELDS}]) AS images"
)


def steps_neo4j(ways: Sequence[str], types: Sequence[str] | None) -> str:
    """All steps from each of ``$ids``, in one row a seed and direction: seed, direction, [[type, neighbour], …]."""
    return " UNION ALL ".join(
        f"UNWIND $ids AS id MATCH (e:{NODE_TABLE} {{entity_id: id}})"
        f"{_arrow(way, 'r' + relationship_pattern(types))}(n:{NODE_TABLE}) "
        f"RETURN id, '{way}' AS way, collect([type(r), n.entity_id]) AS steps"
        for way in ways
    )


def expand_neo4j(direction: str, types: Sequence[str] | None, num_hops: int) -> str:
    """All entities within `num_hops` of any of ``$ids`` with their distance to the nearest.

    Asked for the smallest length alone, the server visits each entity once (its plan says `VarLengthExpand(Pruning,
    BFS,All)`); for the paths, or by a quantified pattern, it would walk every path: 5,000³ of them around a hub. Along
    any type, a step might lead to a picture, and on to whoever else has it: the condition stands in the same plan.
    (Naming thousands of types instead stops the server's planner.)
    """
    entities_only = f"WHERE all(m IN nodes(p) WHERE m:{NODE_TABLE}) " if types is None else ""
    return (
        f"UNWIND $ids AS id MATCH (e:{NODE_TABLE} {{entity_id: id}}) "
        f"MATCH p = (e){_arrow(direction, relationship_pattern(types) + f'*1..{int(num_hops)}')}(n:{NODE_TABLE}) "
        f"{entities_only}WITH n, min(length(p)) AS hop RETURN n.entity_id, hop"
    )


def count_relationships_neo4j(names: Sequence[str]) -> str:
    """Number of relationships of each type; from the server's own counters."""
    return " UNION ALL ".join(
        f"MATCH ()-[r:{quote_name(name)}]->() RETURN '{name}' AS relation, count(r) AS number" for name in names
    )


def describe_entity_neo4j(names: Sequence[str], dates: Sequence[str], date_lists: Sequence[str]) -> str:
    """Chosen properties of ``$entity_id``; dates as ISO text, because the driver cannot read those before year 1."""
    columns = [f"e.{quote_name(name)}" for name in names]
    columns += [f"toString(e.{quote_name(name)})" for name in dates]
    columns += [f"[day IN e.{quote_name(name)} | toString(day)]" for name in date_lists]
    return f"MATCH (e:{NODE_TABLE} {{entity_id: $entity_id}}) RETURN [{', '.join(columns)}] AS row"


def _arrow(direction: str, inside: str) -> str:
    left, right = {"out": ("-", "->"), "in": ("<-", "-"), "both": ("-", "-")}[direction]
    return f"{left}[{inside}]{right}"
