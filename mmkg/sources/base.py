"""What every source shares: how it introduces itself, the reasons for rejects, the counts of a dump, and finding dumps.

A fact is still a line of a file here. A source only says in which form its dumps come; ``reader.py`` cuts them into
blocks and writes the tables.
"""

import glob
import hashlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import pyarrow as pa

from mmkg.errors import DumpError
from mmkg.shards import PARTIAL_SUFFIX

MAX_LINE_BYTES = 16 * 2**20
"""A longer line is a reject of the reason too_long, and is never held in memory as a whole."""
MAX_IRI_BYTES = 8_000
"""A longer IRI names nothing (a picture as a data: IRI, say): no index of a store takes it (Neo4j's: 8,167 bytes)."""
MAX_RAW_BYTES = 64 * 2**10
"""So much of a rejected line is kept."""

REJECT_REASONS: Mapping[str, str] = {
    "not_utf8": "the line is not UTF-8 (Latin-1, or cut inside a character)",
    "too_long": f"the line is longer than {MAX_LINE_BYTES // 2**20} MiB",
    "relative_iri": "an IRI has no scheme, and the form of the dump has no base",
    "invalid_iri": "an IRI is wrong in a way that percent-encoding does not mend",
    "long_iri": f"an IRI is longer than {MAX_IRI_BYTES:,} bytes",
    "unterminated": "a literal, an IRI or the statement ends without its closing character",
    "bad_escape": "a backslash is followed by what is no escape",
    "bad_language": "a language tag is none",
    "several_statements": "the line holds more than one statement",
    "quoted_triple": "a quoted triple stands where the tables have no place for it",
    "syntax": "anything else that the parser does not accept",
    "columns": "the line has a number of columns that the kind does not know",
    "bad_value": "a column is not the number, name or date that stands there in this kind",
    "not_a_link": "the statement is no identity link",
}


@dataclass(frozen=True, kw_only=True)
class SourceInfo:
    """How a source introduces itself."""

    title: str
    example: str  # a line of it
    urls: tuple[str, ...]
    licence: str
    citation: str
    expects: str  # in messages: what a dump of this kind looks like


@dataclass(frozen=True, kw_only=True)
class LineContext:
    """What the parser of a block must know beside the block; it travels to worker processes."""

    source: str
    dump: str
    base_iri: str  # what relative names are put behind; "" where the form has no base
    prefixes: bytes = b""  # the prefix lines before the block, in Turtle line form

    @property
    def scope(self) -> str:
        """What blank node labels of this dump begin with: ``m`` and 8 hex digits of the dump's name."""
        return "m" + hashlib.sha256(self.dump.encode()).hexdigest()[:8]


@dataclass(frozen=True, kw_only=True)
class Block:
    """Whole lines of a dump, the last one perhaps without its line break."""

    number: int
    data: bytes
    first_line: int  # from 1
    offset: int  # of the first byte, in the decompressed dump
    num_lines: int
    oversized_bytes: int = 0  # > 0: one line of this length, of which `data` is the beginning


@dataclass(kw_only=True)
class Counts:
    """What became of the lines of a block or dump."""

    lines: int = 0
    triples: int = 0  # lines that gave a triple; statements in document form
    qualifiers: int = 0  # lines that gave only a statement about a statement
    rejects: int = 0
    comments: int = 0  # comments and prefix lines
    blank: int = 0
    repaired: int = 0  # of the triples and qualifiers
    reasons: dict[str, int] = field(default_factory=dict)  # rejects by reason

    def add(self, other: "Counts") -> None:
        """Add what became of more lines."""
        for item in fields(Counts):
            if item.name != "reasons":
                setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))
        for reason, count in other.reasons.items():
            self.reasons[reason] = self.reasons.get(reason, 0) + count

    @property
    def accounted(self) -> int:
        """The lines of which we know what became of them; must be all."""
        return self.triples + self.qualifiers + self.rejects + self.comments + self.blank


@dataclass(kw_only=True)
class DumpCounts(Counts):
    """The row that a dump has in the table `dumps`, and its rejects by reason."""

    source: str
    kind: str
    dump: str
    form: str  # lines | document
    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class ParsedBlock:
    """The rows that a block gave, by table, and what became of its lines."""

    tables: Mapping[str, pa.Table]
    counts: Counts


