"""A problem of ScienceQA as texts: what is looked up, what a model is asked, what it should say, what it did say.

A prompt ends where the model goes on. In one pass it is the question and ``Answer:``; in two, as Multimodal-CoT does,
first the question and ``Solution:`` (stage A, the model writes a rationale), then the question, that rationale and
``Answer:`` (stage B)::

    Question: Which of these states is farthest north?
    Context: N/A
    Options: (A) West Virginia (B) Louisiana (C) Arizona (D) Oklahoma
    Solution: Look at the compass rose. …
    Answer:

Sources: Lu et al., NeurIPS 2022, arXiv:2209.09513 (order and the word N/A); Zhang et al., Multimodal Chain-of-Thought
Reasoning in Language Models, TMLR 2024, arXiv:2302.00923 (two passes); Lee et al., ACL 2024, arXiv:2406.02030, appendix
A.6 (the query of retrieval).
"""

import re
from collections.abc import Callable, Iterator, Sequence

from mmkg.tasks.scienceqa import LETTERS, Problem

_NO_CONTEXT = "N/A"
_EDGES = " \t\n.,:;!?"
_STRAY = "*_`\"'“”‘’$"  # Markdown and quotes around an answer
_WITHOUT_STRAY = str.maketrans("", "", _STRAY)
_AROUND = r"[\s*_`\"'“”‘’$]*"
# "(B)", "[b]", "(B" at the end of what was written; not the "(s)" of "magnet(s)"
_IN_BRACKETS = re.compile(r"(?<!\w)[(\[]\s*([A-Za-z])\s*(?:[)\]]|$)")
# "B) Louisiana", "B. Louisiana", "(B): Louisiana"
_LEADS = re.compile(r"[(\[]?([A-Za-z])(?:[)\]][.:]?|[.:])(?=\s|$)")
_LABEL = re.compile(r"(?:(?<=\s)|^)[(\[]?([A-Z])[)\].:](?=[\s.,:;!?]|$)")
_ENDS = re.compile(r"(?<!\w)[(\[][A-Z][)\]]\W*$")
# "the answer is", "Answer:", "the correct option is"; not "Options: (A) … (B) …", which repeats the question
_STATES = re.compile(
    rf"\b(?:answer|(?:correct|right|best)\s+(?:option|choice|letter|one)){_AROUND}"
    rf"(?:(?:is|would be|should be|must be|will be)\b|:|=|-)\s*:?\s*(?:{_AROUND}(?:option|choice|letter)\b\s*:?\s*)?",
    re.IGNORECASE,
)
_PAUSE = r"(?=\s*$|\s*[.,:;!?)\]](?:\s|$)|\s*\n|\s+(?:because|since|as|which|who)\b)"
# a bare letter; "A", "I" and lower-case letters are words too, so they count only where the text ends or pauses
_BARE = re.compile(rf"([B-HJ-Z])(?![\w'-])|([A-Za-z]){_PAUSE}")
_NEXT_QUESTION = re.compile(r"\n\s*Question\s*:", re.IGNORECASE)
_NEGATED = re.compile(r"\b(?:not|(?:is|are|was|can|does)n['’]?t)\s+(?:option\s+|choice\s+)?$", re.IGNORECASE)


def retrieval_text(problem: Problem) -> str:
    """The query of retrieval: question, textual context and options, one after another.

    The options stand without letters, which say nothing about the world: our decision.
    """
    return " ".join(part for part in (problem.question, problem.hint, *problem.choices) if part)


def question_text(problem: Problem, *, with_lecture: bool = False, with_caption: bool = False) -> str:
    """Question, context and options, in three lines; the context is ``N/A`` without a hint.

    Args:
        problem: what is asked.
        with_lecture: a fourth line with the lecture, where there is one. Published rows without it are not comparable.
        with_caption: the caption of the picture, if there is a picture, stands behind the hint.
    """
    caption = problem.caption if with_caption and problem.image and problem.caption else ""
    context = " ".join(part for part in (problem.hint, caption) if part) or _NO_CONTEXT
    options = " ".join(f"({letter}) {choice}" for letter, choice in zip(LETTERS, problem.choices, strict=False))
    text = f"Question: {problem.question}\nContext: {context}\nOptions: {options}"
    return f"{text}\nLecture: {problem.lecture}" if with_lecture and problem.lecture else text


def rationale_text(problem: Problem) -> str:
    """What stage A should write: lecture and solution, in one line; "" where the problem has neither."""
    return " ".join(" ".join(part for part in (problem.lecture, problem.solution) if part).split())


