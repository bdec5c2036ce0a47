"""Content of a store and its digest: held against the same digest in plain Python, and against the embedded store."""

import dataclasses
import datetime
import hashlib
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkg.config import StoreConfig
from mmkg.errors import StoreError
from mmkg.shards import write_table
from mmkg.store import digest as digest_module
from mmkg.store import load_store, open_embedded
from mmkg.store.columns import EDGES, nodes_schema
from mmkg.store.content import Content, digest_embedded, digest_tables, gather_content, read_content, write_content
from mmkg.store.digest import DIGEST_FORMAT
from mmkg.store.model import Property, Relationship, StoreModel
from mmkg.tables import SCHEMAS
from tests.store.graphs import SOURCES, Graph, write_graph

CONFIG = StoreConfig(min_attribute_share=0.0)
NASTY = [
    "",
    "a",
    "`",
    "'",
    '"',
    "\\",
    "\n",
    "\r\n",
    "a.b",
    "日本",
    "𝔘",
    "é",
    "e\u0301",
    "\x00",
    "\x1f",
    "null",
    "x" * 1000,
]
PROPERTIES = tuple(
    Property(attribute_index=i, attribute_id=f"http://a/{name}", name=name, value_column=column, many=many)
    for i, (name, column, many) in enumerate(
        [
            ("area", "number", False),
            ("areas", "number", True),
            ("born", "date", False),
            ("days", "date", True),
            ("motto", "text", False),
            ("names", "text", True),
        ]
    )
)
SCHEMA = nodes_schema(PROPERTIES)
MODEL = StoreModel(
    relationships=(Relationship(relation_index=0, relation_id="http://r/capital", type="capital", count=0),),
    properties=PROPERTIES,
    source_names=SOURCES,
)
DAY = datetime.date

TEXT = st.one_of(st.sampled_from(NASTY), st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
NUMBER = st.one_of(st.sampled_from([0.0, -0.0, 1.0, math.nan, math.inf, -math.inf, 1e-300]), st.floats())
DATE = st.integers(-2_000_000, 3_000_000)  # days since 1970: from 3507 BC to 10183 AD


def optional(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), values)


NODE = st.fixed_dictionaries(
    {
        "entity_id": TEXT,
        "label": optional(TEXT),
        "description": optional(TEXT),
        "types": st.lists(TEXT, max_size=3),
        "aliases": st.lists(TEXT, max_size=3),
        "area": optional(NUMBER),
        "areas": optional(st.lists(NUMBER, max_size=3)),
        "born": optional(DATE),
        "days": optional(st.lists(DATE, max_size=3)),
        "motto": optional(TEXT),
        "names": optional(st.lists(TEXT, max_size=3)),
    }
)
EDGE = st.fixed_dictionaries({"from": TEXT, "to": TEXT, "relation_id": TEXT, "sources": st.lists(TEXT, max_size=2)})


