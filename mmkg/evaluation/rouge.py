"""ROUGE of each item: F of shared words, of shared pairs of words, and of the longest common subsequence of words."""

import logging
import re
from collections.abc import Sequence

import numpy as np

from mmkg.errors import require
from mmkg.evaluation.bootstrap import FloatArray

logger = logging.getLogger(__name__)

_TYPES = ("rouge1", "rouge2", "rougeL")
_KEPT = re.compile(r"[a-z0-9]")


def rouge_of_items(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> FloatArray:
    """Return (N, 3): ROUGE-1, ROUGE-2 and ROUGE-L of each item, 0 to 1, against the reference with the highest of each.

    The scorer lower-cases, does not stem, and takes each run of a-z and 0-9 for a word. What is written in other
    letters has no word and scores 0, even when it is right; how many items that befalls is logged.

    Raises:
        NotInstalled: the extra ``text`` is missing.

    Source: Lin, ACL 2004 workshop, W04-1013, sections 2 and 3.1, with F of equal weights, as rouge_score has it.
    torchmetrics, with which MMGL reports, has the same words and F.
    """
    rouge_score = require("rouge_score.rouge_scorer", extra="text", needed_by="the ROUGE score")
    wordless = sum(not any(_KEPT.search(text.lower()) for text in texts) for texts in references)
    if wordless:
        logger.warning("%s items have no reference with a letter a-z or a digit: their ROUGE is 0", f"{wordless:,}")
    scorer = rouge_score.RougeScorer(list(_TYPES), use_stemmer=False)
    found = [scorer.score_multi(list(texts), said) for said, texts in zip(predictions, references, strict=True)]
    return np.array([[one[kind].fmeasure for kind in _TYPES] for one in found], np.float64).reshape(-1, len(_TYPES))
