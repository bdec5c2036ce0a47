"""The first sentence of a text, by rule: what is asked for where a benchmark gives the text whole."""

import re

from mmkg.tasks.json_files import words

_SENTENCE_END = re.compile(r"[.!?]+[\"'”’)\]]*(?=\s)")
_BEFORE_NAMES = re.compile("mr|mrs|ms|dr|prof|st|jr|sr|gen|col|lt|sgt|capt|rev|hon|sen|rep|gov|vs|mt|ft")
_BEFORE_NUMBERS = re.compile("no|nos|vol|fig|pp|ca|approx|ch|art")


def split_first_sentence(text: str) -> tuple[str, str]:
    """Part a text into its first sentence and the rest, both with single spaces.

    The sentence ends with its line, or before that at the first ``.``, ``!`` or ``?`` (and closing quotes and
    brackets) that white space and a capital letter or digit follow; not while no letter came or a bracket is open, not
    behind an initial (``J.``), a word with dots inside (``U.S.``), a title (``Dr.``), or ``No.`` and a number.

    >>> split_first_sentence("Dr. J. Who met No. 6. He ran.")
    ('Dr. J. Who met No. 6.', 'He ran.')
    """
    line, _, others = text.strip().partition("\n")
    for end in _SENTENCE_END.finditer(line):
        behind = line[end.end() :].lstrip(" \t\"'“‘([")
        if _may_end(line[: end.start()], end[0], behind):
            return words(line[: end.end()]), words(f"{line[end.end() :]} {others}")
    return words(line), words(others)


def _may_end(before: str, mark: str, behind: str) -> bool:
    """Whether a mark behind these words, and before others, ends a sentence."""
    if not behind or not behind[0].isalnum() or behind[0].islower():
        return False
    if not any(map(str.isalpha, before)) or before.count("(") > f"{before}{mark}".count(")"):
        return False
    if mark[0] != ".":
        return True
    word = before.rsplit(None, 1)[-1].lstrip("\"'“‘([")
    folded = word.casefold()
    short = (len(word) == 1 and word.isalpha()) or "." in word or _BEFORE_NAMES.fullmatch(folded)
    return not short and not (_BEFORE_NUMBERS.fullmatch(folded) and behind[0].isdigit())