ParseBlock = Callable[[Block, LineContext], ParsedBlock]


@dataclass(frozen=True, kw_only=True)
class LineForm:
    """A dump that is read in blocks of lines by several processes."""

    name: str
    parse: ParseBlock  # a function of a module, so that it can travel to a worker
    base_iri: str = ""
    has_prefixes: bool = False  # prefix lines apply to all blocks after them
    compiled: bool = False  # parses outside the interpreter's lock, so that threads are enough


@dataclass(frozen=True, kw_only=True)
class DocumentForm:
    """A dump whose statements may span lines: one parser streams through it."""

    name: str
    syntax: str  # turtle | rdf_xml | n_quads
    base_iri: str = ""
    links_only: bool = False  # statements that are no identity link are rejects


Form = LineForm | DocumentForm


@dataclass(frozen=True, kw_only=True)
class Source:
    """A kind of source: its introduction, and how to see in which form a dump of it is.

    `choose_form` is given the beginning of the decompressed dump (at most 64 KiB, without byte order mark) and the
    `base_iri` of the config, which is "" unless set.
    """

    kind: str
    info: SourceInfo
    choose_form: Callable[[bytes, str], Form]


class LineRejected(Exception):  # noqa: N818 - reads as what it says
    """A line is no triple; never leaves this package."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def find_dumps(paths: Sequence[str]) -> list[Path]:
    """Find the dumps that files, folders and globs name: sorted, each once.

    A folder stands for all files below it but hidden ones.

    Raises:
        DumpError: one of the paths names nothing.
    """
    found: dict[Path, None] = {}
    for path in paths:
        for file in _files_of(path):
            found.setdefault(Path(os.path.abspath(file)))  # noqa: PTH100 - resolve() would follow links
    return sorted(found)


def _files_of(path: str) -> list[Path]:
    here = Path(path)
    if here.is_file():
        return [here]
    if here.is_dir():
        files = [file for file in sorted(here.rglob("*")) if file.is_file() and not _is_hidden(file.relative_to(here))]
        if not files:
            raise DumpError(f"{path}: this folder holds no files. Put dumps into it, or name another folder.")
        return files
    if here.exists():
        raise DumpError(f"{path}: neither a file nor a folder.")
    if glob.has_magic(path):
        files = [Path(match) for match in sorted(glob.glob(path, recursive=True))]  # noqa: PTH207 - path may be absolute
        files = [file for file in files if file.is_file()]
        if not files:
            raise DumpError(f"{path}: no file matches this pattern.")
        return files
    parent = here.parent
    hint = "" if parent.is_dir() else f" The folder {parent} does not exist either."
    raise DumpError(f"{path}: no such dump.{hint} Paths in a config are relative to the config file.")


def _is_hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts) or relative.name.endswith(PARTIAL_SUFFIX)


def dump_names(dumps: Sequence[Path]) -> list[str]:
    """Name dumps for provenance: the file name, or the shortest end of the path that no other dump shares.

    >>> dump_names([Path("/d/a/x.nt"), Path("/d/b/x.nt"), Path("/d/y.nt")])
    ['a/x.nt', 'b/x.nt', 'y.nt']
    """
    lengths = [1] * len(dumps)
    while True:
        names = ["/".join(dump.parts[-length:]) for dump, length in zip(dumps, lengths, strict=True)]
        again = False
        for index, name in enumerate(names):
            if names.count(name) > 1 and lengths[index] < len(dumps[index].parts):
                lengths[index] += 1
                again = True
        if not again:
            return names


_SCOPED = re.compile(r"m[0-9a-f]{8}[xy].", re.DOTALL)


def scoped_label(scope: str, label: str) -> str:
    """The blank node ``_:label`` of a dump as it stands in the tables; a label that is scoped already is left.

    >>> scoped_label("m01234567", "b0")
    '_:m01234567xb0'
    >>> scoped_label("m76543210", "m01234567xb0")
    '_:m01234567xb0'
    """
    return f"_:{label}" if _SCOPED.match(label) else f"_:{scope}x{label}"
