"""Identity links between the engine and integers: out to :mod:`mmkg.graph.identity`, back as aliases and ``merges``.

Where a fact stands here: owl:sameAs rows are pairs of keys. They leave the engine as pairs of ranks (each IRI's place
among all link ends in order), are decided, and come back as a table of aliases (key, canonical key).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow as pa

from mmkg.config import Config
from mmkg.graph.evidence import Evidence, unquestioned_score
from mmkg.graph.identity import (
    REASONS,
    LinkGraph,
    choose_canonical,
    close_links,
    find_inconsistent,
    guard,
    priorities,
)
from mmkg.graph.statements import Statements, is_type
from mmkg.graph.workspace import Workspace
from mmkg.shards import TableWriter
from mmkg.terms import LABEL_PREDICATES

# Up to so many links, every link's names, types and neighbours are looked at; beyond, those of inconsistent classes,
# and the score of the others is made of their support alone.
SCORE_ALL_LINKS = 50_000
# Host and, if something follows it, the first folder: http://dbpedia.org/resource/, http://sws.geonames.org/
# Not a dot at the end: to Spark's Java some more characters than a newline end a line.
_FOLDER = r"^[^:]+://([^/]+/[^/#]+[/#])[^\n]"
_HOST = r"^[^:]+://([^/]+/)[^\n]"


@dataclass(frozen=True)
class MergedLinks:
    """What became of the links.

    Attributes:
        aliases: key, canonical (keys), for every IRI of a class of several; None where nothing was merged.
        merged: rows of links that were believed.
        flagged: rows of links that were not.
        classes: classes of several IRIs.
        flagged_classes: inconsistent classes that were cut.
    """

    aliases: Any | None
    merged: int
    flagged: int
    classes: int
    flagged_classes: int


def namespace_of(iri: Any) -> Any:
    """The source namespace of a column of IRIs, without the scheme; null for blank nodes and what has no host."""
    return ibis.coalesce(iri.re_extract(_FOLDER, 1).nullif(""), iri.re_extract(_HOST, 1).nullif(""))


def link_ends(workspace: Workspace, statements: Statements) -> Any:
    """Every end of a link: key, term, end (its rank in order of term)."""
    keys = ibis.union(statements.links.select(key="left"), statements.links.select(key="right"), distinct=True).join(
        statements.terms, "key"
    )
    return workspace.keep("link_ends", keys.select("key", "term").mutate(end=ibis.row_number().over(order_by="term")))


def ranked_links(workspace: Workspace, statements: Statements, ends: Any) -> Any:
    """Every link row by ranks: alias, other, smaller, larger, source, dump, line."""
    links = statements.links
    alias, other = ends.select(left="key", alias="end"), ends.select(right="key", other="end")
    named = links.join(alias, "left").join(other, "right")
    return workspace.keep(
        "ranked_links",
        named.select(
            "alias",
            "other",
            "source",
            "dump",
            "line",
            smaller=ibis.least(named["alias"], named["other"]),
            larger=ibis.greatest(named["alias"], named["other"]),
        ),
    )


def _read_graph(workspace: Workspace, config: Config, ends: Any, pairs: pa.Table, statements: Statements) -> LinkGraph:
    described = ends.select(
        "end", "key", namespace=namespace_of(ends["term"]), bare=ends["term"].re_replace(r"^https?://", ""), term="term"
    )
    namespaces, bares, prefixed = [], [], []
    prefixes = priorities(config.identity.source_priority, {source.name: source.base_iri for source in config.sources})
    rank = described["bare"]
    cases = [(rank.startswith(prefix), place) for place, options in enumerate(prefixes) for prefix in options]
    described = described.mutate(
        priority=ibis.cases(*cases, else_=len(prefixes)) if cases else ibis.literal(0),
        bare_key=workspace.key(described["bare"]),
    )
    names: dict[str | None, int] = {None: -1}
    for batch in workspace.stream(described.select("end", "namespace", "bare_key", "priority").order_by("end")):
        encoded = batch["namespace"].combine_chunks().dictionary_encode()
        codes = np.array([names.setdefault(name, len(names) - 1) for name in encoded.dictionary.to_pylist()] + [-1])
        namespaces.append(codes[encoded.indices.fill_null(len(codes) - 1).to_numpy(zero_copy_only=False)])
        bares.append(batch["bare_key"].to_numpy())
        prefixed.append(batch["priority"].to_numpy())
    marked, mark = _read_marks(workspace, config.identity.disjoint_types, ends, statements)
    return LinkGraph(
        left=pairs["smaller"].to_numpy(),
        right=pairs["larger"].to_numpy(),
        namespace=np.concatenate(namespaces),
        bare=np.concatenate(bares).view(np.int64),
        priority=np.concatenate(prefixed),
        marked=marked,
        mark=mark,
    )


def _read_marks(
    workspace: Workspace, disjoint_types: Sequence[tuple[str, str]], ends: Any, statements: Statements
) -> tuple[np.ndarray, np.ndarray]:
    """Ranks of link ends with a type of a disjoint pair, and the type's number; sorted."""
    numbered = [(iri, 2 * pair + side) for pair, types in enumerate(disjoint_types) for side, iri in enumerate(types)]
    if not numbered:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    table = pa.table({"term": [iri for iri, _ in numbered], "mark": [mark for _, mark in numbered]})
    marks = workspace.put("disjoint_types", table)
    marks = marks.select("mark", tail=workspace.key(marks["term"]))
    nodes = statements.nodes
    typed = (
        nodes.filter(is_type(workspace, nodes["relation"])).join(marks, "tail").join(ends, nodes["head"] == ends["key"])
    )
    rows = workspace.fetch(typed.select("end", "mark").distinct().order_by("end", "mark"))
    return rows["end"].to_numpy(), rows["mark"].to_numpy()


