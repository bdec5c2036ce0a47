"""What changed between two versions, by ids: indices belong to one version.

The old version's statements are translated into the new one's indices, one hash join of ids a table, and matched there
as integers; so time and memory are linear in the statements. A literal is the same if its text, datatype and language
are. An entity whose id has changed takes its statements with it: they count as removed and added.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mmkg.builds.opened import Build
from mmkg.config import GraphConfig
from mmkg.engine import open_engine
from mmkg.graph.workspace import Workspace

_TABLES = ("entities", "relations", "attributes", "triples", "literals", "pictures")
_TRIPLE = ("head_index", "relation_index", "tail_index")
_LITERAL = ("entity_index", "attribute_index", "text", "datatype", "language")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
    """How many rows of a table came, went and stayed."""

    added: int
    removed: int
    kept: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class RelationChange:
    """What became of the statements of one relation or attribute."""

    kind: str  # relation | attribute
    relation_id: str
    before: int
    after: int
    added: int
    removed: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceChange:
    """What one source states now and did not, and no longer states; the fact may be in the graph by another's word."""

    source: str
    table: str  # triples | literals
    before: int
    after: int
    added: int
    removed: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExampleTriple:
    """A triple that came or went, with labels; an id where there is no label."""

    change: str  # added | removed
    head: str
    relation: str
    tail: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """All that differs between two versions of a graph."""

    old_version: str
    new_version: str
    tables: Mapping[str, Change]  # entities, relations, attributes, triples, literals; pictures where there are any
    relations: tuple[RelationChange, ...]  # every relation and attribute that either version has, biggest movers first
    sources: tuple[SourceChange, ...]
    examples: tuple[ExampleTriple, ...]
    changed_dumps: tuple[str, ...]  # read by either version, and not the same bytes in both

    @property
    def movers(self) -> tuple[RelationChange, ...]:
        """Relations and attributes of which anything came or went, biggest movers first."""
        return tuple(row for row in self.relations if row.added or row.removed)

    def summary(self) -> str:
        """One line: what came and went of each table, and the biggest mover."""
        parts = [f"{name} +{c.added:,} −{c.removed:,}" for name, c in self.tables.items() if c.added or c.removed]
        if not parts:
            return f"no difference to {self.old_version}"
        most = "".join(f"; most in {row.relation_id} (+{row.added:,} −{row.removed:,})" for row in self.movers[:1])
        return f"against {self.old_version}: {', '.join(parts)}{most}"

    def table_rows(self) -> list[dict[str, Any]]:
        """One row a table: table, added, removed, kept."""
        return [{"table": name, **dataclasses.asdict(change)} for name, change in self.tables.items()]


def find_differences(old: Build, new: Build, *, num_examples: int = 5) -> Difference:
    """Compare two versions of a graph.

    Args:
        old: the earlier version.
        new: the later one.
        num_examples: at most so many added, and so many removed, triples are shown: the first in order of the head.
    """
    graph = GraphConfig(name=new.manifest.graph, **_engine_settings(new))
    with open_engine(graph) as connection:
        comparison = _Comparison(Workspace(connection), old, new, num_examples)
        return comparison.difference()


def compare_builds(old: Build, new: Build) -> dict[str, dict[str, int]]:
    """For entities, relations and triples: how many were added, removed and kept."""
    tables = find_differences(old, new, num_examples=0).tables
    return {name: dataclasses.asdict(tables[name]) for name in ("entities", "relations", "triples")}


def _engine_settings(build: Build) -> dict[str, Any]:
    """What the build was allowed to use of the machine; a comparison takes no more."""
    settings = build.manifest.config.get("graph", {})
    return {name: settings[name] for name in ("memory_limit", "workers") if name in settings}


