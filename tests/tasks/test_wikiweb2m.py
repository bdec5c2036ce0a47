import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkg.errors import ConfigError, DumpError
from mmkg.tasks.first_sentence import split_first_sentence
from mmkg.tasks.json_files import count_reasons
from mmkg.tasks.wikiweb2m import Section, SectionImage, read_pages, stream_pages
from mmkg.tasks.wikiweb2m_samples import official_split, section_samples, split_pages
from tests.tasks.tfrecord_files import entry, feature, framed, message
from tests.tasks.wikiweb2m_files import alps, as_record


def write_lines(path, *pages):
    path.write_text("".join(f"{page if isinstance(page, str) else json.dumps(page)}\n" for page in pages))
    return path


def write_records(path, *records):
    path.write_bytes(gzip.compress(b"".join(map(framed, records))))
    return path


def another():
    return alps() | {"page_title": "Andes", "page_url": "https://en.wikipedia.org/wiki/Andes"}


@pytest.fixture
def shard(tmp_path):
    return tmp_path / "wikiweb2m-train.tfrecord.gz-00000-of-00005"


@pytest.fixture
def lines(tmp_path):
    return tmp_path / "pages.jsonl"


@pytest.mark.capability("G4-02")
def test_a_record_gives_every_field_of_page_section_and_picture(shard):
    found = read_pages(write_records(shard, as_record(alps())))
    assert found.rejects == ()
    (page,) = found.pages
    assert (page.page_id, page.title, page.url, page.split) == (
        0,
        "Alps",
        "https://en.wikipedia.org/wiki/Alps",
        "train",
    )
    assert page.description == "The Alps are mountains. They are high."
    assert page.raw_description == "The Alps are mountains.\nThey are high."
    assert (page.is_description_sample, page.contains_images, page.num_plain_sections) == (True, True, 3)
    assert [(each.title, each.parent, len(each.images)) for each in page.sections] == [
        ("Alps", None, 0),
        ("History", 0, 2),
        ("Early", 1, 0),
        ("Geography", 0, 1),
    ]
    assert page.sections[3] == Section(
        index=3,
        title="Geography",
        depth=1,
        parent=0,
        text="They reach from Nice to Vienna.\nMont Blanc is highest.",
        first_sentence="They reach from Nice to Vienna.",
        rest="Mont Blanc is highest.",
        raw_first_sentence="They reach from Nice to Vienna.\t",
        heading_level=2,
        subsections=(),
        contains_table_or_list=False,
        contains_images=True,
        is_sample=True,
        images=(
            SectionImage(
                image_index=0,
                file="c.jpg",
                url="https://upload.example.org/c.jpg",
                caption="Mont Blanc",
                alt_text="alt Mont Blanc",
                attribution="attribution Mont Blanc",
                raw_attribution="raw attribution Mont Blanc",
                reference="reference Mont Blanc",
                raw_reference="raw reference Mont Blanc",
                mime_type="image/jpeg",
                width_px=640,
                height_px=480,
                in_wit=True,
                is_caption_sample=False,
            ),
        ),
    )
    assert page.sections[1].subsections == (2,)


@pytest.mark.capability("G4-02")
def test_records_and_json_lines_of_the_same_pages_are_the_same(shard, lines):
    of_records = read_pages(write_records(shard, as_record(alps()), as_record(another(), in_one_feature=True)))
    assert of_records == read_pages(write_lines(lines, alps(), "", another()))
    assert [page.page_id for page in of_records.pages] == [0, 1]


@pytest.mark.capability("G4-02")
@pytest.mark.parametrize("at", [0, 1, 2])
def test_pads_are_no_pictures_and_a_picture_keeps_its_place_in_the_padded_row(shard, at):
    (page,) = read_pages(write_records(shard, as_record(alps(), pads={1: at}))).pages
    places = [place for place in range(3) if place != at]
    assert [(image.image_index, image.file) for image in page.sections[1].images] == [
        (places[0], "a.jpg"),
        (places[1], "b.png"),
    ]
    assert sum(len(section.images) for section in page.sections) == 3


def test_a_page_without_any_picture_may_have_no_lists_of_pictures(shard):
    titles = message(1, feature(["One"])) + message(1, feature(["Two"]))
    record = message(1, entry("page_title", feature(["Alps"]))) + message(2, entry("section_title", titles))
    found = read_pages(write_records(shard, record))
    assert found.rejects == ()
    assert [(section.title, section.index, section.images) for section in found.pages[0].sections] == [
        ("One", 0, ()),
        ("Two", 1, ()),
    ]


