"""The build once more, in plain Python with sets and dictionaries: slow, and short enough to be believed."""

from collections import defaultdict
from collections.abc import Iterable

from mmkg.terms import DBPEDIA, FREEBASE, LABEL_PREDICATES, OWL_SAME_AS, TYPE_PREDICATES, YAGO
from tests.graph.raw_dumps import Literal, Statement


def _priority(iri: str) -> tuple[int, str]:
    for place, prefix in enumerate((FREEBASE, DBPEDIA, YAGO)):
        if iri.startswith(prefix):
            return place, iri
    return 3, iri


class ReferenceBuild:
    """What a build of dumps has to hold, given which links were believed; no Freebase pack.

    Attributes:
        triples, literals, types: sets of sources by statement.
        entities: ids. aliases, labels: by id.
        duplicates: statements that repeat another.
    """

    def __init__(self, dumps: dict[str, list[Statement]], believed: Iterable[tuple[str, str]]) -> None:
        canonical = self._close(believed)
        self.triples, self.literals, self.types = defaultdict(set), defaultdict(set), defaultdict(set)
        self.entities: set[str] = set()
        num_facts = 0
        for source, statements in dumps.items():
            for head, relation, tail in statements:
                if relation == OWL_SAME_AS and not isinstance(tail, Literal):
                    continue
                num_facts += 1
                one = canonical.get(head, head)
                self.entities.add(one)
                if isinstance(tail, Literal):
                    self.literals[one, relation, tail].add(source)
                elif relation in TYPE_PREDICATES:
                    self.types[one, canonical.get(tail, tail)].add(source)
                else:
                    self.triples[one, relation, canonical.get(tail, tail)].add(source)
                    self.entities.add(canonical.get(tail, tail))
        self.duplicates = num_facts - len(self.triples) - len(self.literals) - len(self.types)
        self.aliases = defaultdict(set)
        for iri, chosen in canonical.items():
            if iri != chosen and chosen in self.entities:
                self.aliases[chosen].add(iri)

    @staticmethod
    def _close(links: Iterable[tuple[str, str]]) -> dict[str, str]:
        classes: dict[str, set[str]] = {}
        for one, other in links:
            merged = classes.get(one, {one}) | classes.get(other, {other})
            for member in merged:
                classes[member] = merged
        return {iri: min(members, key=_priority) for iri, members in classes.items()}

    def label(self, entity: str, languages: list[str]) -> str | None:
        def rank(attribute: str, value: Literal) -> tuple:
            tag = value.language
            for place, language in enumerate(languages):
                if tag == language:
                    return (2 * place, "", LABEL_PREDICATES.index(attribute), value.value)
                if tag is not None and tag.startswith(language + "-"):
                    return (2 * place + 1, "", LABEL_PREDICATES.index(attribute), value.value)
            known = tag is not None
            return (2 * len(languages) + known, tag or "", LABEL_PREDICATES.index(attribute), value.value)

        found = [rank(a, value) for head, a, value in self.literals if head == entity and a in LABEL_PREDICATES]
        return min(found)[3] if found else None

    def functional(self, relation: str) -> bool:
        heads = [head for head, r, _ in self.triples if r == relation]
        return len(heads) == len(set(heads))

    def inverse_share(self, one: str, other: str) -> float:
        pairs, backwards = (
            {(t, h) if turn else (h, t) for h, r, t in self.triples if r == relation}
            for relation, turn in ((one, False), (other, True))
        )
        return len(pairs & backwards) / max(len(pairs), len(backwards))
