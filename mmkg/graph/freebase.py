"""The Freebase pack: lines that only repeat another are left out, compound value nodes are folded on request.

Where a fact stands here: statements have keys, nothing is merged yet. Nearly 60 % of the Freebase dump says what
another line says (Chah, Freebase-triples: a methodology for processing the Freebase data dumps, arXiv:1712.08707).
What goes is recorded in ``dropped`` with its line (:mod:`mmkg.graph.ledger`); a line goes only while the line that
says the same, of the same source, stays:

============================  =============================  ==========
line                          stays                          reason
============================  =============================  ==========
``C type.type.instance a``    ``a type.object.type C``       redundant
``a rdf:type C``              ``a type.object.type C``       redundant
``a rdfs:label "x"@en``       ``a type.object.name "x"@en``  redundant
``b R a``                     ``a M b``                      reverse
============================  =============================  ==========

`R` is the reverse of the master property `M` if the dump says so (``M type.property.reverse_property R``, ``R
type.property.master_property M``, ``owl:inverseOf``), or by :data:`WELL_KNOWN_REVERSES`. Sources of which any
`[[sources]]` of that name is a split of a benchmark keep all their lines. MIDs have one spelling already: the reader
gives ``/m/x`` and ``m.x`` as ``ns/m.x``.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa

from mmkg.config import Config
from mmkg.graph.folding import Folded, fold
from mmkg.graph.ledger import ledger_rows, write_dropped
from mmkg.graph.statements import Inputs, Statements, find_ends, is_link, source_bits
from mmkg.graph.workspace import Workspace
from mmkg.terms import FREEBASE, OWL, RDF_TYPE, RDFS_LABEL

# (master, reverse) of properties that dumps without schema lines have. Inverse pairs of FB15k (Bordes et al., 2013),
# by the names of Freebase's own schema; those FB15k-237 was cleaned of (Toutanova and Chen, 2015).
WELL_KNOWN_REVERSES = tuple(
    (FREEBASE + master, FREEBASE + backwards)
    for master, backwards in (
        ("people.person.children", "people.person.parents"),
        ("people.person.place_of_birth", "location.location.people_born_here"),
        ("people.person.profession", "people.profession.people_with_this_profession"),
        ("people.person.ethnicity", "people.ethnicity.people"),
        ("location.location.containedby", "location.location.contains"),
        ("film.film.directed_by", "film.director.film"),
        ("film.film.genre", "film.film_genre.films_in_this_genre"),
        ("book.written_work.author", "book.author.works_written"),
        ("music.album.artist", "music.artist.album"),
        ("music.artist.genre", "music.genre.artists"),
    )
)
_INSTANCE = FREEBASE + "type.type.instance"
_TYPE = FREEBASE + "type.object.type"
_NAME = FREEBASE + "type.object.name"
_REVERSE = FREEBASE + "type.property.reverse_property"  # of the master
_MASTER = FREEBASE + "type.property.master_property"  # of the reverse
_INVERSE = OWL + "inverseOf"


@dataclass(frozen=True)
class _Dropped:
    """What is left out: head, relation, tail, sources, reason for nodes; head, text, language, sources for labels."""

    nodes: Any
    labels: Any


def source_mask(config: Config, names: set[str]) -> int:
    """The bits of sources, as one number."""
    return sum(1 << bit for bit, name in enumerate(config.source_names) if name in names)


def accept_reverses(stated: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """(master, reverse) pairs such that what stays is never itself left out.

    In order; a pair is passed over if its reverse is a master already, or its master a reverse.

    >>> accept_reverses([("a", "b"), ("b", "a"), ("b", "c"), ("d", "d")])
    [('a', 'b')]
    """
    masters: set[str] = set()
    backwards: set[str] = set()
    accepted = []
    for master, reverse in stated:
        if master != reverse and reverse not in masters and master not in backwards:
            masters.add(master)
            backwards.add(reverse)
            accepted.append((master, reverse))
    return accepted


def read_reverses(workspace: Workspace, statements: Statements, mask: int) -> list[tuple[str, str]]:
    """The (master, reverse) pairs that the dumps state, then the well-known ones; see :func:`accept_reverses`."""
    nodes, terms = statements.nodes, statements.terms
    predicates = {_REVERSE: 0, _MASTER: 1, _INVERSE: 2}
    keys = [(workspace.key(ibis.literal(predicate)), kind) for predicate, kind in predicates.items()]
    kind = nodes["relation"].cases(*keys, else_=-1)
    said = nodes.filter(((nodes["sources"] & mask) != 0) & (kind >= 0)).select("head", "tail", kind=kind)
    named = said.join(terms.select(head="key", one="term"), "head").join(terms.select(tail="key", other="term"), "tail")
    rows = workspace.fetch(named.select("one", "other", "kind").distinct()).to_pylist()
    ends = {kind: [(row["one"], row["other"]) for row in rows if row["kind"] == kind] for kind in range(3)}
    told = {*ends[0], *((master, reverse) for reverse, master in ends[1])}
    inverse = {(min(pair), max(pair)) for pair in ends[2]}
    stated = [*sorted(told), *sorted(inverse), *WELL_KNOWN_REVERSES]
    return accept_reverses([pair for pair in stated if not {_INSTANCE, _TYPE, RDF_TYPE} & {*pair}])


def _present(workspace: Workspace, table: Any, terms: Any) -> set[str]:
    """The relations that a table of statements has."""
    keys = table.select(key="relation").distinct()
    return set(workspace.fetch(keys.join(terms, "key").select("term"))["term"].to_pylist())


def _redundant_labels(workspace: Workspace, literals: Any) -> Any:
    """Labels that a name repeats: head, text, language ("" for none), sources."""
    plain = literals.filter(literals["datatype"].isnull())
    plain = plain.mutate(language=plain["language"].fill_null(""))
    labels, names = (
        plain.filter(plain["relation"] == workspace.key(ibis.literal(predicate))) for predicate in (RDFS_LABEL, _NAME)
    )
    repeated = labels.semi_join(names, ["head", "text", "language", "sources"])
    return repeated.select("head", "text", "language", "sources").distinct()


def find_dropped(workspace: Workspace, statements: Statements, mask: int) -> _Dropped | None:
    """The redundant and reverse statements of the sources of a mask; None where their relations rule them out."""
    nodes = statements.nodes.filter((statements.nodes["sources"] & mask) != 0)
    literals = statements.literals.filter((statements.literals["sources"] & mask) != 0)
    present = _present(workspace, nodes, statements.terms)
    pairs = [pair for pair in read_reverses(workspace, statements, mask) if {*pair} <= present]
    by_type = _TYPE in present and bool({_INSTANCE, RDF_TYPE} & present)
    by_name = {RDFS_LABEL, _NAME} <= _present(workspace, literals, statements.terms)
    if not (pairs or by_type or by_name):
        return None

    def of(predicate: str) -> Any:
        return nodes.filter(nodes["relation"] == workspace.key(ibis.literal(predicate)))

    typed = of(_TYPE).select("head", "tail", "sources").distinct()
    instances = of(_INSTANCE).semi_join(typed.select("sources", head="tail", tail="head"), ["head", "tail", "sources"])
    again = of(RDF_TYPE).semi_join(typed, ["head", "tail", "sources"])
    table = {
        "master": pa.array([m for m, _ in pairs], pa.string()),
        "reverse": pa.array([r for _, r in pairs], pa.string()),
    }
    terms = workspace.put("reverse_pairs", pa.table(table))
    known = terms.select(relation=workspace.key(terms["reverse"]), master=workspace.key(terms["master"]))
    reverses = nodes.join(known, "relation").select("head", "relation", "tail", "sources", "master")
    forwards = nodes.select("sources", tail="head", master="relation", head="tail")
    reverses = reverses.semi_join(forwards, ["head", "master", "tail", "sources"])
    parts = [
        part.select("head", "relation", "tail", "sources", reason=ibis.literal(reason)).distinct()
        for part, reason in ((instances, "redundant"), (again, "redundant"), (reverses, "reverse"))
    ]
    dropped = _Dropped(
        nodes=workspace.keep("dropped_nodes", ibis.union(*parts)),
        labels=workspace.keep("dropped_labels", _redundant_labels(workspace, literals)),
    )
    workspace.drop("reverse_pairs")
    return dropped


def _without(
    workspace: Workspace, statements: Statements, dropped: _Dropped | None, folded: Folded | None
) -> Statements:
    """The statements that stay, and those that folding makes."""
    nodes, literals = statements.nodes, statements.literals
    qualifiers, terms = statements.qualifiers, statements.terms
    if folded is not None:
        nodes, literals = (table.anti_join(folded.values.select(head="key"), "head") for table in (nodes, literals))
        nodes = nodes.anti_join(folded.values.select(tail="key"), "tail")
    if dropped is not None:
        nodes = nodes.anti_join(dropped.nodes, ["head", "relation", "tail", "sources"])
        is_label = (literals["relation"] == workspace.key(ibis.literal(RDFS_LABEL))) & literals["datatype"].isnull()
        marked = literals.mutate(
            label_language=is_label.ifelse(literals["language"].fill_null(""), ibis.null("string"))
        )
        gone = dropped.labels.select("head", "text", "sources", label_language="language")
        literals = marked.anti_join(gone, ["head", "text", "sources", "label_language"]).drop("label_language")
    if folded is not None:
        nodes = ibis.union(nodes, folded.nodes)
        literals = ibis.union(literals, folded.literals)
        terms = workspace.keep("terms_with_folded", ibis.union(terms, folded.terms))
        qualifiers = folded.qualifiers if qualifiers is None else ibis.union(qualifiers, folded.qualifiers)
    kept = replace(
        statements,
        terms=terms,
        nodes=workspace.keep("nodes_kept", nodes),
        literals=workspace.keep("literals_kept", literals),
        qualifiers=qualifiers,
    )
    workspace.drop("nodes", "literal_nodes")
    return replace(kept, ends=workspace.keep("ends_kept", find_ends(workspace, kept)))


def _ledger(
    workspace: Workspace, config: Config, inputs: Inputs, dropped: _Dropped | None, folded: Folded | None
) -> list[Any]:
    """Rows of ``dropped`` for the raw statements that were left out."""
    raw = inputs.triples.filter(~is_link(inputs.triples))
    keyed = raw.mutate(
        head_key=workspace.key(raw["head"]),
        relation_key=workspace.key(raw["relation"]),
        tail_key=workspace.key(raw["tail"]),
        bit=source_bits(raw["source"], config.source_names),
    )
    parts = []
    if folded is not None:
        values = folded.values
        by_head = keyed.semi_join(values.select(head_key="key"), "head_key")
        keyed = keyed.anti_join(values.select(head_key="key"), "head_key")
        by_tail = keyed.semi_join(values.select(tail_key="key"), "tail_key")
        keyed = keyed.anti_join(values.select(tail_key="key"), "tail_key")
        parts += [ledger_rows(by_head, "folded"), ledger_rows(by_tail, "folded")]
    if dropped is not None:
        for reason in ("redundant", "reverse"):
            nodes = dropped.nodes.filter(dropped.nodes["reason"] == reason)
            nodes = nodes.select(head_key="head", relation_key="relation", tail_key="tail", bit="sources")
            parts.append(ledger_rows(keyed.semi_join(nodes, ["head_key", "relation_key", "tail_key", "bit"]), reason))
        labels = keyed.filter((keyed["relation"] == RDFS_LABEL) & keyed["tail"].isnull() & keyed["datatype"].isnull())
        labels = labels.mutate(text=labels["value"], spoken=labels["language"].fill_null(""))
        gone = dropped.labels.select("text", head_key="head", spoken="language", bit="sources")
        parts.append(ledger_rows(labels.semi_join(gone, ["head_key", "text", "spoken", "bit"]), "redundant"))
    return parts


def apply_pack(
    workspace: Workspace, config: Config, inputs: Inputs, statements: Statements, folder: Path
) -> tuple[Statements, dict[str, int]]:
    """Leave out and fold what the config asks for, and write the table `dropped`.

    Returns:
        The statements that stay, and counts: ``dropped_REASON`` and ``folded_statements``, those that folding made.
    """
    benchmarks = {source.name for source in config.sources if source.split}
    freebase = [source for source in config.sources if source.kind == "freebase" and source.name not in benchmarks]
    drop_mask = source_mask(config, {source.name for source in freebase if source.drop_redundant})
    fold_mask = source_mask(config, {source.name for source in freebase if source.fold_cvt})
    folded = fold(workspace, statements, fold_mask) if fold_mask else None
    dropped = find_dropped(workspace, statements, drop_mask) if drop_mask else None
    parts = []
    if folded is not None or dropped is not None:
        parts = _ledger(workspace, config, inputs, dropped, folded)
        statements = _without(workspace, statements, dropped, folded)
    if inputs.links is not None:
        parts.append(ledger_rows(inputs.links.filter(~is_link(inputs.links)), "not_a_link"))
    counts = write_dropped(workspace, folder, parts)
    counts["folded_statements"] = 0 if folded is None else folded.num_statements
    return statements, counts
