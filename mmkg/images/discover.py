"""Discovery: where pictures of each entity may be had, and why what looked like one is none.

The first step on the way of a picture: statements of the graph, lists of addresses and folders of this machine become
the tables `image_candidates` and `image_unmatched`. Nothing is asked of anybody here. Candidates of an entity stand in
the order of :data:`ORIGINS`; two of one address are one candidate, the first of them. All addresses of a file of
Wikimedia are one, that of its thumbnail.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from mmkg.config import ImagesConfig
from mmkg.images.folders import NamedPicture, list_pictures, place_of, read_folder
from mmkg.images.from_graph import find_stated, picture_address, put_found, put_unmatched
from mmkg.images.graph_view import BATCH_ROWS, as_iri, index_iris, open_graph, put
from mmkg.images.names import NameGroup, match_names
from mmkg.images.namesakes import Match
from mmkg.images.url_lists import read_url_list
from mmkg.images.visual import put_relation_types, put_typed
from mmkg.shards import TableWriter, digest, file_sha256, write_table
from mmkg.sources.base import dump_names

logger = logging.getLogger(__name__)

# Goes into the stage's digest: raise it when the same input would give other tables.
DISCOVER_VERSION = 1

ORIGINS = ("depiction", "thumbnail", "image", "url_list", "mapping", "name")

UNMATCHED_REASONS: Mapping[str, str] = {
    "no_entity": "nothing in the graph has this id or name",
    "no_name": "nothing says what is on the picture: no row of the mapping, or the name pattern does not match",
    "ambiguous": "several entities have this name",
    "other_type": "the entity of this name is of none of the folder's types, or unlike the folder's other entities",
    "untrusted": "the folder has no `types`, and its names alone do not show that the graph's entities are meant",
    "bad_name": "the name of the file is not in UTF-8",
    "bad_line": "the line of the list is not an id, a tab and an address",
    "bad_url": "the address is not http or https, has no host, or is too long",
    "not_a_picture_url": "the address is that of an article, an entity, a recording or a book",
    "no_file": "the mapping names a file that is not in the folder",
    "not_visual": "the entity has a type that is not asked for pictures",
    "too_many": "the entity has more candidates than max_per_entity; the later ones are left out",
}

_FOUND = pa.schema(
    [
        ("entity_index", pa.int64()),
        ("origin", pa.string()),
        ("position", pa.int64()),
        ("url", pa.string()),
        ("detail", pa.string()),
        ("file_name", pa.string()),
        ("source_page", pa.string()),
        ("licence", pa.string()),
        ("author", pa.string()),
    ]
)
_UNMATCHED = pa.schema([(name, pa.string()) for name in ("place", "name", "reason", "detail")])


def discovery_inputs(images: ImagesConfig) -> dict[str, str]:
    """Digests of what discovery reads beside the graph: lists and mappings by content, folders by the files' names.

    Raises:
        ConfigError: a folder is not there.
        FileNotFoundError: a list or a mapping is not there.
    """
    inputs = {f"list {name}": file_sha256(path) for path, name in _lists(images)}
    for folder in images.folders:
        inputs[f"folder {folder.name}"] = digest(list_pictures(folder))
        if folder.mapping:
            inputs[f"mapping {folder.name}"] = file_sha256(Path(folder.mapping))
    return inputs


def discover(images: ImagesConfig, graph_folder: Path, read_folders: Sequence[Path], folder: Path) -> dict[str, Any]:
    """Write the tables `image_candidates` and `image_unmatched` of a graph.

    Args:
        images: says where pictures are looked for.
        graph_folder: a finished build of the graph.
        read_folders: finished read stages of its sources; depictions are read in their `triples_raw`.
        folder: the tables are written into it.

    Returns:
        Counts: candidates, entities_with_candidates, unmatched, and of those that are not 0 ``from_ORIGIN`` and
        ``unmatched_REASON``.

    Raises:
        ConfigError: a folder, a mapping, a column or a pattern is not as the config says.
        DumpError: a list or mapping cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open_graph(graph_folder, read_folders if images.from_graph else (), spill_folder=folder) as connection:
        put(connection, "found", _FOUND.empty_table())
        put(connection, "unmatched", _UNMATCHED.empty_table())
        put_relation_types(connection)
        if images.from_graph:
            find_stated(connection, images.predicates, images.wikimedia_width_px)
        _find_listed(connection, images)
        _find_in_folders(connection, images)
        _drop_not_visual(connection, images)
        _choose(connection, images.max_per_entity)
        counts = _write(connection, folder)
    logger.info(
        "candidates: %s of %s entities; %s unmatched",
        *(f"{counts[name]:,}" for name in ("candidates", "entities_with_candidates", "unmatched")),
    )
    return counts


def _lists(images: ImagesConfig) -> list[tuple[Path, str]]:
    paths = [Path(path) for path in images.url_lists]
    return list(zip(paths, dump_names(paths), strict=True))


