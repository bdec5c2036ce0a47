"""What the checks and the difference of two versions read from the tables: counts by id, source and column.

Everything is one scan or one hash join of the engine, so its time is linear in the rows; what comes back is as small as
the number of relations, sources or examples. Indices belong to one version and are never compared.
"""

import contextlib
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import ibis

from mmkg.config import Config, GraphConfig, SourceConfig
from mmkg.engine import open_engine
from mmkg.graph.workspace import Workspace
from mmkg.shards import open_table
from mmkg.sources import SOURCES

_EXAMPLES = 3
_KINDS = (("relation", "relations", "relation_id"), ("attribute", "attributes", "attribute_id"))
_UNSAID = "that of "
"""What a general kind such as N-Triples says of its licence: that of the dump, which nobody has named."""

Place = tuple[Path, Sequence[str]]
"""A folder with the tables of a graph, and the names of its sources: bit i of a `sources` column is the i-th."""


class Measures:
    """The tables of a new graph, and of the version being served, in one engine."""

    def __init__(self, workspace: Workspace, new: Place, served: Place | None) -> None:
        self.has_served = served is not None
        self._workspace = workspace
        self._places = {False: new, True: served}
        self._bits = cache(self._count_bits)

    def _place(self, served: bool) -> Place:
        place = self._places[served]
        if place is None:
            raise ValueError("there is no version being served to measure")
        return place

    def _table(self, table: str, served: bool) -> Any:
        folder, _ = self._place(served)
        open_table(folder, table)  # says what is wrong with the shards, if anything is
        return self._workspace.read([folder], table)

    def relation_counts(self) -> list[tuple[str, str, int, int]]:
        """Kind (relation | attribute), id, statements before and now of every one that either version has."""
        rows = []
        for kind, table, column in _KINDS:
            before, now = (
                self._workspace.fetch(self._table(table, served).select(column, "count")).to_pydict()
                for served in (True, False)
            )
            old, new = (dict(zip(found[column], found["count"], strict=True)) for found in (before, now))
            rows += [(kind, name, old.get(name, 0), new.get(name, 0)) for name in sorted({*old, *new})]
        return rows

    def _count_bits(self, table: str, served: bool) -> dict[int, int]:
        """Rows of a table by the bit set of their sources."""
        rows = self._table(table, served)
        found = self._workspace.fetch(rows.group_by("sources").aggregate(rows=rows.count())).to_pydict()
        return dict(zip(found["sources"], found["rows"], strict=True))

    def source_counts(self, table: str, *, served: bool = False) -> dict[str, int]:
        """How many rows of `triples` or `literals` each source states; one that several state counts for each."""
        _, names = self._place(served)
        bits = self._bits(table, served)
        return {name: sum(n for sources, n in bits.items() if sources >> bit & 1) for bit, name in enumerate(names)}

    def stated_by(self, table: str, allowed: frozenset[str], *, served: bool = False) -> tuple[int, int]:
        """Rows of `triples` or `literals`, and those of them that at least one of some sources states."""
        _, names = self._place(served)
        mask = sum(1 << bit for bit, name in enumerate(names) if name in allowed)
        bits = self._bits(table, served)
        return sum(bits.values()), sum(rows for sources, rows in bits.items() if sources & mask)

    def lost_entities(self) -> tuple[int, int, list[str]]:
        """Entities of the served version, those whose id is neither id nor alias now, and the first ids of those."""
        before, now = self._table("entities", True), self._table("entities", False)
        known = ibis.union(now.select("entity_id"), now.select(entity_id=now["aliases"].unnest()))
        lost = before.select("entity_id").anti_join(known, "entity_id")
        num_lost = self._workspace.count(lost)
        first = self._workspace.fetch(lost.order_by("entity_id").limit(_EXAMPLES))["entity_id"].to_pylist()
        return self._workspace.count(before), num_lost, first if num_lost else []

    def empty_columns(self, *, served: bool = False) -> dict[str, int]:
        """Entities without label, without description, without types, and `entities`, all of them."""
        rows = self._table("entities", served)
        empty = {column: rows[column].isnull() for column in ("label", "description")}
        empty["types"] = rows["types"].length() == 0
        found = rows.aggregate(
            entities=rows.count(), **{column: rows.count(where=condition) for column, condition in empty.items()}
        )
        return {name: int(count) for name, count in self._workspace.fetch_one(found).items()}


@contextlib.contextmanager
def open_measures(config: GraphConfig, new: Place, served: Place | None) -> Iterator[Measures]:
    """Open the engine of a config on the tables of two graphs, for the time of a ``with`` block."""
    with open_engine(config) as connection:
        yield Measures(Workspace(connection), new, served)


def licence_of(source: SourceConfig) -> str:
    """Under which licence a source's statements are: its own word, else that of its kind; "" where nobody says."""
    if source.licence:
        return source.licence
    licence = SOURCES[source.kind].info.licence if source.kind in SOURCES else ""
    return "" if licence.startswith(_UNSAID) else licence


def licensed_sources(config: Config) -> frozenset[str]:
    """Names of the sources whose licence is known and, if the config lists licences, fits one of the patterns.

    Sections that share a name cannot be told apart in the tables, so all of them must fit.
    """
    patterns = [pattern.casefold() for pattern in config.checks.licences or ("*",)]

    def fits(source: SourceConfig) -> bool:
        licence = licence_of(source).casefold()
        return bool(licence) and any(fnmatch(licence, pattern) for pattern in patterns)

    refused = {source.name for source in config.sources if not fits(source)}
    return frozenset(set(config.source_names) - refused)
