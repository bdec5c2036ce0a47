import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmkg.errors import DumpError
from mmkg.tasks import json_files
from mmkg.tasks.json_files import count_reasons, stream_json_array
from mmkg.tasks.region_questions import read_region_questions
from mmkg.tasks.visual_genome import Box, SceneRelationship, find_picture, read_scene_graphs
from tests.tasks.visual_genome_files import asked, draw_pictures, parts, region, related, thing, write_files


@pytest.fixture
def files():
    return parts()


def test_objects_attributes_and_relationships_become_scenes(tmp_path, files):
    found = read_scene_graphs(write_files(tmp_path, files))
    first, second, third = found.scenes
    assert found.rejects == ()
    assert [(each.object_id, each.names, each.attributes) for each in first.objects] == [
        (10, ("dog",), ("brown", "small")),
        (11, ("grass",), ("green",)),
        (12, ("sky",), ()),
    ]
    assert first.objects[1].box == Box(x=-5, y=20, width=60, height=20)
    assert (first.size_px, third.size_px) == ((40, 30), None)
    assert [each.predicate for each in second.relationships] == ["next to", "on"]


def test_an_object_that_was_merged_is_the_one_it_was_merged_into(tmp_path, files):
    first = read_scene_graphs(write_files(tmp_path, files)).scenes[0]
    assert SceneRelationship(subject=12, predicate="above", object=10) in first.relationships


def test_scene_graphs_hold_the_same_as_the_three_files(tmp_path, files):
    scenes = []
    for record in files["objects.json"]:
        image_id = record["image_id"]
        described = {
            each["object_id"]: each.get("attributes", [])
            for other in files["attributes.json"]
            if other["image_id"] == image_id
            for each in other["attributes"]
        }
        relationships = [
            {"predicate": each["predicate"]} | {f"{end}_id": each[end]["object_id"] for end in ("subject", "object")}
            for other in files["relationships.json"]
            if other["image_id"] == image_id
            for each in other["relationships"]
        ]
        objects = [each | {"attributes": described.get(each["object_id"], [])} for each in record["objects"]]
        scenes.append({"image_id": image_id, "objects": objects, "relationships": relationships})
    whole = {"scene_graphs.json": scenes, "image_data.json": files["image_data.json"]}
    one, three = write_files(tmp_path / "one", whole), write_files(tmp_path / "three", files)
    assert read_scene_graphs(one) == read_scene_graphs(three)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"x": None}, "no_box"),
        ({"w": "5"}, "no_box"),
        ({"h": -1}, "no_box"),
        ({"y": True}, "no_box"),
        ({"names": []}, "no_name"),
        ({"names": [" "]}, "no_name"),
        ({"object_id": "10"}, "bad_field"),
    ],
)
def test_a_bad_object_is_a_reject_and_so_is_what_holds_of_it(tmp_path, files, bad, reason):
    files["objects.json"][0]["objects"][0] |= bad
    found = read_scene_graphs(write_files(tmp_path, files))
    assert [each.object_id for each in found.scenes[0].objects] == [11, 12]
    assert found.scenes[0].relationships == ()
    assert count_reasons(found.rejects) == {reason: 1, "attribute_of_no_object": 1, "relationship_of_no_object": 2}
    assert all(reject.item.startswith("image 1, ") for reject in found.rejects)


def test_what_is_said_twice_or_of_nothing_is_a_reject_with_its_file(tmp_path, files):
    files["objects.json"][1]["objects"].append(thing(20, "mug", 0, 0, 1, 1))
    files["objects.json"].append({"image_id": 1, "objects": []})
    files["objects.json"].append({"objects": []})
    files["relationships.json"][0]["relationships"] += [related(7, 10, "on", 11), related(8, 10, " ", 11)]
    files["attributes.json"].append({"image_id": 77, "attributes": [{"object_id": 1, "attributes": ["x"]}]})
    found = read_scene_graphs(write_files(tmp_path, files))
    assert [(reject.file, reject.reason) for reject in found.rejects] == [
        ("relationships.json", "repeated_relationship"),
        ("relationships.json", "no_predicate"),
        ("objects.json", "repeated_object"),
        ("objects.json", "repeated_image"),
        ("objects.json", "no_image_id"),
        ("attributes.json", "no_scene"),
    ]


def test_only_the_wanted_images_are_read(tmp_path, files):
    folder = write_files(tmp_path, files)
    assert [scene.image_id for scene in read_scene_graphs(folder, image_ids={2}).scenes] == [2]
    assert [each.qa_id for each in read_region_questions(folder, image_ids={2}).questions] == [4]


