"""Statements that were parsed one at a time, and the Arrow tables that they are collected into.

The third step on the way of a fact, for all that the compiled tokenizer does not read: rows of `triples_raw`,
`qualifiers_raw` and `rejects`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from mmkg.sources.base import MAX_RAW_BYTES, Block, Counts, LineContext, LineRejected, ParsedBlock
from mmkg.tables import SCHEMAS


@dataclass(frozen=True, slots=True)
class Literal:
    """A literal object; `datatype` is None for plain strings and where there is a language."""

    value: str
    datatype: str | None = None
    language: str | None = None


Term = str | Literal  # an IRI or _:label, or a literal


@dataclass(frozen=True, slots=True)
class Statement:
    """What one line says: a triple, statements about it, or both."""

    head: str
    relation: str
    tail: Term
    qualifiers: Sequence[tuple[str, Term]] = ()
    asserted: bool = True  # False: only quoted, so it gives qualifiers but no triple
    repaired: bool = False


@dataclass(kw_only=True)
class _TripleColumns:
    head: list[str] = field(default_factory=list)
    relation: list[str] = field(default_factory=list)
    tail: list[str | None] = field(default_factory=list)
    value: list[str | None] = field(default_factory=list)
    datatype: list[str | None] = field(default_factory=list)
    language: list[str | None] = field(default_factory=list)
    line: list[int] = field(default_factory=list)
    repaired: list[bool] = field(default_factory=list)

    def add(self, statement: Statement, line: int) -> None:
        self.head.append(statement.head)
        self.relation.append(statement.relation)
        for column, part in zip(
            (self.tail, self.value, self.datatype, self.language), _object_columns(statement.tail), strict=True
        ):
            column.append(part)
        self.line.append(line)
        self.repaired.append(statement.repaired)


def _object_columns(term: Term) -> tuple[str | None, str | None, str | None, str | None]:
    if isinstance(term, Literal):
        return None, term.value, term.datatype, term.language
    return term, None, None, None


class RowCollector:
    """Collects the statements and rejects of a block or document, and counts its lines."""

    def __init__(self, context: LineContext) -> None:
        self.counts = Counts()
        self._context = context
        self._triples = _TripleColumns()
        self._qualified = _TripleColumns()
        self._qualifier: list[str] = []
        self._qualifier_object: list[tuple[str | None, str | None, str | None, str | None]] = []
        self._rejects: list[tuple[int, int, str, str, bytes, int]] = []

    def add(self, statement: Statement, line: int) -> None:
        """Add what a line says, and count the line."""
        if statement.asserted:
            self._triples.add(statement, line)
            self.counts.triples += 1
        else:
            self.counts.qualifiers += 1
        self.counts.repaired += statement.repaired
        for relation, term in statement.qualifiers:
            self._qualified.add(statement, line)
            self._qualifier.append(relation)
            self._qualifier_object.append(_object_columns(term))

    def reject(self, line: int, offset: int, error: LineRejected, raw: bytes, raw_bytes: int | None = None) -> None:
        """Add a line that is no triple, and count it."""
        length = len(raw) if raw_bytes is None else raw_bytes
        self._rejects.append((line, offset, error.reason, error.detail, raw[:MAX_RAW_BYTES], length))
        self.counts.rejects += 1
        self.counts.reasons[error.reason] = self.counts.reasons.get(error.reason, 0) + 1

    @property
    def num_rows(self) -> int:
        """How many rows are held."""
        return len(self._triples.line) + len(self._qualifier) + len(self._rejects)

    def tables(self) -> dict[str, pa.Table]:
        """The rows so far, by table; a table without rows is left out."""
        tables = {}
        if self._triples.line:
            tables["triples_raw"] = self._table("triples_raw", vars(self._triples), len(self._triples.line))
        if self._qualifier:
            tails = list(zip(*self._qualifier_object, strict=True))
            columns: dict[str, Any] = {**vars(self._qualified), "qualifier": self._qualifier}
            names = ("qualifier_tail", "qualifier_value", "qualifier_datatype", "qualifier_language")
            columns |= dict(zip(names, tails, strict=True))
            tables["qualifiers_raw"] = self._table("qualifiers_raw", columns, len(self._qualifier))
        if self._rejects:
            reject_names = ("line", "byte_offset", "reason", "detail", "raw", "raw_bytes")
            columns = dict(zip(reject_names, zip(*self._rejects, strict=True), strict=True))
            tables["rejects"] = self._table("rejects", columns, len(self._rejects))
        return tables

    def _table(self, table: str, columns: Mapping[str, Any], count: int) -> pa.Table:
        return make_table(table, columns, count, self._context)


def repeat_name(name: str, count: int) -> pa.DictionaryArray:
    """A column that holds one name in all rows."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, dtype=np.int32)), pa.array([name], pa.string()))


def make_table(table: str, columns: Mapping[str, Any], count: int, context: LineContext) -> pa.Table:
    """Bring columns into the form of a table of the reading stage; `source` and `dump` are added."""
    schema = SCHEMAS[table]
    names = {"source": context.source, "dump": context.dump}
    arrays = []
    for item in schema:
        if item.name in names:
            arrays.append(repeat_name(names[item.name], count))
        else:
            column = columns[item.name]
            arrays.append(column if isinstance(column, pa.Array) else pa.array(column, item.type))
    return pa.Table.from_arrays(arrays, schema=schema)


ParseLine = Callable[[str, LineContext], Statement]


def parse_lines(block: Block, context: LineContext, parse_line: ParseLine, *, comments: bool = False) -> ParsedBlock:
    """Parse a block with a function that reads one line.

    Args:
        block: whole lines.
        context: given on to `parse_line`.
        parse_line: reads a line without its line break; raises LineRejected.
        comments: a line whose first character but spaces is ``#`` is a comment.
    """
    collector = RowCollector(context)
    for line, offset, raw in split_lines(block):
        collector.counts.lines += 1
        try:
            text = decode_line(raw)
            if not text.strip():
                collector.counts.blank += 1
            elif comments and text.lstrip().startswith("#"):
                collector.counts.comments += 1
            else:
                collector.add(parse_line(text, context), line)
        except LineRejected as error:
            collector.reject(line, offset, error, raw)
    return ParsedBlock(tables=collector.tables(), counts=collector.counts)


def split_lines(block: Block) -> list[tuple[int, int, bytes]]:
    """The lines of a block: number, byte offset in the dump, bytes without the line break (LF or CR LF)."""
    pieces = block.data.split(b"\n")
    if not pieces[-1]:
        pieces.pop()
    lines = []
    offset = block.offset
    for index, piece in enumerate(pieces):
        lines.append((block.first_line + index, offset, piece.removesuffix(b"\r")))
        offset += len(piece) + 1
    return lines


def decode_line(raw: bytes) -> str:
    """A line as text.

    Raises:
        LineRejected: it is not UTF-8.
    """
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise LineRejected("not_utf8", f"{error.reason} at byte {error.start} of the line") from error
