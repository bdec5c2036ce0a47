"""Lines of a dump while it is written, and the count of what kind each is.

The counts land in ``expected.json``: a reader must find the same.
"""

import gzip
import io
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class DumpLines:
    """A dump in memory. Statements and comments are text; a dirty line is bytes, as it may not be UTF-8.

    ``separator`` stands between the terms and before the dot: a tab in Freebase and YAGO, a space in DBpedia.
    """

    name: str
    separator: str = " "
    lines: list[bytes] = field(default_factory=list)
    statements: int = 0
    comments: int = 0
    blank: int = 0
    repaired: list[dict[str, object]] = field(default_factory=list)
    rejects: list[dict[str, object]] = field(default_factory=list)

    def add(self, head: str, relation: str, tail: str) -> None:
        """One statement of three terms that are already written in the syntax of the dump."""
        self.lines.append(self.separator.join((head, relation, tail, ".")).encode())
        self.statements += 1

    def add_comment(self, text: str) -> None:
        """A comment line."""
        self.lines.append(f"# {text}".encode())
        self.comments += 1

    def add_blank(self) -> None:
        """A blank line."""
        self.lines.append(b"")
        self.blank += 1

    def add_prefix(self, prefix: str, iri: str) -> None:
        """A Turtle prefix line; it is no statement."""
        self.lines.append(f"@prefix {prefix}: <{iri}> .".encode())

    def add_dirty(self, line: bytes, reason: str, *, repairable: bool = False) -> None:
        """A line that breaks the grammar. A repairable one counts as a statement, with its number in ``repaired``."""
        self.lines.append(line)
        note: dict[str, object] = {"line": len(self.lines), "reason": reason}
        if repairable:
            self.statements += 1
            self.repaired.append(note)
        else:
            self.rejects.append(note)

    def write(self, folder: Path) -> dict[str, object]:
        """Write the file (gzip without time or name where it ends in ``.gz``) and return its counts."""
        data = b"\n".join(self.lines) + b"\n"
        if self.name.endswith(".gz"):
            packed = io.BytesIO()
            with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0, compresslevel=9) as stream:
                stream.write(data)
            data = packed.getvalue()
        (folder / self.name).write_bytes(data)
        return {
            "lines": len(self.lines),
            "statements": self.statements,
            "rejects": self.rejects,
            "repaired": self.repaired,
            "comments": self.comments,
            "blank": self.blank,
        }
