"""Sorted triples, whichever way they are sorted and cut; inverses; names."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmkg.graph import indices
from mmkg.graph.indices import TripleStream
from mmkg.graph.inverses import INVERSE_SHARE, SAMPLE_PAIRS, PairSample
from mmkg.graph.names import RESERVED_RELATION_NAMES, clean_name, unique_names
from tests.graph.raw_dumps import build, dbp

_ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 3), st.integers(1, 3)), max_size=40)


@given(_ROWS, st.lists(st.integers(0, 40), max_size=5))
def test_repetitions_go_and_sources_unite_wherever_the_batches_are_cut(rows, cuts):
    rows.sort()
    edges = sorted({0, len(rows), *(cut for cut in cuts if cut <= len(rows))})
    names = ("head_index", "relation_index", "tail_index", "sources")
    batches = [
        pa.table({name: pa.array([row[i] for row in rows[a:b]], pa.int64()) for i, name in enumerate(names)})
        for a, b in pairwise(edges)
    ]
    stream = TripleStream(3, PairSample(np.full(3, 40)))
    out = [tuple(row.values()) for batch in stream.distinct(iter(batches)) for row in batch.to_pylist()]
    expected: dict[tuple, int] = {}
    for *triple, sources in rows:
        expected[tuple(triple)] = expected.get(tuple(triple), 0) | sources
    assert out == [(*triple, sources) for triple, sources in sorted(expected.items())]
    assert stream.rows == len(rows)
    assert stream.counts.tolist() == [sum(r == relation for _, r, _ in expected) for relation in range(3)]
    for relation in range(3):
        heads = [h for h, r, _ in expected if r == relation]
        assert stream.functional[relation] == (len(heads) == len(set(heads)))


def test_triples_too_many_to_pack_into_one_integer_come_out_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows = [(dbp(f"A{i % 7}"), f"http://x.org/r{i % 3}", dbp(f"A{i % 5}")) for i in range(60)]
    packed = build(tmp_path / "packed", {"dbpedia": rows})
    monkeypatch.setattr(indices, "_PACKED_BITS", 3)
    plain = build(tmp_path / "plain", {"dbpedia": rows})
    assert packed.rows("triples") == plain.rows("triples")
    assert len(packed.rows("triples")) == len(set(rows))


def test_relations_that_state_the_same_backwards_know_each_other(tmp_path: Path):
    parent, child, knows, married = (f"http://x.org/{name}" for name in ("parent", "child", "knows", "married"))
    rows = [
        (dbp("A"), parent, dbp("B")),
        (dbp("A"), parent, dbp("C")),
        (dbp("B"), child, dbp("A")),
        (dbp("C"), child, dbp("A")),
    ]
    rows += [(dbp("A"), married, dbp("D")), (dbp("D"), married, dbp("A")), (dbp("A"), knows, dbp("B"))]
    built = build(tmp_path, {"dbpedia": rows})
    found = {row["relation_id"]: row["inverse_index"] for row in built.rows("relations")}
    index = {iri: number for number, iri in enumerate(built.relation_ids)}
    assert found == {parent: index[child], child: index[parent], married: index[married], knows: None}
    functional = {row["relation_id"]: row["functional"] for row in built.rows("relations")}
    assert functional == {parent: False, child: True, married: True, knows: True}


@pytest.mark.parametrize(("missing", "expected"), [(0, True), (0.02, True), (0.05, False)])
def test_inverses_of_many_pairs_are_found_in_the_sample_and_decided_exactly(
    tmp_path: Path, missing: float, expected: bool
):
    num_pairs = SAMPLE_PAIRS * 20
    rng = np.random.default_rng(3)
    pairs = sorted({(int(a), int(b)) for a, b in rng.integers(0, 3000, (num_pairs, 2))})
    kept = pairs[int(missing * len(pairs)) :]
    rows = [(dbp(f"{a}"), "http://x.org/over", dbp(f"{b}")) for a, b in pairs]
    rows += [(dbp(f"{b}"), "http://x.org/under", dbp(f"{a}")) for a, b in kept]
    rows += [(dbp(f"{a}"), "http://x.org/aside", dbp(f"{b}")) for a, b in pairs]
    by_id = {row["relation_id"]: row["inverse_index"] for row in build(tmp_path, {"dbpedia": rows}).rows("relations")}
    assert len(kept) / len(pairs) >= INVERSE_SHARE or not expected
    assert (by_id["http://x.org/under"] is not None) == expected
    # `over` and `aside` are the same pairs: both are inverses of `under`, which takes the first of them.
    assert by_id["http://x.org/under"] in ({0} if expected else {None})


@pytest.mark.parametrize(
    ("iri", "name"),
    [
        ("http://dbpedia.org/ontology/birthPlace", "birthPlace"),
        ("http://rdf.freebase.com/ns/location.country.form_of_government", "location_country_form_of_government"),
        ("http://rdf.freebase.com/ns/a.b.c..d.e.f", "a_b_c_d_e_f"),
        ("http://x.org/path#sameAs", "sameAs"),
        ("http://x.org/Évêché/", "Eveche"),
        ("http://x.org/%E9%95%BF", "r"),
        ("http://x.org/2000", "r_2000"),
        ("http://x.org/", "x_org"),
        ("", "r"),
    ],
)
def test_a_name_is_the_last_segment_cleaned(iri: str, name: str):
    assert clean_name(iri) == name


@given(st.lists(st.text("aAbB_.-/#1ß%", max_size=6), max_size=30))
def test_names_are_unique_whatever_the_case_and_can_be_typed(iris: list[str]):
    names = unique_names(iris, RESERVED_RELATION_NAMES)
    assert len({name.lower() for name in names}) == len(iris)
    assert all(name.isascii() and name.isidentifier() for name in names)
    assert not {name.lower() for name in names} & RESERVED_RELATION_NAMES


def test_a_relation_called_like_a_table_of_the_store_gets_a_number():
    assert unique_names(["http://x.org/HAS_IMAGE", "http://x.org/entity"], RESERVED_RELATION_NAMES) == [
        "HAS_IMAGE_2",
        "entity_2",
    ]
