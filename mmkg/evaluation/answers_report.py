"""The page of a run on questions: accuracy with its interval, further tables, what went wrong, what was trained."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmkg.evaluation.answers import AnswerScore, GivenAnswer
from mmkg.evaluation.report import html_note, html_page, html_pairs, html_picture, html_table, interval_text


def make_answers_report(
    name: str,
    score: AnswerScore,
    *,
    failed: Sequence[GivenAnswer],
    curve: bytes | None,
    parameters: Sequence[Sequence[str]],
    tables: Mapping[str, Sequence[Sequence[str]]],
    settings: Mapping[str, Any],
) -> str:
    """Return an HTML page that has its pictures inside and asks for nothing from anywhere.

    Args:
        name: of the run.
        score: of its test questions.
        failed: some that were answered wrongly.
        curve: PNG of the learning curves, None without any.
        parameters: rows of part, trainable, frozen, share.
        tables: heading -> rows of cells, the first one the header.
        settings: recipe and environment.
    """
    chance = "" if score.chance is None else f" Chance is {score.chance:.4f}."
    note = (
        f"{score.num_questions:,} questions, {score.num_right:,} of them right.{chance} Intervals hold 95% of "
        f"{score.draws:,} bootstrap draws of questions: how much a number would move with other questions, not with "
        "another seed of training."
    )
    parts = [html_note(note), html_table(["", name], [["accuracy", interval_text(score.accuracy)]])]
    for heading, rows in tables.items():
        parts += [f"<h2>{heading}</h2>", html_table(rows[0], rows[1:])]
    if curve is not None:
        parts += ["<h2>Learning</h2>", html_picture(curve, "learning curves")]
    if failed:
        wrong = [[one.key, one.question, one.right, one.given] for one in failed]
        parts += ["<h2>Answered wrongly</h2>", html_table(["", "question", "right", "given"], wrong)]
    parts += ["<h2>Parameters</h2>", html_table(["part", "trainable", "frozen", "share trained"], parameters)]
    parts += ["<h2>Settings</h2>", html_pairs(settings)]
    return html_page(name, parts)
