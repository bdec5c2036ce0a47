"""How much speaks for a link: names, and evidence that is missing."""

import numpy as np
import pytest

from mmkg.graph.evidence import WEIGHTS, Evidence, name_in_iri, normalise_name, unquestioned_score
from tests.graph.raw_dumps import dbp, mid, yago


def score(evidence: Evidence, statements: int = 1) -> float:
    """Of the link between ends 0 and 1."""
    return float(evidence.score(np.array([0]), np.array([1]), np.array([statements]))[0])


def test_the_weights_are_shares_of_one():
    assert sum(WEIGHTS.values()) == pytest.approx(1)


def test_everything_for_a_link_is_nearly_one_and_everything_against_it_is_nearly_nothing():
    ends = {0: dbp("Oslo"), 1: yago("Oslo")}
    everything = Evidence(
        ends,
        types={0: {"http://a/City"}, 1: {"http://b/city"}},
        neighbours={0: {7}, 1: {7, 8}},
        linked={0: {2}, 1: {2}},
    )
    assert score(everything, statements=10) > 0.99
    ends = {0: dbp("Oslo"), 1: yago("Xqz")}
    nothing = Evidence(ends, types={0: {"http://a/City"}, 1: {"http://b/Person"}}, neighbours={0: {7}, 1: {8}})
    assert score(nothing) == pytest.approx(WEIGHTS["support"] / 2)


def test_what_is_not_known_speaks_neither_for_nor_against():
    unknown = Evidence({0: mid("0a"), 1: mid("0b")})
    assert score(unknown) == pytest.approx(float(unquestioned_score(np.array([1]))[0]))


def test_more_sources_make_a_link_more_credible():
    unknown = Evidence({0: mid("0a"), 1: mid("0b")})
    assert score(unknown, 1) < score(unknown, 2) < score(unknown, 3)


def test_the_best_pair_of_names_counts():
    ends = {0: mid("0a"), 1: dbp("Deutschland")}
    named = Evidence(ends, names={0: {"Germany", "Deutschland", "Allemagne"}})
    assert score(named) == pytest.approx(
        WEIGHTS["names"] + 0.5 * (WEIGHTS["neighbours"] + WEIGHTS["types"] + WEIGHTS["support"])
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Georgia (country)", "georgia"),
        ("AC/DC", "ac dc"),
        ("Zürich", "zurich"),
        ("(parenthesis)", "parenthesis"),
        ("!!!", ""),
    ],
)
def test_names_are_compared_without_case_accents_and_punctuation(name: str, expected: str):
    assert normalise_name(name) == expected


@pytest.mark.parametrize(
    ("iri", "expected"),
    [
        (dbp("S%C3%A3o_Paulo"), "sao paulo"),
        (yago("Berlin_Q64"), "berlin"),
        (mid("02mjmr"), None),
        ("http://www.wikidata.org/entity/Q64", None),
        ("http://sws.geonames.org/2950159/", None),
        ("_:b0", None),
    ],
)
def test_the_end_of_an_iri_is_a_name_unless_it_is_a_code(iri: str, expected: str | None):
    assert name_in_iri(iri) == expected
