"""Whole builds of a small graph with pictures: what is made, what is redone, what a kill costs, what is found."""

import html
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.compute as pc
import pytest
from PIL import Image
from typer.testing import CliRunner

from mmkg import open_build, pipeline
from mmkg.builds.compare import Change, find_differences
from mmkg.builds.pictures import pictures_of, read_pictures
from mmkg.builds.retention import find_garbage, remove_garbage
from mmkg.builds.search import search
from mmkg.builds.versions import read_build_manifest
from mmkg.cli import app
from mmkg.config import read_config
from mmkg.embeddings.vectors import open_vectors
from mmkg.errors import ConfigError, EmbeddingError, ImageError, MmkgError, ShardError
from mmkg.shards import check_shards
from tests.graph_config import COLOURS, DBPEDIA, FREEBASE, draw_stripes, write_pictured_graph, write_small_graph


def build(path: Path, *settings: str) -> pipeline.BuildReport:
    return pipeline.build(read_config(path, settings))


def redone(report: pipeline.BuildReport) -> list[str]:
    return [result.stage.name for result in report.results if not result.skipped]


@pytest.fixture
def config_path(tmp_path: Path) -> Path:
    return write_pictured_graph(tmp_path)


@pytest.fixture(scope="module")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config_path = write_pictured_graph(tmp_path_factory.mktemp("pictured"))
    build(config_path)
    return config_path


@pytest.fixture
def built_path(built_once: Path, tmp_path: Path) -> Path:
    """A graph that is built already, each test's own."""
    folder = tmp_path / "built"
    shutil.copytree(built_once.parent, folder, symlinks=True)
    return folder / built_once.name


def test_each_entity_has_its_picture_in_tables_store_and_card(config_path):
    report = build(config_path)
    with open_build(report.folder) as opened:
        france = opened.get_entity("France")
        [picture] = pictures_of(opened, [france])
        assert (picture.rank, picture.status, picture.licence) == (0, "ok", "CC0 1.0")
        served = read_pictures(opened, [picture.sha256], as_served=True)[picture.sha256]
        assert served == (config_path.parent / "flags" / "France.png").read_bytes()
        rows = opened.query(
            "MATCH (e:Entity)-[h:HAS_IMAGE]->(i:Image) RETURN e.entity_id AS id, h.rank AS rank, i.sha256 AS sha256 "
            "ORDER BY id"
        ).to_pylist()
        assert [row["id"] for row in rows] == [DBPEDIA + "Paris", FREEBASE + "m.0345h", FREEBASE + "m.0f8l9c"]
        assert {row["rank"] for row in rows} == {0}
        assert rows[2]["sha256"] == picture.sha256
        text, mask = opened.vectors.texts([france.entity_index, 99])
        assert mask.tolist() == [True, False]
        assert not text[1].any()
        assert opened.vectors.pictures([picture.sha256])[1].all()


def test_the_same_build_again_does_nothing(built_path):
    first = build(built_path)
    again = build(built_path)
    assert again.unchanged
    assert redone(again) == []
    assert again.version == first.version


def test_a_rebuild_opens_no_model_whatever_lies_in_the_working_directory(config_path, tmp_path, monkeypatch):
    def open_model(config: object) -> None:
        raise AssertionError("a model was opened")

    first = build(config_path)
    monkeypatch.setattr("mmkg.embeddings.remembered._open", open_model)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("of no interest")
    again = build(config_path)
    assert again.version == first.version


@pytest.mark.parametrize(
    ("there", "named"),
    [
        ('mapping = "flags.tsv"', 'mapping = "none.tsv"'),
        ('path = "flags"', 'path = "none"'),
        ("[[images.folders]]", '[images]\nurl_lists = ["none"]\n[[images.folders]]'),
        ("[[images.folders]]", '[images.gates]\nplaceholders = ["none"]\n[[images.folders]]'),
    ],
)
def test_what_the_config_names_and_is_not_there_is_told_before_any_work(config_path, there, named):
    text = config_path.read_text(encoding="utf-8")
    config_path.write_text(text.replace(there, named, 1), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"none.*: no such f.*relative to the config file"):
        build(config_path)
    assert not list(config_path.parent.glob("builds/small/stages/*"))


