"""A graph's tables as discovery asks them: views of DuckDB, and every IRI that an entity is known by.

What was found so far (candidates, what stays unmatched) is kept in the same connection, so that it spills to disk
instead of filling memory.
"""

import contextlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa

from mmkg.shards import table_glob
from mmkg.terms import FREEBASE

WIKIDATA = "http://www.wikidata.org/entity/"
BATCH_ROWS = 1 << 16

_FREEBASE_ID = re.compile(r"/?(?P<letter>[mg])[./](?P<id>[0-9a-z_]+)")
_WIKIDATA_ID = re.compile(r"Q[1-9][0-9]*")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s]")
_TABLES = ("entities", "relations", "triples", "literals", "attributes")


@contextlib.contextmanager
def open_graph(
    graph_folder: Path,
    read_folders: Sequence[Path] = (),
    *,
    spill_folder: Path | None = None,
    memory_limit: str = "2GB",
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a graph for the time of a ``with`` block.

    It has the graph's tables `entities`, `relations`, `triples`, `literals` and `attributes`; `raw` (head, relation,
    tail, value: the statements as they were read); and `ids` (bare, iri, entity_index): every IRI of every entity, and
    the same without http: or https:.

    Args:
        graph_folder: a finished build of a graph.
        read_folders: finished read stages.
        spill_folder: where what does not fit goes; a temporary folder of the system's unless given.
        memory_limit: of the engine.
    """
    with tempfile.TemporaryDirectory(prefix="mmkg-spill-", dir=spill_folder) as spill:
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": memory_limit,
            "temp_directory": spill,
        }
        with duckdb.connect(config=settings) as connection:
            for table in _TABLES:
                connection.read_parquet(table_glob(graph_folder, table)).create_view(table)
            globs = [table_glob(folder, "triples_raw") for folder in read_folders if (folder / "triples_raw").is_dir()]
            if globs:
                columns = "head, relation, tail, value"
                connection.read_parquet(globs).project(columns).create_view("raw")
            else:
                connection.execute("CREATE TABLE raw (head VARCHAR, relation VARCHAR, tail VARCHAR, value VARCHAR)")
            connection.execute(
                """
                CREATE TABLE ids AS
                SELECT regexp_replace(iri, '^https?:', '') AS bare, iri, entity_index FROM (
                    SELECT entity_id AS iri, entity_index FROM entities
                    UNION ALL
                    SELECT unnest(aliases) AS iri, entity_index FROM entities
                )
                """
            )
            yield connection


def put(connection: duckdb.DuckDBPyConnection, table: str, rows: pa.Table | pa.RecordBatchReader) -> None:
    """Append rows to a table of the connection by the names of their columns; it is made if it is not there."""
    connection.register("incoming", rows)
    try:
        there = connection.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = $1", [table]).fetchall()
        verb = "INSERT INTO {} BY NAME" if there[0][0] else "CREATE TABLE {} AS"
        connection.execute(f"{verb.format(table)} SELECT * FROM incoming")  # noqa: S608 - names of our own
    finally:
        connection.unregister("incoming")


def as_iri(text: str) -> str | None:
    """The IRI that a list or a mapping means; None where it is a name.

    >>> as_iri("/m/0hg5"), as_iri("m.0hg5") == as_iri("/m/0hg5"), as_iri("Q228"), as_iri("Andorra")
    ('http://rdf.freebase.com/ns/m.0hg5', True, 'http://www.wikidata.org/entity/Q228', None)
    """
    plain = text.strip()
    if plain.startswith("<") and plain.endswith(">"):
        plain = plain[1:-1]
    if match := _FREEBASE_ID.fullmatch(plain):
        return f"{FREEBASE}{match['letter']}.{match['id']}"
    if _WIKIDATA_ID.fullmatch(plain):
        return WIKIDATA + plain
    # A colon makes no IRI of "Star Trek: Nemesis", nor of "Alien:Covenant": what we look up has a host or is a URN.
    if _SCHEME.match(plain) and " " not in plain and ("://" in plain or plain.startswith("urn:")):
        return plain
    return None


def index_iris(connection: duckdb.DuckDBPyConnection, source: str, target: str) -> None:
    """Make a table of the rows of another with the entity that each `iri` is known by.

    Args:
        connection: from :func:`open_graph`.
        source: table with a column `iri`.
        target: name of the new table: the columns of `source`, and entity_index; null where nothing is called so. An
            IRI that differs in http and https only counts where the exact one is no entity.
    """
    connection.execute(
        f"""
        CREATE OR REPLACE TABLE {target} AS
        WITH asked AS (SELECT DISTINCT iri FROM {source}),
        found AS (
            SELECT asked.iri, arg_min(ids.entity_index, (ids.iri <> asked.iri, ids.iri)) AS entity_index
            FROM asked JOIN ids ON ids.bare = regexp_replace(asked.iri, '^https?:', '') GROUP BY asked.iri
        )
        SELECT {source}.*, found.entity_index FROM {source} LEFT JOIN found USING (iri)
        """  # noqa: S608 - names of our own
    )
