"""Statements with integer ends: what the build makes of ``triples_raw`` before identity and indices.

A statement of a source is one of four things, and is kept in one place only:

=====================  ===============================================  ======================
statement              becomes                                          table of the build
=====================  ===============================================  ======================
``a owl:sameAs b``     a link between two IRIs                          ``merges``
``a rdf:type C``       a type of `a` (so does ``type.object.type``)     ``entities.types``
``a r b``              a triple                                         ``triples``
``a r "value"``        a literal; labels and descriptions too           ``literals``
=====================  ===============================================  ======================

What the Freebase pack takes out goes to ``dropped``. So rows of the sources = links + types + triples + literals +
dropped + duplicates, and the build checks that sum. `C` becomes an entity only where it is an end of a triple or has a
statement of its own. A property that has statements of its own (its label) is an entity like any other subject.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis

from mmkg.errors import BuildError, unknown_name
from mmkg.graph.workspace import Workspace, unite
from mmkg.terms import OWL_SAME_AS, TYPE_PREDICATES

_MAX_SOURCES = 63  # bits of a signed 64-bit `sources`


@dataclass(frozen=True)
class Inputs:
    """The raw tables of a build.

    Attributes:
        triples: `triples_raw` of the sources.
        links: `triples_raw` of the link dumps; None without any.
        qualifiers: `qualifiers_raw` of the sources; None without any.
        has_links: whether the sources themselves state owl:sameAs.
    """

    triples: Any
    links: Any | None
    qualifiers: Any | None
    has_links: bool


@dataclass(frozen=True)
class Statements:
    """The statements of the sources, ends and relations as keys (see :mod:`mmkg.graph.workspace`).

    Attributes:
        terms: key, term; every IRI and blank node that occurs anywhere.
        ends: key, term, sources; those that are entities, and the sources that say so.
        nodes: head, relation, tail, sources; statements between nodes, types among them, one row a raw row.
        literals: head, relation, text, datatype, language, sources; one row a raw row.
        links: left, right, source, dump, line; every owl:sameAs row, of sources and link dumps.
        qualifiers: statements about statements, terms as keys (:mod:`mmkg.graph.qualifiers`); None without any.
    """

    terms: Any
    ends: Any
    nodes: Any
    literals: Any
    links: Any
    qualifiers: Any | None


def open_inputs(workspace: Workspace, read_folders: Sequence[Path], link_folders: Sequence[Path]) -> Inputs:
    """Open the raw tables of finished read stages.

    Raises:
        BuildError: no folder holds statements.
    """
    if not read_folders:
        raise BuildError("nothing to build from: no dump was read. Name at least one under [[sources]].")

    def read(folders: Sequence[Path], table: str) -> Any | None:
        # In order of name, so that the order of the config changes nothing.
        present = sorted(folder for folder in folders if (folder / table).is_dir())
        return workspace.read(present, table) if present else None

    triples = read(read_folders, "triples_raw")
    if triples is None:
        raise BuildError(f"{read_folders[0]}: no table 'triples_raw' here. Run `mmkg build` again from the start.")
    has_links = workspace.count(triples.filter(triples["relation"] == OWL_SAME_AS).limit(1)) > 0
    return Inputs(triples, read(link_folders, "triples_raw"), read(read_folders, "qualifiers_raw"), has_links)


def source_bits(source: Any, names: Sequence[str]) -> Any:
    """The bit of a source's name: 2 to the power of its place in the config; 0 for one that is not there."""
    return source.cases(*((name, ibis.literal(1 << bit, "int64")) for bit, name in enumerate(names)), else_=0)


def check_sources(workspace: Workspace, inputs: Inputs, names: Sequence[str]) -> None:
    """Check that every row comes from a source of the config.

    Raises:
        BuildError: a row names another, or the config has more sources than a bit set holds.
    """
    if len(names) > _MAX_SOURCES:
        raise BuildError(f"{len(names)} sources, but provenance is kept in {_MAX_SOURCES} bits. Give some one `name`.")
    for table in (inputs.triples, inputs.qualifiers):
        if table is not None:
            found = workspace.fetch(table.select("source").distinct().order_by("source"))["source"].to_pylist()
            for name in found:
                if name not in names:
                    raise BuildError(unknown_name("source", name, names))


def is_link(raw: Any) -> Any:
    """Whether a raw row is an identity link."""
    return (raw["relation"] == OWL_SAME_AS) & raw["value"].isnull()


def is_type(workspace: Workspace, relation: Any) -> Any:
    """Whether the key of a relation is that of a type predicate; only for statements between nodes."""
    first, *others = (relation == workspace.key(ibis.literal(predicate)) for predicate in TYPE_PREDICATES)
    condition = first
    for other in others:
        condition = condition | other
    return condition