@pytest.mark.capability("MR-05")
def test_free_form_questions_are_left_out_and_counted(tmp_path, files):
    found = read_region_questions(write_files(tmp_path, files))
    assert [(each.qa_id, each.image_id, each.region_id) for each in found.questions] == [
        (1, 1, 100),
        (2, 1, 101),
        (4, 2, 200),
        (5, 3, 300),
    ]
    assert (found.num_free_form, found.rejects) == (1, ())
    assert (found.questions[1].question, found.questions[1].answer) == ("Where is it?", "On grass.")
    assert (found.questions[0].phrase, found.questions[0].box) == ("region 100", Box(x=0, y=0, width=20, height=20))


@pytest.mark.capability("MR-05")
def test_a_question_that_cannot_be_used_is_a_reject(tmp_path, files):
    files["question_answers.json"][0]["qas"] += [
        asked(1, 1),
        asked(6, 1, answer=""),
        asked(7, 1),
        asked(8, 1),
        asked(9, 1),
        asked("10", 1),
    ]
    files["region_descriptions.json"][1]["regions"].append(region(201, 2, width=None))
    files["qa_to_region_mapping.json"] |= {"6": 100, "7": 999, "8": 200, "9": 201}
    found = read_region_questions(write_files(tmp_path, files))
    assert [(reject.item, reject.reason) for reject in found.rejects] == [
        ("image 1, question 1", "repeated_question"),
        ("image 1, question 6", "no_text"),
        ("image 1, question 7", "no_region"),
        ("image 1, question 8", "region_of_another_image"),
        ("image 1, question 9", "no_region"),
        ("image 1, question 10", "bad_field"),
    ]
    assert len(found.questions) == 4


@pytest.mark.parametrize("name", ["relationships.json", "attributes.json", "objects.json"])
def test_a_missing_file_is_named_and_not_taken_for_an_empty_one(tmp_path, files, name):
    del files[name]
    with pytest.raises(DumpError, match=name.replace(".", r"\.")):
        read_scene_graphs(write_files(tmp_path, files))


def test_pictures_are_found_in_either_folder(tmp_path):
    draw_pictures(tmp_path)
    assert find_picture(tmp_path, 1) == tmp_path / "VG_100K" / "1.png"
    assert find_picture(tmp_path, 2) == tmp_path / "2.png"
    assert find_picture(tmp_path, 3) is None


NESTED = st.recursive(st.integers() | st.text('ab[]{},"\\ é'), lambda inner: st.lists(inner, max_size=3), max_leaves=5)


@given(
    elements=st.lists(st.dictionaries(st.text(max_size=3), NESTED, max_size=3), max_size=6),
    chunk=st.integers(1, 40),
    indent=st.sampled_from([None, 1]),
)
def test_an_array_is_streamed_as_it_is_read_whole_wherever_the_buffer_ends(tmp_path_factory, elements, chunk, indent):
    path = tmp_path_factory.getbasetemp() / "array.json"
    path.write_text(json.dumps(elements, indent=indent, ensure_ascii=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_files, "_CHUNK_CHARACTERS", chunk)
        assert list(stream_json_array(path)) == elements


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[{"a": 1}, {"b"', r"from character 11 on: expected an object that ends .* found"),
        (b'[{"a": 1}', "expected ',', found the end of the file"),
        (b'[{"a": 1} {"b": 2}]', "expected ','"),
        (b'[{"a": 1}]x', "expected nothing behind the array, found 'x'"),
        (b'{"a": 1}', r"expected '\['"),
        (b'[{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}]", r"expected an object that can be read \(.*recursion"),
        (b'[{"a": ' + b"1" * 5_000 + b"}]", r"expected an object that can be read \(.*digits"),
        (b"[1]", "expected an object, found '1]'"),
        (b"", "expected '\\[', found the end of the file"),
        (gzip.compress(b'[{"a": 1}]', mtime=0)[:-9], "cut or damaged"),
    ],
)
def test_an_array_that_is_cut_or_none_is_an_error_that_says_where(tmp_path, content, message):
    path = tmp_path / "objects.json"
    path.write_bytes(content)
    with pytest.raises(DumpError, match=message):
        list(stream_json_array(path))


def test_a_broken_element_ends_the_search_before_all_of_a_large_file_is_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(json_files, "_CHUNK_CHARACTERS", 10)
    monkeypatch.setattr(json_files, "_MOST_CHARACTERS", 100)
    path = tmp_path / "objects.json"
    path.write_text('[{"a": "' + "x" * 10_000)
    with pytest.raises(DumpError, match="from character 1 on"):
        list(stream_json_array(path))
