"""What is kept of an entity's pictures, and what is said of the rest."""

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmkg.config.images import GatesConfig, ImagesConfig
from mmkg.errors import ImageError
from mmkg.images import gates
from mmkg.images.duplicates import find_near_duplicates
from mmkg.images.gates import REASONS, judge
from mmkg.images.margins import prepare_prompts, score_pictures, type_words, write_prompt
from tests.images.judging import DIMENSION, World, precision_and_recall, scene, text_vector, unit
from tests.images.made_pictures import encode

COUNTRY = "http://dbpedia.org/ontology/Country"


def only(rows: list[dict[str, Any]]) -> tuple[str, str]:
    (row,) = rows
    return row["status"], row["reason"]


def noise(seed: int, size: tuple[int, int] = (64, 64), level: int = 120) -> Image.Image:
    """Next to nothing: one value to either side of a grey."""
    values = np.random.default_rng(seed).integers(level - 1, level + 2, (*size, 3), np.uint8)
    return Image.fromarray(values)


@pytest.mark.parametrize(
    ("picture", "status", "reason"),
    [
        (scene(1), "ok", "place 1 of 1"),
        (scene(1, (500, 24)), "too_small", "24 px < 32 px"),
        (scene(1, (500, 40)), "too_long", "500 px : 40 px = 12.5 > 8"),
        (noise(1), "blank", "deviation 0.6 < 4, 1 colour < 2"),
        (Image.new("RGBA", (64, 64), (255, 0, 0, 0)), "blank", "deviation 0.0 < 4, 1 colour < 2"),
        (b"<svg />", "unsupported", "svg is not decoded; jpeg, png, gif, webp, bmp, tiff, avif, ico are"),
    ],
)
def test_the_first_gate_that_fails_names_the_status_and_the_number(
    picture: Image.Image | bytes, status: str, reason: str, tmp_path: Path
) -> None:
    world = World(["Peru"])
    world.add(0, picture)
    assert only(world.judge(tmp_path)) == (status, reason)


def test_two_colours_of_one_brightness_are_not_blank(tmp_path: Path) -> None:
    world = World(["Peru"])
    flag = Image.new("RGB", (64, 64), (200, 80, 60))  # luminance 0.299 R + 0.587 G + 0.114 B: 114 and 114
    flag.paste((60, 133, 158), (32, 0, 64, 64))
    world.add(0, flag)
    (row,) = world.judge(tmp_path)
    assert row["status"] == "ok"


def test_what_did_not_come_keeps_the_status_of_its_attempt(tmp_path: Path) -> None:
    world = World(["Peru", "Chile"])
    world.add_failed(0, "http_404", "answers 404 Not Found")
    world.add_failed(1, "timeout", "")
    tables = world.tables()
    counts = judge(ImagesConfig(), **tables, folder=tmp_path / "a")
    assert counts == {"candidates": 2, "entities": 0, "ok": 0, "http_404": 1, "timeout": 1}
    tables["resolved"] = tables["resolved"].slice(0, 1)
    counts = judge(ImagesConfig(), **tables, folder=tmp_path / "b")
    assert counts["not_tried"] == 1
    tables["pictures"] = tables["pictures"].slice(0, 0)
    lost = World(["Peru"])
    lost.add(0, scene(1))
    tables = lost.tables()
    tables["pictures"] = tables["pictures"].slice(0, 0)
    assert judge(ImagesConfig(), **tables, folder=tmp_path / "c")["not_decoded"] == 1


def test_a_licence_that_does_not_permit_training_is_stopped_where_that_is_asked(tmp_path: Path) -> None:
    world = World(["Peru"])
    for seed, licence in enumerate(("CC BY-SA 4.0", "CC BY-NC 2.0", None)):
        world.add(0, scene(seed), licence=licence)
    assert {row["status"] for row in world.judge(tmp_path / "all")} == {"ok"}
    rows = world.judge(tmp_path / "asked", training_licences_only=True)
    assert [(row["status"], row["reason"]) for row in rows] == [
        ("ok", "place 1 of 1"),
        ("licence", "'CC BY-NC 2.0' is not known to permit training"),
        ("licence", "nobody says under which licence it is"),
    ]


