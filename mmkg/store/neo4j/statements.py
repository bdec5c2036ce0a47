"""All Cypher that the Neo4j loader writes: names are checked and quoted here, values travel as ``$parameters``.

Nodes are named by the server's own number, ``id()``, wherever a loader has just read or made them: in one run, 20 k a
batch, 27 k relationships/s against 10 k/s with a look-up of both ends by `entity_id`.
"""

from collections.abc import Sequence

from mmkg.store.cypher import IMAGE_LINK, IMAGE_TABLE, KEYS, NODE_TABLE, quote_name, relationship_pattern
from mmkg.store.model import Property

STATE_LABEL = "MmkgStore"
MIGRATION_LABEL = "MmkgMigration"
LANE_LABEL = "MmkgLane"
OUR_LABELS = (STATE_LABEL, MIGRATION_LABEL, LANE_LABEL)
GRAPH_LABELS = (NODE_TABLE, IMAGE_TABLE)


def quote_any_name(name: str) -> str:
    """A name that somebody else chose, in backticks.

    The server replaces ``\\uXXXX`` before it parses, also between backticks, and once: so a backslash is written as its
    own number, lest a label that holds the text ``\\u0060`` becomes a backtick.
    """
    return "`" + name.replace("\\", "\\u005C").replace("`", "``") + "`"


# --- state, locks and watermark --------------------------------------------------------------------------------------

READ_STATE = f"MATCH (s:{STATE_LABEL} {{key: 'store'}}) RETURN s{{.*}} AS state"
READ_FLIPS = f"MATCH (s:{STATE_LABEL} {{key: 'store'}}) RETURN s.flips AS flips"
REMOVE_STATE = f"MATCH (s:{STATE_LABEL}) DETACH DELETE s"
SHOW_TRANSACTIONS = (
    "SHOW TRANSACTIONS YIELD transactionId, metaData, status, estimatedUsedHeapMemory "
    "WHERE metaData[$key] = $kind "
    "RETURN transactionId AS transaction_id, metaData AS metadata, status, estimatedUsedHeapMemory AS heap_bytes"
)
TERMINATE_TRANSACTION = "TERMINATE TRANSACTION $transaction_id YIELD message RETURN message"
SHOW_SETTINGS = "SHOW SETTINGS YIELD name, value WHERE name IN $names RETURN name, value"
NOTHING = "RETURN 1"
MAKE_NAME = "CALL db.createProperty($name)"
# Take the place of the loader before, in all lanes: what it still sends is refused from here on.
# SET first: it waits for the lock.
TAKE_OVER = (
    f"UNWIND range(0, $lanes - 1) AS lane MERGE (:{LANE_LABEL} {{lane: lane}}) WITH count(*) AS lanes "
    f"MATCH (l:{LANE_LABEL}) SET l.load_id = $load_id, l.done = 0 WITH count(*) AS lanes "
    f"MERGE (s:{STATE_LABEL} {{key: 'store'}}) "
    "ON CREATE SET s.state = 'loading', s.flips = 0 "
    "SET s.load_id = $load_id, s.holder = $holder, s.format = $format, s.graph = coalesce(s.graph, $graph) "
    "RETURN s.state"
)
READ_LANE = f"MATCH (l:{LANE_LABEL} {{lane: $lane}}) RETURN l.load_id AS load_id, l.done AS done"
HOLD_LANE = (
    f"MATCH (l:{LANE_LABEL} {{lane: 0}}) SET l.asked = $load_id "
    "WITH l WHERE l.load_id = $load_id RETURN count(l) AS held"
)
# Odd while a flip is being committed; a number left odd by a killed loader goes to the next odd one.
BEGIN_FLIP = (
    f"MATCH (s:{STATE_LABEL} {{key: 'store'}}) SET s.asked = $load_id WITH s WHERE s.load_id = $load_id "
    "SET s.flips = s.flips + CASE s.flips % 2 WHEN 0 THEN 1 ELSE 2 END RETURN s.flips AS flips"
)
END_FLIP = (
    f"MATCH (s:{STATE_LABEL} {{key: 'store'}}) SET s.asked = $load_id WITH s WHERE s.load_id = $load_id "
    "SET s.flips = s.flips + s.flips % 2 RETURN s.flips AS flips"
)
SET_STATE = (
    f"MATCH (s:{STATE_LABEL} {{key: 'store'}}) SET s.asked = $load_id WITH s WHERE s.load_id = $load_id "
    "SET s += $values RETURN s.flips AS flips"
)
# A batch that is sent again after a lost connection does nothing if it was done: $batch counts up in its lane.
_ONCE = (
    f"MATCH (l:{LANE_LABEL} {{lane: $lane}}) SET l.asked = $batch "
    "WITH l WHERE l.load_id = $load_id AND l.done < $batch SET l.done = $batch WITH l "
)


