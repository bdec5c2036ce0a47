"""Compound value nodes on a film, its actors and its characters: every role is kept, every line in the ledger."""

from pathlib import Path

import pytest

from mmkg.graph.folding import property_type
from mmkg.terms import RDFS_LABEL, XSD
from tests.graph.raw_dumps import SAME_AS, Literal, build, dbp, fb, make_config, mid

FILM, ACTOR, ROLE, CVT = mid("0film"), mid("0actor"), mid("0role"), mid("0cvt")
STARRING, IN_FILM = fb("film.film.starring"), fb("film.actor.film")
HAS_ACTOR, HAS_ROLE, HAS_FILM = (fb(f"film.performance.{name}") for name in ("actor", "character", "film"))
SINCE = fb("film.performance.since")
NAME, TYPE = fb("type.object.name"), fb("type.object.type")
YEAR = Literal("1979", XSD + "gYear")
NAMES = [
    (node, NAME, Literal(name, None, "en")) for node, name in ((FILM, "Alien"), (ACTOR, "Weaver"), (ROLE, "Ripley"))
]
PERFORMANCE = [
    (FILM, STARRING, CVT),
    (ACTOR, IN_FILM, CVT),
    (CVT, HAS_FILM, FILM),
    (CVT, HAS_ACTOR, ACTOR),
    (CVT, HAS_ROLE, ROLE),
    (CVT, SINCE, YEAR),
    (CVT, TYPE, fb("film.performance")),
]
FOLDING = make_config([{"kind": "freebase", "fold_cvt": True}])


def folded(one: str, other: str) -> str:
    return f"{one}..{other.removeprefix(fb(''))}"


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory):
    return build(tmp_path_factory.mktemp("film"), {"freebase": NAMES + PERFORMANCE}, config=FOLDING)


def test_each_way_through_the_node_becomes_a_direct_triple_spelt_as_in_fb15k(film):
    assert film.triples == {
        (FILM, folded(STARRING, HAS_ACTOR), ACTOR): {"freebase"},
        (FILM, folded(STARRING, HAS_ROLE), ROLE): {"freebase"},
        (ACTOR, folded(IN_FILM, HAS_FILM), FILM): {"freebase"},
        (ACTOR, folded(IN_FILM, HAS_ROLE), ROLE): {"freebase"},
    }
    assert folded(STARRING, HAS_ACTOR) == fb("film.film.starring..film.performance.actor")
    assert CVT not in film.ids


def test_what_else_the_node_says_qualifies_the_triple(film):
    ids = film.ids
    said = {
        (
            ids[r["head_index"]],
            r["relation_id"],
            ids[r["tail_index"]],
            r["qualifier_id"],
            r["qualifier_tail"] or r["qualifier_text"],
        )
        for r in film.rows("qualifiers")
    }
    assert said == {
        (FILM, folded(STARRING, HAS_ACTOR), ACTOR, HAS_ROLE, ROLE),
        (FILM, folded(STARRING, HAS_ACTOR), ACTOR, SINCE, "1979"),
        (FILM, folded(STARRING, HAS_ROLE), ROLE, HAS_ACTOR, ACTOR),
        (FILM, folded(STARRING, HAS_ROLE), ROLE, SINCE, "1979"),
        (ACTOR, folded(IN_FILM, HAS_FILM), FILM, HAS_ROLE, ROLE),
        (ACTOR, folded(IN_FILM, HAS_FILM), FILM, SINCE, "1979"),
        (ACTOR, folded(IN_FILM, HAS_ROLE), ROLE, HAS_FILM, FILM),
        (ACTOR, folded(IN_FILM, HAS_ROLE), ROLE, SINCE, "1979"),
    }
    assert {str(r["date"]) for r in film.rows("qualifiers") if r["qualifier_id"] == SINCE} == {"1979-01-01"}


def test_every_line_of_the_node_is_in_the_ledger_and_the_counts_add_up(film):
    assert {line for *_, line, reason in film.dropped if reason == "folded"} == {4, 5, 6, 7, 8, 9, 10}
    counts = film.counts
    assert (counts["statements"], counts["dropped_folded"], counts["folded_statements"]) == (10, 7, 4)
    assert (counts["triples"], counts["literals"], counts["duplicates"]) == (4, 3, 0)


def test_a_node_of_literals_only_gives_literals_that_qualify_each_other(tmp_path: Path):
    place, cvt = mid("0place"), mid("0number")
    population = fb("location.statistical_region.population")
    number, year = fb("measurement_unit.dated_integer.number"), fb("measurement_unit.dated_integer.year")
    rows = [
        (place, NAME, Literal("Aarhus", None, "en")),
        (place, population, cvt),
        (cvt, number, Literal("285273")),
        (cvt, year, Literal("2021", XSD + "gYear")),
    ]
    built = build(tmp_path, {"freebase": rows}, config=FOLDING)
    assert built.literals.keys() == {
        (place, NAME, Literal("Aarhus", None, "en")),
        (place, folded(population, number), Literal("285273")),
        (place, folded(population, year), Literal("2021", XSD + "gYear")),
    }
    said = {(r["relation_id"], r["text"], r["qualifier_id"], r["qualifier_text"]) for r in built.rows("qualifiers")}
    assert said == {
        (folded(population, number), "285273", year, "2021"),
        (folded(population, year), "2021", number, "285273"),
    }


