"""How credible an identity link is: what speaks for it, as one number from 0 to 1.

Where a fact stands here: beside the links of :mod:`mmkg.graph.identity`. Evidence that is missing (no name, no
neighbour) is worth one half: it speaks neither for nor against.

==============  ======  ===============================================================================================
evidence        weight  value
==============  ======  ===============================================================================================
names             0.40  the best Dice coefficient of letter trigrams over the names of both ends; a name is a label or
                        the end of the IRI, without case, accents, punctuation and a suffix in parentheses
neighbours        0.20  shared neighbours over those of the end that has fewer, neighbours being classes of IRIs
support           0.20  1 - 0.5 ** s for s = sources and link dumps that state it, plus one if stated both ways
types             0.10  shared last segments of type IRIs over those of the end that has fewer
triangle          0.10  1 if a third IRI is linked to both ends
==============  ======  ===============================================================================================

The weights are ours: set by hand so that names decide when they are known and structure decides when they are not
(cf. Raad et al., Detecting erroneous identity links on the Web using network metrics, ISWC 2018: structure alone).
"""

import re
import unicodedata
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from urllib.parse import unquote

import numpy as np

WEIGHTS = {"names": 0.40, "neighbours": 0.20, "support": 0.20, "types": 0.10, "triangle": 0.10}
_UNKNOWN = 0.5
_MAX_NAMES = 16

_SUFFIX = re.compile(r"\([^()]*\)\s*$")
_WORDS = re.compile(r"\w+")
# Ends of IRIs that are codes: MIDs, Wikidata's Q42, numbers, hashes.
_CODE = re.compile(r"(?:[mg]\.[0-9a-z_]+|[A-Z]?[0-9]+|[0-9a-f]{16,})")
_YAGO_SUFFIX = re.compile(r"_Q[0-9]+$")


def normalise_name(name: str) -> str:
    """A name without case, accents, punctuation and a suffix in parentheses.

    >>> normalise_name("Évreux_(city)")
    'evreux'
    """
    plain = _SUFFIX.sub("", name.replace("_", " ")) or name
    folded = unicodedata.normalize("NFKD", plain.casefold())
    return " ".join(_WORDS.findall("".join(c for c in folded if not unicodedata.combining(c))))


def name_in_iri(iri: str) -> str | None:
    """The name that the end of an IRI spells; None where it is a code.

    >>> name_in_iri("http://dbpedia.org/resource/Andy_Griffith"), name_in_iri("http://rdf.freebase.com/ns/m.02mjmr")
    ('andy griffith', None)
    """
    if iri.startswith("_:"):
        return None
    last = unquote(re.split(r"[/#]", iri.rstrip("/#"))[-1])
    if _CODE.fullmatch(last):
        return None
    return normalise_name(_YAGO_SUFFIX.sub("", last)) or None


def _trigrams(name: str) -> frozenset[str]:
    padded = f"  {name} "
    return frozenset(padded[i : i + 3] for i in range(len(padded) - 2))


@dataclass(frozen=True)
class Evidence:
    """What is known of the ends of questioned links, by rank.

    Attributes:
        iris: the IRI of each.
        names: labels as they stand.
        types: type IRIs.
        neighbours: anything hashable that stands for what it is tied to.
        linked: ranks that it has a link with.
    """

    iris: Mapping[int, str]
    names: Mapping[int, Set[str]] = field(default_factory=dict)
    types: Mapping[int, Set[str]] = field(default_factory=dict)
    neighbours: Mapping[int, Set[object]] = field(default_factory=dict)
    linked: Mapping[int, Set[int]] = field(default_factory=dict)

    def _name_trigrams(self, node: int) -> list[frozenset[str]]:
        names = {normalise_name(name) for name in self.names.get(node, ())} | {name_in_iri(self.iris[node]) or ""}
        return [_trigrams(name) for name in sorted(names - {""})[:_MAX_NAMES]]

    def score(self, left: np.ndarray, right: np.ndarray, statements: np.ndarray) -> np.ndarray:
        """The credibility of links.

        Args:
            left: Q ranks.
            right: Q ranks.
            statements: Q; sources and link dumps that state it, plus one if both directions are stated.

        Returns:
            Q numbers from 0 to 1.
        """
        trigrams = {node: self._name_trigrams(node) for node in {*left.tolist(), *right.tolist()}}
        types = {node: {re.split(r"[/#]", iri)[-1].lower() for iri in self.types.get(node, ())} for node in trigrams}
        scores = support_score(statements)
        for number, (one, other) in enumerate(zip(left.tolist(), right.tolist(), strict=True)):
            scores[number] += (
                WEIGHTS["names"] * _best_dice(trigrams[one], trigrams[other])
                + WEIGHTS["neighbours"] * _overlap(self.neighbours.get(one, set()), self.neighbours.get(other, set()))
                + WEIGHTS["types"] * _overlap(types[one], types[other])
                + WEIGHTS["triangle"] * bool(self.linked.get(one, set()) & self.linked.get(other, set()))
            )
        return np.round(scores, 6)


def support_score(statements: np.ndarray) -> np.ndarray:
    """The part of the score that comes from who states a link."""
    return WEIGHTS["support"] * (1 - 0.5**statements)


def unquestioned_score(statements: np.ndarray) -> np.ndarray:
    """The score of links of which only the support is known: the rest counts as unknown, or as no triangle."""
    unknown = _UNKNOWN * (WEIGHTS["names"] + WEIGHTS["neighbours"] + WEIGHTS["types"])
    return np.round(support_score(statements) + unknown, 6)


def _overlap(one: Set[object], other: Set[object]) -> float:
    if not one or not other:
        return _UNKNOWN
    return len(one & other) / min(len(one), len(other))


def _best_dice(one: list[frozenset[str]], other: list[frozenset[str]]) -> float:
    if not one or not other:
        return _UNKNOWN
    return max(2 * len(a & b) / (len(a) + len(b)) for a in one for b in other)
