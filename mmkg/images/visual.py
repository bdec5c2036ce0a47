"""What an entity is, as far as a graph says so, and which entities are worth a request for a picture.

Three things say of what type an entity is, and each is an IRI that the config may name under `types`:

- its types, as `entities.types` has them;
- the relations it is the head of, where they are Freebase's: ``people.person.nationality`` says that its head is a
  ``people.person`` (a property of Freebase is called after its type). FB15k has no other types;
- the relations that point at it: whatever ``base.petbreeds.dog_city_relationship.dog_breed`` points at is in that role.
  Of a relation over a compound value, ``a.b.c..d.e.f``, the first part speaks of the head and the last of the tail.

The second and third are evidence, not statements; they are used where an entity is to be told from its namesakes, and
for types that the config names.
"""

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from mmkg.images.graph_view import put
from mmkg.terms import FREEBASE


def type_of_head(relation_id: str) -> str | None:
    """The type that a relation of Freebase says its head has; None for other relations.

    >>> type_of_head("http://rdf.freebase.com/ns/film.actor.film..film.performance.film")
    'http://rdf.freebase.com/ns/film.actor'
    """
    if not relation_id.startswith(FREEBASE):
        return None
    kind, dot, _ = relation_id.removeprefix(FREEBASE).partition("..")[0].rpartition(".")
    return FREEBASE + kind if dot and "." in kind else None


def role_of_tail(relation_id: str) -> str:
    """The role in which a relation's tail stands: the relation itself, of one over a compound value its last part.

    >>> role_of_tail("http://rdf.freebase.com/ns/film.actor.film..film.performance.film")
    'http://rdf.freebase.com/ns/film.performance.film'
    """
    _, dots, last = relation_id.partition("..") if relation_id.startswith(FREEBASE) else ("", "", "")
    return FREEBASE + last if dots else relation_id


def put_relation_types(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the table `relation_types` (relation_index, head_type, tail_role); once a connection."""
    rows = connection.execute("SELECT relation_index, relation_id FROM relations").fetchall()
    put(
        connection,
        "relation_types",
        pa.table(
            {
                "relation_index": pa.array([index for index, _ in rows], pa.int64()),
                "head_type": pa.array([type_of_head(iri) for _, iri in rows], pa.string()),
                "tail_role": pa.array([role_of_tail(iri) for _, iri in rows], pa.string()),
            }
        ),
    )


def put_typed(connection: duckdb.DuckDBPyConnection, types: Sequence[str], target: str) -> None:
    """Make a table of the entities that have one of some types, by any of the three kinds of evidence.

    Args:
        connection: with `relation_types`.
        types: IRIs; one that was merged into another stands for that one too.
        target: name of the new table: entity_index, each once.
    """
    connection.execute(
        f"""
        CREATE OR REPLACE TABLE {target} AS
        WITH asked AS (
            SELECT unnest($types) AS type
            UNION
            SELECT entity_id FROM entities WHERE list_has_any(aliases, $types)
        ),
        typed AS (SELECT entity_index, unnest(types) AS type FROM entities),
        heads AS (SELECT relation_index FROM relation_types WHERE head_type IN (SELECT type FROM asked)),
        tails AS (SELECT relation_index FROM relation_types WHERE tail_role IN (SELECT type FROM asked))
        SELECT entity_index FROM typed WHERE type IN (SELECT type FROM asked)
        UNION
        SELECT head_index FROM triples WHERE relation_index IN (SELECT relation_index FROM heads)
        UNION
        SELECT tail_index FROM triples WHERE relation_index IN (SELECT relation_index FROM tails)
        """,  # noqa: S608 - a name of our own
        {"types": list(types)},
    )


def put_evidence(connection: duckdb.DuckDBPyConnection, entities: str, target: str) -> None:
    """Make a table of all that is known of what some entities are.

    Args:
        connection: with `relation_types`.
        entities: table with a column entity_index.
        target: name of the new table: entity_index, type; each pair once.
    """
    connection.execute(
        f"""
        CREATE OR REPLACE TABLE {target} AS
        WITH asked AS (SELECT DISTINCT entity_index FROM {entities})
        SELECT entity_index, unnest(types) AS type FROM entities SEMI JOIN asked USING (entity_index)
        UNION
        SELECT head_index, head_type FROM triples JOIN relation_types USING (relation_index)
        WHERE head_type IS NOT NULL AND head_index IN (SELECT entity_index FROM asked)
        UNION
        SELECT tail_index, tail_role FROM triples JOIN relation_types USING (relation_index)
        WHERE tail_index IN (SELECT entity_index FROM asked)
        """  # noqa: S608 - names of our own
    )


def put_shares(connection: duckdb.DuckDBPyConnection, types: Sequence[str], target: str) -> None:
    """Make a table of how common some types are: type, share (of all entities that have it)."""
    connection.execute(
        f"""
        CREATE OR REPLACE TABLE {target} AS
        WITH asked AS (SELECT unnest($types) AS type),
        typed AS (
            SELECT entity_index, type FROM (SELECT entity_index, unnest(types) AS type FROM entities)
            SEMI JOIN asked USING (type)
            UNION
            SELECT head_index, head_type FROM triples JOIN relation_types USING (relation_index)
            WHERE head_type IN (SELECT type FROM asked)
            UNION
            SELECT tail_index, tail_role FROM triples JOIN relation_types USING (relation_index)
            WHERE tail_role IN (SELECT type FROM asked)
        )
        SELECT type, count(*) / (SELECT count(*) FROM entities) AS share FROM typed GROUP BY type
        """,  # noqa: S608 - a name of our own
        {"types": list(types)},
    )
