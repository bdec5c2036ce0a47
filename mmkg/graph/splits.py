"""Train, valid and test triples for learning, so that no held-out fact can be read off a train triple.

The way of a fact goes on from ``triples`` to ``splits``: the same rows, each with the name of its split. Published
benchmarks leaked through relations that state the same facts under another name or backwards (Toutanova and Chen 2015
on FB15k; Akrami et al., SIGMOD 2020): here such relations form a group, and all triples of a group over one pair of
entities are split together.

What is drawn depends on ids and the seed, never on indices or on the order of rows, so a rebuild with one more triple
leaves all but a few triples in their split.
"""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import ibis
import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mmkg.config import Config
from mmkg.engine import open_engine
from mmkg.graph.workspace import Workspace
from mmkg.shards import open_table, write_table

logger = logging.getLogger(__name__)

SPLITS_VERSION = 1

SPLITS = ("test", "valid", "train", "left_out")
"""The names by their code; where a triple stands in several splits of the sources, the first of these has it."""
_TEST, _VALID, _TRAIN, _LEFT_OUT = range(4)
_ROWS_PER_BATCH = 1_000_000

Indices = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Codes = npt.NDArray[np.int8]


@dataclass(frozen=True, kw_only=True)
class _Triples:
    """The graph's triples as columns, in the order of the table."""

    head: Indices
    relation: Indices
    tail: Indices
    num_entities: int
    relation_ids: Sequence[str]


def build_splits(
    config: Config, graph_folder: Path, split_folders: Sequence[tuple[str, Path]], folder: Path
) -> dict[str, int]:
    """Write the table `splits`: every triple of the graph, in the order of `triples`, with its split.

    By seed, valid and test have the config's shares of the triples as far as it is possible to leave each of their
    entities and relations in train. From the sources, a triple that stands in several splits is in the first of test,
    valid, train; the benchmark's own train triples are taken as they are; a triple of another source is train, or
    `left_out` where it restates a valid or test triple through a relation of its group.

    Args:
        config: shares, seed, and whether the sources bring splits.
        graph_folder: folder of the stage that built the graph.
        split_folders: with ``splits.from_sources``, the split of each such dump and the folder of its `triples_raw`.
        folder: where the table is written.

    Returns:
        Triples of each split; `relation_groups`; with splits from the sources also `unmatched` (their triples that
        are not in the graph) and `unseen` (valid and test triples with an entity or relation that train lacks).
    """
    triples = _read_triples(graph_folder)
    groups = find_relation_groups(config, graph_folder, triples.relation_ids, folder)
    units = _hash_units(triples, groups, _hash_entities(graph_folder, triples.num_entities), config.graph.random_seed)
    counts: dict[str, int] = {}
    if config.splits.from_sources:
        codes, counts["unmatched"] = _take_from_sources(config, graph_folder, split_folders, triples, folder)
        _leave_out_restated(codes, units)
        counts["unseen"] = _count_unseen(codes, triples)
    else:
        codes = _draw(triples, units, config.splits.valid, config.splits.test)
    by_code = np.bincount(codes, minlength=len(SPLITS))
    counts |= {name: int(count) for name, count in zip(SPLITS, by_code, strict=True)}
    counts["relation_groups"] = len(set(groups.values()))
    write_table(folder, "splits", _to_batches(triples, codes))
    return counts


def _read_triples(graph_folder: Path) -> _Triples:
    table = open_table(graph_folder, "triples").to_table(columns=["head_index", "relation_index", "tail_index"])
    relations = open_table(graph_folder, "relations").to_table(columns=["relation_index", "relation_id"])
    return _Triples(
        head=table["head_index"].to_numpy(),
        relation=table["relation_index"].to_numpy(),
        tail=table["tail_index"].to_numpy(),
        num_entities=open_table(graph_folder, "entities").count_rows(),
        relation_ids=relations.sort_by("relation_index")["relation_id"].to_pylist(),
    )


# --- relations that state the same facts -----------------------------------------------------------------------------


