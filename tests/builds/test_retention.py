"""What nobody needs goes, with the bytes that the disk really gets back; what somebody needs stays."""

import fcntl
import os
import shutil
from pathlib import Path

import pytest

from mmkg.builds import list_versions, serve, served_version
from mmkg.builds.retention import (
    Garbage,
    find_garbage,
    find_graph_folder,
    keep_of,
    pull_folder,
    remove_garbage,
    remove_old_versions,
)
from mmkg.builds.versions import BuildManifest, write_version
from mmkg.config import SparqlConfig
from mmkg.errors import BuildError
from mmkg.shards import write_json
from mmkg.sources.fetch import place_of
from mmkg.sources.sparql.ledger import hold_folder

PULL = {"endpoint": "https://h.example/sparql", "predicates": ["http://a/p"]}
_KB = 1024


def disk_bytes(root: Path) -> int:
    """Bytes of all files below a folder, each counted once however many names it has: what `du` says of files."""
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            status = (Path(folder) / name).lstat()
            found[status.st_ino] = status.st_blocks * 512
    return sum(found.values())


def add_stage(root: Path, name: str, digest: str, size: int) -> Path:
    stage = root / "stages" / name / digest
    (stage / "triples").mkdir(parents=True)
    (stage / "triples" / "part-00000.parquet").write_bytes(os.urandom(size))
    (stage / "manifest.json").write_text("{}")
    return stage


def add_version(
    root: Path, number: int, *, url: str | None = None, pull: bool = False, problems=(), keep_builds=3
) -> str:
    """A version with a stage of its own of 40 kB and one that all share."""
    own = add_stage(root, "graph", f"{number:016d}", 40 * _KB)
    shared = root / "stages" / "read" / "shared"
    if not shared.exists():
        (shared / "entities").mkdir(parents=True)
        (shared / "entities" / "part-00000.parquet").write_bytes(os.urandom(20 * _KB))
    source = {"kind": "sparql", "sparql": PULL} if pull else {"kind": "tsv", "paths": [str(root / "x.tsv")]}
    if url:
        source = {"kind": "tsv", "urls": [url]}
    manifest = BuildManifest(
        graph=root.name,
        version=f"{number:04d}-{number:08d}",
        digest=f"{number:016d}",
        created="2026-01-01T00:00:00+00:00",
        stages={"graph": own.name, "read:x": "shared"},
        counts={},
        source_names=("tsv",),
        config={"graph": {"name": root.name, "keep_builds": keep_builds}, "sources": [source]},
        problems=tuple(problems),
    )
    write_version(root, manifest, [("graph", own), ("read:x", shared)])
    return manifest.version


def add_download(root: Path, url: str, size: int) -> Path:
    place = place_of(url, root / "downloads")
    place.parent.mkdir(parents=True)
    place.write_bytes(os.urandom(size))
    place.with_name(place.name + ".fetch.json").write_text("{}")
    return place


@pytest.fixture
def root(tmp_path) -> Path:
    folder = tmp_path / "small"
    folder.mkdir()
    return folder


def clean(root: Path, keep: int) -> list[Garbage]:
    """Remove the garbage, and hold what it said against what the disk got back."""
    before = disk_bytes(root)
    garbage = find_garbage(root, keep=keep)
    assert disk_bytes(root) == before
    remove_garbage(root, garbage)
    assert before - disk_bytes(root) == sum(item.bytes for item in garbage)
    assert find_garbage(root, keep=keep) == []
    return garbage


def kinds(garbage: list[Garbage]) -> set[str]:
    return {item.kind for item in garbage}


def test_old_versions_go_with_the_stages_that_only_they_used(root):
    versions = [add_version(root, number) for number in range(1, 5)]
    serve(root, versions[-1])
    garbage = clean(root, keep=2)
    assert list_versions(root) == versions[2:]
    assert [str(item.path) for item in garbage if item.kind == "version"] == versions[:2]
    assert {path.name for path in (root / "stages").glob("*/*")} == {f"{3:016d}", f"{4:016d}", "shared"}