@pytest.mark.capability("G4-02")
def test_a_record_that_is_cut_is_a_reject_and_the_last_of_its_file(shard, tmp_path, lines):
    whole = b"".join(framed(as_record(page)) for page in (alps(), another()))
    path = tmp_path / "a.tfrecord"
    first = len(framed(as_record(alps())))
    for size in (first - 1, first + 1, first + 12, len(whole) - 1):
        path.write_bytes(whole[:size])
        found = read_pages([path, write_lines(lines, alps() | {"page_url": ""})])
        kept = int(size > first)
        assert [page.page_id for page in found.pages] == [*range(kept), kept + 1], size
        (reject,) = found.rejects
        assert (reject.file, reject.item, reject.reason) == ("a.tfrecord", f"record {kept}", "cut")
        assert f"record {kept} from byte {first * kept:,} on" in reject.detail
    damaged = bytearray(whole)
    damaged[20] ^= 1
    path.write_bytes(damaged)
    found = read_pages(path)
    assert (found.pages, count_reasons(found.rejects)) == ((), {"bad_checksum": 1})


def test_gzipped_lines_that_are_cut_end_with_a_reject(lines):
    zipped = gzip.compress(f"{json.dumps(alps())}\n{json.dumps(another())}\n".encode())
    path = lines.with_name("pages.jsonl.gz")
    path.write_bytes(zipped)
    assert len(read_pages(path).pages) == 2
    path.write_bytes(zipped[:-9])
    found = read_pages(path)
    assert count_reasons(found.rejects) == {"cut": 1}
    assert found.rejects[0].item == f"line {len(found.pages) + 1}"


@pytest.mark.capability("G4-02")
def test_a_record_that_is_no_example_is_a_reject_and_the_next_one_is_read_with_its_number(shard):
    twice = message(1, entry("page_title", feature(["Alps"]))) * 2
    wide = message(1, entry("page_title", feature(["Alps", "Andes"])))
    found = read_pages(write_records(shard, b"\x0a\x05abc", twice, wide, as_record(alps())))
    assert [(reject.item, reject.reason) for reject in found.rejects] == [
        ("record 0", "not_an_example"),
        ("record 1", "repeated_key"),
        ("record 2", "bad_field"),
    ]
    assert [page.page_id for page in found.pages] == [3]


def changed(section, **more):
    page = alps()
    page["sections"][section] |= more
    return page


@pytest.mark.capability("G4-02")
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (alps() | {"sections": []}, "no_sections"),
        ({"page_title": "Alps"}, "no_sections"),
        (alps() | {"page_title": " "}, "no_title"),
        (alps() | {"page_title": 5}, "bad_field"),
        (alps() | {"sections": ["one"]}, "bad_field"),
        (alps() | {"page_contains_images": "yes"}, "bad_field"),
        (changed(3, section_parent_index=4), "no_such_parent"),
        (changed(3, section_parent_index=-2), "no_such_parent"),
        (changed(3, section_parent_index=3), "cyclic_parents"),
        (changed(1, section_parent_index=2), "cyclic_parents"),
        (changed(3, section_index=2), "repeated_section"),
        (changed(3, section_index="3"), "bad_field"),
        (changed(3, section_text=None, section_subsection_index=["a"]), "bad_field"),
        (changed(3, section_images={}), "bad_field"),
        ('{"page_title": "Alps", "page_title": "Andes"}', "repeated_key"),
        ('{"page_title": "Alps", "sections": [{"section_index": 0, "section_index": 0}]}', "repeated_key"),
        (json.dumps(alps())[:-9], "not_json"),
        ("[" * 100_000, "not_json"),
        ("[1]", "not_a_record"),
    ],
)
def test_a_page_that_cannot_be_used_is_a_reject_with_a_reason(lines, line, reason):
    found = read_pages(write_lines(lines, line, another()))
    assert [(reject.item, reject.reason) for reject in found.rejects] == [("line 1", reason)]
    assert [page.page_id for page in found.pages] == [1]


def test_a_line_in_another_encoding_is_a_reject(lines):
    lines.write_bytes(b'{"page_title": "\xe4"}\n' + json.dumps(alps()).encode())
    found = read_pages(lines)
    assert (len(found.pages), count_reasons(found.rejects)) == (1, {"not_utf8": 1})