def batches(rows: list[dict[str, Any]], schema: pa.Schema, cuts: int = 1) -> pa.RecordBatchReader:
    """The rows as a stream of some batches, one of them empty."""
    table = pa.Table.from_arrays([pa.array([row[f.name] for row in rows], f.type) for f in schema], schema=schema)
    size = max(1, -(-len(rows) // cuts))
    return pa.RecordBatchReader.from_batches(
        schema, [*table.slice(0, 0).to_batches(), *table.combine_chunks().to_batches(max_chunksize=size)]
    )


def digest(nodes: list[dict[str, Any]], edges: list[dict[str, Any]], cuts: int = 1) -> str:
    return digest_tables(batches(nodes, SCHEMA, cuts), {"capital": batches(edges, EDGES, cuts)}).total


# --- the second way: the same digest, row by row ---------------------------------------------------------------------


def spell(value: Any) -> tuple[str, str]:
    """Kind and text of a value."""
    if isinstance(value, str):
        return "s", f"{len(value.encode())}:{value}"
    if isinstance(value, float):
        return "d", f"{'nan' if math.isnan(value) else format(value, '.17g')};"
    return "t", f"{value};"


def plain_digest(nodes: list[dict[str, Any]], edges: dict[str, list[dict[str, Any]]]) -> str:
    kinds = {"types": "S", "aliases": "S", "sources": "S", "areas": "D", "days": "T", "names": "S"}
    parts, counts = {}, {}
    for name, rows in {"Entity": nodes, **edges}.items():
        upper = lower = 0
        for row in rows:
            text = ""
            for key in sorted(row) if name == "Entity" else ("from", "to", "relation_id", "sources"):
                if isinstance(row[key], list):
                    items = "".join(spell(value)[1] for value in row[key])
                    text += f"{len(key)}:{key}{kinds[key]}{len(row[key])}:{items}"
                elif row[key] is not None:
                    text += f"{len(key)}:{key}" + "".join(spell(row[key]))
            md5 = hashlib.md5(text.encode()).digest()
            upper += int.from_bytes(md5[:8], "little")
            lower += int.from_bytes(md5[8:], "little")
        if rows or name == "Entity":
            parts[name] = f"{upper % 2**64:016x}{lower % 2**64:016x}"
            counts[name] = len(rows)
    value = [DIGEST_FORMAT, sorted(parts.items()), sorted(counts.items())]
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32]


@settings(max_examples=40)
@given(st.lists(NODE, max_size=5), st.lists(EDGE, max_size=5))
def test_the_digest_is_what_plain_python_adds_up(nodes: list[dict[str, Any]], edges: list[dict[str, Any]]) -> None:
    assert digest(nodes, edges) == plain_digest(nodes, {"capital": edges})


@settings(max_examples=40)
@given(st.lists(NODE, max_size=8), st.lists(EDGE, max_size=8), st.randoms(use_true_random=False), st.integers(1, 4))
def test_order_and_batches_do_not_change_the_digest(
    nodes: list[dict[str, Any]], edges: list[dict[str, Any]], rng: random.Random, cuts: int
) -> None:
    before = digest(nodes, edges)
    rng.shuffle(nodes)
    rng.shuffle(edges)
    assert digest(nodes, edges, cuts) == before


def same(one: Any, other: Any) -> bool:
    """Equal as stores hold it: all NaN are one, -0 and 0 are two."""
    return repr(one) == repr(other)


@settings(max_examples=40)
@given(st.lists(NODE, min_size=1, max_size=4), NODE, st.data())
def test_any_other_value_changes_the_digest(nodes: list[dict[str, Any]], other: dict[str, Any], data: Any) -> None:
    place = data.draw(st.integers(0, len(nodes) - 1))
    key = data.draw(st.sampled_from(sorted(other)))
    changed = [dict(row) for row in nodes]
    changed[place][key] = other[key]
    assert (digest(nodes, []) == digest(changed, [])) == same(nodes[place][key], other[key])


@settings(max_examples=40)
@given(st.lists(EDGE, min_size=1, max_size=4), st.data())
def test_an_edge_more_or_less_changes_the_digest(edges: list[dict[str, Any]], data: Any) -> None:
    one = data.draw(st.sampled_from(edges))
    assert len({digest([], edges), digest([], [*edges, one]), digest([], edges[1:])}) == 3


BASE = dict.fromkeys(SCHEMA.names) | {"entity_id": "a", "types": [], "aliases": []}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"motto": None}, {"motto": ""}),
        ({"names": None}, {"names": []}),
        ({"names": []}, {"names": [""]}),
        ({"names": ["a", "b"]}, {"names": ["b", "a"]}),
        ({"names": ["ab"]}, {"names": ["a", "b"]}),
        ({"area": 0.0}, {"area": -0.0}),
        ({"area": math.nan}, {"area": None}),
        ({"area": math.inf}, {"area": -math.inf}),
        ({"area": 0.1}, {"area": math.nextafter(0.1, 1)}),
        ({"label": "x", "description": None}, {"label": None, "description": "x"}),
        ({"types": ["x"]}, {"aliases": ["x"]}),
        ({"motto": "1:a"}, {"motto": "a"}),
        ({"label": "é"}, {"label": "e\u0301"}),
        ({"born": -719_529}, {"born": -719_528}),
        ({"motto": "a\x00b"}, {"motto": "a\x00c"}),
    ],
)
def test_what_differs_for_a_reader_differs_in_the_digest(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert digest([BASE | one], []) != digest([BASE | other], [])


def test_a_list_of_one_is_not_its_value_and_a_property_without_values_is_none() -> None:
    node = {"entity_id": "a", "label": None, "description": None, "types": [], "aliases": []}
    fields = [SCHEMA.field(name) for name in node]

    def one(value: Any, kind: pa.DataType) -> str:
        schema = pa.schema([*fields, pa.field("motto", kind)])
        return digest_tables(batches([node | {"motto": value}], schema), {}).total

    assert one("x", pa.string()) != one(["x"], pa.list_(pa.string()))
    assert one(None, pa.string()) == one(None, pa.float64()) == digest([BASE], [])


def test_null_types_and_aliases_are_empty_ones() -> None:
    assert digest([BASE | {"types": None, "aliases": None}], []) == digest([BASE], [])


def test_the_order_of_columns_and_names_that_differ_in_case_are_kept_apart() -> None:
    names = ["label", "types", "b", "B", "aliases", "description", "entity_id"]
    kinds = {"types": pa.list_(pa.string()), "aliases": pa.list_(pa.string())}
    row = {"label": None, "types": [], "b": "1", "B": "2", "aliases": [], "description": None, "entity_id": "a"}

    def of(order: list[str], values: dict[str, Any]) -> str:
        schema = pa.schema([pa.field(name, kinds.get(name, pa.string())) for name in order])
        return digest_tables(batches([values], schema), {}).total

    assert of(names, row) == of(names[::-1], row)
    assert of(names, row) != of(names, row | {"b": "2", "B": "1"})


def test_a_property_type_that_no_store_has_is_an_error() -> None:
    schema = SCHEMA.append(pa.field("flag", pa.bool_()))
    with pytest.raises(StoreError, match=r"property flag: expected text.*found bool"):
        digest_tables(batches([BASE | {"flag": True}], schema), {})
    with pytest.raises(StoreError, match="no column to, sources"):
        digest_tables(batches([BASE], SCHEMA), {"r": batches([], EDGES).read_all().drop(["to", "sources"]).to_reader()})


def test_a_relationship_type_called_as_the_nodes_is_an_error() -> None:
    with pytest.raises(StoreError, match=r"'Entity'.*Rename"):
        digest_tables(batches([], SCHEMA), {"Entity": batches([], EDGES)})


# --- content of a graph's tables -------------------------------------------------------------------------------------

GRAPH = Graph(
    entities=[*(f"http://e/{text}" for text in NASTY if "\x00" not in text), "lonely"],
    triples=[
        ("http://e/a", "capital", "http://e/é", 3),
        ("http://e/a", "capital", "http://e/a"),
        ("http://e/日本", "partOf", "http://e/`"),
        ("http://e/'", "partOf", 'http://e/"', 2),
    ],
    relations=["neverUsed"],
    labels={"http://e/a": "", "http://e/é": 'quoted "É", `x`\n2', "lonely": "null"},
    descriptions={"http://e/a": "x" * 1000},
    types={"http://e/a": ["http://c/B", "http://c/A"]},
    aliases={"http://e/é": ["http://f/é"]},
    literals=[
        ("http://e/a", "area", 1.5),
        ("http://e/é", "area", math.inf),
        ("http://e/`", "area", -0.0),
        ("http://e/a", "areas", 2.0),
        ("http://e/a", "areas", -1e-300),
        ("http://e/é", "areas", 7),
        ("http://e/a", "born", DAY(1, 1, 1)),
        ("http://e/a", "days", DAY(2020, 2, 29)),
        ("http://e/a", "days", DAY(9999, 12, 31)),
        ("http://e/a", "motto", "Liberté\n'égalité'"),
        ("http://e/é", "names", ""),
        ("http://e/é", "names", "B, C"),
    ],
)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_graph(tmp_path_factory.mktemp("tables"), GRAPH)


@pytest.fixture(scope="module")
def content(tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Content:
    return write_content(tables, CONFIG, SOURCES, tmp_path_factory.mktemp("content"))


def plain_rows(content: Content) -> tuple[list[dict[str, Any]], dict[str, list[dict[str, Any]]]]:
    nodes = pq.read_table(content.nodes)
    for position, field in enumerate(nodes.schema):
        if field.type == pa.date32():
            nodes = nodes.set_column(position, field.name, nodes.column(position).cast(pa.int32()))
        elif field.type == pa.list_(pa.date32()):
            nodes = nodes.set_column(position, field.name, nodes.column(position).cast(pa.list_(pa.int32())))
    return nodes.to_pylist(), {name: pq.read_table(path).to_pylist() for name, path in content.edges.items()}


def test_content_has_the_digest_of_its_rows_and_reads_back(content: Content) -> None:
    nodes, edges = plain_rows(content)
    assert set(edges) == {"capital", "partOf"}
    assert content.digest.total == plain_digest(nodes, edges)
    assert content.digest.counts == {"Entity": len(GRAPH.entities), "capital": 2, "partOf": 2}
    assert (content.digest.num_nodes, content.digest.num_edges) == (len(GRAPH.entities), 4)
    assert read_content(content.folder) == content


def test_the_embedded_store_has_the_digest_of_the_tables(tables: Path, content: Content, tmp_path: Path) -> None:
    load_store(tables, tmp_path, CONFIG, SOURCES, buffer_bytes=256 << 20)
    with open_embedded(tmp_path) as store:
        assert digest_embedded(store) == content.digest


def test_an_embedded_store_is_read_in_pages(
    tables: Path, content: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digest_module, "_PAGE_ROWS", 1)
    load_store(tables, tmp_path, CONFIG, SOURCES, buffer_bytes=256 << 20)
    with open_embedded(tmp_path) as store:
        assert digest_embedded(store) == content.digest


def test_content_gathered_from_streams_in_another_order_is_the_same(content: Content, tmp_path: Path) -> None:
    def shuffled(path: Path, seed: int) -> pa.RecordBatchReader:
        table = pq.read_table(path)
        order = np.random.default_rng(seed).permutation(table.num_rows)
        table = table.take(order).select(table.column_names[::-1])
        return pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=3))

    edges = {name: shuffled(path, 1) for name, path in content.edges.items()} | {"none": batches([], EDGES)}
    gathered = gather_content(content.model, shuffled(content.nodes, 2), edges.items(), tmp_path)
    assert gathered.digest == content.digest
    assert set(gathered.edges) == set(content.edges)
    assert read_content(tmp_path) == gathered


