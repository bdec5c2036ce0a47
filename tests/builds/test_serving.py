"""What was served before, what was rolled back, and which server holds it."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from mmkg import pipeline
from mmkg.builds import BuildManifest, list_versions, serve, served_version, switch_to, version_before
from mmkg.builds.serving import RECORD, read_served, store_of
from mmkg.builds.versions import BUILD_MANIFEST, CURRENT
from mmkg.config import StoreConfig, read_config
from mmkg.errors import BuildError, CheckFailed
from mmkg.shards import write_json
from tests.graph_config import write_small_graph

A, B = (StoreConfig(uri=f"bolt://{name}:7687") for name in ("one.example", "two.example"))


def add_version(root: Path, number: int, store: StoreConfig | None = None) -> str:
    manifest = BuildManifest(
        graph=root.name,
        version=f"{number:04d}-{number:08d}",
        digest=f"digest {number}",
        created="2026-01-01T00:00:00+00:00",
        stages={},
        counts={},
        source_names=("tsv",),
        config={"store": (store or StoreConfig()).model_dump(mode="json")},
    )
    (root / manifest.version).mkdir(parents=True)
    write_json(root / manifest.version / BUILD_MANIFEST, dataclasses.asdict(manifest))
    return manifest.version


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "graph"
    folder.mkdir()
    return folder


def test_the_version_before_is_the_one_that_was_served_before(root: Path) -> None:
    one, two, three = (add_version(root, number) for number in (1, 2, 3))
    for version in (one, two, three, two):  # the last: a config that was changed, and changed back
        serve(root, version)
    assert version_before(root) == three
    serve(root, three, back=True)
    assert version_before(root) == one
    serve(root, one, back=True)
    with pytest.raises(BuildError, match="no version before 0001"):
        version_before(root)


def test_what_was_rolled_back_is_withdrawn_until_it_is_served_again(root: Path) -> None:
    versions = [add_version(root, number) for number in (1, 2, 3)]
    for version in versions:
        serve(root, version)
    serve(root, versions[0], back=True)
    assert [read_served(root).is_withdrawn(f"digest {number}") for number in (1, 2, 3)] == [False, True, True]
    serve(root, versions[1])
    assert [read_served(root).is_withdrawn(f"digest {number}") for number in (1, 2, 3)] == [False, False, True]
    assert version_before(root) == versions[0]


def test_what_is_newer_than_the_version_gone_back_to_is_not_gone_back_to(root: Path) -> None:
    one, two, three = (add_version(root, number) for number in (1, 2, 3))
    serve(root, one)
    serve(root, two)
    serve(root, one, back=True)
    serve(root, three)
    assert version_before(root) == one


def test_a_rollback_to_a_version_that_is_not_in_the_record_withdraws_what_is_newer(root: Path) -> None:
    one, two, three = (add_version(root, number) for number in (1, 2, 3))
    serve(root, one)
    serve(root, two)
    serve(root, one, back=True)
    serve(root, three)
    serve(root, two, back=True)
    assert read_served(root).withdrawn == {three: "digest 3"}
    assert version_before(root) == one
    serve(root, three, back=True)  # and forwards again: nothing is newer
    assert read_served(root).withdrawn == {}
    assert version_before(root) == two


def test_what_is_served_again_under_another_name_is_not_withdrawn_any_more(root: Path) -> None:
    one, two = add_version(root, 1), add_version(root, 2)
    serve(root, one)
    serve(root, two)
    serve(root, one, back=True)
    shutil.rmtree(root / two)
    path = root / add_version(root, 3) / BUILD_MANIFEST
    path.write_text(path.read_text().replace("digest 3", "digest 2"))
    serve(root, path.parent.name)
    assert not read_served(root).is_withdrawn("digest 2")


def test_a_graph_of_before_the_record_goes_by_numbers(root: Path) -> None:
    one, two, three = (add_version(root, number) for number in (1, 2, 3))
    (root / CURRENT).symlink_to(two)
    assert version_before(root) == one
    serve(root, three)
    assert version_before(root) == two


def test_killed_before_the_pointer_was_switched_the_pointer_counts(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, three = (add_version(root, number) for number in (1, 2, 3))
    serve(root, one)
    serve(root, two)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    for arguments in ({"version": three}, {"version": one, "back": True}):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Path, "symlink_to", killed)
            serve(root, **arguments)
        assert (served_version(root), version_before(root)) == (two, one)
    serve(root, two)
    assert not read_served(root).is_withdrawn("digest 2")


def test_a_version_that_is_gone_is_not_gone_back_to(root: Path) -> None:
    one, two, three = (add_version(root, number) for number in (1, 2, 3))
    for version in (one, two, three):
        serve(root, version)
    (root / two / "build.json").unlink()
    assert version_before(root) == one
    serve(root, one, back=True)
    assert read_served(root).withdrawn == {three: "digest 3"}


def test_the_server_that_was_brought_to_a_version_is_the_one_that_is_asked(root: Path) -> None:
    one, two = add_version(root, 1, A), add_version(root, 2, B)
    serve(root, one, A)
    assert store_of(root, one) == A
    serve(root, two, B)
    serve(root, one, B, back=True)
    assert (store_of(root, one), store_of(root, two)) == (B, B)
    serve(root, one, A)
    assert store_of(root, one) == A
    assert read_served(root).stores == {}  # nothing but what the versions say themselves


@pytest.mark.parametrize("text", ["", "{", "[]", '{"versions": []}'])
def test_a_record_that_cannot_be_read_says_what_to_do(root: Path, text: str) -> None:
    serve(root, add_version(root, 1))
    (root / RECORD).write_text(text)
    with pytest.raises(BuildError, match=r"served\.json: expected the record .* Remove it"):
        version_before(root)


def build(folder: Path, *settings: str, accept: bool = False) -> pipeline.BuildReport:
    return pipeline.build(read_config(folder / "small.toml", settings), accept=accept)


def test_a_build_does_not_serve_again_what_was_rolled_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = write_small_graph(tmp_path)
    first = build(tmp_path)
    other = ('graph.languages=["fr"]',)
    second = build(tmp_path, *other)
    root = config.parent / "builds" / "small"
    switch_to(root, version_before(root), back=True)
    again = build(tmp_path, *other)
    assert (again.version, again.unchanged, again.withdrawn) == (first.version, True, True)
    assert served_version(root) == first.version
    assert "was rolled back. `mmkg build --accept` serves it again." in caplog.text
    third = build(tmp_path, 'graph.languages=["de"]')  # something else is served as ever
    assert (third.unchanged, served_version(root), version_before(root)) == (False, third.version, first.version)
    accepted = build(tmp_path, *other, accept=True)
    assert (accepted.version, accepted.withdrawn, served_version(root)) == (second.version, False, second.version)
    assert build(tmp_path, *other).unchanged


def test_a_version_that_its_checks_stopped_is_not_gone_to_either(tmp_path: Path) -> None:
    config = write_small_graph(tmp_path)
    first = build(tmp_path)
    (tmp_path / "dbpedia.nt").write_text("", encoding="utf-8")
    with pytest.raises(CheckFailed):
        build(tmp_path, "checks.max_triples_lost=0.1")
    root = config.parent / "builds" / "small"
    stopped = list_versions(root)[-1]
    with pytest.raises(BuildError, match=r"did not pass its checks, and nobody accepted it: .*triples.* --accept"):
        switch_to(root, stopped, back=True)
    assert served_version(root) == first.version
    assert json.loads((root / RECORD).read_text())["versions"] == [first.version]


def test_a_version_that_was_served_can_be_gone_back_to_though_its_checks_would_stop_it_now(tmp_path: Path) -> None:
    config = write_small_graph(tmp_path)
    root = config.parent / "builds" / "small"
    dump = tmp_path / "dbpedia.nt"
    whole = dump.read_text(encoding="utf-8")
    dump.write_text("".join(line for line in whole.splitlines(True) if "capital" not in line), encoding="utf-8")
    small = build(tmp_path)
    dump.write_text(whole, encoding="utf-8")
    large = build(tmp_path)
    dump.write_text("".join(line for line in whole.splitlines(True) if "capital" not in line), encoding="utf-8")
    with pytest.raises(CheckFailed, match="max_triples_lost") as stopped:
        build(tmp_path, "checks.max_triples_lost=0.1")
    assert stopped.value.folder == small.folder
    assert (served_version(root), version_before(root)) == (large.version, small.version)
    switch_to(root, small.version, back=True)
    assert served_version(root) == small.version