def read_evidence(
    workspace: Workspace, statements: Statements, ends: Any, class_of: np.ndarray, nodes: np.ndarray, links: LinkGraph
) -> Evidence:
    """Look up names, types and neighbours of link ends.

    Args:
        workspace: the engine.
        statements: what the sources say.
        ends: from :func:`link_ends`.
        class_of: class of each end before the guard; neighbours are compared as classes.
        nodes: ranks to look up.
        links: all links, for triangles.
    """
    asked = workspace.put("asked", pa.table({"end": nodes})).join(ends, "end").select("end", "key", "term")
    asked = workspace.keep("asked_ends", asked)
    classes = workspace.put("end_classes", pa.table({"end": np.arange(len(class_of)), "class_number": class_of}))
    classes = classes.join(ends, "end").select("key", "class_number")
    facts = statements.nodes
    typed = is_type(workspace, facts["relation"])
    types = (
        facts.filter(typed)
        .join(asked.select("end", head="key"), "head")
        .join(statements.terms.select(tail="key", term="term"), "tail")
    )
    facts = facts.filter(~typed)
    near = ibis.union(
        facts.join(asked.select("end", head="key"), "head").select("end", key="tail"),
        facts.join(asked.select("end", tail="key"), "tail").select("end", key="head"),
        distinct=True,
    )
    near = near.left_join(classes, "key").select("end", "key", "class_number")
    literals = statements.literals
    keys = [workspace.key(ibis.literal(predicate)) for predicate in LABEL_PREDICATES]
    labels = literals.filter(literals["relation"].isin(keys)).join(asked.select("end", head="key"), "head")

    def collect(expression: Any, *columns: str) -> dict[int, set[Any]]:
        table = workspace.fetch(expression)
        found: dict[int, set[Any]] = {}
        for end, *values in zip(*(table[column].to_pylist() for column in ("end", *columns)), strict=True):
            found.setdefault(end, set()).add(values[0] if len(values) == 1 else tuple(values))
        return found

    iris = workspace.fetch(asked)
    linked: dict[int, set[int]] = {}
    wanted = set(nodes.tolist())
    for one, other in zip(links.left.tolist(), links.right.tolist(), strict=True):
        if one in wanted:
            linked.setdefault(one, set()).add(other)
            linked.setdefault(other, set()).add(one)
    neighbours: dict[int, set[object]] = {}
    for end, pairs in collect(near, "key", "class_number").items():
        own = int(class_of[end])
        neighbours[end] = {("key", key) if number is None else number for key, number in pairs if number != own}
    evidence = Evidence(
        iris=dict(zip(iris["end"].to_pylist(), iris["term"].to_pylist(), strict=True)),
        names=collect(labels.select("end", "text").distinct(), "text"),
        types=collect(types.select("end", "term").distinct(), "term"),
        neighbours=neighbours,
        linked=linked,
    )
    workspace.drop("asked", "asked_ends", "end_classes")
    return evidence


