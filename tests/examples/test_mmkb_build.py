"""FB15k-237, DB15K and YAGO15K as one graph, from the real files."""

from pathlib import Path

import pyarrow.compute as pc
import pytest

from mmkg import open_build, pipeline
from mmkg.builds import Build
from mmkg.config import read_config

CONFIG = Path(__file__).resolve().parents[2] / "examples" / "mmkb" / "mmkb.toml"

pytestmark = [pytest.mark.shared, pytest.mark.slow]


@pytest.fixture(scope="module")
def mmkb(shared_data: Path, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("mmkb")
    (folder / "data").symlink_to(shared_data)
    (folder / "mmkb.toml").write_bytes(CONFIG.read_bytes())
    report = pipeline.build(read_config(folder / "mmkb.toml"))
    assert report.folder is not None
    with open_build(report.folder) as build:
        yield build


@pytest.mark.capability("MR-01")
def test_three_graphs_their_numbers_and_their_links_become_one(mmkb: Build):
    dumps = mmkb.dumps.to_table().to_pylist()
    lines = {source: sum(row["lines"] for row in dumps if row["source"] == source) for source in ("dbpedia", "mmkb")}
    assert lines == {"dbpedia": 99_028, "mmkb": 12_846 + 11_199}
    assert sum(row["rejects"] for row in dumps) == 0
    assert sum(row["repaired"] for row in dumps) == 478  # lines with one of 29 IRIs that N-Triples forbids
    griffith = mmkb.get_entity("Andy Griffith")
    assert griffith.entity_id == "http://rdf.freebase.com/ns/m.01m4kpp"
    assert "http://dbpedia.org/resource/Andy_Griffith" in griffith.aliases


def test_a_resource_that_two_mids_claim_is_flagged(mmkb: Build):
    flagged = mmkb.merges.to_table(filter=pc.field("verdict") == "flagged").to_pylist()
    assert len(flagged) == 4
    assert {row["reason"] for row in flagged} == {"two_of_one_source"}


def test_the_splits_are_those_of_the_benchmark_and_nothing_else_restates_them(mmkb: Build):
    counts = mmkb.splits.to_table(columns=["split"]).group_by("split").aggregate([([], "count_all")]).to_pylist()
    sizes = {row["split"]: row["count_all"] for row in counts}
    assert (sizes["valid"], sizes["test"]) == (17_535, 20_466)
    assert sizes["train"] > 272_115
    assert sizes["left_out"] > 0


def test_the_store_holds_every_triple(mmkb: Build):
    assert mmkb.store.counts().relationships == mmkb.triples.count_rows()
    assert mmkb.store.counts().entities == mmkb.entities.count_rows()
