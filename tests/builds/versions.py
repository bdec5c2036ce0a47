"""Small finished versions written by hand: the tables of a graph and a manifest, without a build."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmkg.builds import BuildManifest
from mmkg.builds.versions import BUILD_MANIFEST
from mmkg.shards import open_table, write_json, write_table
from mmkg.tables import SCHEMAS
from tests.graph.graph_tables import write_graph


def write_version_by_hand(
    folder: Path,
    *args: Any,
    source_names: tuple[str, ...] = ("ntriples",),
    sources: Mapping[str, Callable[[int], int]] | None = None,
    counts: Mapping[str, Mapping[str, Any]] | None = None,
    **kwargs: Any,
) -> Path:
    """A folder as `write_version` leaves it.

    `sources` gives, for a table, the bits of its i-th row (1 unless given); all else is as for `write_graph`.
    """
    write_graph(folder, *args, **kwargs)
    write_table(folder, "dumps", [])
    uses = Counter(open_table(folder, "literals").to_table()["attribute_index"].to_pylist())
    rows = open_table(folder, "attributes").to_table().to_pylist()
    counted = [{**row, "count": uses[row["attribute_index"]]} for row in rows]
    write_table(folder, "attributes", [pa.Table.from_pylist(counted, SCHEMAS["attributes"])])
    for table, bits_of in (sources or {}).items():
        rows = open_table(folder, table).to_table()
        bits = pa.array([bits_of(i) for i in range(rows.num_rows)], pa.int64())
        rows = rows.set_column(rows.schema.names.index("sources"), rows.schema.field("sources"), bits)
        write_table(folder, table, [rows])
    manifest = BuildManifest(
        graph="test",
        version=folder.name,
        digest=folder.name,
        created="2026-01-01T03:00:00+00:00",
        stages={},
        counts=counts or count(folder),
        source_names=source_names,
        config={},
    )
    write_json(folder / BUILD_MANIFEST, dataclasses.asdict(manifest))
    return folder


def count(folder: Path, **reads: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The counts that the stages of such a version would have; `reads` are those of dumps by name."""
    rows = {table: open_table(folder, table).to_table() for table in ("entities", "triples", "literals")}
    used = {*rows["triples"]["head_index"].to_pylist(), *rows["triples"]["tail_index"].to_pylist()}
    num_entities = rows["entities"].num_rows
    sizes = {table: found.num_rows for table, found in rows.items()}
    unlabelled = rows["entities"]["label"].null_count
    return {
        **{f"read:{name}": dict(dump) for name, dump in reads.items()},
        "graph": sizes,
        "findings": {"entities": num_entities, "orphans": num_entities - len(used), "unlabelled": unlabelled},
    }
