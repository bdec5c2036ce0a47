"""Candidates become bytes: of the web and of folders, each content once, and nothing twice."""

import datetime
import errno
import hashlib
import logging
import os
from pathlib import Path

import pytest

from mmkg.config.images import ImagesConfig
from mmkg.images.library import PictureLibrary
from tests.images.fetching import fast, rows_of, run, statuses
from tests.servers.pictures import HTML, SVG, png_of, serve_pictures


@pytest.fixture
def library(tmp_path):
    return PictureLibrary(tmp_path / "pictures")


@pytest.fixture
def flags(tmp_path):
    folder = tmp_path / "flags"
    folder.mkdir()
    for name in ("pe", "ch", "jp"):
        (folder / f"{name}.png").write_bytes(png_of(name))
    return folder


def with_folder(folder: Path, **fetch) -> ImagesConfig:
    return fast(**fetch).model_copy(update={"folders": _folders(folder)})


def _folders(folder: Path):
    return ImagesConfig.model_validate({"folders": [{"path": str(folder)}]}).folders


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


FLAGS = ["folder:flags/pe.png", "folder:flags/ch.png", "folder:flags/jp.png"]


def test_pictures_of_a_folder_are_read_into_the_library(flags, library):
    report = run(with_folder(flags), library, *FLAGS, contact="")
    assert report.statuses == {"ok": 3}
    digests = library.resolve(FLAGS)["sha256"].to_pylist()
    assert digests == [hashlib.sha256(png_of(name)).hexdigest() for name in ("pe", "ch", "jp")]
    assert library.served.find(digests, ["bytes"])["bytes"].to_pylist() == [png_of(name) for name in ("pe", "ch", "jp")]


def test_an_unchanged_folder_is_not_read_and_leaves_the_library_as_it_is(flags, library, monkeypatch):
    (flags / "svg.png").write_bytes(SVG)
    urls = [*FLAGS, "folder:flags/svg.png", "folder:flags/none.png"]
    first = run(with_folder(flags), library, *urls)
    assert first.statuses == {"ok": 3, "svg": 1, "no_file": 1}
    before = files_of(library.folder)
    monkeypatch.setattr("mmkg.images.local.judge_bytes", lambda *_: pytest.fail("was read again"))
    second = run(with_folder(flags), library, *urls)
    assert (second.num_attempts, dict(second.statuses)) == (0, {})
    assert files_of(library.folder) == before


def test_a_changed_file_is_read_again_and_a_touched_one_is_unchanged(flags, library):
    run(with_folder(flags), library, *FLAGS)
    (flags / "pe.png").write_bytes(png_of("a new flag"))
    os.utime(flags / "ch.png", ns=(1, 1))
    report = run(with_folder(flags), library, *FLAGS)
    assert report.statuses == {"ok": 1, "unchanged": 1}
    assert library.resolve(FLAGS)["sha256"][0].as_py() == hashlib.sha256(png_of("a new flag")).hexdigest()
    assert library.served.read().num_rows == 4
    assert run(with_folder(flags), library, *FLAGS).num_attempts == 0


def test_a_file_that_vanishes_is_told_once_and_its_picture_stays(flags, library):
    run(with_folder(flags), library, *FLAGS)
    (flags / "jp.png").unlink()
    assert run(with_folder(flags), library, *FLAGS).statuses == {"no_file": 1}
    assert run(with_folder(flags), library, *FLAGS).num_attempts == 0
    row = library.resolve(["folder:flags/jp.png"]).to_pylist()[0]
    assert row["status"] == "ok"
    assert "no_file" in row["detail"]