@pytest.mark.parametrize(
    ("name", "steps"),
    [("section_text", [["a"], ["b"]]), ("section_text", [["a", "b"], ["c"]]), ("section_image_url", [["u"]] * 3)],
)
def test_fields_that_do_not_fit_the_sections_are_a_reject(shard, name, steps):
    record = as_record(alps())
    renamed = record.replace(name.encode(), name[:-1].encode() + b"_")  # the field is as good as absent
    found = read_pages(
        write_records(shard, renamed + message(2, entry(name, b"".join(message(1, feature(s)) for s in steps))))
    )
    assert count_reasons(found.rejects) == {"uneven_fields": 1}


@pytest.mark.capability("G4-02")
def test_a_picture_without_file_is_a_reject_and_its_page_is_not(shard, lines):
    page = alps()
    page["sections"][1]["section_images"][0]["section_image_url"] = ""
    page["sections"][3]["section_images"][0]["section_image_width"] = "wide"
    found = read_pages(write_lines(lines, page))
    assert [(reject.item, reject.reason) for reject in found.rejects] == [
        ("line 1, section 1, picture 0", "no_file"),
        ("line 1, section 3, picture 0", "bad_field"),
    ]
    assert [image.file for section in found.pages[0].sections for image in section.images] == ["b.png"]
    page["sections"][3]["section_images"] = []
    of_record = read_pages(write_records(shard, as_record(page)))
    assert [(each.item, each.reason) for each in of_record.rejects] == [("record 0, section 1, picture 0", "no_file")]
    empty = alps()
    empty["sections"][3]["section_images"] = [{}, None]
    assert count_reasons(read_pages(write_lines(lines, empty)).rejects) == {"no_file": 1, "bad_field": 1}


def test_a_page_that_comes_again_is_a_reject_but_pages_without_address_are_not_compared(tmp_path):
    one = write_lines(tmp_path / "one.jsonl", alps(), alps() | {"page_url": ""})
    two = write_lines(tmp_path / "two.jsonl", alps() | {"page_url": None}, alps())
    found = read_pages([one, two])
    assert [page.page_id for page in found.pages] == [0, 1, 2]
    assert [(each.file, each.item, each.reason) for each in found.rejects] == [("two.jsonl", "line 2", "repeated_page")]


def test_numbers_of_sections_may_have_gaps_and_the_root_may_name_itself(lines):
    page = alps()
    for place, (index, parent) in enumerate([(0, 0), (4, 0), (6, 4), (9, 4)]):
        page["sections"][place] |= {"section_index": index, "section_parent_index": parent}
    (found,) = read_pages(write_lines(lines, page)).pages
    assert [section.parent for section in found.sections] == [None, 0, 1, 1]


def test_pages_are_streamed(lines):
    rejects = []
    pages = stream_pages(write_lines(lines, alps(), "{}", another()), rejects)
    assert (next(pages).title, rejects) == ("Alps", [])
    assert (next(pages).title, count_reasons(rejects)) == ("Andes", {"no_title": 1})


def test_a_file_that_is_missing_empty_or_of_no_known_name_is_an_error(tmp_path):
    for name, match in (
        ("a.jsonl", "cannot be read"),
        ("a.tfrecord", "no such file"),
        ("a.txt", "expected a name with"),
    ):
        with pytest.raises(DumpError, match=match):
            read_pages(tmp_path / name)
    for name in ("b.jsonl", "b.tfrecord"):
        (tmp_path / name).touch()
        with pytest.raises(DumpError, match="an empty file"):
            read_pages(tmp_path / name)


def test_a_section_is_a_sample_when_there_is_a_first_sentence_and_a_rest(lines):
    page = alps()
    page["sections"][0]["section_rest_sentence"] = ""
    page["sections"][3]["section_contains_table_or_list"] = 1
    (found,) = read_pages(write_lines(lines, page)).pages
    assert [sample.reason for sample in section_samples(found)] == ["no_rest", None, "not_a_sample", None]
    assert [sample.reason for sample in section_samples(found, lists=False)][3] == "table_or_list"
    assert [sample.section for sample in section_samples(found)] == [0, 1, 2, 3]


