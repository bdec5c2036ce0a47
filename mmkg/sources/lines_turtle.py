"""Turtle with one statement a line, the form of YAGO 4.5: read in blocks, so that several processes can share a dump.

A block is parsed as a whole behind the prefix lines before it. If the parser raises, or the statements are not those of
the lines one by one, each line is parsed alone.
"""

import pyoxigraph as ox

from mmkg.sources.base import Block, LineContext, LineRejected, ParsedBlock
from mmkg.sources.rows import RowCollector, Statement, decode_line, split_lines
from mmkg.sources.statements import RDF_REIFIES, AnonymousNames, group_quoted, parse_turtle_line, triple_of

_PREFIX_WORDS = (b"@prefix", b"@base", b"prefix ", b"base ", b"prefix\t", b"base\t")


def is_prefix_line(line: bytes) -> bool:
    """Whether a line of Turtle declares a prefix or base."""
    return line.lstrip()[:8].lower().startswith(_PREFIX_WORDS)


def prefix_lines(data: bytes) -> bytes:
    """The prefix lines among whole lines, each with a line break."""
    if b"prefix" not in data.lower() and b"base" not in data.lower():
        return b""
    return b"".join(line.rstrip(b"\r") + b"\n" for line in data.split(b"\n") if is_prefix_line(line))


def parse_turtle_lines(block: Block, context: LineContext) -> ParsedBlock:
    """Read a block of Turtle that has one statement a line."""
    collector = RowCollector(context)
    lines = []
    for line, offset, raw in split_lines(block):
        collector.counts.lines += 1
        stripped = raw.strip()
        if not stripped:
            collector.counts.blank += 1
        elif stripped.startswith(b"#") or is_prefix_line(stripped):
            collector.counts.comments += 1
        else:
            lines.append((line, offset, raw))
    statements = _parse_together(block, context, [raw for _, _, raw in lines])
    if statements is not None:
        for (line, _, _), statement in zip(lines, statements, strict=True):
            collector.add(statement, line)
    else:
        _parse_alone(block, context, collector)
    return ParsedBlock(tables=collector.tables(), counts=collector.counts)


def _parse_together(block: Block, context: LineContext, lines: list[bytes]) -> list[Statement] | None:
    """One statement for each line, or None where the block is not plainly that."""
    if not all(line.rstrip().endswith(b".") for line in lines):
        return None
    statements: list[Statement] = []
    name_blank = AnonymousNames(context.scope, f"{block.number}n", block.data)
    try:
        quads = iter(ox.parse(context.prefixes + block.data, format=ox.RdfFormat.TURTLE))
        for line in lines:
            quad = next(quads)
            if line.lstrip().startswith(b"<<"):
                if quad.predicate.value != RDF_REIFIES:
                    return None
                statements.extend(group_quoted([quad, next(quads)], name_blank))
            else:
                statements.append(Statement(*triple_of(quad, name_blank)))
        if next(quads, None) is not None or len(statements) != len(lines):
            return None
    except (SyntaxError, LineRejected, StopIteration):
        return None
    return statements


def _parse_alone(block: Block, context: LineContext, collector: RowCollector) -> None:
    prefixes = context.prefixes
    name_blank = AnonymousNames(context.scope, f"{block.number}n", block.data)
    for line, offset, raw in split_lines(block):
        stripped = raw.strip()
        if not stripped or stripped.startswith(b"#"):
            continue
        if is_prefix_line(stripped):
            prefixes += stripped + b"\n"
            continue
        try:
            collector.add(parse_turtle_line(decode_line(raw), prefixes, name_blank), line)
        except LineRejected as error:
            collector.reject(line, offset, error, raw)
