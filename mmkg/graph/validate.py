"""What is odd in a finished graph: a report of findings.

The way of a fact passes here, but nothing is changed: `findings` is a table beside the graph. SHACL shapes are tried by
``shapes.py``; what stops a bad build from being served is in ``builds/checks.py``.

=============  ========================================================================================================
check          one finding for each
=============  ========================================================================================================
dangling       entity that is only mentioned: no label, no type, no literal, and an end of at most one triple
no_label       entity without label, blank nodes aside
used_once      relation with a single triple
type_clash     entity and two of its types that are disjoint, by the config or by owl:disjointWith in the graph; a type
               counts with all that the graph's rdfs:subClassOf puts above it
domain_clash   relation and a head that has types, but none of those which nearly all its heads have
range_clash    relation and a tail that has types, but none of those which nearly all its tails have
shacl          result of a shape
shacl_not_run  shape file that was not tried, because the graph is too large
=============  ========================================================================================================
"""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import ibis
import pyarrow as pa
from ibis.expr.types import Table

from mmkg.config import Config
from mmkg.engine import open_engine
from mmkg.graph.shapes import find_shape_violations
from mmkg.graph.workspace import Workspace
from mmkg.shards import open_table, write_table
from mmkg.tables import FINDINGS
from mmkg.terms import OWL, RDFS

logger = logging.getLogger(__name__)

VALIDATE_VERSION = 1

OWL_DISJOINT_WITH = OWL + "disjointWith"
RDFS_SUBCLASS_OF = RDFS + "subClassOf"

_USUAL_SHARE = 0.95
"""A type that so many of the typed ends of a relation have is what its ends ought to be ..."""
_MIN_ENDS = 20
"""... if the relation has so many typed ends; below, one odd end is no exception to anything."""

_CHECKS = ("dangling", "no_label", "used_once", "type_clash", "domain_clash", "range_clash", "shacl", "shacl_not_run")


class _Graph:
    """The tables of a graph in an engine."""

    def __init__(self, workspace: Workspace, folder: Path) -> None:
        def read(table: str) -> Table:
            open_table(folder, table)  # says what is wrong with the shards, if anything is
            return workspace.read([folder], table)

        self.workspace = workspace
        self.entities = read("entities")
        self.relations = read("relations")
        self.triples = read("triples")
        self.literals = read("literals")
        self.types = self.entities.select("entity_index", "entity_id", type=ibis._.types.unnest())
        ends = ibis.union(
            self.triples.select(entity_index="head_index", relation_index="relation_index", role=ibis.literal("head")),
            self.triples.filter(ibis._.head_index != ibis._.tail_index).select(
                entity_index="tail_index", relation_index="relation_index", role=ibis.literal("tail")
            ),
        )
        self.degrees = ends.group_by("entity_index").aggregate(
            degree=ibis._.count(), relation_index=ibis._.relation_index.min(), role=ibis._.role.min()
        )


