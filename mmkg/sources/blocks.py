"""Cutting a stream into blocks of whole lines, with memory that is bounded whatever the lines are.

The second step on the way of a fact. Where a block ends depends on the bytes alone, so blocks are the same on every
run, and a block that an interrupted run has finished is recognised by its number.
"""

from collections.abc import Iterator

from mmkg.sources.base import MAX_LINE_BYTES, MAX_RAW_BYTES, Block
from mmkg.sources.streams import ByteStream

BLOCK_BYTES = 32 * 2**20
BOM = b"\xef\xbb\xbf"
_LINE_BREAK = 10
_SKIP_BYTES = 2**20


def cut_blocks(
    stream: ByteStream, *, block_bytes: int = BLOCK_BYTES, max_line_bytes: int = MAX_LINE_BYTES
) -> Iterator[Block]:
    """Cut a stream into blocks.

    Args:
        stream: the decompressed dump.
        block_bytes: size of a block; a block ends after the last line break within it.
        max_line_bytes: a longer line becomes a block of its own that holds only its first 64 KiB.
    """
    number, line, offset = 0, 1, 0
    carry = stream.read(len(BOM))
    if carry == BOM:
        carry, offset = b"", len(BOM)
    while True:
        fresh = stream.read(block_bytes - len(carry) if len(carry) < block_bytes else block_bytes)
        at_end = not fresh
        data = carry + fresh
        cut = len(data) if at_end else data.rfind(b"\n") + 1
        if at_end and len(data) > max_line_bytes and b"\n" not in data:
            cut = 0
        if cut:
            breaks = data.count(b"\n", 0, cut)
            num_lines = breaks + (data[cut - 1] != _LINE_BREAK)  # only the last line of a dump may lack its break
            yield Block(number=number, data=data[:cut], first_line=line, offset=offset, num_lines=num_lines)
            number, line, offset = number + 1, line + breaks, offset + cut
        carry = data[cut:]
        if len(carry) > max_line_bytes:
            length, carry, ended = _skip_line(stream, carry)
            raw = data[cut : cut + MAX_RAW_BYTES]
            oversized = length - ended
            yield Block(number=number, data=raw, first_line=line, offset=offset, num_lines=1, oversized_bytes=oversized)
            number, line, offset = number + 1, line + 1, offset + length
            del data
        elif at_end:
            return


def _skip_line(stream: ByteStream, begun: bytes) -> tuple[int, bytes, bool]:
    """Read to the end of a line without keeping it: its length with the line break, what follows, whether it ended."""
    length = len(begun)
    while piece := stream.read(_SKIP_BYTES):
        end = piece.find(b"\n")
        if end >= 0:
            return length + end + 1, piece[end + 1 :], True
        length += len(piece)
    return length, b"", False