def test_of_an_entity_s_near_duplicates_the_largest_is_kept(tmp_path: Path) -> None:
    world = World(["Peru", "Chile"])
    small = world.add(0, scene(1))
    large = world.add(0, encode(scene(1, (480, 360)), "JPEG"))
    again = world.add(0, encode(scene(1, (480, 360)), "JPEG"), url="https://example.org/again")
    world.add(0, scene(2))
    world.add(1, scene(1))  # another entity may have the same picture
    rows = {row["url"]: row for row in world.judge(tmp_path)}
    assert [row["status"] for row in rows.values()] == ["duplicate", "ok", "duplicate", "ok", "ok"]
    sha256 = hashlib.sha256(world.served[large]).hexdigest()
    assert rows[small]["duplicate_of"] == rows[again]["duplicate_of"] == rows[large]["sha256"] == sha256
    assert rows[small]["reason"].endswith(f"of 64 bits from {large}")
    assert rows[again]["reason"] == f"the same bytes as {large}"
    assert rows[large]["duplicate_of"] is None
    assert [row["num_entities"] for row in rows.values()] == [2, 2, 2, 1, 2]


def test_of_equal_pictures_one_whose_licence_is_known_is_kept(tmp_path: Path) -> None:
    world = World(["Peru"])
    world.add(0, scene(1), url="https://example.org/first")
    world.add(0, scene(1), url="https://example.org/second", licence="CC BY 4.0")
    kept = [row["url"] for row in world.judge(tmp_path) if row["status"] == "ok"]
    assert kept == ["https://example.org/second"]


def test_a_picture_that_too_many_entities_have_is_generic_with_its_near_duplicates(tmp_path: Path) -> None:
    world = World([f"country {place}" for place in range(6)])
    for place in range(4):
        world.add(place, scene(1, (96 + 10 * place, 72)))  # four contents that look the same
    for place in range(3):
        world.add(place, scene(2))  # one content of three entities
    rows = world.judge(tmp_path, max_entities=3)
    assert [row["status"] for row in rows] == ["generic"] * 4 + ["ok"] * 3
    assert rows[0]["reason"] == "4 entities have it or a near-duplicate > 3"
    assert [row["num_entities"] for row in rows] == [4] * 4 + [3] * 3


def test_one_look_of_many_contents_is_compared_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def find(hashes: np.ndarray, *more: Any) -> np.ndarray:
        compared.append(len(hashes))
        return find_near_duplicates(hashes, *more)

    monkeypatch.setattr(gates, "find_near_duplicates", find)
    world = World([f"country {place}" for place in range(30)])
    for place in range(30):
        world.add(place, encode(scene(1), "PNG") + str(place).encode())  # what follows the end of a PNG is not shown
    world.add(0, scene(2))
    world.add(0, encode(scene(2), "PNG") + b"again")
    rows = world.judge(tmp_path, max_entities=30)
    assert compared == [2]
    assert [row["num_entities"] for row in rows] == [30] * 30 + [1, 1]
    assert [row["status"] for row in rows] == ["ok"] * 31 + ["duplicate"]
    assert rows[-1]["reason"].startswith("0 of 64 bits from")


def test_blank_pictures_do_not_make_each_other_generic(tmp_path: Path) -> None:
    world = World([f"country {place}" for place in range(6)])
    for place in range(6):
        world.add(place, noise(place))
    assert {row["status"] for row in world.judge(tmp_path, max_entities=2)} == {"blank"}