def test_a_wrong_model_is_told_before_anything_is_fetched(config_path):
    with pytest.raises(EmbeddingError, match="ViT-B-99"):
        build(config_path, "embeddings.kind=clip", "embeddings.model=ViT-B-99")
    assert not list(config_path.parent.glob("builds/small/pictures/*/*"))


def test_a_model_in_a_folder_is_found_from_any_working_directory(config_path, tmp_path, monkeypatch):
    (config_path.parent / "my-clip").mkdir()
    (config_path.parent / "weights.pt").touch()
    settings = ["embeddings.kind=clip", "embeddings.model=my-clip", "embeddings.pretrained=weights.pt"]
    read = read_config(config_path, settings).embeddings
    assert (Path(read.model), Path(read.pretrained)) == (
        config_path.parent / "my-clip",
        config_path.parent / "weights.pt",
    )
    (config_path.parent / "atlas").mkdir()  # of the same name as the model that mmkg brings
    assert read_config(config_path, ["embeddings.kind=clip", "embeddings.model=atlas"]).embeddings.model == "atlas"


def test_one_more_picture_is_the_only_one_that_is_decoded_and_embedded(built_path):
    build(built_path)
    draw_stripes(built_path.parent / "flags" / "Berlin.png", ("white", "red"))
    with (built_path.parent / "flags.tsv").open("a", encoding="utf-8") as mapping:
        mapping.write(f"Berlin.png\t{DBPEDIA}Berlin\n")
    second = build(built_path)
    assert redone(second) == ["candidates", "pictures", "vectors", "images", "store"]
    done = {result.stage.name: result.manifest.counts for result in second.results if not result.skipped}
    assert done["pictures"]["pictures"] == 1
    assert (done["vectors"]["embedded"], done["vectors"]["pictures"]) == (1, 4)
    with open_build(second.folder) as opened:
        assert opened.images.count_rows() == 4
        assert opened.pictures.count_rows() == 4


def test_another_gate_decodes_and_embeds_nothing(built_path):
    build(built_path)
    second = build(built_path, "images.gates.min_side_px=97")
    assert redone(second) == ["images", "store"]
    with open_build(second.folder) as opened:
        assert set(opened.images.to_table()["status"].to_pylist()) == {"too_small"}
        assert opened.query("MATCH (i:Image) RETURN count(*) AS n").to_pylist() == [{"n": 0}]


def test_the_difference_of_two_versions_counts_the_pictures_that_came_and_went(built_path):
    without = build(write_small_graph(built_path.parent / "without"))
    first = build(built_path)
    draw_stripes(built_path.parent / "flags" / "Paris.png", ("green", "yellow"))
    second = build(built_path)
    with open_build(without.folder) as none, open_build(first.folder) as old, open_build(second.folder) as new:
        assert find_differences(old, new).tables["pictures"] == Change(added=1, removed=1, kept=2)
        assert find_differences(old, new).summary().endswith("pictures +1 −1")
        assert find_differences(none, old).tables["pictures"] == Change(added=3, removed=0, kept=0)
        assert find_differences(old, none).tables["pictures"] == Change(added=0, removed=3, kept=0)
        assert "pictures" not in find_differences(none, none).tables


def test_a_removed_picture_vanishes_from_the_store_and_stays_in_the_version_before(built_path):
    first = build(built_path)
    (built_path.parent / "flags" / "Paris.png").unlink()
    second = build(built_path)
    with open_build(first.folder) as before, open_build(second.folder) as after:
        count = "MATCH (i:Image) RETURN count(*) AS n"
        assert before.query(count).to_pylist() == [{"n": 3}]
        assert after.query(count).to_pylist() == [{"n": 2}]
        [picture] = pictures_of(before, [before.get_entity("Paris")])
        assert read_pictures(before, [picture.sha256])
        assert after.image_unmatched.to_table()["reason"].to_pylist() == ["no_file"]