class _Comparison:
    """The tables of two versions in one engine."""

    def __init__(self, workspace: Workspace, old: Build, new: Build, num_examples: int) -> None:
        self._workspace = workspace
        self._builds = {"old": old, "new": new}
        self._num_examples = num_examples

    def difference(self) -> Difference:
        tables = {"entities": self._match_ids("entities", "entity_index", "entity_id")}
        tables["relations"] = self._match_ids("relations", "relation_index", "relation_id")
        tables["attributes"] = self._match_ids("attributes", "attribute_index", "attribute_id")
        if any(build.has_pictures for build in self._builds.values()):
            tables["pictures"] = self._match_pictures()
        relations, sources = [], []
        for table, key, kind, names in (
            ("triples", _TRIPLE, "relation", "relations"),
            ("literals", _LITERAL, "attribute", "attributes"),
        ):
            before, after, kept = self._count(table, key)
            counts = [sum(counter.values()) for counter in (before, after, kept)]
            tables[table] = Change(added=counts[1] - counts[2], removed=counts[0] - counts[2], kept=counts[2])
            relations += self._by_relation(kind, names, before, after, kept)
            sources += self._by_source(table, before, after, kept)
        return Difference(
            old_version=self._builds["old"].manifest.version,
            new_version=self._builds["new"].manifest.version,
            tables={name: tables[name] for name in _TABLES if name in tables},
            relations=tuple(sorted(relations, key=lambda r: (-r.added - r.removed, r.kind, r.relation_id))),
            sources=tuple(sources),
            examples=(*self._examples("added"), *self._examples("removed")) if self._num_examples else (),
            changed_dumps=self._changed_dumps(),
        )

    def _table(self, which: str, table: str) -> Any:
        self._builds[which].table(table)  # says what is wrong with the shards, if anything is
        return self._workspace.read([self._builds[which].folder], table)

    def _match_ids(self, table: str, index: str, column: str) -> Change:
        """Keep the table `same_TABLE`: the old index and `now`, the new one, of every id that both have."""
        old, new = (self._table(which, table).select(index, column) for which in ("old", "new"))
        now = new.select(column, now=index)
        same = self._workspace.keep(f"same_{table}", old.join(now, column).select(index, "now"))
        before, after, kept = (self._workspace.count(rows) for rows in (old, new, same))
        return Change(added=after - kept, removed=before - kept, kept=kept)

    def _match_pictures(self) -> Change:
        """Pictures that were kept, each once for each entity that has it."""
        shown = {which: self._kept_pictures(which) for which, build in self._builds.items() if build.has_pictures}
        counts = {which: self._workspace.count(rows) for which, rows in shown.items()}
        kept = 0
        if len(shown) == len(self._builds):
            same = self._workspace.table("same_entities")
            moved = shown["old"].join(same, "entity_index").select("sha256", entity_index="now")
            kept = self._workspace.count(moved.join(shown["new"], ["entity_index", "sha256"]))
        return Change(added=counts.get("new", 0) - kept, removed=counts.get("old", 0) - kept, kept=kept)

    def _kept_pictures(self, which: str) -> Any:
        rows = self._table(which, "images")
        return rows.filter(rows["status"] == "ok").select("entity_index", "sha256").distinct()

    def _translate(self, table: str) -> Any:
        """The old version's rows with their indices, and `new_…`: what these are in the new one, null if gone."""
        rows = self._table("old", table)
        links = [("head_index", "entities"), ("relation_index", "relations"), ("tail_index", "entities")]
        if table == "literals":
            links = [("entity_index", "entities"), ("attribute_index", "attributes")]
        for column, ids in links:
            same = self._workspace.table(f"same_{ids}")
            index = next(name for name in same.columns if name != "now")
            same = same.select(**{column: same[index], f"new_{column}": same["now"]})
            rows = rows.left_join(same, column).drop(f"{column}_right")
        return rows

    def _keys(self, rows: Any, key: Sequence[str], *, translated: bool) -> dict[str, Any]:
        """The columns that tell a statement from others, as the new version counts; no null is equal to none."""
        keys = {}
        for column in key:
            if column.endswith("_index"):
                keys[f"key_{column}"] = rows[f"new_{column}" if translated else column]
            else:
                keys[f"key_{column}"] = rows[column].fill_null("")
        return keys

    def _count(self, table: str, key: Sequence[str]) -> tuple[Counter[Any], Counter[Any], Counter[Any]]:
        """Statements before and after by (relation, sources), and kept ones by (relation, sources before, after).

        Relations are indices of their own version; those of kept statements of the new one.
        """
        relation = key[1]
        old, new = self._table("old", table), self._table("new", table)
        before, after = (self._fetch_counts(rows, relation, "sources") for rows in (old, new))
        translated = self._translate(table)
        earlier = translated.select(sources_before="sources", **self._keys(translated, key, translated=True))
        later = new.select(relation, "sources", **self._keys(new, key, translated=False))
        kept = later.join(earlier, [f"key_{column}" for column in key])
        return before, after, self._fetch_counts(kept, relation, "sources_before", "sources")

    def _fetch_counts(self, rows: Any, *columns: str) -> Counter[Any]:
        found = self._workspace.fetch(rows.group_by(*columns).aggregate(rows=rows.count())).to_pydict()
        return Counter(dict(zip(zip(*(found[name] for name in columns), strict=True), found["rows"], strict=True)))

    def _by_relation(
        self, kind: str, table: str, before: Counter[Any], after: Counter[Any], kept: Counter[Any]
    ) -> list[RelationChange]:
        names = {which: self._ids(which, table, kind) for which in ("old", "new")}
        by_id: dict[str, Counter[str]] = {}
        for label, which, counter in (("before", "old", before), ("after", "new", after), ("kept", "new", kept)):
            for group, rows in counter.items():
                by_id.setdefault(names[which][group[0]], Counter())[label] += rows
        return [
            RelationChange(
                kind=kind,
                relation_id=name,
                before=counts["before"],
                after=counts["after"],
                added=counts["after"] - counts["kept"],
                removed=counts["before"] - counts["kept"],
            )
            for name, counts in by_id.items()
        ]

    def _ids(self, which: str, table: str, kind: str) -> dict[int, str]:
        rows = self._builds[which].table(table).to_table(columns=[f"{kind}_index", f"{kind}_id"]).to_pydict()
        return dict(zip(rows[f"{kind}_index"], rows[f"{kind}_id"], strict=True))

    def _by_source(
        self, table: str, before: Counter[Any], after: Counter[Any], kept: Counter[Any]
    ) -> list[SourceChange]:
        old, new = self._builds["old"], self._builds["new"]
        stated: dict[str, Counter[str]] = {
            name: Counter() for name in dict.fromkeys([*old.manifest.source_names, *new.manifest.source_names])
        }
        for label, build, counter in (("before", old, before), ("after", new, after)):
            for (_, bits), rows in counter.items():
                for name in build.name_sources(bits):
                    stated[name][label] += rows
        for (_, bits_before, bits), rows in kept.items():
            for name in {*old.name_sources(bits_before)} & {*new.name_sources(bits)}:
                stated[name]["kept"] += rows
        return [
            SourceChange(
                source=name,
                table=table,
                before=counts["before"],
                after=counts["after"],
                added=counts["after"] - counts["kept"],
                removed=counts["before"] - counts["kept"],
            )
            for name, counts in stated.items()
            if counts["before"] or counts["after"]
        ]

    def _examples(self, change: str) -> list[ExampleTriple]:
        new, translated = self._table("new", "triples"), self._translate("triples")
        here = new if change == "added" else translated
        there = translated if change == "added" else new
        keys = [f"key_{column}" for column in _TRIPLE]
        rows = here.select(*_TRIPLE, **self._keys(here, _TRIPLE, translated=change == "removed"))
        others = there.select(**self._keys(there, _TRIPLE, translated=change == "added"))
        first = rows.anti_join(others, keys).select(*_TRIPLE).order_by(*_TRIPLE).limit(self._num_examples)
        which = "new" if change == "added" else "old"
        entities = self._table(which, "entities")
        text = entities["label"].fill_null(entities["entity_id"])
        heads = entities.select(head_index="entity_index", head=text)
        tails = entities.select(tail_index="entity_index", tail=text)
        relations = self._table(which, "relations").select("relation_index", relation="name")
        named = first.join(heads, "head_index").join(tails, "tail_index").join(relations, "relation_index")
        found = self._workspace.fetch(named.order_by(*_TRIPLE).select("head", "relation", "tail")).to_pylist()
        return [ExampleTriple(change=change, **row) for row in found]

    def _changed_dumps(self) -> tuple[str, ...]:
        old, new = (
            {row["dump"]: row["sha256"] for row in self._builds[which].dumps.to_table().to_pylist()}
            for which in ("old", "new")
        )
        return tuple(sorted(name for name in old | new if old.get(name) != new.get(name)))
