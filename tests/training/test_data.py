"""Splits become arrays, and unique queries with all their answers."""

import numpy as np
import pytest

from mmkg.errors import ShardError, TrainingError
from mmkg.training.data import LinkPredictionData, read_link_prediction_data, read_names, train_queries

from .made_graphs import ring_data, write_tables


def data_of(train, valid=(), test=(), *, num_entities=5, num_relations=2):
    arrays = {
        name: np.array(rows, dtype=np.int64).reshape(-1, 3)
        for name, rows in (("train", train), ("valid", valid), ("test", test))
    }
    return LinkPredictionData(num_entities=num_entities, num_relations=num_relations, **arrays)


def test_queries_by_hand():
    # 0 -r0-> 1, 0 -r0-> 2, 3 -r1-> 1: two queries forwards; 1, 2 and 1 again ask backwards with r + 2
    queries = train_queries(data_of([(0, 0, 1), (0, 0, 2), (3, 1, 1)]))
    assert queries.query.tolist() == [[0, 0], [1, 2], [1, 3], [2, 2], [3, 1]]
    row, tail, triple = queries.batch(np.array([3, 0]))
    assert row.tolist() == [0, 1, 1]
    assert tail.tolist() == [0, 1, 2]
    assert triple.tolist() == [1, 0, 1]


def test_every_triple_is_an_answer_twice_and_names_itself():
    data = ring_data()
    queries = train_queries(data)
    row, tail, triple = queries.batch(np.arange(len(queries)))
    assert np.bincount(triple).tolist() == [2] * len(data.train)
    for (head, relation), t, number in zip(queries.query[row].tolist(), tail.tolist(), triple.tolist(), strict=True):
        forwards = (head, relation, t)
        backwards = (t, relation - data.num_relations, head)
        assert tuple(data.train[number].tolist()) in (forwards, backwards)


def test_a_repeated_train_triple_is_refused():
    with pytest.raises(TrainingError, match="twice"):
        train_queries(data_of([(0, 0, 1), (0, 0, 1)]))


def test_tables_come_back_as_arrays(tmp_path):
    data = ring_data()
    read = read_link_prediction_data(write_tables(tmp_path, data))
    assert (read.num_entities, read.num_relations) == (data.num_entities, data.num_relations)
    for split in ("train", "valid", "test"):
        np.testing.assert_array_equal(read.split(split), data.split(split))
    assert read.digest() == data.digest()


def test_left_out_rows_are_in_no_split_and_train_rows_count_once(tmp_path):
    data = data_of([(0, 0, 1), (2, 1, 3)], test=[(1, 0, 2)])
    write_tables(tmp_path, data)
    path = next((tmp_path / "splits").glob("*.parquet"))
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    more = pa.table(
        {"head_index": [4, 0], "relation_index": [0, 0], "tail_index": [0, 1], "split": ["left_out", "train"]}
    )
    pq.write_table(pa.concat_tables([table, more.cast(table.schema)]), path)
    read = read_link_prediction_data(tmp_path, drop_unused=False)
    assert read.train.tolist() == [[0, 0, 1], [2, 1, 3]]
    assert read.known().tolist() == [[0, 0, 1], [2, 1, 3], [1, 0, 2]]


def test_unused_entities_are_dropped_renumbered_and_counted(tmp_path, caplog):
    data = data_of([(0, 0, 2), (2, 1, 4)], test=[(4, 0, 0)])
    write_tables(tmp_path, data)
    with caplog.at_level("INFO"):
        read = read_link_prediction_data(tmp_path)
    assert "dropped 2 of 5 entities" in caplog.text
    assert read.num_entities == 3
    assert read.entity_index.tolist() == [0, 2, 4]
    assert read.train.tolist() == [[0, 0, 1], [1, 1, 2]]
    assert read.test.tolist() == [[2, 0, 0]]
    assert read_names(tmp_path, read)[0] == ["place 0", "place 2", "place 4"]
    whole = read_link_prediction_data(tmp_path, drop_unused=False)
    assert whole.num_entities == 5


def test_an_entity_without_label_is_called_by_its_id(tmp_path):
    data = data_of([(0, 0, 1)])
    names = read_names(write_tables(tmp_path, data), read_link_prediction_data(tmp_path))
    assert names == (["place 0", "http://example.org/1"], ["relation 0", "relation 1"])


def test_missing_tables_and_wrong_numbers_are_said(tmp_path):
    with pytest.raises(ShardError, match="entities"):
        read_link_prediction_data(tmp_path)
    with pytest.raises(TrainingError, match="no train triple"):
        data_of([])
    with pytest.raises(TrainingError, match="below 5"):
        data_of([(0, 0, 5)])
    with pytest.raises(TrainingError, match="int64"):
        LinkPredictionData(
            num_entities=2, num_relations=1, train=np.zeros((1, 3)), valid=np.zeros((0, 3)), test=np.zeros((0, 3))
        )


@pytest.mark.parametrize("change", ["train", "order", "split", "entities"])
def test_the_digest_sees_every_change(change):
    before = data_of([(0, 0, 1), (2, 1, 3)], test=[(1, 0, 2)])
    after = {
        "train": data_of([(0, 0, 1), (2, 1, 4)], test=[(1, 0, 2)]),
        "order": data_of([(2, 1, 3), (0, 0, 1)], test=[(1, 0, 2)]),
        "split": data_of([(0, 0, 1), (2, 1, 3)], valid=[(1, 0, 2)]),
        "entities": data_of([(0, 0, 1), (2, 1, 3)], test=[(1, 0, 2)], num_entities=6),
    }[change]
    assert before.digest() != after.digest()
