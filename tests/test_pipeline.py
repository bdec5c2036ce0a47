"""Whole builds of a small graph: what is skipped, what is redone, what is served when something goes wrong."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmkg import open_build, pipeline
from mmkg.builds import list_versions, read_build_manifest, served_version, switch_to, version_before
from mmkg.builds.compare import compare_builds
from mmkg.config import read_config
from mmkg.errors import BuildError, CheckFailed, ConfigError
from mmkg.shards import check_shards
from tests.graph_config import DBPEDIA, FREEBASE, write_small_graph


@pytest.fixture
def config_path(tmp_path: Path) -> Path:
    return write_small_graph(tmp_path)


def build(path: Path, *settings: str) -> pipeline.BuildReport:
    return pipeline.build(read_config(path, settings))


def test_a_build_merges_the_two_countries_that_the_links_tie(config_path):
    report = build(config_path)
    with open_build(report.folder) as opened:
        france = opened.get_entity("France")
        assert france.entity_id == FREEBASE + "m.0f8l9c"
        assert france.aliases == (DBPEDIA + "France",)
        assert france.sources == ("freebase", "dbpedia")
        answer = opened.query(
            "MATCH (a:Entity)-[:capital]->(b:Entity) WHERE a.label = 'France' RETURN b.label AS capital"
        )
        assert answer.to_pylist() == [{"capital": "Paris"}]


def test_every_line_of_every_dump_is_accounted_for(config_path):
    with open_build(build(config_path).folder) as opened:
        rows = {row["dump"]: row for row in opened.dumps.to_table().to_pylist()}
        assert {name: row["lines"] for name, row in rows.items()} == {"freebase.nt": 4, "dbpedia.nt": 7, "links.nt": 2}
        for row in rows.values():
            parts = ("triples", "qualifiers", "rejects", "comments", "blank")
            assert row["lines"] == sum(row[part] for part in parts)
        reject = opened.rejects.to_table().to_pylist()[0]
        assert (reject["dump"], reject["line"], reject["raw"]) == ("freebase.nt", 4, b"this line is not a statement")


def test_the_same_command_again_skips_every_stage_and_serves_the_same_version(config_path):
    first, again = build(config_path), build(config_path)
    assert not first.unchanged
    assert again.unchanged
    assert all(result.skipped for result in again.results)
    assert again.version == first.version


def test_one_changed_dump_redoes_its_own_read_and_what_follows_and_nothing_else(config_path):
    first = build(config_path)
    with (config_path.parent / "dbpedia.nt").open("a", encoding="utf-8") as dump:
        dump.write(f'<{DBPEDIA}Berlin> <http://www.w3.org/2000/01/rdf-schema#label> "Berlin"@en .\n')
    second = build(config_path)
    redone = [name for name, result in zip(_names(second), second.results, strict=True) if not result.skipped]
    assert redone == ["read:dbpedia.nt", "graph", "splits", "findings", "adjacency", "store"]
    assert second.version != first.version


def _names(report: pipeline.BuildReport) -> list[str]:
    return list(read_build_manifest(report.folder).stages)


def test_a_removed_line_vanishes_from_tables_and_store(config_path):
    first = build(config_path)
    dump = config_path.parent / "dbpedia.nt"
    lines = [line for line in dump.read_text(encoding="utf-8").splitlines(keepends=True) if "Berlin" not in line]
    dump.write_text("".join(lines), encoding="utf-8")
    second = build(config_path)
    with open_build(first.folder) as before, open_build(second.folder) as after:
        assert compare_builds(before, after) == {
            "entities": {"added": 0, "removed": 1, "kept": 3},
            "relations": {"added": 0, "removed": 0, "kept": 2},
            "triples": {"added": 0, "removed": 1, "kept": 2},
        }
        assert after.find_entity(DBPEDIA + "Berlin") is None
        assert after.query("MATCH (e:Entity) RETURN count(*) AS n").to_pylist() == [{"n": 3}]


def test_a_failed_check_keeps_the_previous_version_served(config_path):
    first = build(config_path)
    (config_path.parent / "dbpedia.nt").write_text("", encoding="utf-8")
    with pytest.raises(CheckFailed, match="triples"):
        build(config_path, "checks.max_triples_lost=0.1")
    root = config_path.parent / "builds" / "small"
    assert served_version(root) == first.version
    assert len(list_versions(root)) == 2
    assert read_build_manifest(root / list_versions(root)[-1]).problems


def test_rollback_serves_the_version_before(config_path):
    first = build(config_path)
    build(config_path, 'graph.languages=["fr"]')
    root = config_path.parent / "builds" / "small"
    switch_to(root, version_before(root), back=True)
    assert served_version(root) == first.version
    with pytest.raises(BuildError, match="no version before"):
        version_before(root)


def test_a_version_outlives_the_stages_it_was_made_of(config_path):
    report = build(config_path)
    shutil.rmtree(config_path.parent / "builds" / "small" / "stages")
    with open_build(report.folder) as opened:
        assert opened.entities.count_rows() == 4
        assert opened.query("MATCH (e:Entity) RETURN count(*) AS n").to_pylist() == [{"n": 4}]
        assert opened.subgraph(["France"], 1).num_nodes == 3


def test_old_versions_are_removed_beyond_the_number_to_keep(config_path):
    for language in ("en", "fr", "de", "es"):
        build(config_path, f'graph.languages=["{language}"]', "graph.keep_builds=2")
    root = config_path.parent / "builds" / "small"
    assert [name[:4] for name in list_versions(root)] == ["0003", "0004"]
    stages = {path.name for path in (root / "stages").glob("*/*")}
    used = {digest for version in list_versions(root) for digest in read_build_manifest(root / version).stages.values()}
    assert stages == used


def test_until_read_makes_no_version(config_path):
    report = pipeline.build(read_config(config_path), until="read")
    assert report.version is None
    assert [result.stage.name for result in report.results] == ["read", "read", "read"]


def test_a_second_build_of_the_same_graph_at_the_same_time_is_refused(config_path):
    config = read_config(config_path)
    with pipeline.lock_graph(config), pytest.raises(BuildError, match=f"process {os.getpid()}"):
        build(config_path)


def test_an_unknown_setting_names_the_nearest(config_path):
    with pytest.raises(ConfigError, match="Did you mean 'languages'"):
        build(config_path, 'graph.langauges=["fr"]')


# What a build makes on its way: patterns below the graph's folder.
PLACES = ("stages/read/*", "stages/read/*/manifest.json", "stages/graph/*", "stages/splits/*", "stages/store/*/store")


def _kill_when_there(command: list[str], place: Path) -> bool:
    """Start a process and SIGKILL it as soon as a path appears; whether it was still running then."""
    root = Path(*place.parts[: place.parts.index("stages")])
    pattern = str(place.relative_to(root))
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            if any(root.glob(pattern)):
                process.send_signal(signal.SIGKILL)
                return True
            time.sleep(0.005)
    return False


@pytest.mark.slow
def test_killed_at_any_moment_and_started_again_gives_the_undisturbed_build(tmp_path):
    """SIGKILL of a real process as soon as each of some places on disk appears; then the same command to its end."""
    undisturbed = build(write_small_graph(tmp_path / "undisturbed"))
    config_path = write_small_graph(tmp_path / "killed")
    command = [sys.executable, "-m", "mmkg", "--quiet", "build", str(config_path)]
    killed = [_kill_when_there(command, config_path.parent / "builds" / "small" / place) for place in PLACES]
    assert all(killed), "a process ended before it was killed"
    report = build(config_path)
    contents = [[check_shards(r.folder, content=True).content() for r in rep.results] for rep in (undisturbed, report)]
    for names, ours, theirs in zip([r.stage.name for r in report.results], *contents, strict=True):
        if names != "store":  # the engine's file holds times; the store is compared by what it answers
            assert ours == theirs, names
    with open_build(undisturbed.folder) as one, open_build(report.folder) as other:
        everything = "MATCH (a:Entity)-[r]->(b:Entity) RETURN a.entity_id, type(r), b.entity_id ORDER BY 1, 2, 3"
        assert one.query(everything).equals(other.query(everything))