def find_relation_groups(
    config: Config, graph_folder: Path, relation_ids: Sequence[str], spill_folder: Path | None = None
) -> dict[int, str]:
    """Find relations that restate one another's triples, or their own backwards.

    Two relations belong together when at least ``splits.leak_share`` of the smaller one's pairs of entities are also
    pairs of the other, all forwards (duplicates) or all backwards (inverses); a relation belongs with itself when so
    much of it also holds backwards (symmetric). Measured on the smaller one, because a relation that is a part of
    another leaks all the same. Groups are the connected components.

    Args:
        config: names the engine and `leak_share`.
        graph_folder: folder of the stage that built the graph.
        relation_ids: by relation_index.
        spill_folder: see :func:`~mmkg.engine.open_engine`.

    Returns:
        For each relation_index that is in a group the group's name: the smallest relation_id of it.
    """
    with open_engine(config.graph, spill_folder) as engine:
        workspace = Workspace(engine)
        first = workspace.read([graph_folder], "triples").select("head_index", "relation_index", "tail_index")
        second = first.view().rename(head_2="head_index", relation_2="relation_index", tail_2="tail_index")
        forwards = first.join(
            second,
            [
                first.head_index == second.head_2,
                first.tail_index == second.tail_2,
                first.relation_index < second.relation_2,
            ],
        )
        backwards = first.join(
            second,
            [
                first.head_index == second.tail_2,
                first.tail_index == second.head_2,
                first.relation_index <= second.relation_2,
            ],
        )
        shared = [
            workspace.fetch(pairs.group_by("relation_index", "relation_2").aggregate(count=ibis._.count()))
            for pairs in (forwards, backwards)
        ]
        sizes_table = workspace.fetch(first.group_by("relation_index").aggregate(size=ibis._.count()))
    sizes = np.zeros(len(relation_ids), dtype=np.int64)
    sizes[sizes_table["relation_index"].to_numpy()] = sizes_table["size"].to_numpy()
    overlaps = pa.concat_tables(shared)
    one, other = overlaps["relation_index"].to_numpy(), overlaps["relation_2"].to_numpy()
    leaks = overlaps["count"].to_numpy() >= config.splits.leak_share * np.minimum(sizes[one], sizes[other])
    one, other = one[leaks], other[leaks]
    adjacency = coo_array((np.ones(len(one), dtype=bool), (one, other)), shape=(len(relation_ids),) * 2)
    _, component = connected_components(adjacency, directed=False)
    names: dict[int, str] = {}
    for index in np.union1d(one, other):
        name = names.get(int(component[index]), relation_ids[index])
        names[int(component[index])] = min(name, relation_ids[index])
    return {int(index): names[int(component[index])] for index in np.union1d(one, other)}


# --- units: triples that are split together --------------------------------------------------------------------------


