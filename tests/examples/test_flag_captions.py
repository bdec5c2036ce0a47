"""What is read out of the geometry of flags, and said of them: by hand for a dozen, by invariants for all."""

import random
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest
from PIL import Image

ATLAS = Path(__file__).resolve().parents[2] / "examples" / "atlas"
FLAGS = tomllib.loads((ATLAS / "flags.toml").read_text(encoding="utf-8"))


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(ATLAS))
    import draw_captioned_flags
    import flag_captions
    import flag_geometry
    import made_flags

    yield {
        "draw": draw_captioned_flags,
        "captions": flag_captions,
        "geometry": flag_geometry,
        "made": made_flags,
    }
    for name in ("draw_captioned_flags", "flag_captions", "flag_geometry", "made_flags", "draw_flags", "atlas_tables"):
        sys.modules.pop(name, None)


def shapes_of(scripts, code: str) -> set[tuple[str, str, int, str]]:
    """(kind, colour, number, edge) of what lies on a flag."""
    facts = scripts["geometry"].read_flag(FLAGS[code])
    return {(shape.kind, shape.colour, shape.count, shape.edge) for shape in facts.shapes}


def test_what_lies_on_a_flag_is_what_one_sees(scripts):
    assert shapes_of(scripts, "DK") == {("cross", "white", 1, "")}
    assert shapes_of(scripts, "NO") == {("cross", "blue", 1, "white")}
    assert shapes_of(scripts, "CH") == {("cross", "white", 1, "")}
    assert shapes_of(scripts, "GE") == {("cross", "red", 5, "")}
    assert shapes_of(scripts, "TO") == {("canton", "white", 1, ""), ("cross", "red", 1, "")}
    assert shapes_of(scripts, "JM") == {("saltire", "yellow", 1, "")}
    assert shapes_of(scripts, "JP") == {("disc", "red", 1, "")}
    assert shapes_of(scripts, "TR") == {("crescent", "white", 1, ""), ("star", "white", 1, "")}
    assert shapes_of(scripts, "CN") == {("star", "yellow", 5, "")}
    assert shapes_of(scripts, "US") == {("canton", "blue", 1, ""), ("star", "white", 50, "")}
    assert shapes_of(scripts, "NZ") == {("union jack", "", 1, ""), ("star", "red", 4, "white")}
    assert shapes_of(scripts, "CZ") == {("triangle", "blue", 1, "")}
    assert shapes_of(scripts, "CD") == {("diagonal band", "red", 1, "yellow"), ("star", "yellow", 1, "")}
    assert shapes_of(scripts, "CG") == {("diagonal band", "yellow", 1, "")}
    assert shapes_of(scripts, "QA") == {("zigzag edge", "white", 1, "")}
    assert shapes_of(scripts, "VC") == {("diamond", "green", 3, "")}
    assert shapes_of(scripts, "DO") == {("cross", "white", 1, "")}
    assert shapes_of(scripts, "DE") == set()


def test_stripes_and_fields_are_named_in_order(scripts):
    read = scripts["geometry"].read_flag
    germany, france, sweden = read(FLAGS["DE"]), read(FLAGS["FR"]), read(FLAGS["SE"])
    assert (germany.direction, germany.stripes) == ("horizontal", ("black", "red", "yellow"))
    assert (france.direction, france.stripes) == ("vertical", ("blue", "white", "red"))
    assert (sweden.field, sweden.stripes) == ("blue", ())
    assert read(FLAGS["JM"]).field == ""  # a saltire leaves no single ground
    assert read(FLAGS["DE"]).colours == {"black", "red", "yellow"}
    assert read(FLAGS["LV"]).colours == {"maroon", "white"}
    assert read(FLAGS["SO"]).colours == {"light blue", "white"}


def test_the_flags_that_are_red_with_a_cross_are_these_four(scripts):
    found = set()
    for code, description in FLAGS.items():
        captions = scripts["captions"].write_captions(scripts["geometry"].read_flag(description), random.Random(0))
        if "field red + one cross" in {caption.statement for caption in captions}:
            found.add(code)
    assert found == {"CH", "DK", "NO", "TO"}


