"""Dense indices: entities and relations get integers in the order of their ids, and triples become three of them.

Where a fact stands here: its ends are keys and identity is known; what comes out is ``triples``, sorted by head,
relation and tail, each once, with the bit set of the sources that state it.

The engine joins and sorts; the sorted stream then passes through :class:`TripleStream`, which drops repetitions and
learns about the relations on the way (how often, functional or not, a sample for inverses), so that nothing reads the
triples twice.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow as pa

from mmkg.graph.inverses import PairSample
from mmkg.graph.names import RESERVED_RELATION_NAMES, unique_names
from mmkg.graph.statements import Statements, is_type
from mmkg.graph.workspace import Workspace, unite
from mmkg.shards import TableWriter

_PACKED_BITS = 63  # of a signed integer, without the sign


def index_entities(workspace: Workspace, statements: Statements, aliases: Any | None) -> tuple[Any, Any]:
    """Number the entities: every class of IRIs that is an end of a triple or has a type, literal or qualifier.

    Args:
        workspace: where the tables are kept.
        statements: what the sources say.
        aliases: key, canonical: the keys of merged IRIs; None if nothing was merged.

    Returns:
        `entities` (key, term, entity_index, sources), and `entity_of` (key, entity_index) for every IRI that is an
        entity or merged into one.
    """
    named = statements.ends
    if aliases is not None:
        members = named.join(aliases, "key").select("canonical", "sources")
        classes = members.group_by(key=members["canonical"]).agg(sources=unite(members["sources"]))
        classes = classes.join(statements.terms, "key").select("key", "term", "sources")
        named = ibis.union(named.anti_join(aliases, "key"), classes)
    entities = workspace.keep(
        "entities_indexed", named.mutate(entity_index=ibis.row_number().over(order_by=named["term"]))
    )
    entity_of = entities.select("key", "entity_index")
    if aliases is not None:
        others = aliases.filter(aliases["key"] != aliases["canonical"])
        others = others.join(entities, others["canonical"] == entities["key"]).select(others["key"], "entity_index")
        entity_of = workspace.keep("entity_of", ibis.union(entity_of, others))
    return entities, entity_of


def index_relations(workspace: Workspace, statements: Statements) -> Any:
    """Number the relations of triples: key, term, relation_index, rows (before repetitions are dropped)."""
    nodes = statements.nodes
    nodes = nodes.filter(~is_type(workspace, nodes["relation"]))
    counted = nodes.group_by(key=nodes["relation"]).agg(rows=nodes.count())
    named = counted.join(statements.terms, "key").select("key", "term", "rows")
    return workspace.keep(
        "relations_indexed", named.mutate(relation_index=ibis.row_number().over(order_by=named["term"]))
    )


def join_indices(workspace: Workspace, nodes: Any, entity_of: Any, relations: Any) -> Any:
    """The triples as indices, unsorted and with repetitions: head, relation, tail, sources."""
    triples = nodes.filter(~is_type(workspace, nodes["relation"]))
    heads = entity_of.select(head="key", head_index="entity_index")
    tails = entity_of.select(tail="key", tail_index="entity_index")
    named = relations.select(relation="key", relation_index="relation_index")
    return (
        triples.join(heads, "head")
        .join(tails, "tail")
        .join(named, "relation")
        .select("head_index", "relation_index", "tail_index", "sources")
    )


def sorted_triples(workspace: Workspace, triples: Any, num_entities: int, num_relations: int) -> Iterator[pa.Table]:
    """The triples as indices in order, with repetitions.

    Where the three indices fit 63 bits together they are sorted as one integer, which is several times faster.
    """
    entity_bits, relation_bits = (max(1, (count - 1).bit_length()) for count in (num_entities, num_relations))
    if 2 * entity_bits + relation_bits > _PACKED_BITS:
        yield from workspace.stream(triples.order_by("head_index", "relation_index", "tail_index", "sources"))
        return
    relation_step, head_step = 1 << entity_bits, 1 << (entity_bits + relation_bits)
    packed = triples.select(
        packed=triples["head_index"].cast("int64") * head_step
        + triples["relation_index"] * relation_step
        + triples["tail_index"],
        sources="sources",
    )
    for batch in workspace.stream(packed.order_by("packed")):
        numbers = batch["packed"].to_numpy()
        yield pa.table(
            {
                "head_index": numbers >> (entity_bits + relation_bits),
                "relation_index": (numbers >> entity_bits) & ((1 << relation_bits) - 1),
                "tail_index": numbers & (relation_step - 1),
                "sources": batch["sources"],
            }
        )


@dataclass
class TripleStream:
    """Drops the repetitions of sorted triples and keeps what they tell about their relations.

    Attributes:
        rows: triples that went in.
        counts: triples of each relation that came out.
        functional: whether no head of the relation has two tails.
        sample: pairs by which candidates for inverses are found.
    """

    num_relations: int
    sample: PairSample
    rows: int = 0
    counts: np.ndarray = field(init=False)
    functional: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        """Nothing seen yet: no triples, all functional."""
        self.counts = np.zeros(self.num_relations, np.int64)
        self.functional = np.ones(self.num_relations, np.bool_)

    def distinct(self, batches: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """The triples once each, `sources` united; batches in order of head, relation, tail."""
        last: np.ndarray | None = None  # the row held back: the next batch may repeat it
        for batch in batches:
            self.rows += batch.num_rows
            columns = np.stack([batch[name].to_numpy() for name in ("head_index", "relation_index", "tail_index")])
            sources = batch["sources"].to_numpy()
            if last is not None:
                columns = np.concatenate([last[:3, None], columns], axis=1)
                sources = np.concatenate([last[3:], sources])
            starts = np.flatnonzero(np.concatenate([[True], np.any(columns[:, 1:] != columns[:, :-1], axis=0)]))
            rows = np.concatenate([columns[:, starts], np.bitwise_or.reduceat(sources, starts)[None]])
            last = rows[:, -1]
            if rows.shape[1] > 1:
                yield self._emit(rows[:, :-1], following=last)
        if last is not None:
            yield self._emit(last[:, None], following=None)

    def _emit(self, rows: np.ndarray, following: np.ndarray | None) -> pa.Table:
        head, relation, tail, sources = rows
        self.counts += np.bincount(relation, minlength=self.num_relations)
        same = (head[1:] == head[:-1]) & (relation[1:] == relation[:-1])
        self.functional[relation[1:][same]] = False
        if following is not None and following[0] == head[-1] and following[1] == relation[-1]:
            self.functional[relation[-1]] = False
        self.sample.add(head, relation, tail)
        return pa.table({"head_index": head, "relation_index": relation, "tail_index": tail, "sources": sources})


def write_relations(
    folder: Path, iris: list[str], stream: TripleStream, inverses: list[int | None], labels: dict[str, str]
) -> None:
    """Write the table `relations`.

    Args:
        folder: of the build.
        iris: in order of index.
        stream: through which the triples have passed.
        inverses: of each relation (:func:`mmkg.graph.inverses.find_inverses`).
        labels: by IRI, of the relations that have one.
    """
    table = pa.table(
        {
            "relation_index": np.arange(len(iris)),
            "relation_id": pa.array(iris, pa.string()),
            "name": pa.array(unique_names(iris, RESERVED_RELATION_NAMES), pa.string()),
            "label": pa.array([labels.get(iri) for iri in iris], pa.string()),
            "count": stream.counts,
            "functional": stream.functional,
            "inverse_index": pa.array(inverses, pa.int64()),
        }
    )
    with TableWriter(folder, "relations") as writer:
        writer.write(table)