def _hash_text(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _hash_entities(graph_folder: Path, num_entities: int) -> Hashes:
    """64-bit hash of each entity_id, by entity_index."""
    hashes = np.empty(num_entities, dtype=np.uint64)
    for batch in open_table(graph_folder, "entities").to_batches(columns=["entity_index", "entity_id"]):
        found = (_hash_text(entity_id) for entity_id in batch["entity_id"].to_pylist())
        hashes[batch["entity_index"].to_numpy()] = np.fromiter(found, dtype=np.uint64, count=batch.num_rows)
    return hashes


def _mix(values: Hashes) -> Hashes:
    """Spread 64-bit values over all 64 bits: the finaliser of splitmix64 (Steele et al., OOPSLA 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _hash_units(triples: _Triples, groups: dict[int, str], entities: Hashes, random_seed: int) -> Hashes:
    """A 64-bit name for each triple, shared by exactly the triples that must be split together.

    In a group of relations that is the unordered pair of entities; outside, the triple alone. Two units that happen to
    get one name are split together, which harms nothing.
    """
    names = [groups.get(index, relation_id) for index, relation_id in enumerate(triples.relation_ids)]
    salt = np.uint64(_hash_text(f"random_seed {random_seed}"))
    relation_hashes = _mix(np.array([_hash_text(name) for name in names], dtype=np.uint64) ^ salt)
    grouped = np.zeros(len(names), dtype=bool)
    grouped[list(groups)] = True
    first, second = _mix(entities[triples.head]), _mix(entities[triples.tail])
    pair = np.where(grouped[triples.relation], first + second, first + np.uint64(3) * second)
    return _mix(pair + relation_hashes[triples.relation])


# --- by seed ---------------------------------------------------------------------------------------------------------


def _draw(triples: _Triples, units: Hashes, valid: float, test: float) -> Codes:
    """Take whole units in the order of their hashes, each only if train keeps its entities and relations."""
    order = np.argsort(units, kind="stable")
    num_test, num_valid = round(test * len(units)), round(valid * len(units))
    codes = _take_units(
        units[order],
        order,
        triples.head,
        triples.relation,
        triples.tail,
        np.bincount(triples.head, minlength=triples.num_entities)
        + np.bincount(triples.tail, minlength=triples.num_entities),
        np.bincount(triples.relation, minlength=len(triples.relation_ids)),
        num_test,
        num_valid,
    )
    found_test, found_valid = int((codes == _TEST).sum()), int((codes == _VALID).sum())
    if found_test < num_test or found_valid < num_valid:
        logger.warning(
            "splits: asked for %s test and %s valid triples, found %s and %s: every other one holds an entity or "
            "relation that would be missing from train",
            *(f"{count:,}" for count in (num_test, num_valid, found_test, found_valid)),
        )
    return codes


@numba.njit(cache=True)  # type: ignore[misc, unused-ignore]
def _take_units(
    sorted_units: Hashes,
    order: Indices,
    head: Indices,
    relation: Indices,
    tail: Indices,
    entity_uses: Indices,
    relation_uses: Indices,
    num_test: int,
    num_valid: int,
) -> Codes:
    """Code of each triple. `entity_uses` and `relation_uses` count ends and triples in train, and are used up."""
    codes = np.full(len(order), 2, dtype=np.int8)
    taken_test = taken_valid = start = 0
    while start < len(order) and (taken_test < num_test or taken_valid < num_valid):
        end = start + 1
        while end < len(order) and sorted_units[end] == sorted_units[start]:
            end += 1
        for position in range(start, end):
            row = order[position]
            entity_uses[head[row]] -= 1
            entity_uses[tail[row]] -= 1
            relation_uses[relation[row]] -= 1
        allowed = True
        for position in range(start, end):
            row = order[position]
            if entity_uses[head[row]] == 0 or entity_uses[tail[row]] == 0 or relation_uses[relation[row]] == 0:
                allowed = False
        is_test = taken_test < num_test
        for position in range(start, end):
            row = order[position]
            if allowed:
                codes[row] = 0 if is_test else 1
            else:
                entity_uses[head[row]] += 1
                entity_uses[tail[row]] += 1
                relation_uses[relation[row]] += 1
        if allowed and is_test:
            taken_test += end - start
        elif allowed:
            taken_valid += end - start
        start = end
    return codes


# --- from the sources ------------------------------------------------------------------------------------------------


def _take_from_sources(
    config: Config,
    graph_folder: Path,
    split_folders: Sequence[tuple[str, Path]],
    triples: _Triples,
    spill_folder: Path,
) -> tuple[Codes, int]:
    """Codes by the splits that the sources name, _LEFT_OUT for the triples of others; and how many were not found."""
    with open_engine(config.graph, spill_folder) as engine:
        workspace = Workspace(engine)
        raw = [
            workspace.read([folder], "triples_raw")
            .filter(ibis._.tail.notnull())
            .select("head", "relation", "tail", code=ibis.literal(SPLITS.index(split), "int8"))
            for split, folder in split_folders
        ]
        stated = ibis.union(*raw).group_by("head", "relation", "tail").aggregate(code=ibis._.code.min())
        entities = workspace.read([graph_folder], "entities")
        names = ibis.union(
            entities.select("entity_index", name="entity_id"),
            entities.select("entity_index", name=ibis._.aliases.unnest()),
        )
        heads = names.rename(head_index="entity_index", head="name")
        tails = names.view().rename(tail_index="entity_index", tail="name")
        relations = workspace.read([graph_folder], "relations").select("relation_index", relation="relation_id")
        columns = {"head_index": triples.head, "relation_index": triples.relation, "tail_index": triples.tail}
        numbered = pa.table({**columns, "row": np.arange(len(triples.head))})
        rows = workspace.put("numbered_triples", numbered)
        stated = workspace.keep("stated", stated)
        found = workspace.fetch(
            stated.join(heads, "head")
            .join(tails, "tail")
            .join(relations, "relation")
            .join(rows, list(columns))
            .select("row", "code")
        )
        unmatched = int(workspace.fetch_one(stated.aggregate(rows=ibis._.count()))["rows"]) - found.num_rows
    codes = np.full(len(triples.head), _LEFT_OUT, dtype=np.int8)
    np.minimum.at(codes, found["row"].to_numpy(), found["code"].to_numpy())
    if unmatched:
        logger.warning("splits: %s triples of the sources' splits are not in the graph", f"{unmatched:,}")
    return codes, unmatched


def _leave_out_restated(codes: Codes, units: Hashes) -> None:
    """Give the triples of other sources to train, but for those that share their unit with a valid or test triple."""
    held_out = np.unique(units[codes < _TRAIN])
    others = np.flatnonzero(codes == _LEFT_OUT)
    codes[others[~np.isin(units[others], held_out)]] = _TRAIN


def _count_unseen(codes: Codes, triples: _Triples) -> int:
    """Valid and test triples with an entity or relation that no train triple has."""
    seen = np.zeros(triples.num_entities, dtype=bool)
    seen_relation = np.zeros(len(triples.relation_ids), dtype=bool)
    in_train = codes == _TRAIN
    seen[triples.head[in_train]] = seen[triples.tail[in_train]] = seen_relation[triples.relation[in_train]] = True
    known = seen[triples.head] & seen[triples.tail] & seen_relation[triples.relation]
    return int(((codes < _TRAIN) & ~known).sum())


def _to_batches(triples: _Triples, codes: Codes) -> Iterable[pa.RecordBatch]:
    names = pa.array(SPLITS)
    for start in range(0, len(codes), _ROWS_PER_BATCH):
        part = slice(start, start + _ROWS_PER_BATCH)
        columns = {
            "head_index": pa.array(triples.head[part]),
            "relation_index": pa.array(triples.relation[part]),
            "tail_index": pa.array(triples.tail[part]),
            "split": names.take(pa.array(codes[part])),
        }
        yield pa.RecordBatch.from_pydict(columns)
