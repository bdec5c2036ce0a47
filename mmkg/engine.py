"""The engine of the relational steps: an Ibis connection, DuckDB in this process or Spark when one machine is outgrown.

The steps in ``graph/`` are Ibis expressions, so they do not know which engine runs them. ``docs/spark.md`` says when
Spark is worth its start, and how a cluster is set up.

A Spark session is a process of its own (a JVM), and takes seconds to start. Whoever opens an engine while another is
open, in any thread of this process, shares it; :func:`keep_engine` holds it between two of them. With the last user
gone the JVM ends. A Spark session that the program has already is borrowed, and never stopped.
"""

import contextlib
import logging
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ibis

from mmkg.config import GraphConfig
from mmkg.errors import BuildError, ConfigError, NotInstalled, require

logger = logging.getLogger(__name__)

SPARK_SPILL_SETTING = "mmkg.spill_folder"
"""Setting of a Spark session that tells where the tables of one engine lie; with a cluster, on a shared file system."""

# What each session has, whatever spark-defaults.conf says, so that every Spark gives the tables that DuckDB gives.
_SESSION_SETTINGS = {
    "spark.sql.ansi.enabled": "true",  # an overflow is an error, not another number
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.caseSensitive": "true",
    "spark.sql.variable.substitute": "false",  # '${x}' in a text is a text
    "spark.sql.parser.escapedStringLiterals": "false",  # Ibis doubles each backslash of a text
    "spark.sql.adaptive.enabled": "true",  # small shuffles end in one partition, by their size and not by cores
    "spark.sql.adaptive.coalescePartitions.parallelismFirst": "false",
}
# On one machine shuffles begin with so many partitions a core; adaptive execution joins the small ones.
_PARTITIONS_PER_WORKER = 4
_LAST_WORDS = 5  # lines of what a Spark that ended had said


@contextlib.contextmanager
def open_engine(config: GraphConfig, spill_folder: Path | None = None) -> Iterator[ibis.BaseBackend]:
    """Open the engine of a config for the time of a ``with`` block.

    Args:
        config: names the engine, its memory limit and its number of workers.
        spill_folder: where an engine that is out of memory puts what does not fit, and Spark its intermediate tables;
            a temporary folder unless given. With a Spark cluster, all machines have to see it under this path.

    Raises:
        NotInstalled: the engine is Spark, and its extra or Java is missing.
        ConfigError: the engine does not accept the memory limit, or Spark does not start.
        BuildError: Spark ended while it was at work.
    """
    if spill_folder is not None:
        spill_folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mmkg-spill-", dir=spill_folder) as spill:
        if config.engine == "spark":
            with _SPARK.use(config) as session:
                yield _spark(session, Path(spill).resolve())
            return
        connection = _duckdb(config, Path(spill))
        try:
            yield connection
        finally:
            connection.disconnect()


@contextlib.contextmanager
def keep_engine(folder: Path | None = None) -> Iterator[None]:
    """Hold on to Spark between the engines that are opened inside a ``with`` block; DuckDB has nothing to hold.

    Nothing is started until an engine is opened, so a build in which nothing has changed starts no JVM.

    Args:
        folder: where Spark puts what does not fit its memory, if it is started in here; it has to outlive the block.
            The system's temporary folder unless given. The variable SPARK_LOCAL_DIRS goes before.
    """
    with _SPARK.held(folder):
        yield


def _duckdb(config: GraphConfig, spill: Path) -> ibis.BaseBackend:
    threads = config.workers or os.cpu_count() or 1
    try:
        return ibis.duckdb.connect(
            ":memory:", memory_limit=config.memory_limit, temp_directory=str(spill), threads=threads
        )
    except Exception as error:
        if "memory" in str(error).lower():
            raise ConfigError(f"graph.memory_limit: DuckDB does not accept '{config.memory_limit}': {error}") from error
        raise