def build_findings(config: Config, graph_folder: Path, folder: Path) -> dict[str, int]:
    """Write the table `findings`, sorted by check, subject and detail.

    Args:
        config: disjoint types and shapes.
        graph_folder: folder of the stage that built the graph.
        folder: where the table is written.

    Returns:
        Findings of each check; `entities`, `triples`, `literals`; `orphans`, the entities without any triple;
        `unlabelled`, the entities without label.

    Raises:
        ConfigError: a file of shapes cannot be read.
    """
    with open_engine(config.graph, spill_folder=folder) as connection:
        graph = _Graph(Workspace(connection), graph_folder)
        disjoint = [*config.identity.disjoint_types, *_stated_pairs(graph, OWL_DISJOINT_WITH)]
        checks = {
            "dangling": _find_dangling(graph),
            "no_label": _find_unlabelled(graph),
            "used_once": _find_used_once(graph),
            "type_clash": _find_type_clashes(graph, disjoint, _stated_pairs(graph, RDFS_SUBCLASS_OF)),
            "domain_clash": _find_unusual_ends(graph, "head_index", "head"),
            "range_clash": _find_unusual_ends(graph, "tail_index", "tail"),
        }
        found = ibis.union(
            *(rows.select("subject", "detail", check=ibis.literal(name)) for name, rows in checks.items())
        )
        rows = graph.workspace.fetch(found)
        counts = _count(graph)
    num_statements = counts["triples"] + counts["literals"] + counts["type_statements"]
    shacl = find_shape_violations(config, graph_folder, num_statements)
    rows = pa.concat_tables([_in_order(rows), shacl]).sort_by([(name, "ascending") for name in FINDINGS.names])
    write_table(folder, "findings", rows.to_batches())
    by_check = {entry["values"]: entry["counts"] for entry in rows["check"].value_counts().to_pylist()}
    for check in _CHECKS:
        counts[check] = by_check.get(check, 0)
    logger.info("findings: %s", ", ".join(f"{counts[check]:,} {check}" for check in _CHECKS if counts[check]) or "none")
    return counts


def _in_order(rows: pa.Table) -> pa.Table:
    return rows.select(FINDINGS.names).cast(FINDINGS)


def _count(graph: _Graph) -> dict[str, int]:
    tables = {
        "entities": graph.entities,
        "triples": graph.triples,
        "literals": graph.literals,
        "type_statements": graph.types,
        "unlabelled": graph.entities.filter(ibis._.label.isnull()),
        "connected": graph.degrees,
    }
    counts = {name: int(graph.workspace.fetch_one(t.aggregate(rows=t.count()))["rows"]) for name, t in tables.items()}
    counts["orphans"] = counts["entities"] - counts.pop("connected")
    return counts


# --- the checks: each gives `subject` and `detail` -------------------------------------------------------------------


def _find_dangling(graph: _Graph) -> Table:
    described = graph.literals.select("entity_index").distinct()
    entities = graph.entities.filter(ibis._.label.isnull(), ibis._.types.length() == 0).anti_join(
        described, "entity_index"
    )
    mentioned = entities.left_join(graph.degrees, "entity_index").filter(ibis._.degree.fill_null(0) <= 1)
    named = mentioned.left_join(graph.relations.select("relation_index", "relation_id"), "relation_index")
    where = ibis.coalesce(
        "the " + named["role"] + " of one triple, of " + named["relation_id"], ibis.literal("in no triple")
    )
    return named.select(subject="entity_id", detail=where)


def _find_unlabelled(graph: _Graph) -> Table:
    entities = graph.entities.filter(ibis._.label.isnull(), ~ibis._.entity_id.startswith("_:"))
    counted = entities.left_join(graph.degrees, "entity_index")
    return counted.select(
        subject="entity_id", detail="in " + counted["degree"].fill_null(0).cast("string") + " triples"
    )


def _find_used_once(graph: _Graph) -> Table:
    once = graph.relations.filter(ibis._["count"] == 1).select("relation_index", "relation_id")
    heads = graph.entities.select(head_index="entity_index", head="entity_id")
    tails = graph.entities.view().select(tail_index="entity_index", tail="entity_id")
    uses = graph.triples.join(once, "relation_index").join(heads, "head_index").join(tails, "tail_index")
    return uses.select(subject="relation_id", detail=uses["head"] + " → " + uses["tail"])


def _stated_pairs(graph: _Graph, relation_id: str) -> list[tuple[str, str]]:
    """Head and tail ids of a relation that is expected to be small, such as those of an ontology."""
    relation = graph.relations.filter(ibis._.relation_id == relation_id).select("relation_index")
    heads = graph.entities.select(head_index="entity_index", head="entity_id")
    tails = graph.entities.view().select(tail_index="entity_index", tail="entity_id")
    rows = graph.triples.semi_join(relation, "relation_index").join(heads, "head_index").join(tails, "tail_index")
    found = graph.workspace.fetch(rows.select("head", "tail")).to_pydict()
    return list(zip(found["head"], found["tail"], strict=True))


