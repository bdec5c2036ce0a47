"""Dumps whose statements may span lines (Turtle, RDF/XML, N-Quads): one parser streams through the whole of it.

Here a syntax error is the end: after it nothing can be trusted, so it is an error that names file, line and column. The
line of a statement is the one it ends on, as the parser is fed one line at a time.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

import pyoxigraph as ox

from mmkg.errors import DumpError
from mmkg.shards import TableWriter
from mmkg.sources.base import Counts, DocumentForm, LineContext, LineRejected
from mmkg.sources.blocks import BOM
from mmkg.sources.rows import RowCollector, Statement, Term
from mmkg.sources.statements import RDF_REIFIES, AnonymousNames, NameBlank, checked_iri, term_of, triple_of
from mmkg.sources.streams import ByteStream
from mmkg.terms import OWL_SAME_AS

logger = logging.getLogger(__name__)

_SYNTAXES = {"turtle": ox.RdfFormat.TURTLE, "rdf_xml": ox.RdfFormat.RDF_XML, "n_quads": ox.RdfFormat.N_QUADS}
_CHUNK_BYTES = 2**20
_ROWS_AT_ONCE = 250_000
_DETAIL = 500  # characters of a rejected statement
TABLES = ("triples_raw", "qualifiers_raw", "rejects")


class _LineFeeder:
    """Gives the parser at most one line a read, and knows how many it has given."""

    def __init__(self, stream: ByteStream) -> None:
        self.lines = 0
        self._stream = stream
        self._at_start = True
        self._line_begun = False
        self._pieces = self._split()
        self._rest = b""

    def _split(self) -> Iterator[bytes]:
        carry = self._stream.read(len(BOM)).removeprefix(BOM)
        while chunk := self._stream.read(_CHUNK_BYTES):
            lines = _split_lines(carry + chunk)
            carry = b""
            if lines and not lines[-1].endswith(b"\n") and len(lines[-1]) < _CHUNK_BYTES:
                carry = lines.pop()
            yield from lines
        if carry:
            yield from _split_lines(carry)

    def read(self, size: int = -1) -> bytes:
        if not self._rest:
            self._rest = next(self._pieces, b"")
            if self._rest and not self._line_begun:
                self.lines += 1
            self._line_begun = bool(self._rest) and not self._rest.endswith(b"\n")
        piece = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(piece) :]
        return piece

    def drain(self) -> None:
        """Read on to the end, so that `lines` is that of the dump."""
        while self.read():
            pass


def _split_lines(data: bytes) -> list[bytes]:
    lines = [line + b"\n" for line in data.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def read_document(
    dump: Path,
    stream: ByteStream,
    form: DocumentForm,
    context: LineContext,
    folder: Path,
    progress: Callable[[int, int], None] | None,
) -> Counts:
    """Read a document and write its tables into `folder`.

    Raises:
        DumpError: the document has a syntax error.
    """
    feeder = _LineFeeder(stream)
    collector = RowCollector(context)
    writers = {table: TableWriter(folder, table) for table in TABLES}
    counts = Counts()
    try:
        quads = ox.parse(cast("BinaryIO", feeder), format=_SYNTAXES[form.syntax], base_iri=form.base_iri or None)
        for line, statement in _statements(quads, form, feeder, AnonymousNames(context.scope)):
            if isinstance(statement, LineRejected):
                collector.reject(line, 0, statement, b"")
            else:
                collector.add(statement, line)
            if collector.num_rows >= _ROWS_AT_ONCE:
                collector = _flush(collector, writers, counts, context)
                if progress is not None:
                    progress(feeder.lines, stream.bytes_read)
        feeder.drain()
    except SyntaxError as error:
        line, column = error.lineno or feeder.lines, error.offset or 0
        raise DumpError(
            f"{dump}:{line}:{column}: not {form.name}: {error.msg}. A document is read whole or not at all: mend that "
            "line, or convert the dump to N-Triples, where one bad line costs only itself."
        ) from error
    _flush(collector, writers, counts, context)
    for writer in writers.values():
        with writer:
            pass
    counts.lines = feeder.lines
    return counts


def _flush(
    collector: RowCollector, writers: dict[str, TableWriter], counts: Counts, context: LineContext
) -> RowCollector:
    for table, rows in collector.tables().items():
        writers[table].write(rows)
    counts.add(collector.counts)
    return RowCollector(context)


def _statements(
    quads: Iterable[ox.Quad | ox.Triple], form: DocumentForm, feeder: _LineFeeder, name_blank: NameBlank
) -> Iterator[tuple[int, Statement | LineRejected]]:
    """Each statement with the line that it ends on; quoted ones become qualifiers."""
    reified: dict[ox.NamedNode | ox.BlankNode | ox.Triple, tuple[str, str, Term]] = {}
    graph_names = 0
    for quad in quads:
        if isinstance(quad, ox.Quad) and not isinstance(quad.graph_name, ox.DefaultGraph):
            graph_names += 1
        try:
            if isinstance(quad.object, ox.Triple) and quad.predicate.value == RDF_REIFIES:
                reified[quad.subject] = triple_of(quad.object, name_blank)
                continue
            quoted = reified.get(quad.subject) if reified else None
            if quoted is not None:
                about = (checked_iri(quad.predicate.value), term_of(quad.object, name_blank))
                yield feeder.lines, Statement(*quoted, qualifiers=(about,), asserted=False)
            elif form.links_only and quad.predicate.value != OWL_SAME_AS:
                yield feeder.lines, LineRejected("not_a_link", str(quad))
            else:
                yield feeder.lines, Statement(*triple_of(quad, name_blank))
        except LineRejected as error:
            yield feeder.lines, LineRejected(error.reason, f"{error.detail}: {str(quad)[:_DETAIL]}")
    if graph_names:
        logger.info("%s statements stood in named graphs; the names were dropped", f"{graph_names:,}")
