"""Questions of Visual Genome about a region of a picture; those about a whole picture are counted and left out.

``qa_to_region_mapping.json`` ties a question to the region that people looked at when they asked it. A question that is
not in it is free-form. Only the former are what MR-MKG pre-trains on (Lee et al., ACL 2024, appendix A.3). For the
files see :mod:`mmkg.tasks.visual_genome`.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from mmkg.tasks.json_files import (
    Reject,
    count_reasons,
    entries_of,
    is_whole,
    read_json_object,
    require_json,
    words,
)
from mmkg.tasks.visual_genome import Box, read_box, read_images

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class RegionQuestion:
    """A question that was asked about a region of a picture, and that region's box and description."""

    qa_id: int
    image_id: int
    region_id: int
    question: str
    answer: str
    phrase: str
    box: Box


@dataclass(frozen=True, kw_only=True)
class RegionQuestions:
    """Questions about regions.

    Attributes:
        questions: in the order of the file.
        num_free_form: questions that no region is known of; they are left out.
        rejects: questions about a region that cannot be used.
    """

    questions: tuple[RegionQuestion, ...]
    num_free_form: int
    rejects: tuple[Reject, ...]


def read_region_questions(folder: Path, *, image_ids: Collection[int] | None = None) -> RegionQuestions:
    """Read the questions that ``qa_to_region_mapping.json`` ties to a region.

    Args:
        folder: holds the mapping, ``question_answers.json`` and ``region_descriptions.json``, each plain or gzipped.
        image_ids: of the pictures that are wanted; None for all.

    Raises:
        DumpError: a file is missing, cut or not what its name says.
    """
    path = require_json(folder, "question_answers.json")
    region_of = read_json_object(require_json(folder, "qa_to_region_mapping.json"))
    rejects: list[Reject] = []
    wanted = {region_id for region_id in region_of.values() if is_whole(region_id)}
    regions = _read_regions(require_json(folder, "region_descriptions.json"), image_ids, wanted, rejects)
    questions: dict[int, RegionQuestion] = {}
    num_free_form = 0
    for image_id, record in read_images(path, image_ids, rejects):
        for entry in entries_of(record, "qas"):
            qa_id, question, answer = entry.get("qa_id"), words(entry.get("question")), words(entry.get("answer"))
            item = f"image {image_id}, question {qa_id}"
            if not is_whole(qa_id):
                detail = f"qa_id: expected a number, found {qa_id!r}"
                rejects.append(Reject(file=path.name, item=item, reason="bad_field", detail=detail))
                continue
            if str(qa_id) not in region_of:
                num_free_form += 1
                continue
            region_id = region_of[str(qa_id)]
            region = regions.get(region_id) if is_whole(region_id) else None
            if qa_id in questions:
                reason, detail = "repeated_question", "expected every qa_id once"
            elif not question or not answer:
                reason, detail = "no_text", f"expected question and answer, found {question!r} and {answer!r}"
            elif region is None:
                reason, detail = "no_region", f"expected region {region_id!r} in region_descriptions.json with a box"
            elif region[0] != image_id:
                reason, detail = "region_of_another_image", f"region {region_id} lies in image {region[0]}"
            else:
                questions[qa_id] = RegionQuestion(
                    qa_id=qa_id,
                    image_id=image_id,
                    region_id=region_id,
                    question=question,
                    answer=answer,
                    phrase=region[1],
                    box=region[2],
                )
                continue
            rejects.append(Reject(file=path.name, item=item, reason=reason, detail=detail))
    logger.info(
        "%s: %s questions about regions, %s free-form, rejected %s",
        path,
        f"{len(questions):,}",
        f"{num_free_form:,}",
        count_reasons(rejects),
    )
    return RegionQuestions(questions=tuple(questions.values()), num_free_form=num_free_form, rejects=tuple(rejects))


def _read_regions(
    path: Path, image_ids: Collection[int] | None, wanted: Collection[int], rejects: list[Reject]
) -> dict[int, tuple[int, str, Box]]:
    """Image, phrase and box of regions, by region_id."""
    return {
        entry["region_id"]: (image_id, words(entry.get("phrase")), box)
        for image_id, record in read_images(path, image_ids, rejects)
        for entry in entries_of(record, "regions")
        if is_whole(entry.get("region_id")) and entry["region_id"] in wanted and (box := read_box(entry)) is not None
    }