def _find_type_clashes(
    graph: _Graph, disjoint: Iterable[tuple[str, str]], subclass_of: Iterable[tuple[str, str]]
) -> Table:
    pairs = sorted({(min(pair), max(pair)) for pair in disjoint if pair[0] != pair[1]})
    below: dict[str, set[str]] = {}
    for lower, upper in subclass_of:
        below.setdefault(upper, set()).add(lower)
    kinds = [(type_, kind) for kind in {kind for pair in pairs for kind in pair} for type_ in _descend(kind, below)]
    kind_of = _put_pairs(graph, "kind_of", kinds, ("type", "kind"))
    pair_table = _put_pairs(graph, "disjoint_kinds", pairs, ("one", "other"))
    known = graph.types.join(kind_of, "type").select("entity_index", "entity_id", "type", "kind")
    first = known.rename(one="kind", type_one="type")
    second = known.view().rename(other="kind", type_other="type").drop("entity_id")
    both = first.join(pair_table, "one").join(second, ["entity_index", "other"])
    detail = both["type_one"] + " and " + both["type_other"] + " are disjoint"
    return both.select(subject="entity_id", detail=detail).distinct()


def _descend(kind: str, below: Mapping[str, set[str]]) -> set[str]:
    """A type and all types below it; rings in the hierarchy end the walk."""
    reached, open_ends = {kind}, [kind]
    while open_ends:
        fresh = below.get(open_ends.pop(), set()) - reached
        reached |= fresh
        open_ends.extend(fresh)
    return reached


def _put_pairs(graph: _Graph, name: str, pairs: Iterable[tuple[str, str]], columns: tuple[str, str]) -> Table:
    rows = [dict(zip(columns, pair, strict=True)) for pair in pairs]
    return graph.workspace.put(
        name, pa.Table.from_pylist(rows, pa.schema([(column, pa.string()) for column in columns]))
    )


def _find_unusual_ends(graph: _Graph, side: str, word: str) -> Table:
    """Ends of a relation that have types, but none that at least 95 % of its typed ends have.

    One usual type is enough: what a single source calls a country lacks the types that the others would have given it.
    """
    typed = graph.types.select("entity_index").distinct()
    ends = graph.triples.select("relation_index", entity_index=side).distinct().semi_join(typed, "entity_index")
    sizes = ends.group_by("relation_index").aggregate(size=ibis._.count()).filter(ibis._["size"] >= _MIN_ENDS)
    by_type = ends.join(graph.types.select("entity_index", "type"), "entity_index")
    by_type = by_type.group_by("relation_index", "type").aggregate(having=ibis._.count())
    usual = by_type.join(sizes, "relation_index")
    usual = usual.filter(usual["having"] >= _USUAL_SHARE * usual["size"])
    rank = ibis.row_number().over(group_by="relation_index", order_by=[ibis.desc("having"), "type"])
    commonest = usual.mutate(rank=rank).filter(ibis._["rank"] == 0).drop("rank")
    known = ends.join(graph.types.select("entity_index", "type"), "entity_index")
    as_usual = known.semi_join(usual, ["relation_index", "type"]).select("relation_index", "entity_index").distinct()
    odd = ends.anti_join(as_usual, ["relation_index", "entity_index"]).join(commonest, "relation_index")
    named = odd.join(graph.entities.select("entity_index", "entity_id"), "entity_index").join(
        graph.relations.select("relation_index", "relation_id"), "relation_index"
    )
    shares = named["having"].cast("string") + " of " + named["size"].cast("string")
    detail = named["entity_id"] + " is no " + named["type"] + f", as {word}s of " + shares + " are"
    return named.select(subject="relation_id", detail=detail)
