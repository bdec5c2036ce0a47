"""Small dumps for the tests of reading, and reading them in one call."""

import bz2
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pyoxigraph as ox
import zstandard

from mmkg.config import LinkConfig, SourceConfig, SparqlConfig
from mmkg.sources import LINKS, SOURCES, DumpCounts
from mmkg.sources.base import Block, LineContext
from mmkg.sources.reader import read_one_dump
from mmkg.sources.statements import scoped_names, term_of
from mmkg.terms import OWL

CONTEXT = LineContext(source="source", dump="dump.nt", base_iri="")
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "zstd": lambda content: zstandard.ZstdCompressor().compress(content),
}
PULLED = SparqlConfig(endpoint="http://127.0.0.1/sparql", predicates=("http://a/p",))
FRANCE = '<http://dbpedia.org/resource/France> <http://www.w3.org/2000/01/rdf-schema#label> "France"@en .\n'
SAME_AS = f"<http://a/Paris> <{OWL}sameAs> <http://b/Paris> .\n"


def block_of(data: bytes, *, first_line: int = 1, offset: int = 0) -> Block:
    num_lines = data.count(b"\n") + (bool(data) and not data.endswith(b"\n"))
    return Block(number=0, data=data, first_line=first_line, offset=offset, num_lines=num_lines)


class Reading:
    """What reading a dump gave: counts, and the rows of each table as dicts."""

    def __init__(self, counts: DumpCounts, folder: Path) -> None:
        self.counts, self.folder = counts, folder
        self.triples = self._rows("triples_raw")
        self.qualifiers = self._rows("qualifiers_raw")
        self.rejects = self._rows("rejects")
        self.dumps = self._rows("dumps")

    def _rows(self, table: str) -> list[dict[str, Any]]:
        files = sorted((self.folder / table).glob("part-*.parquet"))
        assert files, f"no shards of {table}"
        return [row for file in files for row in pq.read_table(file).to_pylist()]

    @property
    def statements(self) -> list[tuple[Any, ...]]:
        """Head, relation, tail or None, value, datatype, language of each triple."""
        return [statement_of(row) for row in self.triples]

    @property
    def content(self) -> dict[str, bytes]:
        """Every file below the folder."""
        return {str(file.relative_to(self.folder)): file.read_bytes() for file in files_of(self.folder)}


def files_of(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def statement_of(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("head", "relation", "tail", "value", "datatype", "language"))


def read(
    content: bytes | str, folder: Path, *, kind: str = "ntriples", name: str = "dump.nt", **settings: Any
) -> Reading:
    """Write a dump and read it."""
    dump = folder / name
    dump.parent.mkdir(parents=True, exist_ok=True)
    dump.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_file(dump, folder / "tables", kind=kind, **settings)


def read_file(
    dump: Path,
    folder: Path,
    *,
    kind: str = "ntriples",
    links: bool = False,
    workers: int = 1,
    base_iri: str = "",
    **more: Any,
) -> Reading:
    """Read a dump that exists."""
    if links:
        source, config = LINKS[kind], LinkConfig(kind=kind, paths=(str(dump),))
    else:
        asked = {"paths": (str(dump),)} if kind != "sparql" else {"sparql": PULLED}
        source, config = SOURCES[kind], SourceConfig(kind=kind, base_iri=base_iri, **asked)
    counts = read_one_dump(source, config, dump, dump.name, folder, **{"workers": workers, "progress": None, **more})
    return Reading(counts, folder)


def strict_statements(data: bytes | str, scope: str) -> list[tuple[Any, ...]]:
    """What pyoxigraph alone makes of N-Triples, in the columns of the tables; raises SyntaxError."""
    statements = []
    for quad in ox.parse(data, format=ox.RdfFormat.N_TRIPLES):
        name_blank = scoped_names(scope)
        tail = term_of(quad.object, name_blank)
        head = term_of(quad.subject, name_blank)
        if isinstance(tail, str):
            statements.append((head, quad.predicate.value, tail, None, None, None))
        else:
            statements.append((head, quad.predicate.value, None, tail.value, tail.datatype, tail.language))
    return statements
