"""What has its final name is whole: stages that are killed, changed, asked for twice, or resumed."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkg.errors import ShardError
from mmkg.shards import (
    MANIFEST,
    PARTIAL_SUFFIX,
    Stage,
    TableWriter,
    check_shards,
    digest,
    open_table,
    read_manifest,
    run_stage,
    table_glob,
    write_bytes,
    write_json,
    write_table,
)
from mmkg.tables import SCHEMAS


def make_stage(**changes: Any) -> Stage:
    return Stage(**{"name": "work", "version": 1, "inputs": {"a.nt": "00"}, "settings": {"seed": 0}, **changes})


def findings(count: int, start: int = 0) -> pa.Table:
    rows = [{"check": "c", "subject": f"s{i}", "detail": "d" * (i % 7)} for i in range(start, start + count)]
    return pa.Table.from_pylist(rows, schema=SCHEMAS["findings"])


def write_findings(folder: Path) -> dict[str, int]:
    return {"rows": write_table(folder, "findings", [findings(10)])}


# --- digests ---------------------------------------------------------------------------------------------------------


def test_digest_does_not_depend_on_the_order_of_keys_nor_on_tuple_or_list() -> None:
    assert digest({"a": 1, "b": (1, 2)}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": "1"})
    assert len(digest(None)) == 16


def test_digest_refuses_what_has_no_stable_text() -> None:
    for value in ({1, 2}, object(), b"x"):
        with pytest.raises(TypeError, match="cannot stand in a digest"):
            digest({"key": value})


def test_digest_takes_paths_and_numbers_of_numpy() -> None:
    assert digest(Path("a/b")) == digest("a/b")
    assert digest(np.int64(3)) == digest(3)


@pytest.mark.parametrize("change", [{"name": "x"}, {"version": 2}, {"inputs": {}}, {"settings": {"seed": 1}}])
def test_every_part_of_a_stage_is_in_its_digest(change: dict[str, Any]) -> None:
    assert make_stage(**change).digest != make_stage().digest


# --- tables ----------------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(cuts=st.lists(st.integers(1, 700), max_size=8))
def test_the_same_rows_give_the_same_bytes_however_they_are_cut(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("cuts")
    plain = pa.table(
        {
            "head": [f"h{i}" for i in range(1000)],
            "relation": [f"r{i % 3}" for i in range(1000)],
            "tail": [None if i % 5 else "t" for i in range(1000)],
            "value": [None] * 1000,
            "datatype": [None] * 1000,
            "language": [None] * 1000,
            "source": ["b" if i > 500 else "a" for i in range(1000)],
            "dump": ["d"] * 1000,
            "line": range(1000),
            "repaired": [False] * 1000,
        }
    )
    bounds = sorted({0, 1000, *cuts})
    pieces = [plain.slice(a, b - a) for a, b in itertools.pairwise(bounds)]
    # A dictionary of each piece's own, in an order of its own, with a value that none of its rows has.
    odd = pa.DictionaryArray.from_arrays
    coded = [
        piece.set_column(
            6, "source", odd(pa.array([2 if s == "a" else 0 for s in piece["source"].to_pylist()]), ["b", "c", "a"])
        )
        for piece in pieces
    ]
    for name, batches in (("whole", [plain]), ("cut", pieces), ("coded", coded)):
        write_table(folder / name, "triples_raw", batches)
    contents = {
        (folder / name / "triples_raw" / "part-00000.parquet").read_bytes() for name in ("whole", "cut", "coded")
    }
    assert len(contents) == 1
    assert open_table(folder / "cut", "triples_raw").to_table()["line"].to_pylist() == list(range(1000))


def test_many_small_batches_do_not_make_many_row_groups(tmp_path: Path) -> None:
    write_table(tmp_path, "findings", (findings(3, start) for start in range(0, 300, 3)))
    assert pq.ParquetFile(tmp_path / "findings" / "part-00000.parquet").num_row_groups == 1


def test_shards_end_at_their_number_of_rows(tmp_path: Path) -> None:
    with TableWriter(tmp_path, "findings", rows_per_shard=10) as writer:
        for start in range(0, 35, 7):
            writer.write(findings(7, start))
    sizes = [pq.read_metadata(path).num_rows for path in sorted((tmp_path / "findings").iterdir())]
    assert sizes == [10, 10, 10, 5] and writer.rows == 35
    assert open_table(tmp_path, "findings").to_table()["subject"].to_pylist() == [f"s{i}" for i in range(35)]


def test_a_full_last_shard_is_not_followed_by_an_empty_one(tmp_path: Path) -> None:
    with TableWriter(tmp_path, "findings", rows_per_shard=10) as writer:
        writer.write(findings(20))
    assert len(list((tmp_path / "findings").iterdir())) == 2


def test_a_table_without_rows_has_its_columns(tmp_path: Path) -> None:
    write_table(tmp_path, "entities", [])
    assert open_table(tmp_path, "entities").to_table().schema.equals(SCHEMAS["entities"])


def test_a_writer_removes_the_shards_of_an_interrupted_one(tmp_path: Path) -> None:
    with TableWriter(tmp_path, "findings", rows_per_shard=2) as writer:
        writer.write(findings(9))
    write_table(tmp_path, "findings", [findings(1)])
    assert [path.name for path in (tmp_path / "findings").iterdir()] == ["part-00000.parquet"]


def test_after_an_error_there_is_no_shard_only_a_partial_file(tmp_path: Path) -> None:
    def batches() -> Any:
        yield findings(300_000)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_table(tmp_path, "findings", batches())
    assert {path.suffix for path in (tmp_path / "findings").iterdir()} == {PARTIAL_SUFFIX}
    with pytest.raises(ShardError, match="no shards"):
        open_table(tmp_path, "findings")


def test_a_null_where_none_may_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="subject"):
        write_table(
            tmp_path, "findings", [pa.table({"check": ["c"], "subject": pa.nulls(1, pa.string()), "detail": [""]})]
        )


def test_engines_find_exactly_the_nulls_of_a_column_that_is_else_constant(tmp_path: Path) -> None:
    rows = [
        {"entity_index": i, "entity_id": f"e{i}", "label": label, "types": [], "aliases": [], "sources": 1}
        for i, label in enumerate(["A", None, "A"])
    ]
    write_table(tmp_path, "entities", [pa.Table.from_pylist(rows, schema=SCHEMAS["entities"])])
    found = duckdb.read_parquet(table_glob(tmp_path, "entities")).filter("label IS NULL").project("entity_index")
    assert found.fetchall() == [(1,)]


def test_a_cut_off_shard_is_named(tmp_path: Path) -> None:
    write_table(tmp_path, "findings", [findings(5)])
    path = tmp_path / "findings" / "part-00000.parquet"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ShardError, match=r"part-00000\.parquet: not a whole Parquet file"):
        open_table(tmp_path, "findings")


def test_a_shard_of_another_version_is_named_with_the_columns_that_differ(tmp_path: Path) -> None:
    (tmp_path / "findings").mkdir()
    pq.write_table(findings(1).drop_columns("detail"), tmp_path / "findings" / "part-00000.parquet")
    with pytest.raises(ShardError, match="detail: string"):
        open_table(tmp_path, "findings")


# --- small files -----------------------------------------------------------------------------------------------------


def test_a_small_file_is_replaced_whole(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"old")
    write_json(tmp_path / "a", {"é": Path("x"), "n": np.float64(0.5)})
    assert json.loads((tmp_path / "a").read_text("utf-8")) == {"é": "x", "n": 0.5}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    with pytest.raises(TypeError):
        write_json(tmp_path / "a", {"a": object()})
    assert "é" in (tmp_path / "a").read_text("utf-8")


# --- stages ----------------------------------------------------------------------------------------------------------


def test_the_same_stage_again_does_nothing_and_says_the_same(tmp_path: Path) -> None:
    stage = make_stage(settings={"languages": ("en", "de"), "path": Path("x")})
    first = run_stage(tmp_path, stage, write_findings)
    again = run_stage(tmp_path, stage, lambda folder: pytest.fail("done twice"))
    assert (first.skipped, again.skipped) == (False, True)
    assert first.folder == again.folder == tmp_path / "work" / stage.digest
    assert first.manifest == again.manifest
    assert first.manifest.counts == {"rows": 10}
    assert set(first.manifest.content()) == {"findings/part-00000.parquet"}
    assert first.manifest.tables["findings"][0].rows == 10
    check_shards(first.folder, content=True)


def test_work_that_fails_leaves_no_stage_and_the_next_try_starts_from_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> dict[str, int]:
        (folder / "junk").write_text("left over")
        (folder / "inner").mkdir()
        raise FileNotFoundError("a dump")

    with pytest.raises(FileNotFoundError, match="a dump"):
        run_stage(tmp_path, make_stage(), fail)
    result = run_stage(tmp_path, make_stage(), write_findings)
    assert set(result.manifest.content()) == {"findings/part-00000.parquet"}
    assert [path.name for path in (tmp_path / "work").iterdir()] == [make_stage().digest]


def test_a_resumable_stage_keeps_what_was_done_but_no_partial_file(tmp_path: Path) -> None:
    def first(folder: Path) -> dict[str, int]:
        write_table(folder, "findings", [findings(1)])
        (folder / f"x{PARTIAL_SUFFIX}").write_text("half")
        (folder / f"inner{PARTIAL_SUFFIX}").mkdir()
        (folder / f"inner{PARTIAL_SUFFIX}" / f"y{PARTIAL_SUFFIX}").write_text("half")
        raise KeyboardInterrupt

    def second(folder: Path) -> dict[str, int]:
        assert (folder / "findings" / "part-00000.parquet").exists()
        return {}

    with pytest.raises(KeyboardInterrupt):
        run_stage(tmp_path, make_stage(), first, resumable=True)
    result = run_stage(tmp_path, make_stage(), second, resumable=True)
    assert set(result.manifest.content()) == {"findings/part-00000.parquet"}


def test_a_stage_killed_between_manifest_and_rename_is_made_whole(tmp_path: Path) -> None:
    stage = make_stage()
    whole = run_stage(tmp_path, stage, write_findings)
    whole.folder.rename(whole.folder.with_name(stage.digest + PARTIAL_SUFFIX))
    result = run_stage(tmp_path, stage, lambda folder: {"rows": 10}, resumable=True)
    assert result.manifest.content() == whole.manifest.content()
    check_shards(result.folder, content=True)


def test_a_folder_without_manifest_is_no_stage(tmp_path: Path) -> None:
    stage = make_stage()
    write_table(tmp_path / "work" / stage.digest, "findings", [findings(99)])
    with pytest.raises(ShardError, match="never finished"):
        read_manifest(tmp_path / "work" / stage.digest)
    assert run_stage(tmp_path, stage, write_findings).manifest.counts == {"rows": 10}


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b"x"),
        lambda path: path.unlink(),
        lambda path: path.with_name("part-00007.parquet").write_bytes(path.read_bytes()),
    ],
    ids=["shorter", "longer", "gone", "one more"],
)
def test_a_stage_whose_shards_have_changed_is_not_taken_for_done(tmp_path: Path, damage: Any) -> None:
    folder = run_stage(tmp_path, make_stage(), write_findings).folder
    damage(folder / "findings" / "part-00000.parquet")
    with pytest.raises(ShardError, match=r"findings/part-0000\d\.parquet"):
        run_stage(tmp_path, make_stage(), write_findings)


def test_a_flipped_byte_is_found_when_the_content_is_checked(tmp_path: Path) -> None:
    folder = run_stage(tmp_path, make_stage(), write_findings).folder
    path = folder / "findings" / "part-00000.parquet"
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content)
    check_shards(folder)
    with pytest.raises(ShardError, match=r"part-00000\.parquet: its content has changed"):
        check_shards(folder, content=True)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"tables": []}',
        '{"tables": {"a": [{"file": "x"}]}}',
        '{"tables": {"a": 3}}',
        b"\xff\xfe",
    ],
)
def test_a_broken_manifest_is_named(tmp_path: Path, content: str | bytes) -> None:
    folder = run_stage(tmp_path, make_stage(), write_findings).folder
    (folder / MANIFEST).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ShardError, match=r"manifest\.json: not a manifest"):
        run_stage(tmp_path, make_stage(), write_findings)


def test_two_threads_that_ask_for_one_stage_do_it_once(tmp_path: Path) -> None:
    done: list[Path] = []

    def work(folder: Path) -> dict[str, int]:
        done.append(folder)
        time.sleep(0.2)
        return write_findings(folder)

    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda: results.append(run_stage(tmp_path, make_stage(), work))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 1
    assert sorted(result.skipped for result in results) == [False, True, True, True]


# --- killed ----------------------------------------------------------------------------------------------------------

_WORK = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    import pyarrow as pa
    from mmkg.shards import Stage, TableWriter, run_stage
    from mmkg.tables import SCHEMAS

    def work(folder):
        print("begun", flush=True)
        with TableWriter(folder, "findings", rows_per_shard=5_000) as writer:
            for start in range(0, 30_000, 1_000):
                rows = pa.table({
                    "check": ["c"] * 1_000,
                    "subject": [f"s{i}" for i in range(start, start + 1_000)],
                    "detail": [str(i * i) for i in range(start, start + 1_000)],
                })
                writer.write(rows)
        return {"rows": writer.rows}

    stage = Stage(name="work", version=1, inputs={"a.nt": "00"}, settings={"seed": 0})
    run_stage(Path(sys.argv[1]), stage, work, resumable=sys.argv[2] == "resumable")
    print("done", flush=True)
    """
)


