"""Reading whole dumps: deterministic, resumable, and never a traceback or a half-read table."""

import gzip
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mmkg.config import LinkConfig, SourceConfig
from mmkg.errors import ConfigError, DumpError
from mmkg.shards import open_table
from mmkg.sources import dump_names, find_dumps, read_dump, read_links, reader
from mmkg.tables import SCHEMAS
from tests.sources.dumps import COMPRESSIONS, FRANCE, SAME_AS, files_of, read, read_file

SMALL = 4096  # bytes of a block


def _dirty_lines(count: int) -> str:
    lines = []
    for n in range(count):
        lines.append(f'<http://a/{n}> <http://a/p> "value {n} \\u00e9"@en .\n')
        if n % 50 == 0:
            lines.append(f'<http://a/{n}> <http://a/"p"> _:b{n} .\n')
        if n % 70 == 0:
            lines.append("bad line\n")
        if n % 90 == 0:
            lines.append(f"<< <a:{n}> <a:p> <a:o> >> <a:q> 'x' .\n# comment\n\n")
    return "".join(lines)


@pytest.mark.parametrize("kind", ["ntriples", "freebase"])
def test_one_worker_and_two_write_the_same_bytes(tmp_path: Path, kind: str) -> None:
    content = (
        _dirty_lines(3000) if kind == "ntriples" else "".join(f"/m/0{n}\t/a/b\t/m/0{n % 7}\n" for n in range(3000))
    )
    one = read(content, tmp_path / "1", kind=kind, block_bytes=SMALL)
    two = read(content, tmp_path / "2", kind=kind, block_bytes=SMALL, workers=2)
    assert len(list((one.folder / "triples_raw").iterdir())) > 10
    assert one.content == two.content
    assert one.counts == two.counts


def test_every_compression_gives_the_same_rows(tmp_path: Path) -> None:
    content = _dirty_lines(500).encode()
    readings = [read(compress(content), tmp_path / name) for name, compress in COMPRESSIONS.items()]
    assert all(r.statements == readings[0].statements and r.rejects == readings[0].rejects for r in readings)
    assert len({r.counts.sha256 for r in readings}) == len(readings)


def test_blocks_of_any_size_give_the_same_rows(tmp_path: Path) -> None:
    content = _dirty_lines(300)
    whole = read(content, tmp_path / "whole")
    for size in (100, 999, 5000):
        cut = read(content, tmp_path / str(size), block_bytes=size)
        assert (cut.triples, cut.qualifiers, cut.rejects) == (whole.triples, whole.qualifiers, whole.rejects)


def test_the_row_of_the_dump_reconciles(tmp_path: Path) -> None:
    reading = read(_dirty_lines(300), tmp_path)
    (row,) = reading.dumps
    assert row["lines"] == row["triples"] + row["qualifiers"] + row["rejects"] + row["comments"] + row["blank"]
    assert (row["triples"], row["rejects"], row["qualifiers"]) == (
        len(reading.triples), len(reading.rejects), len(reading.qualifiers),
    )  # fmt: skip
    assert row["repaired"] == sum(triple["repaired"] for triple in reading.triples) == 6
    assert row["form"] == "lines"
    assert set(files_of(reading.folder)) == {reading.folder / t / "part-00000.parquet" for t in
                                             ("triples_raw", "qualifiers_raw", "rejects", "dumps")}  # fmt: skip


def test_tables_open_with_their_schema_even_without_rows(tmp_path: Path) -> None:
    reading = read(FRANCE, tmp_path)
    for table in ("triples_raw", "qualifiers_raw", "rejects", "dumps"):
        assert open_table(reading.folder, table).to_table().schema == SCHEMAS[table]


