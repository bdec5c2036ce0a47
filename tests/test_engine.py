"""The engine that Spark is: what it says where it cannot start, who may share it, and that nothing of it stays."""

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from mmkg.config import GraphConfig
from mmkg.engine import _SPARK, _spark_settings, keep_engine, open_engine
from mmkg.errors import BuildError, ConfigError, NotInstalled

_SPARK_CONFIG = GraphConfig(name="g", engine="spark", workers=2, memory_limit="512MB")
_HAS_JAVA = shutil.which("java") is not None
_MISSING = "needs pyspark and Java 17: pip install 'mmkg[spark]', apt install openjdk-17-jre-headless"


@pytest.fixture
def pyspark() -> None:
    """PySpark; skips without."""
    if find_spec("pyspark") is None:
        _skip()


def _skip() -> None:
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(_MISSING, pytrace=False)
    pytest.skip(_MISSING)


def test_without_java_spark_says_how_to_get_it(pyspark: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(NotInstalled, match=r"needs Java 17 or later, and there is no `java`.*apt install openjdk-17"),
        open_engine(_SPARK_CONFIG),
    ):
        pass
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with (
        pytest.raises(NotInstalled, match=rf"JAVA_HOME is {tmp_path}, which holds no bin/java"),
        open_engine(_SPARK_CONFIG),
    ):
        pass


# PySpark leaves the pipe to a JVM that did not come up to the garbage collector.
@pytest.mark.filterwarnings("ignore:.*<_io.FileIO:pytest.PytestUnraisableExceptionWarning")
def test_a_java_that_ends_at_once_is_quoted(pyspark: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'class file has wrong version 61.0' >&2\nexit 1\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with (
        pytest.raises(ConfigError, match=r"Java ended before Spark ran: .*wrong version 61\.0.*Java 17 or later"),
        open_engine(_SPARK_CONFIG),
    ):
        pass


def test_a_spark_that_did_not_start_can_be_asked_for_again(
    pyspark: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with keep_engine():
        for _ in range(2):
            with pytest.raises(NotInstalled), open_engine(_SPARK_CONFIG, tmp_path / "spill"):
                pass
    assert _SPARK._users == 0
    assert not list((tmp_path / "spill").iterdir())


def test_here_spark_listens_to_nobody_else_and_on_a_cluster_it_can_be_reached(pyspark: None, tmp_path: Path) -> None:
    here = _spark_settings(_SPARK_CONFIG, tmp_path)
    assert here.get("spark.master") == "local[2]"
    assert here.get("spark.driver.bindAddress") == "127.0.0.1"
    assert here.get("spark.driver.memory") == "488m"
    assert here.get("spark.ui.enabled") == "false"
    there = _spark_settings(_SPARK_CONFIG.model_copy(update={"spark_master": "spark://h:7077"}), tmp_path)
    assert there.get("spark.master") == "spark://h:7077"
    assert there.get("spark.driver.bindAddress") is None


def test_under_spark_submit_the_master_is_that_of_the_submission(
    pyspark: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    submitted = _SPARK_CONFIG.model_copy(update={"spark_master": ""})
    monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "1")
    assert _spark_settings(submitted, tmp_path).get("spark.master") is None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.filterwarnings("ignore:.*<socket:pytest.PytestUnraisableExceptionWarning")
def test_engines_share_one_java_and_one_that_dies_is_told_and_cleaned_up_after(
    pyspark: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if not _HAS_JAVA:
        _skip()
    from pyspark import SparkContext

    monkeypatch.setenv("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")
    monkeypatch.chdir(tmp_path)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with keep_engine(temporary):
        with open_engine(_SPARK_CONFIG) as one, open_engine(_SPARK_CONFIG) as other:
            java = _SPARK._gateway.proc
            one.raw_sql("SELECT 1 AS a").createOrReplaceTempView("mine")
            assert "mine" not in other.list_tables()
        assert java.poll() is None  # held
        with (
            pytest.raises(BuildError, match=r"Spark ended \(code -9\).*raise graph\.memory_limit"),
            open_engine(_SPARK_CONFIG, tmp_path / "spill") as doomed,
        ):
            assert _SPARK._gateway.proc is java
            [row] = doomed.raw_sql("SELECT '${a}' AS text, current_timezone() AS zone").collect()
            assert (row.text, row.zone) == ("${a}", "UTC")
            java.kill()
            java.wait()
            doomed.raw_sql("SELECT 1").collect()
    assert not list((tmp_path / "spill").iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"tmp", "spill"}
    assert not list(temporary.iterdir())
    assert SparkContext._active_spark_context is None  # the next one can be started
