"""Corpus BLEU out of sums of n-gram counts: of all items, or of as many bootstrap draws of them as one likes."""

from collections.abc import Sequence

import numpy as np

from mmkg.errors import require
from mmkg.evaluation.bootstrap import FloatArray

BLEU_ORDER = 4
NUM_COUNTS = 2 * BLEU_ORDER + 2


def bleu_counts(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> FloatArray:
    """Return (N, 10): what each item adds to the sums that :func:`bleu_of_sums` takes.

    They are matched n-grams of order 1 to 4 (an n-gram matches as often as in the reference that has most of it),
    n-grams of order 1 to 4 of the prediction, its words, and the words of the reference that is nearest in length,
    of equally near ones the shortest (torchmetrics takes the first). Words are what stands between spaces; case counts.

    Raises:
        NotInstalled: the extra ``text`` is missing.
    """
    sacrebleu = require("sacrebleu.metrics.bleu", extra="text", needed_by="the BLEU score")
    # its effective order changes the score of a sentence, which nobody reads here, not its counts
    scorer = sacrebleu.BLEU(tokenize="none", smooth_method="none", max_ngram_order=BLEU_ORDER, effective_order=True)
    found = [scorer.sentence_score(said, list(texts)) for said, texts in zip(predictions, references, strict=True)]
    rows = [[*one.counts, *one.totals, one.sys_len, one.ref_len] for one in found]
    return np.array(rows, np.float64).reshape(len(rows), NUM_COUNTS)


def bleu_of_sums(sum_XC: FloatArray) -> FloatArray:
    r"""Return (..., 4): BLEU-1 to BLEU-4, 0 to 1, of sums (..., 10) of rows of :func:`bleu_counts`.

    .. math:: \mathrm{BLEU}_n = \min(1, e^{1 - r / c}) \left( \prod_{k=1}^{n} \frac{m_k}{t_k} \right)^{1 / n}

    with :math:`m_k` matched of :math:`t_k` k-grams, :math:`c` words of the predictions and :math:`r` of the
    references. Without smoothing: where an order has no match, or there is no word at all, the score is 0.

    Source: Papineni et al., ACL 2002, section 2.3.
    """
    match_X4, total_X4 = sum_XC[..., :BLEU_ORDER], sum_XC[..., BLEU_ORDER : 2 * BLEU_ORDER]
    words_X, reference_words_X = sum_XC[..., -2], sum_XC[..., -1]
    with np.errstate(divide="ignore"):  # log 0 is minus infinity, and its exponential 0 again
        log_precision_X4 = np.log(match_X4 / np.maximum(total_X4, 1))
    mean_log_X4 = np.cumsum(log_precision_X4, axis=-1) / np.arange(1, BLEU_ORDER + 1)
    brevity_X = np.exp(np.minimum(0, 1 - reference_words_X / np.maximum(words_X, 1)))
    return brevity_X[..., None] * np.exp(mean_log_X4)
