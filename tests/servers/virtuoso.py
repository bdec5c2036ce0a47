"""A real OpenLink Virtuoso 7 on free loopback ports, with a low `ResultSetMaxRows`: the engine of DBpedia's endpoint.

It cuts answers silently (HTTP 200 with fewer rows), calls blank nodes `nodeID://b10001`, and folds number literals.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.fuseki import free_port, skip_or_fail

MAX_ROWS = 50
GRAPH = "http://example.org/graph"
_START_SECONDS = 60
_INI = """
[Database]
DatabaseFile = {folder}/virtuoso.db
ErrorLogFile = {folder}/virtuoso.log
LockFile = {folder}/virtuoso.lck
TransactionFile = {folder}/virtuoso.trx
xa_persistent_file = {folder}/virtuoso.pxa
ErrorLogLevel = 7
FileExtend = 200
MaxCheckpointRemap = 2000
Striping = 0
TempStorage = TempDatabase

[TempDatabase]
DatabaseFile = {folder}/virtuoso-temp.db
TransactionFile = {folder}/virtuoso-temp.trx
MaxCheckpointRemap = 2000
Striping = 0

[Parameters]
ServerPort = 127.0.0.1:{sql_port}
LiteMode = 0
DisableUnixSocket = 1
NumberOfBuffers = 4000
MaxDirtyBuffers = 3000
DirsAllowed = {folder}
CheckpointInterval = 0
SchedulerInterval = 0

[HTTPServer]
ServerPort = 127.0.0.1:{http_port}
ServerRoot = {folder}
ServerThreads = 5
MaxClientConnections = 5
DefaultMailServer = none

[Client]
SQL_PREFETCH_ROWS = 100

[SPARQL]
ResultSetMaxRows = {max_rows}
MaxQueryExecutionTime = 30
DefaultGraph = {graph}
"""


class Virtuoso:
    """One running server."""

    def __init__(self, folder: Path, *, max_rows: int) -> None:
        if shutil.which("virtuoso-t") is None or shutil.which("isql-vt") is None:
            skip_or_fail("needs OpenLink Virtuoso 7: apt-get install virtuoso-opensource-7-bin")
        self._folder = folder
        self._sql_port, self.port = free_port(), free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}/sparql"
        settings = {"folder": folder, "sql_port": self._sql_port, "http_port": self.port}
        (folder / "virtuoso.ini").write_text(_INI.format(max_rows=max_rows, graph=GRAPH, **settings))
        command = ["virtuoso-t", "+foreground", "+configfile", str(folder / "virtuoso.ini")]
        self._log = (folder / "output.log").open("wb")
        self._process = subprocess.Popen(command, cwd=folder, stdout=self._log, stderr=subprocess.STDOUT)
        end = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop()
                pytest.fail(f"Virtuoso did not start; its logs are in {folder}")
            time.sleep(0.2)

    def _answers(self) -> bool:
        return self._isql("SELECT 1").returncode == 0

    def _isql(self, statement: str) -> "subprocess.CompletedProcess[str]":
        address = f"127.0.0.1:{self._sql_port}"
        command = ["isql-vt", address, "dba", "dba", "ERRORS=STDOUT", f"exec={statement}"]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, "LANG": "C"})

    def sql(self, statement: str) -> str:
        """Run a statement as the administrator."""
        result = self._isql(statement)
        if result.returncode != 0 or "*** Error" in result.stdout:
            pytest.fail(f"Virtuoso refused {statement!r}: {result.stdout.strip()[-500:]}")
        return result.stdout

    def replace_data(self, ntriples: bytes) -> None:
        """Make these statements all that the default graph holds."""
        path = self._folder / "data.nt"
        path.write_bytes(ntriples)
        self.sql(f"SPARQL CLEAR GRAPH <{GRAPH}>")
        self.sql(f"DB.DBA.TTLP_MT (file_to_string_output ('{path}'), '', '{GRAPH}', 0)")

    def stop(self) -> None:
        """End the process and wait for it."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


@pytest.fixture(scope="session")
def virtuoso_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Virtuoso]:
    """A Virtuoso that gives at most `MAX_ROWS` rows and says nothing about it but in a header."""
    server = Virtuoso(tmp_path_factory.mktemp("virtuoso"), max_rows=MAX_ROWS)
    yield server
    server.stop()