def test_gathered_content_that_does_not_fit_its_model_is_an_error(tmp_path: Path) -> None:
    wrong = pa.table({"entity_id": ["a"]}).to_reader()
    with pytest.raises(StoreError, match="do not have the columns of its model"):
        gather_content(MODEL, wrong, [], tmp_path)
    edge = {"from": "a", "to": "b", "relation_id": "r", "sources": []}
    with pytest.raises(StoreError, match="'r' were given twice"):
        gather_content(MODEL, batches([], SCHEMA), [("r", batches([edge], EDGES)) for _ in range(2)], tmp_path)
    with pytest.raises(StoreError, match="never finished"):
        read_content(tmp_path)


def test_minus_zero_does_not_come_out_of_the_tables(content: Content) -> None:
    area = pq.read_table(content.nodes)["area"].drop_null().to_pylist()
    assert [math.copysign(1, value) for value in area if value == 0] == [1]


def test_the_folder_of_a_path_that_looks_like_a_pattern(tables: Path, content: Content, tmp_path: Path) -> None:
    assert write_content(tables, CONFIG, SOURCES, tmp_path / "a[0]*?'b").digest == content.digest


def test_content_is_replaced_and_a_killed_one_is_none(tables: Path, tmp_path: Path) -> None:
    folder = tmp_path / "content"
    write_content(tables, CONFIG, SOURCES, folder)
    other = write_graph(tmp_path / "other", Graph(entities=["a"]))
    replaced = write_content(other, CONFIG, SOURCES, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["content.json", "nodes.parquet"]
    assert replaced.digest.counts == {"Entity": 1}
    write_table(
        other,
        "triples",
        [
            pa.Table.from_pylist(
                [{"head_index": 0, "relation_index": 9, "tail_index": 0, "sources": 1}], schema=SCHEMAS["triples"]
            )
        ],
    )
    with pytest.raises(StoreError, match="relation_index 9"):
        write_content(other, CONFIG, SOURCES, folder)
    with pytest.raises(StoreError, match="never finished"):
        read_content(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"digest_format": 1}', '{"digest_format": 99}'])
def test_a_spoilt_manifest_is_an_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "content.json").write_text(text)
    with pytest.raises(StoreError, match=r"content\.json"):
        read_content(tmp_path)


def test_null_is_null_where_all_other_values_are_equal(tmp_path: Path) -> None:
    """DuckDB 2.0.0 answers IS NULL wrongly on such a Parquet column if it has a least and a greatest value."""
    graph = Graph(entities=[f"e{i}" for i in range(100)], labels={f"e{i}": "same" for i in range(99)})
    content = write_content(write_graph(tmp_path / "tables", graph), CONFIG, SOURCES, tmp_path / "content")
    metadata = pq.read_metadata(content.nodes).row_group(0)
    assert not any(metadata.column(i).is_stats_set for i in range(metadata.num_columns))
    assert content.digest.total == plain_digest(*plain_rows(content))
    assert pc.sum(pc.is_null(pq.read_table(content.nodes)["label"])).as_py() == 1


def test_content_and_its_digest_cannot_be_written_to(content: Content) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        content.values_left_out = 1  # type: ignore[misc]
