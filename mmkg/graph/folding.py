"""Freebase's compound value nodes (CVTs), folded: parent, node and role become one direct statement.

Where a fact stands here: inside the Freebase pack, before anything is merged. A CVT ties several things together ("an
actor plays a character in a film") and is nothing by itself. With ``fold_cvt`` each way through it becomes a relation,
spelt as in FB15k, and what else the CVT says of it becomes its qualifiers, so that no role is lost:

.. code-block:: text

    film --film.film.starring--> cvt            film --film.film.starring..film.performance.actor--> actor
    cvt --film.performance.actor--> actor   =>      qualified by film.performance.character → role
    cvt --film.performance.character--> role    film --film.film.starring..film.performance.character--> role
                                                    qualified by film.performance.actor → actor

- A role that points back to the parent is not restated for that parent.
- If a CVT has only literals to offer to a parent (population: number, year), they become literals of the parent under
  the folded relation, each qualified by the others.
- All lines that touch a folded CVT go to the ledger, its types included.

**What is a CVT.** A MID that only sources with ``fold_cvt`` speak of, in no link, with at least one property leading to
it and one leading on, that does not border on another CVT, and either has a type that the dump calls a mediator
(``type_hints.mediator``), or by its shape: it has no name or description, the properties leading on belong to one type
(``film.performance`` of ``film.performance.actor``), none leading to it belongs to that type, it has no other type, and
none of its relations is folded already. Properties of ``type.*``, ``common.*``, ``freebase.*`` and of other
vocabularies do not count as roles.
"""

from dataclasses import dataclass
from typing import Any

import ibis
import pyarrow as pa

from mmkg.errors import BuildError
from mmkg.graph.statements import Statements, is_type
from mmkg.graph.workspace import Workspace, unite
from mmkg.terms import DESCRIPTION_PREDICATES, FREEBASE, LABEL_PREDICATES

_MEDIATOR = FREEBASE + "freebase.type_hints.mediator"
_META = ("type.", "common.", "freebase.", "key.", "user.")
_OBJECT = ("tail", "text", "datatype", "language")


@dataclass(frozen=True)
class Folded:
    """What folding makes.

    Attributes:
        values: key of each folded CVT.
        nodes: head, relation, tail, sources, as :class:`Statements` has them.
        literals: head, relation, text, datatype, language, sources.
        qualifiers: as :class:`Statements` has them.
        terms: key, term of the folded relations that are new.
        num_statements: rows of nodes and literals.
    """

    values: Any
    nodes: Any
    literals: Any
    qualifiers: Any
    terms: Any
    num_statements: int


def property_type(iri: str) -> str | None:
    """The type that a Freebase property belongs to; None for what is no role.

    >>> property_type("http://rdf.freebase.com/ns/film.performance.actor")
    'film.performance'
    >>> property_type("http://rdf.freebase.com/ns/type.object.name") is None
    True
    """
    if not iri.startswith(FREEBASE):
        return None
    local = iri.removeprefix(FREEBASE)
    if local.startswith(_META):
        return None
    return local.rpartition(".")[0] or None


def _read_roles(workspace: Workspace, statements: Statements, mask: int) -> Any:
    """Properties that can lead to or from a CVT: relation and belongs_to, its type (keys); is_folded: has `..`."""
    keys = ibis.union(
        *(
            table.filter((table["sources"] & mask) != 0).select(key="relation").distinct()
            for table in (statements.nodes, statements.literals)
        ),
        distinct=True,
    )
    iris = workspace.fetch(keys.join(statements.terms, "key").select("term"))["term"].to_pylist()
    typed = sorted((iri, found) for iri in iris if (found := property_type(iri)) is not None)
    table = pa.table(
        {
            "term": pa.array([iri for iri, _ in typed], pa.string()),
            "type": pa.array([FREEBASE + found for _, found in typed], pa.string()),
            "is_folded": pa.array([".." in iri for iri, _ in typed], pa.bool_()),
        }
    )
    roles = workspace.put("role_terms", table)
    roles = roles.select("is_folded", relation=workspace.key(roles["term"]), belongs_to=workspace.key(roles["type"]))
    return workspace.keep("roles", roles)


