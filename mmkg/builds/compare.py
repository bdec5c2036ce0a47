"""What changed between two builds, by ids: indices belong to one build."""

import ibis

from mmkg.builds.opened import Build
from mmkg.shards import table_glob


def compare_builds(old: Build, new: Build) -> dict[str, dict[str, int]]:
    """For entities, relations and triples: how many were added, removed and kept."""
    connection = ibis.duckdb.connect()
    try:
        return {
            table: _compare(*(_keys(connection, build, table) for build in (old, new)))
            for table in ("entities", "relations", "triples")
        }
    finally:
        connection.disconnect()


def _keys(connection: ibis.BaseBackend, build: Build, table: str) -> ibis.Table:
    """The ids that tell the rows of a table apart, in columns of the same name for both builds."""

    def read(name: str) -> ibis.Table:
        return connection.read_parquet(table_glob(build.folder, name))

    if table == "triples":
        triples, relations = read("triples"), read("relations")
        heads = read("entities").select(head_index="entity_index", head="entity_id")
        tails = read("entities").select(tail_index="entity_index", tail="entity_id")
        named = triples.join(heads, "head_index").join(tails, "tail_index")
        return named.join(relations.select("relation_index", "relation_id"), "relation_index").select(
            "head", "relation_id", "tail"
        )
    return read(table).select({"entities": "entity_id", "relations": "relation_id"}[table])


def _compare(before: ibis.Table, after: ibis.Table) -> dict[str, int]:
    kept = _count(before.semi_join(after, before.columns))
    return {"added": _count(after) - kept, "removed": _count(before) - kept, "kept": kept}


def _count(rows: ibis.Table) -> int:
    return int(rows.count().to_pyarrow().as_py())
