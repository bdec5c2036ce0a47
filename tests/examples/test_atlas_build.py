"""The bundled atlas through the whole pipeline: every planted thing is found, every question has its answer."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.compute as pc
import pytest

from mmkg import open_build, pipeline
from mmkg.builds import Build
from mmkg.cli.demo import QUESTIONS
from mmkg.config import read_config

ATLAS = Path(__file__).resolve().parents[2] / "examples" / "atlas"
EXPECTED = json.loads((ATLAS / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory):
    output = tmp_path_factory.mktemp("atlas")
    report = pipeline.build(read_config(ATLAS / "atlas.toml", [f'graph.output="{output}"']))
    assert report.folder is not None
    with open_build(report.folder) as build:
        yield build


@pytest.mark.parametrize("name", sorted(name for name in EXPECTED["dumps"] if name != "dbpedia.ttl"))
def test_what_is_wrong_in_a_dump_is_found_on_its_line(atlas: Build, name: str):
    expected = EXPECTED["dumps"][name]
    row = next(row for row in atlas.dumps.to_table().to_pylist() if row["dump"] == name)
    assert row["lines"] == expected["lines"]
    assert row["triples"] + row["qualifiers"] == expected["statements"]
    rejects = atlas.rejects.to_table(filter=pc.field("dump") == name)["line"].to_pylist()
    assert sorted(rejects) == [reject["line"] for reject in expected["rejects"]]
    repaired = atlas.triples_raw.to_table(filter=(pc.field("dump") == name) & pc.field("repaired"))["line"].to_pylist()
    assert sorted(repaired) == [line["line"] for line in expected["repaired"]]


def test_the_planted_wrong_link_is_flagged_and_the_right_one_is_merged(atlas: Build):
    planted = EXPECTED["planted_link"]
    verdicts = {frozenset((row["alias"], row["other"])): row["verdict"] for row in atlas.merges.to_table().to_pylist()}
    assert verdicts[frozenset((planted["head"], planted["tail"]))] == "flagged"
    assert verdicts[frozenset((planted["head"], planted["right_tail"]))] == "merged"
    assert list(verdicts.values()).count("flagged") == 1
    assert atlas.get_entity("Niger").entity_id != atlas.get_entity("Nigeria").entity_id


@pytest.mark.parametrize(("cypher", "question"), list(zip(QUESTIONS, EXPECTED["questions"], strict=True)))
def test_a_question_in_cypher_has_the_answer_of_the_table(atlas: Build, cypher: str, question: dict[str, object]):
    assert [row["answer"] for row in atlas.query(cypher).to_pylist()] == question["answer"]


def test_the_store_and_the_adjacency_reach_the_same_entities(atlas: Build):
    cut = atlas.subgraph(["Switzerland"], 2)
    ids = atlas.entities.to_table(columns=["entity_id"])["entity_id"].to_pylist()
    hops = {ids[index]: int(hop) for index, hop in zip(cut.node_index, cut.hop, strict=True)}
    assert hops == atlas.store.expand([atlas.get_entity("Switzerland").entity_id], 2)


def test_shacl_finds_the_three_city_states_without_a_capital(atlas: Build):
    found = atlas.findings.to_table(filter=pc.field("check") == "shacl")["subject"].to_pylist()
    labels = {atlas.find_entities(subject)[0].label for subject in found}
    assert labels == {"Monaco", "Singapore", "Vatican City"}


@pytest.mark.slow
def test_the_demo_runs_to_its_end(tmp_path: Path):
    command = [sys.executable, "-m", "mmkg", "demo", "--folder", str(tmp_path / "demo")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert "✗" not in done.stdout
    assert (tmp_path / "demo" / "switzerland.png").read_bytes().startswith(b"\x89PNG")
    assert "MRR" in (tmp_path / "demo" / "runs" / "rgat_complex_tiny" / "report.html").read_text(encoding="utf-8")
