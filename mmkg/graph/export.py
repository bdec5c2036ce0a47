"""The graph on its way out: N-Triples that build to the same graph again, and TSV splits as PyKEEN reads them.

An export is a folder of four files, each sorted by bytes and written whole or not at all:

=================  ====================================================================================================
`statements.nt`    triples, types and literals; plain N-Triples 1.1 for any tool
`qualifiers.nt`    statements about statements, ``<< <s> <p> <o> >> <q> "v" .``; RDF-star, read by the source `ntriples`
`sameas.nt`        the IRIs that were merged into each entity, as owl:sameAs; read by ``[[links]]`` of kind `sameas`
`dropped.nt`       on request: what the build left out on purpose
=================  ====================================================================================================

Provenance (which source, which line) has no place in N-Triples and stays behind.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from ibis.expr.types import StringValue, Table

from mmkg.config import GraphConfig
from mmkg.engine import open_engine
from mmkg.errors import BuildError
from mmkg.graph.workspace import Workspace
from mmkg.shards import PARTIAL_SUFFIX, open_table, sync_folder
from mmkg.terms import OWL_SAME_AS, RDF_TYPE

logger = logging.getLogger(__name__)

# What would end an IRI early or break its line. The sources repair such IRIs, so no graph that they gave holds one.
_BREAKS_LINE = r'[\x00-\x20<>"{}|\\^`]'
_TSV_SPLITS = ("train", "valid", "test")
_LINES_PER_BATCH = 100_000


def export_ntriples(
    graph_folder: Path, folder: Path, *, engine: GraphConfig | None = None, with_dropped: bool = False
) -> dict[str, int]:
    """Write the graph as N-Triples.

    Args:
        graph_folder: folder of the stage that built the graph.
        folder: where the files go; made if missing, files of an earlier export are replaced.
        engine: names the relational engine and its memory limit; DuckDB with 4 GB unless given.
        with_dropped: also write the ledger of statements that the build left out.

    Returns:
        Number of lines of each file.

    Raises:
        BuildError: an id holds a character that N-Triples cannot hold.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _open_tables(graph_folder, engine, folder) as (workspace, read):
        files = {
            "statements.nt": _statements(read),
            "qualifiers.nt": _qualifiers(read),
            "sameas.nt": _aliases(read),
            **({"dropped.nt": _dropped(read)} if with_dropped else {}),
        }
        return {name: _write_lines(workspace, lines, folder / name) for name, lines in files.items()}


def export_statements(graph_folder: Path, path: Path, *, engine: GraphConfig | None = None) -> int:
    """Write the one file `statements.nt` under a path of one's own; returns its number of lines.

    Raises:
        BuildError: an id holds a character that N-Triples cannot hold.
    """
    with _open_tables(graph_folder, engine, path.parent) as (workspace, read):
        return _write_lines(workspace, _statements(read), path)


def export_tsv(
    graph_folder: Path, splits_folder: Path, folder: Path, *, engine: GraphConfig | None = None
) -> dict[str, int]:
    """Write ``train.tsv``, ``valid.tsv`` and ``test.tsv``: head, relation and tail ids between tabs, sorted by bytes.

    PyKEEN reads them by ``TriplesFactory.from_path``. Triples that are `left_out` are in none.

    Args:
        graph_folder: folder of the stage that built the graph.
        splits_folder: folder of the stage that wrote `splits`.
        folder: where the files go; made if missing.
        engine: names the relational engine and its memory limit; DuckDB with 4 GB unless given.

    Returns:
        Number of triples of each split.

    Raises:
        BuildError: an id holds a character that would break a line.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _open_tables(graph_folder, engine, folder, splits_folder=splits_folder) as (workspace, read):
        entities = read("entities").select("entity_index", node=ibis._.entity_id)
        relations = read("relations").select("relation_index", verb=ibis._.relation_id)
        named = _with_ends(read("splits"), entities, relations)
        lines = named.select("split", line=named["head"] + "\t" + named["verb"] + "\t" + named["tail"])
        return {
            split: _write_lines(
                workspace, lines.filter(lines["split"] == split).select("line"), folder / f"{split}.tsv"
            )
            for split in _TSV_SPLITS
        }


@contextlib.contextmanager
def _open_tables(
    graph_folder: Path, engine: GraphConfig | None, spill_folder: Path, *, splits_folder: Path | None = None
) -> Iterator[tuple[Workspace, Callable[[str], Table]]]:
    """Give an engine and a function that opens a table by name in it, once the ids are known to fit a line."""
    with open_engine(engine or GraphConfig(name="export"), spill_folder) as connection:
        workspace = Workspace(connection)

        def read(table: str) -> Table:
            home = splits_folder if table == "splits" and splits_folder else graph_folder
            open_table(home, table)  # says what is wrong with the shards, if anything is
            return workspace.read([home], table)

        for table, column in (
            ("entities", "entity_id"),
            ("relations", "relation_id"),
            ("attributes", "attribute_id"),
        ):
            ids = read(table)[column]
            broken = workspace.fetch(ids.as_table().filter(ids.re_search(_BREAKS_LINE)).limit(1))
            if broken.num_rows:
                raise BuildError(
                    f"{graph_folder / table}: {broken[column][0].as_py()!r} holds a character that N-Triples has no "
                    "place for in an IRI. Read the dump again: the sources percent-encode such characters."
                )
        yield workspace, read


# --- spelling --------------------------------------------------------------------------------------------------------


def _node(name: StringValue) -> StringValue:
    """An IRI in angle brackets, or a blank node as it is."""
    return ibis.ifelse(name.startswith("_:"), name, "<" + name + ">")


def _literal(text: StringValue, datatype: StringValue, language: StringValue) -> StringValue:
    """As ``terms.spell_literal``, for a column."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    tag = ibis.coalesce("@" + language, "^^<" + datatype + ">", "")
    return '"' + escaped + '"' + tag


