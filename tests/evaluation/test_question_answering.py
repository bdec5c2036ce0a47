import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmkg.errors import ConfigError, DumpError
from mmkg.evaluation.question_answering import (
    COLUMNS,
    choice_frequency,
    compare_scienceqa,
    random_expectation,
    read_results,
    score_scienceqa,
)
from mmkg.tasks.scienceqa import SUBJECTS, Problem, read_scienceqa

NATURAL, SOCIAL, LANGUAGE = SUBJECTS


def problem(pid, subject=NATURAL, *, hint="", image=None, grade=3, choices=2, answer=0, skill="one"):
    return Problem(
        pid=pid,
        question="?",
        choices=tuple("abcde"[:choices]),
        answer=answer,
        hint=hint,
        image=image,
        caption=None,
        task="closed choice",
        grade=grade,
        subject=subject,
        topic="",
        category="",
        skill=skill,
        lecture="",
        solution="",
        split="test",
    )


EIGHT = [
    problem("1", hint="text", image="image.png", grade=1),  # in TXT and in IMG
    problem("2", hint="text", grade=6),
    problem("3", image="image.png", grade=7),
    problem("4", grade=12),  # in NO
    problem("5", SOCIAL, image="image.png", grade=6),
    problem("6", SOCIAL, hint=" ", grade=7),  # the official script counts any text as a hint
    problem("7", LANGUAGE, choices=4, answer=3, grade=8),
    problem("8", LANGUAGE, choices=4, answer=3, grade=2),
]
# right: 1, 2, 4, 7; wrong: 3, 5, 6; not answered: 8
RESULTS = {"1": 0, "2": 0, "3": 1, "4": 0, "5": 1, "6": 1, "7": 3, "8": -1}


@pytest.mark.capability("MR-17")
def test_a_results_file_made_by_hand_gives_the_nine_columns(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"acc": 50.0, "results": RESULTS, "outputs": {}}))
    score = score_scienceqa(EIGHT, read_results(path))
    found = {name: (column.num_right, column.num_problems) for name, column in score.columns.items()}
    assert found == {
        "NAT": (3, 4),
        "SOC": (0, 2),
        "LAN": (1, 2),
        "TXT": (2, 3),
        "IMG": (1, 3),
        "NO": (2, 3),
        "G1-6": (2, 4),
        "G7-12": (2, 4),
        "AVG": (4, 8),
    }
    assert tuple(score.columns) == COLUMNS
    assert {name: column.accuracy.value for name, column in score.columns.items()} == {
        name: right / count for name, (right, count) in found.items()
    }
    assert {name for name, column in score.columns.items() if column.num_unanswered} == {"LAN", "NO", "G1-6", "AVG"}
    assert json.loads(json.dumps(score.as_json()))["columns"]["IMG"]["num_problems"] == 3


@pytest.mark.capability("MR-17")
def test_the_average_is_over_problems_and_not_over_columns():
    many = [problem(str(pid)) for pid in range(9)] + [problem("9", SOCIAL, answer=1)]
    score = score_scienceqa(many, dict.fromkeys(map(str, range(10)), 0))
    assert score.columns["AVG"].accuracy.value == 0.9
    assert score.columns["LAN"].accuracy is None
    assert score.columns["LAN"].as_json() == {"accuracy": None, "num_problems": 0, "num_right": 0, "num_unanswered": 0}


def test_every_problem_is_in_a_subject_in_a_grade_and_in_a_context():
    columns = score_scienceqa(EIGHT, dict.fromkeys(RESULTS)).columns
    count = {name: column.num_problems for name, column in columns.items()}
    both = sum(bool(each.hint and each.image) for each in EIGHT)
    assert count["NAT"] + count["SOC"] + count["LAN"] == count["AVG"] == count["G1-6"] + count["G7-12"]
    assert count["TXT"] + count["IMG"] + count["NO"] - both == count["AVG"]
    assert all(column.num_unanswered == column.num_problems and not column.num_right for column in columns.values())


