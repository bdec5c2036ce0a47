"""`mmkg gc` on true builds: what it says, what it leaves, and that it waits for nobody's rebuild."""

import json
import subprocess
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from mmkg import pipeline
from mmkg.builds import list_versions, open_build, served_version
from mmkg.builds.lock import hold_graph
from mmkg.cli import upkeep
from mmkg.config import read_config
from mmkg.errors import BuildError
from tests.graph_config import write_small_graph
from tests.servers.http_files import serve_files

app = typer.Typer()
upkeep.register(app)
app.callback()(lambda: None)  # else the only command would be the whole program


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A small graph in three versions, the last one served."""
    folder = tmp_path_factory.mktemp("upkeep") / "graph"
    config = write_small_graph(folder)
    for language in ("en", "fr", "de"):
        pipeline.build(read_config(config, [f'graph.languages=["{language}"]', "graph.keep_builds=3"]))
    return folder


@pytest.fixture
def root(built, tmp_path) -> Path:
    """Folder of a copy of that graph, with files that have several names as in the first one."""
    subprocess.run(["cp", "-a", str(built), str(tmp_path / "graph")], check=True)
    return tmp_path / "graph" / "builds" / "small"


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["gc", *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_nothing_goes_while_all_is_needed(root):
    assert run(str(root)) == "nothing to remove\n"
    assert len(list_versions(root)) == 3


def test_a_dry_run_says_what_the_real_one_does(root):
    would = json.loads(run(str(root), "--keep", "2", "--dry-run", "--json"))
    assert len(list_versions(root)) == 3
    assert would["dry_run"] is True
    done = json.loads(run(str(root), "--keep", "2", "--json"))
    assert done == {**would, "dry_run": False}
    assert done["bytes"] == sum(item["bytes"] for item in done["removed"]) > 0
    assert done["removed"][0]["kind"] == "version"
    assert len(list_versions(root)) == 2


def test_what_stays_is_whole(root):
    text = run(str(root), "--keep", "1")
    assert "bytes given back" in text
    assert list_versions(root) == [served_version(root)]
    with open_build(root) as build:
        assert build.query("MATCH (e:Entity) RETURN count(*) AS n").to_pylist() == [{"n": 4}]
    again = pipeline.build(read_config(root.parents[1] / "small.toml", ['graph.languages=["de"]']))
    assert again.unchanged
    assert all(result.skipped for result in again.results)


def test_a_graph_that_is_being_rebuilt_is_left_alone(root):
    with hold_graph(root, holder="nightly"), pytest.raises(BuildError, match=r"nightly \(process"):
        run(str(root))


def test_the_help_has_an_example():
    assert "Example: mmkg gc builds/atlas" in run("--help")


def test_a_download_stays_as_long_as_a_version_that_stays_names_it(tmp_path, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    config = write_small_graph(tmp_path)
    dumps = {f"/{name}": (tmp_path / name).read_bytes() for name in ("dbpedia.nt", "freebase.nt")}
    with serve_files({**dumps, "/v2/dbpedia.nt": dumps["/dbpedia.nt"] + b"# changed\n"}) as server:
        text = config.read_text(encoding="utf-8")
        for path in ("/dbpedia.nt", "/v2/dbpedia.nt"):
            config.write_text(
                text.replace('paths = ["dbpedia.nt"]', f'urls = ["{server.url(path)}"]'), encoding="utf-8"
            )
            report = pipeline.build(read_config(config))
        again = pipeline.build(read_config(config))
        assert again.unchanged
        assert server.statuses("/v2/dbpedia.nt").count(200) == 1
    root = report.folder.parent
    assert run(str(root)) == "nothing to remove\n"
    gone = json.loads(run(str(root), "--keep", "1", "--json"))["removed"]
    assert [item["kind"] for item in gone].count("download") == 1
    assert [path.read_bytes() for path in (root / "downloads").glob("*/dbpedia.nt")] == [
        dumps["/dbpedia.nt"] + b"# changed\n"
    ]