def test_what_looks_like_a_placeholder_is_stopped_in_any_size_and_format(tmp_path: Path) -> None:
    placeholder = tmp_path / "no-picture.png"
    placeholder.write_bytes(encode(scene(9), "PNG"))
    world = World(["Peru"])
    world.add(0, encode(scene(9, (200, 150)), "JPEG"))
    inverted = Image.fromarray(255 - np.asarray(scene(9)))
    world.add(0, inverted)
    rows = world.judge(tmp_path / "out", placeholders=(str(placeholder),))
    assert [row["status"] for row in rows] == ["placeholder", "ok"]
    assert "of 64 bits from no-picture.png, at most 6" in rows[0]["reason"]


def test_a_placeholder_that_is_none_is_an_error(tmp_path: Path) -> None:
    world = World(["Peru"])
    world.add(0, scene(1))
    with pytest.raises(ImageError, match=r"missing\.png.*cannot be read"):
        world.judge(tmp_path / "a", placeholders=(str(tmp_path / "missing.png"),))
    words = tmp_path / "words.png"
    words.write_bytes(b"words")
    with pytest.raises(ImageError, match="is no picture: not_a_picture"):
        world.judge(tmp_path / "b", placeholders=(str(words),))


def test_prompts_say_what_a_thing_is() -> None:
    assert write_prompt("Peru", [COUNTRY]) == "a picture of Peru, a country"
    assert write_prompt("Peru", ["http://www.w3.org/2002/07/owl#Thing", COUNTRY]) == "a picture of Peru, a country"
    assert write_prompt("Elvis", ["http://rdf.freebase.com/ns/film.actor"]) == "a picture of Elvis, an actor"
    assert write_prompt("Peru", []) == "a picture of Peru"
    assert type_words("http://yago-knowledge.org/resource/Human_settlement_Q486972") == "human settlement"
    assert type_words("http://dbpedia.org/ontology/TVShow") == "tv show"


def test_a_margin_is_the_score_less_the_nearest_distractor_s(tmp_path: Path) -> None:
    world = World(["Peru", "Chile", "Bolivia", None], types=[[COUNTRY]] * 4)
    own, other = (text_vector(f"a picture of {name}, a country") for name in ("Peru", "Chile"))
    right = unit(own + 0.2 * other)
    world.add(0, scene(1), vector=right)
    world.add(0, scene(2), vector=other)  # shows Chile
    world.add(0, scene(3))  # has no vector: passes
    world.add(3, scene(4), vector=right)  # has no label: passes
    rows = world.judge(tmp_path, with_scorer=True, min_margin=0.1)
    assert [row["status"] for row in rows] == ["ok", "margin", "ok", "ok"]
    expected = float(right @ own)
    nearest = max(float(right @ text_vector(f"a picture of {name}, a country")) for name in ("Chile", "Bolivia"))
    assert rows[0]["score"] == pytest.approx(expected, abs=1e-6)
    assert rows[0]["margin"] == pytest.approx(expected - nearest, abs=1e-6)
    assert rows[1]["margin"] == pytest.approx(float(other @ own) - 1, abs=1e-6)
    assert rows[1]["reason"].startswith(f"{rows[1]['margin']:.3f} < 0.1")
    assert [(row["score"], row["margin"]) for row in rows[2:]] == [(None, None)] * 2


def test_without_a_least_margin_margins_are_written_and_stop_nothing(tmp_path: Path) -> None:
    world = World(["Peru", "Chile"])
    world.add(0, scene(1), vector=text_vector("a picture of Chile"))
    (row,) = world.judge(tmp_path, with_scorer=True)
    assert row["status"] == "ok"
    assert row["margin"] < 0


def test_an_entity_of_the_same_label_is_no_distractor(tmp_path: Path) -> None:
    world = World(["Georgia", "GEORGIA", "Peru"])
    world.add(0, scene(1), vector=text_vector("a picture of Georgia"))
    (row,) = world.judge(tmp_path, with_scorer=True)
    assert row["margin"] == pytest.approx(1 - float(row_of("Georgia") @ row_of("Peru")), abs=1e-6)


def row_of(label: str) -> np.ndarray:
    return text_vector(f"a picture of {label}")


