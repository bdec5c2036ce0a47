"""All real dumps of the shared data: each reconciles, and agrees with pyoxigraph where that reads the whole file."""

import gzip
from pathlib import Path

import pytest

from tests.sources.dumps import CONTEXT, Reading, read_file, strict_statements

pytestmark = pytest.mark.shared

# file: kind, links, triples, qualifiers, repaired
DUMPS = {
    "freebase/fb15k-237/train.txt.gz": ("freebase", False, 272_115, 0, 0),
    "freebase/fb15k-237/valid.txt.gz": ("freebase", False, 17_535, 0, 0),
    "freebase/fb15k-237/test.txt.gz": ("freebase", False, 20_466, 0, 0),
    "freebase/entity2text.txt.gz": ("freebase", False, 14_951, 0, 0),
    "freebase/relation2text.txt.gz": ("freebase", False, 237, 0, 0),
    "freebase/freebase-rdf-10k-head.nt.gz": ("freebase", False, 10_000, 0, 0),
    "freebase/freebase-descriptions-a.nt.gz": ("freebase", False, 5_000, 0, 0),
    "freebase/FB15K_NumericalTriples.txt.gz": ("mmkb", False, 29_395, 0, 0),
    "freebase/FB15K_ImageIndex.txt.gz": ("mmkb", False, 13_444, 0, 0),
    "dbpedia/DB15K_EntityTriples.train.nt.gz": ("dbpedia", False, 79_222, 0, 367),
    "dbpedia/DB15K_EntityTriples.valid.nt.gz": ("dbpedia", False, 9_904, 0, 67),
    "dbpedia/DB15K_EntityTriples.test.nt.gz": ("dbpedia", False, 9_902, 0, 44),
    "dbpedia/dbpedia-infobox-fragment.ttl.gz": ("dbpedia", False, 25_000, 0, 0),
    "dbpedia/dbpedia-2015-10-entities-a.nt.gz": ("dbpedia", False, 1_452, 0, 0),
    "dbpedia/DB15K_ImageIndex.txt.gz": ("mmkb", False, 12_841, 0, 0),
    "dbpedia/DB15K_SameAsLink.txt.gz": ("mmkb", True, 12_846, 0, 0),
    "yago/yago15k_temporal_valid.txt.gz": ("yago", False, 13_815, 3_635, 0),
    "yago/YAGO15K_NumericalTriples.txt.gz": ("mmkb", False, 48_405, 0, 0),
    "yago/YAGO15K_ImageIndex.txt.gz": ("mmkb", False, 11_194, 0, 0),
    "yago/YAGO15K_SameAsLink.txt.gz": ("mmkb", True, 11_199, 0, 0),
    "yago/yago-4.5-sample-facts.tsv": ("yago", False, 16, 0, 0),
    "yago/yago-4.5-sample-labels.tsv": ("yago", False, 2, 0, 0),
    "yago/yago-4.5-sample-meta.tsv": ("yago", False, 0, 3, 0),
    "yago/yago-4.5-sample-taxonomy.tsv": ("yago", False, 41, 0, 0),
    "sameas/DY-NB_seed_10.ttl.gz": ("sameas", True, 1_500, 0, 0),
}
STRICT = [name for name, row in DUMPS.items() if name.endswith((".nt.gz", ".ttl.gz")) and row[4] == 0]


def _read(shared_data: Path, tmp_path: Path, name: str) -> Reading:
    kind, links, *_ = DUMPS[name]
    return read_file(shared_data / "kg" / name, tmp_path / "tables", kind=kind, links=links)


@pytest.mark.parametrize("name", DUMPS)
def test_a_real_dump_reconciles(shared_data: Path, tmp_path: Path, name: str) -> None:
    reading = _read(shared_data, tmp_path, name)
    _, _, triples, qualifiers, repaired = DUMPS[name]
    assert (len(reading.triples), len(reading.qualifiers), reading.counts.repaired) == (triples, qualifiers, repaired)
    assert reading.counts.form == "lines"
    assert reading.counts.accounted == reading.counts.lines
    assert reading.counts.rejects == 0


@pytest.mark.parametrize("name", STRICT)
def test_a_clean_real_dump_is_what_pyoxigraph_reads(shared_data: Path, tmp_path: Path, name: str) -> None:
    content = gzip.decompress((shared_data / "kg" / name).read_bytes())
    assert _read(shared_data, tmp_path, name).statements == strict_statements(content, CONTEXT.scope)


def test_the_schema_of_yago_is_a_document(shared_data: Path, tmp_path: Path) -> None:
    reading = read_file(shared_data / "kg/yago/yago-4.5-schema.ttl.gz", tmp_path, kind="yago")
    assert (reading.counts.form, reading.counts.lines, reading.counts.triples) == ("document", 1_629, 1_269)
    assert all(1 <= row["line"] <= 1_629 for row in reading.triples)


def test_dates_of_yago_are_dates_but_for_none(shared_data: Path, tmp_path: Path) -> None:
    reading = _read(shared_data, tmp_path, "yago/YAGO15K_NumericalTriples.txt.gz")
    dates = [row for row in reading.triples if row["relation"].endswith("OnDate")]
    assert len(dates) == 37_123
    kinds = {row["datatype"].rpartition("#")[2] for row in dates}
    assert kinds <= {"date", "gYear", "gYearMonth", "double"}
    assert sum(row["datatype"].endswith("double") for row in dates) < 0.01 * len(dates)
