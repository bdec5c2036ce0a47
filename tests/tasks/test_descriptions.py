"""Describing entities: reading names, descriptions and facts, and a split that shows nothing that is asked for."""

import gzip
import json

import numpy as np
import pytest

from mmkg.errors import ConfigError, DumpError
from mmkg.tasks.descriptions import read_described_graph, shown_descriptions, split_descriptions
from tests.tasks.described_files import FACTS, made_entities, write_described


@pytest.fixture
def folder(tmp_path):
    return write_described(tmp_path / "data")


def test_names_descriptions_and_facts_come_back(folder):
    said, facts = made_entities()
    graph = read_described_graph(folder)
    assert list(graph.entity_ids) == sorted(said)
    assert dict(zip(graph.entity_ids, graph.descriptions, strict=True)) == {
        key: told["description"] for key, told in said.items()
    }
    assert graph.names[graph.entity_ids.index("/t/Kiel")] == "Kiel"
    assert list(graph.relations) == [name.rpartition("/")[2] for name in sorted(FACTS)]
    ids = graph.entity_ids
    read = {(ids[h], sorted(FACTS)[r], ids[t]) for h, r, t in graph.triples.tolist()}
    assert read == set(facts)


def test_no_description_of_valid_or_test_is_shown_and_each_described_entity_is_in_one_split(folder):
    graph = read_described_graph(folder)
    split = split_descriptions(graph, num_valid=5, num_test=7)
    parts = [split.train, split.valid, split.test]
    assert [len(part) for part in parts] == [27, 5, 7]
    assert sorted(np.concatenate(parts).tolist()) == list(range(39))
    shown = shown_descriptions(graph, split)
    assert {at for at, text in enumerate(shown) if text is not None} == set(split.train.tolist())
    again, other = (
        split_descriptions(graph, num_valid=5, num_test=7),
        split_descriptions(graph, num_valid=5, num_test=7, random_seed=1),
    )
    assert np.array_equal(again.test, split.test)
    assert not np.array_equal(other.test, split.test)


def test_an_entity_without_a_name_is_called_by_its_id_and_counted(folder):
    said, _ = made_entities()
    del said["/t/Kiel"]["label"]
    del said["/p/03"]
    with gzip.open(folder / "entity2wikidata.json.gz", "wt", encoding="utf-8") as file:
        json.dump(said, file)
    graph = read_described_graph(folder)
    assert {reject.item for reject in graph.rejects} == {"/t/Kiel", "/p/03"}
    assert graph.names[graph.entity_ids.index("/t/Kiel")] == "/t/Kiel"
    assert graph.descriptions[graph.entity_ids.index("/p/03")] is None


def test_a_row_without_three_columns_names_file_and_line(folder):
    path = folder / "fb15k-237" / "train.txt"
    path.write_text(path.read_text() + "/p/00\tonly two\n")
    with pytest.raises(
        DumpError, match=r"train\.txt, line 67: expected 3 columns by tabs, found \['/p/00', 'only two'\]"
    ):
        read_described_graph(folder)
    path.unlink()
    with pytest.raises(DumpError, match=r"expected fb15k-237/train\.txt"):
        read_described_graph(folder)


def test_asking_for_more_than_there_is_leaves_nothing_to_learn_from(folder):
    with pytest.raises(ConfigError, match="39 entities have a description"):
        split_descriptions(read_described_graph(folder), num_valid=19, num_test=20)


@pytest.mark.shared
def test_fb15k_237_has_as_many_descriptions_as_its_readme_says(shared_data):
    graph = read_described_graph(shared_data / "kg" / "freebase")
    assert len(graph.triples) == 272_115
    assert len(graph.relations) == 237
    assert sum(text is not None for text in graph.descriptions) == 13_634