def answer_text(problem: Problem) -> str:
    """What a model should write at the end, such as ``The answer is (B).``"""
    return f"The answer is ({LETTERS[problem.answer]})."


def rationale_prompt(problem: Problem, *, with_caption: bool = False) -> str:
    """Prompt of stage A, which asks for the rationale; the target is :func:`rationale_text`."""
    return f"{question_text(problem, with_caption=with_caption)}\nSolution:"


def answer_prompt(problem: Problem, rationale: str | None = None, *, with_caption: bool = False) -> str:
    """Prompt of stage B, or of a single pass without a rationale; the target is :func:`answer_text`.

    Args:
        problem: what is asked.
        rationale: what stage A wrote, brought into one line: when training the true one, as in Multimodal-CoT.
        with_caption: see :func:`question_text`.
    """
    question = question_text(problem, with_caption=with_caption)
    solution = " ".join((rationale or "").split())
    return f"{question}\nSolution: {solution}\nAnswer:" if solution else f"{question}\nAnswer:"


def read_choice(text: str, num_choices: int, *, choices: Sequence[str] = ()) -> int | None:
    """Read out of a model's words which choice it took.

    Read are, in this order: what is stated ("the answer is (B)", "Answer: b", "the correct option is Louisiana"), a
    letter alone, the text of a choice alone, the only letter that begins or ends the text like a label ("B) Louisiana",
    "so it is (B)."). Only what stands before a next "Question:" counts. Nothing is guessed: two statements that differ,
    a letter beyond the choices, a negation or a choice that is merely mentioned are no answer. The texts of choices are
    compared as they are written first, since some differ in capitals, quotes or the final stop only.

    The official script reads "The answer is X." alone.

    Args:
        text: what the model wrote.
        num_choices: how many choices there were.
        choices: their texts, for answers in words; none are read without them.

    Returns:
        The index, or None where no choice can be read.

    >>> read_choice("Compare the maps. The answer is (B).", 4), read_choice("A or B", 4)
    (1, None)
    """
    words = _NEXT_QUESTION.split(text, maxsplit=1)[0].strip()
    found = set(_statements(words, choices))
    if not found:
        alone = words.strip(f"{_EDGES}{_STRAY}()[]")
        if len(alone) == 1 and alone.upper() in LETTERS:
            found = {LETTERS.index(alone.upper())}
        else:
            found = _named(words, choices, re.fullmatch) or set(_labels(words.translate(_WITHOUT_STRAY)))
    if len(found) != 1:
        return None
    index = found.pop()
    return index if index < num_choices else None


def _statements(words: str, choices: Sequence[str]) -> Iterator[int]:
    """The choices that are stated, by letter or by text."""
    for match in _STATES.finditer(words):
        rest = words[match.end() :].lstrip()
        bare_rest = rest.translate(_WITHOUT_STRAY).lstrip()
        if (letter := _IN_BRACKETS.match(bare_rest)) is not None:
            yield LETTERS.index(letter[1].upper())
        elif named := _named(rest, choices, re.match) or _named(rest.partition("\n")[0], choices, re.match):
            yield from named
        elif (bare := _BARE.match(bare_rest)) is not None:
            yield LETTERS.index((bare[1] or bare[2]).upper())


def _named(words: str, choices: Sequence[str], match: Callable[[str, str], re.Match[str] | None]) -> set[int]:
    """The choices whose text the words are, or begin with: the longest, in the strictest way of comparing that fits."""
    for plain in (_spaced, _without_edges, _folded):
        texts = [plain(choice) for choice in choices]
        fitting = [text for text in texts if len(text) > 1 and match(f"{re.escape(text)}{_PAUSE}", plain(words))]
        if fitting:  # of "Utah" and "Utah and Ohio" the longer one was meant
            longest = max(fitting, key=len)
            return {index for index, text in enumerate(texts) if text == longest}
    return set()


def _labels(words: str) -> Iterator[int]:
    """The letters that stand like labels in a text that begins or ends with one; "not (A)" is none."""
    if (leading := _LEADS.match(words)) is not None:
        yield LETTERS.index(leading[1].upper())
    elif not _ENDS.search(words):
        return
    for label in _LABEL.finditer(words):
        if not _NEGATED.search(words[: label.start()]):
            yield LETTERS.index(label[1])


def _spaced(text: str) -> str:
    return " ".join(text.split())


def _without_edges(text: str) -> str:
    return _spaced(text).strip(_EDGES)


def _folded(text: str) -> str:
    return _spaced(text.translate(_WITHOUT_STRAY).casefold()).strip(_EDGES)
