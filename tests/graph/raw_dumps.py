"""Dumps as the reading stage leaves them, written by hand, and the tables that a build makes of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from mmkg.config import Config, parse_config
from mmkg.graph.build import build_graph
from mmkg.shards import open_table, write_table
from mmkg.tables import QUALIFIERS_RAW, TRIPLES_RAW
from mmkg.terms import DBPEDIA, FREEBASE, OWL_SAME_AS, YAGO

SAME_AS = OWL_SAME_AS


class Literal(NamedTuple):
    """The object of a statement that is no node."""

    value: str
    datatype: str | None = None
    language: str | None = None


Statement = tuple[str, str, "str | Literal"]


def mid(name: str) -> str:
    return f"{FREEBASE}m.{name}"


def fb(name: str) -> str:
    return FREEBASE + name


def dbp(name: str) -> str:
    return DBPEDIA + name


def yago(name: str) -> str:
    return YAGO + name


def _object(tail: "str | Literal | None", prefix: str = "") -> dict[str, Any]:
    literal = tail if isinstance(tail, Literal) else Literal(None)
    return {
        f"{prefix}tail": None if isinstance(tail, Literal) else tail,
        f"{prefix}value": literal.value,
        f"{prefix}datatype": literal.datatype,
        f"{prefix}language": literal.language,
    }


def write_dump(
    folder: Path,
    statements: Iterable[Statement],
    *,
    source: str,
    qualifiers: Iterable[tuple[Statement, str, "str | Literal"]] = (),
) -> Path:
    """Write one dump; its statements have lines 1, 2, 3, …"""
    origin = {"source": source, "dump": f"{source}.nt", "repaired": False}
    rows = [
        {"head": head, "relation": relation, **_object(tail), **origin, "line": line}
        for line, (head, relation, tail) in enumerate(statements, start=1)
    ]
    qualified = [
        {
            "head": head,
            "relation": relation,
            **_object(tail),
            "qualifier": qualifier,
            **_object(value, "qualifier_"),
            **origin,
            "line": line,
        }
        for line, ((head, relation, tail), qualifier, value) in enumerate(qualifiers, start=1)
    ]
    write_table(folder, "triples_raw", [pa.Table.from_pylist(rows, schema=TRIPLES_RAW)])
    write_table(folder, "qualifiers_raw", [pa.Table.from_pylist(qualified, schema=QUALIFIERS_RAW)])
    return folder


def make_config(sources: Sequence[str | dict[str, Any]], **sections: Any) -> Config:
    """A config with sources given by kind or whole."""
    listed = [{"kind": s, "paths": ["x"]} if isinstance(s, str) else {"paths": ["x"], **s} for s in sources]
    graph = {"name": "test", "workers": 2, "memory_limit": "1GB", **sections.pop("graph", {})}
    return parse_config({"graph": graph, "sources": listed, **sections}, Path("test.toml"))


@dataclass
class Built:
    """The tables of a build, with ids in place of indices."""

    folder: Path
    counts: dict[str, int]
    config: Config

    def rows(self, table: str) -> list[dict[str, Any]]:
        return open_table(self.folder, table).to_table().to_pylist()

    @property
    def ids(self) -> list[str]:
        return [row["entity_id"] for row in self.rows("entities")]

    @property
    def relation_ids(self) -> list[str]:
        return [row["relation_id"] for row in self.rows("relations")]

    def entity(self, entity_id: str) -> dict[str, Any]:
        return next(row for row in self.rows("entities") if row["entity_id"] == entity_id)

    def names_of(self, sources: int) -> frozenset[str]:
        return frozenset(name for bit, name in enumerate(self.config.source_names) if sources >> bit & 1)

    @property
    def triples(self) -> dict[tuple[str, str, str], frozenset[str]]:
        """Sources of each triple."""
        ids, relations = self.ids, self.relation_ids
        return {
            (ids[r["head_index"]], relations[r["relation_index"]], ids[r["tail_index"]]): self.names_of(r["sources"])
            for r in self.rows("triples")
        }

    @property
    def literals(self) -> dict[tuple[str, str, Literal], frozenset[str]]:
        """Sources of each literal."""
        ids = self.ids
        attributes = [row["attribute_id"] for row in self.rows("attributes")]
        return {
            (
                ids[r["entity_index"]],
                attributes[r["attribute_index"]],
                Literal(r["text"], r["datatype"], r["language"]),
            ): self.names_of(r["sources"])
            for r in self.rows("literals")
        }

    @property
    def types(self) -> dict[str, list[str]]:
        return {row["entity_id"]: row["types"] for row in self.rows("entities") if row["types"]}

    @property
    def verdicts(self) -> dict[tuple[str, str], str]:
        """Reason by link; `link` is a link that was believed."""
        return {(row["alias"], row["other"]): row["reason"] for row in self.rows("merges")}

    @property
    def dropped(self) -> set[tuple[str, str, int, str]]:
        """Head, relation, line and reason of what was left out."""
        return {(row["head"], row["relation"], row["line"], row["reason"]) for row in self.rows("dropped")}


def build(
    folder: Path,
    dumps: dict[str, Iterable[Statement]],
    *,
    links: Iterable[Statement] = (),
    config: Config | None = None,
    qualifiers: Iterable[tuple[Statement, str, "str | Literal"]] = (),
) -> Built:
    """Write dumps, one a source, and a link dump, and build them.

    Args:
        folder: an empty one.
        dumps: statements by name of source; the config has these sources unless given.
        links: statements of the link dump.
        config: of the build.
        qualifiers: of the first dump.
    """
    config = config or make_config(list(dumps))
    first = next(iter(dumps))
    read = [
        write_dump(folder / "read" / name, rows, source=name, qualifiers=qualifiers if name == first else ())
        for name, rows in dumps.items()
    ]
    links = list(links)
    linked = [write_dump(folder / "read_links", links, source="links")] if links else []
    counts = build_graph(config, read, linked, folder / "graph")
    return Built(folder / "graph", counts, config)