def test_a_build_without_pictures_says_so(tmp_path):
    report = build(write_small_graph(tmp_path))
    with open_build(report.folder) as opened:
        assert pictures_of(opened, [opened.get_entity("France")]) == []
        assert opened.query("MATCH (i:Image) RETURN i.sha256").num_rows == 0
        with pytest.raises(ShardError, match="built without pictures"):
            _ = opened.images
        with pytest.raises(EmbeddingError, match="built without vectors"):
            _ = opened.vectors
    with pytest.raises(ConfigError, match="names no pictures"):
        pipeline.retry_pictures(read_config(tmp_path / "small.toml"), retry="transient")


# --- search ----------------------------------------------------------------------------------------------------------


def test_a_picture_finds_the_entity_that_has_one_like_it(built_path, tmp_path):
    query = tmp_path / "query.jpg"
    draw_stripes(query, COLOURS["Germany"], side_px=150)  # another size and format
    with open_build(build(built_path).folder) as opened:
        found = search(opened, query, k=2)
        assert len(found.pictures) == 2
        assert found.pictures[0].entity_ids == (FREEBASE + "m.0345h",)
        assert found.entities == ()
        only = search(opened, query, k=5, entity_ids=[FREEBASE + "m.0f8l9c", DBPEDIA + "Paris"])
        assert {hit.labels for hit in only.pictures} == {("France",), ("Paris",)}


def test_words_find_the_entity_that_is_called_so(built_path):
    with open_build(build(built_path).folder) as opened:
        found = search(opened, "France", k=1)
        assert [hit.labels for hit in found.entities] == [("France",)]
        assert found.entities[0].score == pytest.approx(1, abs=1e-3)


def test_an_index_finds_what_the_scan_finds_and_tells_its_recall(built_path):
    with open_build(build(built_path).folder) as opened:
        scan, index = (search(opened, "France", k=2, index=kind) for kind in ("exact", "usearch"))
        assert [hit.labels for hit in index.entities] == [hit.labels for hit in scan.entities]
        assert [hit.sha256 for hit in index.pictures] == [hit.sha256 for hit in scan.pictures]
        assert scan.recall == {"pictures": None, "entities": None}
        assert index.recall == {"pictures": 1.0, "entities": 1.0}
        kept = list((opened.folder.parent / "vectors").glob("*/*.usearch"))
        assert len(kept) == 2
        made = {path: path.stat().st_mtime_ns for path in kept}
        search(opened, "Germany", k=2, index="usearch")
        assert {path: path.stat().st_mtime_ns for path in kept} == made


def test_what_is_no_picture_is_told_by_name(built_path):
    folder = build(built_path).folder
    with open_build(folder) as opened, pytest.raises(ImageError, match=r"small\.toml"):
        search(opened, built_path)


def test_vectors_of_another_embedder_are_refused(built_path):
    folder = build(built_path).folder
    manifest = json.loads((folder / "build.json").read_text())
    manifest["config"]["embeddings"]["dtype"] = "float32"
    (folder / "build.json").write_text(json.dumps(manifest))
    with open_build(folder) as opened, pytest.raises(EmbeddingError, match="is now another"):
        search(opened, "France")


# --- commands --------------------------------------------------------------------------------------------------------


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refuse(*arguments: object) -> str:
    """The message that a command ends with."""
    with pytest.raises(MmkgError) as error:
        CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    return str(error.value)


def test_commands_show_count_draw_and_find_pictures(built_path, tmp_path):
    folder = build(built_path).folder
    sheet, page = tmp_path / "sheet.png", tmp_path / "page.html"
    card = run("show", folder, "France", "--pictures", sheet, "--json")
    assert [picture["licence"] for picture in json.loads(card)["pictures"]] == ["CC0 1.0"]
    with Image.open(sheet) as drawn:
        assert drawn.convert("RGB").getpixel((60, 90)) == (0, 0, 255)  # inside the blue stripe
    assert "3 pictures kept, of 3 entities; 3 candidates" in run("images", "status", folder)
    assert "3 of 3 candidates kept" in run("images", "report", folder, "--output", page)
    text = page.read_text(encoding="utf-8")
    assert text.count("<figure>") == 3
    assert "http://" not in text.replace("data:image", "")
    [host] = json.loads(run("images", "rot", folder.parent, "--json"))
    assert (host["host"], host["asked"], host["ok"]) == ("folder:flags", 3, 3)
    where = "MATCH (e:Entity) WHERE e.label = 'Paris' RETURN e.entity_id"
    found = json.loads(run("search", folder, "Paris", "--where", where, "--json"))
    assert [hit["labels"] for hit in found["pictures"]] == [["Paris"]]
    query = built_path.parent / "flags" / "Germany.png"
    assert "Germany" in run("search", folder, query, "-k", "1", "--draw", tmp_path / "found.png").splitlines()[1]
    assert (tmp_path / "found.png").exists()