def _line(head: StringValue, relation: StringValue, tail: StringValue) -> StringValue:
    return head + " <" + relation + "> " + tail + " ."


def _with_ends(triples: Table, entities: Table, relations: Table) -> Table:
    """Triples with the columns `head`, `verb` and `tail` in place of indices."""
    heads = entities.rename(head_index="entity_index", head="node")
    tails = entities.view().rename(tail_index="entity_index", tail="node")
    return triples.join(heads, "head_index").join(tails, "tail_index").join(relations, "relation_index")


def _nodes(read: Callable[[str], Table]) -> Table:
    return read("entities").select("entity_index", node=_node(ibis._.entity_id))


def _statements(read: Callable[[str], Table]) -> Table:
    """Lines of triples, types and literals."""
    nodes = _nodes(read)
    triples = _with_ends(read("triples"), nodes, read("relations").select("relation_index", verb=ibis._.relation_id))
    types = read("entities").select("entity_id", type=ibis._.types.unnest())
    literals = read("literals").join(nodes, "entity_index").join(read("attributes"), "attribute_index")
    text = _literal(literals["text"], literals["datatype"], literals["language"])
    return ibis.union(
        triples.select(line=_line(triples["head"], triples["verb"], triples["tail"])),
        types.select(line=_line(_node(types["entity_id"]), ibis.literal(RDF_TYPE), _node(types["type"]))),
        literals.select(line=_line(literals["node"], literals["attribute_id"], text)),
    )


def _qualifiers(read: Callable[[str], Table]) -> Table:
    """Lines of statements about statements."""
    nodes = _nodes(read)
    rows = read("qualifiers").join(nodes.rename(head_index="entity_index", head="node"), "head_index")
    rows = rows.left_join(nodes.view().rename(tail_index="entity_index", tail="node"), "tail_index")
    tail = ibis.coalesce(rows["tail"], _literal(rows["text"], rows["datatype"], rows["language"]))
    value = ibis.coalesce(
        _node(rows["qualifier_tail"]),
        _literal(rows["qualifier_text"], rows["qualifier_datatype"], rows["qualifier_language"]),
    )
    quoted = "<< " + rows["head"] + " <" + rows["relation_id"] + "> " + tail + " >>"
    return rows.select(line=_line(quoted, rows["qualifier_id"], value))


def _aliases(read: Callable[[str], Table]) -> Table:
    """Lines that say which IRIs were merged."""
    rows = read("entities").select("entity_id", alias=ibis._.aliases.unnest())
    return rows.select(line=_line(_node(rows["entity_id"]), ibis.literal(OWL_SAME_AS), _node(rows["alias"])))


def _dropped(read: Callable[[str], Table]) -> Table:
    """Lines that the build left out, as their dumps stated them."""
    rows = read("dropped")
    tail = ibis.coalesce(_node(rows["tail"]), _literal(rows["value"], rows["datatype"], rows["language"]))
    return rows.select(line=_line(_node(rows["head"]), rows["relation"], tail))


# --- writing ---------------------------------------------------------------------------------------------------------


def _write_lines(workspace: Workspace, lines: Table, path: Path) -> int:
    """Write the column `line`, sorted by bytes and each once; returns how many.

    Raises:
        BuildError: a line is null, so a row names something that its table does not have.
    """
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    written = 0
    last: str | None = None
    with partial.open("wb") as file:
        for batch in workspace.stream(lines.order_by("line"), rows=_LINES_PER_BATCH):
            column = batch.column("line").combine_chunks().cast(pa.large_string())
            if column.null_count:
                raise BuildError(f"{path}: {column.null_count:,} rows have no term to write. Build the graph again.")
            fresh = _without_repeats(column, last)
            last = column[-1].as_py()
            written += len(fresh)
            file.write(_joined(fresh))
    sync_folder(partial)
    partial.replace(path)
    sync_folder(path.parent)
    logger.info("%s: %s lines", path, f"{written:,}")
    return written


def _without_repeats(lines: pa.LargeStringArray, last: str | None) -> pa.LargeStringArray:
    """Sorted lines without those that equal the line before them."""
    before = pa.concat_arrays([pa.array([last], type=lines.type), lines.slice(0, len(lines) - 1)])
    return lines.filter(pc.fill_null(pc.not_equal(lines, before), True))


def _joined(lines: pa.LargeStringArray) -> memoryview:
    r"""All lines, each with a ``\n``: the array's own bytes, without a Python string for each."""
    nothing, line_end = (pa.scalar(text, lines.type) for text in ("", "\n"))
    ended = pc.binary_join_element_wise(lines, nothing, line_end)
    _, offsets, content = ended.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int64)[ended.offset : ended.offset + len(ended) + 1]
    return memoryview(content or b"")[int(bounds[0]) : int(bounds[-1])]