def test_progress_tells_lines_and_bytes(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    reading = read(_dirty_lines(3000), tmp_path, block_bytes=SMALL, progress=lambda *now: seen.append(now))
    assert seen == sorted(seen)
    assert seen[-1] == (reading.counts.lines, reading.counts.bytes)


# --- interrupted runs -----------------------------------------------------------------------------------------------

_SCRIPT = """
import sys, time
from pathlib import Path
from mmkg.config import SourceConfig
from mmkg.sources import SOURCES, reader
dump, folder, workers, pause = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
kind = sys.argv[5]
write = reader.write_shard
def slow(path, table):
    time.sleep(pause)
    write(path, table)
reader.write_shard = slow
if __name__ == "__main__":
    source, config = SOURCES[kind], SourceConfig(kind=kind, paths=(str(dump),))
    reader.read_one_dump(source, config, dump, dump.name, folder, workers=workers, progress=None, block_bytes=4096)
"""


@pytest.mark.parametrize(("kind", "workers"), [("ntriples", 1), ("ntriples", 2), ("freebase", 2)])
def test_a_killed_run_is_taken_up_again_and_ends_in_the_same_bytes(tmp_path: Path, kind: str, workers: int) -> None:
    content = _dirty_lines(2000) if kind == "ntriples" else "".join(f"/m/0{n}\t/a/b\t/m/0{n}\n" for n in range(6000))
    expected = read(content, tmp_path / "whole", kind=kind, block_bytes=SMALL)
    dump, folder = expected.folder.parent / "dump.nt", tmp_path / "killed"
    arguments = [sys.executable, "-c", _SCRIPT, str(dump), str(folder), str(workers), "0.02", kind]
    process = subprocess.Popen(arguments, start_new_session=True)
    deadline = time.monotonic() + 60
    while len(list(folder.glob("blocks/0*.json"))) < 4 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    time.sleep(0.3)  # until the workers have seen that they are alone
    kept = {file: file.stat().st_mtime_ns for file in (folder / "triples_raw").glob("*.parquet")}
    finished = {file.stem for file in folder.glob("blocks/0*.json")}
    assert 4 <= len(finished) < len(list((expected.folder / "triples_raw").iterdir()))

    resumed = read_file(dump, folder, kind=kind, workers=workers, block_bytes=SMALL)
    assert resumed.content == expected.content
    assert resumed.counts == expected.counts
    for file, modified in kept.items():
        if file.stem.removeprefix("part-") in finished:
            assert file.stat().st_mtime_ns == modified, f"{file.name} was parsed again"


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    dump = tmp_path / "dump.tsv"
    dump.write_text("".join(f"/m/0{n}\t/a/b\t/m/0{n}\n" for n in range(6000)))
    folder = tmp_path / "tables"
    arguments = [sys.executable, "-c", _SCRIPT, str(dump), str(folder), "2", "0.02", "freebase"]
    process = subprocess.Popen(arguments, start_new_session=True)
    while not list(folder.glob("blocks/00002.json")) and process.poll() is None:
        time.sleep(0.01)
    group = os.getpgid(process.pid)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while _alive(group) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(group)


def _alive(group: int) -> list[str]:
    """Processes of a group that are no zombies."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(stat.parent.name)
    return found


def test_a_finished_reading_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read(_dirty_lines(100), tmp_path)
    monkeypatch.setattr(reader, "cut_blocks", None)  # would fail if it were called
    again = read_file(tmp_path / "dump.nt", first.folder)
    assert (again.counts, again.content) == (first.counts, first.content)


def test_another_dump_in_the_same_folder_replaces_all(tmp_path: Path) -> None:
    read(_dirty_lines(3000), tmp_path, block_bytes=SMALL)
    assert read(FRANCE, tmp_path).counts.triples == 1
    assert read(FRANCE, tmp_path, base_iri="http://b/").counts.triples == 1


# --- hostile files --------------------------------------------------------------------------------------------------


def test_a_truncated_gzip_leaves_nothing_readable(tmp_path: Path) -> None:
    content = gzip.compress(_dirty_lines(3000).encode())
    with pytest.raises(DumpError, match=r"dump\.nt: truncated or damaged gzip .* at byte"):
        read(content[: len(content) // 2], tmp_path, block_bytes=SMALL)
    assert files_of(tmp_path / "tables") == []


def test_an_empty_dump_is_zero_counts_and_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number, content in enumerate((b"", gzip.compress(b""), b"\xef\xbb\xbf")):
        counts = read(content, tmp_path / str(number)).counts
        assert (counts.lines, counts.triples, counts.rejects) == (0, 0, 0)
    assert caplog.text.count("an empty dump") == 3


def test_a_latin_1_file_is_read_but_for_the_lines_that_are_not_utf8(tmp_path: Path) -> None:
    reading = read((FRANCE + '<a:s> <a:p> "caf\xe9" .\n' + FRANCE).encode("latin-1"), tmp_path)
    assert (reading.counts.triples, reading.counts.reasons) == (2, {"not_utf8": 1})


@pytest.mark.parametrize("ending", [b"\n" + FRANCE.encode(), b""])
def test_a_line_of_100_megabytes_is_one_reject_and_little_memory(tmp_path: Path, ending: bytes) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    dump = tmp_path / "long.nt.gz"
    with gzip.open(dump, "wb", compresslevel=1) as file:
        file.write(FRANCE.encode() + b'<a:s> <a:p> "')
        for _ in range(100):
            file.write(b"x" * 2**20)
        file.write(ending)
    reading = read_file(dump, tmp_path / "tables")
    assert [row["reason"] for row in reading.rejects] == ["too_long"]
    reject = reading.rejects[0]
    assert (reject["line"], reject["byte_offset"], reject["raw_bytes"]) == (2, len(FRANCE), 13 + 100 * 2**20)
    assert len(reject["raw"]) == 64 * 2**10
    assert reading.counts.triples == 1 + bool(ending)
    assert [row["line"] for row in reading.triples] == ([1, 3] if ending else [1])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 * 1024  # KiB


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n", "an HTML page"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20, "a picture"),
        (b'{\n "a": 1\n}\n', "JSON"),
        (os.urandom(64) + bytes(1000), "a binary file"),
        (FRANCE.encode("utf-16"), "UTF-16"),
        (b"id,name\n" * 200, "all of the first 200 lines were rejected"),
    ],
)
@pytest.mark.parametrize("kind", ["ntriples", "dbpedia", "yago", "freebase", "mmkb", "tsv"])
def test_a_file_of_another_kind_is_one_clear_message(tmp_path: Path, kind: str, content: bytes, words: str) -> None:
    with pytest.raises(DumpError) as error:
        read(content, tmp_path, kind=kind)
    message = str(error.value)
    assert words in message
    assert f"of the kind '{kind}'" in message
    assert "Expected: " in message
    assert "line 1: " in message
    assert files_of(tmp_path / "tables") == []


def test_a_dump_with_some_good_lines_is_read_however_many_are_bad(tmp_path: Path) -> None:
    assert read(FRANCE + "bad\n" * 500, tmp_path).counts.rejects == 500


def test_a_missing_dump_and_an_unknown_kind_say_so(tmp_path: Path) -> None:
    missing = tmp_path / "none.nt"
    with pytest.raises(DumpError, match=r"none\.nt: no such dump"):
        read_dump(SourceConfig(kind="ntriples", paths=("x",)), missing, "none.nt", tmp_path / "t")
    with pytest.raises(ConfigError, match=r"Did you mean 'dbpedia'"):
        read_dump(SourceConfig(kind="dbpeda", paths=("x",)), missing, "none.nt", tmp_path / "t")


# --- links ----------------------------------------------------------------------------------------------------------


def test_a_dump_of_links_keeps_links_and_rejects_the_rest(tmp_path: Path) -> None:
    dump = tmp_path / "links.nt"
    dump.write_text(SAME_AS + FRANCE + "bad\n" + '<a:s> <http://www.w3.org/2002/07/owl#sameAs> "x" .\n' + SAME_AS)
    counts = read_links(LinkConfig(kind="sameas", paths=(str(dump),)), dump, "links.nt", tmp_path / "tables")
    assert (counts.triples, counts.rejects) == (2, 3)
    rows = pq.read_table(tmp_path / "tables" / "rejects" / "part-00000.parquet").to_pylist()
    assert [(row["line"], row["reason"]) for row in rows] == [(2, "not_a_link"), (3, "syntax"), (4, "not_a_link")]
    assert rows[0]["raw"] == FRANCE.strip().encode()


def test_links_in_turtle_and_of_mmkb(tmp_path: Path) -> None:
    turtle = (
        "@prefix owl: <http://www.w3.org/2002/07/owl#> .\n<http://a/x> owl:sameAs <http://b/x> ;\n owl:foo <a:b> .\n"
    )
    reading = read(turtle, tmp_path / "1", kind="sameas", links=True)
    assert (reading.counts.triples, reading.counts.reasons) == (1, {"not_a_link": 1})
    mmkb = "/m/01m4kpp <SameAs> <http://dbpedia.org/resource/Andy_Griffith> .\n/m/1\tx\n"
    reading = read(mmkb, tmp_path / "2", kind="mmkb", links=True)
    assert reading.triples[0]["head"] == "http://rdf.freebase.com/ns/m.01m4kpp"
    assert reading.triples[0]["tail"] == "http://dbpedia.org/resource/Andy_Griffith"
    assert reading.counts.reasons == {"not_a_link": 1}


# --- finding dumps --------------------------------------------------------------------------------------------------


def test_dumps_are_found_by_file_folder_and_glob_sorted_and_once(tmp_path: Path) -> None:
    for name in ("b.nt", "a.nt", "sub/c.nt.gz", ".hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    found = find_dumps([str(tmp_path), str(tmp_path / "a.nt"), str(tmp_path / "*.nt"), str(tmp_path / "**/*.gz")])
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["a.nt", "b.nt", "sub/c.nt.gz"]


def test_a_path_that_names_nothing_says_which(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, words in (
        ("none.nt", "no such dump"),
        ("*.nt", "no file matches"),
        ("empty", "holds no files"),
        ("no/x", "folder"),
    ):
        with pytest.raises(DumpError, match=words) as error:
            find_dumps([str(tmp_path / path)])
        assert str(tmp_path / path) in str(error.value)


def test_dumps_of_one_name_are_told_apart_by_the_shortest_tail() -> None:
    paths = [Path("/d/fb/train.txt"), Path("/d/db/train.txt"), Path("/e/db/train.txt"), Path("/d/x.nt")]
    assert dump_names(paths) == ["fb/train.txt", "d/db/train.txt", "e/db/train.txt", "x.nt"]