def once(statement: str) -> str:
    """The statement as a transaction of its own that is done at most once, and only by who holds the place.

    While a store fills, its statistics change all the time; a plan is kept none the less, as there is only one way.
    """
    return f"CYPHER replan=skip {_ONCE}{statement}"


# --- nodes -----------------------------------------------------------------------------------------------------------


def _set_dates(properties: Sequence[Property], values: str) -> str:
    """Dates travel as days since ``$epoch``: neither the driver nor Python has dates before the year 1."""
    parts = []
    for place, prop in enumerate(prop for prop in properties if prop.value_column == "date"):
        value = f"{values}[{place}]"
        if prop.many:
            parts.append(f"{quote_name(prop.name)}: [d IN {value} | $epoch + duration({{days: d}})]")
        else:
            day = f"CASE WHEN {value} IS NULL THEN null ELSE $epoch + duration({{days: {value}}}) END"
            parts.append(f"{quote_name(prop.name)}: {day}")
    return f" SET e += CASE WHEN {values} IS NULL THEN {{}} ELSE {{{', '.join(parts)}}} END" if parts else ""


def create_nodes(properties: Sequence[Property], label: str = NODE_TABLE) -> str:
    """Make nodes out of ``$rows`` of [properties, dates]; returns their numbers in the same order."""
    return (
        f"UNWIND $rows AS row CREATE (e:{label}) SET e = row[0]{_set_dates(properties, 'row[1]')} "
        "RETURN collect(id(e)) AS ids"
    )


def update_nodes(properties: Sequence[Property], label: str = NODE_TABLE) -> str:
    """Give the nodes of ``$rows``, [number, properties, dates], new properties; null removes one."""
    return (
        f"UNWIND $rows AS row MATCH (e:{label}) WHERE id(e) = row[0] SET e += row[1]"
        f"{_set_dates(properties, 'row[2]')} RETURN count(e) AS done"
    )


def delete_nodes(label: str) -> str:
    """Remove the nodes of ``$rows``.

    DELETE, not DETACH: one that somebody has just tied to something stops the load.
    """
    return f"UNWIND $rows AS row MATCH (e:{label}) WHERE id(e) = row[0] DELETE e RETURN count(*) AS done"


def find_nodes(label: str) -> str:
    """Key and number of each node of ``$ids`` that is there."""
    key = KEYS[label]
    return f"UNWIND $ids AS id MATCH (e:{label} {{{key}: id}}) RETURN e.{key} AS key, id(e) AS id"


# --- relationships ---------------------------------------------------------------------------------------------------

# ``$rows`` are [head, tail, place in ``$types``, place in ``$sources``], sorted by type, head and tail.
_BOTH_ENDS = (
    f"UNWIND $rows AS row MATCH (h:{NODE_TABLE}) WHERE id(h) = row[0] MATCH (t:{NODE_TABLE}) WHERE id(t) = row[1] "
)


def create_edges(types: Sequence[str]) -> str:
    """Make relationships of the types of ``$types``.

    The server needs 20 to 50 ms to plan a statement, for a small type more than the work itself; several types in one
    statement need half of that each. Not ``:$(type)``: Neo4j 5.26.0 takes the type of the first row that it ever met
    with a statement for all rows of all its later runs (tried), and makes relationships of a wrong type.
    """
    if len(types) == 1:
        return f"{_BOTH_ENDS}CREATE (h)-[:{quote_name(types[0])} {_edge_properties(0)}]->(t) RETURN count(*) AS done"
    parts = [
        f"FOREACH (x IN CASE row[2] WHEN {place} THEN [1] ELSE [] END | "
        f"CREATE (h)-[:{quote_name(name)} {_edge_properties(place)}]->(t))"
        for place, name in enumerate(types)
    ]
    return f"{_BOTH_ENDS}{' '.join(parts)} RETURN count(*) AS done"