def _find_listed(connection: duckdb.DuckDBPyConnection, images: ImagesConfig) -> None:
    columns: dict[str, list[Any]] = {"iri": [], "place": [], "url": [], "position": []}
    put(connection, "listed", pa.table(columns, schema=_LISTED))
    position = 0
    for path, name in _lists(images):
        unmatched = []
        for line in read_url_list(path, name):
            if line.iri is None:
                unmatched.append((line.place, line.url, "bad_line", "expected an id, a tab and an address"))
            else:
                for column, value in zip(columns.values(), (line.iri, line.place, line.url, position), strict=True):
                    column.append(value)
                position += 1
            if len(columns["iri"]) == BATCH_ROWS:
                _flush(connection, columns)
            if len(unmatched) == BATCH_ROWS:
                put_unmatched(connection, unmatched)
                unmatched = []
        put_unmatched(connection, unmatched)
    _flush(connection, columns)
    index_iris(connection, "listed", "listed_of")
    rows = connection.cursor().execute(
        "SELECT iri, entity_index, place, url, position FROM listed_of ORDER BY position"
    )
    while batch := rows.fetchmany(BATCH_ROWS):
        found, unmatched = [], []
        for iri, entity_index, place, url, number in batch:
            address = picture_address(url, images.wikimedia_width_px)
            if entity_index is None:
                unmatched.append((place, iri, "no_entity", "no entity of the graph has this id"))
            elif isinstance(address, str):
                unmatched.append((place, url, address, f"of {iri}"))
            else:
                found.append((entity_index, "url_list", number, address, place))
        put_found(connection, found)
        put_unmatched(connection, unmatched)


_LISTED = pa.schema([("iri", pa.string()), ("place", pa.string()), ("url", pa.string()), ("position", pa.int64())])


def _flush(connection: duckdb.DuckDBPyConnection, columns: dict[str, list[Any]]) -> None:
    if columns["iri"]:
        put(connection, "listed", pa.table(columns, schema=_LISTED))
        for column in columns.values():
            column.clear()


def _find_in_folders(connection: duckdb.DuckDBPyConnection, images: ImagesConfig) -> None:
    pictures: list[list[NamedPicture]] = []
    unmatched: list[tuple[str, str, str, str]] = []
    for folder in images.folders:
        pictures.append([])
        for item in read_folder(folder):
            if not isinstance(item, NamedPicture):
                unmatched.append((item[0], item[1], "no_file", f"no such picture in {folder.name}"))
            elif (shown := _as_text(item.file)) != item.file:
                unmatched.append((place_of(folder, shown), shown, "bad_name", "rename the file"))
            elif item.name is None:
                words = "no row of the mapping names it" if folder.mapping else "the name pattern finds no name in it"
                words = f"{item.said_by}: the row names no entity" if item.said_by else words
                unmatched.append((place_of(folder, item.file), item.file, "no_name", words))
            else:
                pictures[-1].append(item)
    put_unmatched(connection, unmatched)
    by_id = _entities_by_id(connection, pictures)
    groups = [
        NameGroup(sorted({item.name for item in items if item.name and as_iri(item.name) is None}), folder.types)
        for folder, items in zip(images.folders, pictures, strict=True)
    ]
    for folder, items, by_name in zip(images.folders, pictures, match_names(connection, groups), strict=True):
        found, unmatched = [], []
        for position, item in enumerate(items):
            name, place = item.name or "", place_of(folder, item.file)
            outcome = by_id.get(name) or by_name.get(name)
            if not isinstance(outcome, Match):
                reason, detail = (
                    ("no_entity", "no entity of the graph has this id")
                    if outcome is None
                    else (outcome.reason, outcome.detail)
                )
                unmatched.append((place, name, reason, f"{item.said_by}: {detail}" if item.said_by else detail))
                continue
            said = f"{name} = {outcome.text} ({outcome.level})"
            found.append(
                {
                    "entity_index": outcome.entity_index,
                    "origin": "mapping" if folder.mapping else "name",
                    "position": position,
                    "url": place,
                    "detail": f"{item.said_by}: {said}" if item.said_by else said,
                    "source_page": item.source_page,
                    "licence": item.licence,
                    "author": item.author,
                }
            )
        if found:
            put(connection, "found", pa.Table.from_pylist(found, schema=_FOUND))
        put_unmatched(connection, unmatched)


def _as_text(file: str) -> str:
    """A file's name with what is not UTF-8 in it as ``\\udce9``: such a name can stand in no table."""
    return file.encode("utf-8", errors="backslashreplace").decode()


