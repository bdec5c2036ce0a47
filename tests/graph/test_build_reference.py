"""Builds of made-up dumps hold exactly what a build in plain Python holds."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from mmkg.graph.inverses import INVERSE_SHARE
from mmkg.terms import RDF_TYPE, RDFS_LABEL, SKOS, XSD
from tests.graph.raw_dumps import SAME_AS, Literal, build, dbp, fb, make_config, mid, yago
from tests.graph.reference_build import ReferenceBuild

_NODES = st.sampled_from([f(name) for f in (mid, dbp, yago) for name in "abcd"] + ["_:b1", "http://x.org/r1"])
_RELATIONS = st.sampled_from([f"http://x.org/r{i}" for i in range(4)] + [RDF_TYPE, fb("type.object.type"), SAME_AS])
_ATTRIBUTES = st.sampled_from(["http://x.org/r1", "http://x.org/r9", RDFS_LABEL, SKOS + "prefLabel", SAME_AS])
_TEXTS = st.text("aß01\t -.", max_size=4)
_LITERALS = st.one_of(
    st.builds(Literal, _TEXTS, st.none(), st.sampled_from([None, "en", "en-gb", "de", "fr"])),
    st.builds(Literal, _TEXTS, st.sampled_from([XSD + "integer", XSD + "date"]), st.none()),
)
_STATEMENTS = st.one_of(st.tuples(_NODES, _RELATIONS, _NODES), st.tuples(_NODES, _ATTRIBUTES, _LITERALS))
_SOURCES = ("dbpedia", "yago", "ntriples")
_DUMPS = st.fixed_dictionaries({name: st.lists(_STATEMENTS, max_size=25) for name in _SOURCES})
_LINKS = st.lists(st.tuples(_NODES, st.just(SAME_AS), _NODES), max_size=6)


@settings(max_examples=25)
@given(_DUMPS, _LINKS)
def test_a_build_is_what_sets_and_dictionaries_make_of_the_same_dumps(dumps, links):
    config = make_config(list(dumps), graph={"languages": ["en", "de"]})
    with tempfile.TemporaryDirectory() as folder:
        built = build(Path(folder), dumps, links=links, config=config)
        believed = [pair for pair, reason in built.verdicts.items() if reason == "link"]
        expected = ReferenceBuild(dumps, believed)
        said = {(h, t) for rows in (*dumps.values(), links) for h, r, t in rows if r == SAME_AS and isinstance(t, str)}
        said = {(h, t) for h, t in said if not isinstance(t, Literal)}

        assert built.verdicts.keys() == said
        assert built.triples == expected.triples
        assert built.literals == expected.literals
        assert {(e, t) for e, types in built.types.items() for t in types} == expected.types.keys()
        assert built.ids == sorted(expected.entities)
        assert built.counts["duplicates"] == expected.duplicates
        for row in built.rows("entities"):
            assert row["aliases"] == sorted(expected.aliases.get(row["entity_id"], ()))
            assert row["label"] == expected.label(row["entity_id"], ["en", "de"])
        relations = built.rows("relations")
        for row in relations:
            assert row["functional"] == expected.functional(row["relation_id"])
            assert row["count"] == sum(r == row["relation_id"] for _, r, _ in expected.triples)
            shares = {
                q["relation_index"]: expected.inverse_share(row["relation_id"], q["relation_id"]) for q in relations
            }
            best = min(shares, key=lambda q: (-shares[q], q))
            assert row["inverse_index"] == (best if shares[best] >= INVERSE_SHARE else None)
