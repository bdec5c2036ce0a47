"""MARS and MarKG: what a line becomes, what is refused and how the message ends the search."""

import gzip
import json

import numpy as np
import pytest

from mmkg.errors import ConfigError, DumpError
from mmkg.tasks.mars import as_columns, read_candidates, read_markg, read_mars

ITEM = {"example": ["Q1", "Q2"], "question": "Q3", "answer": "Q4", "relation": "P1", "mode": 0}
FILES = {
    "entity2text.txt": "Q1\tAlgeria\nQ2\tAlgiers\nQ3\tPeru\nQ4\tLima\n",
    "entity2textlong.txt": "Q2\tcapital of Algeria\nQ1\tcountry in North Africa\nQ4\t\n",
    "relation2text.txt": "P1\tcapital\nA1\tkind of\n",
    "relation2textlong.txt": "P1\tseat of government\n",
    "wiki_tuple_ids.txt": "Q3\tP1\tQ4\nQ1\tP1\tQ2\nQ3\tA1\tQ1\nQ1\tP1\tQ2\n",
    "train.json": json.dumps(ITEM) + "\n" + json.dumps(ITEM | {"mode": 1}) + "\n" + json.dumps(ITEM | {"mode": 2}),
    "analogy_entities.txt": "Q4\nQ2\n",
}


@pytest.fixture
def folder(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def with_item(folder, item):
    """MARS with a good line and then this one; what reading it says."""
    line = item if isinstance(item, str) else json.dumps(item)
    (folder / "dev.json").write_text(f"{json.dumps(ITEM)}\n{line}\n", encoding="utf-8")
    with pytest.raises(DumpError) as caught:
        read_mars(folder, "dev", read_markg(folder))
    return str(caught.value)


@pytest.mark.capability("MR-02")
def test_modes_become_the_modalities_of_example_head_example_tail_and_question(folder):
    items = read_mars(folder, "train", read_markg(folder))
    assert [item.modalities for item in items] == [
        ("text", "text", "image"),
        ("image", "image", "text"),
        ("image", "text", "image"),
    ]


@pytest.mark.capability("MR-02")
def test_items_hold_indices_of_markg(folder):
    items = read_mars(folder, "train", read_markg(folder))
    assert as_columns(items).tolist() == [[0, 1, 2, 3]] * 3
    assert items[0].relation == "P1"
    assert as_columns(()).shape == (0, 4)


@pytest.mark.capability("MR-02")
def test_markg_has_names_descriptions_and_sorted_distinct_triples(folder):
    markg = read_markg(folder)
    assert markg.entity_ids == ("Q1", "Q2", "Q3", "Q4")
    assert markg.names == ("Algeria", "Algiers", "Peru", "Lima")
    assert markg.descriptions == ("country in North Africa", "capital of Algeria", None, None)
    assert markg.relation_names == ("capital", "kind of")
    assert markg.relation_descriptions == ("seat of government", None)
    assert markg.triples.dtype == np.int64
    assert markg.triples.tolist() == [[0, 0, 1], [2, 0, 3], [2, 1, 0]]
    assert markg.index_of["Q3"] == 2


def test_a_repeated_triple_is_a_row_among_the_rejects(folder):
    (reject,) = read_markg(folder).rejects
    assert (reject.file, reject.line, reject.reason) == (
        "wiki_tuple_ids.txt",
        4,
        "the triple stands in an earlier line",
    )


def test_every_line_of_triples_is_a_triple_a_reject_or_blank(folder, caplog):
    lines = ["Q1\tP1\tQ2", "Q1\tP1", "", "Q9\tP1\tQ2", "Q1\tP9\tQ2", "Q1\tP1\tQ9", "Q1\tP1\tQ2\tQ3", "Q3\tP1\tQ4"]
    (folder / "wiki_tuple_ids.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    markg = read_markg(folder)
    assert [reject.line for reject in markg.rejects] == [2, 4, 5, 6, 7]
    assert len(markg.triples) + len(markg.rejects) + 1 == len(lines)
    assert "'Q9'" in markg.rejects[1].reason
    assert "rejected lines: 5" in caplog.text


def test_names_that_are_missing_repeated_or_unknown_are_rejected_but_keep_the_graph_whole(folder):
    (folder / "entity2text.txt").write_text("Q1\tAlgeria\nQ2\nQ3\tPeru\nQ1\tAgain\n\tnobody\nQ4\tLima\n")
    (folder / "entity2textlong.txt").write_text("Q1\tone\nQ1\ttwo\nQ7\tunknown\n")
    markg = read_markg(folder)
    assert markg.names == ("Algeria", "Q2", "Peru", "Lima")  # a nameless entity is called by its id
    assert markg.descriptions == ("one", None, None, None)
    assert [(reject.file, reject.line) for reject in markg.rejects[:5]] == [
        *(("entity2text.txt", line) for line in (2, 4, 5)),
        *(("entity2textlong.txt", line) for line in (2, 3)),
    ]


def test_gzipped_files_and_the_released_subfolders_read_alike(folder, tmp_path):
    packed = tmp_path / "packed"
    for name, text in FILES.items():
        below = packed / ("MARS" if name in ("train.json", "analogy_entities.txt") else "MarKG")
        below.mkdir(parents=True, exist_ok=True)
        (below / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    plain, gzipped = read_markg(folder), read_markg(packed)
    assert gzipped.triples.tolist() == plain.triples.tolist()
    assert gzipped.names == plain.names
    assert read_mars(packed, "train", gzipped) == read_mars(folder, "train", plain)
    assert read_candidates(packed, gzipped).tolist() == read_candidates(folder, plain).tolist()


def test_candidates_keep_the_order_of_their_file(folder):
    assert read_candidates(folder, read_markg(folder)).tolist() == [3, 1]


@pytest.mark.parametrize("text", ["Q4\nQ9\n", "Q4\nQ2\nQ4\n", "\n"])
def test_candidates_that_are_unknown_repeated_or_none_are_refused(folder, text):
    (folder / "analogy_entities.txt").write_text(text)
    with pytest.raises(DumpError, match=r"analogy_entities\.txt.*(Q9|line 3: Q4|found none)"):
        read_candidates(folder, read_markg(folder))


@pytest.mark.parametrize("mode", [3, "0", None, True, 1.0])
def test_an_unknown_mode_is_refused_with_file_and_line(folder, mode):
    message = with_item(folder, ITEM | {"mode": mode})
    assert "dev.json line 2: expected mode 0, 1, 2, found" in message
    assert repr(mode) in message


@pytest.mark.parametrize("key", ["example", "question", "answer", "relation", "mode"])
def test_a_missing_key_is_named(folder, key):
    message = with_item(folder, {name: value for name, value in ITEM.items() if name != key})
    assert "dev.json line 2" in message
    assert f"missing: {key}." in message


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"answer": "Q99"}, "the answer"),
        ({"question": 3}, "the question"),
        ({"example": ["Q1", "Q99"]}, "the example's tail"),
        ({"example": [["Q1"], "Q2"]}, "the example's head"),
        ({"example": ["Q1"]}, "a list of two entities"),
        ({"relation": None}, "an id such as P828"),
    ],
)
def test_an_entity_that_markg_does_not_have_and_other_wrong_values_are_named(folder, change, what):
    message = with_item(folder, ITEM | change)
    assert "dev.json line 2: expected" in message
    assert what in message


