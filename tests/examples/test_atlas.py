"""The bundled graph: its facts make sense, its dumps are fresh, and each has the dirt that ``expected.json`` says."""

import gzip
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyoxigraph
import pytest
from PIL import Image, ImageChops

ATLAS = Path(__file__).parents[2] / "examples" / "atlas"
TABLES = ("countries", "cities", "languages", "currencies", "regions", "organisations")
NTRIPLES_DUMPS = ("freebase.nt.gz", "dbpedia.nt.gz", "sameas.nt")
TURTLE_DUMPS = ("dbpedia.ttl", "yago-facts.ttl", "yago-meta.ttl", "yago-taxonomy.ttl")
SAME_AS = "http://www.w3.org/2002/07/owl#sameAs"
# A real MID: no vowel, so that none can be one of the atlas's own nodes (m.atlas_...).
MID = re.compile(r"m\.0[0-9bcdfghjklmnpqrstvwxyz_]{2,7}")


def run(script: str, *arguments: str) -> None:
    subprocess.run([sys.executable, str(ATLAS / script), *arguments], check=True, capture_output=True)


def read_table(name: str) -> list[dict[str, str]]:
    header, *lines = (ATLAS / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
    return [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]


def read_lines(dump: str) -> list[bytes]:
    data = (ATLAS / "dumps" / dump).read_bytes()
    data = gzip.decompress(data) if dump.endswith(".gz") else data
    assert data.endswith(b"\n")
    return data[:-1].split(b"\n")


def parses(line: bytes) -> bool:
    try:
        list(pyoxigraph.parse(line + b"\n", format=pyoxigraph.RdfFormat.N_TRIPLES))
    except SyntaxError:
        return False
    return True


def relation_triples() -> Counter[str]:
    """How many distinct triples between IRIs each source states, without types and without the dirty lines."""
    found: dict[str, set[tuple[str, str, str]]] = {}
    for dump in (*NTRIPLES_DUMPS[:2], *TURTLE_DUMPS[:2]):
        lines = read_lines(dump)
        if dump in NTRIPLES_DUMPS:
            lines = [line for line in lines if parses(line)]
            quads = pyoxigraph.parse(b"\n".join(lines), format=pyoxigraph.RdfFormat.N_TRIPLES)
        else:
            quads = pyoxigraph.parse(b"\n".join(lines), format=pyoxigraph.RdfFormat.TURTLE)
        bucket = found.setdefault(re.split(r"[.-]", dump)[0], set())
        for quad in quads:
            if isinstance(quad.object, pyoxigraph.NamedNode) and not re.search("type|instance", quad.predicate.value):
                bucket.add((quad.subject.value, quad.predicate.value, quad.object.value))
    return Counter({source: len(triples) for source, triples in found.items()})


@pytest.fixture(scope="module")
def countries() -> dict[str, dict[str, str]]:
    return {row["iso2"]: row for row in read_table("countries")}


@pytest.fixture(scope="module")
def expected() -> dict:
    return json.loads((ATLAS / "expected.json").read_text(encoding="utf-8"))


def test_there_are_at_least_190_countries_with_all_facts(countries):
    assert len(countries) >= 190
    for row in countries.values():
        for column in ("continent", "official_languages", "currencies", "population", "area_km2", "description"):
            assert row[column], (row["name"], column)
    without_capital = {row["name"] for row in countries.values() if not row["capital"]}
    assert without_capital == {"Monaco", "Singapore", "Vatican City"}  # city states


def test_the_numbers_make_sense(countries):
    assert 7.3e9 < sum(int(row["population"]) for row in countries.values()) < 8.3e9
    land = sum(float(row["area_km2"]) for row in countries.values())
    assert 1.28e8 < land < 1.37e8  # the Earth's land without Antarctica: about 1.35e8 km²
    largest = sorted(countries, key=lambda iso2: -float(countries[iso2]["area_km2"]))[:3]
    assert largest[0] == "RU"
    assert set(largest[1:]) <= {"CA", "US", "CN"}
    for row in [*countries.values(), *read_table("cities")]:
        assert -56 < float(row["latitude"]) < 70, row["name"]
        assert -180 <= float(row["longitude"]) <= 180, row["name"]


def test_borders_are_symmetric(countries):
    for iso2, row in countries.items():
        for other in row["neighbours"].split():
            assert iso2 in countries[other]["neighbours"].split(), (iso2, other)
            assert iso2 != other


def test_island_and_landlocked_countries_have_the_neighbours_they_can_have(countries):
    for row in countries.values():
        if row["kind"] == "landlocked country":
            assert row["neighbours"], row["name"]
    shared_islands = {"Dominican Republic", "Haiti", "Ireland", "Indonesia", "East Timor", "Papua New Guinea", "Brunei"}
    islands = {row["name"] for row in countries.values() if row["kind"] == "island country"}
    assert {row["name"] for row in countries.values() if row["name"] in islands and row["neighbours"]} <= shared_islands


def test_every_code_in_a_row_has_a_row_of_its_own(countries):
    languages = {row["code"] for row in read_table("languages")}
    currencies = {row["code"] for row in read_table("currencies")}
    regions = {row["key"] for row in read_table("regions")}
    capitals = {(row["title"], row["country"]) for row in read_table("cities") if row["is_capital"] == "yes"}
    for iso2, row in countries.items():
        assert set(row["official_languages"].split()) <= set(row["languages"].split()) <= languages
        assert set(row["currencies"].split()) <= currencies
        assert {row["continent"], row["subregion"] or row["continent"]} <= regions
        assert not row["capital"] or (row["capital"], iso2) in capitals
    for row in read_table("organisations"):
        assert {entry.split("=")[0] for entry in row["members"].split()} <= set(countries)


def test_no_two_entities_share_a_title_or_a_mid():
    rows = [row for table in TABLES for row in read_table(table)]
    assert [title for title, count in Counter(row["title"] for row in rows).items() if count > 1] == []
    mids = Counter(row["mid"] for row in rows if row["mid"])
    assert [mid for mid, count in mids.items() if count > 1] == []


def test_every_mid_has_the_shape_of_a_real_one():
    for table in TABLES:
        for row in read_table(table):
            assert not row["mid"] or MID.fullmatch(row["mid"]), row
    known = {row["mid"] for table in TABLES for row in read_table(table) if row["mid"]}
    written = set(re.findall(rb"/ns/(m\.\w+)>", b"\n".join(read_lines("freebase.nt.gz"))))
    own = {mid for mid in written if mid.startswith(b"m.atlas_")}
    assert {mid.decode() for mid in written - own} == known


@pytest.mark.shared
def test_mids_agree_with_the_gold_table(countries, shared_data):
    lines = (shared_data / "images" / "gold_image_entity.tsv").read_text(encoding="utf-8").splitlines()
    gold = {}
    for line in lines[1:]:
        path, _, _, mid, *_ = line.split("\t")
        if path.startswith("images/country_flags/") and mid:
            gold[Path(path).stem.upper()] = mid.removeprefix("/").replace("/", ".")
    both = gold.keys() & {iso2 for iso2, row in countries.items() if row["mid"]}
    assert len(both) > 120
    assert {iso2: countries[iso2]["mid"] for iso2 in both} == {iso2: gold[iso2] for iso2 in both}


def test_dumps_are_fresh(tmp_path):
    run("write_dumps.py", "--output", str(tmp_path))
    names = sorted(path.name for path in (tmp_path / "dumps").iterdir())
    assert names == sorted([*NTRIPLES_DUMPS, *TURTLE_DUMPS])
    assert names == sorted(path.name for path in (ATLAS / "dumps").iterdir())
    for name in names:
        assert (tmp_path / "dumps" / name).read_bytes() == (ATLAS / "dumps" / name).read_bytes(), name
    assert (tmp_path / "expected.json").read_bytes() == (ATLAS / "expected.json").read_bytes()


def test_flags_are_fresh(tmp_path):
    run("draw_flags.py", "--output", str(tmp_path))
    assert (tmp_path / "index.tsv").read_bytes() == (ATLAS / "flags" / "index.tsv").read_bytes()
    drawn = sorted(path.name for path in tmp_path.glob("*.png"))
    assert drawn == sorted(path.name for path in (ATLAS / "flags").glob("*.png"))
    for name in drawn:
        with Image.open(tmp_path / name) as new, Image.open(ATLAS / "flags" / name) as kept:
            assert new.size == kept.size, name
            difference = ImageChops.difference(new.convert("RGB"), kept.convert("RGB"))
            # Encoders and palettes may differ between versions of Pillow by a shade, the picture may not.
            assert max(high for _, high in difference.getextrema()) <= 24, name


def test_at_least_60_flags_each_small_and_listed(countries):
    listed = read_table("flags/index")
    assert len(listed) >= 60
    assert {row["file"] for row in listed} == {path.name for path in (ATLAS / "flags").glob("*.png")}
    for row in listed:
        assert row["dbpedia"] == "http://dbpedia.org/resource/" + countries[row["iso2"]]["title"].replace(" ", "_")
        assert row["label"] == countries[row["iso2"]]["name"]
        with Image.open(ATLAS / "flags" / row["file"]) as flag:
            assert flag.width == 240
    assert sum(path.stat().st_size for path in (ATLAS / "flags").iterdir()) < 300_000


def test_flags_have_the_colours_one_expects_where_one_expects_them():
    def colour(iso2: str, x: float, y: float) -> tuple[int, int, int]:
        with Image.open(ATLAS / "flags" / f"{iso2}.png") as flag:
            pixels = flag.convert("RGB")
            return pixels.getpixel((round(x * (pixels.width - 1)), round(y * (pixels.height - 1))))

    blue, white, red = (colour("fr", x, 0.5) for x in (0.1, 0.5, 0.9))
    assert blue[2] > 2 * blue[0]
    assert min(white) > 240
    assert red[0] > 2 * red[2]
    assert min(colour("jp", 0.05, 0.5)) > 240 > 150 > colour("jp", 0.5, 0.5)[1]
    assert max(colour("be", 0.1, 0.5)) < 30  # black at the hoist
    assert min(colour("ch", 0.5, 0.5)) > 240  # the white cross
    # At the hoist the broad white arm of the Union Jack is above the red one.
    column = [colour("gb", 0.2, y / 100) for y in range(5, 35)]
    first_white = next(index for index, pixel in enumerate(column) if min(pixel) > 240)
    first_red = next(index for index, pixel in enumerate(column) if pixel[0] > 150 > 80 > pixel[1])
    assert first_white < first_red


@pytest.mark.parametrize("dump", NTRIPLES_DUMPS)
def test_only_the_dirty_lines_do_not_parse(dump, expected):
    counts, lines = expected["dumps"][dump], read_lines(dump)
    comments = sum(line.startswith(b"#") for line in lines)
    blank = sum(not line for line in lines)
    dirty = {note["line"] for note in (*counts["rejects"], *counts["repaired"])}
    bad = {number for number, line in enumerate(lines, start=1) if not parses(line)}
    assert bad == dirty
    assert (len(lines), comments, blank) == (counts["lines"], counts["comments"], counts["blank"])
    assert counts["lines"] == counts["statements"] + len(counts["rejects"]) + counts["comments"] + counts["blank"]


@pytest.mark.parametrize("dump", [name for name in NTRIPLES_DUMPS if name.endswith(".gz")])
def test_repaired_lines_parse_once_the_iri_is_encoded(dump, expected):
    lines = read_lines(dump)
    assert expected["dumps"][dump]["repaired"]
    for note in expected["dumps"][dump]["repaired"]:
        encoded = re.sub(
            rb"<[^>]*>", lambda m: m[0].replace(b" ", b"%20").replace(b"`", b"%60"), lines[note["line"] - 1]
        )
        assert parses(encoded)


@pytest.mark.parametrize("dump", TURTLE_DUMPS)
def test_turtle_dumps_parse_to_the_counted_triples(dump, expected):
    quads = list(pyoxigraph.parse(b"\n".join(read_lines(dump)), format=pyoxigraph.RdfFormat.TURTLE))
    counts = expected["dumps"][dump]
    assert len(read_lines(dump)) == counts["lines"]
    if dump == "yago-meta.ttl":  # a quoted triple is read as a node that reifies it, one more triple a statement
        quads = [quad for quad in quads if not quad.predicate.value.endswith("#reifies")]
    assert len(quads) == counts["statements"]
    if dump != "yago-meta.ttl":
        assert len(set(quads)) == len(quads)


def test_gzip_files_hold_no_time_and_no_name():
    for dump in NTRIPLES_DUMPS[:2]:
        head = (ATLAS / "dumps" / dump).read_bytes()[:10]
        assert head[3] == 0  # no file name, no comment
        assert head[4:8] == bytes(4)  # no time


def test_the_planted_link_is_there_once_and_joins_two_countries(expected):
    planted = expected["planted_link"]
    lines = read_lines("sameas.nt")

    def link(tail: str) -> bytes:
        return f"<{planted['head']}> <{SAME_AS}> <{tail}> .".encode()

    assert lines.count(link(planted["tail"])) == 1
    assert lines.count(link(planted["right_tail"])) == 1
    tails = Counter(line.split()[2] for line in lines if line.startswith(b"<"))
    assert [tail for tail, count in tails.items() if count > 1] == [f"<{planted['tail']}>".encode()]


def test_every_source_has_at_least_1000_relation_triples_and_all_3000():
    counts = relation_triples()
    assert set(counts) == {"freebase", "dbpedia", "yago"}
    assert min(counts.values()) >= 1000
    assert counts.total() >= 3000


def test_the_questions_have_the_answers_everyone_knows(expected):
    answers = {entry["question"]: entry["answer"] for entry in expected["questions"]}
    assert answers["Which countries border Switzerland?"] == ["Austria", "France", "Germany", "Italy", "Liechtenstein"]
    assert answers["Which countries border both France and Germany?"] == ["Belgium", "Luxembourg", "Switzerland"]
    portuguese = set(answers["In which countries is Portuguese an official language?"])
    assert {"Portugal", "Brazil", "Angola", "Mozambique", "East Timor"} <= portuguese
    assert len(portuguese) == 9


def test_the_readme_names_every_dirty_line(expected):
    readme = (ATLAS / "README.md").read_text(encoding="utf-8")
    for dump, counts in expected["dumps"].items():
        for note in (*counts["rejects"], *counts["repaired"]):
            assert f"| `{dump}` | {note['line']:,} | {note['reason']} |" in readme


def test_the_atlas_is_small():
    files = [path for path in ATLAS.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) < 2_000_000