def _spark(session: Any, spill: Path) -> ibis.BaseBackend:
    own = session.newSession()  # with views of its own, so that engines that share a Spark do not meet
    for name, value in _SESSION_SETTINGS.items():
        own.conf.set(name, value)
    context = own.sparkContext
    if context.master.startswith("local"):  # a cluster has its own setting, and may not yet know all its cores
        own.conf.set("spark.sql.shuffle.partitions", context.defaultParallelism * _PARTITIONS_PER_WORKER)
    own.conf.set(SPARK_SPILL_SETTING, str(spill))
    return ibis.pyspark.connect(own)


class _Spark:
    """The one Spark of this process: started for the first user, stopped after the last one."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._users = 0
        self._folder: Path | None = None  # of whoever holds it
        self._session: Any = None
        self._stop = contextlib.ExitStack()
        self._gateway: Any = None  # of a JVM that we started; None for one that is not ours
        self._log: Any = None

    @contextlib.contextmanager
    def held(self, folder: Path | None) -> Iterator[None]:
        with self._lock:
            self._users += 1
            outermost, self._folder = self._folder is None, self._folder or folder
        try:
            yield
        finally:
            with self._lock:
                if outermost:
                    self._folder = None
                self._leave()

    @contextlib.contextmanager
    def use(self, config: GraphConfig) -> Iterator[Any]:
        with self._lock:
            self._users += 1
            try:
                if self._gateway is not None and self._gateway.proc.poll() is not None:
                    self._forget()  # whoever holds it is not left with a Spark that died
                self._session = self._session or self._start(config)
            except BaseException:
                self._leave()
                raise
            session, gateway, log = self._session, self._gateway, self._log
        try:
            yield session
        except Exception as error:
            if gateway is not None and gateway.proc.poll() is not None:
                raise BuildError(
                    f"Spark ended (code {gateway.proc.returncode}) while it was at work: {_last_words(log)} If it was "
                    "out of memory, raise graph.memory_limit, or set graph.workers to fewer."
                ) from error
            raise
        finally:
            with self._lock:
                self._leave()

    def _leave(self) -> None:
        self._users -= 1
        if not self._users:
            self._forget()

    def _forget(self) -> None:
        self._session = self._gateway = self._log = None
        self._stop.close()

    def _start(self, config: GraphConfig) -> Any:
        require("pyspark", extra="spark", needed_by="graph.engine = 'spark'")
        from pyspark import SparkContext
        from pyspark.sql import SparkSession

        if SparkContext._active_spark_context is not None:
            logger.info("spark: the session that runs already, on %s", SparkContext._active_spark_context.master)
            return SparkSession.builder.getOrCreate()
        folder = Path(self._stop.enter_context(tempfile.TemporaryDirectory(prefix="mmkg-spark-", dir=self._folder)))
        conf = _spark_settings(config, folder)
        if SparkContext._gateway is None and "PYSPARK_GATEWAY_PORT" not in os.environ:  # else spark-submit is above us
            _check_java()
            self._log = self._stop.enter_context((folder / "log").open("w+b"))
            self._start_jvm(conf)
        try:
            context = SparkContext(conf=conf, gateway=self._gateway)
        except Exception as error:  # Py4J passes on whatever Java threw
            self._forget()
            raise ConfigError(_does_not_start(config, str(error))) from error
        self._stop.callback(_stop_context, context, self._gateway)
        context.setLogLevel("ERROR")
        logging.getLogger("py4j").setLevel(logging.WARNING)  # it tells of every connection
        logger.info("spark: %s on %s", context.version, context.master)
        return SparkSession(context)

    def _start_jvm(self, conf: Any) -> None:
        from pyspark.errors import PySparkRuntimeError
        from pyspark.java_gateway import launch_gateway as launch

        launch_gateway: Callable[..., Any] = launch  # has no types
        output = {"stdout": self._log, "stderr": subprocess.STDOUT}
        try:
            self._gateway = launch_gateway(conf, popen_kwargs=output)
        except PySparkRuntimeError as error:
            words = _last_words(self._log)
            self._forget()
            raise ConfigError(
                f"graph.engine = 'spark': Java ended before Spark ran: {words} Spark needs Java 17 or later "
                "(`java -version`; JAVA_HOME chooses one) and the memory of graph.memory_limit."
            ) from error
        self._stop.callback(_end_jvm, self._gateway)


_SPARK = _Spark()


def _spark_settings(config: GraphConfig, folder: Path) -> Any:
    """Settings that a Spark has from its start."""
    from pyspark import SparkConf

    conf = SparkConf()
    settings = {
        "spark.app.name": f"mmkg {config.name}",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.maxResultSize": "0",  # the links of a large build come as one table, as they do from DuckDB
        "spark.driver.memory": f"{memory_mebibytes(config.memory_limit)}m",
        # Neither a metastore nor a warehouse in the working folder: we make no tables in a catalogue.
        "spark.sql.catalogImplementation": "in-memory",
        "spark.sql.warehouse.dir": (folder / "warehouse").as_uri(),
    }
    master = config.spark_master
    if not master and "PYSPARK_GATEWAY_PORT" not in os.environ:  # else spark-submit has chosen one
        master = f"local[{config.workers or '*'}]"
    if master:
        settings["spark.master"] = master
    if master.startswith("local"):  # nobody else has to reach us, and nobody else can
        settings |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
        settings["spark.local.dir"] = str(folder)
    return conf.setAll(list(settings.items()))


def _check_java() -> None:
    home = os.environ.get("JAVA_HOME")
    if shutil.which("java", path=str(Path(home) / "bin") if home else None) is None:
        where = f"JAVA_HOME is {home}, which holds no bin/java" if home else "there is no `java` on the PATH"
        raise NotInstalled(
            f"graph.engine = 'spark' needs Java 17 or later, and {where}. Install one (Debian: `apt install "
            "openjdk-17-jre-headless`; conda: `conda install openjdk`), or set graph.engine to 'duckdb'."
        )


def _does_not_start(config: GraphConfig, words: str) -> str:
    reason = next((line.strip() for line in words.splitlines() if "Exception" in line or "rror" in line), words.strip())
    return (
        f"graph.spark_master: Spark does not start on '{config.spark_master or 'local'}': {reason} Is the master "
        "running, and its version of Spark the one of pyspark here (`pip show pyspark`)? Empty means this machine."
    )


def _last_words(log: Any) -> str:
    """What a JVM said last, on one line."""
    log.seek(0)
    lines = [line.strip() for line in log.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return " / ".join(lines[-_LAST_WORDS:]) or "it said nothing."


def _stop_context(context: Any, gateway: Any) -> None:
    if gateway is not None and gateway.proc.poll() is not None:
        context._jsc = None  # nobody is there to be told; what is left to stop is in Python
    context.stop()


def _end_jvm(gateway: Any) -> None:
    """End a JVM that we started, and let the next session start another: PySpark itself keeps one for good."""
    from pyspark import SparkContext

    gateway.shutdown()
    gateway.proc.stdin.close()  # at which the JVM ends
    try:
        gateway.proc.wait(timeout=30)
    except subprocess.TimeoutExpired:
        gateway.proc.kill()
        gateway.proc.wait()
    SparkContext._gateway = SparkContext._jvm = None


def memory_mebibytes(limit: str) -> int:
    """A memory limit such as ``4GB`` or ``1.5 GiB`` in whole MiB; Spark takes no fractions and no powers of ten.

    >>> memory_mebibytes("1.5 GiB"), memory_mebibytes("4GB")
    (1536, 3814)
    """
    number, unit = limit.rstrip("iBMGT").strip(), limit.lstrip("0123456789. ")
    power = "MGT".index(unit[0]) + 2
    base = 1024 if unit[1] == "i" else 1000
    return max(1, int(float(number) * base**power / 2**20))