def test_the_full_caption_says_everything_once(scripts):
    def full(code, seed):
        captions = scripts["captions"].write_captions(
            scripts["geometry"].read_flag(FLAGS[code]), random.Random(f"{seed}")
        )
        return {caption.text for caption in captions if caption.kind == "exact"}

    denmark, germany = (set().union(*(full(code, seed) for seed in range(60))) for code in ("DK", "DE"))
    assert "a white cross on a red flag" in denmark
    assert "three horizontal stripes of black, red and gold" in germany
    assert "black, red and yellow horizontal stripes" in germany
    assert all("white" in text and "cross" in text and "red" in text for text in denmark)


def test_no_words_say_two_things(scripts):
    said = defaultdict(set)
    for code, description in FLAGS.items():
        facts = scripts["geometry"].read_flag(description)
        for seed in range(3):
            for caption in scripts["captions"].write_captions(facts, random.Random(f"{code} {seed}")):
                said[caption.text].add(caption.statement)
                assert re.fullmatch(r"[a-z]+(,? [a-z]+)*", caption.text), caption.text
    assert [text for text, statements in said.items() if len(statements) > 1] == []
    assert len(said) > 3000


def test_every_statement_of_a_flag_is_made_once_and_one_is_exact(scripts):
    for code, description in FLAGS.items():
        captions = scripts["captions"].write_captions(scripts["geometry"].read_flag(description), random.Random(code))
        assert len({caption.statement for caption in captions}) == len(captions)
        assert [caption.kind for caption in captions].count("exact") == 1


@pytest.mark.parametrize(
    ("hex_colour", "name"),
    [
        ("#C8102E", "red"), ("#8A1538", "maroon"), ("#FF883E", "orange"), ("#FFB81C", "yellow"), ("#01411C", "green"),
        ("#00778B", "teal"), ("#75B2DD", "light blue"), ("#0072CE", "blue"), ("#010066", "blue"), ("#F4F5F0", "white"),
        ("#000000", "black"), ("#808080", "grey"),
    ],
)  # fmt: skip
def test_colours_have_the_names_that_people_give_them(scripts, hex_colour, name):
    assert scripts["geometry"].colour_name(hex_colour) == name


def test_made_up_flags_are_read_as_what_they_were_made_of(scripts):
    """A flag of the same seed is the same, every one can be painted, and its colours are those of its layers."""
    one, other = (scripts["made"].FlagMaker(random.Random(7)) for _ in range(2))
    read, name = scripts["geometry"].read_flag, scripts["geometry"].colour_name
    for _ in range(150):
        flag = one.make()
        assert flag == other.make()
        text = str(flag["layers"])
        named = {name(colour) for colour in re.findall("#[0-9A-F]{6}", text)}
        if "union_jack" in text:
            named |= {"red", "white", "blue"}
        assert read(flag).colours <= named


def test_a_made_up_flag_with_the_full_caption_of_a_held_out_one_is_thrown_away(scripts):
    made = list(scripts["draw"].make_flags(60, set(), 0))
    forbidden = {captions[0].statement for _, captions in made[:20]}
    others = [captions[0].statement for _, captions in scripts["draw"].make_flags(60, forbidden, 0)]
    assert len(others) == 60
    assert not forbidden & set(others)


def test_no_flag_is_both_trained_and_tested_on(tmp_path):
    command = [sys.executable, str(ATLAS / "draw_captioned_flags.py"), str(tmp_path), "--made", "30", "--valid", "3"]
    subprocess.run(command, check=True, capture_output=True)
    lines = (tmp_path / "index.tsv").read_text(encoding="utf-8").splitlines()
    rows = [dict(zip(lines[0].split("\t"), line.split("\t"), strict=True)) for line in lines[1:]]
    shown, exact = defaultdict(set), defaultdict(set)
    for row in rows:
        shown[row["split"]].add(row["shows"])
        if row["kind"] == "exact":
            exact[row["split"]].add(row["statement"])
        assert (tmp_path / row["file"]).exists()
    assert not shown["train"] & shown["test"]
    assert shown["test"] == shown["test_distorted"]
    assert shown["atlas"] == shown["look_alike"] == set(FLAGS)
    assert not exact["train"] & (exact["valid"] | exact["test"])  # nor one that looks the same
    # A picture of the atlas is the bundled one.
    bundled, written = (
        Image.open(folder / "de.png").convert("RGB") for folder in (ATLAS / "flags", tmp_path / "atlas")
    )
    assert bundled.tobytes() == written.tobytes()
