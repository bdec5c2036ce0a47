"""The command line as its users meet it: true builds, true exit statuses, messages that name the next step."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmkg import pipeline
from mmkg.builds.lock import hold_graph
from mmkg.config import read_config
from tests.graph_config import DBPEDIA, FREEBASE, write_small_graph

COMMANDS = [
    *("init", "build", "status", "diff", "rollback", "export", "gc", "query", "show", "why", "subgraph"),
    *("train", "evaluate", "read", "doctor", "demo", "search", "images"),
]


def run(*arguments: str, cwd: Path | None = None, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mmkg", *arguments]
    return subprocess.run(command, cwd=cwd, input=stdin, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """Folder of a small graph that is built."""
    folder = tmp_path_factory.mktemp("cli")
    pipeline.build(read_config(write_small_graph(folder)))
    return folder


def ask(built: Path, *arguments: str) -> object:
    done = run(*arguments, "--json", cwd=built)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_help_lists_every_command_with_a_sentence():
    text = run("--help").stdout
    for command in COMMANDS:
        assert command in text


@pytest.mark.parametrize("command", [*COMMANDS, *(f"images {name}" for name in ("status", "rot", "retry", "report"))])
def test_every_command_has_an_example_in_its_help(command):
    done = run(*command.split(), "--help")
    assert done.returncode == 0
    assert "Example: mmkg " + command in done.stdout


def test_importing_the_command_line_loads_nothing_heavy():
    heavy = [
        "torch",
        "dgl",
        "ibis",
        "duckdb",
        "ladybug",
        "pyarrow",
        "numba",
        "prefect",
        "matplotlib",
        "rdflib",
        "scipy",
        "PIL",
        "open_clip",
        "sentence_transformers",
        "usearch",
        "httpx",
    ]
    code = f"import sys, mmkg.cli; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_build_says_what_it_did_and_then_that_nothing_has_changed(tmp_path):
    config = write_small_graph(tmp_path)
    first = run("build", str(config))
    assert first.returncode == 0, first.stderr
    assert "freebase.nt" in first.stdout
    again = run("build", str(config))
    assert "nothing has changed" in again.stdout


def test_status_counts_rejects_by_reason(built):
    status = ask(built, "status", "small")
    assert [row["dump"] for row in status["rejects"]] == ["freebase.nt"]
    assert status["versions"] == [{"version": status["manifest"]["version"], "served": True, "withdrawn": False}]
    assert "freebase.nt" in run("status", "small", cwd=built).stdout


def test_status_tells_who_is_at_work_on_the_graph(built):
    assert ask(built, "status", "small")["held_by"] is None
    assert "held by" not in run("status", "small", cwd=built).stdout
    with hold_graph(built / "builds" / "small", holder="nightly"):
        assert ask(built, "status", "small")["held_by"]["name"] == "nightly"
        assert f"held by nightly (process {os.getpid()} of " in run("status", "small", cwd=built).stdout
    assert ask(built, "status", "small")["held_by"] is None


def test_status_counts_rejects_of_several_dumps(tmp_path):
    config = write_small_graph(tmp_path)
    with (tmp_path / "dbpedia.nt").open("a", encoding="utf-8") as dump:
        dump.write("nor is this\n")
    pipeline.build(read_config(config))
    rows = ask(tmp_path, "status", "small")["rejects"]
    assert [(row["dump"], row["count_all"]) for row in rows] == [("dbpedia.nt", 1), ("freebase.nt", 1)]


def test_query_with_a_parameter(built):
    cypher = (
        "MATCH (a:Entity)-[r]->(b:Entity) WHERE a.label = $label "
        "RETURN type(r) AS relation, b.label AS tail ORDER BY tail"
    )
    rows = ask(built, "query", "small", cypher, "--param", "label=France")
    assert rows == [
        {"relation": "location_location_adjoins", "tail": "Germany"},
        {"relation": "capital", "tail": "Paris"},
    ]


@pytest.mark.parametrize("form", ["table", "csv", "json", "parquet"])
def test_query_writes_every_format(built, tmp_path, form):
    output = tmp_path / f"answer.{form}"
    cypher = "MATCH (e:Entity) RETURN e.label AS label ORDER BY label LIMIT 1"
    done = run("query", "small", cypher, "--format", form, "-o", str(output), cwd=built)
    assert done.returncode == 0, done.stderr
    if form == "parquet":
        import pyarrow.parquet as pq

        assert pq.read_table(output).to_pylist() == [{"label": "France"}]
    else:
        assert "France" in output.read_text(encoding="utf-8")


def test_a_cypher_mistake_shows_the_engines_message_and_ends_with_1(built):
    done = run("query", "small", "MATCH (e:Entity RETURN e", cwd=built)
    assert done.returncode == 1
    assert "line" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_writing_query_is_refused(built):
    done = run("query", "small", "CREATE (:Entity {entity_id: 'x'})", cwd=built)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_show_prints_attributes_and_neighbours(built):
    card = ask(built, "show", "small", "France")
    assert card["entity"]["entity_id"] == FREEBASE + "m.0f8l9c"
    assert {"name": "populationTotal", "value": "68000000"}.items() <= next(
        a for a in card["attributes"] if a["name"] == "populationTotal"
    ).items()
    assert [(row["relation"], row["label"]) for row in card["out"]] == [
        ("capital", "Paris"),
        ("location_location_adjoins", "Germany"),
    ]
    assert "Paris" in run("show", "small", "france", cwd=built).stdout


def test_why_names_the_merge_and_the_dump_lines(built):
    answer = ask(built, "why", "small", DBPEDIA + "France")
    assert [(link["verdict"], link["dump"], link["line"]) for link in answer["links"]] == [("merged", "links.nt", 1)]
    lines = {(s["dump"], s["line"]) for s in answer["statements"]}
    assert lines == {("links.nt", 1), *(("freebase.nt", n) for n in (1, 3)), *(("dbpedia.nt", n) for n in (2, 3, 7))}
    assert "freebase.nt:3" in run("why", "small", "France", cwd=built).stdout


def test_subgraph_as_json_and_picture(built, tmp_path):
    picture = tmp_path / "france.png"
    found = ask(built, "subgraph", "small", "France", "--hops", "2", "--picture", str(picture))
    assert {node["label"]: node["hop"] for node in found["nodes"]} == {
        "France": 0,
        "Germany": 1,
        "Paris": 1,
        "Berlin": 2,
    }
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_name_that_nothing_has_is_answered_with_the_nearest(built):
    done = run("show", "small", "Frence", cwd=built)
    assert done.returncode == 1
    assert "Did you mean 'France'" in done.stderr


def test_diff_of_a_build_with_itself_is_empty(built):
    changes = ask(built, "diff", "small", "small")
    assert all(row["added"] == row["removed"] == 0 for row in changes["tables"].values())
    assert changes["changed_dumps"] == []


def test_export_writes_every_statement(built, tmp_path):
    done = run("export", "small", "--output", str(tmp_path / "nt"), cwd=built)
    assert done.returncode == 0, done.stderr
    assert '"France"@en' in (tmp_path / "nt" / "statements.nt").read_text(encoding="utf-8")
    assert run("export", "small", "--output", str(tmp_path / "tsv"), "--format", "tsv", cwd=built).returncode == 0
    assert (tmp_path / "tsv" / "train.tsv").read_text(encoding="utf-8").count("\t") > 0


def test_read_looks_at_a_dump_without_building(built, tmp_path):
    rows = ask(built, "read", "freebase", "freebase.nt", "--output", str(tmp_path / "look"))
    assert (rows["dumps"][0]["triples"], rows["dumps"][0]["rejects"]) == (3, 1)


def test_init_writes_a_config_that_is_valid_and_keeps_an_existing_one(tmp_path):
    assert run("init", "g", cwd=tmp_path).returncode == 0
    (tmp_path / "g" / "dumps" / "a.nt.gz").write_bytes(b"")
    assert read_config(tmp_path / "g" / "graph.toml").graph.name == "g"
    again = run("init", "g", cwd=tmp_path)
    assert (again.returncode, "is there already" in again.stderr) == (1, True)


def test_what_init_wrote_about_pictures_is_valid_without_the_comment_signs(tmp_path):
    run("init", "g", cwd=tmp_path)
    config = tmp_path / "g" / "graph.toml"
    text = config.read_text(encoding="utf-8")
    begin, end = text.index("# [images]"), text.index("# [checks]")
    config.write_text(text[:begin] + text[begin:end].replace("\n# ", "\n").removeprefix("# ") + text[end:])
    read = read_config(config)
    assert (read.images.is_asked_for, read.embeddings.kind, "@" in read.fetch.contact) == (True, "clip", True)


def test_ctrl_c_is_one_message_that_says_how_to_go_on(tmp_path):
    code = """
import mmkg.cli, mmkg.pipeline
def interrupt(*arguments, **settings):
    raise KeyboardInterrupt
mmkg.pipeline.build = interrupt
mmkg.cli.main()
"""
    command = [sys.executable, "-c", code, "build", str(write_small_graph(tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 130
    assert done.stderr == "mmkg: stopped. The same command goes on where this one ended.\n"


def test_a_missing_config_is_one_message(tmp_path):
    done = run("build", "nowhere.toml", cwd=tmp_path)
    assert done.returncode == 1
    assert "mmkg init" in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_usage_ends_with_2():
    assert run("build").returncode == 2
    assert run("biuld", "x").returncode == 2


def test_a_build_that_is_not_there_is_one_message(tmp_path):
    done = run("status", "nothing", cwd=tmp_path)
    assert (done.returncode, "mmkg build" in done.stderr) == (1, True)


def test_doctor_finds_this_machine_in_order():
    done = run("doctor", "--json")
    found = {row["name"]: row["verdict"] for row in json.loads(done.stdout)}
    assert found["ladybug"] == "ok"
    assert found["prefect + fastapi"] == "ok"
    assert done.returncode == 0
