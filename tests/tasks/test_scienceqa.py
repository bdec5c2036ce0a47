import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmkg.errors import DumpError, NotFound
from mmkg.tasks.json_files import count_reasons
from mmkg.tasks.scienceqa import LETTERS, read_scienceqa
from mmkg.tasks.scienceqa_texts import (
    answer_prompt,
    answer_text,
    question_text,
    rationale_prompt,
    rationale_text,
    read_choice,
    retrieval_text,
)

NORTH = {
    "question": "Which of these states is farthest north?",
    "choices": ["West Virginia", "Louisiana", "Arizona"],
    "answer": 0,
    "hint": "",
    "image": "image.png",
    "task": "closed choice",
    "grade": "grade2",
    "subject": "social science",
    "topic": "geography",
    "category": "Geography",
    "skill": "Read a map: cardinal directions",
    "lecture": "Maps have\nfour directions.",
    "solution": "Look at the compass rose.",
    "split": "train",
}
IRONY = NORTH | {
    "question": "What is ironic?",
    "choices": ["This.", "That."],
    "answer": 1,
    "hint": "Read the text.",
    "image": None,
    "grade": "grade12",
    "subject": "language science",
    "lecture": "",
    "split": "val",
}
STATES = ("West Virginia", "Louisiana", "Arizona", "Arizona and Utah")


def write_folder(folder: Path, problems: dict, splits: dict, captions: dict | None = None) -> Path:
    (folder / "problems.json").write_text(json.dumps(problems))
    with gzip.open(folder / "pid_splits.json.gz", "wt") as file:
        json.dump({"train": [], "val": [], "test": []} | splits, file)
    if captions is not None:
        (folder / "captions.json").write_text(json.dumps(captions))
    return folder


@pytest.fixture
def read(tmp_path):
    def reader(problems, splits=None, captions=None):
        splits = splits or {"train": ["1"], "val": ["2"]}
        return read_scienceqa(write_folder(tmp_path, problems, splits, captions))

    return reader


def test_a_record_becomes_a_problem_of_its_official_split(read):
    found = read({"1": NORTH, "2": IRONY}, captions={"captions": {"1": "A map."}})
    north, irony = found.problems
    assert (north.pid, north.split, north.grade, north.answer, north.caption) == ("1", "train", 2, 0, "A map.")
    assert north.choices == ("West Virginia", "Louisiana", "Arizona")
    assert (north.image_path, irony.image_path) == ("train/1/image.png", None)
    assert (irony.split, irony.grade, irony.caption) == ("val", 12, None)
    assert [problem.pid for problem in found.split("val")] == ["2"]
    with pytest.raises(NotFound, match=r"'vall'.*Did you mean 'val'"):
        found.split("vall")


def test_listed_problems_that_are_not_at_hand_are_counted(read):
    found = read({"1": NORTH}, {"train": ["1", "5"], "test": ["6"], "minitrain": ["5"]})
    assert found.missing == {"train": 1, "val": 0, "test": 1, "minitrain": 1}
    assert found.split("minitrain") == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"answer": 3}, "answer_outside_choices"),
        ({"answer": -1}, "answer_outside_choices"),
        ({"answer": True}, "answer_outside_choices"),
        ({"answer": "0"}, "answer_outside_choices"),
        ({"choices": []}, "no_choices"),
        ({"choices": None}, "no_choices"),
        ({"choices": ["a", 1]}, "bad_field"),
        ({"choices": ["a"] * 27}, "bad_field"),
        ({"subject": "history"}, "unknown_subject"),
        ({"subject": ["history"]}, "unknown_subject"),
        ({"grade": "grade13"}, "bad_grade"),
        ({"grade": None}, "bad_grade"),
        ({"question": "  "}, "no_question"),
        ({"hint": None}, "bad_field"),
        ({"split": "test"}, "other_split"),
        ({"image": "../image.png"}, "bad_image"),
        ({"image": 5}, "bad_image"),
    ],
)
def test_a_bad_record_is_a_reject_and_the_others_are_read(read, change, reason):
    found = read({"1": NORTH | change, "2": IRONY})
    assert [problem.pid for problem in found.problems] == ["2"]
    assert [(reject.item, reject.reason) for reject in found.rejects] == [("1", reason)]
    assert found.rejects[0].detail and found.rejects[0].file == "problems.json"


