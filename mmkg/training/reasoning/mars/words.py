"""Words that entities of MARS share: what is named in another's description is often its kind, its part or its use.

Shape suffixes: N entities, W words, B entities of questions, C candidates.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from mmkg.tasks.mars import MarKG

Int64Array = npt.NDArray[np.int64]


class SharedWords:
    """Words that an entity and each candidate share, out of their names and descriptions."""

    def __init__(self, markg: MarKG, candidate_C: Int64Array) -> None:
        """Count words.

        Args:
            markg: names and descriptions; an entity without description has no words there.
            candidate_C: what is compared with.
        """
        names = [_words(name) for name in markg.names]
        said = [_words(description or "") for description in markg.descriptions]
        number: dict[str, int] = {}
        for words in (*names, *said):
            for word in words:
                number.setdefault(word, len(number))
        self._name_NW, self._said_NW = (_incidence(rows, number) for rows in (names, said))
        self._name_WC, self._said_WC = (rows_NW[candidate_C].T.tocsr() for rows_NW in (self._name_NW, self._said_NW))
        self._length_N = np.array([max(1, len(words)) for words in names], np.float32)
        self._length_C = self._length_N[candidate_C]

    def of(self, entities: Sequence[int]) -> npt.NDArray[np.float32]:
        """Return (B, C, 4): the candidate's name is in the entity's description (1 or 0), the entity's name in the
        candidate's, the share of words that the two names have in common, and log(1 + how many the descriptions have).
        """
        name_BW, said_BW = self._name_NW[entities], self._said_NW[entities]
        length_B1 = self._length_N[entities][:, None]
        told = _common(said_BW, self._name_WC) == self._length_C
        tells = _common(name_BW, self._said_WC) == length_B1
        alike = _common(name_BW, self._name_WC) / np.maximum(length_B1, self._length_C)
        said = np.log1p(_common(said_BW, self._said_WC))
        return np.stack([told, tells, alike, said], axis=2).astype(np.float32)


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))


def _incidence(rows: Sequence[frozenset[str]], number: Mapping[str, int]) -> csr_array:
    columns = [sorted(number[word] for word in words) for words in rows]
    indptr = np.cumsum([0, *map(len, columns)])
    values = np.ones(indptr[-1], np.float32)
    return csr_array((values, [column for row in columns for column in row], indptr), shape=(len(rows), len(number)))


def _common(one_BW: csr_array, other_WC: csr_array) -> npt.NDArray[np.float32]:
    return np.asarray((one_BW @ other_WC).toarray())