def _question(
    workspace: Workspace, config: Config, statements: Statements, ends: Any, links: LinkGraph, support: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """Score the links and refuse those that would make a class inconsistent.

    Args:
        workspace: the engine.
        config: of the build.
        statements: what the sources say.
        ends: from :func:`link_ends`.
        links: all of them.
        support: of each link; see :meth:`Evidence.score`.

    Returns:
        The score of each link, the reason (index into REASONS) of each, and how many classes were cut.
    """
    class_of = close_links(len(links.namespace), links.left, links.right)
    inconsistent = find_inconsistent(links, class_of, config.identity.max_class_size)
    questioned = np.flatnonzero(np.isin(class_of[links.left], inconsistent))
    looked_at = np.arange(len(links.left)) if len(links.left) <= SCORE_ALL_LINKS else questioned
    score = unquestioned_score(support)
    if len(looked_at):
        left, right = links.left[looked_at], links.right[looked_at]
        evidence = read_evidence(workspace, statements, ends, class_of, np.unique([left, right]), links)
        score[looked_at] = evidence.score(left, right, support[looked_at])
    reason = np.zeros(len(links.left), np.int8)
    reason[questioned] = guard(links, questioned, score[questioned], config.identity.max_class_size)
    return score, reason, len(np.unique(class_of[links.left[reason > 0]]))


def merge_links(workspace: Workspace, config: Config, statements: Statements, folder: Path) -> MergedLinks:
    """Decide every link, write the table `merges`, and tell which IRIs became which.

    Raises:
        ConfigError: `identity.source_priority` names what nothing is called.
    """
    ends = link_ends(workspace, statements)
    ranked = ranked_links(workspace, statements, ends)
    num_ends = workspace.count(ends)
    if not num_ends:
        with TableWriter(folder, "merges"):
            pass
        return MergedLinks(None, 0, 0, 0, 0)
    tied = ranked.filter(ranked["smaller"] != ranked["larger"])
    forward = (tied["alias"] == tied["smaller"]).cast("int64")
    pairs = tied.group_by("smaller", "larger").agg(support=tied["source"].nunique(), both=forward.max() - forward.min())
    pairs = workspace.fetch(pairs.order_by("smaller", "larger"))
    links = _read_graph(workspace, config, ends, pairs, statements)
    support = pairs["support"].to_numpy() + pairs["both"].to_numpy()
    score, reason, flagged_classes = _question(workspace, config, statements, ends, links, support)
    believed = reason == 0
    class_of = close_links(num_ends, links.left[believed], links.right[believed])
    canonical = choose_canonical(class_of, links.priority)
    workspace.put(
        "link_verdicts",
        pa.table({"smaller": links.left, "larger": links.right, "score": score, "number": reason.astype(np.int64)}),
    )
    classes = workspace.put(
        "canonical_ends", pa.table({"end": np.arange(num_ends), "canonical_end": canonical.astype(np.int64)})
    )
    rows = _verdict_rows(ranked, ends, workspace.table("link_verdicts"), classes)
    total = workspace.write(folder, "merges", rows)
    flagged = workspace.fetch_one(rows.aggregate(rows=(rows["verdict"] == "flagged").sum().cast("int64")))["rows"]
    sizes = np.bincount(class_of)
    aliases = _aliases(workspace, ends, classes, np.flatnonzero(sizes[class_of] > 1))
    workspace.drop("link_verdicts", "canonical_ends", "ranked_links", "link_ends", "links")
    return MergedLinks(aliases, int(total) - int(flagged), int(flagged), int((sizes > 1).sum()), flagged_classes)


def _verdict_rows(ranked: Any, ends: Any, verdicts: Any, classes: Any) -> Any:
    """The rows of `merges`, in order."""
    named = (
        ranked.left_join(verdicts, ["smaller", "larger"])
        .drop("smaller_right", "larger_right")
        .join(ends.select(alias="end", alias_term="term"), "alias")
        .join(ends.select(other="end", other_term="term"), "other")
        .join(classes.select(alias="end", canonical_end="canonical_end"), "alias")
        .join(ends.select(canonical_end="end", entity_id="term"), "canonical_end")
    )
    number = named["number"].fill_null(0)  # null where an IRI is linked to itself
    reasons = [(place, reason) for place, reason in enumerate(REASONS)]
    ordered = named.order_by("alias", "other", "source", "dump", "line")
    return ordered.select(
        alias="alias_term",
        other="other_term",
        entity_id="entity_id",
        verdict=(number == 0).ifelse("merged", "flagged"),
        reason=number.cases(*reasons),
        score=named["score"].fill_null(1.0),
        source="source",
        dump="dump",
        line="line",
    )


def _aliases(workspace: Workspace, ends: Any, classes: Any, merged: np.ndarray) -> Any | None:
    """key, canonical (keys) of the ends that are in a class of several."""
    if not len(merged):
        return None
    chosen = workspace.put("merged_ends", pa.table({"end": merged})).join(classes, "end")
    keys = chosen.join(ends.select("key", "end"), "end")
    keys = keys.join(ends.select(canonical="key", canonical_end="end"), "canonical_end")
    aliases = workspace.keep("aliases", keys.select("key", "canonical"))
    workspace.drop("merged_ends")
    return aliases
