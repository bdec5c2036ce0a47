r"""ScienceQA: 21,208 multiple choice questions of schools, about half of them with a picture, in three official splits.

A record of ``problems.json``, by its pid::

    "1": {"question": "Which of these states is farthest north?", "choices": ["West Virginia", "Louisiana", …],
          "answer": 0, "hint": "", "image": "image.png", "task": "closed choice", "grade": "grade2",
          "subject": "social science", "topic": "geography", "category": "Geography",
          "skill": "Read a map: cardinal directions", "lecture": "…", "solution": "…", "split": "train"}

Beside it lie ``pid_splits.json`` (name of a split to pids), ``captions.json`` (captions of the pictures by ViT-GPT2)
and the pictures, ``SPLIT/PID/image.png``. In the file is not: what the pictures show, and which knowledge is asked for.

Address: https://github.com/lupantech/ScienceQA . Licence: CC BY-NC-SA 4.0. Citation: Lu et al., Learn to Explain:
Multimodal Reasoning via Thought Chains for Science Question Answering, NeurIPS 2022, arXiv:2209.09513.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmkg.errors import DumpError, NotFound, unknown_name
from mmkg.tasks.json_files import Reject, count_reasons, find_json, read_json_object, require_json

logger = logging.getLogger(__name__)

SUBJECTS = ("natural science", "social science", "language science")
SPLITS = ("train", "val", "test")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_PROBLEM_FILES = ("problems.json", "problems_trainval.json")
_TEXT_FIELDS = ("question", "hint", "task", "topic", "category", "skill", "lecture", "solution")
_GRADE = re.compile(r"grade([1-9]|1[0-2])")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A question with its choices.

    Attributes:
        pid: the official id.
        question: the text.
        choices: two to five texts, in the order in which they are lettered.
        answer: index of the right choice, from 0.
        hint: the textual context, "" without one.
        image: file name of the picture, None without one.
        caption: what a captioner says of the picture, None without one.
        task: closed choice | yes or no | true-or false.
        grade: 1 to 12, of a school in the United States.
        subject: one of `SUBJECTS`.
        topic, category, skill: ever finer; a skill is shared by questions of one template.
        lecture: the background, "" without one.
        solution: how the answer follows, "" without one.
        split: train | val | test, as in the official ``pid_splits.json``.
    """

    pid: str
    question: str
    choices: tuple[str, ...]
    answer: int
    hint: str
    image: str | None
    caption: str | None
    task: str
    grade: int
    subject: str
    topic: str
    category: str
    skill: str
    lecture: str
    solution: str
    split: str

    @property
    def image_path(self) -> str | None:
        """Where the picture lies below the folder of pictures: ``SPLIT/PID/image.png``; None without one."""
        return f"{self.split}/{self.pid}/{self.image}" if self.image else None


@dataclass(frozen=True, kw_only=True)
class ScienceQa:
    """What was read of a folder.

    Attributes:
        problems: in the order of the file.
        rejects: records that cannot be used; their `item` is the pid.
        pids_of_split: the official lists, the three splits and what else the file names (trainval, minitrain, …).
        missing: how many pids of each list are not in the file of problems at all.
    """

    problems: tuple[Problem, ...]
    rejects: tuple[Reject, ...]
    pids_of_split: Mapping[str, tuple[str, ...]]
    missing: Mapping[str, int]

    def split(self, name: str) -> list[Problem]:
        """The problems of a split that are at hand, in the order of the official list.

        Raises:
            NotFound: no list is called so.
        """
        if name not in self.pids_of_split:
            raise NotFound(unknown_name("split", name, self.pids_of_split))
        by_pid = {problem.pid: problem for problem in self.problems}
        return [by_pid[pid] for pid in self.pids_of_split[name] if pid in by_pid]


def read_scienceqa(folder: Path) -> ScienceQa:
    """Read the problems of a folder: ``problems.json`` or ``problems_trainval.json``, splits, and captions if there.

    Args:
        folder: holds the files, each plain or gzipped.

    Returns:
        Every record as a problem or as a reject.

    Raises:
        DumpError: a file is missing, cut or not what its name says, or a pid is in two of the three splits.
    """
    path = require_json(folder, *_PROBLEM_FILES)
    records = read_json_object(path)
    lists = _read_splits(require_json(folder, "pid_splits.json"))
    captions = _read_captions(find_json(folder, "captions.json"))
    split_of = {pid: name for name in SPLITS for pid in lists[name]}
    problems: list[Problem] = []
    rejects: list[Reject] = []
    for pid, record in records.items():
        try:
            problems.append(_problem(pid, record, split_of.get(pid), captions.get(pid)))
        except _BadRecordError as bad:
            rejects.append(Reject(file=path.name, item=pid, reason=bad.reason, detail=bad.detail))
    missing = {name: sum(pid not in records for pid in pids) for name, pids in lists.items()}
    logger.info("%s: %s problems, %s rejected %s", path, f"{len(problems):,}", len(rejects), count_reasons(rejects))
    return ScienceQa(problems=tuple(problems), rejects=tuple(rejects), pids_of_split=lists, missing=missing)


