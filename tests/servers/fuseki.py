"""A real Apache Jena Fuseki on a free loopback port: one jar from Maven Central, cached in `.servers/fuseki`.

`fuseki_server` is one server a test process; `Fuseki.replace_data` puts other statements into it. It has no row cap.
"""

import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

VERSION = "5.2.0"
CACHE = Path(__file__).parents[2] / ".servers" / "fuseki"
_IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}
_START_SECONDS = 60


def free_port() -> int:
    """A loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def skip_or_fail(message: str) -> None:
    """A server that cannot be had: a skip with one line, in CI a failure."""
    if _IN_CI:
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def find_jar() -> Path:
    """The server's jar, fetched by Maven the first time; several test processes may ask at once."""
    jar = CACHE / f"jena-fuseki-server-{VERSION}.jar"
    if jar.is_file():
        return jar
    if shutil.which("mvn") is None:
        skip_or_fail("needs Apache Jena Fuseki from Maven Central: install Maven (apt-get install maven)")
    folder = CACHE / f"fetch-{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=True)
    artifact = f"-Dartifact=org.apache.jena:jena-fuseki-server:{VERSION}"
    command = ["mvn", "-q", "-B", "dependency:copy", artifact, f"-DoutputDirectory={folder.resolve()}"]
    fetched = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if fetched.returncode != 0:
        skip_or_fail(f"Maven could not fetch jena-fuseki-server {VERSION}: {fetched.stdout.strip()[-300:]}")
    (folder / jar.name).replace(jar)
    folder.rmdir()
    return jar


class Fuseki:
    """One running server with an updatable data set in memory."""

    def __init__(self, folder: Path, *, timeout_ms: int | None = None) -> None:
        if shutil.which("java") is None:
            skip_or_fail("needs Java 17 or later for Apache Jena Fuseki: apt-get install default-jre-headless")
        jar = find_jar()
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}/ds/sparql"
        self._log = (folder / "fuseki.log").open("wb")
        limit = [] if timeout_ms is None else [f"--timeout={timeout_ms}"]
        command = [
            "java",
            "-Xmx768m",
            "-jar",
            str(jar),
            f"--port={self.port}",
            "--localhost",
            "--update",
            "--mem",
            *limit,
        ]
        self._process = subprocess.Popen([*command, "/ds"], cwd=folder, stdout=self._log, stderr=subprocess.STDOUT)
        self._wait_until_up()

    def _wait_until_up(self) -> None:
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end:
            if self._process.poll() is not None:
                break
            try:
                urllib.request.urlopen(f"{self.endpoint}?query=ASK%7B%7D", timeout=5).close()
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
            else:
                return
        self.stop()
        pytest.fail(f"Fuseki did not start; its log is {self._log.name}")

    def replace_data(self, ntriples: bytes) -> None:
        """Make these statements all that the server holds."""
        headers = {"Content-Type": "application/n-triples"}
        url = f"http://127.0.0.1:{self.port}/ds/data?default"
        request = urllib.request.Request(url, data=ntriples, method="PUT", headers=headers)
        with urllib.request.urlopen(request, timeout=120) as answer:
            answer.read()

    def update(self, text: str) -> None:
        """Run a SPARQL update."""
        url, headers = f"http://127.0.0.1:{self.port}/ds/update", {"Content-Type": "application/sparql-update"}
        with urllib.request.urlopen(urllib.request.Request(url, data=text.encode(), headers=headers), timeout=60) as a:
            a.read()

    def stop(self) -> None:
        """End the process and wait for it."""
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


@pytest.fixture(scope="session")
def fuseki_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuseki]:
    """A Fuseki without data; each test puts its own in."""
    server = Fuseki(tmp_path_factory.mktemp("fuseki"))
    yield server
    server.stop()