def start_work(root: Path, how: str = "fresh") -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", _WORK, str(root), how], stdout=subprocess.PIPE)


@pytest.mark.parametrize("how", ["fresh", "resumable"])
def test_sigkill_at_any_moment_never_shows_a_half_written_stage(tmp_path: Path, how: str) -> None:
    process = start_work(tmp_path / "undisturbed", how)
    assert process.stdout is not None
    process.stdout.readline()
    started = time.monotonic()
    assert process.wait() == 0
    process.stdout.close()
    usual_seconds = time.monotonic() - started
    stage = make_stage()
    wanted = read_manifest(tmp_path / "undisturbed" / "work" / stage.digest)
    draw = random.Random(how)
    root = tmp_path / "killed"
    for moment in [draw.uniform(0, 1.1) * usual_seconds for _ in range(3)]:
        process = start_work(root, how)
        assert process.stdout is not None
        process.stdout.readline()  # imports are over, the work has begun; or it is done already
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        folder = root / "work" / stage.digest
        if folder.exists():  # then it is whole
            assert check_shards(folder, content=True) == wanted
    with start_work(root, how) as process:
        assert process.wait() == 0
    found = check_shards(root / "work" / stage.digest, content=True)
    assert found.content() == wanted.content() and found.counts == wanted.counts == {"rows": 30_000}
    assert [path.name for path in (root / "work").iterdir()] == [stage.digest]


_HOLD = textwrap.dedent(
    """
    import os, sys, time
    from pathlib import Path
    from mmkg.shards import Stage, run_stage

    def work(folder):
        worker = os.fork()
        if worker:
            print(worker, flush=True)
        time.sleep(60)
        return {}

    run_stage(Path(sys.argv[1]), Stage(name="work", version=1, inputs={"a.nt": "00"}, settings={"seed": 0}), work)
    """
)


def test_a_worker_that_outlives_its_killed_parent_does_not_block_the_next_run(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", _HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    try:
        process.kill()
        process.wait()
        process.stdout.close()
        result: list[Any] = []
        thread = threading.Thread(
            target=lambda: result.append(run_stage(tmp_path, make_stage(), write_findings)), daemon=True
        )
        thread.start()
        thread.join(timeout=20)
        assert result and not result[0].skipped
    finally:
        os.kill(worker, signal.SIGKILL)
