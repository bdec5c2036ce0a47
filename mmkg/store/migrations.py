"""The hand-written files of ``schemas/cypher``: what a new store is made with, in order of version.

``V0001__entities.embedded.cypher`` is version 1 for the embedded store. A released file is never edited: a store
remembers the digests of the files it was made with. A Neo4j server lives on, so it gets the files that it has not had:
its ledger is a node ``(:MmkgMigration {version, name, sha256, applied_at})`` for each.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

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


# --- on a server -----------------------------------------------------------------------------------------------------

_READ_LEDGER = (
    "MATCH (m:MmkgMigration) RETURN m.version AS version, m.name AS name, m.sha256 AS sha256 ORDER BY version"
)
_WRITE_LEDGER = (
    "MERGE (m:MmkgMigration {version: $version}) ON CREATE SET m.name = $name, m.sha256 = $sha256, "
    "m.applied_at = toString(datetime())"
)
_AWAIT_INDEXES = "CALL db.awaitIndexes($seconds)"
_INDEX_SECONDS = 3600


class Session(Protocol):
    """A session of the Neo4j driver, as far as it is needed here; each `run` is a transaction of its own."""

    def run(self, query: Any, parameters: Any = None) -> Any:
        """Start a statement; returns its result."""
        ...


def pending_migrations(session: Session, migrations: Sequence[Migration]) -> tuple[Migration, ...]:
    """The migrations that a server has not had.

    Raises:
        StoreError: a file was edited after it had run there, or the server has had one that is not here.
    """
    by_version = {migration.version: migration for migration in migrations}
    done = set()
    for row in session.run(_READ_LEDGER):
        migration = by_version.get(row["version"])
        name = f"V{row['version']:04}__{row['name']}"
        if migration is None:
            raise StoreError(
                f"the server has had the migration {name}, which this mmkg does not have: a later version loaded it. "
                "Use that version."
            )
        if (migration.name, migration.sha256) != (row["name"], row["sha256"]):
            raise StoreError(
                f"V{migration.version:04}__{migration.name}.{migration.dialect}.cypher was edited after it had run on "
                f"this server as {name}: expected SHA-256 {row['sha256']}, found {migration.sha256}. Restore the file "
                "and put the change into a new one with the next number."
            )
        done.add(migration.version)
    return tuple(migration for migration in migrations if migration.version not in done)


def run_migrations(session: Session, migrations: Sequence[Migration]) -> tuple[str, ...]:
    """Run what a server has not had, each written into the ledger behind its last statement; returns their names.

    Neo4j runs no changes of schema and data in one transaction. So one that was interrupted runs again from its first
    statement, and every statement of a file must be safe to repeat (``IF NOT EXISTS``, ``MERGE``).

    Raises:
        StoreError: a file was edited after it had run there, or the server has had one that is not here.
    """
    pending = pending_migrations(session, migrations)
    for migration in pending:
        for statement in migration.statements:
            session.run(statement).consume()
        session.run(
            _WRITE_LEDGER, {"version": migration.version, "name": migration.name, "sha256": migration.sha256}
        ).consume()
    if pending:
        session.run(_AWAIT_INDEXES, {"seconds": _INDEX_SECONDS}).consume()
    return tuple(f"V{migration.version:04}__{migration.name}" for migration in pending)


def repeat_migrations(session: Session, migrations: Sequence[Migration]) -> None:
    """Run all statements again, as if each file had been interrupted: for a schema that somebody took apart."""
    for migration in migrations:
        for statement in migration.statements:
            session.run(statement).consume()
    session.run(_AWAIT_INDEXES, {"seconds": _INDEX_SECONDS}).consume()
