"""Archives: rows that are kept for all later builds, appended a part at a time and looked up by key."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmkg.errors import ShardError
from mmkg.shards import Archive
from mmkg.shards.files import PARTIAL_SUFFIX, commit

SCHEMA = pa.schema([pa.field("sha256", pa.string(), nullable=False), pa.field("bytes", pa.binary())], {"made": "by a"})


def rows(*keys: str) -> pa.Table:
    return pa.table({"sha256": list(keys), "bytes": [key.encode() * 3 for key in keys]})


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive", SCHEMA, "sha256")


def test_what_was_appended_is_found_by_key_in_the_order_asked(archive: Archive) -> None:
    archive.append(rows(*(f"a{n:03d}" for n in range(200))))  # several row groups
    archive.append(rows("b", "c"))
    found = archive.find(["c", "a150", "not there", "a003", "c"])
    assert found["sha256"].to_pylist() == ["c", "a150", "a003"]
    assert found["bytes"].to_pylist() == [b"ccc", b"a150" * 3, b"a003" * 3]
    assert archive.find(["b"], ["bytes"]).column_names == ["bytes"]
    assert archive.missing(["b", "x", "a000", "x", "y"]) == ["x", "y"]
    assert archive.read(["sha256"]).num_rows == 202


def test_an_archive_that_nothing_was_written_to_is_empty(archive: Archive) -> None:
    assert archive.parts() == []
    assert archive.keys().to_pylist() == []
    assert archive.read().schema.names == SCHEMA.names
    assert archive.find(["a"]).num_rows == 0
    assert archive.append(rows()) is None


def test_the_same_rows_are_the_same_part(archive: Archive) -> None:
    assert archive.append(rows("a", "b")) == archive.append(rows("a", "b"))
    assert len(archive.parts()) == 1


def test_two_processes_never_write_the_same_partial_file(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    table, written = rows("a", "b"), []
    monkeypatch.setattr(
        "mmkg.shards.archive.commit", lambda partial, path: (written.append(partial), commit(partial, path))
    )
    for pid in (1, 2):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        archive.append(table)
    assert len(set(written)) == 2


def test_a_part_of_another_maker_is_refused(archive: Archive) -> None:
    archive.append(rows("a"))
    other = Archive(archive.folder, SCHEMA.with_metadata({"made": "by b"}), "sha256")
    with pytest.raises(ShardError, match="metadata are not those"):
        other.read()


def test_rows_without_a_column_are_refused(archive: Archive) -> None:
    with pytest.raises(ShardError, match="bytes"):
        archive.append(rows("a").drop_columns(["bytes"]))


def test_a_cut_part_is_told_by_name(archive: Archive) -> None:
    path = archive.append(rows("a"))
    assert path is not None
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ShardError, match=path.name):
        archive.keys()


def test_killed_while_it_writes_leaves_only_whole_parts(tmp_path: Path) -> None:
    code = (
        "import sys, pyarrow as pa; from pathlib import Path; from mmkg.shards import Archive\n"
        "a = Archive(Path(sys.argv[1]), pa.schema([('sha256', pa.string()), ('bytes', pa.binary())]), 'sha256')\n"
        "n = 0\n"
        "while True:\n"
        "    a.append(pa.table({'sha256': [str(n + i) for i in range(50)], 'bytes': [b'x' * 99_999] * 50})); n += 50\n"
        "    print(n, flush=True)\n"
    )
    folder = tmp_path / "archive"
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        written = 0
        while written < 500:
            written = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
    archive = Archive(folder, pa.schema([("sha256", pa.string()), ("bytes", pa.binary())]), "sha256")
    kept = archive.read()
    assert kept.num_rows >= written
    assert kept.num_rows % 50 == 0
    archive.remove_leftovers()
    assert not list(folder.glob(f"*{PARTIAL_SUFFIX}"))
    assert sorted(map(int, kept["sha256"].to_pylist())) == list(range(kept.num_rows))
    assert all(pq.read_metadata(path).num_rows == 50 for path in archive.parts())
