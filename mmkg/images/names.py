"""From a name to the one entity that is called so; a name that could mean another stays unmatched, with a reason.

Where a picture stands here: its file or a mapping gave it a name, ``Korea, Republic of`` or ``new york``. A graph's
names are its labels and alternative labels in all languages, and the ends of IRIs that spell one (``dbr:Ivory_Coast``).
The names of the pictures are the small side: they are held, the graph's stream past them. How alike two names are:

=====  =========  =====================================================================================================
level  called     the name of the picture and one of the entity's are the same …
=====  =========  =====================================================================================================
0      exact      as they stand, but for underscores and spaces
1      folded     without case, accents, punctuation and a leading "the"; the entity's without the -GB or -US of FB15k
2      reordered  with the part after a comma before it: "Virgin Islands, British"
3      qualified  without what the entity's name has in parentheses: "Georgia (U.S. state)"
4      short      without a part of one of the two: "Bolivia, Plurinational State of", "Republic of Ireland"
=====  =========  =====================================================================================================

Which of the entities of a name is meant, if any, is decided in :mod:`mmkg.images.namesakes`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from mmkg.images.graph_view import BATCH_ROWS, put
from mmkg.images.namesakes import EXACT, FOLDED, PART, QUALIFIED, REORDERED, SHORT, Candidate, Match, Refusal, decide
from mmkg.images.visual import put_evidence
from mmkg.terms import FREEBASE, LABEL_PREDICATES, SCHEMA_ORG, SKOS

NAME_PREDICATES = (
    *LABEL_PREDICATES,
    SKOS + "altLabel",
    SCHEMA_ORG + "alternateName",
    FREEBASE + "common.topic.alias",
)

_EXACT_MARK = "="  # stands in no folded name
_MARKS = r"\p{M}+"
_NOT_IN_NAMES = r"[^\p{L}\p{N}+#]+"  # C, C++ and C# are three things
_QUALIFIER = r"^(?P<name>.*\S)\s*\([^()]*\)\s*$"
_REGION = r"-(?:GB|US)$"
_FORM = (
    r"(?:(?:republic|kingdom|state|commonwealth|principality|grand duchy|sultanate|emirate|union|federation|"
    r"federal republic|democratic republic|islamic republic|people s republic|united republic) of (?:the )?)"
)
_COMMA = re.compile(r"(?P<first>[^,()]+),\s*(?P<second>[^,()]+)")
_PARENTHESES = re.compile(r"(?P<outer>[^()]*\S)\s*\((?P<inner>[^()]+)\)")
_OF = re.compile(r"\bof(?: the)?$", re.IGNORECASE)


@dataclass(frozen=True)
class NameGroup:
    """Names that belong together, those of a folder.

    Attributes:
        names: each once.
        types: IRIs of which a matched entity must have one; any unless given.
    """

    names: Sequence[str]
    types: Sequence[str] = ()


def clean_names(texts: pa.Array) -> pa.Array:
    """Names as they are compared exactly: composed, with single spaces, without underscores."""
    plain = pc.replace_substring(pc.utf8_normalize(texts, "NFC"), "_", " ")
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(plain, r"\s+", " "))


def fold_names(texts: pa.Array) -> pa.Array:
    """Names without case, accents, punctuation and a leading "the"; `&` is "and"; `+` and `#` stay.

    >>> fold_names(pa.array(["The Côte d’Ivoire", "Trinidad & Tobago", "C++"])).to_pylist()
    ['cote d ivoire', 'trinidad and tobago', 'c++']
    """
    plain = pc.replace_substring_regex(pc.utf8_normalize(texts, "NFKD"), _MARKS, "")
    plain = pc.replace_substring(pc.replace_substring(pc.utf8_lower(plain), "ß", "ss"), "ς", "σ")
    plain = pc.replace_substring(plain, "&", " and ")
    plain = pc.utf8_trim_whitespace(pc.replace_substring_regex(plain, _NOT_IN_NAMES, " "))
    return pc.replace_substring_regex(plain, r"^the (\S)", r"\1")


def spellings(name: str) -> list[tuple[int, str]]:
    """The ways in which a picture's name may stand in a graph: level and text.

    >>> spellings("Congo, Republic of the")
    [(1, 'Congo, Republic of the'), (2, 'Republic of the Congo'), (4, 'Congo')]
    """
    found = [(FOLDED, name)]
    if match := _COMMA.fullmatch(name):
        first, second = match["first"].strip(), match["second"].strip()
        found.append((REORDERED, f"{second} {first}"))
        if _OF.search(second):
            found.append((SHORT, first))
    if match := _PARENTHESES.fullmatch(name):
        found += [(SHORT, match["outer"]), (SHORT, match["inner"])]
    return found


def match_names(connection: duckdb.DuckDBPyConnection, groups: Sequence[NameGroup]) -> list[dict[str, Match | Refusal]]:
    """Decide for each name of each group which entity it means.

    Args:
        connection: a graph, with `relation_types`.
        groups: the names of each folder.

    Returns:
        For each group what became of each of its names.
    """
    keys = _key_table(groups)
    if not keys.num_rows:
        return [{} for _ in groups]
    put(connection, "name_keys", keys)
    connection.execute(
        "CREATE OR REPLACE TABLE name_hits (key VARCHAR, entity_index BIGINT, level INTEGER, text VARCHAR)"
    )
    wanted = pc.unique(keys["key"])
    for batch in _names_of_graph(connection):
        hits = _hits(batch, wanted)
        if hits.num_rows:
            put(connection, "name_hits", hits)
    _join(connection, groups)
    decided = [_decide(connection, number, group) for number, group in enumerate(groups)]
    connection.execute(
        "DROP TABLE name_keys; DROP TABLE name_hits; DROP TABLE name_candidates; DROP TABLE candidate_types"
    )
    return decided


def _key_table(groups: Sequence[NameGroup]) -> pa.Table:
    """group, name (its place in the group), level, key."""
    rows = [
        (number, place, level, text)
        for number, group in enumerate(groups)
        for place, name in enumerate(group.names)
        for level, text in spellings(name)
        if level < SHORT or group.types
    ]
    table = pa.table(
        {
            "group_no": pa.array([row[0] for row in rows], pa.int32()),
            "name_no": pa.array([row[1] for row in rows], pa.int64()),
            "level": pa.array([row[2] for row in rows], pa.int32()),
            "key": fold_names(pa.array([row[3] for row in rows], pa.string())),
        }
    )
    as_it_stands = table.filter(pc.equal(table["level"], FOLDED))
    texts = pa.array([row[3] for row in rows if row[2] == FOLDED], pa.string())
    exact = as_it_stands.set_column(2, "level", pa.array([EXACT] * len(texts), pa.int32()))
    exact = exact.set_column(3, "key", pc.binary_join_element_wise(_EXACT_MARK, clean_names(texts), ""))
    table = pa.concat_tables([table, exact])
    return table.filter(pc.greater(pc.binary_length(table["key"]), 0)).combine_chunks()


def _names_of_graph(connection: duckdb.DuckDBPyConnection) -> Iterator[pa.Table]:
    """entity_index, text: labels, alternative labels, and the ends of IRIs that are no codes."""
    labels = connection.cursor().sql(
        """
        SELECT entity_index, label AS text FROM entities WHERE label IS NOT NULL
        UNION ALL
        SELECT entity_index, text FROM literals SEMI JOIN (
            SELECT attribute_index FROM attributes WHERE attribute_id IN (SELECT unnest($predicates))
        ) USING (attribute_index)
        """,
        params={"predicates": list(NAME_PREDICATES)},
    )
    yield from (pa.Table.from_batches([batch]) for batch in labels.to_arrow_reader(BATCH_ROWS))
    iris = connection.cursor().sql(
        r"""
        SELECT entity_index, url_decode(regexp_replace(text, '_Q[0-9]+$', '')) AS text FROM (
            SELECT entity_index, regexp_extract(rtrim(iri, '/#'), '[^/#]+$') AS text FROM ids
            WHERE NOT starts_with(iri, '_:')
        ) WHERE text <> '' AND NOT regexp_full_match(text, '[mg]\.[0-9a-z_]+|[A-Z]?[0-9]+|[0-9a-f]{16,}')
        """
    )
    yield from (pa.Table.from_batches([batch]) for batch in iris.to_arrow_reader(BATCH_ROWS))


def _hits(names: pa.Table, wanted: pa.Array) -> pa.Table:
    """The names of a batch that some picture has: key, entity_index, level, text."""
    names = names.combine_chunks()
    texts = clean_names(_only_chunk(names["text"]))
    folded = fold_names(texts)
    without_region = pc.replace_substring_regex(texts, _REGION, "")
    without_qualifier = pc.extract_regex(texts, _QUALIFIER).field("name")
    variants = [
        (EXACT, pc.binary_join_element_wise(_EXACT_MARK, texts, "")),
        (FOLDED, folded),
        (FOLDED, fold_names(without_region)),
        (QUALIFIED, fold_names(without_qualifier)),
        (SHORT, pc.extract_regex(folded, f"^{_FORM}(?P<name>.+)$").field("name")),
        (PART, pc.extract_regex(folded, r"^\S+ (?P<name>.+)$").field("name")),
    ]
    found = []
    for level, keys in variants:
        mask = pc.is_in(keys, value_set=wanted)
        hit = names.filter(mask)
        found.append(
            pa.table(
                {
                    "key": keys.filter(mask).cast(pa.string()),
                    "entity_index": hit["entity_index"],
                    "level": pa.array([level] * hit.num_rows, pa.int32()),
                    "text": texts.filter(mask),
                }
            )
        )
    return pa.concat_tables(found)


def _only_chunk(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined


def _join(connection: duckdb.DuckDBPyConnection, groups: Sequence[NameGroup]) -> None:
    """Make `name_candidates` and `candidate_types`."""
    connection.execute(
        f"""
        CREATE OR REPLACE TABLE name_candidates AS
        SELECT group_no, name_no, entity_index,
            min(greatest(k.level, h.level)) AS level,
            arg_min(h.text, (greatest(k.level, h.level), h.text)) AS text,
            bool_or(h.level = {QUALIFIED}) AS told_apart
        FROM name_keys k JOIN name_hits h USING (key)
        WHERE (k.level <> {SHORT} OR h.level <> {SHORT}) AND (h.level <> {PART} OR k.level = {SHORT})
        GROUP BY group_no, name_no, entity_index
        """  # noqa: S608 - numbers of our own
    )
    put_evidence(connection, "name_candidates", "candidate_types")
    declared = [(number, type_) for number, group in enumerate(groups) for type_ in group.types]
    put(
        connection,
        "declared_types",
        pa.table(
            {
                "group_no": pa.array([number for number, _ in declared], pa.int32()),
                "type": pa.array([type_ for _, type_ in declared], pa.string()),
            }
        ),
    )
    # A type that was merged into another stands for that one too.
    connection.execute(
        """
        CREATE OR REPLACE TABLE allowed AS
        WITH all_types AS (
            SELECT group_no, type FROM declared_types
            UNION
            SELECT group_no, entity_id FROM declared_types JOIN ids ON ids.iri = declared_types.type
            JOIN entities USING (entity_index)
        )
        SELECT DISTINCT group_no, entity_index FROM all_types JOIN candidate_types USING (type);
        DROP TABLE declared_types
        """
    )


def _decide(connection: duckdb.DuckDBPyConnection, number: int, group: NameGroup) -> dict[str, Match | Refusal]:
    rows = connection.cursor().execute(
        """
        SELECT name_no, entity_index, entity_id, level, text, allowed.entity_index IS NOT NULL, told_apart
        FROM name_candidates JOIN entities USING (entity_index) LEFT JOIN allowed USING (group_no, entity_index)
        WHERE group_no = $number ORDER BY name_no, level, entity_index
        """,
        {"number": number},
    )
    candidates = (
        (group.names[name_no], [Candidate(*row[1:]) for row in of_name])
        for name_no, of_name in groupby(_stream(rows), key=itemgetter(0))
    )
    return decide(connection, group.names, candidates, typed=bool(group.types))


def _stream(rows: Any) -> Iterator[tuple[Any, ...]]:
    while batch := rows.fetchmany(BATCH_ROWS):
        yield from batch
