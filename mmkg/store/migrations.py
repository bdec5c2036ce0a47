"""The hand-written files of ``schemas/cypher``: what a new store is made with, in order of version.

``V0001__entities.embedded.cypher`` is version 1 for the embedded store. A released file is never edited: a store
remembers the digests of the files it was made with.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from mmkg.errors import StoreError

_FILE = re.compile(r"V(?P<version>\d{4})__(?P<name>[a-z0-9_]+)\.(?P<dialect>embedded|neo4j)\.cypher")
_COMMENT = re.compile(r"^\s*//.*$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Migration:
    """One file: its place in the order, its statements, and the digest by which a later edit is noticed."""

    version: int
    name: str
    dialect: str
    statements: tuple[str, ...]
    sha256: str


def migrations_folder() -> Path:
    """Where the files lie: in an installed package inside it, in a checkout in ``schemas/cypher``.

    Raises:
        StoreError: there are none, so the installation is broken.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "schemas" / "cypher", package.parent / "schemas" / "cypher"):
        if folder.is_dir():
            return folder
    raise StoreError(f"{package}: the folder schemas/cypher is missing. Install mmkg again.")


def read_migrations(dialect: str, folder: Path | None = None) -> tuple[Migration, ...]:
    """All migrations of a dialect (``embedded`` or ``neo4j``), in order.

    Raises:
        StoreError: a file's name says no version, two have the same, or there is none.
    """
    found: dict[int, Migration] = {}
    for path in sorted((folder or migrations_folder()).glob("*.cypher")):
        match = _FILE.fullmatch(path.name)
        if match is None:
            raise StoreError(f"{path}: expected a name such as V0001__entities.neo4j.cypher")
        if match["dialect"] != dialect:
            continue
        version = int(match["version"])
        if version in found:
            raise StoreError(f"{path}: version {version} of {dialect} is there twice. Give one the next number.")
        content = path.read_bytes()
        found[version] = Migration(
            version=version,
            name=match["name"],
            dialect=dialect,
            statements=split_statements(content.decode()),
            sha256=hashlib.sha256(content).hexdigest(),
        )
    if not found:
        raise StoreError(f"{folder or migrations_folder()}: no migrations for '{dialect}' here.")
    return tuple(found[version] for version in sorted(found))


def split_statements(text: str) -> tuple[str, ...]:
    """The statements of a file: each ends with ``;`` at a line's end; lines that begin with ``//`` are comments."""
    parts = re.split(r";\s*(?:\n|$)", _COMMENT.sub("", text))
    return tuple(part.strip() for part in parts if part.strip())