def test_an_interval_holds_its_value_and_is_wider_by_skill():
    many = [problem(str(pid), skill=str(pid // 20)) for pid in range(200)]
    chosen = {str(pid): int(pid // 20 % 2) for pid in range(200)}  # a skill is all right or all wrong
    by_problem, by_skill = (
        score_scienceqa(many, chosen, cluster=unit, draws=200).columns["AVG"].accuracy for unit in ("problem", "skill")
    )
    assert by_problem.low < 0.5 == by_problem.value == by_skill.value < by_problem.high
    assert by_skill.high - by_skill.low > 2 * (by_problem.high - by_problem.low)
    assert score_scienceqa(many, chosen, draws=0).columns["AVG"].accuracy.low == 0.5


def test_a_problem_without_a_choice_is_named():
    with pytest.raises(ConfigError, match=r"pid 3 and 1 more: expected a choice for each of 8"):
        score_scienceqa(EIGHT, {pid: 0 for pid in RESULTS if pid not in "35"})
    with pytest.raises(ConfigError, match="no problem was given"):
        score_scienceqa([], {})


@pytest.mark.parametrize("index", [2, -1])
def test_a_choice_that_the_problem_does_not_have_is_named(index):
    with pytest.raises(ConfigError, match=f"pid 4: expected a choice of 0 to 1, found {index}"):
        score_scienceqa(EIGHT, dict.fromkeys(RESULTS, 0) | {"4": index})


def test_choices_of_other_problems_are_not_looked_at():
    score = score_scienceqa(EIGHT[:2], dict.fromkeys(RESULTS, 0) | {"x": 77})
    assert (score.columns["AVG"].num_right, score.columns["AVG"].num_problems) == (2, 2)


def test_two_runs_are_compared_problem_by_problem():
    all_right = {each.pid: each.answer for each in EIGHT}
    found = compare_scienceqa(score_scienceqa(EIGHT, all_right), score_scienceqa(EIGHT, all_right | {"3": 1}))
    assert found["AVG"].difference.value == pytest.approx(1 / 8)
    assert found["IMG"].difference.value == pytest.approx(1 / 3)
    assert (found["SOC"].difference.low, found["SOC"].difference.high) == (0, 0)
    worse = compare_scienceqa(score_scienceqa(EIGHT, all_right | {"3": 1}), score_scienceqa(EIGHT, all_right))
    assert worse["AVG"].difference.low == pytest.approx(-found["AVG"].difference.high)
    only_natural = score_scienceqa(EIGHT[:4], all_right)
    assert compare_scienceqa(only_natural, only_natural)["LAN"] is None


def test_runs_over_other_problems_are_not_compared():
    first = score_scienceqa(EIGHT, dict.fromkeys(RESULTS, 0))
    for others, message in ((EIGHT[1:], "for example 1 in one only"), (EIGHT[::-1], "in another order")):
        with pytest.raises(ConfigError, match=message):
            compare_scienceqa(first, score_scienceqa(others, dict.fromkeys(RESULTS, 0)))


def test_indices_as_text_are_read_and_minus_one_and_null_are_no_answer(tmp_path):
    path = tmp_path / "results.json"
    path.write_text('{"results": {"1": "2", "2": 0, "3": -1, "4": null}}')
    assert read_results(path) == {"1": 2, "2": 0, "3": None, "4": None}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"1": 0}', "expected 'results'"),
        ('{"results": {"1": "B"}}', "pid 1: expected the index of a choice, -1 or null, found 'B'"),
        ('{"results": {"1": 1.5}}', "found 1.5"),
        ('{"results": {"1": true}}', "found True"),
        ('{"results": {"1": -2}}', "found -2"),
        ('{"results": {"1": 0, "1": 1}}', "found '1' twice"),
        ('{"results": {"1"', "expected JSON"),
    ],
)
def test_a_results_file_of_another_form_is_an_error(tmp_path, content, message):
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(DumpError, match=message):
        read_results(path)


def test_choice_frequency_counts_among_problems_with_as_many_choices():
    train = [problem("a", choices=2, answer=1), problem("b", choices=2, answer=1), problem("c", choices=2, answer=0)]
    train += [problem("d", choices=3, answer=2), problem("e", choices=3, answer=1)]  # a tie: the first place
    asked = [problem("x", choices=2), problem("y", choices=3), problem("z", choices=5)]
    assert choice_frequency(train, asked) == {"x": 1, "y": 1, "z": 0}


@given(st.lists(st.integers(2, 5), min_size=1, max_size=30))
def test_chance_is_what_all_ways_of_guessing_give_on_average(counts):
    asked = [problem(str(pid), choices=count) for pid, count in enumerate(counts)]
    by_place = [np.mean([place == 0 for place in range(count)]) for count in counts]
    found = random_expectation(asked)
    assert found["AVG"] == found["NAT"] == pytest.approx(np.mean(by_place))
    assert found["SOC"] is None


@pytest.mark.shared
@pytest.mark.capability("MR-17")
def test_the_columns_of_the_real_problems_have_the_counts_of_the_files(shared_data):
    found = read_scienceqa(shared_data / "tasks/scienceqa")
    right = {each.pid: each.answer for each in found.problems}
    columns = score_scienceqa(found.problems, right, draws=0).columns
    count = {name: column.num_problems for name, column in columns.items()}
    assert (count["IMG"], count["AVG"]) == (712, 1412)
    assert (count["NAT"], count["SOC"], count["LAN"]) == (806, 276, 330)
    assert (count["G1-6"], count["G7-12"]) == (913, 499)
    assert all(column.accuracy.value == 1 for column in columns.values())
    frequency = choice_frequency(found.split("train"), found.split("val"))
    assert score_scienceqa(found.split("val"), frequency, draws=0).columns["AVG"].num_right == 174