def _edge_properties(place: int) -> str:
    return f"{{relation_id: $relation_ids[{place}], sources: $sources[row[3]]}}"


UPDATE_EDGES = (
    f"{_BOTH_ENDS}MATCH (h)-[r]->(t) WHERE type(r) = $types[row[2]] "
    "SET r = {relation_id: $relation_ids[row[2]], sources: $sources[row[3]]} RETURN count(*) AS done"
)
# All relationships of the type between the two ends; `done` counts the pairs of ends.
DELETE_EDGES = (
    f"{_BOTH_ENDS}MATCH (h)-[r]->(t) WHERE type(r) = $types[row[2]] WITH row, collect(r) AS found "
    "FOREACH (r IN found | DELETE r) RETURN count(*) AS done"
)

# ``$rows`` are [entity, picture, rank, score]; a score that is null is none.
_ENTITY_AND_IMAGE = (
    f"UNWIND $rows AS row MATCH (h:{NODE_TABLE}) WHERE id(h) = row[0] MATCH (t:{IMAGE_TABLE}) WHERE id(t) = row[1] "
)
CREATE_IMAGE_LINKS = (
    f"{_ENTITY_AND_IMAGE}CREATE (h)-[:{IMAGE_LINK} {{rank: row[2], score: row[3]}}]->(t) RETURN count(*) AS done"
)
UPDATE_IMAGE_LINKS = (
    f"{_ENTITY_AND_IMAGE}MATCH (h)-[r:{IMAGE_LINK}]->(t) SET r = {{rank: row[2], score: row[3]}} "
    "RETURN count(*) AS done"
)
# All links between the two; `done` counts the pairs.
DELETE_IMAGE_LINKS = (
    f"{_ENTITY_AND_IMAGE}MATCH (h)-[r:{IMAGE_LINK}]->(t) WITH row, collect(r) AS found "
    "FOREACH (r IN found | DELETE r) RETURN count(*) AS done"
)


# --- what somebody else wrote ----------------------------------------------------------------------------------------

GRAPH_COUNTS = "CALL db.stats.retrieve('GRAPH COUNTS') YIELD data RETURN data"
FOREIGN_NODES = (
    f"MATCH (n) WHERE NOT n:{'|'.join(GRAPH_LABELS)} AND none(label IN labels(n) WHERE label IN $ours) "
    "RETURN id(n) AS id, labels(n) AS labels"
)
FOREIGN_EDGES = (
    "MATCH (h)-[r]->(t) WHERE NOT type(r) IN $types RETURN id(r) AS id, type(r) AS type, "
    "coalesce(h.entity_id, toString(id(h))) AS head, coalesce(t.entity_id, toString(id(t))) AS tail"
)
# Of the right type between nodes of the wrong kind: an entity's link to an entity, a fact about a picture.
MISPLACED_EDGES = (
    f"MATCH (h)-[r]->(t) WHERE (type(r) = '{IMAGE_LINK}' AND NOT (h:{NODE_TABLE} AND t:{IMAGE_TABLE})) "
    f"OR (type(r) IN $types AND NOT (h:{NODE_TABLE} AND t:{NODE_TABLE})) RETURN id(r) AS id"
)
DETACH_NODES = "UNWIND $rows AS row MATCH (n) WHERE id(n) = row[0] DETACH DELETE n RETURN count(*) AS done"
DELETE_EDGES_BY_ID = "UNWIND $rows AS row MATCH ()-[r]->() WHERE id(r) = row[0] DELETE r RETURN count(*) AS done"
REMOVE_PROPERTIES = "UNWIND $rows AS row MATCH (e) WHERE id(e) = row[0] SET e += row[1] RETURN count(*) AS done"
SOME_NODES = "MATCH (n) WHERE none(label IN labels(n) WHERE label IN $ours) RETURN id(n), labels(n) LIMIT $limit"
REMOVE_ALL = (
    "MATCH (n) WHERE none(label IN labels(n) WHERE label IN $ours) WITH n LIMIT $rows DETACH DELETE n "
    "RETURN count(*) AS removed"
)
CONSTRAINTS = (
    "SHOW CONSTRAINTS YIELD labelsOrTypes, properties, type WHERE type CONTAINS 'UNIQUE' "
    "RETURN labelsOrTypes AS labels, properties"
)