def test_a_record_that_no_split_lists_or_that_is_no_object_is_a_reject(read):
    found = read({"1": NORTH, "9": NORTH, "2": []})
    assert count_reasons(found.rejects) == {"no_split": 1, "not_a_record": 1}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("problems.json", b'{"1": {"question": "Wh', r"problems\.json, line 1: expected JSON"),
        ("problems.json", b'{"1": ' + b"[" * 200_000, "expected JSON of a benchmark, found what no reader takes"),
        ("problems.json", b"[]", "expected an object, found a list"),
        ("problems.json", b'{"1": {}, "1": {}}', "found '1' twice"),
        ("problems.json", gzip.compress(b'{"1": {}}' * 9, mtime=0)[:-12], "cut or damaged"),
        ("problems.json", b'{"1": "\xff"}', "cut or damaged"),
        ("pid_splits.json", b'{"train": [], "val": []}', "found no test"),
        ("pid_splits.json", b'{"train": 1, "val": [], "test": []}', "train: expected a list"),
        ("pid_splits.json", b'{"train": ["1"], "val": ["1"], "test": []}', "found 1 in train and in val"),
        ("captions.json", b'{"captions": ["a"]}', "expected texts by pid"),
    ],
)
def test_a_file_that_is_cut_or_another_one_is_named(tmp_path, name, content, message):
    write_folder(tmp_path, {"1": NORTH}, {"train": ["1"]})
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DumpError, match=message):
        read_scienceqa(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DumpError, match=r"expected problems\.json or problems_trainval\.json"):
        read_scienceqa(tmp_path)


def test_the_query_is_question_context_and_options(read):
    north, irony = read({"1": NORTH, "2": IRONY}).problems
    assert retrieval_text(irony) == "What is ironic? Read the text. This. That."
    assert retrieval_text(north) == f"{north.question} West Virginia Louisiana Arizona"


def test_a_caption_is_context_only_when_wanted_and_of_a_picture(read):
    captions = {"captions": {"1": "A map.", "2": "A cat."}}
    north, irony = read({"1": NORTH, "2": IRONY}, captions=captions).problems
    options = "Options: (A) West Virginia (B) Louisiana (C) Arizona"
    assert question_text(north) == f"Question: {north.question}\nContext: N/A\n{options}"
    assert question_text(north, with_caption=True) == f"Question: {north.question}\nContext: A map.\n{options}"
    assert question_text(north, with_lecture=True).endswith("\nLecture: Maps have\nfour directions.")
    expected = "Question: What is ironic?\nContext: Read the text.\nOptions: (A) This. (B) That."
    assert question_text(irony, with_caption=True, with_lecture=True) == expected


@pytest.mark.capability("MR-15")
def test_the_rationale_of_stage_a_stands_before_the_answer_of_stage_b(read):
    north = read({"1": NORTH}).problems[0]
    question = question_text(north)
    assert rationale_prompt(north) == f"{question}\nSolution:"
    assert rationale_text(north) == "Maps have four directions. Look at the compass rose."
    assert answer_prompt(north, " Look\nup. ") == f"{question}\nSolution: Look up.\nAnswer:"
    assert answer_prompt(north) == answer_prompt(north, " ") == f"{question}\nAnswer:"
    assert answer_text(north) == "The answer is (A)."