def test_what_is_no_picture_of_the_folder_is_refused(flags, library, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(png_of("secret"))
    (flags / "out.png").symlink_to(secret)
    (flags / "in.png").symlink_to(flags / "pe.png")
    (flags / "html.png").write_bytes(HTML)
    (flags / "empty.png").write_bytes(b"")
    (flags / "large.png").write_bytes(png_of("x") + bytes(20_000))
    (flags / "folder.png").mkdir()
    os.mkfifo(flags / "pipe.png")
    expected = {
        "out": "outside_folder",
        "in": "ok",
        "html": "not_a_picture",
        "empty": "not_a_picture",
        "large": "too_large",
        "folder": "no_file",
        "pipe": "no_file",
        "../secret": "no_file",
    }
    urls = {f"folder:flags/{name}.png": status for name, status in expected.items()}
    urls["folder:unknown/x.png"] = "no_file"
    run(with_folder(flags, max_bytes=10_000), library, *urls)
    assert statuses(library) == urls
    assert library.served.read().num_rows == 1


def test_a_file_that_may_not_be_read_is_tried_again(flags, library, monkeypatch):
    real = os.open

    def forbid(path, *rest):
        if Path(path).name == "pe.png":
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *rest)

    with monkeypatch.context() as forbidden:
        forbidden.setattr(os, "open", forbid)
        assert run(with_folder(flags), library, *FLAGS).statuses == {"ok": 2, "unreadable": 1}
    assert run(with_folder(flags), library, *FLAGS, retry="transient").statuses == {"ok": 1}


def test_the_same_content_from_two_addresses_is_kept_once(library, tmp_path, flags):
    with serve_pictures(tmp_path) as server:
        (flags / "pe.png").write_bytes(png_of("same"))
        urls = [server.url("/ok/1?same"), server.url("/ok/2?same"), "folder:flags/pe.png"]
        report = run(with_folder(flags), library, *urls)
        assert (report.num_new_pictures, report.statuses["ok"]) == (1, 3)
        again = run(with_folder(flags), library, server.url("/ok/3?same"))
        assert (again.num_new_pictures, again.new_bytes) == (0, 0)
    assert library.served.read().num_rows == 1
    assert len(set(library.last_attempts()["sha256"].to_pylist())) == 1


def test_an_address_of_several_entities_is_asked_for_once(library, tmp_path):
    with serve_pictures(tmp_path) as server:
        url = server.url("/ok/1")
        assert run(fast(), library, url, url, url).num_urls == 1
        assert len(server.requests()) == 1


def test_the_second_run_asks_nobody(library, tmp_path):
    with serve_pictures(tmp_path) as server:
        urls = [server.url(f"/ok/{number}") for number in range(10)]
        run(fast(), library, *urls)
        before = files_of(library.folder)
        report = run(fast(), library, *urls)
        assert (report.num_due, len(server.requests())) == (0, 10)
        assert str(report).startswith("10 addresses, 0 due of 0 hosts: nothing to do; 0 new pictures")
    assert files_of(library.folder) == before


def test_only_what_failed_in_passing_is_retried(library, tmp_path):
    with serve_pictures(tmp_path) as server:
        passing, final, new = server.url("/flaky/1/x"), server.url("/status/404/x"), server.url("/ok/new")
        run(fast(attempts=1), library, passing, final)
        report = run(fast(), library, passing, final, new, retry="transient")
        assert report.statuses == {"ok": 1}
        assert [request.path for request in server.requests()].count("/status/404/x") == 1
        assert server.requests("/ok/new") == []


def test_progress_is_told_at_the_beginning_and_the_end_and_each_shard_has_its_line(library, tmp_path, flags, caplog):
    told = []
    with serve_pictures(tmp_path) as server, caplog.at_level(logging.INFO, logger="mmkg.images"):
        urls = [server.url(f"/ok/{number}") for number in range(5)] + [server.url("/status/404/x"), *FLAGS]
        run(with_folder(flags), library, *urls, attempts_per_shard=8, progress=lambda *what: told.append(what))
    assert told[-1] == ("images", 9, 9)
    lines = [line for line in caplog.messages if line.startswith("images 0")]
    assert lines[0].startswith("images 00000: 3 ok in ")
    assert [line[:12] for line in lines] == ["images 00000", "images 00001", "images 00002"]
    assert sum("1 http_404" in line for line in lines) == 1


def test_the_time_of_an_attempt_is_the_callers(library, flags):
    noon = datetime.datetime(2026, 5, 1, 12, tzinfo=datetime.UTC)
    run(with_folder(flags), library, FLAGS[0], now=lambda: noon)
    assert rows_of(library, FLAGS[0])[0]["tried_at"] == noon


def test_what_a_killed_run_left_half_written_is_removed(library, flags):
    run(with_folder(flags), library, FLAGS[0])
    leftover = library.served.folder / "part-1f.partial"
    leftover.write_bytes(b"half")
    run(with_folder(flags), library, *FLAGS)
    assert not leftover.exists()