class _BadRecordError(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def _problem(pid: str, record: Any, split: str | None, caption: str | None) -> Problem:
    if not isinstance(record, dict):
        raise _BadRecordError("not_a_record", f"expected an object, found a {type(record).__name__}")
    texts = {name: _text(name, record.get(name)) for name in _TEXT_FIELDS}
    if not texts["question"].strip():
        raise _BadRecordError("no_question", "question: expected a text, found none")
    if split is None:
        raise _BadRecordError("no_split", "expected the pid in train, val or test of pid_splits.json, found it in none")
    if record.get("split", split) != split:
        raise _BadRecordError("other_split", f"split: {record['split']!r} in the record, {split!r} in pid_splits.json")
    if record.get("subject") not in SUBJECTS:
        raise _BadRecordError(
            "unknown_subject", f"subject: expected one of {', '.join(SUBJECTS)}, found {record.get('subject')!r}"
        )
    grade = _GRADE.fullmatch(str(record.get("grade")))
    if grade is None:
        raise _BadRecordError("bad_grade", f"grade: expected grade1 to grade12, found {record.get('grade')!r}")
    choices, answer = _choices(record.get("choices")), record.get("answer")
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < len(choices):
        raise _BadRecordError(
            "answer_outside_choices", f"answer: expected 0 to {len(choices) - 1}, found {record.get('answer')!r}"
        )
    return Problem(
        pid=pid,
        question=texts["question"],
        choices=choices,
        answer=answer,
        hint=texts["hint"],
        image=_image(record.get("image")),
        caption=caption,
        task=texts["task"],
        grade=int(grade[1]),
        subject=record["subject"],
        topic=texts["topic"],
        category=texts["category"],
        skill=texts["skill"],
        lecture=texts["lecture"],
        solution=texts["solution"],
        split=split,
    )


def _text(name: str, found: Any) -> str:
    if not isinstance(found, str):
        raise _BadRecordError("bad_field", f"{name}: expected a text, found {found!r}")
    return found


def _choices(found: Any) -> tuple[str, ...]:
    if not isinstance(found, list) or not found:
        raise _BadRecordError("no_choices", f"choices: expected a list of texts, found {found!r}")
    if not all(isinstance(choice, str) for choice in found) or len(found) > len(LETTERS):
        raise _BadRecordError("bad_field", f"choices: expected at most {len(LETTERS)} texts, found {found!r}")
    return tuple(found)


def _image(found: Any) -> str | None:
    if found is None or found == "":
        return None
    # it becomes a part of a path
    if not isinstance(found, str) or found in (".", "..") or "/" in found or "\\" in found:
        raise _BadRecordError("bad_image", f"image: expected a file name or null, found {found!r}")
    return found


def _read_splits(path: Path) -> dict[str, tuple[str, ...]]:
    lists: dict[str, tuple[str, ...]] = {}
    for name, pids in read_json_object(path).items():
        if not isinstance(pids, list):
            raise DumpError(f"{path}, {name}: expected a list of pids, found a {type(pids).__name__}.")
        lists[name] = tuple(str(pid) for pid in pids)
    if absent := [name for name in SPLITS if name not in lists]:
        raise DumpError(f"{path}: expected the splits {', '.join(SPLITS)}, found no {', '.join(absent)}.")
    seen: dict[str, str] = {}
    for name in SPLITS:
        for pid in lists[name]:
            if pid in seen:
                raise DumpError(f"{path}: expected every pid in one split, found {pid} in {seen[pid]} and in {name}.")
            seen[pid] = name
    return lists


def _read_captions(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    content = read_json_object(path)
    captions = content.get("captions", content)  # some copies hold the inner object alone
    if not isinstance(captions, dict) or not all(isinstance(text, str) for text in captions.values()):
        raise DumpError(f"{path}: expected texts by pid, alone or under 'captions', found others. Is it another file?")
    return captions