EVERY_GATE = """
[images]
url_lists = ["urls.tsv"]

[images.gates]
placeholders = ["missing.png"]
max_entities = 1
keep = 1
max_hash_distance = 2
"""


def write_graph_for_every_gate(folder: Path) -> Path:
    """The pictured graph with a picture for each gate, one that is none, and an address that nobody may ask."""
    config = write_pictured_graph(folder)
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("[[images.folders]]", EVERY_GATE + "[[images.folders]]", 1), encoding="utf-8")
    flags = folder / "flags"
    drawn = {name: Image.effect_noise(size, 90) for name, size in (("tiny", (20, 20)), ("long", (800, 50)))}
    drawn["blank"] = Image.new("RGB", (64, 64), "#123456")
    for name, picture in drawn.items():
        picture.save(flags / f"{name}.png")
    draw_stripes(folder / "missing.png", ("gray", "white", "black", "gray"))
    draw_stripes(flags / "placeholder.png", ("gray", "white", "black", "gray"), side_px=120)
    draw_stripes(flags / "twin.png", COLOURS["France"], side_px=200)
    draw_stripes(flags / "other.png", ("gold", "black"))
    draw_stripes(flags / "shared.png", ("green", "white", "green", "black", "green"))
    (flags / "none.png").write_bytes(b"no picture at all")
    with (folder / "flags.tsv").open("a", encoding="utf-8") as mapping:
        for name in (*drawn, "placeholder", "twin", "other", "shared", "none"):
            mapping.write(f"{name}.png\t/m/0f8l9c\n")
        mapping.write("shared.png\t/m/0345h\ngone.png\t/m/0345h\n")
    (folder / "urls.tsv").write_text("m.0f8l9c\thttp://127.0.0.1/x.png\n", encoding="utf-8")
    return config


GATES = ("too_small", "too_long", "blank", "placeholder", "generic", "duplicate", "not_best")


def test_the_report_shows_a_sample_of_every_gate_with_its_reason(tmp_path):
    config = write_graph_for_every_gate(tmp_path)
    contact = "fetch.contact=me@example.org"
    for gates, settings in (
        (GATES, ()),
        (("margin",), ("images.gates.min_margin=2",)),  # no cosine is larger than another by so much
        (("licence",), ("images.gates.training_licences_only=true", "images.folders.0.licence=all rights reserved")),
    ):
        folder, page = build(config, contact, *settings).folder, tmp_path / "page.html"
        run("images", "report", folder, "--output", page)
        text = page.read_text(encoding="utf-8")
        with open_build(folder) as opened:
            rows = opened.images.to_table(columns=["status", "reason"]).to_pylist()
        assert {*gates, "not_a_picture", "private_address"} <= {row["status"] for row in rows}
        for gate in gates:
            reasons = {html.escape(row["reason"]) for row in rows if row["status"] == gate}
            samples = text.partition(f"<h2>{gate}</h2>")[2].partition("<h2>")[0]
            assert samples.count("<img") == samples.count("<figure>") > 0
            assert any(reason in samples for reason in reasons)
    counted = run("images", "status", folder)
    assert "127.0.0.1 is not of the public internet" in counted  # an address of which nothing came
    assert "no such picture in flags" in counted  # why the row of gone.png made no candidate


def test_a_mistake_of_a_search_is_told(built_path, tmp_path):
    folder = build(built_path).folder
    assert "nothing to search for" in refuse("search", folder, " ")
    assert "missing.png: no such file" in refuse("search", folder, "missing.png")
    assert "no folder" in refuse("search", folder, "red", "--draw", tmp_path / "nowhere" / "found.png")
    assert "found.png" in refuse("search", folder, "red", "--draw", tmp_path / "found.jpg")
    assert "entity_id" in refuse("search", folder, "red", "--where", "MATCH (e:Entity) RETURN count(*)")
    assert "no folder" in refuse("show", folder, "France", "--pictures", tmp_path / "nowhere" / "sheet.png")
    assert "is a folder" in refuse("query", folder, "MATCH (e:Entity) RETURN e.label", "--output", tmp_path)
    assert "no folder" in refuse("images", "report", folder, "--output", tmp_path / "nowhere" / "page.html")