def find_values(workspace: Workspace, statements: Statements, roles: Any, mask: int) -> Any:
    """The CVTs of a build by the rules above: key."""
    nodes, literals = statements.nodes, statements.literals
    ours, ours_too = (table.filter((table["sources"] & mask) != 0) for table in (nodes, literals))
    edges = ours.join(roles, "relation").select("head", "tail", "belongs_to", "is_folded")
    values = ours_too.join(roles, "relation").select("head", "belongs_to", "is_folded")
    onwards = ibis.union(
        edges.select("belongs_to", "is_folded", key="head"), values.select("belongs_to", "is_folded", key="head")
    )
    onwards = onwards.group_by("key").agg(
        belongs_to=onwards["belongs_to"].min(),
        types=onwards["belongs_to"].nunique(),
        folded=onwards["is_folded"].cast("int64").max(),
    )
    inwards = edges.select("belongs_to", "is_folded", key="tail").distinct()
    between = onwards.semi_join(inwards, "key")

    typed = ours.filter(is_type(workspace, ours["relation"])).select(key="head", belongs_to="tail").distinct()
    mediator = ours_too.filter(
        (ours_too["relation"] == workspace.key(ibis.literal(_MEDIATOR))) & (ours_too["text"] == "true")
    )
    mediated = typed.semi_join(mediator.select(belongs_to="head"), "belongs_to")
    by_hint = between.semi_join(mediated, "key").select("key")

    texts = [workspace.key(ibis.literal(p)) for p in (*LABEL_PREDICATES, *DESCRIPTION_PREDICATES)]
    named = literals.filter(literals["relation"].isin(texts)).select(key="head")
    own = between.select("key", "belongs_to")
    by_shape = (
        between.filter((between["types"] == 1) & (between["folded"] == 0))
        .anti_join(named, "key")
        .anti_join(inwards.filter(inwards["is_folded"]), "key")
        .anti_join(own.join(inwards.select("key", "belongs_to"), ["key", "belongs_to"]), "key")
        .anti_join(typed.anti_join(own, ["key", "belongs_to"]), "key")
        .select("key")
    )
    found = ibis.union(by_hint, by_shape, distinct=True).join(statements.terms, "key").select("key", "term")
    mids = found.filter(found["term"].startswith(FREEBASE + "m.") | found["term"].startswith(FREEBASE + "g."))
    candidates = workspace.keep("cvt_candidates", mids.select("key").anti_join(_spoken_of(statements, mask), "key"))
    bordering = edges.semi_join(candidates.select(head="key"), "head").semi_join(candidates.select(tail="key"), "tail")
    bordering = ibis.union(bordering.select(key="head"), bordering.select(key="tail"))
    return candidates.anti_join(bordering, "key")


def _spoken_of(statements: Statements, mask: int) -> Any:
    """Keys that links, qualifiers or sources outside the mask speak of."""
    links = statements.links
    parts = [links.select(key="left"), links.select(key="right")]
    if statements.qualifiers is not None:
        parts += [statements.qualifiers.select(key=column) for column in ("head", "tail", "qualifier_tail")]
    for table, columns in ((statements.nodes, ("head", "tail")), (statements.literals, ("head",))):
        others = table.filter((table["sources"] & mask) == 0)
        parts += [others.select(key=column) for column in columns]
    spoken = ibis.union(*parts)
    return spoken.filter(spoken["key"].notnull())


def _ways(workspace: Workspace, statements: Statements, values: Any, roles: Any) -> Any:
    """Every way through a CVT: way, parent, property, value (the CVT), role, its object, literal or not, sources."""
    nodes, literals = statements.nodes, statements.literals
    in_values, is_role = values.select(value="key"), roles.select("relation")
    parents = nodes.select(parent="head", relation="relation", value="tail", sources="sources").join(in_values, "value")
    parents = parents.semi_join(is_role, "relation").group_by("parent", "relation", "value")
    parents = parents.agg(parent_sources=unite(ibis._["sources"]))
    nothing = {name: ibis.null("string") for name in _OBJECT[1:]}
    objects = ibis.union(
        nodes.select("relation", "tail", "sources", value="head", **nothing),
        literals.select("relation", "sources", *_OBJECT[1:], value="head", tail=ibis.null(nodes["tail"].type())).select(
            "relation", "tail", "sources", "value", *_OBJECT[1:]
        ),
    )
    objects = objects.join(in_values, "value").semi_join(is_role, "relation")
    objects = objects.group_by("value", "relation", *_OBJECT).agg(sources=unite(ibis._["sources"]))
    objects = objects.select("value", *_OBJECT, role="relation", role_sources="sources")
    parents = parents.select("parent", "value", "parent_sources", property="relation")
    ways = parents.join(objects, "value").select(
        "parent", "property", "value", "role", *_OBJECT, sources=ibis._["parent_sources"] | ibis._["role_sources"]
    )
    ways = ways.filter(ways["tail"].isnull() | (ways["tail"] != ways["parent"]))
    order = ["parent", "property", "value", "role", *_OBJECT]
    return workspace.keep("ways", ways.mutate(way=ibis.row_number().over(order_by=order)))