def _entities_by_id(connection: duckdb.DuckDBPyConnection, pictures: list[list[NamedPicture]]) -> dict[str, Match]:
    """Entities by what pictures say where that is an IRI or an id."""
    names = sorted({item.name for items in pictures for item in items if item.name and as_iri(item.name)})
    iris = [as_iri(name) for name in names]
    put(connection, "named", pa.table({"name": pa.array(names, pa.string()), "iri": pa.array(iris, pa.string())}))
    index_iris(connection, "named", "named_of")
    rows = connection.execute("SELECT name, entity_index, iri FROM named_of WHERE entity_index IS NOT NULL").fetchall()
    return {name: Match(entity_index, iri, "id") for name, entity_index, iri in rows}


def _drop_not_visual(connection: duckdb.DuckDBPyConnection, images: ImagesConfig) -> None:
    """Leave out the candidates of entities that are not asked for pictures; one row an entity says so."""
    connection.execute("CREATE OR REPLACE TABLE not_asked (entity_index BIGINT, detail VARCHAR)")
    if images.not_visual_types:
        put_typed(connection, images.not_visual_types, "of_type")
        connection.execute(
            "INSERT INTO not_asked SELECT DISTINCT entity_index, 'has one of not_visual_types' FROM found "
            "SEMI JOIN of_type USING (entity_index)"
        )
    if images.types:
        put_typed(connection, images.types, "of_type")
        connection.execute(
            "INSERT INTO not_asked SELECT DISTINCT entity_index, 'has none of types' FROM found "
            "ANTI JOIN of_type USING (entity_index) ANTI JOIN not_asked USING (entity_index)"
        )
    connection.execute(
        """
        INSERT INTO unmatched BY NAME
        SELECT entity_id AS place, coalesce(label, entity_id) AS name, 'not_visual' AS reason,
            format('{}; {} candidates left out', not_asked.detail, count(*)) AS detail
        FROM found JOIN not_asked USING (entity_index) JOIN entities USING (entity_index)
        GROUP BY entity_id, label, not_asked.detail;
        DELETE FROM found WHERE entity_index IN (SELECT entity_index FROM not_asked)
        """
    )


def _choose(connection: duckdb.DuckDBPyConnection, max_per_entity: int) -> None:
    """Make `chosen`: each file once an entity, in order, at most so many; one row an entity says what is left out."""
    ranks = "CASE origin " + " ".join(f"WHEN '{origin}' THEN {rank}" for rank, origin in enumerate(ORIGINS)) + " END"
    connection.execute(
        f"""
        CREATE OR REPLACE TABLE numbered AS
        WITH ranked AS (SELECT *, {ranks} AS rank FROM found),
        once AS (
            SELECT * FROM ranked QUALIFY row_number() OVER (
                PARTITION BY entity_index, url ORDER BY rank, position, url, detail
            ) = 1
        )
        SELECT *, row_number() OVER (PARTITION BY entity_index ORDER BY rank, position, url, detail) - 1 AS place
        FROM once
        """  # noqa: S608 - names of our own
    )
    connection.execute(
        """
        INSERT INTO unmatched BY NAME
        SELECT entity_id AS place, coalesce(label, entity_id) AS name, 'too_many' AS reason,
            format('{} candidates beyond the first {} left out', count(*), $most) AS detail
        FROM numbered JOIN entities USING (entity_index) WHERE numbered.place >= $most GROUP BY entity_id, label
        """,
        {"most": max_per_entity},
    )
    connection.execute("DELETE FROM numbered WHERE place >= $most", {"most": max_per_entity})


def _write(connection: duckdb.DuckDBPyConnection, folder: Path) -> dict[str, Any]:
    candidates = _batches(connection, "SELECT * EXCLUDE (rank, position) FROM numbered ORDER BY entity_index, place")
    with TableWriter(folder, "image_candidates") as writer:
        for batch in candidates:
            writer.write(batch)
    unmatched = write_table(
        folder,
        "image_unmatched",
        _batches(connection, "SELECT DISTINCT place, name, reason, detail FROM unmatched ORDER BY ALL"),
    )
    counts: dict[str, Any] = {
        "candidates": writer.rows,
        "entities_with_candidates": _one(connection, "SELECT count(DISTINCT entity_index) FROM numbered"),
        "unmatched": unmatched,
    }
    by_origin = dict(connection.execute("SELECT origin, count(*) FROM numbered GROUP BY origin").fetchall())
    counts |= {f"from_{origin}": by_origin[origin] for origin in ORIGINS if origin in by_origin}
    query = "SELECT reason, count(*) FROM (SELECT DISTINCT * FROM unmatched) GROUP BY reason"
    by_reason = dict(connection.execute(query).fetchall())
    return counts | {f"unmatched_{reason}": by_reason[reason] for reason in UNMATCHED_REASONS if reason in by_reason}


def _batches(connection: duckdb.DuckDBPyConnection, query: str) -> Iterator[pa.RecordBatch]:
    yield from connection.cursor().sql(query).to_arrow_reader(BATCH_ROWS)


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    (row,) = connection.execute(query).fetchall()
    return int(row[0])