def _untouched(tmp_path: Path, rows: list, **more) -> bool:
    """Whether the build keeps the compound value node as an entity."""
    return (
        CVT in build(tmp_path, {"freebase": NAMES + rows, **more.pop("dumps", {})}, **{"config": FOLDING, **more}).ids
    )


def test_a_node_with_a_name_is_a_thing(tmp_path: Path):
    assert _untouched(tmp_path, [*PERFORMANCE, (CVT, NAME, Literal("the part of Ripley", None, "en"))])


def test_a_node_with_a_name_is_folded_if_the_dump_calls_its_type_a_mediator(tmp_path: Path):
    hint = (fb("film.performance"), fb("freebase.type_hints.mediator"), Literal("true", XSD + "boolean"))
    assert not _untouched(tmp_path, [*PERFORMANCE, (CVT, RDFS_LABEL, Literal("the part of Ripley", None, "en")), hint])


def test_a_node_with_properties_of_two_types_is_a_thing(tmp_path: Path):
    assert _untouched(tmp_path, [*PERFORMANCE, (CVT, fb("award.award_honor.award"), mid("0oscar"))])


def test_a_node_with_another_type_is_a_thing(tmp_path: Path):
    assert _untouched(tmp_path, [*PERFORMANCE, (CVT, TYPE, fb("common.topic"))])


def test_a_node_that_a_property_of_its_own_type_leads_to_is_a_thing(tmp_path: Path):
    assert _untouched(tmp_path, [*PERFORMANCE, (ROLE, fb("film.performance.seen_in"), CVT)])


def test_a_node_that_a_link_or_another_source_speaks_of_is_a_thing(tmp_path: Path):
    assert _untouched(tmp_path / "link", PERFORMANCE, links=[(CVT, SAME_AS, dbp("Ripley_in_Alien"))])
    config = make_config([{"kind": "freebase", "fold_cvt": True}, "dbpedia"])
    other = {"dbpedia": [(CVT, RDFS_LABEL, Literal("a part"))]}
    assert _untouched(tmp_path / "other", PERFORMANCE, dumps=other, config=config)


def test_two_bordering_nodes_are_not_folded(tmp_path: Path):
    nested = [(CVT, HAS_ROLE, mid("0cvt2")), (mid("0cvt2"), fb("film.billing.rank"), Literal("1"))]
    built = build(tmp_path, {"freebase": NAMES + PERFORMANCE + nested}, config=FOLDING)
    assert {CVT, mid("0cvt2")} <= {*built.ids}
    assert built.counts["folded_statements"] == 0


def test_unnamed_things_of_a_dump_that_is_folded_already_stay(tmp_path: Path):
    rows = [(mid("0a"), fb("a.b.c..d.e.f"), mid("0b")), (mid("0b"), fb("g.h.i"), mid("0c"))]
    built = build(tmp_path, {"freebase": rows}, config=FOLDING)
    assert built.counts["folded_statements"] == 0
    assert len(built.ids) == 3


def test_nothing_is_folded_unless_asked(tmp_path: Path):
    built = build(tmp_path, {"freebase": NAMES + PERFORMANCE})
    assert CVT in built.ids
    assert built.counts["folded_statements"] == 0


def test_folding_and_reverse_lines_go_together(tmp_path: Path):
    schema = [(STARRING, fb("type.property.reverse_property"), HAS_FILM)]
    built = build(tmp_path, {"freebase": NAMES + PERFORMANCE + schema}, config=FOLDING)
    assert {reason for *_, reason in built.dropped} == {"folded"}
    assert (FILM, folded(STARRING, HAS_ACTOR), ACTOR) in built.triples


def test_a_folded_relation_that_a_dump_states_already_is_one_relation(tmp_path: Path):
    spelt = (mid("0other"), folded(STARRING, HAS_ACTOR), ACTOR)
    built = build(
        tmp_path,
        {"freebase": NAMES + PERFORMANCE, "ntriples": [spelt]},
        config=make_config([{"kind": "freebase", "fold_cvt": True}, "ntriples"]),
    )
    assert built.relation_ids.count(folded(STARRING, HAS_ACTOR)) == 1
    assert spelt in built.triples


def test_the_type_of_a_property_is_all_but_its_last_part():
    assert property_type(fb("base.x.film_part.actor")) == "base.x.film_part"
    assert property_type(fb("type.object.name")) is None
    assert property_type(RDFS_LABEL) is None
