"""Statements about statements: when a fact held, or in which role (RDF-star, YAGO's times, folded Freebase nodes).

Where a fact stands here: ``<<Denmark memberOf EU>> startDate "1973"^^xsd:gYear`` becomes a row of ``qualifiers`` that
names the statement by indices and the qualifier by its IRI. The ends of a qualified statement are entities even where
no source states it plainly. The object of a qualifier stays an IRI: the canonical one if it was merged.
"""

from pathlib import Path
from typing import Any

import ibis

from mmkg.graph.literals import parse_date
from mmkg.graph.workspace import Workspace, unite
from mmkg.shards import TableWriter

# What names the statement, then what is said of it; in this order rows are sorted.
_STATEMENT = ("head_index", "relation_id", "tail_index", "text", "datatype", "language")
_QUALIFIER = ("qualifier_id", "qualifier_tail", "qualifier_text", "qualifier_datatype", "qualifier_language")


def indexed_qualifiers(qualifiers: Any, terms: Any, entity_of: Any, aliases: Any | None) -> Any:
    """Each qualifier of a statement once, in the order of the table."""
    if aliases is not None:
        canonical = aliases.select(qualifier_tail="key", canonical="canonical")
        qualifiers = qualifiers.left_join(canonical, "qualifier_tail").drop("qualifier_tail_right")
        qualifiers = qualifiers.mutate(qualifier_tail=ibis.coalesce(ibis._["canonical"], ibis._["qualifier_tail"]))
    named = (
        qualifiers.join(entity_of.select(head="key", head_index="entity_index"), "head")
        .left_join(entity_of.select(tail="key", tail_index="entity_index"), "tail")
        .join(terms.select(relation="key", relation_id="term"), "relation")
        .join(terms.select(qualifier="key", qualifier_id="term"), "qualifier")
        .left_join(terms.select(qualifier_tail="key", object_term="term"), "qualifier_tail")
        .drop("qualifier_tail")
        .rename(qualifier_tail="object_term")
        .select(*_STATEMENT, *_QUALIFIER, "sources")
    )
    distinct = named.group_by(*_STATEMENT, *_QUALIFIER).agg(sources=unite(named["sources"]), rows=named.count())
    return distinct.order_by(*(ibis.asc(column, nulls_first=True) for column in (*_STATEMENT, *_QUALIFIER)))


def write_qualifiers(workspace: Workspace, folder: Path, qualifiers: Any | None) -> tuple[int, int]:
    """Write the table `qualifiers` from :func:`indexed_qualifiers`; returns its rows and how many they stand for."""
    rows_in = 0
    with TableWriter(folder, "qualifiers") as writer:
        for batch in workspace.stream(qualifiers) if qualifiers is not None else ():
            columns = ("qualifier_text", "qualifier_datatype", "qualifier_language")
            date, precision = parse_date(*(batch[name].combine_chunks() for name in columns))
            writer.write(batch.append_column("date", date).append_column("date_precision", precision))
            rows_in += int(batch["rows"].to_numpy().sum())
    return writer.rows, rows_in
