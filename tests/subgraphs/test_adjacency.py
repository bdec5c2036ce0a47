"""The adjacency on disk: what is written comes back, and damage is told from truth."""

import json
import logging
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from mmkg.errors import MmkgError, ShardError
from mmkg.subgraphs import Adjacency, build_adjacency, expand, open_adjacency
from mmkg.subgraphs.adjacency import ARRAYS, sampled_crc32, whole_crc32

from .reference import CHAIN, Triple, adjacency_of, graphs

NAMES = ("head_index", "relation_index", "tail_index")


def table_of(triples: list[Triple]) -> pa.Table:
    columns = np.array(triples, np.int64).reshape(-1, 3).T
    return pa.table({name: pa.array(column) for name, column in zip(NAMES, columns, strict=True)})


def batches_of(triples: list[Triple], rows: int) -> Iterator[pa.RecordBatch]:
    yield from table_of(triples).to_batches(max_chunksize=rows)


def assert_same(one: Adjacency, other: Adjacency) -> None:
    for side in ("outgoing", "incoming"):
        for name in ARRAYS:
            left, right = getattr(getattr(one, side), name), getattr(getattr(other, side), name)
            np.testing.assert_array_equal(left, right, err_msg=f"{side} {name}")
            assert left.dtype == right.dtype
    assert (one.num_entities, one.num_relations, one.num_triples) == (
        other.num_entities,
        other.num_relations,
        other.num_triples,
    )


@pytest.fixture
def folder(tmp_path) -> Path:
    build_adjacency(table_of(CHAIN), num_entities=6, folder=tmp_path / "adjacency")
    return tmp_path / "adjacency"


def test_the_chain_has_these_lists(folder):
    adjacency = open_adjacency(folder)
    assert adjacency.outgoing.indptr.tolist() == [0, 1, 3, 4, 5, 6, 6]
    assert adjacency.outgoing.neighbours.tolist() == [1, 2, 3, 3, 4, 4]
    assert adjacency.incoming.indptr.tolist() == [0, 0, 1, 2, 4, 6, 6]
    assert adjacency.incoming.neighbours.tolist() == [0, 1, 1, 2, 3, 4]
    assert adjacency.incoming.relations.tolist() == [0, 0, 1, 1, 0, 1]
    assert adjacency.incoming.triples.tolist() == [0, 1, 2, 3, 4, 5]
    assert adjacency.degree(1) == (2, 1)
    assert (adjacency.num_entities, adjacency.num_relations, adjacency.num_triples) == (6, 2, 6)


@settings(max_examples=25, deadline=None)
@given(graph=graphs())
def test_dataset_stream_and_memory_give_the_same_lists(graph, tmp_path_factory):
    num_entities, triples = graph
    root = tmp_path_factory.mktemp("adjacency")
    in_memory = adjacency_of(num_entities, triples)
    assert_same(in_memory, build_adjacency(table_of(triples), num_entities=num_entities, folder=root / "table"))
    assert_same(in_memory, build_adjacency(batches_of(triples, 3), num_entities=num_entities, folder=root / "stream"))
    assert_same(in_memory, open_adjacency(root / "stream", whole=True))


def test_shards_of_parquet_are_read_in_order_and_other_columns_ignored(tmp_path):
    for number in range(3):
        part = table_of(CHAIN[2 * number : 2 * number + 2]).append_column("sources", pa.array([1, 1]))
        pq.write_table(part, tmp_path / f"part-{number:05d}.parquet")
    dataset = ds.dataset(sorted(str(path) for path in tmp_path.glob("part-*.parquet")))
    assert_same(adjacency_of(6, CHAIN), build_adjacency(dataset, num_entities=6, folder=tmp_path / "adjacency"))