def test_a_picture_is_not_looked_for_where_no_picture_has_a_vector(tmp_path):
    config = write_small_graph(tmp_path, '\n[embeddings]\nkind = "hashing"\n')
    draw_stripes(tmp_path / "flag.png", COLOURS["France"])
    with open_build(build(config).folder) as opened:
        assert search(opened, "France", k=1).pictures == ()
        with pytest.raises(EmbeddingError, match="no vectors of pictures"):
            search(opened, tmp_path / "flag.png")
        assert pictures_of(opened, []) == []


def test_retry_asks_again_and_the_next_build_takes_what_came(built_path):
    missing = built_path.parent / "flags" / "Paris.png"
    content = missing.read_bytes()
    build(built_path)
    missing.write_bytes(b"no picture at all")
    second = build(built_path)
    with open_build(second.folder) as opened:
        kept = opened.images.to_table(filter=pc.field("status") == "ok").num_rows
        assert kept == 2
    missing.write_bytes(content)
    assert "mmkg build" in run("images", "retry", built_path, "--all")
    assert "nothing has failed" in run("images", "retry", built_path, "--transient")
    with open_build(build(built_path).folder) as opened:
        assert set(opened.images.to_table()["status"].to_pylist()) == {"ok"}


def test_gc_gives_back_pictures_and_vectors_that_no_kept_version_needs(config_path):
    build(config_path)
    for file in (config_path.parent / "flags").glob("*.png"):
        draw_stripes(file, ("green", "yellow"), side_px=80)
    build(config_path, "embeddings.dtype=float32")
    root = config_path.parent / "builds" / "small"
    assert [item.kind for item in find_garbage(root, keep=2) if item.kind in ("pictures", "vectors")] == []
    garbage = find_garbage(root, keep=1)
    assert sorted({item.kind for item in garbage}) == ["pictures", "stage", "vectors", "version"]
    remove_garbage(root, garbage)
    assert build(config_path, "embeddings.dtype=float32").unchanged


# --- kill and resume -------------------------------------------------------------------------------------------------

# What a build makes on its way, below the graph's folder.
PLACES = (
    "pictures/image_bytes/part-*",
    "pictures/image_attempts/part-*",
    "stages/pictures/*",
    "vectors/*/part-*",
    "stages/vectors/*",
    "stages/images/*",
)


def _kill_when_there(command: list[str], root: Path, pattern: str) -> bool:
    """Start a process and SIGKILL it as soon as a path appears; whether it was still running then."""
    there = set(root.glob(pattern))
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            if set(root.glob(pattern)) - there:
                process.send_signal(signal.SIGKILL)
                return True
            time.sleep(0.002)
    return False


@pytest.mark.slow
def test_killed_between_any_two_steps_it_ends_with_the_undisturbed_pictures_and_vectors(tmp_path):
    undisturbed = build(write_pictured_graph(tmp_path / "undisturbed"))
    config_path = write_pictured_graph(tmp_path / "killed")
    root = config_path.parent / "builds" / "small"
    command = [sys.executable, "-m", "mmkg", "--quiet", "build", str(config_path)]
    killed = [_kill_when_there(command, root, place) for place in PLACES]
    assert all(killed), "a process ended before it was killed"
    report = build(config_path)
    names = [result.stage.name for result in report.results]
    for name, ours, theirs in zip(names, report.results, undisturbed.results, strict=True):
        if name != "store":  # the engine's file holds times
            assert check_shards(ours.folder).content() == check_shards(theirs.folder).content(), name
    assert read_build_manifest(report.folder).digest == read_build_manifest(undisturbed.folder).digest
    assert open_vectors(report.folder).digest == open_vectors(undisturbed.folder).digest
    assert os.environ.get("PYTHONHASHSEED") is None  # nothing above leans on a fixed order of sets
