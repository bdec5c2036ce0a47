"""The difference of two contents: applied in plain Python to the old one, it gives the new one, and nothing more."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkg.errors import StoreError
from mmkg.store.columns import EDGES, nodes_schema
from mmkg.store.compare import REMOVE
from mmkg.store.content import Content, gather_content
from mmkg.store.difference import Difference, find_difference
from mmkg.store.model import Property, StoreModel

# A graph: node id → its properties; edges (type, from, to) → relation_id, sources
Nodes = dict[str, dict[str, Any]]
Edges = list[tuple[str, str, str, str, list[str]]]


IDS = ["a", "b", "c", "é", 'q"', "`"]
TYPES = ["capital", "partOf", "borders"]


def make(folder: Path, nodes: Nodes, edges: Edges) -> Content:
    """Content of a graph; a property is a list if any node has one."""
    values: dict[str, list[Any]] = {}
    for row in nodes.values():
        for name, value in row.items():
            if name not in ("label", "types"):
                values.setdefault(name, []).append(value)
    properties = tuple(
        Property(
            attribute_index=i,
            attribute_id=f"http://a/{name}",
            name=name,
            value_column="number" if isinstance(_first(values[name]), float) else "text",
            many=isinstance(values[name][0], list),
        )
        for i, name in enumerate(sorted(values))
    )
    schema = nodes_schema(properties)
    rows = [{"types": [], "aliases": []} | {"entity_id": entity_id} | row for entity_id, row in sorted(nodes.items())]
    by_type: dict[str, list[dict[str, Any]]] = {}
    for name, start, end, relation_id, sources in sorted(edges):
        by_type.setdefault(name, []).append({"from": start, "to": end, "relation_id": relation_id, "sources": sources})
    return gather_content(
        StoreModel(relationships=(), properties=properties, source_names=()),
        pa.Table.from_pylist(rows, schema=schema).to_reader(),
        ((name, pa.Table.from_pylist(rows, schema=EDGES).to_reader()) for name, rows in by_type.items()),
        folder,
    )


def _first(values: list[Any]) -> Any:
    return values[0][0] if isinstance(values[0], list) else values[0]


def read(path: Path | None) -> list[dict[str, Any]]:
    return [] if path is None else pq.read_table(path).to_pylist()


def apply(old: Content, difference: Difference) -> tuple[dict[str, dict[str, Any]], Counter[tuple[Any, ...]]]:
    """What a store holds after it, in the order that `difference` prescribes; fails on what no store could do."""
    nodes = {row["entity_id"]: {k: v for k, v in row.items() if v is not None} for row in read(old.nodes)}
    edges = [(name, *row.values()) for name, path in old.edges.items() for row in read(path)]
    for name, path in difference.edges_removed.items():
        for row in read(path):
            gone = [edge for edge in edges if edge[:3] == (name, row["from"], row["to"])]
            assert gone, "removes an edge that is not there"
            edges = [edge for edge in edges if edge not in gone]
    for row in read(difference.nodes_removed):
        assert not any(row["entity_id"] in edge[1:3] for edge in edges), "removes a node that has edges"
        del nodes[row["entity_id"]]
    for row in read(difference.nodes_added):
        assert row["entity_id"] not in nodes
        nodes[row["entity_id"]] = {k: v for k, v in row.items() if v is not None}
    for row in read(difference.nodes_changed):
        remove = row.pop(REMOVE)
        node = nodes[row["entity_id"]]
        for name in remove:
            del node[name]
        node |= {k: v for k, v in row.items() if v is not None}
    for name, path in difference.edges_added.items():
        for row in read(path):
            assert {row["from"], row["to"]} <= nodes.keys()
            assert not any(edge[:3] == (name, row["from"], row["to"]) for edge in edges)
            edges.append((name, *row.values()))
    for name, path in difference.edges_changed.items():
        for row in read(path):
            [place] = [i for i, edge in enumerate(edges) if edge[:3] == (name, row["from"], row["to"])]
            edges[place] = (name, *row.values())
    return nodes, counted(edges)


def counted(edges: Any) -> Counter[tuple[Any, ...]]:
    return Counter((*edge[:4], tuple(edge[4])) for edge in edges)


def held(content: Content) -> tuple[dict[str, dict[str, Any]], Counter[tuple[Any, ...]]]:
    nodes = {row["entity_id"]: {k: v for k, v in row.items() if v is not None} for row in read(content.nodes)}
    return nodes, counted((name, *row.values()) for name, path in content.edges.items() for row in read(path))


def check(old: Content, new: Content, folder: Path) -> Difference:
    """Find the difference, hold it against `new`, and count in plain Python what it may touch."""
    difference = find_difference(old, new, folder)
    assert told_apart(*apply(old, difference)) == told_apart(*held(new))
    nodes, new_nodes = held(old)[0], held(new)[0]
    ids = {kind: [row["entity_id"] for row in read(getattr(difference, f"nodes_{kind}"))] for kind in KIND_NAMES}
    assert ids["added"] == sorted(new_nodes.keys() - nodes.keys())
    assert ids["removed"] == sorted(nodes.keys() - new_nodes.keys())
    assert ids["changed"] == sorted(i for i in nodes.keys() & new_nodes if repr_row(nodes[i]) != repr_row(new_nodes[i]))
    for kind in KIND_NAMES:
        files = getattr(difference, f"edges_{kind}")
        rows = {name: [(row["from"], row["to"]) for row in read(path)] for name, path in files.items()}
        assert all(ends == sorted(ends) for ends in rows.values())
        assert {name: len(ends) for name, ends in rows.items()} == difference.edge_counts.get(f"edges_{kind}", {})
        assert sum(map(len, rows.values())) == difference.counts.get(f"edges_{kind}", 0)
        assert len(ids[kind]) == difference.counts.get(f"nodes_{kind}", 0)
    assert difference.is_empty == (old.digest.total == new.digest.total)
    return difference


KIND_NAMES = ("added", "changed", "removed")


def told_apart(nodes: dict[str, dict[str, Any]], edges: Counter[tuple[Any, ...]]) -> Any:
    """Values as text: NaN is equal to itself, and -0 is not 0."""
    return {entity_id: repr_row(row) for entity_id, row in nodes.items()}, edges


def repr_row(row: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted((name, repr(value)) for name, value in row.items())


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Nodes, Edges]:
    """Few ids and names, so that two graphs have much in common; a property is of one kind in each graph."""
    texts = st.sampled_from(["", "x", "y", "é'\n\x00"])
    numbers = st.sampled_from([0.0, -0.0, 1.5, math.nan])
    kinds = {name: draw(st.sampled_from([texts, numbers])) for name in ("area", "motto")}
    lists = {name: draw(st.booleans()) for name in kinds}
    nodes: Nodes = {}
    for entity_id in draw(st.lists(st.sampled_from(IDS), unique=True)):
        row: dict[str, Any] = {}
        if draw(st.booleans()):
            row["label"] = draw(texts)
        row["types"] = draw(st.lists(texts, max_size=2))
        for name, kind in kinds.items():
            if draw(st.booleans()):
                row[name] = draw(st.lists(kind, min_size=1, max_size=2) if lists[name] else kind)
        nodes[entity_id] = row
    ends = st.sampled_from(sorted(nodes)) if nodes else st.nothing()
    keys = draw(st.sets(st.tuples(st.sampled_from(TYPES), ends, ends), max_size=6)) if nodes else set()
    sources = st.lists(st.sampled_from(["dbpedia", "yago"]), max_size=2)
    return nodes, [(*key, draw(st.sampled_from(["http://r/1", "http://r/2"])), draw(sources)) for key in sorted(keys)]


@settings(max_examples=30)
@given(graphs(), graphs())
def test_applied_to_the_old_graph_it_gives_the_new_one(
    tmp_path_factory: pytest.TempPathFactory, old: tuple[Nodes, Edges], new: tuple[Nodes, Edges]
) -> None:
    folder = tmp_path_factory.mktemp("difference")
    check(make(folder / "old", *old), make(folder / "new", *new), folder / "work")


NODES: Nodes = {"a": {"label": "A", "area": 1.0}, "b": {"types": ["City"]}, "c": {}}
EDGES_OLD: Edges = [
    ("capital", "a", "b", "http://r/capital", ["dbpedia"]),
    ("partOf", "b", "a", "http://r/partOf", ["dbpedia"]),
    ("partOf", "c", "a", "http://r/partOf", ["dbpedia"]),
]


@pytest.fixture
def old(tmp_path: Path) -> Content:
    return make(tmp_path / "old", NODES, EDGES_OLD)


def changes(difference: Difference) -> dict[str, int]:
    return {kind: rows for kind, rows in difference.counts.items() if rows}


def test_the_same_graph_again_has_no_difference(old: Content, tmp_path: Path) -> None:
    difference = check(old, make(tmp_path / "new", NODES, EDGES_OLD[::-1]), tmp_path / "work")
    assert difference.is_empty
    assert difference.num_changes == 0
    assert difference.examples() == []
    assert list((tmp_path / "work").glob("*.parquet")) == []


def test_into_an_empty_store_everything_is_added_from_the_new_files(old: Content, tmp_path: Path) -> None:
    difference = find_difference(None, old, tmp_path / "work")
    assert changes(difference) == {"nodes_added": 3, "edges_added": 3}
    assert (difference.nodes_added, difference.edges_added) == (old.nodes, old.edges)
    assert difference.edge_counts == {"edges_added": {"capital": 1, "partOf": 2}}


def test_from_and_to_a_graph_without_anything(old: Content, tmp_path: Path) -> None:
    nothing = make(tmp_path / "nothing", {}, [])
    assert changes(check(old, nothing, tmp_path / "work")) == {"nodes_removed": 3, "edges_removed": 3}
    assert changes(check(nothing, old, tmp_path / "work")) == {"nodes_added": 3, "edges_added": 3}
    assert find_difference(None, nothing, tmp_path / "work").is_empty


def test_a_renamed_relation_type_is_removed_and_added(old: Content, tmp_path: Path) -> None:
    renamed = [("capitalOf" if edge[0] == "capital" else edge[0], *edge[1:]) for edge in EDGES_OLD]
    difference = check(old, make(tmp_path / "new", NODES, renamed), tmp_path / "work")  # type: ignore[arg-type]
    assert difference.edge_counts == {
        "edges_added": {"capitalOf": 1},
        "edges_changed": {},
        "edges_removed": {"capital": 1},
    }


def test_a_property_that_becomes_a_list_is_changed(old: Content, tmp_path: Path) -> None:
    new = make(tmp_path / "new", NODES | {"a": {"label": "A", "area": [1.0]}}, EDGES_OLD)
    difference = check(old, new, tmp_path / "work")
    [row] = read(difference.nodes_changed)
    assert (row["area"], row[REMOVE]) == ([1.0], [])
    assert difference.num_changes == 1


def test_a_property_that_goes_is_named(old: Content, tmp_path: Path) -> None:
    nodes: Nodes = {"a": {"motto": "x"}, "b": {"types": []}, "c": {}}
    difference = check(old, make(tmp_path / "new", nodes, EDGES_OLD), tmp_path / "work")
    assert [(row["entity_id"], sorted(row[REMOVE])) for row in read(difference.nodes_changed)] == [
        ("a", ["area", "label"]),
        ("b", []),  # types are empty, never absent
    ]


def test_an_entity_goes_with_its_edges(old: Content, tmp_path: Path) -> None:
    new = make(tmp_path / "new", {k: v for k, v in NODES.items() if k != "c"}, EDGES_OLD[:2])
    difference = check(old, new, tmp_path / "work")
    assert changes(difference) == {"nodes_removed": 1, "edges_removed": 1}
    assert difference.examples() == ["entity removed: c", "relationship removed: (c)-[:partOf]->(a)"]


def test_other_sources_and_another_relation_id_change_an_edge(old: Content, tmp_path: Path) -> None:
    edges = [("capital", "a", "b", "http://r/capital", ["yago"]), ("partOf", "b", "a", "http://r/2", ["dbpedia"])]
    difference = check(old, make(tmp_path / "new", NODES, [*edges, EDGES_OLD[2]]), tmp_path / "work")
    assert changes(difference) == {"edges_changed": 2}
    assert [row["sources"] for row in read(difference.edges_changed["capital"])] == [["yago"]]


def test_an_edge_that_somebody_doubled_is_removed_and_added(tmp_path: Path) -> None:
    doubled = make(tmp_path / "old", NODES, [*EDGES_OLD, EDGES_OLD[0], (*EDGES_OLD[0][:4], ["yago"])])
    difference = check(doubled, make(tmp_path / "new", NODES, EDGES_OLD), tmp_path / "work")
    assert changes(difference) == {"edges_added": 1, "edges_removed": 1}
    without = check(doubled, make(tmp_path / "without", NODES, EDGES_OLD[1:]), tmp_path / "work")
    assert changes(without) == {"edges_removed": 1}


def test_an_entity_or_a_new_edge_that_is_there_twice_is_an_error(old: Content, tmp_path: Path) -> None:
    doubled = make(tmp_path / "doubled", NODES, [*EDGES_OLD, EDGES_OLD[0]])
    with pytest.raises(StoreError, match=r"\(a\)-\[:capital\]->\(b\) is there twice"):
        find_difference(old, doubled, tmp_path / "work")
    schema = nodes_schema(())
    rows = pa.Table.from_pylist([{"entity_id": "a"}, {"entity_id": "a"}], schema=schema)
    twice = gather_content(
        StoreModel(relationships=(), properties=(), source_names=()), rows.to_reader(), [], tmp_path / "twice"
    )
    with pytest.raises(StoreError, match="the entity a is there twice"):
        find_difference(twice, old, tmp_path / "work")


def test_files_of_an_earlier_difference_are_gone(old: Content, tmp_path: Path) -> None:
    find_difference(make(tmp_path / "nothing", {}, []), old, tmp_path / "work")
    find_difference(old, old, tmp_path / "work")
    assert list((tmp_path / "work").glob("*.parquet")) == []