def test_json_that_was_cut_in_the_middle_says_fetch_it_again(folder):
    message = with_item(folder, json.dumps(ITEM)[:40])
    assert "dev.json line 2" in message
    assert "fetch it again" in message
    assert "expected a JSON object with example, question" in with_item(folder, "[1]")


def test_a_gzip_file_that_was_cut_or_damaged_is_an_error_of_ours(folder):
    whole = gzip.compress(FILES["train.json"].encode() * 50)
    (folder / "train.json").unlink()
    for broken in (whole[:-20], whole[:30] + b"\x00\xff" + whole[32:]):
        (folder / "train.json.gz").write_bytes(broken)
        with pytest.raises(DumpError, match=r"train\.json\.gz: cannot be read whole.*Fetch the file again"):
            read_mars(folder, "train", read_markg(folder))


def test_missing_empty_and_foreign_files_are_refused(folder):
    markg = read_markg(folder)
    with pytest.raises(DumpError, match=r"expected test\.json or test\.json\.gz, found neither"):
        read_mars(folder, "test", markg)
    with pytest.raises(ConfigError, match="no split of MARS is called 'valid'"):
        read_mars(folder, "valid", markg)
    (folder / "dev.json").write_bytes(b"\xff\xfe{\x00")
    with pytest.raises(DumpError, match=r"expected UTF-8, found byte 0xff at 0"):
        read_mars(folder, "dev", markg)
    (folder / "dev.json").write_text("\n")
    with pytest.raises(DumpError, match="expected one item a line, found none"):
        read_mars(folder, "dev", markg)
    for name in ("wiki_tuple_ids.txt", "entity2text.txt"):
        (folder / name).write_text("\n")
        with pytest.raises(DumpError, match=rf"{name}: expected .* found none"):
            read_markg(folder)


def test_a_line_separator_inside_a_name_does_not_end_the_line(folder):
    (folder / "entity2text.txt").write_text(FILES["entity2text.txt"].replace("Peru", "Pe\u2028ru"), encoding="utf-8")
    assert read_markg(folder).names[2] == "Pe\u2028ru"


@pytest.mark.shared
@pytest.mark.capability("MR-02")
def test_the_released_files_have_the_sizes_that_were_counted(shared_data):
    folder = shared_data / "tasks" / "mars"
    markg = read_markg(folder)
    assert (len(markg.entity_ids), len(markg.relation_ids), len(markg.triples)) == (11_292, 192, 33_301)
    assert len(markg.rejects) == 6  # repeated triples
    assert markg.names[markg.index_of["Q262"]] == "Algeria"
    assert markg.descriptions[markg.index_of["Q262"]] == "country in North Africa"
    counts = {}
    for split in ("train", "dev"):
        items = read_mars(folder, split, markg)
        counts[split] = (len(items), *np.bincount([item.mode for item in items]).tolist())
    assert counts == {"train": (10_641, 4_247, 4_247, 2_147), "dev": (1_020, 397, 397, 226)}
    assert len(read_candidates(folder, markg)) == 2_063