def test_a_file_with_two_names_counts_when_its_last_one_goes(root):
    versions = [add_version(root, number) for number in (1, 2)]
    serve(root, versions[-1])
    garbage = {item.kind: item.bytes for item in find_garbage(root, keep=1)}
    own = (root / "stages" / "graph" / f"{1:016d}" / "triples" / "part-00000.parquet").lstat().st_blocks * 512
    build_json = (root / versions[0] / "build.json").lstat().st_blocks * 512
    assert garbage["version"] == build_json  # its tables have other names: in the stages
    assert own <= garbage["stage"] <= own + 8 * _KB  # here the last name of its table goes; and its manifest
    shutil.rmtree(root / "stages")  # now the versions hold the only names
    assert find_garbage(root, keep=1)[0].bytes >= own + build_json
    clean(root, keep=1)


def test_the_one_being_served_and_the_one_to_roll_back_to_stay(root):
    versions = [add_version(root, number, problems=["bad"] if number in {2, 4, 5} else ()) for number in range(1, 6)]
    serve(root, versions[0])
    serve(root, versions[2])
    clean(root, keep=2)
    assert list_versions(root) == [versions[0], *versions[2:]]  # 1 to roll back to, 3 served, 4 and 5 newest
    clean(root, keep=1)
    assert list_versions(root) == [versions[2], versions[4]]
    assert served_version(root) == versions[2]


def test_nothing_served_keeps_the_newest(root):
    versions = [add_version(root, number, problems=["bad"]) for number in (1, 2)]
    clean(root, keep=1)
    assert list_versions(root) == versions[1:]


def test_a_version_that_cannot_be_read_stops_it(root):
    versions = [add_version(root, number) for number in (1, 2, 3)]
    serve(root, versions[2])
    (root / versions[1] / "build.json").write_text("{half")
    with pytest.raises(BuildError, match="not a build manifest"):
        find_garbage(root, keep=2)
    with pytest.raises(BuildError, match="at least 1 version"):
        find_garbage(root, keep=0)


