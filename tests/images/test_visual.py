"""What an entity is: by its types, by what Freebase's relations say of their ends, and how common that is."""

from pathlib import Path

from mmkg.images.graph_view import open_graph
from mmkg.images.visual import put_evidence, put_relation_types, put_shares, put_typed, role_of_tail, type_of_head
from mmkg.terms import DBPEDIA_ONTOLOGY, FREEBASE
from tests.images.named_graph import EXAMPLE, NamedGraph

ACTOR, FILM = FREEBASE + "m.0actor", FREEBASE + "m.0film"
PERFORMANCE = FREEBASE + "film.actor.film..film.performance.film"
GRAPH = NamedGraph(
    {ACTOR: "Actor", FILM: "Film", EXAMPLE + "year": "1984"},
    types={EXAMPLE + "year": [EXAMPLE + "Year"], ACTOR: [FREEBASE + "film.actor"]},
    triples=[
        (ACTOR, PERFORMANCE, FILM),
        (ACTOR, FREEBASE + "people.person.nationality", EXAMPLE + "land"),
        (FILM, DBPEDIA_ONTOLOGY + "starring", ACTOR),
    ],
)


def test_a_relation_over_a_compound_value_speaks_of_both_ends() -> None:
    assert type_of_head(PERFORMANCE) == FREEBASE + "film.actor"
    assert role_of_tail(PERFORMANCE) == FREEBASE + "film.performance.film"


def test_a_relation_of_another_source_speaks_of_its_tail_only() -> None:
    assert type_of_head(DBPEDIA_ONTOLOGY + "starring") is None
    assert role_of_tail(DBPEDIA_ONTOLOGY + "starring") == DBPEDIA_ONTOLOGY + "starring"
    assert type_of_head(FREEBASE + "topic") is None
    assert role_of_tail("http://example.org/a..b") == "http://example.org/a..b"


def test_all_evidence_of_an_entity_is_found_once(tmp_path: Path) -> None:
    with open_graph(GRAPH.write(tmp_path)) as connection:
        put_relation_types(connection)
        put_evidence(connection, "(SELECT entity_index FROM entities)", "evidence")
        rows = connection.execute("SELECT entity_id, type FROM evidence JOIN entities USING (entity_index)").fetchall()
    assert sorted(rows) == sorted(
        [
            (ACTOR, FREEBASE + "film.actor"),
            (ACTOR, FREEBASE + "people.person"),
            (ACTOR, DBPEDIA_ONTOLOGY + "starring"),
            (FILM, FREEBASE + "film.performance.film"),
            (EXAMPLE + "year", EXAMPLE + "Year"),
            (EXAMPLE + "land", FREEBASE + "people.person.nationality"),
        ]
    )


def test_entities_of_some_types_are_found_by_each_kind_of_evidence(tmp_path: Path) -> None:
    types = [EXAMPLE + "Year", FREEBASE + "people.person", FREEBASE + "film.performance.film", EXAMPLE + "None"]
    with open_graph(GRAPH.write(tmp_path)) as connection:
        put_relation_types(connection)
        put_typed(connection, types, "typed")
        rows = connection.execute("SELECT entity_id FROM typed JOIN entities USING (entity_index)").fetchall()
        put_shares(connection, [FREEBASE + "film.actor", EXAMPLE + "Year", EXAMPLE + "None"], "shares")
        shares = dict(connection.execute("SELECT * FROM shares").fetchall())
    assert sorted(iri for (iri,) in rows) == sorted([ACTOR, FILM, EXAMPLE + "year"])
    assert shares == {FREEBASE + "film.actor": 0.25, EXAMPLE + "Year": 0.25}