def test_short_lines_have_their_sentences_parted(lines):
    sections = [
        {"section_text": "One is here. Two is\nhere."},
        {"section_text": ""},
        {"section_text": "One:\n* a\n* b", "section_images": [{"file": "a.jpg", "caption": " A  hut "}]},
    ]
    (page,) = read_pages(write_lines(lines, {"page_title": "Alps", "sections": sections})).pages
    assert [(each.first_sentence, each.rest) for each in page.sections] == [
        ("One is here.", "Two is here."),
        ("", ""),
        ("One:", "* a * b"),
    ]
    assert [each.contains_table_or_list for each in page.sections] == [False, False, True]
    assert [each.reason for each in section_samples(page)] == [None, "no_first_sentence", None]
    assert page.sections[2].images == (SectionImage(image_index=0, file="a.jpg", caption="A hut"),)
    assert page.sections[2].images[0].key == "a.jpg"
    assert SectionImage(image_index=0, file="a.jpg", url="https://x/a.jpg").key == "https://x/a.jpg"


@pytest.mark.parametrize(
    ("first", "rest"),
    [
        ("He was born in 1900.", "He died."),
        ("Dr. J. S. Bach met Mr. No. 5 in the U.S. Senate.", "He left."),
        ("It costs 3.5 km (see Fig. 2).", "It is not."),
        ('He said "No!"', '"Yes," she said.'),
        ("He lived (at St. Paul. Then abroad) for long.", "He died."),
        ("1. The first of all.", "2. The second."),
        ("He saw etc. and so on?", "Yes."),
        ("He said no.", "Then he left."),
        ("Asda Ltd. (often ASDA) sells.", "It buys."),
        ("No end here", ""),
        ("A list:", "one two"),
    ],
)
def test_the_first_sentence_ends_where_the_rule_says(first, rest):
    text = f"{first}\n{rest}" if first.endswith(":") else f"{first} {rest}"
    assert split_first_sentence(text) == (first, rest)


@settings(max_examples=100)
@given(st.text('aB1.!?()" \n', max_size=30))
def test_no_word_is_lost_between_first_sentence_and_rest(text):
    first, rest = split_first_sentence(text)
    assert f"{first} {rest}".split() == text.split()
    assert first or not rest


def test_official_splits_are_by_the_order_of_records():
    assert [official_split(page_id) for page_id in (0, 399_999, 400_000, 499_999, 500_000, 599_999, 600_000)] == [
        "train", "train", "val", "val", "test", "test", None,
    ]  # fmt: skip


@settings(max_examples=50)
@given(st.sets(st.integers(0, 99), max_size=30), st.integers(0, 9), st.integers(0, 10), st.integers(0, 10))
def test_drawn_splits_part_all_pages_whatever_their_order(page_ids, random_seed, train, val):
    shares = {"train": train / 20, "val": val / 20, "test": (20 - train - val) / 20}
    splits = split_pages(sorted(page_ids), shares, random_seed=random_seed)
    assert sorted(page_id for part in splits.values() for page_id in part) == sorted(page_ids)
    assert all(abs(len(splits[name]) - share * len(page_ids)) <= 1 for name, share in shares.items())
    assert split_pages(sorted(page_ids, reverse=True), shares, random_seed=random_seed) == splits


def test_shares_that_are_no_shares_are_refused_and_seeds_differ():
    for shares in ({"train": 0.5}, {"train": 1.5, "val": -0.5}):
        with pytest.raises(ConfigError, match="a sum of 1"):
            split_pages([1], shares, random_seed=0)
    halves = {"train": 0.5, "test": 0.5}
    assert len({split_pages(range(40), halves, random_seed=seed)["train"] for seed in range(5)}) == 5


@pytest.mark.shared
@pytest.mark.capability("G4-02")
def test_the_real_pages_are_read_whole(shared_data):
    found = read_pages(shared_data / "tasks/wikipages/en_pages.jsonl.gz")
    sections = [section for page in found.pages for section in page.sections]
    images = [image for section in sections for image in section.images]
    assert (len(found.pages), found.rejects, len(sections)) == (24, (), 541)
    assert (len(images), sum(bool(image.caption) for image in images)) == (193, 172)
    assert all(page.sections[0].parent is None for page in found.pages)
    for section in sections:
        assert f"{section.first_sentence} {section.rest}".split() == section.text.split()
    reasons = [sample.reason for page in found.pages for sample in section_samples(page)]
    assert reasons.count("no_first_sentence") == sum(not section.text.strip() for section in sections)