@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 5))
@settings(max_examples=25)
def test_margins_are_those_of_the_definition(num_entities: int, num_distractors: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = [f"name {rng.integers(num_entities)}" for _ in range(num_entities)]
    world = World(list(labels))
    sha256s = [f"{place}" for place in range(8)]
    world.vectors = {sha256: unit(rng.standard_normal(DIMENSION)) for sha256 in sha256s}
    owners = rng.integers(num_entities, size=8)
    prompts = prepare_prompts(world.tables()["entities"], np.unique(owners), num_distractors, seed)
    found = score_pictures(world.scorer(), prompts, sha256s, owners.tolist())
    for place, owner in enumerate(owners):
        vector = world.vectors[sha256s[place]]
        others = [label for label, _ in prompts.distractors if label != labels[owner]][:num_distractors]
        score = float(vector @ row_of(labels[owner]))
        assert found.score[place] == pytest.approx(score, abs=1e-5)
        if others:
            assert found.margin[place] == pytest.approx(
                score - max(float(vector @ row_of(x)) for x in others), abs=1e-5
            )
        else:
            assert np.isnan(found.margin[place])
    assert len({label for label, _ in prompts.distractors}) == len(prompts.distractors) <= num_distractors + 1


def test_the_distractors_are_drawn_by_the_seed(tmp_path: Path) -> None:
    entities: ds.Dataset = World([f"name {place}" for place in range(500)]).tables()["entities"]
    nobody = np.empty(0, np.int64)
    draws = [prepare_prompts(entities, nobody, 10, seed).distractors for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert len(draws[0]) == 11


def test_the_best_are_kept_by_size_where_there_are_no_scores(tmp_path: Path) -> None:
    world = World(["Peru"])
    for seed, size in enumerate([(96, 72), (320, 240), (200, 150), (64, 48)]):
        world.add(0, scene(seed + 40, size))
    rows = world.judge(tmp_path, keep=2, diversity=0)
    assert [(row["status"], row["rank"]) for row in rows] == [
        ("not_best", None),
        ("ok", 0),
        ("ok", 1),
        ("not_best", None),
    ]
    assert [rows[place]["reason"] for place in (0, 3)] == ["place 3 of 4, 2 are kept", "place 4 of 4, 2 are kept"]


def test_difference_of_vectors_counts_against_score(tmp_path: Path) -> None:
    world = World(["Peru", "Chile"])
    own = text_vector("a picture of Peru")
    away = unit(np.random.default_rng(5).standard_normal(DIMENSION) * np.sign(own))
    best = world.add(0, scene(1), vector=own)
    same = world.add(0, scene(2), vector=unit(own + 0.01 * away))
    different = world.add(0, scene(3), vector=unit(own + 2 * away))
    worst = world.add(0, scene(4), vector=unit(away))
    for diversity, expected in ((0.0, [best, same, different, worst]), (0.9, [best, worst, different, same])):
        rows = world.judge(tmp_path / str(diversity), with_scorer=True, diversity=diversity, keep=4)
        assert [row["url"] for row in sorted(rows, key=lambda row: row["rank"])] == expected


def labelled_world() -> tuple[World, dict[str, str]]:
    """60 entities with pictures of every kind, and the gate that each is made to fail."""
    rng = np.random.default_rng(0)
    world = World([f"place {number}" for number in range(60)], types=[[COUNTRY]] * 60)
    truth: dict[str, str] = {}

    def text(entity: int) -> np.ndarray:
        return text_vector(f"a picture of place {entity}, a country")

    def shows(entity: int) -> np.ndarray:  # 1.3: so noisy that some are mistaken for others
        return unit(text(entity) + 1.3 * unit(rng.standard_normal(DIMENSION)))

    for entity in range(60):
        good = scene(1_000 + entity, (160, 120))
        truth[world.add(entity, good, vector=shows(entity))] = "ok"
        truth[world.add(entity, encode(good.resize((120, 90)), "JPEG"), vector=shows(entity))] = "duplicate"
        other = scene(5_000 + entity)
        truth[world.add(entity, other, vector=shows((entity + 7) % 60))] = "margin"
        truth[world.add(entity, noise(entity, level=40 + 3 * entity), vector=shows(entity))] = "blank"
        if entity % 2:
            icon = scene(77, (64 + entity, 64))
            truth[world.add(entity, icon, vector=shows(entity))] = "generic"
        if entity % 3 == 0:
            truth[world.add(entity, scene(2_000 + entity, (60, 30)), vector=shows(entity))] = "too_small"
            truth[world.add(entity, scene(3_000 + entity, (640, 40)), vector=shows(entity))] = "too_long"
        if entity % 4 == 0:
            missing = encode(scene(88, (80 + entity, 80)), "JPEG")
            truth[world.add(entity, missing, vector=shows(entity))] = "placeholder"
    return world, truth


def test_precision_and_recall_of_every_gate_on_a_labelled_set(tmp_path: Path) -> None:
    world, truth = labelled_world()
    placeholder = tmp_path / "missing.png"
    placeholder.write_bytes(encode(scene(88), "PNG"))
    rows = world.judge(tmp_path / "out", with_scorer=True, placeholders=(str(placeholder),), min_margin=0.0)
    found = {gate: precision_and_recall(rows, truth, gate) for gate in sorted(set(truth.values()))}
    exact = {"blank", "duplicate", "generic", "placeholder", "too_long", "too_small"}
    assert {gate: found[gate] for gate in exact} == dict.fromkeys(exact, (1.0, 1.0))
    assert found["margin"] == pytest.approx((60 / 62, 1.0))
    assert found["ok"] == pytest.approx((1.0, 58 / 60))
    assert all(row["reason"] for row in rows)
    assert {row["status"] for row in rows} <= {"ok", *REASONS}


def test_the_same_input_gives_the_same_bytes_in_any_order_of_pictures(tmp_path: Path) -> None:
    world, _ = labelled_world()
    tables = world.tables()
    digests = set()
    for turn in range(2):
        folder = tmp_path / str(turn)
        judge(ImagesConfig(gates=GatesConfig(min_margin=0.0)), **tables, folder=folder, scorer=world.scorer())
        digests.add(hashlib.sha256((folder / "images" / "part-00000.parquet").read_bytes()).hexdigest())
        tables["pictures"] = tables["pictures"].sort_by([("sha256", "descending")])
        tables["resolved"] = tables["resolved"].sort_by([("url", "descending")])
    assert len(digests) == 1


def test_no_candidates_give_an_empty_table(tmp_path: Path) -> None:
    assert World(["Peru"]).judge(tmp_path) == []


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 3)), max_size=12))
@settings(max_examples=20)
def test_every_candidate_gets_one_row_with_a_reason(picks: list[tuple[int, int, int]]) -> None:
    world = World(["a", "b", None, "d"])
    for place, (entity, seed, kind) in enumerate(picks):
        url = f"https://example.org/{place}"
        if kind == 0:
            world.add_failed(entity, "http_404", "answers 404", url=url)
        elif kind == 1:
            world.add(entity, noise(seed), url=url)
        else:
            world.add(entity, scene(seed), url=url)
    with tempfile.TemporaryDirectory() as folder:
        rows = world.judge(Path(folder), keep=2)
    assert [(row["entity_index"], row["url"]) for row in rows] == [
        (row["entity_index"], row["url"]) for row in world.candidates
    ]
    assert all(row["reason"] for row in rows)
    for entity in range(4):
        ranks = sorted(row["rank"] for row in rows if row["entity_index"] == entity and row["rank"] is not None)
        assert ranks == list(range(len(ranks)))
        assert len(ranks) <= 2
    for row in rows:
        assert (row["status"] == "ok") == (row["rank"] is not None)
        assert (row["status"] == "duplicate") == (row["duplicate_of"] is not None)
