"""A real Neo4j 5.26 Community on loopback, from Maven Central: for tests and benchmarks where there is no Docker.

The jars are fetched once into ``.servers/neo4j`` of the checkout (125 MB; Maven keeps them in its own cache too).
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

VERSION = "5.26.0"
PASSWORD = "not-a-secret"
_JARS = Path(__file__).parents[2] / ".servers" / f"neo4j-{VERSION}"
_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion><groupId>mmkg.tests</groupId><artifactId>neo4j</artifactId><version>1</version>
<dependencies>
<dependency><groupId>org.neo4j</groupId><artifactId>neo4j</artifactId><version>{VERSION}</version></dependency>
<dependency><groupId>org.neo4j.app</groupId><artifactId>neo4j-server</artifactId><version>{VERSION}</version></dependency>
</dependencies></project>
"""
_OPENS = [
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/java.io=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-opens=java.base/java.util.concurrent=ALL-UNNAMED",
    "-Dio.netty.tryReflectionSetAccessible=true",
    "-Dlog4j2.disable.jmx=true",
]
_START_SECONDS = 120.0
_CLASSES = "classes.jsa"


def missing_tools() -> str | None:
    """What to install before a server can start here, in one line; None when all is there."""
    absent = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    if absent and not (absent == ["mvn"] and any(_JARS.glob("*.jar"))):
        return f"needs {' and '.join(absent)}: apt-get install openjdk-17-jre-headless maven"
    return None


def jars() -> Path:
    """Folder of the server's jars, fetched on the first call; safe to call from several processes."""
    if not (_JARS / ".whole").exists():
        partial = _JARS.with_name(f"{_JARS.name}.{os.getpid()}.partial")
        partial.mkdir(parents=True, exist_ok=True)
        (partial / "pom.xml").write_text(_POM, encoding="utf-8")
        command = ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={partial}"]
        subprocess.run(command, cwd=partial, check=True, capture_output=True, text=True, timeout=600)
        (partial / ".whole").touch()
        try:
            partial.rename(_JARS)
        except OSError:  # another process was first
            shutil.rmtree(partial)
    return _JARS


def keep_classes(folder: Path) -> None:
    """Let a server write down its loaded classes beside the jars, once: later ones start in half the time.

    Args:
        folder: is made; of that server.
    """
    kept = jars() / _CLASSES
    if not kept.exists():
        partial = kept.with_name(f"{_CLASSES}.{os.getpid()}.partial")
        server = Neo4jServer(folder / "home")
        server.start(f"-XX:ArchiveClassesAtExit={partial}")
        server.stop()
        partial.rename(kept)


def free_port() -> int:
    """A port of the loopback address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Neo4jServer:
    """One server process and its home folder. `kill` is SIGKILL; `start` brings it back on the same port."""

    def __init__(self, home: Path, *, heap: str = "512m", settings: Sequence[str] = ()) -> None:
        self.home = home
        self.heap = heap
        self.port = free_port()
        self.uri = f"bolt://127.0.0.1:{self.port}"
        self.password = PASSWORD
        self.process: subprocess.Popen[bytes] | None = None
        conf = home / "conf"
        conf.mkdir(parents=True)
        (conf / "neo4j.conf").write_text(
            "\n".join(
                [
                    f"server.bolt.listen_address=127.0.0.1:{self.port}",
                    "server.http.enabled=false",
                    "dbms.usage_report.enabled=false",
                    "server.memory.pagecache.size=128m",
                    "db.tx_log.rotation.retention_policy=2 files",
                    "db.tx_log.preallocate=false",  # else each server's home takes half a gigabyte
                    "internal.dbms.bolt.netty_server_shutdown_quiet_period=0",  # else each stop takes ten seconds
                    *settings,
                ]
            )
            + "\n",
            encoding="utf-8",
        )
        self._set_password()

    def _set_password(self) -> None:
        """Let ``neo4j-admin`` write the file of the password, or take the one that it wrote for an earlier server."""
        known, ours = jars() / f"{PASSWORD}.auth.ini", self.home / "data" / "dbms" / "auth.ini"
        if known.exists():
            ours.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(known, ours)
            return
        self.admin("dbms", "set-initial-password", PASSWORD)
        partial = known.with_name(f"{known.name}.{os.getpid()}.partial")
        shutil.copyfile(ours, partial)
        partial.rename(known)

    def admin_command(self) -> list[str]:
        """``neo4j-admin`` of this server, as a command line."""
        return ["java", "-Xmx1g", *_OPENS, "-cp", f"{jars()}/*", "org.neo4j.cli.AdminTool"]

    def admin_environment(self) -> dict[str, str]:
        """What ``neo4j-admin`` finds its server by."""
        return {"NEO4J_HOME": str(self.home), "NEO4J_CONF": str(self.home / "conf")}

    def admin(self, *arguments: str) -> str:
        """Run ``neo4j-admin``; returns what it printed."""
        done = subprocess.run(
            [*self.admin_command(), *arguments],
            env={**os.environ, **self.admin_environment()},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"neo4j-admin {' '.join(arguments)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def start(self, *options: str) -> None:
        """Start the process and wait until it answers; `options` are Java's."""
        command = ["java", f"-Xmx{self.heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *_OPENS, *options]
        if (jars() / _CLASSES).exists():
            command.append(f"-XX:SharedArchiveFile={jars() / _CLASSES}")
        command += ["-cp", f"{jars()}/*", "org.neo4j.server.CommunityEntryPoint"]
        command += [f"--home-dir={self.home}", f"--config-dir={self.home / 'conf'}"]
        with (self.home / "out.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self.process is not None and self.process.poll() is not None:
                break
            with contextlib.suppress(Exception), self.driver() as driver:
                driver.verify_connectivity()
                driver.execute_query("RETURN 1", database_="neo4j")
                return
            time.sleep(0.2)
        raise RuntimeError(f"Neo4j did not start: {(self.home / 'out.log').read_text()[-3000:]}")

    def driver(self):  # type: ignore[no-untyped-def]
        """A driver of our own, to look past the code under test."""
        import neo4j

        return neo4j.GraphDatabase.driver(self.uri, auth=("neo4j", PASSWORD), notifications_min_severity="OFF")

    def stop(self) -> None:
        """SIGTERM, and wait until it has gone."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(60)
            self.process = None


@contextlib.contextmanager
def running_neo4j(home: Path, *, heap: str = "512m", settings: Sequence[str] = ()) -> Iterator[Neo4jServer]:
    """A server for the time of a ``with`` block."""
    server = Neo4jServer(home, heap=heap, settings=settings)
    server.start()
    try:
        yield server
    finally:
        server.kill()
