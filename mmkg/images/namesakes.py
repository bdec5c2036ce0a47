"""Which of the entities of a name is meant: one, or none with a reason; never a guess.

Where a picture stands here: :mod:`mmkg.images.names` found the entities that are called as its name says, each with the
level at which the two names are alike, from 0 (exact) to 4 (short).

**With types.** Of the first level that has any, the entities of the folder's types count: one is the match, several are
ambiguous, and if no level has one of these types the entities found are `other_type`. A name that was made shorter must
belong to nobody else: "Korea" is part of the names of two countries, so it is none.

**Without types.** Names of different things are often equal: half of ImageNet's classes that FB15k knows by name are
bands, islands and sports there. So nothing is matched unless the folder as a whole speaks for it (else `untrusted`): at
least half of its names are names of the graph, at least three of them of one entity, and four fifths of those share
types that are not common in the graph. What lacks these types is `other_type`. Only levels 0 to 2 count. A name is
`ambiguous` too if the entity's IRI tells it apart from others of that name (``dbr:Drake_(rapper)`` for "drake"), or if
another entity has it as its short one ("Ireland": the island, and the Republic of Ireland).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from mmkg.images.graph_view import put
from mmkg.images.visual import put_shares

EXACT, FOLDED, REORDERED, QUALIFIED, SHORT = range(5)
PART = 5
"""No match: the end of a longer name, such as "korea" of "South Korea"."""
LEVELS = ("exact", "folded", "reordered", "qualified", "short")

MIN_SHARE_FOUND = 0.5
"""Without types: of a folder's names that the graph must know."""
MIN_MATCHES = 3
"""Without types: names of one entity each; fewer say nothing about each other."""
MIN_SHARE_ALIKE = 0.8
"""Without types: of those matches of which anything is known, that must have one of the folder's common types."""
_MAX_SHARE_IN_GRAPH = 0.5  # a type that more entities have says nothing
_MAX_SHOWN = 5


@dataclass(frozen=True)
class Match:
    """The entity that a name means, the entity's own name, and how alike the two are."""

    entity_index: int
    text: str
    level: str


@dataclass(frozen=True)
class Refusal:
    """Why a name means no entity: a key of images.discover.UNMATCHED_REASONS, and words."""

    reason: str
    detail: str


@dataclass(frozen=True)
class Candidate:
    """An entity that is called so.

    Attributes:
        entity_index: of the graph.
        entity_id: its IRI.
        level: how alike the names are, or `PART`.
        text: its own name.
        allowed: it has one of the folder's types.
        told_apart: one of its names is this one with something in parentheses behind it.
    """

    entity_index: int
    entity_id: str
    level: int
    text: str
    allowed: bool
    told_apart: bool


def decide(
    connection: duckdb.DuckDBPyConnection,
    names: Sequence[str],
    candidates: Iterable[tuple[str, list[Candidate]]],
    *,
    typed: bool,
) -> dict[str, Match | Refusal]:
    """Decide for each name of a folder.

    Args:
        connection: with `relation_types`, and `candidate_types` (entity_index, type) of all candidates.
        names: all of the folder.
        candidates: of each name that has any, in order of level.
        typed: whether the folder has types.
    """
    decided: dict[str, Match | Refusal] = {name: Refusal("no_entity", "no entity has this name") for name in names}
    choose = _choose_typed if typed else _choose_untyped
    for name, of_name in candidates:
        decided[name] = choose(of_name)
    return _without_shared(decided) if typed else _trusted(connection, decided)


def _choose_typed(candidates: list[Candidate]) -> Match | Refusal:
    """The one candidate of the folder's types at the first level that has any."""
    allowed = [candidate for candidate in candidates if candidate.allowed]
    if not any(candidate.level <= SHORT for candidate in allowed):
        others = [candidate for candidate in candidates if candidate.level <= SHORT]
        if not others:
            return Refusal("no_entity", "no entity has this name")
        return Refusal("other_type", f"called so, but of none of the folder's types: {_ids(others)}")
    level = allowed[0].level
    best = [candidate for candidate in allowed if candidate.level == level]
    rivals = allowed if level == SHORT else best
    if len(rivals) > 1:
        return Refusal("ambiguous", f"called so, or {LEVELS[level]} so: {_ids(rivals)}")
    return Match(best[0].entity_index, best[0].text, LEVELS[level])


