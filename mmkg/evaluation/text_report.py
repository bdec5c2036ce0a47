"""Tables of text scores for the page and the command line: a row for each system, or for each comparison of two."""

from collections.abc import Mapping, Sequence

from mmkg.errors import ConfigError, unknown_name
from mmkg.evaluation.bootstrap import Difference, Interval
from mmkg.evaluation.report import interval_text
from mmkg.evaluation.text_scores import TEXT_SCORES

TITLES = {
    "bleu_1": "BLEU-1",
    "bleu_2": "BLEU-2",
    "bleu_3": "BLEU-3",
    "bleu_4": "BLEU-4",
    "rouge_1": "ROUGE-1",
    "rouge_2": "ROUGE-2",
    "rouge_l": "ROUGE-L",
    "cider": "CIDEr",
    "exact": "exact match",
}


def text_table(
    systems: Mapping[str, Mapping[str, Interval]], *, scores: Sequence[str] = TEXT_SCORES
) -> list[list[str]]:
    """Return rows of cells, the first one the header: each system's scores with their intervals.

    Args:
        systems: name -> ``TextScores.scores``, or what :func:`average_runs` gave.
        scores: which of ``TEXT_SCORES``, in this order.

    Raises:
        ConfigError: no score is called so.
    """
    header = _header(scores)
    return [header, *([name, *(interval_text(found[one]) for one in scores)] for name, found in systems.items())]


def text_comparison_table(
    comparisons: Mapping[str, Mapping[str, Difference]], *, scores: Sequence[str] = TEXT_SCORES
) -> list[list[str]]:
    """Return rows of cells, the first one the header: each comparison's differences with intervals and p-values.

    Args:
        comparisons: "one − other" -> what :func:`compare_texts` or :func:`compare_runs` gave.
        scores: which of ``TEXT_SCORES``, in this order.

    Raises:
        ConfigError: no score is called so.
    """
    header = _header(scores)
    return [header, *([name, *(_difference_text(found[one]) for one in scores)] for name, found in comparisons.items())]


def _header(scores: Sequence[str]) -> list[str]:
    for name in scores:
        if name not in TITLES:
            raise ConfigError(unknown_name("score of texts", name, TITLES))
    return ["", *(TITLES[name] for name in scores)]


def _difference_text(found: Difference) -> str:
    return f"{interval_text(found.difference)}, p {found.p_value:.3g}"