@pytest.mark.parametrize(
    "text",
    [
        "(B)",
        "B",
        "b",
        "B.",
        " (b). ",
        "[B]",
        "(B",
        "**B**",
        "The answer is B.",
        "The answer is (B).",
        "the answer is b",
        "The answer is (B",
        "answer: (b)",
        "Answer:B",
        "ANSWER - B",
        "**Answer:** B",
        "The **answer** is **(B)**",
        "The correct answer is option B.",
        "The correct option is (B), since it is in the south.",
        "The answer is B because A is in the west.",
        "The answer is: \n(B)",
        "Louisiana",
        "louisiana.",
        '"Louisiana"',
        "The answer is Louisiana.",
        "The best choice is Louisiana, which is in the south.",
        "Answer: Louisiana\nIt is in the south.",
        "B) Louisiana",
        "B. Louisiana",
        "(B) Louisiana",
        "B: the one in the south",
        "Look at the map. Louisiana is lower, so it is (B).",
        "Not (A) but (B).",
        "I compared them. The answer is (B). I repeat: the answer is B.",
        "The answer is (B).\nQuestion: Which is west?\nAnswer: (C)",
        "Options: (A) West Virginia (B) Louisiana\nAnswer: (B)",
    ],
)
def test_the_second_choice_is_read(text):
    assert read_choice(text, 4, choices=STATES) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n ",
        "I do not know.",
        "The answer is a state in the south.",
        "The answer is A magnet.",
        "The answer is not (B).",
        "The answer isn't (B).",
        "A or B",
        "(A) or (B)",
        "(A) West Virginia (B) Louisiana",
        "A. West Virginia B. Louisiana",
        "The answer is (A). The answer is (B).",
        "The answer is (E).",
        "(F)",
        "F",
        "é",
        "It is near Louisiana.",
        "The magnet(s) attract.",
        "The allele for red eyes (B) is dominant.",
        "An apple",
        "Question: The answer is not here",
        "\nQuestion: x\nAnswer: (B)",
    ],
)
def test_nothing_is_guessed(text):
    assert read_choice(text, 4, choices=STATES) is None


def test_of_two_choices_that_both_fit_the_longer_one_is_read():
    assert read_choice("The answer is Arizona and Utah.", 4, choices=STATES) == 3
    assert read_choice("The answer is Arizona.", 4, choices=STATES) == 2


def test_choices_that_differ_in_capitals_quotes_or_the_stop_are_told_apart():
    for choices in (
        ("a Fresh start", "A Fresh Start"),
        ('"It"', "***It***"),
        ("Is it.", "Is it?"),
        ("Hi,\nJo", "hi,\nJo"),
    ):
        for index, choice in enumerate(choices):
            assert read_choice(choice, 2, choices=choices) == index
            assert read_choice(f"The answer is {choice}", 2, choices=choices) == index
    assert read_choice("a fresh start", 2, choices=("a Fresh start", "A Fresh Start")) is None


def test_without_the_texts_of_the_choices_only_letters_are_read():
    assert read_choice("Louisiana", 4) is None
    assert read_choice("(D)", 4) == 3
    assert read_choice("(D)", 3) is None


@given(
    index=st.integers(0, 25),
    form=st.sampled_from(["({})", "{}", "{}.", "The answer is ({}).", "answer: {}", "x y z. The answer is {}.\n"]),
)
def test_every_letter_is_read_in_every_form_up_to_the_number_of_choices(index, form):
    text = form.format(LETTERS[index])
    assert read_choice(text, 26) == index
    assert read_choice(text, index) is None


@given(st.text())
def test_any_words_give_a_choice_or_none(text):
    found = read_choice(text, 3, choices=("yes", "", "no"))
    assert found is None or 0 <= found < 3


@pytest.mark.shared
def test_the_real_problems_are_read_whole(shared_data):
    found = read_scienceqa(shared_data / "tasks/scienceqa")
    assert (len(found.problems), found.rejects) == (1412, ())
    assert sum(problem.image is not None for problem in found.problems) == 712
    assert all((problem.caption is None) == (problem.image is None) for problem in found.problems)
    assert {name: len(found.split(name)) for name in ("train", "val", "test")} == {"train": 1041, "val": 371, "test": 0}
    assert found.missing["test"] == 4241
    assert found.missing["train"] == 12726 - 1041


@pytest.mark.shared
def test_the_real_answers_are_read_back_by_letter_and_by_text(shared_data):
    for problem in read_scienceqa(shared_data / "tasks/scienceqa").problems:
        choices, answer = problem.choices, problem.answer
        for text in (answer_text(problem), choices[answer], f"The answer is {choices[answer]}"):
            assert read_choice(text, len(choices), choices=choices) == answer, (text, choices)
