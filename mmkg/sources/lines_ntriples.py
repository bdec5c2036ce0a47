"""N-Triples in blocks of lines: the compiled tokenizer, with pyoxigraph for each line that it leaves alone.

The third step on the way of a fact: a block of bytes becomes rows of `triples_raw`, and of `qualifiers_raw` and
`rejects` where there are such lines. One bad line costs that line and no other.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmkg.sources import tokenizer
from mmkg.sources.base import Block, LineContext, LineRejected, ParsedBlock
from mmkg.sources.gather import gather
from mmkg.sources.rows import Literal, RowCollector, Statement, decode_line, make_table
from mmkg.sources.statements import parse_statement, scoped_names

_TERMS = {
    "head": tokenizer.HEAD,
    "relation": tokenizer.RELATION,
    "tail": tokenizer.TAIL,
    "value": tokenizer.VALUE,
    "datatype": tokenizer.DATATYPE,
    "language": tokenizer.LANGUAGE,
}


def parse_ntriples(block: Block, context: LineContext) -> ParsedBlock:
    """Read a block of N-Triples: the tokenizer reads the plain lines, pyoxigraph each of the others."""
    data = block.data if block.data.endswith(b"\n") else block.data + b"\n"
    array = np.frombuffer(data, dtype=np.uint8)
    rows = np.zeros((tokenizer.FIELDS, block.num_lines), dtype=np.int32)
    if tokenizer.tokenize(array, rows) != len(array):
        raise ValueError(f"block {block.number} has more than its {block.num_lines} lines")
    collector = RowCollector(context)
    repaired = np.zeros(block.num_lines, dtype=np.bool_)
    array = _parse_slow_lines(block, data, array, rows, repaired, collector, context)

    status = rows[tokenizer.STATUS]
    chosen = np.flatnonzero(status == tokenizer.TRIPLE)
    counts = collector.counts
    counts.lines = block.num_lines
    counts.triples += len(chosen)
    counts.comments = int((status == tokenizer.COMMENT).sum())
    counts.blank = int((status == tokenizer.BLANK).sum())
    tables = collector.tables()
    if len(chosen):
        columns = {
            name: gather(array, rows, chosen, column, f"_:{context.scope}x".encode()) for name, column in _TERMS.items()
        }
        columns["line"] = pa.array(chosen + block.first_line)
        columns["repaired"] = pa.array(repaired[chosen])
        tables["triples_raw"] = make_table("triples_raw", columns, len(chosen), context)
    return ParsedBlock(tables=tables, counts=counts)


def _parse_slow_lines(
    block: Block,
    data: bytes,
    array: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.int32],
    repaired: npt.NDArray[np.bool_],
    collector: RowCollector,
    context: LineContext,
) -> npt.NDArray[np.uint8]:
    """Parse the lines that the tokenizer left alone.

    Their terms are appended to the block's bytes, and `rows` points there, so that all lines are gathered alike.
    Returns the bytes with what was appended.
    """
    extra = bytearray()
    name_blank = scoped_names(context.scope)
    for index in np.flatnonzero(rows[tokenizer.STATUS] == tokenizer.SLOW).tolist():
        start, end = int(rows[tokenizer.START, index]), int(rows[tokenizer.END, index])
        raw = data[start:end]
        try:
            statement = parse_statement(decode_line(raw), name_blank)
        except LineRejected as error:
            collector.reject(block.first_line + index, block.offset + start, error, raw)
            rows[tokenizer.STATUS, index] = tokenizer.REJECT
            continue
        if not statement.asserted:
            collector.add(statement, block.first_line + index)
            rows[tokenizer.STATUS, index] = tokenizer.REJECT  # counted by the collector
            continue
        rows[tokenizer.STATUS, index] = tokenizer.TRIPLE
        repaired[index] = statement.repaired
        collector.counts.repaired += statement.repaired
        for column, text in _columns(statement):
            encoded = text.encode()
            at = len(data) + len(extra)
            rows[column : column + 4, index] = (at, at + len(encoded), tokenizer.COPY, len(encoded))
            extra += encoded
    return np.frombuffer(data + bytes(extra), dtype=np.uint8) if extra else array


def _columns(statement: Statement) -> list[tuple[int, str]]:
    found = [(tokenizer.HEAD, statement.head), (tokenizer.RELATION, statement.relation)]
    tail = statement.tail
    if not isinstance(tail, Literal):
        return [*found, (tokenizer.TAIL, tail)]
    found.append((tokenizer.VALUE, tail.value))
    if tail.datatype is not None:
        found.append((tokenizer.DATATYPE, tail.datatype))
    if tail.language is not None:
        found.append((tokenizer.LANGUAGE, tail.language))
    return found