def _choose_untyped(candidates: list[Candidate]) -> Match | Refusal:
    """The one candidate at the first level, unless it is one of several things of that name."""
    usable = [candidate for candidate in candidates if candidate.level <= QUALIFIED]
    if not usable:
        return Refusal("no_entity", "no entity has this name")
    if any(candidate.level == SHORT for candidate in candidates):
        return Refusal("ambiguous", f"called so, in full or in short: {_ids(candidates)}")
    best = [candidate for candidate in usable if candidate.level == usable[0].level]
    if len(best) > 1:
        return Refusal("ambiguous", f"called so: {_ids(best)}")
    if best[0].told_apart:
        return Refusal("ambiguous", f"its own IRI tells it apart from others of the name: {_ids(best)}")
    return Match(best[0].entity_index, best[0].text, LEVELS[best[0].level])


def _ids(candidates: Sequence[Candidate]) -> str:
    shown = ", ".join(candidate.entity_id for candidate in candidates[:_MAX_SHOWN])
    return shown + (f" and {len(candidates) - _MAX_SHOWN} more" if len(candidates) > _MAX_SHOWN else "")


def _without_shared(decided: dict[str, Match | Refusal]) -> dict[str, Match | Refusal]:
    """Refuse shortened names that end at an entity which another name of the folder means too."""
    names: dict[int, list[str]] = {}
    for name, outcome in decided.items():
        if isinstance(outcome, Match):
            names.setdefault(outcome.entity_index, []).append(name)
    for name, outcome in decided.items():
        if isinstance(outcome, Match) and outcome.level == LEVELS[SHORT] and len(names[outcome.entity_index]) > 1:
            others = ", ".join(repr(other) for other in names[outcome.entity_index] if other != name)
            decided[name] = Refusal("ambiguous", f"only a shorter form is known, which {others} means too")
    return decided


def _trusted(connection: duckdb.DuckDBPyConnection, decided: dict[str, Match | Refusal]) -> dict[str, Match | Refusal]:
    """Refuse all matches of a folder that does not speak for itself, and those that are not like the others."""
    matches = {name: outcome for name, outcome in decided.items() if isinstance(outcome, Match)}
    known = sum(isinstance(outcome, Match) or outcome.reason == "ambiguous" for outcome in decided.values())
    doubt, alike = "", {match.entity_index for match in matches.values()}
    if known < MIN_SHARE_FOUND * len(decided) or len(matches) < MIN_MATCHES:
        doubt = f"the graph knows {known} of the {len(decided)} names, {len(matches)} of them as one entity"
    else:
        alike, num_known = _alike(connection, matches)
        if len(alike) < MIN_SHARE_ALIKE * num_known:
            doubt = f"{len(alike)} of the {num_known} entities found have types in common"
    for name, match in matches.items():
        if doubt:
            decided[name] = Refusal("untrusted", f"{doubt}: give the folder `types`")
        elif match.entity_index not in alike:
            decided[name] = Refusal("other_type", "shares no type with what the other names of the folder mean")
    return decided


def _alike(connection: duckdb.DuckDBPyConnection, matches: dict[str, Match]) -> tuple[set[int], int]:
    """The matched entities that have a type in common with half of the others, and how many have a type that counts.

    All of them where less than half have any: then nothing speaks against them.
    """
    matched = sorted({match.entity_index for match in matches.values()})
    put(connection, "matched", pa.table({"entity_index": pa.array(matched, pa.int64())}))
    rows = connection.execute(
        "SELECT entity_index, type FROM candidate_types SEMI JOIN matched USING (entity_index); "
    ).fetchall()
    connection.execute("DROP TABLE matched")
    types_of: dict[int, set[str]] = {}
    counts: dict[str, int] = {}
    for entity_index, type_ in rows:
        types_of.setdefault(entity_index, set()).add(type_)
        counts[type_] = counts.get(type_, 0) + 1
    shares = _shares(connection, sorted(counts))
    telling = {type_ for type_ in counts if shares.get(type_, 0.0) <= _MAX_SHARE_IN_GRAPH}
    known = [entity_index for entity_index, types in types_of.items() if types & telling]
    if 2 * len(known) < len(matched):
        return set(matched), len(matched)
    common = {type_ for type_ in telling if 2 * counts[type_] >= len(known)}
    return {entity_index for entity_index in known if types_of[entity_index] & common}, len(known)


def _shares(connection: duckdb.DuckDBPyConnection, types: Sequence[str]) -> dict[str, float]:
    put_shares(connection, types, "type_shares")
    return dict(connection.execute("SELECT type, share FROM type_shares").fetchall())
