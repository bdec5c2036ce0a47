"""Lists of picture addresses as MMKB has them: one entity and one address a line.

Lines of them::

    m.01m4kpp⇥http://upload.wikimedia.org/wikipedia/commons/e/e0/Andy_Griffith_Show_cast.jpg
    /m/01m4kpp⇥http://example.org/griffith.jpg
    <http://dbpedia.org/resource/Andy_Griffith>⇥http://example.org/griffith.jpg
    <Andy_Griffith>⇥http://example.org/griffith.jpg

A name in angle brackets without a scheme is one of YAGO's, as in MMKB's other files. Compression is seen by content. An
entity may have any number of lines; empty lines and those that begin with # are passed over.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mmkg.images.graph_view import as_iri
from mmkg.sources.blocks import cut_blocks
from mmkg.sources.streams import open_stream
from mmkg.terms import YAGO

_BLOCK_BYTES = 4 * 2**20
_MAX_SHOWN = 200  # characters of a line that is none
_YAGO_NAME = re.compile(r"<[^<>\s:/]+>")


@dataclass(frozen=True)
class ListedUrl:
    """A line of a list.

    Attributes:
        place: name of the file and number of the line.
        iri: of the entity; None where the line is not of the form.
        url: the address as it stands; the line where it is not of the form.
    """

    place: str
    iri: str | None
    url: str


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a plain or compressed file, from 1, without their line breaks.

    A line beyond 16 MiB comes as its beginning; bytes that are no UTF-8 as U+FFFD.

    Raises:
        DumpError: the file cannot be opened, or is damaged.
    """
    with open_stream(path) as stream:
        for block in cut_blocks(stream, block_bytes=_BLOCK_BYTES):
            for number, line in enumerate(block.data.split(b"\n")[: block.num_lines], start=block.first_line):
                yield number, line.decode("utf-8", "replace").rstrip("\r")


def read_url_list(path: Path, name: str) -> Iterator[ListedUrl]:
    """Read a list line by line.

    Args:
        path: a plain or compressed file.
        name: what places call it.

    Raises:
        DumpError: it cannot be opened, or is damaged.
    """
    for number, line in numbered_lines(path):
        if line.strip() and not line.startswith("#"):
            yield _parse(line.strip(), f"{name}:{number}")


def _parse(line: str, place: str) -> ListedUrl:
    columns = [column.strip() for column in line.split("\t")]
    if len(columns) == 2 and columns[1]:
        iri = YAGO + columns[0][1:-1] if _YAGO_NAME.fullmatch(columns[0]) else as_iri(columns[0])
        if iri is not None:
            url = columns[1][1:-1] if columns[1].startswith("<") and columns[1].endswith(">") else columns[1]
            return ListedUrl(place, iri, url)
    return ListedUrl(place, None, line[:_MAX_SHOWN])