def all_terms(inputs: Inputs, names: Sequence[str]) -> Any:
    """Every distinct IRI and blank node once, and the sources that make it an entity: term, sources.

    `sources` is 0 for what is only a class, a relation, an end of a link or the object of a qualifier.
    """
    raw, objects = inputs.triples, inputs.triples.filter(inputs.triples["tail"].notnull())
    bits = source_bits(objects["source"], names)
    no_entity = objects["relation"].isin((OWL_SAME_AS, *TYPE_PREDICATES))
    facts = raw.filter(~is_link(raw)) if inputs.has_links else raw
    columns = [
        facts.select(term="head", sources=source_bits(facts["source"], names)),
        objects.select(term="tail", sources=no_entity.ifelse(0, bits)),
    ]
    others = [raw.select(term="relation").distinct()]
    if inputs.has_links:
        others.append(raw.filter(is_link(raw)).select(term="head"))
    if inputs.links is not None:
        links = inputs.links.filter(is_link(inputs.links))
        others += [links.select(term="head"), links.select(term="tail")]
    if inputs.qualifiers is not None:
        named = inputs.qualifiers
        bits = source_bits(named["source"], names)
        columns += [named.select(term=column, sources=bits) for column in ("head", "tail")]
        others += [named.select(term=column) for column in ("relation", "qualifier", "qualifier_tail")]
    terms = ibis.union(*columns, *(table.mutate(sources=ibis.literal(0, "int64")) for table in others))
    terms = terms.filter(terms["term"].notnull())
    return terms.group_by("term").agg(sources=unite(terms["sources"]))


def find_ends(workspace: Workspace, statements: Statements) -> Any:
    """The terms that statements make entities, as :attr:`Statements.ends` has them, from the statements themselves."""
    nodes, literals, qualifiers = statements.nodes, statements.literals, statements.qualifiers
    ends = [
        nodes.select("sources", key="head"),
        nodes.filter(~is_type(workspace, nodes["relation"])).select("sources", key="tail"),
        literals.select("sources", key="head"),
    ]
    if qualifiers is not None:
        ends.append(qualifiers.select("sources", key="head"))
        ends.append(qualifiers.filter(qualifiers["tail"].notnull()).select("sources", key="tail"))
    used = ibis.union(*ends)
    used = used.group_by("key").agg(sources=unite(used["sources"]))
    return used.join(statements.terms.select("key", "term"), "key").select("key", "term", "sources")


def node_statements(workspace: Workspace, raw: Any, names: Sequence[str]) -> Any:
    """The statements between nodes, as keys."""
    nodes = raw.filter(raw["tail"].notnull() & (raw["relation"] != OWL_SAME_AS))
    return nodes.select(
        head=workspace.key(nodes["head"]),
        relation=workspace.key(nodes["relation"]),
        tail=workspace.key(nodes["tail"]),
        sources=source_bits(nodes["source"], names),
    )


def literal_statements(workspace: Workspace, raw: Any, names: Sequence[str]) -> Any:
    """The statements with a literal object; ends as keys, the literal as it stands."""
    literals = raw.filter(raw["value"].notnull())  # not `tail is null`, which would read all tails
    return literals.select(
        head=workspace.key(literals["head"]),
        relation=workspace.key(literals["relation"]),
        text=literals["value"],
        datatype=literals["datatype"],
        language=literals["language"],
        sources=source_bits(literals["source"], names),
    )


def link_statements(workspace: Workspace, inputs: Inputs) -> Any:
    """Every identity link, of the sources and of the link dumps."""
    parts = [table.filter(is_link(table)) for table in (inputs.triples, inputs.links) if table is not None]
    selected = [
        part.select(
            left=workspace.key(part["head"]),
            right=workspace.key(part["tail"]),
            source=part["source"],
            dump=part["dump"],
            line=part["line"],
        )
        for part in parts
    ]
    return ibis.union(*selected) if len(selected) > 1 else selected[0]


def qualifier_statements(workspace: Workspace, raw: Any, names: Sequence[str]) -> Any:
    """Rows of ``qualifiers_raw`` with the ends of the qualified statement, and the qualifier's object, as keys."""
    return raw.select(
        head=workspace.key(raw["head"]),
        relation=workspace.key(raw["relation"]),
        tail=workspace.key(raw["tail"]),
        text=raw["value"],
        datatype=raw["datatype"],
        language=raw["language"],
        qualifier=workspace.key(raw["qualifier"]),
        qualifier_tail=workspace.key(raw["qualifier_tail"]),
        qualifier_text=raw["qualifier_value"],
        qualifier_datatype=raw["qualifier_datatype"],
        qualifier_language=raw["qualifier_language"],
        sources=source_bits(raw["source"], names),
    )


def read_statements(workspace: Workspace, inputs: Inputs, names: Sequence[str]) -> Statements:
    """Bring the raw tables to keys, and compute them now: nothing reads the dumps again.

    Raises:
        BuildError: a row names a source that the config does not have.
    """
    check_sources(workspace, inputs, names)
    terms = workspace.keep("terms_only", all_terms(inputs, names))
    workspace.choose_key(terms)
    terms = workspace.keep("terms", terms.select("term", "sources", key=workspace.key(terms["term"])))
    workspace.drop("terms_only")
    return Statements(
        terms=terms.select("key", "term"),
        ends=terms.filter(terms["sources"] != 0).select("key", "term", "sources"),
        nodes=workspace.keep("nodes", node_statements(workspace, inputs.triples, names)),
        literals=workspace.keep("literal_nodes", literal_statements(workspace, inputs.triples, names)),
        links=workspace.keep("links", link_statements(workspace, inputs)),
        qualifiers=None if inputs.qualifiers is None else qualifier_statements(workspace, inputs.qualifiers, names),
    )
