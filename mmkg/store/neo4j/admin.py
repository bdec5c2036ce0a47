"""Running ``neo4j-admin database import full`` on the server's machine: its progress, its counts, its failures as ours.

A failed import leaves a database that cannot be started; the message says so, and the next import overwrites it.
"""

import collections
import logging
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from mmkg.errors import StoreError
from mmkg.store.neo4j.files import REPORT, ImportFiles

logger = logging.getLogger(__name__)

_BOLT_PORT = 7687
_LINES_KEPT = 200
_CONNECT_SECONDS = 2.0
_PERCENT = re.compile(r"(\d+)%")
_STEP = re.compile(r"^\((\d+)/(\d+)\) (.+)$")
_IMPORTED = re.compile(r"^\s+(\d+) (nodes|relationships|properties)$")
# What neo4j-admin prints → what is the matter and what to do, in the order in which they are looked for.
_FAILURES = (
    (
        r"No space left on device|Not enough space",
        "the disk is full. Free some space (the database takes about as much as the files)",
    ),
    (
        r"already exist|already contains data",
        "the database is not empty. Pass --overwrite if what it holds may be deleted",
    ),
    (
        r"database is in use|FileLockException|lock file has been locked",
        "a server has the database open. Stop the server first (neo4j stop)",
    ),
    (
        r"File '[\w-]+\.csv' doesn't exist",
        "the user that it runs as cannot reach the files. Write them into a folder that this user can, or let everyone "
        "through the folders above (chmod o+x)",
    ),
    (
        r"AccessDenied|Permission denied|not writable",
        "the files of the database may not be written. Run it as the user the server runs as, e.g. sudo -u neo4j",
    ),
    (
        r"UnsupportedClassVersion|[Rr]equires? Java|more recent version of the Java|Unsupported Java|any JVM|JAVA_HOME",
        "Neo4j 5 needs Java 17 or 21. Install one and set JAVA_HOME to it",
    ),
    (
        r"OutOfMemoryError|Not enough (heap|memory)|Cannot reserve enough memory|insufficient memory",
        "not enough memory. Set HEAP_SIZE in the environment, e.g. HEAP_SIZE=4g",
    ),
    (
        r"Unknown option|Unmatched argument|Invalid value for option",
        "this neo4j-admin does not know the call. Expected that of Neo4j 5.26 or later",
    ),
)


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """What neo4j-admin says that it imported."""

    nodes: int  # the entities, the pictures and the state node
    relationships: int
    seconds: float


def run_import(
    files: ImportFiles,
    neo4j_admin: Sequence[str] = ("neo4j-admin",),
    *,
    uri: str | None = None,
    database: str = "neo4j",
    environment: Mapping[str, str] | None = None,
    overwrite: bool = False,
    progress: Callable[[str, int], None] | None = None,
) -> ImportReport:
    """Import the files into an empty database of the stopped server on this machine.

    Args:
        files: what to import.
        neo4j_admin: the program, and what stands before its own arguments, e.g. ``sudo -u neo4j neo4j-admin``.
        uri: the server's address; the import is refused while anything answers there.
        database: its name.
        environment: beside that of this process, e.g. NEO4J_HOME.
        overwrite: delete what the database holds.
        progress: called with the step, such as ``Node import``, and its percent.

    Raises:
        StoreError: the server is running, the program is not there, or it failed; the message says what to do.
    """
    if uri is not None and _answers(uri):
        raise StoreError(
            f"{uri}: a server answers there, and an import writes the files of a stopped one. Stop the server first "
            "(neo4j stop), or load the graph into it as it runs: mmkg build."
        )
    command = files.command(tuple(neo4j_admin), database=database, overwrite=overwrite)
    started = time.monotonic()
    lines: collections.deque[str] = collections.deque(maxlen=_LINES_KEPT)
    counts: dict[str, int] = {}
    with _start(command, files, environment) as process:
        try:
            _follow(process, lines, counts, progress)
        except BaseException:
            process.terminate()  # half an import is of no use, and it would hold the database
            raise
    if process.returncode:
        raise _failure(files, lines, process.returncode)
    report = ImportReport(
        nodes=counts.get("nodes", -1),
        relationships=counts.get("relationships", -1),
        seconds=time.monotonic() - started,
    )
    _check_counts(files, report)
    logger.info(
        "neo4j-admin: %s nodes, %s relationships in %.1f s",
        f"{report.nodes:,}",
        f"{report.relationships:,}",
        report.seconds,
    )
    return report


def _start(
    command: Sequence[str], files: ImportFiles, environment: Mapping[str, str] | None
) -> "subprocess.Popen[str]":
    try:
        return subprocess.Popen(
            command,
            cwd=files.folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise StoreError(
            f"{command[0]}: cannot be run: {error.strerror}. Name the neo4j-admin of the server, such as "
            f"/usr/share/neo4j/bin/neo4j-admin, or run {files.folder}/import.sh on the server's machine."
        ) from error


def _follow(
    process: "subprocess.Popen[str]",
    lines: "collections.deque[str]",
    counts: dict[str, int],
    progress: Callable[[str, int], None] | None,
) -> None:
    """Read what the program prints until it ends."""
    step = "starting"
    for raw in process.stdout or ():
        line = raw.rstrip()
        lines.append(line)
        if match := _STEP.match(line):
            step = match[3].partition(" 20")[0]  # a time follows
            line = "0%"
        if match := _IMPORTED.match(line):
            counts[match[2]] = int(match[1])
        elif progress is not None and (found := _PERCENT.findall(line)):
            progress(step, int(found[-1]))


def _failure(files: ImportFiles, lines: Sequence[str], status: int) -> StoreError:
    text = "\n".join(lines)
    for pattern, words in _FAILURES:
        if re.search(pattern, text):
            return StoreError(f"neo4j-admin failed: {words}.")
    if "Error in input data" in text:
        return StoreError(
            f"neo4j-admin failed: it does not take some value of {files.folder}. Which one it tells after "
            f"{files.folder}/import.sh neo4j --overwrite-destination=true --verbose; please report it."
        )
    telling = [line for line in lines if line.strip() and not line.lstrip().startswith(("at ", "... ", "Run with"))]
    return StoreError(
        f"neo4j-admin failed (status {status}): {' | '.join(telling[-4:])}. What it found wrong is in "
        f"{files.folder / REPORT}. The database may be half-written: import again with --overwrite."
    )


def _check_counts(files: ImportFiles, report: ImportReport) -> None:
    expected = (files.entities + files.images + 1, files.relationships + files.image_links)
    if (report.nodes, report.relationships) != expected:
        raise StoreError(
            f"neo4j-admin: expected {expected[0]:,} nodes and {expected[1]:,} relationships, it imported "
            f"{report.nodes:,} and {report.relationships:,}; see {files.folder / REPORT}. Import again: --overwrite."
        )


def _answers(uri: str) -> bool:
    """Whether anything listens at an address such as ``bolt://localhost:7687``."""
    address = urlsplit(uri)
    try:
        with socket.create_connection((address.hostname or "localhost", address.port or _BOLT_PORT), _CONNECT_SECONDS):
            return True
    except OSError:
        return False
