"""`mmkg export --format neo4j`: the files, the call that is printed, and what is refused."""

import json
from pathlib import Path

import pytest

from mmkg import pipeline
from mmkg.builds import find_build_folder
from mmkg.builds.import_files import export_neo4j
from mmkg.builds.versions import read_build_manifest
from mmkg.config import StoreConfig, read_config
from mmkg.store import open_embedded
from mmkg.store.content import digest_embedded, write_content
from tests.cli.test_commands import run
from tests.graph_config import write_small_graph


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    pipeline.build(read_config(write_small_graph(folder)))
    return folder


def test_the_files_and_their_call(built: Path) -> None:
    done = run("export", "small", "--format", "neo4j", "--output", "my import", cwd=built)
    assert done.returncode == 0, done.stderr
    assert "stop the server, then: cd 'my import' && neo4j-admin database import full --nodes=Entity=" in done.stdout
    files = run("export", "small", "--format", "neo4j", "-o", "imp", "--neo4j-admin", "sudo admin", "--json", cwd=built)
    told = json.loads(files.stdout)
    assert told["command"][:3] == ["sudo", "admin", "database"]
    assert told["imported"] is None
    assert {path.name for path in (built / "imp").iterdir()} == {*told["files"], "import.sh", "import.report"}


def test_a_folder_that_cannot_be_written_is_one_message(built: Path) -> None:
    (built / "file").write_text("")
    done = run("export", "small", "--format", "neo4j", "--output", "file/out", cwd=built)
    assert done.returncode == 1
    assert "file/out: Not a directory. Mend that on this machine, then run the same again." in done.stderr
    assert "Traceback" not in done.stderr


def test_a_program_named_relative_to_the_callers_folder_is_run_from_there(built: Path) -> None:
    (built / "bin").mkdir()
    (built / "bin" / "neo4j-admin").write_text("#!/bin/sh\necho No space left on device\nexit 70\n")
    (built / "bin" / "neo4j-admin").chmod(0o755)
    arguments = ("export", "small", "--format", "neo4j", "--output", "out", "--neo4j-admin", "./bin/neo4j-admin")
    assert f"cd out && {built / 'bin' / 'neo4j-admin'} database import full" in run(*arguments, cwd=built).stdout
    assert "neo4j-admin failed: the disk is full" in run(*arguments, "--run", cwd=built).stderr


def test_a_version_with_an_embedded_store_and_one_with_content_give_the_same_files(built: Path, tmp_path: Path) -> None:
    folder = find_build_folder(built / "builds" / "small")
    first = export_neo4j(folder, tmp_path / "1")
    with open_embedded(folder / "store") as store:
        assert digest_embedded(store).total in (tmp_path / "1" / "store.csv").read_text()
    manifest = read_build_manifest(folder)
    store_config = StoreConfig.model_validate(manifest.config["store"])
    kept = tmp_path / "kept"
    kept.mkdir()
    for path in folder.iterdir():
        if path.name != "store":
            (kept / path.name).symlink_to(path)
    write_content(folder, store_config, manifest.source_names, kept / "store")
    second = export_neo4j(kept, tmp_path / "2")
    for name in first.files:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    assert first.arguments == second.arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "tsv", "--run"], "--run and --overwrite are for --format neo4j"),
        (["--format", "neo4j", "--overwrite"], "--overwrite needs --run"),
        (["--format", "neo4j", "--neo4j-admin", "'"], "--neo4j-admin ': No closing quotation"),
        (["--format", "neo4j", "--neo4j-admin", " "], "--neo4j-admin is empty"),
        (["--format", "neo"], "Did you mean 'neo4j'?"),
        (["--format", "neo4j", "--run", "--neo4j-admin", "./none"], "Name the neo4j-admin of the server"),
    ],
)
def test_what_cannot_be_done_is_one_line(arguments: list[str], message: str, built: Path) -> None:
    done = run("export", "small", "--output", "out", *arguments, cwd=built)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
