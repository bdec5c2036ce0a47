"""The Freebase pack on lines that can be checked by finger: what goes, what stays, and that the ledger adds up."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkg.graph.freebase import WELL_KNOWN_REVERSES, accept_reverses
from mmkg.terms import OWL, RDF_TYPE, RDFS_LABEL
from tests.graph.raw_dumps import Literal, build, fb, make_config, mid

TYPE, INSTANCE, NAME = fb("type.object.type"), fb("type.type.instance"), fb("type.object.name")
PERSON = fb("people.person")
CHILDREN, PARENTS = fb("people.person.children"), fb("people.person.parents")
ADA, BYRON = mid("0ada"), mid("0byron")


def test_an_instance_line_goes_only_if_the_type_line_stays(tmp_path: Path):
    built = build(
        tmp_path,
        {"freebase": [(ADA, TYPE, PERSON), (PERSON, INSTANCE, ADA), (PERSON, INSTANCE, BYRON)]},
    )
    assert built.dropped == {(PERSON, INSTANCE, 2, "redundant")}
    assert built.triples.keys() == {(PERSON, INSTANCE, BYRON)}
    assert built.types == {ADA: [PERSON]}


def test_rdf_type_and_label_go_beside_freebases_own_type_and_name(tmp_path: Path):
    english = Literal("Ada Lovelace", None, "en")
    built = build(
        tmp_path,
        {
            "freebase": [
                (ADA, TYPE, PERSON),
                (ADA, RDF_TYPE, PERSON),
                (ADA, RDF_TYPE, fb("common.topic")),
                (ADA, NAME, english),
                (ADA, RDFS_LABEL, english),
                (ADA, RDFS_LABEL, Literal("Ada", None, "en")),
                (ADA, RDFS_LABEL, Literal("Ada Lovelace", None, "de")),
            ]
        },
    )
    assert built.dropped == {(ADA, RDF_TYPE, 2, "redundant"), (ADA, RDFS_LABEL, 5, "redundant")}
    assert built.types == {ADA: [fb("common.topic"), PERSON]}
    assert built.entity(ADA)["label"] == "Ada"  # rdfs:label comes before type.object.name


@pytest.mark.parametrize(
    "schema",
    [
        [(CHILDREN, fb("type.property.reverse_property"), PARENTS)],
        [(PARENTS, fb("type.property.master_property"), CHILDREN)],
        [(PARENTS, OWL + "inverseOf", CHILDREN)],
        [],  # well known
    ],
)
def test_a_reverse_line_goes_only_if_the_master_line_stays(tmp_path: Path, schema: list):
    facts = [(BYRON, CHILDREN, ADA), (ADA, PARENTS, BYRON), (ADA, PARENTS, mid("0annabella"))]
    built = build(tmp_path, {"freebase": facts + schema})
    assert built.dropped == {(ADA, PARENTS, 2, "reverse")}
    assert (BYRON, CHILDREN, ADA) in built.triples
    assert (ADA, PARENTS, mid("0annabella")) in built.triples


def test_the_dumps_own_master_goes_before_the_well_known_one(tmp_path: Path):
    stated = (PARENTS, fb("type.property.reverse_property"), CHILDREN)
    built = build(tmp_path, {"freebase": [(BYRON, CHILDREN, ADA), (ADA, PARENTS, BYRON), stated]})
    assert built.dropped == {(BYRON, CHILDREN, 1, "reverse")}


def test_a_line_of_another_source_is_no_reason_to_leave_one_out(tmp_path: Path):
    config = make_config([{"kind": "freebase", "name": "old"}, {"kind": "freebase", "name": "new"}])
    built = build(tmp_path, {"old": [(ADA, PARENTS, BYRON)], "new": [(BYRON, CHILDREN, ADA)]}, config=config)
    assert built.dropped == set()


@pytest.mark.parametrize(
    "sources",
    [
        [{"kind": "freebase", "drop_redundant": False}],
        [{"kind": "freebase", "split": "train"}],
        [
            {"kind": "freebase", "split": "train"},
            {"kind": "freebase"},
        ],  # names of the same source, in a file of their own
    ],
)
def test_nothing_goes_if_so_set_or_if_the_source_is_a_split_of_a_benchmark(tmp_path: Path, sources: list):
    config = make_config(sources)
    facts = [(BYRON, CHILDREN, ADA), (ADA, PARENTS, BYRON), (ADA, TYPE, PERSON), (PERSON, INSTANCE, ADA)]
    built = build(tmp_path, {"freebase": facts}, config=config)
    assert built.dropped == set()
    assert len(built.triples) == 3


def test_other_kinds_of_sources_are_left_alone(tmp_path: Path):
    built = build(tmp_path, {"ntriples": [(BYRON, CHILDREN, ADA), (ADA, PARENTS, BYRON)]})
    assert built.dropped == set()


def test_a_line_that_is_there_twice_goes_twice_and_the_ledger_adds_up(tmp_path: Path):
    facts = [(ADA, TYPE, PERSON)] * 2 + [(PERSON, INSTANCE, ADA)] * 2 + [(BYRON, CHILDREN, ADA), (ADA, PARENTS, BYRON)]
    built = build(tmp_path, {"freebase": facts})
    assert built.dropped == {
        (PERSON, INSTANCE, 3, "redundant"),
        (PERSON, INSTANCE, 4, "redundant"),
        (ADA, PARENTS, 6, "reverse"),
    }
    counts = built.counts
    assert (counts["statements"], counts["dropped_redundant"], counts["dropped_reverse"]) == (6, 2, 1)
    assert (counts["types"], counts["triples"], counts["duplicates"]) == (1, 1, 1)


def test_a_type_that_is_also_called_the_reverse_of_its_instances_goes_once(tmp_path: Path):
    facts = [(ADA, TYPE, PERSON), (PERSON, INSTANCE, ADA), (TYPE, fb("type.property.reverse_property"), INSTANCE)]
    built = build(tmp_path, {"freebase": facts})
    assert built.dropped == {(PERSON, INSTANCE, 2, "redundant")}


def test_what_stays_for_a_reverse_is_never_left_out_itself():
    stated = [("a", "b"), ("b", "c"), ("c", "a"), ("d", "c"), ("e", "e")]
    accepted = accept_reverses(stated)
    assert accepted == [("a", "b"), ("d", "c")]
    assert not {master for master, _ in accepted} & {reverse for _, reverse in accepted}


def test_the_well_known_reverses_contradict_each_other_nowhere():
    assert accept_reverses(list(WELL_KNOWN_REVERSES)) == list(WELL_KNOWN_REVERSES)


_THINGS = st.sampled_from([ADA, BYRON, mid("0cvt"), PERSON, fb("people.marriage")])
_PROPERTIES = st.sampled_from(
    [TYPE, INSTANCE, RDF_TYPE, CHILDREN, PARENTS, fb("people.person.spouse_s"), fb("people.marriage.spouse")]
)
_LINES = st.lists(
    st.one_of(
        st.tuples(_THINGS, _PROPERTIES, _THINGS),
        st.tuples(
            _THINGS,
            st.sampled_from([NAME, RDFS_LABEL, fb("people.marriage.from")]),
            st.builds(Literal, st.sampled_from(["a", "b"]), st.none(), st.sampled_from([None, "en"])),
        ),
    ),
    max_size=25,
)


@settings(max_examples=20)
@given(_LINES, st.booleans())
def test_whatever_the_lines_every_one_is_kept_dropped_or_a_repetition_and_nothing_is_said_less(lines, fold_cvt):
    config = make_config([{"kind": "freebase", "fold_cvt": fold_cvt}])
    with tempfile.TemporaryDirectory() as folder:
        built = build(Path(folder), {"freebase": lines}, config=config)
        rows = built.rows("dropped")
        kept = {*built.triples, *built.literals, *((e, RDF_TYPE, t) for e, types in built.types.items() for t in types)}
    dropped_lines = {row["line"] for row in rows}
    assert len(dropped_lines) == len(rows)
    stay = {statement for line, statement in enumerate(lines, start=1) if line not in dropped_lines}
    for head, relation, tail in stay:  # every line that was not dropped is in the graph
        assert (
            head,
            RDF_TYPE if relation == TYPE and isinstance(tail, str) and not isinstance(tail, Literal) else relation,
            tail,
        ) in kept
    for row in rows:  # what goes for another line's sake, that line stays
        head, relation, tail = row["head"], row["relation"], row["tail"]
        if row["reason"] == "redundant":
            name = Literal(row["value"], row["datatype"], row["language"])
            witness = {INSTANCE: (tail, TYPE, head), RDF_TYPE: (head, TYPE, tail), RDFS_LABEL: (head, NAME, name)}[
                relation
            ]
            assert witness in stay
        elif row["reason"] == "reverse":
            assert (tail, CHILDREN, head) in stay
    counts = built.counts
    assert counts["statements"] + counts["folded_statements"] == sum(
        counts[name]
        for name in (
            "triples",
            "types",
            "literals",
            "duplicates",
            "dropped_redundant",
            "dropped_reverse",
            "dropped_folded",
        )
    )