def test_leftovers_of_the_dead_go_and_what_somebody_holds_stays(root):
    serve(root, add_version(root, 1))
    (root / "0009-aaaaaaaa.partial" / "triples").mkdir(parents=True)
    (root / "0009-aaaaaaaa.partial" / "triples" / "part-0.parquet").write_bytes(os.urandom(9000))
    (root / "current.123.partial").symlink_to("0009-aaaaaaaa")
    (root / "0007-bbbbbbbb" / "store").mkdir(parents=True)  # removed by half: no manifest any more
    for digest in ("dead", "alive"):
        add_stage(root, "read", f"{digest}.partial", 5000)
    handle = os.open(root / "stages" / "read" / "alive.partial", os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        garbage = clean(root, keep=3)
    finally:
        os.close(handle)
    assert {str(item.path) for item in garbage} == {
        "0009-aaaaaaaa.partial",
        "current.123.partial",
        "0007-bbbbbbbb",
        "stages/read/dead.partial",
    }
    assert {str(item.path) for item in find_garbage(root, keep=3)} == {"stages/read/alive.partial"}


def test_downloads_and_pulls_that_no_kept_version_names_go(root):
    old, new = "https://h.example/old.tsv", "https://h.example/new.tsv"
    versions = [add_version(root, 1, url=old), add_version(root, 2, pull=True), add_version(root, 3, url=new)]
    serve(root, versions[2])
    places = [add_download(root, url, 9000) for url in (old, new)]
    half = place_of(new, root / "downloads").with_name("new.tsv.partial")
    half.write_bytes(os.urandom(5000))  # the next build goes on with it
    pulls = [pull_folder(root, SparqlConfig(**PULL)), root / "pulls" / "0123456789abcdef"]
    for folder in pulls:
        folder.mkdir(parents=True)
        (folder / "page.nt").write_bytes(os.urandom(3000))
    garbage = clean(root, keep=2)
    assert kinds(garbage) == {"version", "stage", "download", "pull"}
    assert [place.exists() for place in (*places, half)] == [False, True, True]
    assert [folder.exists() for folder in pulls] == [True, False]
    assert kinds(clean(root, keep=1)) == {"version", "stage", "pull"}
    assert not (root / "pulls").exists()


def test_a_download_that_is_under_way_stays(root):
    serve(root, add_version(root, 1))
    place = add_download(root, "https://h.example/other.tsv", 100)
    half = place.with_name(place.name + ".partial")
    half.write_bytes(b"half")
    with half.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert find_garbage(root, keep=1) == []
    assert kinds(clean(root, keep=1)) == {"download"}


def test_a_pull_that_is_at_work_stays(root):
    serve(root, add_version(root, 1))
    folder = root / "pulls" / "0123456789abcdef"
    with hold_folder(folder):
        assert find_garbage(root, keep=1) == []
    (folder / "part-000000.nt.gz").write_bytes(b"x")
    assert kinds(clean(root, keep=1)) == {"pull"}


def test_settings_that_only_say_how_politely_or_how_long_do_not_move_a_pull(root):
    other = {"contact": "me@example.org", "max_age_hours": 1, "max_resume_hours": 1, "connections": 3}
    assert pull_folder(root, SparqlConfig(**PULL, **other)) == pull_folder(root, SparqlConfig(**PULL))


def test_remembered_digests_of_dumps_that_nobody_names_go(root):
    (root / "x.tsv").write_text("a\tb\tc\n")
    serve(root, add_version(root, 1))
    (root / "other.tsv").write_text("")
    for name in ("x.tsv", "other.tsv", "gone.tsv"):
        (root / "dump_digests").mkdir(exist_ok=True)
        write_json(root / "dump_digests" / f"{name}.json", {"identity": [str(root / name), 1, 2, 3], "sha256": "0"})
    assert {item.path.name for item in clean(root, keep=1)} == {"other.tsv.json", "gone.tsv.json"}
    assert (root / "other.tsv").exists()


def test_a_config_of_another_version_keeps_all_downloads(root, caplog):
    version = add_version(root, 1)
    serve(root, version)
    path = root / version / "build.json"
    path.write_text(path.read_text().replace('"kind": "tsv"', '"kind": "tsv", "from_the_future": 1'))
    add_download(root, "https://h.example/a.tsv", 100)
    assert find_garbage(root, keep=1) == []
    assert "downloads and pulls are left" in caplog.text


def test_what_a_build_does_not_write_is_never_touched(root):
    serve(root, add_version(root, 1))
    for name in ("notes.txt", "neo4j.json", ".lock", "my-folder/data.bin", "2024-report/a.pdf.txt"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("mine")
    shutil.move(root / "2024-report", root / "report-2024")
    assert find_garbage(root, keep=1) == []


def test_killed_in_the_middle_it_goes_on(root, monkeypatch):
    versions = [add_version(root, number) for number in (1, 2, 3)]
    serve(root, versions[-1])
    rmtree = shutil.rmtree
    calls = []

    def stop_at_the_second(path, **_):
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        rmtree(path)

    monkeypatch.setattr(shutil, "rmtree", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        remove_garbage(root, find_garbage(root, keep=1))
    monkeypatch.undo()
    assert list_versions(root) == versions[2:]
    assert kinds(clean(root, keep=1)) == {"stage", "leftover"}
    assert sorted(path.name for path in root.iterdir()) == [versions[2], "current", "served.json", "stages"]


def test_a_build_removes_versions_and_stages_but_no_downloads(root):
    versions = [add_version(root, number) for number in (1, 2, 3)]
    serve(root, versions[-1])
    add_download(root, "https://h.example/next.tsv", 100)
    assert remove_old_versions(root, keep=1) == versions[:2]
    assert list_versions(root) == versions[2:]
    assert len(list((root / "downloads").iterdir())) == 1


def test_how_many_are_kept_is_what_the_config_says(root):
    assert keep_of(root) == 3
    version = add_version(root, 1, keep_builds=7)
    assert keep_of(root) == 7
    serve(root, version)
    assert keep_of(root) == 7


def test_a_graph_is_found_by_folder_version_and_name(root, monkeypatch, tmp_path):
    version = add_version(root, 1)
    assert find_graph_folder(root) == find_graph_folder(root / version) == root.resolve()
    (tmp_path / "builds").mkdir()
    root.rename(tmp_path / "builds" / "small")
    monkeypatch.chdir(tmp_path)
    assert find_graph_folder("small") == (tmp_path / "builds" / "small").resolve()
    with pytest.raises(BuildError, match="no graph here"):
        find_graph_folder("other")


def test_nights_whose_checks_failed_push_no_good_version_out(root):
    good = [add_version(root, number) for number in (1, 2, 3)]
    stopped = [add_version(root, number, problems=["too few triples"]) for number in (4, 5, 6, 7)]
    serve(root, good[-1])
    clean(root, keep=2)
    assert list_versions(root) == [*good[-2:], *stopped[-2:]]
