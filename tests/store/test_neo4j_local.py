"""A load whose own machine fails it: each error names the folder or setting, and not the way to the server."""

import errno
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import duckdb
import pytest
from neo4j.exceptions import ServiceUnavailable

from mmkg.errors import StoreError
from mmkg.store.content import Content
from mmkg.store.neo4j.local import explain_local
from tests.servers.neo4j import Neo4jServer
from tests.store.graphs import Graph
from tests.store.neo4j_checks import Load, check_holds, content_of

SMALL = Graph(entities=["a", "b"], triples=[("a", "r", "b", 1)])


@pytest.fixture
def content(tmp_path: Path) -> Content:
    return content_of(SMALL, tmp_path / "small")


def test_a_full_disk_during_reading_back_is_told_with_its_folder(
    empty_server: Neo4jServer, load: Load, content: Content, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    (work / "there").mkdir(parents=True)
    (work / "there" / "Entity-ids.parquet").symlink_to("/dev/full")
    with pytest.raises(StoreError) as caught:
        load(content, work_folder=work)
    assert str(caught.value).startswith(f"{work}: the disk of this machine is full (")
    assert str(caught.value).endswith("Free some space there, then run the same again.")
    load(content, work_folder=work)
    check_holds(empty_server, content, tmp_path)


def test_a_folder_that_cannot_be_made_is_named(
    empty_server: Neo4jServer, load: Load, content: Content, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=rf"^{tmp_path}/file/work: Not a directory\. Mend that on this machine, then"):
        load(content, work_folder=tmp_path / "file" / "work")
    with pytest.raises(StoreError, match=rf"^{tmp_path}/file.*: (Not a directory|File exists)\. Mend that"):
        load(content, hint=tmp_path / "file" / "neo4j.json")


def test_a_file_of_the_build_that_is_gone_is_named(
    empty_server: Neo4jServer, load: Load, content: Content, tmp_path: Path
) -> None:
    content.edges["r"].unlink()
    with pytest.raises(StoreError, match=rf"cannot read or write a file \(.*{content.edges['r'].name}.*Mend that"):
        load(content)


def test_too_little_memory_for_the_engine_names_the_setting(
    empty_server: Neo4jServer, load: Load, tmp_path: Path
) -> None:
    names = [f"{number:04}" + "x" * 300 for number in range(5000)]
    content = content_of(Graph(entities=names), tmp_path / "many")
    with pytest.raises(StoreError, match=r"^graph\.memory_limit = 1MB: the relational engine needs more \(.*Raise it"):
        load(content, memory_limit="1MB")


def test_an_engine_without_room_to_spill_says_that_the_disk_is_full(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", str(small)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    rows = "SELECT range::VARCHAR || repeat('x', 50) AS x FROM range(1000000)"
    statements = [f"CREATE TABLE t AS {rows}", f"COPY ({rows}) TO '{small}/rows.csv'"]
    try:
        for statement in statements:
            settings: dict[str, str | bool | int | float | list[str]] = {
                "memory_limit": "20MB",
                "temp_directory": str(small / "spill"),
            }
            with duckdb.connect(config=settings) as connection, pytest.raises(duckdb.Error) as caught:
                connection.execute(statement)
            told = str(explain_local(caught.value, small, "20MB"))
            assert told.startswith(f"{small}: the disk of this machine is full (")
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_folder_that_may_not_be_written_is_named(number: int, tmp_path: Path) -> None:
    told = explain_local(OSError(number, "refused", "/some/file"), tmp_path, "2GB")
    assert str(told).startswith("/some/file: this user may not read or write it (refused). Make that possible, or ")
    told = explain_local(OSError(number, "refused"), tmp_path, "2GB")
    assert str(told).startswith(f"{tmp_path}: this user may not")


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(errno.ECONNRESET, "reset"),
        TimeoutError("timed out"),
        BrokenPipeError(errno.EPIPE, "pipe"),
        socket.gaierror(socket.EAI_NONAME, "no such host"),
        ssl.SSLError(2, "whose number is that of a missing file"),
        OSError(errno.EHOSTUNREACH, "no route"),
        ServiceUnavailable("gone"),
    ],
)
def test_a_lost_server_is_not_told_as_a_disk(error: Exception, tmp_path: Path) -> None:
    assert explain_local(error, tmp_path, "2GB") is None