def _fold_relations(workspace: Workspace, statements: Statements, direct: Any) -> Any:
    """property, role, relation: keys of each pair that is folded and of what it becomes, and its term.

    Raises:
        BuildError: a new term has the key of another.
    """
    pairs = direct.select("property", "role").distinct()
    pairs = pairs.join(statements.terms.select(property="key", property_term="term"), "property")
    pairs = pairs.join(statements.terms.select(role="key", role_term="term"), "role")
    local = pairs["role_term"].substr(len(FREEBASE))
    pairs = pairs.select("property", "role", term=pairs["property_term"] + ".." + local)
    named = workspace.keep("folded_relations", pairs.mutate(relation=workspace.key(pairs["term"])))
    new = named.select(key="relation", term="term").distinct()
    clash = new.join(statements.terms.select(key="key", old="term"), "key").select("term", "old")
    mistaken = workspace.fetch(clash.filter(clash["term"] != clash["old"]))
    if mistaken.num_rows:
        raise BuildError(
            f"the terms {mistaken.to_pylist()[0]} share a 64-bit key. Set fold_cvt to false and report this."
        )
    return named


def fold(workspace: Workspace, statements: Statements, mask: int) -> Folded | None:
    """Fold the CVTs of the sources of a mask; None where there are none.

    Raises:
        BuildError: a folded relation has the 64-bit key of another term.
    """
    roles = _read_roles(workspace, statements, mask)
    candidates = find_values(workspace, statements, roles, mask)
    ways = _ways(workspace, statements, candidates, roles)
    through = ["parent", "property", "value"]
    with_nodes = ways.filter(ways["tail"].notnull()).select(*through).distinct()
    direct = ibis.union(ways.filter(ways["tail"].notnull()), ways.anti_join(with_nodes, through))
    direct = workspace.keep("direct_ways", direct)
    relations = _fold_relations(workspace, statements, direct)
    direct = direct.join(relations.select("property", "role", "relation"), ["property", "role"])
    direct = workspace.keep("folded_ways", direct.select(*through, "way", "relation", *_OBJECT, "sources"))
    num_statements = workspace.count(direct)
    workspace.drop("direct_ways", "role_terms", "cvt_candidates")
    if not num_statements:
        return None
    others = ways.select(
        *through,
        other_way="way",
        qualifier="role",
        qualifier_tail="tail",
        qualifier_text="text",
        qualifier_datatype="datatype",
        qualifier_language="language",
    )
    qualified = direct.join(others, through)
    qualified = qualified.filter(qualified["way"] != qualified["other_way"])
    known = statements.terms.select("key")
    new_terms = relations.select(key="relation", term="term").distinct().anti_join(known, "key")
    return Folded(
        values=workspace.keep("folded_values", direct.select(key="value").distinct()),
        nodes=direct.filter(direct["tail"].notnull())
        .select("relation", "tail", "sources", head="parent")
        .select("head", "relation", "tail", "sources"),
        literals=direct.filter(direct["tail"].isnull())
        .select("relation", *_OBJECT[1:], "sources", head="parent")
        .select("head", "relation", *_OBJECT[1:], "sources"),
        qualifiers=qualified.select(
            head="parent",
            relation="relation",
            tail="tail",
            text="text",
            datatype="datatype",
            language="language",
            qualifier="qualifier",
            qualifier_tail="qualifier_tail",
            qualifier_text="qualifier_text",
            qualifier_datatype="qualifier_datatype",
            qualifier_language="qualifier_language",
            sources="sources",
        ),
        terms=new_terms,
        num_statements=num_statements,
    )