def test_the_same_triples_give_the_same_bytes_and_no_leftovers(folder, tmp_path):
    build_adjacency(batches_of(CHAIN, 2), num_entities=6, folder=tmp_path / "again")
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(path.name for path in (tmp_path / "again").iterdir())
    assert len(names) == 9
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_arrays_are_mapped_read_only_and_plain_numpy_files(folder):
    adjacency = open_adjacency(folder)
    assert isinstance(adjacency.outgoing.neighbours.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        adjacency.outgoing.neighbours[0] = 5
    assert np.load(folder / "out_neighbours.npy", mmap_mode="r").dtype == np.int32


def test_a_graph_without_triples_can_be_written(tmp_path):
    adjacency = build_adjacency(table_of([]), num_entities=3, folder=tmp_path)
    assert expand(adjacency, [1], num_hops=2).node_index.tolist() == [1]
    assert expand(build_adjacency(iter([]), num_entities=0, folder=tmp_path), [], num_hops=2).num_nodes == 0


def test_a_build_over_an_older_one_replaces_it_and_leaves_open_maps_alone(folder):
    before = open_adjacency(folder)
    build_adjacency(table_of([(0, 0, 5)]), num_entities=6, folder=folder)
    assert expand(before, [0], num_hops=1).node_index.tolist() == [0, 1]
    assert expand(open_adjacency(folder), [0], num_hops=1).node_index.tolist() == [0, 5]


def test_an_interrupted_build_is_unfinished_until_built_again(folder, monkeypatch):
    def killed(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mmkg.subgraphs.adjacency_build.sync_folder", killed)
        with pytest.raises(KeyboardInterrupt):
            build_adjacency(table_of(CHAIN), num_entities=6, folder=folder)
    with pytest.raises(ShardError, match=r"meta\.json: no such file, so the adjacency was never finished"):
        open_adjacency(folder)
    build_adjacency(table_of(CHAIN), num_entities=6, folder=folder)
    assert_same(open_adjacency(folder), adjacency_of(6, CHAIN))


def test_an_opened_adjacency_travels_to_another_process_as_a_name(folder):
    adjacency = open_adjacency(folder)
    assert len(pickle.dumps(adjacency)) < 500
    assert_same(pickle.loads(pickle.dumps(adjacency)), adjacency)
    in_memory = adjacency_of(6, CHAIN)
    copy = pickle.loads(pickle.dumps(in_memory))
    assert_same(copy, in_memory)
    assert expand(copy, [0], num_hops=2).num_nodes == 4


def test_the_log_says_how_many_triples(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="mmkg.subgraphs"):
        build_adjacency(table_of(CHAIN), num_entities=6, folder=tmp_path)
    assert "adjacency: 6 triples of 6 entities" in caplog.text


# --- damage ----------------------------------------------------------------------------------------------------------


def test_a_missing_folder_is_our_error(tmp_path):
    with pytest.raises(ShardError, match="never finished"):
        open_adjacency(tmp_path / "nowhere")


@pytest.mark.parametrize("name", [f"{side}_{array}.npy" for side in ("out", "in") for array in ARRAYS])
def test_a_missing_shortened_or_changed_file_is_our_error(folder, name):
    path = folder / name
    content = path.read_bytes()
    for damaged in (content[:-1], content + b"\0", content[:-8] + bytes(7) + b"\x09"):
        path.write_bytes(damaged)
        with pytest.raises(ShardError, match=name):
            open_adjacency(folder)
    path.unlink()
    with pytest.raises(ShardError, match=f"{name}: expected .* bytes, found no file"):
        open_adjacency(folder)
    path.write_bytes(content)
    open_adjacency(folder, whole=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "expected format version 1, found list"),
        (b'{"format_version": 99}', "expected format version 1, found 99"),
        (b'{"format_version": 1, "num_entities": "6"}', "expected num_entities, num_relations, num_triples and files"),
    ],
)
def test_a_damaged_meta_is_our_error(folder, content, message):
    (folder / "meta.json").write_bytes(content)
    with pytest.raises(ShardError, match=message):
        open_adjacency(folder)


def test_a_meta_of_another_graph_is_our_error(folder):
    meta = json.loads((folder / "meta.json").read_text())
    for key, value, message in (
        ("num_entities", 7, r"expected int64 \(8,\), found int64 \(7,\)"),
        ("num_triples", 5, r"\(5,\)"),
    ):
        (folder / "meta.json").write_text(json.dumps({**meta, key: value}))
        with pytest.raises(ShardError, match=message):
            open_adjacency(folder)


def test_a_change_between_the_sampled_blocks_is_found_when_the_whole_is_read(tmp_path):
    triples = np.random.default_rng(0).integers(0, 100, (200_000, 3))
    build_adjacency(table_of(triples.tolist()), num_entities=100, folder=tmp_path)
    path = tmp_path / "in_triples.npy"  # 1.6 MB, of which 64 blocks of 4 kB are sampled
    content = bytearray(path.read_bytes())
    content[10_000] ^= 0xFF
    path.write_bytes(content)
    open_adjacency(tmp_path)
    with pytest.raises(ShardError, match=r"in_triples\.npy: its content has changed"):
        open_adjacency(tmp_path, whole=True)


def test_lists_that_do_not_end_where_the_triples_end_are_our_error(folder):
    path = folder / "out_indptr.npy"
    np.save(path, np.array([0, 1, 3, 4, 5, 5, 5]))
    meta = json.loads((folder / "meta.json").read_text())
    meta["files"][path.name] = {
        "bytes": path.stat().st_size,
        "crc32": whole_crc32(path),
        "sampled_crc32": sampled_crc32(path),
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(ShardError, match=r"out_indptr\.npy: runs from 0 to 5, expected 0 to 6"):
        open_adjacency(folder)


# --- input that cannot be used ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("triples", "message"),
    [
        ([(0, 0, 1), (0, 0, 6)], "row 1: tail_index is 6, expected 0 … 5"),
        ([(0, 0, 1), (-1, 0, 2)], "row 1: head_index is -1"),
        ([(0, -2, 1)], "row 0: relation_index is -2"),
        ([(0, 2**31, 1)], "relation_index is 2,147,483,648"),
    ],
)
def test_an_index_out_of_range_names_its_row(tmp_path, triples, message):
    for source in (table_of(triples), batches_of(triples, 1)):
        with pytest.raises(MmkgError, match=message):
            build_adjacency(source, num_entities=6, folder=tmp_path)
    assert not (tmp_path / "meta.json").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_null_a_missing_column_and_a_wrong_type_are_our_errors(tmp_path):
    table = table_of(CHAIN)
    with pytest.raises(MmkgError, match="row 1: tail_index is null"):
        nulls = table.set_column(2, "tail_index", pa.array([1, None, 2, 3, 4, 5]))
        build_adjacency(nulls, num_entities=6, folder=tmp_path)
    with pytest.raises(MmkgError, match="a column tail_index of int64, found no such column"):
        build_adjacency(table.drop_columns("tail_index"), num_entities=6, folder=tmp_path)
    with pytest.raises(MmkgError, match="a column head_index of int64, found string"):
        build_adjacency(
            iter(table.set_column(0, "head_index", pa.array(list("abcdef"))).to_batches()),
            num_entities=6,
            folder=tmp_path,
        )


def test_a_degree_of_nobody_is_our_error(folder):
    with pytest.raises(MmkgError, match="entity index 6: expected 0 … 5"):
        open_adjacency(folder).degree(6)