def remove_label(label: str) -> str:
    """Take a label from the nodes of ``$rows``."""
    return (
        f"UNWIND $rows AS row MATCH (e) WHERE id(e) = row[0] REMOVE e:{quote_any_name(label)} RETURN count(*) AS done"
    )


# neo4j-admin cannot carry an empty list.
FILL_EMPTY_LISTS = (
    f"MATCH (e:{NODE_TABLE}) WHERE e.types IS NULL OR e.aliases IS NULL CALL (e) {{ "
    "SET e.types = coalesce(e.types, []), e.aliases = coalesce(e.aliases, []) } IN TRANSACTIONS OF $rows ROWS"
)

# --- reading back ----------------------------------------------------------------------------------------------------


def read_nodes(properties: Sequence[Property], vectors: Sequence[str]) -> str:
    """All entities: number, map of properties, labels. A date comes as days since ``$epoch``, else as ``'?'``."""
    parts = [".*"]
    for prop in properties:
        if prop.value_column == "date":
            name = f"e.{quote_name(prop.name)}"
            days = "duration.inDays($epoch, {}).days"
            value, kind = (
                (f"[d IN {name} | {days.format('d')}]", "LIST<DATE NOT NULL>")
                if prop.many
                else (days.format(name), "DATE")
            )
            parts.append(
                f"{quote_name(prop.name)}: CASE WHEN {name} IS NULL THEN null "
                f"WHEN {name} IS :: {kind} THEN {value} ELSE '?' END"
            )
    return _read_all(NODE_TABLE, parts, vectors)


def read_images(vectors: Sequence[str]) -> str:
    """All pictures: number, map of properties, labels. An entity that somebody also called a picture is none."""
    return _read_all(f"{IMAGE_TABLE} & !{NODE_TABLE}", [".*"], vectors)


def _read_all(label: str, parts: list[str], vectors: Sequence[str]) -> str:
    parts = [*parts, *(f"{quote_any_name(name)}: null" for name in vectors)]
    return f"MATCH (e:{label}) RETURN id(e) AS id, e{{{', '.join(parts)}}} AS properties, labels(e) AS labels"


# All links to pictures: numbers of both ends, rank, score; of one that we did not write so, its number and all it has.
READ_IMAGE_LINKS = (
    f"MATCH (h)-[r:{IMAGE_LINK}]->(t) RETURN id(h) AS head, id(t) AS tail, r.rank AS rank, r.score AS score, "
    "CASE WHEN r.rank IS :: INTEGER NOT NULL AND r.score IS :: FLOAT "
    "AND size(keys(r)) = CASE WHEN r.score IS NULL THEN 1 ELSE 2 END "
    "THEN null ELSE {id: id(r), properties: properties(r)} END AS found"
)


# Of a relationship as we write it, its sources; of another one, its number and all it has.
_SOURCES = (
    "CASE WHEN r.relation_id = $relation_ids[type(r)] AND size(keys(r)) = 2 "
    "AND r.sources IS :: LIST<STRING NOT NULL> NOT NULL "
    "THEN r.sources ELSE {id: id(r), properties: properties(r)} END AS found"
)


def read_edges(names: Sequence[str], *, grouped: bool) -> str:
    """All relationships of some types: type, `found`, ends' numbers.

    Args:
        names: the types.
        grouped: one record for each type and distinct `found` with lists of ends: half the work, but the server holds
            them all.
    """
    match = f"MATCH (h)-[r{relationship_pattern(names)}]->(t) RETURN type(r) AS type, {_SOURCES}, "
    return match + ("collect(id(h)) AS heads, collect(id(t)) AS tails" if grouped else "id(h) AS heads, id(t) AS tails")
